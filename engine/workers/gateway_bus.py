"""Fills by the event bus (market-making §7.2): the consumer's batches, applied on the gateway's loop.

``trade_events`` is the authority for fills while the bus is steady; the trade list then is only polled every
``venue.kafka_repair_interval_ms``, and as before when the bus is not. Both go through
:class:`~engine.workers.gateway_fills.TradeFeed`, which applies a leg once. ``order_events`` and
``market_events`` change nothing by themselves: an order that ended, or a market that moved, is asked for at
once, because an old event may be repeated at any time.

A message that nobody can read is a line of ``RUN/dead_letters.jsonl``, an alert, and a reason to take the
venue's word; then its offset is committed, so that one bad message does not stop a market.

Reads: trade_events, order_events, market_events.  Writes: what TradeFeed writes, ``RUN/dead_letters.jsonl``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from engine.alerts import Alert, Severity
from engine.config.quote import AMM_USER_ID
from engine.durable import append_durably
from engine.venues.platform_events import TRADE_EVENTS, MarketEvent, OrderEvent, TradeEvent
from engine.venues.platform_kafka import Batch, EventThread, Poison
from engine.venues.platform_rest import ReadError
from engine.workers.clock import unix_ms
from engine.workers.gateway_cancels import Cancels
from engine.workers.gateway_context import GatewayContext
from engine.workers.gateway_fills import TradeFeed
from engine.workers.gateway_truth import VenueTruth

_log = structlog.get_logger()

DEAD_LETTERS: Final = "dead_letters.jsonl"
_DEAD_LETTER_BYTES_MAX: Final = 16 << 20
_RETRY_S: Final = 1.0
_ENDED: Final = frozenset({"CANCELLED"})


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A line of the dead-letter file; key and value in base64."""

    at_ms: int
    poison: Poison


class EventFeed:
    """The loop's side of the event bus. At most ``BATCHES_MAX`` batches wait."""

    def __init__(
        self, context: GatewayContext, trades: TradeFeed, cancels: Cancels, truth: VenueTruth
    ) -> None:
        self._context: Final = context
        self._trades: Final = trades
        self._cancels: Final = cancels
        self._truth: Final = truth
        self._batches: Final[deque[Batch]] = deque()
        self._arrived: Final = asyncio.Event()
        self._status_wanted: Final = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; then the offsets of what was applied are committed and the group is left."""
        loop = asyncio.get_running_loop()
        thread = EventThread(
            self._context.proc.config.venue.kafka,
            user_id=await self._user_id(),
            deliver=lambda batch: loop.call_soon_threadsafe(self._arrive, batch),
        )
        self._context.spawn(self._read_statuses())
        thread.start()
        try:
            while True:
                while not self._batches:
                    self._arrived.clear()
                    await self._arrived.wait()
                batch = self._batches[0]
                await self._take(batch)
                self._batches.popleft()
                thread.finish(batch)
        finally:
            self._trades.bus_steady = False
            await asyncio.to_thread(thread.close)

    async def _user_id(self) -> str:
        """Whose trades are ours, by the venue."""
        while True:
            try:
                return (await self._context.rest.balance()).user_id or AMM_USER_ID
            except ReadError as error:
                _log.warning("balance_read_failed", reason=str(error))
                await asyncio.sleep(_RETRY_S)

    def _arrive(self, batch: Batch) -> None:
        if not batch.steady:
            self._trades.bus_steady = False
        self._batches.append(batch)
        self._arrived.set()

    async def _take(self, batch: Batch) -> None:
        if batch.resync:
            _log.info("event_bus_resync", reason=batch.resync, steady=batch.steady)
            await self._resync()
        if batch.steady and not self._trades.bus_steady:
            _log.info("event_bus_steady")
        self._trades.bus_steady = batch.steady
        self._context.counts.bus_events += batch.messages
        for event in batch.events:
            match event:
                case TradeEvent(legs=legs):
                    self._context.counts.bus_fills += self._trades.apply_told(legs)
                case OrderEvent():
                    self._look_after(event)
                case MarketEvent(market_id=market_id) if market_id in self._context.markets_by_id:
                    self._status_wanted.set()
                case MarketEvent():
                    pass
        for poison in batch.poison:
            self._bury(poison)
        if any(poison.topic == TRADE_EVENTS for poison in batch.poison):
            await self._resync()  # it may have been a fill of ours

    async def _resync(self) -> None:
        """Everything the venue has listed so far is applied; then each market is compared whole (§7.5)."""
        await self._trades.caught_up()
        for market in self._context.markets.values():
            self._truth.sync(market, None)

    def _look_after(self, event: OrderEvent) -> None:
        market = self._context.markets_by_id.get(event.market_id)
        order = market.orders.by_venue_id.get(event.order_id) if market is not None else None
        if market is not None and order is not None and event.status in _ENDED and not order.busy:
            self._context.spawn(self._cancels.missing_from_list(market, order))

    async def _read_statuses(self) -> None:
        while True:
            await self._status_wanted.wait()
            self._status_wanted.clear()
            try:
                await self._truth.read_statuses()
            except ReadError as error:
                _log.warning("status_poll_failed", reason=str(error))  # the poll comes by itself

    def _bury(self, poison: Poison) -> None:
        self._context.counts.bus_poison += 1
        self._context.proc.alert(
            Alert.EVENT_POISON,
            Severity.CRITICAL,
            topic=poison.topic,
            partition=poison.partition,
            offset=poison.offset,
            reason=poison.reason[:200],
        )
        path = self._context.proc.run_dir / DEAD_LETTERS
        try:
            append_durably(
                path,
                msgspec.json.encode(DeadLetter(at_ms=unix_ms(), poison=poison)) + b"\n",
                file_bytes_max=_DEAD_LETTER_BYTES_MAX,  # beyond it messages are only counted
            )
        except OSError as error:
            _log.error("dead_letter_not_written", path=str(path), reason=str(error))
