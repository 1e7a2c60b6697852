"""How many market-data messages does one core carry from a WebSocket into shared memory?

    venue process (core 1)          this process (core 0)
    prepared frames --> TCP --> WebSocket client --> decode, check, sequence --> ladder --> book ring, top row

A regression here is a burst that the engine falls behind in. Every contender does the same work per message
(``BookListener.message``: strict reading, sequence rules, ladder, ring, rows, bell); they differ in who
takes the frames off the socket. Each window is one connection that must leave the right book.

Samples are nanoseconds per message over at least ``CHUNK`` messages. The floor is what typed decoding by
msgspec would cost alone, which is why the usual frame does not go through it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any, Final

import msgspec
import numpy as np
import structlog
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from engine._native import lib
from engine.arena import cell
from engine.venues.platform_feed import BookUpdate
from perf.book import stream
from perf.feeding import DEADLINE_S, SLOT, FedMarket, Venue, cores, delta_frames, on_wire, snapshot_frame
from perf.windows import Contender, Report, Samples, interleave, machine, show

MESSAGES: Final = 24_576
CHUNK: Final = 512
READY: Final = "ready"  # what a client says when it can read
OURS: Final = "corequote"
PUSH: Final = "corequote, decode and push alone"

DELTAS: Final = stream(MESSAGES)
FRAMES: Final = delta_frames(DELTAS)
SNAPSHOT: Final = snapshot_frame()


@contextmanager
def without_gc() -> Iterator[None]:
    """As in the engine's processes, whose objects are frozen before the first message."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def per_message(marks: list[tuple[int, int]]) -> Samples:
    """Cost per message between marks (time, messages so far) that are at least CHUNK messages apart."""
    costs = []
    began, counted = marks[0]
    for at, messages in marks[1:]:
        if messages - counted >= CHUNK:
            costs.append((at - began) / (messages - counted))
            began, counted = at, messages
    return np.array(costs)


# --- without a socket


def decode_only() -> Samples:
    """The floor: the typed decoder of the library, and nothing with the result."""
    decode = msgspec.json.Decoder(BookUpdate).decode
    with without_gc():
        return in_chunks(decode)


def decode_and_push() -> Samples:
    market = FedMarket()
    listener = market.listener()
    listener.message(SNAPSHOT, time.monotonic_ns())
    message = listener.message

    def push(payload: bytes) -> None:
        message(payload, 0)

    with without_gc():
        samples = in_chunks(push)
    market.check(DELTAS)
    return samples


def in_chunks(step: Callable[[bytes], object]) -> Samples:
    now = time.perf_counter_ns
    marks = [(now(), 0)]
    for first in range(0, MESSAGES, CHUNK):
        for payload in FRAMES[first : first + CHUNK]:
            step(payload)
        marks.append((now(), min(first + CHUNK, MESSAGES)))
    return per_message(marks)


# --- with a socket


WIRE: Final = b"".join(on_wire(payload) for payload in (SNAPSHOT, *FRAMES))


async def blast(transport: WSTransport) -> None:
    """All frames, as fast as the reader takes them."""
    transport.underlying_transport.write(WIRE)


