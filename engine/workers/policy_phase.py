"""The phase of a market's quoting and its clock (market-making §4).

Reads: the market's trades.  Writes: nothing shared; policy saves the phase.
"""

from __future__ import annotations

from typing import Final

from engine.alerts import Alert, Alerts, Severity
from engine.events import Lifecycle, Phase
from engine.quoting import phases
from engine.quoting.kills import Money
from engine.quoting.phases import ROLLBACK_WINDOW_MS, PhaseEvidence, PhaseState
from engine.quoting.trade_window import PriceRange
from engine.quoting.transitions import PhaseReason
from engine.workers.clock import Clock
from engine.workers.market_terms import TermsInForce
from engine.workers.trade_tape import TradeTape


class MarketPhase:
    """One market's."""

    def __init__(self, *, terms: TermsInForce, tape: TradeTape, state: PhaseState, alert: Alerts) -> None:
        self.state = state
        self._terms: Final = terms
        self._tape: Final = tape
        self._alert: Final = alert
        self._trades_seen = tape.count

    @property
    def current(self) -> Phase:
        return self.state.phase

    def advance(self, clock: Clock, lifecycle: Lifecycle, money: Money | None) -> None:
        """Counts the trades since the last look; while the market runs, moves on or rolls back."""
        tape, quote, now_ms = self._tape, self._terms.config.quote, clock.unix_ms
        new = tape.count - self._trades_seen
        if new:
            self._trades_seen = tape.count
            self.state = phases.traded(self.state, tape.window(count=new).lots)
        if lifecycle != Lifecycle.RUNNING or money is None:
            return
        stable = self.state.phase == Phase.STABILIZATION
        window_ms = ROLLBACK_WINDOW_MS if stable else quote.exploration.price_stability_window_ms
        prices = tape.price_range(since_ms=phases.window_since_ms(self.state, window_ms, now_ms))
        seen = PhaseEvidence(
            stability=PriceRange() if stable else prices,
            rollback=prices if stable else PriceRange(),
            daily_pnl_cents=money.daily_pnl_cents,
        )
        after = phases.advance(self.state, seen, quote, now_ms=now_ms)
        if after is not self.state:
            self._become(after)

    def restart(self, clock: Clock) -> None:
        """After a loss the market starts wide (D3)."""
        self._become(phases.restart_exploration(self.state, self._terms.config.quote, now_ms=clock.unix_ms))

    def _become(self, after: PhaseState) -> None:
        if after.phase != self.state.phase:
            change = after.log[-1]
            rolled_back = change.reason == PhaseReason.EMERGENCY_ROLLBACK
            self._alert(
                Alert.PHASE_ROLLBACK if rolled_back else Alert.PHASE_CHANGED,
                Severity.WARNING if rolled_back else Severity.INFO,
                market=self._terms.config.id,
                from_phase=change.from_phase.name,
                to_phase=change.to_phase.name,
                reason=change.reason.name,
            )
        self.state = after
