"""A market's own orders as its quoter follows them (market-making §6.5): a table in ``native/own_orders.c``.

They follow execution records; an order asked for counts as live from then on, and an unknown outcome as live
until it is known. The table tells the kernel our own size on a level whenever it changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from engine._native import ffi, lib
from engine.events import Direction, Outcome, Side
from engine.quoting.inventory import Frozen
from engine.quoting.orders import LiveOrder
from engine.quoting.transitions import ORDERS, OrderEvent, OrderState, step
from engine.workers.clock import Clock
from engine.workers.market_kernel import MarketKernel

_BUSY: Final = int(lib.OWN_ORDER_BUSY)
_LEAVING: Final = int(lib.OWN_ORDER_LEAVING)
_REPLACED: Final = int(lib.OWN_ORDER_REPLACED)
_UNKNOWN: Final = int(lib.OWN_ORDER_UNKNOWN)

assert OrderState.ACTIVE.value == lib.OWN_ORDER_ACTIVE, "native/own_orders.h repeats it"


class OwnOrders:
    """``native`` is the ``own_orders_t *``. A pointer into it is good until the next order comes or goes."""

    def __init__(self, kernel: MarketKernel) -> None:
        self.native: Final[Any] = ffi.new("own_orders_t *")
        self.native.book = kernel.book
        self._added: Final = ffi.new("own_order_t *")
        self._held: Final = ffi.new("own_held_t *")
        self._lots: Final = ffi.new("int64_t *")

    def __len__(self) -> int:
        return int(self.native.count)

    @property
    def live(self) -> list[LiveOrder]:
        """All of them as they stand, in the order in which they came."""
        return [_seen(order) for order in self._pointers()]

    def by_slot(self, live_slot: int) -> Any | None:
        """``own_order_t *``; None also for NO_LIVE_SLOT: an order nobody has acknowledged has -1."""
        return lib.own_orders_by_slot(self.native, live_slot) or None

    @property
    def any_busy(self) -> bool:
        return bool(lib.own_orders_flagged(self.native, _BUSY, 0))

    @property
    def any_landed(self) -> bool:
        """One that was to leave is at the venue, and nothing is asked of it."""
        return bool(lib.own_orders_flagged(self.native, _LEAVING, _BUSY))

    @property
    def oldest_ms(self) -> int | None:
        oldest_ms = int(lib.own_orders_oldest_ms(self.native))
        return None if oldest_ms < 0 else oldest_ms

    @property
    def unknown_on_both_sides(self) -> bool:
        """§5.3 INVENTORY: nothing can be planned on either side."""
        return bool(lib.own_orders_unknown_on_both_sides(self.native))

    def resting(self, side: Side) -> int:
        """Orders at the venue on one side of the book."""
        return int(lib.own_orders_resting(self.native, side, self._lots))

    def resting_shares(self, side: Side) -> int:
        """Shares at the venue on one side of the book."""
        lib.own_orders_resting(self.native, side, self._lots)
        return int(self._lots[0])

    def held(self, taker_fee_bps: int) -> Frozen:
        """Shares and cents that they hold; of a replace under way the larger counts."""
        held = self._held
        lib.own_orders_held(self.native, taker_fee_bps, held)
        return Frozen(yes_volume=held.yes_lots, no_volume=held.no_lots, cash_cents=held.cash_cents)

    def _pointers(self) -> Iterator[Any]:
        native = self.native
        return (native.orders + index for index in range(native.count))

    # ---- what execution records do -----------------------------------------------------------

    def acknowledged(self, record: Any, clock: Clock) -> bool:
        """ACKED: the order is at the venue. False when nobody waits for it."""
        order = lib.own_orders_awaited(self.native, record.intent)
        if not order:
            return False
        order.live_slot = record.live_slot
        ffi.memmove(order.venue_order_id, record.venue_order_id, lib.VENUE_ID_BYTES)
        order.remaining = record.remaining
        order.created_ms = clock.unix_ms
        order.flags &= ~(_BUSY | _UNKNOWN)
        self._resized(order)
        return True

    def refused(self, intent: int) -> None:
        """REJECTED: a new order never came to be, and an order meant is still live."""
        native = self.native
        index = 0
        while index < native.count:
            order = native.orders + index
            if order.intent == intent and order.live_slot < 0:
                lib.own_orders_remove(native, order)
                continue
            if order.leaving_intent == intent:
                order.flags &= ~(_BUSY | _LEAVING | _UNKNOWN)
                order.leaving_intent = 0
            index += 1

    def unknown(self, intent: int) -> None:
        """UNKNOWN: the order stays busy, and unknown counts as live."""
        for order in self._pointers():
            if intent in (order.intent, order.leaving_intent) and order.flags & _BUSY:
                order.flags |= _UNKNOWN

    def filled(self, live_slot: int, shares: int) -> None:
        """FILL of an order we know; the rest of it is still live."""
        order = self.by_slot(live_slot)
        if order is None:
            return
        order.remaining = max(0, order.remaining - shares)
        order.state = step(ORDERS, OrderState(order.state), OrderEvent.PARTIAL_FILL).value
        self._resized(order)

    def gone(self, order: Any, event: OrderEvent) -> None:
        """FILLED, CANCELLED or replaced; an event that cannot be raises."""
        step(ORDERS, OrderState(order.state), event)
        lib.own_orders_remove(self.native, order)

    def adopt(self, orders: Sequence[LiveOrder], *, asked: int) -> None:
        """A SYNC's list is the venue's. What was asked for since ``asked``, the last SYNC's intent, is still
        under way: the gateway also sends lists that nobody asked for. ValueError for an order that cannot be.
        """
        before = self.live
        by_slot = {order.live_slot: order for order in reversed(before) if order.live_slot >= 0}
        listed = {order.intent for order in orders}
        lib.own_orders_clear(self.native)
        for order in orders:
            added = self._add(order)
            known = by_slot.get(order.live_slot)
            if known is not None and known.leaving and known.leaving_intent > asked:
                self._leave(added, known.leaving_intent, replaced=known.replaced)
        for order in before:
            if order.live_slot < 0 and order.intent > asked and order.intent not in listed:
                self._add(order)

    def _add(self, order: LiveOrder) -> Any:
        new = self._added
        new.outcome, new.direction, new.price_cents = order.outcome, order.direction, order.price_cents
        new.quantity, new.remaining, new.created_ms = order.quantity, order.remaining, order.created_ms
        new.live_slot, new.state = order.live_slot, order.state.value
        new.intent, new.leaving_intent = order.intent, order.leaving_intent
        new.flags = (
            _BUSY * order.busy
            | _LEAVING * order.leaving
            | _REPLACED * order.replaced
            | _UNKNOWN * order.unknown
        )
        venue_id = order.venue_order_id.ljust(lib.VENUE_ID_BYTES, b"\0")
        ffi.memmove(new.venue_order_id, venue_id, lib.VENUE_ID_BYTES)
        added = lib.own_orders_add(self.native, new)
        if not added:
            raise ValueError(
                f"own order {order} is the {len(self) + 1}th of {lib.OWN_ORDERS_MAX}, or cannot be"
            )
        return added

    # ---- what we do --------------------------------------------------------------------------

    def all_leave(self, intent: int) -> None:
        """One request takes everything off the book."""
        for order in self._pointers():
            self._leave(order, intent, replaced=False)

    @staticmethod
    def _leave(order: Any, intent: int, *, replaced: bool) -> None:
        order.flags = order.flags & _UNKNOWN | _BUSY | _LEAVING | _REPLACED * replaced
        order.leaving_intent = intent

    def forget_requests(self) -> None:
        """The gateway they were asked of is gone."""
        for order in self._pointers():
            order.flags &= ~(_BUSY | _UNKNOWN)

    def _resized(self, order: Any) -> None:
        lib.own_orders_resized(self.native, order.side, order.book_price_cents)


def _seen(order: Any) -> LiveOrder:
    return LiveOrder(
        outcome=Outcome(order.outcome),
        direction=Direction(order.direction),
        price_cents=order.price_cents,
        quantity=order.quantity,
        remaining=order.remaining,
        created_ms=order.created_ms,
        live_slot=order.live_slot,
        venue_order_id=bytes(ffi.buffer(order.venue_order_id)),
        intent=order.intent,
        leaving_intent=order.leaving_intent,
        busy=bool(order.flags & _BUSY),
        leaving=bool(order.flags & _LEAVING),
        replaced=bool(order.flags & _REPLACED),
        unknown=bool(order.flags & _UNKNOWN),
        state=OrderState(order.state),
    )
