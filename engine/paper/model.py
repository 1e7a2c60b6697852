"""Rows of the paper exchange: accounts, markets, orders, trades, positions, ledger (contract section 6).

Every row is an immutable value. A command never edits a row: it proposes the next version of it, and the
applier in :mod:`engine.paper.state` swaps versions in. Money is signed integer cents, prices are integer
cents of one share (1..99), quantities are whole shares. One row type per PostgreSQL table, columns under
their contract names.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

AMM_USER_ID: Final = "00000000-0000-4000-a000-000000000001"
AMM_USERNAME: Final = "amm_market_maker"
AMM_EMAIL: Final = "amm@system.internal"
AMM_SYSTEM_ID: Final = "AMM_SYSTEM_001"
SYSTEM_USER_ID: Final = "SYSTEM"
"""Counterparty of the audit trades that record mint and burn; owns no account."""
SYSTEM_RESERVE: Final = "SYSTEM_RESERVE"
PLATFORM_FEE: Final = "PLATFORM_FEE"
UNUSABLE_PASSWORD_HASH: Final = "$2b$12$SYSTEM_NO_LOGIN"  # noqa: S105 - opens nothing
"""How a table row says that no password opens the account; matched by none."""

PAIR_CENTS: Final = 100
"""What one YES share and one NO share together are worth."""
MINT_PRICE_CENTS: Final = 50
VOLUME_MAX: Final = 2**31 - 1
"""Shares that a position can hold: its columns are four bytes wide."""


class Side(StrEnum):
    """The outcome a user names in an order."""

    YES = "YES"
    NO = "NO"


class Direction(StrEnum):
    """Buy or sell: of the user's outcome, or of the YES book after conversion."""

    BUY = "BUY"
    SELL = "SELL"


class BookType(StrEnum):
    """The four kinds of order on the single YES book (section 5.1)."""

    NATIVE_BUY = "NATIVE_BUY"
    NATIVE_SELL = "NATIVE_SELL"
    SYNTHETIC_BUY = "SYNTHETIC_BUY"
    SYNTHETIC_SELL = "SYNTHETIC_SELL"


class TimeInForce(StrEnum):
    """GTC rests what it could not fill, IOC cancels it."""

    GTC = "GTC"
    IOC = "IOC"


class OrderStatus(StrEnum):
    """States an order can be seen in; a refused order is never stored."""

    OPEN = "OPEN"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"


class AssetType(StrEnum):
    """What an order holds frozen."""

    FUNDS = "FUNDS"
    YES_SHARES = "YES_SHARES"
    NO_SHARES = "NO_SHARES"


class CancelReason(StrEnum):
    """Why an order ended before it was filled."""

    USER_CANCELLED = "USER_CANCELLED"
    REPLACED = "REPLACED"
    BATCH_CANCELLED = "BATCH_CANCELLED"
    AMM_STOPPED = "AMM_STOPPED"
    IOC_UNFILLED = "IOC_UNFILLED"
    MARKET_RESOLVED = "MARKET_RESOLVED"


class CancelScope(StrEnum):
    """Which of the caller's orders a batch cancel takes, by original direction."""

    ALL = "ALL"
    BUY_ONLY = "BUY_ONLY"
    SELL_ONLY = "SELL_ONLY"


class Scenario(StrEnum):
    """What a fill does to the shares (section 5.3); MINT and BURN also name the audit trades."""

    MINT = "MINT"
    TRANSFER_YES = "TRANSFER_YES"
    TRANSFER_NO = "TRANSFER_NO"
    BURN = "BURN"


class Role(StrEnum):
    """Who rested and who arrived."""

    MAKER = "MAKER"
    TAKER = "TAKER"


class MarketStatus(StrEnum):
    """Life of a market (section 2.7); only ACTIVE takes new orders."""

    DRAFT = "DRAFT"
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    HALTED = "HALTED"
    RESOLVED = "RESOLVED"
    SETTLED = "SETTLED"
    VOIDED = "VOIDED"


class Resolution(StrEnum):
    """How a market ended."""

    YES = "YES"
    NO = "NO"
    VOID = "VOID"


class StopMode(StrEnum):
    """How the engine is asked to leave a market; the exchange cancels its orders either way."""

    GRACEFUL = "GRACEFUL"
    IMMEDIATE = "IMMEDIATE"


class EntryType(StrEnum):
    """Kinds of ledger row (section 6)."""

    DEPOSIT = "DEPOSIT"
    WITHDRAW = "WITHDRAW"
    ORDER_FREEZE = "ORDER_FREEZE"
    ORDER_UNFREEZE = "ORDER_UNFREEZE"
    MINT_COST = "MINT_COST"
    MINT_RESERVE_IN = "MINT_RESERVE_IN"
    BURN_REVENUE = "BURN_REVENUE"
    BURN_RESERVE_OUT = "BURN_RESERVE_OUT"
    TRANSFER_PAYMENT = "TRANSFER_PAYMENT"
    TRANSFER_RECEIPT = "TRANSFER_RECEIPT"
    NETTING = "NETTING"
    NETTING_RESERVE_OUT = "NETTING_RESERVE_OUT"
    FEE = "FEE"
    FEE_REVENUE = "FEE_REVENUE"
    SETTLEMENT_PAYOUT = "SETTLEMENT_PAYOUT"
    SETTLEMENT_VOID = "SETTLEMENT_VOID"


