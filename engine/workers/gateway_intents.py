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
    """The named consumer of one worker's order ring; the last hop reads it (``last_hop_look``)."""

    def __init__(self, arena: Arena, worker: int) -> None:
        self.worker: Final = worker
        self.native: Final = ffi.new("hop_reader_t *", {"ring": arena.order_ring(worker), "worker": worker})
        self.records: Final = self.native.records
        self.results: Final = self.native.results

    @property
    def count(self) -> int:
        """Records that were read; they stay in the ring until :meth:`release`."""
        return int(self.native.count)

    @property
    def end(self) -> int:
        """Of them, those that the last hop has looked at."""
        return int(self.native.end)

    def cancels(self) -> Iterator[Intent]:
        """The cancels among them: they go before everything else."""
        if not lib.order_records_cancel(self.records, self.count):
            return
        for index in range(self.count):
            if self.records[index].kind in _CANCELS:
                intent = self.intent(index)
                if intent is not None:
                    yield intent

    def next(self) -> Intent | None:
        """The record that the last hop came to and left alone; None when it makes no sense. Passes it."""
        self.native.end += 1
        return self.intent(self.end - 1)

    def intent(self, index: int) -> Intent | None:
        """A record that is no new order; None when it makes no sense."""
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

    def release(self) -> None:
        """Gives the slots back: from here on the gateway's own rows answer for what they held."""
        lib.last_hop_release(self.native)

    def waiting(self) -> bool:
        return bool(lib.message_published(self.native.ring) != lib.message_consumed(self.native.ring))
