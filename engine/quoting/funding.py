"""From a ladder of book prices and sizes to the user orders that pay for it (market-making §3.7, D7).

Inventory first, cash second: the ask side sells YES it holds and buys NO for the rest; the bid side
sells NO it holds and buys YES for the rest. ``buy_share_bp`` above 0 (funding_mode SPLIT) sets that share
of each level aside for the buy, so that all four kinds rest at once; what one kind cannot pay for falls to
the other. Sellable is the whole volume, because own resting orders are
re-planned with everything else. Integers only.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from engine.events import Direction, Outcome, Side
from engine.quoting.inventory import Stock, buy_freeze_cents
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


class FundingRules(Struct, frozen=True, kw_only=True):
    """Limits of one market and its configuration."""

    allow_buy: bool
    cash_reserve_cents: int
    position_limit: int  # shares per outcome, planned buys included
    taker_fee_bps: int
    order_quantity_max: int
    order_amount_max_cents: int
    buy_share_bp: int = 0  # of each level, basis points; 0 = inventory first


def book_price_cents(outcome: Outcome, price_cents: int) -> int:
    """User price -> YES price (§2.3 table)."""
    return price_cents if outcome == Outcome.YES else 100 - price_cents


def book_side(outcome: Outcome, direction: Direction) -> Side:
    """Side of the YES book an order rests on (§2.3 table)."""
    buys_yes = (outcome == Outcome.YES) == (direction == Direction.BUY)
    return Side.BID if buys_yes else Side.ASK


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
