"""Desired orders against live ones: which requests make the book show the target (market-making §6.1).

Pure: values in, a list of actions out, in the order in which they deserve the rate budget (§5.5):
cancels, then touch levels, then deeper ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from msgspec import Struct

from engine.events import Direction, Outcome, Side
from engine.quoting.funding import DesiredOrder, book_price_cents, book_side
from engine.quoting.inventory import Frozen, Stock, buy_freeze_cents, frozen_by
from engine.quoting.transitions import OrderState


class LiveOrder(Struct, kw_only=True, eq=False):
    """The quoter's copy of one order that is, or may be, live; it follows execution records.

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
    # what follows from the above, once: a plan compares every order with every other
    side: Side = Side.BID  # of the YES book
    book_price_cents: int = 0  # YES terms

    def __post_init__(self) -> None:
        self.side = book_side(self.outcome, self.direction)
        self.book_price_cents = book_price_cents(self.outcome, self.price_cents)


def successor(old: LiveOrder, live: Iterable[LiveOrder]) -> LiveOrder | None:
    """The order that a replace under way puts in the place of ``old``; None when there is none.

    The venue moves the collateral of the one to the other in a single act, so the two hold it in turn: what
    both need is held once. Not when the outcome is unknown: then either may be live (§6.3), and None comes
    back.
    """
    if not (old.leaving and old.replaced) or old.unknown:
        return None
    return next((order for order in live if order.busy and order.intent == old.leaving_intent), None)


def held_by(live: Sequence[LiveOrder], taker_fee_bps: int) -> Frozen:
    """Σ over live orders of the shares and cents they hold; of a replace under way the larger counts."""
    held = frozen_by(live, taker_fee_bps)
    for old in live:
        new = successor(old, live)
        if new is not None:
            one, other = frozen_by((old,), taker_fee_bps), frozen_by((new,), taker_fee_bps)
            held = Frozen(
                yes_volume=held.yes_volume - min(one.yes_volume, other.yes_volume),
                no_volume=held.no_volume - min(one.no_volume, other.no_volume),
                cash_cents=held.cash_cents - min(one.cash_cents, other.cash_cents),
            )
    return held


class Place(Struct, frozen=True, kw_only=True):
    desired: DesiredOrder


class Replace(Struct, frozen=True, kw_only=True):
    live: LiveOrder
    desired: DesiredOrder


class Cancel(Struct, frozen=True, kw_only=True):
    live: LiveOrder


Action = Place | Replace | Cancel
Order = TypeVar("Order", DesiredOrder, LiveOrder)


class _Collateral:
    """What is free of live orders: shares by outcome, and cents."""

    def __init__(self, stock: Stock, live: Sequence[LiveOrder], taker_fee_bps: int) -> None:
        held = held_by(live, taker_fee_bps)
        self._taker_fee_bps = taker_fee_bps
        self._shares = {
            Outcome.YES: stock.yes_volume - held.yes_volume,
            Outcome.NO: stock.no_volume - held.no_volume,
        }
        self._cents = stock.cash_cents - held.cash_cents

    def _take(self, outcome: Outcome, direction: Direction, price_cents: int, quantity: int) -> None:
        if direction == Direction.SELL:
            self._shares[outcome] -= quantity
        else:
            self._cents -= buy_freeze_cents(price_cents, quantity, self._taker_fee_bps)

    def _give(self, order: LiveOrder) -> None:
        if order.direction == Direction.SELL:
            self._shares[order.outcome] += order.remaining
        else:
            self._cents += buy_freeze_cents(order.price_cents, order.remaining, self._taker_fee_bps)

    def take(self, action: Place | Replace) -> bool:
        """Books what the action needs, or leaves everything as it was and returns False."""
        before = dict(self._shares), self._cents
        if isinstance(action, Replace):
            self._give(action.live)
        order = action.desired
        self._take(order.outcome, order.direction, order.price_cents, order.quantity)
        short = self._shares[order.outcome] < 0 if order.direction == Direction.SELL else self._cents < 0
        if short:
            self._shares, self._cents = before
        return not short


