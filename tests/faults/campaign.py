"""``make faults``: processes of a running engine are killed or stopped, and every balance is checked.

    python -m tests.faults.campaign [--quick] [--seed S] [--count N] [--resume]

A demo set-up (exchange, engine on three markets, simulated traders) runs while a random one of supervisor,
guard, ingest, quoter, gateway, writer and control gets SIGKILL or SIGSTOP. A fault is survived when the
process comes back and every market quotes both sides again, by the exchange's own journal. Where a death must
pull quotes (quoter: its market; ingest, gateway and supervisor: all) they must all have been gone from the
exchange in between; the death of guard, writer or control must not touch an order. At the end nothing may be
live at the exchange, and stock and cash of every market must equal the exchange's to the cent.

The full run begins with every named crash point (``tests/faults/crash_points.py``), one engine each.

One line per fault, a table of the times per kind beside the bounds of reliability §2, and as last line
``faults survived N/N``; exit code 1 unless all were. Fault k of a seed is always the same; each is written to
``build/faults/SEED.jsonl`` as it ends, and ``--resume`` goes on behind the last one there.
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

import msgspec
import psutil
import uvloop
from msgspec import Struct, structs
from rich.console import Console
from rich.table import Table

from engine._native import lib
from engine.arena import cell
from engine.crash_points import POINTS
from engine.demo import Demo, DemoOptions, make_plan, perform
from engine.events import ProcessState
from engine.observer import MarketFold
from engine.snapshot import ProcessView, take
from engine.stage import PrivateDirectory, StageError, StopAskedError
from tests.faults.crash_points import visit
from tests.faults.verdict import final_problems

QUICK_FAULTS = 10
FULL_FAULTS = 220
MARKETS = 3
ORDER_RATE_LIMIT = 60_000  # a minute
POST_FILL_DELAY_MS = 500  # the shortest: what a market waits for after a fill is no part of a restart
KINDS = ("supervisor", "guard", "ingest", "quoter", "gateway", "writer", "control")
PULLS_QUOTES = frozenset({"supervisor", "ingest", "quoter", "gateway"})
STOPPED_SHARE = 0.25
"""Of the faults; the others are kills."""
CANCELLED_MS_MAX = {"supervisor": 500, "gateway": 500, "ingest": 250, "quoter": 250}
"""reliability §2: from the death to the last cancel; a stopped process is found out 1 s later."""
HEARTBEAT_MS = 1_000
QUOTING_MS_MAX = 3_000
RECORDS = Path("build/faults")
LIFE_S_MIN = 11.0
YOUNG_LIFE_S_MIN = 2.0
YOUNG_DEATHS_MAX = 3
YOUNG_SPAN_S = 75.0
"""The crash-loop breaker counts deaths within 10 s of a start, five of them in 60 s: a process dies young
so many times in so many seconds here, and is otherwise left alone for ``LIFE_S_MIN``."""
CALM_S = (0.5, 2.5)
"""Bounds of the random pause between two faults."""
BACK_S_MAX = 30.0
SETTLE_NS = 300_000_000
"""A writer's death is given this long to show that it touches no order."""


