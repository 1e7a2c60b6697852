"""However late a reader looks: its ladder is the venue's, or it knows that it is not.

Two markets share one worker's ring. A model of the venue makes frames; a reader drains the ring at random
moments, is lapped, recovers from the images, and follows the rules a quoter follows.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from engine._native import ffi, lib
from engine.arena import Arena
from engine.venues.platform_feed import BookSides, BookUpdate, Level
from engine.workers.market_feed import CENTS_GRID_TICKS, BookOutput, MarketFeed

TOKEN = 7
MARKETS = ("MKT-A", "MKT-B")
Ladder = tuple[dict[int, int], dict[int, int]]


def update(kind: str, market: str, sequence: int, bids: dict[int, int], asks: dict[int, int]) -> BookUpdate:
    sides = (
        tuple(Level(price_cents=price, total_quantity=lots) for price, lots in side.items())
        for side in (bids, asks)
    )
    return BookUpdate(
        type="ORDERBOOK_UPDATE",
        update_type="SNAPSHOT" if kind == "SNAPSHOT" else "DELTA",
        sequence_id=sequence,
        market_id=market,
        timestamp_ms=sequence,
        yes=BookSides(**dict(zip(("bids", "asks"), sides, strict=True))),
    )


class Reader:
    """Follows one ring as a quoter does: images on announcement and after a lap, levels in between."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._ring = arena.book_ring(0)
        self._cursor = ffi.new("broadcast_cursor_t *")
        self._batch = ffi.new("book_event_t[]", 512)
        self._lapped = ffi.new("int *")
        self._image_position = [0, 0]
        self._generation = [0, 0]
        self.books: list[Ladder | None] = [None, None]  # None: known to be invalid
        self.laps = 0

    def _load(self, slot: int) -> None:
        header = ffi.new("image_header_t *")
        levels = ffi.new("int64_t[]", 2 * CENTS_GRID_TICKS)
        code = lib.image_read(self._arena.market(slot).images, header, levels, CENTS_GRID_TICKS)
        if code != lib.RING_OK or not header.valid:
            self.books[slot] = None
            return
        self._image_position[slot] = header.ring_position
        self._generation[slot] = header.generation
        bids, asks = (
            {tick: levels[at + tick] for tick in range(CENTS_GRID_TICKS) if levels[at + tick]}
            for at in (0, CENTS_GRID_TICKS)
        )
        self.books[slot] = (bids, asks)

    def drain(self) -> None:
        while True:
            position = self._cursor.position
            count = lib.broadcast_read(
                self._ring, lib.BOOK_RING_SLOTS, self._cursor, self._batch, 512, self._lapped
            )
            for index in range(count):
                self._on_event(self._batch[index], position + index)
            if self._lapped[0]:
                self.laps += 1
                for slot in range(len(MARKETS)):
                    self._load(slot)
            elif count == 0:
                return

    def _on_event(self, event: object, position: int) -> None:
        slot = event.market_slot
        if position < self._image_position[slot]:
            return
        if event.kind == lib.BOOK_GENERATION:
            if event.status == lib.GENERATION_VALID:
                self._load(slot)
            else:
                self.books[slot] = None
        elif event.kind == lib.BOOK_LEVEL:
            book = self.books[slot]
            if book is None or event.generation != self._generation[slot]:
                return
            side = book[event.side]
            side.pop(event.price_ticks, None)
            if event.size_lots:
                side[event.price_ticks] = event.size_lots


