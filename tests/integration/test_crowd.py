"""The recorded-feed participant as a real process against a real exchange."""

import asyncio
import bz2
import gzip
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import pytest

from engine.paper.betfair import describe
from engine.paper.client import ExchangeClient, open_session
from tests.integration.participants import (
    DEADLINE_S,
    ROOT,
    Account,
    PaperExchange,
    Process,
    eventually,
    exchange_in,
    running,
)

MARKET = "REPLAY"
YES_RUNNER = 11
NO_RUNNER = 22
DATA = Path(os.environ.get("COREQUOTE_DATA", ROOT.parent / "shared" / "data"))
MATCH = DATA / "betfair" / "betfair_mcm_1.200806927_tennis_match_odds_2022-07.jsonl.gz"


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[PaperExchange]:
    with exchange_in(tmp_path) as started:
        yield started


# --- recordings -------------------------------------------------------------------------


def state(status: str = "OPEN", *, in_play: bool = True, winner: int | None = None) -> dict[str, Any]:
    runners = [
        {
            "id": runner,
            "sortPriority": priority,
            "status": "ACTIVE" if winner is None else "WINNER" if runner == winner else "LOSER",
        }
        for priority, runner in ((1, YES_RUNNER), (2, NO_RUNNER))
    ]
    return {"status": status, "inPlay": in_play, "runners": runners}


def line(publish_ms: int, *changes: dict[str, Any], **market: Any) -> dict[str, Any]:
    return {"op": "mcm", "pt": publish_ms, "mc": [{"id": "1.1", "rc": list(changes), **market}]}


def yes(**ladders: list[list[float]]) -> dict[str, Any]:
    return {"id": YES_RUNNER, **ladders}


def no(**ladders: list[list[float]]) -> dict[str, Any]:
    return {"id": NO_RUNNER, **ladders}


def write(path: Path, *lines: dict[str, Any], compress: Callable[[bytes], bytes] = bytes) -> Path:
    path.write_bytes(compress(b"".join(json.dumps(each).encode() + b"\n" for each in lines)))
    return path


def ladder_of(lines: list[dict[str, Any]]) -> tuple[list[list[int]], list[list[int]]]:
    """The YES book that a recording means after these lines, straight from the rules, with fractions."""
    stakes: dict[tuple[int, str, Decimal], Decimal] = {}
    runners: dict[int, int] = {}
    for change in (change for each in lines for change in each["mc"]):
        if change.get("img"):
            stakes.clear()
        for runner in change.get("marketDefinition", {}).get("runners", []):
            runners[int(runner["id"])] = int(runner["sortPriority"])
        for rc, ladder in itertools.product(change.get("rc", []), ("atb", "atl")):
            for odds, stake in rc.get(ladder, []):
                stakes[int(rc["id"]), ladder, Decimal(str(odds))] = Decimal(str(stake))
    book: dict[str, dict[int, int]] = {"bid": {}, "ask": {}}
    for (runner, ladder, odds), stake in stakes.items():
        price = Fraction(100) / Fraction(odds)
        cents = min(max(ceil(price) if ladder == "atb" else floor(price), 1), 99)
        side = "ask" if ladder == "atb" else "bid"
        if runners[runner] == 2:
            cents, side = 100 - cents, "bid" if side == "ask" else "ask"
        quantity = floor(Fraction(stake) * Fraction(odds))
        book[side][cents] = book[side].get(cents, 0) + quantity
    bids = sorted(([c, q] for c, q in book["bid"].items() if q), reverse=True)
    return bids, sorted([c, q] for c, q in book["ask"].items() if q)


# --- processes --------------------------------------------------------------------------


def create_market(exchange: PaperExchange, feed: Path, *, start: str = "start") -> Account:
    """A market with the limits the recording needs; returns the operator."""
    assert start in {"start", "inplay"}
    summary = describe(feed, "start" if start == "start" else "inplay")
    operator = exchange.operator()
    columns = {
        "id": MARKET,
        "title": "Replay",
        "max_order_quantity": summary.market_max_order_quantity,
        "max_position_per_user": summary.market_max_position_per_user,
        "max_order_amount_cents": summary.market_max_order_amount_cents,
    }
    operator.post("admin/markets", columns)
    return operator


def crowd(folder: Path, exchange: PaperExchange, feed: Path, *options: str) -> Process:
    command = ["engine.paper.crowd", "--url", exchange.url, "--market", MARKET, "--feed", f"betfair:{feed}"]
    return Process(folder, *command, *options)


