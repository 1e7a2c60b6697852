"""One market as its quoter carries it: its parts, and what to do next.

Everything that changes it arrives through three doors: :meth:`QuotedMarket.on_execution` (what the gateway
says), :meth:`QuotedMarket.decide` (what the book and the clock say) and :meth:`QuotedMarket.on_command` (what
a person says). A part knows the parts it needs and none of them knows the market: terms
(``market_terms.py``), policy (``market_policy.py``), stock (``holdings.py``), own orders (``own_orders.py``),
lifecycle (``market_state.py``, ``market_life.py``), the venue's word (``market_sync.py``), and the senders
of intents (``requoter.py``, ``pair_supply.py``, ``sweep.py``).

Reads: its market slot's config, images and kill word.  Writes: its state row, order intents.
"""

from __future__ import annotations

from typing import Any, Final

import structlog

from engine._native import ffi, lib
from engine.alerts import Alert, Alerts, Severity
from engine.arena import Arena, cell, unpadded
from engine.config import MarketConfig
from engine.events import Gate, KillCause, Lifecycle, LocalReject, News
from engine.quoting.inventory import Stock
from engine.quoting.orders import LiveOrder
from engine.quoting.transitions import LIFECYCLE, LifecycleEvent, allows
from engine.risk.rate import TokenBucket
from engine.workers.clock import Clock
from engine.workers.holdings import Holdings
from engine.workers.intents import IntentWriter, Outbox
from engine.workers.ladder_sender import LadderSender
from engine.workers.market_executions import MarketExecutions
from engine.workers.market_kernel import MarketKernel
from engine.workers.market_life import MarketLife, Step, StopMode
from engine.workers.market_policy import MarketPolicy
from engine.workers.market_state import MarketState
from engine.workers.market_sync import MarketSync
from engine.workers.market_terms import TermsInForce
from engine.workers.own_orders import OwnOrders
from engine.workers.pair_supply import PairSupply
from engine.workers.policy_gates import next_release_ns
from engine.workers.policy_standing import Standing
from engine.workers.requoter import Requoter
from engine.workers.state_row import StateRow
from engine.workers.sweep import Sweep

_log = structlog.get_logger()

