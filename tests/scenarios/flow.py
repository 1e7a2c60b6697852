"""What the others do in a scenario: hidden values and order schedules, drawn once from a seed. Pure.

A schedule is open loop: who trades when, at which limit and how much does not depend on what was filled, so
every market maker that is put in front of it meets exactly the same flow.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, Literal

from msgspec import Struct

from engine.paper.traders import in_range, seeded

STEP_S: Final = 0.25
Account = Literal["book", "noise", "informed", "spoofer", "burst"]


class HiddenPath(Struct, frozen=True):
    """A market's true value in cents at every ``STEP_S`` since the start; the last one holds for ever."""

    cents: tuple[float, ...]

    def at(self, elapsed_s: float) -> float:
        return self.cents[min(max(int(elapsed_s / STEP_S), 0), len(self.cents) - 1)]

    def mark_cents(self, elapsed_s: float) -> int:
        """The value in whole cents, as a price can have it."""
        return in_range(math.floor(self.at(elapsed_s) + 0.5))


class Walk(Struct, frozen=True, kw_only=True):
    """A random walk around a course. ``course``: corners (second, cents), straight lines in between."""

    course: tuple[tuple[float, float], ...] = ((0.0, 50.0),)
    sigma_cents: float = 0.4
    """Standard deviation of one second's move."""
    pull: float = 0.02
    """Share of the distance to the course that is undone each second."""
    reach_cents: float = 10.0

    def path(self, random: Random, seconds: float) -> HiddenPath:
        """One walk, never further from its course than its reach and never outside 2..98."""
        away = 0.0
        cents = []
        for step in range(int(seconds / STEP_S) + 1):
            away += -self.pull * STEP_S * away + random.gauss(0.0, self.sigma_cents * math.sqrt(STEP_S))
            away = min(max(away, -self.reach_cents), self.reach_cents)
            cents.append(min(max(self._course_at(step * STEP_S) + away, 2.0), 98.0))
        return HiddenPath(tuple(cents))

    def _course_at(self, elapsed_s: float) -> float:
        index = bisect_right(self.course, (elapsed_s, math.inf))
        if index == 0:
            return self.course[0][1]
        if index == len(self.course):
            return self.course[-1][1]
        (before_s, before), (after_s, after) = self.course[index - 1], self.course[index]
        return before + (after - before) * (elapsed_s - before_s) / (after_s - before_s)


class FlowOrder(Struct, frozen=True, kw_only=True):
    """One order in YES terms. It rests for ``rest_s`` and is then cancelled; 0 takes or is gone at once."""

    at_s: float
    account: Account
    buy: bool
    price_cents: int
    quantity: int
    rest_s: float = 0.0


Part = Callable[[Random, HiddenPath, float], list[FlowOrder]]
"""One kind of participant: its orders over so many seconds."""


def background_book(random: Random, path: HiddenPath, seconds: float) -> list[FlowOrder]:
    """Others' resting orders: three levels a side around what they know, late and roughly, of the value."""
    orders = []
    at_s, renew_s = 0.0, 3.0
    while at_s < seconds:
        middle = path.at(at_s - 4.0) + random.gauss(0.0, 1.0)
        for depth in range(3):
            away = 5 + 2 * depth + random.uniform(-0.5, 1.5)
            quantity = random.randint(20, 60) * (1 + depth)
            for buy, price in ((True, math.floor(middle - away)), (False, math.ceil(middle + away))):
                orders.append(
                    FlowOrder(
                        at_s=at_s + 0.05 * depth,
                        account="book",
                        buy=buy,
                        price_cents=in_range(price),
                        quantity=quantity,
                        rest_s=renew_s + 0.5,
                    )
                )
        at_s += renew_s
    return orders


def noise(rate: float, *, quantity_max: int = 12) -> Part:
    """Takes on either side for no reason."""

    def part(random: Random, path: HiddenPath, seconds: float) -> list[FlowOrder]:
        orders = []
        for at_s in _poisson(random, rate, seconds):
            buy = random.random() < 0.5
            patience = random.uniform(3.0, 8.0)
            price = path.at(at_s) + (patience if buy else -patience)
            quantity = random.randint(1, quantity_max)
            orders.append(_take(at_s, "noise", buy=buy, price=round(price), quantity=quantity))
        return orders

    return part


def informed(rate: float, *, ahead_s: float = 5.0, quantity: tuple[int, int] = (5, 20)) -> Part:
    """Knows the value ``ahead_s`` early and takes whatever is at least half a cent wrong about it."""

    def part(random: Random, path: HiddenPath, seconds: float) -> list[FlowOrder]:
        orders = []
        for at_s in _poisson(random, rate, seconds):
            value, shares = path.at(at_s + ahead_s), random.randint(*quantity)
            # One side of the two finds nothing to take unless a quote is wrong.
            orders += [
                _take(at_s, "informed", buy=True, price=math.floor(value - 0.5), quantity=shares),
                _take(at_s, "informed", buy=False, price=math.ceil(value + 0.5), quantity=shares),
            ]
        return orders

    return part


def spoofer(rate: float) -> Part:
    """Shows large orders beside the touch for a moment and pulls them."""

    def part(random: Random, path: HiddenPath, seconds: float) -> list[FlowOrder]:
        orders = []
        for at_s in _poisson(random, rate, seconds):
            buy = random.random() < 0.5
            away = random.uniform(3.5, 6.0)
            price = path.at(at_s) + (-away if buy else away)
            orders.append(
                FlowOrder(
                    at_s=at_s,
                    account="spoofer",
                    buy=buy,
                    price_cents=in_range(round(price)),
                    quantity=random.randint(400, 1_000),
                    rest_s=random.uniform(0.2, 1.0),
                )
            )
        return orders

    return part


def bursts(every_s: float, *, takes: int = 8, quantity: tuple[int, int] = (2, 6)) -> Part:
    """Many small takes of one side within half a second, now and then."""

    def part(random: Random, path: HiddenPath, seconds: float) -> list[FlowOrder]:
        orders = []
        at_s, buy = every_s, True
        while at_s < seconds:
            price = path.at(at_s) + (8.0 if buy else -8.0)
            for number in range(takes):
                take_s = at_s + number * 0.05
                shares = random.randint(*quantity)
                orders.append(_take(take_s, "burst", buy=buy, price=round(price), quantity=shares))
            at_s, buy = at_s + every_s, not buy
        return orders

    return part


def schedule(
    *, seed: int, name: str, walk: Walk, parts: Sequence[Part], seconds: float
) -> tuple[HiddenPath, list[FlowOrder]]:
    """A scenario's value and everybody's orders by time; the same for the same arguments."""
    path = walk.path(seeded(seed, name, "value"), seconds)
    orders: list[FlowOrder] = []
    for index, part in enumerate(parts):
        orders += part(seeded(seed, name, "part", index), path, seconds)
    return path, sorted(orders, key=lambda order: order.at_s)


def _poisson(random: Random, rate: float, seconds: float) -> list[float]:
    moments = []
    at_s = random.expovariate(rate)
    while at_s < seconds:
        moments.append(at_s)
        at_s += random.expovariate(rate)
    return moments


def _take(at_s: float, account: Account, *, buy: bool, price: int, quantity: int) -> FlowOrder:
    return FlowOrder(at_s=at_s, account=account, buy=buy, price_cents=in_range(price), quantity=quantity)
