"""From a decision to a record in the order ring: what is wanted, and the basis it was decided on.

Writes: order intents ring, by way of the worker's :class:`Outbox`.
"""

from __future__ import annotations

from typing import Any, Final

from engine import crash_points
from engine._native import ffi, lib
from engine.arena import check
from engine.events import OrderKind
from engine.quoting.supply import Merge, Mint
from engine.workers.clock import Clock
from engine.workers.market_kernel import MarketKernel
from engine.workers.pending_news import PendingNews


class Outbox:
    """A worker's way into its order ring (``intent_outbox_t``); all its markets number their intents here."""

    def __init__(self, *, ring: Any, token: int, gateway_row: Any, gateway_eventfd: int) -> None:
        """``token`` holds the ring's producer role; ``gateway_eventfd`` below 0: the gateway's futex."""
        self.native: Final[Any] = ffi.new("intent_outbox_t *")
        self.native.ring, self.native.token = ring, token
        self.native.gateway_row, self.native.gateway_eventfd = gateway_row, gateway_eventfd

    @property
    def sent(self) -> int:
        """Intents that are in the ring."""
        return int(self.native.sent)

    def send(self, record: Any) -> int:
        """Publishes an ``order_record_t`` and returns the number it gave it.

        Raises RingFullError: an emergency of the market.
        """
        if crash_points.armed:
            crash_points.reach("quoter.before_emit")
        check(lib.intent_send(self.native, record), "order ring")
        if crash_points.armed:
            crash_points.reach("quoter.after_emit")
        return int(self.native.intent)

    @staticmethod
    def send_ladder(sender: Any) -> None:
        """All actions of a ``ladder_sender_t``; raises RingFullError at the first that finds no room."""
        count = sender.plan.action_count
        if not crash_points.armed:
            check(lib.ladder_send(sender, count), "order ring")
            return
        for _ in range(count):
            crash_points.reach("quoter.before_emit")
            check(lib.ladder_send(sender, 1), "order ring")
            crash_points.reach("quoter.after_emit")


class IntentWriter:
    """Fills and sends ``order_record_t`` for one market. Every method returns the intent's number.

    ``basis`` is the ``intent_basis_t`` that policy keeps up: phase, defence, gates and versions; the rest is
    filled here, and prices with their parts are read from the kernel.
    """

    def __init__(self, *, slot: int, worker_epoch: int, kernel: MarketKernel, outbox: Outbox) -> None:
        self.news = PendingNews()
        self.basis: Final[Any] = ffi.new("intent_basis_t *")
        self.basis.market = kernel.native
        self.basis.market_slot, self.basis.worker_epoch = slot, worker_epoch
        self.outbox: Final = outbox
        self._sent_before = 0  # by the worker, when the pass began to serve this market
        self._record: Final = ffi.new("order_record_t *")

    def pass_began(self, clock: Clock) -> None:
        """What is sent from here on was decided by what the clock shows."""
        self.basis.decided_mono_ns = clock.mono_ns
        self.basis.chosen_mono_ns = 0
        self._sent_before = self.outbox.sent

    def pass_ended(self, *, held_up: bool) -> None:
        """``held_up``: something is still to be sent, and could not be."""
        self.news.pass_ended(answered=self.outbox.sent > self._sent_before, held_up=held_up)

    def answer(self) -> Any:
        """The basis, with the news that what is sent now is the first answer to."""
        basis, news = self.basis, self.news
        basis.trigger_mono_ns, basis.trigger, basis.waited = news.mono_ns, news.kind, news.waited
        return basis

    def _begin(self, kind: OrderKind) -> Any:
        """Everything but the order itself."""
        lib.intent_begin(self._record, self.answer())
        self._record.kind = kind
        return self._record

    def cancel_all(self) -> int:
        record = self._begin(OrderKind.BATCH_CANCEL)
        record.scope = lib.SCOPE_ALL
        return self.outbox.send(record)

    def sync(self) -> int:
        return self.outbox.send(self._begin(OrderKind.SYNC))

    def supply(self, plan: Merge | Mint) -> int:
        """Pairs to burn or to mint (§9)."""
        record = self._begin(OrderKind.BURN if isinstance(plan, Merge) else OrderKind.MINT)
        record.quantity = plan.pairs
        return self.outbox.send(record)
