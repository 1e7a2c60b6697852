"""The ingest process: what it publishes, against the paper exchange and against a venue that misbehaves."""

from __future__ import annotations

import itertools
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest

from engine._native import ffi, lib
from engine.venues.platform_feed import FRAME_BYTES_MAX
from tests.integration.scripted_venue import BOOK, TRADES, ScriptedVenue, book, trade
from tests.integration.worker_rig import PASSWORD, ROOT, BookReader, WorkerRig, counter, until

INGEST = lib.PROCESS_INGEST
REQUEST = '{"action":"REQUEST_SNAPSHOT"}'
SNAPSHOT = book("SNAPSHOT", 1, bids=[(40, 10), (39, 20)], asks=[(60, 5)])


@pytest.fixture
def venue() -> Iterator[ScriptedVenue]:
    venue = ScriptedVenue()
    venue.snapshots["MKT-A"] = SNAPSHOT
    yield venue
    venue.close()


def make_rig(run_dir: Path, url: str, *markets: str, workers: int = 1) -> WorkerRig:
    document = {"venue": {"url": url}, "markets": [{"id": market} for market in markets]}
    return WorkerRig(run_dir, document, workers=workers)


@pytest.fixture
def rig(tmp_path: Path, venue: ScriptedVenue) -> Iterator[WorkerRig]:
    rig = make_rig(tmp_path, venue.url, "MKT-A")
    yield rig
    rig.close()


@pytest.fixture
def reader(rig: WorkerRig) -> BookReader:
    return BookReader(rig.arena)


def start(rig: WorkerRig, venue: ScriptedVenue) -> subprocess.Popen[bytes]:
    """Ingest with a valid book and both streams connected."""
    process = rig.start("ingest", INGEST)
    rig.await_running(INGEST)
    until(lambda: venue.connected(TRADES), "the trade stream")
    return process


def shape(events: list[dict[str, int]]) -> list[tuple[int, ...]]:
    """(kind, status, generation) of all events but trades."""
    return [
        (event["kind"], event["status"], event["generation"])
        for event in events
        if event["kind"] != lib.BOOK_TRADE
    ]


LINK_UP = (lib.BOOK_LINK, lib.LINK_UP)
LINK_DOWN = (lib.BOOK_LINK, lib.LINK_DOWN)
VALID = (lib.BOOK_GENERATION, lib.GENERATION_VALID)
INVALID = (lib.BOOK_GENERATION, lib.GENERATION_INVALID)


def await_shape(reader: BookReader, *expected: tuple[int, ...]) -> None:
    """Waits for as many events as expected, which must then be exactly these."""
    until(lambda: len(shape(reader.read())) >= len(expected), f"{len(expected)} events")
    assert shape(reader.events) == list(expected)


# ---- the normal path -----------------------------------------------------------------------------


def test_a_snapshot_is_an_image_and_one_event(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader
) -> None:
    start(rig, venue)
    await_shape(reader, (*LINK_UP, 0), (*VALID, 1))
    event = reader.events[1]
    assert event["flags"] == lib.BOOK_EVENT_END
    assert event["venue_sequence"] == 1
    assert event["venue_unix_ns"] == 1_790_000_000_001 * 1_000_000
    header, bids, asks = rig.image()
    assert (bids, asks) == ({40: 10, 39: 20}, {60: 5})
    assert header.ring_position == event["detail"] == 2  # the event's own position is 1
    assert (header.generation, header.valid) == (1, 1)
    top = rig.top()
    assert (top.bid_ticks, top.bid_lots, top.ask_ticks, top.ask_lots) == (40, 10, 60, 5)
    assert (top.generation, top.valid) == (1, 1)
    assert (rig.feed("messages"), rig.feed("snapshots"), rig.feed("connects")) == (1, 1, 1)
    assert rig.feed("snapshot_mono_ns") == event["recv_mono_ns"]


