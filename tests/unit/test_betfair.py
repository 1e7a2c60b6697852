"""The recorded Betfair stream: conversion to cents, files in three encodings, ladders, takers, refusals."""

import bz2
import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.paper.betfair import (
    FeedError,
    Level,
    Message,
    Outcome,
    RecordedMarket,
    RecordedStream,
    RunnerChange,
    Step,
    Taker,
    ask_cents,
    bid_cents,
    contracts,
    describe,
    mid_cents,
    yes_book,
)

YES_RUNNER = 11
NO_RUNNER = 22


def definition(
    status: str = "OPEN", *, in_play: bool = False, winner: int | None = None, runners: int = 2
) -> dict[str, Any]:
    ids = [YES_RUNNER, NO_RUNNER, *range(100, 100 + runners)][:runners]
    return {
        "status": status,
        "inPlay": in_play,
        "runners": [
            {
                "id": runner,
                "sortPriority": priority,
                "status": "ACTIVE" if winner is None else "WINNER" if runner == winner else "LOSER",
            }
            for priority, runner in enumerate(ids, start=1)
        ],
    }


def line(publish_ms: int, *changes: dict[str, Any], **market: Any) -> dict[str, Any]:
    return {"op": "mcm", "pt": publish_ms, "clk": "x", "mc": [{"id": "1.1", "rc": list(changes), **market}]}


def encoded(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in lines)


def write(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "feed"
    path.write_bytes(encoded(*lines))
    return path


def replay(folder: Path, *lines: dict[str, Any]) -> tuple[RecordedMarket, list[Step]]:
    market = RecordedMarket()
    return market, [market.apply(message) for message in RecordedStream(write(folder, *lines))]


# --- conversion -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("odds", "bid", "ask"),
    [
        ("1.01", 99, 99),  # 99.0099…: the offer would be 100, clipped
        ("1.25", 80, 80),  # exact: both sides land on the same cent
        ("1.26", 79, 80),
        ("1.5", 66, 67),
        ("1.50", 66, 67),
        ("2", 50, 50),
        ("2.02", 49, 50),
        ("3", 33, 34),
        ("100", 1, 1),
        ("110", 1, 1),  # 0.909…: the bid would be 0, clipped
        ("1000", 1, 1),
    ],
)
def test_odds_become_cents_bids_down_and_offers_up(odds: str, bid: int, ask: int) -> None:
    assert (bid_cents(Decimal(odds)), ask_cents(Decimal(odds))) == (bid, ask)


@pytest.mark.parametrize(
    ("stake", "odds", "quantity"),
    [
        ("20", "1.01", 20),  # 20.2
        ("21.19", "1.01", 21),
        ("1000", "1.02", 1020),  # 1020.0 exactly: 1000 * 1.02 in binary floats is 1020.0000000000001 or less
        ("0.29", "100", 29),  # 0.29 * 100 in binary floats is 28.999999999999996
        ("1.1", "1.1", 1),
        ("0.99", "1.01", 0),
        ("0", "2", 0),
        ("953.89", "1.03", 982),
    ],
)
def test_a_stake_is_whole_contracts(stake: str, odds: str, quantity: int) -> None:
    assert contracts(Decimal(stake), Decimal(odds)) == quantity


def test_traded_volume_counts_both_sides_and_is_halved_before_rounding() -> None:
    assert contracts(Decimal("3"), Decimal("1.5"), share=2) == 2  # 1.5 * 1.5 = 2.25
    assert contracts(Decimal("0.58"), Decimal("100"), share=2) == 29


@given(
    st.decimals(min_value="1.01", max_value="1000", places=2),
    st.decimals(min_value=0, max_value=10**7, places=2),
)
def test_conversion_is_exact(odds: Decimal, stake: Decimal) -> None:
    price = Fraction(100) / Fraction(odds)
    assert bid_cents(odds) == min(max(floor(price), 1), 99)
    assert ask_cents(odds) == min(max(ceil(price), 1), 99)
    assert contracts(stake, odds) == floor(Fraction(stake) * Fraction(odds))
    assert contracts(stake, odds, share=2) == floor(Fraction(stake) * Fraction(odds) / 2)


