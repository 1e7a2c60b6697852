"""What ingest publishes of one market: its ladder, and from it book ring, book image, top and feed row.

Invariants, for every worker's ring:

* A reader that was lapped lands a quarter ring behind the producer. Every market's image is therefore
  renewed before the first change it lacks is a quarter ring old (:class:`BookOutput`).
* A generation is announced after its image is written, so the image found on the announcement is at
  least as new.
* While a book is unreliable its image says so too: whoever recovers from it gets nothing to quote on.

Reads: nothing shared but its own former rows, at start. Writes: book ring of the market's worker, book
image, top row, feed row.
"""

from __future__ import annotations

from typing import Any, Final

from engine._native import ffi, lib
from engine.arena import Arena, ArenaError, cell, check
from engine.venues.platform_feed import BookUpdate, Levels, TradeMessage

CENTS_GRID_TICKS: Final = 101  # the platform's grid: tick = price in cents, 1..99 tradable
_NS_PER_MS: Final = 1_000_000
_EVENTS_MAX: Final = 2 * 99  # one frame: every level of both sides
_RENEW_AFTER_SLOTS: Final = lib.BOOK_RING_SLOTS // 4 - 2 * _EVENTS_MAX


class BookOutput:
    """The book ring of one worker, held by this process, and the bell of its quoter.

    ``events`` is the scratch array a frame is built in. Raises ArenaError when another process holds
    the producer role.
    """

    def __init__(self, arena: Arena, worker: int, *, token: int) -> None:
        self._ring = arena.book_ring(worker)
        self._token = token
        check(lib.broadcast_acquire(self._ring, token), f"book ring of worker {worker}")
        self._quoter = arena.process(lib.PROCESS_QUOTER_FIRST + worker)
        self.events = ffi.new("book_event_t[]", _EVENTS_MAX)
        self._stale: dict[MarketFeed, int] = {}  # position of the first change its image lacks; oldest first
        self._renew_at: float = float("inf")

    def position(self) -> int:
        """Events published so far."""
        return int(lib.broadcast_position(self._ring))

    def publish(self, count: int) -> None:
        """Publishes the first ``count`` of ``events`` in one batch and wakes the quoter."""
        code = lib.broadcast_publish(self._ring, lib.BOOK_RING_SLOTS, self._token, self.events, count)
        if code != lib.RING_OK:
            check(code, "book ring")
        lib.bell_ring(self._quoter, -1)

    def image_lacks(self, feed: MarketFeed, position: int) -> None:
        """A change published at ``position`` is not in the market's image."""
        if feed in self._stale:
            return
        self._stale[feed] = position
        if len(self._stale) == 1:
            self._renew_at = position + _RENEW_AFTER_SLOTS

    def image_renewed(self, feed: MarketFeed) -> None:
        if self._stale.pop(feed, None) is not None:
            oldest = next(iter(self._stale.values()), None)
            self._renew_at = float("inf") if oldest is None else oldest + _RENEW_AFTER_SLOTS

    def renew_images(self, position: int) -> None:
        """Renews the images whose first missing change will soon be a quarter ring behind ``position``."""
        while position >= self._renew_at:
            next(iter(self._stale)).write_image(position)


