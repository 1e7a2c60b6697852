"""E2 under random fills (row 10 of market-making §14): no order leaves that the venue has no shares for.

Real: the gateway's account of a market, its counts and the last-hop checks. The venue is a model in this
file: it fills orders of which the gateway has not heard yet, and takes orders whose answers come late or are
lost. It would refuse an order for shares that other sells hold (5001), and never gets one.
"""

from __future__ import annotations

import os
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from engine._native import ffi, lib
from engine.config import RiskConfig
from engine.events import Direction, Outcome, Scenario
from engine.quoting.inventory import Leg
from engine.workers.gateway_live import LiveOrder
from tests.integration.gateway_rig import PATIENT
from tests.unit.books_rig import new_arena, new_market, opened, replacing, sent, standing, untold

YES, NO = Outcome.YES, Outcome.NO
BUY, SELL = Direction.BUY, Direction.SELL
HELD = {YES: 200, NO: 120}
KINDS = ((YES, SELL, 60), (NO, SELL, 60), (YES, BUY, 40), (NO, BUY, 40))  # no two of them cross
SCENARIOS = {YES: Scenario.TRANSFER_YES, NO: Scenario.TRANSFER_NO}
RISK = structs.replace(RiskConfig(**PATIENT), side_orders_max=64, market_orders_max=64)


class World:
    """The venue's books, the gateway's, and what the one has not told the other yet."""

    def __init__(self) -> None:
        self.arena = new_arena()
        self.gateway = new_market(self.arena, risk=RISK)
        self.gateway.account.set_position(yes_volume=HELD[YES], yes_cost=0, no_volume=HELD[NO], no_cost=0)
        self.gateway.account.set_cash(10_000_000, cursor="", funded=True)
        self.held = dict(HELD)
        self.resting: dict[str, LiveOrder] = {}  # by the venue's id: shares left are in ``left``
        self.left: dict[str, int] = {}
        self.untold: deque[tuple[LiveOrder, int]] = deque()
        self.unanswered: list[LiveOrder] = []
        self.fills = 0

    # ---- the gateway's requests; the venue acts on them at once, or never gets them

    def place(self, pick: int, quantity: int) -> None:
        order = self._checked(pick, quantity, None)
        if order is not None and pick % 5:
            self._rest(order)

    def replace(self, pick: int, quantity: int) -> None:
        old = self._quiet_order(pick)
        if old is None:
            return
        order = self._checked(pick // 8, quantity, old)
        # only an unfilled order is replaced (6001, 6003)
        if order is not None and pick % 5 and self.left.get(_id(old)) == old.quantity:
            self._unrest(old)
            self._rest(order)

    def cancel(self, pick: int, _: int) -> None:
        order = self._quiet_order(pick)
        if order is not None:
            self._unrest(order)
            self._hear_all()  # the gateway asks for the fills before it lets the order go
            self.gateway.orders.close(order)

    def _checked(self, pick: int, quantity: int, replaces: LiveOrder | None) -> LiveOrder | None:
        """A new order that the last hop let out, its answer outstanding; every fourth is UNKNOWN."""
        outcome, direction, price = KINDS[pick % len(KINDS)]
        terms = (outcome, direction, price, quantity)
        if len(self.gateway.orders) == lib.LIVE_ORDER_SLOTS:
            return None
        order = (
            opened(self.gateway, *terms, basis_fair_cents=50)
            if replaces is None
            else replacing(self.gateway, replaces, *terms, basis_fair_cents=50)
        )
        counts = standing(self.gateway, order)
        counts.market_tokens, counts.tokens, counts.reserved_tokens = 1, 1, 0
        counts.stale, counts.account_cents = 0, 10_000_000
        own = self.gateway.books.orders[order.slot]
        limits = ffi.addressof(self.gateway.books.account.limits)
        if lib.pretrade_refusal(ffi.addressof(own, "candidate"), counts, limits):
            self.gateway.orders.close(order)
            if replaces is not None:
                self.gateway.orders.set_state(replaces, lib.LIVE_ACTIVE, busy=False)
            return None
        sent(self.gateway, order)
        self.gateway.orders.set_state(order, lib.LIVE_PENDING if pick % 4 else lib.LIVE_UNKNOWN, busy=True)
        self.unanswered.append(order)
        return order

    def _quiet_order(self, pick: int) -> LiveOrder | None:
        quiet = [order for order in self.gateway.orders if order.state == lib.LIVE_ACTIVE]
        return quiet[pick % len(quiet)] if quiet else None

    # ---- what the gateway hears

    def answer(self, pick: int, _: int) -> None:
        """Of one request: what became of it."""
        if not self.unanswered:
            return
        order = self.unanswered.pop(pick % len(self.unanswered))
        old = order.replaces
        arrived = _id(order) in self.left
        if old is not None:
            self._hear_all()
            if arrived or not self.left.get(_id(old)):
                self.gateway.orders.close(old)
            else:
                self.gateway.orders.set_state(old, lib.LIVE_ACTIVE, busy=False)
        if arrived:
            self.gateway.orders.acknowledge(order, _id(order))
        else:
            self.gateway.orders.close(order)

    def hear(self, *_: int) -> None:
        """The oldest fill that the gateway does not know of."""
        if not self.untold:
            return
        order, quantity = self.untold.popleft()
        self.fills += 1
        leg = Leg(
            trade_id=f"T{self.fills}",
            scenario=SCENARIOS[order.outcome],
            book_side=order.side,
            price_cents=order.book_price_cents,
            quantity=quantity,
            fee_cents=0,
        )
        self.gateway.apply_leg(leg, order_id=_id(order), tell=untold)
        if order.state == lib.LIVE_ACTIVE and order.remaining == 0:
            self.gateway.orders.close(order)

    def _hear_all(self) -> None:
        while self.untold:
            self.hear()

    # ---- the venue

    def _rest(self, order: LiveOrder) -> None:
        self.resting[_id(order)], self.left[_id(order)] = order, order.quantity

    def _unrest(self, order: LiveOrder) -> None:
        self.resting.pop(_id(order), None)

    def fill(self, pick: int, quantity: int) -> None:
        if not self.resting:
            return
        order = list(self.resting.values())[pick % len(self.resting)]
        quantity = min(quantity, self.left[_id(order)])
        self.left[_id(order)] -= quantity
        if not self.left[_id(order)]:
            self._unrest(order)
        self.held[order.outcome] += quantity if order.direction is BUY else -quantity
        self.untold.append((order, quantity))

    def for_sale(self, outcome: Outcome) -> int:
        sells = (o for o in self.resting.values() if o.outcome is outcome and o.direction is SELL)
        return sum(self.left[_id(order)] for order in sells)


def _id(order: LiveOrder) -> str:
    return f"venue-{order.number}"


STEPS = (World.place, World.place, World.replace, World.cancel, World.answer, World.fill, World.hear)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 999), st.integers(1, 90)), max_size=80))
def test_what_is_for_sale_is_held(program: list[tuple[object, int, int]]) -> None:
    world = World()
    try:
        for step, pick, quantity in program:
            step(world, pick, quantity)  # type: ignore[operator]
            for outcome in (YES, NO):
                assert world.for_sale(outcome) <= world.held[outcome], (step, outcome)
        world._hear_all()
        stock = world.gateway.account.stock
        assert {YES: stock.yes_volume, NO: stock.no_volume} == world.held, "they agree once all is heard"
    finally:
        os.close(world.arena.fd)
