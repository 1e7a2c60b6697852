"""How long from news to bytes on the socket, in a whole engine that quotes?

    gateway tells of a fill ─┐
    a message moves the touch ├─► quoter decides ─► order ring ─► gateway: checks, journal ─► socket
    a gate's time is over ────┘

The engine of a demo set-up runs for ``SECONDS`` against the real exchange and its traders; this process taps
order and execution rings, read-only. Per market and cause the first intent counts: what follows it waits for
its own turn, for answers and for rate tokens. Rows: decision to socket write (every order), and reaction by
cause; the floor is a wake-up through a socket between two processes, which every path pays at least twice.
"""

from __future__ import annotations

import argparse
import os
import socket
import time
from typing import Any, Final

import numpy as np
import uvloop
from rich.console import Console

from engine._native import ffi, lib
from engine.arena import Arena
from engine.demo import Demo, DemoOptions, make_plan
from engine.events import ExecutionKind, OrderKind
from engine.stage import PrivateDirectory, Stage, stop_on_signals
from perf.windows import Report, Row, machine, show

SECONDS: Final = 60.0
MARKETS: Final = 3
LOOK_S: Final = 0.005
FLOOR_ROUNDS: Final = 20_000
REACTIONS_MIN: Final = 20

CAUSES: Final = ("fill to first cancel", "touch change or gate release to order")


class Tap:
    """One worker's order and execution ring, read without taking anything from them."""

    def __init__(self, arena: Arena, worker: int) -> None:
        self._rings = (arena.order_ring(worker), arena.execution_ring(worker))
        self._cursors = [ffi.new("broadcast_cursor_t *") for _ in self._rings]
        self._lost = ffi.new("int *")
        self._batches = (ffi.new("order_record_t[]", 64), ffi.new("execution_record_t[]", 64))

    def read(self) -> tuple[list[Any], list[Any]]:
        """Copies of what came since the last look: orders, executions."""
        found: tuple[list[Any], list[Any]] = ([], [])
        for ring, cursor, batch, out in zip(self._rings, self._cursors, self._batches, found, strict=True):
            while count := lib.message_tap(ring, lib.MESSAGE_RING_SLOTS, cursor, batch, 64, self._lost):
                for i in range(count):
                    copy = ffi.new(f"{ffi.typeof(batch[i]).cname} *")
                    ffi.memmove(copy, ffi.addressof(batch[i]), ffi.sizeof(batch[i]))
                    out.append(copy)
        return found


class Matcher:
    """Puts intents and the moments their bytes left together."""

    def __init__(self) -> None:
        self.decision_ns: list[int] = []
        self.reaction_ns: dict[str, list[int]] = {cause: [] for cause in CAUSES}
        self._asked: dict[tuple[int, int], Any] = {}
        self._seen: set[tuple[int, int, bool]] = set()

    def take(self, orders: list[Any], executions: list[Any]) -> None:
        for order in orders:
            self._asked[order.worker_epoch, order.intent] = order
        for record in executions:
            if record.sent_mono_ns and record.kind in (ExecutionKind.ACKED, ExecutionKind.CANCELLED):
                order = self._asked.get((record.worker_epoch, record.intent))
                if order is not None:
                    self._sent(order, int(record.sent_mono_ns))

    def _sent(self, order: Any, sent_ns: int) -> None:
        cancels = order.kind in (OrderKind.CANCEL, OrderKind.BATCH_CANCEL)
        if not cancels:
            self.decision_ns.append(sent_ns - int(order.decided_mono_ns))
        trigger = int(order.trigger_mono_ns)
        key = (order.market_slot, trigger, cancels)
        if not trigger or key in self._seen:
            return
        self._seen.add(key)
        self.reaction_ns[CAUSES[0] if cancels else CAUSES[1]].append(sent_ns - trigger)


def wake_up_ns() -> list[float]:
    """The floor: half of a round trip of one byte between two processes that sleep in read()."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        while theirs.recv(1):
            theirs.send(b".")
        os._exit(0)
    theirs.close()
    samples = []
    for _ in range(FLOOR_ROUNDS):
        began = time.perf_counter_ns()
        ours.send(b".")
        ours.recv(1)
        samples.append((time.perf_counter_ns() - began) / 2)
    ours.close()
    os.waitpid(child, 0)
    return samples


def row(who: str, samples: list[Any]) -> Row:
    """Microseconds."""
    values = np.asarray(samples, dtype=np.float64) / 1e3
    p50, p90, p99, p999 = (float(value) for value in np.percentile(values, (50, 90, 99, 99.9)))
    return Row(
        who=who,
        p50=p50,
        p90=p90,
        p99=p99,
        p999=p999,
        max=float(values.max()),
        throughput=len(values) / SECONDS,
    )


async def _watch(matcher: Matcher, seconds: float) -> None:
    directory = PrivateDirectory(None)

    async def play(demo: Demo) -> None:
        arena = demo.stage.arena
        taps = [Tap(arena, worker) for worker in demo.sampler.workers]
        end = time.monotonic() + seconds

        def look() -> None:
            demo.sampler.look()
            for tap in taps:
                matcher.take(*tap.read())

        await demo.stage.until(
            lambda: time.monotonic() >= end, what="the end", timeout_s=float("inf"), watch=look
        )

    plan = make_plan(DemoOptions(markets=MARKETS))
    try:
        async with stop_on_signals() as stop, Stage(directory.path, stop=stop) as stage:
            await Demo(plan, stage, Console(quiet=True), live=False, play=play).run()
    finally:
        directory.release(remove=True)


def measure(seconds: float = SECONDS) -> Report:
    """Runs the engine and returns the figures, in microseconds."""
    floor = wake_up_ns()
    matcher = Matcher()
    uvloop.run(_watch(matcher, seconds))
    reactions = [sample for samples in matcher.reaction_ns.values() for sample in samples]
    rows = [
        row("floor: wake-up through a socket", floor),
        row("decision to socket write", matcher.decision_ns),
    ]
    rows += [row(cause, samples) for cause, samples in matcher.reaction_ns.items() if samples]
    enough = len(reactions) >= REACTIONS_MIN
    return Report(
        name="order_path",
        unit="microseconds",
        rows=rows,
        ratios={
            "reaction_p50_us": float(np.percentile(reactions, 50)) / 1e3 if enough else None,
            "reaction_p99_us": float(np.percentile(reactions, 99)) / 1e3 if enough else None,
            "decision_to_socket_p50_us": rows[1].p50,
        },
        discarded=0,
        machine=machine(),
        notes=[f"{len(matcher.decision_ns)} orders and {len(reactions)} reactions in {seconds:g} s"],
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m perf.order_path", description="From news to the socket.")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    show(measure(options.seconds), as_json=options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
