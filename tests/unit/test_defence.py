"""DefenseStack (market-making §5.1): jumps up, calm way down, the latch at the top."""

from __future__ import annotations

import pytest
from msgspec import structs

from engine.config import QuoteConfig
from engine.events import DefenseLevel
from engine.quoting.defence import DefenceInputs, DefenceState, advance, resumed
from engine.quoting.transitions import TransitionError

QUOTE = QuoteConfig()
CALM = DefenceInputs(
    yes_volume=500,
    no_volume=500,
    fair_price_cents=50,
    vpin_imbalance=0,
    vpin_volume=50,
    oracle_stale=False,
    killed=False,
)
LEVELS = (DefenseLevel.NORMAL, DefenseLevel.WIDEN, DefenseLevel.ONE_SIDE, DefenseLevel.KILL_SWITCH)


def skewed(percent_bp: int) -> DefenceInputs:
    """Stock of 20000 with |q| of so many basis points."""
    return structs.replace(CALM, yes_volume=10_000 + percent_bp, no_volume=10_000 - percent_bp)


def after(cycles: int, state: DefenceState, values: DefenceInputs) -> DefenceState:
    for _ in range(cycles):
        state = advance(state, values, QUOTE)
    return state


def test_one_cycle_may_jump_from_normal_to_any_level() -> None:
    for bp, level in ((8_001, 1), (9_001, 2), (9_501, 3)):
        assert advance(DefenceState(), skewed(bp), QUOTE).level == level


@pytest.mark.parametrize("bp", [8_000, 9_000, 9_500])
def test_thresholds_are_strict(bp: int) -> None:
    below = advance(DefenceState(), skewed(bp), QUOTE).level
    above = advance(DefenceState(), skewed(bp + 1), QUOTE).level
    assert above == below + 1


def test_down_one_level_after_five_calm_cycles_each() -> None:
    state = advance(DefenceState(), skewed(9_400), QUOTE)
    seen = []
    for _ in range(11):
        state = advance(state, CALM, QUOTE)
        seen.append(int(state.level))
    assert seen == [2, 2, 2, 2, 1, 1, 1, 1, 1, 0, 0]


def test_within_the_hysteresis_nothing_counts_as_calm() -> None:
    """0.02 below the entry of WIDEN is 0.78: at exactly 0.78 it stays, a hair below it goes."""
    widened = advance(DefenceState(), skewed(8_100), QUOTE)
    assert after(1_000, widened, skewed(7_800)).level == DefenseLevel.WIDEN
    assert after(5, widened, skewed(7_799)).level == DefenseLevel.NORMAL


def test_one_restless_cycle_starts_the_count_anew() -> None:
    state = advance(DefenceState(), skewed(9_400), QUOTE)
    state = after(4, state, CALM)
    state = advance(state, skewed(8_900), QUOTE)
    assert after(4, state, CALM).level == DefenseLevel.ONE_SIDE
    assert after(5, state, CALM).level == DefenseLevel.WIDEN


def test_row26_kill_persists_through_a_thousand_calm_cycles() -> None:
    killed = advance(DefenceState(), skewed(9_501), QUOTE)
    assert after(1_000, killed, CALM).level == DefenseLevel.KILL_SWITCH
    assert resumed(killed).level == DefenseLevel.NORMAL


@pytest.mark.parametrize("level", LEVELS[:3])
def test_only_the_kill_switch_is_resumed(level: DefenseLevel) -> None:
    with pytest.raises(TransitionError):
        resumed(DefenceState(level=level))


@pytest.mark.parametrize(
    ("changes", "multiplier"),
    [
        ({"vpin_imbalance": 36}, 2.0),
        ({"fair_price_cents": 10}, 3.0),
        ({"fair_price_cents": 90}, 3.0),
        ({"oracle_stale": True}, 3.0),
        ({"oracle_stale": True, "vpin_imbalance": 36}, 3.0),
    ],
)
def test_row21_the_level_is_the_highest_of_all_sources(changes: dict[str, int], multiplier: float) -> None:
    state = advance(DefenceState(), structs.replace(CALM, **changes), QUOTE)
    assert (state.level, state.multiplier) == (DefenseLevel.WIDEN, multiplier)
    one_side = advance(DefenceState(), structs.replace(skewed(9_010), **changes), QUOTE)
    assert one_side.level == DefenseLevel.ONE_SIDE
    assert one_side.multiplier == max(multiplier, 2.04)
    killed = advance(DefenceState(), structs.replace(CALM, killed=True, **changes), QUOTE)
    assert killed.level == DefenseLevel.KILL_SWITCH


def test_a_source_keeps_its_multiplier_until_it_is_calm() -> None:
    """VPIN leaves below 0.68, an extreme price two cents further in."""
    state = advance(DefenceState(), structs.replace(CALM, vpin_imbalance=36), QUOTE)
    assert advance(state, structs.replace(CALM, vpin_imbalance=34), QUOTE).multiplier == 2.0
    assert advance(state, structs.replace(CALM, vpin_imbalance=33), QUOTE).multiplier == 1.5
    state = advance(DefenceState(), structs.replace(CALM, fair_price_cents=10), QUOTE)
    assert advance(state, structs.replace(CALM, fair_price_cents=12), QUOTE).multiplier == 3.0
    assert advance(state, structs.replace(CALM, fair_price_cents=13), QUOTE).multiplier == 1.5
