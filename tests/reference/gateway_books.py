"""The counts of ``native/gateway_books.c`` from a plain list of orders, everything anew each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine._native import lib
from engine.events import Direction, Outcome, Side
from engine.quoting.effects import PAIR_CENTS
from engine.quoting.funding import book_price_cents, book_side
from engine.quoting.inventory import Stock, buy_freeze_cents
from tests.reference.pretrade import order_loss_cents, stock_loss_cents


@dataclass(eq=False, kw_only=True)
class Order:
    """One that is, or may be, live; in the list it stands where it was opened."""

    outcome: Outcome
    direction: Direction
    price_cents: int
    quantity: int
    remaining: int
    state: int = int(lib.LIVE_PENDING)
    acknowledged: bool = False
    sent: bool = False
    replaces: Order | None = None

    @property
    def side(self) -> Side:
        return book_side(self.outcome, self.direction)

    @property
    def book_price_cents(self) -> int:
        return book_price_cents(self.outcome, self.price_cents)

    def frozen_cents(self, taker_fee_bps: int) -> int:
        if self.direction is not Direction.BUY:
            return 0
        return buy_freeze_cents(self.price_cents, self.remaining, taker_fee_bps)


def standing_of(
    orders: Sequence[Order], order: Order, stock: Stock, *, pairs_under_way: int, taker_fee_bps: int
) -> dict[str, Any]:
    """Those members of ``standing_t`` that are counted from orders, for ``order``, one of ``orders``."""
    own_bid, own_ask, side_orders, market_orders, alike_unacked = 0, PAIR_CENTS, 0, 0, 0
    sell_committed, buy_committed, buy_committed_cents = 0, 0, 0
    side_shares, side_loss_cents = 0, 0
    later = False
    for other in orders:
        later |= other is order
        if other is order or other is order.replaces or (later and not other.sent):
            continue
        price_cents = other.book_price_cents
        if other.side is Side.BID:
            own_bid = max(own_bid, price_cents)
        else:
            own_ask = min(own_ask, price_cents)
        # a replace counts once: as its old order while that one is there
        old = other.replaces if other.replaces in orders else None
        if old is None:
            market_orders += 1
            side_orders += other.side is order.side
        alike = (other.outcome, other.direction, other.price_cents, other.quantity) == (
            order.outcome,
            order.direction,
            order.price_cents,
            order.quantity,
        )
        alike_unacked += alike and not other.acknowledged
        extra, extra_cents = other.remaining, other.frozen_cents(taker_fee_bps)
        # the old order's shares or cash serve the new one, unless the outcome is unknown: then both count
        if old is not None and other.state != lib.LIVE_UNKNOWN and old.direction is other.direction:
            extra_cents = max(0, extra_cents - old.frozen_cents(taker_fee_bps))
            if old.outcome is other.outcome:
                extra = max(0, extra - old.remaining)
        if other.side is order.side:
            side_shares += extra
            side_loss_cents += order_loss_cents(order.side, price_cents, extra)
        if other.direction is Direction.BUY:
            buy_committed_cents += extra_cents
            buy_committed += extra if other.outcome is order.outcome else 0
        elif other.outcome is order.outcome:
            sell_committed += extra
    return {
        "own_bid_cents": own_bid,
        "own_ask_cents": own_ask,
        "side_orders": side_orders,
        "market_orders": market_orders,
        "engine_orders": len(orders) - 1,
        "alike_unacked": alike_unacked,
        "side_shares": side_shares,
        "worst_loss_cents": stock_loss_cents(stock) + side_loss_cents,
        "sell_committed": sell_committed + max(0, -pairs_under_way),
        "buy_committed": buy_committed + max(0, pairs_under_way),
        "buy_committed_cents": buy_committed_cents + max(0, pairs_under_way) * PAIR_CENTS,
    }


def sums_of(orders: Sequence[Order], stock: Stock, *, taker_fee_bps: int) -> dict[str, int]:
    """Orders, frozen cash and worst loss of one market in ``market_sums_t``."""
    losses = dict.fromkeys(Side, 0)
    for order in orders:
        losses[order.side] += order_loss_cents(order.side, order.book_price_cents, order.remaining)
    return {
        "orders": len(orders),
        "frozen_cents": sum(order.frozen_cents(taker_fee_bps) for order in orders),
        "worst_loss_cents": stock_loss_cents(stock) + max(losses.values()),
    }


def foreign_touch(orders: Sequence[Order], top: Any) -> tuple[int, int]:
    """Best foreign bid and ask of a ``top_t``; 0 and 100 where the touch holds own orders alone."""
    own = dict.fromkeys(Side, 0)
    for order in orders:
        touch = top.bid_ticks if order.side is Side.BID else top.ask_ticks
        own[order.side] += order.remaining if order.book_price_cents == touch else 0
    bid = int(top.bid_ticks) if top.bid_ticks > 0 and top.bid_lots > own[Side.BID] else 0
    ask = int(top.ask_ticks) if top.ask_ticks > 0 and top.ask_lots > own[Side.ASK] else PAIR_CENTS
    return bid, ask
