"""One market as its quoter carries it: stock, own orders, policy, and what to do next.

Everything that changes it arrives through three doors: :meth:`QuotedMarket.on_execution` (what the gateway
says), :meth:`QuotedMarket.decide` (what the book and the clock say) and :meth:`QuotedMarket.on_command` (what
a person says).

Reads: its market slot's config, images and kill word.  Writes: its state row, order intents.
"""

from __future__ import annotations

from typing import Any, Final

import structlog
from msgspec import structs

from engine import config as configuration
from engine._native import ffi, lib
from engine.alerts import Alert, Alerts, Severity
from engine.arena import Arena, cell, unpadded
from engine.config import ConfigError, MarketConfig
from engine.events import (
    ExecutionKind,
    Gate,
    KillCause,
    Lifecycle,
    LocalReject,
    MarketStatus,
    Outcome,
    Scenario,
    Side,
)
from engine.quoting import supply
from engine.quoting.drift import Drift, compare
from engine.quoting.funding import FundingRules
from engine.quoting.gates import PARTIAL
from engine.quoting.inventory import AppliedTrades, Stock, apply_trade, frozen_by, leg_id
from engine.quoting.ratios import basis_points
from engine.quoting.requote import Basis, triggers
from engine.quoting.supply import SupplyView
from engine.quoting.transitions import LIFECYCLE, LifecycleEvent, OrderEvent, allows, step
from engine.risk.rate import TokenBucket
from engine.workers.clock import Clock
from engine.workers.intents import Emit, IntentWriter, OrderBasis
from engine.workers.ladder_sender import LadderSender
from engine.workers.market_kernel import MarketKernel
from engine.workers.market_life import MarketLife, Step, StopMode
from engine.workers.market_policy import MarketPolicy, Standing
from engine.workers.own_orders import OwnOrders
from engine.workers.state_row import StateRow
from engine.workers.sweep import Sweep
from engine.workers.sync_answer import SYNC_KINDS, SyncAnswer

_log = structlog.get_logger()

_SYNC_RETRY_NS: Final = 5_000_000_000
_PLAN_RETRY_NS: Final = 20_000_000
_REJECT_PAUSE_NS: Final = 250_000_000
_RATE_PAUSE_NS: Final = 1_000_000_000
_RATE_CODES: Final = frozenset({int(LocalReject.RATE_LIMIT), 9001})
_NOT_OURS: Final = 6004

# refusals that say our picture of the venue is wrong: ask for the venue's
_RESYNC_CODES: Final = frozenset({2001, 4005, 5001, 6002})
# refusals that belong to the day's work: partly or fully filled meanwhile (6001, 6003, 4006)
_EXPECTED_CODES: Final = frozenset({6001, 6003, 4006})
_REJECT_ALERTS: Final = {
    4005: (Alert.CLIENT_ID_REUSED, Severity.CRITICAL),
    6002: (Alert.GHOST_ORDER, Severity.WARNING),
    _NOT_OURS: (Alert.ORDER_OWNERSHIP, Severity.CRITICAL),
    6005: (Alert.MARKET_MISMATCH, Severity.CRITICAL),
    9001: (Alert.RATE_LIMITED, Severity.WARNING),
}
_LEAVING: Final = (Lifecycle.WINDING_DOWN, Lifecycle.STOPPED)
_PAID_OUT: Final = (MarketStatus.SETTLED, MarketStatus.VOIDED)


