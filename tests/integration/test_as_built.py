"""The gateway on the as-built platform (platform §2.8): no mint, trades without order or role."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.events import Direction, ExecutionKind, OrderKind, Outcome
from tests.integration.gateway_rig import MARKET, Exchange, GatewayRig, Quoter
from tests.integration.worker_rig import until

YES, NO = Outcome.YES, Outcome.NO
BUY, SELL = Direction.BUY, Direction.SELL
FUNDING_CENTS = 500_000


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with Exchange(tmp_path_factory.mktemp("exchange"), dialect="as-built") as started:
        yield started


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, exchange: Exchange) -> Iterator[GatewayRig]:
    made = GatewayRig(tmp_path_factory.mktemp("rig"), exchange.url, quote={"netting_off_confirmed": True})
    made.start_gateway()
    yield made
    made.close()


@pytest.fixture
def quoter(rig: GatewayRig) -> Quoter:
    return rig.quoters[0]


def books_agree(rig: GatewayRig, exchange: Exchange) -> bool:
    """Shares, their cost and cash, by SYNC and by the exchange."""
    answer = rig.quoters[0].sync()
    at_venue: dict[str, Any] = exchange.position(MARKET)
    ours = answer["position"]
    return [ours[name] for name in ("yes_volume", "yes_cost_cents", "no_volume", "no_cost_cents")] == [
        at_venue[name] for name in ("yes_volume", "yes_cost_sum", "no_volume", "no_cost_sum")
    ] and answer["cash"] == exchange.cash_cents() == rig.cash_cents()


def test_the_day_of_an_order(rig: GatewayRig, exchange: Exchange, quoter: Quoter) -> None:
    """Funded without a mint; placed, replaced, filled as maker and as taker, cancelled; every book equal."""
    assert quoter.sync()["cash"] == FUNDING_CENTS == exchange.cash_cents()
    trader = exchange.trader()

    first = quoter.live(YES, BUY, 40, 100)
    intent = quoter.replace(first, 41, 120)
    order = quoter.expect(ExecutionKind.ACKED, intent=intent)
    quoter.expect(ExecutionKind.CANCELLED, intent=intent)
    assert [row["original_price_cents"] for row in exchange.live()] == [41]

    trader.buy(MARKET, "NO", 59, 50)  # a taker that buys NO pays nothing as-built, and a maker never does
    fill = quoter.expect(ExecutionKind.FILL, venue_order_id=order["venue_order_id"])
    assert (fill["quantity"], fill["fee_cents"]) == (50, 0)

    # refused with 6001 as-built, and nothing cancelled: the gateway does it itself
    refused = quoter.replace(order, 42, 100)
    assert quoter.refusal(refused) == 6001
    assert quoter.expect(ExecutionKind.CANCELLED, intent=refused)["remaining"] in {0, 70}
    until(lambda: not exchange.live(), "the rest is off the book")

    # sold as the maker, then as the taker, who pays
    asked = quoter.live(YES, SELL, 60, 20)
    trader.buy(MARKET, "YES", 60, 20)
    quoter.expect(ExecutionKind.FILLED, venue_order_id=asked["venue_order_id"])
    trader.buy(MARKET, "YES", 55, 10)
    taker = quoter.place(YES, SELL, 55, 10)
    acked = quoter.expect(ExecutionKind.ACKED, intent=taker)
    taken = quoter.expect(ExecutionKind.FILL, venue_order_id=acked["venue_order_id"])
    assert (taken["quantity"], taken["fee_cents"]) == (10, 2)

    resting = quoter.live(NO, BUY, 30, 10)
    quoter.expect(ExecutionKind.CANCELLED, intent=quoter.cancel(resting))
    assert exchange.live() == []
    until(lambda: books_agree(rig, exchange), "stock and cash equal")
    assert quoter.sync()["position"]["yes_volume"] == 20


def test_a_mint_is_given_up_and_costs_nothing(rig: GatewayRig, exchange: Exchange, quoter: Quoter) -> None:
    intent = quoter.ask(OrderKind.MINT, quantity=10)
    assert quoter.refusal(intent) == 500
    assert books_agree(rig, exchange)
