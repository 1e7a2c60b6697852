"""Kill and resume with a real supervisor and a real control process: latched over restarts, with a reason."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import admin_client, kill_files
from engine._native import lib
from engine.events import Kill
from engine.kill_files import KillOrder
from engine.supervisor import EXIT_OK
from tests.integration.supervisor_rig import Engine, until


@pytest.fixture
def run(engine: Engine) -> Engine:
    """Two markets; control is the real one."""
    engine.environment["REAL_WORKERS"] = "control"
    engine.start(markets=2, script={"quoter-1": ["stubborn"]})
    engine.all_running()
    until((engine.run_dir / "admin.sock").exists, "the admin socket")
    return engine


def call(engine: Engine, method: str, path: str, body: Any = None) -> admin_client.AdminAnswer:
    return admin_client.call(engine.run_dir, method, path, body)


def audit(engine: Engine) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (engine.run_dir / "audit.jsonl").read_text().splitlines()]


def test_a_kill_is_latched_over_a_restart_and_a_resume_ends_it(run: Engine) -> None:
    where = ("--run-dir", str(run.run_dir))
    result = run.corequote("kill", "m0", "--reason", "a test", "--by", "ada", *where)
    assert (result.exit_code, result.stdout) == (0, "m0: killed, 0 orders live\n")
    assert (run.kill_word(0), run.kill_word(1)) == (Kill.ADMIN, Kill(0))
    again = run.corequote("kill", "m0", "--reason", "once more", *where)
    assert again.exit_code == 0
    assert run.finish()[0] == EXIT_OK

    run._arena = None
    run.start(markets=2)
    run.all_running()
    assert (run.kill_word(0), run.kill_word(1)) == (Kill.ADMIN, Kill(0))

    resumed = run.corequote("resume", "m0", "--reason", "all is well", "--by", "ada", *where)
    assert (resumed.exit_code, resumed.stdout) == (0, "m0: resumed\n"), resumed.stderr
    assert run.kill_word(0) == Kill(0)
    assert kill_files.read(run.run_dir) == {}
    lines = [(entry["action"], entry["by"], entry["outcome"]) for entry in audit(run)]
    assert lines[0] == ("kill", "ada", "done")
    assert lines[-1] == ("resume", "ada", "done")
    assert audit(run)[-1]["request"]["reason"] == "all is well"
    assert stat.S_IMODE((run.run_dir / "audit.jsonl").stat().st_mode) == 0o600


def test_a_cause_that_holds_refuses_the_resume(run: Engine) -> None:
    assert call(run, "POST", "/kill", {"market_id": "m1", "reason": "x"}).code == 0
    answer = call(run, "POST", "/resume", {"market_id": "m1", "reason": "x"})
    assert (answer.code, answer.data) == (409, {"causes": ["SKEW"]})
    assert "still holds: SKEW" in answer.message
    assert run.kill_word(1) == Kill.ADMIN
    assert list(kill_files.read(run.run_dir)) == ["m1"]
    assert run.corequote("resume", "m1", "--reason", "x", "--run-dir", str(run.run_dir)).exit_code == 1


def test_all_markets_at_once_and_a_market_that_runs_is_not_resumed(run: Engine) -> None:
    assert call(run, "POST", "/resume", {"market_id": "m0", "reason": "x"}).code == 6007
    answer = call(run, "POST", "/kill", {"all": True, "reason": "storm"})
    assert answer.data == {"killed": ["m0", "m1"]}
    assert (run.kill_word(0), run.kill_word(1)) == (Kill.ADMIN, Kill.ADMIN)


def test_killing_needs_no_control_process(run: Engine) -> None:
    """The file alone kills: even one that nobody can read."""
    control = run.running("control")
    os.kill(control.pid, signal.SIGSTOP)
    try:
        kill_files.write(run.run_dir, KillOrder(market_id="m1", reason="x", by="ada", unix_ms=1))
        (run.run_dir / "kills" / "m0.json").write_bytes(b"\xff")
        until(lambda: (run.kill_word(0), run.kill_word(1)) == (Kill.ADMIN, Kill.ADMIN), "both words")
    finally:
        os.kill(control.pid, signal.SIGCONT)


def test_a_signal_kills_every_market_and_the_kill_outlives_the_engine(run: Engine) -> None:
    assert run.process is not None
    for _ in range(10):
        run.process.send_signal(signal.SIGUSR1)
    until(lambda: (run.kill_word(0), run.kill_word(1)) == (Kill.ADMIN, Kill.ADMIN), "both words")
    assert {order.by for order in kill_files.read(run.run_dir).values()} == {"signal"}
    assert run.finish()[0] == EXIT_OK
    run._arena = None
    run.start(markets=2)
    run.all_running()
    assert (run.kill_word(0), run.kill_word(1)) == (Kill.ADMIN, Kill.ADMIN)


def test_killing_needs_no_supervisor(run: Engine) -> None:
    """Stopped, it raises no word: control does, for the command line's file as for its own calls."""
    assert run.process is not None
    arena = run.arena
    run.process.send_signal(signal.SIGSTOP)
    try:
        result = run.corequote("kill", "m0", "--reason", "it hangs", "--run-dir", str(run.run_dir))
        assert (result.exit_code, "killed, but" in result.stderr) == (1, True), result.output
        assert call(run, "POST", "/kill", {"market_id": "m1", "reason": "x"}).code == 0
        until(
            lambda: all(lib.cell_load(arena.kill_market(slot)) & lib.KILL_ADMIN for slot in (0, 1)),
            "both words",
        )
    finally:
        run.process.send_signal(signal.SIGCONT)
    assert run.corequote("resume", "m0", "--reason", "y", "--run-dir", str(run.run_dir)).exit_code == 0
    assert (run.kill_word(0), run.kill_word(1)) == (Kill(0), Kill.ADMIN)


