"""The platform's two WebSocket streams as values: wire messages, their checks and their sequence rules.

Everything here is pure. A frame that breaks a rule of the contract (§3) is refused as a whole, before
any of it reaches the ladder: numbers must be JSON integers (no float, boolean, string or null), prices
1..99, totals 0..``QUANTITY_MAX``, ids those of this connection's market, each level named once, each key
given once. Unknown keys are tolerated, as the contract may grow.

A crossed or locked book is *not* refused: orders of one account never trade with each other (§5.7), so
such a book may rest. Whether to quote on it is the quoter's decision.
"""

from __future__ import annotations

import json
from enum import Enum, auto
from typing import Annotated, Any, Final, Literal, NoReturn
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

FRAME_BYTES_MAX: Final = 1 << 20
QUANTITY_MAX: Final = (1 << 53) - 1  # exact in every JSON reader; 99 such levels fit the kernel's sum
_SEQUENCE_MAX: Final = (1 << 53) - 1
_UNIX_MS_MAX: Final = (1 << 63) // 1_000_000 - 1  # as nanoseconds it still fits 64 bits
_LEVELS_MAX: Final = 99  # per side, one for each price

REQUEST_SNAPSHOT: Final = b'{"action":"REQUEST_SNAPSHOT"}'
CLOSE_BAD_TOKEN: Final = 4401
CLOSE_UNKNOWN_MARKET: Final = 4404

PriceCents = Annotated[int, Meta(ge=1, le=99)]
TotalQuantity = Annotated[int, Meta(ge=0, le=QUANTITY_MAX)]
SequenceId = Annotated[int, Meta(ge=0, le=_SEQUENCE_MAX)]
UnixMs = Annotated[int, Meta(ge=0, le=_UNIX_MS_MAX)]
PlatformId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]


class FrameRefusedError(ValueError):
    """A frame breaks the contract; the message names the rule, never the frame's content at length."""


class Level(Struct, frozen=True, kw_only=True, gc=False):
    """One price level of the YES book: its new absolute total in shares, 0 = gone."""

    price_cents: PriceCents
    total_quantity: TotalQuantity


Levels = Annotated[tuple[Level, ...], Meta(max_length=_LEVELS_MAX)]


class BookSides(Struct, frozen=True, kw_only=True, gc=False):
    """Levels of both sides, in no promised order."""

    bids: Levels
    asks: Levels


class BookUpdate(Struct, frozen=True, kw_only=True, gc=False):
    """A SNAPSHOT (the whole YES book) or a DELTA (the levels that changed)."""

    type: Literal["ORDERBOOK_UPDATE"]
    update_type: Literal["SNAPSHOT", "DELTA"]
    sequence_id: SequenceId
    market_id: str
    timestamp_ms: UnixMs
    yes: BookSides


class TradeMessage(Struct, frozen=True, kw_only=True, gc=False):
    """A trade of the market: real-time but unreliable, so it moves no inventory."""

    type: Literal["TRADE"]
    sequence_id: Annotated[int, Meta(ge=1, le=_SEQUENCE_MAX)]  # counts from 1
    market_id: str
    timestamp_ms: UnixMs
    trade_id: PlatformId
    price_cents: PriceCents  # YES
    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]
    scenario: Literal["MINT", "TRANSFER_YES", "TRANSFER_NO", "BURN"]
    aggressor_side: Literal["BUY", "SELL"]  # the taker's side of the YES book


_decode_book: Final = msgspec.json.Decoder(BookUpdate).decode
_decode_trade: Final = msgspec.json.Decoder(TradeMessage).decode
_BOOK_KEYS: Final = 8  # type .. yes, bids, asks; two more for each level
_TRADE_KEYS: Final = 9


