"""Requests whose outcome the gateway cannot know: lost, cut, late, garbled (market-making §6.3).

A proxy between gateway and exchange breaks single requests. Whatever it does, an intent ends in one order
or none, and shares and cash equal the exchange's to the cent.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine._native import lib
from engine.events import Direction, ExecutionKind, LocalReject, OrderKind, Outcome
from engine.workers.intent_journal import Closed, read_journal
from tests.faults.proxy import AMBIGUOUS, Fault, FaultProxy, pass_all
from tests.integration.gateway_rig import (
    MARKET,
    OTHER_MARKET,
    PATIENT,
    Exchange,
    GatewayRig,
    Quoter,
    books_agree,
)
from tests.integration.worker_rig import until

YES, NO = Outcome.YES, Outcome.NO
BUY, SELL = Direction.BUY, Direction.SELL
DEADLINE_MS = 300


@pytest.fixture(scope="module")
def proxy(exchange: Exchange) -> Iterator[FaultProxy]:
    with FaultProxy(exchange.port) as started:
        yield started


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, proxy: FaultProxy) -> Iterator[GatewayRig]:
    """One gateway for all tests that leave it alive."""
    made = GatewayRig(
        tmp_path_factory.mktemp("running"), proxy.url, risk=PATIENT, request_timeout_ms=DEADLINE_MS
    )
    made.start_gateway()
    yield made
    made.close()


@pytest.fixture
def quoter(running: GatewayRig, proxy: FaultProxy) -> Iterator[Quoter]:
    """Its quoter, with no order live and nothing told yet; the proxy breaks nothing."""
    yield running.quoters[0]
    proxy.rule = pass_all
    running.quoters[0].ask(OrderKind.BATCH_CANCEL, scope=lib.SCOPE_ALL)
    until(lambda: not running.live_rows(), "no order left by the test")
    running.quoters[0].sync()
    running.quoters[0].records.clear()


@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_a_place_without_an_answer_makes_one_order(
    running: GatewayRig, proxy: FaultProxy, quoter: Quoter, exchange: Exchange, fault: Fault
) -> None:
    proxy.fail_next("POST", "/orders", fault)
    intent = quoter.place(YES, SELL, 60, 7)
    unknown = quoter.expect(ExecutionKind.UNKNOWN, intent=intent)
    assert [row["state"] for row in running.live_rows()] != [lib.LIVE_ACTIVE]
    acked = quoter.expect(ExecutionKind.ACKED, intent=intent)
    assert acked["live_slot"] == unknown["live_slot"]
    (at_venue,) = exchange.live()
    assert at_venue["id"] == acked["venue_order_id"]
    assert books_agree(running, exchange)


@pytest.mark.parametrize(
    ("faults", "arrives"),
    [((Fault.LOSE_REPLY,) * 4, True), ((Fault.DROP_REQUEST,) * 4, False), ((Fault.UNAVAILABLE,) * 4, False)],
)
def test_when_every_resend_is_lost_the_list_of_orders_decides(
    proxy: FaultProxy, quoter: Quoter, exchange: Exchange, faults: tuple[Fault, ...], arrives: bool
) -> None:
    proxy.fail_next("POST", "/orders", *faults)
    intent = quoter.place(YES, SELL, 60, 7)
    answer = quoter.expect(ExecutionKind.ACKED, ExecutionKind.REJECTED, intent=intent)
    assert (answer["kind"] == ExecutionKind.ACKED) == arrives
    assert len(exchange.live()) == int(arrives)
    if not arrives:
        assert answer["code"] == LocalReject.NOT_READY


def test_an_unknown_order_counts_as_live(proxy: FaultProxy, quoter: Quoter, exchange: Exchange) -> None:
    held = exchange.position()["yes"]["volume"]
    proxy.fail_next("POST", "/orders", *(Fault.STALL_REQUEST,) * 4)
    unknown = quoter.place(YES, SELL, 60, held)
    quoter.expect(ExecutionKind.UNKNOWN, intent=unknown)
    assert quoter.refusal(quoter.place(YES, SELL, 61, 1)) == LocalReject.OVERSELL
    assert quoter.refusal(quoter.place(YES, BUY, 60, 1)) == LocalReject.SELF_CROSS
    quoter.expect(ExecutionKind.REJECTED, intent=unknown)
    quoter.live(YES, SELL, 61, 1)


@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_a_replace_without_an_answer_leaves_one_order(
    proxy: FaultProxy, running: GatewayRig, quoter: Quoter, exchange: Exchange, fault: Fault
) -> None:
    old = quoter.live(YES, SELL, 60, 7)
    proxy.fail_next("POST", "/amm/orders/replace", fault)
    intent = quoter.replace(old, 61, 8)
    quoter.expect(ExecutionKind.UNKNOWN, intent=intent)
    acked = quoter.expect(ExecutionKind.ACKED, intent=intent)
    quoter.expect(ExecutionKind.CANCELLED, intent=intent, live_slot=old["live_slot"])
    (at_venue,) = exchange.live()
    assert (at_venue["id"], at_venue["original_price_cents"]) == (acked["venue_order_id"], 61)
    assert len(running.live_rows()) == 1


@pytest.mark.parametrize(("fault", "happens"), [(Fault.LOSE_REPLY, True), (Fault.DROP_REQUEST, False)])
def test_a_replace_that_stays_without_an_answer_is_read_from_the_venue(
    proxy: FaultProxy, quoter: Quoter, exchange: Exchange, fault: Fault, happens: bool
) -> None:
    old = quoter.live(YES, SELL, 60, 7)
    proxy.fail_next("POST", "/amm/orders/replace", *(fault,) * 4)
    intent = quoter.replace(old, 61, 8)
    answer = quoter.expect(ExecutionKind.ACKED, ExecutionKind.REJECTED, intent=intent)
    (at_venue,) = exchange.live()
    if happens:
        assert answer["venue_order_id"] == at_venue["id"] != old["venue_order_id"]
    else:
        assert answer["kind"] == ExecutionKind.REJECTED
        assert at_venue["id"] == old["venue_order_id"]
        quoter.expect(ExecutionKind.CANCELLED, intent=quoter.cancel(old))


def test_a_lost_6001_is_found_out(
    proxy: FaultProxy, running: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    old = quoter.live(YES, SELL, 56, 100)
    exchange.trader().buy(MARKET, "YES", 56, 30)
    proxy.fail_next("POST", "/amm/orders/replace", Fault.LOSE_REPLY)
    intent = quoter.replace(old, 57, 100)
    assert quoter.refusal(intent) == 4006
    gone = quoter.expect(ExecutionKind.CANCELLED, intent=intent)
    assert (gone["live_slot"], gone["quantity"]) == (old["live_slot"], 70)
    assert sum(fill["quantity"] for fill in quoter.of(ExecutionKind.FILL)) == 30
    assert exchange.live() == []
    assert running.live_rows() == []


@pytest.mark.parametrize("fault", [*AMBIGUOUS, Fault.TOO_MANY, Fault.UNAVAILABLE])
def test_a_cancel_is_repeated_until_it_is_done(
    proxy: FaultProxy, running: GatewayRig, quoter: Quoter, exchange: Exchange, fault: Fault
) -> None:
    order = quoter.live(YES, SELL, 60, 7)
    proxy.fail_next("POST", "/cancel", fault, fault)
    gone = quoter.expect(ExecutionKind.CANCELLED, intent=quoter.cancel(order))
    assert gone["quantity"] == 7
    assert exchange.live() == []
    assert running.live_rows() == []


@pytest.mark.parametrize("fault", [*AMBIGUOUS, Fault.TOO_MANY, Fault.UNAVAILABLE])
def test_a_batch_cancel_is_repeated_until_the_list_is_empty(
    proxy: FaultProxy, running: GatewayRig, quoter: Quoter, exchange: Exchange, fault: Fault
) -> None:
    orders = [quoter.live(YES, SELL, 60 + level, 7) for level in range(3)]
    proxy.fail_next("POST", "/batch-cancel", fault, fault)
    quoter.ask(OrderKind.BATCH_CANCEL, scope=lib.SCOPE_ALL)
    for order in orders:
        quoter.expect(ExecutionKind.CANCELLED, live_slot=order["live_slot"], quantity=7)
    assert exchange.live() == []
    assert running.live_rows() == []


@pytest.mark.parametrize("kind", [OrderKind.MINT, OrderKind.BURN])
@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_a_mint_or_burn_without_an_answer_is_booked_once(
    proxy: FaultProxy, running: GatewayRig, quoter: Quoter, exchange: Exchange, kind: OrderKind, fault: Fault
) -> None:
    before = exchange.position()["yes"]["volume"]
    proxy.fail_next("POST", "/amm/mint" if kind == OrderKind.MINT else "/amm/burn", fault, fault)
    done = ExecutionKind.MINTED if kind == OrderKind.MINT else ExecutionKind.BURNED
    quoter.expect(done, intent=quoter.ask(kind, quantity=5))
    change = exchange.position()["yes"]["volume"] - before
    assert change == (5 if kind == OrderKind.MINT else -5)
    assert books_agree(running, exchange)


def test_a_kill_word_stops_resends(
    proxy: FaultProxy, running: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    before = len(exchange.orders())
    word = running.arena.kill_market(0)
    proxy.fail_next("POST", "/api/v1/orders", *(Fault.DROP_REQUEST,) * 2)
    intent = quoter.place(YES, SELL, 60, 7)
    quoter.expect(ExecutionKind.UNKNOWN, intent=intent)
    lib.cell_or(word, lib.KILL_ADMIN)
    try:
        assert quoter.refusal(intent) == LocalReject.NOT_READY
        assert len(exchange.orders()) == before, "an order was made under a kill word"
    finally:
        lib.cell_clear(word, lib.KILL_ADMIN)


def test_an_order_that_arrived_unnoticed_is_pulled_by_a_kill_word(
    proxy: FaultProxy, running: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    word = running.arena.kill_market(0)
    proxy.fail_next("POST", "/api/v1/orders", Fault.STALL_REPLY)
    intent = quoter.place(YES, SELL, 60, 7)
    until(lambda: len(exchange.live()) == 1, "order committed")
    lib.cell_or(word, lib.KILL_ADMIN)
    try:
        until(lambda: not exchange.live(), "pulled")
        quoter.expect(ExecutionKind.ACKED, intent=intent)
        until(lambda: not running.live_rows(), "rows freed")
    finally:
        lib.cell_clear(word, lib.KILL_ADMIN)


def test_a_token_the_venue_refuses_is_renewed_and_the_request_repeated(
    proxy: FaultProxy, quoter: Quoter, exchange: Exchange
) -> None:
    proxy.fail_next("POST", "/orders", Fault.UNAUTHORIZED)
    quoter.live(YES, SELL, 60, 7)
    assert len(exchange.live()) == 1


def test_a_venue_that_limits_us_gets_no_orders_until_it_says_so(
    proxy: FaultProxy, quoter: Quoter, exchange: Exchange
) -> None:
    order = quoter.live(YES, SELL, 70, 7)
    proxy.fail_next("POST", "/api/v1/orders", Fault.TOO_MANY)
    assert quoter.refusal(quoter.place(YES, SELL, 60, 7)) == 9001
    assert quoter.refusal(quoter.place(YES, SELL, 60, 7)) == LocalReject.RATE_LIMIT
    quoter.expect(ExecutionKind.CANCELLED, intent=quoter.cancel(order))

    def placed() -> bool:
        intent = quoter.place(YES, SELL, 60, 7)
        answer = quoter.expect(ExecutionKind.ACKED, ExecutionKind.REJECTED, intent=intent)
        return bool(answer["kind"] == ExecutionKind.ACKED)

    until(placed, "orders again after Retry-After")


def test_failed_readings_are_no_answers(
    proxy: FaultProxy, running: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    order = quoter.live(YES, SELL, 60, 7)
    exchange.trader().buy(MARKET, "YES", 60, 2)
    rng = random.Random(5)

    def rule(method: str, _path: str) -> Fault:
        return rng.choice(AMBIGUOUS) if method == "GET" and rng.random() < 0.3 else Fault.PASS

    proxy.rule = rule
    quoter.expect(ExecutionKind.FILL, quantity=2)
    answer = quoter.sync()
    assert [listed["venue_order_id"] for listed in answer["orders"]] == [order["venue_order_id"]]
    assert not quoter.of(ExecutionKind.CANCELLED)
    assert len(exchange.live()) == 1
    proxy.rule = pass_all
    assert books_agree(running, exchange)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_faults_double_nothing_and_lose_nothing(
    proxy: FaultProxy, running: GatewayRig, quoter: Quoter, exchange: Exchange, seed: int
) -> None:
    rng = random.Random(seed)
    trader = exchange.trader(deposit_cents=10_000_000)
    fault_rng = random.Random(seed + 1_000)

    def rule(_method: str, _path: str) -> Fault:
        return fault_rng.choice(AMBIGUOUS) if fault_rng.random() < 0.15 else Fault.PASS

    proxy.rule = rule
    asked: list[int] = []
    for _ in range(120):
        live = {r["live_slot"]: r for r in quoter.of(ExecutionKind.ACKED)}
        gone = quoter.of(ExecutionKind.CANCELLED, ExecutionKind.FILLED)
        for record in gone:
            live.pop(record["live_slot"], None)
        choice = rng.random()
        if choice < 0.5 or not live:
            asked.append(quoter.place(YES, SELL, rng.randint(55, 70), rng.randint(1, 20)))
        elif choice < 0.7:
            asked.append(quoter.replace(rng.choice(list(live.values())), rng.randint(55, 70), 10))
        elif choice < 0.85:
            asked.append(quoter.cancel(rng.choice(list(live.values()))))
        else:
            trader.buy(MARKET, "YES", rng.randint(54, 65), rng.randint(1, 15))
        time.sleep(0.01)
    proxy.rule = pass_all
    answers = (ExecutionKind.ACKED, ExecutionKind.REJECTED, ExecutionKind.CANCELLED, ExecutionKind.FILLED)
    for intent in asked:
        quoter.expect(*answers, intent=intent)
    assert books_agree(running, exchange)
    answer = quoter.sync()
    listed = {order["venue_order_id"]: order["remaining"] for order in answer["orders"]}
    assert listed == {order["id"]: order["remaining_quantity"] for order in exchange.live()}
    client_ids = Counter(order["client_order_id"] for order in exchange.orders())
    assert max(client_ids.values()) == 1
    acked = Counter(record["intent"] for record in quoter.of(ExecutionKind.ACKED))
    assert max(acked.values()) == 1
    legs = Counter((fill["trade_id"], fill["book_side"]) for fill in quoter.of(ExecutionKind.FILL))
    assert max(legs.values()) == 1
    assert not running.logged("gateway", "position_drift")
    assert not running.logged("gateway", "fills_missing")


# -- kill -9 with a request under way: an exchange and a gateway of the test's own


@pytest.fixture
def own_exchange(tmp_path: Path) -> Iterator[Exchange]:
    with Exchange(tmp_path) as started:
        yield started


@pytest.fixture
def own_proxy(own_exchange: Exchange) -> Iterator[FaultProxy]:
    with FaultProxy(own_exchange.port) as started:
        yield started


@pytest.fixture
def rig(tmp_path: Path, own_proxy: FaultProxy) -> Iterator[GatewayRig]:
    made = GatewayRig(tmp_path, own_proxy.url, risk=PATIENT, request_timeout_ms=DEADLINE_MS)
    yield made
    made.close()


def test_a_mint_under_way_at_kill_9_is_booked_once(
    own_proxy: FaultProxy, rig: GatewayRig, own_exchange: Exchange
) -> None:
    first = rig.start_gateway()
    before = own_exchange.position()["yes"]["volume"]
    own_proxy.fail_next("POST", "/amm/mint", Fault.STALL_REPLY)
    rig.quoters[0].ask(OrderKind.MINT, quantity=5)
    until(lambda: own_exchange.position()["yes"]["volume"] == before + 5, "mint committed")
    rig.kill_gateway(first)
    assert list((rig.run_dir / "facts").glob("*.supply.json"))
    rig.start_gateway()
    assert own_exchange.position()["yes"]["volume"] == before + 5
    assert list((rig.run_dir / "facts").glob("*.supply.json")) == []
    assert books_agree(rig, own_exchange)


def test_an_order_in_flight_at_kill_9_does_not_survive(
    own_proxy: FaultProxy, rig: GatewayRig, own_exchange: Exchange
) -> None:
    first = rig.start_gateway()
    own_proxy.fail_next("POST", "/orders", Fault.STALL_REPLY)
    rig.quoters[0].place(YES, SELL, 60, 7)
    until(lambda: len(own_exchange.live()) == 1, "order committed")
    (order,) = own_exchange.live()
    rig.kill_gateway(first)
    rig.start_gateway()
    assert own_exchange.live() == []
    assert rig.live_rows() == []
    assert books_agree(rig, own_exchange)
    (resolved,) = rig.logged("gateway", "left_over_resolved")  # it knew what it may have sent
    assert (resolved["client_id"], resolved["order"]) == (order["client_order_id"], order["id"])
    assert [line.id for line in read_journal(rig.run_dir) if isinstance(line, Closed)] == [
        order["client_order_id"]
    ]


@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_a_start_without_an_answer_funds_once(
    own_proxy: FaultProxy, rig: GatewayRig, own_exchange: Exchange, fault: Fault
) -> None:
    own_proxy.fail_next("POST", "/admin/amm/start", fault)
    rig.start_gateway()
    assert own_exchange.position()["yes"]["volume"] == 2_500
    assert own_exchange.cash_cents() == rig.cash_cents() == 250_000


def test_old_trades_are_not_applied_again_while_a_market_is_still_recovering(
    tmp_path: Path, own_proxy: FaultProxy, own_exchange: Exchange
) -> None:
    rig = GatewayRig(tmp_path, own_proxy.url, markets=(MARKET, OTHER_MARKET), request_timeout_ms=DEADLINE_MS)
    try:
        first = rig.start_gateway()
        trader = own_exchange.trader()
        for quoter, market in zip(rig.quoters, (MARKET, OTHER_MARKET), strict=True):
            quoter.live(YES, SELL, 55, 10)
            trader.buy(market, "YES", 55, 10)
            quoter.expect(ExecutionKind.FILLED)
        rig.kill_gateway(first)
        failures = iter(range(4))

        def rule(method: str, path: str) -> Fault:
            late = method == "GET" and "/trades" in path and OTHER_MARKET in path
            return Fault.UNAVAILABLE if late and next(failures, None) is not None else Fault.PASS

        own_proxy.rule = rule
        rig.start_gateway()
        assert next(failures, None) is None, "the second market was held back"
        assert books_agree(rig, own_exchange)
        for quoter in rig.quoters:
            assert len(quoter.of(ExecutionKind.FILL)) == 1
    finally:
        rig.close()