def keeps(live: LiveOrder, desired: DesiredOrder, *, now_ms: int, max_age_ms: int) -> bool:
    """§6.1: same kind and price, remaining within max(1, 20 %) of the target, not too old."""
    return (
        live.outcome == desired.outcome
        and live.direction == desired.direction
        and live.price_cents == desired.price_cents
        and abs(live.remaining - desired.quantity) <= max(1, desired.quantity // 5)
        and now_ms - live.created_ms <= max_age_ms
    )


def crosses(desired: DesiredOrder, others: Iterable[LiveOrder]) -> bool:
    """Whether an order would meet or pass an own order of the other side (§3.6 own-cross rule)."""
    price = desired.book_price_cents
    if desired.side == Side.BID:
        return any(order.side == Side.ASK and order.book_price_cents <= price for order in others)
    return any(order.side == Side.BID and order.book_price_cents >= price for order in others)


def _match(
    desired: Sequence[DesiredOrder], live: Sequence[LiveOrder], *, now_ms: int, max_age_ms: int
) -> tuple[list[DesiredOrder], list[LiveOrder], bool]:
    """(orders missing, orders surplus, whether a level has to wait) of one side.

    A busy order on its way in satisfies its level but is never surplus: nothing can be asked of it yet. One
    of unknown outcome that satisfies no level any more blocks the level nearest to it until the venue has
    said what it is (§6.3): otherwise that level might be shown twice.
    """
    candidates = [order for order in live if not order.leaving]
    missing: list[DesiredOrder] = []
    for order in desired:
        kept = next(
            (live for live in candidates if keeps(live, order, now_ms=now_ms, max_age_ms=max_age_ms)), None
        )
        if kept is None:
            missing.append(order)
        else:
            candidates.remove(kept)
    unknown = [order for order in candidates if order.unknown][: len(missing)]
    for unclear in unknown:
        missing.remove(_nearest(unclear.book_price_cents, missing))
    return missing, [order for order in candidates if not order.busy], bool(unknown)


def _nearest(book_price_cents: int, orders: Sequence[Order]) -> Order:
    return min(orders, key=lambda order: abs(order.book_price_cents - book_price_cents))


def _pair(
    missing: Sequence[DesiredOrder], surplus: Sequence[LiveOrder]
) -> tuple[list[Cancel], list[Place | Replace]]:
    """Each missing level takes over the nearest surplus order that is unfilled; the rest is cancelled.

    A partially filled order is cancelled and its level placed anew: replacing it would answer 6001.
    """
    cancels = [Cancel(live=order) for order in surplus if order.remaining != order.quantity]
    replaceable = [order for order in surplus if order.remaining == order.quantity]
    others: list[Place | Replace] = []
    for desired in missing:
        if not replaceable:
            others.append(Place(desired=desired))
            continue
        nearest = _nearest(desired.book_price_cents, replaceable)
        replaceable.remove(nearest)
        others.append(Replace(live=nearest, desired=desired))
    cancels.extend(Cancel(live=order) for order in replaceable)
    return cancels, others


def diff(
    desired: Sequence[DesiredOrder],
    live: Sequence[LiveOrder],
    *,
    stock: Stock,
    taker_fee_bps: int,
    now_ms: int,
    max_age_ms: int,
) -> tuple[list[Action], bool]:
    """(actions that turn ``live`` into ``desired``, most urgent first; whether anything had to wait).

    Left for a later round: an order that would cross an own order of the other side, live or under way;
    an order whose shares or cash are still held by one that is leaving; a level that an order of unknown
    outcome blocks.
    """
    actions: list[Action] = []
    others: list[Place | Replace] = []
    waiting = False
    for side in (Side.ASK, Side.BID):
        missing, surplus, blocked = _match(
            [order for order in desired if order.side == side],
            [order for order in live if order.side == side],
            now_ms=now_ms,
            max_age_ms=max_age_ms,
        )
        waiting |= blocked
        cancels, wanted = _pair(missing, surplus)
        actions.extend(cancels)
        others.extend(wanted)
    others.sort(key=lambda action: action.desired.level)
    collateral = _Collateral(stock, live, taker_fee_bps)
    for action in others:
        if crosses(action.desired, live) or not collateral.take(action):
            waiting = True
        else:
            actions.append(action)
    return actions, waiting


def more_aggressive(
    live: Sequence[LiveOrder], *, touch_bid_cents: int, touch_ask_cents: int
) -> tuple[list[Cancel], bool]:
    """Cancels of the orders nearer the market than the target's touch (§5.3 POST_FILL), and whether one of
    them has to wait for the answer to its own request.

    A touch of 0 means the target has no such side: every order of it is too aggressive.
    """
    found = [
        order
        for order in live
        if (order.side == Side.BID and order.book_price_cents > touch_bid_cents)
        or (order.side == Side.ASK and (touch_ask_cents == 0 or order.book_price_cents < touch_ask_cents))
    ]
    waiting = any(order.busy and not order.leaving for order in found)
    return [Cancel(live=order) for order in found if not order.busy], waiting