def test_a_resume_without_a_quoter_is_no_promise(run: Engine) -> None:
    assert call(run, "POST", "/kill", {"market_id": "m0", "reason": "x"}).code == 0
    quoter = run.running("quoter-0")
    os.kill(quoter.pid, signal.SIGSTOP)
    try:
        answer = until(
            lambda: _refused(call(run, "POST", "/resume", {"market_id": "m0", "reason": "x"})), "refusal"
        )
    finally:
        os.kill(quoter.pid, signal.SIGCONT)
    assert answer.code in (409, 503)
    assert run.kill_word(0) & lib.KILL_ADMIN


def _refused(answer: admin_client.AdminAnswer) -> admin_client.AdminAnswer | None:
    return answer if answer.code else None


def test_control_comes_back_and_answers_again(run: Engine) -> None:
    os.kill(run.running("control").pid, signal.SIGKILL)
    run.running("control", epoch=2)

    def killed() -> bool:
        try:
            return call(run, "POST", "/kill", {"market_id": "m0", "reason": "x"}).code == 0
        except admin_client.AdminError:
            return False

    until(killed, "the new control process to answer")
    assert call(run, "POST", "/resume", {"market_id": "m0", "reason": "y"}).code == 0
    assert run.kill_word(0) == Kill(0)


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "/kill", {"market_id": "m9", "reason": "x"}, 3001),
        ("POST", "/kill", {"market_id": "m0", "reason": " "}, 422),
        ("POST", "/kill", {"market_id": "m0", "reason": "two\nlines"}, 422),
        ("POST", "/kill", {"market_id": "m0"}, 400),
        ("POST", "/kill", {"market_id": 5, "reason": "x"}, 400),
        ("POST", "/kill", {"market_id": "../m0", "reason": "x"}, 400),
        ("POST", "/kill", {"market_id": "m0", "reason": "x", "colour": 1}, 400),
        ("POST", "/kill", {"market_id": "m0", "all": True, "reason": "x"}, 400),
        ("POST", "/kill", {"reason": "x"}, 400),
        ("POST", "/kill", {"all": "true", "reason": "x"}, 400),
        ("POST", "/resume", {"market_id": "m0"}, 400),
        ("PUT", "/config", {"market_id": "m0", "config": {"gamma_mid": "1.4"}}, 422),
        ("PUT", "/config", {"market_id": "m0", "config": {"colour": 1}}, 422),
        ("PUT", "/config", {"market_id": "m0", "config": {"quote_interval_ms": 1_000}}, 422),
        ("PUT", "/config", {"market_id": "m9", "config": {}}, 3001),
        ("GET", "/status?market_id=m9", None, 3001),
        ("GET", "/kill", None, 405),
        ("GET", "/nothing", None, 404),
    ],
)
def test_bad_calls_change_nothing(refusing: Engine, method: str, path: str, body: Any, code: int) -> None:
    assert call(refusing, method, path, body).code == code
    assert (refusing.kill_word(0), refusing.kill_word(1)) == (Kill(0), Kill(0))
    assert kill_files.read(refusing.run_dir) == {}


@pytest.fixture(scope="module")
def refusing() -> Iterator[Engine]:
    """One engine for all calls that are refused: they leave no trace but the audit's."""
    made = Engine(Path(tempfile.mkdtemp(prefix="cq-")))
    made.environment["REAL_WORKERS"] = "control"
    made.start(markets=2)
    made.all_running()
    until((made.run_dir / "admin.sock").exists, "the admin socket")
    yield made
    made.close()


def test_a_body_beyond_measure_is_refused(refusing: Engine) -> None:
    assert call(refusing, "POST", "/kill", {"market_id": "m0", "reason": "x" * 100_000}).code in (400, 413)


def test_the_socket_is_the_users_own(refusing: Engine) -> None:
    path = refusing.run_dir / "admin.sock"
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))


def test_a_changed_limit_is_in_force_when_the_call_is_answered(run: Engine) -> None:
    wish = {"market_id": "m0", "config": {"max_loss_daily_cents": 60_000, "vol": {"window_size": 40}}}
    answer = call(run, "PUT", "/config", wish)
    assert (answer.code, answer.data) == (0, {"market_id": "m0", "config_version": 2}), answer.message
    status = call(run, "GET", "/status?market_id=m0").data["markets"]["m0"]
    assert status["config_version"] == 2
    assert status["config"]["quote"]["max_loss_daily_cents"] == 60_000

    assert call(run, "POST", "/kill", {"market_id": "m0", "reason": "x"}).code == 0
    wish = {"market_id": "m0", "reason": "y", "config": {"max_loss_daily_cents": 70_000}}
    assert call(run, "POST", "/resume", wish).data["config_version"] == 3
    assert audit(run)[-1]["request"]["config"] == {"max_loss_daily_cents": 70_000}


def test_a_kill_that_comes_while_a_resume_is_under_way_stays(run: Engine) -> None:
    """The file is younger than the resume, so it is none that the resume was asked to undo."""
    later_ms = time.time_ns() // 1_000_000 + 3_600_000
    kill_files.write(run.run_dir, KillOrder(market_id="m0", reason="x", by="ada", unix_ms=later_ms))
    until(lambda: run.kill_word(0) == Kill.ADMIN, "the word")
    answer = call(run, "POST", "/resume", {"market_id": "m0", "reason": "y"})
    assert answer.code == 409
    assert "killed again meanwhile" in answer.message
    assert run.kill_word(0) == Kill.ADMIN
    assert list(kill_files.read(run.run_dir)) == ["m0"]
