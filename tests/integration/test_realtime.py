"""A real engine with real-time rights, and one without: what the kernel says of each of its processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from engine import realtime
from engine.config import EXIT_CONFIG
from engine.supervisor import EXIT_OK
from tests.integration.supervisor_rig import NO_REDIS, Engine, until

ORDINARY = (os.SCHED_OTHER, 0)
#: Fields of /proc/PID/stat, counted from 1 (proc(5)).
_PRIORITY_FIELD = 40
_POLICY_FIELD = 41


def has_the_right() -> bool:
    """Whether a child of this process may do what a supervisor does."""
    script = f"from engine import scheduling; scheduling.run_realtime(0, {realtime.SUPERVISOR_PRIORITY})"
    command = [sys.executable, "-c", script]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0


needs_the_right = pytest.mark.skipif(
    not has_the_right(),
    reason=f"SCHED_RR needs CAP_SYS_NICE or RLIMIT_RTPRIO {realtime.SUPERVISOR_PRIORITY}",
)


@pytest.fixture
def unprivileged(engine: Engine) -> Engine:
    """An engine with neither the capability nor the limit."""
    if shutil.which("setpriv") is None or shutil.which("prlimit") is None:
        pytest.skip("taking the right away needs setpriv and prlimit (util-linux)")
    drop = ["--bounding-set=-sys_nice"] if os.geteuid() == 0 else ["--ambient-caps=-all"]
    engine.before = ["prlimit", "--rtprio=0:0", "setpriv", "--inh-caps=-sys_nice", *drop]
    return engine


def kernels_word(thread: Path) -> tuple[int, int]:
    """Policy and real-time priority of a thread, by its directory in /proc."""
    after_name = (thread / "stat").read_text().rpartition(")")[2].split()  # the third field comes first
    return int(after_name[_POLICY_FIELD - 3]), int(after_name[_PRIORITY_FIELD - 3])


def of_process(pid: int) -> tuple[int, int]:
    return kernels_word(Path(f"/proc/{pid}"))


def policies(engine: Engine) -> dict[str, tuple[int, int]]:
    """What holds for every process once all of them run."""
    assert engine.process is not None
    views = engine.all_running()
    pids = {name: view.pid for name, view in views.items()} | {"supervisor": engine.process.pid}
    return {name: of_process(pid) for name, pid in pids.items()}


def in_realtime(priority: int) -> tuple[int, int]:
    return os.SCHED_RR, priority


@needs_the_right
def test_those_that_trade_run_in_real_time(engine: Engine) -> None:
    engine.start(markets=2)
    expected = {
        "supervisor": in_realtime(13),
        "gateway": in_realtime(12),
        "guard": in_realtime(12),
        "quoter-0": in_realtime(11),
        "quoter-1": in_realtime(11),
        "ingest": in_realtime(10),
        "writer": ORDINARY,
        "control": ORDINARY,
        "recorder": ORDINARY,
    }
    # the supervisor learns a little later than we that a process runs
    until(lambda: policies(engine) == expected, f"{expected}, not {policies(engine)}")
    (server,) = [child for child in engine.descendants() if "valkey-server" in child.cmdline()[0]]
    assert of_process(server.pid) == ORDINARY
    shown = engine.corequote("status").stdout
    assert "rr 12" in shown
    code, output = engine.finish()
    assert code == EXIT_OK
    assert "not_realtime" not in output


@needs_the_right
def test_so_does_one_that_was_started_again_once_it_runs(engine: Engine) -> None:
    engine.start(NO_REDIS, script={"gateway": ["run", "starting"]}, markets=1)
    before = engine.all_running()
    for name in ("quoter-0", "gateway"):
        os.kill(before[name].pid, signal.SIGKILL)
    again = engine.running("quoter-0", epoch=2)
    until(lambda: of_process(again.pid) == in_realtime(11), "the new quoter in real time")
    view = engine.view("gateway")
    assert view is not None
    starting = until(lambda: (found := engine.view("gateway")) and found.epoch == 2 and found.pid, "life 2")
    assert of_process(starting) == ORDINARY, "an interpreter that starts holds up nobody"
    engine.finish()


@needs_the_right
def test_threads_that_a_process_has_go_with_it_and_later_ones_are_ordinary(engine: Engine) -> None:
    """One that waits for a core with the interpreter's lock in hand would hold up the one that trades."""
    script = (
        "import os, sys, threading\n"
        "from engine import scheduling\n"
        "before = threading.Thread(target=sys.stdin.read); before.start()\n"
        "scheduling.run_realtime(0, 10)\n"
        "after = threading.Thread(target=sys.stdin.read); after.start()\n"
        "print(before.native_id, after.native_id, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        threads = [Path(f"/proc/{process.pid}/task/{tid}") for tid in process.stdout.readline().split()]
        assert of_process(process.pid) == in_realtime(10)
        assert [kernels_word(thread) for thread in threads] == [in_realtime(10), ORDINARY]
    finally:
        process.communicate()


@needs_the_right
def test_one_that_runs_away_with_the_only_core_is_ended(engine: Engine) -> None:
    """It holds the core in real time, and its supervisor has no other."""
    core = min(os.sched_getaffinity(0))
    engine.before = ["taskset", "--cpu-list", str(core)]
    lines = ("engine.heartbeat_timeout_ms = 1_000", NO_REDIS)
    engine.start(*lines, script={"quoter-0": ["runaway", "run"]}, markets=2)
    again = engine.running("quoter-0", epoch=2)
    assert psutil.Process(again.pid).cpu_affinity() == [core]
    engine.all_running()
    code, output = engine.finish()
    assert code == EXIT_OK, output
    assert "stalled child=quoter-0" in output


@needs_the_right
@pytest.mark.parametrize(
    ("line", "ordinary"),
    [
        ('engine.realtime = "off"', {"supervisor", "gateway", "guard", "quoter-0", "ingest"}),
        ('engine.wait = "spin"', {"quoter-0"}),
        ('engine.wait = "yield"', {"quoter-0"}),
    ],
)
def test_what_stays_ordinary(engine: Engine, line: str, ordinary: set[str]) -> None:
    engine.start(line, NO_REDIS)
    expected = ordinary | {"writer", "control", "recorder"}

    def found() -> set[str]:
        return {name for name, word in policies(engine).items() if word == ORDINARY}

    until(lambda: found() == expected, f"{expected}, not {found()}")
    code, output = engine.finish()
    assert code == EXIT_OK
    assert ("not_realtime children=quoter-0 reason=polls while it waits" in output) is ("wait" in line)


def test_without_the_right_it_runs_as_it_is_and_says_so_once(unprivileged: Engine) -> None:
    unprivileged.start(NO_REDIS, markets=2)
    assert set(policies(unprivileged).values()) == {ORDINARY}
    assert "rr" not in unprivileged.corequote("status").stdout.split()
    code, output = unprivileged.finish()
    assert code == EXIT_OK
    assert output.count("not_realtime") == 1
    assert "Operation not permitted: neither CAP_SYS_NICE nor RLIMIT_RTPRIO allows it" in output


def test_without_the_right_an_engine_that_requires_it_is_not_started(unprivileged: Engine) -> None:
    unprivileged.start('engine.realtime = "require"', NO_REDIS)
    code, output = unprivileged.finish(None)
    assert code == EXIT_CONFIG
    assert output == (
        'corequote: engine.realtime="require": SCHED_RR 13: Operation not permitted; grant CAP_SYS_NICE or '
        'RLIMIT_RTPRIO 13, or say "auto" or "off"\n'
    )
    assert not (unprivileged.run_dir / "diary").exists()


@needs_the_right
def test_with_the_right_an_engine_that_requires_it_is(engine: Engine) -> None:
    engine.start('engine.realtime = "require"', NO_REDIS)
    until(lambda: policies(engine)["gateway"] == in_realtime(12), "the gateway in real time")
    assert engine.finish()[0] == EXIT_OK
