"""How long from a change of the market to a decided quote?

    in hand      frame's bytes --> decode, ladder, ring --> quote_pass --> target decided       one process

    socket       venue process --> TCP --> ingest process --> ring --> quoter process --> target decided
                 sends, notes time        blocks in epoll             spins, yields, or parks on its bell

A regression here is time in which the market is quoted at an old price. The venue notes the time before it
hands a frame to its socket, the quoter after its pass; both read the same monotonic clock. In hand, each
message is timed by itself: the floor of that row is an empty timing. The floors of the socket rows are a
blocking reader in Python that does nothing with what it is sent, and the WebSocket library calling one that
does nothing.

Every window must end in the right book, with every message decided upon.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import mmap
import os
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
import structlog
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from engine._native import ffi, lib
from engine.config.sections import Wait
from perf.book import stream
from perf.feeding import (
    DEADLINE_S,
    FIRST_SEQUENCE,
    SLOT,
    START_UNIX_MS,
    FedMarket,
    Venue,
    cores,
    delta_frames,
    end,
    fork,
    ready_kernel,
    snapshot_frame,
)
from perf.windows import Contender, Report, Samples, interleave, machine, show

IN_HAND_MESSAGES: Final = 10_000
SENT_MESSAGES: Final = 600
SEND_EVERY_NS: Final = 700_000
NS_PER_S: Final = 1_000_000_000
SPIN_COUNT: Final = 200  # of a parked quoter, before it sleeps
LOOK_EVERY: Final = 64  # passes between two looks at the deadline

DELTAS: Final = stream(IN_HAND_MESSAGES)
FRAMES: Final = delta_frames(DELTAS)
IN_HAND: Final = "corequote, bytes in hand to quote decided"
SPINNING: Final = "corequote, socket to quote, quoter spinning"
YIELDING: Final = "corequote, socket to quote, quoter yields"
PARKED: Final = "corequote, socket to quote, both parked"
WAITING: Final[dict[str, Wait]] = {SPINNING: "spin", YIELDING: "yield", PARKED: "park"}
FLOOR: Final = "floor: blocking read of a TCP socket"
FRAME_FLOOR: Final = "floor: WebSocket frame to callback"


class Quoter:
    """The C side of a quoter of the market, with its rules known: as ``engine.workers.quoter`` drives it."""

    def __init__(self, market: FedMarket) -> None:
        arena = market.arena
        self.row = arena.process(lib.PROCESS_QUOTER_FIRST)
        self.kernel = ready_kernel(arena, SLOT, market.ingest.proc.config.markets[SLOT].quote)
        self.native = self.kernel.native
        self._markets = ffi.new("quote_market_t *[]", [self.native])
        self._news_slots = ffi.new("uint16_t[]", 1)
        self.worker = ffi.new("quote_worker_t *")
        self.worker.ring = arena.book_ring(0)
        self.worker.markets = self._markets
        self.worker.news_slots = self._news_slots
        self.worker.market_count = 1

    def decide(self, unix_ms: int) -> int:
        """One pass; events consumed."""
        count = lib.quote_pass(self.worker, unix_ms)
        self.native.news = 0
        return int(count)

    def check(self, messages: int) -> None:
        """Raises AssertionError unless every frame came and the last one has been decided upon."""
        assert self.native.book_valid
        assert self.native.messages == messages, f"{self.native.messages} of {messages} messages"
        assert self.native.venue_sequence == FIRST_SEQUENCE + messages - 1
        assert self.kernel.fair.fair_price_cents > 0, "nothing was decided"


# --- in hand


def empty_timing() -> Samples:
    """The floor of a message timed by itself."""
    now = time.perf_counter_ns
    marks = [(now(), now()) for _ in range(IN_HAND_MESSAGES)]
    return np.array([after - before for before, after in marks], dtype=np.float64)


def in_hand() -> Samples:
    market = FedMarket()
    quoter = Quoter(market)
    message = market.listener().message
    message(snapshot_frame(), lib.mono_now_ns())
    quoter.decide(START_UNIX_MS)
    now, quote_pass, worker, native = time.perf_counter_ns, lib.quote_pass, quoter.worker, quoter.native
    costs = []
    gc.disable()
    for unix_ms, payload in enumerate(FRAMES, start=START_UNIX_MS):
        began = now()
        message(payload, began)
        quote_pass(worker, unix_ms)
        costs.append(now() - began)
        native.news = 0
    gc.enable()
    market.check(DELTAS)
    quoter.check(1 + len(FRAMES))
    return np.array(costs, dtype=np.float64)


# --- through a socket


class SendTimes:
    """When the venue sent each frame, in memory that it shares with the quoter's process."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 * (SENT_MESSAGES + FIRST_SEQUENCE + 1))
        self.by_sequence = np.frombuffer(self._memory, dtype=np.int64)


