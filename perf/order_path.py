"""How long from news to bytes on the socket, in a whole engine that quotes?

    gateway tells of a fill ─┐
    a message moves the touch ├─► quoter decides ─► order ring ─► gateway: checks, journal ─► socket
    a gate's time is over ────┘

The engine of a demo set-up runs for ``SECONDS`` against the real exchange and its traders; this process taps
order and execution rings, read-only, from the first quote of the last market on. The engine's
order path runs in real time where this user may have that (:mod:`engine.realtime`), and the report says which
it was; exchange and traders are ordinary processes on the same cores. Every intent says when its decision was
made and, if it is the first answer to news, what the news was, when it came and whether something the venue
owes stood in the way. Rows:

* decision to socket write: every order and replace; a ladder that moves is a burst of about ten, one after
  the other, so half of them wait for five others;
* first of a decision: those that wait for none;
* reaction: from the news to the first cancel (a fill) or the first order or replace (a touch that moved, a
  gate that opened), with nothing in the way;
* reactions that had to wait for an answer, the end of a pause, or a token.

Floors: a wake-up through a socket between two processes, which every reaction pays at least once for each
process on its way; and a bare event loop that is woken so and writes ten requests to ten open connections.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import time
from collections.abc import Sequence
from statistics import fmean
from typing import Final

import numpy as np
import psutil
import uvloop
from msgspec import Struct
from rich.console import Console

from engine import scheduling
from engine.arena import Arena
from engine.demo import Demo, DemoOptions, make_plan, perform
from engine.events import ExecutionKind, News, OrderKind
from engine.snapshot import take
from engine.stage import PrivateDirectory
from engine.workers.ring_tap import RingTap
from perf.windows import Report, Row, machine, row, show

SECONDS: Final = 60.0
MARKETS: Final = 3
FLOOR_ROUNDS: Final = 20_000
BURST_ROUNDS: Final = 1_000
BURST_PAUSE_S: Final = 0.002
BURST: Final = 10  # a ladder of five levels a side
REQUEST_BYTES: Final = 700  # an order with its token
REACTIONS_MIN: Final = 20

CAUSES: Final = {
    News.FILL: "fill to first cancel",
    News.MESSAGE: "touch change to first order",
    News.RELEASE: "gate release to first order",
}
_CANCELS: Final = (OrderKind.CANCEL, OrderKind.BATCH_CANCEL)
_ORDERS: Final = (OrderKind.PLACE, OrderKind.REPLACE)


class Asked(Struct, frozen=True, kw_only=True):
    """What counts of an intent. Times in monotonic ns."""

    market_slot: int
    kind: OrderKind
    chosen_ns: int
    news: News
    news_ns: int
    waited: bool

    @property
    def reacts(self) -> bool:
        """An answer of the kind that the news asks for first."""
        return self.kind in (_CANCELS if self.news == News.FILL else _ORDERS) and self.news != News.NONE


class Matcher:
    """Puts one worker's intents and the moments their bytes left together, reading along in its rings."""

    def __init__(self, arena: Arena, worker: int, *, begin_ns: int) -> None:
        self._begin_ns = begin_ns  # what was decided before is the start's
        self.decision_ns: list[int] = []
        self.first_ns: list[int] = []
        self.reaction_ns: dict[News, list[int]] = {news: [] for news in CAUSES}
        self.waited_ns: list[int] = []
        self._orders = RingTap(arena.order_ring(worker), "order_record_t", 0)
        self._executions = RingTap(arena.execution_ring(worker), "execution_record_t", 0)
        self._asked: dict[tuple[int, int], Asked] = {}
        self._decided: set[tuple[int, int]] = set()
        self._answered: set[tuple[int, News, int]] = set()

    def look(self) -> None:
        """Takes what came since the last look."""
        while orders := self._orders.read():
            for order in orders:
                self._asked[order.worker_epoch, order.intent] = Asked(
                    market_slot=int(order.market_slot),
                    kind=OrderKind(order.kind),
                    chosen_ns=int(order.chosen_mono_ns),
                    news=News(order.trigger),
                    news_ns=int(order.trigger_mono_ns),
                    waited=bool(order.waited),
                )
        while executions := self._executions.read():
            for record in executions:
                if record.sent_mono_ns and record.kind in (ExecutionKind.ACKED, ExecutionKind.CANCELLED):
                    asked = self._asked.get((record.worker_epoch, record.intent))
                    if asked is not None:
                        self._sent(asked, int(record.sent_mono_ns))

    def _sent(self, asked: Asked, sent_ns: int) -> None:
        if asked.chosen_ns < self._begin_ns:
            return
        if asked.kind in _ORDERS:
            self.decision_ns.append(sent_ns - asked.chosen_ns)
            if (asked.market_slot, asked.chosen_ns) not in self._decided:
                self._decided.add((asked.market_slot, asked.chosen_ns))
                self.first_ns.append(sent_ns - asked.chosen_ns)
        answers = (asked.market_slot, asked.news, asked.news_ns)
        if asked.reacts and answers not in self._answered:
            self._answered.add(answers)
            samples = self.waited_ns if asked.waited else self.reaction_ns[asked.news]
            samples.append(sent_ns - asked.news_ns)


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


