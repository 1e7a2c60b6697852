"""One market's policy between its prices and its orders: phase, defence, gates, kills, money (§3, cycle).

Every rule is pure and lives in ``engine/quoting``; here they are fed with what the worker sees, in the order
of the specification, and their results become the kernel's inputs. What survives a restart is read back from
the state row.

Reads: feed row, gateway's counters, kill words. Writes: kernel inputs; raises RISK in its market's kill word.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct, structs

from engine._native import ffi, lib
from engine.alerts import Alert, Alerts, Severity
from engine.arena import Arena, cell
from engine.config import MarketConfig
from engine.events import (
    DefenseLevel,
    Gate,
    GatewayCounter,
    KillCause,
    Lifecycle,
    MarketStatus,
    Phase,
    Side,
    WriterCounter,
)
from engine.quoting import budget, defence, gates, kills, oracle, phases, scaling, toxicity
from engine.quoting.budget import Ledger
from engine.quoting.defence import DefenceInputs, DefenceState, WidenSource
from engine.quoting.gates import Calls, CallWindow, GateEvidence, GateState
from engine.quoting.inventory import Stock
from engine.quoting.kills import KillEvidence, Money
from engine.quoting.oracle import OracleView
from engine.quoting.phases import ROLLBACK_WINDOW_MS, PhaseEvidence, PhaseState
from engine.quoting.scaling import Scale
from engine.quoting.toxicity import LvrState, OwnFill, Vpin
from engine.quoting.trade_window import PriceRange
from engine.quoting.transitions import DEFENCE, DefenceEvent, PhaseReason, step
from engine.workers import policy_memory
from engine.workers.clock import Clock
from engine.workers.market_kernel import MarketKernel

_NS_PER_MS: Final = 1_000_000
_QUIET_FEED_NS: Final = 10_000_000_000  # an older message says nothing of the feed's latency now
_SIDE_BITS: Final = {Side.BID: lib.QUOTE_SIDES_BID, Side.ASK: lib.QUOTE_SIDES_ASK}
_LEVEL_SEVERITY: Final = {
    DefenseLevel.NORMAL: Severity.INFO,
    DefenseLevel.WIDEN: Severity.INFO,
    DefenseLevel.ONE_SIDE: Severity.WARNING,
    DefenseLevel.KILL_SWITCH: Severity.CRITICAL,
}


class Standing(Struct, frozen=True, kw_only=True):
    """What the market's owner tells policy at each look."""

    stock: Stock
    lifecycle: Lifecycle
    status: MarketStatus
    synced: bool  # stock and orders are the venue's
    confirmed: bool  # synced, and no order of unknown outcome on both sides
    negative_available: bool  # more shares for sale than held, after a reconciliation, still


