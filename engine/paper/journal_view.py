"""The journal as an observer reads it: every committed effect in commit order (contract section 2.7).

Entries of one commit share ``commit`` and ``at_unix_ns``; ``sequence`` is dense over all commits, so an
observer that remembers the last one continues exactly there. Order steps come first within a commit and in
the order they happened. Folding them gives any user's live orders: ORDER_RESTED adds one, ORDER_FILLED sets
its remaining quantity (0 ends it), ORDER_CANCELLED ends it.
"""

from collections.abc import Iterator

import msgspec

from engine.paper.effects import Effects, OrderEvent
from engine.paper.state import Commit, State
from engine.paper.views import UserView


class OrderStepView(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one order. ``quantity`` and ``trade_id`` belong to the fill, if it was one."""

    order_id: str
    client_order_id: str
    user_id: str
    market_id: str
    book_side: str
    book_price_cents: int
    original_side: str
    original_direction: str
    order_quantity: int
    filled_quantity: int
    remaining_quantity: int
    frozen_amount: int
    frozen_asset_type: str
    status: str
    cancel_reason: str | None
    trade_id: str | None
    quantity: int

    @classmethod
    def of(cls, event: OrderEvent) -> "OrderStepView":
        order = event.order
        return cls(
            order_id=order.id,
            client_order_id=order.client_order_id,
            user_id=order.user_id,
            market_id=order.market_id,
            book_side=order.book_direction,
            book_price_cents=order.book_price_cents,
            original_side=order.original_side,
            original_direction=order.original_direction,
            order_quantity=order.quantity,
            filled_quantity=order.filled_quantity,
            remaining_quantity=order.remaining_quantity,
            frozen_amount=order.frozen_amount,
            frozen_asset_type=order.frozen_asset_type,
            status=order.status,
            cancel_reason=order.cancel_reason,
            trade_id=event.trade_id,
            quantity=event.quantity,
        )


class JournalEntryView(msgspec.Struct, frozen=True, kw_only=True):
    """One effect: a step of an order, or a row as it was written."""

    sequence: int
    commit: int
    at_unix_ns: int
    kind: str
    data: msgspec.Struct


class JournalView(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the journal; ``last_sequence`` is the newest entry there is."""

    items: list[JournalEntryView]
    last_sequence: int


def read_journal(state: State, after: int, limit: int) -> JournalView:
    """Up to ``limit`` entries with a sequence above ``after``."""
    journal = state.journal
    items: list[JournalEntryView] = []
    for index in range(journal.position_after(after), len(journal.commits)):
        for entry in _unfold(journal.commits[index]):
            if entry.sequence > after:
                items.append(entry)
                if len(items) == limit:
                    return JournalView(items=items, last_sequence=journal.last_sequence)
    return JournalView(items=items, last_sequence=journal.last_sequence)


def _unfold(commit: Commit) -> Iterator[JournalEntryView]:
    sequence = commit.first_sequence
    for kind, data in _rows(commit.effects):
        yield JournalEntryView(
            sequence=sequence, commit=commit.number, at_unix_ns=commit.at_unix_ns, kind=kind, data=data
        )
        sequence += 1
    assert sequence == commit.first_sequence + commit.entry_count


def _rows(effects: Effects) -> Iterator[tuple[str, msgspec.Struct]]:
    """Every effect under its kind; ``entry_count`` in :mod:`engine.paper.state` counts the same."""
    for event in effects.order_events:
        yield event.kind, OrderStepView.of(event)
    for trade in effects.trades:
        yield "TRADE", trade
    for entry in effects.ledger:
        yield "LEDGER", entry
    for account in effects.accounts:
        yield "ACCOUNT", account
    for position in effects.positions:
        yield "POSITION", position
    if effects.user is not None:
        yield "USER", UserView.of(effects.user)
    if effects.market is not None:
        yield "MARKET", effects.market
    if effects.supply_key is not None:
        yield "SUPPLY_KEY", effects.supply_key
    if effects.amm_run is not None:
        yield "AMM_RUN", effects.amm_run
    if effects.circuit_break is not None:
        yield "CIRCUIT_BREAK", effects.circuit_break
