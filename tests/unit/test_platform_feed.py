"""The streams' wire rules: what is refused, and what each frame asks of the ladder (contract §3)."""

import itertools
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.venues.platform_feed import (
    FRAME_BYTES_MAX,
    QUANTITY_MAX,
    BookSequence,
    BookStep,
    FrameRefusedError,
    TradeSequence,
    TradeStep,
    book_stream_url,
    decode_book,
    decode_trade,
    trade_stream_url,
)

MARKET = "MKT-A"


def level(price, quantity):
    return {"price_cents": price, "total_quantity": quantity}


def book(update_type="DELTA", sequence=2, bids=((40, 10),), asks=(), **changes):
    frame = {
        "type": "ORDERBOOK_UPDATE",
        "update_type": update_type,
        "sequence_id": sequence,
        "market_id": MARKET,
        "timestamp_ms": 1_790_000_000_000,
        "yes": {"bids": [level(*pair) for pair in bids], "asks": [level(*pair) for pair in asks]},
    }
    return {**frame, **changes}


def trade(sequence=1, **changes):
    frame = {
        "type": "TRADE",
        "sequence_id": sequence,
        "market_id": MARKET,
        "timestamp_ms": 1_790_000_000_000,
        "trade_id": "trd-1",
        "price_cents": 55,
        "quantity": 10,
        "scenario": "MINT",
        "aggressor_side": "BUY",
    }
    return {**frame, **changes}


def raw(frame):
    return json.dumps(frame).encode()


# ---- what is understood --------------------------------------------------------------------------


def test_a_delta():
    update = decode_book(raw(book(bids=[(40, 0)], asks=[(99, QUANTITY_MAX)])), MARKET)
    assert update.update_type == "DELTA"
    assert [(one.price_cents, one.total_quantity) for one in update.yes.bids] == [(40, 0)]
    assert [(one.price_cents, one.total_quantity) for one in update.yes.asks] == [(99, QUANTITY_MAX)]


def test_a_whole_ladder():
    both = [(price, price) for price in range(1, 100)]
    update = decode_book(raw(book("SNAPSHOT", bids=both, asks=both)), MARKET)
    assert len(update.yes.bids) == len(update.yes.asks) == 99


def test_an_empty_and_a_locked_book_are_legal():
    decode_book(raw(book("SNAPSHOT", bids=[], asks=[])), MARKET)
    decode_book(raw(book("SNAPSHOT", bids=[(50, 1)], asks=[(50, 1)])), MARKET)


def test_a_trade():
    message = decode_trade(raw(trade()), MARKET)
    assert (message.price_cents, message.quantity, message.aggressor_side) == (55, 10, "BUY")


@pytest.mark.parametrize(("make", "decode"), [(book, decode_book), (trade, decode_trade)])
def test_unknown_keys_are_tolerated(make, decode):
    decode(raw({**make(), "new": {"a": [1.5, None, "x:y"], "b": {"a": 1}}}), MARKET)


def test_spaces_and_other_key_orders_are_tolerated():
    frame = dict(reversed(book().items()))
    decode_book(json.dumps(frame, indent=2).encode(), MARKET)


# ---- what is refused -----------------------------------------------------------------------------

NOT_PRICES = [0, 100, -1, 5000, 2**31, 2**53 + 1, 2**63, 2**64, 10**400, 1.0, 50.5, True, "50", None, [], {}]
NOT_TOTALS = [-1, QUANTITY_MAX + 1, 2**63, 10**400, 1.0, 1e300, False, "1", None, [1]]


@pytest.mark.parametrize("value", NOT_PRICES, ids=repr)
@pytest.mark.parametrize("side", ["bids", "asks"])
def test_prices_outside_the_grid(value, side):
    with pytest.raises(FrameRefusedError):
        decode_book(raw(book(**{"yes": {"bids": [], "asks": [], side: [level(value, 1)]}})), MARKET)