def test_a_delta_is_one_batch(rig: WorkerRig, venue: ScriptedVenue, reader: BookReader) -> None:
    start(rig, venue)
    venue.send(
        book("DELTA", 2, bids=[(41, 7), (40, 0)], asks=[(60, 6), (61, 1)]), book("DELTA", 3, bids=[(41, 8)])
    )
    until(lambda: len(reader.of_kind(lib.BOOK_LEVEL)) == 5, "five levels")
    found = [
        (event["side"], event["price_ticks"], event["size_lots"], event["flags"], event["venue_sequence"])
        for event in reader.of_kind(lib.BOOK_LEVEL, generation=1, market_slot=0)
    ]
    bid, ask, end = lib.ORDERBOOK_BID, lib.ORDERBOOK_ASK, lib.BOOK_EVENT_END
    assert found == [
        (bid, 41, 7, 0, 2),
        (bid, 40, 0, 0, 2),
        (ask, 60, 6, 0, 2),
        (ask, 61, 1, end, 2),
        (bid, 41, 8, end, 3),
    ]
    assert len({event["recv_mono_ns"] for event in reader.of_kind(lib.BOOK_LEVEL, venue_sequence=2)}) == 1
    until(lambda: rig.top().bid_lots == 8, "the top row")
    top = rig.top()
    assert (top.bid_ticks, top.ask_ticks, top.ask_lots, top.venue_sequence, top.valid) == (41, 60, 6, 3, 1)
    assert rig.feed("levels") == 5


def test_deltas_to_an_empty_book(rig: WorkerRig, venue: ScriptedVenue, reader: BookReader) -> None:
    start(rig, venue)
    venue.send(book("DELTA", 2, bids=[(40, 0), (39, 0)], asks=[(60, 0)]), book("DELTA", 3))
    until(lambda: rig.top().venue_sequence == 2, "the top row")
    top = rig.top()
    assert (top.bid_ticks, top.bid_lots, top.ask_ticks, top.ask_lots, top.valid) == (-1, 0, -1, 0, 1)


def test_a_locked_and_crossed_book_is_passed_on(rig: WorkerRig, venue: ScriptedVenue) -> None:
    """One account's own orders may rest so (contract 5.7); what to make of it is the quoter's business."""
    start(rig, venue)
    venue.send(book("DELTA", 2, bids=[(61, 3)]))
    until(lambda: rig.top().bid_ticks == 61, "the crossing bid")
    assert rig.top().valid == 1


def test_a_snapshot_that_says_nothing_new_is_a_sign_of_life(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader
) -> None:
    start(rig, venue)
    venue.send(book("DELTA", 2, bids=[(41, 7)]))
    venue.send(book("SNAPSHOT", 1, bids=[(39, 20), (41, 7), (40, 10)], asks=[(60, 5)]))
    venue.send(book("DELTA", 2, bids=[(41, 8)]))  # the snapshot restarted the count
    level = (lib.BOOK_LEVEL, 0, 1)
    await_shape(reader, (*LINK_UP, 0), (*VALID, 1), level, (*LINK_UP, 1), level)
    assert rig.feed("sequence_gaps") == 0
    assert rig.feed("snapshots") == 2
    assert rig.feed("snapshot_mono_ns") == reader.events[3]["recv_mono_ns"]


def test_a_snapshot_that_differs_is_a_new_generation(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader
) -> None:
    start(rig, venue)
    venue.send(book("SNAPSHOT", 1, bids=[(40, 10), (39, 21)], asks=[(60, 5)]))
    await_shape(reader, (*LINK_UP, 0), (*VALID, 1), (*VALID, 2))
    assert rig.feed("sequence_gaps") == 1
    header, bids, _ = rig.image()
    assert (header.generation, bids) == (2, {40: 10, 39: 21})


def test_running_waits_for_every_market(tmp_path: Path, venue: ScriptedVenue) -> None:
    rig = make_rig(tmp_path, venue.url, "MKT-A", "MKT-B", workers=2)
    try:
        rig.start("ingest", INGEST)
        until(lambda: venue.connected(BOOK, "MKT-B"), "the second market's stream")
        until(lambda: rig.top(0).valid, "the first market's book")
        assert rig.state(INGEST) == lib.PROCESS_STARTING
        venue.send(book("SNAPSHOT", 1, market="MKT-B", asks=[(70, 1)]), market="MKT-B")
        rig.await_running(INGEST)
        # each market's events go to its own worker's ring
        until(lambda: shape(BookReader(rig.arena, 1).read()) == [(*LINK_UP, 0), (*VALID, 1)], "ring 1")
        assert {event["market_slot"] for event in BookReader(rig.arena, 0).read()} == {0}
        assert {event["market_slot"] for event in BookReader(rig.arena, 1).read()} == {1}
    finally:
        rig.close()


