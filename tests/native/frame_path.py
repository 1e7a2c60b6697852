"""The way from a frame's bytes to shared memory, judged frame by frame by the contract alone.

Real parts: the ingest process's own objects, an arena, its ring, image and rows. Only the socket is missing:
a frame is handed to the listener as picows would hand it over, and a connection that ingest cuts is gone.

Before each frame the order-book connection is brought to the ladder and number at which the frame was
recorded. Then it is delivered, and whatever others can see must be what the contract says of its bytes:

* illegal: refused and counted, the book invalid and otherwise untouched, nothing of the frame in the ring;
* legal: exactly its events in the ring, and the ladder that it leads to.

A trade never touches the book, whatever it is.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog
from picows import WSMsgType

from engine import config as configuration
from engine._native import ffi, lib
from engine.arena import Arena, cell
from engine.workers.ingest import BookListener, Ingest, StreamListener, TradeListener
from engine.workers.process import WorkerProcess
from tests.reference.frame_contract import (
    MESSAGE_BYTES_MAX,
    IllegalFrameError,
    LegalBook,
    LegalTrade,
    legal_book,
    legal_trade,
)

RECORDED: Final = Path(__file__).resolve().parents[1] / "data" / "frames"
GRID_TICKS: Final = 101
SNAPSHOT_NUMBER: Final = 7  # any but the 1 that snapshots carry
SNAPSHOT_UNIX_MS: Final = 1_790_000_000_000
_COUNTERS: Final = ("messages", "levels", "snapshots", "trades", "sequence_gaps", "refused")
_EVENTS_MAX: Final = 512
_NS_PER_MS: Final = 1_000_000

Ladder = tuple[dict[int, int], dict[int, int]]  # bids, asks: price in cents -> shares


class Recorded(NamedTuple):
    """A frame as received, and the state of its connection just before."""

    payload: bytes
    is_trade: bool
    before: Ladder
    number_before: int
    snapshot_before: bytes  # a frame that brings a connection there


class Recording(NamedTuple):
    """The frames of ``tests/data/frames``: order book, then trades, each in the order of its connection."""

    market_id: str
    frames: tuple[Recorded, ...]


def snapshot_of(market_id: str, ladder: Ladder, number: int) -> bytes:
    """A legal snapshot frame of a ladder."""
    sides = {
        name: [{"price_cents": price, "total_quantity": total} for price, total in side.items()]
        for name, side in zip(("bids", "asks"), ladder, strict=True)
    }
    frame = {
        **{"type": "ORDERBOOK_UPDATE", "update_type": "SNAPSHOT", "sequence_id": number},
        **{"market_id": market_id, "timestamp_ms": SNAPSHOT_UNIX_MS, "yes": sides},
    }
    return json.dumps(frame).encode()


def load_recording() -> Recording:
    """Raises IllegalFrameError when a recorded frame breaks the contract."""
    books, trades = (
        (RECORDED / f"{name}.jsonl").read_bytes().splitlines() for name in ("orderbook", "trades")
    )
    market_id = str(json.loads(books[0])["market_id"])
    frames = []
    ladder: Ladder = ({}, {})

    def add(payload: bytes, *, is_trade: bool, number_before: int) -> None:
        snapshot = snapshot_of(market_id, ladder, number_before)
        frames.append(Recorded(payload, is_trade, ladder, number_before, snapshot))

    for payload in books:
        book = legal_book(payload, market_id)
        add(
            payload,
            is_trade=False,
            number_before=SNAPSHOT_NUMBER if book.is_snapshot else book.sequence_id - 1,
        )
        ladder = after(ladder, book)
    for payload in trades:
        legal_trade(payload, market_id)
        add(payload, is_trade=True, number_before=SNAPSHOT_NUMBER)
    return Recording(market_id, tuple(frames))


def after(before: Ladder, book: LegalBook) -> Ladder:
    """The ladder that a legal frame leads to, when its number is the right one."""
    old = ({}, {}) if book.is_snapshot else before
    sides = ({**held, **said} for held, said in zip(old, (book.bids, book.asks), strict=True))
    bids, asks = ({price: total for price, total in side.items() if total} for side in sides)
    return bids, asks


class TextFrame:
    """What the listener uses of picows' WSFrame, which only a socket can fill."""

    last_in_buffer = True

    def __init__(self, payload: bytes, *, msg_type: WSMsgType = WSMsgType.TEXT, fin: bool = True) -> None:
        self._payload = payload
        self.msg_type = msg_type
        self.fin = fin
        self.payload_size = len(payload)

    def get_payload_as_bytes(self) -> bytes:
        return self._payload


class Transport:
    """The listener's side of a connection: what it asked for, and whether it gave it up."""

    def __init__(self) -> None:
        self.snapshot_requests = 0
        self.is_open = True

    def send(self, msg_type: WSMsgType, payload: bytes) -> None:
        assert (msg_type, payload) == (WSMsgType.TEXT, b'{"action":"REQUEST_SNAPSHOT"}')
        self.snapshot_requests += 1

    def disconnect(self, graceful: bool = True) -> None:
        self.is_open = False


