"""A market's life on a running engine (§8): start, stop, winding down, suspension, money in and out.

Acceptance rows 6, 13, 16 and 21 of market-making §14 are here. Everything runs: supervisor, ingest, gateway,
quoters, writer, control, guard, Valkey, against the real exchange.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.events import KillCause, Lifecycle
from tests.integration.gateway_rig import MARKET, OTHER_MARKET, Exchange
from tests.integration.lifecycle_rig import DEADLINE_S, LiveEngine, set_status
from tests.integration.worker_rig import until

FUNDING_CENTS = 500_000
PAIRS = 2_500

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def engine(root: Path, exchange: Exchange) -> Iterator[LiveEngine]:
    """Two markets that quote; the tests run in the order they stand in, the last ones end a market."""
    markets = (MARKET, OTHER_MARKET)
    with LiveEngine(root, exchange, *markets).quoting(*markets) as engine:
        yield engine


def test_stop_start_fund_and_withdraw(engine: LiveEngine, exchange: Exchange) -> None:
    """One market's stop leaves the other's quotes alone (row 16); an operator's money is no profit."""
    before = {row["id"] for row in exchange.live(OTHER_MARKET)}
    answer = engine.call("/start", market_id=MARKET)
    assert (answer.code, answer.message) == (6007, f"{MARKET}: runs already")

    answer = engine.call("/stop", market_id=MARKET, stop_mode="GRACEFUL")
    assert (answer.code, answer.data["live_orders"]) == (0, 0), answer.message
    assert exchange.live(MARKET) == []
    state = engine.await_lifecycle(MARKET, Lifecycle.STOPPED)
    assert (state.yes_volume, state.no_volume, state.cash_cents) == (PAIRS, PAIRS, 250_000)
    assert before & {row["id"] for row in exchange.live(OTHER_MARKET)}, "the other market's orders stay"
    assert engine.is_in(OTHER_MARKET, Lifecycle.RUNNING)
    assert engine.call("/stop", market_id=MARKET).code == 6008

    assert engine.call("/fund", market_id=MARKET, amount_cents=70_000).code == 0
    assert exchange.cash_cents() == 2 * 250_000 + 70_000
    state = until(
        lambda: (s := engine.state(MARKET)) is not None and s.cash_cents == 320_000 and s,
        "the money is booked",
    )
    assert (state.net_flows_cents, state.daily_pnl_cents) == (70_000, 0)

    # 420,000 is more cash than there is: 1,000 pairs are burned for it
    answer = engine.call("/withdraw", market_id=MARKET, amount_cents=420_000)
    assert answer.code == 0, answer.message
    assert exchange.cash_cents() == 250_000
    assert exchange.position(MARKET)["yes"]["volume"] == PAIRS - 1_000
    state = until(
        lambda: (s := engine.state(MARKET)) is not None and s.cash_cents == 0 and s, "the burn is booked"
    )
    assert (state.yes_volume, state.no_volume) == (PAIRS - 1_000, PAIRS - 1_000)
    assert (state.net_flows_cents, state.daily_pnl_cents) == (70_000 - 420_000, 0)
    refused = engine.call("/withdraw", market_id=MARKET, amount_cents=150_100)
    assert refused.code == 2001, "1,500 pairs are worth 150,000"
    assert exchange.cash_cents() == 250_000

    assert engine.call("/fund", market_id=MARKET, amount_cents=350_000).code == 0
    started = engine.corequote("start", MARKET, "--reason", "again")
    assert (started.returncode, started.stdout) == (0, f"{MARKET}: running\n"), started.stderr
    engine.await_quotes(MARKET)
    stopped = engine.corequote("stop", MARKET, "--immediate", "--reason", "at once")
    assert (stopped.returncode, stopped.stdout) == (0, f"{MARKET}: stopped, 0 orders live\n"), stopped.stderr
    assert exchange.live(MARKET) == []
    assert engine.call("/start", market_id=MARKET, initial_price_cents=49).code == 422
    assert engine.call("/start", market_id="MKT-NO", initial_price_cents=49).code == 3001
    assert engine.call("/start", market_id=MARKET).data["lifecycle"] == "RUNNING"
    engine.await_quotes(MARKET)


def test_suspension_is_an_emergency_that_ends_with_it(engine: LiveEngine, exchange: Exchange) -> None:
    """Rows 16 and 21, D15: only the suspended market stops, and goes on by itself."""
    operator = exchange.operator()
    set_status(operator, MARKET, "SUSPENDED")
    state = engine.await_lifecycle(MARKET, Lifecycle.EMERGENCY)
    assert KillCause(state.kill_causes) == KillCause.MARKET_SUSPENDED
    until(lambda: not exchange.live(MARKET), "no order of the suspended market is live")
    assert engine.is_in(OTHER_MARKET, Lifecycle.RUNNING)
    engine.await_quotes(OTHER_MARKET)
    set_status(operator, MARKET, "ACTIVE")
    engine.await_lifecycle(MARKET, Lifecycle.RUNNING)
    engine.await_quotes(MARKET)


def test_resolution_winds_down_with_one_burn(engine: LiveEngine, exchange: Exchange) -> None:
    """Row 6: orders gone, one burn of every free pair, cash back, STOPPED; settlement later pays the rest."""
    cash_cents, pairs = exchange.cash_cents(), exchange.position(MARKET)["yes"]["volume"]
    operator = exchange.operator()
    operator.post(f"admin/markets/{MARKET}/resolve", {"resolution_result": "YES", "settle_delay_ms": 600_000})
    engine.await_lifecycle(MARKET, Lifecycle.STOPPED)
    assert exchange.live(MARKET) == []
    position = exchange.position(MARKET)
    assert (position["yes"]["volume"], position["no"]["volume"]) == (0, 0)
    assert exchange.cash_cents() == cash_cents + 100 * pairs
    burns = [
        entry
        for entry in exchange.amm.get(f"account/ledger?market_id={MARKET}&limit=100")["items"]
        if entry["entry_type"] == "BURN_REVENUE" and entry["amount_cents"] == 100 * pairs
    ]
    assert len(burns) == 1
    assert engine.is_in(OTHER_MARKET, Lifecycle.RUNNING)
    engine.await_quotes(OTHER_MARKET)
    assert engine.call("/start", market_id=MARKET).code == 3002


def test_settlement_stops_a_market_without_a_burn(engine: LiveEngine, exchange: Exchange) -> None:
    operator = exchange.operator()
    operator.post(f"admin/markets/{OTHER_MARKET}/resolve", {"resolution_result": "NO", "settle_delay_ms": 0})
    state = engine.await_lifecycle(OTHER_MARKET, Lifecycle.STOPPED)
    until(
        lambda: (s := engine.state(OTHER_MARKET)) is not None and s.cash_cents == FUNDING_CENTS and s,
        f"the payout is booked, not {state.cash_cents}",
        deadline_s=DEADLINE_S,
    )
    assert exchange.live(OTHER_MARKET) == []
