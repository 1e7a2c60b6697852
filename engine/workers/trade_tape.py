"""The market's recent trades as policy reads them: summaries of ``trade_tape_t``.

``native/quote_pass.c`` appends every trade of the trade stream; audit rows of mint and burn never travel on
it (platform §2.6). Same process, same thread as the readers here.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from engine._native import ffi, lib
from engine.events import Side
from engine.quoting.trade_window import PriceRange

CAPACITY: Final = int(lib.TAPE_TRADES)
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
    """Owns one ``trade_tape_t``."""

    def __init__(self) -> None:
        self.native: Any = ffi.new("trade_tape_t *")
        self._window: Any = ffi.new("tape_window_t *")

    @property
    def count(self) -> int:
        """Trades ever appended; the newest ``CAPACITY`` of them are kept."""
        return int(self.native.count)

    def append(self, *, unix_ms: int, price_ticks: int, side: Side, lots: int) -> bool:
        """Appends a trade; False for one that cannot be (native/trade_tape.h)."""
        return bool(lib.tape_append(self.native, unix_ms, price_ticks, side, lots))

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
        window = self._window
        lib.tape_window(self.native, since_ms, _ALL, window)
        return PriceRange(
            trades=window.trades, low_cents=window.price_min_ticks, high_cents=window.price_max_ticks
        )
