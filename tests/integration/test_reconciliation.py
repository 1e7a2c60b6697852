"""Reconciliation (market-making §7.5) with drift that somebody else causes: EX-30, and row 3 of §14.

The market maker's account mints and burns behind the engine's back: shares, cost sums and cash differ from
what the engine knows by exactly that, with every fill of one side known to the other.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine._native import lib
from engine.alerts import Alert
from engine.events import ExecutionKind, LocalReject
from tests.integration.gateway_rig import MARKET, OTHER_MARKET, Exchange, GatewayRig, books_agree
from tests.integration.lifecycle_rig import DEADLINE_S, LiveEngine, short_directory
from tests.integration.worker_rig import alerts, until

pytestmark = pytest.mark.timeout(400)


def behind_its_back(exchange: Exchange, pairs: int, market_id: str = MARKET) -> None:
    exchange.amm.post(
        "amm/mint" if pairs > 0 else "amm/burn",
        {"market_id": market_id, "quantity": abs(pairs), "idempotency_key": f"tests_{uuid.uuid4().hex}"},
    )


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    with Exchange(tmp_path) as started:
        yield started


@pytest.fixture
def rig(tmp_path: Path, exchange: Exchange) -> Iterator[GatewayRig]:
    made = GatewayRig(tmp_path, exchange.url, markets=(MARKET, OTHER_MARKET))
    yield made
    made.close()


def test_cash_within_tolerance_is_told_and_beyond_it_becomes_the_venues(
    rig: GatewayRig, exchange: Exchange
) -> None:
    """EX-30 for cash: 200 cents off warn, more is read anew from the ledger, in the market that it is."""
    rig.start_gateway()
    quoter = rig.quoters[0]
    before = quoter.sync()["cash"]
    behind_its_back(exchange, 2)
    quoter.sync()
    until(lambda: alerts(rig.arena, lib.PROCESS_GATEWAY, Alert.INVENTORY_DRIFT_WARNING), "told")
    assert quoter.sync()["cash"] == before
    behind_its_back(exchange, 1)
    quoter.sync()
    quoter.expect(ExecutionKind.REJECTED, intent=0, code=int(LocalReject.RECONCILE))
    assert quoter.sync()["cash"] == before - 300
    assert alerts(rig.arena, lib.PROCESS_GATEWAY, Alert.INVENTORY_DRIFT_CRITICAL) == 1
    assert books_agree(rig, exchange)


def test_what_changed_while_no_gateway_lived_is_found_before_any_order(
    rig: GatewayRig, exchange: Exchange
) -> None:
    first = rig.start_gateway()
    quoter = rig.quoters[1]
    before = quoter.sync()["cash"]
    rig.kill_gateway(first)
    behind_its_back(exchange, 3, OTHER_MARKET)
    rig.start_gateway()
    assert int(rig.account(1).cash_cents) == before - 300
    assert books_agree(rig, exchange)


def test_money_that_no_market_holds_is_no_markets_drift(rig: GatewayRig, exchange: Exchange) -> None:
    rig.start_gateway()
    before = [quoter.sync()["cash"] for quoter in rig.quoters]
    exchange.amm.post("account/deposit", {"amount_cents": 12_345})
    rig.quoters[0].sync()
    until(lambda: rig.logged("gateway", "unallocated_cash"), "seen")
    assert [quoter.sync()["cash"] for quoter in rig.quoters] == before
    assert not alerts(rig.arena, lib.PROCESS_GATEWAY, Alert.INVENTORY_DRIFT_CRITICAL)


def test_drift_in_a_running_engine_is_corrected_within_an_interval() -> None:
    """§14 row 3: three pairs appear, three vanish. Its books become the venue's, and it quotes on."""
    with short_directory() as root, Exchange(root) as exchange:
        engine = LiveEngine(root, exchange, MARKET, reconcile_interval_ms=2_000)
        row = lib.PROCESS_QUOTER_FIRST

        def agrees() -> bool:
            state, held = engine.state(MARKET), exchange.position()
            return state is not None and (
                state.yes_volume,
                state.no_volume,
                state.yes_cost_sum_cents,
                state.no_cost_sum_cents,
                state.cash_cents + state.frozen_cents,
            ) == (
                held["yes"]["volume"],
                held["no"]["volume"],
                held["yes"]["cost_sum_cents"],
                held["no"]["cost_sum_cents"],
                exchange.cash_cents(),
            )

        with engine.quoting(MARKET):
            assert agrees()
            behind_its_back(exchange, 3)
            until(agrees, "books rebuilt", deadline_s=DEADLINE_S)
            assert alerts(engine.arena, row, Alert.INVENTORY_DRIFT_CRITICAL)
            assert not alerts(engine.arena, row, Alert.INVENTORY_NETTING_OVERRIDE)
            behind_its_back(exchange, -4)
            until(agrees, "books rebuilt", deadline_s=DEADLINE_S)
            assert alerts(engine.arena, row, Alert.INVENTORY_NETTING_OVERRIDE), "both fell"
            engine.await_quotes(MARKET)
