"""What the play knows of its processes and directories, and how the fault campaign reads the journal."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from engine import rundir
from engine.config import EXIT_CONFIG
from engine.observer import MarketFold
from engine.stage import ChildProcess, DeathWatch, PrivateDirectory, Stage, StageError
from tests.faults.campaign import first_both_sides_ns, first_gone_ns


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / rundir.LOG_DIRECTORY).mkdir()
    return tmp_path


# ---- directories ----


def test_a_directory_is_held_by_one_play(tmp_path: Path) -> None:
    first = PrivateDirectory(tmp_path / "run")
    with pytest.raises(StageError, match="another demo runs here") as refused:
        PrivateDirectory(tmp_path / "run")
    assert refused.value.exit_code == EXIT_CONFIG
    first.release(remove=True)
    assert first.path.is_dir(), "a directory that was asked for stays"
    PrivateDirectory(tmp_path / "run").release(remove=False)


def test_a_fresh_directory_goes_after_a_clean_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    clean = PrivateDirectory(None)
    assert clean.path.stat().st_mode & 0o777 == 0o700
    clean.release(remove=True)
    assert not clean.path.exists()


def test_only_the_newest_failed_plays_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    running = PrivateDirectory(None)
    failed = []
    for age in range(8, 0, -1):
        directory = PrivateDirectory(None)
        directory.release(remove=False)
        os.utime(directory.path, (1_000_000 - age, 1_000_000 - age))
        failed.append(directory.path)
    newest = PrivateDirectory(None)
    assert running.path.exists(), "it is old, but it runs"
    assert [path.exists() for path in failed] == [False] * 4 + [True] * 4
    for directory in (running, newest):
        directory.release(remove=True)


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError, match="Not a directory"):
        PrivateDirectory(tmp_path / "file" / "run")


# ---- processes ----


def test_a_child_that_fails_says_why(run_dir: Path) -> None:
    async def scenario() -> None:
        script = "import sys; print('first'); sys.exit('the one line that matters')"
        child = await ChildProcess.start("broken", ["-c", script], run_dir=run_dir)
        await child.process.wait()
        assert child.fallen
        assert child.why() == "broken ended with exit code 1: the one line that matters"
        await child.close()

    asyncio.run(scenario())


def test_ending_well_is_an_accident_unless_it_is_allowed(run_dir: Path) -> None:
    async def scenario() -> None:
        for may_end in (False, True):
            child = await ChildProcess.start("brief", ["-c", ""], run_dir=run_dir, may_end=may_end)
            await child.process.wait()
            assert child.fallen is not may_end
            await child.close()

    asyncio.run(scenario())


def test_a_child_that_does_not_listen_is_killed(run_dir: Path) -> None:
    script = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )

    async def scenario() -> None:
        child = await ChildProcess.start("deaf", ["-c", script], run_dir=run_dir)
        while child.last_line() != "deaf":
            assert not child.ended
            await asyncio.sleep(0.01)
        assert not await child.stop(0.2)
        assert child.ended
        await child.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_children_get_our_environment_without_our_secrets(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COREQUOTE_AMM_PASSWORD", "ours")
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    names = "COREQUOTE_AMM_PASSWORD", "COREQUOTE_OPERATOR_PASSWORD", "SOMETHING_ELSE"
    script = f"import os, json; print(json.dumps([os.environ.get(n) for n in {names!r}]))"

    async def scenario() -> None:
        secret = {"COREQUOTE_OPERATOR_PASSWORD": "told"}
        child = await ChildProcess.start("curious", ["-c", script], run_dir=run_dir, secret=secret)
        await child.process.wait()
        assert json.loads(child.last_line()) == [None, "told", "kept"]
        await child.close()

    asyncio.run(scenario())


def test_a_stage_leaves_nothing_behind_whatever_happens(run_dir: Path) -> None:
    async def scenario() -> ChildProcess:
        async with Stage(run_dir, stop=asyncio.Event()) as stage:
            child = await stage.open_participant("sleeper", ["-c", "import time; time.sleep(60)"])
            failing = await stage.open_participant("failing", ["-c", "raise SystemExit(78)"])
            with pytest.raises(StageError, match="failing ended with exit code 78") as fallen:
                await stage.until(lambda: False, what="never")
            assert fallen.value.exit_code == EXIT_CONFIG
            assert failing.ended
        return child

    assert asyncio.run(scenario()).ended


def test_the_death_watch_reads_every_line_once(tmp_path: Path) -> None:
    log = tmp_path / "supervisor.log"
    watch = DeathWatch(log)
    watch.look()

    def look() -> None:
        watch._due = 0.0
        watch.look()

    died = json.dumps({"event": "died", "child": "gateway", "exit": 1, "last_line": "no such host"})
    log.write_text(json.dumps({"event": "started", "child": "gateway"}) + "\n" + died[:20])
    look()
    assert (watch.last_death, watch.given_up) == ("", "")
    with log.open("a") as file:
        file.write(died[20:] + "\n" + json.dumps({"event": "crash_loop", "child": "gateway", "deaths": 5}))
    look()
    assert (watch.last_death, watch.given_up) == ("gateway died: no such host", "")
    with log.open("a") as file:
        file.write("\nnot json\n")
    look()
    assert watch.given_up == "gateway"


# ---- the campaign's judgement ----


def fold(live: list[tuple[int, int]], both: list[tuple[int, int]]) -> MarketFold:
    """A market whose engine orders were there, and on both sides, in these spans; the last may be open."""
    result = MarketFold()
    for switch, spans in ((result.any_live, live), (result.both_sides, both)):
        for start, end in spans:
            switch.set(on=True, at_ns=start)
            if end < 1_000:
                switch.set(on=False, at_ns=end)
    return result


def test_quotes_that_stay_are_not_gone() -> None:
    market = fold(live=[(10, 1_000)], both=[(20, 1_000)])
    assert first_gone_ns(market, 100, 500) is None


def test_quotes_are_gone_when_the_last_order_is() -> None:
    market = fold(live=[(10, 140), (300, 1_000)], both=[(20, 120), (320, 1_000)])
    assert first_gone_ns(market, 100, 500) == 140
    assert first_both_sides_ns(market, 140, 500) == 320


def test_a_market_without_orders_had_nothing_to_cancel() -> None:
    market = fold(live=[(10, 50)], both=[(20, 50)])
    assert first_gone_ns(market, 100, 500) == 100
    assert first_both_sides_ns(market, 100, 500) is None
