"""One own order as its quoter sees it (market-making §6.5); the table of them is ``native/own_orders.c``."""

from __future__ import annotations

from msgspec import Struct

from engine.events import Direction, Outcome, Side
from engine.quoting.funding import book_price_cents, book_side
from engine.quoting.transitions import OrderState


class LiveOrder(Struct, frozen=True, kw_only=True, eq=False):
    """An order that is, or may be, live at one moment.

    ``busy``: its own request is under way or unanswered, so it is left alone; ``leaving``: that request
    takes it off the book, so it satisfies no target any more, but holds its collateral until it is gone.
    """

    outcome: Outcome
    direction: Direction
    price_cents: int  # user view
    quantity: int
    remaining: int
    created_ms: int
    live_slot: int = -1  # the gateway's number for it; -1 until acknowledged
    venue_order_id: bytes = b""
    intent: int = 0  # the intent that created it
    leaving_intent: int = 0  # the intent that takes it off the book
    busy: bool = False
    leaving: bool = False
    replaced: bool = False  # it leaves for a successor, not by a cancel
    unknown: bool = False  # the outcome of its request is not known
    state: OrderState = OrderState.ACTIVE

    @property
    def side(self) -> Side:
        """Of the YES book."""
        return book_side(self.outcome, self.direction)

    @property
    def book_price_cents(self) -> int:
        """YES terms."""
        return book_price_cents(self.outcome, self.price_cents)
