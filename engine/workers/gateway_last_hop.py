"""The last hop as the event loop sees it: connections and figures of the moment in, what became of it out.

What stands between an order record and the socket (row, checks, journal line, tokens, bytes) is
``native/last_hop.c``.

Reads: kill words, top rows, heartbeats.  Writes: live-order rows, account rows, the intent journal.
"""

from __future__ import annotations

import os
from typing import Any, Final

import structlog

from engine import crash_points
from engine._native import ffi, lib
from engine.events import LocalReject
from engine.risk.rate import TokenBucket
from engine.venues.http_pool import Connection
from engine.venues.platform_rest import Gate, OrderHeads, SentOrder
from engine.workers.gateway_context import GatewayContext
from engine.workers.gateway_live import LiveOrder
from engine.workers.gateway_market import GatewayMarket

_log = structlog.get_logger()

_PLACES: Final = {
    lib.REACH_AFTER_TAKE: "gateway.after_take",
    lib.REACH_AFTER_RISK: "gateway.after_risk",
    lib.REACH_AFTER_JOURNAL: "gateway.after_journal",
    lib.REACH_AFTER_SEND: "gateway.after_send",
}


class LastHop:
    """One gateway's. ``results[i]`` is what the last :meth:`run` made of ``records[i]``."""

    def __init__(self, context: GatewayContext) -> None:
        self._context: Final = context
        self.results: Final = ffi.new("hop_result_t[]", lib.HOP_BURST_MAX)
        self._markets: Final = ffi.new("market_books_t *[]", context.proc.arena.market_slots)
        for slot, market in context.markets.items():
            self._markets[slot] = market.books
        self._descriptors: Final = ffi.new("int32_t[]", lib.HOP_BURST_MAX)
        self._native: Final = ffi.new(
            "last_hop_t *",
            {
                "markets": self._markets,
                "market_count": len(self._markets),
                "connections": self._descriptors,
                "journal": context.journal.segment,
            },
        )
        self._heads: OrderHeads | None = None
        self._connections: list[Connection] = []
        self._reached: Final = ffi.callback("void(int32_t)", lambda place: crash_points.reach(_PLACES[place]))

    def run(self, worker: int, records: Any, first: int, count: int) -> int:
        """Sends the orders among ``records`` from ``first`` on; index of the first record that is something
        else and no cancel, or ``count``."""
        heads, self._connections = self._context.rest.claim(count - first)
        self._use(heads)
        self._as_of_now(worker)
        native = self._native
        native.connections_used, native.connection_count = 0, len(self._connections)
        for index, connection in enumerate(self._connections):
            self._descriptors[index] = connection.fd
        end = int(lib.last_hop_run(native, worker, records, first, count, self.results))
        self._context.rest.unclaim(self._connections[native.connections_used :])
        return end

    def _use(self, heads: OrderHeads | None) -> None:
        if heads is not None and heads is not self._heads:
            self._heads, native = heads, self._native  # kept: the pointers are into them
            native.place_head, native.place_head_bytes = ffi.from_buffer(heads.place), len(heads.place)
            native.replace_head, native.replace_head_bytes = (
                ffi.from_buffer(heads.replace),
                len(heads.replace),
            )

    def _as_of_now(self, worker: int) -> None:
        context = self._context
        context.books.as_of_now(
            clock_offset_ms=context.rest.clock.proven_ms, worker_stuck=context.reports[worker].stuck
        )
        context.journal.make_room()
        self._native.reach = self._reached if crash_points.armed else ffi.NULL

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
            connection=self._connections[result.connection],
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
            self._as_of_now(market.worker)
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
