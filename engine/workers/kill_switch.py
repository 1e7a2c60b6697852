"""A market's kill switch (market-making §5.2): causes are latched; only a resume opens it, if none holds.

Reads: kill words.  Writes: RISK in its market's kill word.
"""

from __future__ import annotations

from typing import Final

from engine._native import lib
from engine.alerts import Alert, Alerts, Severity
from engine.arena import Arena
from engine.events import KillCause, Lifecycle
from engine.quoting import kills
from engine.quoting.kills import KillEvidence
from engine.workers.clock import Clock
from engine.workers.market_kernel import MarketKernel
from engine.workers.market_terms import TermsInForce
from engine.workers.policy_defence import MarketDefence
from engine.workers.policy_gates import MarketGates
from engine.workers.policy_money import MarketMoney
from engine.workers.policy_phase import MarketPhase
from engine.workers.policy_standing import Standing

_NOTHING: Final = KillCause(0)
_JUDGED: Final = (Lifecycle.RUNNING, Lifecycle.EMERGENCY)


class KillSwitch:
    """``causes``: latched; 0 while the switch is open."""

    def __init__(
        self,
        *,
        arena: Arena,
        slot: int,
        causes: KillCause,
        terms: TermsInForce,
        kernel: MarketKernel,
        money: MarketMoney,
        phase: MarketPhase,
        gates: MarketGates,
        defence: MarketDefence,
        alert: Alerts,
    ) -> None:
        """``causes``: a predecessor's."""
        self.causes = causes
        self._global_word: Final = arena.kill_global()
        self._word: Final = arena.kill_market(slot)
        self._terms: Final = terms
        self._kernel: Final = kernel
        self._money: Final = money
        self._phase: Final = phase
        self._gates: Final = gates
        self._defence: Final = defence
        self._alert: Final = alert
        self._admin_granted = False  # a resume was granted, and ADMIN is still to be lowered
        if causes:
            self._raise_word()
            defence.kill()

    def words(self) -> int:
        """KILL_* bits in force: the market's and the global ones."""
        return int(lib.cell_load(self._global_word) | lib.cell_load(self._word))

    @property
    def resumes_by_itself(self) -> bool:
        """D15, but for the market's status, which the owner knows."""
        return self.causes == KillCause.MARKET_SUSPENDED

    def look(self, clock: Clock, standing: Standing) -> None:
        """Latches what holds now."""
        found = self._holding(clock, standing)
        if standing.lifecycle in _JUDGED:
            self.kill(found)

    def kill(self, found: KillCause) -> None:
        """Latches causes: nothing is sent from here on. The flag comes before everything else."""
        if not found:
            return
        new = found & ~self.causes
        self.causes |= found
        if not new:
            return
        if new & KillCause.GATE_TIMEOUT:
            self._alert(
                Alert.GATE_HELD,
                Severity.CRITICAL,
                market=self._terms.config.id,
                gates=self._gates.held.name,
            )
        self._raise_word()
        self._defence.kill()
        money, fair = self._money.now, self._kernel.fair
        self._alert(
            Alert.KILL_SWITCH,
            Severity.WARNING if new == KillCause.MARKET_SUSPENDED else Severity.CRITICAL,
            market=self._terms.config.id,
            causes=self.causes.name,
            fair_price_cents=int(fair.fair_price_cents),
            skew=round(fair.inventory_skew, 4),
            daily_pnl_cents=None if money is None else money.daily_pnl_cents,
            assets_cents=None if money is None else money.assets_cents,
        )

    def resume(self, clock: Clock, standing: Standing, *, reason: str) -> KillCause:
        """Opens the switch unless a cause still holds; those that do, or none.

        After a loss the market starts wide (D3). The kill word stays up, and with it a gate, until the
        supervisor lowers it.
        """
        refused = self._holding(clock, standing) & ~KillCause.ADMIN
        if lib.cell_load(self._global_word) & lib.KILL_ADMIN:
            refused |= KillCause.ADMIN
        market = self._terms.config.id
        if refused:
            self._alert(
                Alert.KILL_REFUSED_RESUME,
                Severity.WARNING,
                market=market,
                causes=refused.name,
                reason=reason,
            )
            return refused
        if self.causes & kills.LOSS_CAUSES:
            self._phase.restart(clock)
        self._alert(Alert.RESUMED, Severity.WARNING, market=market, causes=self.causes.name, reason=reason)
        self.causes = KillCause(0)
        self._defence.resume()
        self._gates.stop_timers()
        self._admin_granted = True
        return KillCause(0)

    def _raise_word(self) -> None:
        """A suspension alone ends by itself (D15), so it is no matter for whoever lowers kill words."""
        if self.causes & ~KillCause.MARKET_SUSPENDED:
            lib.cell_or(self._word, lib.KILL_RISK)

    def _holding(self, clock: Clock, standing: Standing) -> KillCause:
        """Causes that hold by the values of now, latched or not."""
        config, kernel = self._terms.config, self._kernel
        quote = config.quote
        found = _NOTHING
        admin = bool(lib.cell_load(self._word) & lib.KILL_ADMIN)
        self._admin_granted &= admin
        if admin and not self._admin_granted:
            found |= KillCause.ADMIN
        if standing.lifecycle not in _JUDGED:
            return found
        causes = kills.causes(
            KillEvidence(
                yes_volume=standing.stock.yes_volume,
                no_volume=standing.stock.no_volume,
                money=self._money.now,
                jump=kernel.tape.price_range(since_ms=clock.unix_ms - quote.price_jump_window_ms),
                fair_price_cents=kernel.fair.fair_price_cents if kernel.ready else 50,
                lvr_repeats=self._gates.lvr_repeats,
                negative_available=standing.negative_available,
                gate_timed_out=self._gates.timed_out(clock),
                status=standing.status,
            ),
            quote,
        )
        if not causes:
            return found
        # a price alone never kills a market whose configuration says so: a recording that runs to its end
        for name in config.spared_kills:
            causes &= ~KillCause[name]
        return found | causes