def _unique_keys(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise FrameRefusedError("a key is given twice in one object")


def _check_unique_keys(payload: bytes) -> None:
    """Refuses repeated keys, of which a JSON decoder silently keeps the last.

    This is the slow way. A colon stands after every key and in none of our strings, and the typed decoder
    has found each required key: a frame with exactly that many colons has no room for a repetition, and its
    reader asks only about the others (an unknown key, a string with a colon).
    """
    try:
        text = payload.decode()  # json's own guess at the encoding lets encoded surrogates through
        json.loads(text, object_pairs_hook=_unique_keys, parse_int=str, parse_float=str)
    except FrameRefusedError:
        raise
    except (ValueError, RecursionError) as error:
        raise FrameRefusedError(f"not JSON: {type(error).__name__}") from None


def _refuse(error: Exception) -> NoReturn:
    raise FrameRefusedError(str(error)) from None


def _check_levels_unique(levels: tuple[Level, ...]) -> None:
    if len({level.price_cents for level in levels}) != len(levels):
        raise FrameRefusedError("a price level is given twice on one side")


def decode_book(payload: bytes, market_id: str) -> BookUpdate:
    """One order-book frame of ``market_id``. Raises FrameRefusedError."""
    try:
        update = _decode_book(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse(error)
    if update.market_id != market_id:
        raise FrameRefusedError(f"a book of another market arrived on the stream of {market_id}")
    sides = update.yes
    level_count = len(sides.bids) + len(sides.asks)
    if payload.count(b":") != _BOOK_KEYS + 2 * level_count:
        _check_unique_keys(payload)
    if level_count > 1:
        _check_levels_unique(sides.bids)
        _check_levels_unique(sides.asks)
    return update


def decode_trade(payload: bytes, market_id: str) -> TradeMessage:
    """One trade frame of ``market_id``. Raises FrameRefusedError."""
    try:
        trade = _decode_trade(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse(error)
    if trade.market_id != market_id:
        raise FrameRefusedError(f"a trade of another market arrived on the stream of {market_id}")
    if payload.count(b":") != _TRADE_KEYS:
        _check_unique_keys(payload)
    return trade


class BookStep(Enum):
    """What a book frame asks of the ladder."""

    REBUILD = auto()  # a snapshot: the ladder is what it says
    APPLY = auto()  # the next delta
    REPEAT = auto()  # the last delta, delivered again: nothing to do
    GAP = auto()  # the ladder is unreliable from here on: ask for a snapshot
    IGNORE = auto()  # a delta while a snapshot is awaited


class BookSequence:
    """Sequence rules of one order-book connection (§3); made anew for each connection."""

    def __init__(self) -> None:
        self._next: int | None = None  # None: unreliable until a snapshot comes
        self._awaiting = False  # the gap has been reported
        self._last: BookUpdate | None = None

    @property
    def reliable(self) -> bool:
        """Whether a snapshot has come and everything since was in order."""
        return self._next is not None

    def step(self, update: BookUpdate) -> BookStep:
        """Counts a frame. Only a snapshot sets the number that is expected next."""
        if update.update_type == "SNAPSHOT":
            self._next = update.sequence_id + 1
            self._awaiting = False
            self._last = None
            return BookStep.REBUILD
        if update.sequence_id == self._next:
            self.applied(update)
            return BookStep.APPLY
        if update == self._last and self._next is not None:
            return BookStep.REPEAT
        return BookStep.GAP if self.lose() else BookStep.IGNORE

    def applied(self, update: BookUpdate) -> None:
        """``update`` is the last delta that the ladder took."""
        self._next = update.sequence_id + 1
        self._last = update

    def lose(self) -> bool:
        """The book is unreliable until the next snapshot; True when that is news."""
        news = not self._awaiting
        self._next = None
        self._awaiting = True
        return news


class TradeStep(Enum):
    """What the number of a trade frame says."""

    NEXT = auto()
    AFTER_GAP = auto()  # trades were missed: only the trade list knows them
    REPEAT = auto()


class TradeSequence:
    """Sequence rules of one trade connection: numbers rise by one from 1."""

    def __init__(self) -> None:
        self._next = 1

    def step(self, trade: TradeMessage) -> TradeStep:
        if trade.sequence_id < self._next:
            return TradeStep.REPEAT
        step = TradeStep.NEXT if trade.sequence_id == self._next else TradeStep.AFTER_GAP
        self._next = trade.sequence_id + 1
        return step


def _stream_url(base_url: str, stream: str, market_id: str, token: str) -> str:
    scheme, _, rest = base_url.partition("://")
    secure = "wss" if scheme == "https" else "ws"
    return f"{secure}://{rest}/ws/v1/{stream}/{quote(market_id, safe='')}?token={quote(token, safe='')}"


def book_stream_url(base_url: str, market_id: str, token: str) -> str:
    """Address of a market's order-book stream; it carries the token, so it is never logged."""
    return _stream_url(base_url, "orderbook", market_id, token)


def trade_stream_url(base_url: str, market_id: str, token: str) -> str:
    """Address of a market's trade stream; it carries the token, so it is never logged."""
    return _stream_url(base_url, "trades", market_id, token)
