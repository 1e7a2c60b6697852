"""What a frame of the platform's streams says by the contract alone (§1.1, §1.4, §3), or that it is illegal.

Written to judge ingest by, and plain on purpose: a JSON reader of RFC 8259 without any of the freedoms that
libraries take (no repeated keys, no lone surrogates, no NaN, no byte-order mark, UTF-8 only, integers are
integer tokens), then the rules one after the other. It shares no line with the engine, and no library.

Keys that the contract does not name are tolerated, with any JSON value. Where the contract sets no bound, the
bound is what every party can hold: 2^53 - 1 for counts and quantities, 2^63 - 1 nanoseconds for times.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

EXACT_MAX: Final = 2**53 - 1
UNIX_MS_MAX: Final = 2**63 // 10**6 - 1  # the whole millisecond ends before 2^63 ns
DEPTH_MAX: Final = 20_000  # of nested arrays and objects; readers stop at one depth or another below it
MESSAGE_BYTES_MAX: Final = 2**20  # of any message

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f]*')
_ESCAPES: Final = {
    **{'"': '"', "\\": "\\", "/": "/"},
    **{"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"},
}
_HEX: Final = re.compile(r"[0-9a-fA-F]{4}")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WORDS: Final = {"true": True, "false": False, "null": None}


class IllegalFrameError(ValueError):
    """The frame breaks the contract."""


class OtherNumber(NamedTuple):
    """A JSON number that is not written as an integer, or is longer than any that the contract knows."""

    token: str


class _Object(NamedTuple):
    """An object or array that is still open."""

    members: dict[str, Any] | list[Any]
    key: str


class JsonReader:
    """Reads one JSON text without recursion, so that depth is no danger."""

    def __init__(self, payload: bytes) -> None:
        if len(payload) > MESSAGE_BYTES_MAX:
            raise IllegalFrameError("too long")
        try:
            self._text = payload.decode("utf-8", "strict")
        except UnicodeDecodeError:
            raise IllegalFrameError("not UTF-8") from None
        self._at = 0

    def read(self) -> Any:
        """The text's value: dict, list, str, int, bool, None or OtherNumber. Raises IllegalFrameError."""
        open_containers: list[_Object] = []
        key = ""
        while True:
            opened = self._value_or_opening()
            if isinstance(opened, _Opening):
                if len(open_containers) == DEPTH_MAX:
                    raise IllegalFrameError("nested too deeply")
                members: dict[str, Any] | list[Any] = {} if opened.closer == "}" else []
                open_containers.append(_Object(members, key))
                if not self._take(opened.closer):
                    key = self._key(members)
                    continue
                value, key = open_containers.pop()
            else:
                value = opened
            # A value is complete: put it where it belongs, and close what it completes.
            while open_containers:
                members = open_containers[-1].members
                if isinstance(members, dict):
                    members[key] = value
                else:
                    members.append(value)
                if self._take(","):
                    key = self._key(members)
                    break
                if not self._take("}" if isinstance(members, dict) else "]"):
                    raise IllegalFrameError(f"neither comma nor end at {self._at}")
                value, key = open_containers.pop()
            else:
                self._skip_space()
                if self._at != len(self._text):
                    raise IllegalFrameError(f"more than one value, from {self._at} on")
                return value

    def _skip_space(self) -> None:
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr] # matches nothing too

    def _take(self, mark: str) -> bool:
        self._skip_space()
        found = self._text.startswith(mark, self._at)
        self._at += len(mark) * found
        return found

    def _key(self, members: dict[str, Any] | list[Any]) -> str:
        """The next member's key; arrays have none."""
        if isinstance(members, list):
            return ""
        if not self._take('"'):
            raise IllegalFrameError(f"no key at {self._at}")
        key = self._string()
        if key in members:
            raise IllegalFrameError("a key is given twice")
        if not self._take(":"):
            raise IllegalFrameError(f"no colon at {self._at}")
        return key

    def _value_or_opening(self) -> Any:
        for opener, closer in (("{", "}"), ("[", "]")):
            if self._take(opener):
                return _Opening(closer)
        if self._take('"'):
            return self._string()
        for word, value in _WORDS.items():
            if self._take(word):
                return value
        number = _NUMBER.match(self._text, self._at)
        if number is None:
            raise IllegalFrameError(f"no value at {self._at}")
        self._at = number.end()
        token = number.group()
        return int(token) if number.groups() == (None, None) and len(token) < 30 else OtherNumber(token)

    def _string(self) -> str:
        parts = []
        while True:
            plain = _PLAIN.match(self._text, self._at)
            assert plain is not None  # it matches nothing too
            parts.append(plain.group())
            self._at = plain.end() + 1
            mark = self._text[plain.end() : self._at]
            if mark == '"':
                return "".join(parts)
            if mark != "\\":
                raise IllegalFrameError(f"a string is not ended, or holds a control character, at {self._at}")
            parts.append(self._escaped())

    def _escaped(self) -> str:
        letter = self._text[self._at : self._at + 1]
        self._at += 1
        if letter != "u":
            if letter not in _ESCAPES:
                raise IllegalFrameError(f"an escape that is none at {self._at}")
            return _ESCAPES[letter]
        unit = self._hex()
        if 0xDC00 <= unit < 0xE000:
            raise IllegalFrameError("half a surrogate pair")
        if not 0xD800 <= unit < 0xDC00:
            return chr(unit)
        if not self._text.startswith("\\u", self._at):
            raise IllegalFrameError("half a surrogate pair")
        self._at += 2
        low = self._hex()
        if not 0xDC00 <= low < 0xE000:
            raise IllegalFrameError("half a surrogate pair")
        return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00))

    def _hex(self) -> int:
        digits = _HEX.match(self._text, self._at)
        if digits is None:
            raise IllegalFrameError(f"no four hexadecimal digits at {self._at}")
        self._at = digits.end()
        return int(digits.group(), 16)


