"""Which rows of the state board changed: all versions of all markets in one read-only numpy view each.

The versions only say where to look. The rows themselves are read under their own sequence locks.

Reads: versions of state and live-order rows.  Writes: nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine._native import ffi, lib
from engine.arena import Arena


class RowVersions:
    """Views on an arena: ``state`` by market slot, ``orders`` by market slot and live-order row."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena  # the views live in its mapping
        header = arena.header
        self._memory = ffi.buffer(arena.base, header.total_bytes.value)
        self._market_offset = int(header.market_offset.value)
        stride, count = int(header.market_stride.value), arena.market_slots
        slot = ffi.typeof("market_slot_t")
        state_at = ffi.offsetof(slot, "state") + ffi.offsetof("state_row_t", "version")
        orders_at = ffi.offsetof(slot, "live_orders") + ffi.offsetof("live_order_row_t", "version")
        row_bytes = ffi.sizeof("live_order_row_t")
        self.state = self._view((count,), state_at, (stride,))
        self.orders = self._view((count, lib.LIVE_ORDER_SLOTS), orders_at, (stride, row_bytes))

    def _view(self, shape: tuple[int, ...], offset: int, strides: tuple[int, ...]) -> NDArray[np.uint64]:
        words: NDArray[np.uint64] = np.ndarray(
            shape, dtype=np.uint64, buffer=self._memory, offset=self._market_offset + offset, strides=strides
        )
        words.flags.writeable = False
        return words
