"""LocalOrderBook: the members of market-making §2.5 and the sequence rule of platform §3."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from engine.book import BookMessageError, LocalOrderBook, OrderbookUpdate


def message(
    sequence_id: int, bids: dict[int, int], asks: dict[int, int], market_id: str = "M"
) -> dict[str, Any]:
    """An ORDERBOOK_UPDATE as it comes out of a JSON decoder."""

    def ladder(levels: dict[int, int]) -> list[dict[str, int]]:
        return [{"price_cents": price, "total_quantity": quantity} for price, quantity in levels.items()]

    return {
        "type": "ORDERBOOK_UPDATE",
        "update_type": "SNAPSHOT",
        "sequence_id": sequence_id,
        "market_id": market_id,
        "timestamp_ms": 1_740_652_800_000,
        "yes": {"bids": ladder(bids), "asks": ladder(asks)},
    }


@pytest.fixture
def book() -> LocalOrderBook:
    book = LocalOrderBook("M")
    book.apply_snapshot(message(1, {48: 100, 47: 150, 46: 200, 40: 7}, {52: 50, 53: 80, 54: 120}))
    return book


def test_new_book_is_empty_and_invalid_until_a_snapshot() -> None:
    book = LocalOrderBook("M")
    assert book.invalid
    assert (book.best_bid, book.best_ask, book.mid_price, book.spread) == (None, None, None, None)
    assert (book.bid_depth_3, book.ask_depth_3, book.bids, book.asks) == (0, 0, {}, {})
    assert book.get_vwap("bid", 1) is None
    assert book.apply_delta(message(1, {50: 1}, {})) is False
    assert book.bids == {}


def test_snapshot_fills_every_member(book: LocalOrderBook) -> None:
    assert not book.invalid
    assert (book.market_id, book.last_sequence_id) == ("M", 1)
    assert (book.best_bid, book.best_ask, book.mid_price, book.spread) == (48, 52, 50.0, 4)
    assert (book.bid_depth_3, book.ask_depth_3) == (450, 250)
    assert list(book.bids.items()) == [(48, 100), (47, 150), (46, 200), (40, 7)]
    assert list(book.asks.items()) == [(52, 50), (53, 80), (54, 120)]


def test_delta_sets_totals_and_zero_removes(book: LocalOrderBook) -> None:
    assert book.apply_delta(message(2, {48: 0, 49: 5}, {52: 51, 60: 0})) is True
    assert book.bids == {49: 5, 47: 150, 46: 200, 40: 7}
    assert book.asks == {52: 51, 53: 80, 54: 120}
    assert (book.best_bid, book.mid_price, book.spread, book.last_sequence_id) == (49, 50.5, 3, 2)


@pytest.mark.parametrize("sequence_id", [0, 1, 3, 1000])
def test_gap_invalidates_until_the_next_snapshot(book: LocalOrderBook, sequence_id: int) -> None:
    assert book.apply_delta(message(sequence_id, {48: 1}, {})) is False
    assert book.invalid
    assert book.bids[48] == 100, "a dropped delta changes nothing"
    assert book.apply_delta(message(2, {48: 1}, {})) is False, "even the right number comes too late"
    book.apply_snapshot(message(1, {30: 1}, {}))
    assert not book.invalid
    assert book.bids == {30: 1}
    assert book.apply_delta(message(2, {31: 1}, {})) is True


def test_vwap_by_depth(book: LocalOrderBook) -> None:
    assert book.get_vwap("bid", 1) == 48.0
    assert book.get_vwap("bid", 2) == (48 * 100 + 47 * 150) / 250
    assert book.get_vwap("ask", 3) == (52 * 50 + 53 * 80 + 54 * 120) / 250
    assert book.get_vwap("ask", 10**9) == book.get_vwap("ask", 3)


def test_vwap_is_exact_beyond_64_bits() -> None:
    book = LocalOrderBook("M")
    book.apply_snapshot(message(1, {99: 2**61, 1: 2**61}, {}))
    assert book.get_vwap("bid", 2) == 50.0


@pytest.mark.parametrize(
    ("side", "depth"), [("BID", 1), ("yes", 1), (0, 1), ("bid", 0), ("bid", -1), ("bid", 1.0), ("ask", True)]
)
def test_vwap_refuses_other_arguments(book: LocalOrderBook, side: Any, depth: Any) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        book.get_vwap(side, depth)


@pytest.mark.parametrize(
    "level", [(0, 1), (100, 1), (-1, 1), (50, -1), (50, 2**62 + 1), (2**40, 1), (50, 2**70)]
)
def test_level_against_the_rules_is_refused_and_invalidates(
    book: LocalOrderBook, level: tuple[int, int]
) -> None:
    with pytest.raises(BookMessageError):
        book.apply_delta(message(2, dict([level]), {}))
    assert book.invalid
    with pytest.raises(BookMessageError):
        book.apply_snapshot(message(1, {}, dict([level])))
    assert book.invalid


@pytest.mark.parametrize("quantity", [1.5, "1", None, True])
def test_quantity_that_is_no_integer_is_refused(book: LocalOrderBook, quantity: Any) -> None:
    with pytest.raises(BookMessageError):
        book.apply_delta(message(2, {50: quantity}, {}))
    assert book.invalid


def test_message_of_another_market_is_refused_and_the_book_stays(book: LocalOrderBook) -> None:
    with pytest.raises(BookMessageError, match="OTHER"):
        book.apply_snapshot(message(1, {}, {}, market_id="OTHER"))
    assert not book.invalid
    assert book.best_bid == 48


def test_decoded_struct_is_taken_as_it_is(book: LocalOrderBook) -> None:
    update = msgspec.convert(message(2, {49: 1}, {}), OrderbookUpdate)
    assert book.apply_delta(update) is True
    assert book.best_bid == 49


def test_crossed_message_is_kept_as_the_venue_sent_it(book: LocalOrderBook) -> None:
    assert book.apply_delta(message(2, {60: 1}, {})) is True
    assert book.spread == -8


def test_assertions_are_compiled_in() -> None:
    """Python builds extensions with NDEBUG; a kernel without its assertions must not ship."""
    code = (
        "from engine._native import ffi, lib\n"
        "memory = ffi.new('int64_t[]', lib.orderbook_bytes(101) // 8)\n"
        "lib.orderbook_best(ffi.cast('orderbook_t *', memory), 0, 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == -6, "SIGABRT"
    assert "assert_book" in result.stderr
