"""A market's own orders as its quoter follows them (market-making §6.5), and the kernel's view of their size.

They follow execution records; an order asked for counts as live from then on, and an unknown outcome as live
until it is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from engine._native import ffi
from engine.events import Side
from engine.quoting.funding import DesiredOrder
from engine.quoting.orders import LiveOrder
from engine.quoting.transitions import ORDERS, OrderEvent, step
from engine.workers.clock import Clock
from engine.workers.market_kernel import MarketKernel


class OwnOrders:
    """The list itself is ``live``; whatever changes it tells the kernel."""

    def __init__(self, kernel: MarketKernel) -> None:
        self._kernel: Final = kernel
        self.live: list[LiveOrder] = []

    def __iter__(self) -> Iterator[LiveOrder]:
        return iter(self.live)

    def by_slot(self, live_slot: int) -> LiveOrder | None:
        """None also for NO_LIVE_SLOT: an order nobody has acknowledged has -1."""
        return next((order for order in self.live if order.live_slot == live_slot), None)

    @property
    def any_busy(self) -> bool:
        return any(order.busy for order in self.live)

    @property
    def oldest_ms(self) -> int | None:
        return min((order.created_ms for order in self.live), default=None)

    @property
    def unknown_on_both_sides(self) -> bool:
        """§5.3 INVENTORY: nothing can be planned on either side."""
        return {order.side for order in self.live if order.unknown} == {Side.BID, Side.ASK}

    def resting_shares(self, side: Side) -> int:
        """Shares at the venue on one side of the book."""
        return sum(order.remaining for order in self.live if order.live_slot >= 0 and order.side == side)

    # ---- what execution records do -----------------------------------------------------------

    def acknowledged(self, record: Any, clock: Clock) -> bool:
        """ACKED: the order is at the venue. False when nobody waits for it."""
        order = next((order for order in self.live if order.intent == record.intent and order.busy), None)
        if order is None:
            return False
        order.live_slot = record.live_slot
        order.venue_order_id = bytes(ffi.buffer(record.venue_order_id))
        order.remaining = record.remaining
        order.created_ms = clock.unix_ms
        order.busy = order.unknown = False
        self._resized(order)
        return True

    def refused(self, intent: int) -> None:
        """REJECTED: a new order never came to be, and an order meant is still live."""
        for order in list(self.live):
            if order.intent == intent and order.live_slot < 0:
                self.live.remove(order)
                self._resized(order)
            elif order.leaving_intent == intent:
                order.busy = order.leaving = order.unknown = False
                order.leaving_intent = 0

    def unknown(self, intent: int) -> None:
        """UNKNOWN: the order stays busy, and unknown counts as live."""
        for order in self.live:
            if intent in (order.intent, order.leaving_intent) and order.busy:
                order.unknown = True

    def filled(self, live_slot: int, shares: int) -> None:
        """FILL of an order we know; the rest of it is still live."""
        order = self.by_slot(live_slot)
        if order is None:
            return
        order.remaining = max(0, order.remaining - shares)
        order.state = step(ORDERS, order.state, OrderEvent.PARTIAL_FILL)
        self._resized(order)

    def gone(self, order: LiveOrder, event: OrderEvent) -> None:
        """FILLED, CANCELLED or replaced."""
        order.state = step(ORDERS, order.state, event)
        self.live.remove(order)
        self._resized(order)

    def adopt(self, orders: list[LiveOrder], *, asked: int) -> None:
        """A SYNC's list is the venue's. What was asked for since ``asked``, the last SYNC's intent, is still
        under way: the gateway also sends lists that nobody asked for."""
        for order in orders:
            known = self.by_slot(order.live_slot)
            if known is not None and known.leaving and known.leaving_intent > asked:
                self.leaving(order, known.leaving_intent, replaced=known.replaced)
        listed = {order.intent for order in orders}
        self.live = orders + [
            order
            for order in self.live
            if order.live_slot < 0 and order.intent > asked and order.intent not in listed
        ]
        self._kernel.clear_own()
        for order in self.live:
            self._resized(order)

    # ---- what we do --------------------------------------------------------------------------

    def asked_for(self, desired: DesiredOrder, intent: int, clock: Clock) -> None:
        order = LiveOrder(
            outcome=desired.outcome,
            direction=desired.direction,
            price_cents=desired.price_cents,
            quantity=desired.quantity,
            remaining=desired.quantity,
            created_ms=clock.unix_ms,
            intent=intent,
            busy=True,
        )
        self.live.append(order)
        self._resized(order)

    @staticmethod
    def leaving(order: LiveOrder, intent: int, *, replaced: bool = False) -> None:
        order.busy = order.leaving = True
        order.leaving_intent = intent
        order.replaced = replaced

    def forget_requests(self) -> None:
        """The gateway they were asked of is gone."""
        for order in self.live:
            order.busy = order.unknown = False

    def _resized(self, order: LiveOrder) -> None:
        """Keeps the kernel's view of our own size on the order's level.

        An order under way counts: its level may show it before its answer arrives.
        """
        side, price = order.side, order.book_price_cents
        shares = sum(
            other.remaining for other in self.live if other.side == side and other.book_price_cents == price
        )
        self._kernel.set_own(side, price, shares)
