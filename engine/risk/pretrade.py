"""The last checks before an order's bytes go to the socket: small, named, in order, integer, fail closed.

``first_refusal`` asks each check in turn; the first that objects decides. Everything they look at is in two
values: the order that wants to go out, and what the gateway itself counts at that instant (a worker's own
figures are never trusted). There is no way around them. Reliability page §1: C1, C2, C4, C5, C6, C7, C9, C10.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from engine.events import Direction, LocalReject, MarketStatus, Outcome, Side
from engine.quoting.funding import book_price_cents, book_side
from engine.quoting.inventory import buy_freeze_cents

INTENT_AGE_NS_MAX: Final = 1_000_000_000  # an older decision was made on a book that is gone
ORDERS_PER_SIDE_MAX: Final = 20
ORDERS_PER_MARKET_MAX: Final = 40
ORDERS_PER_ENGINE_MAX: Final = 1_000


class Candidate(Struct, frozen=True, kw_only=True, gc=False):
    """A new order, alone or as the second half of a replace."""

    outcome: Outcome
    direction: Direction
    price_cents: int  # user view
    quantity: int
    decided_mono_ns: int

    @property
    def side(self) -> Side:
        return book_side(self.outcome, self.direction)

    @property
    def book_price_cents(self) -> int:
        return book_price_cents(self.outcome, self.price_cents)


class Standing(Struct, frozen=True, kw_only=True, gc=False):
    """The gateway's own counts. Live, in-flight and unknown orders all count as live.

    The order a replace takes away is left out of ``own_*``, ``*_orders`` and ``*_committed*``.
    """

    now_mono_ns: int
    kill_word: int  # KILL_* bits in force, market's and global
    epoch_current: bool  # the intent's worker epoch is the one in force
    admitting: bool  # gateway recovered, market funded, no sweep under way
    status: MarketStatus
    min_price_cents: int  # the market's limits
    max_price_cents: int
    order_quantity_max: int
    order_amount_max_cents: int
    taker_fee_bps: int
    own_bid_cents: int  # best own bid on the YES book, 0 = none
    own_ask_cents: int  # best own ask, 100 = none
    side_orders: int  # own orders on the candidate's book side
    market_orders: int
    engine_orders: int
    volume: int  # shares held of the candidate's outcome
    sell_committed: int  # shares of that outcome that other sells may still take
    cash_cents: int  # this market's cash incl. what its BUY orders freeze
    buy_committed_cents: int  # freezes of other buys
    tokens: int  # requests the rate limit allows now


def not_killed(_: Candidate, standing: Standing) -> LocalReject | None:
    """C1: no kill word, market's or global, is raised."""
    return LocalReject.KILLED if standing.kill_word != 0 else None


def from_current_worker(_: Candidate, standing: Standing) -> LocalReject | None:
    """I9: the intent comes from the worker that is in office."""
    return None if standing.epoch_current else LocalReject.STALE_EPOCH


def admitted(candidate: Candidate, standing: Standing) -> LocalReject | None:
    """C2: gateway RUNNING, market ACTIVE, and a decision recent enough to stand for the present."""
    age_ns = standing.now_mono_ns - candidate.decided_mono_ns
    ready = standing.admitting and standing.status == MarketStatus.ACTIVE and 0 <= age_ns <= INTENT_AGE_NS_MAX
    return None if ready else LocalReject.NOT_READY


def price_in_range(candidate: Candidate, standing: Standing) -> LocalReject | None:
    """C4, E2: 1..99, and the market's own limits."""
    lowest = max(1, standing.min_price_cents)
    highest = min(99, standing.max_price_cents)
    return None if lowest <= candidate.price_cents <= highest else LocalReject.PRICE_RANGE


def size_in_limits(candidate: Candidate, standing: Standing) -> LocalReject | None:
    """C6: the market's largest order, by quantity and by amount."""
    amount_cents = candidate.price_cents * candidate.quantity
    fits = (
        0 < candidate.quantity <= standing.order_quantity_max
        and amount_cents <= standing.order_amount_max_cents
    )
    return None if fits else LocalReject.LIMIT


def few_enough_orders(_: Candidate, standing: Standing) -> LocalReject | None:
    """C7: live orders by side, market and engine."""
    fits = (
        standing.side_orders < ORDERS_PER_SIDE_MAX
        and standing.market_orders < ORDERS_PER_MARKET_MAX
        and standing.engine_orders < ORDERS_PER_ENGINE_MAX
    )
    return None if fits else LocalReject.LIMIT


def not_self_crossing(candidate: Candidate, standing: Standing) -> LocalReject | None:
    """C5, E1: own bids below own asks."""
    price_cents = candidate.book_price_cents
    if candidate.side == Side.BID:
        return None if price_cents < standing.own_ask_cents else LocalReject.SELF_CROSS
    return None if price_cents > standing.own_bid_cents else LocalReject.SELF_CROSS


def not_overselling(candidate: Candidate, standing: Standing) -> LocalReject | None:
    """E2: what own sells may still take of an outcome is held."""
    if candidate.direction != Direction.SELL:
        return None
    fits = standing.sell_committed + candidate.quantity <= standing.volume
    return None if fits else LocalReject.OVERSELL


def paid_for(candidate: Candidate, standing: Standing) -> LocalReject | None:
    """C9: the market's own cash covers every own buy with the largest fee it can cost."""
    if candidate.direction != Direction.BUY:
        return None
    freeze_cents = buy_freeze_cents(candidate.price_cents, candidate.quantity, standing.taker_fee_bps)
    fits = standing.buy_committed_cents + freeze_cents <= standing.cash_cents
    return None if fits else LocalReject.CASH


def within_rate(_: Candidate, standing: Standing) -> LocalReject | None:
    """C10: the venue's rate limit has room. Last, because only an order that goes out may use it."""
    return None if standing.tokens > 0 else LocalReject.RATE_LIMIT


CHECKS: Final = (
    not_killed,
    from_current_worker,
    admitted,
    price_in_range,
    size_in_limits,
    few_enough_orders,
    not_self_crossing,
    not_overselling,
    paid_for,
    within_rate,
)


def first_refusal(candidate: Candidate, standing: Standing) -> LocalReject | None:
    """The reason of the first check that objects, or None: the order may go out."""
    for check in CHECKS:
        reason = check(candidate, standing)
        if reason is not None:
            return reason
    return None
