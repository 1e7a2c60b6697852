"""What the kernel's scheduler is told of a process, and what it says: policies and priorities of sched(7)."""

from __future__ import annotations

import os
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
    """Puts the main thread of a process (0 = this one) under SCHED_RR. Raises OSError where it may not be.

    Threads and children that it makes from now on are ordinary again, those it has stay as they are: a helper
    that syncs a file or resolves a name never takes the core from a thread that trades. (It may have to wait
    for a core with the interpreter's lock in hand, some 10 us at a time, and then that thread waits too.)
    """
    os.sched_setscheduler(pid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))


def in_force(pid: int) -> str:
    """Policy of a process's main thread, with its priority when it is a real-time one: ``rr 12``, ``other``.
    Raises OSError when it has gone."""
    policy = os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK
    priority = os.sched_getparam(pid).sched_priority
    name = _NAMES.get(policy, f"policy {policy}")
    return f"{name} {priority}" if priority else name
