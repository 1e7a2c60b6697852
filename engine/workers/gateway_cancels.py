"""The end of an order: cancelled until the venue has said that it is gone, or found to have ended by itself.

A cancel is never given up, and nothing is concluded from silence: the venue is asked until it says what an
order is. Its fills are told before its end.

Writes: live-order rows, execution rings, the intent journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import structlog

from engine import crash_points
from engine._native import lib
from engine.alerts import Alert, Severity
from engine.venues import platform_rest as venue
from engine.venues.platform_rest import Answer, Answered, ReadError, Refused
from engine.venues.platform_wire import CancelledOrder, VenueOrder
from engine.workers.clock import unix_ms
from engine.workers.gateway_context import GatewayContext
from engine.workers.gateway_fills import TradeFeed
from engine.workers.gateway_live import LiveOrder
from engine.workers.gateway_market import GatewayMarket
from engine.workers.intent_journal import Sent

_log = structlog.get_logger()

RESEND_DELAYS_S: Final = (0.2, 0.5, 1.0)
RETRY_S: Final = 1.0  # between attempts that must succeed in the end: cancels, look-ups
#: Refusals that say nothing of the request itself.
INCONCLUSIVE: Final = frozenset({venue.RATE_LIMITED, venue.HTTP_UNAUTHORIZED})
_FILLS_WAIT_S: Final = 2.0


def resend_delay_s(attempt: int) -> float:
    """Seconds from an attempt to the next one, of what is repeated until the venue has said what it did;
    attempts count from 0."""
    return RESEND_DELAYS_S[attempt] if attempt < len(RESEND_DELAYS_S) else RETRY_S


class Cancels:
    """For all markets of the account. One request at a time is under way for an order."""

    def __init__(self, context: GatewayContext, trades: TradeFeed) -> None:
        self._context: Final = context
        self._trades: Final = trades

    def cancel_unasked(self, market: GatewayMarket, order: LiveOrder) -> None:
        """Cancels an order that may not stay, unless a request about it is under way."""
        if not order.busy and not order.gone():
            self.begin(market, order, intent=0, worker_epoch=0)

    def begin(self, market: GatewayMarket, order: LiveOrder, *, intent: int, worker_epoch: int) -> None:
        """Begins to cancel an idle order at once, for an intent (0 = nobody asked)."""
        market.orders.set_state(order, lib.LIVE_CANCELLING, busy=True)
        self._context.spawn(self.cancel(market, order, intent=intent, worker_epoch=worker_epoch))

    def cancel(
        self, market: GatewayMarket, order: LiveOrder, *, intent: int, worker_epoch: int
    ) -> Coroutine[Any, Any, None]:
        """Begins to cancel at once; what is returned cancels until the venue has said that it is gone."""
        self._context.journal_cancel(
            Sent(
                at_ms=unix_ms(),
                op="cancel",
                market=market.market_id,
                order=order.venue_order_id,
                epoch=worker_epoch,
                intent=intent,
            )
        )
        return self._cancelled(
            market, order, self._ask_to_cancel(order), intent=intent, worker_epoch=worker_epoch
        )

    def _ask_to_cancel(self, order: LiveOrder) -> Answer[CancelledOrder]:
        self._context.books.order_tokens.take(lib.mono_now_ns())  # counted by the venue, never held back here
        return self._context.rest.begin_cancel(order.venue_order_id)

    async def _cancelled(
        self,
        market: GatewayMarket,
        order: LiveOrder,
        answer: Answer[CancelledOrder],
        *,
        intent: int,
        worker_epoch: int,
    ) -> None:
        """Cancels until the venue has said that the order is gone; a cancel is never given up."""
        attempt, told = 0, False
        while True:
            outcome = await answer
            if crash_points.armed:
                crash_points.reach("gateway.mid_cancel")
            match outcome:
                case Answered(data=cancelled, sent_mono_ns=sent_mono_ns):
                    order.cancel_sent_mono_ns = sent_mono_ns
                    told = await self.gone(
                        market,
                        order,
                        remainder=cancelled.remaining_quantity_cancelled,
                        intent=intent,
                        worker_epoch=worker_epoch,
                    )
                    break
                case Refused(code=venue.NOT_CANCELLABLE | venue.ORDER_UNKNOWN):
                    at_venue = await self._look_up(order.venue_order_id)
                    if at_venue is None or not at_venue.live:
                        told = await self._ended(
                            market, order, at_venue, intent=intent, worker_epoch=worker_epoch
                        )
                        break
                case Refused(code=code) if code not in INCONCLUSIVE:
                    _log.critical(
                        "cancel_refused", market=market.market_id, order=order.venue_order_id, code=code
                    )
                    self.still_live(market, order)
                    self._answer_cancel(market, order, code, intent, worker_epoch)
                    return
                case _:
                    self._context.counts.resends += 1
            await asyncio.sleep(resend_delay_s(attempt))
            attempt += 1
            if order.gone():
                break
            answer = self._ask_to_cancel(order)
        if not told:
            self._answer_cancel(market, order, venue.NOT_CANCELLABLE, intent, worker_epoch)

    def _answer_cancel(
        self, market: GatewayMarket, order: LiveOrder, code: int, intent: int, worker_epoch: int
    ) -> None:
        """The cancel itself did nothing: the order was filled first, or the venue will not."""
        if intent:
            self._context.reports_of(market).rejected(
                market, code=code, intent=intent, worker_epoch=worker_epoch, live_slot=order.slot
            )

    def still_live(self, market: GatewayMarket, order: LiveOrder) -> None:
        """A request about a live order came to nothing; the order is what it was."""
        if order.gone():
            return
        market.orders.set_state(order, lib.LIVE_ACTIVE, busy=False)
        if self._context.must_go(market, order.worker_epoch):
            self.cancel_unasked(market, order)

    async def gone(
        self, market: GatewayMarket, order: LiveOrder, *, remainder: int, intent: int, worker_epoch: int
    ) -> bool:
        """The venue ended the order with ``remainder`` left: its fills first, then CANCELLED.

        False: the fills left nothing, and FILLED was told instead.
        """
        try:
            async with asyncio.timeout(_FILLS_WAIT_S):
                while order.remaining > remainder and not order.gone():
                    await self._trades.caught_up()
        except TimeoutError:
            _log.error("fills_missing", market=market.market_id, order=order.venue_order_id)
        if order.gone():
            return False
        self._context.reports_of(market).cancelled(
            market, order, remainder=remainder, intent=intent, worker_epoch=worker_epoch
        )
        market.orders.close(order)
        return True

    async def settle(
        self, market: GatewayMarket, order: LiveOrder, *, intent: int, worker_epoch: int
    ) -> None:
        """Asks the venue what an order is, until it says so, and follows."""
        at_venue = await self._look_up(order.venue_order_id)
        if at_venue is not None and at_venue.live:
            self.still_live(market, order)
        else:
            await self._ended(market, order, at_venue, intent=intent, worker_epoch=worker_epoch)

    async def _ended(
        self,
        market: GatewayMarket,
        order: LiveOrder,
        at_venue: VenueOrder | None,
        *,
        intent: int,
        worker_epoch: int,
    ) -> bool:
        """The venue says that the order is not live: filled, cancelled, or (None) not known at all.

        Whether CANCELLED was told.
        """
        if at_venue is None:
            self._context.proc.alert(
                Alert.GHOST_ORDER, Severity.CRITICAL, market=market.market_id, order=order.venue_order_id
            )
            market.reconcile_due = True
            remainder = order.remaining
        elif at_venue.status == "FILLED":
            remainder = 0
        else:
            remainder = at_venue.remaining_quantity
            if intent == 0 and not order.gone() and not self._context.must_go(market, order.worker_epoch):
                _log.warning(
                    "unexpected_cancel",  # the quoter alerts: it knows what it asked for
                    market=market.market_id,
                    order=order.venue_order_id,
                    reason=at_venue.cancel_reason,
                )
        return await self.gone(market, order, remainder=remainder, intent=intent, worker_epoch=worker_epoch)

    async def missing_from_list(self, market: GatewayMarket, order: LiveOrder) -> None:
        """The venue's list of live orders lacks one that we count as live: find out why."""
        if order.busy or order.gone():
            return
        market.orders.set_state(order, order.state, busy=True)
        await self.settle(market, order, intent=0, worker_epoch=0)

    async def _look_up(self, order_id: str) -> VenueOrder | None:
        while True:
            try:
                return await self._context.rest.order(order_id)
            except ReadError as error:
                _log.warning("order_look_up_failed", order=order_id, reason=str(error))
                await asyncio.sleep(RETRY_S)
