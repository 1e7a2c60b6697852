"""The C kernels as the tests hold them: memory, pointers, and results as plain Python values."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from engine._native import ffi, lib
from engine.quoting.pricing import PriceParams, native_params
from tests.reference.orderbook import Segment
from tests.reference.quote import Fair, Inputs, Target

CENTS: tuple[Segment, ...] = ((101, 0, 100),)
TENTHS: tuple[Segment, ...] = ((1001, 0, 10),)
HUNDREDTHS: tuple[Segment, ...] = ((10001, 0, 1),)
# tenths of a cent below 10 and above 90 cents, whole cents between (Kalshi's tapered_deci_cent)
TAPERED: tuple[Segment, ...] = ((100, 0, 10), (80, 1000, 100), (101, 9000, 10))
GRIDS = (CENTS, TENTHS, HUNDREDTHS, TAPERED)


def native_grid(segments: tuple[Segment, ...]) -> Any:
    """A ``price_grid_t *`` of (tick count, start price, step) runs."""
    grid = ffi.new("price_grid_t *")
    tick = 0
    for index, (count, start, step) in enumerate(segments):
        grid.segments[index] = (tick, count, start, step)
        tick += count
    grid.tick_count = tick
    grid.segment_count = len(segments)
    return grid


class KernelBook:
    """An ``orderbook_t *`` with its memory, large enough for every grid."""

    def __init__(self, segments: tuple[Segment, ...]) -> None:
        self.bytes = lib.orderbook_bytes(lib.PRICE_GRID_TICKS_MAX)
        self.memory = ffi.new("int64_t[]", self.bytes // 8)
        self.pointer = ffi.cast("orderbook_t *", self.memory)
        self.change_grid(segments)

    def change_grid(self, segments: tuple[Segment, ...]) -> None:
        assert lib.orderbook_init(self.memory, self.bytes, native_grid(segments)) == lib.ORDERBOOK_OK

    def levels(self, view: int, side: int, level_max: int = 10001) -> list[tuple[int, int]]:
        buffer = ffi.new("book_level_t[]", level_max)
        count = lib.orderbook_levels(self.pointer, view, side, buffer, level_max)
        assert count >= 0
        return [(buffer[i].price_ticks, buffer[i].lots) for i in range(count)]

    def _depth(self, function: Any, view: int, side: int, limit: int) -> tuple[int, int, int, int]:
        depth = ffi.new("book_depth_t *")
        assert function(self.pointer, view, side, limit, depth) == lib.ORDERBOOK_OK
        return depth_values(depth)

    def depth(self, view: int, side: int, level_max: int) -> tuple[int, int, int, int]:
        return self._depth(lib.orderbook_depth, view, side, level_max)

    def depth_to_lots(self, view: int, side: int, wanted: int) -> tuple[int, int, int, int]:
        return self._depth(lib.orderbook_depth_to_lots, view, side, wanted)

    def depth_within(self, view: int, side: int, distance: int) -> tuple[int, int, int, int]:
        return self._depth(lib.orderbook_depth_within, view, side, distance)

    def metrics(self) -> list[tuple[int, int, tuple[int, int, int, int]]]:
        """Per side (best tick, level count, top-3 sums)."""
        both = lib.orderbook_metrics(self.pointer)
        return [(side.best_ticks, side.level_count, depth_values(side.top)) for side in (both.bid, both.ask)]

    def export(self) -> tuple[list[int], list[int]]:
        count = self.pointer.tick_count
        bids, asks = ffi.new("int64_t[]", count), ffi.new("int64_t[]", count)
        assert lib.orderbook_export(self.pointer, bids, asks, count) == lib.ORDERBOOK_OK
        return list(bids), list(asks)


def depth_values(depth: Any) -> tuple[int, int, int, int]:
    """(lots, value, number of levels, worst tick) as the reference gives them."""
    return (depth.lots, depth.value_high << 64 | depth.value_low, depth.level_count, depth.worst_ticks)


class KernelQuote:
    """The C price arithmetic beside a book: parameters, trades and output in their own memory."""

    def __init__(self, params: PriceParams, posterior_cents: float) -> None:
        self.params = native_params(params)
        self.trades = ffi.new("quote_trades_t *")
        assert lib.quote_trades_init(self.trades, posterior_cents) == lib.QUOTE_SAME
        self.output = ffi.new("quote_output_t *")

    def on_trade(self, price_e4: int, aggressor: int, now_ms: int) -> None:
        code = lib.quote_on_trade(self.trades, self.params, price_e4, aggressor, now_ms)
        assert code == lib.QUOTE_CHANGED

    def compute(self, book: KernelBook, inputs: Inputs) -> int:
        code: int = lib.quote_compute(
            self.params, self.trades, book.pointer, native_inputs(inputs), self.output
        )
        return code

    def fair(self) -> Fair:
        return fair_values(self.output.fair)

    def target(self) -> Target:
        return target_values(self.output.target)


def native_inputs(inputs: Inputs) -> Any:
    """A ``quote_inputs_t *``."""
    return ffi.new("quote_inputs_t *", asdict(inputs))


def native_fair(fair: Fair) -> Any:
    """A ``quote_fair_t *``."""
    return ffi.new("quote_fair_t *", asdict(fair))


def fair_values(native: Any) -> Fair:
    return Fair(**{field.name: getattr(native, field.name) for field in fields(Fair)})


def target_values(native: Any) -> Target:
    """The levels, and proof that the rest of the arrays is zero."""
    off = lib.ORDERBOOK_NO_TICK
    ladders = []
    for levels, count in ((native.bids, native.bid_count), (native.asks, native.ask_count)):
        assert 0 <= count <= lib.QUOTE_LEVELS_MAX
        assert all(levels[i].price_ticks == levels[i].lots == 0 for i in range(count, lib.QUOTE_LEVELS_MAX))
        ladders.append([(levels[i].price_ticks, levels[i].lots) for i in range(count)])
    return Target(
        None if native.touch_bid_ticks == off else native.touch_bid_ticks,
        None if native.touch_ask_ticks == off else native.touch_ask_ticks,
        ladders[0],
        ladders[1],
    )
