"""The C reader of the usual delta against the typed decoder: what the one takes, the other reads alike."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine._native import ffi, lib
from engine.venues.platform_feed import QUANTITY_MAX, FrameRefusedError, decode_book

MARKET = "MKT-A"
Level = tuple[int, int, int]  # side, price in cents, total

LEVELS = st.dictionaries(st.integers(1, 99), st.integers(0, QUANTITY_MAX), max_size=99)
NUMBERS = st.integers(0, QUANTITY_MAX)
NUMBER_ODDITIES = (
    b"0",
    b"00",
    b"-1",
    b"1.0",
    b"1e3",
    b"9007199254740992",
    b"9" * 20,
    b"100",
    b"true",
    b"null",
)
OTHER_ODDITIES = (
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b" ",
    b"\n",
    b"\0",
    b"\xff",
    b"\\u0041",
    b'"type":"X",',
    b"",
)
ODDITIES = st.sampled_from(NUMBER_ODDITIES + OTHER_ODDITIES)


def frame(
    bids: dict[int, int], asks: dict[int, int], *, sequence: int = 7, unix_ms: int = 1_790_000_000_000
) -> bytes:
    """A delta as the platform writes it."""
    sides = {
        name: [{"price_cents": price, "total_quantity": total} for price, total in side.items()]
        for name, side in (("bids", bids), ("asks", asks))
    }
    document = {
        "type": "ORDERBOOK_UPDATE",
        "update_type": "DELTA",
        "sequence_id": sequence,
        "market_id": MARKET,
        "timestamp_ms": unix_ms,
        "yes": sides,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def read(payload: bytes) -> tuple[int, int, list[Level]] | None:
    """What the C reader finds: number, time, levels; None when it does not take the frame."""
    delta = ffi.new("platform_delta_t *")
    exact = ffi.new("char[]", len(payload))  # no byte behind the frame: a sanitizer sees a step too far
    ffi.memmove(exact, payload, len(payload))
    if not lib.platform_delta_read(exact, len(payload), MARKET.encode(), len(MARKET), delta):
        return None
    levels = [delta.levels[index] for index in range(delta.level_count)]
    assert all(level.kind == lib.BOOK_DELTA_SET for level in levels)
    return delta.sequence, delta.unix_ms, [(level.side, level.price_ticks, level.lots) for level in levels]


def decoded(payload: bytes) -> tuple[int, int, list[Level]]:
    """The same by the typed decoder. Raises FrameRefusedError."""
    update = decode_book(payload, MARKET)
    assert update.update_type == "DELTA"
    sides = ((lib.ORDERBOOK_BID, update.yes.bids), (lib.ORDERBOOK_ASK, update.yes.asks))
    levels = [(side, level.price_cents, level.total_quantity) for side, found in sides for level in found]
    return update.sequence_id, update.timestamp_ms, levels


@settings(deadline=None)
@given(LEVELS, LEVELS, NUMBERS, st.integers(0, 9_000_000_000_000))
@example({}, {}, 1, 0)
@example(dict.fromkeys(range(1, 100), QUANTITY_MAX), dict.fromkeys(range(1, 100), 0), QUANTITY_MAX, 0)
def test_the_usual_form_is_taken(
    bids: dict[int, int], asks: dict[int, int], number: int, unix_ms: int
) -> None:
    payload = frame(bids, asks, sequence=number, unix_ms=unix_ms)
    assert read(payload) == (decoded(payload) if bids or asks else None)


@settings(deadline=None, max_examples=500)
@given(
    st.dictionaries(st.integers(0, 101), st.integers(0, QUANTITY_MAX + 1), max_size=4),
    st.dictionaries(st.integers(0, 101), st.integers(0, QUANTITY_MAX + 1), max_size=4),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), ODDITIES), max_size=3),
)
def test_what_is_taken_is_legal_and_read_alike(
    bids: dict[int, int], asks: dict[int, int], edits: list[tuple[float, int, bytes]]
) -> None:
    payload = frame(bids, asks)
    for where, length, text in edits:
        at = int(where * len(payload))
        payload = payload[:at] + text + payload[at + length :]
    found = read(payload)
    if found is not None:
        assert found == decoded(payload)


def test_no_piece_of_a_frame_is_taken() -> None:
    payload = frame({40: 1, 41: 0}, {60: QUANTITY_MAX})
    assert read(payload) is not None
    for end in range(len(payload)):
        assert read(payload[:end]) is None
        assert read(payload[end + 1 :]) is None
    assert read(payload + b" ") is None
    assert read(payload + b"\0") is None


def test_rules_of_the_contract() -> None:
    good = frame({40: 10}, {60: 5})
    breaking: list[tuple[bytes, bytes]] = [
        (b'"price_cents":40', b'"price_cents":0'),
        (b'"price_cents":40', b'"price_cents":100'),
        (b'"price_cents":40', b'"price_cents":040'),
        (b'"total_quantity":10', b'"total_quantity":9007199254740992'),
        (b'"total_quantity":10', b'"total_quantity":-1'),
        (b'"total_quantity":10', b'"total_quantity":'),
        (b'"sequence_id":7', b'"sequence_id":9007199254740992'),
        (b'"timestamp_ms":1790000000000', b'"timestamp_ms":9223372036854'),
        (b'"MKT-A"', b'"MKT-B"'),
        (b'"MKT-A"', b'"MKT-AB"'),
        (b'"MKT-A"', b'"MKT-"'),
        (b'[{"price_cents":40,"total_quantity":10}]', b'[{"price_cents":40,"total_quantity":10},]'),
    ]
    twice = frame({40: 10, 41: 11}, {}).replace(b":41", b":40")
    for payload in (*(good.replace(*change) for change in breaking), twice):
        assert payload != good
        assert read(payload) is None
        try:
            decode_book(payload, MARKET)
        except FrameRefusedError:
            continue
        raise AssertionError(f"the decoder takes {payload!r}")


def test_the_largest_numbers() -> None:
    largest: dict[str, Any] = {"sequence": QUANTITY_MAX, "unix_ms": (1 << 63) // 1_000_000 - 1}
    assert read(frame({99: QUANTITY_MAX}, {}, **largest)) == decoded(frame({99: QUANTITY_MAX}, {}, **largest))
