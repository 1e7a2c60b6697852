"""What the kernel's scheduler is told of a process, and what it says: policies and priorities of sched(7)."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

_NAMES: Final = {
    os.SCHED_OTHER: "other",
    os.SCHED_BATCH: "batch",
    os.SCHED_IDLE: "idle",
    os.SCHED_FIFO: "fifo",
    os.SCHED_RR: "rr",
    6: "deadline",  # no name in os
}


def run_realtime(pid: int, priority: int) -> None:
    """Puts the threads that a process (0 = this one) has under SCHED_RR. Raises OSError where it may not be.

    All of them: an ordinary one that has to wait for a core with the interpreter's lock in hand would hold up
    the one that trades for as long. Threads and children that are made from now on are ordinary again.
    """
    policy, parameter = os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority)
    os.sched_setscheduler(pid, policy, parameter)
    for thread in os.listdir(f"/proc/{pid or 'self'}/task"):
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setscheduler(int(thread), policy, parameter)


def in_force(pid: int) -> str:
    """Policy of a process's main thread, with its priority when it is a real-time one: ``rr 12``, ``other``.
    Raises OSError when it has gone."""
    policy = os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK
    priority = os.sched_getparam(pid).sched_priority
    name = _NAMES.get(policy, f"policy {policy}")
    return f"{name} {priority}" if priority else name