@pytest.mark.parametrize("value", NOT_TOTALS, ids=repr)
def test_totals_that_are_no_quantities(value):
    with pytest.raises(FrameRefusedError):
        decode_book(raw(book(bids=[(50, value)])), MARKET)


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e400", "1E2", "01", "+1", "0x10", "1_0"])
@pytest.mark.parametrize("field", ["price_cents", "total_quantity"])
def test_number_tokens_that_only_some_readers_take(token, field):
    other = "total_quantity" if field == "price_cents" else "price_cents"
    text = raw(book(bids=[])).decode()
    text = text.replace('"bids": []', f'"bids": [{{"{field}": {token}, "{other}": 50}}]')
    with pytest.raises(FrameRefusedError):
        decode_book(text.encode(), MARKET)


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "TRADE"},
        {"type": None},
        {"update_type": "delta"},
        {"update_type": None},
        {"sequence_id": -1},
        {"sequence_id": 1.0},
        {"sequence_id": "2"},
        {"sequence_id": True},
        {"sequence_id": 2**63},
        {"market_id": "MKT-B"},
        {"market_id": ""},
        {"market_id": None},
        {"timestamp_ms": -1},
        {"timestamp_ms": 2**62},
        {"timestamp_ms": 1.5},
        {"yes": None},
        {"yes": []},
        {"yes": {"bids": []}},
        {"yes": {"bids": [], "asks": None}},
        {"yes": {"bids": [], "asks": [None]}},
        {"yes": {"bids": [], "asks": [{}]}},
        {"yes": {"bids": [], "asks": [[50, 1]]}},
        {"yes": {"bids": [level(50, 1)] * 100, "asks": []}},
        {"yes": {"bids": [level(50, 1), level(50, 2)], "asks": []}},
        {"yes": {"bids": [], "asks": [level(7, 1), level(8, 1), level(7, 1)]}},
    ],
    ids=repr,
)
def test_book_frames_that_break_a_rule(changes):
    with pytest.raises(FrameRefusedError):
        decode_book(raw(book(**changes)), MARKET)


@pytest.mark.parametrize("key", list(book()))
def test_every_key_of_a_book_frame_is_required(key):
    frame = book()
    del frame[key]
    with pytest.raises(FrameRefusedError):
        decode_book(raw(frame), MARKET)


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "ORDERBOOK_UPDATE"},
        {"market_id": "MKT-B"},
        {"sequence_id": None},
        {"sequence_id": 0},
        {"price_cents": 0},
        {"price_cents": 100},
        {"price_cents": 55.0},
        {"quantity": 0},
        {"quantity": -5},
        {"quantity": True},
        {"quantity": 2**63},
        {"scenario": "mint"},
        {"scenario": ""},
        {"aggressor_side": "BID"},
        {"aggressor_side": None},
        {"trade_id": ""},
        {"trade_id": "x" * 65},
        {"trade_id": "a b"},
        {"trade_id": "a\n"},
        {"trade_id": 7},
    ],
    ids=repr,
)
def test_trade_frames_that_break_a_rule(changes):
    with pytest.raises(FrameRefusedError):
        decode_trade(raw(trade(**changes)), MARKET)


@pytest.mark.parametrize("key", list(trade()))
def test_every_key_of_a_trade_frame_is_required(key):
    frame = trade()
    del frame[key]
    with pytest.raises(FrameRefusedError):
        decode_trade(raw(frame), MARKET)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"1",
        b'"x"',
        b"{}",
        b"\xff\xfe",
        b"\xef\xbb\xbf" + raw(book()),
        raw(book()) + b"\x00",
        raw(book()) + raw(book()),
        raw(book())[:-1],
        b"[" * 100_000,
        b'{"a":' * 100_000,
        raw(book()).replace(b'"type"', b'"deep": ' + b"[" * 100_000 + b"]" * 100_000 + b', "type"'),
        raw(book()).replace(b"MKT-A", b"MKT-\xff"),
        raw(book()).replace(b"MKT-A", b"MKT-\x00A"),
        raw(book(unknown="A")).replace(b'"A"', b'"\xed\xa0\x80"'),  # half a surrogate pair, encoded
        raw(book()).replace(b"40", b"4" * 5_000),
    ],
    ids=lambda payload: repr(payload[:24]),
)
def test_payloads_that_are_no_frame(payload):
    with pytest.raises(FrameRefusedError):
        decode_book(payload, MARKET)
    with pytest.raises(FrameRefusedError):
        decode_trade(payload, MARKET)


