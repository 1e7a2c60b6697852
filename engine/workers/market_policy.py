"""One market's policy between its prices and its orders: phase, defence, gates, kills, money (§3, cycle).

Every rule is pure and lives in ``engine/quoting``; the parts here feed them with what the worker sees, in the
order of the specification, and :class:`PolicyInputs` makes their results the kernel's inputs. What survives a
restart is read back from the state row.

Reads: kill words, and what its parts read.  Writes: kernel inputs; RISK in its market's kill word.
"""

from __future__ import annotations

from typing import Any, Final

from engine._native import lib
from engine.alerts import Alerts
from engine.arena import Arena
from engine.events import KillCause, Side
from engine.quoting.oracle import OracleView
from engine.workers import policy_memory
from engine.workers.clock import Clock
from engine.workers.kill_switch import KillSwitch
from engine.workers.market_kernel import MarketKernel
from engine.workers.market_terms import TermsInForce
from engine.workers.policy_defence import MarketDefence
from engine.workers.policy_gates import MarketGates
from engine.workers.policy_inputs import PolicyInputs
from engine.workers.policy_money import MarketMoney
from engine.workers.policy_phase import MarketPhase
from engine.workers.policy_standing import Standing

_NO_ORACLE: Final = OracleView()
_BOOK_NEWS: Final = int(lib.PASS_BOOK | lib.PASS_TARGET)


class MarketPolicy:
    """Owned by one QuotedMarket; not thread safe."""

    def __init__(
        self,
        *,
        arena: Arena,
        slot: int,
        terms: TermsInForce,
        kernel: MarketKernel,
        state: Any,
        alert: Alerts,
        redis_pause_ms: int,
        clock: Clock,
    ) -> None:
        """``state`` is the market's ``quoter_state_t *`` as its predecessor left it."""
        self._terms: Final = terms
        self._kernel: Final = kernel
        self.money: Final = MarketMoney(
            terms=terms, kernel=kernel, ledger=policy_memory.ledger(state), alert=alert
        )
        self.phase: Final = MarketPhase(
            terms=terms, tape=kernel.tape, state=policy_memory.phase(state, clock.unix_ms), alert=alert
        )
        self.gates: Final = MarketGates(
            arena=arena,
            slot=slot,
            terms=terms,
            kernel=kernel,
            state=policy_memory.gates(state, clock),
            redis_pause_ms=redis_pause_ms,
        )
        self.defence: Final = MarketDefence(terms=terms, kernel=kernel, alert=alert)
        self.kills: Final = KillSwitch(
            arena=arena,
            slot=slot,
            causes=KillCause(state.kill_causes),
            terms=terms,
            kernel=kernel,
            money=self.money,
            phase=self.phase,
            gates=self.gates,
            defence=self.defence,
            alert=alert,
        )
        self._inputs: Final = PolicyInputs(
            terms=terms,
            kernel=kernel,
            phase=self.phase,
            gates=self.gates,
            defence=self.defence,
            learned=bool(state.posterior),
        )
        self._seen_words = -1
        self._seen_fair_cents = -1

    def own_fill(
        self, *, side: Side, price_cents: int, shares: int, fee_cents: int, venue_unix_ms: int, clock: Clock
    ) -> None:
        """One own fill that is being booked."""
        self.money.filled(side=side, price_cents=price_cents, shares=shares, fee_cents=fee_cents)
        self.gates.filled(side=side, shares=shares, venue_unix_ms=venue_unix_ms, clock=clock)

    def is_due(self, clock: Clock) -> bool:
        """Whether anything that policy rests on changed: prices, news of the feed, kill words, a release."""
        release_ns = self.gates.next_release_ns
        return (
            bool(self._kernel.native.news & ~_BOOK_NEWS)
            or self._kernel.fair.fair_price_cents != self._seen_fair_cents
            or self.kills.words() != self._seen_words
            or (release_ns is not None and clock.mono_ns >= release_ns)
        )

    def look(self, clock: Clock, standing: Standing, *, cycle: bool) -> bool:
        """Money, phase, gates, kills and defence by the values of now; True when the kernel's inputs changed.

        ``cycle``: a timed cycle; only those count as calm ones.
        """
        stock, oracle = standing.stock, _NO_ORACLE
        if self._terms.config.oracle is not None:
            oracle = self._kernel.take_oracle()
        self._seen_fair_cents = self._kernel.fair.fair_price_cents
        self._seen_words = self.kills.words()
        self.money.mark(clock, standing)
        self.phase.advance(clock, standing.lifecycle, self.money.now)
        self.gates.advance(clock, standing, oracle, kill_word=self._seen_words)
        self.kills.look(clock, standing)
        self.defence.advance(clock, stock, oracle, killed=bool(self.kills.causes), cycle=cycle)
        return self._inputs.write(clock, stock, oracle)

    def save(self, state: Any, clock: Clock) -> None:
        """Writes what a successor and the readers of the state row need."""
        policy_memory.save(
            state,
            clock,
            phase=self.phase.state,
            defence=self.defence.state,
            gates=self.gates.state,
            ledger=self.money.ledger,
            money=self.money.now,
            causes=self.kills.causes,
        )
        inputs = self._kernel.inputs
        state.vpin, state.size_scale = self.defence.vpin.value, self._inputs.size_scale
        state.sides, state.one_side = inputs.sides, inputs.one_side
