"""Controls that count and look at time: each at its limit, one below, after its window (reliability §1)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine._native import ffi, lib
from engine.arena import cell
from engine.config import QuoteConfig, RiskConfig
from engine.events import LocalReject, Side, Stale
from engine.risk.breakers import Breakers, Control
from engine.risk.losses import limit_cents, too_much
from engine.risk.rate import BurstBucket
from engine.risk.windows import Window
from engine.venues.venue_clock import VenueClock
from tests.unit.books_rig import new_arena, new_market

RISK = RiskConfig()
MS = 1_000_000
S = 1_000 * MS
NOW = 1_000 * S


@given(
    events=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=60),
    span=st.integers(1, 100),
)
def test_a_window_is_the_sum_of_its_span(events: list[tuple[int, int]], span: int) -> None:
    window, now, seen = Window(span), 0, []
    for gap, amount in events:
        now += gap
        seen.append((now, amount))
        assert window.add(now, amount) == sum(n for at, n in seen if now - at <= span)


# -- C4, C11, C12, C15


def test_five_collar_refusals_in_ten_seconds_pause() -> None:
    breakers = Breakers(RISK)
    for number in range(4):
        assert breakers.refused_here(LocalReject.COLLAR, NOW + number * S) is None
    assert breakers.refused_here(LocalReject.COLLAR, NOW + 10 * S) is Control.COLLAR
    assert breakers.refused_here(LocalReject.COLLAR, NOW + 10 * S) is None, "it counts anew"


def test_collar_refusals_further_apart_do_not() -> None:
    breakers = Breakers(RISK)
    found = [breakers.refused_here(LocalReject.COLLAR, NOW + number * 2_501 * MS) for number in range(50)]
    assert found == [None] * 50


def test_three_duplicates_in_a_second_pause() -> None:
    breakers = Breakers(RISK)
    times = (0, 500 * MS, 1_001 * MS, 1_002 * MS)
    found = [breakers.refused_here(LocalReject.DUPLICATE, NOW + at) for at in times]
    assert found == [None, None, None, Control.DUPLICATES]
    assert breakers.refused_here(LocalReject.KILLED, NOW) is None


def test_more_than_a_thousand_shares_in_fifteen_seconds_pause() -> None:
    breakers = Breakers(RISK)
    assert breakers.filled(Side.BID, 600, NOW) is None
    assert breakers.filled(Side.ASK, 400, NOW + 15 * S) is None
    assert breakers.filled(Side.ASK, 1, NOW + 15 * S) is Control.EXECUTIONS
    assert breakers.filled(Side.ASK, 1_000, NOW + 16 * S) is None


def test_twenty_fills_on_one_side_in_five_seconds_pause() -> None:
    breakers = Breakers(RISK)
    for number in range(19):
        assert breakers.filled(Side.BID, 1, NOW + number) is None
        assert breakers.filled(Side.ASK, 1, NOW + number) is None
    assert breakers.filled(Side.ASK, 1, NOW + 5 * S) is Control.EXECUTIONS


def test_the_third_throttle_in_ten_minutes_is_for_a_person() -> None:
    breakers = Breakers(RISK)
    times = (0, 599 * S, 601 * S, 700 * S)
    assert [breakers.throttled(NOW + at) for at in times] == [False, False, False, True]


def test_refusals_beyond_a_fifth_of_at_least_twenty_answers_pause() -> None:
    breakers = Breakers(RISK)
    answers = [2001, 2001, 2001, 2001] + [0] * 15
    assert [breakers.answered(code, NOW) for code in answers] == [None] * 19
    assert breakers.answered(0, NOW) is None, "4 of 20 are no more than a fifth"
    assert breakers.answered(2001, NOW) is Control.REFUSALS


@pytest.mark.parametrize("code", [6001, 6003])
def test_races_with_fills_are_no_refusals(code: int) -> None:
    breakers = Breakers(RISK)
    assert [breakers.answered(code, NOW) for _ in range(100)] == [None] * 100


def test_old_answers_do_not_count() -> None:
    breakers = Breakers(RISK)
    for _ in range(19):
        breakers.answered(2001, NOW)
    assert breakers.answered(2001, NOW + 30 * S + 1) is None


def test_the_sixth_unknown_in_thirty_seconds_pauses() -> None:
    breakers = Breakers(RISK)
    assert [breakers.unknown(NOW + number * 6 * S) for number in range(5)] == [None] * 5
    assert breakers.unknown(NOW + 30 * S) is Control.UNKNOWNS


# -- C8, C10, C13


def test_a_market_may_send_forty_at_once_and_twenty_a_second() -> None:
    bucket = BurstBucket(per_s=20, burst=40, now_mono_ns=NOW)
    for _ in range(40):
        assert bucket.tokens(NOW) > 0
        bucket.take(NOW)
    assert bucket.tokens(NOW + 49 * MS) == 0
    assert bucket.tokens(NOW + 50 * MS) == 1
    assert bucket.tokens(NOW + 600 * S) == 40


def test_the_engines_loss_limit_is_its_own_or_the_sum() -> None:
    quotes = [QuoteConfig(), QuoteConfig(max_loss_daily_cents=20_000)]
    assert limit_cents(RISK, quotes) == 70_000
    assert limit_cents(RiskConfig(daily_loss_max_cents=30_000), quotes) == 30_000
    assert not too_much([-40_000, -30_000], 70_000)
    assert too_much([-40_000, -40_001, 10_000], 70_000)


# -- C14

FRESH = {
    "book_valid": 1,
    "feed_mono_ns": NOW,
    "snapshot_mono_ns": NOW,
    "worker_mono_ns": NOW,
    "reconciled_mono_ns": NOW,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Stale(0)),
        ({"book_valid": False}, Stale.BOOK),
        ({"feed_mono_ns": NOW - 1_000 * MS}, Stale(0)),
        ({"feed_mono_ns": NOW - 1_001 * MS}, Stale.BOOK),
        ({"snapshot_mono_ns": NOW - 60 * S}, Stale(0)),
        ({"snapshot_mono_ns": NOW - 60 * S - 1}, Stale.BOOK),
        ({"worker_mono_ns": NOW - 1_001 * MS}, Stale.WORKER),
        ({"reconciled_mono_ns": NOW - 600 * S}, Stale(0)),
        ({"reconciled_mono_ns": NOW - 600 * S - 1}, Stale.RECONCILIATION),
        *(
            ({name: 0}, flag)  # never heard of is too old, whatever the clock shows
            for name, flag in (
                ("feed_mono_ns", Stale.BOOK),
                ("snapshot_mono_ns", Stale.BOOK),
                ("worker_mono_ns", Stale.WORKER),
                ("reconciled_mono_ns", Stale.RECONCILIATION),
            )
        ),
    ],
)
def test_what_is_too_old(changes: dict[str, int], expected: Stale) -> None:
    arena = new_arena()
    market, signs = new_market(arena, risk=RISK), FRESH | changes
    lib.top_write(
        cell(arena.market(0), "top"), ffi.new("top_t *", {"valid": signs["book_valid"], "bid_ticks": -1})
    )
    ingest, quoter = arena.process(lib.PROCESS_INGEST), arena.process(lib.PROCESS_QUOTER_FIRST)
    lib.cell_store(cell(ingest, "heartbeat_mono_ns"), signs["feed_mono_ns"])
    lib.cell_store(cell(quoter, "heartbeat_mono_ns"), signs["worker_mono_ns"])
    lib.cell_store(cell(arena.market(0).feed, "snapshot_mono_ns"), signs["snapshot_mono_ns"])
    market.reconciled(signs["reconciled_mono_ns"])
    assert market.stale(NOW) == expected


# -- C17


def date_of(unix_ns: int) -> bytes:
    return format_datetime(datetime.fromtimestamp(unix_ns // S, UTC), usegmt=True).encode()


def envelope(unix_ns: int) -> bytes:
    stamp = datetime.fromtimestamp(unix_ns / S, UTC).isoformat(timespec="milliseconds")
    return b'{"code":0,"data":{"timestamp":"1999-01-01T00:00:00Z"},"timestamp":"%b"}' % stamp.encode()


@pytest.mark.parametrize("offset_ms", [0, 200, -200, 400, -400, 5_000, -5_000])
@pytest.mark.parametrize("stamped", [True, False])
def test_answers_prove_a_difference_of_the_clocks(offset_ms: int, stamped: bool) -> None:
    clock = VenueClock()
    start = 1_750_000_000 * S
    for number in range(200):  # every 70 ms, 10 ms under way, stamped half way
        sent = start + number * 70 * MS
        at = sent + 5 * MS + offset_ms * MS
        clock.seen(
            date_of(at),
            envelope(at) if stamped else b"{}",
            sent_unix_ns=sent,
            received_unix_ns=sent + 10 * MS,
        )
    # a header counts for up to a second more than it says
    slack_ms = 10 if stamped else 80 + (1_000 if offset_ms < 0 else 0)
    assert abs(offset_ms) - slack_ms <= clock.proven_ms <= abs(offset_ms)


def test_a_slow_or_unreadable_answer_proves_nothing_against_the_venue() -> None:
    clock = VenueClock()
    start = 1_750_000_000 * S
    clock.seen(date_of(start), b"", sent_unix_ns=start, received_unix_ns=start + 30 * S)
    clock.seen(b"yesterday", b"{}", sent_unix_ns=start, received_unix_ns=start)
    clock.seen(b"", b'{"timestamp":"soon"}', sent_unix_ns=start, received_unix_ns=start)
    clock.seen(b"", b'{"timestamp":"2025-06-15T15:06:40', sent_unix_ns=start, received_unix_ns=start)
    assert clock.proven_ms == 0


def test_an_answer_without_any_time_is_no_reading() -> None:
    clock = VenueClock()
    clock.seen(b"", b"", sent_unix_ns=1_750_000_000 * S, received_unix_ns=1_750_000_000 * S)
    assert clock.proven_ms == 0


def test_a_clock_that_was_set_right_is_believed() -> None:
    clock = VenueClock()
    start = 1_750_000_000 * S
    for offset_ms, seconds in ((9_000, 5), (0, 65)):
        for number in range(seconds * 10):
            sent = start + number * 100 * MS
            clock.seen(b"", envelope(sent + offset_ms * MS), sent_unix_ns=sent, received_unix_ns=sent)
        start += seconds * S
    assert clock.proven_ms == 0
