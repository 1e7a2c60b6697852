"""``make faults``: processes of a running engine are killed at random moments, and every balance is checked.

    python -m tests.faults.campaign [--quick] [--seed S]

A demo set-up (exchange, engine on three markets, simulated traders) runs while a random one of ingest,
quoter, gateway and writer gets ``kill -9``. A fault is survived when the process comes back and every market
quotes both sides again, by the exchange's own journal. Where a death must pull quotes (quoter: its market;
ingest and gateway: all) they must all have been gone from the exchange in between; the writer's death must
not touch an order. At the end nothing may be live at the exchange, and stock and cash of every market must
equal the exchange's to the cent. One line per fault; the last line is ``faults survived N/N``; exit code 1
unless all were.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import uvloop
from msgspec import Struct
from rich.console import Console

from engine._native import lib
from engine.arena import cell
from engine.demo import Demo, DemoOptions, make_plan
from engine.events import ProcessState
from engine.observer import MarketFold
from engine.report import Report, verdicts
from engine.snapshot import ProcessView, take
from engine.stage import PrivateDirectory, Stage, StageError, StopAskedError, stop_on_signals

QUICK_FAULTS = 10
FULL_FAULTS = 50
MARKETS = 3
KINDS = ("ingest", "quoter", "gateway", "writer")
PULLS_QUOTES = frozenset({"ingest", "quoter", "gateway"})
LIFE_S_MIN = 11.0
"""A process is left alone this long after its start: the crash-loop breaker counts younger deaths."""
CALM_S = (0.5, 2.5)
"""Bounds of the random pause between two faults."""
BACK_S_MAX = 30.0
SETTLE_NS = 300_000_000
"""A writer's death is given this long to show that it touches no order."""


class Fault(Struct, frozen=True, kw_only=True):
    """What was done and what followed; times in ms after the kill, None = did not happen or was not asked."""

    victim: str
    at_s: float
    cancelled_ms: float | None
    quoting_ms: float | None
    problem: str

    def line(self, number: int, count: int) -> str:
        def shown(milliseconds: float | None) -> str:
            return "      -" if milliseconds is None else f"{milliseconds:4.0f} ms"

        verdict = f"  NOT SURVIVED: {self.problem}" if self.problem else ""
        return (
            f"fault {number:2d}/{count}  kill -9 {self.victim:9s} at {self.at_s:6.1f} s  "
            f"cancelled after {shown(self.cancelled_ms)}  "
            f"quoting again after {shown(self.quoting_ms)}{verdict}"
        )


def first_gone_ns(fold: MarketFold, since_ns: int, now_ns: int) -> int | None:
    """When the market first held no order of the engine at or after ``since_ns``; None: it always has."""
    for start, end in fold.any_live.spans(now_ns):
        if start <= since_ns < end:
            return None if end >= now_ns and fold.any_live.is_on else end
    return since_ns


def first_both_sides_ns(fold: MarketFold, since_ns: int, now_ns: int) -> int | None:
    """When the market first held orders on both sides at or after ``since_ns``; None: not yet."""
    for start, end in fold.both_sides.spans(now_ns):
        if end > since_ns:
            return max(start, since_ns)
    return None


