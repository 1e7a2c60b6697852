"""The last checks of ``native/pretrade.c`` in unbounded integers: what the kernel is held against."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from engine._native import lib
from engine.config import RiskConfig
from engine.events import DefenseLevel, Direction, Gate, LocalReject, MarketStatus, Outcome, Side, Stale
from engine.quoting.effects import PAIR_CENTS
from engine.quoting.funding import book_price_cents, book_side
from engine.quoting.inventory import Stock, buy_freeze_cents

INTENT_AGE_NS_MAX: Final = 1_000_000_000  # an older decision was made on a book that is gone

#: Gates under which a quoter decides on no order; ORACLE_GAP leaves one side open (market-making §5.3).
CLOSED_GATES: Final = ~int(Gate.ORACLE_GAP)


class Candidate(Struct, frozen=True, kw_only=True, gc=False):
    """A new order, alone or as the second half of a replace, and what it was decided on."""

    outcome: Outcome
    direction: Direction
    price_cents: int  # user view
    quantity: int
    decided_mono_ns: int
    fair_cents: int = 0  # fair price it was decided at; 0 = none
    level: int = int(DefenseLevel.NORMAL)
    gates: int = 0

    @property
    def side(self) -> Side:
        return book_side(self.outcome, self.direction)

    @property
    def book_price_cents(self) -> int:
        return book_price_cents(self.outcome, self.price_cents)

    @property
    def one_side(self) -> bool:
        """Decided in ONE_SIDE: only what reduces, and that may take (market-making §3.6, D8)."""
        return self.level == DefenseLevel.ONE_SIDE


class Standing(Struct, frozen=True, kw_only=True, gc=False):
    """The gateway's own counts. Live, in-flight and unknown orders all count as live.

    The order a replace takes away is left out of ``own_*``, ``*_orders``, ``side_*`` and ``*_committed*``.
    """

    now_mono_ns: int
    kill_word: int  # KILL_* bits in force, market's and global
    epoch_current: bool  # the intent's worker epoch is the one in force
    admitting: bool  # gateway recovered, market funded, no sweep under way
    status: MarketStatus
    stale: Stale  # what is too old to send anything on
    clock_offset_ms: int  # proven difference of the venue's clock and ours
    min_price_cents: int  # the market's limits
    max_price_cents: int
    order_quantity_max: int
    order_amount_max_cents: int
    taker_fee_bps: int
    collar_cents: int  # furthest from fair, and from the foreign mid
    position_limit: int  # shares of one outcome
    loss_limit_cents: int
    engine_loss_limit_cents: int
    own_bid_cents: int  # best own bid on the YES book, 0 = none
    own_ask_cents: int  # best own ask, 100 = none
    foreign_bid_cents: int  # best foreign bid, 0 = none known
    foreign_ask_cents: int  # best foreign ask, 100 = none known
    side_orders: int  # own orders on the candidate's book side
    market_orders: int
    engine_orders: int
    alike_unacked: int  # own orders of its outcome, direction, price and size without an answer
    stock: Stock
    side_shares: int  # of own orders on the candidate's book side
    worst_loss_cents: int  # of the shares held and the own orders on its side
    other_loss_cents: int  # of all other markets
    sell_committed: int  # shares of its outcome that other sells may still take
    buy_committed: int  # shares of its outcome that other buys may still add
    buy_committed_cents: int  # freezes of other buys of this market
    other_frozen_cents: int  # of all other markets
    account_cents: int  # the account's cash by the venue, free and frozen; 0 = not known
    market_tokens: int  # orders this market may send now
    tokens: int  # requests the rate limit allows now
    reserved_tokens: int  # of them kept for cancels

    def volume(self, outcome: Outcome) -> int:
        return self.stock.yes_volume if outcome == Outcome.YES else self.stock.no_volume


class Limits(Struct, frozen=True, kw_only=True, gc=False):
    """The part of :class:`RiskConfig` that single orders are held against."""

    order_quantity_max: int
    order_loss_max_cents: int
    side_orders_max: int
    market_orders_max: int
    engine_orders_max: int
    unacked_alike_max: int
    cash_share_percent: int
    clock_stop_ms: int

    @classmethod
    def of(cls, risk: RiskConfig) -> Limits:
        return cls(**{name: getattr(risk, name) for name in cls.__struct_fields__})


def order_loss_cents(side: Side, book_price_cents: int, quantity: int) -> int:
    """Most that one order can lose once it is filled."""
    price_cents = book_price_cents if side is Side.BID else PAIR_CENTS - book_price_cents
    return price_cents * quantity


def stock_loss_cents(stock: Stock) -> int:
    """What is lost of the shares' cost when the outcome held more of comes to nothing."""
    cost_cents = stock.yes_cost_sum_cents + stock.no_cost_sum_cents
    return max(0, cost_cents - PAIR_CENTS * min(stock.yes_volume, stock.no_volume))


