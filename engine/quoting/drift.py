"""Own books against the venue's (market-making §7.5): nothing, a warning, or the venue's word. Pure."""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct

from engine.config import QuoteConfig
from engine.quoting.inventory import Stock


class Drift(IntEnum):
    NONE = 0
    TOLERATED = 1  # warn, change nothing
    CRITICAL = 2  # rebuild from the venue's books, alert


class Comparison(Struct, frozen=True, kw_only=True):
    """The verdict, and venue minus ours of everything that differs, by field name."""

    drift: Drift
    differences: dict[str, int]
    netting: bool  # YES and NO fell together: somebody nets pairs


def compare(ours: Stock, venue: Stock, quote: QuoteConfig) -> Comparison:
    """Both at the same version: with every fill of one counted in the other."""
    tolerances = {
        "yes_volume": quote.volume_tolerance,
        "no_volume": quote.volume_tolerance,
        "yes_cost_sum_cents": quote.cost_sum_tolerance,
        "no_cost_sum_cents": quote.cost_sum_tolerance,
        "cash_cents": quote.cash_tolerance,
    }
    differences = {
        name: getattr(venue, name) - getattr(ours, name)
        for name in tolerances
        if getattr(venue, name) != getattr(ours, name)
    }
    beyond = any(abs(change) > tolerances[name] for name, change in differences.items())
    drift = Drift.CRITICAL if beyond else Drift.TOLERATED if differences else Drift.NONE
    yes, no = differences.get("yes_volume", 0), differences.get("no_volume", 0)
    return Comparison(drift=drift, differences=differences, netting=yes < 0 and yes == no)
