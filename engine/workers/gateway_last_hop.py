"""What stands between an order and the socket: last-hop checks, the journal's line, and the tokens it takes.

Reads: kill words, top row, heartbeats, through the controls.  Writes: the intent journal.
"""

from __future__ import annotations

from typing import Final

import structlog

from engine import crash_points
from engine._native import lib
from engine.events import LocalReject
from engine.risk.pretrade import Candidate
from engine.risk.rate import TokenBucket
from engine.venues.platform_rest import Gate
from engine.workers.gateway_context import GatewayContext
from engine.workers.gateway_live import LiveOrder
from engine.workers.gateway_market import GatewayMarket
from engine.workers.intent_journal import JournalError, Sent

_log = structlog.get_logger()


class LastHop:
    """Makes the gates of requests that bring orders to life. A gate says why its request may not leave."""

    def __init__(self, context: GatewayContext) -> None:
        self._context: Final = context

    def first(
        self, market: GatewayMarket, order: LiveOrder, candidate: Candidate, bucket: TokenBucket
    ) -> Gate:
        """The checks that run with nothing between them and the socket write."""

        def check() -> LocalReject | None:
            context = self._context
            reason = context.controls.refusal(
                market,
                order,
                candidate,
                admitting=context.admitting and not context.reports_of(market).stuck,
                bucket=bucket,
                reserve=bucket is context.order_tokens,
            )
            if reason is None:
                if crash_points.armed:
                    crash_points.reach("gateway.after_risk")
                reason = self._write_down(market, order)
            if reason is None:
                now_mono_ns = lib.mono_now_ns()
                bucket.take(now_mono_ns)
                market.order_tokens.take(now_mono_ns)
                order.sent = True
            else:
                context.counts.refused += 1
            return reason

        return check

    def _write_down(self, market: GatewayMarket, order: LiveOrder) -> LocalReject | None:
        """I4: the intent is in the journal before its bytes go; what cannot be written is not sent."""
        old = order.replaces
        try:
            self._context.journal.record(
                Sent(
                    at_ms=order.created_ms,
                    op="place" if old is None else "replace",
                    market=market.market_id,
                    id=order.client_order_id,
                    side=order.outcome.name,
                    direction=order.direction.name,
                    price=order.price_cents,
                    quantity=order.quantity,
                    order="" if old is None else old.venue_order_id,
                    epoch=order.worker_epoch,
                    intent=order.intent,
                )
            )
        except JournalError as error:
            _log.critical("journal_not_written", reason=str(error))
            return LocalReject.JOURNAL
        if crash_points.armed:
            crash_points.reach("gateway.after_journal")
        return None

    def again(self, market: GatewayMarket, order: LiveOrder, bucket: TokenBucket) -> Gate:
        """A resend may bring an order to life that never arrived: not where it could not stay."""

        def check() -> LocalReject | None:
            if self._context.must_go(market, order.worker_epoch) or market.sweeping:
                return LocalReject.KILLED
            bucket.take(lib.mono_now_ns())
            self._context.counts.resends += 1
            return None

        return check