def increases(stock: Stock, side: Side, shares: int) -> bool:
    """Whether ``shares`` more on a book side leave the market further from balance than it is."""
    net = stock.yes_volume - stock.no_volume
    after = net + shares if side is Side.BID else net - shares
    return abs(after) > abs(net)


def not_killed(_: Candidate, standing: Standing, __: Limits) -> LocalReject | None:
    """C1: no kill word, market's or global, is raised. A pause is one that ends by itself."""
    if standing.kill_word == 0:
        return None
    return LocalReject.PAUSED if standing.kill_word == lib.KILL_PAUSE else LocalReject.KILLED


def from_current_worker(_: Candidate, standing: Standing, __: Limits) -> LocalReject | None:
    """I9: the intent comes from the worker that is in office."""
    return None if standing.epoch_current else LocalReject.STALE_EPOCH


def admitted(candidate: Candidate, standing: Standing, _: Limits) -> LocalReject | None:
    """C2: gateway RUNNING, market ACTIVE, and a decision recent enough to stand for the present."""
    age_ns = standing.now_mono_ns - candidate.decided_mono_ns
    ready = standing.admitting and standing.status == MarketStatus.ACTIVE and 0 <= age_ns <= INTENT_AGE_NS_MAX
    return None if ready else LocalReject.NOT_READY


def ungated(candidate: Candidate, _: Standing, __: Limits) -> LocalReject | None:
    """C2, I5: its own worker was not forbidden to send it when it decided."""
    shut = candidate.gates & CLOSED_GATES or candidate.level == DefenseLevel.KILL_SWITCH
    return LocalReject.GATED if shut else None


def fresh(_: Candidate, standing: Standing, __: Limits) -> LocalReject | None:
    """C14: book, worker and reconciliation are recent."""
    return LocalReject.STALE if standing.stale else None


def clocks_agree(_: Candidate, standing: Standing, limits: Limits) -> LocalReject | None:
    """C17: times that the venue and we name mean about the same."""
    return LocalReject.CLOCK if standing.clock_offset_ms > limits.clock_stop_ms else None


def price_in_range(candidate: Candidate, standing: Standing, _: Limits) -> LocalReject | None:
    """C4, E2: 1..99, and the market's own limits."""
    lowest = max(1, standing.min_price_cents)
    highest = min(99, standing.max_price_cents)
    return None if lowest <= candidate.price_cents <= highest else LocalReject.PRICE_RANGE


def near_fair(candidate: Candidate, standing: Standing, _: Limits) -> LocalReject | None:
    """C4: within the collar around the fair price it was decided at; no fair price is no reference."""
    known = 0 < candidate.fair_cents < PAIR_CENTS
    distance = abs(candidate.book_price_cents - candidate.fair_cents)
    return None if known and distance <= standing.collar_cents else LocalReject.COLLAR


def near_foreign_mid(candidate: Candidate, standing: Standing, _: Limits) -> LocalReject | None:
    """C4: within the collar around the middle of the foreign book, where it has both sides."""
    bid, ask = standing.foreign_bid_cents, standing.foreign_ask_cents
    if bid <= 0 or ask >= PAIR_CENTS:
        return None
    twice_distance = abs(2 * candidate.book_price_cents - bid - ask)
    return None if twice_distance <= 2 * standing.collar_cents else LocalReject.COLLAR


def size_in_limits(candidate: Candidate, standing: Standing, limits: Limits) -> LocalReject | None:
    """C6: the largest order, by quantity, by amount, and by what it can lose."""
    amount_cents = candidate.price_cents * candidate.quantity
    loss_cents = order_loss_cents(candidate.side, candidate.book_price_cents, candidate.quantity)
    fits = (
        0 < candidate.quantity <= min(standing.order_quantity_max, limits.order_quantity_max)
        and amount_cents <= standing.order_amount_max_cents
        and loss_cents <= limits.order_loss_max_cents
    )
    return None if fits else LocalReject.LIMIT


def few_enough_orders(_: Candidate, standing: Standing, limits: Limits) -> LocalReject | None:
    """C7: live orders by side, market and engine."""
    fits = (
        standing.side_orders < limits.side_orders_max
        and standing.market_orders < limits.market_orders_max
        and standing.engine_orders < limits.engine_orders_max
    )
    return None if fits else LocalReject.LIMIT


