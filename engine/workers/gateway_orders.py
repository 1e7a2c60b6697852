"""Orders: from an intent to what the venue made of it, every outcome of market-making §6.2 and §6.3.

An order is in its arena row before its request leaves. A reply moves it on; a refusal frees the row; no
reply makes it UNKNOWN, and it counts as live until the venue has said what it is: the same bytes are sent
again after 200, 500 and 1000 ms (the client order id makes that harmless), then the venue's list of orders
is walked. Nothing is ever concluded from silence. One request at a time is under way for a live order.

Reads: nothing by itself; the gateway hands it records and intents.  Writes: live-order rows, execution rings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog

from engine import crash_points
from engine._native import lib
from engine.events import NO_LIVE_SLOT, LocalReject, OrderKind
from engine.risk.rate import TokenBucket
from engine.venues import platform_rest as venue
from engine.venues.platform_rest import (
    Answer,
    Answered,
    Gate,
    NotSent,
    ReadError,
    Refused,
    SentOrder,
    Unknown,
)
from engine.venues.platform_wire import OrderState, OrderTrade, PlacedOrder, ReplacedOrder, VenueOrder
from engine.workers.clock import unix_ms
from engine.workers.gateway_cancels import INCONCLUSIVE, RESEND_DELAYS_S, RETRY_S, Cancels
from engine.workers.gateway_context import GatewayContext
from engine.workers.gateway_fills import TradeFeed
from engine.workers.gateway_intents import Intent, IntentReader
from engine.workers.gateway_last_hop import LastHop
from engine.workers.gateway_live import LiveOrder
from engine.workers.gateway_market import GatewayMarket

_log = structlog.get_logger()

T = TypeVar("T")

_CLOCK_MARGIN_MS: Final = 5_000  # the venue's clock against ours, when a walk asks "older than the send?"


class OrderDesk:
    """Places, replaces and cancels for all markets of the account."""

    def __init__(
        self, context: GatewayContext, last_hop: LastHop, trades: TradeFeed, cancels: Cancels
    ) -> None:
        self._context: Final = context
        self._trades: Final = trades
        self._cancels: Final = cancels
        self._last_hop: Final = last_hop

    # -- intents. Each returns at once; what comes of it is a task's.

    def follow(self, reader: IntentReader, first: int, end: int) -> None:
        """Takes up what the last hop has made of the records from ``first`` to ``end``: sent, waits, refused.

        Owed for each before the event loop's turn is over.
        """
        for index in range(first, end):
            record, result = reader.records[index], reader.results[index]
            match result.step:
                case lib.HOP_SENT | lib.HOP_WAITS:
                    self._began(self._context.markets[record.market_slot], record, result)
                case lib.HOP_REFUSED:
                    self._refused(self._context.markets[record.market_slot], record, result.code)
                case lib.HOP_REJECTED:
                    slot = record.live_slot if self._context.books.admitting else NO_LIVE_SLOT
                    market = self._context.markets[record.market_slot]
                    self._reject(market, result.code, record.intent, record.worker_epoch, slot)
                case lib.HOP_FENCED:
                    self._context.counts.refused += 1  # nobody waits for an answer
                case lib.HOP_FOREIGN:
                    _log.error(
                        "intent_for_foreign_market",
                        worker=reader.worker,
                        market_slot=int(record.market_slot),
                    )

    def _began(self, market: GatewayMarket, record: Any, result: Any) -> None:
        """The order has its row; its request has left, or waits for a connection or a token."""
        hop, order = self._last_hop, market.orders.opened(result.slot)
        body, gate, sent = hop.body(result), hop.late(market, order), None
        replaces = record.kind == OrderKind.REPLACE
        if result.step == lib.HOP_SENT:
            self._context.journal.recorded(order.client_order_id)
            sent = hop.sent(result, body, replaces=replaces)
        begin = self._begin_replace if replaces else self._begin_place
        begin(market, order, body, gate, sent)

    def _begin_place(
        self, market: GatewayMarket, order: LiveOrder, body: bytes, gate: Gate, sent: SentOrder | None
    ) -> None:
        rest = self._context.rest
        answer = rest.begin_place(body, gate=gate) if sent is None else rest.placed(sent, gate=gate)
        if isinstance(answer, NotSent):
            self._never_was(market, order, answer.code)
        else:
            self._context.spawn(self._placed(market, order, body, answer))

    def _begin_replace(
        self, market: GatewayMarket, order: LiveOrder, body: bytes, gate: Gate, sent: SentOrder | None
    ) -> None:
        rest, old = self._context.rest, order.replaces
        assert old is not None
        self._context.counts.replaces += 1
        answer = rest.begin_replace(body, gate=gate) if sent is None else rest.replaced(sent, gate=gate)
        if isinstance(answer, NotSent):
            self._replace_not_sent(market, old, order, answer)
        else:
            self._context.spawn(self._replace_answered(market, old, order, body, answer))

    def _refused(self, market: GatewayMarket, record: Any, code: int) -> None:
        """By the last checks: its row is free again, and what it would have replaced is as it was."""
        reason = self._last_hop.refused(market, record, code)
        if record.kind == OrderKind.REPLACE:
            self._context.counts.replaces += 1
            old = market.orders.get(record.live_slot)
            assert old is not None
            if self._context.must_go(market, old.worker_epoch):
                self._cancels.cancel_unasked(market, old)
        self._tell(market, record.intent, record.worker_epoch, reason)

    def _tell(self, market: GatewayMarket, intent: int, worker_epoch: int, code: int) -> None:
        """A new order came to nothing."""
        if code != LocalReject.STALE_EPOCH:  # nobody is left to hear it
            self._context.reports_of(market).rejected(
                market, code=code, intent=intent, worker_epoch=worker_epoch
            )

    def cancel(self, market: GatewayMarket, intent: Intent) -> None:
        order = self._target(market, intent)
        if order is not None:
            self._cancels.begin(market, order, intent=intent.number, worker_epoch=intent.worker_epoch)

    def _target(self, market: GatewayMarket, intent: Intent) -> LiveOrder | None:
        """The live order an intent means, if there is one that can be asked something of now."""
        order = market.orders.get(intent.live_slot)
        # an order that was announced before it was acknowledged is known to the quoter by slot alone
        named = order is not None and intent.target_order_id in {order.venue_order_id, ""}
        if order is None or not named:
            code = LocalReject.UNKNOWN_ORDER
        elif order.busy or not order.venue_order_id:
            code = LocalReject.NOT_READY
        else:
            return order
        self._reject(market, code, intent.number, intent.worker_epoch, intent.live_slot)
        return None

    def _reject(
        self, market: GatewayMarket, code: int, intent: int, worker_epoch: int, live_slot: int
    ) -> None:
        """An intent that nothing was begun for."""
        self._context.counts.refused += 1
        self._context.reports_of(market).rejected(
            market, code=code, intent=intent, worker_epoch=worker_epoch, live_slot=live_slot
        )

    # -- place

    async def _placed(
        self, market: GatewayMarket, order: LiveOrder, body: bytes, answer: Answer[PlacedOrder]
    ) -> None:
        rest, bucket = self._context.rest, self._context.books.order_tokens
        outcome = await answer
        match outcome:
            case Answered(data=placed, sent_mono_ns=sent_mono_ns):
                self._live(market, order, placed.order, placed.trades, sent_mono_ns)
            case Refused():
                self._never_was(market, order, self._code(market, outcome, bucket))
            case NotSent(code=code):
                self._never_was(market, order, code)
            case Unknown(sent_mono_ns=sent_mono_ns):
                gate = self._last_hop.again(market, order, bucket)
                found = await self._find_out(
                    market, order, lambda: rest.place(body, gate=gate), lambda placed: placed.order, outcome
                )
                if isinstance(found, OrderState):
                    self._live(market, order, found, [], sent_mono_ns)
                else:
                    self._never_was(market, order, self._code(market, found, bucket))

    # -- replace

    async def _replace_answered(
        self,
        market: GatewayMarket,
        old: LiveOrder,
        order: LiveOrder,
        body: bytes,
        answer: Answer[ReplacedOrder],
    ) -> None:
        rest, bucket = self._context.rest, market.replace_tokens
        outcome = await answer
        match outcome:
            case Answered(data=replaced, sent_mono_ns=sent_mono_ns):
                self._replaced(market, old, order)
                if (replaced.old_order_filled_quantity or 0) > old.filled:
                    self._trades.poke()
                self._live(market, order, replaced.new_order, replaced.trades, sent_mono_ns)
            case NotSent():
                self._replace_not_sent(market, old, order, outcome)
            case Refused():
                await self._replace_refused(market, old, order, outcome, bucket)
            case Unknown(sent_mono_ns=sent_mono_ns):
                gate = self._last_hop.again(market, order, bucket)
                found = await self._find_out(
                    market,
                    order,
                    lambda: rest.replace(body, gate=gate),
                    lambda replaced: replaced.new_order,
                    outcome,
                )
                if isinstance(found, OrderState):
                    self._replaced(market, old, order)
                    self._live(market, order, found, [], sent_mono_ns)
                elif isinstance(found, Refused):
                    await self._replace_refused(market, old, order, found, bucket)
                else:
                    await self._cancels.settle(
                        market, old, intent=order.intent, worker_epoch=order.worker_epoch
                    )
                    self._never_was(market, order, LocalReject.NOT_READY)

    def _replace_not_sent(
        self, market: GatewayMarket, old: LiveOrder, order: LiveOrder, outcome: NotSent
    ) -> None:
        self._cancels.still_live(market, old)
        self._never_was(market, order, outcome.code)

    def _replaced(self, market: GatewayMarket, old: LiveOrder, order: LiveOrder) -> None:
        """The venue took the old order off the book in the act that made the new one."""
        if old.gone():
            return
        self._context.reports_of(market).cancelled(
            market, old, remainder=old.remaining, intent=order.intent, worker_epoch=order.worker_epoch
        )
        market.orders.close(old)

    async def _replace_refused(
        self, market: GatewayMarket, old: LiveOrder, order: LiveOrder, refused: Refused, bucket: TokenBucket
    ) -> None:
        """The new order was not made; what became of the old one depends on the code (§6.2)."""
        intent, worker_epoch = order.intent, order.worker_epoch
        data = refused.data
        match refused.code:
            case venue.REPLACE_PARTLY_FILLED if (
                data is not None
                and data.old_order_status == "CANCELLED"
                and data.remaining_quantity_cancelled is not None
            ):
                await self._cancels.gone(
                    market,
                    old,
                    remainder=data.remaining_quantity_cancelled,
                    intent=intent,
                    worker_epoch=worker_epoch,
                )
            case venue.REPLACE_PARTLY_FILLED:
                # the venue does not say that it cancelled the remainder (D23): make sure
                await self._cancels.cancel(market, old, intent=intent, worker_epoch=worker_epoch)
            case venue.REPLACE_UNKNOWN | venue.REPLACE_FILLED | venue.NOT_CANCELLABLE:
                await self._cancels.settle(market, old, intent=intent, worker_epoch=worker_epoch)
            case _:
                self._cancels.still_live(market, old)
        self._never_was(market, order, self._code(market, refused, bucket))

    # -- what became of an order

    def _live(
        self,
        market: GatewayMarket,
        order: LiveOrder,
        at_venue: OrderState,
        trades: list[OrderTrade],
        sent_mono_ns: int,
    ) -> None:
        """The venue has the order. Its fills, if any, come through the poll."""
        if crash_points.armed:
            crash_points.reach("gateway.before_reply")
        self._context.controls.answered(market)
        market.orders.acknowledge(order, at_venue.id)
        self._context.journal.close_intent(order.client_order_id, order=at_venue.id, at_ms=unix_ms())
        self._context.reports_of(market).acked(market, order, sent_mono_ns)
        if crash_points.armed:
            crash_points.reach("gateway.after_reply")
        self._trades.close_if_filled(market, order)
        if trades or at_venue.remaining_quantity != order.remaining:
            self._trades.poke()
        if order.gone():
            return
        if at_venue.status == "CANCELLED":
            market.orders.set_state(order, lib.LIVE_CANCELLING, busy=True)
            self._context.spawn(self._cancels.settle(market, order, intent=0, worker_epoch=0))
        elif at_venue.live and self._context.must_go(market, order.worker_epoch):
            self._cancels.cancel_unasked(market, order)

    def _never_was(self, market: GatewayMarket, order: LiveOrder, code: int) -> None:
        """The new order does not exist at the venue."""
        if order.announced:
            self._context.reports_of(market).cancelled(
                market, order, remainder=order.remaining, intent=0, worker_epoch=0
            )
        market.orders.close(order)
        self._context.journal.close_intent(order.client_order_id, order="", at_ms=unix_ms())
        self._tell(market, order.intent, order.worker_epoch, code)

    # -- finding out

    async def _find_out(
        self,
        market: GatewayMarket,
        order: LiveOrder,
        resend: Callable[[], Awaitable[venue.Outcome[T]]],
        order_of: Callable[[T], OrderState],
        first: Unknown,
    ) -> OrderState | Refused | None:
        """§6.3: what became of a new order whose request got no answer. None: the venue never had it."""
        market.orders.set_state(order, lib.LIVE_UNKNOWN, busy=True)
        self._context.counts.unknowns += 1
        self._context.controls.unknown(market)
        self._context.reports_of(market).unknown(market, order, first.sent_mono_ns)
        _log.warning(
            "outcome_unknown", market=market.market_id, client_id=order.client_order_id, reason=first.reason
        )
        for delay_s in RESEND_DELAYS_S:
            await asyncio.sleep(delay_s)
            outcome = await resend()
            if isinstance(outcome, Answered):
                return order_of(outcome.data)
            if isinstance(outcome, Refused) and outcome.code not in INCONCLUSIVE:
                return outcome
        return await self.walk_for(market.market_id, order.client_order_id, order.created_ms)

    async def walk_for(self, market_id: str, client_order_id: str, sent_ms: int) -> VenueOrder | None:
        """Newest first through the market's orders, until this one or one from before its first send."""
        cursor = ""
        while True:
            try:
                page = await self._context.rest.orders(market_id=market_id, cursor=cursor)
            except ReadError as error:
                _log.warning("order_walk_failed", market=market_id, reason=str(error))
                cursor = ""
                await asyncio.sleep(RETRY_S)
                continue
            for found in page.items:
                if found.client_order_id == client_order_id:
                    return found
                if found.created_at.timestamp() * 1_000 < sent_ms - _CLOCK_MARGIN_MS:
                    return None
            if not page.has_more or not page.next_cursor:
                return None
            cursor = page.next_cursor

    def _code(self, market: GatewayMarket, refused: Refused | None, bucket: TokenBucket) -> int:
        if refused is None:
            return LocalReject.NOT_READY
        self._context.controls.answered(market, refused.code)
        if refused.code == venue.RATE_LIMITED:
            self._context.rate_limited(bucket, refused)
        return refused.code
