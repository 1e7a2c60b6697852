"""The last hop as the event loop sees it: connections and figures of the moment in, what became of it out.

What stands between an order record and the socket (row, checks, journal line, tokens, bytes) is
``native/last_hop.c``.

Reads: kill words, top rows, heartbeats.  Writes: live-order rows, account rows, the intent journal.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

import structlog

from engine import crash_points
from engine._native import ffi, lib
from engine.events import LocalReject
from engine.risk.rate import TokenBucket
from engine.venues.http_pool import Connection
from engine.venues.platform_rest import Gate, OrderHeads, SentOrder
from engine.workers.gateway_context import GatewayContext
from engine.workers.gateway_intents import IntentReader
from engine.workers.gateway_live import LiveOrder
from engine.workers.gateway_market import GatewayMarket

_log = structlog.get_logger()

_IN_HAND_MAX: Final = 16  # connections: more than a ladder has orders
_PLACES: Final = {
    lib.REACH_AFTER_TAKE: "gateway.after_take",
    lib.REACH_AFTER_RISK: "gateway.after_risk",
    lib.REACH_AFTER_JOURNAL: "gateway.after_journal",
    lib.REACH_AFTER_SEND: "gateway.after_send",
}


def _reached(place: int) -> None:
    if crash_points.armed:
        crash_points.reach(_PLACES[place])


class LastHop:
    """One gateway's, with connections in hand for the next burst: nothing is looked for when it comes."""

    def __init__(self, context: GatewayContext, readers: Sequence[IntentReader]) -> None:
        self._context: Final = context
        self._readers: Final = ffi.new("hop_reader_t *[]", [reader.native for reader in readers])
        self._markets: Final = ffi.new("market_books_t *[]", context.proc.arena.market_slots)
        for slot, market in context.markets.items():
            self._markets[slot] = market.books
        self._descriptors: Final = ffi.new("int32_t[]", _IN_HAND_MAX + lib.HOP_BURST_MAX)
        self._native: Final = ffi.new(
            "last_hop_t *",
            {
                "markets": self._markets,
                "market_count": len(self._markets),
                "connections": self._descriptors,
                "journal": context.journal.segment,
            },
        )
        self._reached: Final = ffi.callback("void(int32_t)", _reached)  # kept: C has its address
        if crash_points.armed:
            self._native.reach = self._reached
        self._heads: OrderHeads | None = None
        self._in_hand: list[Connection] = []
        self._under_way: Final[dict[int, Connection]] = {}  # by descriptor: written to, and not followed yet

    def changed(self) -> bool:
        """Whether a kill word, a worker's epoch or a count of trades is another than at the last look."""
        return bool(lib.books_changed(self._markets, len(self._markets)))

    def look(self) -> int:
        """Reads the rings and sends what orders there are connections in hand for; the number of records."""
        count = int(lib.last_hop_look(self._native, self._readers, len(self._readers)))
        self._note_used()
        return count

    def run(self, reader: IntentReader) -> None:
        """Sends further orders of what was read, up to a record that is neither order nor cancel; those that
        find no connection wait."""
        missing = reader.count - reader.end - len(self._in_hand)
        if missing > 0:
            self._take(missing)
        lib.last_hop_run(self._native, reader.native, 1)
        self._note_used()

    def prepare(self) -> None:
        """For the next burst: connections that are still good, the token, the time. Called often."""
        good = [connection for connection in self._in_hand if connection.warm]
        if len(good) < len(self._in_hand):
            self._context.rest.unclaim([each for each in self._in_hand if each not in good])
            self._in_hand = good
        self._take(min(_IN_HAND_MAX, self._context.rest.orders_at_once // 2) - len(good))
        self._context.books.native.clock_offset_ms = self._context.rest.clock.proven_ms
        self._context.journal.make_room()

    def _take(self, most: int) -> None:
        heads, connections = self._context.rest.claim(max(0, most))
        if heads is not None and heads is not self._heads:
            self._heads, native = heads, self._native  # kept: the pointers are into them
            native.place_head, native.place_head_bytes = ffi.from_buffer(heads.place), len(heads.place)
            native.replace_head = ffi.from_buffer(heads.replace)
            native.replace_head_bytes = len(heads.replace)
            native.heads_until_mono_ns = heads.until_mono_ns
        self._in_hand += connections
        self._show()

    def _note_used(self) -> None:
        used = self._native.connections_used
        if used:
            self._under_way.update((each.fd, each) for each in self._in_hand[:used])
            del self._in_hand[:used]
            self._show()

    def _show(self) -> None:
        """The connections in hand, as the last hop sees them."""
        native = self._native
        native.connections_used, native.connection_count = 0, len(self._in_hand)
        for index, connection in enumerate(self._in_hand):
            self._descriptors[index] = connection.fd

    def body(self, result: Any) -> bytes:
        """The request body of an order that was sent or waits: the bytes that every resend repeats."""
        return bytes(ffi.buffer(result.tail, result.tail_bytes)[result.body_at :])

    def sent(self, result: Any, body: bytes, *, replaces: bool) -> SentOrder:
        """The request of a result SENT, for its answer to be awaited."""
        heads, unwritten = self._heads, b""
        assert heads is not None
        if result.written < result.head_bytes + result.tail_bytes:
            tail = bytes(ffi.buffer(result.tail, result.tail_bytes))
            unwritten = ((heads.replace if replaces else heads.place) + tail)[result.written :]
        return SentOrder(
            heads=heads,
            connection=self._under_way.pop(result.connection),
            body=body,
            unwritten=unwritten,
            sent_mono_ns=result.sent_mono_ns,
        )

    def refused(self, market: GatewayMarket, terms: Any, code: int) -> LocalReject:
        """Notes that an order was refused; ``terms``: its record, or its row."""
        reason = LocalReject(code)
        if reason is LocalReject.JOURNAL:
            _log.critical("journal_not_written", reason=os.strerror(self._native.journal_error))
        else:
            self._context.controls.refused_here(market, terms, reason)
        self._context.counts.refused += 1
        return reason

    # -- gates: each says why a request may not leave, with nothing between its word and the bytes

    def late(self, market: GatewayMarket, order: LiveOrder) -> Gate:
        """For an order that waited for a connection or a token."""

        def check() -> LocalReject | None:
            code = lib.last_hop_pass(self._native, market.books, order.slot)
            if code:
                return self.refused(market, market.books.orders[order.slot].row, code)
            self._context.journal.recorded(order.client_order_id)
            return None

        return check

    def again(self, market: GatewayMarket, order: LiveOrder, bucket: TokenBucket) -> Gate:
        """A resend may bring an order to life that never arrived: not where it could not stay."""

        def check() -> LocalReject | None:
            if self._context.must_go(market, order.worker_epoch) or market.sweeping:
                return LocalReject.KILLED
            bucket.take(lib.mono_now_ns())
            self._context.counts.resends += 1
            return None

        return check
