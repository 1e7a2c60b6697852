"""Pairs into cash and back on a running engine (§8, §9): burns that are lost and refused, auto-merge and
auto-reinvest, and an operator's stop that outlives the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.events import Lifecycle, Phase
from tests.integration.gateway_rig import MARKET, MARKET_IDS, OTHER_MARKET, Exchange, fault_at
from tests.integration.lifecycle_rig import DEADLINE_S, LiveEngine, short_directory
from tests.integration.worker_rig import until

THIRD_MARKET = MARKET_IDS[2]
MERGED_LEFT_MAX = 500  # a fifth of the initial 2,500: below, pairs are minted again
THRESHOLD_CENTS = 300_000

#: Half of the start money is below the threshold, so that pairs are merged at once; volume 0 ends EXPLORATION
#: at once, so that they may be minted again a minute later.
_SUPPLY = f"""
auto_reinvest_threshold_cents = {THRESHOLD_CENTS}
qty_per_level = 10
[quote.exploration]
min_volume = 0
"""

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory of the test's own, as its exchange is."""
    with short_directory() as path:
        yield path


@pytest.fixture
def exchange(root: Path) -> Iterator[Exchange]:
    with Exchange(root, faults=True) as started:
        yield started


def entries(exchange: Exchange, market: str, kind: str) -> list[int]:
    """Amounts of the market's ledger rows of a kind, newest first."""
    found = exchange.amm.get(f"account/ledger?market_id={market}&limit=100")["items"]
    return [entry["amount_cents"] for entry in found if entry["entry_type"] == kind]


def test_a_merge_then_a_mint_a_minute_later_and_neither_is_profit(root: Path, exchange: Exchange) -> None:
    with LiveEngine(root, exchange, MARKET, quote=_SUPPLY).quoting(MARKET) as engine:
        (burned_cents,) = until(
            lambda: entries(exchange, MARKET, "BURN_REVENUE"), "the merge", deadline_s=DEADLINE_S
        )
        pairs = burned_cents // 100
        state = until(
            lambda: (s := engine.state(MARKET)) is not None and s.yes_volume == 2_500 - pairs and s,
            "the merge is booked",
            deadline_s=DEADLINE_S,
        )
        assert 0 < state.yes_volume < MERGED_LEFT_MAX
        assert (state.no_volume, state.daily_pnl_cents) == (state.yes_volume, 0)
        merged_ms = state.last_supply_ms
        engine.await_quotes(MARKET)
        mint_cents = until(
            lambda: entries(exchange, MARKET, "MINT_COST")[:-1], "the mint", deadline_s=DEADLINE_S + 60
        )
        assert len(mint_cents) == 1
        state = until(
            lambda: (s := engine.state(MARKET)) is not None and s.yes_volume >= 1_000 and s,
            "the mint is booked",
            deadline_s=DEADLINE_S,
        )
        assert state.last_supply_ms - merged_ms >= 60_000, "one operation a minute"
        assert (state.phase, state.daily_pnl_cents) == (Phase.STABILIZATION, 0)
        assert exchange.cash_cents() == THRESHOLD_CENTS + (250_000 + burned_cents - THRESHOLD_CENTS) % 100
        position = exchange.position(MARKET)
        assert position["yes"]["volume"] == position["no"]["volume"] == state.yes_volume == state.no_volume


def test_stopped_over_a_restart_and_wound_down_through_lost_and_refused_burns(
    root: Path, exchange: Exchange
) -> None:
    """Row 6: the flags are set after success only. D22: a refused burn holds to settlement."""
    markets = (MARKET, OTHER_MARKET, THIRD_MARKET)
    with LiveEngine(root, exchange, *markets).quoting(*markets) as engine:
        assert engine.call("/stop", market_id=THIRD_MARKET).code == 0
        assert engine.stop() == 0
        engine.start()
        engine.await_quotes(MARKET)
        engine.await_quotes(OTHER_MARKET)
        assert engine.await_lifecycle(THIRD_MARKET, Lifecycle.STOPPED).stopped
        assert exchange.live(THIRD_MARKET) == []

        lost = fault_at("/amm/burn", {"type": "drop_reply"}, times=1)
        exchange.set_faults(lost)
        operator = exchange.operator()
        wish = {"resolution_result": "YES", "settle_delay_ms": 600_000}
        operator.post(f"admin/markets/{MARKET}/resolve", wish)
        engine.await_lifecycle(MARKET, Lifecycle.STOPPED)
        assert entries(exchange, MARKET, "BURN_REVENUE") == [250_000], "burned once, asked twice"

        exchange.set_faults(fault_at("/amm/burn", {"type": "answer", "status": 422, "moment": "before"}))
        operator.post(f"admin/markets/{OTHER_MARKET}/resolve", wish)
        state = engine.await_lifecycle(OTHER_MARKET, Lifecycle.STOPPED)
        assert (state.yes_volume, state.no_volume) == (2_500, 2_500)
        assert entries(exchange, OTHER_MARKET, "BURN_REVENUE") == []

        exchange.set_faults()
        assert engine.call("/start", market_id=THIRD_MARKET).data["lifecycle"] == "RUNNING"
        engine.await_quotes(THIRD_MARKET)
