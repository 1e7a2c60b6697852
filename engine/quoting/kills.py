"""Kill sources (market-making §5.2): what stops a market until a person, or D15, lets it go on.

Pure. Causes are latched by the market's owner; which of them still hold is asked anew at a resume.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from engine.config import QuoteConfig
from engine.events import KillCause, MarketStatus
from engine.quoting.defence import skew_exceeds
from engine.quoting.trade_window import PriceRange

#: Causes after which a resume starts wide, in EXPLORATION (§8).
LOSS_CAUSES: Final = KillCause.DAILY_LOSS | KillCause.ASSET_FLOOR | KillCause.BUDGET

_NOTHING: Final = KillCause(0)
NEAR_LIMIT_PERCENT: Final = 80  # §5.5: an alert before the kill


class Money(Struct, frozen=True, kw_only=True):
    """The market's money at its fair price, cents (§5.5, §11 A3)."""

    assets_cents: int
    daily_pnl_cents: int
    budget_used_cents: int


class KillEvidence(Struct, frozen=True, kw_only=True):
    """What one cycle knows. ``money`` is None before the first price of confirmed stock."""

    yes_volume: int = 0
    no_volume: int = 0
    money: Money | None = None
    jump: PriceRange = PriceRange()  # over price_jump_window_ms
    fair_price_cents: int = 50
    lvr_repeats: bool = False
    negative_available: bool = False  # after a reconciliation, still
    gate_timed_out: bool = False
    status: MarketStatus = MarketStatus.ACTIVE


def causes(seen: KillEvidence, quote: QuoteConfig) -> KillCause:
    """Every cause that holds now. ADMIN, OWNERSHIP, GATEWAY_STUCK, EXECUTIONS are events, not among them."""
    found = _NOTHING
    if skew_exceeds(seen.yes_volume, seen.no_volume, quote.inventory_hard_limit):
        found |= KillCause.SKEW
    if seen.money is not None and (lost := _money_causes(seen.money, quote)):
        found |= lost
    if seen.jump.jumped(quote.price_jump_threshold, quote.min_abs_move_cents):
        found |= KillCause.PRICE_JUMP
    edge_cents = quote.extreme_price_kill
    if not edge_cents < seen.fair_price_cents < 100 - edge_cents:
        found |= KillCause.EXTREME_PRICE
    if seen.lvr_repeats:
        found |= KillCause.LVR_REPEAT
    if seen.negative_available:
        found |= KillCause.NEGATIVE_AVAILABLE
    if seen.gate_timed_out:
        found |= KillCause.GATE_TIMEOUT
    if seen.status == MarketStatus.SUSPENDED:
        found |= KillCause.MARKET_SUSPENDED
    if seen.status == MarketStatus.HALTED:
        found |= KillCause.MARKET_HALTED
    return found


def _money_causes(money: Money, quote: QuoteConfig) -> KillCause:
    found = _NOTHING
    if money.daily_pnl_cents < -quote.max_loss_daily_cents:
        found |= KillCause.DAILY_LOSS
    if money.assets_cents < quote.asset_floor_cents:
        found |= KillCause.ASSET_FLOOR
    if money.budget_used_cents >= quote.budget_limit_cents:
        found |= KillCause.BUDGET
    return found


def near_limits(money: Money, quote: QuoteConfig) -> KillCause:
    """Limits of which 80 % is used up (§5.5): for alerts, nothing stops."""
    near = _NOTHING
    if -money.daily_pnl_cents * 100 > NEAR_LIMIT_PERCENT * quote.max_loss_daily_cents:
        near |= KillCause.DAILY_LOSS
    if money.budget_used_cents * 100 > NEAR_LIMIT_PERCENT * quote.budget_limit_cents:
        near |= KillCause.BUDGET
    return near


def resumes_by_itself(latched: KillCause, status: MarketStatus) -> bool:
    """D15: the market is ACTIVE again and SUSPENDED was the sole cause."""
    return status == MarketStatus.ACTIVE and latched == KillCause.MARKET_SUSPENDED
