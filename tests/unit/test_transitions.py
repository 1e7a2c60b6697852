"""The state machines of market-making §6.5 and §8: their tables, and the refusal of everything else."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from enum import Enum
from typing import Any

import pytest

from engine.events import DefenseLevel, Lifecycle, Phase
from engine.quoting.transitions import (
    DEFENCE,
    LIFECYCLE,
    ORDERS,
    PHASES,
    DefenceEvent,
    LifecycleEvent,
    OrderEvent,
    OrderState,
    PhaseReason,
    TransitionError,
    allows,
    step,
)


@pytest.mark.parametrize(
    ("table", "states", "events"),
    [
        pytest.param(LIFECYCLE, Lifecycle, LifecycleEvent, id="lifecycle"),
        pytest.param(PHASES, Phase, PhaseReason, id="phase"),
        pytest.param(DEFENCE, DefenseLevel, DefenceEvent, id="defence"),
        pytest.param(ORDERS, OrderState, OrderEvent, id="order"),
    ],
)
def test_what_is_not_in_the_table_is_refused(
    table: Mapping[tuple[Any, Any], Any], states: type[Enum], events: type[Enum]
) -> None:
    refused = 0
    for state, event in itertools.product(states, events):
        if allows(table, state, event):
            assert step(table, state, event) == table[state, event]
        else:
            refused += 1
            with pytest.raises(TransitionError, match=f"{state.name} has no transition for {event.name}"):
                step(table, state, event)
    assert refused, "a machine that allows everything is none"


def test_the_kill_switch_is_left_by_a_resume_alone() -> None:
    ways_out = {event for state, event in DEFENCE if state == DefenseLevel.KILL_SWITCH}
    assert ways_out == {DefenceEvent.RESUME}


def test_defence_falls_by_one_level_and_rises_by_any() -> None:
    for (before, event), after in DEFENCE.items():
        if event is DefenceEvent.CALM:
            assert after == before - 1
        elif event is not DefenceEvent.RESUME:
            assert after > before


def test_a_terminal_order_has_no_way_back() -> None:
    assert not [state for state, _ in ORDERS if state.is_terminal]


def test_a_stopped_market_stays_stopped_until_a_person_starts_it() -> None:
    left = {event for (state, event), after in LIFECYCLE.items() if state == Lifecycle.STOPPED != after}
    assert left == {LifecycleEvent.START}


def test_only_emergency_resumes() -> None:
    assert [state for state, event in LIFECYCLE if event is LifecycleEvent.RESUME] == [Lifecycle.EMERGENCY]
