"""One market fed as in the engine: what the measurements of the path from socket to quote stand on.

The arena, the ingest process's own objects (``Ingest``, ``BookListener``, ``MarketFeed``) and a venue that
speaks WebSocket are real; only the venue's words are prepared beforehand, so that sending costs little.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from engine import config as configuration
from engine._native import ffi, lib
from engine.arena import Arena, cell
from engine.events import MarketStatus
from engine.workers.ingest import BookListener, Ingest
from engine.workers.market_kernel import MarketKernel
from engine.workers.process import WorkerProcess
from perf.book import Delta

MARKET: Final = "MKT-A"
SLOT: Final = 0
TICKS: Final = 101
START_UNIX_MS: Final = 1_790_000_000_000
DAY_MS: Final = 86_400_000
DEADLINE_S: Final = 30.0
FIRST_SEQUENCE: Final = 1


def _frame(kind: str, market: str, sequence: int, bids: str, asks: str) -> bytes:
    return (
        f'{{"type":"ORDERBOOK_UPDATE","update_type":"{kind}","sequence_id":{sequence},"market_id":"{market}",'
        f'"timestamp_ms":{START_UNIX_MS + sequence},"yes":{{"bids":[{bids}],"asks":[{asks}]}}}}'
    ).encode()


def _levels(deltas: Iterable[Delta], side: int) -> str:
    return ",".join(
        f'{{"price_cents":{price},"total_quantity":{size}}}' for of, price, size in deltas if of == side
    )


def snapshot_frame(market: str = MARKET, deltas: Iterable[Delta] = ()) -> bytes:
    """The book that these changes make of an empty one, number ``FIRST_SEQUENCE``."""
    newest = {(side, price): size for side, price, size in deltas}
    held = [(side, price, size) for (side, price), size in sorted(newest.items()) if size]
    bids, asks = _levels(held, lib.ORDERBOOK_BID), _levels(held, lib.ORDERBOOK_ASK)
    return _frame("SNAPSHOT", market, FIRST_SEQUENCE, bids, asks)


def delta_frame(market: str, sequence: int, delta: Delta) -> bytes:
    """A frame of one level, as the venue writes it (185 bytes or so)."""
    bids, asks = _levels([delta], lib.ORDERBOOK_BID), _levels([delta], lib.ORDERBOOK_ASK)
    return _frame("DELTA", market, sequence, bids, asks)


def delta_frames(deltas: list[Delta]) -> list[bytes]:
    """One frame for each change, numbered from 2."""
    return [
        delta_frame(MARKET, sequence, delta)
        for sequence, delta in enumerate(deltas, start=FIRST_SEQUENCE + 1)
    ]


def on_wire(payload: bytes) -> bytes:
    """A whole text frame of a server (RFC 6455), which does not mask."""
    size = len(payload)
    return bytes((0x81, size)) + payload if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big") + payload


def digest_after(deltas: list[Delta]) -> int:
    """What ``orderbook_digest`` says of a book after these changes."""
    levels: dict[tuple[int, int], int] = {}
    for side, price, size in deltas:
        levels[side, price] = size
    total = sum(
        lib.orderbook_digest_level(side, price, size) for (side, price), size in levels.items() if size
    )
    return total % (1 << 64)


def worker_process(arena: Arena, row_index: int, markets: Sequence[str]) -> WorkerProcess:
    """This process in the place of one of the engine's, with the code's own configuration."""
    lib.cell_store(cell(arena.process(row_index), "epoch"), 1)
    return WorkerProcess(
        run_dir=Path(tempfile.gettempdir()),
        arena=arena,
        config=configuration.parse({"markets": [{"id": market} for market in markets]}, "perf"),
        row_index=row_index,
        row_epoch=1,
        bells={},
        parent_pid=os.getpid(),
    )


def new_arena(markets: Sequence[str]) -> Arena:
    """Slots in the order of ``markets``, all of one worker."""
    arena = Arena.create(market_slots=len(markets), worker_slots=1)
    for slot, market in enumerate(markets):
        arena.place_market(slot, market_id=market, worker=0, tick_count=TICKS)
    return arena


def ready_kernel(arena: Arena, slot: int, quote: configuration.QuoteConfig) -> MarketKernel:
    """The C side of a quoter's market that trades and has a month to go."""
    kernel = MarketKernel(arena.market(slot))
    rules = ffi.new("market_rules_record_t *")
    rules.status = MarketStatus.ACTIVE
    rules.min_price_cents, rules.max_price_cents = 1, 99
    rules.maker_fee_bps, rules.taker_fee_bps = 10, 20
    rules.created_ms = START_UNIX_MS - DAY_MS
    rules.trading_end_ms = rules.resolution_ms = START_UNIX_MS + 29 * DAY_MS
    kernel.set_rules(quote, rules, START_UNIX_MS)
    inputs = kernel.inputs  # what policy sets in every cycle
    inputs.anchor_cents = float(quote.initial_price_cents)
    inputs.spread_multiplier = inputs.size_scale = 1.0
    inputs.phase = lib.QUOTE_STABILIZATION
    inputs.sides = lib.QUOTE_SIDES_BOTH
    return kernel


