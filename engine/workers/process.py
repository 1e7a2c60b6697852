"""What every worker process does first: attach to the arena it inherited and bind its life to its parent.

The supervisor starts ``python -m engine.workers.NAME --run-dir DIR --arena-fd N --arena-epoch E
--row R --row-epoch K [--bell ROW:FD ...]`` with the descriptors inherited, so each process can also be
run, traced and profiled by hand. The configuration in force is ``DIR/config.json``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from engine import crash_points, event_log, lifeline
from engine._native import ffi, lib
from engine.alerts import Alerts
from engine.arena import Arena, ArenaError, cell
from engine.config import EXIT_CONFIG, EXIT_USAGE, Config

EXIT_FENCED: Final = 75  # EX_TEMPFAIL: another process has taken this one's place

CONFIG_FILE: Final = "config.json"


class WorkerProcess:
    """This process's place in the engine: arena, row, configuration, bells.

    ``token`` is what it holds producer roles with; ``bells`` maps process rows to the eventfd that
    wakes them (rows without one sleep on the futex in their row); ``alert(...)`` raises an alert.
    """

    def __init__(
        self,
        *,
        run_dir: Path,
        arena: Arena,
        config: Config,
        row_index: int,
        row_epoch: int,
        bells: dict[int, int],
        parent_pid: int,
    ) -> None:
        self.run_dir = run_dir
        self.arena = arena
        self.config = config
        self.row_index = row_index
        self.row_epoch = row_epoch
        self.bells = bells
        self.parent_pid = parent_pid
        self.row: Any = arena.process(row_index)
        self.token = (row_epoch << 32) | os.getpid()
        self.alert = Alerts(self.row)
        self.stopping = False
        self._epoch_cell = cell(self.row, "epoch")
        self._heartbeat_cell = cell(self.row, "heartbeat_mono_ns")
        self._cpu_cell = cell(self.row, "cpu")

    def request_stop(self, _signal_number: int = 0, _frame: object = None) -> None:
        """SIGTERM: the loop looks at ``stopping``. An event-loop process installs a handler of its own, and
        then looks at ``stopping`` once, for the signal that came before."""
        self.stopping = True

    def attach(self) -> None:
        """Publishes epoch and first heartbeat: from here on the supervisor watches the heartbeat."""
        lib.cell_store(cell(self.row, "attached_epoch"), self.row_epoch)
        lib.cell_store(cell(self.row, "state"), lib.PROCESS_STARTING)
        self.beat(lib.mono_now_ns())

    def set_state(self, state: int) -> None:
        """Publishes PROCESS_STARTING, RUNNING or STOPPING."""
        lib.cell_store(cell(self.row, "state"), state)

    def beat(self, now_mono_ns: int) -> None:
        """Heartbeat; exits at once when the supervisor has given this row to a successor."""
        if lib.cell_load(self._epoch_cell) != self.row_epoch:
            structlog.get_logger().error("fenced", row_epoch=self.row_epoch)
            os._exit(EXIT_FENCED)
        lib.cell_store(self._heartbeat_cell, now_mono_ns)

    def count(self, index: int, value: int) -> None:
        """Publishes a counter of this process (indexes: engine/events.py)."""
        lib.cell_store(ffi.addressof(self.row.counters[index]), value)

    def record_cpu(self, cpu: int) -> None:
        lib.cell_store(self._cpu_cell, cpu + 1)

    def ring_bell(self, row_index: int) -> None:
        """Wakes the process of a row, if it sleeps."""
        lib.bell_ring(self.arena.process(row_index), self.bells.get(row_index, -1))


def _parse_bell(text: str) -> tuple[int, int]:
    row, _, fd = text.partition(":")
    return int(row), int(fd)


def start(name: str, argv: list[str] | None = None, *, outlives_parent: bool = False) -> WorkerProcess:
    """The first call of every worker's main(). Exits with a usage or configuration code on bad input.

    ``outlives_parent``: only for the process whose work begins with the parent's death.
    """
    parser = argparse.ArgumentParser(prog=f"engine.workers.{name}", description="started by the supervisor")
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--arena-fd", type=int, required=True)
    parser.add_argument("--arena-epoch", type=int, required=True)
    parser.add_argument("--row", type=int, required=True)
    parser.add_argument("--row-epoch", type=int, required=True)
    parser.add_argument("--bell", type=_parse_bell, action="append", default=[])
    parser.add_argument("--parent-pid", type=int, default=os.getppid(), help="dies with this process")
    args = parser.parse_args(argv)
    if not outlives_parent:
        lifeline.bind(args.parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to answer, in order
    os.umask(0o077)
    event_log.configure(name)
    try:
        arena = Arena(args.arena_fd, epoch=args.arena_epoch)
        config = msgspec.json.decode((args.run_dir / CONFIG_FILE).read_bytes(), type=Config)
        process = WorkerProcess(
            run_dir=args.run_dir,
            arena=arena,
            config=config,
            row_index=args.row,
            row_epoch=args.row_epoch,
            bells=dict(args.bell),
            parent_pid=args.parent_pid,
        )
    except (OSError, ArenaError) as error:
        print(f"engine.workers.{name}: cannot attach: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except msgspec.ValidationError as error:
        print(f"engine.workers.{name}: {args.run_dir / CONFIG_FILE}: {error}", file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    # Before attach(): the supervisor sends SIGTERM to attached processes only, so none is ever lost.
    signal.signal(signal.SIGTERM, process.request_stop)
    try:
        crash_points.arm(name, process.run_dir)
    except crash_points.CrashPointError as error:
        print(f"engine.workers.{name}: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    process.attach()
    return process
