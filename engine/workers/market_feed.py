"""What ingest publishes of one market: its ladder, and from it book ring, book image, top and feed row.

Invariants, for every worker's ring:

* A reader that was lapped lands a quarter ring behind the producer. Every market's image is therefore
  renewed before the first change it lacks is a quarter ring old (``feed_renew_images``).
* A generation is announced after its image is written, so the image found on the announcement is at
  least as new.
* While a book is unreliable its image says so too: whoever recovers from it gets nothing to quote on.

Reads: nothing shared but its own former rows, at start. Writes: book ring of the market's worker, book
image, top row, feed row.
"""

from __future__ import annotations

from typing import Any, Final

from engine import crash_points
from engine._native import ffi, lib
from engine.arena import Arena, ArenaError, cell, check
from engine.native_memory import new_native
from engine.venues.platform_feed import BookUpdate, TradeMessage

CENTS_GRID_TICKS: Final = 101  # the platform's grid: tick = price in cents, 1..99 tradable
_NS_PER_MS: Final = 1_000_000


class BookOutput:
    """The book ring of one worker, held by this process, and the bell of its quoter.

    ``native`` is the ``feed_output_t`` that its markets share, ``events`` the scratch array a frame is built
    in. Raises ArenaError when another process holds the producer role.
    """

    def __init__(self, arena: Arena, worker: int, *, token: int) -> None:
        self.ring = arena.book_ring(worker)
        self.token = token
        check(lib.broadcast_acquire(self.ring, token), f"book ring of worker {worker}")
        self.quoter = arena.process(lib.PROCESS_QUOTER_FIRST + worker)
        self.events = ffi.new("book_event_t[]", lib.FEED_EVENTS_MAX)
        self._levels = ffi.new("int64_t[]", 2 * CENTS_GRID_TICKS)
        self.native: Any = ffi.new(
            "feed_output_t *",
            {
                "ring": self.ring,
                "quoter": self.quoter,
                "events": self.events,
                "levels": self._levels,
                "token": token,
            },
        )

    def position(self) -> int:
        """Events published so far."""
        return int(lib.broadcast_position(self.ring))

    def publish(self, count: int) -> None:
        """Publishes the first ``count`` of ``events`` in one batch and wakes the quoter."""
        if crash_points.armed and crash_points.due("ingest.mid_slot"):
            slots = ffi.cast("broadcast_slot_t *", self.ring + 1)
            position = self.position()
            busy = (position + 1) | (1 << 63)
            lib.cell_store(cell(slots[position % lib.BOOK_RING_SLOTS], "sequence"), busy)
            crash_points.end_process()
        code = lib.broadcast_publish(self.ring, lib.BOOK_RING_SLOTS, self.token, self.events, count)
        if code != lib.RING_OK:
            check(code, "book ring")
        if crash_points.armed:
            crash_points.reach("ingest.after_publish")
        lib.bell_ring(self.quoter, -1)

    def renew_images(self) -> None:
        """Renews the images whose first missing change will soon be a quarter ring old."""
        check(lib.feed_renew_images(self.native, self.position()), "book image")