class StrictIngest(Ingest):
    """An invariant that breaks is seen at once, not at the end of the process."""

    def fail(self, error: BaseException) -> None:
        raise error


class DisagreementError(AssertionError):
    """Shared memory is not what the contract makes of the frame."""


class Verdict(Enum):
    """What became of a frame."""

    REFUSED = "refused"
    ACCEPTED = "accepted"


Event = tuple[int, ...]


@contextmanager
def quiet() -> Iterator[None]:
    """Without the line that every first refused frame of a connection writes to the log."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


class FramePath:
    """One market in a new arena, and whoever looks at it from outside."""

    def __init__(self, market_id: str) -> None:
        self._market_id = market_id
        self._arena = Arena.create(market_slots=1, worker_slots=1)
        self._arena.place_market(0, market_id=market_id, worker=0, tick_count=GRID_TICKS)
        lib.cell_store(cell(self._arena.process(lib.PROCESS_INGEST), "epoch"), 1)
        process = WorkerProcess(
            run_dir=Path(),
            arena=self._arena,
            config=configuration.parse({"markets": [{"id": market_id}]}, "frames"),
            row_index=lib.PROCESS_INGEST,
            row_epoch=1,
            bells={},
            parent_pid=os.getppid(),
        )
        self._ingest = StrictIngest(process, "")
        self._feed = self._ingest.feeds[0]
        market = self._arena.market(0)
        self._images = market.images
        self._top_row = ffi.addressof(market, "top")
        self._counter_cells = [cell(market.feed, name) for name in _COUNTERS]
        self._ring = self._arena.book_ring(0)
        self._cursor = ffi.new("broadcast_cursor_t *")
        self._events = ffi.new("book_event_t[]", _EVENTS_MAX)
        self._lapped = ffi.new("int *")
        self._header = ffi.new("image_header_t *")
        self._levels = ffi.new("int64_t[]", 2 * GRID_TICKS)
        self._top = ffi.new("top_t *")
        self._transport = Transport()
        self._book = self._connect(BookListener)

    # ---- the venue's side --------------------------------------------------------------------

    def _connect(self, listener: type[StreamListener]) -> StreamListener:
        connected = listener(self._ingest, self._feed)
        self._transport = Transport()
        connected.on_ws_connected(self._transport)  # type: ignore[arg-type]
        return connected

    def _deliver(self, listener: StreamListener, payload: bytes) -> None:
        """As picows hands a message over. None that is longer than it was told comes in one frame."""
        frames = [TextFrame(payload)]
        if len(payload) > MESSAGE_BYTES_MAX:
            half = len(payload) // 2
            frames = [
                TextFrame(payload[:half], fin=False),
                TextFrame(payload[half:], msg_type=WSMsgType.CONTINUATION),
            ]
        for frame in frames:
            listener.on_ws_frame(self._transport, frame)  # type: ignore[arg-type]

    # ---- what others see ---------------------------------------------------------------------

    def _read_ring(self) -> list[Event]:
        """Events since the last call: kind, status, generation, side, ticks, lots, flags, number, unix ns."""
        count = lib.broadcast_read(
            self._ring, lib.BOOK_RING_SLOTS, self._cursor, self._events, _EVENTS_MAX, self._lapped
        )
        assert not self._lapped[0]
        assert count < _EVENTS_MAX
        seen: list[Event] = []
        for index in range(count):
            event = self._events[index]
            head = (event.kind, event.status, event.generation)
            said = (event.side, event.price_ticks, event.size_lots, event.flags)
            seen.append((*head, *said, event.venue_sequence, event.venue_unix_ns))
        return seen

    def _counters(self) -> dict[str, int]:
        return {
            name: lib.cell_load(counter) for name, counter in zip(_COUNTERS, self._counter_cells, strict=True)
        }

    def _read_top(self) -> Any:
        assert lib.top_read(self._top_row, self._top) == lib.RING_OK
        return self._top

    def _image(self) -> tuple[bool, Ladder]:
        code = lib.image_read(self._images, self._header, self._levels, GRID_TICKS)
        assert code == lib.RING_OK, f"image_read: {code}"
        levels = list(self._levels)
        bids, asks = (
            {tick: lots for tick, lots in enumerate(side) if lots}
            for side in (levels[:GRID_TICKS], levels[GRID_TICKS:])
        )
        return bool(self._header.valid), (bids, asks)

    # ---- judgement ---------------------------------------------------------------------------

    def judge(self, recorded: Recorded, payload: bytes) -> Verdict:
        """Delivers ``payload`` in place of a recorded frame.

        Raises DisagreementError when what follows is not what the contract says; any other exception is a
        broken invariant of ingest.
        """
        if not self._transport.is_open:  # cut by the frame before
            self._book.on_ws_disconnected(self._transport)  # type: ignore[arg-type]
            self._book = self._connect(BookListener)
        self._deliver(self._book, recorded.snapshot_before)
        self._read_ring()
        if not self._feed.valid or self._read_top().valid != 1:
            raise DisagreementError("a legal snapshot did not make the book valid")
        return (
            self._judge_trade(recorded, payload) if recorded.is_trade else self._judge_book(recorded, payload)
        )

    def _expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            raise DisagreementError(f"{what}: found {found!r}, by the contract {expected!r}"[:2_000])

    def _judge_book(self, recorded: Recorded, payload: bytes) -> Verdict:
        try:
            book = legal_book(payload, self._market_id)
        except IllegalFrameError:
            book = None
        generation = self._feed.generation
        counters, requests = self._counters(), self._transport.snapshot_requests
        self._deliver(self._book, payload)
        events, ladder, valid, counted = self._book_consequences(recorded, book, generation)
        self._expect("events", self._read_ring(), events)
        self._expect(
            "counters", self._counters(), {name: counters[name] + counted.get(name, 0) for name in counters}
        )
        self._expect("snapshot requests", self._transport.snapshot_requests - requests, int(not valid))
        self._expect(
            "generation", self._feed.generation, generation + any(e[0] == lib.BOOK_GENERATION for e in events)
        )
        if events and events[-1][0] == lib.BOOK_LEVEL:
            self._feed.write_image(
                lib.broadcast_position(self._ring)
            )  # or it would be the one before the levels
        self._expect("image", self._image(), (valid, ladder))
        self._expect_top(ladder, valid)
        return Verdict.REFUSED if book is None else Verdict.ACCEPTED

    def _book_consequences(
        self, recorded: Recorded, book: LegalBook | None, generation: int
    ) -> tuple[list[Event], Ladder, bool, dict[str, int]]:
        """Events, ladder, validity and counts that a frame leads to; None is an illegal one."""
        number, unix_ns = recorded.number_before, SNAPSHOT_UNIX_MS * _NS_PER_MS
        end = lib.BOOK_EVENT_END
        if book is None or (not book.is_snapshot and book.sequence_id != number + 1):
            lost = (
                lib.BOOK_GENERATION,
                lib.GENERATION_INVALID,
                generation + 1,
                0,
                0,
                0,
                end,
                number,
                unix_ns,
            )
            counted = {"refused": 1} if book is None else {"messages": 1, "sequence_gaps": 1}
            return [lost], recorded.before, False, counted
        number, unix_ns = book.sequence_id, book.timestamp_ms * _NS_PER_MS
        ladder = after(recorded.before, book)
        if not book.is_snapshot:
            levels = [(lib.ORDERBOOK_BID, *level) for level in book.bids.items()]
            levels += [(lib.ORDERBOOK_ASK, *level) for level in book.asks.items()]
            events: list[Event] = [
                (lib.BOOK_LEVEL, 0, generation, *level, end * (place == len(levels)), number, unix_ns)
                for place, level in enumerate(levels, start=1)
            ]
            return events, ladder, True, {"messages": 1, "levels": len(levels)}
        counted = {"messages": 1, "snapshots": 1}
        if ladder == recorded.before:  # a sign of life
            return [(lib.BOOK_LINK, lib.LINK_UP, generation, 0, 0, 0, end, 0, 0)], ladder, True, counted
        told = (lib.BOOK_GENERATION, lib.GENERATION_VALID, generation + 1, 0, 0, 0, end, number, unix_ns)
        return [told], ladder, True, {**counted, "sequence_gaps": 1}

    def _expect_top(self, ladder: Ladder, valid: bool) -> None:
        """The best of both sides, when the book is valid."""
        top, (bids, asks) = self._read_top(), ladder
        self._expect("valid", top.valid, int(valid))
        if valid:
            best = (max(bids, default=-1), min(asks, default=-1))
            self._expect("best prices", (top.bid_ticks, top.ask_ticks), best)
            self._expect(
                "best sizes", (top.bid_lots, top.ask_lots), (bids.get(best[0], 0), asks.get(best[1], 0))
            )

    def _judge_trade(self, recorded: Recorded, payload: bytes) -> Verdict:
        book_transport = self._transport
        listener = self._connect(TradeListener)
        try:
            trade: LegalTrade | None = legal_trade(payload, self._market_id)
        except IllegalFrameError:
            trade = None
        generation, trade_count = self._feed.generation, self._read_top().trade_count
        counters = self._counters()
        self._deliver(listener, payload)
        self._transport = book_transport
        events: list[Event] = []
        if trade is not None:
            side = lib.ORDERBOOK_BID if trade.aggressor_buys else lib.ORDERBOOK_ASK
            said = (side, trade.price_cents, trade.quantity, lib.BOOK_EVENT_END)
            unix_ns = trade.timestamp_ms * _NS_PER_MS
            events = [(lib.BOOK_TRADE, 0, generation, *said, trade.sequence_id, unix_ns)]
        counted = "refused" if trade is None else "trades"
        self._expect("events", self._read_ring(), events)
        self._expect("counters", self._counters(), {**counters, counted: counters[counted] + 1})
        self._expect("trade count", self._read_top().trade_count, trade_count + 1)
        self._expect("generation", self._feed.generation, generation)
        self._expect("image", self._image(), (True, recorded.before))
        self._expect_top(recorded.before, True)
        return Verdict.REFUSED if trade is None else Verdict.ACCEPTED