class Campaign:
    """Kills, waits and judges; :meth:`play` is what the demo plays."""

    def __init__(self, *, count: int, seed: int) -> None:
        self.faults: list[Fault] = []
        self._count = count
        self._random = random.Random(seed)

    async def play(self, demo: Demo) -> None:
        await demo.stage.until(lambda: self._all_quote(demo), what="all markets quote both sides")
        for number in range(1, self._count + 1):
            await self._pause(demo)
            victim = await self._victim(demo)
            fault = await self._strike(demo, victim)
            self.faults.append(fault)
            demo.say(fault.line(number, self._count))

    async def _pause(self, demo: Demo) -> None:
        end = time.monotonic() + self._random.uniform(*CALM_S)
        await demo.stage.until(lambda: time.monotonic() >= end, what="a pause", watch=demo.sampler.look)
        await demo.stage.until(
            lambda: self._all_quote(demo), what="all markets quote both sides", watch=demo.sampler.look
        )

    def _all_quote(self, demo: Demo) -> bool:
        return all(self._fold(demo, market.slot).both_sides.is_on for market in demo.sampler.markets)

    def _fold(self, demo: Demo, slot: int) -> MarketFold:
        return demo.stage.observer.fold.market(demo.stage.arena.market_id(slot))

    async def _victim(self, demo: Demo) -> ProcessView:
        """A running process that has lived long enough: first a kind is drawn, then one of that kind."""
        kind = self._random.choice(KINDS)
        found: list[ProcessView] = []

        def look() -> bool:
            found[:] = [process for process in take(demo.stage.arena).processes if _is_ripe(process, kind)]
            return bool(found)

        await demo.stage.until(look, what=f"a {kind} may be killed", watch=demo.sampler.look)
        return self._random.choice(found)

    def _affected(self, demo: Demo, victim: ProcessView) -> list[int]:
        """Market slots whose quotes must go when the victim dies."""
        kind = victim.name.partition("-")[0]
        arena = demo.stage.arena
        slots = [market.slot for market in demo.sampler.markets]
        if kind == "quoter":
            return [
                slot for slot in slots if arena.market_worker(slot) + lib.PROCESS_QUOTER_FIRST == victim.row
            ]
        return slots if kind in PULLS_QUOTES else []

    async def _strike(self, demo: Demo, victim: ProcessView) -> Fault:
        stage = demo.stage
        affected = self._affected(demo, victim)
        at_s = demo.seconds()
        killed_ns = time.time_ns()
        os.kill(victim.pid, signal.SIGKILL)
        gone: dict[int, int] = {}
        again: dict[int, int] = {}

        def recovered() -> bool:
            now_ns = time.time_ns()
            for market in demo.sampler.markets:
                fold = self._fold(demo, market.slot)
                since_ns: int | None = killed_ns
                if market.slot in affected:
                    since_ns = gone.get(market.slot) or first_gone_ns(fold, killed_ns, now_ns)
                    if since_ns is not None:
                        gone[market.slot] = since_ns
                if since_ns is not None and market.slot not in again:
                    found = first_both_sides_ns(fold, since_ns, now_ns)
                    if found is not None:
                        again[market.slot] = found
            observed = affected or now_ns > killed_ns + SETTLE_NS
            return bool(observed) and len(again) == len(demo.sampler.markets) and self._is_back(demo, victim)

        problem = ""
        try:
            await stage.until(
                recovered, what="all is well again", timeout_s=BACK_S_MAX, watch=demo.sampler.look
            )
        except StageError as error:
            problem = self._diagnosis(demo, victim, affected, gone, again) or str(error)
            stage.check()  # when something else has fallen, that is the end
        if not affected and not problem:
            problem = self._touched(demo, killed_ns)
        return Fault(
            victim=victim.name,
            at_s=at_s,
            cancelled_ms=_after_ms(killed_ns, list(gone.values())) if len(gone) == len(affected) else None,
            quoting_ms=_after_ms(killed_ns, list(again.values())) if affected else None,
            problem=problem,
        )

    def _is_back(self, demo: Demo, victim: ProcessView) -> bool:
        row = demo.stage.arena.process(victim.row)
        return bool(
            lib.cell_load(cell(row, "attached_epoch")) > victim.epoch
            and lib.cell_load(cell(row, "state")) == lib.PROCESS_RUNNING
        )

    def _diagnosis(
        self,
        demo: Demo,
        victim: ProcessView,
        affected: list[int],
        gone: dict[int, int],
        again: dict[int, int],
    ) -> str:
        arena = demo.stage.arena
        found = [f"{arena.market_id(slot)} kept its orders" for slot in affected if slot not in gone]
        found += [
            f"{market.market_id} does not quote"
            for market in demo.sampler.markets
            if market.slot not in again
        ]
        if not self._is_back(demo, victim):
            found.append(f"{victim.name} did not come back")
        return "; ".join(found)

    def _touched(self, demo: Demo, killed_ns: int) -> str:
        """Names the markets whose orders all went although nothing but the writer died."""
        touched = [
            market.market_id
            for market in demo.sampler.markets
            if first_gone_ns(self._fold(demo, market.slot), killed_ns, time.time_ns()) is not None
        ]
        return f"orders of {', '.join(touched)} were pulled" if touched else ""


def _after_ms(killed_ns: int, moments: list[int]) -> float | None:
    return (max(moments) - killed_ns) / 1e6 if moments else None


def _is_ripe(process: ProcessView, kind: str) -> bool:
    if process.name.partition("-")[0] != kind or process.state is not ProcessState.RUNNING:
        return False
    try:
        born_s: float = psutil.Process(process.pid).create_time()
        return time.time() - born_s > LIFE_S_MIN
    except psutil.Error:
        return False


async def _perform(directory: PrivateDirectory, campaign: Campaign, *, seed: int) -> Report | None:
    plan = make_plan(DemoOptions(markets=MARKETS, seed=seed))
    console = Console(highlight=False, width=200)
    async with stop_on_signals() as stop, Stage(directory.path, stop=stop) as stage:
        return await Demo(plan, stage, console, live=False, play=campaign.play).run()


def final_problems(report: Report | None) -> tuple[str, ...]:
    """What is not well after all faults: the run itself, or a balance."""
    if report is None:
        return ("the campaign was stopped",)
    allowed = set(verdicts(report)) - set(verdicts(report, may_be_killed=True))
    return tuple(problem for problem in report.problems if problem not in allowed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the campaign; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description="Kill and check.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_FAULTS} faults, not {FULL_FAULTS}")
    parser.add_argument("--seed", type=int, default=None, help="repeat the choices of an earlier run")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else secrets.randbelow(2**31)
    if seed < 0:
        parser.error(f"--seed {seed}: must be 0 or more")
    count = QUICK_FAULTS if options.quick else FULL_FAULTS
    print(f"faults: {count} kills, seed {seed}", flush=True)
    campaign = Campaign(count=count, seed=seed)
    problems: tuple[str, ...]
    directory: PrivateDirectory | None = None
    try:
        directory = PrivateDirectory(None)
        problems = final_problems(uvloop.run(_perform(directory, campaign, seed=seed)))
    except (StageError, StopAskedError) as error:
        problems = (str(error),)
    survived = 0 if problems else sum(not fault.problem for fault in campaign.faults)
    if directory is not None:
        directory.release(remove=survived == count)
        if survived != count:
            print(f"faults: logs are in {Path(directory.path) / 'log'}")
    for problem in problems:
        print(f"faults: {problem}")
    print(f"faults survived {survived}/{count}", flush=True)
    return 0 if survived == count else 1


if __name__ == "__main__":
    sys.exit(main())