class Fault(Struct, frozen=True, kw_only=True):
    """What was done and what followed; times in ms after the kill, None = did not happen or was not asked."""

    number: int
    kind: str
    how: str  # SIGKILL, SIGSTOP
    victim: str
    at_s: float
    cancelled_ms: float | None
    quoting_ms: float | None
    problem: str

    def line(self, count: int) -> str:
        number = self.number

        def shown(milliseconds: float | None) -> str:
            return "      -" if milliseconds is None else f"{milliseconds:4.0f} ms"

        verdict = f"  NOT SURVIVED: {self.problem}" if self.problem else ""
        return (
            f"fault {number:3d}/{count}  {self.how} {self.victim:10s} at {self.at_s:6.1f} s  "
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

    def __init__(self, *, count: int, seed: int, done: Sequence[Fault] = ()) -> None:
        self.faults = list(done)
        self._count = count
        self._seed = seed
        self._random = random.Random(seed)
        self._young_deaths: dict[str, list[float]] = {}

    async def play(self, demo: Demo) -> None:
        await demo.stage.until(demo.all_quote, what="all markets quote both sides")
        present = {process.name.partition("-")[0] for process in take(demo.stage.arena).processes}
        kinds = [kind for kind in KINDS if kind in present]
        with record_file(self._seed).open("ab") as record:
            for number in range(len(self.faults) + 1, self._count + 1):
                self._random = random.Random(f"{self._seed}:{number}")
                await self._pause(demo)
                kind = self._random.choice(kinds)
                how = signal.SIGSTOP if self._random.random() < STOPPED_SHARE else signal.SIGKILL
                victim = await self._victim(demo, kind)
                fault = await self._strike(demo, victim, number=number, kind=kind, how=how)
                self.faults.append(fault)
                record.write(msgspec.json.encode(fault) + b"\n")
                record.flush()
                demo.say(fault.line(self._count))

    async def _pause(self, demo: Demo) -> None:
        end = time.monotonic() + self._random.uniform(*CALM_S)
        await demo.stage.until(lambda: time.monotonic() >= end, what="a pause", watch=demo.sampler.look)
        await demo.stage.until(demo.all_quote, what="all markets quote both sides", watch=demo.sampler.look)

    def _fold(self, demo: Demo, slot: int) -> MarketFold:
        return demo.stage.observer.fold.market(demo.stage.arena.market_id(slot))

    async def _victim(self, demo: Demo, kind: str) -> ProcessView:
        """A running process of the kind that has lived long enough."""
        found: list[ProcessView] = []

        def look() -> bool:
            found[:] = [
                process
                for process in take(demo.stage.arena).processes
                if _is_ripe(process, kind, life_s_min=self._life_s_min(process))
            ]
            return bool(found)

        await demo.stage.until(look, what=f"a {kind} may be killed", watch=demo.sampler.look)
        victim = self._random.choice(found)
        if _age_s(victim) < LIFE_S_MIN:
            self._young_deaths.setdefault(victim.name, []).append(time.monotonic())
        return victim

    def _life_s_min(self, process: ProcessView) -> float:
        since = time.monotonic() - YOUNG_SPAN_S
        young = [moment for moment in self._young_deaths.get(process.name, ()) if moment > since]
        return YOUNG_LIFE_S_MIN if len(young) < YOUNG_DEATHS_MAX else LIFE_S_MIN

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

    async def _strike(
        self, demo: Demo, victim: ProcessView, *, number: int, kind: str, how: signal.Signals
    ) -> Fault:
        stage = demo.stage
        lives = stage.engine_restarts
        affected = self._affected(demo, victim)
        at_s = demo.seconds()
        killed_ns = time.time_ns()
        os.kill(victim.pid, how)
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
            return (
                bool(observed)
                and len(again) == len(demo.sampler.markets)
                and self._is_back(demo, victim, lives)
            )

        problem = ""
        try:
            await stage.until(
                recovered, what="all is well again", timeout_s=BACK_S_MAX, watch=demo.sampler.look
            )
        except StageError as error:
            problem = self._diagnosis(demo, victim, lives, affected, gone, again) or str(error)
            stage.check()  # when something else has fallen, that is the end
        if not affected and not problem:
            problem = self._touched(demo, killed_ns)
        return Fault(
            number=number,
            kind=kind,
            how=how.name,
            victim=victim.name,
            at_s=at_s,
            cancelled_ms=_after_ms(killed_ns, list(gone.values())) if len(gone) == len(affected) else None,
            quoting_ms=_after_ms(killed_ns, list(again.values())) if affected else None,
            problem=problem,
        )

    def _is_back(self, demo: Demo, victim: ProcessView, lives: int) -> bool:
        if victim.row == lib.PROCESS_SUPERVISOR:
            return demo.stage.engine_restarts > lives
        row = demo.stage.arena.process(victim.row)
        return bool(
            lib.cell_load(cell(row, "attached_epoch")) > victim.epoch
            and lib.cell_load(cell(row, "state")) == lib.PROCESS_RUNNING
        )

    def _diagnosis(
        self,
        demo: Demo,
        victim: ProcessView,
        lives: int,
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
        if not self._is_back(demo, victim, lives):
            found.append(f"{victim.name} did not come back")
        return "; ".join(found)

    def _touched(self, demo: Demo, killed_ns: int) -> str:
        """Names the markets whose orders all went although nobody died who had to do with them."""
        touched = [
            market.market_id
            for market in demo.sampler.markets
            if first_gone_ns(self._fold(demo, market.slot), killed_ns, time.time_ns()) is not None
        ]
        return f"orders of {', '.join(touched)} were pulled" if touched else ""


def record_file(seed: int) -> Path:
    return RECORDS / f"{seed}.jsonl"


def recorded(seed: int) -> list[Fault]:
    """Faults that an earlier run of this seed has behind it."""
    try:
        lines = record_file(seed).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [msgspec.json.decode(line, type=Fault) for line in lines]


def _percentiles(values: list[float]) -> list[str]:
    ordered = sorted(values)
    if not ordered:
        return ["-"] * 3
    picked = (
        ordered[len(ordered) // 2],
        ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
        ordered[-1],
    )
    return [f"{value:.0f}" for value in picked]


def table(faults: Sequence[Fault]) -> Table:
    """Times per kind and signal beside their bounds, in ms."""
    shown = Table(box=None, pad_edge=False)
    for heading in ("process", "signal", "faults", "cancelled p50", "p99", "max", "bound", "within"):
        shown.add_column(heading, justify="left" if heading in ("process", "signal") else "right")
    for heading in ("quoting p50", "p99", "max", "within 3 s"):
        shown.add_column(heading, justify="right")
    for kind in KINDS:
        for how in (signal.SIGKILL.name, signal.SIGSTOP.name):
            mine = [fault for fault in faults if (fault.kind, fault.how) == (kind, how)]
            if not mine:
                continue
            late_ms = HEARTBEAT_MS if how == signal.SIGSTOP.name else 0
            bound = CANCELLED_MS_MAX[kind] + late_ms if kind in CANCELLED_MS_MAX else None
            cancelled = [fault.cancelled_ms for fault in mine if fault.cancelled_ms is not None]
            quoting = [fault.quoting_ms for fault in mine if fault.quoting_ms is not None]
            shown.add_row(
                *(kind, how, str(len(mine)), *_percentiles(cancelled)),
                *("-", "-") if bound is None else (str(bound), _within(cancelled, bound)),
                *(*_percentiles(quoting), _within(quoting, QUOTING_MS_MAX + late_ms)),
            )
    return shown


def _within(values: list[float], bound: float) -> str:
    return f"{sum(value <= bound for value in values)}/{len(values)}" if values else "-"


def _after_ms(killed_ns: int, moments: list[int]) -> float | None:
    return (max(moments) - killed_ns) / 1e6 if moments else None


def _is_ripe(process: ProcessView, kind: str, *, life_s_min: float) -> bool:
    if process.name.partition("-")[0] != kind or process.state is not ProcessState.RUNNING:
        return False
    return _age_s(process) > life_s_min


def _age_s(process: ProcessView) -> float:
    """How long it has lived; 0 when it is gone."""
    try:
        return time.time() - float(psutil.Process(process.pid).create_time())
    except psutil.Error:
        return 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the campaign; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description="Kill and check.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_FAULTS} faults, not {FULL_FAULTS}")
    parser.add_argument("--count", type=int, default=FULL_FAULTS, help="how many, by default %(default)s")
    parser.add_argument("--resume", action="store_true", help="go on behind the faults recorded for --seed")
    parser.add_argument("--seed", type=int, default=None, help="repeat the choices of an earlier run")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else secrets.randbelow(2**31)
    if seed < 0:
        parser.error(f"--seed {seed}: must be 0 or more")
    count = QUICK_FAULTS if options.quick else options.count
    done = recorded(seed) if options.resume else []
    if not options.resume:
        record_file(seed).unlink(missing_ok=True)
    places = () if options.quick or options.resume else POINTS
    print(f"faults: {count} faults, seed {seed}, {len(done)} of them done before", flush=True)
    died_well = visit(places, seed=seed)
    campaign = Campaign(count=count, seed=seed, done=done)
    problems: tuple[str, ...]
    console = Console(highlight=False, width=200)
    RECORDS.mkdir(parents=True, exist_ok=True)
    directory: PrivateDirectory | None = None
    try:
        directory = PrivateDirectory(None)
        # a fault every few seconds asks for more new orders than the account's limit lets a restart have
        plan = structs.replace(
            make_plan(DemoOptions(markets=MARKETS, seed=seed)),
            order_rate_limit=ORDER_RATE_LIMIT,
            quote={"post_fill_delay_ms": POST_FILL_DELAY_MS},
        )
        problems = final_problems(uvloop.run(perform(plan, directory, console, play=campaign.play)))
    except (StageError, StopAskedError) as error:
        problems = (str(error),)
    survived = 0 if problems else sum(not fault.problem for fault in campaign.faults)
    if directory is not None:
        directory.release(remove=survived == count)
        if survived != count:
            print(f"faults: logs are in {Path(directory.path) / 'log'}")
    console.print(table(campaign.faults))
    for problem in problems:
        print(f"faults: {problem}")
    survived, count = survived + died_well, count + len(places)
    print(f"faults survived {survived}/{count}", flush=True)
    return 0 if survived == count else 1


if __name__ == "__main__":
    sys.exit(main())
