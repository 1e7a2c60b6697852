"""What the venue says, against what the gateway believes: sync, market status, strays (market-making §7.5).

A failed read is no answer: it is repeated, and nothing is concluded from it. Positions are taken only when
no trade and no mint or burn was booked between two readings of the trade list around them.

Reads: GET /positions, /orders, /markets.  Writes: execution rings, account rows.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from engine._native import lib
from engine.alerts import Alert, Severity
from engine.events import PAID_OUT, MarketStatus
from engine.venues import platform_rest as venue
from engine.venues.platform_rest import Answered, ReadError, Refused
from engine.venues.platform_wire import MarketSummary, VenueOrder
from engine.workers.clock import unix_ms
from engine.workers.gateway_cancels import Cancels
from engine.workers.gateway_cash import CashTruth
from engine.workers.gateway_context import GatewayContext
from engine.workers.gateway_fills import TradeFeed
from engine.workers.gateway_funds import MarketFunds
from engine.workers.gateway_intents import Intent
from engine.workers.gateway_market import GatewayMarket, MarketRules, market_status
from engine.workers.gateway_sweep import Sweeper
from engine.workers.intent_journal import Sent

_log = structlog.get_logger()

_TRIES: Final = 5
_QUIET_S_MAX: Final = 5.0
_RETRY_S: Final = 0.5
_STRAY_CHECK_S: Final = 2.0
_STATUS_AGE_NS_MAX: Final = 30_000_000_000


class VenueTruth:
    """Brings the venue's word in, for one market at a time or for all."""

    def __init__(
        self,
        context: GatewayContext,
        trades: TradeFeed,
        cancels: Cancels,
        sweeper: Sweeper,
        funds: MarketFunds,
        cash: CashTruth,
    ) -> None:
        self._context: Final = context
        self._trades: Final = trades
        self._cancels: Final = cancels
        self._sweeper: Final = sweeper
        self._funds: Final = funds
        self._cash: Final = cash
        self._wanted: Final[dict[int, Intent | None]] = {}  # syncs asked for, by market slot; None: by us

    # -- sync

    def sync(self, market: GatewayMarket, intent: Intent | None) -> None:
        """Answers a quoter's SYNC, or tells it the whole truth unasked (``intent`` None).

        Of several requests the last is answered.
        """
        running = market.slot in self._wanted
        self._wanted[market.slot] = intent
        if not running:
            self._context.spawn(self._sync(market))

    async def _sync(self, market: GatewayMarket) -> None:
        while True:
            intent = self._wanted[market.slot]
            while not market.open_for_orders and market.start_failure is None:
                market.moved.clear()
                await market.moved.wait()
            if market.start_failure is not None:
                del self._wanted[market.slot]
                self._context.reports_of(market).start_failed(market, market.start_failure)
                return
            await self._quiet(market)
            if not await self.read_position(market):
                await asyncio.sleep(_RETRY_S)
                continue
            if self._wanted[market.slot] is not intent:
                continue
            del self._wanted[market.slot]
            self._context.spawn(self._compare_cash())
            reports = self._context.reports_of(market)
            reports.sync(
                market,
                intent=0 if intent is None else intent.number,
                worker_epoch=market.worker_epoch() if intent is None else intent.worker_epoch,
            )
            return

    async def _quiet(self, market: GatewayMarket) -> None:
        """Waits for requests under way, so that the answer holds no order in motion; not for ever."""
        try:
            async with asyncio.timeout(_QUIET_S_MAX):
                while not market.at_rest():
                    market.moved.clear()
                    await market.moved.wait()
        except TimeoutError:
            _log.info("sync_while_busy", market=market.market_id)

    async def read_position(self, market: GatewayMarket) -> bool:
        """Takes shares and live orders from the venue, consistent with the market's cursor.

        False: the venue did not answer, or the market moved under each of five readings; then its orders
        are pulled, so that the next try finds it at rest.
        """
        account = market.account
        try:
            for _ in range(_TRIES):
                await self._trades.caught_up()
                before = account.cursor, account.supplies, market.supply_busy
                read_mono_ns = lib.mono_now_ns()
                position = await self._context.rest.position(market.market_id)
                live = await self._context.rest.live_orders(market.market_id)
                await self._trades.caught_up()
                after = account.cursor, account.supplies, market.supply_busy
                if after != before or market.supply_busy:
                    continue
                market.reconciled(lib.mono_now_ns())
                self._note_drift(market, position.yes.volume, position.no.volume)
                account.set_position(
                    yes_volume=position.yes.volume,
                    yes_cost=position.yes.cost_sum_cents,
                    no_volume=position.no.volume,
                    no_cost=position.no.cost_sum_cents,
                )
                self._compare_orders(market, live, read_mono_ns)
                return True
        except ReadError as error:
            _log.warning("sync_read_failed", market=market.market_id, reason=str(error))
            return False
        _log.warning("sync_market_moves", market=market.market_id, tries=_TRIES)
        self._sweeper.pull(market)
        return False

    def _note_drift(self, market: GatewayMarket, yes_volume: int, no_volume: int) -> None:
        stock = market.account.stock
        if market.account.position_known and (stock.yes_volume, stock.no_volume) != (yes_volume, no_volume):
            _log.error(
                "position_drift",
                market=market.market_id,
                ours=[stock.yes_volume, stock.no_volume],
                venue=[yes_volume, no_volume],
            )

    async def _compare_cash(self) -> None:
        try:
            await self._cash.compare()
        except ReadError as error:
            _log.warning("balance_read_failed", reason=str(error))

    # -- strays

    async def look_for_strays(self) -> None:
        """Every two seconds: the venue's live orders against ours, both ways. Ends by cancellation."""
        while True:
            await asyncio.sleep(_STRAY_CHECK_S)
            read_mono_ns = lib.mono_now_ns()
            try:
                listed = await self._context.rest.live_orders()
            except ReadError as error:
                _log.warning("stray_check_failed", reason=str(error))
                continue
            for market in self._context.markets.values():
                of_market = [order for order in listed if order.market_id == market.market_id]
                self._compare_orders(market, of_market, read_mono_ns)

    def _compare_orders(self, market: GatewayMarket, listed: list[VenueOrder], read_mono_ns: int) -> None:
        """``listed``: the market's live orders by a listing that was asked for at ``read_mono_ns``."""
        for at_venue in listed:
            known = at_venue.client_order_id in market.orders.by_client_id or market.orders.closed_since(
                at_venue.id, read_mono_ns
            )
            if not known:
                self._context.counts.strays += 1
                self._context.proc.alert(
                    Alert.STRAY_ORDER, Severity.CRITICAL, market=market.market_id, order=at_venue.id
                )
                self._context.spawn(self._cancel_stray(at_venue))
        ids = {at_venue.id for at_venue in listed}
        for order in list(market.orders):
            settled = order.state == lib.LIVE_ACTIVE and not order.busy
            if settled and order.acked_mono_ns < read_mono_ns and order.venue_order_id not in ids:
                self._context.spawn(self._cancels.missing_from_list(market, order))

    async def _cancel_stray(self, at_venue: VenueOrder) -> None:
        self._context.journal_cancel(
            Sent(at_ms=unix_ms(), op="cancel", market=at_venue.market_id, order=at_venue.id)
        )
        for _ in range(_TRIES):  # the next check finds it again
            outcome = await self._context.rest.cancel(at_venue.id)
            if isinstance(outcome, Answered) or (
                isinstance(outcome, Refused) and outcome.code != venue.RATE_LIMITED
            ):
                return
            await asyncio.sleep(_RETRY_S)

    # -- market status and rules

    async def watch_status(self) -> None:
        """One listing of all markets per interval. Ends by cancellation."""
        interval_s = self._context.proc.config.venue.status_poll_interval_ms / 1_000
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.read_statuses()
            except ReadError as error:
                _log.warning("status_poll_failed", reason=str(error))
                self._expire_statuses()

    async def read_statuses(self) -> None:
        """Raises ReadError when any page of the listing fails."""
        found: dict[str, MarketSummary] = {}
        cursor = ""
        while True:
            page = await self._context.rest.markets(cursor)
            found.update((summary.id, summary) for summary in page.items)
            if not page.has_more or not page.next_cursor:
                break
            cursor = page.next_cursor
        now_mono_ns = lib.mono_now_ns()
        for market in self._context.markets.values():
            summary = found.get(market.market_id)
            status = MarketStatus.UNKNOWN if summary is None else market_status(summary.status)
            if market.set_status(status, now_mono_ns):
                self._status_changed(market)

    def _expire_statuses(self) -> None:
        now_mono_ns = lib.mono_now_ns()
        for market in self._context.markets.values():
            old = now_mono_ns - market.status_mono_ns > _STATUS_AGE_NS_MAX
            if old and market.status != MarketStatus.UNKNOWN:
                market.set_status(MarketStatus.UNKNOWN, market.status_mono_ns)
                self._context.reports_of(market).status(market)

    def _status_changed(self, market: GatewayMarket) -> None:
        _log.info("market_status", market=market.market_id, status=market.status.name)
        if market.status in PAID_OUT:
            self._context.spawn(self._take_payout(market))
            return
        self._context.reports_of(market).status(market)
        if market.status == MarketStatus.ACTIVE and market.rules is not None:
            self._context.spawn(self._refresh_rules(market))

    async def _take_payout(self, market: GatewayMarket) -> None:
        """Settlement pays without a trade: cash comes from the ledger, and no SYNC is answered before."""
        market.open_for_orders = False
        await self._funds.rebuild(market)
        market.admit()
        self._context.reports_of(market).status(market)
        self.sync(market, None)

    async def _refresh_rules(self, market: GatewayMarket) -> None:
        """A market that opens again may have new terms."""
        try:
            rules = MarketRules.of(await self._context.rest.market(market.market_id))
        except ReadError as error:
            _log.warning("market_rules_failed", market=market.market_id, reason=str(error))
            return
        if rules != market.rules:
            market.rules = rules
            self._context.reports_of(market).rules(market)
