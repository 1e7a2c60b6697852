"""The order gateway: the one process that may place orders, and the only one with the account's keys.

Woken by its eventfd it drains the quoters' order rings, cancels before orders, and answers on their
execution rings. Start is recovery: log in, take off whatever an earlier life left live, bring each market's
cash and shares up to date, and only then admit new orders. SIGTERM takes everything off again and proves it
by the venue's own list before the process ends.

Reads: order rings of all workers, kill words, top rows (trade counts).
Writes: execution rings of all workers, live-order and account rows of all markets.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from typing import Final

import structlog
import uvloop
from msgspec import structs

from engine._native import lib
from engine.arena import ArenaError
from engine.config import EXIT_CONFIG, EXIT_USAGE, ConfigError
from engine.events import LocalReject, OrderKind
from engine.venues.http_pool import HttpPool
from engine.venues.platform_account import open_account
from engine.venues.platform_kafka import require_client
from engine.venues.platform_rest import MARKET_UNKNOWN, ReadError
from engine.workers import process
from engine.workers.clock import unix_ms
from engine.workers.gateway_bus import EventFeed
from engine.workers.gateway_cancels import Cancels
from engine.workers.gateway_cash import CashTruth
from engine.workers.gateway_commands import CommandDesk
from engine.workers.gateway_context import GatewayContext
from engine.workers.gateway_fills import TradeFeed
from engine.workers.gateway_flows import MoneyFlows
from engine.workers.gateway_funds import FundingError, MarketFunds, StartLaterError, StartRefusedError
from engine.workers.gateway_intents import Intent, IntentReader
from engine.workers.gateway_last_hop import LastHop
from engine.workers.gateway_market import GatewayMarket, MarketRules, StartFailure, market_status
from engine.workers.gateway_orders import OrderDesk
from engine.workers.gateway_sweep import Sweeper
from engine.workers.gateway_truth import VenueTruth
from engine.workers.hardening import harden
from engine.workers.intent_journal import ORDERS, IntentJournal, JournalError
from engine.workers.process import WorkerProcess

_log = structlog.get_logger()

_TICK_S: Final = 0.02
_TICKS_PER_SECOND: Final = 50
_SLOW_PASS_NS: Final = 10_000_000
_RETRY_S_MIN: Final = 0.1
_RETRY_S_MAX: Final = 2.0
_PASSES_MAX: Final = 16  # over the rings in one callback, then timers and replies get their turn


class NotCleanError(Exception):
    """The orderly stop ran out of time."""


class Gateway:
    """Wiring, loop and timers."""

    def __init__(self, context: GatewayContext, pool: HttpPool) -> None:
        self._context: Final = context
        self._pool: Final = pool
        self._proc: Final = context.proc
        self._row = context.proc.row
        self._trades: Final = TradeFeed(context)
        self._cancels: Final = Cancels(context, self._trades)
        self._readers: Final = [IntentReader(context.proc.arena, worker) for worker in context.reports]
        self._last_hop: Final = LastHop(context, self._readers)
        self._desk: Final = OrderDesk(context, self._last_hop, self._trades, self._cancels)
        self._sweeper: Final = Sweeper(context, self._trades, self._cancels)
        flows = MoneyFlows(context)
        self._funds: Final = MarketFunds(context, self._trades, flows)
        self._cash: Final = CashTruth(context, self._trades, self._funds, flows)
        self._truth: Final = VenueTruth(
            context, self._trades, self._cancels, self._sweeper, self._funds, self._cash
        )
        self._commands: Final = CommandDesk(context, self._funds, flows, self._admit)
        self._bell: Final = context.proc.bells.get(context.proc.row_index, -1)
        self._stop: Final = asyncio.Event()
        self._bell_seen = 0
        self._started = False
        self._rebuilding = False
        pool.before_answer = self._first_things_first

    async def run(self) -> None:
        """From attach to the last answer. FundingError: this account cannot trade. NotCleanError."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        if self._proc.stopping:
            self._stop.set()
        self._context.spawn(self._tick())
        start = self._context.spawn(self._start())
        self._context.failed.add_done_callback(lambda _: self._stop.set())
        await self._stop.wait()
        if self._context.failed.done():
            await self._context.failed  # raises
        start.cancel()
        await self._finish()

    # -- start

    async def _start(self) -> None:
        """Recovery, the same after a first start and after a kill -9."""
        await self._persist("account", self._funds.check_account)
        markets = list(self._context.markets.values())
        await asyncio.gather(*(self._sweeper.clear_left_overs(market) for market in markets))
        await self._resolve_journal()
        await asyncio.gather(*(self._recover(market) for market in markets))
        await self._persist("strangers", self._trades.know_strangers)
        # Only now: until every market knows which trades its cash includes, a poll would apply old ones.
        self._context.spawn(self._trades.run())
        if self._proc.config.venue.fills == "kafka":
            self._context.spawn(EventFeed(self._context, self._trades, self._cancels, self._truth).run())
        await asyncio.gather(*(self._admit(market) for market in markets if market.account.funded))
        await self._persist("statuses", self._truth.read_statuses)
        await self._persist("balance", self._cash.begin)
        self._context.spawn(self._truth.watch_status())
        self._context.spawn(self._truth.look_for_strays())
        if self._bell >= 0:
            asyncio.get_running_loop().add_reader(self._bell, self._on_bell)
        gc.collect()
        gc.freeze()  # what lives as long as the process is never looked at again
        self._pass()  # what was asked of an earlier life is refused, not carried out late
        self._context.books.admitting = True
        self._started = True
        self._proc.set_state(lib.PROCESS_RUNNING)
        _log.info("running", markets=len(markets))
        self._work()

    async def _resolve_journal(self) -> None:
        """What an earlier life sent and heard no answer to: the venue says what became of it.

        Everything it may have left live is off the book by now; a mint or burn is resolved with its key.
        """
        journal = self._context.journal
        for sent in journal.unresolved():
            if sent.op not in ORDERS:
                continue
            found = await self._desk.walk_for(sent.market, sent.id, sent.at_ms)
            _log.info(
                "left_over_resolved",
                market=sent.market,
                client_id=sent.id,
                order=found.id if found else None,
                status=found.status if found else "never arrived",
            )
            journal.close_intent(sent.id, order=found.id if found else "", at_ms=unix_ms())

    async def _recover(self, market: GatewayMarket) -> None:
        async def read_rules() -> None:
            try:
                detail = await self._context.rest.market(market.market_id)
            except ReadError as error:
                if error.code == MARKET_UNKNOWN:
                    raise FundingError(f"market {market.market_id}: the exchange has none") from None
                raise
            market.rules = MarketRules.of(detail)
            market.set_status(market_status(detail.status), lib.mono_now_ns())

        await self._persist("market", read_rules)
        try:
            await self._persist("funds", lambda: self._funds.open(market))
        except StartLaterError as error:
            _log.warning(
                "market_opens_later", market=market.market_id, status=market.status.name, code=error.code
            )
            self._context.spawn(self._open_later(market))
        except StartRefusedError as error:
            self._start_failed(market, error.failure)

    def _start_failed(self, market: GatewayMarket, failure: StartFailure) -> None:
        """This market stays closed until an operator's START; the account's others go on."""
        market.start_failure = failure
        _log.critical("start_failed", market=market.market_id, code=failure.code, reason=failure.reason)
        self._context.reports_of(market).start_failed(market, failure)
        market.moved.set()

    async def _admit(self, market: GatewayMarket) -> None:
        await self._read_position(market)
        market.admit()
        reports = self._context.reports_of(market)
        if market.resolved_pairs:  # absolute: two pairs alone would pass for a tolerable drift
            reports.supplied(market, pairs=market.resolved_pairs, intent=0, worker_epoch=0)
            market.resolved_pairs = 0
        reports.cash(market)

    async def _read_position(self, market: GatewayMarket) -> None:
        delay_s = _RETRY_S_MIN
        while not await self._truth.read_position(market):
            await asyncio.sleep(delay_s)
            delay_s = min(_RETRY_S_MAX, 2 * delay_s)

    async def _open_later(self, market: GatewayMarket) -> None:
        """A market that could not be funded at our start: it is funded and quoted once it can be."""
        while True:
            await asyncio.sleep(self._proc.config.venue.status_poll_interval_ms / 1_000)
            try:
                await self._persist("funds", lambda: self._funds.open(market))
            except StartLaterError:
                continue
            except StartRefusedError as error:
                self._start_failed(market, error.failure)
                return
            await self._admit(market)
            return

    async def _persist(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        """Repeats a step until the venue has answered it, with back-off."""
        delay_s = _RETRY_S_MIN
        while True:
            try:
                await step()
            except ReadError as error:
                _log.warning("start_waits", step=what, reason=str(error))
            else:
                return
            await asyncio.sleep(delay_s)
            delay_s = min(_RETRY_S_MAX, 2 * delay_s)

    # -- work

    def _on_bell(self) -> None:
        """The eventfd is readable: somebody published while we said that we sleep."""
        self._last_hop.look()  # before anything else, what is ready to leave
        with suppress(BlockingIOError):
            os.read(self._bell, 8)
        self._work()

    def _work(self) -> None:
        """Drains the rings, looks at kill words and trade counts, says "I sleep", and looks once more."""
        for _ in range(_PASSES_MAX):
            self._bell_seen = lib.bell_value(self._row)
            began_mono_ns = lib.mono_now_ns()
            work = self._pass()
            lib.process_pass(self._row, lib.mono_now_ns() - began_mono_ns, work, _SLOW_PASS_NS)
            lib.bell_sleep(self._row)
            if not any(reader.waiting() for reader in self._readers) and not self._commands.waiting():
                return
            lib.bell_awake(self._row)
        asyncio.get_running_loop().call_soon(self._work)

    def _first_things_first(self) -> None:
        """Between two answers: who rang meanwhile does not wait until all of them have been looked at."""
        if self._started and lib.bell_value(self._row) != self._bell_seen:
            self._work()

    def _pass(self) -> int:
        """New orders that can leave at once; kill words; then everything, ring by ring."""
        work = self._last_hop.look()
        if self._last_hop.changed():
            self._watch()
        if work:
            for reader in self._readers:
                if reader.count:
                    self._take_up(reader)
            self._last_hop.prepare()
        if self._started:
            work += self._commands.look()
        return work

    def _watch(self) -> None:
        """Kill words, worker epochs and trade counts."""
        self._sweeper.watch()
        for market in self._context.markets.values():
            count = market.trade_count()
            if count != market.seen_trade_count:
                market.seen_trade_count = count
                self._trades.poke()

    def _take_up(self, reader: IntentReader) -> None:
        """What was read of a ring: cancels first, then everything else in its order."""
        for intent in reader.cancels():
            self._take(reader.worker, intent)
        followed = 0
        while True:
            self._last_hop.run(reader)
            self._desk.follow(reader, followed, reader.end)
            if reader.end == reader.count:
                break
            other = reader.next()
            if other is not None:
                self._take(reader.worker, other)
            followed = reader.end
        reader.release()

    def _take(self, worker: int, intent: Intent) -> None:
        """Accepts responsibility for one intent, or answers at once why not."""
        market = self._context.markets.get(intent.market_slot)
        if market is None or market.worker != worker:
            _log.error("intent_for_foreign_market", worker=worker, market_slot=intent.market_slot)
            return
        if intent.worker_epoch != market.worker_epoch():
            self._context.counts.refused += 1  # a fenced worker's words: nobody waits for an answer
            return
        match intent.kind:
            case OrderKind.CANCEL:
                self._desk.cancel(market, intent)
            case OrderKind.BATCH_CANCEL:
                self._sweeper.batch(market, intent)
            case OrderKind.SYNC:
                self._truth.sync(market, intent)
            case _ if not self._context.books.admitting:
                self._context.counts.refused += 1
                self._context.reports_of(market).rejected(
                    market,
                    code=LocalReject.NOT_READY,
                    intent=intent.number,
                    worker_epoch=intent.worker_epoch,
                )
            case OrderKind.MINT | OrderKind.BURN:
                self._funds.supply(market, intent)

    async def _tick(self) -> None:
        """Heartbeat, and whatever a missed bell would have brought."""
        ticks = 0
        while True:
            now_mono_ns = lib.mono_now_ns()
            self._proc.beat(now_mono_ns)
            self._pool.tend(now_mono_ns)
            for reports in self._context.reports.values():
                if reports.flush():
                    self._tell_anew(reports.worker)
            if self._started:
                self._last_hop.prepare()
                for market in self._context.controls.watch(now_mono_ns):
                    self._sweeper.pull(market)
                self._work()
            if self._trades.lost and not self._rebuilding:
                self._rebuilding = True
                self._context.spawn(self._rebuild())
            ticks += 1
            if ticks % _TICKS_PER_SECOND == 0:
                self._context.controls.watch_engine(now_mono_ns)
                self._context.publish_counters()
                self._proc.record_cpu(lib.current_cpu())
            await asyncio.sleep(_TICK_S)

    def _tell_anew(self, worker: int) -> None:
        for market in self._context.markets.values():
            if market.worker == worker:
                self._truth.sync(market, None)

    async def _rebuild(self) -> None:
        """The trade list was lost sight of: every market's cash and shares anew from the venue."""
        self._trades.lost = False
        markets = list(self._context.markets.values())
        for market in markets:
            market.open_for_orders = False
            self._sweeper.pull(market)
        for market in markets:
            await self._funds.rebuild(market)
            await self._read_position(market)
            market.admit()
            self._truth.sync(market, None)
        self._rebuilding = False

    # -- stop

    async def _finish(self) -> None:
        """No new orders; everything off; the venue's list empty; the last fills told. NotCleanError."""
        self._proc.set_state(lib.PROCESS_STOPPING)
        self._context.books.admitting = False
        try:
            async with asyncio.timeout(self._proc.config.engine.stop_timeout_ms / 1_000):
                # before the venue has answered at all, nothing of this life can be live there
                if any(market.rules is not None for market in self._context.markets.values()):
                    await self._sweeper.empty()
                if self._started:
                    await self._trades.caught_up()
        except TimeoutError:
            raise NotCleanError("the venue has not confirmed that nothing is live") from None
        self._context.publish_counters()
        await self._context.close()
        _log.info("stopped", **structs.asdict(self._context.counts), requests=self._context.rest.requests)


async def serve(proc: WorkerProcess) -> None:
    """Builds the gateway's parts and runs it to its end."""
    venue = proc.config.venue
    if venue.fills == "kafka":
        require_client()
    engine = proc.config.engine
    journal = IntentJournal(
        proc.run_dir,
        fsync=engine.intent_fsync,
        fsync_interval_ms=engine.intent_fsync_interval_ms,
        segments_kept=engine.intent_segments_kept,
    )
    with closing(journal):  # last: requests may still be under way until the connections are closed
        async with open_account(venue) as account:
            context = GatewayContext(proc, account.rest, journal)
            try:
                await Gateway(context, account.pool).run()
            finally:
                await context.close()


def main() -> int:
    proc = process.start("gateway")
    harden()
    try:
        uvloop.run(serve(proc))
    except (ConfigError, FundingError, JournalError) as error:
        print(f"engine.workers.gateway: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except ArenaError as error:
        print(f"engine.workers.gateway: {error}", file=sys.stderr)
        return EXIT_USAGE
    except NotCleanError as error:
        print(f"engine.workers.gateway: not a clean stop: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
