"""Auto-merge and auto-reinvest (market-making §9): pairs into cash, cash into pairs, and never in circles.

Pure planning: merge first; a mint leaves the cash threshold standing, a merge leaves |q| at most at the
warning threshold, so neither brings about the other (D20).
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from engine.config import QuoteConfig
from engine.events import DefenseLevel, Phase
from engine.quoting.effects import PAIR_CENTS
from engine.quoting.inventory import Stock
from engine.quoting.ratios import WHOLE_BP, basis_points

INTERVAL_MS: Final = 60_000  # one operation per market in this time
MINT_TIME_LEFT_MS_MIN: Final = 24 * 3_600_000


class Merge(Struct, frozen=True, kw_only=True):
    """Burn so many pairs."""

    pairs: int


class Mint(Struct, frozen=True, kw_only=True):
    """Mint so many pairs."""

    pairs: int


class SupplyView(Struct, frozen=True, kw_only=True):
    """What the plan looks at: stock, what of it is free, and the market's state."""

    stock: Stock
    yes_available: int
    no_available: int
    free_cash_cents: int
    phase: Phase
    level: DefenseLevel
    market_active: bool
    left_ms: int  # until trading ends
    since_last_ms: int | None  # since the last operation; None = there was none


def initial_pairs(quote: QuoteConfig) -> int:
    """Pairs minted at the first start: half of the start money (D19)."""
    return quote.initial_funding_cents // (2 * PAIR_CENTS)


def plan(view: SupplyView, quote: QuoteConfig) -> Merge | Mint | None:
    """At most one operation, and none within a minute of the last."""
    if not view.market_active or (view.since_last_ms is not None and view.since_last_ms < INTERVAL_MS):
        return None
    return _merge(view, quote) or _mint(view, quote)


def _merge(view: SupplyView, quote: QuoteConfig) -> Merge | None:
    """Frozen shares are never burned."""
    pairs = min(view.yes_available, view.no_available)
    if not quote.auto_merge_enabled or view.free_cash_cents >= quote.auto_reinvest_threshold_cents:
        return None
    if pairs < quote.merge_min_pairs:
        return None
    total = view.stock.yes_volume + view.stock.no_volume
    imbalance = abs(view.stock.yes_volume - view.stock.no_volume)
    reserve = initial_pairs(quote) * basis_points(quote.merge_reserve_ratio) // WHOLE_BP
    # largest n with imbalance / (total - 2n) <= limit
    limit_bp = basis_points(quote.inventory_warning_threshold)
    balanced = (limit_bp * total - WHOLE_BP * imbalance) // (2 * limit_bp)
    count = min(pairs - reserve, balanced)
    return Merge(pairs=count) if count > 0 else None


def _mint(view: SupplyView, quote: QuoteConfig) -> Mint | None:
    stock, initial = view.stock, initial_pairs(quote)
    if not quote.auto_reinvest_enabled or view.free_cash_cents <= quote.auto_reinvest_threshold_cents:
        return None
    if view.phase != Phase.STABILIZATION or view.level != DefenseLevel.NORMAL:
        return None
    if view.left_ms <= MINT_TIME_LEFT_MS_MIN:
        return None
    larger, smaller = max(stock.yes_volume, stock.no_volume), min(stock.yes_volume, stock.no_volume)
    if larger * WHOLE_BP >= basis_points(quote.min_inventory_ratio) * initial:
        return None
    if (larger - smaller) * WHOLE_BP > basis_points(quote.mint_max_imbalance) * (larger + smaller):
        return None
    spare_cents = view.free_cash_cents - quote.auto_reinvest_threshold_cents
    count = min(spare_cents // PAIR_CENTS, initial - smaller, quote.position_limit - larger)
    return Mint(pairs=count) if count > 0 else None
