"""An operator at a running demo: limits change while it quotes, a market is killed and goes on again."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from engine import admin_client, config_state, config_view, rundir
from engine.cli import app
from engine.events import Kill, KillCause, Lifecycle
from engine.snapshot import MarketView, take
from tests.integration.test_demo import RunningDemo, StartDemo, wait_until
from tests.integration.test_demo import start_demo as start_demo  # noqa: PLC0414 - a fixture

MARKET = "MKT-DEMO-01"


@pytest.fixture
def demo(start_demo: StartDemo) -> RunningDemo:
    started = start_demo("--markets", "1", "--seconds", "600")
    wait_until(lambda: started.says("quoting 1/1"), "the market is quoted")
    wait_until((started.run_dir / rundir.ADMIN_SOCKET).exists, "the admin API")
    return started


def look(demo: RunningDemo) -> MarketView:
    return take(rundir.attach(demo.run_dir)).markets[0]


def state(demo: RunningDemo) -> Any:
    found = look(demo).state
    assert found is not None
    return found


def half_spread(demo: RunningDemo) -> float:
    return float(state(demo).half_spread_ask)


def corequote(demo: RunningDemo, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*words, "--run-dir", str(demo.run_dir)])
    return result.exit_code, result.output


@pytest.mark.timeout(300)
def test_hot_reload_kill_and_resume_while_it_quotes(demo: RunningDemo) -> None:
    # a valid change holds from the quoter's next cycle, and is known to have been taken up
    change = {"market_id": MARKET, "config": {"base_spread_cents": 8, "exploration": {"spread": 9}}}
    answer = admin_client.call(demo.run_dir, "PUT", "/config", change)
    version = answer.data["config_version"]
    wait_until(lambda: state(demo).config_version == version, "the quoter has taken it up")
    wait_until(lambda: half_spread(demo) > 6.0, "the quotes are wide")
    server = redis.Redis.from_url(rundir.read_info(demo.run_dir).redis_url, decode_responses=True)
    wait_until(
        lambda: server.hget(f"amm:engine:{MARKET}", "config_applied") == str(version), "config_applied"
    )

    # one bad value changes nothing, whatever else is in it, and says why
    bad = {"base_spread_cents": 1, "gamma_mid": "NaN", "config_version": version + 5}
    server.hset(f"amm:config:{MARKET}", mapping=bad)
    wait_until(lambda: bool(config_state.read_state(demo.run_dir).refused), "the refusal")
    view = config_view.collect(demo.run_dir, MARKET)
    assert view.refused is not None
    assert "gamma_mid='NaN'" in view.refused.reason
    assert (view.slot_version, view.market.quote.base_spread_cents) == (version, 8)
    assert state(demo).config_version == version
    assert "CONFIG_REJECTED" in corequote(demo, "status")[1]

    # killed: nothing live, latched; resumed: quoted again
    code, output = corequote(demo, "kill", MARKET, "--reason", "a test")
    assert (code, output) == (0, f"{MARKET}: killed, 0 orders live\n")
    wait_until(lambda: bool(state(demo).kill_causes & KillCause.ADMIN), "the cause is latched")
    assert state(demo).lifecycle is Lifecycle.EMERGENCY
    wait_until(lambda: server.hget(f"amm:state:{MARKET}", "kill_switch") == "ON", "Redis shows it")
    code, output = corequote(demo, "resume", MARKET, "--reason", "the test is over")
    assert (code, output) == (0, f"{MARKET}: resumed\n")
    wait_until(lambda: bool(look(demo).orders), "it is quoted again")
    assert look(demo).kill == Kill(0)
    assert not state(demo).kill_causes