# --- tests ------------------------------------------------------------------------------

OPENING = (
    line(1_000, marketDefinition=state(in_play=False), img=True),
    line(2_000, yes(atb=[[1.9, 10]], atl=[[2.1, 1000], [2.5, 40]]), no(atb=[[2.0, 33.3]], atl=[[2.2, 50]])),
)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress])
def test_a_match_from_open_to_settled(
    tmp_path: Path, exchange: PaperExchange, compress: Callable[[bytes], bytes]
) -> None:
    lines = [
        *OPENING,
        line(3_000, yes(atl=[[2.1, 900], [2.5, 0]])),
        line(4_000, yes(trd=[[2.1, 100]])),  # a seller of 105 contracts at the bid, put back afterwards
        line(5_000, no(atb=[[2.0, 30]]), marketDefinition=state("SUSPENDED")),
        line(6_000, yes(atb=[[1.9, 0], [1.8, 20]], atl=[[2.1, 10]])),
        line(7_000, no(atl=[[2.2, 70]]), marketDefinition=state()),
        line(8_000, yes(atl=[[2.2, 5]])),
        line(9_000, marketDefinition=state("CLOSED", winner=YES_RUNNER)),
    ]
    feed = write(tmp_path / "feed", *lines, compress=compress)
    operator = create_market(exchange, feed)
    with running(
        crowd(tmp_path, exchange, feed, "--from", "start", "--speed", "50", "--checkpoints", "99")
    ) as child:
        events = []
        for event in child.events_until("done"):
            events.append(event)
            if event["event"] == "checkpoint":
                expected = ladder_of(lines[: event["line"]])
                assert (event["bids"], event["asks"]) == expected
                assert operator.ladder(MARKET) == expected
                child.tell("next")
        assert child.wait() == 0, child.log()
    names = [(event["event"], event.get("status")) for event in events]
    assert names[0] == ("ready", "ACTIVE")
    assert [status for name, status in names if name == "status"] == ["SUSPENDED", "ACTIVE", "RESOLVED"]
    checkpoints = [event for event in events if event["event"] == "checkpoint"]
    # Every ladder message while the market is open; the one that suspends it and the one in between are not.
    assert [event["line"] for event in checkpoints] == [2, 3, 7, 8]
    assert [(event["n"], event["of"]) for event in checkpoints] == [(n, 4) for n in (1, 2, 3, 4)]
    done = events[-1]
    assert (done["messages"], done["taker_contracts"], done["taker_filled"]) == (9, 105, 105)
    market = operator.get(f"markets/{MARKET}")
    assert (market["status"], market["resolution_result"]) == ("SETTLED", "YES")
    assert operator.ladder(MARKET) == ([], [])
    assert operator.post("admin/verify-invariants", {})["all_passed"]


def test_what_others_take_is_put_back(tmp_path: Path, exchange: PaperExchange) -> None:
    feed = write(tmp_path / "feed", *OPENING, line(3_000, yes(atl=[[2.1, 990]])))
    create_market(exchange, feed)
    other = exchange.account("other", "Other-password-1", deposit_cents=10_000_000)
    with running(
        crowd(tmp_path, exchange, feed, "--from", "start", "--speed", "1000", "--checkpoints", "1")
    ) as child:
        *_, checkpoint = child.events_until("checkpoint")
        book = checkpoint["bids"], checkpoint["asks"]
        assert other.ladder(MARKET) == book
        best_bid_cents, best_bid_quantity = book[0][0]
        for taken in (best_bid_quantity - 1, best_bid_quantity):
            # NO bought at 100 - p is YES sold at p.
            order = other.buy(MARKET, "NO", 100 - best_bid_cents, taken, time_in_force="IOC")["order"]
            assert order["filled_quantity"] == taken
            eventually(lambda: other.ladder(MARKET) == book, what="the level is whole again")
        child.tell("next")
        *_, done = child.events_until("done")
        assert done["checkpoints"] == 1