class QuotedMarket:
    """State and decisions of one market. Not thread safe; one per quoter process and market."""

    def __init__(
        self,
        *,
        arena: Arena,
        slot: int,
        worker_epoch: int,
        config: MarketConfig,
        config_version: int,
        order_rate_limit: int,
        redis_pause_ms: int,
        emit: Emit,
        alert: Alerts,
        clock: Clock,
    ) -> None:
        self.arena = arena
        self.slot = slot
        self.worker_epoch = worker_epoch
        self.config = config
        self.config_version = config_version
        self.kernel = MarketKernel(arena.market(slot))
        self.row = StateRow(
            row=ffi.addressof(arena.market(slot), "state"),
            worker_epoch=worker_epoch,
            initial_price_cents=config.quote.initial_price_cents,
            kernel=self.kernel,
            clock=clock,
        )
        self.policy = MarketPolicy(
            arena=arena,
            slot=slot,
            config=config,
            kernel=self.kernel,
            state=self.row.counters,
            alert=alert,
            redis_pause_ms=redis_pause_ms,
            clock=clock,
        )
        counters = self.row.counters
        self.life = MarketLife(stopped=bool(counters.stopped), recovering=bool(counters.first_quote_unix_ms))
        self._intents = IntentWriter(slot=slot, worker_epoch=worker_epoch, kernel=self.kernel, emit=emit)
        self._alert = alert
        self.lifecycle = Lifecycle.STOPPED if self.life.stopped else Lifecycle.STARTING
        self.status = MarketStatus.UNKNOWN
        self.stock = Stock()
        self.applied = AppliedTrades(config.quote.processed_lru_size)
        self.orders = OwnOrders(self.kernel)
        self.taker_fee_bps = 0
        self.synced = False
        self.stopping = False
        self._answer: SyncAnswer | None = None
        self._rules: Any = None  # market_rules_record_t
        self._funding: FundingRules | None = None
        self._ladder = LadderSender(
            kernel=self.kernel,
            orders=self.orders,
            intents=self._intents,
            counters=self.row.counters,
            order_tokens=TokenBucket(order_rate_limit, clock.mono_ns),
            replace_tokens=TokenBucket(config.quote.replace_rate_limit, clock.mono_ns),
        )
        self._sweep = Sweep(
            market=config.id,
            orders=self.orders,
            intents=self._intents,
            counters=self.row.counters,
            alert=alert,
            clock=clock,
        )
        self._requote = True
        self._look_due = True
        self._quoted: Basis | None = None
        self._oversold_syncs = 0  # reconciliations in a row that found more for sale than held
        self._supply_intent = -1  # the last mint or burn asked for; -1 = none
        self._supply_plan: type[supply.Merge | supply.Mint] = supply.Mint
        # monotonic ns
        self._sync_retry_ns = 0
        self._sync_force_ns = 0
        self._quiet_until_ns = 0
        self._cycle_due_ns = 0
        self._cycled_ns = clock.mono_ns

    @property
    def live(self) -> list[Any]:
        return self.orders.live

    @property
    def gates(self) -> Gate:
        return self.policy.held

    @property
    def has_synced(self) -> bool:
        """The venue's word came in this process's life, though it may be asked for once more (``synced``)."""
        return bool(self.row.counters.syncs)

    # ---- execution records -------------------------------------------------------------------

    def on_execution(self, record: Any, clock: Clock) -> None:
        """Applies one ``execution_record_t``. Answers to an older worker's intents concern nobody here."""
        kind = record.kind
        self._look_due = True
        if kind == ExecutionKind.FILL:
            self._on_fill(record, clock)
        elif kind in (ExecutionKind.CANCELLED, ExecutionKind.FILLED):
            self._on_gone(record)
        elif kind == ExecutionKind.MARKET_STATUS:
            self._set_status(MarketStatus(record.code))
        elif kind == ExecutionKind.MARKET_RULES:
            self._on_rules(ffi.cast("market_rules_record_t *", ffi.addressof(record)))
        elif kind in SYNC_KINDS:
            self._on_sync(record, clock)
        elif kind in (ExecutionKind.MINTED, ExecutionKind.BURNED):
            self._on_supply(record)
        elif kind == ExecutionKind.START_FAILED:
            self._start_failed(int(record.code), unpadded(record.trade_id))
        elif record.worker_epoch != self.worker_epoch:
            return
        elif kind == ExecutionKind.ACKED:
            if self.orders.acknowledged(record, clock):
                self.row.first_quote(clock)
        elif kind == ExecutionKind.REJECTED:
            self._on_rejected(record, clock)
        elif kind == ExecutionKind.UNKNOWN:
            self.row.counters.unknowns += 1
            self.orders.unknown(record.intent)

    def _on_notice(self, code: int) -> None:
        """A REJECTED that answers no intent: the gateway's word on the market as a whole."""
        if code == LocalReject.EXECUTIONS:
            self.kill(KillCause.EXECUTIONS)
        elif code == LocalReject.RECONCILE:
            self.reconcile()

    def _on_rejected(self, record: Any, clock: Clock) -> None:
        if not record.intent:
            self._on_notice(record.code)
            return
        self.row.counters.rejects += 1
        pause = _RATE_PAUSE_NS if record.code in _RATE_CODES else _REJECT_PAUSE_NS
        self._quiet_until_ns = max(self._quiet_until_ns, clock.mono_ns + pause)
        self._requote = True
        self.orders.refused(record.intent)
        if self.life.burn_refused(record.intent, record.code, clock) == Step.RECONCILE:
            self.reconcile()
        if record.code in _RESYNC_CODES:
            self.reconcile()
        if record.code == _NOT_OURS:
            self.kill(KillCause.OWNERSHIP)
        self._tell_rejected(int(record.code), int(record.intent))

    def _tell_rejected(self, code: int, intent: int) -> None:
        """§6.2: what a person should hear of is an alert, the rest a line."""
        market = self.config.id
        if intent == self._supply_intent:
            merging = self._supply_plan is supply.Merge
            failed = Alert.AUTO_MERGE_FAILED if merging else Alert.AUTO_MINT_FAILED
            self._alert(failed, Severity.WARNING, market=market, code=code)
        elif code > 0 and code not in _EXPECTED_CODES:
            alert, severity = _REJECT_ALERTS.get(code, (Alert.ORDER_REJECTED, Severity.WARNING))
            self._alert(alert, severity, market=market, code=code, intent=intent)
        else:
            _log.info("rejected", market=market, code=code, intent=intent)

    def _on_gone(self, record: Any) -> None:
        order = self.orders.by_slot(record.live_slot)
        if order is None:
            return
        event = OrderEvent.FULL_FILL
        if record.kind == ExecutionKind.CANCELLED:
            event = OrderEvent.REPLACE if order.replaced else OrderEvent.CANCEL
            if not order.leaving and self.status == MarketStatus.ACTIVE and not self.arena.killed(self.slot):
                self._alert(
                    Alert.UNEXPECTED_CANCEL,
                    Severity.WARNING,
                    market=self.config.id,
                    price_cents=order.price_cents,
                    remaining=order.remaining,
                )
        self.orders.gone(record.live_slot, event)
        self._requote = True

    def _on_fill(self, record: Any, clock: Clock) -> None:
        side = Side(record.book_side)
        leg = leg_id(bytes(ffi.buffer(record.trade_id)).rstrip(b"\0").decode(), side)
        if leg in self.applied:
            return
        self.applied.add(leg)
        if self.row.counters.syncs:  # before the first SYNC we hold nothing: its POSITION counts this fill
            self._book_fill(record, side, clock)
        self.orders.filled(record.live_slot, record.quantity)
        self.policy.velocity(self.orders.resting_shares(Side.BID), self.orders.resting_shares(Side.ASK))
        self.row.counters.fills += 1
        self.row.counters.total_fills_today += 1
        self._requote = True
        self._intents.trigger_mono_ns = record.sent_mono_ns

    def _book_fill(self, record: Any, side: Side, clock: Clock) -> None:
        try:
            self.stock = apply_trade(
                self.stock,
                scenario=Scenario(record.scenario),
                book_side=side,
                price_cents=record.price_cents,
                quantity=record.quantity,
                own_fee_cents=record.fee_cents,
            )
        except ValueError as error:  # our stock contradicts the venue's: its word, before anything is sent
            _log.error("fill_contradicts_stock", market=self.config.id, reason=str(error))
            self.reconcile()
            return
        self.policy.own_fill(
            side=side,
            price_cents=record.price_cents,
            shares=record.quantity,
            fee_cents=record.fee_cents,
            venue_unix_ms=record.venue_unix_ns // 1_000_000,
            clock=clock,
        )
        self._stock_changed()

    def _on_supply(self, record: Any) -> None:
        """MINTED, BURNED: volumes, cost sums and cash after it, by the venue's books."""
        if record.worker_epoch == self.worker_epoch:
            self.life.burned(record.intent)
        self._correct_to(
            Stock(
                yes_volume=record.yes_volume,
                no_volume=record.no_volume,
                yes_cost_sum_cents=record.yes_cost_cents,
                no_cost_sum_cents=record.no_cost_cents,
                cash_cents=record.cash_cents,
            )
        )
        self._requote = True

    def _on_sync(self, record: Any, clock: Clock) -> None:
        kind = record.kind
        if kind == ExecutionKind.SYNC_BEGIN:
            self._answer = SyncAnswer(self.stock)
        elif self._answer is None:
            if kind == ExecutionKind.CASH:  # funding, mint or burn between two syncs
                self._take_flows(record.quantity)
                self._correct_to(structs.replace(self.stock, cash_cents=record.cash_cents))
        elif kind == ExecutionKind.SYNC_END:
            self._finish_sync(self._answer)
        else:
            if kind == ExecutionKind.CASH:
                self._take_flows(record.quantity)
            self._answer.take(record, clock)

    def _take_flows(self, total_cents: int) -> None:
        """An operator's money is neither profit nor drift: it is booked before anything is compared."""
        news_cents = self.policy.flows_are(total_cents)
        if news_cents and self.row.counters.syncs:
            self.stock = structs.replace(self.stock, cash_cents=self.stock.cash_cents + news_cents)
            self._stock_changed()

    def _finish_sync(self, answer: SyncAnswer) -> None:
        """§7.5: within the tolerances our books stay, beyond them they become the venue's."""
        counters = self.row.counters
        self._answer = None
        if not counters.syncs:
            self.stock = answer.stock
            self._stock_changed()
        else:
            self._reconciled(answer.stock)
        counters.syncs += 1
        self.orders.adopt(answer.live)
        oversold = self._yes_available < 0 or self._no_available < 0
        self._oversold_syncs = self._oversold_syncs + 1 if oversold else 0
        self.synced = True
        self._requote = True

    def _reconciled(self, venue: Stock) -> None:
        found = compare(self.stock, venue, self.config.quote)
        if found.drift == Drift.NONE:
            return
        if found.netting:
            self._alert(
                Alert.INVENTORY_NETTING_OVERRIDE,
                Severity.CRITICAL,
                market=self.config.id,
                **found.differences,
            )
        expected = self.status in (MarketStatus.RESOLVED, *_PAID_OUT)  # shares have become cash
        if found.drift == Drift.TOLERATED and not expected:
            self._alert(
                Alert.INVENTORY_DRIFT_WARNING, Severity.WARNING, market=self.config.id, **found.differences
            )
            return
        if not expected:
            self._alert(
                Alert.INVENTORY_DRIFT_CRITICAL,
                Severity.CRITICAL,
                market=self.config.id,
                **found.differences,
            )
        self._correct_to(venue)

    def _correct_to(self, venue: Stock) -> None:
        if venue == self.stock:
            return
        self.policy.corrected(self.stock, venue)
        self.stock = venue
        self._stock_changed()

    def _on_rules(self, rules: Any) -> None:
        """The market's own terms: fees, limits, dates."""
        self._rules = ffi.new("market_rules_record_t *", rules[0])
        self._set_status(MarketStatus(rules.status))
        self._take_rules(self.config)
        self._requote = True

    def _take_rules(self, config: MarketConfig) -> None:
        """Prices and funding by the market's terms and one configuration. Raises ValueError for a pair of the
        two that the kernel refuses."""
        quote, rules = config.quote, self._rules
        self.kernel.set_rules(quote, rules, self.row.started_at_ms)
        taker = quote.market_taker_fee_bps
        self.taker_fee_bps = rules.taker_fee_bps if taker is None else taker
        self._funding = FundingRules(
            allow_buy=quote.allow_buy,
            cash_reserve_cents=quote.cash_reserve_cents,
            position_limit=quote.position_limit,
            taker_fee_bps=self.taker_fee_bps,
            order_quantity_max=rules.order_quantity_max,
            order_amount_max_cents=rules.order_amount_max_cents,
            buy_share_bp=basis_points(quote.buy_share) if quote.funding_mode == "SPLIT" else 0,
        )

    def _set_status(self, status: MarketStatus) -> None:
        if status == self.status:
            return
        _log.info("market_status", market=self.config.id, before=self.status.name, now=status.name)
        if self.status == MarketStatus.ACTIVE:
            self._alert(Alert.MARKET_STATUS, Severity.WARNING, market=self.config.id, status=status.name)
        self.status = status
        if status in _PAID_OUT:
            self._enter(LifecycleEvent.CLOSED)
        elif status == MarketStatus.RESOLVED and allows(LIFECYCLE, self.lifecycle, LifecycleEvent.RESOLVED):
            self._enter(LifecycleEvent.RESOLVED)
        # resolution and settlement move stock and cash without a trade: take the venue's word
        if status in (MarketStatus.RESOLVED, *_PAID_OUT):
            self.reconcile()

    def _enter(self, event: LifecycleEvent) -> None:
        before, self.lifecycle = self.lifecycle, step(LIFECYCLE, self.lifecycle, event)
        if before != self.lifecycle:
            if self.lifecycle == Lifecycle.EMERGENCY:
                self._sweep.arm()
            _log.info("lifecycle", market=self.config.id, before=before.name, now=self.lifecycle.name)

    def _stock_changed(self) -> None:
        self.row.counters.inventory_version += 1
        self.kernel.set_stock(self.stock)

    @property
    def _yes_available(self) -> int:
        return self.stock.yes_volume - self.orders.for_sale(Outcome.YES)

    @property
    def _no_available(self) -> int:
        return self.stock.no_volume - self.orders.for_sale(Outcome.NO)

    # ---- decisions ---------------------------------------------------------------------------

    def next_timer_ns(self) -> int:
        """Monotonic time at which something here is due even if nothing arrives; may lie in the past."""
        due = self._cycle_due_ns
        release_ns = self.policy.next_release_ns
        if release_ns is not None:
            due = min(due, release_ns)
        if self._quiet_until_ns:
            due = min(due, self._quiet_until_ns)
        return due

    def decide(self, clock: Clock) -> None:
        """One look at everything: configuration, prices, policy, and the orders that follow.

        Raises RingFullError when the gateway no longer takes intents.
        """
        cycle = clock.mono_ns >= self._cycle_due_ns
        if clock.mono_ns >= self._quiet_until_ns:
            self._quiet_until_ns = 0
        if cycle:
            self._cycle_due_ns = clock.mono_ns + self.config.quote.quote_interval_ms * 1_000_000
            self._take_config()
            self.kernel.ramp((clock.mono_ns - self._cycled_ns) // 1_000_000)
            self._cycled_ns = clock.mono_ns
        self._live_on(clock)
        if cycle or self._requote:
            self.kernel.compute(clock.unix_ms)
        if cycle or self._requote or self._look_due or self.policy.is_due(clock):
            self._look_due = False
            self._look(clock, cycle=cycle)
        self._act(clock)
        if cycle:
            self._plan_supply(clock)
            self.row.cycle_ended(clock)

    def _live_on(self, clock: Clock) -> None:
        """The next step of a start, of an operator's stop, or of winding down (§8)."""
        if self.lifecycle == Lifecycle.STARTING and self.synced:
            if self.policy.causes:
                self._started(LifecycleEvent.STARTED_KILLED)
            elif self.kernel.native.book_valid:
                self._started(LifecycleEvent.STARTED)
            elif self.life.snapshot_is_late(clock, feed_runs=self._feed_runs()):
                self._start_failed(int(LocalReject.NOT_READY), "no SNAPSHOT of its book came")
        step_due = self.life.stop_step(clock, live=len(self.live), synced=self.synced)
        if step_due == Step.RECONCILE:
            self.reconcile()
        elif step_due == Step.END:
            self.row.counters.stopped = 1
            if allows(LIFECYCLE, self.lifecycle, LifecycleEvent.STOP):
                self._enter(LifecycleEvent.STOP)
        if self.lifecycle == Lifecycle.WINDING_DOWN and self.synced and not self.live:
            self._wind_down(clock)

    def _feed_runs(self) -> bool:
        row = self.arena.process(lib.PROCESS_INGEST)
        return bool(lib.cell_load(cell(row, "state")) == lib.PROCESS_RUNNING)

    def _wind_down(self, clock: Clock) -> None:
        pairs = min(self._yes_available, self._no_available)
        match self.life.wind_step(clock, pairs=pairs):
            case Step.BURN:
                self.life.burn_sent(self._intents.supply(supply.Merge(pairs=pairs), clock))
                _log.info("winding_down", market=self.config.id, pairs=pairs)
            case Step.END:
                self._enter(LifecycleEvent.WOUND_DOWN)

    def _started(self, event: LifecycleEvent) -> None:
        self._enter(event)
        self._look_due = True
        _log.info("started", market=self.config.id, stock=str(self.stock), live=len(self.live))

    def _start_failed(self, code: int, reason: str) -> None:
        """§8: a step of the start failed; an operator's START tries again."""
        if self.lifecycle != Lifecycle.STARTING:
            return
        self.life.failed = True
        self._enter(LifecycleEvent.START_FAILED)
        self._alert(Alert.START_FAILED, Severity.CRITICAL, market=self.config.id, code=code, reason=reason)

    def _standing(self) -> Standing:
        return Standing(
            stock=self.stock,
            lifecycle=self.lifecycle,
            status=self.status,
            synced=self.synced,
            confirmed=self.synced and not self.orders.unknown_on_both_sides,
            negative_available=self._oversold_syncs > 1,
        )

    def _look(self, clock: Clock, *, cycle: bool) -> None:
        self.row.account_time(self.gates, self.policy.defence.level, clock)
        before, day, release_ns = self.gates, self.policy.day, self.policy.next_release_ns
        if self.policy.look(clock, self._standing(), cycle=cycle):
            self.kernel.compute(clock.unix_ms)
        if day != self.policy.day:
            self.row.counters.total_fills_today = 0  # §9.4
        if before & ~self.gates:
            self._requote = True  # §3.8: a released gate re-quotes
            self._intents.trigger_mono_ns = min(release_ns or clock.mono_ns, clock.mono_ns)
        if self.policy.causes and self.lifecycle == Lifecycle.RUNNING:
            self._enter(LifecycleEvent.KILL)
        elif self.policy.resumes_by_itself and self.status == MarketStatus.ACTIVE:
            self.resume(clock, reason="market ACTIVE again")  # D15
        if self.synced and (self._yes_available < 0 or self._no_available < 0):
            self.reconcile()  # A2: nothing new goes out until the venue has spoken
        self._intents.basis = OrderBasis(
            phase=self.policy.current_phase,
            level=self.policy.defence.level,
            config_version=self.config_version,
            inventory_version=self.row.counters.inventory_version,
            gates=self.gates,
        )

    def _take_config(self) -> None:
        """Hot reload (§10): the slot's version is looked at each cycle; new values hold as a whole."""
        slot = ffi.addressof(self.arena.market(self.slot), "config")
        if int(lib.cell_load(cell(slot, "version"))) == self.config_version:
            return
        version, payload = self.arena.config_bytes(self.slot)
        config = configuration.market_from_json(payload)
        try:
            if self._rules is not None:
                self._take_rules(config)
        except (ConfigError, ValueError) as error:
            self._take_rules(self.config)
            self._alert(
                Alert.CONFIG_REJECTED,
                Severity.CRITICAL,
                market=self.config.id,
                config_version=version,
                reason=str(error),
            )
        else:
            self.config = self.policy.config = config
            _log.info("config_applied", market=config.id, version=version)
        self.config_version = version
        self._requote = True

    def _act(self, clock: Clock) -> None:
        held = self.gates
        leaving = self.stopping or self.life.leaving or self.lifecycle in _LEAVING
        if leaving and self.live:
            self._sweep.pull(clock)
        elif not self.synced and self._may_sync(clock):
            self._sync_retry_ns = clock.mono_ns + _SYNC_RETRY_NS
            self._intents.sync(clock)
        elif self.policy.causes:
            self._sweep.pull_killed(clock, word_is_up=bool(self.arena.killed(self.slot)))
            self._quoted = None
        elif leaving or held == Gate.INVENTORY:
            return  # nothing new; what is live stays until the venue's word is in
        elif held & ~PARTIAL:
            self._sweep.pull(clock)
            self._quoted = None
        elif not self.kernel.ready:
            return
        elif held & Gate.POST_FILL:
            self._ladder.cancel_aggressive(clock)
        elif not self._quiet_until_ns:
            self._look_for_triggers(clock)
            if self._requote:
                self._quote(clock)

    def _may_sync(self, clock: Clock) -> bool:
        """Not while a request is under way, unless its answer is overdue; not after a failed start."""
        if self.life.failed or clock.mono_ns < self._sync_retry_ns:
            return False
        if not self._sync_force_ns:
            self._sync_force_ns = clock.mono_ns + _SYNC_RETRY_NS
        return clock.mono_ns >= self._sync_force_ns or not self.orders.any_busy

    def _basis(self, clock: Clock) -> Basis:
        kernel, policy = self.kernel, self.policy
        return Basis(
            at_ms=clock.unix_ms,
            fair_price_cents=kernel.fair.fair_price_cents,
            touch_bid_cents=kernel.touch_bid_cents,
            touch_ask_cents=kernel.touch_ask_cents,
            phase=policy.current_phase,
            level=policy.defence.level,
            multiplier=kernel.inputs.spread_multiplier,
            size_scale=kernel.inputs.size_scale,
            gates=self.gates,
            config_version=self.config_version,
        )

    def _look_for_triggers(self, clock: Clock) -> None:
        """§3.8; fills, releases and answers set the flag where they arrive."""
        if not self._requote:
            found = triggers(
                self._quoted,
                self._basis(clock),
                oldest_order_ms=self.orders.oldest_ms,
                quote=self.config.quote,
            )
            self._requote = bool(found)
            by_message = self.kernel.native.news & lib.PASS_TARGET
            self._intents.trigger_mono_ns = self.kernel.native.trigger_recv_ns if by_message else 0

    def _quote(self, clock: Clock) -> None:
        rules = self._funding
        assert rules is not None, "the kernel is ready only after the rules came"
        if self.policy.is_one_side:
            rules = structs.replace(rules, allow_buy=False)  # D8: only what reduces
        sent, waiting = self._ladder.show(
            clock,
            stock=self.stock,
            rules=rules,
            max_age_ms=self.config.quote.stabilization.max_order_age_ms,
        )
        self._quoted = self._basis(clock)
        if sent:
            self.row.counters.quotes += 1
        elif waiting:
            # an answer or a token is needed first: no busy loop over the same plan
            self._quiet_until_ns = max(self._quiet_until_ns, clock.mono_ns + _PLAN_RETRY_NS)
        elif not self.orders.any_busy:
            self._requote = False
            self._intents.trigger_mono_ns = 0

    def _plan_supply(self, clock: Clock) -> None:
        """§9: pairs into cash or cash into pairs, at most once a minute, and only while all is well."""
        if self.lifecycle != Lifecycle.RUNNING or self.gates or not self.kernel.ready or self.stopping:
            return
        frozen = frozen_by(self.live, self.taker_fee_bps)
        last_ms = self.row.counters.last_supply_ms
        plan = supply.plan(
            SupplyView(
                stock=self.stock,
                yes_available=self._yes_available,
                no_available=self._no_available,
                free_cash_cents=self.stock.cash_cents - frozen.cash_cents,
                phase=self.policy.current_phase,
                level=self.policy.defence.level,
                market_active=self.status == MarketStatus.ACTIVE,
                left_ms=self.kernel.inputs.trading_end_ms - clock.unix_ms,
                since_last_ms=clock.unix_ms - last_ms if last_ms else None,
            ),
            self.config.quote,
        )
        if plan is None:
            return
        self.row.counters.last_supply_ms = clock.unix_ms
        self._supply_intent, self._supply_plan = self._intents.supply(plan, clock), type(plan)
        _log.info("supply", market=self.config.id, plan=type(plan).__name__, pairs=plan.pairs)

    # ---- process and operator ----------------------------------------------------------------

    def gateway_restarted(self) -> None:
        """Whatever was asked of the old gateway is answered by the new one's SYNC."""
        self._answer = None
        self.orders.forget_requests()
        self.life.forget_requests()
        self.reconcile()

    def reconcile(self) -> None:
        """Asks for the venue's word as soon as nothing is under way (§7.5)."""
        self.synced = False
        self._sync_retry_ns = 0
        self._sync_force_ns = 0

    def kill(self, causes: KillCause) -> None:
        """Latches causes by name (§5.2): the market goes to EMERGENCY, until :meth:`resume`."""
        self.policy.kill(causes)
        if allows(LIFECYCLE, self.lifecycle, LifecycleEvent.KILL):
            self._enter(LifecycleEvent.KILL)

    def resume(self, clock: Clock, *, reason: str) -> KillCause:
        """EMERGENCY -> RUNNING, or the causes that refuse it; nothing is sent before a new SYNC."""
        if not self.policy.causes or self.lifecycle != Lifecycle.EMERGENCY:
            return KillCause(0)
        refused = self.policy.resume(clock, self._standing(), reason=reason)
        if not refused:
            self._enter(LifecycleEvent.RESUME)
            self._sweep.disarm()
            self._oversold_syncs = 0
            self._quoted = None
            self.reconcile()
        return refused

    def on_command(self, command: Any, clock: Clock) -> None:
        """One ``command_record_t`` of this market; its number and what refused it go into the state row."""
        refused = KillCause(0)
        if command.kind == lib.COMMAND_RESUME:
            self._take_config()  # a limit changed in the same request holds for it
            refused = self.resume(clock, reason=unpadded(command.reason))
        elif command.kind == lib.COMMAND_STOP and self.lifecycle != Lifecycle.STOPPED:
            self.life.stop(StopMode(command.mode), clock)
            _log.info("stop_asked", market=self.config.id, mode=StopMode(command.mode).name)
        elif command.kind == lib.COMMAND_START and self.lifecycle == Lifecycle.STOPPED:
            self._start_again()
        self.row.counters.command_refused = int(refused)
        self.row.counters.command_number = command.number

    def _start_again(self) -> None:
        """An operator's START of a stopped market: every step of the start anew."""
        self.life.start()
        self.row.counters.stopped = 0
        self._enter(LifecycleEvent.START)
        self._quoted = None
        self._requote = True
        self.reconcile()

    def halt(self, reason: str) -> None:
        """The gateway takes no intents any more: EMERGENCY; the kill word makes whoever comes next cancel."""
        self.kill(KillCause.GATEWAY_STUCK)
        self._alert(Alert.RING_FULL, Severity.CRITICAL, market=self.config.id, reason=reason)

    def publish(self, clock: Clock, cursor: Any) -> None:
        """Writes the state row: what Redis, status and the live view show of this market."""
        self.policy.save(self.row.counters, clock)
        self.row.counters.config_version = self.config_version
        self.row.publish(
            clock,
            cursor,
            stock=self.stock,
            live=self.live,
            taker_fee_bps=self.taker_fee_bps,
            lifecycle=self.lifecycle,
            status=self.status,
            gates=self.gates,
            synced=self.synced,
        )
