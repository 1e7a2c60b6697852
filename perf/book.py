"""What does one order book change cost, and what do others charge for the same?

    deltas (seeded, 99-tick grid, both sides near a wandering mid) -> book -> six metrics
    six metrics: best price, top-3 size, top-3 VWAP, of each side

Every contender gets the same deltas and must leave the same six metrics *readable in Python after each
delta*. Our kernel keeps them in a struct that Python reads as fields; a library without them computes them,
by the fastest way its interface offers. A regression here is time added to every market-data message of
every market.

Rows "in C" are one call for 4,096 deltas: the kernel alone. Samples are means over chunks of 64 deltas.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine._native import ffi, lib
from perf.windows import Contender, Report, Row, Samples, interleave, machine, show

ROOT: Final = Path(__file__).resolve().parents[1]
SEED: Final = 20_261_121
DELTA_COUNT: Final = 32_768
CHUNK: Final = 64
C_BATCH: Final = 4_096

Delta = tuple[int, int, int]  # side, price in cents, new total size
Metrics = tuple[int, int, float, int, int, float]


def stream(count: int) -> list[Delta]:
    """Seeded changes of an uncrossed book: most near the touch, three in ten remove their level."""
    chance = random.Random(SEED)
    deltas: list[Delta] = []
    mid = 50
    while len(deltas) < count:
        if chance.random() < 1 / 64:
            mid = min(70, max(30, mid + chance.choice((-1, 1))))
            deltas += [(lib.ORDERBOOK_BID, price, 0) for price in (mid, mid + 1)]
            deltas += [(lib.ORDERBOOK_ASK, price, 0) for price in (mid, mid - 1)]
        distance = 1
        while distance < 20 and chance.random() < 0.75:
            distance += 1
        side = chance.choice((lib.ORDERBOOK_BID, lib.ORDERBOOK_ASK))
        size = 0 if chance.random() < 0.3 else chance.randint(1, 1000)
        deltas.append((side, mid + distance if side == lib.ORDERBOOK_ASK else mid - distance, size))
    return deltas[:count]


def chunked(deltas: list[Any], size: int = CHUNK) -> list[list[Any]]:
    return [deltas[i : i + size] for i in range(0, len(deltas), size)]


def timed(chunks: list[list[Any]], apply: Callable[[list[Any]], object]) -> Samples:
    """Nanoseconds per delta of each chunk."""
    now = time.perf_counter_ns
    costs = []
    for chunk in chunks:
        start = now()
        apply(chunk)
        costs.append((now() - start) / len(chunk))
    return np.array(costs)


# --- the kernel


class Kernel:
    """A book of ours with the deltas in C memory too."""

    def __init__(self, deltas: list[Delta]) -> None:
        grid = ffi.new("price_grid_t *")
        lib.price_grid_cents(grid)
        size = lib.orderbook_bytes(grid.tick_count)
        self.memory = ffi.new("int64_t[]", size // 8)
        assert lib.orderbook_init(self.memory, size, grid) == lib.ORDERBOOK_OK
        self.book = ffi.cast("orderbook_t *", self.memory)
        self.native = ffi.new("book_delta_t[]", [(p, s, lib.BOOK_DELTA_SET, q) for s, p, q in deltas])
        self.code = ffi.new("int32_t *")
        self.count = len(deltas)
        metrics = lib.orderbook_metrics(self.book)
        self.view = memoryview(ffi.buffer(metrics, ffi.sizeof("book_metrics_t")))
        # bid: best, (levels), lots, value; ask likewise
        self.read = struct.Struct("<i4xqQ16xi4xqQ16x").unpack_from

    def metrics(self) -> Metrics:
        best_bid, bid_lots, bid_value, best_ask, ask_lots, ask_value = self.read(self.view)
        bid_vwap, ask_vwap = bid_value / (bid_lots * 100), ask_value / (ask_lots * 100)
        return best_bid, bid_lots, bid_vwap, best_ask, ask_lots, ask_vwap

    def one_per_call(self, chunk: list[Delta]) -> None:
        book, set_level = self.book, lib.orderbook_set_level
        for side, price, size in chunk:
            set_level(book, side, price, size)

    def one_per_call_all_read(self, chunk: list[Delta]) -> None:
        book, set_level, read, view = self.book, lib.orderbook_set_level, self.read, self.view
        for side, price, size in chunk:
            set_level(book, side, price, size)
            _, bid_lots, bid_value, _, ask_lots, ask_value = read(view)
            bid_value / (bid_lots or 1)
            ask_value / (ask_lots or 1)

    def batches(self, size: int) -> Samples:
        now, apply = time.perf_counter_ns, lib.orderbook_apply
        book, code = self.book, self.code
        costs = []
        for index in range(0, self.count, size):
            deltas = self.native + index
            start = now()
            applied = apply(book, deltas, size, code)
            costs.append((now() - start) / size)
            assert applied == size
        return np.array(costs)

    def empty_calls(self) -> Samples:
        """The floor: crossing from Python to C and back with nothing to do."""
        book, native, code, apply = self.book, self.native, self.code, lib.orderbook_apply

        def call(chunk: list[Delta]) -> None:
            for _ in chunk:
                apply(book, native, 0, code)

        return timed(chunked([None] * 8_192), call)


# --- the others


def three_levels(best: list[tuple[int, int]]) -> tuple[int, int, float]:
    """(best, size, VWAP) of at most three (price, size), best first."""
    size = value = 0
    for price, lots in best:
        size += lots
        value += price * lots
    return (best[0][0], size, value / size) if best else (-1, 0, 0.0)


class OrderBookLibrary:
    """``order-book``: sorted sides in C; the metrics are computed in Python from its best levels."""

    who = "order-book"

    def __init__(self) -> None:
        from order_book import OrderBook

        self.book = OrderBook()

    def metrics(self) -> Metrics:
        bids, asks = self.book.bids, self.book.asks
        bid = three_levels([bids.index(i) for i in range(min(3, len(bids)))])
        ask = three_levels([asks.index(i) for i in range(min(3, len(asks)))])
        return (*bid, *ask)

    def apply(self, chunk: list[Delta]) -> None:
        bids, asks = self.book.bids, self.book.asks
        bid_at, ask_at = bids.index, asks.index
        for is_ask, price, size in chunk:
            side = asks if is_ask else bids
            if size:
                side[price] = size
            elif price in side:
                del side[price]
            if len(bids) > 2 and len(asks) > 2:
                (p0, q0), (p1, q1), (p2, q2) = bid_at(0), bid_at(1), bid_at(2)
                bid_size = q0 + q1 + q2
                (p0 * q0 + p1 * q1 + p2 * q2) / bid_size
                (p0, q0), (p1, q1), (p2, q2) = ask_at(0), ask_at(1), ask_at(2)
                ask_size = q0 + q1 + q2
                (p0 * q0 + p1 * q1 + p2 * q2) / ask_size
            else:
                self.metrics()


class SortedDictBook:
    """``sortedcontainers``: keys sorted best first."""

    who = "SortedDict"

    def __init__(self) -> None:
        from sortedcontainers import SortedDict

        self.sides = (SortedDict(), SortedDict())  # bids keyed by -price

    def metrics(self) -> Metrics:
        bids, asks = self.sides
        bid = three_levels([(-key, bids[key]) for key in bids.keys()[:3]])
        ask = three_levels([(key, asks[key]) for key in asks.keys()[:3]])
        return (*bid, *ask)

    def apply(self, chunk: list[Delta]) -> None:
        sides, metrics = self.sides, self.metrics
        for is_ask, price, size in chunk:
            side, key = (sides[1], price) if is_ask else (sides[0], -price)
            if size:
                side[key] = size
            else:
                side.pop(key, None)
            metrics()


class PurePythonBook:
    """The best pure Python we know for 99 ticks: a list per side, the best three found by stepping from the
    best."""

    who = "pure Python ladder"

    def __init__(self) -> None:
        self.lots = ([0] * 101, [0] * 101)  # by rank: bids by 100 - price
        self.best = [101, 101]
        self.kept: list[tuple[int, int, float]] = [(-1, 0, 0.0), (-1, 0, 0.0)]

    def metrics(self) -> Metrics:
        return (*self.kept[0], *self.kept[1])

    def apply(self, chunk: list[Delta]) -> None:
        best, kept = self.best, self.kept
        for is_ask, price, size in chunk:
            lots = self.lots[is_ask]
            rank = price if is_ask else 100 - price
            lots[rank] = size
            if size:
                best[is_ask] = min(best[is_ask], rank)
            elif rank == best[is_ask]:
                while rank < 101 and not lots[rank]:
                    rank += 1
                best[is_ask] = rank
            found = total = value = 0
            for rank in range(best[is_ask], 101):
                here = lots[rank]
                if here:
                    total += here
                    value += here * (rank if is_ask else 100 - rank)
                    found += 1
                    if found == 3:
                        break
            top = best[is_ask]
            kept[is_ask] = (top if is_ask else 100 - top, total, value / total) if total else (-1, 0, 0.0)


class NautilusBook:
    """``nautilus_trader``'s Rust book: deltas prepared beforehand, three levels asked of each side."""

    who = "nautilus_trader"

    def __init__(self) -> None:
        from nautilus_trader.core import nautilus_pyo3

        self.api = nautilus_pyo3
        self.instrument = nautilus_pyo3.InstrumentId.from_str("MARKET.VENUE")
        self.book = nautilus_pyo3.OrderBook(self.instrument, nautilus_pyo3.BookType.L2_MBP)
        self.price_unit = nautilus_pyo3.Price(1.0, 0).raw

    def prepare(self, deltas: list[Delta]) -> list[Any]:
        api = self.api
        return [
            api.OrderBookDelta(
                self.instrument,
                api.BookAction.UPDATE if size else api.BookAction.DELETE,
                api.BookOrder(
                    api.OrderSide.SELL if side else api.OrderSide.BUY,
                    api.Price(float(price), 0),
                    api.Quantity(float(size), 0),
                    price,
                ),
                0,
                0,
                0,
                0,
            )
            for side, price, size in deltas
        ]

    def metrics(self) -> Metrics:
        unit, book = self.price_unit, self.book
        bid = three_levels([(level.price.raw // unit, int(level.size())) for level in book.bids(3)])
        ask = three_levels([(level.price.raw // unit, int(level.size())) for level in book.asks(3)])
        return (*bid, *ask)

    def apply(self, chunk: list[Any]) -> None:
        book = self.book
        for delta in chunk:
            book.apply_delta(delta)
            for levels in (book.bids(3), book.asks(3)):
                size = value = 0.0
                for level in levels:
                    lots = level.size()
                    size += lots
                    value += level.price.raw * lots
                if size:
                    value / size


def same(left: Metrics, right: Metrics) -> bool:
    return all(abs(a - b) < 1e-9 for a, b in zip(left, right, strict=True))


def rivals(deltas: list[Delta], expected: Metrics, notes: list[str]) -> Iterator[Contender]:
    """A contender for each installed rival, after it has shown that it computes the same."""
    makers = (
        ("order_book", OrderBookLibrary),
        ("nautilus_trader", NautilusBook),
        ("sortedcontainers", SortedDictBook),
        ("sys", PurePythonBook),
    )
    for module, make in makers:
        if find_spec(module) is None:
            notes.append(f"{make.who} is not installed here: its row and ratio are missing (perf/README.md)")
            continue
        rival: Any = make()
        prepared = rival.prepare(deltas) if make is NautilusBook else deltas
        for chunk in chunked(prepared):
            rival.apply(chunk)
        if not same(rival.metrics(), expected):
            raise AssertionError(f"{make.who}: {rival.metrics()}, ours {expected}")
        chunks = chunked(prepared)
        yield Contender(who=make.who, window=lambda chunks=chunks, rival=rival: timed(chunks, rival.apply))


def instructions_per_delta(kernel: Kernel, notes: list[str]) -> float | None:
    """Counted by callgrind on a build with -march=x86-64-v3; the shipped build stays portable."""
    if not shutil.which("valgrind") or not shutil.which("gcc"):
        notes.append("instructions need gcc and valgrind: apt-get install gcc valgrind")
        return None
    with tempfile.TemporaryDirectory() as work:
        program, deltas = Path(work) / "book_replay", Path(work) / "deltas"
        deltas.write_bytes(bytes(ffi.buffer(kernel.native)))
        flags = "-O3 -std=c11 -UNDEBUG -ffp-contract=off -fno-math-errno -fstack-protector-strong"
        sources = [str(ROOT / "perf" / "book_replay.c"), str(ROOT / "native" / "orderbook.c")]
        build = ["gcc", *flags.split(), "-march=x86-64-v3", f"-I{ROOT / 'native'}", *sources]
        subprocess.run([*build, "-o", str(program)], check=True)
        count = subprocess.run(
            [
                "valgrind",
                "--tool=callgrind",
                f"--callgrind-out-file={work}/callgrind",
                "--toggle-collect=orderbook_apply",
                str(program),
                str(deltas),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    found = re.search(r"Collected : (\d+)", count.stderr)
    return int(found.group(1)) / kernel.count if found else None


def measure() -> Report:
    """Run everything once."""
    deltas = stream(DELTA_COUNT)
    kernel = Kernel(deltas)
    notes: list[str] = []
    kernel.batches(CHUNK)
    expected = kernel.metrics()
    chunks = chunked(deltas)
    contenders = [
        Contender(who="floor: empty cffi call", window=kernel.empty_calls),
        Contender(who="corequote in C, 4096 per call", window=lambda: kernel.batches(C_BATCH)),
        Contender(who="corequote, 64 per call", window=lambda: kernel.batches(CHUNK)),
        Contender(who="corequote, 1 per call", window=lambda: timed(chunks, kernel.one_per_call)),
        Contender(
            who="corequote, 1 per call, all six read",
            window=lambda: timed(chunks, kernel.one_per_call_all_read),
        ),
        *rivals(deltas, expected, notes),
    ]
    rows, discarded = interleave(contenders)
    if not same(kernel.metrics(), expected):
        raise AssertionError("the kernel's book changed between two runs of one stream")
    by_who: dict[str, Row] = {row.who: row for row in rows}

    def times_ours(who: str, ours: str) -> float | None:
        return by_who[who].p50 / by_who[ours].p50 if who in by_who else None

    one, read = "corequote, 1 per call", "corequote, 1 per call, all six read"
    return Report(
        name="book",
        unit="ns per delta",
        rows=rows,
        ratios={
            "vs_order_book": times_ours("order-book", one),
            "vs_nautilus": times_ours("nautilus_trader", one),
            "vs_order_book_all_read": times_ours("order-book", read),
            "vs_nautilus_all_read": times_ours("nautilus_trader", read),
            "vs_sorted_dict": times_ours("SortedDict", one),
            "vs_pure_python": times_ours("pure Python ladder", one),
            "c_ns_per_delta": by_who["corequote in C, 4096 per call"].p50,
            "batch64_ns_per_delta": by_who["corequote, 64 per call"].p50,
            "instructions_per_delta": instructions_per_delta(kernel, notes),
        },
        discarded=discarded,
        machine=machine(),
        notes=notes,
    )


def main() -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="python -m perf.book", description="Cost of one order book change.")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    show(measure(), as_json=parser.parse_args().json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
