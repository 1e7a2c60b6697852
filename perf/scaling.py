"""Does a thousandth market make the others slower, and what does one cost?

    50,000 frames/s in all --> ingest push --> ring --> quote_pass      1, 10, 100, 1,000 markets,
    paced, market by chance    (BookListener)           (decided)       one worker per core

A regression here is an engine whose cost follows the number of its markets instead of their messages. Every
core carries its share of the markets: ingest's own objects and the quoter's C side, in turn, in one process,
so that what is timed is work and not waking up. Frames come at a fixed pace, one at a time, each for a market
drawn by chance, which is what caches like least; between two frames the core looks at the clock. Samples are
means over chunks of 64 messages, images renewed on the way included.

The floor of a thousand markets is ``line_walk.c``: as many cache lines per message, among as many markets,
and nothing done with them. What it takes more among a thousand than alone is what any message must wait for
that touches them; ``floor_1000_vs_1`` is our message alone plus that wait, over our message alone.

Every market begins with the same full book and must end in the right one. Besides: shared memory touched by
a market that has used all it may, CPU of markets that nobody trades (the real quoter process, everything
synced), and the sizes that were promised, each checked.
"""

from __future__ import annotations

import argparse
import gc
import logging
import mmap
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from engine._native import ffi, lib
from engine.arena import Arena, check
from engine.config import market_json
from engine.workers.ingest import BookListener, Ingest
from perf.book import Delta, stream
from perf.feeding import (
    FIRST_SEQUENCE,
    START_UNIX_MS,
    cores,
    delta_frame,
    digest_after,
    end,
    fork,
    new_arena,
    ready_kernel,
    snapshot_frame,
    worker_process,
)
from perf.idle import idle_cpu_share
from perf.sizes import sizes
from perf.windows import Contender, Report, Samples, interleave, machine, show

ROOT: Final = Path(__file__).resolve().parents[1]
COUNTS: Final = (1, 10, 100, 1_000)
MESSAGES_PER_S: Final = 50_000
MESSAGES: Final = 25_600  # of a window, all cores together
CHUNK: Final = 64
HELD: Final = 2_048  # changes before the first frame: they fill the book
SEED: Final = 20_261_121
TOUCHED_MARKETS: Final = 100
NS_PER_S: Final = 1_000_000_000

DELTAS: Final = stream(HELD + MESSAGES)

now = time.perf_counter_ns


class Core:
    """A worker with its markets and the feed of each: everything one core carries."""

    def __init__(self, markets: Sequence[str]) -> None:
        self.arena = new_arena(markets)
        ring = ffi.buffer(self.arena.book_ring(0), lib.BOOK_RING_SLOTS * ffi.sizeof("broadcast_slot_t"))
        for offset in range(0, len(ring), mmap.PAGESIZE):
            ring[offset] = b"\0"  # its pages are there, as after its first lap
        self.ingest = Ingest(worker_process(self.arena, lib.PROCESS_INGEST, markets), "")
        self.listeners = [BookListener(self.ingest, feed) for feed in self.ingest.feeds]
        quotes = [market.quote for market in self.ingest.proc.config.markets]
        self.kernels = [ready_kernel(self.arena, slot, quote) for slot, quote in enumerate(quotes)]
        self._natives = ffi.new("quote_market_t *[]", [kernel.native for kernel in self.kernels])
        self._news_slots = ffi.new("uint16_t[]", len(markets))
        self.worker = ffi.new("quote_worker_t *")
        self.worker.ring = self.arena.book_ring(0)
        self.worker.markets = self._natives
        self.worker.news_slots = self._news_slots
        self.worker.market_count = len(markets)
        for market, listener in zip(markets, self.listeners, strict=True):
            listener.message(snapshot_frame(market, DELTAS[:HELD]), lib.mono_now_ns())
            self.decide(START_UNIX_MS)

    def decide(self, unix_ms: int) -> None:
        lib.quote_pass(self.worker, unix_ms)
        for index in range(self.worker.news_count):
            self._natives[self._news_slots[index]].news = 0

    def carry(self, frames: list[tuple[int, bytes]], interval_ns: int) -> Samples:
        """Takes (market slot, frame) one per interval; ns per message of each chunk."""
        listeners = self.listeners
        natives, quote_pass, worker = list(self._natives), lib.quote_pass, self.worker
        costs = np.empty(len(frames))
        due = now()
        for index, (slot, payload) in enumerate(frames):
            due += interval_ns
            while (began := now()) < due:
                pass
            listeners[slot].message(payload, began)  # as the WebSocket library calls it
            quote_pass(worker, START_UNIX_MS)
            costs[index] = now() - began
            natives[slot].news = 0
        return costs.reshape(-1, CHUNK).mean(axis=1)

    def check(self, taken: list[int]) -> None:
        """Raises AssertionError unless every market took so many frames and decided on the right book."""
        for kernel, count in zip(self.kernels, taken, strict=True):
            native = kernel.native
            assert native.book_valid
            assert native.venue_sequence == FIRST_SEQUENCE + count, (
                f"{native.venue_sequence} for {count} frames"
            )
            assert lib.orderbook_digest(kernel.book) == digest_after(DELTAS[: HELD + count]), "another book"
            assert kernel.fair.fair_price_cents > 0, "nothing was decided"


