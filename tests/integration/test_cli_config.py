"""``corequote config`` against a run directory with a real arena and a real Valkey."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from engine import rundir
from engine.cli import app
from engine.config.override import FLAT_FIELDS
from engine.config_state import OverridesState, Refused
from engine.durable import write_durably
from tests.integration.redis_server import Server
from tests.integration.test_control_config import overrides, poll
from tests.integration.test_control_config import rig as rig  # noqa: PLC0414 - a fixture
from tests.integration.worker_rig import WorkerRig

RUNNER = CliRunner()


def corequote(*words: str) -> Result:
    return RUNNER.invoke(app, list(words))


@pytest.fixture
def run(rig: WorkerRig, server: Server) -> Iterator[Path]:
    """The run directory of a supervisor that does nothing but answer tools."""
    doorman = rundir.ArenaServer(rig.run_dir, rig.arena)
    doorman.socket.setblocking(True)
    doorman.socket.settimeout(0.05)
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            doorman.serve_one()

    thread = threading.Thread(target=serve)
    thread.start()
    info = rundir.RunInfo(
        pid=1,
        arena_epoch=rig.arena.epoch,
        started_at_ms=1,
        arena_socket=str(rig.run_dir / rundir.ARENA_SOCKET),
        exchange_url="http://127.0.0.1:1",
        redis_url=server.url,
        market_ids=["A", "B"],
    )
    write_durably(rig.run_dir / "run.json", msgspec.json.encode(info), synced=False)
    yield rig.run_dir
    done.set()
    thread.join()
    doorman.close()


def test_a_valid_file_is_summed_up(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('[quote]\noracle_deviation_halt = 0.2\ngamma_mid = 1.2\n[[markets]]\nid = "m"\n')
    result = corequote("config", "check", str(path))
    assert result.exit_code == 0
    assert result.stdout.startswith("valid: 1 markets, 1 quoters")
    assert "m: 1 parameters given" in result.stdout
    assert "oracle_deviation_halt is retired" in result.stderr


def test_a_file_that_cannot_be_used_is_one_line_and_78(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('[quote]\nmin_price = -1\n[[markets]]\nid = "m"\n')
    result = corequote("config", "check", str(path))
    assert result.exit_code == 78
    assert result.stdout == ""
    assert result.stderr == f"corequote: {path}: quote.min_price=-1: Expected `int` >= 1\n"


def test_set_then_show(run: Path, rig: WorkerRig, server: Server) -> None:
    where = ("--run-dir", str(run))
    result = corequote("config", "set", "B", "gamma_long=0.7", "vol.window_size=40", "--by", "ada", *where)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "B: config_version 2 written, taken up within 5 s\n"
    poll(rig, server, overrides(rig))

    shown = json.loads(corequote("config", "show", "B", "--json", *where).stdout)
    values = {value["name"]: (value["value"], value["origin"]) for value in shown["values"]}
    assert values["gamma_long"] == (0.7, "redis field")
    assert values["vol.window_size"] == (40, "redis override_json")
    assert values["gamma_mid"] == (1.2, "file [markets.quote]")
    assert values["config_reload_interval_ms"] == (5_000, "file [quote]")
    assert values["min_asset_floor_cents"] == (250_000, "default")
    text = corequote("config", "show", "B", *where).stdout
    assert text.startswith("B: version 2 in force\noverride: config_version 2 by ada at ")
    assert "gamma_long" in text


def test_a_refused_set_writes_nothing(run: Path, server: Server) -> None:
    for words, reason in (
        (["gamma_long=NaN"], "gamma_long='NaN': must be a decimal number"),
        (["gamma_long=0.7", "max_loss_daily_cents=300000"], "max_loss_daily_cents=300000 must not exceed"),
        (["quote_interval_ms=500"], "quote_interval_ms: takes a restart"),
        (["colour=red"], "colour: no such parameter"),
        (["gamma_long"], "must be KEY=VALUE"),
        (["daily_loss_limit=20000", "max_loss_daily_cents=20000"], "given twice"),
    ):
        result = corequote("config", "set", "A", *words, "--run-dir", str(run))
        assert result.exit_code == 78
        assert reason in result.stderr
        assert result.stderr.endswith("; nothing written\n")
        assert result.stderr.count("\n") == 1
    assert server.client.keys("amm:config:*") == []


def test_all_writes_every_flat_field_and_reset_forgets_them(run: Path, server: Server) -> None:
    where = ("--run-dir", str(run))
    assert corequote("config", "set", "A", "--all", "--ttl", "30m", *where).exit_code == 0
    held = {name.decode() for name in server.client.hkeys("amm:config:A")}
    assert set(FLAT_FIELDS) | {"override_ttl_ms", "config_version", "updated_at", "updated_by"} == held
    assert server.client.hget("amm:config:A", "override_ttl_ms") == b"1800000"
    assert corequote("config", "set", "A", "--reset", *where).exit_code == 0
    held = {name.decode() for name in server.client.hkeys("amm:config:A")}
    assert held == {"config_version", "updated_at", "updated_by"}
    assert server.client.hget("amm:config:A", "config_version") == b"3"


def test_usage(run: Path) -> None:
    where = ("--run-dir", str(run))
    assert corequote("config", "set", "A", *where).exit_code == 2
    assert corequote("config", "set", "A", "min_price=6", "--ttl", "soon", *where).exit_code == 2
    unknown = corequote("config", "show", "C", *where)
    assert (unknown.exit_code, unknown.stderr) == (2, "corequote: no market 'C' in this run: A, B\n")
    nowhere = corequote("config", "show", "A", "--run-dir", str(run / "nowhere"))
    assert nowhere.exit_code == 3


def test_show_and_status_say_what_was_refused(run: Path) -> None:
    refused = Refused(config_version="7", reason="gamma_mid='x': must be a decimal number", unix_ms=1)
    state = OverridesState(source_fault="timeout: no answer", refused={"A": refused})
    write_durably(run / "overrides.json", msgspec.json.encode(state), synced=False)
    text = corequote("config", "show", "A", "--run-dir", str(run)).stdout
    assert "REFUSED: config_version 7: gamma_mid='x': must be a decimal number" in text
    assert "amm:config cannot be read (timeout: no answer)" in text
    text = corequote("status", "--run-dir", str(run)).stdout
    assert "A: override config_version 7 refused: gamma_mid='x'" in text


def test_a_redis_that_does_not_answer_is_an_error_of_its_own(run: Path, server: Server) -> None:
    server.kill()
    result = corequote("config", "set", "A", "gamma_mid=1.4", "--run-dir", str(run))
    assert result.exit_code == 1
    assert "Redis: connection" in result.stderr
