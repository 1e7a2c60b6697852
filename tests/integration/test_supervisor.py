"""The supervisor with real processes: started, pinned, killed, stopped, starved, and ended in order.

The workers are tiny ones that only live (tiny_worker.py); everything else is what ``corequote run`` runs.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from engine import rundir, valkey
from engine._native import lib
from engine.config import EXIT_CONFIG, Config
from engine.events import Kill, ProcessState
from engine.supervisor import EXIT_OK, EXIT_UNCLEAN
from engine.workers.process import CONFIG_FILE
from tests.integration.supervisor_rig import DEADLINE_S, NO_REDIS, Engine, gone, until

# ---- a whole life ----


def test_start_pin_look_and_stop_in_order(engine: Engine) -> None:
    engine.start(markets=3)
    views = engine.all_running()
    quoters = {"quoter-0", "quoter-1", "quoter-2"}
    assert set(views) == {"control", "guard", "ingest", "gateway", "recorder", "writer"} | quoters
    allowed = sorted(os.sched_getaffinity(0))
    for index in range(3):
        quoter = views[f"quoter-{index}"]
        assert quoter.planned_cpu == allowed[index % len(allowed)]
        assert psutil.Process(quoter.pid).cpu_affinity() == [quoter.planned_cpu]
    until(lambda: engine.running("quoter-2").cpu == views["quoter-2"].planned_cpu, "the quoter's own word")
    assert engine.arena.used_markets() == [0, 1, 2]
    assert engine.arena.market_slots == 3 + 16
    assert [engine.arena.market_worker(slot) for slot in range(3)] == [0, 1, 2]

    # what tools are told, and who may read it
    info = rundir.read_info(engine.run_dir)
    assert (info.pid, info.arena_epoch) == (psutil.Process(info.pid).pid, engine.arena.epoch)
    assert (
        json.loads((engine.run_dir / CONFIG_FILE).read_text())["redis"]["url"]
        == info.redis_url
        == valkey.url(engine.run_dir)
    )
    assert valkey.is_ready(engine.run_dir)
    for name in (
        CONFIG_FILE,
        "run.json",
        "arena.sock",
        "valkey.sock",
        "log/supervisor.log",
        "log/ingest.log",
    ):
        assert stat.S_IMODE((engine.run_dir / name).stat().st_mode) == 0o600, name

    # only those with a session of their own hear the password
    heard = {line[0] for line in engine.diary() if line[-1] == "secret=True"}
    assert heard == {"guard", "ingest", "gateway"}

    everyone = engine.descendants()
    code, output = engine.finish()
    assert code == EXIT_OK, output
    assert gone(everyone)
    stops = [line[0] for line in engine.diary() if line[2] == "stop"]
    assert sorted(stops[:3]) == ["quoter-0", "quoter-1", "quoter-2"]
    assert stops[3:] == ["gateway", "guard", "ingest", "control", "recorder", "writer"]
    assert {line[3] for line in engine.diary() if line[2] == "stop"} == {f"kill={lib.KILL_STOPPING}"}
    assert rundir.read_info(engine.run_dir).pid == info.pid, "a configured directory stays"


def test_several_markets_per_quoter(engine: Engine) -> None:
    engine.start("engine.workers = 2", NO_REDIS, markets=5)
    engine.all_running()
    assert [engine.arena.market_worker(slot) for slot in range(5)] == [0, 1, 0, 1, 0]
    assert engine.view("quoter-2") is None
    assert engine.finish(signal.SIGTERM)[0] == EXIT_OK


def test_a_console_that_goes_away_stops_nothing(engine: Engine) -> None:
    engine.start(NO_REDIS)
    assert engine.process is not None
    assert engine.process.stdout is not None
    engine.process.stdout.close()
    engine.process.stdout = None
    views = engine.all_running()
    os.kill(views["writer"].pid, signal.SIGKILL)  # something to print about
    engine.running("writer", epoch=2)
    engine.process.send_signal(signal.SIGINT)
    assert engine.process.wait(DEADLINE_S) == EXIT_OK


# ---- deaths ----


def test_a_killed_process_comes_back(engine: Engine) -> None:
    """The tiny worker takes its rings' producer roles, so it runs again only if they were freed."""
    engine.start(NO_REDIS, markets=2)
    before = engine.all_running()
    for name in ("ingest", "gateway", "writer", "control", "quoter-1"):
        os.kill(before[name].pid, signal.SIGKILL)
        after = engine.running(name, epoch=2)
        assert after.pid != before[name].pid
        assert (after.restarts, after.planned_cpu) == (1, before[name].planned_cpu)
    assert engine.running("quoter-0").pid == before["quoter-0"].pid, "the others are not affected"
    assert [engine.worker_epoch(worker) for worker in range(2)] == [1, 2]
    until(lambda: engine.kill_global() == Kill(0), "the feed to be trusted again")
    assert [engine.kill_word(slot) for slot in range(2)] == [Kill(0), Kill(0)]
    assert engine.finish()[0] == EXIT_OK


