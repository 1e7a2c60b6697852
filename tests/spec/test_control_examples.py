"""EX-14 to EX-17 of market-making §13 pass the gateway's controls unchanged: their defaults never bind first.

The ladder of each example is funded as the quoter funds it, then sent order by order past the last checks,
each order live when the next one asks, on the gateway's real account of a market.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engine._native import ffi, lib
from engine.config import QuoteConfig
from engine.events import DefenseLevel, LocalReject
from engine.quoting.funding import FundingRules
from engine.workers.gateway_market import GatewayMarket
from tests.reference import quote as reference
from tests.reference.kernel import CENTS
from tests.reference.ladder import DesiredOrder, Level
from tests.reference.ladder_kernel import fund
from tests.reference.orderbook import ReferenceBook, grid_prices
from tests.reference.quote import SIDE_ASK, Fair, Inputs
from tests.spec.test_prices import params
from tests.unit.books_rig import new_market, opened, sent, standing

pytestmark = pytest.mark.spec_examples

QUOTE = QuoteConfig()
Ladder = Sequence[tuple[int, int]]
BOTH = 3


def stocked(yes: int, no: int, cash_cents: int = 250_000) -> GatewayMarket:
    market = new_market()
    market.account.set_position(yes_volume=yes, yes_cost=50 * yes, no_volume=no, no_cost=50 * no)
    market.account.set_cash(cash_cents, cursor="", funded=True)
    return market


def refusals(
    market: GatewayMarket, bids: Ladder, asks: Ladder, *, fair: int = 50, level: DefenseLevel
) -> list[tuple[DesiredOrder, LocalReject]]:
    """What the controls refuse of a whole ladder; an order that passes is live for the next."""
    now = int(lib.mono_now_ns())
    orders = fund(
        bids=[Level(price_cents=price, quantity=size) for price, size in bids],
        asks=[Level(price_cents=price, quantity=size) for price, size in asks],
        stock=market.account.stock,
        rules=FundingRules(
            allow_buy=level != DefenseLevel.ONE_SIDE,
            cash_reserve_cents=0,
            position_limit=QUOTE.position_limit,
            taker_fee_bps=20,
            order_quantity_max=10_000,
            order_amount_max_cents=1_000_000,
        ),
    )
    assert len(orders) >= len(bids) + len(asks)
    found = []
    for desired in orders:
        order = opened(
            market,
            desired.outcome,
            desired.direction,
            desired.price_cents,
            desired.quantity,
            decided_mono_ns=now,
            basis_fair_cents=fair,
            basis_defense=level,
        )
        counts = standing(market, order, now)
        counts.stale = 0
        candidate = ffi.addressof(market.books.orders[order.slot], "candidate")
        code = lib.pretrade_refusal(candidate, counts, ffi.addressof(market.books.account.limits))
        if code:
            found.append((desired, LocalReject(code)))
        sent(market, order)
        market.orders.acknowledge(order, f"venue-{order.number}")
        market.order_tokens.take(now)
    return found


@pytest.mark.parametrize(
    ("yes", "no", "level", "multiplier", "discount"),
    [
        (900, 100, DefenseLevel.NORMAL, 1.0, 0),
        (905, 95, DefenseLevel.WIDEN, 1.65, 0),
        (1_850, 150, DefenseLevel.WIDEN, 2.25, 0),
        (1_900, 100, DefenseLevel.WIDEN, 3.0, 0),
        (1_901, 99, DefenseLevel.ONE_SIDE, 2.04, 0),
        (1_920, 80, DefenseLevel.ONE_SIDE, 2.8, 2),
        (1_950, 50, DefenseLevel.ONE_SIDE, 4.0, 5),
        (0, 0, DefenseLevel.NORMAL, 1.0, 0),
        (1_700, 300, DefenseLevel.NORMAL, 1.0, 0),  # EX-15's first
    ],
)
def test_ex_14_and_15(yes: int, no: int, level: DefenseLevel, multiplier: float, discount: int) -> None:
    one_side = level == DefenseLevel.ONE_SIDE
    seen = Inputs(
        trading_end_ms=720 * 3_600_000,
        yes_lots=yes,
        no_lots=no,
        spread_multiplier=multiplier,
        discount_cents=discount,
        sides=SIDE_ASK if one_side else BOTH,
        one_side=int(one_side),
    )
    fair = Fair(fair_price_cents=50, sigma_cents=3.0)
    reference.reservation(params(), seen, fair)
    target = reference.ladder(params(), ReferenceBook(grid_prices(CENTS)), seen, fair)
    assert target.asks
    assert refusals(stocked(yes, no), target.bids, target.asks, level=level) == []


def test_ex_16() -> None:
    asks = [(55, 25), (56, 30), (57, 35), (58, 40), (59, 45)]
    bids = [(45, 25), (44, 30), (43, 35), (42, 40), (41, 45)]
    assert refusals(stocked(2_500, 2_500), bids, asks, level=DefenseLevel.NORMAL) == []


@pytest.mark.parametrize("shares", [2_500, 0])
def test_ex_17(shares: int) -> None:
    """Also without a share: then the whole ladder is bought with cash."""
    asks = [(52, 100), (55, 70), (58, 49), (61, 34), (64, 24)]
    bids = [(48, 100), (45, 70), (43, 49), (41, 34), (39, 24)]
    assert refusals(stocked(shares, shares), bids, asks, level=DefenseLevel.NORMAL) == []