# The operators of an IntFlag are Python functions; its bits are asked for at every look.
_POST_FILL_BIT: Final = int(Gate.POST_FILL)
_ORACLE_GAP_BIT: Final = int(Gate.ORACLE_GAP)
_INVENTORY_BIT: Final = int(Gate.INVENTORY)
_LEAVING: Final = (Lifecycle.WINDING_DOWN, Lifecycle.STOPPED)


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
        outbox: Outbox,
        alert: Alerts,
        clock: Clock,
    ) -> None:
        self.kernel = MarketKernel(arena.market(slot))
        self.row = StateRow(
            row=ffi.addressof(arena.market(slot), "state"),
            worker_epoch=worker_epoch,
            initial_price_cents=config.quote.initial_price_cents,
            kernel=self.kernel,
            clock=clock,
        )
        counters = self.row.counters
        self.terms = TermsInForce(
            arena=arena,
            slot=slot,
            config=config,
            config_version=config_version,
            kernel=self.kernel,
            started_at_ms=self.row.started_at_ms,
            alert=alert,
        )
        self.policy = MarketPolicy(
            arena=arena,
            slot=slot,
            terms=self.terms,
            kernel=self.kernel,
            state=counters,
            alert=alert,
            redis_pause_ms=redis_pause_ms,
            clock=clock,
        )
        self.life = MarketLife(stopped=bool(counters.stopped), recovering=bool(counters.first_quote_unix_ms))
        self.orders = OwnOrders(self.kernel)
        self.holdings = Holdings(
            terms=self.terms,
            kernel=self.kernel,
            orders=self.orders,
            policy=self.policy,
            counters=counters,
            alert=alert,
        )
        self.stopping = False  # the process, not the market
        self._arena = arena
        self._slot = slot
        self._alert = alert
        self._intents = IntentWriter(slot=slot, worker_epoch=worker_epoch, kernel=self.kernel, outbox=outbox)
        self._sync = MarketSync(self._intents)
        self._ladder = LadderSender(
            kernel=self.kernel,
            orders=self.orders,
            intents=self._intents,
            counters=counters,
            order_tokens=TokenBucket(order_rate_limit, clock.mono_ns),
            replace_tokens=TokenBucket(config.quote.replace_rate_limit, clock.mono_ns),
        )
        self._requoter = Requoter(
            terms=self.terms,
            kernel=self.kernel,
            policy=self.policy,
            orders=self.orders,
            holdings=self.holdings,
            intents=self._intents,
            ladder=self._ladder,
            counters=counters,
        )
        self._pairs = PairSupply(
            terms=self.terms,
            kernel=self.kernel,
            policy=self.policy,
            holdings=self.holdings,
            intents=self._intents,
            counters=counters,
            alert=alert,
        )
        self._sweep = Sweep(
            market=config.id,
            orders=self.orders,
            intents=self._intents,
            counters=counters,
            alert=alert,
            clock=clock,
        )
        self.state = MarketState(
            market=config.id, life=self.life, kills=self.policy.kills, sweep=self._sweep, alert=alert
        )
        self._executions = MarketExecutions(
            arena=arena,
            slot=slot,
            worker_epoch=worker_epoch,
            terms=self.terms,
            gates=self.policy.gates,
            state=self.state,
            life=self.life,
            orders=self.orders,
            holdings=self.holdings,
            sync=self._sync,
            requoter=self._requoter,
            pairs=self._pairs,
            intents=self._intents,
            row=self.row,
            alert=alert,
        )
        self._look_due = True
        self._cancels_wait = False  # POST_FILL: for the answer to a request about their order
        # monotonic ns
        self._cycle_due_ns = 0
        self._cycled_ns = clock.mono_ns

    @property
    def config(self) -> MarketConfig:
        return self.terms.config

    @property
    def stock(self) -> Stock:
        return self.holdings.stock

    @property
    def gates(self) -> Gate:
        """What holds quotes back."""
        return self.policy.gates.held

    @property
    def live(self) -> list[LiveOrder]:
        return self.orders.live

    @property
    def synced(self) -> bool:
        """Whether stock and orders are the venue's."""
        return self._sync.done

    @property
    def has_synced(self) -> bool:
        """The venue's word came in this process's life, though it may be asked for once more (``synced``)."""
        return bool(self.row.counters.syncs)

    @property
    def lifecycle(self) -> Lifecycle:
        return self.state.lifecycle

    def on_execution(self, record: Any, clock: Clock) -> None:
        """Applies one ``execution_record_t`` of this market."""
        self._look_due = True
        self._executions.take(record, clock)

    # ---- decisions ---------------------------------------------------------------------------

    def next_timer_ns(self) -> int:
        """Monotonic time at which something here is due even if nothing arrives; may lie in the past."""
        due = self._cycle_due_ns
        release_ns = self.policy.gates.next_release_ns
        if release_ns is not None:
            due = min(due, release_ns)
        if self._requoter.paused_until_ns:
            due = min(due, self._requoter.paused_until_ns)
        return due

    def decide(self, clock: Clock) -> None:
        """One look at everything: configuration, prices, policy, and the orders that follow.

        Raises RingFullError when the gateway no longer takes intents.
        """
        cycle = clock.mono_ns >= self._cycle_due_ns
        self._intents.pass_began(clock)
        self._requoter.end_pause(clock)
        if cycle:
            self._cycle_due_ns = clock.mono_ns + self.config.quote.quote_interval_ms * 1_000_000
            self._take_config()
            self.kernel.ramp((clock.mono_ns - self._cycled_ns) // 1_000_000)
            self._cycled_ns = clock.mono_ns
        if self.state.lifecycle != Lifecycle.RUNNING or self.life.stop_asked:
            self._live_on(clock)
        if cycle or self._requoter.wanted:
            self.kernel.compute(clock.unix_ms)
        if cycle or self._requoter.wanted or self._look_due or self.policy.is_due(clock):
            self._look_due = False
            self._look(clock, cycle=cycle)
        self._act(clock)
        if cycle:
            if self._may_supply:
                self._pairs.plan(clock, market_active=self.state.is_active)
            self.row.cycle_ended(clock)
        self._intents.pass_ended(held_up=self._held_up)

    def _take_config(self) -> None:
        """Hot reload (§10): looked for each cycle; new values hold as a whole."""
        if self.terms.reload():
            self._requoter.wanted = True

    def _live_on(self, clock: Clock) -> None:
        """The next step of a start, of an operator's stop, or of winding down (§8)."""
        if self.lifecycle == Lifecycle.STARTING and self.synced:
            if self.policy.kills.causes:
                self._started(LifecycleEvent.STARTED_KILLED)
            elif self.kernel.native.book_valid:
                self._started(LifecycleEvent.STARTED)
            elif self.life.snapshot_is_late(clock, feed_runs=self._feed_runs()):
                self.state.start_failed(int(LocalReject.NOT_READY), "no SNAPSHOT of its book came")
        step_due = self.life.stop_step(clock, live=len(self.orders), synced=self.synced)
        if step_due == Step.RECONCILE:
            self.reconcile()
        elif step_due == Step.END:
            self.row.counters.stopped = 1
            if allows(LIFECYCLE, self.lifecycle, LifecycleEvent.STOP):
                self.state.enter(LifecycleEvent.STOP)
        if self.lifecycle == Lifecycle.WINDING_DOWN and self.synced and not self.orders:
            self._wind_down(clock)

    def _feed_runs(self) -> bool:
        row = self._arena.process(lib.PROCESS_INGEST)
        return bool(lib.cell_load(cell(row, "state")) == lib.PROCESS_RUNNING)

    def _wind_down(self, clock: Clock) -> None:
        pairs = self.holdings.free_pairs
        match self.life.wind_step(clock, pairs=pairs):
            case Step.BURN:
                self.life.burn_sent(self._pairs.burn(pairs))
            case Step.END:
                self.state.enter(LifecycleEvent.WOUND_DOWN)

    def _started(self, event: LifecycleEvent) -> None:
        self.state.enter(event)
        self._look_due = True
        _log.info("started", market=self.config.id, stock=str(self.stock), live=len(self.orders))

    def _look(self, clock: Clock, *, cycle: bool) -> None:
        """Policy, and what a change of it means for the market."""
        policy, counters = self.policy, self.row.counters
        self.row.looked(policy.gates.state.held, policy.defence.state.level, clock)
        before = policy.gates.state
        day = policy.money.day
        if policy.look(clock, self._standing(), cycle=cycle):
            self.kernel.compute(clock.unix_ms)
        if day != policy.money.day:
            counters.total_fills_today = 0  # §9.4
        held = policy.gates.state.held
        if int(before.held) & ~int(held):
            self._requoter.wanted = True  # §3.8: a released gate re-quotes
            release_ns = next_release_ns(before)
            self._intents.news.came(News.RELEASE, min(release_ns or clock.mono_ns, clock.mono_ns))
        if policy.kills.causes and self.state.lifecycle == Lifecycle.RUNNING:
            self.state.enter(LifecycleEvent.KILL)
        elif policy.kills.causes and policy.kills.resumes_by_itself and self.state.is_active:
            self.resume(clock, reason="market ACTIVE again")  # D15
        if self._sync.done and self.holdings.is_oversold:
            self.reconcile()  # A2: nothing new goes out until the venue has spoken
        basis = self._intents.basis
        basis.phase, basis.defense = policy.phase.state.phase, policy.defence.state.level
        basis.gates = held
        basis.config_version = self.terms.config_version
        basis.inventory_version = counters.inventory_version

    def _standing(self) -> Standing:
        synced = self._sync.done
        return Standing(
            stock=self.holdings.stock,
            lifecycle=self.state.lifecycle,
            status=self.state.status,
            synced=synced,
            confirmed=synced and not self.orders.unknown_on_both_sides,
            negative_available=self.holdings.oversold_syncs > 1,
        )

    def _act(self, clock: Clock) -> None:
        """The first of these that holds is all that is done: leave, ask, pull, hold back, or quote."""
        gates, synced = self.policy.gates.state, self._sync.done
        held = int(gates.held)
        leaving = self.stopping or self.life.leaving or self.state.lifecycle in _LEAVING
        if leaving and self.orders:
            self._sweep.pull(clock)
        elif not (synced or self.life.failed) and self._sync.is_due(clock, any_busy=self.orders.any_busy):
            self._sync.send(clock)
        elif self.policy.kills.causes:
            self._sweep.pull_killed(clock, word_is_up=bool(self._arena.killed(self._slot)))
            self._requoter.forget()
        elif leaving:
            return  # nothing new
        elif gates.pulls or self.orders.unknown_on_both_sides:
            self._sweep.pull(clock)
            self._requoter.forget()
        elif not self.kernel.ready:
            return
        elif held & _POST_FILL_BIT:
            self._requoter.message_is_news()
            self._cancels_wait = self._ladder.cancel_aggressive(clock)
        elif held & _INVENTORY_BIT or not synced:
            return  # a SYNC is due or under way, which the gates may not know yet: nothing new, the live stay
        else:
            self._requoter.requote(clock)

    @property
    def _held_up(self) -> bool:
        """Whether the answer to news is still to come, though nothing forbids it."""
        held = int(self.policy.gates.state.held)
        if held & _POST_FILL_BIT:
            return self._cancels_wait
        return not held & ~_ORACLE_GAP_BIT and self._requoter.wanted

    @property
    def _may_supply(self) -> bool:
        """§9: only while all is well."""
        quoting = self.lifecycle == Lifecycle.RUNNING and not self.stopping
        return quoting and not self.gates and self.kernel.ready

    # ---- process and operator ----------------------------------------------------------------

    def gateway_restarted(self) -> None:
        """Whatever was asked of the old gateway is answered by the new one's SYNC."""
        self._sync.answer = None
        self.orders.forget_requests()
        self.life.forget_requests()
        self.reconcile()

    def reconcile(self) -> None:
        """Asks for the venue's word as soon as nothing is under way (§7.5)."""
        self._sync.ask()

    def resume(self, clock: Clock, *, reason: str) -> KillCause:
        """EMERGENCY -> RUNNING, or the causes that refuse it; nothing is sent before a new SYNC."""
        if not self.policy.kills.causes or self.lifecycle != Lifecycle.EMERGENCY:
            return KillCause(0)
        refused = self.policy.kills.resume(clock, self._standing(), reason=reason)
        if not refused:
            self.state.enter(LifecycleEvent.RESUME)
            self._sweep.disarm()
            self.holdings.oversold_syncs = 0
            self._requoter.forget()
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
        self.state.enter(LifecycleEvent.START)
        self._requoter.forget()
        self._requoter.wanted = True
        self.reconcile()

    def halt(self, reason: str) -> None:
        """The gateway takes no intents any more: EMERGENCY; the kill word makes whoever comes next cancel."""
        self.state.kill(KillCause.GATEWAY_STUCK)
        self._alert(Alert.RING_FULL, Severity.CRITICAL, market=self.config.id, reason=reason)

    def end(self, clock: Clock, cursor: Any) -> None:
        """The last row of this process."""
        self.state.abandon()
        self.publish(clock, cursor)

    def publish(self, clock: Clock, cursor: Any) -> None:
        """Writes the state row: what Redis, status and the live view show of this market."""
        self.policy.save(self.row.counters, clock)
        self.row.counters.config_version = self.terms.config_version
        self.row.publish(
            clock,
            cursor,
            stock=self.stock,
            frozen=self.holdings.frozen,
            orders=self.orders,
            lifecycle=self.lifecycle,
            status=self.state.status,
            gates=self.gates,
            synced=self.synced,
        )
