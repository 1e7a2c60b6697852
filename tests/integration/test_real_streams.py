"""Recorded venue streams through the kernel book: every checksum, hash and ticker the venues gave with them.

The kernel holds ticks, and the wire has decimals of any fineness, so a stream's distinct prices are
numbered in rising order and the numbers are the ticks; a stream with more of them than one ladder holds is
laid over several kernel books side by side. Sizes are the wire's eight decimals as integer lots. Needs the
recordings: ``../shared/data`` beside the repository, or ``COREQUOTE_DATA``.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine._native import lib
from tests.reference.kernel import HUNDREDTHS, KernelBook
from tests.reference.orderbook import ASK, BID, TOTAL

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("COREQUOTE_DATA", ROOT.parent / "shared" / "data"))

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no recordings at {DATA}: set COREQUOTE_DATA to their folder"
)

TILE_TICKS = 9_999
LOT_DECIMALS = 8
PRICE_DECIMALS = 10


def lines(name: str) -> Iterator[str]:
    """Lines of a gzipped recording."""
    with gzip.open(DATA / name, "rt") as stream:
        yield from stream


def cryptofeed(name: str) -> Iterator[Any]:
    """The JSON messages that were received (``t: json``, README of the data)."""
    for line in lines(name):
        head, _, body = line.partition(": ")
        if "<-" not in head and head.replace(".", "", 1).isdigit():
            yield json.loads(body)


def digits(decimal: str, decimals: int) -> int:
    """'0.05' -> 5000000 at eight decimals. Raises when the wire is finer."""
    whole, _, fraction = decimal.partition(".")
    assert len(fraction.rstrip("0")) <= decimals, decimal
    return int(whole + fraction[:decimals].ljust(decimals, "0"))


class StreamBook:
    """Kernel books side by side over a stream's distinct prices."""

    def __init__(self, prices: Iterable[str]) -> None:
        self.prices = sorted({digits(price, PRICE_DECIMALS) for price in prices})
        self.place = {price: index for index, price in enumerate(self.prices)}
        ticks = min(len(self.prices), TILE_TICKS)
        self.tiles = [KernelBook(((ticks + 2, 0, 1),)) for _ in range(0, len(self.prices), TILE_TICKS)]

    def set(self, side: int, price: str, size: str) -> None:
        tile, tick = divmod(self.place[digits(price, PRICE_DECIMALS)], TILE_TICKS)
        code = lib.orderbook_set_level(self.tiles[tile].pointer, side, tick + 1, digits(size, LOT_DECIMALS))
        assert code == lib.ORDERBOOK_OK

    def set_all(self, side: int, levels: Iterable[Any]) -> None:
        for price, size, *_ in levels:
            self.set(side, price, size)

    def levels(self, side: int, count: int = 10**6) -> list[tuple[int, int]]:
        """(price in 1e-10, lots in 1e-8), best first."""
        order = range(len(self.tiles)) if side == ASK else reversed(range(len(self.tiles)))
        found = (
            (self.prices[tile * TILE_TICKS + tick - 1], lots)
            for tile in order
            for tick, lots in self.tiles[tile].levels(TOTAL, side, min(count, TILE_TICKS))
        )
        return list(itertools.islice(found, count))

    def best(self, side: int) -> tuple[int, int]:
        return self.levels(side, 1)[0]

    def level_count(self, side: int) -> int:
        return sum(tile.metrics()[side][1] for tile in self.tiles)

    def truncate(self, side: int, depth: int) -> None:
        """Drop the worst levels beyond the subscribed depth, which the venue does not announce."""
        if self.level_count(side) <= depth:
            return
        for price, _ in self.levels(side)[depth:]:
            tile, tick = divmod(self.place[price], TILE_TICKS)
            lib.orderbook_set_level(self.tiles[tile].pointer, side, tick + 1, 0)

    def check(self) -> None:
        assert all(lib.orderbook_check(tile.pointer) == 0 for tile in self.tiles)

    def is_uncrossed(self) -> bool:
        bids, asks = self.levels(BID, 1), self.levels(ASK, 1)
        return not bids or not asks or bids[0][0] < asks[0][0]


# --- Kraken


def kraken_frames() -> dict[str, list[list[dict[str, Any]]]]:
    """Per pair its book frames: each a list of objects with a/b/as/bs/c."""
    frames: dict[str, list[list[dict[str, Any]]]] = {}
    for message in cryptofeed("kraken/kraken_v1_book1000_2021-04-17.txt.gz"):
        if isinstance(message, list):
            frames.setdefault(message[-1], []).append(message[1:-2])
    return frames