def frames_for(
    markets: Sequence[str], count: int, chance: random.Random
) -> tuple[list[tuple[int, bytes]], list[int]]:
    """(slot, frame) in the order they come, and how many each market gets."""
    taken = [0] * len(markets)
    frames = []
    for _ in range(count):
        slot = chance.randrange(len(markets))
        delta: Delta = DELTAS[HELD + taken[slot]]
        taken[slot] += 1
        frames.append((slot, delta_frame(markets[slot], FIRST_SEQUENCE + taken[slot], delta)))
    return frames, taken


def names(count: int) -> list[str]:
    return [f"MKT-{index:04}" for index in range(count)]


def look_at_the_clock() -> None:
    """What a core with markets does between two frames, for one without any.

    Cores may share units and caches: one market is to be measured on as busy a machine as a thousand.
    """
    while True:
        now()


def window(count: int) -> Samples:
    """``count`` markets, spread over one worker per core; one market on each core in turn.

    Cores are not alike, the first of them serves the machine too: one market alone is asked of all of them.
    """
    everywhere = sorted(set(cores()))
    if count < len(everywhere):
        return np.concatenate([carried(count, [cpu]) for cpu in everywhere])
    return carried(count, everywhere)


def carried(count: int, allowed: Sequence[int]) -> Samples:
    """One window of ``count`` markets on the ``allowed`` cores, which share all messages of a second."""
    everywhere = sorted(set(cores()))
    chunks = MESSAGES // len(everywhere) // CHUNK
    memory = mmap.mmap(-1, 8 * chunks * len(allowed))
    samples = np.frombuffer(memory, dtype=np.float64).reshape(len(allowed), chunks)
    interval_ns = NS_PER_S * len(allowed) // MESSAGES_PER_S

    def run(index: int) -> None:
        markets = names(count)[index :: len(allowed)]
        frames, taken = frames_for(markets, chunks * CHUNK, random.Random(SEED + index))
        core = Core(markets)
        gc.collect()
        gc.freeze()
        gc.disable()
        costs = core.carry(frames, interval_ns)
        core.check(taken)
        samples[index] = costs

    spare = [fork(look_at_the_clock, cpu=cpu) for cpu in everywhere if cpu not in allowed]
    children = [fork(partial(run, index), cpu=cpu) for index, cpu in enumerate(allowed)]
    for child in children:
        os.waitpid(child, 0)
    for child in spare:
        end(child)
    assert samples.all(), f"{count} markets: a core failed, see above"
    return samples.reshape(-1).copy()


def empty_timing() -> Samples:
    """The floor: two looks at the clock, chunked like the rest."""
    marks = [(now(), now()) for _ in range(MESSAGES)]
    costs = np.array([after - before for before, after in marks], dtype=np.float64)
    return costs.reshape(-1, CHUNK).mean(axis=1)


# --- memory


def touched_bytes(arena: Arena) -> int:
    return os.fstat(arena.fd).st_blocks * 512


