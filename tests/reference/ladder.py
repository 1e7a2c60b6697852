"""From a target ladder to requests, by rule (market-making §3.7, §5.5, §6.1): the twin of ``ladder_plan.c``.

Orders of user view pay for a ladder of book prices: inventory first, cash second. They are compared with the
own orders that are or may be live, and what the request budget allows of the differences is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from msgspec import Struct

from engine.events import Direction, Outcome, Side
from engine.quoting.funding import FundingRules, book_price_cents
from engine.quoting.inventory import Frozen, Stock, buy_freeze_cents, frozen_by
from engine.quoting.orders import LiveOrder
from engine.quoting.ratios import WHOLE_BP


class Level(Struct, frozen=True, kw_only=True):
    """One level of the target ladder: YES price in cents, shares."""

    price_cents: int
    quantity: int


class DesiredOrder(Struct, frozen=True, kw_only=True):
    """An order the market should show. ``book_price_cents`` is YES terms, ``price_cents`` user view."""

    side: Side
    level: int  # 0 = nearest the touch
    outcome: Outcome
    direction: Direction
    price_cents: int
    book_price_cents: int
    quantity: int


def _affordable(price_cents: int, wanted: int, cash_cents: int, taker_fee_bps: int) -> int:
    """Most shares of ``wanted`` whose freeze fits in ``cash_cents``."""
    quantity = min(wanted, max(0, cash_cents) // price_cents)
    # the fee is a rounded share of the amount, so this takes a step or two at 0..1000 bps
    while quantity > 0 and buy_freeze_cents(price_cents, quantity, taker_fee_bps) > cash_cents:
        excess = buy_freeze_cents(price_cents, quantity, taker_fee_bps) - cash_cents
        quantity -= max(1, excess // (2 * price_cents))
    return max(0, quantity)


class _Purse:
    """What is left to plan with while the levels are funded."""

    def __init__(self, stock: Stock, rules: FundingRules) -> None:
        self.rules = rules
        self.cash_cents = stock.cash_cents - rules.cash_reserve_cents
        self.sellable = {Outcome.YES: stock.yes_volume, Outcome.NO: stock.no_volume}
        self.buyable = {
            Outcome.YES: max(0, rules.position_limit - stock.yes_volume),
            Outcome.NO: max(0, rules.position_limit - stock.no_volume),
        }

    def sell(self, outcome: Outcome, wanted: int) -> int:
        quantity = min(wanted, self.sellable[outcome])
        self.sellable[outcome] -= quantity
        return quantity

    def buy(self, outcome: Outcome, price_cents: int, wanted: int, *, already: int = 0) -> int:
        """Takes up to ``wanted`` on top of ``already`` shares of the same order."""
        amount_max = self.rules.order_amount_max_cents // price_cents - already
        wanted = min(wanted, self.buyable[outcome], amount_max)
        bps = self.rules.taker_fee_bps
        held_cents = buy_freeze_cents(price_cents, already, bps)
        quantity = _affordable(price_cents, already + wanted, self.cash_cents + held_cents, bps) - already
        quantity = max(0, quantity)
        self.buyable[outcome] -= quantity
        self.cash_cents -= buy_freeze_cents(price_cents, already + quantity, bps) - held_cents
        return quantity


def _fund_level(purse: _Purse, side: Side, index: int, level: Level) -> list[DesiredOrder]:
    sold, bought = (Outcome.YES, Outcome.NO) if side == Side.ASK else (Outcome.NO, Outcome.YES)
    rules = purse.rules
    wanted = min(level.quantity, rules.order_quantity_max)
    sell_price = book_price_cents(sold, level.price_cents)
    buy_price = book_price_cents(bought, level.price_cents)
    sell_max = rules.order_amount_max_cents // sell_price
    to_buy = wanted * rules.buy_share_bp // WHOLE_BP if rules.allow_buy else 0
    buying = purse.buy(bought, buy_price, to_buy) if to_buy else 0
    selling = purse.sell(sold, min(wanted - buying, sell_max))
    rest = wanted - buying - selling
    if rest > 0 and rules.allow_buy:
        buying += purse.buy(bought, buy_price, rest, already=buying)
    orders = [
        (outcome, direction, price, quantity)
        for outcome, direction, price, quantity in (
            (sold, Direction.SELL, sell_price, selling),
            (bought, Direction.BUY, buy_price, buying),
        )
        if quantity > 0
    ]
    return [
        DesiredOrder(
            side=side,
            level=index,
            outcome=outcome,
            direction=direction,
            price_cents=price,
            book_price_cents=level.price_cents,
            quantity=quantity,
        )
        for outcome, direction, price, quantity in orders
    ]


def fund(
    *, bids: Sequence[Level], asks: Sequence[Level], stock: Stock, rules: FundingRules
) -> list[DesiredOrder]:
    """Orders for both ladders, nearest level first on each side, levels of the two sides in turn.

    Guarantees: Σ sells per outcome <= volume; Σ buys + volume <= position_limit; Σ freezes <= cash above
    the reserve; every order within the market's quantity and amount limits.
    """
    purse = _Purse(stock, rules)
    orders: list[DesiredOrder] = []
    for index in range(max(len(bids), len(asks))):
        for side, levels in ((Side.ASK, asks), (Side.BID, bids)):
            if index < len(levels):
                orders.extend(_fund_level(purse, side, index, levels[index]))
    return orders


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


CANCEL_SHARE: Final = 10  # one in so many tokens of a bucket is kept for cancels


class Tokens(Struct, frozen=True, kw_only=True):
    """One bucket: what it holds now, and when full."""

    left: int
    capacity: int

    @property
    def spendable(self) -> int:
        """For anything but a cancel."""
        return max(0, self.left - self.capacity // CANCEL_SHARE)


def affordable(actions: Sequence[Action], *, orders: Tokens, replaces: Tokens) -> list[Action]:
    """The actions to send now, in order; the rest waits for tokens.

    ``orders``: the account's bucket, paid by every placement and cancel; ``replaces``: the market's own.
    Cancels draw on the orders bucket whatever is in it, so they come before anything else in the count.
    """
    cancels = sum(isinstance(action, Cancel) for action in actions)
    order_tokens, replace_tokens = orders.spendable - cancels, replaces.spendable
    chosen: list[Action] = []
    for action in actions:
        if isinstance(action, Replace):
            replace_tokens -= 1
            if replace_tokens < 0:
                continue
        elif not isinstance(action, Cancel):
            order_tokens -= 1
            if order_tokens < 0:
                continue
        chosen.append(action)
    return chosen