class ReferenceType(StrEnum):
    """What a ledger row's reference_id names."""

    ORDER = "ORDER"
    TRADE = "TRADE"
    MARKET = "MARKET"
    DEPOSIT = "DEPOSIT"
    WITHDRAW = "WITHDRAW"
    AMM_MINT = "AMM_MINT"
    AMM_BURN = "AMM_BURN"


class User(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A person or program that can log in; ``password_hash`` None means no password opens it."""

    id: str
    username: str
    email: str
    password_hash: bytes | None
    is_active: bool
    created_at: datetime


class Account(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Cash of one user; ``version`` rises with every write."""

    user_id: str
    available_cents: int
    frozen_cents: int
    version: int
    auto_netting_enabled: bool
    updated_at: datetime


class Market(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One binary market, its limits, fees and pooled money (section 6)."""

    id: str
    title: str
    description: str | None
    category: str | None
    status: MarketStatus
    min_price_cents: int
    max_price_cents: int
    max_order_quantity: int
    max_position_per_user: int
    max_order_amount_cents: int
    maker_fee_bps: int
    taker_fee_bps: int
    amm_approved: bool
    trading_start_at: datetime | None
    trading_end_at: datetime | None
    resolution_date: datetime | None
    created_at: datetime
    updated_at: datetime
    resolved_at: datetime | None = None
    settle_due_at: datetime | None = None
    """When a RESOLVED market is to be settled."""
    settled_at: datetime | None = None
    resolution_result: Resolution | None = None
    reserve_balance_cents: int = 0
    pnl_pool_cents: int = 0
    total_yes_shares: int = 0
    total_no_shares: int = 0


class Order(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One stored order. ``filled + remaining = quantity`` always; a cancel keeps ``remaining`` (D12).

    ``frozen_amount`` is cents for FUNDS and shares otherwise, and 0 once the order is no longer live.
    """

    id: str
    client_order_id: str
    market_id: str
    user_id: str
    original_side: Side
    original_direction: Direction
    original_price_cents: int
    book_type: BookType
    book_direction: Direction
    book_price_cents: int
    time_in_force: TimeInForce
    quantity: int
    filled_quantity: int
    remaining_quantity: int
    frozen_amount: int
    frozen_asset_type: AssetType
    status: OrderStatus
    cancel_reason: CancelReason | None
    created_at: datetime
    updated_at: datetime

    @property
    def is_live(self) -> bool:
        """Whether the order can still trade."""
        return self.status is OrderStatus.OPEN or self.status is OrderStatus.PARTIALLY_FILLED


class Trade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One fill, or the audit record of a mint or burn; price in YES terms, sides are book sides.

    A realized pnl is None where that side opened a position. Fees are what was charged, in cents.
    """

    trade_id: str
    market_id: str
    scenario: Scenario
    buy_order_id: str
    sell_order_id: str
    buy_user_id: str
    sell_user_id: str
    buy_book_type: BookType
    sell_book_type: BookType
    price_cents: int
    quantity: int
    maker_order_id: str
    taker_order_id: str
    maker_fee_cents: int
    taker_fee_cents: int
    buy_realized_pnl_cents: int | None
    sell_realized_pnl_cents: int | None
    executed_at: datetime

    @property
    def is_audit(self) -> bool:
        """Whether this row records a mint or burn rather than a meeting of two orders."""
        return SYSTEM_USER_ID in {self.buy_user_id, self.sell_user_id}


class Holding(msgspec.Struct, frozen=True, gc=False):
    """Shares of one outcome: volume, cumulative cost in cents, and shares promised to live sell orders."""

    volume: int = 0
    cost_sum_cents: int = 0
    pending_sell: int = 0

    @property
    def free(self) -> int:
        """Shares that no live order holds."""
        return self.volume - self.pending_sell


class Position(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one user holds in one market."""

    user_id: str
    market_id: str
    yes: Holding
    no: Holding
    updated_at: datetime

    @classmethod
    def none(cls, user_id: str, market_id: str, at: datetime) -> "Position":
        """The position of somebody who never held anything."""
        return cls(user_id=user_id, market_id=market_id, yes=Holding(), no=Holding(), updated_at=at)


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One movement of an account's available cash, append only.

    Invariant: the sum of a user's rows is its available balance after the last of them. A fill therefore
    gives back the freeze it releases in full (ORDER_UNFREEZE) before the payment and the fee leave
    available cash. ``market_id`` is None for money that belongs to no market.
    """

    id: int
    user_id: str
    entry_type: EntryType
    amount_cents: int
    balance_after_cents: int
    reference_type: ReferenceType
    reference_id: str
    market_id: str | None
    created_at: datetime


class SupplyKey(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A used idempotency key of mint or burn, with the first answer (D7). Separate namespaces by kind."""

    kind: ReferenceType
    key: str
    market_id: str
    quantity: int
    value_cents: int
    new_yes_inventory: int
    new_no_inventory: int
    remaining_balance_cents: int


class AmmRun(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Whether the market maker was started in a market by an operator."""

    market_id: str
    running: bool
    changed_at: datetime


class CircuitBreak(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Why a market was halted by the exchange itself."""

    market_id: str
    trigger_reason: str
    triggered_at: datetime