def test_orders_in_the_way_are_taken_and_the_ladder_stands_behind_them(
    tmp_path: Path, exchange: PaperExchange
) -> None:
    feed = write(tmp_path / "feed", *OPENING, line(3_000, yes(atl=[[1.9, 100]])))  # a bid rises to 52
    create_market(exchange, feed)
    other = exchange.account("other", "Other-password-1", deposit_cents=10_000_000)
    offer = other.buy(MARKET, "NO", 50, 30)["order"]  # an offer of YES at 50, below the offers to come
    with running(
        crowd(tmp_path, exchange, feed, "--from", "start", "--speed", "1000", "--checkpoints", "9")
    ) as child:
        for event in child.events_until("done"):
            if event["event"] == "checkpoint":
                last = event
                child.tell("next")
    assert other.get(f"orders/{offer['id']}")["order"]["status"] == "FILLED"
    assert (last["bids"], last["asks"]) == ladder_of([*OPENING, line(3_000, yes(atl=[[1.9, 100]]))])
    assert other.ladder(MARKET) == (last["bids"], last["asks"])


def test_a_locked_recorded_ladder_rests(tmp_path: Path, exchange: PaperExchange) -> None:
    # Both runners offered at evens: YES asked at 50, and NO asked at 50 is YES bid at 50.
    lines = [
        line(1_000, marketDefinition=state()),
        line(2_000, yes(atb=[[2.0, 10], [1.9, 5]], atl=[[1.9, 7]]), no(atb=[[2.0, 10]])),
    ]
    feed = write(tmp_path / "feed", *lines)
    operator = create_market(exchange, feed)
    with running(
        crowd(tmp_path, exchange, feed, "--from", "start", "--speed", "1000", "--checkpoints", "1")
    ) as child:
        *_, checkpoint = child.events_until("checkpoint")
        assert checkpoint["bids"][0][0] >= checkpoint["asks"][0][0]
        assert operator.ladder(MARKET) == (checkpoint["bids"], checkpoint["asks"]) == ladder_of(lines)
        child.tell("next")
        assert child.wait() == 0


def test_from_inplay_begins_with_everything_before_it(tmp_path: Path, exchange: PaperExchange) -> None:
    lines = [
        *OPENING,
        line(100_000_000, yes(atl=[[2.1, 500]])),
        line(200_000_000, yes(trd=[[2.1, 9999]])),  # before the match: history, nobody takes
        line(300_000_000, marketDefinition=state("SUSPENDED", in_play=False)),
        line(400_000_000, yes(atl=[[2.1, 400]]), marketDefinition=state()),
        line(400_000_100, yes(trd=[[2.1, 10_009]])),
    ]
    feed = write(tmp_path / "feed", *lines)
    operator = create_market(exchange, feed, start="inplay")
    with running(crowd(tmp_path, exchange, feed, "--from", "inplay", "--checkpoints", "1")) as child:
        ready, checkpoint = child.events_until("checkpoint")
        assert (ready["event"], ready["messages"], ready["levels"]) == ("ready", 2, 5)
        assert ready["mid_cents"] == 52  # bid 50, ask 53: 51.5 rounded up
        assert (checkpoint["bids"], checkpoint["asks"]) == ladder_of(lines[:6])
        assert operator.ladder(MARKET) == ladder_of(lines[:6])
        child.tell("next")
        *_, done = child.events_until("done")
        assert (done["messages"], done["taker_contracts"]) == (2, 10)


def test_long_waits_are_cut_and_next_is_not_waited_for_ever(tmp_path: Path, exchange: PaperExchange) -> None:
    feed = write(tmp_path / "feed", *OPENING, line(9_999_999_999, yes(atl=[[2.1, 1]])))
    create_market(exchange, feed)
    started_s = time.monotonic()
    with running(crowd(tmp_path, exchange, feed, "--from", "start")) as child:
        *_, done = child.events_until("done")
        assert done["messages"] == 3
        assert child.wait() == 0
    assert time.monotonic() - started_s >= 2.0  # two waits, each a second at least and cut to one


def test_told_to_stop_it_takes_its_orders_along(tmp_path: Path, exchange: PaperExchange) -> None:
    feed = write(
        tmp_path / "feed", *OPENING, *(line(10_000_000 * n, yes(trd=[[2, n]])) for n in range(1, 60))
    )
    operator = create_market(exchange, feed)
    with running(crowd(tmp_path, exchange, feed, "--from", "start")) as child:
        eventually(lambda: all(operator.ladder(MARKET)), what="the ladder stands")
        child.send_signal(signal.SIGTERM)
        assert child.wait() == 0, child.log()
    assert operator.ladder(MARKET) == ([], [])


