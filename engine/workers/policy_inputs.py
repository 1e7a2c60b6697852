"""Policy's results as the kernel's inputs (market-making §3): phase, sides, spread, size, anchor.

Writes: kernel inputs.
"""

from __future__ import annotations

from typing import Final

from engine._native import lib
from engine.events import Side
from engine.quoting import defence, oracle, scaling
from engine.quoting.inventory import Stock
from engine.quoting.oracle import OracleView
from engine.quoting.scaling import Scale
from engine.workers.clock import Clock
from engine.workers.market_kernel import MarketKernel
from engine.workers.market_terms import TermsInForce
from engine.workers.policy_defence import MarketDefence
from engine.workers.policy_gates import MarketGates
from engine.workers.policy_phase import MarketPhase

_SIDE_BITS: Final = {Side.BID: lib.QUOTE_SIDES_BID, Side.ASK: lib.QUOTE_SIDES_ASK}


class PolicyInputs:
    """One market's. ``size_scale`` is what the time to the end and known events leave of the size."""

    def __init__(
        self,
        *,
        terms: TermsInForce,
        kernel: MarketKernel,
        phase: MarketPhase,
        gates: MarketGates,
        defence: MarketDefence,
        learned: bool,
    ) -> None:
        """``learned``: the posterior is a predecessor's, so that no oracle sets its start."""
        self._terms: Final = terms
        self._kernel: Final = kernel
        self._phase: Final = phase
        self._gates: Final = gates
        self._defence: Final = defence
        self._unlearned = not learned
        self._scale = Scale()
        inputs = kernel.inputs
        inputs.phase = int(phase.current)
        inputs.sides = lib.QUOTE_SIDES_BOTH
        inputs.spread_multiplier = inputs.size_scale = 1.0
        inputs.anchor_cents = float(terms.config.quote.initial_price_cents)
        # as below: phase, sides, one_side, multiplier, discount, size, anchor
        initial_cents = terms.config.quote.initial_price_cents
        self._written: tuple[float, ...] = (inputs.phase, inputs.sides, 0, 1.0, 0, 1.0, initial_cents)

    @property
    def size_scale(self) -> float:
        return self._scale.size

    def write(self, clock: Clock, stock: Stock, view: OracleView) -> bool:
        """True when an input changed."""
        quote, inputs, state = self._terms.config.quote, self._kernel.inputs, self._defence.state
        self._scale = scaling.time_to_end(inputs.trading_end_ms - clock.unix_ms)
        if quote.event_times:
            shield = scaling.event_shield(clock.unix_ms, quote.event_times, quote)
            self._scale = self._scale.with_(shield)
        anchor = oracle.fresh_price_cents(view, quote, clock.mono_ms) if view.configured else None
        if anchor is not None:
            self._learn_from(anchor)
        wanted: tuple[float, ...] = (
            self._phase.state.phase,
            self._sides(stock),
            self._defence.is_one_side,
            max(state.multiplier, self._scale.spread),
            state.discount_cents,
            self._scale.size,
            quote.initial_price_cents if anchor is None else anchor,
        )
        if wanted == self._written:
            return False
        self._written = wanted
        (
            inputs.phase,
            inputs.sides,
            inputs.one_side,
            inputs.spread_multiplier,
            inputs.discount_cents,
            inputs.size_scale,
            inputs.anchor_cents,
        ) = wanted
        return True

    def _sides(self, stock: Stock) -> int:
        sides = lib.QUOTE_SIDES_BOTH
        if self._defence.is_one_side:
            sides = defence.reducing_sides(stock.yes_volume, stock.no_volume)
        gap_side = self._gates.state.gap_side
        return int(sides if gap_side is None else sides & ~_SIDE_BITS[gap_side])

    def _learn_from(self, anchor_cents: int) -> None:
        """§3.3: the posterior starts at A, and A may be an oracle's that speaks only after the start."""
        if self._unlearned:
            self._unlearned = False
            if not self._kernel.trades.price_count:
                self._kernel.trades.posterior_cents = float(anchor_cents)
