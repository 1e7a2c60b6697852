"""The market's recent trades as policy reads them: numpy views and summaries of ``trade_tape_t``.

``native/quote_pass.c`` appends every trade of the trade stream; audit rows of mint and burn never travel on
it (platform §2.6). Same process, same thread as the readers here, so a view is exact until the next pass.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from engine._native import ffi, lib
from engine.events import Side
from engine.quoting.trade_window import PriceRange

CAPACITY: Final = int(lib.TAPE_TRADES)
# one tape_trade_t; side is engine.events.Side of the aggressor
TRADE_DTYPE: Final = np.dtype(
    [("unix_ms", np.int64), ("lots", np.int64), ("price_ticks", np.int32), ("side", np.uint32)]
)
_BEGINNING: Final = -(1 << 63)
_ALL: Final = (1 << 64) - 1


class TradeWindow(Struct, frozen=True, kw_only=True):
    """What a window of trades says; all 0 without trades. Prices in ticks, quantities in lots."""

    trades: int
    lots: int
    sell_lots: int  # of them, sold by the aggressor
    price_min_ticks: int
    price_max_ticks: int


class TradeTape:
    """Owns one ``trade_tape_t``. All arrays are read-only and run from the oldest trade to the newest."""

    def __init__(self) -> None:
        self.native: Any = ffi.new("trade_tape_t *")
        self._window: Any = ffi.new("tape_window_t *")
        memory = ffi.buffer(ffi.addressof(self.native[0], "trades"))
        self._slots: NDArray[np.void] = np.frombuffer(memory, dtype=TRADE_DTYPE)
        self._slots.flags.writeable = False

    @property
    def count(self) -> int:
        """Trades ever appended; the newest ``CAPACITY`` of them are kept."""
        return int(self.native.count)

    def append(self, *, unix_ms: int, price_ticks: int, side: Side, lots: int) -> bool:
        """Appends a trade; False for one that cannot be (native/trade_tape.h)."""
        return bool(lib.tape_append(self.native, unix_ms, price_ticks, side, lots))

    def last(self, count: int) -> NDArray[np.void]:
        """The newest ``count`` trades, or as many as are kept. A view unless the window wraps."""
        if count < 0:
            raise ValueError(f"count: {count} must not be negative")
        end = self.count
        start = end - min(count, end, CAPACITY)
        first, behind = start % CAPACITY, end % CAPACITY
        if start == end or first < behind:
            return self._slots[first:behind] if start != end else self._slots[:0]
        wrapped = np.concatenate((self._slots[first:], self._slots[:behind]))
        wrapped.flags.writeable = False
        return wrapped

    def since(self, unix_ms: int) -> NDArray[np.void]:
        """Trades not older than ``unix_ms``: times on the tape never fall, so they are a suffix of it."""
        kept = self.last(CAPACITY)
        return kept[int(np.searchsorted(kept["unix_ms"], unix_ms, side="left")) :]

    def window(self, *, since_ms: int = _BEGINNING, count: int = _ALL) -> TradeWindow:
        """Summary of the newest trades not older than ``since_ms``, at most ``count`` of them; in C."""
        window = self._window
        lib.tape_window(self.native, since_ms, count, window)
        return TradeWindow(
            trades=window.trades,
            lots=window.lots,
            sell_lots=window.sell_lots,
            price_min_ticks=window.price_min_ticks,
            price_max_ticks=window.price_max_ticks,
        )

    def price_range(self, *, since_ms: int) -> PriceRange:
        """Of the trades not older than ``since_ms``, on the cents grid, where a tick is a cent."""
        window = self.window(since_ms=since_ms)
        return PriceRange(
            trades=window.trades, low_cents=window.price_min_ticks, high_cents=window.price_max_ticks
        )