class _Opening(NamedTuple):
    closer: str


Levels = dict[int, int]  # price in cents -> total in shares, in the frame's order


class LegalBook(NamedTuple):
    """An order-book frame that keeps the contract."""

    is_snapshot: bool
    sequence_id: int
    timestamp_ms: int
    bids: Levels
    asks: Levels


class LegalTrade(NamedTuple):
    """A trade frame that keeps the contract."""

    sequence_id: int
    timestamp_ms: int
    price_cents: int
    quantity: int
    aggressor_buys: bool


def _object(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise IllegalFrameError("no object where one belongs")
    return value


def _member(of: dict[str, Any], key: str) -> Any:
    if key not in of:
        raise IllegalFrameError(f"{key} is missing")
    return of[key]


def _integer(of: dict[str, Any], key: str, low: int, high: int) -> int:
    value = _member(of, key)
    if type(value) is not int or not low <= value <= high:
        raise IllegalFrameError(f"{key} is no integer from {low} to {high}")
    return value


def _word(of: dict[str, Any], key: str, *allowed: str) -> str:
    value = _member(of, key)
    if type(value) is not str or value not in allowed:
        raise IllegalFrameError(f"{key} is none of {', '.join(allowed)}")
    return value


def _levels(of: dict[str, Any], side: str) -> Levels:
    entries = _member(of, side)
    if type(entries) is not list:
        raise IllegalFrameError(f"{side} is no array")
    levels: Levels = {}
    for entry in entries:
        level = _object(entry)
        price = _integer(level, "price_cents", 1, 99)
        if price in levels:
            raise IllegalFrameError(f"{side} names a price twice")
        levels[price] = _integer(level, "total_quantity", 0, EXACT_MAX)
    return levels


def legal_book(payload: bytes, market_id: str) -> LegalBook:
    """What an order-book frame of this market says. Raises IllegalFrameError."""
    frame = _object(JsonReader(payload).read())
    _word(frame, "type", "ORDERBOOK_UPDATE")
    _word(frame, "market_id", market_id)
    yes = _object(_member(frame, "yes"))
    return LegalBook(
        is_snapshot=_word(frame, "update_type", "SNAPSHOT", "DELTA") == "SNAPSHOT",
        sequence_id=_integer(frame, "sequence_id", 0, EXACT_MAX),
        timestamp_ms=_integer(frame, "timestamp_ms", 0, UNIX_MS_MAX),
        bids=_levels(yes, "bids"),
        asks=_levels(yes, "asks"),
    )


def legal_trade(payload: bytes, market_id: str) -> LegalTrade:
    """What a trade frame of this market says. Raises IllegalFrameError."""
    frame = _object(JsonReader(payload).read())
    _word(frame, "type", "TRADE")
    _word(frame, "market_id", market_id)
    _word(frame, "scenario", "MINT", "TRANSFER_YES", "TRANSFER_NO", "BURN")
    trade_id = _member(frame, "trade_id")
    if type(trade_id) is not str or _ID.fullmatch(trade_id) is None:
        raise IllegalFrameError("trade_id is no id")
    return LegalTrade(
        sequence_id=_integer(frame, "sequence_id", 1, EXACT_MAX),
        timestamp_ms=_integer(frame, "timestamp_ms", 0, UNIX_MS_MAX),
        price_cents=_integer(frame, "price_cents", 1, 99),
        quantity=_integer(frame, "quantity", 1, EXACT_MAX),
        aggressor_buys=_word(frame, "aggressor_side", "BUY", "SELL") == "BUY",
    )