class MarketPolicy:
    """Owned by one QuotedMarket; not thread safe."""

    def __init__(
        self,
        *,
        arena: Arena,
        slot: int,
        config: MarketConfig,
        kernel: MarketKernel,
        state: Any,
        alert: Alerts,
        redis_pause_ms: int,
        clock: Clock,
    ) -> None:
        """``state`` is the market's ``quoter_state_t *`` as its predecessor left it."""
        self.config = config
        self._slot: Final = slot
        self._kernel: Final = kernel
        self._alert: Final = alert
        self._feed_row: Final = arena.market(slot).feed
        self._gateway_row: Final = arena.process(lib.PROCESS_GATEWAY)
        writer_row = arena.process(lib.PROCESS_WRITER)
        self._written_word: Final = ffi.addressof(writer_row.counters[WriterCounter.WRITTEN_MONO_NS])
        self._redis_pause_ns: Final = redis_pause_ms * _NS_PER_MS
        self._global_word: Final = arena.kill_global()
        self._word: Final = arena.kill_market(slot)
        self.phase: PhaseState = policy_memory.phase(state, clock.unix_ms)
        self.ledger: Ledger | None = policy_memory.ledger(state)
        self._unlearned = not state.posterior  # no posterior of a predecessor's, and no oracle has spoken
        self._reopened = self.ledger is not None  # it was a predecessor's
        self.causes = KillCause(state.kill_causes)
        self.defence = DefenceState()
        self.gates: GateState = policy_memory.gates(state, clock)
        self.scale = Scale()
        self.vpin = Vpin()
        self.money: Money | None = None
        self._lvr = LvrState()
        self._lvr_fell = False
        self._last_fill_ms: int | None = None
        self._calls = CallWindow()
        self._trades_seen = kernel.tape.count
        self._near = KillCause(0)
        self._flows_cents = 0 if self.ledger is None else self.ledger.flows_cents
        self._admin_granted = False  # a resume was granted, and ADMIN is still to be lowered
        self._killed_word = -1
        self._seen_fair = -1
        inputs = kernel.inputs
        inputs.phase = int(self.phase.phase)
        inputs.sides = lib.QUOTE_SIDES_BOTH
        inputs.spread_multiplier = inputs.size_scale = 1.0
        inputs.anchor_cents = float(config.quote.initial_price_cents)
        if self.causes:
            self._raise_word()
            self.defence = structs.replace(self.defence, level=DefenseLevel.KILL_SWITCH)

    # ---- what happens between two looks ------------------------------------------------------

    def own_fill(
        self, *, side: Side, price_cents: int, shares: int, fee_cents: int, venue_unix_ms: int, clock: Clock
    ) -> None:
        """One own fill that is being booked."""
        if self.ledger is not None and not self._reopened:
            self.ledger = budget.filled(
                self.ledger, side=side, price_cents=price_cents, shares=shares, fee_cents=fee_cents
            )
        self._last_fill_ms = clock.mono_ns // _NS_PER_MS
        self._lvr = toxicity.filled(
            self._lvr, OwnFill(time_ms=venue_unix_ms or clock.unix_ms, side=side, shares=shares)
        )

    def velocity(self, resting_bid_shares: int, resting_ask_shares: int) -> None:
        """After a fill was taken off its order: how much of a side went, by the fills' own times."""
        if not self._lvr.fills:
            return
        newest_ms = max(fill.time_ms for fill in self._lvr.fills)
        self._lvr, fell = toxicity.watch(
            self._lvr,
            resting_bid_shares=resting_bid_shares,
            resting_ask_shares=resting_ask_shares,
            quote=self.config.quote,
            now_ms=newest_ms,
        )
        self._lvr_fell |= fell

    def corrected(self, before: Stock, after: Stock) -> None:
        """Stock became what the venue says, without a trade."""
        if self.ledger is not None and not self._reopened:
            self.ledger = budget.corrected(self.ledger, before, after)

    def flows_are(self, total_cents: int) -> int:
        """What operators have put in so far, less what they took out; the part that is news (§5.5)."""
        known_cents = self._flows_cents if self.ledger is None else self.ledger.flows_cents
        self._flows_cents = total_cents
        if self.ledger is not None:
            self.ledger = budget.flowed(self.ledger, total_cents - known_cents)
        return total_cents - known_cents

    # ---- one look ----------------------------------------------------------------------------

    def is_due(self, clock: Clock) -> bool:
        """Whether anything that policy rests on changed: prices, news of the feed, kill words, a release."""
        native = self._kernel.native
        release_ms = gates.next_release_ms(self.gates)
        return (
            bool(native.news & ~(lib.PASS_BOOK | lib.PASS_TARGET))
            or self._kernel.fair.fair_price_cents != self._seen_fair
            or self._words() != self._killed_word
            or (release_ms is not None and clock.mono_ns >= release_ms * _NS_PER_MS)
        )

    def look(self, clock: Clock, standing: Standing, *, cycle: bool) -> bool:
        """Phase, defence, gates and kills from the values of now; True when the kernel's inputs changed.

        ``cycle``: a timed cycle; only those count as calm ones.
        """
        self._seen_fair = self._kernel.fair.fair_price_cents
        oracle_view = self._oracle()
        self._account(clock, standing)
        self._lvr = toxicity.pruned(self._lvr, self.config.quote, clock.unix_ms)
        self._advance_phase(clock, standing)
        self._advance_gates(clock, standing, oracle_view)
        self._latch(self.holding(clock, standing), standing)
        self._advance_defence(clock, standing, oracle_view, cycle=cycle)
        return self._set_inputs(clock, standing, oracle_view)

    def _now_ms(self, clock: Clock) -> int:
        return clock.mono_ns // _NS_PER_MS

    def _words(self) -> int:
        return int(lib.cell_load(self._global_word) | lib.cell_load(self._word))

    def _oracle(self) -> OracleView:
        """The kernel's view of the oracle; its moves are taken, so each is seen once."""
        if self.config.oracle is None:
            return OracleView()
        seen = self._kernel.oracle
        view = OracleView(
            configured=True,
            price_cents=None if seen.last_ticks == lib.ORACLE_NO_PRICE else int(seen.last_ticks),
            updated_ms=int(seen.recv_mono_ns) // _NS_PER_MS,
            rise_cents=int(seen.rise_ticks),
            fall_cents=int(seen.fall_ticks),
        )
        seen.rise_ticks = seen.fall_ticks = 0
        return view

    def _account(self, clock: Clock, standing: Standing) -> None:
        """Day, mark and money; nothing before the first price of confirmed stock (§5.5)."""
        fair = self._kernel.fair.fair_price_cents
        if not standing.synced or not self._kernel.ready:
            return
        day = budget.trading_day(clock.unix_ms, self.config.quote.day_reset_tz)
        if self.ledger is None:
            self.ledger = budget.opened(
                standing.stock, fair_price_cents=fair, day=day, flows_cents=self._flows_cents
            )
        if self._reopened:
            self._reopened = False
            self.ledger = budget.reopened(self.ledger, standing.stock, fair)
        self.ledger = budget.marked(self.ledger, standing.stock, fair)
        if self.ledger.day != day:
            self.ledger = budget.new_day(self.ledger, standing.stock, day=day)
        self.money = budget.money(self.ledger, standing.stock)
        near = kills.near_limits(self.money, self.config.quote)
        if near & ~self._near:
            self._alert(
                Alert.LIMIT_NEAR,
                Severity.WARNING,
                market=self.config.id,
                limits=(near & ~self._near).name,
                daily_pnl_cents=self.money.daily_pnl_cents,
                budget_used_cents=self.money.budget_used_cents,
            )
        self._near = near

    def _range(self, since_ms: int) -> PriceRange:
        window = self._kernel.tape.window(since_ms=since_ms)
        return PriceRange(
            trades=window.trades, low_cents=window.price_min_ticks, high_cents=window.price_max_ticks
        )

    def _advance_phase(self, clock: Clock, standing: Standing) -> None:
        tape, quote = self._kernel.tape, self.config.quote
        new = tape.count - self._trades_seen
        if new:
            self._trades_seen = tape.count
            self.phase = phases.traded(self.phase, int(tape.last(new)["lots"].sum()))
        if standing.lifecycle != Lifecycle.RUNNING or self.money is None:
            return
        now_ms, stability_ms = clock.unix_ms, quote.exploration.price_stability_window_ms
        seen = PhaseEvidence(
            stability=self._range(phases.window_since_ms(self.phase, stability_ms, now_ms)),
            rollback=self._range(phases.window_since_ms(self.phase, ROLLBACK_WINDOW_MS, now_ms)),
            daily_pnl_cents=self.money.daily_pnl_cents,
        )
        self._enter(phases.advance(self.phase, seen, quote, now_ms=now_ms))

    def _enter(self, after: PhaseState) -> None:
        if after.phase != self.phase.phase:
            change = after.log[-1]
            rolled_back = change.reason == PhaseReason.EMERGENCY_ROLLBACK
            self._alert(
                Alert.PHASE_ROLLBACK if rolled_back else Alert.PHASE_CHANGED,
                Severity.WARNING if rolled_back else Severity.INFO,
                market=self.config.id,
                from_phase=change.from_phase.name,
                to_phase=change.to_phase.name,
                reason=change.reason.name,
            )
        self.phase = after

    def _advance_gates(self, clock: Clock, standing: Standing, view: OracleView) -> None:
        native, quote, fair = self._kernel.native, self.config.quote, self._kernel.fair
        counters = self._gateway_row.counters
        self._calls = gates.observed(
            self._calls,
            Calls(
                requests=int(counters[GatewayCounter.REQUESTS].value),
                errors=int(counters[GatewayCounter.ERRORS].value),
            ),
        )
        snapshot_ns = int(lib.cell_load(cell(self._feed_row, "snapshot_mono_ns")))
        quiet = clock.mono_ns - native.link_mono_ns > _QUIET_FEED_NS
        evidence = GateEvidence(
            book_valid=bool(native.book_valid),
            link_down_ms=0 if native.link_up else (clock.mono_ns - native.link_mono_ns) // _NS_PER_MS,
            snapshot_age_ms=(clock.mono_ns - snapshot_ns) // _NS_PER_MS if snapshot_ns else None,
            feed_latency_ms=None if quiet else self._kernel.feed_latency_ms(clock),
            calls=self._calls.recent(),
            own_fill_ms=self._last_fill_ms,
            lvr_fell=self._lvr_fell,
            oracle_deviates=self._kernel.ready
            and oracle.deviates(
                view, fair_price_cents=fair.fair_price_cents, sigma_cents=fair.sigma_cents, quote=quote
            ),
            oracle_gap_side=oracle.gap_side(view, quote),
            inventory_confirmed=standing.confirmed and standing.lifecycle == Lifecycle.RUNNING,
            kill_word=bool(self._words()),
            market_active=standing.status == MarketStatus.ACTIVE,
            redis_lost=self._redis_is_lost(clock),
        )
        self._killed_word = self._words()
        self._last_fill_ms, self._lvr_fell = None, False
        self.gates = gates.advance(self.gates, evidence, quote, now_ms=self._now_ms(clock))
        if standing.lifecycle != Lifecycle.RUNNING:
            self.gates = gates.without_timers(self.gates)

    def _redis_is_lost(self, clock: Clock) -> bool:
        """No writer has had the newest rows acknowledged for too long; before the first writer nothing is."""
        written_ns = int(lib.cell_load(self._written_word))
        return bool(written_ns) and clock.mono_ns - written_ns > self._redis_pause_ns

    def _advance_defence(self, clock: Clock, standing: Standing, view: OracleView, *, cycle: bool) -> None:
        quote, fair = self.config.quote, self._kernel.fair
        seen = self._kernel.tape.window(count=quote.vpin_window)
        self.vpin = toxicity.vpin(
            trades=seen.trades, shares=seen.lots, sold_shares=seen.sell_lots, window=quote.vpin_window
        )
        before, stale = self.defence, oracle.is_stale(view, quote, self._now_ms(clock))
        if stale and not before.sources & WidenSource.ORACLE_STALE:
            self._alert(Alert.ORACLE_STALE, Severity.WARNING, market=self.config.id)
        self.defence = defence.advance(
            before,
            DefenceInputs(
                yes_volume=standing.stock.yes_volume,
                no_volume=standing.stock.no_volume,
                fair_price_cents=fair.fair_price_cents if self._kernel.ready else 50,
                vpin_imbalance=self.vpin.imbalance_shares,
                vpin_volume=self.vpin.volume_shares,
                oracle_stale=stale,
                killed=bool(self.causes),
            ),
            quote,
            cycle=cycle,
        )
        if self.defence.level != before.level:
            self._alert(
                Alert.DEFENSE_LEVEL,
                _LEVEL_SEVERITY[self.defence.level],
                market=self.config.id,
                before=before.level.name,
                now=self.defence.level.name,
                skew=round(fair.inventory_skew, 4),
                multiplier=self.defence.multiplier,
            )

    def _set_inputs(self, clock: Clock, standing: Standing, view: OracleView) -> bool:
        """Phase, sides, multiplier, discount, size and anchor as the kernel wants them."""
        quote, inputs = self.config.quote, self._kernel.inputs
        self.scale = scaling.time_to_end(inputs.trading_end_ms - clock.unix_ms).with_(
            scaling.event_shield(clock.unix_ms, quote.event_times, quote)
        )
        one_side = self.defence.level == DefenseLevel.ONE_SIDE
        stock = standing.stock
        sides = (
            defence.reducing_sides(stock.yes_volume, stock.no_volume) if one_side else lib.QUOTE_SIDES_BOTH
        )
        if self.gates.gap_side is not None:
            sides &= ~_SIDE_BITS[self.gates.gap_side]
        anchor = oracle.fresh_price_cents(view, quote, self._now_ms(clock))
        wanted = {
            "phase": int(self.phase.phase),
            "sides": sides,
            "one_side": int(one_side),
            "spread_multiplier": max(self.defence.multiplier, self.scale.spread),
            "discount_cents": float(self.defence.discount_cents),
            "size_scale": self.scale.size,
            "anchor_cents": float(quote.initial_price_cents if anchor is None else anchor),
        }
        if self._unlearned and anchor is not None:
            # §3.3: the posterior starts at A, and A may be an oracle's that speaks only after the start
            self._unlearned = False
            if not self._kernel.trades.price_count:
                self._kernel.trades.posterior_cents = float(anchor)
        changed = False
        for name, value in wanted.items():
            if getattr(inputs, name) != value:
                setattr(inputs, name, value)
                changed = True
        return changed

    # ---- kill and resume ---------------------------------------------------------------------

    def holding(self, clock: Clock, standing: Standing) -> KillCause:
        """Causes that hold by the values of now, latched or not."""
        quote, kernel = self.config.quote, self._kernel
        found = KillCause(0)
        admin = bool(lib.cell_load(self._word) & lib.KILL_ADMIN)
        self._admin_granted &= admin
        if admin and not self._admin_granted:
            found |= KillCause.ADMIN
        if standing.lifecycle not in (Lifecycle.RUNNING, Lifecycle.EMERGENCY):
            return found
        # a price alone never kills a market whose configuration says so: a recording that runs to its end
        spared = KillCause(0)
        for name in self.config.spared_kills:
            spared |= KillCause[name]
        return found | ~spared & kills.causes(
            KillEvidence(
                yes_volume=standing.stock.yes_volume,
                no_volume=standing.stock.no_volume,
                money=self.money,
                jump=self._range(clock.unix_ms - quote.price_jump_window_ms),
                fair_price_cents=kernel.fair.fair_price_cents if kernel.ready else 50,
                lvr_repeats=toxicity.repeats(self._lvr, quote),
                negative_available=standing.negative_available,
                gate_timed_out=bool(self.gates.timed_out(self._now_ms(clock))),
                status=standing.status,
            ),
            quote,
        )

    def _latch(self, found: KillCause, standing: Standing) -> None:
        if standing.lifecycle in (Lifecycle.RUNNING, Lifecycle.EMERGENCY):
            self.kill(found)

    def kill(self, found: KillCause) -> None:
        """Latches causes: nothing is sent from here on. The flag comes before everything else."""
        new = found & ~self.causes
        self.causes |= found
        if not new:
            return
        if new & KillCause.GATE_TIMEOUT:
            self._alert(Alert.GATE_HELD, Severity.CRITICAL, market=self.config.id, gates=self.gates.held.name)
        self._raise_word()
        if self.defence.level != DefenseLevel.KILL_SWITCH:
            level = step(DEFENCE, self.defence.level, DefenceEvent.KILL)
            self.defence = structs.replace(self.defence, level=level, multiplier=1.0, discount_cents=0)
        money = self.money
        self._alert(
            Alert.KILL_SWITCH,
            Severity.WARNING if new == KillCause.MARKET_SUSPENDED else Severity.CRITICAL,
            market=self.config.id,
            causes=self.causes.name,
            fair_price_cents=int(self._kernel.fair.fair_price_cents),
            skew=round(self._kernel.fair.inventory_skew, 4),
            daily_pnl_cents=None if money is None else money.daily_pnl_cents,
            assets_cents=None if money is None else money.assets_cents,
        )

    def _raise_word(self) -> None:
        """A suspension alone ends by itself (D15), so it is no matter for whoever lowers kill words."""
        if self.causes & ~KillCause.MARKET_SUSPENDED:
            lib.cell_or(self._word, lib.KILL_RISK)

    @property
    def resumes_by_itself(self) -> bool:
        """D15, but for the market's status, which the owner knows."""
        return self.causes == KillCause.MARKET_SUSPENDED

    def resume(self, clock: Clock, standing: Standing, *, reason: str) -> KillCause:
        """Opens the kill switch unless a cause still holds; those that do, or none.

        After a loss the market starts wide (D3). The next look escalates at once where values ask for it. The
        kill word stays up, and with it a gate, until the supervisor lowers it.
        """
        refused = self.holding(clock, standing) & ~KillCause.ADMIN
        if lib.cell_load(self._global_word) & lib.KILL_ADMIN:
            refused |= KillCause.ADMIN
        if refused:
            self._alert(
                Alert.KILL_REFUSED_RESUME,
                Severity.WARNING,
                market=self.config.id,
                causes=refused.name,
                reason=reason,
            )
            return refused
        if self.causes & kills.LOSS_CAUSES:
            self._enter(phases.restart_exploration(self.phase, self.config.quote, now_ms=clock.unix_ms))
        self._alert(
            Alert.RESUMED, Severity.WARNING, market=self.config.id, causes=self.causes.name, reason=reason
        )
        self.causes = KillCause(0)
        self.defence = defence.resumed(self.defence)
        self.gates = gates.without_timers(self.gates)
        self._admin_granted = True
        return KillCause(0)

    # ---- for the others ----------------------------------------------------------------------

    @property
    def is_one_side(self) -> bool:
        return self.defence.level == DefenseLevel.ONE_SIDE

    @property
    def current_phase(self) -> Phase:
        return self.phase.phase

    @property
    def day(self) -> int:
        """Number of the trading day; 0 before the first baseline."""
        return 0 if self.ledger is None else self.ledger.day

    @property
    def next_release_ns(self) -> int | None:
        """Monotonic time at which a gate with a fixed end opens; None while there is none."""
        release_ms = gates.next_release_ms(self.gates)
        return None if release_ms is None else release_ms * _NS_PER_MS

    @property
    def held(self) -> Gate:
        return self.gates.held

    def save(self, state: Any, clock: Clock) -> None:
        """Writes what a successor and the readers of the state row need."""
        policy_memory.save(
            state,
            clock,
            phase=self.phase,
            defence=self.defence,
            gates=self.gates,
            ledger=self.ledger,
            money=self.money,
            causes=self.causes,
        )
        state.vpin, state.size_scale = self.vpin.value, self.scale.size
        state.sides, state.one_side = self._kernel.inputs.sides, self._kernel.inputs.one_side