def test_trades_reach_the_quoter_and_wake_the_gateway(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader
) -> None:
    start(rig, venue)
    count = until(lambda: rig.top().trade_count, "the count raised by the connection itself")
    rig.gateway_woken()
    venue.send(trade(1), trade(2, aggressor_side="SELL", price_cents=45, quantity=3), stream=TRADES)
    until(lambda: len(reader.of_kind(lib.BOOK_TRADE)) == 2, "two trades")
    first, second = reader.of_kind(lib.BOOK_TRADE)
    assert (first["side"], first["price_ticks"], first["size_lots"]) == (lib.ORDERBOOK_BID, 55, 10)
    assert (second["side"], second["price_ticks"], second["size_lots"]) == (lib.ORDERBOOK_ASK, 45, 3)
    assert first["flags"] == lib.BOOK_EVENT_END
    until(rig.gateway_woken, "the gateway's bell")
    until(lambda: rig.top().trade_count == count + 2, "the trade count")
    assert rig.feed("trades") == 2
    assert rig.top().valid == 1  # the book is as it was


def test_repeated_missed_and_malformed_trades_only_ask_for_the_list(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader
) -> None:
    start(rig, venue)
    venue.send(trade(1), trade(1), trade(3), trade(4, price_cents=0), stream=TRADES)
    until(lambda: rig.feed("refused") == 1, "the refused frame")
    assert [event["venue_sequence"] for event in reader.of_kind(lib.BOOK_TRADE)] == [1, 3]
    assert rig.top().trade_count == 5  # each of them, and the connection itself
    assert rig.top().valid == 1


# ---- sequence faults -----------------------------------------------------------------------------


def test_a_gap_invalidates_until_the_snapshot(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader
) -> None:
    start(rig, venue)
    venue.snapshots["MKT-A"] = None  # asked for, and not sent yet
    venue.send(book("DELTA", 3, bids=[(50, 1)]))
    await_shape(reader, (*LINK_UP, 0), (*VALID, 1), (*INVALID, 2))
    until(lambda: rig.top().valid == 0, "the top row")
    assert rig.top().generation == 2
    assert rig.image()[0].valid == 0
    until(lambda: REQUEST in venue.requests, "the request")
    venue.send(book("DELTA", 4, bids=[(50, 1)]), book("DELTA", 2, bids=[(50, 1)]))
    venue.send(book("SNAPSHOT", 9, bids=[(44, 4)]), book("DELTA", 10, bids=[(45, 5)]))
    level = (lib.BOOK_LEVEL, 0, 3)
    await_shape(reader, (*LINK_UP, 0), (*VALID, 1), (*INVALID, 2), (*VALID, 3), level)
    until(lambda: rig.top().valid == 1, "the top row")
    header, bids, asks = rig.image()
    assert (header.generation, header.valid, bids, asks) == (3, 1, {44: 4}, {})
    assert rig.feed("sequence_gaps") == 1
    assert rig.feed("refused") == 0


@pytest.mark.parametrize("numbers", [(3, 2), (2, 4), (1,), (2, 3, 2)], ids=str)
def test_out_of_order_numbers(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader, numbers: tuple[int, ...]
) -> None:
    start(rig, venue)
    venue.send(*(book("DELTA", number, bids=[(30 + index, 1)]) for index, number in enumerate(numbers)))
    until(lambda: (*INVALID, 2) in shape(reader.read()), "the book is invalid")
    until(lambda: rig.top().valid == 1, "the snapshot that was asked for")
    assert rig.image()[1] == {40: 10, 39: 20}
    assert rig.feed("sequence_gaps") == 1