class Venue:
    """Two books, and the frames that tell of them."""

    def __init__(self, generator: random.Random) -> None:
        self._random = generator
        self.books: list[Ladder] = [({}, {}), ({}, {})]
        self._sequence = [0, 0]

    def snapshot(self, slot: int) -> BookUpdate:
        self._sequence[slot] = 1
        return update("SNAPSHOT", MARKETS[slot], 1, *self.books[slot])

    def delta(self, slot: int, level_count: int) -> BookUpdate:
        self._sequence[slot] += 1
        changes: Ladder = ({}, {})
        for side, change in zip(self.books[slot], changes, strict=True):
            for price in self._random.sample(range(1, 100), level_count):
                lots = change[price] = self._random.choice((0, 0, 1, 5, 1_000_000))
                side.pop(price, None)
                if lots:
                    side[price] = lots
        return update("DELTA", MARKETS[slot], self._sequence[slot], *changes)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from("dddddDDDDDDDDDDsSgrtlR"), min_size=20, max_size=400),
)
def test_a_reader_has_the_venues_book_or_knows_that_it_has_not(seed: int, program: list[str]) -> None:
    generator = random.Random(seed)
    arena = Arena.create(market_slots=2, worker_slots=1)
    for slot, market in enumerate(MARKETS):
        arena.place_market(slot, market_id=market, worker=0, tick_count=CENTS_GRID_TICKS)
    output = BookOutput(arena, 0, token=TOKEN)
    feeds = [MarketFeed(arena, slot, output) for slot in range(2)]
    venue, reader = Venue(generator), Reader(arena)

    def look() -> None:
        reader.drain()
        for slot, feed in enumerate(feeds):
            assert reader.books[slot] == (venue.books[slot] if feed.valid else None)
            top = ffi.new("top_t *")
            lib.top_read(ffi.addressof(arena.market(slot), "top"), top)
            assert top.valid == feed.valid
            if feed.valid:
                bids, asks = venue.books[slot]
                assert (top.bid_ticks, top.ask_ticks) == (max(bids, default=-1), min(asks, default=-1))
                assert (top.bid_lots, top.ask_lots) == (
                    bids.get(top.bid_ticks, 0),
                    asks.get(top.ask_ticks, 0),
                )

    now = 0
    for slot, feed in enumerate(feeds):
        feed.link_up(now)
        feed.snapshot(venue.snapshot(slot), now)
    for step in program:
        now += 1
        slot = generator.randrange(2)
        feed = feeds[slot]
        if step in "dD":
            frame = venue.delta(slot, 1 if step == "d" else generator.randint(20, 99))
            if feed.valid:
                feed.delta(frame, now)
            else:
                feed.ignored()
        elif step in "sS":
            if step == "S":  # the venue changed its book without telling
                venue.delta(slot, 3)
            feed.snapshot(venue.snapshot(slot), now)
        elif step == "g":
            feed.gap(now)
        elif step == "l":
            feed.link_down(now)
            feed.link_up(now)
        elif step == "t":
            feed.trades_moved()
        elif step == "R":  # the process dies and is restarted
            lib.broadcast_free_role(arena.book_ring(0))
            output = BookOutput(arena, 0, token=TOKEN)
            feeds[:] = [MarketFeed(arena, slot, output) for slot in range(2)]
        else:
            look()
    look()


def test_the_program_above_laps_its_reader() -> None:
    """Otherwise it would prove nothing about recovery."""
    generator = random.Random(1)
    arena = Arena.create(market_slots=2, worker_slots=1)
    for slot, market in enumerate(MARKETS):
        arena.place_market(slot, market_id=market, worker=0, tick_count=CENTS_GRID_TICKS)
    output = BookOutput(arena, 0, token=TOKEN)
    feeds = [MarketFeed(arena, slot, output) for slot in range(2)]
    venue, reader = Venue(generator), Reader(arena)
    for slot, feed in enumerate(feeds):
        feed.snapshot(venue.snapshot(slot), 0)
    feeds[1].delta(venue.delta(1, 5), 0)
    for turn in range(4_000):
        feeds[0].delta(venue.delta(0, generator.randint(1, 99)), turn)
        if generator.random() < 0.002:
            reader.drain()
            assert reader.books == venue.books
    reader.drain()
    assert reader.books == venue.books
    assert reader.laps >= 3