@pytest.mark.parametrize(
    ("once", "twice"),
    [
        (b'"sequence_id": 2', b'"sequence_id": 2, "sequence_id": 3'),
        (b'"sequence_id": 2', b'"sequence_id": 3, "sequence\\u005fid": 2'),
        (b'"price_cents": 40', b'"price_cents": 40, "price_cents": 41'),
        (b'"bids": [', b'"asks": [], "bids": ['),
        (b'"yes": {', b'"yes": {"bids": [], "asks": []}, "yes": {'),
        (b'"type": "ORDERBOOK_UPDATE"', b'"type": "ORDERBOOK_UPDATE", "type": "ORDERBOOK_UPDATE"'),
        (b'"market_id"', b'"unknown": {"a": 1, "a": 2}, "market_id"'),
    ],
)
def test_a_key_given_twice(once, twice):
    payload = raw(book()).replace(once, twice, 1)
    assert payload != raw(book())
    with pytest.raises(FrameRefusedError):
        decode_book(payload, MARKET)


def test_a_trade_key_given_twice():
    with pytest.raises(FrameRefusedError):
        decode_trade(raw(trade()).replace(b'"quantity": 10', b'"quantity": 10, "quantity": 11'), MARKET)


def test_every_truncation_is_refused():
    for frame, decode in (
        (book("SNAPSHOT", bids=[(4, 4)], asks=[(96, 1)]), decode_book),
        (trade(), decode_trade),
    ):
        payload = raw(frame)
        for length in range(len(payload)):
            with pytest.raises(FrameRefusedError):
                decode(payload[:length], MARKET)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_legal(payload):
    for decode in (decode_book, decode_trade):
        try:
            decode(payload, MARKET)
        except FrameRefusedError:
            continue


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_flipped_bytes_never_bring_an_illegal_value(seed):
    generator = random.Random(seed)
    payload = raw(book("SNAPSHOT", bids=[(40, 10), (39, 7)], asks=[(60, 3)]))
    for _ in range(200):
        flipped = bytearray(payload)
        flipped[generator.randrange(len(payload))] = generator.randrange(256)
        try:
            update = decode_book(bytes(flipped), MARKET)
        except FrameRefusedError:
            continue
        for one in itertools.chain(update.yes.bids, update.yes.asks):
            assert type(one.price_cents) is int
            assert 1 <= one.price_cents <= 99
            assert type(one.total_quantity) is int
            assert 0 <= one.total_quantity <= QUANTITY_MAX
        assert update.market_id == MARKET


def test_no_reason_repeats_a_long_frame():
    with pytest.raises(FrameRefusedError) as refused:
        decode_book(raw(book(market_id="x" * 100_000)), MARKET)
    assert len(str(refused.value)) < 300


# ---- sequence ------------------------------------------------------------------------------------


def steps(*frames):
    sequence = BookSequence()
    return [sequence.step(decode_book(raw(frame), MARKET)) for frame in frames]


def snapshot(sequence=1):
    return book("SNAPSHOT", sequence)