def test_the_same_delta_again_changes_nothing(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader
) -> None:
    start(rig, venue)
    delta = book("DELTA", 2, bids=[(41, 7)])
    venue.send(delta, delta, delta, book("DELTA", 3, bids=[(41, 8)]))
    level = (lib.BOOK_LEVEL, 0, 1)
    await_shape(reader, (*LINK_UP, 0), (*VALID, 1), level, level)
    assert rig.feed("messages") == 5
    assert rig.feed("sequence_gaps") == 0


def test_a_market_without_a_book_holds_nobody_up(tmp_path: Path, venue: ScriptedVenue) -> None:
    """RUNNING lets everybody quote after a restart: it waits for no snapshot for ever."""
    rig = make_rig(tmp_path, venue.url, "MKT-A", "MKT-B")
    venue.snapshots["MKT-B"] = None
    try:
        rig.start("ingest", INGEST)
        rig.await_running(INGEST)
        (running,) = until(lambda: rig.logged("ingest", "running"), "the line after the state")
        assert running["without_snapshot"] == ["MKT-B"]
        assert (rig.top(0).valid, rig.top(1).valid) == (1, 0)
        venue.snapshots["MKT-B"] = book("SNAPSHOT", 1, market="MKT-B", asks=[(70, 1)])
        until(lambda: rig.top(1).valid == 1, "it is asked for again")
    finally:
        rig.close()


def test_a_delta_before_the_first_snapshot(rig: WorkerRig, venue: ScriptedVenue, reader: BookReader) -> None:
    venue.snapshots["MKT-A"] = None
    rig.start("ingest", INGEST)
    until(lambda: venue.connected(BOOK), "the stream")
    venue.send(book("DELTA", 1, bids=[(41, 7)]))
    until(lambda: REQUEST in venue.requests, "the request")
    venue.send(SNAPSHOT)
    await_shape(reader, (*LINK_UP, 0), (*VALID, 1))


def test_an_unanswered_request_is_repeated(rig: WorkerRig, venue: ScriptedVenue) -> None:
    start(rig, venue)
    venue.snapshots["MKT-A"] = None
    venue.send(book("DELTA", 9))
    until(lambda: venue.requests.count(REQUEST) >= 3, "the request, again and again")


# ---- frames that are refused ---------------------------------------------------------------------


BAD_FRAMES = [
    "",
    "not JSON",
    "{}",
    "[" * 100_000,
    json.dumps(book("DELTA", 2, bids=[(0, 1)])),
    json.dumps(book("DELTA", 2, bids=[(100, 1)])),
    json.dumps(book("DELTA", 2, asks=[(5_000, 1)])),
    json.dumps(book("DELTA", 2, asks=[(50, -1)])),
    json.dumps(book("DELTA", 2, asks=[(50, 2**63)])),
    json.dumps(book("DELTA", 2, asks=[(50, 1.5)])),
    json.dumps(book("DELTA", 2, asks=[(50, True)])),
    json.dumps(book("DELTA", 2, asks=[("50", 1)])),
    json.dumps(book("DELTA", 2, asks=[(float("nan"), 1)])),
    json.dumps(book("DELTA", 2, market="MKT-B", bids=[(50, 1)])),
    json.dumps(book("DELTA", 2, bids=[(50, 1), (50, 2)])),
    json.dumps(book("SNAPSHOT", 1, bids=[(50, 1), (0, 2)])),
    json.dumps(book("DELTA", 2)).replace('"sequence_id": 2', '"sequence_id": 2, "sequence_id": 2'),
    json.dumps(trade(1)),
]


@pytest.mark.parametrize("frames", [BAD_FRAMES[:9], BAD_FRAMES[9:]], ids=["first", "second"])
def test_bad_frames_invalidate_and_leave_no_trace(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader, frames: list[str]
) -> None:
    """Each in a book that is valid again; together not more than a connection may have in a minute."""
    start(rig, venue)
    expected = [(*LINK_UP, 0), (*VALID, 1)]
    for count, frame in enumerate(frames, start=1):
        venue.send(frame)
        expected += [(*INVALID, 2 * count), (*VALID, 2 * count + 1)]
        await_shape(reader, *expected)
        assert rig.feed("refused") == count
        assert rig.image()[1:] == ({40: 10, 39: 20}, {60: 5})


