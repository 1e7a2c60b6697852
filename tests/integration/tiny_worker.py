"""A real worker process that does nothing but live: started, watched and stopped like any other.

What it shall do at which start is read from ``RUN/script.json``: {name: [behaviour of life 1, ...]}; the
last one holds for all later lives. Behaviours: run, crash, refuse, deaf (ignores SIGTERM), starting,
stubborn (a quoter that refuses every resume because of SKEW; any other grants it), runaway (once it is in
real time it keeps its core and beats no more).
Each life and each end is one line in ``RUN/diary``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from engine import scheduling
from engine._native import ffi, lib
from engine.arena import check
from engine.config import EXIT_CONFIG
from engine.workers import process


def main() -> None:
    name, *arguments = sys.argv[1:]
    proc = process.start(name, arguments)
    row = proc.row_index
    if row >= lib.PROCESS_QUOTER_FIRST:
        name = f"{name}-{row - lib.PROCESS_QUOTER_FIRST}"

    def note(what: str) -> None:
        with (proc.run_dir / "diary").open("a") as diary:
            diary.write(f"{name} {proc.row_epoch} {what}\n")

    script_file = proc.run_dir / "script.json"
    script = json.loads(script_file.read_text()) if script_file.exists() else {}
    lives = script.get(name, ["run"])
    behaviour = lives[min(proc.row_epoch, len(lives)) - 1]
    note(f"start {behaviour} secret={'COREQUOTE_AMM_PASSWORD' in os.environ}")
    if behaviour == "crash":
        sys.exit("tiny worker: crashes as told")
    if behaviour == "refuse":
        print(f"tiny worker: {name}: refuses as told", file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    if behaviour == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        proc.stopping = False
    take_roles(proc, row)
    if behaviour != "starting":
        proc.set_state(lib.PROCESS_RUNNING)
    (core,) = os.sched_getaffinity(0) if len(os.sched_getaffinity(0)) == 1 else (-1,)
    proc.record_cpu(core)
    while not proc.stopping:
        while behaviour == "runaway" and scheduling.in_force(os.getpid()).startswith("rr"):
            pass
        proc.beat(lib.mono_now_ns())
        if row >= lib.PROCESS_QUOTER_FIRST:
            answer_commands(proc, lib.KILL_CAUSE_SKEW if behaviour == "stubborn" else 0)
        time.sleep(0.02)
    proc.set_state(lib.PROCESS_STOPPING)
    killed = lib.cell_load(proc.arena.kill_global())
    note(f"stop kill={killed}")


def answer_commands(proc: process.WorkerProcess, refused: int) -> None:
    """A quoter's part of a resume: its answer is in the market's state row, under the command's number."""
    ring = proc.arena.command_ring(proc.row_index)
    command = ffi.new("command_record_t *")
    while lib.message_peek(ring, lib.COMMAND_RING_SLOTS, command, 1):
        state = ffi.new("quoter_state_t *", {"command_number": command.number, "command_refused": refused})
        row = ffi.addressof(proc.arena.market(command.market_slot), "state")
        size = ffi.sizeof("quoter_state_t")
        check(lib.state_write(row, lib.STATE_KIND_QUOTER, 1, 0, time.time_ns(), state, size), "state row")
        lib.message_release(ring, 1)


def take_roles(proc: process.WorkerProcess, row: int) -> None:
    """The producer roles of the real process of this row: they are free only if the supervisor freed them."""
    arena = proc.arena
    used = sorted({arena.market_worker(slot) for slot in arena.used_markets()})
    if row == lib.PROCESS_INGEST:
        for worker in used:
            check(lib.broadcast_acquire(arena.book_ring(worker), proc.token), "book ring")
    elif row == lib.PROCESS_GATEWAY:
        for worker in used:
            check(lib.message_acquire(arena.execution_ring(worker), proc.token), "execution ring")
    elif row == lib.PROCESS_CONTROL:
        for other in range(arena.process_slots):
            check(lib.message_acquire(arena.command_ring(other), proc.token), "command ring")
    elif row >= lib.PROCESS_QUOTER_FIRST:
        worker = row - lib.PROCESS_QUOTER_FIRST
        check(lib.message_acquire(arena.order_ring(worker), proc.token), "order ring")
        check(lib.broadcast_acquire(arena.step_ring(worker), proc.token), "step ring")


if __name__ == "__main__":
    main()
