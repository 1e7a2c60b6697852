"""``native/ladder_plan.c`` and ``own_orders.c`` behind the signatures of their twin, ``ladder.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine._native import ffi, lib
from engine.events import Direction, OrderKind, Outcome, Side
from engine.quoting.funding import FundingRules
from engine.quoting.inventory import Frozen, Stock
from engine.quoting.orders import LiveOrder
from tests.reference.kernel import CENTS, KernelBook
from tests.reference.ladder import Action, Cancel, DesiredOrder, Level, Place, Replace, Tokens

FREE = FundingRules(
    allow_buy=True,
    cash_reserve_cents=0,
    position_limit=0,
    taker_fee_bps=0,
    order_quantity_max=0,
    order_amount_max_cents=0,
)


class KernelLadder:
    """A plan with its own orders and everything they point to."""

    def __init__(self, live: Sequence[LiveOrder] = ()) -> None:
        self.book = KernelBook(CENTS)
        self.target = ffi.new("quote_target_t *")
        self.live = list(live)
        self.orders: Any = ffi.new("own_orders_t *")
        self.orders.book = self.book.pointer
        for order in live:
            assert lib.own_orders_add(self.orders, native_order(order)), order
        self.plan: Any = ffi.new("ladder_plan_t *")
        self.plan.target, self.plan.orders = self.target, self.orders
        self.set_rules(FREE)

    def set_ladder(self, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        self.target.bid_count, self.target.ask_count = len(bids), len(asks)
        for native, levels in ((self.target.bids, bids), (self.target.asks, asks)):
            for index, level in enumerate(levels):
                native[index].price_ticks, native[index].lots = level.price_cents, level.quantity

    def set_rules(self, rules: FundingRules) -> None:
        for name in rules.__struct_fields__:
            setattr(self.plan.rules, name, getattr(rules, name))

    def set_stock(self, stock: Stock) -> None:
        plan = self.plan
        plan.yes_lots, plan.no_lots, plan.cash_cents = stock.yes_volume, stock.no_volume, stock.cash_cents

    def set_tokens(self, *, orders: Tokens, replaces: Tokens) -> None:
        for native, tokens in ((self.plan.order_tokens, orders), (self.plan.replace_tokens, replaces)):
            native.left, native.capacity = tokens.left, tokens.capacity

    @property
    def desired(self) -> list[DesiredOrder]:
        return [_desired(self.plan.desired[i]) for i in range(self.plan.desired_count)]

    @property
    def actions(self) -> list[Action]:
        return [self._action(self.plan.actions[i]) for i in range(self.plan.action_count)]

    @property
    def waiting(self) -> bool:
        return bool(self.plan.waiting)

    def _action(self, action: Any) -> Action:
        if action.kind == OrderKind.PLACE:
            return Place(desired=_desired(action.desired))
        if action.kind == OrderKind.REPLACE:
            return Replace(live=self.live[action.own], desired=_desired(action.desired))
        assert action.kind == OrderKind.CANCEL
        return Cancel(live=self.live[action.own])


def native_order(order: LiveOrder) -> Any:
    """``own_order_t *`` of it, without the venue's id."""
    return ffi.new(
        "own_order_t *",
        {
            "quantity": order.quantity,
            "remaining": order.remaining,
            "created_ms": order.created_ms,
            "intent": order.intent,
            "leaving_intent": order.leaving_intent,
            "price_cents": order.price_cents,
            "live_slot": order.live_slot,
            "outcome": order.outcome,
            "direction": order.direction,
            "state": order.state.value,
            "flags": lib.OWN_ORDER_BUSY * order.busy
            | lib.OWN_ORDER_LEAVING * order.leaving
            | lib.OWN_ORDER_REPLACED * order.replaced
            | lib.OWN_ORDER_UNKNOWN * order.unknown,
        },
    )


def _desired(order: Any) -> DesiredOrder:
    return DesiredOrder(
        side=Side(order.side),
        level=order.level,
        outcome=Outcome(order.outcome),
        direction=Direction(order.direction),
        price_cents=order.price_cents,
        book_price_cents=order.book_price_cents,
        quantity=order.quantity,
    )


def _native_desired(order: DesiredOrder) -> dict[str, int]:
    return {name: int(getattr(order, name)) for name in order.__struct_fields__}


def fund(
    *, bids: Sequence[Level], asks: Sequence[Level], stock: Stock, rules: FundingRules
) -> list[DesiredOrder]:
    ladder = KernelLadder()
    ladder.set_ladder(bids, asks)
    ladder.set_rules(rules)
    ladder.set_stock(stock)
    assert lib.ladder_fund(ladder.plan) == lib.LADDER_OK
    return ladder.desired


def diff(
    desired: Sequence[DesiredOrder],
    live: Sequence[LiveOrder],
    *,
    stock: Stock,
    taker_fee_bps: int,
    now_ms: int,
    max_age_ms: int,
) -> tuple[list[Action], bool]:
    ladder = KernelLadder(live)
    ladder.set_stock(stock)
    plan = ladder.plan
    plan.rules.taker_fee_bps, plan.now_ms, plan.max_age_ms = taker_fee_bps, now_ms, max_age_ms
    plan.desired_count = len(desired)
    for index, order in enumerate(desired):
        plan.desired[index] = _native_desired(order)
    lib.ladder_compare(plan)
    return ladder.actions, ladder.waiting


def affordable(actions: Sequence[Action], *, orders: Tokens, replaces: Tokens) -> list[Action]:
    ladder = KernelLadder()
    ladder.set_tokens(orders=orders, replaces=replaces)
    plan = ladder.plan
    plan.action_count = len(actions)
    for index, action in enumerate(actions):
        native = plan.actions[index]
        if not isinstance(action, Place):
            native.own = len(ladder.live)
            ladder.live.append(action.live)
        if not isinstance(action, Cancel):
            native.desired = _native_desired(action.desired)
        native.kind = {Place: OrderKind.PLACE, Replace: OrderKind.REPLACE, Cancel: OrderKind.CANCEL}[
            type(action)
        ]
    lib.ladder_afford(plan)
    assert ladder.waiting == (plan.action_count < len(actions))
    return ladder.actions


def more_aggressive(
    live: Sequence[LiveOrder], *, touch_bid_cents: int, touch_ask_cents: int
) -> tuple[list[Cancel], bool]:
    ladder = KernelLadder(live)
    ladder.set_ladder(
        [Level(price_cents=touch_bid_cents, quantity=1)] if touch_bid_cents else [],
        [Level(price_cents=touch_ask_cents, quantity=1)] if touch_ask_cents else [],
    )
    lib.ladder_retreat(ladder.plan)
    return [action for action in ladder.actions if isinstance(action, Cancel)], ladder.waiting


def held_by(live: Sequence[LiveOrder], taker_fee_bps: int) -> Frozen:
    held = ffi.new("own_held_t *")
    lib.own_orders_held(KernelLadder(live).orders, taker_fee_bps, held)
    return Frozen(yes_volume=held.yes_lots, no_volume=held.no_lots, cash_cents=held.cash_cents)
