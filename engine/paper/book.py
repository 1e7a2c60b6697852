"""The single YES book of one market: live orders by price, then by time (contract sections 5.2 and 5.10).

A cache of the live rows in the order table, never the holder of a fact: the applier tells it which row
replaced which, and :meth:`Book.rebuild` makes the same book from the rows alone.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from engine.paper.model import PAIR_CENTS, Direction, Order


class Level(msgspec.Struct, frozen=True, gc=False):
    """One price of the book with the quantity of all orders resting there; 0 removes it."""

    price_cents: int
    total_quantity: int


class LevelChange(msgspec.Struct, frozen=True, gc=False):
    """One level's new absolute quantity."""

    direction: Direction
    price_cents: int
    total_quantity: int


class Book:
    """Two ladders of 1..99 cents; each level queues order ids oldest first."""

    __slots__ = ("_queues", "_totals")

    def __init__(self) -> None:
        # dict keys keep insertion order, which is the time priority, and allow removal from the middle.
        self._queues: Final = {side: [dict[str, int]() for _ in range(PAIR_CENTS)] for side in Direction}
        self._totals: Final = {side: [0] * PAIR_CENTS for side in Direction}

    @classmethod
    def rebuild(cls, orders: Iterable[Order]) -> "Book":
        """Make the book of the live rows among ``orders``, queued by (created_at, id)."""
        book = cls()
        for order in sorted((row for row in orders if row.is_live), key=lambda row: (row.created_at, row.id)):
            book.follow(None, order)
        return book

    def follow(self, before: Order | None, after: Order) -> bool:
        """Account for one row's new version; true if the total at its price changed."""
        was = before.remaining_quantity if before is not None and before.is_live else 0
        now = after.remaining_quantity if after.is_live else 0
        if was == now:
            return False
        queue = self._queues[after.book_direction][after.book_price_cents]
        if now:
            queue[after.id] = now  # an existing key keeps its place
        else:
            del queue[after.id]
        self._totals[after.book_direction][after.book_price_cents] += now - was
        return True

    def crossing(self, direction: Direction, price_cents: int) -> Iterator[str]:
        """Ids of resting orders an arriving ``direction`` order may trade with, best price first."""
        opposite = Direction.SELL if direction is Direction.BUY else Direction.BUY
        prices = range(1, price_cents + 1) if opposite is Direction.SELL else range(99, price_cents - 1, -1)
        queues, totals = self._queues[opposite], self._totals[opposite]
        for price in prices:
            if totals[price]:
                yield from queues[price]

    def total(self, direction: Direction, price_cents: int) -> int:
        """Quantity resting at one price of one side."""
        return self._totals[direction][price_cents]

    def levels(self, direction: Direction, limit: int = PAIR_CENTS) -> list[Level]:
        """The best ``limit`` non-empty levels: bids descending, asks ascending."""
        totals = self._totals[direction]
        prices = range(99, 0, -1) if direction is Direction.BUY else range(1, PAIR_CENTS)
        levels = []
        for price in prices:
            if totals[price]:
                levels.append(Level(price, totals[price]))
                if len(levels) == limit:
                    break
        return levels

    def order_ids(self) -> list[str]:
        """Every live order of the market, bids then asks, in queue order within a price."""
        return [order_id for side in Direction for queue in self._queues[side] for order_id in queue]

    def queued(self) -> dict[tuple[Direction, int], list[tuple[str, int]]]:
        """Every non-empty queue as (order id, remaining) pairs; two books are equal if these are."""
        return {
            (side, price): list(queue.items())
            for side in Direction
            for price, queue in enumerate(self._queues[side])
            if queue
        }
