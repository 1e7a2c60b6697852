"""What one command changes, and what its caller is told; values only.

Effects are whole new rows (accounts, positions, orders, the market) and appended rows (trades, ledger,
order events), all of one transaction. Applying them to memory or writing them to tables is the same set of
upserts and inserts, in no particular order.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from engine.paper.model import (
    Account,
    AmmRun,
    AssetType,
    CircuitBreak,
    LedgerEntry,
    Market,
    Order,
    Position,
    SupplyKey,
    Trade,
    User,
)
from engine.paper.refusal import Refusal


class OrderEventKind(StrEnum):
    """Steps in an order's life as an observer sees them."""

    ACCEPTED = "ORDER_ACCEPTED"
    RESTED = "ORDER_RESTED"
    FILLED = "ORDER_FILLED"
    CANCELLED = "ORDER_CANCELLED"


class OrderEvent(msgspec.Struct, frozen=True, gc=False):
    """One step of one order; ``order`` is the row as it was right after the step."""

    kind: OrderEventKind
    order: Order
    trade_id: str | None = None
    quantity: int = 0


class Effects(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All changes of one command. ``next_id`` and ``next_ledger_id`` continue the two counters.

    Like every row, hidden from the garbage collector (``gc=False``): rows form no cycles, and a collection
    that walked the whole history would stall the exchange for tens of milliseconds.
    """

    next_id: int
    next_ledger_id: int
    order_events: tuple[OrderEvent, ...] = ()
    trades: tuple[Trade, ...] = ()
    ledger: tuple[LedgerEntry, ...] = ()
    accounts: tuple[Account, ...] = ()
    positions: tuple[Position, ...] = ()
    orders: tuple[Order, ...] = ()
    market: Market | None = None
    user: User | None = None
    supply_key: SupplyKey | None = None
    amm_run: AmmRun | None = None
    circuit_break: CircuitBreak | None = None


class NettingResult(msgspec.Struct, frozen=True, gc=False):
    """Pairs of the caller that were turned back into cash."""

    pairs_netted: int
    released_cents: int


class Placed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An accepted order with its trades; ``replayed`` if the key had been used for the same content."""

    order: Order
    trades: tuple[Trade, ...]
    netting: NettingResult | None
    replayed: bool


class Cancelled(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A cancelled order and what it gave back."""

    order: Order
    unfrozen_amount: int
    unfrozen_asset_type: AssetType


class Replaced(msgspec.Struct, frozen=True, kw_only=True):
    """A replaced order and its successor; ``old`` is None if a replay names an unknown old order."""

    old_order_id: str
    old: Order | None
    placed: Placed


class BatchCancelled(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a batch cancel gave back."""

    market_id: str
    cancelled_count: int
    unfrozen_funds_cents: int
    unfrozen_yes_shares: int
    unfrozen_no_shares: int


class Supplied(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A mint or burn; ``replayed`` if the key had been used before."""

    key: SupplyKey
    replayed: bool


class Posted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A deposit or withdrawal."""

    available_cents: int
    amount_cents: int
    ledger_entry_id: int


class Registered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A new user."""

    user: User


class MarketChanged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A market after a change of status or its creation."""

    market: Market


class Resolved(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A resolved market; payout figures are zero until it is settled."""

    market: Market
    total_payout_cents: int
    winners_count: int
    cancelled_orders_count: int
    cancelled_orders_unfrozen_cents: int


class AmmStarted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The market maker's first funds in a market."""

    run: AmmRun
    initial_budget_cents: int
    initial_mint_quantity: int


class AmmStopped(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is left in a market after the market maker stopped."""

    run: AmmRun
    cancelled_orders_count: int
    remaining_yes_inventory: int
    remaining_no_inventory: int
    remaining_balance_cents: int


Result = (
    Placed
    | Cancelled
    | Replaced
    | BatchCancelled
    | Supplied
    | Posted
    | Registered
    | MarketChanged
    | Resolved
    | AmmStarted
    | AmmStopped
    | Refusal
)
"""A :class:`Refusal` as a *result* is the one answer that refuses and still changes something (6001)."""


class Decision(NamedTuple):
    """Outcome of one command: what to change (None for nothing) and what to answer."""

    effects: Effects | None
    result: Result
