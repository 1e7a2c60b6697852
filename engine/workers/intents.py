"""From a decision to a record in the order ring: what is wanted, and the basis it was decided on.

Writes: order intents ring.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from engine._native import ffi, lib
from engine.events import NO_LIVE_SLOT, DefenseLevel, Gate, OrderKind, Phase
from engine.quoting.funding import DesiredOrder
from engine.quoting.orders import LiveOrder
from engine.quoting.supply import Merge, Mint
from engine.workers.clock import Clock
from engine.workers.market_kernel import MarketKernel
from engine.workers.pending_news import PendingNews

Emit = Callable[[Any], int]


class OrderBasis(Struct, frozen=True, kw_only=True):
    """The policy an order was decided under; prices and their parts are read from the kernel."""

    phase: Phase = Phase.EXPLORATION
    level: DefenseLevel = DefenseLevel.NORMAL
    gates: Gate = Gate(0)
    config_version: int = 0
    inventory_version: int = 0


class IntentWriter:
    """Fills and emits ``order_record_t`` for one market. Every method returns the intent's number.

    ``emit`` publishes a record and returns the number it gave it; it raises RingFullError.
    """

    def __init__(self, *, slot: int, worker_epoch: int, kernel: MarketKernel, emit: Emit) -> None:
        self.basis = OrderBasis()
        self.news = PendingNews()
        self._sent_in_pass = False
        self._chosen_mono_ns = 0  # 0: a record is its own decision
        self._slot = slot
        self._worker_epoch = worker_epoch
        self._kernel = kernel
        self._emit = emit
        self._record: Any = ffi.new("order_record_t *")
        self._zero = bytes(ffi.sizeof("order_record_t"))

    def chosen(self) -> None:
        """The decision is made; the intents that follow in this pass only say it."""
        self._chosen_mono_ns = int(lib.mono_now_ns())

    def pass_ended(self, *, held_up: bool) -> None:
        """``held_up``: something is still to be sent, and could not be."""
        self.news.pass_ended(answered=self._sent_in_pass, held_up=held_up)
        self._sent_in_pass = False
        self._chosen_mono_ns = 0

    def _publish(self, record: Any) -> int:
        self._sent_in_pass = True
        return self._emit(record)

    def _begin(self, kind: OrderKind, clock: Clock) -> Any:
        """Everything but the order itself: the basis fields let every order be explained."""
        record = self._record
        ffi.memmove(record, self._zero, len(self._zero))
        kernel, fair = self._kernel, self._kernel.fair
        record.kind = kind
        record.market_slot = self._slot
        record.live_slot = NO_LIVE_SLOT
        record.worker_epoch = self._worker_epoch
        record.generation = kernel.native.generation
        record.config_version = self.basis.config_version
        record.inventory_version = self.basis.inventory_version
        record.decided_mono_ns = clock.mono_ns
        record.trigger_mono_ns = self.news.mono_ns
        record.trigger = self.news.kind
        record.waited = self.news.waited
        record.chosen_mono_ns = self._chosen_mono_ns or lib.mono_now_ns()
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
        record.basis_phase = self.basis.phase
        record.basis_defense = self.basis.level
        record.basis_gates = int(self.basis.gates)
        return record

    def place(self, order: DesiredOrder, clock: Clock) -> int:
        record = self._begin(OrderKind.PLACE, clock)
        self._describe(record, order)
        return self._publish(record)

    def replace(self, old: LiveOrder, order: DesiredOrder, clock: Clock) -> int:
        record = self._begin(OrderKind.REPLACE, clock)
        self._describe(record, order)
        self._name(record, old)
        return self._publish(record)

    def cancel(self, order: LiveOrder, clock: Clock) -> int:
        record = self._begin(OrderKind.CANCEL, clock)
        record.outcome = order.outcome
        record.direction = order.direction
        record.price_cents = order.price_cents
        record.quantity = order.remaining
        self._name(record, order)
        return self._publish(record)

    def cancel_all(self, clock: Clock) -> int:
        record = self._begin(OrderKind.BATCH_CANCEL, clock)
        record.scope = lib.SCOPE_ALL
        return self._publish(record)

    def sync(self, clock: Clock) -> int:
        return self._publish(self._begin(OrderKind.SYNC, clock))

    def supply(self, plan: Merge | Mint, clock: Clock) -> int:
        """Pairs to burn or to mint (§9)."""
        record = self._begin(OrderKind.BURN if isinstance(plan, Merge) else OrderKind.MINT, clock)
        record.quantity = plan.pairs
        return self._publish(record)

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
