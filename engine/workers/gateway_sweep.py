"""Pulling a market's orders: on a kill word, a fenced worker, the engine's end, or a quoter's wish.

One batch cancel, then the venue's list of live orders until it shows none that was meant; the batch is
repeated once a second while it does. What the venue no longer lists is gone: its last fills are read, then
CANCELLED or FILLED is told. Orders with a request under way are left to that request, whose reply finds
that they may not stay.

Reads: kill words, worker epochs.  Writes: live-order rows, execution rings.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from engine import crash_points
from engine._native import lib
from engine.events import Direction
from engine.venues import platform_rest as venue
from engine.venues.platform_rest import Answered, ReadError, Refused
from engine.venues.platform_wire import ScopeName
from engine.workers.clock import unix_ms
from engine.workers.gateway_cancels import Cancels, resend_delay_s
from engine.workers.gateway_context import GatewayContext
from engine.workers.gateway_fills import TradeFeed
from engine.workers.gateway_intents import Intent
from engine.workers.gateway_live import LiveOrder
from engine.workers.gateway_market import GatewayMarket
from engine.workers.intent_journal import Sent

_log = structlog.get_logger()


class Sweeper:
    """Takes orders off the venue's books, whole markets at a time."""

    def __init__(self, context: GatewayContext, trades: TradeFeed, cancels: Cancels) -> None:
        self._context: Final = context
        self._trades: Final = trades
        self._cancels: Final = cancels
        self._locks: Final = {slot: asyncio.Lock() for slot in context.markets}
        self._pulls: Final[dict[int, asyncio.Task[None]]] = {}  # the newest pull of each market
        #: Market slots and scopes of quoters' batch cancels that wait for their turn.
        self._queued: Final[set[tuple[int, ScopeName]]] = set()

    def watch(self) -> None:
        """Looks at kill words and worker epochs; pulls a market when its word rises or its worker changes."""
        for market in self._context.markets.values():
            kill_word, worker_epoch = market.killed(), market.worker_epoch()
            if worker_epoch != market.handled_epoch:
                market.handled_epoch = worker_epoch
                self._context.reports_of(market).forget()
                self.pull(market)
            if kill_word != 0 and market.handled_kill_word == 0:
                _log.warning("kill_word", market=market.market_id, kill_word=kill_word)
                self.pull(market)
            market.handled_kill_word = kill_word

    def pull(self, market: GatewayMarket) -> None:
        """Cancels everything of a market, until nothing is live and no request is under way."""
        if not market.sweeping:
            market.sweeping = True
            self._pulls[market.slot] = self._context.spawn(self._pull(market))

    def batch(self, market: GatewayMarket, intent: Intent) -> None:
        """A quoter's BATCH_CANCEL; one that finds another of its scope waiting is covered by it."""
        if (market.slot, intent.scope) not in self._queued:
            self._queued.add((market.slot, intent.scope))
            self._context.spawn(self._batch(market, intent))

    async def empty(self) -> None:
        """Pulls every market and returns when nothing of ours is live in any."""
        for market in self._context.markets.values():
            self.pull(market)
        await asyncio.gather(*self._pulls.values())

    async def clear_left_overs(self, market: GatewayMarket) -> None:
        """At the start: whatever an earlier life left at the venue goes; a request of its that is still
        under way has its own deadline to arrive, and is then found by the search for strays."""
        left_over = market.orders.left_over()
        if left_over:
            _log.info("orders_left_over", market=market.market_id, orders=len(left_over))
        await self._cancel_scope(market, "ALL", intent=0, worker_epoch=0)

    async def _pull(self, market: GatewayMarket) -> None:
        async with self._locks[market.slot]:
            await self._cancel_scope(market, "ALL", intent=0, worker_epoch=0)
            while market.orders:
                for order in list(market.orders):
                    self._cancels.cancel_unasked(market, order)
                market.moved.clear()
                await market.moved.wait()
        market.sweeping = False
        market.moved.set()
        _log.info("market_pulled", market=market.market_id)

    async def _batch(self, market: GatewayMarket, intent: Intent) -> None:
        async with self._locks[market.slot]:
            self._queued.discard((market.slot, intent.scope))
            await self._cancel_scope(
                market, intent.scope, intent=intent.number, worker_epoch=intent.worker_epoch
            )

    async def _cancel_scope(
        self, market: GatewayMarket, scope: ScopeName, *, intent: int, worker_epoch: int
    ) -> None:
        self._context.counts.sweeps += 1
        self._context.journal_cancel(
            Sent(
                at_ms=unix_ms(),
                op="batch",
                market=market.market_id,
                scope=scope,
                epoch=worker_epoch,
                intent=intent,
            )
        )
        meant = [
            order
            for order in market.orders
            if order.venue_order_id and not order.busy and _in_scope(order.direction, scope)
        ]
        for order in meant:
            market.orders.set_state(order, lib.LIVE_CANCELLING, busy=True)
        attempt = 0
        while True:
            outcome = await self._context.rest.batch_cancel(market.market_id, scope)
            if crash_points.armed:
                crash_points.reach("gateway.mid_sweep")
            if isinstance(outcome, Answered):
                for order in meant:
                    order.cancel_sent_mono_ns = order.cancel_sent_mono_ns or outcome.sent_mono_ns
                if await self._none_listed(market, scope, meant):
                    break
            elif isinstance(outcome, Refused) and outcome.code != venue.RATE_LIMITED:
                _log.error("batch_cancel_refused", market=market.market_id, code=outcome.code)
                await self._cancel_each(market, scope)
                if await self._none_listed(market, scope, meant):
                    break
            await asyncio.sleep(resend_delay_s(attempt))
            attempt += 1
        await self._tell_gone(market, meant, intent=intent, worker_epoch=worker_epoch)

    async def _none_listed(self, market: GatewayMarket, scope: ScopeName, meant: list[LiveOrder]) -> bool:
        """Whether the venue's list shows none that was meant; orders under way are not."""
        try:
            listed = await self._context.rest.live_orders(market.market_id)
        except ReadError as error:
            _log.warning("live_orders_failed", market=market.market_id, reason=str(error))
            return False
        for at_venue in listed:
            order = market.orders.by_client_id.get(at_venue.client_order_id)
            if _in_scope(Direction[at_venue.original_direction], scope) and (order is None or order in meant):
                return False
        return True

    async def _cancel_each(self, market: GatewayMarket, scope: ScopeName) -> None:
        """The fallback for a venue without batch cancel (§6.4)."""
        try:
            listed = await self._context.rest.live_orders(market.market_id)
        except ReadError:
            return
        for at_venue in listed:
            if _in_scope(Direction[at_venue.original_direction], scope):
                self._context.journal_cancel(
                    Sent(at_ms=unix_ms(), op="cancel", market=market.market_id, order=at_venue.id)
                )
                await self._context.rest.cancel(at_venue.id)

    async def _tell_gone(
        self, market: GatewayMarket, meant: list[LiveOrder], *, intent: int, worker_epoch: int
    ) -> None:
        """None of these is live; the fills they had are all listed by now."""
        if not meant:
            return
        await self._trades.caught_up()
        reports = self._context.reports_of(market)
        for order in meant:
            if not order.gone():
                reports.cancelled(
                    market, order, remainder=order.remaining, intent=intent, worker_epoch=worker_epoch
                )
                market.orders.close(order)


def _in_scope(direction: Direction, scope: ScopeName) -> bool:
    if scope == "ALL":
        return True
    return (direction == Direction.BUY) == (scope == "BUY_ONLY")