class MarketFeed:
    """One market's book as ingest holds it. Times are monotonic ns of the frame's arrival.

    ``native`` is its ``market_feed_t``: ``lib.feed_delta`` takes the next delta in the platform's usual form
    as ``decode_book`` and :meth:`delta` would, in one call.
    """

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
        native: Any = new_native("market_feed_t *")
        self._book = new_native("orderbook_t *", size)
        grid = ffi.new("price_grid_t *")
        lib.price_grid_cents(grid)
        check(lib.orderbook_init(self._book, size, grid), "order book")

        # bids by tick, then asks by tick, as images hold them
        self._held = ffi.new("int64_t[]", 2 * CENTS_GRID_TICKS)
        self._told = ffi.new("int64_t[]", 2 * CENTS_GRID_TICKS)
        self._held_bytes = ffi.buffer(self._held)
        self._told_bytes = ffi.buffer(self._told)

        feed_row = self._market.feed
        native.book = self._book
        native.output = output.native
        native.images = self._market.images
        native.top_row = self._top_row = ffi.addressof(self._market, "top")
        native.feed_row = ffi.addressof(feed_row)
        native.market_id = self._market.descriptor.market_id
        native.market_id_length = len(self.market_id.encode())
        native.level.market_slot = slot
        native.level.kind = lib.BOOK_LEVEL
        self.native = native
        self._level = native.level
        self._top = native.top
        self._messages = cell(feed_row, "messages")
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
        if lib.top_read(self._top_row, ffi.addressof(self._top)) == lib.RING_OK:
            found.append(int(self._top.generation))
        else:
            self._top.trade_count = 0
        self._top.generation = max(found)
        self._set_valid(False)
        if self._top.generation > 0:
            self._invalidate(lib.mono_now_ns(), link_down=True)

    def _set_valid(self, valid: bool) -> None:
        self.valid = valid
        self._top.valid = valid
        if not valid:
            self.native.next_sequence = 0

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
        self._output.renew_images()

    def link_down(self, recv_mono_ns: int) -> None:
        """The order-book stream is lost, and with it the book. Nothing happens when it is not connected."""
        if not self._connected:
            return
        self._connected = False
        self._invalidate(recv_mono_ns, link_down=True)

    def _event(self, index: int, kind: int, recv_mono_ns: int) -> Any:
        """Event ``index`` of the batch, blank but for its head."""
        event = self._output.events[index]
        ffi.memmove(ffi.addressof(event), ffi.addressof(self._level), ffi.sizeof("book_event_t"))
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
        self._set_valid(False)
        self._next_generation()
        index = 0
        if link_down:
            self._link_event(index, lib.LINK_DOWN, recv_mono_ns)
            index += 1
        self._announce(index, lib.GENERATION_INVALID, recv_mono_ns)
        lib.feed_write_top(self.native, recv_mono_ns)
        output.renew_images()

    def _next_generation(self) -> None:
        self._top.generation += 1
        self._level.generation = self._top.generation

    def _announce(self, index: int, status: int, recv_mono_ns: int) -> None:
        """Writes the image a new generation starts from, then its GENERATION event as number ``index``."""
        output = self._output
        image_position = output.position() + index + 1
        self.write_image(image_position, recv_mono_ns)
        if crash_points.armed:
            crash_points.reach("ingest.in_snapshot")
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
        self.native.next_sequence = update.sequence_id + 1
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
                output.renew_images()
                return
            lib.cell_add(self._sequence_gaps, 1)  # a change was missed though every number was in order
        check(lib.orderbook_load(self._book, told, told + CENTS_GRID_TICKS, CENTS_GRID_TICKS), "snapshot")
        self._set_valid(True)
        self._next_generation()
        self._announce(0, lib.GENERATION_VALID, recv_mono_ns)
        lib.feed_write_top(self.native, recv_mono_ns)
        output.renew_images()

    def delta(self, update: BookUpdate, recv_mono_ns: int) -> None:
        """The levels one transaction changed, in sequence on a valid book: one batch, END on the last."""
        native = self.native
        for side, levels in ((lib.ORDERBOOK_BID, update.yes.bids), (lib.ORDERBOOK_ASK, update.yes.asks)):
            for level in levels:
                lib.feed_level(native, side, level.price_cents, level.total_quantity)
        end = lib.feed_publish(native, update.sequence_id, update.timestamp_ms, recv_mono_ns)
        if end < 0:
            self.delta_failed(end)

    def delta_failed(self, code: int) -> None:
        """Raises ArenaError: a delta was refused half way, by the ladder or by the ring."""
        check(code, f"market {self.market_id}: a delta")

    def _export(self) -> None:
        held = self._held
        check(lib.orderbook_export(self._book, held, held + CENTS_GRID_TICKS, CENTS_GRID_TICKS), "order book")

    def write_image(self, position: int, recv_mono_ns: int = 0) -> None:
        """Renews the image: exact for a reader that goes on at ``position``."""
        recv_mono_ns = recv_mono_ns or self._top.recv_mono_ns
        check(lib.feed_write_image(self.native, position, recv_mono_ns), "book image")

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
        self._output.renew_images()

    def trades_moved(self) -> None:
        """Raises the count that makes the gateway ask for trades: one came, or one may have been missed."""
        self._top.trade_count += 1
        lib.top_write(self._top_row, ffi.addressof(self._top))

    # ---- oracle ------------------------------------------------------------------------------

    def oracle(self, status: int, *, price_cents: int, venue_unix_ms: int, recv_mono_ns: int) -> None:
        """The oracle's word on this market: ``ORACLE_VALUE`` with a price in YES cents, else without."""
        event = self._event(0, lib.BOOK_ORACLE, recv_mono_ns)
        event.status = status
        event.price_ticks = price_cents
        event.venue_unix_ns = venue_unix_ms * _NS_PER_MS
        self._output.publish(1)
        self._output.renew_images()


_EMPTY_LADDER: Final = bytes(2 * CENTS_GRID_TICKS * 8)
