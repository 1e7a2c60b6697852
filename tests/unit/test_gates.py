"""Quote gates (market-making §5.3): each one's entry and release, and when they kill."""

from __future__ import annotations

from typing import Any

import pytest

from engine.config import QuoteConfig
from engine.events import Gate, Side
from engine.quoting.gates import (
    Calls,
    CallWindow,
    GateEvidence,
    GateState,
    advance,
    next_release_ms,
    observed,
)

QUOTE = QuoteConfig()


class World:
    """A clock and the gates."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.state = GateState()

    def see(self, after_ms: int = 0, **evidence: Any) -> Gate:
        self.now_ms += after_ms
        self.state = advance(self.state, GateEvidence(**evidence), QUOTE, now_ms=self.now_ms)
        return self.state.held


@pytest.fixture
def world() -> World:
    return World()


def test_nothing_is_held_in_a_calm_world(world: World) -> None:
    assert world.see() == Gate(0)
    assert next_release_ms(world.state) is None


def test_post_fill_counts_from_the_last_fill(world: World) -> None:
    assert world.see(own_fill_ms=world.now_ms) == Gate.POST_FILL
    assert not world.state.pulls
    assert world.see(2_000, own_fill_ms=world.now_ms + 2_000) == Gate.POST_FILL
    assert next_release_ms(world.state) == world.now_ms + 2_500
    assert world.see(2_499) == Gate.POST_FILL
    assert world.see(1) == Gate(0)


def test_oracle_deviation_opens_after_thirty_calm_seconds(world: World) -> None:
    assert world.see(oracle_deviates=True) == Gate.ORACLE_DEVIATION
    assert world.state.pulls
    assert world.see(29_999) == Gate.ORACLE_DEVIATION
    assert world.see(oracle_deviates=True) == Gate.ORACLE_DEVIATION
    assert world.see(29_999) == Gate.ORACLE_DEVIATION
    assert world.see(1) == Gate(0)


def test_oracle_gap_pulls_the_side_it_moved_toward(world: World) -> None:
    assert world.see(oracle_gap_side=Side.ASK) == Gate.ORACLE_GAP
    assert (world.state.gap_side, world.state.pulls) == (Side.ASK, False)
    assert world.see(29_999) == Gate.ORACLE_GAP
    assert world.see(1) == Gate(0)
    assert world.state.gap_side is None


@pytest.mark.parametrize(
    ("evidence", "stale"),
    [
        ({"book_valid": False}, True),
        ({"link_down_ms": 5_000}, False),
        ({"link_down_ms": 5_001}, True),
        ({"snapshot_age_ms": 60_000}, False),
        ({"snapshot_age_ms": 60_001}, True),
        ({"snapshot_age_ms": None}, False),
    ],
)
def test_book_stale(world: World, evidence: dict[str, Any], stale: bool) -> None:
    assert (world.see(**evidence) == Gate.BOOK_STALE) is stale
    assert world.see() == Gate(0)


def test_latency_enters_above_and_leaves_after_five_seconds_below(world: World) -> None:
    assert world.see(feed_latency_ms=100) == Gate(0)
    assert world.see(feed_latency_ms=101) == Gate.LATENCY
    assert world.see(4_999, feed_latency_ms=79) == Gate.LATENCY
    assert world.see(0, feed_latency_ms=80) == Gate.LATENCY
    assert world.see(4_999, feed_latency_ms=79) == Gate.LATENCY
    assert world.see(1, feed_latency_ms=79) == Gate(0)


def test_api_errors_need_twenty_calls_and_ten_calm_seconds(world: World) -> None:
    assert world.see(calls=Calls(requests=19, errors=19)) == Gate(0)
    assert world.see(calls=Calls(requests=100, errors=10)) == Gate(0)
    assert world.see(calls=Calls(requests=100, errors=11)) == Gate.API_ERRORS
    assert world.see(1_000, calls=Calls(requests=100, errors=5)) == Gate.API_ERRORS
    assert world.see(9_999, calls=Calls(requests=100, errors=4)) == Gate.API_ERRORS
    assert world.see(1, calls=Calls(requests=100, errors=4)) == Gate(0)


def test_the_window_of_calls_reaches_back_a_hundred() -> None:
    window = CallWindow()
    for requests in range(0, 1_001, 10):
        window = observed(window, Calls(requests=requests, errors=min(requests, 50)))
    assert window.recent() == Calls(requests=100, errors=0)
    assert len(window.samples) == 11
    assert observed(window, Calls(requests=5)).recent() == Calls(), "a new gateway counts from zero"


@pytest.mark.parametrize(
    "evidence",
    [{"book_valid": False}, {"feed_latency_ms": 500}, {"calls": Calls(requests=100, errors=50)}],
)
def test_a_timed_gate_held_for_more_than_a_minute_times_out(world: World, evidence: dict[str, Any]) -> None:
    held = world.see(**evidence)
    world.see(60_000, **evidence)
    assert not world.state.timed_out(world.now_ms)
    world.see(1, **evidence)
    assert world.state.timed_out(world.now_ms) == held
    world.see(20_000)
    world.see(20_000)
    assert not world.state.timed_out(world.now_ms)


@pytest.mark.parametrize(
    ("evidence", "gate"),
    [
        ({"inventory_confirmed": False}, Gate.INVENTORY),
        ({"kill_word": True}, Gate.KILL_WORD),
        ({"market_active": False}, Gate.MARKET_STATUS),
    ],
)
def test_gates_that_only_mirror_their_state(world: World, evidence: dict[str, Any], gate: Gate) -> None:
    assert world.see(**evidence) == gate
    assert world.state.pulls == (gate != Gate.INVENTORY)
    world.see(100_000, **evidence)
    assert not world.state.timed_out(world.now_ms)
    assert world.see() == Gate(0)
