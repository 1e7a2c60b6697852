"""What the kernel's scheduler is told of a process: to run at once when it is woken, or to give way.

Linux only, and each way works under the rules of sched(7): real time needs a right, giving way needs none.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

_PROC: Final = Path("/proc")
_NAMES: Final = {
    os.SCHED_OTHER: "other",
    os.SCHED_BATCH: "batch",
    os.SCHED_IDLE: "idle",
    os.SCHED_FIFO: "fifo",
    os.SCHED_RR: "rr",
    6: "deadline",  # no name in os
}
#: A tenth of what the others get on a core that both want.
GIVES_WAY_NICE: Final = 10
_AUTOGROUP_TRIES: Final = 10
_AUTOGROUP_PAUSE_S: Final = 0.1


def run_realtime(pid: int, priority: int) -> None:
    """Puts the main thread of a process (0 = this one) under SCHED_RR. Raises OSError where it may not be.

    Threads and children that it makes from now on are ordinary again, those it has stay as they are: a helper
    that syncs a file or resolves a name never competes with the thread that trades.
    """
    os.sched_setscheduler(pid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))


def in_force(pid: int) -> str:
    """Policy of a process's main thread, with its priority when it is a real-time one: ``rr 12``, ``other``.
    Raises OSError when it has gone."""
    policy = os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK
    priority = os.sched_getparam(pid).sched_priority
    name = _NAMES.get(policy, f"policy {policy}")
    return f"{name} {priority}" if priority else name


async def give_way(pid: int) -> None:
    """Lets a process and all its descendants have a core only as far as others leave it to them.

    With sched_autogroup (most distributions) a process's nice value counts within its session, and between
    sessions counts that of the session's group; without it, or in a cgroup, the process's own does. So both
    are set. Threads and children inherit both; one that makes a session of its own, as every process of
    PostgreSQL does, only the first.
    """
    with suppress(psutil.NoSuchProcess):  # its end is handled where ends are
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, member.pid, GIVES_WAY_NICE)
            await _group_gives_way(member.pid)


async def _group_gives_way(pid: int) -> None:
    for _ in range(_AUTOGROUP_TRIES):
        try:
            (_PROC / str(pid) / "autogroup").write_text(str(GIVES_WAY_NICE))
        except BlockingIOError:  # the kernel takes one such change of an ordinary user in 0.1 s
            await asyncio.sleep(_AUTOGROUP_PAUSE_S)
        except OSError:  # a kernel without such groups, or the process has gone
            return
        else:
            return
