"""Reading the order rings: what quoters ask for, checked, because a worker is not trusted.

Reads: the order ring of one worker slot, as its named consumer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from engine._native import ffi, lib
from engine.arena import Arena, unpadded
from engine.events import Direction, OrderKind, Outcome
from engine.risk.pretrade import Candidate
from engine.venues.platform_wire import ScopeName

INTENTS_PER_PASS: Final = 64

_CANCELS: Final = frozenset({OrderKind.CANCEL, OrderKind.BATCH_CANCEL})
_SCOPES: Final[dict[int, ScopeName]] = {
    lib.SCOPE_ALL: "ALL",
    lib.SCOPE_BUY_ONLY: "BUY_ONLY",
    lib.SCOPE_SELL_ONLY: "SELL_ONLY",
}
_QUANTITY_MAX: Final = (1 << 31) - 1  # times any price it still is a number of cents that a row can hold


class Intent(Struct, frozen=True, kw_only=True, gc=False):
    """One record of an order ring. Prices and sides as the user names them (NO price for NO orders)."""

    kind: OrderKind
    market_slot: int
    worker_epoch: int
    number: int
    live_slot: int
    outcome: Outcome
    direction: Direction
    scope: ScopeName  # of a BATCH_CANCEL
    price_cents: int
    quantity: int
    decided_mono_ns: int
    target_order_id: str
    fair_cents: int
    level: int  # DefenseLevel it was decided in
    gates: int  # Gate bits it was decided under

    def candidate(self) -> Candidate:
        return Candidate(
            outcome=self.outcome,
            direction=self.direction,
            price_cents=self.price_cents,
            quantity=self.quantity,
            decided_mono_ns=self.decided_mono_ns,
            fair_cents=self.fair_cents,
            level=self.level,
            gates=self.gates,
        )


class IntentReader:
    """The named consumer of one worker's order ring."""

    def __init__(self, arena: Arena, worker: int) -> None:
        self.worker: Final = worker
        self._ring = arena.order_ring(worker)
        self._records = ffi.new("order_record_t[]", INTENTS_PER_PASS)

    def peek(self) -> int:
        """Copies the next intents, in order, and returns how many; they stay in the ring."""
        return int(lib.message_peek(self._ring, lib.MESSAGE_RING_SLOTS, self._records, INTENTS_PER_PASS))

    def take(self, count: int) -> Iterator[Intent]:
        """The peeked intents, cancels before orders, without the records that make no sense. Each is read
        when it is asked for: the first is not to wait for the last."""
        records = self._records
        cancels = [records[index].kind in _CANCELS for index in range(count)]
        for urgent in (True, False):
            for index in range(count):
                if cancels[index] == urgent:
                    intent = _decoded(records[index])
                    if intent is not None:
                        yield intent

    def release(self, count: int) -> None:
        """Gives the slots back: from here on the gateway's own rows answer for what they held."""
        lib.message_release(self._ring, count)

    def waiting(self) -> bool:
        return bool(lib.message_published(self._ring) != lib.message_consumed(self._ring))


def _decoded(record: Any) -> Intent | None:
    try:
        if not 0 <= record.quantity <= _QUANTITY_MAX:
            return None
        return Intent(
            kind=OrderKind(record.kind),
            market_slot=record.market_slot,
            worker_epoch=record.worker_epoch,
            number=record.intent,
            live_slot=record.live_slot,
            outcome=Outcome(record.outcome),
            direction=Direction(record.direction),
            scope=_SCOPES[record.scope],
            price_cents=record.price_cents,
            quantity=record.quantity,
            decided_mono_ns=record.decided_mono_ns,
            target_order_id=unpadded(record.target_order_id),
            fair_cents=record.basis_fair_cents,
            level=record.basis_defense,
            gates=record.basis_gates,
        )
    except (ValueError, KeyError):  # no such kind, outcome, direction or scope; an id that is no text
        return None
