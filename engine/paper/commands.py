"""Everything that can be asked of the exchange's core, as values.

A command carries what the caller chose. What the exchange adds (time, ids) comes from the state it is
decided on, so that the same state and command always yield the same effects.
"""

from datetime import datetime

import msgspec

from engine.paper.arithmetic import FeeRule
from engine.paper.model import (
    CancelScope,
    Direction,
    MarketStatus,
    Resolution,
    Side,
    StopMode,
    TimeInForce,
)


class OrderTerms(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The content of an order; with the caller and the key, all that idempotency compares (D6)."""

    client_order_id: str
    market_id: str
    side: Side
    direction: Direction
    price_cents: int
    quantity: int
    time_in_force: TimeInForce


class RegisterUser(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Create a user with an empty account."""

    user_id: str
    username: str
    email: str
    password_hash: bytes | None


class SetPassword(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Give a user another password; None for one that nobody has."""

    user_id: str
    password_hash: bytes | None


class Deposit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Put ``amount_cents`` > 0 on the caller's account."""

    user_id: str
    amount_cents: int


class Withdraw(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Take ``amount_cents`` > 0 off the caller's available cash."""

    user_id: str
    amount_cents: int


class CreateMarket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Open a market book with these columns (section 6)."""

    id: str
    title: str
    status: MarketStatus
    min_price_cents: int
    max_price_cents: int
    max_order_quantity: int
    max_position_per_user: int
    max_order_amount_cents: int
    maker_fee_bps: int
    taker_fee_bps: int
    amm_approved: bool
    description: str | None = None
    category: str | None = None
    created_at: datetime | None = None
    trading_start_at: datetime | None = None
    trading_end_at: datetime | None = None
    resolution_date: datetime | None = None


class SetMarketStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Move a market between the states an operator may choose."""

    market_id: str
    status: MarketStatus
    reason: str


class HaltMarket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Break the circuit: a failed invariant stops the market."""

    market_id: str
    reason: str


class ResolveMarket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """End a market; with a delay it stays RESOLVED until :class:`SettleMarket`, due that much later."""

    market_id: str
    resolution: Resolution
    settle_delay_ms: int = 0
    halted_too: bool = True


class SettleMarket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Pay out a RESOLVED market."""

    market_id: str


class PlaceOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Place one order."""

    user_id: str
    terms: OrderTerms
    fee_rule: FeeRule = FeeRule.BOTH_SIDES


class CancelOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Cancel one order of the caller."""

    user_id: str
    order_id: str


class ReplaceOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Swap one order of the market maker for another in one transaction.

    ``cancels_partly_filled``: refusing because the old order is partly filled cancels what is left of it.
    """

    user_id: str
    old_order_id: str
    terms: OrderTerms
    fee_rule: FeeRule = FeeRule.BOTH_SIDES
    cancels_partly_filled: bool = True


class BatchCancel(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Cancel the caller's live orders of one market within ``scope``."""

    user_id: str
    market_id: str
    scope: CancelScope


class Mint(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Turn cash into ``quantity`` pairs."""

    user_id: str
    market_id: str
    quantity: int
    idempotency_key: str


class Burn(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Turn ``quantity`` free pairs back into cash."""

    user_id: str
    market_id: str
    quantity: int
    idempotency_key: str


class StartAmm(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Fund the market maker for one market and mint its first pairs."""

    user_id: str
    market_id: str
    initial_budget_cents: int


class StopAmm(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Cancel the market maker's orders in one market and mark it stopped."""

    user_id: str
    market_id: str
    mode: StopMode


Command = (
    RegisterUser
    | SetPassword
    | Deposit
    | Withdraw
    | CreateMarket
    | SetMarketStatus
    | HaltMarket
    | ResolveMarket
    | SettleMarket
    | PlaceOrder
    | CancelOrder
    | ReplaceOrder
    | BatchCancel
    | Mint
    | Burn
    | StartAmm
    | StopAmm
)