def test_the_feed_is_distrusted_until_ingest_has_recovered(engine: Engine) -> None:
    engine.start(NO_REDIS, script={"ingest": ["run", "starting"]})
    ingest = engine.all_running()["ingest"]
    assert engine.kill_global() == Kill(0)
    os.kill(ingest.pid, signal.SIGKILL)

    def second_life() -> bool:
        view = engine.view("ingest")
        return view is not None and view.epoch == 2 and view.heartbeat_age_ns is not None

    until(second_life, "ingest's second life")
    assert engine.kill_global() == Kill.FEED_DEAD
    engine.finish()


def test_valkey_comes_back(engine: Engine) -> None:
    engine.start()
    engine.all_running()
    (server,) = [child for child in engine.descendants() if "valkey-server" in child.cmdline()[0]]
    server.kill()
    assert gone([server])
    until(lambda: valkey.is_ready(engine.run_dir), "a new server")
    assert engine.finish(signal.SIGHUP)[0] == EXIT_OK


def test_a_stalled_process_is_killed_and_replaced(engine: Engine) -> None:
    engine.start("engine.heartbeat_timeout_ms = 1_000", NO_REDIS)
    before = engine.all_running()["quoter-0"]
    os.kill(before.pid, signal.SIGSTOP)
    after = engine.running("quoter-0", epoch=before.epoch + 1)
    assert after.pid != before.pid
    assert not psutil.pid_exists(before.pid)
    assert engine.worker_epoch(0) >= 2
    code, output = engine.finish()
    assert "stalled child=quoter-0" in output
    assert code == EXIT_OK


def test_time_in_which_the_supervisor_did_not_watch_is_held_against_nobody(engine: Engine) -> None:
    engine.start("engine.heartbeat_timeout_ms = 2_000", NO_REDIS)
    before = engine.all_running()
    assert engine.process is not None
    everyone = [psutil.Process(view.pid) for view in before.values()]
    for process in (psutil.Process(engine.process.pid), *everyone):
        process.suspend()
    time.sleep(3)  # longer than the limit: the machine, say, was asleep
    for process in (psutil.Process(engine.process.pid), *everyone):
        process.resume()
    passes = engine.running("supervisor").pass_count
    until(lambda: engine.running("supervisor").pass_count > passes + 20, "the supervisor to watch on")
    assert {name: engine.running(name).pid for name in before} == {n: v.pid for n, v in before.items()}
    assert engine.finish()[0] == EXIT_OK


def test_a_quoter_that_dies_at_every_start_stays_down(engine: Engine) -> None:
    engine.start(
        "engine.restart_backoff_min_ms = 10",
        "engine.restart_backoff_max_ms = 100",
        NO_REDIS,
        script={"quoter-0": ["crash"]},
        markets=2,
    )
    engine.all_running("ingest", "gateway", "writer", "quoter-1")

    def lives() -> int:
        return sum(line[0] == "quoter-0" and line[2] == "start" for line in engine.diary())

    log = engine.run_dir / "log" / "supervisor.log"
    until(lambda: '"crash_loop"' in log.read_text(), "the loop to be noticed")
    assert lives() == 5
    assert engine.kill_word(0) == Kill.WORKER_DEAD
    assert engine.kill_word(1) == Kill(0)
    view = engine.view("quoter-0")
    assert view is not None
    assert (view.state, view.restarts) == (ProcessState.DEAD, 4)
    assert engine.running("quoter-1").restarts == 0, "the others are not affected"
    code, output = engine.finish()
    assert code == EXIT_OK
    assert "tiny worker: crashes as told" in output
    assert lives() == 5


def test_a_gateway_that_dies_at_every_start_is_tried_on_and_on(engine: Engine) -> None:
    engine.start(
        "engine.restart_backoff_min_ms = 10",
        "engine.restart_backoff_max_ms = 100",
        NO_REDIS,
        script={"gateway": ["crash"] * 6 + ["run"]},
    )
    assert engine.running("gateway", epoch=7).restarts == 6
    assert engine.finish()[0] == EXIT_OK


def test_nothing_outlives_a_killed_supervisor(engine: Engine) -> None:
    engine.start()
    engine.all_running()
    everyone = engine.descendants()
    assert len(everyone) == 8
    engine.finish(signal.SIGKILL)
    until(lambda: gone(everyone), "the children to go")
    with pytest.raises(rundir.RunDirError, match="no engine answers here"):
        rundir.attach(engine.run_dir)
    engine.start(NO_REDIS)  # the directory it left can be used again
    engine._arena = None
    engine.all_running()
    assert engine.finish()[0] == EXIT_OK


# ---- stopping against resistance ----


def test_what_does_not_stop_is_killed_and_named(engine: Engine) -> None:
    engine.start("engine.stop_timeout_ms = 500", NO_REDIS, script={"quoter-0": ["deaf"]})
    engine.all_running()
    everyone = engine.descendants()
    code, output = engine.finish()
    assert code == EXIT_UNCLEAN
    assert "quoter-0 did not stop within 500 ms" in output
    assert gone(everyone)
    stops = [line[0] for line in engine.diary() if line[2] == "stop"]
    assert stops[-6:] == ["gateway", "guard", "ingest", "control", "recorder", "writer"]


