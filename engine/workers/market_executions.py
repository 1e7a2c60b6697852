"""What the gateway says, and what it changes in a quoted market: one ``execution_record_t`` at a time.

Reads: execution ring, handed over by the quoter.  Writes: nothing shared; the parts of the market do.
"""

from __future__ import annotations

from typing import Any

import structlog
from msgspec import structs

from engine._native import ffi, lib
from engine.alerts import Alert, Alerts, Severity
from engine.arena import Arena, unpadded
from engine.events import ExecutionKind, KillCause, LocalReject, MarketStatus, News, Side
from engine.quoting.inventory import Stock
from engine.quoting.transitions import OrderEvent
from engine.workers.clock import Clock
from engine.workers.holdings import Holdings
from engine.workers.intents import IntentWriter
from engine.workers.market_life import MarketLife, Step
from engine.workers.market_state import MarketState
from engine.workers.market_sync import MarketSync
from engine.workers.market_terms import TermsInForce
from engine.workers.own_orders import OwnOrders
from engine.workers.pair_supply import PairSupply
from engine.workers.policy_gates import MarketGates
from engine.workers.refusals import refusal
from engine.workers.requoter import Requoter
from engine.workers.state_row import StateRow
from engine.workers.sync_answer import SYNC_KINDS, SyncAnswer

_log = structlog.get_logger()