class MarketFeed:
    """One market's book as ingest holds it. Times are monotonic ns of the frame's arrival."""

    def __init__(self, arena: Arena, slot: int, output: BookOutput) -> None:
        self.slot = slot
        self.market_id = arena.market_id(slot)
        self._output = output
        self._market = arena.market(slot)
        tick_count = lib.cell_load(cell(self._market.descriptor, "tick_count"))
        if tick_count != CENTS_GRID_TICKS:
            raise ArenaError(
                f"market {self.market_id}: grid of {tick_count} ticks, the platform's has {CENTS_GRID_TICKS}"
            )
        size = lib.orderbook_bytes(CENTS_GRID_TICKS)
        self._memory = ffi.new("uint64_t[]", (size + 7) // 8)
        grid = ffi.new("price_grid_t *")
        lib.price_grid_cents(grid)
        check(lib.orderbook_init(self._memory, size, grid), "order book")
        self._book = ffi.cast("orderbook_t *", self._memory)
        self._metrics = lib.orderbook_metrics(self._book)

        # bids by tick, then asks by tick, as images hold them
        self._held = ffi.new("int64_t[]", 2 * CENTS_GRID_TICKS)
        self._told = ffi.new("int64_t[]", 2 * CENTS_GRID_TICKS)
        self._held_bytes = ffi.buffer(self._held)
        self._told_bytes = ffi.buffer(self._told)

        self._level = ffi.new("book_event_t *")  # what all LEVEL events of a frame share
        self._level.market_slot = slot
        self._level.kind = lib.BOOK_LEVEL
        self._image = ffi.new("image_header_t *")
        self._image.tick_count = CENTS_GRID_TICKS
        self._top = ffi.new("top_t *")
        self._top_row = ffi.addressof(self._market, "top")
        feed_row = self._market.feed
        self._messages = cell(feed_row, "messages")
        self._level_count = cell(feed_row, "levels")
        self._snapshots = cell(feed_row, "snapshots")
        self._trades = cell(feed_row, "trades")
        self._sequence_gaps = cell(feed_row, "sequence_gaps")
        self._refused = cell(feed_row, "refused")
        self._connects = cell(feed_row, "connects")
        self._snapshot_mono_ns = cell(feed_row, "snapshot_mono_ns")
        self.valid = False
        self._connected = False
        self._recover()

    def _recover(self) -> None:
        """Generations and the trade count go on from what a predecessor left; its book does not."""
        header = ffi.new("image_header_t *")
        found = [0]
        if lib.image_read(self._market.images, header, self._held, CENTS_GRID_TICKS) == lib.RING_OK:
            found.append(int(header.generation))
        if lib.top_read(self._top_row, self._top) == lib.RING_OK:
            found.append(int(self._top.generation))
        else:
            self._top.trade_count = 0
        self._top.generation = max(found)
        self._top.valid = 0
        if self._top.generation > 0:
            self._invalidate(lib.mono_now_ns(), link_down=True)

    @property
    def generation(self) -> int:
        return int(self._top.generation)

    # ---- link --------------------------------------------------------------------------------

    def link_up(self, recv_mono_ns: int) -> None:
        """The order-book stream is connected; the book stays invalid until its snapshot."""
        self._connected = True
        lib.cell_add(self._connects, 1)
        self._link_event(0, lib.LINK_UP, recv_mono_ns)
        self._output.publish(1)
        self._output.renew_images(self._output.position())

    def link_down(self, recv_mono_ns: int) -> None:
        """The order-book stream is lost, and with it the book. Nothing happens when it is not connected."""
        if not self._connected:
            return
        self._connected = False
        self._invalidate(recv_mono_ns, link_down=True)

    def _event(self, index: int, kind: int, recv_mono_ns: int) -> Any:
        """Event ``index`` of the batch, blank but for its head."""
        event = self._output.events[index]
        ffi.memmove(ffi.addressof(event), ffi.addressof(self._level[0]), ffi.sizeof("book_event_t"))
        event.kind = kind
        event.flags = lib.BOOK_EVENT_END
        event.generation = self._top.generation
        event.venue_sequence = 0
        event.venue_unix_ns = 0
        event.recv_mono_ns = recv_mono_ns
        return event

    def _link_event(self, index: int, status: int, recv_mono_ns: int) -> None:
        self._event(index, lib.BOOK_LINK, recv_mono_ns).status = status

    # ---- validity ----------------------------------------------------------------------------

    def refused(self, recv_mono_ns: int) -> None:
        """A frame of the order-book stream was refused: what it would have changed is not known."""
        self.count_refused()
        if self.valid:
            self._invalidate(recv_mono_ns, link_down=False)

    def count_refused(self) -> None:
        """A frame was refused that says nothing about the book."""
        lib.cell_add(self._refused, 1)

    def gap(self, recv_mono_ns: int) -> None:
        """A delta out of sequence on a book that was valid, or before the connection's first snapshot."""
        lib.cell_add(self._messages, 1)
        lib.cell_add(self._sequence_gaps, 1)
        if self.valid:
            self._invalidate(recv_mono_ns, link_down=False)

    def ignored(self) -> None:
        """A frame was counted and changes nothing."""
        lib.cell_add(self._messages, 1)

    def _invalidate(self, recv_mono_ns: int, *, link_down: bool) -> None:
        output = self._output
        self.valid = False
        self._next_generation()
        index = 0
        if link_down:
            self._link_event(index, lib.LINK_DOWN, recv_mono_ns)
            index += 1
        self._announce(index, lib.GENERATION_INVALID, recv_mono_ns)
        self._write_top(recv_mono_ns)
        output.renew_images(output.position())

    def _next_generation(self) -> None:
        self._top.generation += 1
        self._level.generation = self._top.generation

    def _announce(self, index: int, status: int, recv_mono_ns: int) -> None:
        """Writes the image a new generation starts from, then its GENERATION event as number ``index``."""
        output = self._output
        image_position = output.position() + index + 1
        self.write_image(image_position, recv_mono_ns)
        event = self._event(index, lib.BOOK_GENERATION, recv_mono_ns)
        event.status = status
        event.venue_sequence = self._level.venue_sequence
        event.venue_unix_ns = self._level.venue_unix_ns
        event.detail = image_position
        output.publish(index + 1)

    # ---- book --------------------------------------------------------------------------------

    def snapshot(self, update: BookUpdate, recv_mono_ns: int) -> None:
        """The whole book. A new generation, unless it says what the valid ladder says already."""
        lib.cell_add(self._messages, 1)
        lib.cell_add(self._snapshots, 1)
        lib.cell_store(self._snapshot_mono_ns, recv_mono_ns)
        self._level.venue_sequence = update.sequence_id
        self._level.venue_unix_ns = update.timestamp_ms * _NS_PER_MS
        told = self._told
        ffi.memmove(told, _EMPTY_LADDER, len(_EMPTY_LADDER))
        for level in update.yes.bids:
            told[level.price_cents] = level.total_quantity
        for level in update.yes.asks:
            told[CENTS_GRID_TICKS + level.price_cents] = level.total_quantity
        output = self._output
        if self.valid:
            self._export()
            if self._held_bytes[:] == self._told_bytes[:]:
                self._link_event(0, lib.LINK_UP, recv_mono_ns)
                output.publish(1)
                output.renew_images(output.position())
                return
            lib.cell_add(self._sequence_gaps, 1)  # a change was missed though every number was in order
        check(lib.orderbook_load(self._book, told, told + CENTS_GRID_TICKS, CENTS_GRID_TICKS), "snapshot")
        self.valid = True
        self._next_generation()
        self._announce(0, lib.GENERATION_VALID, recv_mono_ns)
        self._write_top(recv_mono_ns)
        output.renew_images(output.position())

    def delta(self, update: BookUpdate, recv_mono_ns: int) -> None:
        """The levels one transaction changed, in sequence on a valid book: one batch, END on the last."""
        lib.cell_add(self._messages, 1)
        shared = self._level
        shared.venue_sequence = update.sequence_id
        shared.venue_unix_ns = update.timestamp_ms * _NS_PER_MS
        shared.recv_mono_ns = recv_mono_ns
        sides = update.yes
        count = self._put_levels(lib.ORDERBOOK_BID, sides.bids, 0)
        count = self._put_levels(lib.ORDERBOOK_ASK, sides.asks, count)
        if count == 0:
            return  # numbered, and says nothing
        output = self._output
        output.events[count - 1].flags = lib.BOOK_EVENT_END
        position = output.position()
        output.publish(count)
        lib.cell_add(self._level_count, count)
        self._write_top(recv_mono_ns)
        output.image_lacks(self, position)
        output.renew_images(position + count)

    def _put_levels(self, side: int, levels: Levels, index: int) -> int:
        """Applies levels to the ladder and writes their events from ``index`` on; returns the next index."""
        events, shared, book = self._output.events, self._level[0], self._book
        for level in levels:
            code = lib.orderbook_set_level(book, side, level.price_cents, level.total_quantity)
            if code != lib.ORDERBOOK_OK:
                check(code, f"market {self.market_id}: level {level.price_cents}")
            events[index] = shared
            event = events[index]
            event.side = side
            event.price_ticks = level.price_cents
            event.size_lots = level.total_quantity
            index += 1
        return index

    def _export(self) -> None:
        held = self._held
        check(lib.orderbook_export(self._book, held, held + CENTS_GRID_TICKS, CENTS_GRID_TICKS), "order book")

    def write_image(self, position: int, recv_mono_ns: int = 0) -> None:
        """Renews the image: exact for a reader that goes on at ``position``."""
        self._export()
        image = self._image
        image.generation = self._top.generation
        image.ring_position = position
        image.venue_sequence = self._level.venue_sequence
        image.valid = self.valid
        image.recv_mono_ns = recv_mono_ns or self._top.recv_mono_ns
        check(lib.image_write(self._market.images, image, self._held), "book image")
        self._output.image_renewed(self)

    def _write_top(self, recv_mono_ns: int) -> None:
        top, bid, ask = self._top, self._metrics.bid.best_ticks, self._metrics.ask.best_ticks
        book = self._book
        top.bid_ticks = bid
        top.ask_ticks = ask
        top.bid_lots = (
            lib.orderbook_level(book, lib.ORDERBOOK_TOTAL, lib.ORDERBOOK_BID, bid) if bid >= 0 else 0
        )
        top.ask_lots = (
            lib.orderbook_level(book, lib.ORDERBOOK_TOTAL, lib.ORDERBOOK_ASK, ask) if ask >= 0 else 0
        )
        top.valid = self.valid
        top.venue_sequence = self._level.venue_sequence
        top.recv_mono_ns = recv_mono_ns
        lib.top_write(self._top_row, top)

    def _best(self, side: int, ticks: int) -> tuple[int, int]:
        """(tick, lots) of a side's best level; (-1, 0) when the side is empty."""
        if ticks == lib.ORDERBOOK_NO_TICK:
            return -1, 0
        return ticks, lib.orderbook_level(self._book, lib.ORDERBOOK_TOTAL, side, ticks)

    # ---- trades ------------------------------------------------------------------------------

    def trade(self, trade: TradeMessage, recv_mono_ns: int) -> None:
        """A trade of the market, for the quoter's volatility; the caller wakes the gateway."""
        lib.cell_add(self._trades, 1)
        event = self._event(0, lib.BOOK_TRADE, recv_mono_ns)
        event.side = lib.ORDERBOOK_BID if trade.aggressor_side == "BUY" else lib.ORDERBOOK_ASK
        event.price_ticks = trade.price_cents
        event.size_lots = trade.quantity
        event.venue_sequence = trade.sequence_id
        event.venue_unix_ns = trade.timestamp_ms * _NS_PER_MS
        self.trades_moved()
        self._output.publish(1)
        self._output.renew_images(self._output.position())

    def trades_moved(self) -> None:
        """Raises the count that makes the gateway ask for trades: one came, or one may have been missed."""
        self._top.trade_count += 1
        lib.top_write(self._top_row, self._top)


_EMPTY_LADDER: Final = bytes(2 * CENTS_GRID_TICKS * 8)