def test_an_unfit_market_is_a_configuration_error(tmp_path: Path, exchange: PaperExchange) -> None:
    feed = write(tmp_path / "feed", *OPENING, line(3_000, yes(atl=[[2.0, 1_000_000]])))
    exchange.operator().post("admin/markets", {"id": MARKET, "title": "Too small"})
    with running(crowd(tmp_path, exchange, feed, "--from", "start")) as child:
        assert child.wait() == 78
        assert child.log().splitlines()[-1] == (
            f"crowd: market {MARKET}: max_order_quantity=10000, the recording needs 2000066"
        )


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"not a stream\n", "line 1: "),
        (
            gzip.compress(b'{"op":"mcm","pt":1,"mc":[]}\n' * 3, mtime=0)[:-9],
            "must be a readable and complete file",
        ),
        (b"", "must hold at least one market definition"),
    ],
)
def test_a_wrong_file_is_one_line_and_a_configuration_error(
    tmp_path: Path, content: bytes, rule: str
) -> None:
    feed = tmp_path / "feed"
    feed.write_bytes(content)
    command = ["engine.paper.crowd", "--url", "http://127.0.0.1:9", "--market", MARKET]
    with running(Process(tmp_path, *command, "--feed", f"betfair:{feed}")) as child:
        assert child.wait() == 78
        (only_line,) = child.log().splitlines()
        assert only_line.startswith(f"crowd: feed {feed}: ")
        assert rule in only_line


def test_without_the_operators_password_it_does_not_start(tmp_path: Path) -> None:
    feed = write(tmp_path / "feed", *OPENING)
    command = ["engine.paper.crowd", "--url", "http://127.0.0.1:9", "--market", MARKET]
    child = Process(tmp_path, *command, "--feed", f"betfair:{feed}", COREQUOTE_OPERATOR_PASSWORD="")
    with running(child):
        assert child.wait() == 78
        assert "COREQUOTE_OPERATOR_PASSWORD" in child.log()


@pytest.mark.parametrize(
    "options", [("--feed", "FILE"), ("--speed", "0"), ("--checkpoints", "0"), ("--from", "x")]
)
def test_impossible_options_are_a_usage_error(tmp_path: Path, options: tuple[str, str]) -> None:
    command = ["engine.paper.crowd", "--url", "http://127.0.0.1:9", "--market", MARKET, "--feed", "betfair:x"]
    with running(Process(tmp_path, *command, *options)) as child:
        assert child.wait() == 2
        assert options[0] in child.log().splitlines()[-1]


def test_the_trades_stream_names_trades_as_they_happen(exchange: PaperExchange) -> None:
    market_id = "MKT-BTC-100K-2026"
    maker = exchange.account("maker", "Maker-password-1", deposit_cents=1_000_000)
    taker = exchange.account("taker", "Taker-password-1", deposit_cents=1_000_000)

    async def follow() -> tuple[str, str]:
        async with open_session() as session:
            client = ExchangeClient(session, exchange.url, username="maker", password="Maker-password-1")
            await client.log_in()
            async with client.trade_pushes(market_id) as pushes:
                maker.buy(market_id, "YES", 40, 3)
                traded = taker.buy(market_id, "NO", 60, 3)["trades"][0]["trade_id"]
                push = await asyncio.wait_for(anext(pushes), DEADLINE_S)
                return traded, push.trade_id

    traded, announced = asyncio.run(follow())
    assert announced == traded


@pytest.mark.skipif(not MATCH.exists(), reason=f"the recorded match is not at {MATCH} (COREQUOTE_DATA)")
def test_the_recorded_match_stands_on_the_exchange_as_recorded(
    tmp_path: Path, exchange: PaperExchange
) -> None:
    with gzip.open(MATCH, "rt") as recording:
        lines = [json.loads(each, parse_float=Decimal) for each in itertools.islice(recording, 1500)]
    with gzip.open(MATCH, "rb") as recording:
        feed = tmp_path / "feed"
        feed.write_bytes(b"".join(itertools.islice(recording, len(lines))))
    operator = create_market(exchange, feed, start="inplay")
    options = ("--from", "inplay", "--speed", "5000", "--checkpoints", "25")
    with running(crowd(tmp_path, exchange, feed, *options)) as child:
        checked = 0
        for event in child.events_until("done"):
            if event["event"] == "checkpoint":
                expected = ladder_of(lines[: event["line"]])
                assert (event["bids"], event["asks"]) == expected, event["line"]
                assert operator.ladder(MARKET) == expected, event["line"]
                checked += 1
                child.tell("next")
        assert child.wait() == 0, child.log()
    assert checked == 25
    assert event["messages"] == describe(feed, "inplay").messages
    assert event["taker_contracts"] > 0
    assert operator.post("admin/verify-invariants", {})["all_passed"]
