"""The journal as an observer reads it: every committed effect in commit order (contract section 2.7).

What an observer will read is written in the transaction it tells of, and never changes; reading it again
after a restart gives the same bytes. Entries of one commit share ``commit`` and ``at_unix_ns``; ``sequence``
is dense over all commits, so an observer that remembers the last one continues exactly there. Order steps
come first within a commit and in the order they happened. Folding them gives any user's live orders:
ORDER_RESTED adds one, ORDER_FILLED sets its remaining quantity (0 ends it), ORDER_CANCELLED ends it.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from engine.paper.effects import Effects, OrderEvent
from engine.paper.tables import JournalCommit
from engine.paper.views import UserView

_ENCODER: Final = msgspec.json.Encoder()


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
    """A stretch of the journal, entries as they were written; ``last_sequence`` is the newest there is."""

    items: list[msgspec.Raw]
    last_sequence: int


class JournalEnd(msgspec.Struct, frozen=True, gc=False):
    """How far the journal goes: number of its last commit and of its last entry, 0 for an empty one."""

    number: int = 0
    last_sequence: int = 0

    def next(self, effects: Effects, at_unix_ns: int) -> JournalCommit:
        """The commit that continues the journal with one command's effects."""
        number, first_sequence = self.number + 1, self.last_sequence + 1
        entries = [
            JournalEntryView(sequence=sequence, commit=number, at_unix_ns=at_unix_ns, kind=kind, data=data)
            for sequence, (kind, data) in enumerate(_rows(effects), first_sequence)
        ]
        return JournalCommit(
            number=number,
            first_sequence=first_sequence,
            last_sequence=self.last_sequence + len(entries),
            next_id=effects.next_id,
            next_ledger_id=effects.next_ledger_id,
            at_unix_ns=at_unix_ns,
            entries=_ENCODER.encode(entries),
        )


def entries_after(entries: str, first_sequence: int, after: int) -> list[msgspec.Raw]:
    """The entries of one stored commit with a sequence above ``after``."""
    return _RAW.decode(entries)[max(0, after + 1 - first_sequence) :]


_RAW: Final = msgspec.json.Decoder(list[msgspec.Raw])


def _rows(effects: Effects) -> Iterator[tuple[str, msgspec.Struct]]:
    """Every effect under its kind."""
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