@pytest.mark.parametrize(
    ("runner", "ladder", "level", "bids", "asks"),
    [
        # odds 1.5 are 66.67 cents
        (YES_RUNNER, "atb", Level("NO", 33), [], [(67, 150)]),
        (YES_RUNNER, "atl", Level("YES", 66), [(66, 150)], []),
        (NO_RUNNER, "atb", Level("YES", 33), [(33, 150)], []),
        (NO_RUNNER, "atl", Level("NO", 66), [], [(34, 150)]),
    ],
)
def test_every_ladder_is_a_purchase_on_the_yes_book(
    tmp_path: Path,
    runner: int,
    ladder: str,
    level: Level,
    bids: list[tuple[int, int]],
    asks: list[tuple[int, int]],
) -> None:
    market, steps = replay(
        tmp_path, line(1, marketDefinition=definition()), line(2, {"id": runner, ladder: [[1.5, 100]]})
    )
    assert market.levels == {level: 150}
    assert steps[-1] == Step(takers=(), levels={level: 150})
    assert yes_book(market.levels) == (bids, asks)


# --- ladders ----------------------------------------------------------------------------


def test_odds_on_the_same_cent_and_both_runners_add_up(tmp_path: Path) -> None:
    market, _ = replay(
        tmp_path,
        line(1, marketDefinition=definition()),
        line(2, {"id": YES_RUNNER, "atl": [[2.5, 10], [2.49, 10]]}),  # bids at 40 and floor(40.16) = 40
        line(3, {"id": NO_RUNNER, "atb": [[1.67, 100]]}),  # offer to sell NO at 60 = bid for YES at 40
    )
    assert market.levels == {Level("YES", 40): 25 + 24 + 167}


def test_stakes_are_absolute_and_zero_deletes(tmp_path: Path) -> None:
    market, steps = replay(
        tmp_path,
        line(1, marketDefinition=definition()),
        line(2, {"id": YES_RUNNER, "atl": [[2, 10], [4, 10]]}),
        line(3, {"id": YES_RUNNER, "atl": [[2, 7]]}),
        line(4, {"id": YES_RUNNER, "atl": [[2, 0], [4, 10]]}),
        line(5, {"id": YES_RUNNER, "atl": [[2, 0]]}),
    )
    assert [step.levels for step in steps[2:]] == [{Level("YES", 50): 14}, {Level("YES", 50): 0}, {}]
    assert market.levels == {Level("YES", 25): 40}


