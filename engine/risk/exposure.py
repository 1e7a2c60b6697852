"""What a market can lose, and what its orders may still take (reliability page §1, C8, C9). Pure integers.

"Worst loss" of buying q YES at p is q*p cents, of selling them q*(100-p); in YES terms the same holds for the
synthetic orders, because BUY NO is a sale of YES and SELL NO a purchase.
"""

from __future__ import annotations

from msgspec import Struct

from engine.events import Side
from engine.quoting.effects import PAIR_CENTS
from engine.quoting.inventory import Stock


class Commitment(Struct, frozen=True, kw_only=True, gc=False):
    """What a market holds of the account, with every live and unknown order counted as filled."""

    frozen_cents: int = 0  # by BUY orders
    worst_loss_cents: int = 0


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
