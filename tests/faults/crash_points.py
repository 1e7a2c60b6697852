"""Every named place at which a process may die, one engine each: what came of it, and every balance.

    python -m tests.faults.crash_points [--only NAME ...] [--seed S]

The engine of a demo set-up runs with one place armed (``engine/crash_points.py``). When the process has
killed itself there, everything must quote again, and at the end nothing may be live at the exchange, and
stock and cash must equal its books to the cent. One line per place; the last line is
``crash points survived N/N``; exit code 1 unless all were.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence

import uvloop
from rich.console import Console

from engine._native import lib
from engine.crash_points import POINTS, VARIABLE
from engine.demo import Demo, DemoOptions, make_plan, perform
from engine.snapshot import take
from engine.stage import PrivateDirectory, StageError, StopAskedError
from tests.faults.verdict import final_problems

MARKETS = 2
DIES_S_MAX = 60.0
BACK_S_MAX = 30.0
COUNTS = {
    "quoter.after_read": 2_000,
    "quoter.before_emit": 60,
    "quoter.after_emit": 60,
    "quoter.before_release": 80,
    "gateway.after_take": 40,
    "gateway.after_risk": 40,
    "gateway.after_journal": 40,
    "gateway.after_send": 120,
    "gateway.before_reply": 40,
    "gateway.after_reply": 40,
    "gateway.mid_cancel": 3,
    "gateway.mid_sweep": 1,
    "gateway.after_fill": 2,
    "ingest.before_parse": 150,
    "ingest.mid_slot": 4,
    "ingest.after_publish": 4,
    "ingest.in_snapshot": 1,
    "writer.after_collect": 40,
    "writer.mid_pipeline": 40,
    "writer.after_ack": 40,
    "supervisor.mid_transition": 1,
}
"""At which visit the process dies: late enough that the market is quoted, soon enough to wait for."""


class Place:
    """One armed place; :meth:`play` is what the demo plays."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind = name.partition(".")[0]
        self.problem = ""
        self.died_s = 0.0
        self.back_ms = 0.0

    async def play(self, demo: Demo) -> None:
        stage = demo.stage
        marker = stage.run_dir / f"crashed-{self.name}"
        began = time.monotonic()
        if self.kind == "supervisor":  # its transition is a quoter's death
            victim = next(p for p in take(stage.arena).processes if p.row == lib.PROCESS_QUOTER_FIRST)
            os.kill(victim.pid, signal.SIGKILL)
        try:
            await stage.until(
                marker.exists, what="the process dies", timeout_s=DIES_S_MAX, watch=demo.sampler.look
            )
            died = time.monotonic()
            self.died_s = died - began
            settled = died + 1.0  # its death has been noticed by then, and quotes pulled
            await stage.until(
                lambda: time.monotonic() > settled and demo.all_quote(),
                what="every market quotes again",
                timeout_s=BACK_S_MAX,
                watch=demo.sampler.look,
            )
            self.back_ms = 1_000 * (time.monotonic() - died)
        except StageError as error:
            self.problem = str(error)

    def line(self, number: int, count: int) -> str:
        verdict = f"NOT SURVIVED: {self.problem}" if self.problem else "survived"
        return (
            f"crash point {number:2d}/{count}  {self.name:26s} died after {self.died_s:5.1f} s, "
            f"quoting after {self.back_ms:6.0f} ms  {verdict}"
        )


def strike(name: str, *, seed: int) -> Place:
    """Runs one engine with this place armed."""
    place = Place(name)
    directory = PrivateDirectory(None)
    os.environ[VARIABLE] = f"{name}:{COUNTS[name]}"
    plan = make_plan(DemoOptions(markets=MARKETS, seed=seed))
    try:
        report = uvloop.run(perform(plan, directory, Console(quiet=True), play=place.play))
        problems = final_problems(report)
    except (StageError, StopAskedError) as error:
        problems = (str(error),)
    finally:
        del os.environ[VARIABLE]
    place.problem = place.problem or "; ".join(problems)
    directory.release(remove=not place.problem)
    if place.problem:
        place.problem += f" (logs: {directory.path / 'log'})"
    return place


def visit(names: Sequence[str], *, seed: int) -> int:
    """One engine per place, one line per engine; returns how many were survived."""
    survived = 0
    for number, name in enumerate(names, 1):
        place = strike(name, seed=seed)
        survived += not place.problem
        print(place.line(number, len(names)), flush=True)
    return survived


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the places; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.crash_points", description="Die and check.")
    parser.add_argument("--only", nargs="+", choices=POINTS, default=POINTS, metavar="NAME")
    parser.add_argument("--seed", type=int, default=None, help="of the simulated traders")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else secrets.randbelow(2**31)
    print(f"crash points: {len(options.only)} places, seed {seed}", flush=True)
    survived = visit(options.only, seed=seed)
    print(f"crash points survived {survived}/{len(options.only)}", flush=True)
    return 0 if survived == len(options.only) else 1


if __name__ == "__main__":
    sys.exit(main())
