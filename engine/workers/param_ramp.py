"""A reload's ramps on the kernel's parameters (market-making §10): half-spreads and gamma, nothing else."""

from __future__ import annotations

from engine._native import lib
from engine.quoting.pricing import NativeParams
from engine.quoting.ramps import ramped_gamma, ramped_spread

_PHASES = (lib.QUOTE_EXPLORATION, lib.QUOTE_STABILIZATION)


class ParamRamp:
    """Begins at the parameters before and ends at those after; it writes into the latter."""

    def __init__(self, before: NativeParams, after: NativeParams) -> None:
        self._params = after
        self._spreads = {phase: after.phases[phase].half_spread_cents for phase in _PHASES}
        self._gamma = after.gamma
        for phase in _PHASES:
            after.phases[phase].half_spread_cents = before.phases[phase].half_spread_cents
        after.gamma = before.gamma

    def step(self, elapsed_ms: int) -> bool:
        """One cycle further; True when everything has arrived."""
        for phase, target in self._spreads.items():
            values = self._params.phases[phase]
            values.half_spread_cents = ramped_spread(values.half_spread_cents, target, elapsed_ms)
        self._params.gamma = ramped_gamma(self._params.gamma, self._gamma)
        return self._params.gamma == self._gamma and all(
            self._params.phases[phase].half_spread_cents == target for phase, target in self._spreads.items()
        )