def paced(times: SendTimes) -> Callable[[WSTransport], Any]:
    """The venue's script: the snapshot, then one frame at a time."""

    def send(transport: WSTransport) -> None:
        due = time.monotonic_ns()
        for sequence, payload in enumerate(FRAMES[:SENT_MESSAGES], start=FIRST_SEQUENCE + 1):
            due += SEND_EVERY_NS
            time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
            times.by_sequence[sequence] = time.monotonic_ns()
            transport.send(WSMsgType.TEXT, payload)

    async def script(transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, snapshot_frame())
        await asyncio.sleep(0.02)
        send(transport)  # its loop has nothing else to do, and shares a core with ingest
        await transport.wait_disconnected()

    return script


def ingest_process(market: FedMarket, url: str) -> None:
    """The loop of the ingest process with one stream."""

    async def run() -> None:
        transport, _ = await ws_connect(market.listener, url)
        transport.send(WSMsgType.TEXT, b"ready")
        await transport.wait_disconnected()

    gc.disable()
    uvloop.run(run())


def through_socket(*, wait: Wait, near: int, far: int) -> Samples:
    """One connection. This process is the quoter; it measures from the venue's time."""
    market, times = FedMarket(), SendTimes()
    quoter = Quoter(market)
    venue = Venue(paced(times), cpu=near)
    ingest = fork(partial(ingest_process, market, venue.url), cpu=near)
    last = FIRST_SEQUENCE + SENT_MESSAGES
    decided = np.zeros(last + 1, dtype=np.int64)
    native, row, worker, quote_pass = quoter.native, quoter.row, quoter.worker, lib.quote_pass
    os.sched_setaffinity(0, {far})
    gc.disable()
    try:
        deadline = time.monotonic() + DEADLINE_S
        passes = 0
        while True:
            seen = lib.bell_value(row) if wait == "park" else 0
            if quote_pass(worker, START_UNIX_MS):
                now = time.monotonic_ns()
                sequence = native.venue_sequence
                decided[sequence] = now
                native.news = 0
                if sequence == last:
                    break
            elif wait == "yield":
                os.sched_yield()
            elif wait == "park":
                lib.bell_wait(row, seen, SPIN_COUNT, 50_000_000)
            passes += 1
            if passes % LOOK_EVERY == 0 and time.monotonic() > deadline:
                raise TimeoutError(f"not within {DEADLINE_S} s: frame {last}")
    finally:
        gc.enable()
        end(ingest)
        venue.close()
    quoter.check(1 + SENT_MESSAGES)
    # Frames that one pass took together count for the last of them only, as a quote rests on the newest.
    found = decided > 0
    found[: FIRST_SEQUENCE + 1] = False
    return (decided - times.by_sequence)[found].astype(np.float64)


