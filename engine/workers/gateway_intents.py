"""Reading the order rings: what quoters ask for, checked, because a worker is not trusted.

New orders are left as records: the last hop takes them as they are (``native/last_hop.c``).

Reads: the order ring of one worker slot, as its named consumer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from engine._native import ffi, lib
from engine.arena import Arena, unpadded
from engine.events import OrderKind
from engine.venues.platform_wire import ScopeName

_CANCELS: Final = frozenset({int(OrderKind.CANCEL), int(OrderKind.BATCH_CANCEL)})
_SCOPES: Final[dict[int, ScopeName]] = {
    lib.SCOPE_ALL: "ALL",
    lib.SCOPE_BUY_ONLY: "BUY_ONLY",
    lib.SCOPE_SELL_ONLY: "SELL_ONLY",
}


class Intent(Struct, frozen=True, kw_only=True, gc=False):
    """One record of an order ring that is no new order."""

    kind: OrderKind
    market_slot: int
    worker_epoch: int
    number: int
    live_slot: int
    target_order_id: str  # of a CANCEL
    scope: ScopeName  # of a BATCH_CANCEL
    quantity: int  # pairs of a MINT or BURN


class IntentReader:
    """The named consumer of one worker's order ring. ``records`` holds what the last :meth:`peek` found."""

    def __init__(self, arena: Arena, worker: int) -> None:
        self.worker: Final = worker
        self.records: Final = ffi.new("order_record_t[]", lib.HOP_BURST_MAX)
        self._ring = arena.order_ring(worker)

    def peek(self) -> int:
        """Copies the next records, in order, and returns how many; they stay in the ring."""
        return int(lib.message_peek(self._ring, lib.MESSAGE_RING_SLOTS, self.records, lib.HOP_BURST_MAX))

    def cancels(self, count: int) -> Iterator[Intent]:
        """The cancels among ``count`` peeked records: they go before everything else."""
        for index in range(count):
            if self.records[index].kind in _CANCELS:
                intent = self.intent(index)
                if intent is not None:
                    yield intent

    def intent(self, index: int) -> Intent | None:
        """A peeked record that is no new order; None when it makes no sense."""
        record = self.records[index]
        if not lib.order_record_makes_sense(ffi.addressof(self.records, index)):
            return None
        try:
            target_order_id = unpadded(record.target_order_id)
        except UnicodeDecodeError:
            return None
        return Intent(
            kind=OrderKind(record.kind),
            market_slot=record.market_slot,
            worker_epoch=record.worker_epoch,
            number=record.intent,
            live_slot=record.live_slot,
            target_order_id=target_order_id,
            scope=_SCOPES[record.scope],
            quantity=record.quantity,
        )

    def release(self, count: int) -> None:
        """Gives the slots back: from here on the gateway's own rows answer for what they held."""
        lib.message_release(self._ring, count)

    def waiting(self) -> bool:
        return bool(lib.message_published(self._ring) != lib.message_consumed(self._ring))
