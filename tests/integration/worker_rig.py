"""An arena and real worker processes in it, without a supervisor: what tests of one process stand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from engine._native import ffi, lib
from engine.alerts import Alert, counts
from engine.arena import Arena, cell
from engine.config import Config, parse
from engine.workers.process import CONFIG_FILE

DEADLINE_S = 20.0
GRID_TICKS = 101
PASSWORD = "Correct-Horse-9"
ROOT = Path(__file__).resolve().parents[2]


def until(condition: Callable[[], Any], what: str, *, deadline_s: float = DEADLINE_S) -> Any:
    """The condition's first true value; fails when none comes within the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.005)


class WorkerRig:
    """Arena, run directory and the worker processes started in them. Market slot k holds ``markets[k]``."""

    def __init__(self, run_dir: Path, document: dict[str, Any], *, workers: int = 1) -> None:
        self.run_dir = run_dir
        self.config: Config = parse(document, "rig")
        self.arena = Arena.create(market_slots=len(self.config.markets) + 1, worker_slots=workers)
        for slot, market in enumerate(self.config.markets):
            self.arena.place_market(slot, market_id=market.id, worker=slot % workers, tick_count=GRID_TICKS)
        self.gateway_bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._processes: list[subprocess.Popen[bytes]] = []
        (run_dir / CONFIG_FILE).write_bytes(msgspec.json.encode(self.config))

    def start(self, name: str, row: int, *, password: str = PASSWORD) -> subprocess.Popen[bytes]:
        """Starts a worker as the supervisor would: the row's epoch rises first."""
        row_epoch = int(lib.cell_add(cell(self.arena.process(row), "epoch"), 1)) + 1
        lib.cell_store(cell(self.arena.process(row), "state"), lib.PROCESS_STARTING)
        log = (self.run_dir / f"{name}.log").open("ab")
        with log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", f"engine.workers.{name}"),
                    *("--run-dir", str(self.run_dir)),
                    *("--arena-fd", str(self.arena.fd), "--arena-epoch", str(self.arena.epoch)),
                    *("--row", str(row), "--row-epoch", str(row_epoch)),
                    *("--bell", f"{lib.PROCESS_GATEWAY}:{self.gateway_bell}"),
                ],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "COREQUOTE_AMM_PASSWORD": password},
                pass_fds=(self.arena.fd, self.gateway_bell),
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def state(self, row: int) -> int:
        return int(lib.cell_load(cell(self.arena.process(row), "state")))

    def await_running(self, row: int) -> None:
        until(lambda: self.state(row) == lib.PROCESS_RUNNING, f"process row {row} RUNNING")

    def heartbeat_ns(self, row: int) -> int:
        return int(lib.cell_load(cell(self.arena.process(row), "heartbeat_mono_ns")))

    def log(self, name: str) -> list[dict[str, Any]]:
        """Events a worker has logged."""
        lines = (self.run_dir / f"{name}.log").read_bytes().splitlines()
        return [msgspec.json.decode(line) for line in lines if line.startswith(b"{")]

    def logged(self, name: str, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.log(name) if entry["event"] == event]

    def reap(self, process: subprocess.Popen[bytes]) -> None:
        """What the supervisor does after a death: the dead producer's roles are free again."""
        process.wait(DEADLINE_S)
        for worker in range(self.arena.worker_slots):
            lib.broadcast_free_role(self.arena.book_ring(worker))

    def top(self, slot: int = 0) -> Any:
        """A market's top row, ``top_t *``."""
        top = ffi.new("top_t *")
        assert lib.top_read(ffi.addressof(self.arena.market(slot), "top"), top) == lib.RING_OK
        return top

    def image(self, slot: int = 0) -> tuple[Any, dict[int, int], dict[int, int]]:
        """A market's newest book image: header, bids and asks as {price in cents: shares}."""
        header = ffi.new("image_header_t *")
        levels = ffi.new("int64_t[]", 2 * GRID_TICKS)
        code = lib.image_read(self.arena.market(slot).images, header, levels, GRID_TICKS)
        assert code == lib.RING_OK
        bids = {tick: int(levels[tick]) for tick in range(GRID_TICKS) if levels[tick]}
        asks = {
            tick: int(levels[GRID_TICKS + tick]) for tick in range(GRID_TICKS) if levels[GRID_TICKS + tick]
        }
        return header, bids, asks

    def feed(self, field: str, slot: int = 0) -> int:
        """A word of a market's feed row."""
        return counter(self.arena.market(slot).feed, field)

    def gateway_woken(self) -> bool:
        """Whether the gateway's bell was rung since it was last asked; the gateway sleeps again after it."""
        try:
            woken = os.eventfd_read(self.gateway_bell) > 0
        except BlockingIOError:
            woken = False
        lib.bell_sleep(self.arena.process(lib.PROCESS_GATEWAY))
        return woken

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait(DEADLINE_S)
        os.close(self.gateway_bell)
        os.close(self.arena.fd)


def write_state(
    arena: Arena, slot: int, *, mono_ns: int = 0, unix_ns: int | None = None, **fields: Any
) -> None:
    """Publishes a market's state row as its quoter would; unnamed fields are 0."""
    state = ffi.new("quoter_state_t *", fields)
    now_unix_ns = time.time_ns() if unix_ns is None else unix_ns
    row = ffi.addressof(arena.market(slot), "state")
    size = ffi.sizeof("quoter_state_t")
    assert lib.state_write(row, lib.STATE_KIND_QUOTER, 1, mono_ns, now_unix_ns, state, size) == lib.RING_OK


def write_order(arena: Arena, slot: int, index: int, *, order_id: str = "", **fields: Any) -> None:
    """Publishes a live-order row as the gateway would; without fields the row is free."""
    order = ffi.new("live_order_t *", {**fields, "venue_order_id": order_id.encode()})
    lib.live_order_write(ffi.addressof(arena.market(slot).live_orders[index]), order)


def alerts(arena: Arena, row: int, alert: Alert) -> int:
    """How often a process, by its row, has raised an alert."""
    return next((found.count for found in counts(arena.process(row)) if found.name == alert.name), 0)


def counter(struct: Any, field: str) -> int:
    """One shared word of a struct."""
    return int(lib.cell_load(cell(struct, field)))


class BookReader:
    """A reader of one book ring that keeps everything it saw."""

    def __init__(self, arena: Arena, worker: int = 0) -> None:
        self._ring = arena.book_ring(worker)
        self._cursor = ffi.new("broadcast_cursor_t *")
        self._batch = ffi.new("book_event_t[]", 256)
        self._lapped = ffi.new("int *")
        self.events: list[dict[str, int]] = []

    def read(self) -> list[dict[str, int]]:
        """All events so far, as dicts of their fields."""
        while True:
            count = lib.broadcast_read(
                self._ring, lib.BOOK_RING_SLOTS, self._cursor, self._batch, 256, self._lapped
            )
            assert not self._lapped[0]
            self.events += [
                {name: int(getattr(self._batch[i], name)) for name in _EVENT_FIELDS} for i in range(count)
            ]
            if count == 0:
                return self.events

    def of_kind(self, kind: int, **fields: int) -> list[dict[str, int]]:
        """Events of one kind with these field values."""
        return [
            event
            for event in self.read()
            if event["kind"] == kind and all(event[name] == value for name, value in fields.items())
        ]


_EVENT_FIELDS = [name for name, _ in ffi.typeof("book_event_t").fields]
