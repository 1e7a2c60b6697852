"""The loss of all markets together (reliability page §1, C13). Pure.

The quoters' own figures are taken as a reason to stop, never as one to go on: a market that says nothing
counts as no gain and no loss, and its own limits hold for it all the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.config import QuoteConfig, RiskConfig


def limit_cents(risk: RiskConfig, quotes: Iterable[QuoteConfig]) -> int:
    """The engine's own figure, else its markets' daily limits together."""
    if risk.daily_loss_max_cents is not None:
        return risk.daily_loss_max_cents
    return sum(quote.max_loss_daily_cents for quote in quotes)


def too_much(daily_pnl_cents: Iterable[int], limit: int) -> bool:
    """Whether the markets have lost more than ``limit`` cents today."""
    return sum(daily_pnl_cents) < -limit