def burst_ns() -> list[float]:
    """The floor of a burst: from a byte of another process to the writes of ten requests, one sample each."""
    ours, theirs = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0), backlog=BURST)
    child = os.fork()
    if child == 0:
        ours.close()
        taken = [listener.accept()[0] for _ in range(BURST)]
        for _ in range(BURST_ROUNDS):
            time.sleep(BURST_PAUSE_S)
            theirs.send(time.monotonic_ns().to_bytes(8, "little"))
            for connection in taken:
                connection.recv(REQUEST_BYTES)
        os._exit(0)
    theirs.close()
    samples: list[float] = []

    async def play() -> None:
        loop = asyncio.get_running_loop()
        host, port = listener.getsockname()
        request = bytes(REQUEST_BYTES)
        connections = [(await loop.create_connection(asyncio.Protocol, host, port))[0] for _ in range(BURST)]
        ended = loop.create_future()

        def woken() -> None:
            told = ours.recv(8)
            if not told:
                loop.remove_reader(ours)
                ended.set_result(None)
                return
            for transport in connections:
                samples.append(time.monotonic_ns() - int.from_bytes(told, "little"))
                transport.write(request)

        loop.add_reader(ours, woken)
        await ended

    uvloop.run(play())
    ours.close()
    listener.close()
    os.waitpid(child, 0)
    return samples


class Watched(Struct, frozen=True, kw_only=True):
    """What was read along, and under which policies the engine's processes ran."""

    matchers: list[Matcher]
    policies: dict[str, str]  # by process
    stolen: float  # part of the cores' time that the machine's host gave to others


async def _watch(seconds: float) -> Watched:
    matchers: list[Matcher] = []
    policies: dict[str, str] = {}
    stolen_before_s = psutil.cpu_times().steal
    began = time.monotonic()
    directory = PrivateDirectory(None)

    async def play(demo: Demo) -> None:
        begin_ns = time.monotonic_ns()
        matchers.extend(
            Matcher(demo.stage.arena, worker, begin_ns=begin_ns) for worker in demo.sampler.workers
        )
        end = time.monotonic() + seconds

        def look() -> None:
            demo.sampler.look()
            for matcher in matchers:
                matcher.look()

        await demo.stage.until(
            lambda: time.monotonic() >= end, what="the end", timeout_s=float("inf"), watch=look
        )
        processes = take(demo.stage.arena).processes
        policies.update((process.name, scheduling.in_force(process.pid)) for process in processes)

    plan = make_plan(DemoOptions(markets=MARKETS))
    try:
        await perform(plan, directory, Console(quiet=True), play=play)
    finally:
        directory.release(remove=True)
    core_seconds = (time.monotonic() - began) * (psutil.cpu_count() or 1)
    stolen = (psutil.cpu_times().steal - stolen_before_s) / core_seconds
    return Watched(matchers=matchers, policies=policies, stolen=stolen)


def measure(seconds: float = SECONDS) -> Report:
    """Runs the engine and returns the figures, in microseconds."""
    floor_ns, floor_burst_ns = wake_up_ns(), burst_ns()
    watched = uvloop.run(_watch(seconds))
    matchers = watched.matchers
    decisions_ns = [sample for matcher in matchers for sample in matcher.decision_ns]
    firsts_ns = [sample for matcher in matchers for sample in matcher.first_ns]
    waited_ns = [sample for matcher in matchers for sample in matcher.waited_ns]
    caused_ns = {
        CAUSES[news]: [s for matcher in matchers for s in matcher.reaction_ns[news]] for news in CAUSES
    }
    reactions_ns = [sample for samples in caused_ns.values() for sample in samples]

    def in_us(who: str, samples_ns: Sequence[float]) -> Row:
        return row(who, np.asarray(samples_ns) / 1e3, throughput=len(samples_ns) / seconds)

    rows = [
        row(
            "floor: a wake-up through a socket", np.asarray(floor_ns) / 1e3, throughput=1e9 / fmean(floor_ns)
        ),
        row(
            "floor: woken, ten bare writes",
            np.asarray(floor_burst_ns) / 1e3,
            throughput=1e9 / fmean(floor_burst_ns),
        ),
    ]
    rows += [
        in_us(who, samples_ns)
        for who, samples_ns in (
            ("decision to socket write", decisions_ns),
            ("decision to socket write, first of it", firsts_ns),
            *caused_ns.items(),
            ("reactions that had to wait for the venue", waited_ns),
        )
        if samples_ns
    ]
    enough = len(reactions_ns) >= REACTIONS_MIN
    return Report(
        name="order_path",
        unit="microseconds",
        rows=rows,
        ratios={
            "reaction_p50_us": float(np.percentile(reactions_ns, 50)) / 1e3 if enough else None,
            "reaction_p99_us": float(np.percentile(reactions_ns, 99)) / 1e3 if enough else None,
            "decision_to_socket_p50_us": float(np.percentile(decisions_ns, 50)) / 1e3
            if decisions_ns
            else None,
        },
        discarded=0,
        machine=machine(),
        notes=[
            f"{len(decisions_ns)} orders and {len(reactions_ns)} reactions in {seconds:g} s",
            "scheduled as " + ", ".join(f"{name}: {policy}" for name, policy in watched.policies.items()),
            f"the machine's host kept {watched.stolen:.1%} of the cores' time from it, whatever the policy",
        ],
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