def blocking_reader(*, near: int) -> Samples:
    """The floor of a socket: bytes of one frame, over loopback TCP, to a process that blocks in recv(). Both
    share a core, as venue and ingest do."""
    times = SendTimes()
    size = len(FRAMES[0])
    with socket.create_server(("127.0.0.1", 0)) as server:

        def send() -> None:
            with socket.create_connection(server.getsockname()) as theirs:
                theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                due = time.monotonic_ns() + NS_PER_S // 10
                for sequence in range(FIRST_SEQUENCE + 1, FIRST_SEQUENCE + 1 + SENT_MESSAGES):
                    due += SEND_EVERY_NS
                    time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
                    times.by_sequence[sequence] = time.monotonic_ns()
                    theirs.sendall(FRAMES[0])
                theirs.recv(1)  # the reader closes when it has all

        os.sched_setaffinity(0, {near})
        costs = []
        venue = fork(send, cpu=near)
        try:
            server.settimeout(DEADLINE_S)
            ours, _ = server.accept()
            with ours:
                ours.settimeout(DEADLINE_S)
                for sequence in range(FIRST_SEQUENCE + 1, FIRST_SEQUENCE + 1 + SENT_MESSAGES):
                    taken = 0
                    while taken < size:
                        taken += len(ours.recv(size - taken))
                    costs.append(time.monotonic_ns() - int(times.by_sequence[sequence]))
        finally:
            end(venue)
    return np.array(costs, dtype=np.float64)


class FrameTimes(WSListener):
    """Notes when the WebSocket library calls, and does nothing with what it was called for."""

    def __init__(self, times: SendTimes) -> None:
        self._by_sequence = times.by_sequence
        self._sequence = FIRST_SEQUENCE

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002 - picows' signature
        self._by_sequence[self._sequence] = time.monotonic_ns()
        self._sequence += 1


def frames_not_looked_at(*, near: int) -> Samples:
    """The floor of a WebSocket: frames to a callback in ingest's place that only reads the clock."""
    sent, called = SendTimes(), SendTimes()
    venue = Venue(paced(sent), cpu=near)
    last = FIRST_SEQUENCE + SENT_MESSAGES

    async def run() -> None:
        transport, _ = await ws_connect(lambda: FrameTimes(called), venue.url)
        transport.send(WSMsgType.TEXT, b"ready")
        await transport.wait_disconnected()

    reader = fork(lambda: uvloop.run(run()), cpu=near)
    deadline = time.monotonic() + DEADLINE_S
    try:
        while called.by_sequence[last] == 0:
            time.sleep(0.01)
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {DEADLINE_S} s: frame {last}")
    finally:
        end(reader)
        venue.close()
    return (called.by_sequence - sent.by_sequence)[FIRST_SEQUENCE + 1 :].astype(np.float64)


def measure() -> Report:
    """Run everything once."""
    near, far = cores()
    notes = []
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if near == far:
        notes.append("one core only: nothing can spin beside ingest, so the spinning row says little")
    allowed = os.sched_getaffinity(0)
    try:
        rows, discarded = interleave(
            [
                Contender(who="floor: empty timing", window=empty_timing),
                Contender(who=IN_HAND, window=in_hand),
                Contender(who=FLOOR, window=partial(blocking_reader, near=near)),
                Contender(who=FRAME_FLOOR, window=partial(frames_not_looked_at, near=near)),
                *(
                    Contender(who=who, window=partial(through_socket, wait=wait, near=near, far=far))
                    for who, wait in WAITING.items()
                ),
            ]
        )
    finally:
        os.sched_setaffinity(0, allowed)
    by_who = {row.who: row for row in rows}
    return Report(
        name="tick_to_quote",
        unit="ns",
        rows=rows,
        ratios={
            "in_hand_p50_us": by_who[IN_HAND].p50 / 1_000,
            "in_hand_p99_us": by_who[IN_HAND].p99 / 1_000,
            "socket_p50_us": by_who[SPINNING].p50 / 1_000,
            "socket_parked_p50_us": by_who[PARKED].p50 / 1_000,
            "socket_floor_p50_us": by_who[FLOOR].p50 / 1_000,
            "websocket_floor_p50_us": by_who[FRAME_FLOOR].p50 / 1_000,
        },
        discarded=discarded,
        machine=machine(),
        notes=notes,
    )


def main() -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="python -m perf.tick_to_quote", description="From tick to quote.")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    show(measure(), as_json=parser.parse_args().json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
