"""The C book as the tests hold it: memory, pointer, and results as plain Python values."""

from __future__ import annotations

from typing import Any

from engine._native import ffi, lib

from tests.reference.orderbook import Segment

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
