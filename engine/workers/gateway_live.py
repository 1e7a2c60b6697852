"""A market's orders that are, or may be, live at the venue, each in a row of its own before it is sent.

The last hop opens them (``native/last_hop.c``) and counts with its own copy, which every change here is
written to; what comes of an order is told to, and kept in, the objects of this module.

Writes: the 64 live-order rows of its market slot.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from engine._native import ffi, lib
from engine.arena import check, padded, unpadded
from engine.events import Direction, Outcome, Side

_CLOSED_MAX: Final = 256  # orders remembered after they are gone
_EARLY_FILLS_MAX: Final = 256  # fills of orders whose acknowledgement is still under way
# an IntEnum is looked up by value three times as fast so
_OUTCOMES: Final = {int(each): each for each in Outcome}
_DIRECTIONS: Final = {int(each): each for each in Direction}
_SIDES: Final = {int(each): each for each in Side}


class LiveOrder(Struct, kw_only=True, eq=False):
    """An order that is, or may be, live at the venue; mirrored in arena row ``slot``.

    ``busy``: a request about it is under way. ``announced``: an ORDER record of a SYNC told the quoter of it
    before it was acknowledged.
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
    acked_mono_ns: int = 0
    replaces: LiveOrder | None = None
    venue_order_id: str = ""
    state: int = lib.LIVE_PENDING
    busy: bool = True
    announced: bool = False
    cancel_sent_mono_ns: int = 0  # when the bytes of the cancel that ended it left

    @property
    def filled(self) -> int:
        return self.quantity - self.remaining

    def gone(self) -> bool:
        """Nothing is live any more: the row has been freed."""
        return bool(self.state == lib.LIVE_FREE)


class LiveOrders:
    """Iterates over the orders, the first opened first."""

    def __init__(self, books: Any, *, moved: asyncio.Event) -> None:
        """``books``: the market's ``market_books_t *``. ``moved`` is set at every change."""
        self.by_venue_id: Final[dict[str, LiveOrder]] = {}
        self.by_client_id: Final[dict[str, LiveOrder]] = {}
        self._books: Final = books
        self._moved: Final = moved
        self._by_slot: Final[dict[int, LiveOrder]] = {}
        self._early_fills: Final[OrderedDict[str, int]] = OrderedDict()
        self._closed_mono_ns: Final[OrderedDict[str, int]] = OrderedDict()

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

    def opened(self, slot: int) -> LiveOrder:
        """The order that the last hop has opened in a slot, PENDING; what it replaces is marked."""
        own = self._books.orders[slot]
        row, candidate = own.row, own.candidate
        order = LiveOrder(
            slot=slot,
            number=own.number,
            outcome=_OUTCOMES[row.outcome],
            direction=_DIRECTIONS[row.direction],
            price_cents=row.price_cents,
            quantity=row.quantity,
            remaining=row.remaining,
            worker_epoch=row.worker_epoch,
            intent=row.intent,
            client_order_id=unpadded(row.client_order_id),
            created_ms=row.created_ms,
            side=_SIDES[candidate.side],
            book_price_cents=candidate.book_price_cents,
        )
        if own.replaces:
            old = order.replaces = self._by_slot[own.replaces_slot]
            old.state, old.busy = lib.LIVE_CANCELLING, True
        self._by_slot[slot] = order
        self.by_client_id[order.client_order_id] = order
        self._moved.set()
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
        lib.books_close(self._books, order.slot)
        self._moved.set()
        if order.venue_order_id:
            self._closed_mono_ns[order.venue_order_id] = lib.mono_now_ns()
            if len(self._closed_mono_ns) > _CLOSED_MAX:
                self._closed_mono_ns.popitem(last=False)
        del self._by_slot[order.slot]
        del self.by_client_id[order.client_order_id]
        self.by_venue_id.pop(order.venue_order_id, None)

    def closed_since(self, venue_order_id: str, mono_ns: int) -> bool:
        """Whether an order of ours was closed after ``mono_ns``: a listing asked for then may show it."""
        return self._closed_mono_ns.get(venue_order_id, 0) >= mono_ns

    def _write(self, order: LiveOrder) -> None:
        """The order as the last hop counts it, and its row."""
        own = self._books.orders[order.slot]
        own.row.state, own.busy = order.state, order.busy
        own.row.remaining = order.remaining
        if order.replaces is None:
            own.replaces = 0
        own.row.venue_order_id = padded(order.venue_order_id, lib.VENUE_ID_BYTES)
        lib.books_publish(self._books, order.slot)
        self._moved.set()

    def left_over(self) -> list[str]:
        """Client ids of the rows a predecessor left; the rows are freed. For the start only."""
        found = []
        left = ffi.new("live_order_t *")
        for slot in range(lib.LIVE_ORDER_SLOTS):
            row = ffi.addressof(self._books.rows[slot])
            check(lib.live_order_read(row, left), "live-order row")
            if left.state != lib.LIVE_FREE:
                found.append(unpadded(left.client_order_id))
                left.state = lib.LIVE_FREE
                lib.live_order_write(row, left)
        return found
