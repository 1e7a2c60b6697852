"""From a decision to a record in the order ring: what is wanted, and the basis it was decided on.

Writes: order intents ring.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from engine._native import ffi, lib
from engine.events import DefenseLevel, Gate, OrderKind, Phase
from engine.quoting.funding import DesiredOrder
from engine.quoting.orders import LiveOrder
from engine.workers.clock import Clock
from engine.workers.market_kernel import MarketKernel

NO_LIVE_SLOT: Final = 0xFFFF

Emit = Callable[[Any], int]


class IntentWriter:
    """Fills and emits ``order_record_t`` for one market. Every method returns the intent's number.

    ``emit`` publishes a record and returns the number it gave it; it raises RingFullError.
    """

    def __init__(
        self, *, slot: int, worker_epoch: int, config_version: int, kernel: MarketKernel, emit: Emit
    ):
        self._slot = slot
        self._worker_epoch = worker_epoch
        self._config_version = config_version
        self._kernel = kernel
        self._emit = emit
        self._record: Any = ffi.new("order_record_t *")
        self._zero = bytes(ffi.sizeof("order_record_t"))

    def _begin(self, kind: OrderKind, clock: Clock, gates: Gate) -> Any:
        """Everything but the order itself: the basis fields let every order be explained."""
        record = self._record
        ffi.memmove(record, self._zero, len(self._zero))
        kernel, fair = self._kernel, self._kernel.fair
        record.kind = kind
        record.market_slot = self._slot
        record.live_slot = NO_LIVE_SLOT
        record.worker_epoch = self._worker_epoch
        record.generation = kernel.native.generation
        record.config_version = self._config_version
        record.decided_mono_ns = clock.mono_ns
        record.trigger_mono_ns = kernel.native.trigger_recv_ns
        record.basis_anchor = fair.anchor_cents
        record.basis_micro = fair.micro_cents
        record.basis_posterior = fair.posterior_cents
        record.basis_weight_anchor = fair.anchor_weight
        record.basis_weight_micro = fair.micro_weight
        record.basis_sigma = fair.sigma_cents
        record.basis_gamma = kernel.gamma
        record.basis_tau = fair.tau
        record.basis_skew = fair.inventory_skew
        record.basis_reservation = fair.reservation_cents
        record.basis_multiplier = kernel.inputs.spread_multiplier
        record.basis_fair_cents = fair.fair_price_cents
        record.basis_phase = Phase.STABILIZATION
        record.basis_defense = DefenseLevel.NORMAL
        record.basis_gates = int(gates)
        return record

    def place(self, order: DesiredOrder, clock: Clock, gates: Gate) -> int:
        record = self._begin(OrderKind.PLACE, clock, gates)
        self._describe(record, order)
        return self._emit(record)

    def replace(self, old: LiveOrder, order: DesiredOrder, clock: Clock, gates: Gate) -> int:
        record = self._begin(OrderKind.REPLACE, clock, gates)
        self._describe(record, order)
        self._name(record, old)
        return self._emit(record)

    def cancel(self, order: LiveOrder, clock: Clock, gates: Gate) -> int:
        record = self._begin(OrderKind.CANCEL, clock, gates)
        record.outcome = order.outcome
        record.direction = order.direction
        record.price_cents = order.price_cents
        record.quantity = order.remaining
        self._name(record, order)
        return self._emit(record)

    def cancel_all(self, clock: Clock, gates: Gate) -> int:
        record = self._begin(OrderKind.BATCH_CANCEL, clock, gates)
        record.scope = lib.SCOPE_ALL
        return self._emit(record)

    def sync(self, clock: Clock, gates: Gate) -> int:
        return self._emit(self._begin(OrderKind.SYNC, clock, gates))

    @staticmethod
    def _describe(record: Any, order: DesiredOrder) -> None:
        record.outcome = order.outcome
        record.direction = order.direction
        record.price_cents = order.price_cents
        record.quantity = order.quantity

    @staticmethod
    def _name(record: Any, order: LiveOrder) -> None:
        record.live_slot = order.live_slot
        venue_id = order.venue_order_id.ljust(lib.VENUE_ID_BYTES, b"\0")
        ffi.memmove(record.target_order_id, venue_id, lib.VENUE_ID_BYTES)
