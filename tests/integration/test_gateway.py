"""The gateway as a process: a real exchange on one side, a quoter's rings on the other."""

from __future__ import annotations

import signal
import socket
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine._native import lib
from engine.arena import cell
from engine.events import (
    Direction,
    ExecutionKind,
    GatewayCounter,
    LocalReject,
    MarketStatus,
    OrderKind,
    Outcome,
)
from tests.integration.gateway_rig import (
    AMM,
    MARKET,
    OTHER_MARKET,
    PATIENT,
    Exchange,
    GatewayRig,
    Quoter,
    books_agree,
)
from tests.integration.worker_rig import PASSWORD, until

YES, NO = Outcome.YES, Outcome.NO
BUY, SELL = Direction.BUY, Direction.SELL
FUNDING_CENTS = 500_000
PAIRS = 2_500


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, exchange: Exchange) -> Iterator[GatewayRig]:
    made = GatewayRig(
        tmp_path_factory.mktemp("rig"),
        exchange.url,
        risk=PATIENT,
        quote={"position_limit": 25_000},
    )
    made.start_gateway()
    yield made
    made.close()


@pytest.fixture
def quoter(rig: GatewayRig) -> Iterator[Quoter]:
    """The shared gateway's quoter, with no order live and nothing told yet."""
    quoter = rig.quoters[0]
    yield quoter
    quoter.ask(OrderKind.BATCH_CANCEL, scope=lib.SCOPE_ALL)
    until(lambda: not rig.live_rows(), "no order left by the test")
    quoter.sync()
    quoter.records.clear()


@pytest.fixture
def fresh_exchange(tmp_path: Path) -> Iterator[Exchange]:
    """An exchange of the test's own: two gateways on one account would take each other's orders off."""
    with Exchange(tmp_path) as started:
        yield started


@pytest.fixture
def fresh_rig(tmp_path: Path, fresh_exchange: Exchange) -> Iterator[GatewayRig]:
    made = GatewayRig(tmp_path, fresh_exchange.url, risk=PATIENT)
    yield made
    made.close()


# -- start


def test_a_first_start_funds_each_market_and_answers_sync(tmp_path: Path, fresh_exchange: Exchange) -> None:
    rig = GatewayRig(tmp_path, fresh_exchange.url, markets=(MARKET, OTHER_MARKET))
    try:
        rig.start_gateway()
        for slot, quoter in enumerate(rig.quoters):
            answer = quoter.sync()
            assert answer["cash"] == FUNDING_CENTS - 100 * PAIRS
            assert answer["position"]["yes_volume"] == answer["position"]["no_volume"] == PAIRS
            assert answer["position"]["yes_cost_cents"] == 50 * PAIRS
            assert answer["orders"] == []
            assert answer["status"] == MarketStatus.ACTIVE
            rules = quoter.of(ExecutionKind.MARKET_RULES)
            assert rules, "a SYNC brings the market's rules"
            assert rig.account(slot).funded == 1
            assert rig.account(slot).budget_cents == FUNDING_CENTS
        assert fresh_exchange.cash_cents() == rig.cash_cents()
    finally:
        rig.close()


def test_a_market_that_runs_already_is_not_funded_twice(
    tmp_path: Path, fresh_rig: GatewayRig, fresh_exchange: Exchange
) -> None:
    fresh_rig.start_gateway()
    funded = fresh_exchange.cash_cents()
    other_run = tmp_path / "another run"
    other_run.mkdir()
    second = GatewayRig(other_run, fresh_exchange.url)
    try:
        second.start_gateway()
        assert second.account().cash_cents == fresh_exchange.cash_cents() == funded
    finally:
        second.close()


def test_without_the_admin_route_it_deposits_and_mints(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path, admins=("operator",))
    rig = GatewayRig(tmp_path, exchange.url)
    try:
        rig.start_gateway()
        assert books_agree(rig, exchange)
        assert exchange.position()["yes"]["volume"] == PAIRS
        assert exchange.cash_cents() == FUNDING_CENTS - 100 * PAIRS
        kept = [path.name for path in (tmp_path / "facts").iterdir()]
        assert sorted(kept) == [f"{MARKET}.flows.json", "account.unallocated.json"], "no supply file"
    finally:
        rig.close()
        exchange.end()