class FedMarket:
    """A new arena with one market and the ingest process's objects for it."""

    def __init__(self) -> None:
        self.arena = new_arena([MARKET])
        self.ingest = Ingest(worker_process(self.arena, lib.PROCESS_INGEST, [MARKET]), "")
        self.feed = self.ingest.feeds[SLOT]
        self._image = ffi.new("image_header_t *")
        self._levels = ffi.new("int64_t[]", 2 * TICKS)
        self._top = ffi.new("top_t *")

    def listener(self) -> BookListener:
        return BookListener(self.ingest, self.feed)

    @property
    def sequence(self) -> int:
        """Number of the last frame that reached shared memory."""
        assert lib.top_read(ffi.addressof(self.arena.market(SLOT), "top"), self._top) == lib.RING_OK
        return int(self._top.venue_sequence)

    def check(self, deltas: list[Delta]) -> None:
        """Raises AssertionError unless every change came and shared memory holds the book after them."""
        assert self.sequence == FIRST_SEQUENCE + len(deltas), f"stopped at frame {self.sequence}"
        self.feed.write_image(lib.broadcast_position(self.arena.book_ring(0)))
        assert lib.image_read(self.arena.market(SLOT).images, self._image, self._levels, TICKS) == lib.RING_OK
        found = sum(
            lib.orderbook_digest_level(index // TICKS, index % TICKS, lots)
            for index, lots in enumerate(self._levels)
            if lots
        )
        assert self._image.valid, "the book is not valid"
        assert found % (1 << 64) == digest_after(deltas), "the book is another one"


# --- the venue


Script = Callable[[WSTransport], Awaitable[None]]


class _Connection(WSListener):
    """Runs the script once the client has said anything: then it is ready to read."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._running: asyncio.Task[None] | None = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            self._running = asyncio.get_running_loop().create_task(_run(self._script, transport))

    def pause_writing(self) -> None:
        """The transport keeps what the socket does not take yet."""

    def resume_writing(self) -> None:
        """See pause_writing()."""


async def _run(script: Script, transport: WSTransport) -> None:
    await script(transport)


class Venue:
    """A WebSocket server in a process of its own that runs ``script`` on every connection."""

    def __init__(self, script: Script, *, cpu: int) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{listening.getsockname()[1]}/"
        self._pid = fork(lambda: uvloop.run(_serve(listening, script)), cpu=cpu)
        listening.close()

    def close(self) -> None:
        end(self._pid)


async def _serve(listening: socket.socket, script: Script) -> None:
    def accept(_: WSUpgradeRequest) -> WSListener:
        return _Connection(script)

    server = await ws_create_server(accept, sock=listening)
    await server.serve_forever()


def fork(work: Callable[[], Any], *, cpu: int) -> int:
    """Runs ``work`` in a child on one core; the child ends with it."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.sched_setaffinity(0, {cpu})
        work()
    finally:
        os._exit(0)


def end(pid: int) -> None:
    """Kills a child and reaps it."""
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def cores() -> tuple[int, int]:
    """Two cores of this process; twice the same when there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Looks every millisecond; AssertionError after ``DEADLINE_S``."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.001)
