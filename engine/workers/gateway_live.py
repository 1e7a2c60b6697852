"""A market's orders that are, or may be, live at the venue, each in a row of its own before it is sent.

Writes: the 64 live-order rows of its market slot.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from msgspec import Struct

from engine._native import ffi, lib
from engine.arena import check, padded, unpadded
from engine.events import Direction, Outcome, Side
from engine.risk.pretrade import Candidate
from engine.workers.client_ids import ClientIds

_CLOSED_MAX: Final = 256  # orders remembered after they are gone
_EARLY_FILLS_MAX: Final = 256  # fills of orders whose acknowledgement is still under way


class LiveOrder(Struct, kw_only=True, eq=False):
    """An order that is, or may be, live at the venue; mirrored in arena row ``slot``.

    ``busy``: a request about it is under way. ``sent``: its own request may have left this process.
    ``announced``: an ORDER record of a SYNC told the quoter of it before it was acknowledged.
    """

    slot: int
    number: int  # rises with every order of this gateway: who was first
    outcome: Outcome
    direction: Direction
    price_cents: int  # user view
    quantity: int
    remaining: int
    worker_epoch: int
    intent: int
    client_order_id: str
    created_ms: int
    side: Side  # of the YES book
    book_price_cents: int  # YES terms
    frozen_cents: int = 0  # cash a BUY holds
    acked_mono_ns: int = 0
    replaces: LiveOrder | None = None
    venue_order_id: str = ""
    state: int = lib.LIVE_PENDING
    busy: bool = True
    sent: bool = False
    announced: bool = False
    cancel_sent_mono_ns: int = 0  # when the bytes of the cancel that ended it left

    @property
    def filled(self) -> int:
        return self.quantity - self.remaining

    def gone(self) -> bool:
        """Nothing is live any more: the row has been freed."""
        return bool(self.state == lib.LIVE_FREE)


class LiveOrders:
    """Iterates over the orders, the first opened first. ``changes`` rises with each change of any of them."""

    def __init__(
        self,
        rows: Any,
        *,
        ids: ClientIds,
        frozen_cents: Callable[[LiveOrder], int],
        moved: asyncio.Event,
    ) -> None:
        """``rows``: the slot's ``live_order_row_t[64]``. ``frozen_cents``: cash that an order holds.
        ``moved`` is set at every change."""
        self.by_venue_id: Final[dict[str, LiveOrder]] = {}
        self.by_client_id: Final[dict[str, LiveOrder]] = {}
        self.changes = 0
        self._rows: Final = rows
        self._ids: Final = ids
        self._frozen_cents: Final = frozen_cents
        self._moved: Final = moved
        self._by_slot: Final[dict[int, LiveOrder]] = {}
        # oldest freed first, so that a slot number is reused as late as possible
        self._free_slots: Final = deque(range(lib.LIVE_ORDER_SLOTS))
        self._early_fills: Final[OrderedDict[str, int]] = OrderedDict()
        self._closed_mono_ns: Final[OrderedDict[str, int]] = OrderedDict()
        self._row: Final = ffi.new("live_order_t *")
        self._number = 0

    def __iter__(self) -> Iterator[LiveOrder]:
        return iter(self._by_slot.values())

    def __len__(self) -> int:
        return len(self._by_slot)

    def get(self, slot: int) -> LiveOrder | None:
        return self._by_slot.get(slot)

    @property
    def any_busy(self) -> bool:
        """Whether a request about one of them is under way."""
        return any(order.busy for order in self)

    def open(self, candidate: Candidate, *, worker_epoch: int, intent: int, now_ms: int) -> LiveOrder | None:
        """Takes responsibility for a new order: its row, PENDING, before any send. None: no row is free."""
        if not self._free_slots:
            return None
        self._number += 1
        client_order_id, created_ms = self._ids.next(candidate.outcome, candidate.direction, now_ms)
        order = LiveOrder(
            slot=self._free_slots.popleft(),
            number=self._number,
            outcome=candidate.outcome,
            direction=candidate.direction,
            price_cents=candidate.price_cents,
            quantity=candidate.quantity,
            remaining=candidate.quantity,
            worker_epoch=worker_epoch,
            intent=intent,
            client_order_id=client_order_id,
            created_ms=created_ms,
            side=candidate.side,
            book_price_cents=candidate.book_price_cents,
        )
        self._by_slot[order.slot] = order
        self.by_client_id[client_order_id] = order
        self._write(order)
        return order

    def acknowledge(self, order: LiveOrder, venue_order_id: str) -> None:
        """The venue has the order under this id; fills that were listed before we knew are its own."""
        order.venue_order_id = venue_order_id
        order.acked_mono_ns = lib.mono_now_ns()
        order.remaining -= min(order.remaining, self._early_fills.pop(venue_order_id, 0))
        order.state = lib.LIVE_ACTIVE
        order.busy = False
        order.replaces = None
        self.by_venue_id[venue_order_id] = order
        self._write(order)

    def filled(self, venue_order_id: str, quantity: int) -> LiveOrder | None:
        """Takes a leg off its order, or off the one that will be acknowledged under this id; that order."""
        order = self.by_venue_id.get(venue_order_id)
        if order is None:
            if venue_order_id:
                self._early_fills[venue_order_id] = self._early_fills.get(venue_order_id, 0) + quantity
                if len(self._early_fills) > _EARLY_FILLS_MAX:
                    self._early_fills.popitem(last=False)
            return None
        order.remaining = max(0, order.remaining - quantity)
        self._write(order)
        return order

    def resting_at(self, side: Side, book_price_cents: int, *, closing: bool) -> str:
        """Venue id of our oldest order at a price that buys (or, ``closing``, sells) shares; empty: none."""
        direction = Direction.SELL if closing else Direction.BUY
        found = [
            order
            for order in self.by_venue_id.values()
            if order.side is side
            and order.direction is direction
            and order.book_price_cents == book_price_cents
            and order.remaining
        ]
        return min(found, key=lambda order: order.number).venue_order_id if found else ""

    def set_state(self, order: LiveOrder, state: int, *, busy: bool) -> None:
        order.state = state
        order.busy = busy
        self._write(order)

    def close(self, order: LiveOrder) -> None:
        """The order is gone; its row is free again."""
        if order.gone():
            return
        order.busy = False
        order.state = lib.LIVE_FREE
        self._write(order)
        if order.venue_order_id:
            self._closed_mono_ns[order.venue_order_id] = lib.mono_now_ns()
            if len(self._closed_mono_ns) > _CLOSED_MAX:
                self._closed_mono_ns.popitem(last=False)
        del self._by_slot[order.slot]
        del self.by_client_id[order.client_order_id]
        self.by_venue_id.pop(order.venue_order_id, None)
        self._free_slots.append(order.slot)

    def closed_since(self, venue_order_id: str, mono_ns: int) -> bool:
        """Whether an order of ours was closed after ``mono_ns``: a listing asked for then may show it."""
        return self._closed_mono_ns.get(venue_order_id, 0) >= mono_ns

    def _write(self, order: LiveOrder) -> None:
        """Publishes the order's row."""
        row = self._row
        row.state = order.state
        row.outcome = order.outcome
        row.direction = order.direction
        row.worker_epoch = order.worker_epoch
        row.intent = order.intent
        row.price_cents = order.price_cents
        row.quantity = order.quantity
        row.remaining = order.remaining
        row.created_ms = order.created_ms
        row.frozen_cents = order.frozen_cents = self._frozen_cents(order)
        row.venue_order_id = padded(order.venue_order_id, lib.VENUE_ID_BYTES)
        row.client_order_id = padded(order.client_order_id, lib.VENUE_ID_BYTES)
        lib.live_order_write(ffi.addressof(self._rows[order.slot]), row)
        self.changes += 1
        self._moved.set()

    def left_over(self) -> list[str]:
        """Client ids of the rows a predecessor left; the rows are freed. For the start only."""
        found = []
        for slot in range(lib.LIVE_ORDER_SLOTS):
            row = ffi.addressof(self._rows[slot])
            check(lib.live_order_read(row, self._row), "live-order row")
            if self._row.state != lib.LIVE_FREE:
                found.append(unpadded(self._row.client_order_id))
                self._row.state = lib.LIVE_FREE
                lib.live_order_write(row, self._row)
        return found
