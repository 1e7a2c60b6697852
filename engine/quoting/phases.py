"""Phases of a market's quoting (market-making §4): exploration first, stabilization once it has earned it.

Pure: state and evidence in, state out. Times are Unix ms, because phase and clock survive a restart.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, structs

from engine.config import QuoteConfig
from engine.events import Phase
from engine.quoting.trade_window import PriceRange
from engine.quoting.transitions import PHASES, PhaseReason, step

STABLE_TRADES_MIN: Final = 10  # §4 PRICE_STABLE
ROLLBACK_WINDOW_MS: Final = 300_000  # §4 EMERGENCY_ROLLBACK
LOG_ENTRIES_MAX: Final = 8


class PhaseChange(Struct, frozen=True, kw_only=True):
    """One entry of the transition log."""

    from_phase: Phase
    to_phase: Phase
    reason: PhaseReason
    timestamp_ms: int


class PhaseState(Struct, frozen=True, kw_only=True):
    """Phase, its clock and what it has seen; the newest log entries, oldest first."""

    since_ms: int  # when the phase began
    phase: Phase = Phase.EXPLORATION
    volume_shares: int = 0  # traded by the market since then
    rollback_until_ms: int = 0  # no way into STABILIZATION before (D16)
    log: tuple[PhaseChange, ...] = ()


class PhaseEvidence(Struct, frozen=True, kw_only=True):
    """What a cycle knows that may end a phase."""

    stability: PriceRange  # over exploration.price_stability_window_ms; asked for in EXPLORATION
    rollback: PriceRange  # over ROLLBACK_WINDOW_MS; asked for in STABILIZATION
    daily_pnl_cents: int


def window_since_ms(state: PhaseState, window_ms: int, now_ms: int) -> int:
    """Beginning of a window of trades: price history begins anew with a phase, so none reaches behind it."""
    return max(state.since_ms, now_ms - window_ms)


def traded(state: PhaseState, shares: int) -> PhaseState:
    """The state after the market traded ``shares`` more."""
    return structs.replace(state, volume_shares=state.volume_shares + shares) if shares else state


def _reason(state: PhaseState, seen: PhaseEvidence, quote: QuoteConfig, *, now_ms: int) -> PhaseReason | None:
    exploration = quote.exploration
    if state.phase == Phase.STABILIZATION:
        loses = seen.daily_pnl_cents < -quote.pnl_rollback_cents
        if loses or seen.rollback.wider_than(quote.rollback.volatility_threshold):
            return PhaseReason.EMERGENCY_ROLLBACK
        return None
    if now_ms < state.rollback_until_ms:
        return None
    if now_ms - state.since_ms >= exploration.max_duration_ms:
        return PhaseReason.TIME_EXPIRED
    if state.volume_shares >= exploration.min_volume:
        return PhaseReason.VOLUME_REACHED
    enough = seen.stability.trades >= STABLE_TRADES_MIN
    if enough and seen.stability.narrower_than(exploration.price_stability_threshold):
        return PhaseReason.PRICE_STABLE
    return None


def advance(state: PhaseState, seen: PhaseEvidence, quote: QuoteConfig, *, now_ms: int) -> PhaseState:
    """The state after one cycle: at most one transition, with its entry in the log."""
    reason = _reason(state, seen, quote, now_ms=now_ms)
    return state if reason is None else _moved(state, reason, quote, now_ms)


def restart_exploration(state: PhaseState, quote: QuoteConfig, *, now_ms: int) -> PhaseState:
    """After a loss (D3): a resume starts wide, with phase clock and volume at zero."""
    if state.phase == Phase.STABILIZATION:
        return _moved(state, PhaseReason.EMERGENCY_ROLLBACK, quote, now_ms)
    return structs.replace(state, since_ms=now_ms, volume_shares=0)


def _moved(state: PhaseState, reason: PhaseReason, quote: QuoteConfig, now_ms: int) -> PhaseState:
    after = step(PHASES, state.phase, reason)
    change = PhaseChange(from_phase=state.phase, to_phase=after, reason=reason, timestamp_ms=now_ms)
    rolled_back = reason == PhaseReason.EMERGENCY_ROLLBACK
    return PhaseState(
        phase=after,
        since_ms=now_ms,
        rollback_until_ms=now_ms + quote.rollback.cooldown_ms if rolled_back else state.rollback_until_ms,
        log=(*state.log, change)[-LOG_ENTRIES_MAX:],
    )
