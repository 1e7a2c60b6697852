"""One market's stock and money, as its single owner, the quoter, keeps them (market-making §2.2, §2.6).

Integers only: shares and cents. ``cash_cents`` here includes what the market's own BUY orders hold
frozen; free cash is derived, so a fill and an order release can never count the same cent twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from hashlib import blake2b
from typing import Protocol

from msgspec import Struct

from engine.events import Direction, Outcome, Scenario, Side
from engine.quoting.effects import PAIR_CENTS, cost_sum_after, fill_effect


class Stock(Struct, frozen=True, kw_only=True):
    """Volumes in shares, cost sums gross of fees in cents, cash in cents incl. own frozen cash."""

    yes_volume: int = 0
    no_volume: int = 0
    yes_cost_sum_cents: int = 0
    no_cost_sum_cents: int = 0
    cash_cents: int = 0


class Resting(Protocol):
    """An own order that is or may be live, as far as it holds collateral; price in user view."""

    outcome: Outcome
    direction: Direction
    price_cents: int
    remaining: int


class Frozen(Struct, frozen=True, kw_only=True):
    """What own orders hold: shares of each outcome and cents."""

    yes_volume: int
    no_volume: int
    cash_cents: int


def fee_cents(user_price_cents: int, quantity: int, fee_bps: int) -> int:
    """``(price * quantity * bps + 9999) // 10000`` (§2.6): always rounded up, 0 at 0 bps."""
    return (user_price_cents * quantity * fee_bps + 9_999) // 10_000


def buy_freeze_cents(price_cents: int, remaining: int, taker_fee_bps: int) -> int:
    """Cash a BUY order holds: ``T(r) = P*r + fee(P*r, taker)`` (platform §5.6)."""
    return price_cents * remaining + fee_cents(price_cents, remaining, taker_fee_bps)


def frozen_by(orders: Iterable[Resting], taker_fee_bps: int) -> Frozen:
    """Σ over live orders: SELL orders hold their shares, BUY orders their cash and the largest fee."""
    yes = no = cash = 0
    for order in orders:
        if order.direction == Direction.BUY:
            cash += buy_freeze_cents(order.price_cents, order.remaining, taker_fee_bps)
        elif order.outcome == Outcome.YES:
            yes += order.remaining
        else:
            no += order.remaining
    return Frozen(yes_volume=yes, no_volume=no, cash_cents=cash)


def free_pairs(stock: Stock, frozen: Frozen) -> int:
    """Pairs of shares that no own order holds; below zero when more is for sale than held."""
    return min(stock.yes_volume - frozen.yes_volume, stock.no_volume - frozen.no_volume)


def assets_cents(stock: Stock, fair_price_cents: int) -> int:
    """Assets at fair (§11 A3): own frozen cash counts, frozen shares are still ours."""
    return (
        stock.cash_cents
        + stock.yes_volume * fair_price_cents
        + stock.no_volume * (PAIR_CENTS - fair_price_cents)
    )


class AppliedTrades:
    """The trade legs already applied, oldest evicted first (§2.5 ProcessedEventSet).

    A leg's id is ``trade_id:B`` or ``trade_id:S``: a self-trade has two. Held are 128-bit digests, because
    100,000 of them take less than 10 MB whatever the venue's ids look like; a set with a queue of its own
    evicts at one price for ever, where a dict is searched for its oldest key past all evicted ones.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = capacity
        self._digests: set[int] = set()
        self._by_age: deque[int] = deque()

    def __contains__(self, leg: str) -> bool:
        return _digest(leg) in self._digests

    def __len__(self) -> int:
        return len(self._digests)

    def add(self, leg: str) -> bool:
        """The leg is applied. False for one that is in the set already; it keeps its age."""
        digest = _digest(leg)
        if digest in self._digests:
            return False
        self._digests.add(digest)
        self._by_age.append(digest)
        if len(self._by_age) > self._capacity:
            self._digests.remove(self._by_age.popleft())
        return True


def _digest(leg: str) -> int:
    return int.from_bytes(blake2b(leg.encode(), digest_size=16).digest())


class Leg(Struct, frozen=True, kw_only=True):
    """Our part of one trade; ``price_cents`` is the trade's YES price."""

    trade_id: str
    scenario: Scenario
    book_side: Side
    price_cents: int
    quantity: int
    fee_cents: int


def leg_id(trade_id: str, book_side: Side) -> str:
    """The id one leg of a trade is applied under."""
    return f"{trade_id}:{'B' if book_side == Side.BID else 'S'}"


def apply_trade(
    stock: Stock,
    *,
    scenario: Scenario,
    book_side: Side,
    price_cents: int,
    quantity: int,
    own_fee_cents: int,
) -> Stock:
    """The stock after one leg of ours (§2.6 table). ``price_cents`` is the trade's YES price."""
    effect = fill_effect(
        scenario=scenario,
        book_side=book_side,
        price_cents=price_cents,
        quantity=quantity,
        fee_cents=own_fee_cents,
    )
    return Stock(
        yes_volume=stock.yes_volume + effect.yes_volume,
        no_volume=stock.no_volume + effect.no_volume,
        yes_cost_sum_cents=cost_sum_after(
            volume=stock.yes_volume,
            cost_sum_cents=stock.yes_cost_sum_cents,
            change=effect.yes_volume,
            value_cents=effect.value_cents,
        ),
        no_cost_sum_cents=cost_sum_after(
            volume=stock.no_volume,
            cost_sum_cents=stock.no_cost_sum_cents,
            change=effect.no_volume,
            value_cents=effect.value_cents,
        ),
        cash_cents=stock.cash_cents + effect.cash_cents,
    )