def touched_per_market() -> int:
    """Shared memory of a 99-tick market that has used all it has: rows, both images, every order slot."""
    core = Core(names(1))
    few, one = touched_bytes(core.arena), 1
    core = Core(names(TOUCHED_MARKETS))
    config = core.ingest.proc.config
    arena = core.arena
    state, order = ffi.new("quoter_state_t *"), ffi.new("live_order_t *")
    account = ffi.new("account_state_t *")
    for slot, listener in enumerate(core.listeners):
        for position in (0, 1):  # both images
            listener.feed.write_image(position)
        arena.write_config(slot, 1, market_json(config.markets[slot]))
        market = arena.market(slot)
        check(
            lib.state_write(
                ffi.addressof(market, "state"),
                lib.STATE_KIND_QUOTER,
                1,
                1,
                1,
                state,
                ffi.sizeof("quoter_state_t"),
            ),
            "state row",
        )
        lib.account_write(ffi.addressof(market, "account"), account)
        for index in range(lib.LIVE_ORDER_SLOTS):
            lib.live_order_write(ffi.addressof(market.live_orders[index]), order)
        for bucket in range(64):
            lib.histogram_record(ffi.addressof(market, "tick_to_quote_ns"), 1 << bucket)
    return (touched_bytes(arena) - few) // (TOUCHED_MARKETS - one)


def compiled(folder: Path) -> Path:
    program = folder / "line_walk"
    flags = ["-O3", "-std=c11", "-UNDEBUG"]
    source = ROOT / "perf" / "line_walk.c"
    subprocess.run([os.environ.get("CC", "cc"), *flags, str(source), "-o", str(program)], check=True)
    return program


def line_walk(program: Path, count: int) -> Samples:
    """The lines of a message and nothing else, among ``count`` markets spread like ours."""
    everywhere = sorted(set(cores()))
    turns = [[cpu] for cpu in everywhere] if count < len(everywhere) else [everywhere]
    walk_count = MESSAGES // len(everywhere) // CHUNK * CHUNK
    costs = []
    for allowed in turns:
        sets, interval_ns = count // len(allowed), NS_PER_S * len(allowed) // MESSAGES_PER_S
        words = [[str(word) for word in (program, sets, cpu, walk_count, interval_ns)] for cpu in allowed]
        walks = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in words]
        costs += [np.frombuffer(walk.communicate()[0]) for walk in walks]
        assert all(walk.returncode == 0 for walk in walks), "line_walk failed, see above"
    return np.concatenate(costs).reshape(-1, CHUNK).mean(axis=1)


def walk_of(count: int) -> str:
    return f"floor: the lines of a message, {count:,} market{'s' * (count > 1)}"


def who(count: int) -> str:
    return f"corequote, {count:,} market{'s' * (count > 1)}"


def measure() -> Report:
    """Run everything once."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    notes = []
    if len(set(cores())) == 1:
        notes.append("one core only: one worker carried all markets")
    shm_bytes = touched_per_market()
    idle_share = idle_cpu_share(COUNTS[-1] // 2)
    found = sizes()
    for size in found:
        assert size.bytes <= size.limit, f"{size.what}: {size.bytes} bytes, limit {size.limit}"
    notes += [f"{size.what}: {size.bytes:,} bytes of at most {size.limit:,}" for size in found]
    assert shm_bytes <= 1 << 20, f"a market touches {shm_bytes} bytes of shared memory"
    with tempfile.TemporaryDirectory() as folder:
        program = compiled(Path(folder))
        rows, discarded = interleave(
            [
                Contender(who="floor: empty timing", window=empty_timing),
                *(
                    Contender(who=walk_of(count), window=partial(line_walk, program, count))
                    for count in (COUNTS[0], COUNTS[-1])
                ),
                *(Contender(who=who(count), window=partial(window, count)) for count in COUNTS),
            ]
        )
    p50 = {row.who: row.p50 for row in rows}
    alone = p50[who(COUNTS[0])]
    waiting = p50[walk_of(COUNTS[-1])] - p50[walk_of(COUNTS[0])]
    ratios: dict[str, float | None] = {
        "cost_1000_vs_1": p50[who(COUNTS[-1])] / alone,
        "floor_1000_vs_1": (alone + waiting) / alone,
        "shm_bytes_per_market": float(shm_bytes),
        "idle_cpu_ppm_per_market": idle_share * 1e6,
    }
    return Report(
        name="scaling",
        unit="ns per message",
        rows=rows,
        ratios=ratios,
        discarded=discarded,
        machine=machine(),
        notes=notes,
    )


def main() -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="python -m perf.scaling", description="One market to a thousand.")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    show(measure(), as_json=parser.parse_args().json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
