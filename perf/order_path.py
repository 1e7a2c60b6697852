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
from collections.abc import Sequence
from statistics import fmean
from typing import Final

import numpy as np
import uvloop
from msgspec import Struct
from rich.console import Console

from engine.arena import Arena
from engine.demo import Demo, DemoOptions, make_plan
from engine.events import ExecutionKind, OrderKind
from engine.stage import PrivateDirectory, Stage, stop_on_signals
from engine.workers.ring_tap import RingTap
from perf.windows import Report, Row, machine, row, show

SECONDS: Final = 60.0
MARKETS: Final = 3
FLOOR_ROUNDS: Final = 20_000
REACTIONS_MIN: Final = 20

CAUSES: Final = ("fill to first cancel", "touch change or gate release to order")


class Asked(Struct, frozen=True):
    """What counts of an intent."""

    market_slot: int
    cancels: bool
    decided_ns: int
    trigger_ns: int


class Matcher:
    """Puts one worker's intents and the moments their bytes left together, reading along in its rings."""

    def __init__(self, arena: Arena, worker: int) -> None:
        self.decision_ns: list[int] = []
        self.reaction_ns: dict[str, list[int]] = {cause: [] for cause in CAUSES}
        self._orders = RingTap(arena.order_ring(worker), "order_record_t", 0)
        self._executions = RingTap(arena.execution_ring(worker), "execution_record_t", 0)
        self._asked: dict[tuple[int, int], Asked] = {}
        self._seen: set[tuple[int, int, bool]] = set()

    def look(self) -> None:
        """Takes what came since the last look."""
        while orders := self._orders.read():
            for order in orders:
                self._asked[order.worker_epoch, order.intent] = Asked(
                    int(order.market_slot),
                    order.kind in (OrderKind.CANCEL, OrderKind.BATCH_CANCEL),
                    int(order.decided_mono_ns),
                    int(order.trigger_mono_ns),
                )
        while executions := self._executions.read():
            for record in executions:
                if record.sent_mono_ns and record.kind in (ExecutionKind.ACKED, ExecutionKind.CANCELLED):
                    asked = self._asked.get((record.worker_epoch, record.intent))
                    if asked is not None:
                        self._sent(asked, int(record.sent_mono_ns))

    def _sent(self, asked: Asked, sent_ns: int) -> None:
        if not asked.cancels:
            self.decision_ns.append(sent_ns - asked.decided_ns)
        key = (asked.market_slot, asked.trigger_ns, asked.cancels)
        if not asked.trigger_ns or key in self._seen:
            return
        self._seen.add(key)
        self.reaction_ns[CAUSES[0] if asked.cancels else CAUSES[1]].append(sent_ns - asked.trigger_ns)


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


async def _watch(seconds: float) -> list[Matcher]:
    matchers: list[Matcher] = []
    directory = PrivateDirectory(None)

    async def play(demo: Demo) -> None:
        matchers.extend(Matcher(demo.stage.arena, worker) for worker in demo.sampler.workers)
        end = time.monotonic() + seconds

        def look() -> None:
            demo.sampler.look()
            for matcher in matchers:
                matcher.look()

        await demo.stage.until(
            lambda: time.monotonic() >= end, what="the end", timeout_s=float("inf"), watch=look
        )

    plan = make_plan(DemoOptions(markets=MARKETS))
    try:
        async with stop_on_signals() as stop, Stage(directory.path, stop=stop) as stage:
            await Demo(plan, stage, Console(quiet=True), live=False, play=play).run()
    finally:
        directory.release(remove=True)
    return matchers


def measure(seconds: float = SECONDS) -> Report:
    """Runs the engine and returns the figures, in microseconds."""
    floor_ns = wake_up_ns()
    matchers = uvloop.run(_watch(seconds))
    decisions_ns = [sample for matcher in matchers for sample in matcher.decision_ns]
    caused_ns = {cause: [s for matcher in matchers for s in matcher.reaction_ns[cause]] for cause in CAUSES}
    reactions_ns = [sample for samples in caused_ns.values() for sample in samples]

    def in_us(who: str, samples_ns: Sequence[float]) -> Row:
        return row(who, np.asarray(samples_ns) / 1e3, throughput=len(samples_ns) / seconds)

    floor = row(
        "floor: a wake-up through a socket", np.asarray(floor_ns) / 1e3, throughput=1e9 / fmean(floor_ns)
    )
    rows = [floor]
    rows.append(in_us("decision to socket write", decisions_ns))
    rows += [in_us(cause, samples_ns) for cause, samples_ns in caused_ns.items() if samples_ns]
    enough = len(reactions_ns) >= REACTIONS_MIN
    return Report(
        name="order_path",
        unit="microseconds",
        rows=rows,
        ratios={
            "reaction_p50_us": float(np.percentile(reactions_ns, 50)) / 1e3 if enough else None,
            "reaction_p99_us": float(np.percentile(reactions_ns, 99)) / 1e3 if enough else None,
            "decision_to_socket_p50_us": rows[1].p50,
        },
        discarded=0,
        machine=machine(),
        notes=[f"{len(decisions_ns)} orders and {len(reactions_ns)} reactions in {seconds:g} s"],
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
