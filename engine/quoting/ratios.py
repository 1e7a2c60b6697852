"""Ratios compared as integers (market-making, conventions): no threshold is ever met by float equality.

A configured ratio becomes basis points (1/10,000), then both sides are multiplied out.
"""

from __future__ import annotations

import functools
from typing import Final

from engine.quoting.tables import exact_decimal

WHOLE_BP: Final = 10_000


@functools.lru_cache(maxsize=1_024)  # configurations hold few ratios, and every look asks for two dozen
def basis_points(ratio: float) -> int:
    """A configured ratio in basis points: 0.80 is 8000. Digits beyond the fourth are cut off."""
    return int(exact_decimal(ratio) * WHOLE_BP)


def exceeds(part: int, whole: int, ratio: float) -> bool:
    """``part / whole > ratio``, strictly; False when ``whole`` is 0. Neither may be negative."""
    return part * WHOLE_BP > basis_points(ratio) * whole


def falls_below(part: int, whole: int, ratio: float) -> bool:
    """``part / whole < ratio``, strictly; True when ``whole`` is 0 and the ratio is not."""
    if whole == 0:
        return ratio > 0
    return part * WHOLE_BP < basis_points(ratio) * whole
