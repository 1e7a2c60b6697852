"""The gateway's controls on the assembled process: refused, paused, pulled, released, latched.

Reliability page §1; the rules themselves, at their limits, are in tests/unit/test_risk_pretrade.py and
test_risk_controls.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from engine import kill_files
from engine._native import lib
from engine.alerts import Alert
from engine.config import market_json
from engine.events import DefenseLevel, Direction, ExecutionKind, GatewayCounter, LocalReject, Outcome
from tests.integration.gateway_rig import MARKET, Exchange, GatewayRig, Quoter, fault_at
from tests.integration.worker_rig import alerts, until, write_state

YES, NO = Outcome.YES, Outcome.NO
BUY, SELL = Direction.BUY, Direction.SELL
PAUSE_MS = 1_500
POSTED = {"methods": ["POST"]}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with Exchange(tmp_path_factory.mktemp("exchange"), faults=True) as started:
        yield started


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, exchange: Exchange) -> Iterator[GatewayRig]:
    """Defaults, but for what would make a test wait."""
    made = GatewayRig(
        tmp_path_factory.mktemp("rig"),
        exchange.url,
        risk={"pause_ms": PAUSE_MS, "side_fills_max": 4, "executions_kill_count": 2},
        request_timeout_ms=500,
    )
    made.start_gateway()
    yield made
    made.close()


@pytest.fixture
def quoter(rig: GatewayRig, exchange: Exchange) -> Iterator[Quoter]:
    yield rig.quoters[0]
    exchange.set_faults()
    rig.silent.clear()
    rows = (lib.PROCESS_INGEST, lib.PROCESS_QUOTER_FIRST)
    until(lambda: all(lib.mono_now_ns() - rig.heartbeat_ns(row) < 200_000_000 for row in rows), "alive again")
    rig.show_book()
    lib.cell_clear(rig.arena.kill_market(0), lib.KILL_ADMIN | lib.KILL_RISK)
    until(lambda: not rig.arena.killed(0), "no pause left")
    rig.quoters[0].ask(lib.ORDER_BATCH_CANCEL, scope=lib.SCOPE_ALL)
    until(lambda: not rig.live_rows(), "no order left by the test")
    rig.quoters[0].sync()
    rig.quoters[0].records.clear()


def is_paused(rig: GatewayRig) -> bool:
    return bool(rig.arena.killed(0) & lib.KILL_PAUSE)


def test_orders_far_from_fair_pause_the_market_which_then_goes_on(
    rig: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    before = alerts(rig.arena, lib.PROCESS_GATEWAY, Alert.CONTROL_PAUSE)
    quoter.live(YES, SELL, 60, 10)
    far = [quoter.place(YES, SELL, 96 + n % 3, n + 1) for n in range(5)]
    assert [quoter.refusal(intent) for intent in far] == [LocalReject.COLLAR] * 5
    until(lambda: is_paused(rig), "PAUSE in the kill word")
    assert quoter.refusal(quoter.place(YES, SELL, 61, 10)) == LocalReject.PAUSED
    until(lambda: not exchange.live(), "its orders are pulled")
    until(lambda: not is_paused(rig), "the pause ends by itself")
    until(lambda: not rig.live_rows(), "pulled")
    quoter.live(YES, SELL, 62, 10)
    assert alerts(rig.arena, lib.PROCESS_GATEWAY, Alert.CONTROL_PAUSE) == before + 1
    assert alerts(rig.arena, lib.PROCESS_GATEWAY, Alert.ORDER_REJECTED) >= 1, (
        "what a control refuses reaches the operator"
    )


def test_no_order_takes_a_foreign_one_but_the_reducing_side_in_one_side(
    rig: GatewayRig, quoter: Quoter
) -> None:
    rig.show_book(bid=(48, 10), ask=(52, 10))
    assert quoter.refusal(quoter.place(YES, BUY, 52, 1)) == LocalReject.POST_ONLY
    assert quoter.refusal(quoter.place(NO, BUY, 52, 1)) == LocalReject.POST_ONLY
    one_side = int(DefenseLevel.ONE_SIDE)
    balanced = quoter.place(YES, SELL, 48, 1, basis_defense=one_side)
    assert quoter.refusal(balanced) == LocalReject.POSITION, "balanced stock has no side that reduces"
    quoter.live(YES, BUY, 51, 1)


def test_the_same_order_again_before_an_answer_is_a_duplicate(quoter: Quoter, exchange: Exchange) -> None:
    slow = {"type": "delay", "moment": "after", "by": {"kind": "fixed", "ms": 300}}
    exchange.set_faults(fault_at("/orders", slow, match=POSTED))
    intents = [quoter.place(YES, SELL, 63, 7) for _ in range(2)]
    answers = [quoter.expect(ExecutionKind.ACKED, ExecutionKind.REJECTED, intent=each) for each in intents]
    assert [answer["code"] for answer in answers] == [0, LocalReject.DUPLICATE]


def put_in_force(rig: GatewayRig, version: int, **limits: int) -> None:
    """Hands a changed configuration over as the control process does, and waits until the gateway has it."""
    market = rig.config.markets[0]
    changed = structs.replace(market, quote=structs.replace(market.quote, **limits))
    rig.arena.write_config(0, version, market_json(changed))
    until(
        lambda: any(line["version"] == version for line in rig.logged("gateway", "config_applied")),
        f"version {version} in force",
    )


def test_a_limit_that_was_changed_holds_for_the_next_order(
    rig: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    """C8 and the collar of C4: limits of §10 with immediate effect, no restart, no help of the quoter."""
    held = exchange.position()["yes"]["volume"]
    put_in_force(rig, 2, position_limit=held + 9)
    assert quoter.refusal(quoter.place(YES, BUY, 40, 10)) == LocalReject.POSITION
    quoter.live(YES, BUY, 40, 9)
    assert quoter.refusal(quoter.place(YES, BUY, 39, 1)) == LocalReject.POSITION, "live orders count"
    quoter.live(YES, SELL, 60, 10)  # towards balance: never held back
    put_in_force(rig, 3, budget_limit_cents=10_000)
    assert quoter.refusal(quoter.place(YES, BUY, 38, 300)) == LocalReject.POSITION
    put_in_force(rig, 4, max_spread_cents=5)
    assert quoter.refusal(quoter.place(YES, BUY, 14, 1)) == LocalReject.COLLAR, "5 + 30 cents around 50"
    put_in_force(rig, 5)
    quoter.live(YES, BUY, 14, 1)
    quoter.live(YES, BUY, 38, 300)


def test_a_quoter_that_gives_no_sign_of_life_loses_its_orders(
    rig: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    quoter.live(YES, SELL, 60, 10)
    before = alerts(rig.arena, lib.PROCESS_GATEWAY, Alert.CONTROL_STALE)
    rig.silent.add(lib.PROCESS_QUOTER_FIRST)
    until(lambda: not exchange.live(), "pulled")
    until(lambda: quoter.refusal(quoter.place(YES, SELL, 60, 10)) == LocalReject.STALE, "refused by its name")
    assert alerts(rig.arena, lib.PROCESS_GATEWAY, Alert.CONTROL_STALE) > before


@pytest.mark.parametrize("how", ["invalid", "silent"])
def test_without_a_book_nothing_stays(rig: GatewayRig, quoter: Quoter, exchange: Exchange, how: str) -> None:
    quoter.live(YES, SELL, 60, 10)
    if how == "invalid":
        rig.show_book(valid=False)
    else:
        rig.silent.add(lib.PROCESS_INGEST)
    until(lambda: not exchange.live(), "pulled")
    until(lambda: quoter.refusal(quoter.place(YES, SELL, 60, 10)) == LocalReject.STALE, "refused by its name")


def test_a_new_generation_of_the_book_asks_for_the_venues_word(rig: GatewayRig, quoter: Quoter) -> None:
    quoter.read()
    rig.show_book(generation=7)
    quoter.expect(ExecutionKind.REJECTED, intent=0, code=int(LocalReject.RECONCILE))


def test_six_unknown_outcomes_pause(rig: GatewayRig, quoter: Quoter, exchange: Exchange) -> None:
    exchange.set_faults(fault_at("/orders", {"type": "drop_reply", "reset": True}, match=POSTED))
    for number in range(6):
        quoter.place(YES, SELL, 60 + number, 1)
    until(lambda: is_paused(rig), "paused")
    exchange.set_faults()
    until(lambda: not exchange.live() and not rig.live_rows(), "resolved and pulled")


def test_filled_too_often_too_fast_pauses_and_the_second_time_is_for_a_person(
    rig: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    trader = exchange.trader()
    for time in (1, 2):
        quoter.live(YES, SELL, 60, 50)
        for _ in range(4):
            trader.buy(MARKET, "YES", 60, 1)
        until(lambda: is_paused(rig), "paused by four fills on one side")
        until(lambda: not exchange.live(), "pulled")
        if time == 1:
            assert not rig.arena.killed(0) & lib.KILL_RISK
            until(lambda: not is_paused(rig), "released")
    until(lambda: rig.arena.killed(0) & lib.KILL_RISK, "killed")
    quoter.expect(ExecutionKind.REJECTED, intent=0, code=int(LocalReject.EXECUTIONS))


def await_look_at_losses(rig: GatewayRig) -> None:
    """The gateway looks once a second and publishes its counters after each look; the first rise may be of
    a look that was before."""
    for _ in range(2):
        before = rig.counter(GatewayCounter.REQUESTS)
        until(lambda before=before: rig.counter(GatewayCounter.REQUESTS) > before, "a look at the losses")


def test_a_loss_of_all_markets_together_is_latched_on_disk(
    rig: GatewayRig, quoter: Quoter, exchange: Exchange
) -> None:
    quoter.live(YES, SELL, 60, 10)
    write_state(rig.arena, 0, daily_pnl_cents=-50_000)
    await_look_at_losses(rig)
    assert not rig.arena.killed(0)
    put_in_force(rig, 6, max_loss_daily_cents=60_000)
    write_state(rig.arena, 0, daily_pnl_cents=-60_000)
    await_look_at_losses(rig)
    assert not rig.arena.killed(0)
    put_in_force(rig, 7)
    until(lambda: rig.arena.killed(0) & lib.KILL_ADMIN, "latched by the limit of now")
    assert "50000 cents" in kill_files.read(rig.run_dir)[MARKET].reason
    until(lambda: not exchange.live(), "pulled")
    assert alerts(rig.arena, lib.PROCESS_GATEWAY, Alert.LOSS_LATCH) == 1
    write_state(rig.arena, 0, daily_pnl_cents=0)
    await_look_at_losses(rig)
    assert rig.arena.killed(0) & lib.KILL_ADMIN, "a better figure lets nothing go on"


def test_a_pause_of_an_earlier_life_ends_with_it(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path)
    rig = GatewayRig(tmp_path, exchange.url)
    try:
        lib.cell_or(rig.arena.kill_market(0), lib.KILL_PAUSE)
        rig.start_gateway()
        rig.quoters[0].live(YES, SELL, 60, 10)
    finally:
        rig.close()
        exchange.end()
