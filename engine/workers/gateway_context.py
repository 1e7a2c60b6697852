"""What the parts of the gateway share: the account's markets, the venue, the rings, counters, tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import structlog
from msgspec import Struct

from engine._native import lib
from engine.booking_journal import BookingJournal
from engine.events import GatewayCounter
from engine.risk.rate import WINDOW_NS, TokenBucket, WindowLimit
from engine.venues.platform_rest import PlatformRest, Refused
from engine.workers.clock import unix_ms
from engine.workers.gateway_books import AccountBooks
from engine.workers.gateway_controls import Controls
from engine.workers.gateway_market import GatewayMarket
from engine.workers.gateway_reports import WorkerReports
from engine.workers.intent_journal import ORDERS, IntentJournal, JournalError, Sent
from engine.workers.process import WorkerProcess

_log = structlog.get_logger()

_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_SHUT_S_DEFAULT: Final = 1.0
_SHUT_S_MAX: Final = 120.0


class Counts(Struct, kw_only=True):
    """Events since this gateway's start; requests and answers are counted by the REST client."""

    unknowns: int = 0
    resends: int = 0
    refused: int = 0
    fills: int = 0
    trade_polls: int = 0
    sweeps: int = 0
    strays: int = 0
    bus_events: int = 0
    bus_fills: int = 0
    bus_poison: int = 0
    replaces: int = 0


class GatewayContext:
    """One venue account: its markets by slot and by id, one report channel per worker that has a market.

    ``failed`` is set to the first exception that leaves a task: the process ends with it.
    """

    def __init__(self, proc: WorkerProcess, rest: PlatformRest, journal: IntentJournal) -> None:
        now_mono_ns = lib.mono_now_ns()
        self.proc: Final = proc
        self.rest: Final = rest
        self.journal: Final = journal
        self.bookings: Final = BookingJournal(proc.run_dir)
        self.counts: Final = Counts()
        # full a minute ago; what was sent since then, by the journal, is paid for below
        full_mono_ns = now_mono_ns - WINDOW_NS
        venue = proc.config.venue
        self.books: Final = AccountBooks(
            proc.arena,
            risk=proc.config.risk,
            order_rate_limit=venue.order_rate_limit,
            reconcile_interval_ms=venue.reconcile_interval_ms,
            full_mono_ns=full_mono_ns,
        )
        self.markets: Final[dict[int, GatewayMarket]] = {
            slot: GatewayMarket(self.books, proc.arena, slot, client_ms_min=journal.last_client_ms)
            for slot in proc.arena.used_markets()
        }
        self.markets_by_id: Final = {market.market_id: market for market in self.markets.values()}
        self._pay_for_earlier_life(now_mono_ns)
        self.reports: Final[dict[int, WorkerReports]] = {
            worker: WorkerReports(proc, worker)
            for worker in sorted({market.worker for market in self.markets.values()})
        }
        for market in self.markets.values():
            market.books.worker_stuck = self.reports[market.worker].stuck_word
        self.controls: Final = Controls(proc, self.markets, self.reports, rest.clock)
        self.failed: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    def _pay_for_earlier_life(self, now_mono_ns: int) -> None:
        """The venue's window goes on while a gateway dies and another starts: a restart is no new burst."""
        now_ms = unix_ms()
        for sent in self.journal.lately:
            market = self.markets_by_id.get(sent.market)
            at_mono_ns = now_mono_ns - max(0, now_ms - sent.at_ms) * _NS_PER_MS
            if sent.op in ("place", "cancel"):
                self.books.order_tokens.take(at_mono_ns)
            elif sent.op == "replace" and market is not None:
                market.replace_tokens.take(at_mono_ns)
            if sent.op in ORDERS and market is not None:
                market.order_tokens.take(at_mono_ns)
        self.journal.lately.clear()

    def reports_of(self, market: GatewayMarket) -> WorkerReports:
        return self.reports[market.worker]

    def journal_cancel(self, sent: Sent) -> None:
        """Notes a cancel before it leaves. A cancel goes out whether or not it can be noted."""
        try:
            self.journal.record(sent)
        except JournalError as error:
            _log.error("journal_not_written", reason=str(error))

    def must_go(self, market: GatewayMarket, worker_epoch: int) -> bool:
        """Whether an order that has just become known as live may not stay."""
        return not self.books.admitting or market.killed() != 0 or worker_epoch != market.worker_epoch()

    def rate_limited(self, bucket: TokenBucket | WindowLimit, refused: Refused) -> None:
        """The venue answered 429: nothing of this kind before it says so."""
        wait_s = refused.retry_after_s
        if wait_s is None and refused.rate_reset_unix_s is not None:
            wait_s = refused.rate_reset_unix_s - lib.unix_now_ns() / _NS_PER_S
        wait_s = min(_SHUT_S_MAX, max(_SHUT_S_DEFAULT, wait_s or 0.0))
        bucket.shut(lib.mono_now_ns() + int(wait_s * _NS_PER_S))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that this context owns: an exception that leaves it ends the process."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not self.failed.done():
            self.failed.set_exception(error)

    async def close(self) -> None:
        """Cancels what still runs and waits for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.bookings.close()

    def publish_counters(self) -> None:
        counts = self.counts
        for index, value in (
            (GatewayCounter.REQUESTS, self.rest.requests),
            (GatewayCounter.ERRORS, self.rest.errors),
            (GatewayCounter.UNKNOWNS, counts.unknowns),
            (GatewayCounter.RESENDS, counts.resends),
            (GatewayCounter.RATE_LIMITED, self.rest.rate_limited),
            (GatewayCounter.REFUSED, counts.refused),
            (GatewayCounter.FILLS, counts.fills),
            (GatewayCounter.TRADE_POLLS, counts.trade_polls),
            (GatewayCounter.SWEEPS, counts.sweeps),
            (GatewayCounter.STRAYS, counts.strays),
            (GatewayCounter.BUS_EVENTS, counts.bus_events),
            (GatewayCounter.BUS_FILLS, counts.bus_fills),
            (GatewayCounter.BUS_POISON, counts.bus_poison),
            (GatewayCounter.REPLACES, counts.replaces),
        ):
            self.proc.count(index, value)
