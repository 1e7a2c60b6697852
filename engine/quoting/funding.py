"""What pays for a ladder (market-making §3.7, D7): limits of a market and its terms; book and user view.

The orders themselves are planned in ``native/ladder_plan.c``.
"""

from __future__ import annotations

from msgspec import Struct

from engine.events import Direction, Outcome, Side


class FundingRules(Struct, frozen=True, kw_only=True):
    """Limits of one market and its configuration."""

    allow_buy: bool
    cash_reserve_cents: int
    position_limit: int  # shares per outcome, planned buys included
    taker_fee_bps: int
    order_quantity_max: int
    order_amount_max_cents: int
    buy_share_bp: int = 0  # of each level, basis points; 0 = inventory first


def book_price_cents(outcome: Outcome, price_cents: int) -> int:
    """User price -> YES price (§2.3 table)."""
    return price_cents if outcome == Outcome.YES else 100 - price_cents


def book_side(outcome: Outcome, direction: Direction) -> Side:
    """Side of the YES book an order rests on (§2.3 table)."""
    buys_yes = (outcome == Outcome.YES) == (direction == Direction.BUY)
    return Side.BID if buys_yes else Side.ASK