def test_orders_of_an_earlier_life_are_taken_off_before_anything_else(
    fresh_rig: GatewayRig, fresh_exchange: Exchange
) -> None:
    if fresh_exchange.position()["yes"]["volume"] == 0:
        fresh_exchange.amm.post(
            "admin/amm/start",
            {"market_id": MARKET, "initial_budget_cents": FUNDING_CENTS, "initial_price_cents": 50},
        )
    for price in (60, 61, 62):
        fresh_exchange.amm.post(
            "orders",
            {
                "client_order_id": f"earlier-{price}-{fresh_rig.arena.epoch}",
                "market_id": MARKET,
                "side": "YES",
                "direction": "SELL",
                "price_cents": price,
                "quantity": 10,
            },
        )
    fresh_rig.start_gateway()
    assert fresh_exchange.live() == []


@pytest.mark.parametrize("case", ["netting", "password_mode", "no_password", "unknown_market"])
def test_an_account_that_cannot_quote_is_refused_in_one_line(
    tmp_path: Path, exchange: Exchange, case: str
) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o640 if case == "password_mode" else 0o600)
    venue = {"password_file": str(secret)}
    markets = [MARKET]
    if case == "netting":
        secret.write_text("Operator-of-the-tests-1")
        venue["username"] = "operator"
    elif case == "no_password":
        venue = {"password_env": "COREQUOTE_NOT_SET"}
    elif case == "unknown_market":
        markets = ["MKT-NOBODY-KNOWS"]
    rig = GatewayRig(tmp_path, exchange.url, markets=markets, **venue)
    try:
        process = rig.start("gateway", lib.PROCESS_GATEWAY)
        assert process.wait(20) == 78
        told = [line for line in (tmp_path / "gateway.log").read_text().splitlines() if line[0] != "{"]
        assert len(told) == 1
        expected = {
            "netting": "auto_netting_enabled",
            "password_mode": "0600",
            "no_password": "COREQUOTE_NOT_SET",
            "unknown_market": "MKT-NOBODY-KNOWS",
        }[case]
        assert expected in told[0]
        assert PASSWORD not in (tmp_path / "gateway.log").read_text()
    finally:
        rig.close()


# -- orders


@pytest.mark.parametrize(
    ("outcome", "direction", "price", "book_type"),
    [
        (YES, SELL, 60, "NATIVE_SELL"),
        (YES, BUY, 40, "NATIVE_BUY"),
        (NO, SELL, 60, "SYNTHETIC_BUY"),
        (NO, BUY, 40, "SYNTHETIC_SELL"),
    ],
)
def test_an_order_of_each_kind_is_placed_replaced_and_cancelled(
    rig: GatewayRig,
    quoter: Quoter,
    exchange: Exchange,
    outcome: Outcome,
    direction: Direction,
    price: int,
    book_type: str,
) -> None:
    acked = quoter.live(outcome, direction, price, 7)
    assert acked["remaining"] == acked["quantity"] == 7
    assert acked["price_cents"] == price
    assert acked["sent_mono_ns"] > 0
    (at_venue,) = exchange.live()
    assert at_venue["id"] == acked["venue_order_id"]
    assert at_venue["book_type"] == book_type
    assert at_venue["original_price_cents"] == price
    assert at_venue["client_order_id"].startswith(f"amm_{MARKET}_{outcome.name}_{direction.name}_")
    (row,) = rig.live_rows()
    assert row["state"] == lib.LIVE_ACTIVE
    assert row["client_order_id"] == at_venue["client_order_id"]

    intent = quoter.replace(acked, price + 1, 9)
    replaced = quoter.expect(ExecutionKind.ACKED, intent=intent)
    kinds = [record["kind"] for record in quoter.records if record["intent"] == intent]
    assert kinds == [ExecutionKind.CANCELLED, ExecutionKind.ACKED]
    (gone,) = quoter.of(ExecutionKind.CANCELLED, intent=intent)
    assert (gone["live_slot"], gone["quantity"]) == (acked["live_slot"], 7)
    (at_venue,) = exchange.live()
    assert (at_venue["id"], at_venue["quantity"]) == (replaced["venue_order_id"], 9)

    intent = quoter.cancel(replaced)
    gone = quoter.expect(ExecutionKind.CANCELLED, intent=intent)
    assert gone["quantity"] == 9
    assert exchange.live() == []
    assert rig.live_rows() == []


