"""The defence level of a market and the toxicity it is judged by (market-making §5.1).

Reads: the kernel's fair price and trades.  Writes: nothing shared; policy saves the level.
"""

from __future__ import annotations

from typing import Final

from msgspec import structs

from engine.alerts import Alert, Alerts, Severity
from engine.events import DefenseLevel
from engine.quoting import defence, oracle, toxicity
from engine.quoting.defence import DefenceInputs, DefenceState, WidenSource
from engine.quoting.inventory import Stock
from engine.quoting.oracle import OracleView
from engine.quoting.toxicity import Vpin
from engine.quoting.transitions import DEFENCE, DefenceEvent, step
from engine.workers.clock import Clock
from engine.workers.market_kernel import MarketKernel
from engine.workers.market_terms import TermsInForce

_SEVERITY: Final = {
    DefenseLevel.NORMAL: Severity.INFO,
    DefenseLevel.WIDEN: Severity.INFO,
    DefenseLevel.ONE_SIDE: Severity.WARNING,
    DefenseLevel.KILL_SWITCH: Severity.CRITICAL,
}


class MarketDefence:
    """One market's."""

    def __init__(self, *, terms: TermsInForce, kernel: MarketKernel, alert: Alerts) -> None:
        self.state = DefenceState()
        self.vpin = Vpin()
        self._terms: Final = terms
        self._kernel: Final = kernel
        self._alert: Final = alert

    @property
    def level(self) -> DefenseLevel:
        return self.state.level

    @property
    def is_one_side(self) -> bool:
        """D8: only what reduces the position may be quoted."""
        return self.state.level == DefenseLevel.ONE_SIDE

    def advance(self, clock: Clock, stock: Stock, view: OracleView, *, killed: bool, cycle: bool) -> None:
        """``cycle``: a timed cycle; only those count as calm ones."""
        quote, before = self._terms.config.quote, self.state
        seen = self._kernel.tape.window(count=quote.vpin_window)
        self.vpin = toxicity.vpin(
            trades=seen.trades, shares=seen.lots, sold_shares=seen.sell_lots, window=quote.vpin_window
        )
        stale = view.configured and oracle.is_stale(view, quote, clock.mono_ms)
        if stale and not before.sources & WidenSource.ORACLE_STALE:
            self._alert(Alert.ORACLE_STALE, Severity.WARNING, market=self._terms.config.id)
        self.state = defence.advance(
            before,
            DefenceInputs(
                yes_volume=stock.yes_volume,
                no_volume=stock.no_volume,
                fair_price_cents=self._kernel.fair.fair_price_cents if self._kernel.ready else 50,
                vpin_imbalance=self.vpin.imbalance_shares,
                vpin_volume=self.vpin.volume_shares,
                oracle_stale=stale,
                killed=killed,
            ),
            quote,
            cycle=cycle,
        )
        if self.state.level != before.level:
            self._alert(
                Alert.DEFENSE_LEVEL,
                _SEVERITY[self.state.level],
                market=self._terms.config.id,
                before=before.level.name,
                now=self.state.level.name,
                skew=round(self._kernel.fair.inventory_skew, 4),
                multiplier=self.state.multiplier,
            )

    def kill(self) -> None:
        """KILL_SWITCH, from wherever it stands."""
        if self.state.level != DefenseLevel.KILL_SWITCH:
            level = step(DEFENCE, self.state.level, DefenceEvent.KILL)
            self.state = structs.replace(self.state, level=level, multiplier=1.0, discount_cents=0)

    def resume(self) -> None:
        """The switch is open: the next look escalates at once where values ask for it."""
        self.state = defence.resumed(self.state)
