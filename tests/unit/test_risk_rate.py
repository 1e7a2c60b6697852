"""Token buckets against the venue's way of counting: fixed minutes of unknown phase."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.risk.rate import WINDOW_NS, TokenBucket, WindowLimit

MS = 1_000_000


@given(
    limit=st.integers(3, 1_000),
    phase_ns=st.integers(0, WINDOW_NS - 1),
    gaps_ms=st.lists(st.integers(0, 3_000), min_size=50, max_size=600),
)
def test_no_fixed_minute_ever_sees_more_than_the_limit(limit: int, phase_ns: int, gaps_ms: list[int]) -> None:
    """A sender that takes every token it can at each look, whatever the window's phase."""
    now_ns = 10 * WINDOW_NS + phase_ns
    bucket = TokenBucket(limit, now_ns)
    sent: dict[int, int] = {}
    for gap_ms in gaps_ms:
        now_ns += gap_ms * MS
        while bucket.tokens(now_ns) > 0:
            bucket.take(now_ns)
            window = now_ns // WINDOW_NS
            sent[window] = sent.get(window, 0) + 1
    assert max(sent.values()) <= limit


def test_it_gives_two_thirds_of_the_limit_per_minute_and_a_third_at_once() -> None:
    bucket = TokenBucket(600, 0)
    assert bucket.tokens(0) == bucket.capacity == 200
    for _ in range(200):
        bucket.take(0)
    assert bucket.tokens(0) == 0
    assert bucket.tokens(WINDOW_NS // 400) == 1
    assert bucket.tokens(WINDOW_NS // 4) == 100
    assert bucket.tokens(10 * WINDOW_NS) == 200


def test_a_resend_may_overdraw_and_is_paid_back_first() -> None:
    bucket = TokenBucket(30, 0)
    for _ in range(12):
        bucket.take(0)
    assert bucket.tokens(0) == 0
    assert bucket.tokens(2 * WINDOW_NS // 20) == 0
    assert bucket.tokens(3 * WINDOW_NS // 20) == 1


def test_shut_by_the_venue_it_gives_nothing_until_then() -> None:
    bucket = TokenBucket(600, 0)
    bucket.shut(5 * MS)
    bucket.shut(3 * MS)
    assert bucket.tokens(5 * MS - 1) == 0
    assert bucket.tokens(5 * MS) == 200


def test_a_clock_that_steps_back_gives_nothing_twice() -> None:
    bucket = TokenBucket(3, WINDOW_NS)
    bucket.take(WINDOW_NS)
    assert bucket.tokens(0) == 0
    assert bucket.tokens(WINDOW_NS + WINDOW_NS // 4) == 0
    assert bucket.tokens(WINDOW_NS + WINDOW_NS // 2) == 1


def test_a_limit_too_small_for_a_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match="limit_per_minute=2"):
        TokenBucket(2, 0)


@given(limit=st.integers(1, 20), gaps_ms=st.lists(st.integers(0, 9_000), min_size=20, max_size=300))
def test_a_window_limit_gives_all_at_once_and_no_more_in_any_minute(limit: int, gaps_ms: list[int]) -> None:
    now_ns, starts = 0, WindowLimit(limit)
    sent: list[int] = []
    for gap_ms in gaps_ms:
        now_ns += gap_ms * MS
        while starts.free(now_ns):
            starts.take(now_ns)
            sent.append(now_ns)
    assert sent[:limit] == [sent[0]] * limit
    assert all(later - earlier >= WINDOW_NS for earlier, later in zip(sent, sent[limit:], strict=False))


def test_a_window_limit_that_the_venue_shuts_gives_nothing_until_then() -> None:
    starts = WindowLimit(2)
    starts.shut(5 * MS)
    assert not starts.free(5 * MS - 1)
    assert starts.free(5 * MS)
