"""The velocity lock and its repetition (market-making §5.3, D10)."""

from __future__ import annotations

from engine.config import QuoteConfig
from engine.events import Side
from engine.quoting.toxicity import LvrState, OwnFill, filled, repeats, watch

QUOTE = QuoteConfig()


def lift(state: LvrState, now_ms: int, shares: int, *, side: Side = Side.ASK, resting: int = 100) -> LvrState:
    state = filled(state, OwnFill(time_ms=now_ms, side=side, shares=shares))
    state, _ = watch(
        state, resting_bid_shares=resting, resting_ask_shares=resting, quote=QUOTE, now_ms=now_ms
    )
    return state


def test_exactly_a_tenth_is_no_trigger() -> None:
    assert lift(LvrState(), 0, 10, resting=90).triggers_ms == ()
    assert lift(LvrState(), 0, 11, resting=90).triggers_ms == (0,)


def test_fills_add_up_within_the_window_and_by_side() -> None:
    state = lift(LvrState(), 0, 6, resting=90)
    assert lift(state, 500, 6, resting=84).triggers_ms == (500,)
    assert lift(state, 501, 6, resting=84).triggers_ms == ()
    assert lift(state, 400, 6, side=Side.BID, resting=94).triggers_ms == ()


def test_the_fills_of_one_trigger_make_no_second() -> None:
    state = lift(LvrState(), 0, 50)
    state, fell = watch(state, resting_bid_shares=100, resting_ask_shares=50, quote=QUOTE, now_ms=100)
    assert not fell


def test_three_triggers_within_a_minute_repeat() -> None:
    state = LvrState()
    for now_ms in (0, 20_000):
        state = lift(state, now_ms, 50)
        assert not repeats(state, QUOTE)
    assert repeats(lift(state, 59_999, 50), QUOTE)
    assert not repeats(lift(state, 60_000, 50), QUOTE), "the first one is a minute old"


def test_the_lock_of_a_side_that_is_gone_is_a_trigger_too() -> None:
    assert lift(LvrState(), 0, 5, resting=0).triggers_ms == (0,)
