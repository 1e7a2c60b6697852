"""What travels between the gateway and the platform's REST API (platform §1.3-§1.8, §2): typed both ways.

Requests are encoded from frozen Structs; those of new orders are written by ``native/last_hop.c``. Answers
name only the members the engine uses and tolerate the rest; ranges are checked here, so a decoded value is a
sane one. Prices and amounts are integer cents, quantities integer shares; instants are UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

T = TypeVar("T")

Text = Annotated[str, Meta(min_length=1, max_length=64)]
Price = Annotated[int, Meta(ge=1, le=99)]
Quantity = Annotated[int, Meta(ge=1, le=1 << 40)]
Count = Annotated[int, Meta(ge=0, le=1 << 40)]
Cents = Annotated[int, Meta(ge=-(1 << 53), le=1 << 53)]
Bps = Annotated[int, Meta(ge=0, le=10_000)]

OutcomeName = Literal["YES", "NO"]
DirectionName = Literal["BUY", "SELL"]
ScopeName = Literal["ALL", "BUY_ONLY", "SELL_ONLY"]
OrderStatus = Literal["OPEN", "PARTIALLY_FILLED", "FILLED", "CANCELLED"]
ScenarioName = Literal["MINT", "TRANSFER_YES", "TRANSFER_NO", "BURN"]

LIVE_STATUSES: Final = frozenset({"OPEN", "PARTIALLY_FILLED"})


class BatchCancelBody(Struct, frozen=True, kw_only=True, gc=False):
    """POST /amm/orders/batch-cancel."""

    market_id: str
    cancel_scope: ScopeName


class SupplyBody(Struct, frozen=True, kw_only=True, gc=False):
    """POST /amm/mint and /amm/burn."""

    market_id: str
    quantity: int
    idempotency_key: str


class AmmStartBody(Struct, frozen=True, kw_only=True, gc=False):
    """POST /admin/amm/start."""

    market_id: str
    initial_budget_cents: int
    initial_price_cents: int


class DepositBody(Struct, frozen=True, kw_only=True, gc=False):
    """POST /account/deposit."""

    amount_cents: int


class WithdrawBody(Struct, frozen=True, kw_only=True, gc=False):
    """POST /account/withdraw."""

    amount_cents: int


class Envelope(Struct, Generic[T], frozen=True, kw_only=True, gc=False):
    """A success: ``code`` 0 and its content."""

    code: Literal[0]
    data: T


class RefusalData(Struct, frozen=True, kw_only=True, gc=False):
    """What replace refusals tell about the old order (§2.6); absent members are None."""

    old_order_status: OrderStatus | None = None
    filled_quantity: Count | None = None
    remaining_quantity_cancelled: Count | None = None


class RefusalEnvelope(Struct, frozen=True, kw_only=True, gc=False):
    """An error: ``data`` is looked at only where it has the shape of :class:`RefusalData`."""

    code: Annotated[int, Meta(ge=1)]
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class OrderState(Struct, frozen=True, kw_only=True, gc=False):
    """How far an order of ours has come."""

    id: Text
    client_order_id: Text
    quantity: Quantity
    filled_quantity: Count
    remaining_quantity: Count
    status: OrderStatus

    @property
    def live(self) -> bool:
        return self.status in LIVE_STATUSES


class VenueOrder(OrderState, frozen=True, kw_only=True, gc=False):
    """An order of ours as the venue has it."""

    market_id: Text
    original_side: OutcomeName
    original_direction: DirectionName
    original_price_cents: Price
    created_at: datetime
    cancel_reason: str | None = None


class OrderTrade(Struct, frozen=True, kw_only=True, gc=False):
    """A trade in the answer to a placement; only that it happened matters (:mod:`gateway_fills`)."""

    quantity: Quantity


class PlacedOrder(Struct, frozen=True, kw_only=True, gc=False):
    """The stored order and the trades it has had."""

    order: VenueOrder
    trades: list[OrderTrade]


class FoundOrder(Struct, frozen=True, kw_only=True, gc=False):
    """GET /orders/{id}."""

    order: VenueOrder


class ReplacedOrder(Struct, frozen=True, kw_only=True, gc=False):
    """The new order; what it replaced is not repeated when the answer is a replay."""

    new_order: OrderState
    trades: list[OrderTrade]
    old_order_filled_quantity: Count | None = None


class CancelledOrder(Struct, frozen=True, kw_only=True, gc=False):
    order_id: Text
    remaining_quantity_cancelled: Count


class BatchCancelled(Struct, frozen=True, kw_only=True, gc=False):
    cancelled_count: Count


class Supplied(Struct, frozen=True, kw_only=True, gc=False):
    """Answer of mint and burn."""

    new_yes_inventory: Count
    new_no_inventory: Count
    idempotent_hit: bool = False


class AmmStarted(Struct, frozen=True, kw_only=True, gc=False):
    initial_budget_cents: Cents
    initial_mint_quantity: Count


class Balance(Struct, frozen=True, kw_only=True, gc=False):
    """The whole account's cash. ``auto_netting_enabled`` None: the venue does not say."""

    user_id: str = ""
    available_balance_cents: Cents
    frozen_balance_cents: Cents
    auto_netting_enabled: bool | None = None


class Deposited(Struct, frozen=True, kw_only=True, gc=False):
    deposited_cents: Cents


class Withdrawn(Struct, frozen=True, kw_only=True, gc=False):
    withdrawn_cents: Cents


class LedgerEntry(Struct, frozen=True, kw_only=True, gc=False):
    id: int
    entry_type: str
    amount_cents: Cents


class MarketSummary(Struct, frozen=True, kw_only=True, gc=False):
    """A market in the list: enough to follow its status."""

    id: Text
    status: str


class MarketDetail(Struct, frozen=True, kw_only=True, gc=False):
    id: Text
    status: str
    min_price_cents: Price
    max_price_cents: Price
    maker_fee_bps: Bps
    taker_fee_bps: Bps
    max_order_quantity: Quantity
    max_order_amount_cents: Quantity
    created_at: datetime | None = None
    trading_start_at: datetime | None = None
    trading_end_at: datetime | None = None
    resolution_date: datetime | None = None


class Holding(Struct, frozen=True, kw_only=True, gc=False):
    volume: Count
    cost_sum_cents: Count


class Position(Struct, frozen=True, kw_only=True, gc=False):
    yes: Holding
    no: Holding


class AccountTrade(Struct, frozen=True, kw_only=True, gc=False):
    """One leg of ours in GET /trades. Order and user ids are empty where the venue leaves them out."""

    trade_id: Text
    market_id: Text
    scenario: ScenarioName
    my_side: DirectionName  # side of the YES book
    price_cents: Price  # YES terms
    quantity: Quantity
    role: Literal["MAKER", "TAKER"]
    fee_cents: Count
    executed_at: datetime
    buy_user_id: str = ""
    sell_user_id: str = ""
    buy_order_id: str = ""
    sell_order_id: str = ""

    @property
    def order_id(self) -> str:
        return self.buy_order_id if self.my_side == "BUY" else self.sell_order_id

    @property
    def audit(self) -> bool:
        """The record of a privileged mint or burn, no trade (§2.6)."""
        counterparty = self.sell_user_id if self.my_side == "BUY" else self.buy_user_id
        return counterparty.startswith("SYSTEM")


class Page(Struct, Generic[T], frozen=True, kw_only=True, gc=False):
    """Newest first; ``next_cursor`` continues with strictly older items."""

    items: list[T]
    next_cursor: str | None = None
    has_more: bool = False
