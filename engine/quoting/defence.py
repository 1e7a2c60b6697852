"""DefenseStack (market-making §5.1): how wide and on which sides a market may be quoted.

Pure: the state of the last cycle and the values of this one in, the next state out. Escalation is
immediate and may jump; one level down at a time, after ``defense_cooldown_cycles`` calm ones; KILL_SWITCH
is left by :func:`resumed` alone. |q| is compared by integer cross-multiplication and fed to the ramps in
whole basis points.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final

from msgspec import Struct

from engine._native import lib
from engine.config import QuoteConfig
from engine.events import DefenseLevel
from engine.quoting.ratios import WHOLE_BP, basis_points, exceeds, falls_below
from engine.quoting.transitions import DEFENCE, DefenceEvent, step


class WidenSource(IntFlag):
    """What asks for WIDEN, with a spread multiplier of its own."""

    SKEW = 1
    VPIN = 2
    EXTREME_PRICE = 4
    ORACLE_STALE = 8


class DefenceInputs(Struct, frozen=True, kw_only=True):
    """The live values of one cycle."""

    yes_volume: int
    no_volume: int
    fair_price_cents: int
    vpin_imbalance: int  # |2 * sells - total| over the window, shares
    vpin_volume: int  # total of the window, shares; 0 = fewer trades than the window
    oracle_stale: bool
    killed: bool  # any kill cause is latched


class DefenceState(Struct, frozen=True, kw_only=True):
    """What one cycle decides and the next one starts from."""

    level: DefenseLevel = DefenseLevel.NORMAL
    multiplier: float = 1.0
    discount_cents: int = 0
    calm_cycles: int = 0
    sources: WidenSource = WidenSource(0)  # entered, and not yet calm


_NO_SOURCE: Final = WidenSource(0)
_NORMAL: Final = DefenceState()
_EVENTS: Final = {
    DefenseLevel.WIDEN: DefenceEvent.WIDEN,
    DefenseLevel.ONE_SIDE: DefenceEvent.ONE_SIDE,
    DefenseLevel.KILL_SWITCH: DefenceEvent.KILL,
}


_ALL_SOURCES: Final = (
    WidenSource.SKEW | WidenSource.VPIN | WidenSource.EXTREME_PRICE | WidenSource.ORACLE_STALE
)


def skew_bp(yes_volume: int, no_volume: int) -> int:
    """floor(10000 |Y - N| / (Y + N)); 0 without stock."""
    total = yes_volume + no_volume
    return abs(yes_volume - no_volume) * WHOLE_BP // total if total else 0


def reducing_sides(yes_volume: int, no_volume: int) -> int:
    """QUOTE_SIDES_* that reduces |q| (D8): asks when YES is heavy, bids when NO is, none in balance."""
    if yes_volume == no_volume:
        return int(lib.QUOTE_SIDES_NONE)
    return int(lib.QUOTE_SIDES_ASK if yes_volume > no_volume else lib.QUOTE_SIDES_BID)


def skew_exceeds(yes_volume: int, no_volume: int, ratio: float) -> bool:
    """|q| > ratio, strictly."""
    return exceeds(abs(yes_volume - no_volume), yes_volume + no_volume, ratio)


def _ramp(bp: int, *, from_bp: int, to_bp: int, low: float, high: float) -> float:
    """Linear from ``low`` at ``from_bp`` to ``high`` at ``to_bp``, flat outside."""
    if bp <= from_bp:
        return low
    if bp >= to_bp:
        return high
    return low + (high - low) * (bp - from_bp) / (to_bp - from_bp)


def widen_multiplier(bp: int, quote: QuoteConfig) -> float:
    """1.5 + 1.5 (bp - 8000) / 1000, within 1.5 .. 3, at the default thresholds."""
    return _ramp(
        bp,
        from_bp=basis_points(quote.inventory_warning_threshold),
        to_bp=basis_points(quote.inventory_danger_threshold),
        low=quote.spread_multiplier_warning,
        high=quote.spread_multiplier_danger,
    )


def one_side_multiplier(bp: int, quote: QuoteConfig) -> float:
    """2 + 2 (bp - 9000) / 500, within 2 .. 4, at the default thresholds."""
    return _ramp(
        bp,
        from_bp=basis_points(quote.inventory_danger_threshold),
        to_bp=basis_points(quote.inventory_hard_limit),
        low=quote.one_side_multiplier_min,
        high=quote.one_side_multiplier_max,
    )


def one_side_discount_cents(bp: int, quote: QuoteConfig) -> int:
    """min(5, (bp - 9000) * 5 // 500) at the default thresholds; never negative."""
    from_bp = basis_points(quote.inventory_danger_threshold)
    span_bp = basis_points(quote.inventory_hard_limit) - from_bp
    largest = quote.distress_max_discount
    return max(0, min(largest, (bp - from_bp) * largest // span_bp))


def _near_bound(fair_price_cents: int, distance_cents: int) -> bool:
    return fair_price_cents <= distance_cents or fair_price_cents >= 100 - distance_cents


def _active(values: DefenceInputs, quote: QuoteConfig) -> WidenSource:
    sources = _NO_SOURCE
    if skew_exceeds(values.yes_volume, values.no_volume, quote.inventory_warning_threshold):
        sources |= WidenSource.SKEW
    if exceeds(values.vpin_imbalance, values.vpin_volume, quote.vpin_threshold):
        sources |= WidenSource.VPIN
    if _near_bound(values.fair_price_cents, quote.extreme_price_halt):
        sources |= WidenSource.EXTREME_PRICE
    if values.oracle_stale:
        sources |= WidenSource.ORACLE_STALE
    return sources


def _skew_is_calm(values: DefenceInputs, entry: float, quote: QuoteConfig) -> bool:
    imbalance, total = abs(values.yes_volume - values.no_volume), values.yes_volume + values.no_volume
    return falls_below(imbalance, total, _below(entry, quote)) or imbalance == 0


def _below(entry: float, quote: QuoteConfig) -> float:
    return (basis_points(entry) - basis_points(quote.defense_hysteresis)) / WHOLE_BP


def _calm(values: DefenceInputs, quote: QuoteConfig) -> WidenSource:
    """Sources whose metric is below (entry - hysteresis); a price is a ratio of 100 cents."""
    sources = _NO_SOURCE
    if _skew_is_calm(values, quote.inventory_warning_threshold, quote):
        sources |= WidenSource.SKEW
    if falls_below(values.vpin_imbalance, values.vpin_volume, _below(quote.vpin_threshold, quote)):
        sources |= WidenSource.VPIN
    margin_cents = -(-basis_points(quote.defense_hysteresis) // 100)
    if not _near_bound(values.fair_price_cents, quote.extreme_price_halt + margin_cents):
        sources |= WidenSource.EXTREME_PRICE
    if not values.oracle_stale:
        sources |= WidenSource.ORACLE_STALE
    return sources


def target_level(values: DefenceInputs, quote: QuoteConfig) -> DefenseLevel:
    """The level these values alone ask for: the highest of all sources."""
    return _target_level(values, quote, _active(values, quote))


def _target_level(values: DefenceInputs, quote: QuoteConfig, sources: WidenSource) -> DefenseLevel:
    yes, no = values.yes_volume, values.no_volume
    if values.killed or skew_exceeds(yes, no, quote.inventory_hard_limit):
        return DefenseLevel.KILL_SWITCH
    if skew_exceeds(yes, no, quote.inventory_danger_threshold):
        return DefenseLevel.ONE_SIDE
    return DefenseLevel.WIDEN if sources else DefenseLevel.NORMAL


def _is_calm(level: DefenseLevel, values: DefenceInputs, quote: QuoteConfig) -> bool:
    """Whether nothing speaks for ``level`` any more, by the margin of the hysteresis."""
    if level == DefenseLevel.ONE_SIDE:
        return _skew_is_calm(values, quote.inventory_danger_threshold, quote)
    return level == DefenseLevel.WIDEN and _calm(values, quote) == _ALL_SOURCES


def advance(
    state: DefenceState, values: DefenceInputs, quote: QuoteConfig, *, cycle: bool = True
) -> DefenceState:
    """One cycle of the stack. A look between two timed cycles (``cycle`` False) escalates as ever, but only
    timed ones count as calm: else a burst of messages would be a minute of calm."""
    level, calm_cycles = state.level, 0
    sources = _active(values, quote)
    if state.level == DefenseLevel.NORMAL and not (sources or state.sources or values.killed):
        # an imbalance below the warning is below danger and limit too (engine/config/rules.py)
        return _NORMAL
    target = _target_level(values, quote, sources)
    if target > level:
        level = step(DEFENCE, level, _EVENTS[target])
    elif _is_calm(level, values, quote):
        calm_cycles = state.calm_cycles + cycle
        if calm_cycles >= quote.defense_cooldown_cycles:
            level, calm_cycles = step(DEFENCE, level, DefenceEvent.CALM), 0
    if state.sources:
        sources |= state.sources & ~_calm(values, quote)
    bp = skew_bp(values.yes_volume, values.no_volume)
    return DefenceState(
        level=level,
        multiplier=_multiplier(level, sources, bp, quote),
        discount_cents=one_side_discount_cents(bp, quote) if level == DefenseLevel.ONE_SIDE else 0,
        calm_cycles=calm_cycles,
        sources=sources,
    )


def _multiplier(level: DefenseLevel, sources: WidenSource, bp: int, quote: QuoteConfig) -> float:
    """The largest of all that are active (§3.6), never their product."""
    if level in (DefenseLevel.NORMAL, DefenseLevel.KILL_SWITCH):
        return 1.0
    factors = [widen_multiplier(bp, quote)]
    if level == DefenseLevel.ONE_SIDE:
        factors = [one_side_multiplier(bp, quote)]
    for source, factor in (
        (WidenSource.VPIN, quote.vpin_multiplier),
        (WidenSource.EXTREME_PRICE, quote.extreme_spread_multiplier),
        (WidenSource.ORACLE_STALE, quote.oracle_stale_multiplier),
    ):
        if source in sources:
            factors.append(factor)
    return max(factors)


def resumed(state: DefenceState) -> DefenceState:
    """After the kill switch was turned off; the next cycle escalates where the values ask for it."""
    return DefenceState(level=step(DEFENCE, state.level, DefenceEvent.RESUME))
