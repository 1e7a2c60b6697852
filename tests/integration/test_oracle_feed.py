"""Oracle sources against local venues, up to the book ring; and the same inside the ingest process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from engine._native import ffi, lib
from engine.arena import Arena, check
from engine.backoff import NS_PER_S, RestartPolicy
from engine.config.oracle import KalshiOracle, OperatorOracle, OracleConfig, PolymarketOracle
from engine.workers import oracle_feed
from engine.workers.market_feed import BookOutput, MarketFeed
from engine.workers.oracle_feed import OperatorSource, OracleOutput
from tests.integration.price_venue import PriceVenue, book_frame, change_frame
from tests.integration.scripted_venue import ScriptedVenue, book
from tests.integration.worker_rig import BookReader, WorkerRig, until

DATA = Path(os.environ.get("COREQUOTE_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
VALUE, FAILED, WITHDRAWN = lib.ORACLE_VALUE, lib.ORACLE_FAILED, lib.ORACLE_WITHDRAWN
MS = 1_000_000


@pytest.fixture
def venue() -> Iterator[PriceVenue]:
    venue = PriceVenue()
    yield venue
    venue.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle_feed, "CONFIRM_S", 0.1)
    monkeypatch.setattr(oracle_feed, "_SILENCE_S_MAX", 0.6)
    policy = RestartPolicy(delay_ns_min=NS_PER_S // 50, delay_ns_max=NS_PER_S // 10)
    monkeypatch.setattr(oracle_feed, "_RETRY", policy)


class Sources:
    """The configured sources of some markets, running in a thread as they do in ingest."""

    def __init__(self, *oracles: OracleConfig | None) -> None:
        self.arena = Arena.create(market_slots=len(oracles), worker_slots=1)
        for slot in range(len(oracles)):
            self.arena.place_market(slot, market_id=f"MKT-{slot}", worker=0, tick_count=101)
        self.reader = BookReader(self.arena)
        output = BookOutput(self.arena, 0, token=1)
        self._feeds = [(MarketFeed(self.arena, slot, output), oracle) for slot, oracle in enumerate(oracles)]
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None]
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def _main(self) -> None:
        self._task = self._loop.create_task(self._run())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    async def _run(self) -> None:
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
            for source in oracle_feed.sources(self.arena, http, self._feeds):
                group.create_task(source.run())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def said(self, slot: int = 0) -> list[tuple[int, int]]:
        """(status, price) of every ORACLE event of a market, repetitions left out."""
        words: list[tuple[int, int]] = []
        for event in self.reader.of_kind(lib.BOOK_ORACLE, market_slot=slot):
            word = (event["status"], event["price_ticks"])
            if not words or words[-1] != word:
                words.append(word)
        return words

    def await_said(self, *words: tuple[int, int], slot: int = 0) -> None:
        until(lambda: self.said(slot) == list(words), f"oracle words {words}, got {self.said(slot)}")


@contextlib.contextmanager
def running(*oracles: OracleConfig | None) -> Iterator[Sources]:
    sources = Sources(*oracles)
    try:
        yield sources
    finally:
        sources.close()


def polymarket(venue: PriceVenue, token: str = "7") -> PolymarketOracle:
    return PolymarketOracle(token_id=token, url=venue.socket_url)


# ---- polymarket


def test_a_book_is_a_value_and_changes_move_it(venue: PriceVenue) -> None:
    venue.greeting = [book_frame("7", "0.13", "0.14", timestamp=1_770_000_000_123)]
    with running(polymarket(venue)) as sources:
        sources.await_said((VALUE, 14))
        assert venue.subscriptions[0]["assets_ids"] == ["7"]
        first = sources.reader.of_kind(lib.BOOK_ORACLE)[0]
        assert first["venue_unix_ns"] == 1_770_000_000_123 * MS
        assert 0 < first["recv_mono_ns"] <= lib.mono_now_ns()
        assert first["flags"] == lib.BOOK_EVENT_END
        venue.send(change_frame("7", "0.2", "0.21"))
        sources.await_said((VALUE, 14), (VALUE, 21))
        venue.send(change_frame("7", "0.2", "1"))  # nobody offers
        sources.await_said((VALUE, 14), (VALUE, 21), (FAILED, 0))


def test_a_quiet_channel_is_confirmed_by_its_pongs(venue: PriceVenue) -> None:
    venue.greeting = [book_frame("7", "0.13", "0.14")]
    with running(polymarket(venue)) as sources:
        until(lambda: len(sources.reader.of_kind(lib.BOOK_ORACLE, status=VALUE)) >= 4, "confirmations")
        events = sources.reader.of_kind(lib.BOOK_ORACLE)
        times = [event["recv_mono_ns"] for event in events]
        assert times == sorted(times)
        assert times[-1] > times[0]
        assert len({event["venue_unix_ns"] for event in events}) == 1  # the venue said it once
        assert sources.said() == [(VALUE, 14)]


def test_started_with_no_price_it_is_refreshed(venue: PriceVenue) -> None:
    with running(polymarket(venue)) as sources:
        until(lambda: venue.connections == 1, "a subscription")
        assert sources.said() == []
        venue.send(book_frame("7", "0.50", "0.52"))
        sources.await_said((VALUE, 51))


def test_failures_are_no_value_and_end_with_the_next_book(venue: PriceVenue) -> None:
    venue.refuses = 4
    venue.greeting = [book_frame("7", "0.50", "0.52")]
    with running(polymarket(venue)) as sources:
        sources.await_said((FAILED, 0), (VALUE, 51))
        assert venue.attempts == 5
        venue.disconnect()
        sources.await_said((FAILED, 0), (VALUE, 51), (FAILED, 0), (VALUE, 51))


def test_a_venue_that_falls_silent_has_no_value(venue: PriceVenue) -> None:
    venue.greeting = [book_frame("7", "0.50", "0.52")]
    with running(polymarket(venue)) as sources:
        sources.await_said((VALUE, 51))
        venue.greeting = []
        venue.answers_pings = False
        sources.await_said((VALUE, 51), (FAILED, 0))


@pytest.mark.parametrize("frame", ["nonsense", '{"event_type":"book","asset_id":"7","timestamp":"never"}'])
def test_a_venue_that_talks_nonsense_has_no_value(venue: PriceVenue, frame: str) -> None:
    venue.greeting = [book_frame("7", "0.50", "0.52")]
    with running(polymarket(venue)) as sources:
        sources.await_said((VALUE, 51))
        venue.send(frame)
        sources.await_said((VALUE, 51), (FAILED, 0), (VALUE, 51))


def test_markets_share_a_connection_and_a_market_without_oracle_hears_nothing(venue: PriceVenue) -> None:
    venue.greeting = [book_frame("7", "0.50", "0.52"), book_frame("8", "0.20", "0.22")]
    with running(polymarket(venue), None, polymarket(venue, "8"), polymarket(venue)) as sources:
        sources.await_said((VALUE, 51), slot=0)
        sources.await_said((VALUE, 21), slot=2)
        sources.await_said((VALUE, 51), slot=3)
        assert sources.said(1) == []
        assert venue.subscriptions[0]["assets_ids"] == ["7", "8"]
        assert venue.attempts == 1


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no recordings at {DATA}; COREQUOTE_DATA names them")
def test_recorded_books(venue: PriceVenue) -> None:
    recorded = (DATA / "polymarket" / "ws_book_2026-02-12.jsonl").read_text().splitlines()
    tokens = [json.loads(line)["asset_id"] for line in recorded]
    venue.greeting = [f"[{','.join(recorded)}]"]  # as one frame, as after a subscription
    with running(*[polymarket(venue, token) for token in tokens]) as sources:
        # best prices 0.13/0.14, 0.999/nobody, 0.996/0.997, 0.46/0.47, 0.86/0.87
        for slot, word in enumerate([(VALUE, 14), (FAILED, 0), (VALUE, 99), (VALUE, 47), (VALUE, 87)]):
            sources.await_said(word, slot=slot)
        trades = (DATA / "polymarket" / "ws_last_trade_price_2026-02-12.jsonl").read_text().splitlines()
        venue.send(*trades)
        venue.send(change_frame(tokens[0], "0.5", "0.51"))
        sources.await_said((VALUE, 14), (VALUE, 51), slot=0)
        assert sources.said(3) == [(VALUE, 47)]


# ---- kalshi

TICKER = "KXFED-27APR-T4.00"


def kalshi(venue: PriceVenue, **changes: Any) -> KalshiOracle:
    return KalshiOracle(
        **{
            "ticker": TICKER,
            "url": venue.rest_url,
            "poll_interval_ms": 200,
            "max_spread_cents": 20,
            **changes,
        }
    )


def answer(bid: str, ask: str, **changes: str) -> dict[str, Any]:
    market = {"ticker": TICKER, "status": "active", "yes_bid_dollars": bid, "yes_ask_dollars": ask}
    return {"market": market | changes}


def test_polls_bring_values_and_failures_none(venue: PriceVenue) -> None:
    venue.refuses = 3
    venue.markets[TICKER] = answer("0.3600", "0.5400")
    with running(kalshi(venue)) as sources:
        sources.await_said((FAILED, 0), (VALUE, 45))
        venue.markets[TICKER] = answer("0.6000", "0.6100")
        sources.await_said((FAILED, 0), (VALUE, 45), (VALUE, 61))
        venue.markets[TICKER] = answer("0.6000", "0.6100", status="closed")
        sources.await_said((FAILED, 0), (VALUE, 45), (VALUE, 61), (FAILED, 0))


def test_a_ticker_the_venue_does_not_know_has_no_value(venue: PriceVenue) -> None:
    with running(kalshi(venue)) as sources:
        until(lambda: venue.attempts >= 3, "attempts")
        assert sources.said() == [(FAILED, 0)]


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no recordings at {DATA}; COREQUOTE_DATA names them")
def test_recorded_summaries(venue: PriceVenue) -> None:
    path = DATA / "kalshi" / "rest_markets_KXFED-27APR_trimmed.json"
    for market in json.loads(path.read_text())["markets"]:
        venue.markets[market["ticker"]] = {"market": market}
    narrow = kalshi(venue, ticker="KXFED-27APR-T4.25", max_spread_cents=18)
    wide = kalshi(venue, ticker="KXFED-27APR-T4.25")
    with running(narrow, wide, kalshi(venue)) as sources:
        sources.await_said((FAILED, 0), slot=0)  # 0.16/0.35 is wider than asked for
        sources.await_said((VALUE, 26), slot=1)
        sources.await_said((VALUE, 45), slot=2)


# ---- operator


class Operator:
    """The operator's source on a clock of the test's own, and the control process at its ring."""

    def __init__(self) -> None:
        self.arena = Arena.create(market_slots=2, worker_slots=1)
        for slot in range(2):
            self.arena.place_market(slot, market_id=f"MKT-{slot}", worker=0, tick_count=101)
        self.reader = BookReader(self.arena)
        feed = MarketFeed(self.arena, 0, BookOutput(self.arena, 0, token=1))
        self.source = OperatorSource(self.arena, {0: OracleOutput(feed)})
        self._ring = self.arena.command_ring(lib.PROCESS_INGEST)
        check(lib.message_acquire(self._ring, 2), "command ring")
        self.now_ms = 1_790_000_000_000

    def command(self, price_cents: int, *, ttl_ms: int = 1_000, slot: int = 0, kind: int = 0) -> None:
        command = ffi.new("command_record_t *")
        command.kind = kind or lib.COMMAND_ORACLE
        command.market_slot = slot
        command.amount_cents = price_cents
        command.set_unix_ms = self.now_ms
        command.until_unix_ms = self.now_ms + ttl_ms
        check(lib.message_publish(self._ring, lib.COMMAND_RING_SLOTS, 2, command), "command ring")

    def run(self, ms: int = 0) -> list[tuple[int, int]]:
        """Lets time pass; what was said in it."""
        seen = len(self.reader.of_kind(lib.BOOK_ORACLE))
        self.now_ms += ms
        self.source.look(self.now_ms * MS, self.now_ms)
        events = self.reader.of_kind(lib.BOOK_ORACLE)[seen:]
        return [(event["status"], event["price_ticks"]) for event in events]


def test_a_persons_price_holds_until_its_time_is_over() -> None:
    operator = Operator()
    assert operator.run() == []
    operator.command(62, ttl_ms=1_000)
    assert operator.run(1)[0] == (VALUE, 62)
    assert operator.run(500) == [(VALUE, 62)]  # confirmed
    assert operator.run(498) == [(VALUE, 62)]
    assert operator.run(1) == [(WITHDRAWN, 0)]
    assert operator.run(5_000) == []


def test_a_person_changes_and_clears_it() -> None:
    operator = Operator()
    operator.command(62, ttl_ms=60_000)
    operator.command(70, ttl_ms=60_000)
    assert operator.run()[:2] == [(VALUE, 62), (VALUE, 70)]
    operator.command(0)
    assert operator.run() == [(WITHDRAWN, 0)]
    assert operator.run(5_000) == []


def test_what_is_no_price_or_too_late_is_none() -> None:
    operator = Operator()
    operator.command(100)
    operator.command(-3)
    operator.command(50, ttl_ms=0)
    operator.command(50, slot=1)  # this market's oracle is not the operator
    operator.command(50, slot=60_000)
    operator.command(50, kind=lib.COMMAND_START)
    assert operator.run() == [(WITHDRAWN, 0)] * 3


def test_more_commands_than_one_look_takes_are_all_taken() -> None:
    operator = Operator()
    for price in range(1, 41):
        operator.command(price, ttl_ms=60_000)
    words = [word for _ in range(4) for word in operator.run()]
    assert [price for _, price in dict.fromkeys(words)] == list(range(1, 41))


# ---- in the ingest process


def test_ingest_carries_both_kinds(tmp_path: Path, venue: PriceVenue) -> None:
    exchange = ScriptedVenue()
    for market in ("MKT-A", "MKT-B"):
        exchange.snapshots[market] = book("SNAPSHOT", 1, market=market, bids=[(40, 10)], asks=[(60, 5)])
    venue.refuses = 1
    venue.greeting = [book_frame("7", "0.60", "0.62")]
    oracle = {"source": "polymarket", "token_id": "7", "url": venue.socket_url}
    markets = [{"id": "MKT-A", "oracle": oracle}, {"id": "MKT-B", "oracle": {"source": "operator"}}]
    rig = WorkerRig(tmp_path, {"venue": {"url": exchange.url}, "markets": markets})
    try:
        reader = BookReader(rig.arena)
        rig.start("ingest", lib.PROCESS_INGEST)
        rig.await_running(lib.PROCESS_INGEST)
        until(lambda: reader.of_kind(lib.BOOK_ORACLE, market_slot=0, price_ticks=61), "the venue's price")
        ring = rig.arena.command_ring(lib.PROCESS_INGEST)
        check(lib.message_acquire(ring, 2), "command ring")
        command = ffi.new("command_record_t *")
        command.kind, command.market_slot, command.amount_cents = lib.COMMAND_ORACLE, 1, 44
        command.set_unix_ms = time.time_ns() // MS
        command.until_unix_ms = command.set_unix_ms + 600_000
        check(lib.message_publish(ring, lib.COMMAND_RING_SLOTS, 2, command), "command ring")
        until(lambda: reader.of_kind(lib.BOOK_ORACLE, market_slot=1, price_ticks=44), "the person's price")
        assert reader.of_kind(lib.BOOK_ORACLE, market_slot=0, status=FAILED)
        assert rig.logged("ingest", "oracle_no_value")
        assert not rig.logged("ingest", "frame_refused")
    finally:
        rig.close()
        exchange.close()


def test_sources_are_made_once_per_address_and_two_hundred_tokens() -> None:
    class Feed:
        def __init__(self, slot: int) -> None:
            self.slot, self.market_id = slot, f"MKT-{slot}"

    arena = Arena.create(market_slots=1, worker_slots=1)
    markets: list[Any] = [(Feed(i), PolymarketOracle(token_id=str(i))) for i in range(401)]
    markets.append((Feed(401), OperatorOracle()))
    made = oracle_feed.sources(arena, None, markets)  # type: ignore[arg-type]
    assert [type(source).__name__ for source in made] == ["PolymarketSource"] * 3 + ["OperatorSource"]
