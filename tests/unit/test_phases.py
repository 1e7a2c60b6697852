"""The phase machine (market-making §4): every transition with its reason, the blocked way back, the log."""

from __future__ import annotations

from typing import Any

import pytest

from engine.config import QuoteConfig
from engine.events import Phase
from engine.quoting.phases import (
    LOG_ENTRIES_MAX,
    PhaseEvidence,
    PhaseState,
    advance,
    restart_exploration,
    traded,
)
from engine.quoting.trade_window import PriceRange
from engine.quoting.transitions import PhaseReason

QUOTE = QuoteConfig()
STABLE = PriceRange(trades=10, low_cents=50, high_cents=51)
WILD = PriceRange(trades=10, low_cents=45, high_cents=50)
QUIET = PriceRange()


def seen(**changes: Any) -> PhaseEvidence:
    return PhaseEvidence(**{"stability": QUIET, "rollback": QUIET, "daily_pnl_cents": 0, **changes})


def reason(state: PhaseState) -> PhaseReason:
    return state.log[-1].reason


def test_time_expired_at_the_hour_not_before() -> None:
    start = PhaseState(since_ms=1_000)
    assert advance(start, seen(), QUOTE, now_ms=3_600_999) == start
    after = advance(start, seen(), QUOTE, now_ms=3_601_000)
    assert (after.phase, reason(after)) == (Phase.STABILIZATION, PhaseReason.TIME_EXPIRED)
    assert after.since_ms == 3_601_000


def test_row4_volume_is_counted_in_market_shares() -> None:
    start = PhaseState(since_ms=0)
    assert advance(traded(start, 199), seen(), QUOTE, now_ms=1) == traded(start, 199)
    after = advance(traded(traded(start, 199), 1), seen(), QUOTE, now_ms=1)
    assert (after.phase, reason(after)) == (Phase.STABILIZATION, PhaseReason.VOLUME_REACHED)
    assert after.volume_shares == 0


def test_price_stable_needs_ten_trades() -> None:
    start = PhaseState(since_ms=0)
    nine = PriceRange(trades=9, low_cents=50, high_cents=50)
    assert advance(start, seen(stability=nine), QUOTE, now_ms=1) == start
    after = advance(start, seen(stability=STABLE), QUOTE, now_ms=1)
    assert reason(after) == PhaseReason.PRICE_STABLE


def test_conditions_are_taken_in_their_order() -> None:
    start = traded(PhaseState(since_ms=0), 500)
    assert reason(advance(start, seen(stability=STABLE), QUOTE, now_ms=4_000_000)) == PhaseReason.TIME_EXPIRED
    assert reason(advance(start, seen(stability=STABLE), QUOTE, now_ms=1)) == PhaseReason.VOLUME_REACHED


@pytest.mark.parametrize("changes", [{"rollback": WILD}, {"daily_pnl_cents": -50_001}])
def test_rollback_resets_clock_and_volume_and_closes_the_way_back(changes: dict[str, Any]) -> None:
    start = traded(PhaseState(since_ms=0, phase=Phase.STABILIZATION), 150)
    after = advance(start, seen(**changes), QUOTE, now_ms=10_000)
    assert (after.phase, reason(after)) == (Phase.EXPLORATION, PhaseReason.EMERGENCY_ROLLBACK)
    assert (after.since_ms, after.volume_shares, after.rollback_until_ms) == (10_000, 0, 610_000)
    # D16: re-entry waits, whatever speaks for it; then the first condition that holds takes it
    ready = traded(after, 500)
    assert advance(ready, seen(stability=STABLE), QUOTE, now_ms=609_999) == ready
    assert advance(ready, seen(stability=STABLE), QUOTE, now_ms=610_000).phase == Phase.STABILIZATION


def test_the_block_never_holds_up_a_rollback() -> None:
    state = PhaseState(since_ms=0, phase=Phase.STABILIZATION, rollback_until_ms=10**9)
    assert advance(state, seen(rollback=WILD), QUOTE, now_ms=5).phase == Phase.EXPLORATION


def test_a_loss_of_exactly_the_limit_is_none() -> None:
    state = PhaseState(since_ms=0, phase=Phase.STABILIZATION)
    assert advance(state, seen(daily_pnl_cents=-50_000), QUOTE, now_ms=5) == state


def test_exploration_cannot_roll_back() -> None:
    start = PhaseState(since_ms=0)
    assert advance(start, seen(rollback=WILD, daily_pnl_cents=-60_000), QUOTE, now_ms=5) == start


def test_a_resume_after_a_loss_starts_wide() -> None:
    narrow = PhaseState(since_ms=0, phase=Phase.STABILIZATION)
    wide = restart_exploration(narrow, QUOTE, now_ms=7)
    assert (wide.phase, reason(wide), wide.since_ms) == (
        Phase.EXPLORATION,
        PhaseReason.EMERGENCY_ROLLBACK,
        7,
    )
    again = restart_exploration(traded(wide, 150), QUOTE, now_ms=9)
    assert (again.since_ms, again.volume_shares, again.log) == (9, 0, wide.log)


def test_the_log_is_bounded() -> None:
    state = PhaseState(since_ms=0)
    for cycle in range(20):
        state = advance(traded(state, 500), seen(), QUOTE, now_ms=cycle * 10**6)
        state = advance(state, seen(rollback=WILD), QUOTE, now_ms=cycle * 10**6 + 1)
    assert len(state.log) == LOG_ENTRIES_MAX
    assert [entry.timestamp_ms for entry in state.log] == sorted(entry.timestamp_ms for entry in state.log)