def test_a_batch_cancel_takes_the_orders_of_its_scope(
    rig: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    sells = [quoter.live(YES, SELL, 70 + level, 5) for level in range(3)]
    buy = quoter.live(YES, BUY, 30, 5)
    intent = quoter.ask(OrderKind.BATCH_CANCEL, scope=lib.SCOPE_SELL_ONLY)
    for order in sells:
        quoter.expect(ExecutionKind.CANCELLED, intent=intent, live_slot=order["live_slot"], quantity=5)
    assert [order["id"] for order in exchange.live()] == [buy["venue_order_id"]]
    intent = quoter.ask(OrderKind.BATCH_CANCEL, scope=lib.SCOPE_ALL)
    quoter.expect(ExecutionKind.CANCELLED, intent=intent, live_slot=buy["live_slot"])
    assert exchange.live() == []
    assert rig.live_rows() == []


def test_cancels_go_before_orders_of_the_same_drain(quoter: Quoter, exchange: Exchange) -> None:
    order = quoter.live(YES, SELL, 80, 5)
    placed = [quoter.place(YES, SELL, 81 + level, 5) for level in range(5)]
    cancelled = quoter.cancel(order)
    quoter.expect(ExecutionKind.CANCELLED, intent=cancelled)
    for intent in placed:
        quoter.expect(ExecutionKind.ACKED, intent=intent)
    assert len(exchange.live()) == 5


def test_an_intent_about_an_order_that_is_not_there_is_refused(quoter: Quoter) -> None:
    order = quoter.live(YES, SELL, 80, 5)
    assert quoter.refusal(quoter.cancel({**order, "venue_order_id": "other"})) == LocalReject.UNKNOWN_ORDER
    assert quoter.refusal(quoter.cancel({**order, "live_slot": 60})) == LocalReject.UNKNOWN_ORDER
    first, second = quoter.cancel(order), quoter.cancel(order)
    quoter.expect(ExecutionKind.CANCELLED, intent=first)
    assert quoter.refusal(second) in {LocalReject.NOT_READY, LocalReject.UNKNOWN_ORDER}


# -- fills


def test_fills_reach_the_quoter_with_fee_and_remainder(
    rig: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    trader = exchange.trader()
    order = quoter.live(YES, SELL, 54, 100)
    trader.buy(MARKET, "YES", 54, 30)
    fill = quoter.expect(ExecutionKind.FILL, venue_order_id=order["venue_order_id"])
    assert (fill["quantity"], fill["price_cents"], fill["fee_cents"]) == (30, 54, 2)
    assert fill["scenario"] == lib.SCENARIO_TRANSFER_YES
    assert fill["book_side"] == lib.ORDERBOOK_ASK
    assert fill["role"] == lib.ROLE_MAKER
    assert fill["live_slot"] == order["live_slot"]
    assert rig.live_rows()[0]["remaining"] == 70
    trader.buy(MARKET, "YES", 54, 70)
    filled = quoter.expect(ExecutionKind.FILLED, live_slot=order["live_slot"])
    assert filled["intent"] == order["intent"]
    assert rig.live_rows() == []
    assert len(quoter.of(ExecutionKind.FILL)) == 2
    assert books_agree(rig, exchange)


def test_a_taker_order_of_ours_is_filled_by_the_same_path(
    rig: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    trader = exchange.trader()
    trader.buy(MARKET, "NO", 45, 20)  # an ask at 55 on the YES book
    acked = quoter.live(YES, BUY, 55, 20)
    quoter.expect(ExecutionKind.FILLED, live_slot=acked["live_slot"])
    (fill,) = quoter.of(ExecutionKind.FILL)
    assert (fill["role"], fill["scenario"], fill["fee_cents"]) == (lib.ROLE_TAKER, lib.SCENARIO_MINT, 3)
    assert books_agree(rig, exchange)


def test_the_feeds_trade_count_brings_the_poll_forward(tmp_path: Path, fresh_exchange: Exchange) -> None:
    rig = GatewayRig(tmp_path, fresh_exchange.url, trade_poll_interval_ms=60_000)
    try:
        rig.start_gateway()
        quoter = rig.quoters[0]
        quoter.live(YES, SELL, 55, 10)
        fresh_exchange.trader().buy(MARKET, "YES", 55, 10)
        lib.cell_add(cell(rig.arena.market(0).top, "trade_count"), 1)
        lib.bell_ring(rig.arena.process(lib.PROCESS_GATEWAY), rig.gateway_bell)
        quoter.expect(ExecutionKind.FILLED)
    finally:
        rig.close()


def test_replacing_a_partly_filled_order_ends_it_and_makes_no_new_one(
    rig: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    order = quoter.live(YES, SELL, 56, 100)
    exchange.trader().buy(MARKET, "YES", 56, 30)
    quoter.expect(ExecutionKind.FILL, quantity=30)
    intent = quoter.replace(order, 57, 100)
    assert quoter.refusal(intent) == 6001
    (gone,) = quoter.of(ExecutionKind.CANCELLED, intent=intent)
    assert (gone["live_slot"], gone["quantity"]) == (order["live_slot"], 70)
    assert exchange.live() == []
    assert rig.live_rows() == []
    assert books_agree(rig, exchange)


def test_a_fill_nobody_has_told_of_yet_comes_before_the_cancel_it_preceded(
    tmp_path: Path, fresh_exchange: Exchange
) -> None:
    rig = GatewayRig(tmp_path, fresh_exchange.url, trade_poll_interval_ms=60_000)
    try:
        rig.start_gateway()
        quoter = rig.quoters[0]
        order = quoter.live(YES, SELL, 56, 100)
        fresh_exchange.trader().buy(MARKET, "YES", 56, 30)
        intent = quoter.cancel(order)
        gone = quoter.expect(ExecutionKind.CANCELLED, intent=intent)
        assert gone["quantity"] == 70
        kinds = [r["kind"] for r in quoter.records if r["live_slot"] == order["live_slot"]]
        assert kinds == [ExecutionKind.ACKED, ExecutionKind.FILL, ExecutionKind.CANCELLED]
        order = quoter.live(YES, SELL, 56, 10)
        fresh_exchange.trader().buy(MARKET, "YES", 56, 10)
        intent = quoter.cancel(order)
        assert quoter.refusal(intent) == 4006
        assert quoter.of(ExecutionKind.FILLED, venue_order_id=order["venue_order_id"])
        order = quoter.live(YES, SELL, 56, 10)
        fresh_exchange.trader().buy(MARKET, "YES", 56, 10)
        intent = quoter.replace(order, 57, 10)
        assert quoter.refusal(intent) == 6003
        assert quoter.of(ExecutionKind.FILLED, venue_order_id=order["venue_order_id"])
        assert books_agree(rig, fresh_exchange)
    finally:
        rig.close()


# -- the last hop


def test_what_may_not_go_out_is_refused_at_once(rig: GatewayRig, quoter: Quoter, exchange: Exchange) -> None:
    counted = rig.counter(GatewayCounter.REFUSED)
    quoter.live(YES, BUY, 45, 10)
    quoter.live(YES, SELL, 55, 10)
    refused = {
        "self cross, ask": (quoter.place(YES, SELL, 45, 1), LocalReject.SELF_CROSS),
        "self cross by the other outcome": (quoter.place(NO, SELL, 45, 1), LocalReject.SELF_CROSS),
        "price 0": (quoter.place(YES, BUY, 0, 1), LocalReject.PRICE_RANGE),
        "price 100": (quoter.place(YES, BUY, 100, 1), LocalReject.PRICE_RANGE),
        "quantity 0": (quoter.place(YES, BUY, 10, 0), LocalReject.LIMIT),
        "amount": (quoter.place(YES, BUY, 40, 25_001), LocalReject.LIMIT),
        "more than is held": (quoter.place(NO, SELL, 60, 9_999), LocalReject.OVERSELL),
        "more than the cash": (quoter.place(YES, BUY, 44, 9_999), LocalReject.CASH),
        "an old decision": (quoter.place(YES, BUY, 40, 1, decided_mono_ns=1), LocalReject.NOT_READY),
        "a decision of no time": (quoter.place(YES, BUY, 40, 1, decided_mono_ns=0), LocalReject.NOT_READY),
    }
    for what, (intent, code) in refused.items():
        assert quoter.refusal(intent) == code, what
    assert len(exchange.live()) == 2
    until(lambda: rig.counter(GatewayCounter.REFUSED) == counted + len(refused), "refusals counted")


def test_a_fenced_workers_intents_are_dropped_and_its_orders_pulled(
    rig: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    pulled = len(rig.logged("gateway", "market_pulled"))
    quoter.live(YES, SELL, 60, 10)
    quoter.raise_epoch()
    quoter.epoch -= 1
    stale = quoter.place(YES, SELL, 61, 10)
    quoter.epoch += 1
    until(lambda: not exchange.live(), "orders of the fenced worker pulled")
    until(lambda: not rig.live_rows(), "rows freed")
    until(lambda: len(rig.logged("gateway", "market_pulled")) > pulled, "pull finished")
    quoter.live(YES, SELL, 62, 10)
    assert not quoter.of(ExecutionKind.ACKED, ExecutionKind.REJECTED, intent=stale)
    assert [order["original_price_cents"] for order in exchange.live()] == [62]


@pytest.mark.parametrize("scope", ["market", "global"])
def test_a_kill_word_pulls_everything_and_lets_nothing_out(
    rig: GatewayRig, quoter: Quoter, exchange: Exchange, scope: str
) -> None:
    orders = [quoter.live(YES, SELL, 60 + level, 10) for level in range(4)]
    word = rig.arena.kill_global() if scope == "global" else rig.arena.kill_market(0)
    lib.cell_or(word, lib.KILL_ADMIN)
    lib.bell_ring(rig.arena.process(lib.PROCESS_GATEWAY), rig.gateway_bell)
    for order in orders:
        quoter.expect(ExecutionKind.CANCELLED, live_slot=order["live_slot"], quantity=10)
    assert exchange.live() == []
    assert quoter.refusal(quoter.place(YES, SELL, 60, 10)) == LocalReject.KILLED
    sweeps = rig.counter(GatewayCounter.SWEEPS)
    lib.cell_clear(word, lib.KILL_ADMIN)
    quoter.live(YES, SELL, 60, 10)
    assert rig.counter(GatewayCounter.SWEEPS) <= sweeps + 1, "one batch cancel per kill"


def test_no_order_leaves_while_the_market_is_not_active(
    rig: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    operator = exchange.operator()
    operator.post(f"admin/markets/{MARKET}/status", {"status": "SUSPENDED", "reason": "test"})
    try:
        quoter.expect(ExecutionKind.MARKET_STATUS, code=MarketStatus.SUSPENDED)
        assert quoter.refusal(quoter.place(YES, SELL, 60, 10)) == LocalReject.NOT_READY
    finally:
        operator.post(f"admin/markets/{MARKET}/status", {"status": "ACTIVE", "reason": "test"})
    quoter.expect(ExecutionKind.MARKET_STATUS, code=MarketStatus.ACTIVE)
    until(lambda: quoter.of(ExecutionKind.MARKET_STATUS)[-1]["code"] == MarketStatus.ACTIVE, "ACTIVE again")
    quoter.live(YES, SELL, 60, 10)


def test_rate_limits_hold_orders_back_and_never_cancels(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path, limits="jwt_mvp")
    rig = GatewayRig(tmp_path, exchange.url, order_rate_limit=30, trade_poll_interval_ms=60_000,
                     status_poll_interval_ms=5_000)  # fmt: skip
    try:
        process = rig.start_gateway()
        quoter = rig.quoters[0]
        intents = [quoter.place(YES, SELL, 60 + n, 1) for n in range(20)]
        answers = [quoter.expect(ExecutionKind.ACKED, ExecutionKind.REJECTED, intent=i) for i in intents]
        acked = [answer for answer in answers if answer["kind"] == ExecutionKind.ACKED]
        assert len(acked) == 9, "a third of the limit at once, a tenth of it kept for cancels"
        codes = {answer["code"] for answer in answers if answer["kind"] == ExecutionKind.REJECTED}
        assert codes == {LocalReject.RATE_LIMIT}
        for order in acked:
            quoter.expect(ExecutionKind.CANCELLED, intent=quoter.cancel(order))
        rig.kill_gateway(process)
        rig.start_gateway()
        assert quoter.refusal(quoter.place(YES, SELL, 60, 1)) == LocalReject.RATE_LIMIT, "no second burst"
    finally:
        rig.close()
        exchange.end()


# -- the venue's word


def test_a_stray_order_is_cancelled_and_one_lost_at_the_venue_is_told(
    rig: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    strays = rig.counter(GatewayCounter.STRAYS)
    ours = quoter.live(YES, SELL, 60, 10)
    exchange.amm.post(
        "orders",
        {
            "client_order_id": f"stray-{rig.arena.epoch}",
            "market_id": MARKET,
            "side": "YES",
            "direction": "SELL",
            "price_cents": 61,
            "quantity": 3,
        },
    )
    foreign_market = exchange.amm.post(
        "orders",
        {
            "client_order_id": f"other-{rig.arena.epoch}",
            "market_id": OTHER_MARKET,
            "side": "YES",
            "direction": "BUY",
            "price_cents": 1,
            "quantity": 1,
        },
    )
    until(lambda: rig.counter(GatewayCounter.STRAYS) > strays, "stray counted")
    until(lambda: len(exchange.live()) == 1, "stray cancelled")
    exchange.amm.post(f"orders/{ours['venue_order_id']}/cancel", {})
    gone = quoter.expect(ExecutionKind.CANCELLED, live_slot=ours["live_slot"])
    assert gone["intent"] == 0
    assert rig.logged("gateway", "unexpected_cancel")
    assert len(exchange.live(OTHER_MARKET)) == 1, "a market that is not ours is left alone"
    exchange.amm.post(f"orders/{foreign_market['order']['id']}/cancel", {})


def test_sync_while_orders_live_lists_them(quoter: Quoter, exchange: Exchange) -> None:
    orders = [quoter.live(YES, SELL, 60 + level, 10) for level in range(3)]
    exchange.trader().buy(MARKET, "YES", 60, 4)
    quoter.expect(ExecutionKind.FILL)
    answer = quoter.sync()
    listed = {order["live_slot"]: (order["venue_order_id"], order["remaining"]) for order in answer["orders"]}
    assert listed == {
        order["live_slot"]: (order["venue_order_id"], 6 if order["price_cents"] == 60 else 10)
        for order in orders
    }
    assert answer["cursor"] == quoter.of(ExecutionKind.FILL)[-1]["trade_id"]


# -- mint and burn


def test_mint_and_burn_are_booked_once_and_told(rig: GatewayRig, quoter: Quoter, exchange: Exchange) -> None:
    quoter.sync()
    before = exchange.position()["yes"]["volume"]
    minted = quoter.expect(ExecutionKind.MINTED, intent=quoter.ask(OrderKind.MINT, quantity=40))
    assert minted["yes_volume"] == before + 40
    burned = quoter.expect(ExecutionKind.BURNED, intent=quoter.ask(OrderKind.BURN, quantity=15))
    assert burned["yes_volume"] == before + 25
    position = exchange.position()
    assert (position["yes"]["volume"], position["yes"]["cost_sum_cents"]) == (
        burned["yes_volume"],
        burned["yes_cost_cents"],
    )
    assert quoter.refusal(quoter.ask(OrderKind.MINT, quantity=10**6)) == LocalReject.CASH
    assert quoter.refusal(quoter.ask(OrderKind.BURN, quantity=10**6)) == LocalReject.OVERSELL
    assert not quoter.of(ExecutionKind.FILL), "audit rows are no fills"
    assert books_agree(rig, exchange)


# -- death and end


def test_kill_9_loses_no_fill_and_leaves_no_order(fresh_rig: GatewayRig, fresh_exchange: Exchange) -> None:
    first = fresh_rig.start_gateway()
    quoter = fresh_rig.quoters[0]
    orders = [quoter.live(YES, SELL, 50 + level, 10) for level in range(3)]
    fresh_exchange.trader().buy(MARKET, "YES", 50, 4)
    quoter.expect(ExecutionKind.FILL)
    fresh_rig.kill_gateway(first)
    assert len(fresh_exchange.live()) == 3
    fresh_exchange.trader().buy(MARKET, "YES", 51, 12)
    fresh_rig.start_gateway()
    assert fresh_exchange.live() == []
    assert fresh_rig.live_rows() == []
    fills = quoter.of(ExecutionKind.FILL)
    by_order = {order["venue_order_id"]: 0 for order in orders}
    for fill in fills:
        by_order[fill["venue_order_id"]] += fill["quantity"]
    assert list(by_order.values()) == [10, 6, 0], "each fill once, those of the pause included"
    assert books_agree(fresh_rig, fresh_exchange)
    newer = quoter.live(YES, SELL, 60, 1)
    ids = [order["client_order_id"] for order in fresh_exchange.orders()]
    assert len(ids) == len(set(ids))
    assert newer["venue_order_id"]


@pytest.mark.parametrize("absence", ["stopped", "killed"])
def test_more_fills_than_can_be_walked_are_taken_from_the_ledger(
    fresh_rig: GatewayRig, fresh_exchange: Exchange, absence: str
) -> None:
    """Ten pages of a hundred are the bound of a walk back; the gateway misses more than that."""
    process = fresh_rig.start_gateway()
    quoter = fresh_rig.quoters[0]
    trader = fresh_exchange.trader()
    quoter.live(YES, SELL, 50, 1_500)
    trader.buy(MARKET, "YES", 50, 1)
    quoter.expect(ExecutionKind.FILL)
    if absence == "stopped":
        process.send_signal(signal.SIGSTOP)
    else:
        fresh_rig.kill_gateway(process)
    for _ in range(1_010):
        trader.buy(MARKET, "YES", 50, 1)
    if absence == "stopped":
        process.send_signal(signal.SIGCONT)
        until(lambda: fresh_rig.logged("gateway", "trade_cursor_lost"), "it knows that it does not know")
        until(lambda: quoter.of(ExecutionKind.SYNC_END), "the quoter is told anew")
    else:
        fresh_rig.start_gateway()
        assert fresh_rig.logged("gateway", "cursor_out_of_reach")
    assert fresh_exchange.live() == []
    assert books_agree(fresh_rig, fresh_exchange)
    assert fresh_exchange.position()["yes"]["volume"] == PAIRS - 1_011
    quoter.live(YES, SELL, 60, 5)
    trader.buy(MARKET, "YES", 60, 5)
    quoter.expect(ExecutionKind.FILL, quantity=5)
    assert books_agree(fresh_rig, fresh_exchange)


def test_sigterm_takes_everything_off_and_ends_well(fresh_rig: GatewayRig, fresh_exchange: Exchange) -> None:
    process = fresh_rig.start_gateway()
    quoter = fresh_rig.quoters[0]
    for level in range(5):
        quoter.live(YES, SELL, 60 + level, 10)
    fresh_exchange.trader().buy(MARKET, "YES", 60, 3)
    assert fresh_rig.stop_gateway(process) == 0
    assert fresh_exchange.live() == []
    assert fresh_rig.live_rows() == []
    assert sum(fill["quantity"] for fill in quoter.of(ExecutionKind.FILL)) == 3
    assert fresh_rig.cash_cents() == fresh_exchange.cash_cents()


def test_a_gateway_whose_place_was_taken_ends_itself(fresh_rig: GatewayRig) -> None:
    process = fresh_rig.start_gateway()
    lib.cell_add(cell(fresh_rig.arena.process(lib.PROCESS_GATEWAY), "epoch"), 1)
    assert process.wait(10) == 75


def test_it_waits_for_an_exchange_that_is_not_there_yet(tmp_path: Path, fresh_exchange: Exchange) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        rig = GatewayRig(tmp_path, f"http://127.0.0.1:{reserved.getsockname()[1]}")
        try:
            process = rig.start("gateway", lib.PROCESS_GATEWAY)
            until(lambda: len(rig.logged("gateway", "start_waits")) >= 2, "it tries again")
            assert process.poll() is None
            beat = rig.heartbeat_ns(lib.PROCESS_GATEWAY)
            until(lambda: rig.heartbeat_ns(lib.PROCESS_GATEWAY) > beat, "its heart beats meanwhile")
            assert rig.stop_gateway(process) == 0
        finally:
            rig.close()


def test_the_process_hides_its_memory(fresh_rig: GatewayRig) -> None:
    process = fresh_rig.start_gateway()
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
    command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert PASSWORD.encode() not in command


def test_nobody_else_reads_what_the_account_did(exchange: Exchange) -> None:
    """The rig's own claim: its reader is the market maker's account."""
    assert exchange.amm.get("account/balance")["user_id"].endswith("a000-000000000001")
    with pytest.raises(urllib.error.HTTPError):
        exchange.login(AMM, "wrong")