def not_self_crossing(candidate: Candidate, standing: Standing, _: Limits) -> LocalReject | None:
    """C5, E1: own bids below own asks."""
    price_cents = candidate.book_price_cents
    if candidate.side == Side.BID:
        return None if price_cents < standing.own_ask_cents else LocalReject.SELF_CROSS
    return None if price_cents > standing.own_bid_cents else LocalReject.SELF_CROSS


def reducing_in_one_side(candidate: Candidate, standing: Standing, _: Limits) -> LocalReject | None:
    """C2, D8: in ONE_SIDE only a sale of what is held more of."""
    if not candidate.one_side:
        return None
    return None if _reduces(candidate, standing) else LocalReject.POSITION


def post_only(candidate: Candidate, standing: Standing, _: Limits) -> LocalReject | None:
    """C5: below the best foreign ask, above the best foreign bid; the reducing side in ONE_SIDE may take."""
    if candidate.one_side and _reduces(candidate, standing):
        return None
    price_cents = candidate.book_price_cents
    if candidate.side == Side.BID:
        return None if price_cents < standing.foreign_ask_cents else LocalReject.POST_ONLY
    return None if price_cents > standing.foreign_bid_cents else LocalReject.POST_ONLY


def _reduces(candidate: Candidate, standing: Standing) -> bool:
    """A sale of the outcome that more is held of, by the gateway's own count."""
    other = Outcome.NO if candidate.outcome == Outcome.YES else Outcome.YES
    heavier = standing.volume(candidate.outcome) > standing.volume(other)
    return heavier and candidate.direction == Direction.SELL


def not_a_duplicate(_: Candidate, standing: Standing, limits: Limits) -> LocalReject | None:
    """C11: no order of the same side, price and size is still without an answer."""
    return None if standing.alike_unacked < limits.unacked_alike_max else LocalReject.DUPLICATE


def not_overselling(candidate: Candidate, standing: Standing, _: Limits) -> LocalReject | None:
    """E2: what own sells may still take of an outcome is held."""
    if candidate.direction != Direction.SELL:
        return None
    fits = standing.sell_committed + candidate.quantity <= standing.volume(candidate.outcome)
    return None if fits else LocalReject.OVERSELL


def position_in_limits(candidate: Candidate, standing: Standing, _: Limits) -> LocalReject | None:
    """C8: with every live and unknown order filled, position and worst loss stay within their limits.

    Only what leads further from balance is held back.
    """
    shares = standing.side_shares + candidate.quantity
    if not increases(standing.stock, candidate.side, shares):
        return None
    held = standing.volume(candidate.outcome) + standing.buy_committed + candidate.quantity
    loss_cents = standing.worst_loss_cents + order_loss_cents(
        candidate.side, candidate.book_price_cents, candidate.quantity
    )
    fits = (
        (candidate.direction == Direction.SELL or held <= standing.position_limit)
        and loss_cents <= standing.loss_limit_cents
        and loss_cents + standing.other_loss_cents <= standing.engine_loss_limit_cents
    )
    return None if fits else LocalReject.POSITION


def paid_for(candidate: Candidate, standing: Standing, limits: Limits) -> LocalReject | None:
    """C9: own cash covers every own buy with the largest fee it can cost, and a share of the account all."""
    if candidate.direction != Direction.BUY:
        return None
    freeze_cents = standing.buy_committed_cents + buy_freeze_cents(
        candidate.price_cents, candidate.quantity, standing.taker_fee_bps
    )
    all_cents = freeze_cents + standing.other_frozen_cents
    fits = (
        freeze_cents <= standing.stock.cash_cents
        and 100 * all_cents <= limits.cash_share_percent * standing.account_cents
    )
    return None if fits else LocalReject.CASH


def within_rate(_: Candidate, standing: Standing, __: Limits) -> LocalReject | None:
    """C10: market and account have room, beyond what is kept for cancels. Last, because only an order that
    goes out may use it."""
    fits = standing.market_tokens > 0 and standing.tokens > standing.reserved_tokens
    return None if fits else LocalReject.RATE_LIMIT


CHECKS: Final = (
    not_killed,
    from_current_worker,
    admitted,
    ungated,
    fresh,
    clocks_agree,
    price_in_range,
    size_in_limits,
    near_fair,
    near_foreign_mid,
    few_enough_orders,
    not_self_crossing,
    reducing_in_one_side,
    post_only,
    not_a_duplicate,
    not_overselling,
    position_in_limits,
    paid_for,
    within_rate,
)


def first_refusal(candidate: Candidate, standing: Standing, limits: Limits) -> LocalReject | None:
    """The reason of the first check that objects, or None: the order may go out."""
    for check in CHECKS:
        reason = check(candidate, standing, limits)
        if reason is not None:
            return reason
    return None