def test_a_binary_frame_is_refused(rig: WorkerRig, venue: ScriptedVenue, reader: BookReader) -> None:
    start(rig, venue)
    venue.send_bytes(json.dumps(book("DELTA", 2)).encode())
    await_shape(reader, (*LINK_UP, 0), (*VALID, 1), (*INVALID, 2), (*VALID, 3))


def server_frame(payload: bytes, *, opcode: int = 1, fin: bool = True) -> bytes:
    assert len(payload) < 126
    return bytes([opcode | (0x80 if fin else 0), len(payload)]) + payload


def test_a_fragmented_frame_is_put_together(rig: WorkerRig, venue: ScriptedVenue, reader: BookReader) -> None:
    start(rig, venue)
    payload = json.dumps(book("DELTA", 2, bids=[(41, 7)])).encode()
    third = len(payload) // 3
    venue.send_raw(
        server_frame(payload[:third], fin=False)
        + server_frame(payload[third : 2 * third], opcode=0, fin=False)
        + server_frame(b"between", opcode=9)  # control frames may stand between fragments
        + server_frame(payload[2 * third :], opcode=0)
    )
    await_shape(reader, (*LINK_UP, 0), (*VALID, 1), (lib.BOOK_LEVEL, 0, 1))


def test_an_oversized_frame_is_refused_before_it_is_held(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader
) -> None:
    process = start(rig, venue)
    before = psutil.Process(process.pid).memory_info().rss
    venue.send_raw(b"\x81\x7f" + struct.pack(">Q", 64 << 20) + b"[" * 65_536)
    await_shape(
        reader, (*LINK_UP, 0), (*VALID, 1), (*LINK_DOWN, 2), (*INVALID, 2), (*LINK_UP, 2), (*VALID, 3)
    )
    assert psutil.Process(process.pid).memory_info().rss - before < 10 << 20
    until(lambda: rig.feed("refused") == 1, "it is counted")