def test_an_image_replaces_everything_and_makes_no_takers(tmp_path: Path) -> None:
    market, steps = replay(
        tmp_path,
        line(1, marketDefinition=definition(), img=True),
        line(2, {"id": YES_RUNNER, "atl": [[2, 10]], "atb": [[1.9, 10]], "trd": [[2, 10]]}),
        line(3, {"id": NO_RUNNER, "atl": [[2, 10]]}),
        line(
            4,
            {"id": YES_RUNNER, "atl": [[2, 10], [4, 5]], "trd": [[2, 50]]},
            marketDefinition=definition(),
            img=True,
        ),
        line(5, {"id": YES_RUNNER, "trd": [[2, 60]]}),
    )
    assert steps[3] == Step(takers=(), levels={Level("NO", 47): 0, Level("NO", 50): 0, Level("YES", 25): 20})
    assert market.levels == {Level("YES", 50): 20, Level("YES", 25): 20}
    assert [taker.quantity for taker in steps[4].takers] == [10]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([YES_RUNNER, NO_RUNNER]),
            st.sampled_from(["atb", "atl"]),
            st.integers(101, 400),
            st.integers(0, 500_00),
        ),
        max_size=60,
    )
)
def test_levels_equal_the_ladder_summed_from_scratch(changes: list[tuple[int, str, int, int]]) -> None:
    market = RecordedMarket()
    stakes: dict[tuple[int, str, int], int] = {}
    for runner, ladder, odds, stake in changes:
        stakes[runner, ladder, odds] = stake
        message = _message(runner, ladder, odds, stake)
        before = dict(market.levels)
        changed = dict(market.apply(message).levels)
        assert before | changed == market.levels | {level: 0 for level in changed if not changed[level]}
        expected: dict[Level, int] = {}
        for (each_runner, each_ladder, each_odds), each_stake in stakes.items():
            own: Outcome = "YES" if each_runner == YES_RUNNER else "NO"
            other: Outcome = "NO" if own == "YES" else "YES"
            if each_ladder == "atl":
                level = Level(own, min(max(10_000 // each_odds, 1), 99))
            else:
                level = Level(other, 100 - min(max(-(-10_000 // each_odds), 1), 99))
            expected[level] = expected.get(level, 0) + each_stake * each_odds // 10_000
        assert market.levels == {level: quantity for level, quantity in expected.items() if quantity}


def _message(runner: int, ladder: str, odds_hundredths: int, stake_hundredths: int) -> Message:
    pairs = ((Decimal(odds_hundredths) / 100, Decimal(stake_hundredths) / 100),)
    return Message(
        line=1,
        publish_ms=1,
        image=False,
        definition=None,
        changes=(
            RunnerChange(
                outcome="YES" if runner == YES_RUNNER else "NO",
                to_back=pairs if ladder == "atb" else (),
                to_lay=pairs if ladder == "atl" else (),
                traded=(),
            ),
        ),
    )


# --- takers -----------------------------------------------------------------------------

BOOK = {"id": YES_RUNNER, "atb": [[1.9, 10]], "atl": [[2.1, 10]]}


@pytest.mark.parametrize(
    ("odds", "level"),
    [
        (1.9, Level("YES", 53)),  # at the offer: a buyer who pays up to 52.63 rounded up
        (1.8, Level("YES", 56)),
        (2.1, Level("NO", 53)),  # at the bid: a seller who gets 47.62 rounded down, so buys NO at 53
        (2.0, Level("NO", 50)),  # in the middle: not nearer the offers
    ],
)
def test_a_taker_buys_when_nearer_the_offers(tmp_path: Path, odds: float, level: Level) -> None:
    _, steps = replay(
        tmp_path,
        line(1, marketDefinition=definition()),
        line(2, BOOK),
        line(3, {"id": YES_RUNNER, "trd": [[odds, 100]]}),
    )
    assert steps[-1].takers == (Taker(level=level, quantity=int(50 * Decimal(str(odds)))),)


def test_takers_of_the_second_runner_are_mirrored(tmp_path: Path) -> None:
    _, steps = replay(
        tmp_path,
        line(1, marketDefinition=definition()),
        line(2, BOOK | {"id": NO_RUNNER}),
        line(3, {"id": NO_RUNNER, "trd": [[1.9, 100], [2.1, 100]]}),
    )
    assert steps[-1].takers == (
        Taker(level=Level("NO", 53), quantity=95),
        Taker(level=Level("YES", 53), quantity=105),
    )


def test_increments_are_halved_and_only_growth_takes(tmp_path: Path) -> None:
    _, steps = replay(
        tmp_path,
        line(1, marketDefinition=definition()),
        line(2, BOOK),
        line(3, {"id": YES_RUNNER, "trd": [[2.1, 40]]}),
        line(4, {"id": YES_RUNNER, "trd": [[2.1, 60.5]]}),
        line(5, {"id": YES_RUNNER, "trd": [[2.1, 50]]}),
        line(6, {"id": YES_RUNNER, "trd": [[2.1, 50]]}),
        line(7, {"id": YES_RUNNER, "trd": [[2.1, 0]]}),
        line(8, {"id": YES_RUNNER, "trd": [[2.1, 4]]}),
    )
    quantities = [[taker.quantity for taker in step.takers] for step in steps[2:]]
    assert quantities == [[42], [21], [], [], [], [4]]


def test_takers_are_judged_by_the_ladder_before_the_message(tmp_path: Path) -> None:
    _, steps = replay(
        tmp_path,
        line(1, marketDefinition=definition()),
        line(2, BOOK),
        line(3, {"id": YES_RUNNER, "trd": [[1.9, 20]], "atb": [[1.9, 0]], "atl": [[2.1, 0], [1.9, 5]]}),
    )
    assert steps[-1].takers == (Taker(level=Level("YES", 53), quantity=19),)


# --- files ------------------------------------------------------------------------------

MATCH = (
    line(1_000, marketDefinition=definition(), img=True),
    line(2_000, {"id": YES_RUNNER, "atb": [[1.9, 10]], "atl": [[2.1, 1000]]}),
    line(3_000, marketDefinition=definition("SUSPENDED")),
    line(4_000, {"id": YES_RUNNER, "atb": [[1.8, 7]]}, marketDefinition=definition(in_play=True)),
    {"op": "mcm", "pt": 4_500, "ct": "HEARTBEAT"},
    line(5_000, {"id": YES_RUNNER, "trd": [[2.1, 30000]]}),
    line(5_500, {"id": YES_RUNNER, "atl": [[2.1, 900]]}),
    line(6_000, marketDefinition=definition("CLOSED", in_play=True, winner=NO_RUNNER)),
)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress])
def test_files_are_read_by_content_whatever_their_name(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "match.txt"
    path.write_bytes(compress(encoded(*MATCH)))
    messages = list(RecordedStream(path))
    assert [message.line for message in messages] == [1, 2, 3, 4, 6, 7, 8]
    assert [message.publish_ms for message in messages][-1] == 6_000
    assert [message.definition.status for message in messages if message.definition] == [
        "OPEN",
        "SUSPENDED",
        "OPEN",
        "CLOSED",
    ]


def test_describe_from_the_start(tmp_path: Path) -> None:
    summary = describe(write(tmp_path, *MATCH), "start")
    assert (summary.market_id, summary.yes_runner_id, summary.no_runner_id) == ("1.1", YES_RUNNER, NO_RUNNER)
    assert (summary.messages, summary.ladder_messages, summary.recorded_ms) == (7, 3, 5_000)
    assert summary.first_mid_cents == 50  # bid 47, ask 53
    assert summary.level_contracts_max == 2100
    assert summary.resting_cash_cents_max == 2100 * 47 + 19 * 47 + 12 * 44
    assert (summary.taker_orders, summary.taker_contracts) == (1, 31_500)
    assert summary.result == "NO"
    assert summary.market_max_order_quantity == 31_500
    assert summary.market_max_position_per_user >= 2 * 31_500
    assert summary.market_max_order_amount_cents == 31_500 * 53
    assert summary.crowd_funds_cents >= summary.resting_cash_cents_max + 100 * 31_500
    assert summary.taker_funds_cents >= 31_500 * 53


def test_describe_from_in_play_begins_with_what_stood_before(tmp_path: Path) -> None:
    summary = describe(write(tmp_path, *MATCH), "inplay")
    assert (summary.messages, summary.ladder_messages, summary.recorded_ms) == (4, 2, 2_000)
    assert summary.first_mid_cents == 50


def test_a_mid_between_cents_is_rounded_up() -> None:
    assert mid_cents({Level("YES", 47): 1, Level("NO", 48): 1}) == 50
    assert mid_cents({Level("YES", 47): 1}) is None


@pytest.mark.parametrize(("winner", "result"), [(YES_RUNNER, "YES"), (NO_RUNNER, "NO"), (99, "VOID")])
def test_the_winner_is_the_result(tmp_path: Path, winner: int, result: str) -> None:
    closed = line(6_000, marketDefinition=definition("CLOSED", winner=winner))
    assert describe(write(tmp_path, *MATCH[:-1], closed), "start").result == result


def test_a_runner_is_yes_by_priority_not_by_place(tmp_path: Path) -> None:
    swapped = definition()
    swapped["runners"].reverse()
    stream = RecordedStream(write(tmp_path, line(1, marketDefinition=swapped)))
    assert len(list(stream)) == 1
    assert stream.runners == (YES_RUNNER, NO_RUNNER)


@pytest.mark.parametrize(
    ("content", "where", "rule"),
    [
        (b"", "line 1", "market definition"),
        (b"hello\n", "line 1", "market-change message"),
        (b"\x7fELF\x02\x01\x01\x00" * 100, "line 1", "market-change message"),
        (b'{"a": 1}\n', "line 1", "market-change message"),
        (b'{"op": "subscribe"}\n', "line 1", "market-change message"),
        (b'{"op":"mcm","mc":[{"id":"1.1"}]}\n', "line 1", "market-change message"),
        (encoded(MATCH[0]) + b'{"op":"mc', "line 2", "market-change message"),
        (gzip.compress(encoded(*MATCH))[:-20], "line", "complete file"),
        (b"\x1f\x8b\x08\x00garbage", "feed", "complete file"),
        (b"BZh9garbage", "feed", "complete file"),
        (encoded(line(1, {"id": YES_RUNNER, "atb": [[2, 1]]})), "line 1", "definition comes first"),
        (encoded(line(1, marketDefinition=definition(runners=10))), "line 1", "two-runner market"),
        (encoded(line(1, marketDefinition=definition(runners=1))), "line 1", "two-runner market"),
        (encoded(line(1, marketDefinition=definition("PAUSED"))), "line 1", "must be one of"),
        (encoded(MATCH[0], line(2, {"id": 99, "atb": [[2, 1]]})), "line 2", "must be one of"),
        (encoded(MATCH[0], line(2, {"id": 11, "atb": [[1, 1]]})), "line 2", "above 1"),
        (encoded(MATCH[0], line(2, {"id": 11, "atl": [[1001, 1]]})), "line 2", "at most 1000"),
        (encoded(MATCH[0], line(2, {"id": 11, "trd": [[2, -1]]})), "line 2", "0.."),
        (encoded(MATCH[0]) + b'{"op":"mcm","pt":2,"mc":[{"id":"1.1","rc":[{"id":11,"atb":[[2,1e-900]]}]}]}',
         "line 2", "decimals"),
        (encoded(MATCH[0], line(2, {"id": 11, "atb": [["NaN", 1]]})), "line 2", "above 1"),
        (encoded(MATCH[0], {"op": "mcm", "pt": 2, "mc": [{"id": "1.2"}]}), "line 2", "one market"),
        (encoded(MATCH[0], line(2, {"id": 11, "batb": [[0, 2, 1]]})), "line 2", "whole ladders"),
        (encoded(MATCH[0]), "line 1", "first mid"),
    ],
)  # fmt: skip
def test_what_is_not_a_two_runner_stream_is_refused_in_one_line(
    tmp_path: Path, content: bytes, where: str, rule: str
) -> None:
    path = tmp_path / "feed"
    path.write_bytes(content)
    with pytest.raises(FeedError) as caught:
        describe(path, "start")
    text = str(caught.value)
    assert text.startswith(f"feed {path}: ")
    assert where in text
    assert rule in text
    assert "\n" not in text


def test_a_recording_that_never_goes_in_play_is_refused_from_inplay(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="line 3: end of file before the match"):
        describe(write(tmp_path, *MATCH[:3]), "inplay")


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(FeedError, match="must be a readable and complete file"):
            describe(path, "start")
