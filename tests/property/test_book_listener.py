"""Whatever form a frame comes in, the order-book stream does the same with it.

The usual form, which C takes at once, and another, which Python decodes, in every mixture with gaps,
repetitions and refused frames.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import config as configuration
from engine._native import ffi, lib
from engine.arena import Arena, cell
from engine.venues.platform_feed import FrameRefusedError
from engine.workers.ingest import BookListener, Ingest
from engine.workers.process import WorkerProcess

MARKET = "MKT-A"
TICKS = 101
COUNTERS = ("messages", "levels", "snapshots", "sequence_gaps", "refused")
UNUSUAL = ", "  # json.dumps' own item separator


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


class Stream:
    """The order-book stream of one market, without a socket."""

    def __init__(self) -> None:
        self.arena = Arena.create(market_slots=1, worker_slots=1)
        self.arena.place_market(0, market_id=MARKET, worker=0, tick_count=TICKS)
        lib.cell_store(cell(self.arena.process(lib.PROCESS_INGEST), "epoch"), 1)
        proc = WorkerProcess(
            run_dir=Path(),
            arena=self.arena,
            config=configuration.parse({"markets": [{"id": MARKET}]}, "test"),
            row_index=lib.PROCESS_INGEST,
            row_epoch=1,
            bells={},
            parent_pid=os.getppid(),
        )
        ingest = Ingest(proc, "")
        self._listener = BookListener(ingest, ingest.feeds[0])
        self._listener.opened(1)

    def receive(self, payload: bytes, now: int) -> None:
        """As ``on_ws_frame`` does."""
        try:
            self._listener.message(payload, now)
        except FrameRefusedError:
            self._listener.frame_refused(now)

    def refuse(self, now: int) -> None:
        """A frame that is refused before anyone reads it, as one that is not text."""
        self._listener.frame_refused(now)

    def state(self) -> tuple[Any, ...]:
        """Everything that others can see: events of the ring, image, top and feed row."""
        cursor = ffi.new("broadcast_cursor_t *")
        events = ffi.new("book_event_t[]", 4096)
        lapped = ffi.new("int *")
        ring = self.arena.book_ring(0)
        count = lib.broadcast_read(ring, lib.BOOK_RING_SLOTS, cursor, events, 4096, lapped)
        market = self.arena.market(0)
        top = ffi.new("top_t *")
        assert lib.top_read(ffi.addressof(market, "top"), top) == lib.RING_OK
        header = ffi.new("image_header_t *")
        levels = ffi.new("int64_t[]", 2 * TICKS)
        image = lib.image_read(market.images, header, levels, TICKS)
        size = ffi.sizeof("book_event_t")
        return (
            bytes(ffi.buffer(events))[: count * size],
            bytes(ffi.buffer(top)),
            (image, header.generation, header.ring_position, header.valid, list(levels)),
            tuple(int(lib.cell_load(cell(market.feed, name))) for name in COUNTERS),
        )


def frame(kind: str, sequence: int, bids: dict[int, int], asks: dict[int, int], separator: str) -> bytes:
    sides = {
        name: [{"price_cents": price, "total_quantity": total} for price, total in side.items()]
        for name, side in (("bids", bids), ("asks", asks))
    }
    document = {
        "type": "ORDERBOOK_UPDATE",
        "update_type": kind,
        "sequence_id": sequence,
        "market_id": MARKET,
        "timestamp_ms": 1_790_000_000_000 + sequence,
        "yes": sides,
    }
    return json.dumps(document, separators=(separator, ":")).encode()


SIDE = st.dictionaries(st.integers(1, 99), st.integers(0, 1_000), max_size=3)
# (what comes, bids, asks, whether in the usual form)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("next",) * 4 + ("again", "gap", "old", "snapshot", "broken", "binary")),
        SIDE,
        SIDE,
        st.booleans(),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=400)
@given(STEPS)
def test_the_form_of_a_frame_makes_no_difference(
    steps: list[tuple[str, dict[int, int], dict[int, int], bool]],
) -> None:
    mixed, unusual = Stream(), Stream()
    try:
        sequence = 1
        content: tuple[str, int, dict[int, int], dict[int, int]] = ("SNAPSHOT", 1, {40: 1}, {60: 1})
        for now, (what, bids, asks, usual) in enumerate(
            [("snapshot", {40: 1}, {60: 1}, True), *steps], start=2
        ):
            if what == "binary":
                mixed.refuse(now)
                unusual.refuse(now)
                continue
            if what == "snapshot":
                sequence = 1
                content = ("SNAPSHOT", 1, bids, asks)
            elif what == "next":
                sequence += 1
                content = ("DELTA", sequence, bids, asks)
            elif what == "gap":
                sequence += 2
                content = ("DELTA", sequence, bids, asks)
            elif what == "old":
                content = ("DELTA", max(1, sequence - 1), bids, asks)
            broken = b"!" if what == "broken" else b""
            mixed.receive(frame(*content, "," if usual else UNUSUAL) + broken, now)
            unusual.receive(frame(*content, UNUSUAL) + broken, now)
        assert mixed.state() == unusual.state()
    finally:
        for stream in (mixed, unusual):
            os.close(stream.arena.fd)