class MarketExecutions:
    """One market's. It decides nothing: what follows is the next look's matter."""

    def __init__(
        self,
        *,
        arena: Arena,
        slot: int,
        worker_epoch: int,
        terms: TermsInForce,
        gates: MarketGates,
        state: MarketState,
        life: MarketLife,
        orders: OwnOrders,
        holdings: Holdings,
        sync: MarketSync,
        requoter: Requoter,
        pairs: PairSupply,
        intents: IntentWriter,
        row: StateRow,
        alert: Alerts,
    ) -> None:
        self._arena = arena
        self._slot = slot
        self._worker_epoch = worker_epoch
        self._terms = terms
        self._gates = gates
        self._state = state
        self._life = life
        self._orders = orders
        self._holdings = holdings
        self._sync = sync
        self._requoter = requoter
        self._pairs = pairs
        self._intents = intents
        self._row = row
        self._alert = alert

    def take(self, record: Any, clock: Clock) -> None:
        """Answers to an older worker's intents concern nobody here; everything else does."""
        kind = record.kind
        if kind == ExecutionKind.FILL:
            self._on_fill(record, clock)
        elif kind in (ExecutionKind.CANCELLED, ExecutionKind.FILLED):
            self._on_gone(record)
        elif kind == ExecutionKind.MARKET_STATUS:
            self._on_status(MarketStatus(record.code))
        elif kind == ExecutionKind.MARKET_RULES:
            self._on_rules(ffi.cast("market_rules_record_t *", ffi.addressof(record)))
        elif kind in SYNC_KINDS:
            self._on_sync(record, clock)
        elif kind in (ExecutionKind.MINTED, ExecutionKind.BURNED):
            self._on_supply(record)
        elif kind == ExecutionKind.START_FAILED:
            self._state.start_failed(int(record.code), unpadded(record.trade_id))
        elif record.worker_epoch != self._worker_epoch:
            return
        elif kind == ExecutionKind.ACKED:
            if self._orders.acknowledged(record, clock):
                self._row.first_quote(clock)
        elif kind == ExecutionKind.REJECTED:
            self._on_rejected(record, clock)
        elif kind == ExecutionKind.UNKNOWN:
            self._row.counters.unknowns += 1
            self._orders.unknown(record.intent)

    # ---- own orders --------------------------------------------------------------------------

    def _on_fill(self, record: Any, clock: Clock) -> None:
        if not self._holdings.first_seen(record):
            return
        counters = self._row.counters
        # before the first SYNC we hold nothing: its POSITION counts this fill
        if counters.syncs and not self._holdings.book(record, clock):
            self._sync.ask()  # the venue's word, before anything is sent
        self._orders.filled(record.live_slot, record.quantity)
        self._gates.velocity(self._orders.resting_shares(Side.BID), self._orders.resting_shares(Side.ASK))
        counters.fills += 1
        counters.total_fills_today += 1
        self._requoter.wanted = True
        self._intents.news.came(News.FILL, int(record.sent_mono_ns))

    def _on_gone(self, record: Any) -> None:
        order = self._orders.by_slot(record.live_slot)
        if order is None:
            return
        event = OrderEvent.FULL_FILL
        if record.kind == ExecutionKind.CANCELLED:
            event = OrderEvent.REPLACE if order.flags & lib.OWN_ORDER_REPLACED else OrderEvent.CANCEL
            leaving = order.flags & lib.OWN_ORDER_LEAVING
            if not leaving and self._state.is_active and not self._arena.killed(self._slot):
                self._alert(
                    Alert.UNEXPECTED_CANCEL,
                    Severity.WARNING,
                    market=self._terms.config.id,
                    price_cents=order.price_cents,
                    remaining=order.remaining,
                )
        self._orders.gone(order, event)
        self._requoter.wanted = True

    def _on_rejected(self, record: Any, clock: Clock) -> None:
        code, intent = int(record.code), int(record.intent)
        if not intent:
            self._on_notice(code)
            return
        self._row.counters.rejects += 1
        follows = refusal(code)
        self._requoter.hold_back(clock, pause_ns=follows.pause_ns, shut_ns=follows.shut_ns)
        self._requoter.wanted = True
        self._orders.refused(intent)
        if self._life.burn_refused(intent, code, clock) == Step.RECONCILE or follows.resync:
            self._sync.ask()
        if follows.kills:
            self._state.kill(follows.kills)
        market = self._terms.config.id
        if self._pairs.refused(intent, code):
            return
        if follows.alert is not None:
            self._alert(follows.alert, follows.severity, market=market, code=code, intent=intent)
        else:
            _log.info("rejected", market=market, code=code, intent=intent)

    def _on_notice(self, code: int) -> None:
        """A REJECTED that answers no intent: the gateway's word on the market as a whole."""
        if code == LocalReject.EXECUTIONS:
            self._state.kill(KillCause.EXECUTIONS)
        elif code == LocalReject.RECONCILE:
            self._sync.ask()

    # ---- the market and the account ----------------------------------------------------------

    def _on_status(self, status: MarketStatus) -> None:
        if self._state.venue_says(status) and self._state.is_over:
            self._sync.ask()

    def _on_rules(self, rules: Any) -> None:
        """The market's own terms: fees, limits, dates."""
        self._on_status(MarketStatus(rules.status))
        self._terms.take_rules(rules)
        self._requoter.wanted = True

    def _on_supply(self, record: Any) -> None:
        """MINTED, BURNED: volumes, cost sums and cash after it, by the venue's books."""
        if record.worker_epoch == self._worker_epoch:
            self._life.burned(record.intent)
        self._holdings.correct_to(
            Stock(
                yes_volume=record.yes_volume,
                no_volume=record.no_volume,
                yes_cost_sum_cents=record.yes_cost_cents,
                no_cost_sum_cents=record.no_cost_cents,
                cash_cents=record.cash_cents,
            )
        )
        self._requoter.wanted = True

    def _on_sync(self, record: Any, clock: Clock) -> None:
        kind, answer = record.kind, self._sync.answer
        if kind == ExecutionKind.SYNC_BEGIN:
            self._sync.answer = SyncAnswer(self._holdings.stock)
            return
        if kind == ExecutionKind.CASH:
            self._holdings.flows_are(record.quantity)
        if answer is None:
            if kind == ExecutionKind.CASH:  # funding, mint or burn between two SYNCs
                stock = structs.replace(self._holdings.stock, cash_cents=record.cash_cents)
                self._holdings.correct_to(stock)
        elif kind == ExecutionKind.SYNC_END:
            self._finish_sync(answer)
        else:
            answer.take(record, clock)

    def _finish_sync(self, answer: SyncAnswer) -> None:
        self._sync.answer = None
        self._holdings.reconcile(answer.stock, over=self._state.is_over)
        self._row.counters.syncs += 1
        self._orders.adopt(answer.live, asked=self._sync.intent)
        self._holdings.count_oversold()
        self._sync.done = True
        self._requoter.wanted = True
