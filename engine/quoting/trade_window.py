"""Prices of the market's recent trades, as policy judges them (market-making §4, §5.2). Pure."""

from __future__ import annotations

from msgspec import Struct

from engine.quoting.ratios import exceeds, falls_below


class PriceRange(Struct, frozen=True, kw_only=True):
    """Trades of a window and their lowest and highest YES price in cents; all zero without a trade."""

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
