"""Market trades of the recent past, as policy looks at them (market-making §4, §5.2, §5.5).

Arrays of one length, oldest trade first: ``times_ms`` (never falling), ``prices_cents`` (YES terms),
``sells`` (True where the aggressor sold YES), ``shares``. Trades of the system account are not among them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from engine.quoting.ratios import exceeds, falls_below


class Trades(Struct, frozen=True, kw_only=True):
    """A view of the newest market trades; see the module for the arrays."""

    times_ms: NDArray[np.int64]
    prices_cents: NDArray[np.int64]
    sells: NDArray[np.bool_]
    shares: NDArray[np.int64]


def no_trades() -> Trades:
    empty: Any = np.zeros(0, dtype=np.int64)
    return Trades(times_ms=empty, prices_cents=empty, sells=np.zeros(0, dtype=np.bool_), shares=empty)


class PriceRange(Struct, frozen=True, kw_only=True):
    """Prices of a window in cents; all zero without a trade."""

    trades: int = 0
    low_cents: int = 0
    high_cents: int = 0

    @property
    def move_cents(self) -> int:
        return self.high_cents - self.low_cents

    def wider_than(self, ratio: float) -> bool:
        """(max - min) / ((max + min) / 2) > ratio (§4)."""
        return exceeds(2 * self.move_cents, self.low_cents + self.high_cents, ratio)

    def narrower_than(self, ratio: float) -> bool:
        """(max - min) / ((max + min) / 2) < ratio (§4); False without a trade."""
        middle = self.low_cents + self.high_cents
        return self.trades > 0 and falls_below(2 * self.move_cents, middle, ratio)

    def jumped(self, ratio: float, move_cents_min: int) -> bool:
        """(max - min) / min > ratio, and at least ``move_cents_min`` (§5.2 PRICE_JUMP, D27)."""
        return self.move_cents >= move_cents_min and exceeds(self.move_cents, self.low_cents, ratio)


def price_range(trades: Trades, since_ms: int) -> PriceRange:
    """Count, lowest and highest price of the trades at or after ``since_ms``."""
    first = int(np.searchsorted(trades.times_ms, since_ms, side="left"))
    prices = trades.prices_cents[first:]
    if prices.size == 0:
        return PriceRange()
    return PriceRange(trades=int(prices.size), low_cents=int(prices.min()), high_cents=int(prices.max()))
