"""Spending the request budget (market-making §5.5)."""

from __future__ import annotations

from engine.events import Direction, Outcome, Side
from engine.quoting.orders import LiveOrder
from tests.reference.ladder import Action, Cancel, DesiredOrder, Place, Replace, Tokens
from tests.reference.ladder_kernel import affordable


def desired(level: int) -> DesiredOrder:
    return DesiredOrder(
        side=Side.ASK,
        level=level,
        outcome=Outcome.YES,
        direction=Direction.SELL,
        price_cents=52 + level,
        book_price_cents=52 + level,
        quantity=10,
    )


def live() -> LiveOrder:
    return LiveOrder(
        outcome=Outcome.YES, direction=Direction.SELL, price_cents=60, quantity=5, remaining=5, created_ms=0
    )


def full(capacity: int) -> Tokens:
    return Tokens(left=capacity, capacity=capacity)


def test_a_tenth_is_kept_for_cancels() -> None:
    plan: list[Action] = [Place(desired=desired(level)) for level in range(20)]
    assert affordable(plan, orders=full(20), replaces=full(20)) == plan[:18]
    plan = [Replace(live=live(), desired=desired(level)) for level in range(20)]
    assert affordable(plan, orders=full(20), replaces=full(20)) == plan[:18]


def test_cancels_go_out_with_nothing_left() -> None:
    cancels: list[Action] = [Cancel(live=live()) for _ in range(5)]
    none = Tokens(left=0, capacity=100)
    assert affordable([*cancels, Place(desired=desired(0))], orders=none, replaces=none) == cancels


def test_touch_levels_come_before_deeper_ones() -> None:
    plan: list[Action] = [Replace(live=live(), desired=desired(level)) for level in range(5)]
    sent = affordable(plan, orders=full(100), replaces=Tokens(left=12, capacity=100))
    assert [action.desired.level for action in sent if isinstance(action, Replace)] == [0, 1]


def test_one_empty_bucket_does_not_stop_the_other() -> None:
    plan: list[Action] = [Replace(live=live(), desired=desired(0)), Place(desired=desired(1))]
    assert affordable(plan, orders=full(100), replaces=Tokens(left=0, capacity=100)) == plan[1:]