def test_a_gateway_that_dies_while_stopping_is_brought_back_to_sweep(engine: Engine) -> None:
    engine.start("engine.stop_timeout_ms = 8_000", NO_REDIS, script={"quoter-0": ["deaf"]})
    views = engine.all_running()
    assert engine.process is not None
    engine.process.send_signal(signal.SIGINT)
    until(lambda: engine.kill_global() == Kill.STOPPING, "the stop to begin")
    os.kill(views["gateway"].pid, signal.SIGKILL)
    until(lambda: ["gateway", "2", "start"] in [line[:3] for line in engine.diary()], "a second gateway")
    engine.process.communicate(timeout=DEADLINE_S)
    assert [line[:2] for line in engine.diary() if line[2] == "stop" and line[0] == "gateway"] == [
        ["gateway", "2"]
    ]


# ---- refusals: one line, the code, and nothing left running ----


def refused(engine: Engine, *lines: str, code: int = EXIT_CONFIG, **options: Any) -> str:
    engine.start(*lines, **options)
    found, output = engine.finish(None)
    assert found == code, output
    assert "Traceback" not in output
    line = output.strip().splitlines()[-1]
    assert line.startswith("corequote: ")
    return line


def test_a_process_that_refuses_the_configuration_ends_the_engine(engine: Engine) -> None:
    line = refused(engine, NO_REDIS, script={"gateway": ["refuse"]})
    assert line == "corequote: tiny worker: gateway: refuses as told"
    with pytest.raises(rundir.RunDirError):
        rundir.attach(engine.run_dir)


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        (("engine.cores = [9999]",), "engine.cores[0]=9999: this process may only use cores"),
        (("engine.colour = 1",), "colour"),
    ],
)
def test_a_bad_configuration_starts_nothing(engine: Engine, lines: tuple[str, ...], rule: str) -> None:
    assert rule in refused(engine, *lines)
    assert not (engine.run_dir / "diary").exists()


def test_a_second_supervisor_is_refused(engine: Engine) -> None:
    engine.start(NO_REDIS)
    engine.all_running()
    assert engine.process is not None
    again = subprocess.run(
        engine.command(engine.root / "engine.toml"),
        env=engine.environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert again.returncode == EXIT_CONFIG
    assert again.stderr == (
        f"corequote: {engine.run_dir}: another supervisor (pid {engine.process.pid}) runs here\n"
    )
    assert engine.finish()[0] == EXIT_OK, "the first one is not disturbed"


# ---- the tools ----


def test_status_finds_the_one_run(engine: Engine) -> None:
    nothing = engine.corequote("status")
    assert (nothing.exit_code, nothing.stdout) == (3, "")
    engine.start(NO_REDIS, markets=2)
    engine.all_running()
    config = msgspec.json.decode((engine.run_dir / CONFIG_FILE).read_bytes(), type=Config)
    assert config.engine.run_dir == str(engine.run_dir)
    assert config.redis.url == "redis://127.0.0.1:1/0"
    shown = engine.corequote("status")
    assert shown.exit_code == 0, shown.output
    for text in ("quoter-1", "gateway", "m0", "m1"):
        assert text in shown.stdout
    document = json.loads(engine.corequote("status", "--json").stdout)
    assert document["run_dir"] == str(engine.run_dir)
    processes = {process["name"]: process for process in document["arena"]["processes"]}
    assert processes["ingest"]["state"] == "RUNNING"
    assert document["rss_bytes"]["ingest"] > 0
    assert [market["market_id"] for market in document["arena"]["markets"]] == ["m0", "m1"]
    named = engine.corequote("status", "--run-dir", str(engine.run_dir))
    assert named.exit_code == 0
    assert engine.corequote("status", "--run-dir", str(engine.root)).exit_code == 3
    engine.finish()
    assert engine.corequote("status").exit_code == 3


def test_runs_do_not_meet_and_a_fresh_directory_leaves_nothing(engine: Engine) -> None:
    engine.start()
    engine.all_running()
    other = Engine(engine.root)
    other.start(fresh=True)
    base = engine.root / "corequote"

    def fresh_directory() -> Path | None:
        found = [entry for entry in base.glob("run-*") if not entry.is_symlink()]
        return found[0] if found and (found[0] / "arena.sock").exists() else None

    other.run_dir = until(fresh_directory, "a fresh directory")
    other.all_running()
    assert stat.S_IMODE(other.run_dir.stat().st_mode) == 0o700
    several = engine.corequote("status")
    assert several.exit_code == 2
    assert str(engine.run_dir) in several.stderr
    assert str(other.run_dir) in several.stderr
    assert other.finish()[0] == EXIT_OK
    assert not other.run_dir.exists()
    assert engine.finish()[0] == EXIT_OK
    assert list(base.iterdir()) == []
