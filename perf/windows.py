"""Measuring on a machine that is not quiet: interleaved windows, a floor, and a stated rule for discarding.

Contenders take turns, one window each per round, so that all of them meet the same weather. The first
contender is the *floor*: work whose cost never changes. A round is discarded when its floor was more
than ``FLOOR_SLACK`` times the fastest floor of the run, when this process and its children were
preempted more than ``SWITCHES_PER_S_MAX`` times a second in it, or when the hypervisor took time from
the machine, and when a window raised TimeoutError, because the machine did not let it end; it is run again,
up to ``ROUND_TRIES_MAX`` rounds, of which ``ROUNDS_LOST_MAX`` may be lost to a timeout. A contender's row is
its best kept window: the one with the lowest p50.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

FLOOR_SLACK: Final = 1.15
SWITCHES_PER_S_MAX: Final = 20.0
ROUND_TRIES_MAX: Final = 40
RUN_S_MAX: Final = 90.0
ROUNDS_LOST_MAX: Final = 5

Samples = npt.NDArray[np.float64]
"""Cost of one item, one entry per timed chunk of items."""


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """Who is measured, and a function that runs one window."""

    who: str
    window: Callable[[], Samples]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The best kept windows of one contender, in the report's unit."""

    who: str
    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    throughput: float  # items per second


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a script prints; ``ratios`` has the keys that ``perf/README.md`` names."""

    name: str
    unit: str
    rows: list[Row]
    ratios: dict[str, float | None]
    discarded: int
    machine: dict[str, Any]
    notes: list[str]


def row(who: str, samples: Samples, *, throughput: float | None = None) -> Row:
    """Percentiles of one window. ``throughput``: per second; by default the samples are ns of one item."""
    p50, p90, p99, p999 = (float(value) for value in np.percentile(samples, (50, 90, 99, 99.9)))
    return Row(
        who=who,
        p50=p50,
        p90=p90,
        p99=p99,
        p999=p999,
        max=float(samples.max()),
        throughput=1e9 / float(samples.mean()) if throughput is None else throughput,
    )


class Weather(msgspec.Struct, frozen=True):
    """What disturbed this process, and the children it has reaped, so far."""

    at_s: float
    switches: int  # involuntary
    steal_ticks: int  # time the hypervisor gave to other machines

    @classmethod
    def now(cls) -> Weather:
        whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        with open("/proc/stat") as stat:
            cpu = stat.readline().split()
        return cls(
            at_s=time.monotonic(),
            switches=sum(resource.getrusage(who).ru_nivcsw for who in whose),
            steal_ticks=int(cpu[8]) if len(cpu) > 8 else 0,
        )

    def since(self, before: Weather) -> tuple[int, float]:
        """(steal ticks, switches per second); (0, at most ``SWITCHES_PER_S_MAX``) is quiet."""
        rate = (self.switches - before.switches) / max(self.at_s - before.at_s, 0.001)
        return self.steal_ticks - before.steal_ticks, rate


def interleave(contenders: Sequence[Contender], *, rounds: int = 5) -> tuple[list[Row], int]:
    """Rows in the order of ``contenders`` from ``rounds`` kept rounds, and how many rounds were discarded.

    When the machine never grows quiet enough, the rows come from the quietest ``rounds`` of all that ran.
    Raises TimeoutError when more than ``ROUNDS_LOST_MAX`` rounds did.
    """
    lost = 0
    ran: list[tuple[float, tuple[int, float], list[Row]]] = []
    deadline = time.monotonic() + RUN_S_MAX
    for _ in range(ROUND_TRIES_MAX):
        before = Weather.now()
        try:
            rows = [row(contender.who, contender.window()) for contender in contenders]
        except TimeoutError:
            lost += 1
            if lost > ROUNDS_LOST_MAX:
                raise
            continue
        ran.append((rows[0].p50, Weather.now().since(before), rows))
        fastest = min(floor for floor, _, _ in ran)
        kept = [
            entry
            for entry in ran
            if entry[0] <= fastest * FLOOR_SLACK and entry[1][0] == 0 and entry[1][1] <= SWITCHES_PER_S_MAX
        ]
        if len(kept) >= rounds or (len(ran) >= rounds and time.monotonic() > deadline):
            break
    if len(kept) < rounds:
        kept = sorted(ran, key=lambda entry: entry[:2])[:rounds]
    windows = [[rows[i] for _, _, rows in kept] for i in range(len(contenders))]
    return [_best(rows) for rows in windows], lost + len(ran) - len(kept)


def _best(rows: list[Row]) -> Row:
    """The percentiles of the window with the lowest p50, and the highest throughput of any."""
    best = min(rows, key=lambda row: row.p50)
    return msgspec.structs.replace(best, throughput=max(row.throughput for row in rows))


def _first_line(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def machine() -> dict[str, Any]:
    """What a number depends on: processor, cores, kernel, interpreter, compiler, commit, load."""
    with open("/proc/cpuinfo") as cpuinfo:
        model = next(
            (line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")), "unknown"
        )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "compiler": _first_line(os.environ.get("CC", "cc"), "--version"),
        "commit": _first_line("git", "rev-parse", "--short", "HEAD"),
        "load_1min": os.getloadavg()[0],
    }


def show(report: Report, *, as_json: bool) -> None:
    """Print a table for a person, or one JSON object."""
    if as_json:
        print(json.dumps(msgspec.to_builtins(report)))
        return
    print(f"{report.name}: {report.unit}; {report.discarded} rounds discarded")
    print(f"  {'':44}{'p50':>10}{'p90':>10}{'p99':>10}{'p99.9':>10}{'max':>12}{'per second':>15}")
    for row in report.rows:
        numbers = f"{row.p50:10.1f}{row.p90:10.1f}{row.p99:10.1f}{row.p999:10.1f}{row.max:12.1f}"
        print(f"  {row.who:44}{numbers}{row.throughput:15,.0f}")
    for name, ratio in report.ratios.items():
        print(f"  {name:44}{'not measured' if ratio is None else f'{ratio:.2f}':>10}")
    for note in report.notes:
        print(f"  note: {note}")
