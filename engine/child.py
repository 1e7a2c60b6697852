"""The processes that a supervisor runs: their kinds, what has become of each, and how one is started.

Writes: the planned core in process rows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from enum import Enum
from typing import Final

import psutil

from engine import rundir, valkey
from engine._native import ffi, lib
from engine.arena import Arena, cell, padded
from engine.backoff import RestartHistory
from engine.placement import WorkerPlan
from engine.process_log import EventLog, LogFile

INGEST, GATEWAY, WRITER, QUOTER = "ingest", "gateway", "writer", "quoter"
CONTROL, GUARD, RECORDER, VALKEY = "control", "guard", "recorder", "valkey"

_FIXED_ROWS: Final = {
    GUARD: lib.PROCESS_GUARD,
    INGEST: lib.PROCESS_INGEST,
    GATEWAY: lib.PROCESS_GATEWAY,
    WRITER: lib.PROCESS_WRITER,
    CONTROL: lib.PROCESS_CONTROL,
    RECORDER: lib.PROCESS_RECORDER,
}
#: The others never hear the venue's password: they have no session of their own.
_KINDS_WITH_SECRET: Final = (GATEWAY, GUARD, INGEST)


def worker_command(kind: str) -> list[str]:
    """How a process of a kind is started; ``-P`` keeps the working directory off the import path."""
    return [sys.executable, "-P", "-m", f"engine.workers.{kind}"]


class ChildState(Enum):
    WAITING = "waiting"  # to be started when its time comes
    LIVE = "live"
    HALTED = "halted"  # died too often: stays down
    ENDED = "ended"  # the orderly stop is through with it


class Child:
    """One supervised process: what is planned for it and what has become of it."""

    def __init__(
        self,
        *,
        name: str,
        kind: str,
        row_index: int | None,
        worker: int | None = None,
        core: int | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.row_index = row_index  # None: not ours, has no row (Valkey)
        self.worker = worker  # quoters: worker slot
        self.core = core
        self.state = ChildState.WAITING
        self.process: subprocess.Popen[bytes] | None = None
        self.pidfd = -1
        self.log: LogFile | None = None
        self.epoch = 0
        self.started_mono_ns = 0
        self.start_at_mono_ns = 0
        self.history = RestartHistory()
        self.fenced = False  # this life's death has been acted upon
        self.announced = False  # RUNNING has been logged for this life
        self.heartbeat = 0
        self.silent_ns = 0  # how long we have watched without seeing a beat
        self.told_to_stop = False
        self.killed = False  # by us, in this life
        self.exit_code: int | None = None  # of the last life that ended

    @property
    def ending(self) -> int | str:
        """The exit code, or the name of the signal that ended the process."""
        assert self.exit_code is not None
        if self.exit_code >= 0:
            return self.exit_code
        try:
            return signal.Signals(-self.exit_code).name
        except ValueError:  # a real-time signal
            return f"signal {-self.exit_code}"


def children(arena: Arena, plans: tuple[WorkerPlan, ...], *, embeds_valkey: bool) -> list[Child]:
    """All that is to run, in the order of their start; their names are in their rows."""
    found = [Child(name=kind, kind=kind, row_index=row_index) for kind, row_index in _FIXED_ROWS.items()]
    for plan in plans:
        found.append(
            Child(
                name=f"{QUOTER}-{plan.worker}",
                kind=QUOTER,
                row_index=lib.PROCESS_QUOTER_FIRST + plan.worker,
                worker=plan.worker,
                core=plan.core,
            )
        )
    for child in found:
        if child.row_index is not None:
            ffi.buffer(arena.process(child.row_index).name)[:] = padded(child.name, 32)
    if embeds_valkey:
        found.insert(0, Child(name=VALKEY, kind=VALKEY, row_index=None))
    return found


class Launcher:
    """Starts children of one engine. Must be used in the main thread: a child's life is bound to the thread
    that started it."""

    def __init__(
        self, *, run: rundir.RunDirectory, arena: Arena, password_env: str, gateway_bell: int, log: EventLog
    ) -> None:
        self._run = run
        self._arena = arena
        self._password_env = password_env
        self._gateway_bell = gateway_bell
        self._log = log
        self._commands = {kind: worker_command(kind) for kind in (*_FIXED_ROWS, QUOTER)}

    def spawn(self, child: Child, log_fd: int) -> tuple[subprocess.Popen[bytes], int]:
        """The process and its pidfd. Raises OSError or ValkeyError, with nothing left running."""
        process = subprocess.Popen(
            self._command_line(child),
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=self._inherited(child),
            start_new_session=True,  # the terminal's Ctrl-C is ours to answer, in order
            env=self._environment(child),
        )
        try:
            return process, os.pidfd_open(process.pid)
        except OSError:
            process.kill()
            process.wait()
            raise

    def pin(self, child: Child) -> int | None:
        """Pins a quoter as planned and records the core it can be on; None when it is not that one core."""
        assert child.process is not None
        assert child.core is not None
        assert child.row_index is not None
        try:
            os.sched_setaffinity(child.process.pid, {child.core})
            found = psutil.Process(child.process.pid).cpu_affinity()
        except (OSError, psutil.Error) as error:
            # gone already: its death is handled where deaths are
            self._log.event("not_pinned", child=child.name, cpu=child.core, error=str(error))
            return None
        pinned = found == [child.core]
        row = self._arena.process(child.row_index)
        lib.cell_store(cell(row, "planned_cpu"), child.core + 1 if pinned else 0)
        return child.core if pinned else None

    def _command_line(self, child: Child) -> list[str]:
        if child.kind == VALKEY:
            return valkey.command(self._run.path, parent_pid=os.getpid())
        return [
            *self._commands[child.kind],
            *("--run-dir", str(self._run.path)),
            *("--arena-fd", str(self._arena.fd), "--arena-epoch", str(self._arena.epoch)),
            *("--row", str(child.row_index), "--row-epoch", str(child.epoch)),
            *("--bell", f"{lib.PROCESS_GATEWAY}:{self._gateway_bell}", "--parent-pid", str(os.getpid())),
        ]

    def _environment(self, child: Child) -> dict[str, str]:
        environment = dict(os.environ)
        if child.kind not in _KINDS_WITH_SECRET:
            environment.pop(self._password_env, None)
        return environment

    def _inherited(self, child: Child) -> tuple[int, ...]:
        """Descriptors a child is given. The guard's copy of the lock keeps the directory while it sweeps."""
        if child.kind == VALKEY:
            return ()
        shared = (self._arena.fd, self._gateway_bell)
        return (*shared, self._run.lock_fd) if child.kind == GUARD else shared