def test_fragments_cannot_grow_beyond_the_limit(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader
) -> None:
    start(rig, venue)
    chunk = b"[" * (FRAME_BYTES_MAX // 2)
    head = struct.pack(">Q", len(chunk))
    venue.send_raw(b"\x01\x7f" + head + chunk + (b"\x00\x7f" + head + chunk) * 2)
    until(
        lambda: (*LINK_DOWN, 3) in shape(reader.read()) or (*LINK_DOWN, 2) in shape(reader.events), "the cut"
    )
    until(lambda: rig.top().valid == 1, "the book is back")
    assert rig.feed("refused") == 1


def test_a_stream_of_bad_frames_ends_the_connection(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader
) -> None:
    start(rig, venue)
    venue.send(*["not JSON"] * 10)
    until(lambda: rig.feed("refused") == 10, "ten refused frames")
    assert len(venue.attempts(BOOK)) == 1
    venue.send("not JSON")
    until(lambda: len(venue.attempts(BOOK)) == 2, "a new connection")
    until(lambda: rig.top().valid == 1, "the book is back")
    assert all(1 <= event["price_ticks"] <= 99 for event in reader.of_kind(lib.BOOK_LEVEL))


# ---- connections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1001, 4404])
def test_a_lost_connection_is_made_anew(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader, code: int
) -> None:
    start(rig, venue)
    venue.disconnect(BOOK, code=code)
    await_shape(
        reader, (*LINK_UP, 0), (*VALID, 1), (*LINK_DOWN, 2), (*INVALID, 2), (*LINK_UP, 2), (*VALID, 3)
    )
    assert rig.feed("connects") == 2
    assert rig.feed("sequence_gaps") == 0


def test_attempts_are_at_least_a_second_apart(rig: WorkerRig, venue: ScriptedVenue) -> None:
    start(rig, venue)
    for attempt in range(2, 4):
        until(lambda: venue.connected(BOOK), "the stream")
        venue.disconnect(BOOK)
        until(lambda count=attempt: len(venue.attempts(BOOK)) >= count, "the next attempt")
    at = venue.attempts(BOOK)
    assert min(later - earlier for earlier, later in itertools.pairwise(at)) >= 0.99


def test_a_silent_peer_is_given_up(rig: WorkerRig, venue: ScriptedVenue, reader: BookReader) -> None:
    """Half-open TCP: connected, and no answer to a ping."""
    start(rig, venue)
    venue.answers_pings = False
    until(lambda: (*LINK_DOWN, 2) in shape(reader.read()), "the link is down")
    venue.answers_pings = True
    until(lambda: rig.top().valid == 1, "the book is back")
    assert {entry["reason"] for entry in rig.logged("ingest", "connection_cut")} == {"no_pong"}


def test_a_lost_trade_stream_leaves_the_book_alone(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader
) -> None:
    start(rig, venue)
    count = until(lambda: rig.top().trade_count, "the connection's own")
    venue.disconnect(TRADES)
    until(lambda: rig.top().trade_count >= count + 2, "asked for trades at the loss and at the return")
    venue.send(trade(1), stream=TRADES)  # a new connection counts from 1
    until(lambda: len(reader.of_kind(lib.BOOK_TRADE)) == 1, "the trade")
    await_shape(reader, (*LINK_UP, 0), (*VALID, 1))


@pytest.mark.parametrize("by_status", [False, True], ids=["close code", "HTTP status"])
def test_a_refused_token_is_renewed(rig: WorkerRig, venue: ScriptedVenue, by_status: bool) -> None:
    start(rig, venue)
    venue.refuses_by_status = by_status
    assert (venue.logins, venue.refreshes) == (1, 0)
    venue.refused_tokens.add("token-1-0")
    venue.disconnect(BOOK)
    until(lambda: venue.refreshes == 1, "the token is renewed")
    until(lambda: venue.connected(BOOK), "connected with the new one")
    until(lambda: rig.top().valid == 1, "the book is back")
    assert (venue.logins, venue.refreshes) == (1, 1)
    assert b"token-1" not in (rig.run_dir / "ingest.log").read_bytes()


def test_without_a_password_it_does_not_start(rig: WorkerRig) -> None:
    process = rig.start("ingest", INGEST, password="")
    assert process.wait(20) == 78
    assert "COREQUOTE_AMM_PASSWORD" in rig.logged("ingest", "configuration_refused")[0]["reason"]


# ---- lives ---------------------------------------------------------------------------------------


def test_orderly_stop_leaves_no_book_behind(rig: WorkerRig, venue: ScriptedVenue, reader: BookReader) -> None:
    process = start(rig, venue)
    process.terminate()
    assert process.wait(20) == 0
    await_shape(reader, (*LINK_UP, 0), (*VALID, 1), (*LINK_DOWN, 2), (*INVALID, 2))
    assert rig.top().valid == 0
    assert rig.state(INGEST) == lib.PROCESS_STOPPING


def test_a_successor_goes_on_with_new_generations(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader
) -> None:
    process = start(rig, venue)
    venue.send(trade(1), stream=TRADES)
    until(lambda: reader.of_kind(lib.BOOK_TRADE), "the trade")
    count = rig.top().trade_count
    process.kill()
    rig.reap(process)
    assert rig.top().valid == 1  # what the dead process left
    rig.start("ingest", INGEST)
    rig.await_running(INGEST)
    await_shape(
        reader, (*LINK_UP, 0), (*VALID, 1), (*LINK_DOWN, 2), (*INVALID, 2), (*LINK_UP, 2), (*VALID, 3)
    )
    assert rig.top().trade_count >= count


def test_a_second_producer_is_refused(rig: WorkerRig, venue: ScriptedVenue, reader: BookReader) -> None:
    start(rig, venue)
    until(lambda: len(reader.read()) == 2, "the first process's events")
    second = rig.start("ingest", INGEST)
    assert second.wait(20) not in (0, 78)
    assert len(reader.read()) == 2


def test_a_stopped_process_does_not_blame_the_venue(
    rig: WorkerRig, venue: ScriptedVenue, reader: BookReader
) -> None:
    """After SIGSTOP and SIGCONT the answers to its pings are in the socket, only not read yet."""
    process = start(rig, venue)
    until(lambda: len(shape(reader.read())) == 2, "the book")
    stopped_at = rig.heartbeat_ns(INGEST)
    process.send_signal(signal.SIGSTOP)
    until(lambda: lib.mono_now_ns() - stopped_at > 3_000_000_000, "three seconds")
    process.send_signal(signal.SIGCONT)
    venue.send(book("DELTA", 2, bids=[(41, 7)]))
    await_shape(reader, (*LINK_UP, 0), (*VALID, 1), (lib.BOOK_LEVEL, 0, 1))
    assert len(venue.attempts(BOOK)) == 1


def test_images_are_renewed_before_a_lapped_reader_needs_them(tmp_path: Path, venue: ScriptedVenue) -> None:
    """One market changes once and falls silent while another fills the ring of their worker twice over."""
    rig = make_rig(tmp_path, venue.url, "MKT-A", "MKT-B")
    venue.snapshots["MKT-B"] = book("SNAPSHOT", 1, market="MKT-B", asks=[(70, 1)])
    try:
        rig.start("ingest", INGEST)
        rig.await_running(INGEST)
        venue.send(book("DELTA", 2, market="MKT-B", asks=[(70, 2)]), market="MKT-B")
        until(lambda: rig.top(1).ask_lots == 2, "the silent market's change")
        assert rig.image(1)[2] == {70: 1}  # not worth an image yet
        frames = [
            book("DELTA", number, bids=[(price, number) for price in range(1, 60)], asks=[(99, number)])
            for number in range(2, 1_202)
        ]
        venue.send(*frames)
        until(lambda: rig.top(0).venue_sequence == 1_201, "all deltas", deadline_s=60)
        published = lib.broadcast_position(rig.arena.book_ring(0))
        assert published > 2 * lib.BOOK_RING_SLOTS
        assert rig.image(1)[2] == {70: 2}
        assert rig.image(0)[0].ring_position > published - lib.BOOK_RING_SLOTS // 4

        # a reader that slept through all of it: lands, loads the image, catches up from the ring
        cursor, batch, lapped = (
            ffi.new("broadcast_cursor_t *"),
            ffi.new("book_event_t[]", lib.BOOK_RING_SLOTS),
            ffi.new("int *"),
        )
        ring = rig.arena.book_ring(0)
        assert lib.broadcast_read(ring, lib.BOOK_RING_SLOTS, cursor, batch, lib.BOOK_RING_SLOTS, lapped) == 0
        assert lapped[0] == 1
        header, bids, _ = rig.image(0)
        assert cursor.position <= header.ring_position
        position = cursor.position
        count = lib.broadcast_read(ring, lib.BOOK_RING_SLOTS, cursor, batch, lib.BOOK_RING_SLOTS, lapped)
        for index in range(count):
            if position + index >= header.ring_position and batch[index].side == lib.ORDERBOOK_BID:
                bids[batch[index].price_ticks] = batch[index].size_lots
        assert bids == dict.fromkeys(range(1, 60), 1_201)
    finally:
        rig.close()


def test_passes_and_the_heart_are_counted(rig: WorkerRig, venue: ScriptedVenue) -> None:
    start(rig, venue)
    row = rig.arena.process(INGEST)
    beat, work = rig.heartbeat_ns(INGEST), counter(row, "work_count")
    venue.send(book("DELTA", 2, bids=[(41, 7)]))
    until(lambda: counter(row, "work_count") > work, "the work is counted")
    until(lambda: rig.heartbeat_ns(INGEST) > beat, "the heart beats")
    assert counter(row.pass_ns, "count") == counter(row, "pass_count")


# ---- against the paper exchange ------------------------------------------------------------------


class Paper:
    """The paper exchange as a process, and the market maker's account on it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._token = ""
        self.process: subprocess.Popen[bytes]
        self.address = ""
        self._start("0")

    def _start(self, port: str) -> None:
        port_file = self._directory / "exchange.address"
        port_file.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "engine.paper", "--port", port, "--port-file", str(port_file)),
                *("--snapshot-interval-ms", "300"),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COREQUOTE_AMM_PASSWORD": PASSWORD},
            stdout=subprocess.DEVNULL,
        )
        self.address = until(lambda: port_file.exists() and port_file.read_text().strip(), "its address")
        answer = self.call("auth/login", {"username": "amm_market_maker", "password": PASSWORD})
        self._token = answer["access_token"]

    def restart(self) -> None:
        """kill -9, and up again at the same address with an empty book."""
        self.process.kill()
        self.process.wait()
        self._start(self.address.rpartition(":")[2])

    def call(self, path: str, body: Any = None) -> Any:
        head = {"Content-Type": "application/json"}
        if self._token:
            head["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"http://{self.address}/api/v1/{path}", data=data, headers=head)) as answer:
            return json.load(answer)["data"]

    def order(self, market: str, number: int, side: str, direction: str, price: int, quantity: int) -> Any:
        return self.call(
            "orders",
            {
                "client_order_id": f"test-{number}",
                "market_id": market,
                "side": side,
                "direction": direction,
                "price_cents": price,
                "quantity": quantity,
            },
        )["order"]

    def ladder(self, market: str) -> tuple[dict[int, int], dict[int, int]]:
        yes = self.call(f"markets/{market}/orderbook?levels=99")["yes"]
        bids, asks = (
            {level["price_cents"]: level["total_quantity"] for level in yes[side]}
            for side in ("bids", "asks")
        )
        return bids, asks


@pytest.fixture
def paper(tmp_path: Path) -> Iterator[Paper]:
    paper = Paper(tmp_path)
    yield paper
    paper.process.kill()
    paper.process.wait()


def held_ladder(reader: BookReader, rig: WorkerRig, slot: int) -> tuple[dict[int, int], dict[int, int]]:
    """The ladder a quoter would hold: the image the last generation named, and every level since."""
    header, bids, asks = rig.image(slot)
    sides = {lib.ORDERBOOK_BID: bids, lib.ORDERBOOK_ASK: asks}
    for position, event in enumerate(reader.read()):
        if (
            event["kind"] == lib.BOOK_LEVEL
            and event["market_slot"] == slot
            and position >= header.ring_position
        ):
            sides[event["side"]][event["price_ticks"]] = event["size_lots"]
    return tuple({price: lots for price, lots in side.items() if lots} for side in (bids, asks))  # type: ignore[return-value]


def test_the_exchanges_books_arrive(tmp_path: Path, paper: Paper) -> None:
    markets = [item["id"] for item in paper.call("markets")["items"]]
    rig = make_rig(tmp_path, f"http://{paper.address}", *markets)
    try:
        reader = BookReader(rig.arena)
        rig.start("ingest", INGEST)
        rig.await_running(INGEST)
        paper.call("account/deposit", {"amount_cents": 5_000_000})
        for number in range(30):
            market = markets[number % len(markets)]
            paper.order(market, number, "YES", "BUY", 20 + number, 10 + number)
            placed = paper.order(market, 100 + number, "NO", "BUY", 10 + number % 20, 5 + number)
            if number % 4 == 0:
                paper.call(f"orders/{placed['id']}/cancel", {})
        for slot, market in enumerate(markets):
            expected = paper.ladder(market)
            assert expected[0]
            assert expected[1]
            until(lambda s=slot, e=expected: held_ladder(reader, rig, s) == e, f"the ladder of {market}")
            top = rig.top(slot)
            assert (top.bid_ticks, top.ask_ticks) == (max(expected[0]), min(expected[1]))
            until(lambda s=slot: rig.feed("snapshots", s) >= 3, "periodic snapshots")
            assert rig.top(slot).generation == 1
            assert rig.feed("sequence_gaps", slot) == rig.feed("refused", slot) == 0
    finally:
        rig.close()


def test_the_exchange_dies_and_comes_back(tmp_path: Path, paper: Paper) -> None:
    market = paper.call("markets")["items"][0]["id"]
    rig = make_rig(tmp_path, f"http://{paper.address}", market)
    try:
        reader = BookReader(rig.arena)
        rig.start("ingest", INGEST)
        rig.await_running(INGEST)
        paper.call("account/deposit", {"amount_cents": 100_000})
        paper.order(market, 1, "YES", "BUY", 33, 7)
        until(lambda: rig.top().bid_ticks == 33, "the bid")
        paper.restart()
        until(lambda: (*LINK_DOWN, 2) in shape(reader.read()), "the link is down")
        until(lambda: rig.top().valid == 1, "the book is back")
        assert held_ladder(reader, rig, 0) == ({}, {})
    finally:
        rig.close()
