"""Shares of time, and the verdicts a report comes to."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kpi_file import KpiDocument
from engine.kpi_values import MarketRecord, Tally
from engine.report import (
    ExchangeView,
    FeedReport,
    Machine,
    MarketReport,
    RedisReport,
    Report,
    TickToQuote,
    presence,
    verdicts,
)
from engine.report_view import quality
from engine.spans import Spans, Switch, clip, intersect, share, total_ns

SECOND_NS = 1_000_000_000


def market(**changes: object) -> MarketReport:
    """A market with which all is well, changed as asked."""
    good = MarketReport(
        market_id="MKT-DEMO-01",
        pid=4711,
        cpu=1,
        cpu_planned=1,
        book_messages=900,
        deltas=1200,
        sequence_gaps=0,
        laps=0,
        quotes=50,
        places=10,
        replaces=80,
        cancels=3,
        rejects=0,
        fills=7,
        presence=0.99,
        presence_after_3s=0.995,
        presence_total=0.7,
        ungated_ms=14_000,
        gated_ms={"POST_FILL": 6_000},
        kills=0,
        live_orders_at_exit=0,
        yes_volume=2500,
        no_volume=2400,
        cash_cents=251_000,
        pnl_cents=120,
        exchange=ExchangeView(yes_volume=2500, no_volume=2400, cash_cents=251_000),
        tick_to_quote_ns=TickToQuote(p50=40_000, p99=300_000, max=900_000, count=500),
    )
    return msgspec.structs.replace(good, **changes)


def report(*markets: MarketReport, feed: FeedReport | None = None) -> Report:
    return Report(
        seconds=20.0,
        seed=1,
        restarts=0,
        redis=RedisReport(writes=900, keys=9),
        markets=markets,
        machine=Machine(cores=2, kernel="6.1", python="3.11"),
        feed=feed,
    )


def cells(spans: Spans) -> set[int]:
    """The obvious model of spans over small integers: the set of instants they cover."""
    return {instant for start, end in spans for instant in range(start, end)}


@st.composite
def some_spans(draw: st.DrawFn) -> Spans:
    edges = sorted(draw(st.sets(st.integers(0, 60), max_size=12)))
    return tuple(zip(edges[::2], edges[1::2], strict=False))


@given(left=some_spans(), right=some_spans())
def test_intersection_is_that_of_the_instants(left: Spans, right: Spans) -> None:
    common = intersect(left, right)
    assert cells(common) == cells(left) & cells(right)
    assert total_ns(common) == len(cells(left) & cells(right))
    assert list(common) == sorted(common)


@given(spans=some_spans(), start=st.integers(0, 60), end=st.integers(0, 60))
def test_clip_keeps_what_is_inside(spans: Spans, start: int, end: int) -> None:
    assert cells(clip(spans, start, end)) == cells(spans) & set(range(start, end))


@given(changes=st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=20), until=st.integers(0, 80))
def test_a_switch_is_on_exactly_between_on_and_off(changes: list[tuple[bool, int]], until: int) -> None:
    changes.sort(key=lambda change: change[1])
    until = max([until, *(at for _, at in changes)])
    switch = Switch()
    expected: set[int] = set()
    since: int | None = None
    for on, at in changes:
        switch.set(on=on, at_ns=at)
        if on and since is None:
            since = at
        elif not on and since is not None:
            expected |= set(range(since, at))
            since = None
    if since is not None:
        expected |= set(range(since, until))
    spans = switch.spans(until)
    assert cells(spans) == expected
    assert all(left[1] < right[0] for left, right in pairwise(spans)), "no two touch"


def test_a_switch_does_not_go_back_in_time() -> None:
    switch = Switch()
    switch.set(on=True, at_ns=100)
    switch.set(on=False, at_ns=90)
    switch.set(on=True, at_ns=95)
    assert switch.spans(110) == ((100, 110),)


def test_a_share_of_nothing_is_unknown() -> None:
    assert share(((0, 5),), ()) is None
    assert share((), ((0, 5),)) == 0.0


def test_presence_counts_only_free_time_before_the_stop() -> None:
    found = presence(
        both_sides=((1 * SECOND_NS, 4 * SECOND_NS), (6 * SECOND_NS, 30 * SECOND_NS)),
        free=((0, 2 * SECOND_NS), (5 * SECOND_NS, 30 * SECOND_NS)),
        first_quote_ns=0,
        stop_ns=10 * SECOND_NS,
    )
    # free before the stop: 0-2 and 5-10 s, 7 s; present of it: 1-2 and 6-10 s
    assert found.ungated == pytest.approx(5 / 7, abs=1e-6)
    assert found.ungated_after_3s == pytest.approx(4 / 5, abs=1e-6)
    assert found.total == pytest.approx(7 / 10, abs=1e-6)
    assert found.ungated_ms == 7_000


def test_presence_of_a_market_that_never_was_free_is_unknown() -> None:
    found = presence(both_sides=(), free=(), first_quote_ns=5, stop_ns=5)
    assert (found.ungated, found.ungated_after_3s, found.total, found.ungated_ms) == (None, None, None, 0)


def test_nothing_is_wrong_with_a_good_run() -> None:
    assert verdicts(report(market())) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"live_orders_at_exit": 2}, "2 orders are still live"),
        ({"yes_volume": 2501}, "yes_volume is 2501 in the worker and 2500 at the exchange"),
        ({"no_volume": 0}, "no_volume is 0 in the worker and 2400 at the exchange"),
        ({"cash_cents": 250_999}, "cash_cents is 250999 in the worker and 251000 at the exchange"),
        ({"kills": 1}, "stopped 1 times"),
        ({"cpu": 0}, "ran on core 0, planned was 1"),
        ({"cpu": None}, "ran on core None, planned was 1"),
    ],
)
def test_every_disagreement_is_named(changes: dict[str, object], words: str) -> None:
    (line,) = verdicts(report(market(), market(market_id="MKT-DEMO-02", **changes)))
    assert line.startswith("MKT-DEMO-02: ")
    assert words in line


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, False),
        ({"matched": 99}, True),
        ({"checkpoints": 0, "matched": 0}, True),
        ({"checkpoints": 0, "matched": 0, "finished": False}, False),
    ],
)
def test_a_feed_must_match_at_every_checkpoint(changes: dict[str, object], wrong: bool) -> None:
    feed = FeedReport(
        file="match", start="inplay", speed=60.0, messages=10, checkpoints=100, matched=100, finished=True
    )
    feed = msgspec.structs.replace(feed, **changes)
    assert bool(verdicts(report(market(), feed=feed))) == wrong


def test_the_report_is_the_json_that_was_promised() -> None:
    decoded = msgspec.json.decode(msgspec.json.encode(report(market())))
    assert {"seconds", "restarts", "redis", "markets"} <= set(decoded)
    assert set(decoded["redis"]) == {"writes", "keys"}
    promised = (
        "market_id pid cpu book_messages deltas sequence_gaps laps quotes places replaces cancels rejects "
        "fills presence presence_total gated_ms kills live_orders_at_exit yes_volume no_volume cash_cents "
        "pnl_cents exchange tick_to_quote_ns"
    )
    (only,) = decoded["markets"]
    assert set(promised.split()) <= set(only)
    assert set(only["exchange"]) == {"yes_volume", "no_volume", "cash_cents"}
    assert set(only["tick_to_quote_ns"]) == {"p50", "p99", "max", "count"}


@pytest.mark.parametrize(
    ("tally", "restarts", "lost", "said"),
    [
        ({"capture_cents": 5, "assets_change_cents": 4, "venue_checks": 1}, 0, 0, "miss it by -1 cents"),
        ({"unexplained_cents": 3, "unexplained_abs_cents": 3, "assets_change_cents": 3}, 0, 0, "3 cents"),
        ({"unexplained_cents": 3, "unexplained_abs_cents": 3, "assets_change_cents": 3}, 1, 0, ""),
        ({"unexplained_cents": 3, "unexplained_abs_cents": 3, "assets_change_cents": 3}, 0, 9, ""),
        ({"capture_cents": 5, "assets_change_cents": 5, "venue_checks": 1}, 0, 0, ""),
        ({}, 0, 0, ""),
    ],
)
def test_the_parts_of_pnl_must_add_up(tally: dict[str, int], restarts: int, lost: int, said: str) -> None:
    total = msgspec.structs.replace(Tally(priced_shares=1), **tally)
    record = MarketRecord(market_id="MKT-DEMO-01", total=total)
    recorded = quality(KpiDocument(lost_records=lost, markets=[record]))
    found = verdicts(msgspec.structs.replace(report(market()), restarts=restarts, quality=recorded))
    assert (len(found) == 1 and said in found[0]) if said else found == ()
