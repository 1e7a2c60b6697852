"""Which processes of an engine run in real time, at which priority, and from when.

News passes ingest, a quoter and the gateway, and each hand-over is a wake-up. Under SCHED_OTHER a woken
process waits for whatever holds its core: up to a slice of every other process there. Under SCHED_RR it runs
at once, unless somebody of its own priority or a higher one is at work.

The order: the supervisor, who alone ends a process that does not stop; then gateway and guard, because a
cancel matters most and a gateway that a quoter of the same core rings should run at once; then the quoters;
then ingest, whose messages are worth nothing before a quoter has time for them. Writer, control, recorder and
Valkey stay ordinary, and so does a quoter that polls: it never sleeps, so it would never let go of its core.

A child gets its priority when it says RUNNING, in every life: the start of an interpreter is 0.5 to 1 s of
work that must not hold up those that trade.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from engine import scheduling
from engine.child import GATEWAY, GUARD, INGEST, QUOTER, Child
from engine.config import Config, ConfigError
from engine.config.sections import Wait
from engine.placement import WorkerPlan, worker_wait
from engine.process_log import EventLog

SUPERVISOR_PRIORITY: Final = 13
#: Lowest first to go; all of them below the kernel's interrupt threads (50).
PRIORITIES: Final = {GATEWAY: 12, GUARD: 12, QUOTER: 11, INGEST: 10}
#: A parked quoter that polls longer than this before it sleeps (0.1 ms or so) counts as one that spins.
SPIN_COUNT_MAX: Final = 10_000


def polls(wait: Wait, *, spin_count: int) -> bool:
    """Whether a quoter that waits so keeps its core busy while it has nothing to do."""
    return wait != "park" or spin_count > SPIN_COUNT_MAX


def priorities(children: Iterable[Child], *, waits: Sequence[Wait], spin_count: int) -> dict[str, int]:
    """Real-time priority by name for those that get one. ``waits``: how each worker waits, by worker slot."""
    return {
        child.name: PRIORITIES[child.kind]
        for child in children
        if child.kind in PRIORITIES
        and (child.worker is None or not polls(waits[child.worker], spin_count=spin_count))
    }


class Realtime:
    """Gives the processes of one engine their priority, as ``engine.realtime`` says."""

    def __init__(
        self, config: Config, plans: Sequence[WorkerPlan], children: Sequence[Child], *, log: EventLog
    ) -> None:
        self._mode: Final = config.engine.realtime
        self._log: Final = log
        waits = [
            worker_wait((config.markets[index].wait for index in plan.market_indexes), config.engine.wait)
            for plan in plans
        ]
        self._planned: Final = priorities(children, waits=waits, spin_count=config.engine.spin_count)
        self._polling: Final = [c.name for c in children if c.kind == QUOTER and c.name not in self._planned]
        self._may = False

    def begin(self) -> None:
        """Takes this process's own priority, which shows whether it has the right to give any; without it an
        engine in ``auto`` goes on as it is. Raises ConfigError when ``require`` cannot be met."""
        if self._mode == "off":
            return
        try:
            scheduling.run_realtime(0, SUPERVISOR_PRIORITY)
        except OSError as error:
            if self._mode == "require":
                raise ConfigError(
                    f'engine.realtime="require": SCHED_RR {SUPERVISOR_PRIORITY}: {error.strerror}; grant '
                    f'CAP_SYS_NICE or RLIMIT_RTPRIO {SUPERVISOR_PRIORITY}, or say "auto" or "off"'
                ) from None
            self._log.event(
                "not_realtime", reason=f"{error.strerror}: neither CAP_SYS_NICE nor RLIMIT_RTPRIO allows it"
            )
            return
        self._may = True
        if self._polling:
            self._log.event("not_realtime", children=",".join(self._polling), reason="polls while it waits")

    def promote(self, child: Child) -> None:
        """A child has said RUNNING: from here on it trades."""
        priority = self._planned.get(child.name)
        if not self._may or priority is None or child.process is None:
            return
        try:
            scheduling.run_realtime(child.process.pid, priority)
        except ProcessLookupError:
            return  # its death is handled where deaths are
        except OSError as error:
            self._log.event("not_realtime", children=child.name, reason=error.strerror)
