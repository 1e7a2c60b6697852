"""How a market begins and ends while its quoter lives on (§8): every step, and what repeats it."""

from __future__ import annotations

import pytest

from engine.workers.clock import Clock
from engine.workers.market_life import (
    GRACEFUL_NS_MAX,
    IMMEDIATE_NS_MAX,
    SNAPSHOT_NS_MAX,
    MarketLife,
    Step,
    StopMode,
)

SECOND_NS = 1_000_000_000


def at(mono_ns: int) -> Clock:
    return Clock(mono_ns=SECOND_NS + mono_ns, unix_ms=0)


def life(*, recovering: bool = False) -> MarketLife:
    return MarketLife(stopped=False, recovering=recovering)


def test_a_graceful_stop_waits_for_the_orders_and_then_for_the_venues_word() -> None:
    market = life()
    assert market.stop_step(at(0), live=0, synced=True) == Step.WAIT
    market.stop(StopMode.GRACEFUL, at(0))
    assert market.leaving
    assert market.stop_step(at(1), live=3, synced=True) == Step.WAIT
    assert market.stop_step(at(2), live=0, synced=True) == Step.RECONCILE
    assert market.stop_step(at(3), live=0, synced=False) == Step.WAIT
    assert market.stop_step(at(4), live=0, synced=True) == Step.END
    assert market.stopped
    assert market.stop_step(at(5), live=0, synced=True) == Step.WAIT


@pytest.mark.parametrize(
    ("mode", "limit_ns"), [(StopMode.GRACEFUL, GRACEFUL_NS_MAX), (StopMode.IMMEDIATE, IMMEDIATE_NS_MAX)]
)
def test_a_stop_ends_in_time_whatever_is_live(mode: StopMode, limit_ns: int) -> None:
    market = life()
    market.stop(mode, at(0))
    assert market.stop_step(at(limit_ns - 1), live=1, synced=False) == Step.WAIT
    assert market.stop_step(at(limit_ns), live=1, synced=False) == Step.END


def test_immediate_asks_for_no_reconciliation_and_overtakes_graceful() -> None:
    market = life()
    market.stop(StopMode.GRACEFUL, at(0))
    market.stop(StopMode.IMMEDIATE, at(1))
    market.stop(StopMode.GRACEFUL, at(2))
    assert market.stop_step(at(3), live=0, synced=False) == Step.END


def test_one_burn_and_no_second_one() -> None:
    market = life()
    assert market.wind_step(at(0), pairs=5) == Step.BURN
    market.burn_sent(7)
    assert market.wind_step(at(1), pairs=5) == Step.WAIT
    market.burned(6)
    assert market.wind_step(at(2), pairs=5) == Step.WAIT
    market.burned(7)
    assert market.wind_step(at(3), pairs=0) == Step.END
    assert market.wind_step(at(4), pairs=5) == Step.END


def test_nothing_to_burn_ends_it() -> None:
    assert life().wind_step(at(0), pairs=0) == Step.END


def test_what_the_venue_refuses_is_held_to_settlement() -> None:
    market = life()
    market.burn_sent(7)
    assert market.burn_refused(8, 3002, at(0)) == Step.WAIT
    assert market.burn_refused(7, 3002, at(0)) == Step.END
    assert market.wind_step(at(1), pairs=5) == Step.END


@pytest.mark.parametrize(("code", "step"), [(-7, Step.WAIT), (5001, Step.RECONCILE)])
def test_what_we_refuse_ourselves_is_tried_again_a_second_later(code: int, step: Step) -> None:
    market = life()
    market.burn_sent(7)
    assert market.burn_refused(7, code, at(0)) == step
    assert market.wind_step(at(1), pairs=5) == Step.WAIT
    assert market.wind_step(at(SECOND_NS), pairs=5) == Step.BURN


def test_another_gateway_is_asked_anew() -> None:
    market = life()
    market.burn_sent(7)
    market.forget_requests()
    assert market.wind_step(at(0), pairs=5) == Step.BURN


def test_a_refusal_of_nothing_is_no_burns() -> None:
    market = life()
    assert market.burn_refused(0, 3002, at(0)) == Step.WAIT
    assert market.wind_step(at(0), pairs=5) == Step.BURN


def test_a_snapshot_may_be_late_at_a_start_alone() -> None:
    market = life()
    assert not market.snapshot_is_late(at(0), feed_runs=True)
    assert not market.snapshot_is_late(at(SNAPSHOT_NS_MAX), feed_runs=True)
    assert market.snapshot_is_late(at(SNAPSHOT_NS_MAX + 1), feed_runs=True)
    assert not life(recovering=True).snapshot_is_late(at(2 * SNAPSHOT_NS_MAX), feed_runs=True)


def test_a_feed_that_is_starting_is_waited_for() -> None:
    market = life()
    assert not market.snapshot_is_late(at(0), feed_runs=True)
    assert not market.snapshot_is_late(at(SNAPSHOT_NS_MAX + 1), feed_runs=False)
    assert not market.snapshot_is_late(at(SNAPSHOT_NS_MAX + 2), feed_runs=True)


def test_a_start_forgets_the_stop() -> None:
    market = MarketLife(stopped=True, recovering=True)
    market.failed = True
    assert market.leaving
    market.start()
    assert not market.leaving
    assert not market.snapshot_is_late(at(0), feed_runs=True)
    assert market.snapshot_is_late(at(SNAPSHOT_NS_MAX + 1), feed_runs=True)
