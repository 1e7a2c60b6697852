"""A market's gates and what they are judged by (market-making §5.3): feed, venue calls, fills, oracle, Redis.

Reads: feed row, counters of gateway and writer.  Writes: nothing shared; policy saves a velocity lock.
"""

from __future__ import annotations

from typing import Final

from engine._native import ffi, lib
from engine.arena import Arena, cell
from engine.events import Gate, GatewayCounter, Lifecycle, MarketStatus, Side, WriterCounter
from engine.quoting import gates, oracle, toxicity
from engine.quoting.gates import Calls, CallWindow, GateEvidence, GateState
from engine.quoting.oracle import OracleView
from engine.quoting.toxicity import LvrState, OwnFill
from engine.workers.clock import Clock
from engine.workers.market_kernel import MarketKernel
from engine.workers.market_terms import TermsInForce
from engine.workers.policy_standing import Standing

_NS_PER_MS: Final = 1_000_000
_QUIET_FEED_NS: Final = 10_000_000_000  # an older message says nothing of the feed's latency now


def next_release_ns(state: GateState) -> int | None:
    """Monotonic time at which a gate with a fixed end opens; None while there is none."""
    release_ms = gates.next_release_ms(state) if state.held else None
    return None if release_ms is None else release_ms * _NS_PER_MS


class MarketGates:
    """One market's; what happens between two looks is noted and judged at the next."""

    def __init__(
        self,
        *,
        arena: Arena,
        slot: int,
        terms: TermsInForce,
        kernel: MarketKernel,
        state: GateState,
        redis_pause_ms: int,
    ) -> None:
        self.state = state
        self._terms: Final = terms
        self._kernel: Final = kernel
        self._snapshot_word: Final = cell(arena.market(slot).feed, "snapshot_mono_ns")
        counters = arena.process(lib.PROCESS_GATEWAY).counters
        self._requests: Final = counters[GatewayCounter.REQUESTS]
        self._errors: Final = counters[GatewayCounter.ERRORS]
        writer_row = arena.process(lib.PROCESS_WRITER)
        self._written_word: Final = ffi.addressof(writer_row.counters[WriterCounter.WRITTEN_MONO_NS])
        self._redis_pause_ns: Final = redis_pause_ms * _NS_PER_MS
        self._calls = CallWindow()
        self._lvr = LvrState()
        self._lvr_fell = False
        self._last_fill_ms: int | None = None

    @property
    def held(self) -> Gate:
        return self.state.held

    @property
    def next_release_ns(self) -> int | None:
        """Monotonic time at which a gate with a fixed end opens; None while there is none."""
        return next_release_ns(self.state)

    @property
    def lvr_repeats(self) -> bool:
        """§5.2 LVR_REPEAT."""
        return toxicity.repeats(self._lvr, self._terms.config.quote)

    def timed_out(self, clock: Clock) -> bool:
        """A transient gate is held for too long."""
        return bool(self.state.timed_out(clock.mono_ms))

    def stop_timers(self) -> None:
        """A market that does not run is not held up by its gates."""
        self.state = gates.without_timers(self.state)

    def filled(self, *, side: Side, shares: int, venue_unix_ms: int, clock: Clock) -> None:
        """One own fill that is being booked."""
        self._last_fill_ms = clock.mono_ms
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
            quote=self._terms.config.quote,
            now_ms=newest_ms,
        )
        self._lvr_fell |= fell

    def advance(self, clock: Clock, standing: Standing, view: OracleView, *, kill_word: int) -> None:
        """``kill_word``: the bits in force for the market."""
        quote = self._terms.config.quote
        self._lvr = toxicity.pruned(self._lvr, quote, clock.unix_ms)
        evidence = self._evidence(clock, standing, view, kill_word)
        self._last_fill_ms, self._lvr_fell = None, False
        self.state = gates.advance(self.state, evidence, quote, now_ms=clock.mono_ms)
        if standing.lifecycle != Lifecycle.RUNNING:
            self.stop_timers()

    def _evidence(self, clock: Clock, standing: Standing, view: OracleView, kill_word: int) -> GateEvidence:
        native, quote, fair = self._kernel.native, self._terms.config.quote, self._kernel.fair
        self._calls = gates.observed(
            self._calls,
            Calls(
                requests=int(self._requests.value),
                errors=int(self._errors.value),
            ),
        )
        snapshot_ns = int(lib.cell_load(self._snapshot_word))
        quiet = clock.mono_ns - native.link_mono_ns > _QUIET_FEED_NS
        return GateEvidence(
            book_valid=bool(native.book_valid),
            link_down_ms=0 if native.link_up else (clock.mono_ns - native.link_mono_ns) // _NS_PER_MS,
            snapshot_age_ms=(clock.mono_ns - snapshot_ns) // _NS_PER_MS if snapshot_ns else None,
            feed_latency_ms=None if quiet else self._kernel.feed_latency_ms(clock),
            calls=self._calls.recent(),
            own_fill_ms=self._last_fill_ms,
            lvr_fell=self._lvr_fell,
            oracle_deviates=view.configured
            and self._kernel.ready
            and oracle.deviates(
                view, fair_price_cents=fair.fair_price_cents, sigma_cents=fair.sigma_cents, quote=quote
            ),
            oracle_gap_side=oracle.gap_side(view, quote) if view.configured else None,
            inventory_confirmed=standing.confirmed and standing.lifecycle == Lifecycle.RUNNING,
            kill_word=bool(kill_word),
            market_active=standing.status == MarketStatus.ACTIVE,
            redis_lost=self._redis_is_lost(clock),
        )

    def _redis_is_lost(self, clock: Clock) -> bool:
        """No writer has had the newest rows acknowledged for too long; before the first writer nothing is."""
        written_ns = int(lib.cell_load(self._written_word))
        return bool(written_ns) and clock.mono_ns - written_ns > self._redis_pause_ns