async def through_picows(
    url: str, listener: WSListener, count: Callable[[], int], check: Callable[[], None]
) -> Samples:
    """A connection of the library that the engine uses. Looks at ``count``, of messages taken, between two
    reads of the socket, and calls ``check`` before it closes."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    marks: list[tuple[int, int]] = []

    def look() -> None:
        taken = count()
        if taken and (not marks or taken - marks[-1][1] >= CHUNK):
            marks.append((time.perf_counter_ns(), taken))
        if taken > MESSAGES:
            done.set()
        else:
            loop.call_soon(look)

    transport, _ = await ws_connect(lambda: listener, url)
    try:
        transport.send(WSMsgType.TEXT, READY.encode())
        look()
        async with asyncio.timeout(DEADLINE_S):
            await done.wait()
        check()
    finally:
        transport.disconnect(graceful=False)
    return per_message(marks)


class CountingListener(WSListener):
    """picows takes the frame, nobody looks at it."""

    def __init__(self) -> None:
        self.count = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002 - picows' signature
        self.count += 1


async def frames_only(url: str) -> Samples:
    listener = CountingListener()
    return await through_picows(url, listener, lambda: listener.count, lambda: None)


async def corequote(url: str, market: FedMarket) -> Samples:
    messages = cell(market.arena.market(SLOT).feed, "messages")
    return await through_picows(
        url, market.listener(), lambda: int(lib.cell_load(messages)), lambda: market.check(DELTAS)
    )


async def websockets(url: str, market: FedMarket) -> Samples:
    from websockets.asyncio.client import connect

    async with connect(url, compression=None, ping_interval=None) as client:
        await client.send(READY)
        samples = await received(market, lambda: client.recv(decode=False))
        client.transport.abort()
        return samples


async def aiohttp(url: str, market: FedMarket) -> Samples:
    from aiohttp import ClientSession, ClientWSTimeout

    async with (
        ClientSession() as http,
        http.ws_connect(
            url, decode_text=False, autoping=False, timeout=ClientWSTimeout(ws_close=0.01)
        ) as client,
    ):
        await client.send_str(READY)
        return await received(market, partial(next_bytes, client))


async def next_bytes(client: Any) -> bytes:
    return (await client.receive()).data


async def received(market: FedMarket, receive: Callable[[], Coroutine[Any, Any, bytes]]) -> Samples:
    """A client that hands out one message at a time."""
    message = market.listener().message
    now = time.monotonic_ns
    marks: list[tuple[int, int]] = []
    async with asyncio.timeout(DEADLINE_S):
        for count in range(1, MESSAGES + 2):
            message(await receive(), now())
            if count % CHUNK == 1:
                marks.append((time.perf_counter_ns(), count))
    market.check(DELTAS)
    return per_message(marks)


def window(client: Callable[[str, FedMarket], Coroutine[Any, Any, Samples]], url: str) -> Samples:
    """One connection, before whose end shared memory must hold the right book."""
    with without_gc():
        return uvloop.run(client(url, FedMarket()))


def measure() -> Report:
    """Run everything once."""
    near, far = cores()
    notes = []
    os.sched_setaffinity(0, {near})
    if near == far:
        notes.append("one core only: the venue shared it, so the socket rows include its work")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    clients: dict[str, Any] = {OURS: corequote}
    for rival in (websockets, aiohttp):
        if find_spec(rival.__name__) is None:
            notes.append(
                f"{rival.__name__} is not installed here: its row and ratio are missing (perf/README.md)"
            )
        else:
            clients[rival.__name__] = rival
    venue = Venue(blast, cpu=far)
    try:
        rows, discarded = interleave(
            [
                Contender(who="floor: msgspec decoding alone", window=decode_only),
                Contender(who=PUSH, window=decode_and_push),
                Contender(
                    who="floor: picows, frames not looked at",
                    window=lambda: uvloop.run(frames_only(venue.url)),
                ),
                *(
                    Contender(who=who, window=partial(window, client, venue.url))
                    for who, client in clients.items()
                ),
            ]
        )
    finally:
        venue.close()
    by_who = {row.who: row for row in rows}

    def times_ours(who: str) -> float | None:
        return by_who[OURS].throughput / by_who[who].throughput if who in by_who else None

    return Report(
        name="ingest",
        unit="ns per message",
        rows=rows,
        ratios={
            "ws_msgs_per_s": by_who[OURS].throughput,
            "decode_push_msgs_per_s": by_who[PUSH].throughput,
            "vs_websockets": times_ours("websockets"),
            "vs_aiohttp": times_ours("aiohttp"),
        },
        discarded=discarded,
        machine=machine(),
        notes=notes,
    )


def main() -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="python -m perf.ingest", description="From WebSocket to book ring.")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    show(measure(), as_json=parser.parse_args().json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
