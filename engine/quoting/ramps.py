"""Ramps of a hot reload (market-making §10): of spread and gamma, where they are switched on. Pure."""

from __future__ import annotations

from typing import Final

SPREAD_CENTS_PER_SECOND: Final = 1.0
GAMMA_SHARE: Final = 0.1  # of the distance left, each cycle
_GAMMA_SETTLED: Final = 0.001


def ramped_spread(current_cents: float, target_cents: float, elapsed_ms: int) -> float:
    """One cent per second toward the target."""
    step_cents = SPREAD_CENTS_PER_SECOND * elapsed_ms / 1_000
    if abs(target_cents - current_cents) <= step_cents:
        return target_cents
    return current_cents + (step_cents if target_cents > current_cents else -step_cents)


def ramped_gamma(current: float, target: float) -> float:
    """Exponential moving average, one cycle; the last thousandth is not waited for."""
    moved = current + GAMMA_SHARE * (target - current)
    return target if abs(target - moved) < _GAMMA_SETTLED else moved
