"""How the recorded crowd brings a level to its target: exactly, and with the fewest requests."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.paper.crowd import ORDERS_PER_LEVEL_MAX, LevelPlan, plan_level

RESTING = st.lists(st.integers(1, 60), max_size=ORDERS_PER_LEVEL_MAX).map(
    lambda sizes: {f"o{number}": size for number, size in enumerate(sizes)}
)


@pytest.mark.parametrize(
    ("resting", "target", "place", "cancel"),
    [
        ({}, 0, 0, ()),
        ({}, 7, 7, ()),
        ({"a": 5}, 5, 0, ()),
        ({"a": 5}, 7, 2, ()),
        ({"a": 5, "b": 3}, 0, 0, ("a", "b")),
        ({"a": 5, "b": 3}, 5, 0, ("b",)),  # one order is exactly the surplus
        ({"a": 5, "b": 3}, 6, 1, ("b",)),
        ({"a": 9, "b": 2, "c": 2}, 9, 0, ("b", "c")),  # as cheap as the next, and nothing loses its place
        ({"a": 9, "b": 9, "c": 9}, 22, 4, ("a",)),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, 13, 4, ("a",)),  # full: the smallest makes room
    ],
)
def test_examples(resting: dict[str, int], target: int, place: int, cancel: tuple[str, ...]) -> None:
    plan = plan_level(resting, target, may_place=True)
    assert (plan.place, sorted(plan.cancel)) == (place, sorted(cancel))


@given(resting=RESTING, target=st.integers(0, 200))
def test_a_plan_is_exact_and_cheapest(resting: dict[str, int], target: int) -> None:
    plan = plan_level(resting, target, may_place=True)
    left = sum(resting.values()) - sum(resting[order_id] for order_id in plan.cancel)
    assert left + plan.place == target
    assert len(resting) - len(plan.cancel) + (plan.place > 0) <= ORDERS_PER_LEVEL_MAX
    requests = len(plan.cancel) + (plan.place > 0)
    assert requests == cheapest(resting, target)


def cheapest(resting: dict[str, int], target: int) -> int:
    """Fewest requests over every set of orders to cancel, within the bound of orders at a level."""
    costs = []
    for count in range(len(resting) + 1):
        for cancelled in combinations(resting, count):
            missing = target - sum(resting[order_id] for order_id in resting if order_id not in cancelled)
            fits = len(resting) - count + (missing > 0) <= ORDERS_PER_LEVEL_MAX
            if missing >= 0 and fits:
                costs.append(count + (missing > 0))
    return min(costs)


@given(resting=RESTING, target=st.integers(0, 200))
def test_while_suspended_a_plan_only_cancels_and_never_leaves_too_much(
    resting: dict[str, int], target: int
) -> None:
    plan = plan_level(resting, target, may_place=False)
    left = sum(resting.values()) - sum(resting[order_id] for order_id in plan.cancel)
    assert plan.place == 0
    assert left <= target or not resting
    if sum(resting.values()) <= target:
        assert plan == LevelPlan(place=0, cancel=())
