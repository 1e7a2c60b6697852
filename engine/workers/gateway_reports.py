"""What the gateway tells a quoter: execution records, published in order, never dropped.

Writes: the execution ring of one worker slot.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import structlog
from msgspec import structs

from engine._native import ffi, lib
from engine.arena import check, padded
from engine.events import NO_LIVE_SLOT, ExecutionKind
from engine.quoting.inventory import Leg
from engine.workers.gateway_live import LiveOrder
from engine.workers.gateway_market import GatewayMarket, StartFailure
from engine.workers.process import WorkerProcess

_log = structlog.get_logger()

_BACKLOG_MAX: Final = 8_192


class WorkerReports:
    """One worker's execution ring, as its only producer.

    A ring that is full belongs to a quoter that is stuck or dead. Records then wait here, in order, and
    ``stuck`` is True: nothing new is sent for that worker. Beyond the backlog's bound records are void: the
    worker is told everything anew once it reads again. A change of its epoch empties the backlog, because
    the successor asks for everything anyway.
    """

    def __init__(self, proc: WorkerProcess, worker: int) -> None:
        self.worker: Final = worker
        self._proc: Final = proc
        self._ring = proc.arena.execution_ring(worker)
        check(lib.message_acquire(self._ring, proc.token), f"execution ring of worker {worker}")
        self._backlog: deque[Any] = deque()
        self._overflowed = False
        self.stuck_word: Final = ffi.new("int32_t *")  # `stuck`, as the last hop reads it

    @property
    def stuck(self) -> bool:
        return bool(self.stuck_word[0])

    def _note_stuck(self) -> None:
        self.stuck_word[0] = self._overflowed or bool(self._backlog)

    def flush(self) -> bool:
        """Moves waiting records into the ring as far as there is room, and rings the quoter's bell.

        True once: all are told, but some were void, and the worker's markets must be told anew.
        """
        if not self._backlog:
            return False
        while self._backlog and self._publish(self._backlog[0]):
            self._backlog.popleft()
        self._ring_bell()
        told_anew = self._overflowed and not self._backlog
        if told_anew:
            self._overflowed = False
        self._note_stuck()
        return told_anew

    def forget(self) -> None:
        """The worker has a successor: what it was not told is void."""
        self._backlog.clear()
        self._overflowed = False
        self._note_stuck()

    def _publish(self, record: Any) -> bool:
        code = lib.message_publish(self._ring, lib.MESSAGE_RING_SLOTS, self._proc.token, record)
        if code == lib.RING_FULL:
            return False
        check(code, f"execution ring of worker {self.worker}")
        return True

    def _ring_bell(self) -> None:
        self._proc.ring_bell(lib.PROCESS_QUOTER_FIRST + self.worker)

    def _tell(self, record: Any) -> None:
        if self._backlog or not self._publish(record):
            if len(self._backlog) >= _BACKLOG_MAX:
                if not self._overflowed:
                    _log.error("execution_backlog_full", worker=self.worker, records=_BACKLOG_MAX)
                self._overflowed = True
            else:
                self._backlog.append(record)
            self._note_stuck()

    def _emit(self, kind: ExecutionKind, market: GatewayMarket, **fields: Any) -> None:
        record = ffi.new(
            "execution_record_t *",
            {"kind": kind, "market_slot": market.slot, "told_mono_ns": lib.mono_now_ns(), **fields},
        )
        self._tell(record)
        self._ring_bell()

    # -- answers to intents

    def acked(self, market: GatewayMarket, order: LiveOrder, sent_mono_ns: int) -> None:
        """The order is live; ``remaining`` is what the FILLs published so far have left of it."""
        self._emit(
            ExecutionKind.ACKED,
            market,
            **_identity(order),
            intent=order.intent,
            worker_epoch=order.worker_epoch,
            price_cents=order.price_cents,
            quantity=order.quantity,
            remaining=order.remaining,
            sent_mono_ns=sent_mono_ns,
        )

    def rejected(
        self,
        market: GatewayMarket,
        *,
        code: int,
        intent: int,
        worker_epoch: int,
        live_slot: int = NO_LIVE_SLOT,
    ) -> None:
        """Nothing happened at the venue for this intent."""
        self._emit(
            ExecutionKind.REJECTED,
            market,
            code=code,
            intent=intent,
            worker_epoch=worker_epoch,
            live_slot=live_slot,
        )

    def unknown(self, market: GatewayMarket, order: LiveOrder, sent_mono_ns: int) -> None:
        self._emit(
            ExecutionKind.UNKNOWN,
            market,
            **_identity(order),
            intent=order.intent,
            worker_epoch=order.worker_epoch,
            price_cents=order.price_cents,
            quantity=order.quantity,
            remaining=order.remaining,
            sent_mono_ns=sent_mono_ns,
        )

    def cancelled(
        self, market: GatewayMarket, order: LiveOrder, *, remainder: int, intent: int, worker_epoch: int
    ) -> None:
        self._emit(
            ExecutionKind.CANCELLED,
            market,
            **_identity(order),
            intent=intent,
            worker_epoch=worker_epoch,
            price_cents=order.price_cents,
            quantity=remainder,
            sent_mono_ns=order.cancel_sent_mono_ns,
        )

    def filled(self, market: GatewayMarket, order: LiveOrder) -> None:
        self._emit(
            ExecutionKind.FILLED,
            market,
            **_identity(order),
            intent=order.intent,
            worker_epoch=order.worker_epoch,
            price_cents=order.price_cents,
            quantity=order.quantity,
        )

    # -- what nobody asked for

    def fill(
        self,
        market: GatewayMarket,
        *,
        leg: Leg,
        role: int,
        order_id: str,
        order: LiveOrder | None,
        unix_ns: int,
    ) -> None:
        """Our part of a trade; ``unix_ns``: when the venue executed it."""
        identity = {} if order is None else _identity(order)
        self._emit(
            ExecutionKind.FILL,
            market,
            **{
                "live_slot": NO_LIVE_SLOT,
                **identity,
                "venue_order_id": padded(order_id, lib.VENUE_ID_BYTES),
                "trade_id": padded(leg.trade_id, lib.VENUE_ID_BYTES),
                "scenario": leg.scenario,
                "book_side": leg.book_side,
                "role": role,
                "price_cents": leg.price_cents,
                "quantity": leg.quantity,
                "fee_cents": leg.fee_cents,
                "venue_unix_ns": unix_ns,
                "sent_mono_ns": lib.mono_now_ns(),
            },
        )

    def status(self, market: GatewayMarket) -> None:
        self._emit(ExecutionKind.MARKET_STATUS, market, code=market.status, live_slot=NO_LIVE_SLOT)

    def cash(self, market: GatewayMarket) -> None:
        self._emit(
            ExecutionKind.CASH,
            market,
            cash_cents=market.account.stock.cash_cents,
            quantity=market.flows_cents,
            live_slot=NO_LIVE_SLOT,
        )

    def start_failed(self, market: GatewayMarket, failure: StartFailure) -> None:
        reason = failure.reason.encode()[: lib.VENUE_ID_BYTES].decode(errors="ignore")
        self._emit(
            ExecutionKind.START_FAILED,
            market,
            code=failure.code,
            trade_id=padded(reason, lib.VENUE_ID_BYTES),
            live_slot=NO_LIVE_SLOT,
        )

    def rules(self, market: GatewayMarket) -> None:
        assert market.rules is not None
        self._tell(
            ffi.new(
                "market_rules_record_t *",
                {
                    "kind": ExecutionKind.MARKET_RULES,
                    "market_slot": market.slot,
                    "status": market.status,
                    **structs.asdict(market.rules),
                },
            )
        )
        self._ring_bell()

    # -- supply and sync

    def supplied(self, market: GatewayMarket, *, pairs: int, intent: int, worker_epoch: int) -> None:
        """MINTED (``pairs`` > 0) or BURNED (< 0), with the volumes it led to."""
        stock = market.account.stock
        self._emit(
            ExecutionKind.MINTED if pairs > 0 else ExecutionKind.BURNED,
            market,
            live_slot=NO_LIVE_SLOT,
            quantity=abs(pairs),
            intent=intent,
            worker_epoch=worker_epoch,
            yes_volume=stock.yes_volume,
            yes_cost_cents=stock.yes_cost_sum_cents,
            no_volume=stock.no_volume,
            no_cost_cents=stock.no_cost_sum_cents,
            cash_cents=stock.cash_cents,
        )
        self.cash(market)

    def sync(self, market: GatewayMarket, *, intent: int, worker_epoch: int) -> None:
        """The whole of a market, in one go: consistent because nothing happens in between."""
        stock = market.account.stock
        asked = {"intent": intent, "worker_epoch": worker_epoch, "live_slot": NO_LIVE_SLOT}
        self.rules(market)
        self._emit(ExecutionKind.SYNC_BEGIN, market, **asked)
        self._emit(
            ExecutionKind.POSITION,
            market,
            **asked,
            yes_volume=stock.yes_volume,
            yes_cost_cents=stock.yes_cost_sum_cents,
            no_volume=stock.no_volume,
            no_cost_cents=stock.no_cost_sum_cents,
        )
        cash = {"cash_cents": stock.cash_cents, "quantity": market.flows_cents}
        self._emit(ExecutionKind.CASH, market, **asked, **cash)
        for order in market.orders:
            order.announced = True
            self._emit(
                ExecutionKind.ORDER,
                market,
                **_identity(order),
                intent=order.intent,
                worker_epoch=worker_epoch,
                price_cents=order.price_cents,
                quantity=order.quantity,
                remaining=order.remaining,
            )
        trade_id = padded(market.account.cursor, lib.VENUE_ID_BYTES)
        self._emit(ExecutionKind.CURSOR, market, **asked, trade_id=trade_id)
        self._emit(ExecutionKind.MARKET_STATUS, market, **asked, code=market.status)
        self._emit(ExecutionKind.SYNC_END, market, **asked)


def _identity(order: LiveOrder) -> dict[str, Any]:
    return {
        "live_slot": order.slot,
        "outcome": order.outcome,
        "direction": order.direction,
        "venue_order_id": padded(order.venue_order_id, lib.VENUE_ID_BYTES),
    }