def delta(sequence, quantity=1):
    return book("DELTA", sequence, bids=[(40, quantity)])


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([snapshot(), delta(2), delta(3)], "REBUILD APPLY APPLY"),
        ([snapshot(7), delta(8)], "REBUILD APPLY"),  # whatever number the snapshot carries
        ([snapshot(), delta(2), snapshot(), delta(2)], "REBUILD APPLY REBUILD APPLY"),  # periodic, restarts
        ([delta(1), delta(2), snapshot(), delta(2)], "GAP IGNORE REBUILD APPLY"),  # before the first snapshot
        ([snapshot(), delta(3), delta(2), delta(4)], "REBUILD GAP IGNORE IGNORE"),
        ([snapshot(), delta(3), snapshot(), delta(2)], "REBUILD GAP REBUILD APPLY"),
        ([snapshot(), delta(2), delta(2), delta(3)], "REBUILD APPLY REPEAT APPLY"),
        ([snapshot(), delta(2, 5), delta(2, 6)], "REBUILD APPLY GAP"),  # same number, other content
        ([snapshot(), delta(2), delta(3), delta(2)], "REBUILD APPLY APPLY GAP"),  # replayed old one
        ([snapshot(), delta(1)], "REBUILD GAP"),  # reset without a snapshot
        ([snapshot(), delta(2), snapshot(), delta(3)], "REBUILD APPLY REBUILD GAP"),
        ([snapshot(), delta(4), delta(4)], "REBUILD GAP IGNORE"),  # a repeated gap is one gap
    ],
)
def test_book_sequences(frames, expected):
    assert [step.name for step in steps(*frames)] == expected.split()


def test_a_refused_frame_counts_as_a_gap():
    sequence = BookSequence()
    sequence.step(decode_book(raw(snapshot()), MARKET))
    assert sequence.reliable
    assert sequence.lose()
    assert not sequence.lose()
    assert not sequence.reliable
    assert sequence.step(decode_book(raw(delta(2)), MARKET)) is BookStep.IGNORE
    assert sequence.step(decode_book(raw(snapshot()), MARKET)) is BookStep.REBUILD
    assert sequence.reliable


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(1, 2)), max_size=30))
def test_a_book_is_reliable_exactly_after_an_unbroken_run(program):
    """Against the rule in plain words, for any mixture of snapshots and deltas."""
    sequence = BookSequence()
    expected_next, last = None, None
    for is_snapshot, number, quantity in program:
        frame = snapshot(number) if is_snapshot else delta(number, quantity)
        step = sequence.step(decode_book(raw(frame), MARKET))
        if is_snapshot:
            expected_next, last = number + 1, None
            assert step is BookStep.REBUILD
        elif number == expected_next:
            expected_next, last = number + 1, frame
            assert step is BookStep.APPLY
        elif expected_next is not None and frame == last:
            assert step is BookStep.REPEAT
        else:
            expected_next = None
            assert step in (BookStep.GAP, BookStep.IGNORE)
        assert sequence.reliable == (expected_next is not None)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1, 2, 3], "NEXT NEXT NEXT"),
        ([1, 3, 4], "NEXT AFTER_GAP NEXT"),
        ([5, 6], "AFTER_GAP NEXT"),
        ([1, 1, 2], "NEXT REPEAT NEXT"),
        ([1, 2, 1, 1], "NEXT NEXT REPEAT REPEAT"),
    ],
)
def test_trade_sequences(numbers, expected):
    sequence = TradeSequence()
    found = [sequence.step(decode_trade(raw(trade(number)), MARKET)) for number in numbers]
    assert [step.name for step in found] == expected.split()
    assert all(isinstance(step, TradeStep) for step in found)


# ---- addresses -----------------------------------------------------------------------------------


def test_addresses():
    assert (
        book_stream_url("http://127.0.0.1:8000", MARKET, "a.b-c")
        == "ws://127.0.0.1:8000/ws/v1/orderbook/MKT-A?token=a.b-c"
    )
    assert (
        trade_stream_url("https://venue.example", MARKET, "a&b=c")
        == "wss://venue.example/ws/v1/trades/MKT-A?token=a%26b%3Dc"
    )


def test_the_frame_limit_is_one_mebibyte():
    assert FRAME_BYTES_MAX == 1_048_576