def kraken_checksum(book: StreamBook, price_decimals: int) -> int:
    """CRC-32 of the top ten of each side: digits without point and leading zeros."""
    text = ""
    for side in (ASK, BID):
        for price, lots in book.levels(side, 10):
            text += str(price // 10 ** (PRICE_DECIMALS - price_decimals)) + str(lots)
    return zlib.crc32(text.encode())


def test_kraken_every_update_passes_its_checksum() -> None:
    updates = 0
    for frames in kraken_frames().values():
        parts = [part for frame in frames for part in frame]
        entries = [entry for part in parts for key in ("a", "b", "as", "bs") for entry in part.get(key, ())]
        book = StreamBook(price for price, *_ in entries)
        assert len(book.prices) <= 1_303
        assert len(book.tiles) == 1
        decimals = len(entries[0][0].partition(".")[2])
        for frame in frames:
            for part in frame:
                book.set_all(ASK, part.get("as", part.get("a", ())))
                book.set_all(BID, part.get("bs", part.get("b", ())))
            for side in (BID, ASK):
                book.truncate(side, 1000)
            if "c" in frame[-1]:
                assert kraken_checksum(book, decimals) == int(frame[-1]["c"])
                updates += 1
        book.check()
    assert updates == 2_066


# --- Coinbase


def test_coinbase_stays_uncrossed_and_meets_its_ticker() -> None:
    messages = list(cryptofeed("coinbase/coinbase_exchange_level2_ticker_matches_2021-04-17.txt.gz"))
    prices: dict[str, set[str]] = {}
    for message in messages:
        found = prices.setdefault(message.get("product_id", ""), set())
        found.update(level[0] for side in ("bids", "asks") for level in message.get(side, ()))
        found.update(change[1] for change in message.get("changes", ()))
    books = {product: StreamBook(found) for product, found in prices.items() if found}
    updates = tickers = equal = 0
    for message in messages:
        book = books.get(message.get("product_id", ""))
        if book is None:
            continue
        if message["type"] == "snapshot":
            book.set_all(BID, message["bids"])
            book.set_all(ASK, message["asks"])
        elif message["type"] == "l2update":
            for side, price, size in message["changes"]:
                book.set(BID if side == "buy" else ASK, price, size)
            updates += 1
            assert book.is_uncrossed()
        elif message["type"] == "ticker":
            tickers += 1
            top = [digits(message[key], PRICE_DECIMALS) for key in ("best_bid", "best_ask")]
            equal += top == [book.best(BID)[0], book.best(ASK)[0]]
    for book in books.values():
        book.check()
    assert (len(books), updates, tickers, equal) == (5, 5_734, 77, 73)


# --- Binance


def binance_replay(book: StreamBook, messages: Iterable[dict[str, Any]], chain: str) -> Iterator[bool]:
    """The official procedure over a stream that holds its own snapshot.

    Yields for each applied event whether it was live (False: buffered before the snapshot came). ``chain``
    is the field that must continue the last ``u``: ``U`` = u+1 on spot, ``pu`` = u on futures.
    """
    waiting: list[dict[str, Any]] = []
    last: int | None = None
    bridged = False
    for message in messages:
        if "lastUpdateId" in message:
            book.set_all(BID, message["bids"])
            book.set_all(ASK, message["asks"])
            last = message["lastUpdateId"]
        elif message.get("e") == "depthUpdate":
            waiting.append(message)
        if last is None:
            continue
        while waiting:
            event = waiting.pop(0)
            if event["u"] <= last:
                continue
            if bridged:
                assert event[chain] == (last + 1 if chain == "U" else last), "gap"
            assert bridged or event["U"] <= last + 1 <= event["u"] or event["U"] <= last <= event["u"]
            book.set_all(BID, event["b"])
            book.set_all(ASK, event["a"])
            assert book.is_uncrossed()
            bridged, last = True, event["u"]
            yield event is message


def hftbacktest(*names: str) -> list[dict[str, Any]]:
    """Combined-stream data, the snapshot standing as it is."""
    messages = []
    for name in names:
        for line in lines(f"binance/{name}"):
            message = json.loads(line.partition(" ")[2])
            messages.append(
                message if "lastUpdateId" in message else message["data"] | {"stream": message["stream"]}
            )
    return messages


def binance_prices(messages: Iterable[dict[str, Any]]) -> set[str]:
    return {
        level[0] for m in messages for side in ("b", "a", "bids", "asks") for level in depth_side(m, side)
    }


def depth_side(message: dict[str, Any], side: str) -> list[list[str]]:
    """Levels of a depth message; a bookTicker has plain strings under the same keys."""
    levels = message.get(side, [])
    return levels if isinstance(levels, list) else []


def replay_with_tickers(messages: list[dict[str, Any]], chain: str) -> tuple[int, int]:
    """(live depth events, how many of them left the best prices of the last bookTicker before them)."""
    book = StreamBook(binance_prices(messages))
    top: list[int] = []

    def noting_tickers() -> Iterator[dict[str, Any]]:
        for message in messages:
            if message.get("stream", "").endswith("bookTicker"):
                top[:] = [digits(message[key], PRICE_DECIMALS) for key in ("b", "a")]
            yield message

    events = equal = 0
    for is_live in binance_replay(book, noting_tickers(), chain):
        events += is_live
        equal += is_live and top == [book.best(BID)[0], book.best(ASK)[0]]
    book.check()
    return events, equal


def test_binance_spot_is_gap_free_and_meets_its_ticker() -> None:
    messages = hftbacktest("hft_spot_btcusdt_20240808.gz", "hft_spot_btcusdt_20240809.gz")
    assert replay_with_tickers(messages, "U") == (6_492, 6_485)


def test_binance_futures_is_gap_free() -> None:
    events, equal = replay_with_tickers(hftbacktest("hft_usdm_btcusdt_20240808.gz"), "pu")
    assert events > 6_500
    assert equal > 0


def test_binance_captures_of_four_symbols_bridge_and_continue() -> None:
    snapshots = {}
    for line in lines("binance/binance_spot_rest_depth_2021-10-12.txt.gz"):
        if "/depth?symbol=" in line:
            symbol = line.partition("symbol=")[2].partition("&")[0]
            snapshots[symbol] = json.loads(line.split(" -> ", 1)[1].partition(": ")[2])
    events: dict[str, list[dict[str, Any]]] = {}
    for message in cryptofeed("binance/binance_spot_ws_2021-10-12.txt.gz"):
        if message["data"].get("e") == "depthUpdate":
            events.setdefault(message["data"]["s"], []).append(message["data"])
    assert {symbol: len(found) for symbol, found in events.items()} == {
        "NKNUSDT": 150,
        "LRCBTC": 15,
        "BLZETH": 10,
        "RUNEEUR": 2,
    }
    for symbol, found in events.items():
        book = StreamBook(binance_prices([snapshots[symbol], *found]))
        applied = sum(1 for _ in binance_replay(book, [snapshots[symbol], *found], "U"))
        assert applied > 0
        book.check()


# --- Polymarket


def plain(value: int, decimals: int) -> str:
    """An integer of so many decimals as the venue writes it: no trailing zeros, no trailing point."""
    return f"{value // 10**decimals}.{value % 10**decimals:0{decimals}}".rstrip("0").rstrip(".")


def polymarket_levels(book: KernelBook, side: int) -> list[dict[str, str]]:
    """The kernel's levels as the venue sends them: worst first."""
    levels = reversed(book.levels(TOTAL, side))
    return [{"price": plain(tick, 4), "size": plain(lots, 2)} for tick, lots in levels]


def test_polymarket_books_hash_right_when_written_from_the_kernel() -> None:
    hashes = 0
    for line in (DATA / "polymarket" / "ws_book_2026-02-12.jsonl").read_text().splitlines():
        message = json.loads(line)
        book = KernelBook(HUNDREDTHS)
        for side, name in ((BID, "bids"), (ASK, "asks")):
            for level in message[name]:
                code = lib.orderbook_set_level(
                    book.pointer, side, digits(level["price"], 4), digits(level["size"], 2)
                )
                assert code == lib.ORDERBOOK_OK
        summary = {
            "market": message["market"],
            "asset_id": message["asset_id"],
            "timestamp": message["timestamp"],
            "hash": "",
            "bids": polymarket_levels(book, BID),
            "asks": polymarket_levels(book, ASK),
            "min_order_size": "5",
            "tick_size": message["tick_size"],
            "neg_risk": False,
            "last_trade_price": message["last_trade_price"],
        }
        text = json.dumps(summary, separators=(",", ":"))
        assert hashlib.sha1(text.encode()).hexdigest() == message["hash"]
        assert lib.orderbook_check(book.pointer) == 0
        hashes += 1
    assert hashes == 5
