"""The whole thing as processes: what it reports, what it refuses, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.config import EXIT_CONFIG, EXIT_USAGE, load
from engine.demo import DemoOptions, engine_config, exchange_config, make_plan
from engine.paper.config import load_config
from engine.report import Report
from engine.stage import StageError, toml_document

DEADLINE_S = 90.0
YES_RUNNER, NO_RUNNER = 11, 22


def processes_of(run_dir: Path) -> list[int]:
    """Pids whose command line or environment names the run directory."""
    needle = str(run_dir).encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if needle in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


class RunningDemo:
    """``corequote demo`` as a user starts it."""

    def __init__(self, run_dir: Path, *arguments: str) -> None:
        self.run_dir = run_dir
        self.output = run_dir.parent / "output.txt"
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "engine.cli", "demo", "--run-dir", str(run_dir), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def says(self, words: str) -> bool:
        assert self.process.poll() is None, self.output.read_text()
        return words in self.output.read_text()

    def result(self) -> tuple[int, str]:
        """Exit code and everything it said."""
        code = self.process.wait(DEADLINE_S)
        return code, self.output.read_text()

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        wait_until(lambda: not processes_of(self.run_dir), "the demo's processes are gone")


StartDemo = Callable[..., RunningDemo]


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[StartDemo]:
    started: list[RunningDemo] = []

    def start(*arguments: str) -> RunningDemo:
        started.append(RunningDemo(tmp_path / "run", *arguments))
        return started[-1]

    yield start
    for demo in started:
        demo.clean_up()


def assert_well(report: Report, output: str) -> None:
    """What every good run must show, whatever was traded."""
    assert report.problems == (), output
    for market in report.markets:
        assert market.live_orders_at_exit == 0
        assert market.kills == 0
        assert market.sequence_gaps == 0
        assert market.cpu == market.cpu_planned
        assert (market.yes_volume, market.no_volume, market.cash_cents) == (
            market.exchange.yes_volume,
            market.exchange.no_volume,
            market.exchange.cash_cents,
        )
        assert market.book_messages > 0
        assert market.tick_to_quote_ns.count > 0


def test_a_timed_demo_ends_well_and_reports(start_demo: StartDemo, tmp_path: Path) -> None:
    report_file = tmp_path / "r.json"
    demo = start_demo("--seconds", "8", "--report", str(report_file), "--seed", "7")
    code, output = demo.result()
    assert code == 0, output
    report = msgspec.json.decode(report_file.read_bytes(), type=Report)
    assert_well(report, output)
    assert len(report.markets) == 3
    assert report.seconds >= 8
    assert report.seed == 7
    assert report.redis.writes > 0
    assert report.redis.keys >= 9, "inventory, orders and state of three markets"
    assert all(market.replaces + market.places > 0 for market in report.markets)
    assert sum(market.fills for market in report.markets) > 0
    assert not processes_of(demo.run_dir)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_told_to_stop_ends_in_order(start_demo: StartDemo, number: signal.Signals) -> None:
    demo = start_demo("--markets", "1", "--report", str(os.devnull))
    wait_until(lambda: demo.says("quoting 1/1"), "the market quotes")
    demo.process.send_signal(number)
    code, output = demo.result()
    assert code == 0, output
    assert "nothing live at the exchange" in output
    assert not processes_of(demo.run_dir)


def test_a_killed_demo_leaves_nothing(start_demo: StartDemo) -> None:
    demo = start_demo("--markets", "2")
    wait_until(lambda: demo.says("quoting 2/2"), "both markets quote")
    assert len(processes_of(demo.run_dir)) > 5
    demo.process.kill()
    demo.process.wait(10)
    wait_until(lambda: not processes_of(demo.run_dir), "everything has died with the demo")


def test_a_second_demo_in_the_same_directory_is_refused(start_demo: StartDemo) -> None:
    first = start_demo("--markets", "1")
    wait_until((first.run_dir / "paper.address").exists, "the exchange listens")
    second = subprocess.run(
        [sys.executable, "-m", "engine.cli", "demo", "--run-dir", str(first.run_dir)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert second.returncode == EXIT_CONFIG
    assert "another demo runs here" in second.stderr


def recording(path: Path) -> Path:
    """A short match: odds move each message, some stakes are taken, it is suspended once, runner 1 wins."""

    def definition(status: str, **winner: str) -> dict[str, Any]:
        return {
            "status": status,
            "inPlay": True,
            "runners": [
                {"id": runner, "sortPriority": priority, "status": winner.get(str(runner), "ACTIVE")}
                for priority, runner in enumerate((YES_RUNNER, NO_RUNNER), start=1)
            ],
        }

    def line(number: int, *changes: dict[str, Any], **market: Any) -> str:
        change = {"id": "1.1", "rc": list(changes), **market}
        return json.dumps({"op": "mcm", "pt": 1_000_000 + number * 400, "clk": "x", "mc": [change]})

    lines = [
        line(
            0,
            {"id": YES_RUNNER, "atb": [[2.0, 500], [1.96, 300]], "atl": [[2.08, 400], [2.12, 300]]},
            {"id": NO_RUNNER, "atb": [[1.92, 200]], "atl": [[2.1, 200]]},
            marketDefinition=definition("OPEN"),
            img=True,
        )
    ]
    for number in range(1, 40):
        stake = 100 + 17 * (number % 9)
        changes: dict[str, Any] = {
            "id": YES_RUNNER,
            "atb": [[2.0, 500 + stake], [1.9, stake]],
            "atl": [[2.08, 400 - stake], [2.2, stake if number % 3 else 0]],
        }
        if number % 8 == 0:
            changes["trd"] = [[2.04, 40.0 * number]]
        market = {}
        if number == 20:
            market["marketDefinition"] = definition("SUSPENDED")
        elif number == 22:
            market["marketDefinition"] = definition("OPEN")
        lines.append(line(number, changes, **market))
    winner = {str(YES_RUNNER): "WINNER", str(NO_RUNNER): "LOSER"}
    lines.append(line(41, marketDefinition=definition("CLOSED", **winner)))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_recording_reaches_the_quoters_book_change_by_change(start_demo: StartDemo, tmp_path: Path) -> None:
    match = recording(tmp_path / "match.jsonl")
    report_file = tmp_path / "r.json"
    demo = start_demo("--feed", f"betfair:{match}", "--speed", "2", "--report", str(report_file))
    code, output = demo.result()
    report = msgspec.json.decode(report_file.read_bytes(), type=Report)
    assert code == 0, output
    assert_well(report, output)
    assert report.feed is not None
    assert report.feed.finished
    assert report.feed.checkpoints > 30
    assert report.feed.matched == report.feed.checkpoints, report.feed.unmatched
    (market,) = report.markets
    assert (market.exchange.yes_volume, market.exchange.no_volume) == (0, 0), "settled"


# ---- what is refused before anything starts ----


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"feed": "kalshi:x"}, EXIT_USAGE, "--feed kalshi:x: must be betfair:FILE"),
        ({"feed": "betfair:"}, EXIT_USAGE, "--feed betfair:: must be betfair:FILE"),
        ({"feed": "betfair:/nonexistent"}, EXIT_CONFIG, "No such file"),
        ({"feed": f"betfair:{__file__}"}, EXIT_CONFIG, "line 1"),
        ({"feed": f"betfair:{__file__}", "start": "middle"}, EXIT_USAGE, "--from middle: must be inplay or"),
        ({"feed": f"betfair:{__file__}", "markets": 2}, EXIT_USAGE, "a recording is one market"),
        ({"markets": 0}, EXIT_USAGE, "--markets 0: must be 1..200"),
        ({"markets": 201}, EXIT_USAGE, "--markets 201: must be 1..200"),
        ({"seconds": 0.0}, EXIT_USAGE, "--seconds 0: must be above 0"),
        ({"speed": float("inf")}, EXIT_USAGE, "--speed inf: must be above 0"),
        ({"seed": -1}, EXIT_USAGE, "--seed -1: must be 0 or more"),
        ({"report": Path("/nonexistent/r.json")}, EXIT_USAGE, "its directory does not exist"),
    ],
)
def test_bad_input_is_one_line(options: dict[str, Any], code: int, words: str) -> None:
    with pytest.raises(StageError) as refused:
        make_plan(DemoOptions(**options))
    assert refused.value.exit_code == code
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_command_ends_with_the_code_and_the_line(tmp_path: Path) -> None:
    feed = tmp_path / "not-a-feed"
    feed.write_bytes(b"\x00\x01")
    ended = subprocess.run(
        [sys.executable, "-m", "engine.cli", "demo", "--feed", f"betfair:{feed}"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert ended.returncode == EXIT_CONFIG
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"corequote: feed {feed}: line 1: ")


# ---- the documents it writes ----


@pytest.mark.parametrize("markets", [1, 3, 20])
def test_both_sides_accept_their_configuration(tmp_path: Path, markets: int) -> None:
    from datetime import UTC, datetime

    plan = make_plan(DemoOptions(markets=markets))
    exchange_file, engine_file = tmp_path / "paper.toml", tmp_path / "engine.toml"
    exchange_file.write_text(exchange_config(plan, "0a1b2c3d", datetime.now(UTC)))
    engine_file.write_text(engine_config(plan, "http://127.0.0.1:8000"))
    exchange, engine = load_config(exchange_file), load(engine_file)
    ids = [market.id for market in plan.markets]
    assert [market.id for market in exchange.markets or ()] == ids
    assert [market.id for market in engine.markets] == ids
    assert {"operator", "amm_market_maker"} <= set(exchange.admin_users)


def test_toml_documents_say_what_was_meant() -> None:
    import tomllib

    tables = {
        "names": ["a", 'quoted "b" \\ and\nbroken', "öä"],
        "flag": True,
        "count": 3,
        "share": 0.5,
        "table": {"x": 1, "inner": {"y": "z"}},
        "rows": [{"id": "A"}, {"id": "B"}],
    }
    assert tomllib.loads(toml_document(tables)) == tables
