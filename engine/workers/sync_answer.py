"""The gateway's answer to SYNC while it arrives: the venue's word on one market's stock and orders."""

from __future__ import annotations

from typing import Any, Final

from msgspec import structs

from engine._native import ffi
from engine.events import Direction, ExecutionKind, Outcome
from engine.quoting.inventory import Stock
from engine.quoting.orders import LiveOrder
from engine.quoting.transitions import OrderState
from engine.workers.clock import Clock

SYNC_KINDS: Final = frozenset(
    {
        ExecutionKind.SYNC_BEGIN,
        ExecutionKind.POSITION,
        ExecutionKind.CASH,
        ExecutionKind.ORDER,
        ExecutionKind.CURSOR,
        ExecutionKind.SYNC_END,
    }
)


class SyncAnswer:
    """From SYNC_BEGIN to SYNC_END. What the answer leaves out stays as ``stock`` has it."""

    def __init__(self, stock: Stock) -> None:
        self.stock = stock
        self.live: list[LiveOrder] = []

    def take(self, record: Any, clock: Clock) -> None:
        """One ``execution_record_t`` of the answer; SYNC_END and CURSOR carry nothing for the quoter."""
        if record.kind == ExecutionKind.POSITION:
            self.stock = structs.replace(
                self.stock,
                yes_volume=record.yes_volume,
                no_volume=record.no_volume,
                yes_cost_sum_cents=record.yes_cost_cents,
                no_cost_sum_cents=record.no_cost_cents,
            )
        elif record.kind == ExecutionKind.CASH:
            self.stock = structs.replace(self.stock, cash_cents=record.cash_cents)
        elif record.kind == ExecutionKind.ORDER:
            self.live.append(_adopted(record, clock))


def _adopted(record: Any, clock: Clock) -> LiveOrder:
    """Live at the venue, whoever placed it."""
    partial = record.remaining < record.quantity
    return LiveOrder(
        outcome=Outcome(record.outcome),
        direction=Direction(record.direction),
        price_cents=record.price_cents,
        quantity=record.quantity,
        remaining=record.remaining,
        created_ms=clock.unix_ms,
        live_slot=record.live_slot,
        venue_order_id=bytes(ffi.buffer(record.venue_order_id)),
        intent=record.intent,
        state=OrderState.PARTIALLY_ACTIVE if partial else OrderState.ACTIVE,
    )
