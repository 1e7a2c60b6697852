"""Whatever becomes of a frame, ingest refuses it, or publishes exactly what the contract says it says.

Recorded frames are mutated and delivered; ``tests/native/frame_path.py`` judges what reaches shared memory by
``tests/reference/frame_contract.py``, which shares nothing with the engine. Here a share of the corpus is
tried; ``python -m tests.native.fuzz_frames --all`` tries all of it, and ``make fuzz`` goes on from there.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from engine.venues.platform_feed import BookUpdate
from engine.workers import ingest
from tests.native import fuzz_frames
from tests.native.frame_mutations import (
    MUTATIONS,
    OVERSIZED,
    TRAPS,
    Mutation,
    mutate,
    repeat_key,
    systematic,
    truncate,
)
from tests.native.frame_path import DisagreementError, FramePath, Verdict, load_recording, quiet
from tests.reference.frame_contract import IllegalFrameError, JsonReader, OtherNumber, legal_book, legal_trade

RECORDING = load_recording()
FRAMES = [recorded.payload for recorded in RECORDING.frames]
SHARE = 8  # one frame in so many of the systematic corpus
SEED = 20_261_121


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


@pytest.fixture(scope="module")
def path() -> FramePath:
    return FramePath(RECORDING.market_id)


# ---- the recording --------------------------------------------------------------------------------


def test_the_recording_has_every_type_of_frame() -> None:
    documents = [json.loads(payload) for payload in FRAMES]
    books = [document for document in documents if document["type"] == "ORDERBOOK_UPDATE"]
    trades = [document for document in documents if document["type"] == "TRADE"]
    assert len(books) + len(trades) == len(FRAMES) == 200
    deltas = [book["yes"] for book in books if book["update_type"] == "DELTA"]
    assert {(bool(yes["bids"]), bool(yes["asks"])) for yes in deltas} == {
        (True, False),
        (False, True),
        (True, True),
    }
    assert any(level["total_quantity"] == 0 for yes in deltas for level in yes["bids"] + yes["asks"])
    snapshots = [book["yes"] for book in books if book["update_type"] == "SNAPSHOT"]
    assert {"bids": [], "asks": []} in snapshots
    assert any(yes["bids"] and yes["asks"] for yes in snapshots)
    assert {trade["scenario"] for trade in trades} == {"MINT", "TRANSFER_YES", "TRANSFER_NO", "BURN"}
    assert {trade["aggressor_side"] for trade in trades} == {"BUY", "SELL"}


def test_recorded_frames_are_accepted_as_they_are(path: FramePath) -> None:
    assert {path.judge(recorded, recorded.payload) for recorded in RECORDING.frames} == {Verdict.ACCEPTED}


# ---- the judge ------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.text(),
        lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
        max_leaves=20,
    ),
    st.booleans(),
    st.sampled_from((None, 1)),
)
def test_the_judge_reads_all_of_json(value: Any, ascii_only: bool, indent: int | None) -> None:
    payload = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert JsonReader(payload).read() == value


@pytest.mark.parametrize("text", ["1.5", "-0.0", "1e3", "1E-9", "9" * 5_000])
def test_numbers_that_are_no_integers_are_legal_json(text: str) -> None:
    assert JsonReader(text.encode()).read() == OtherNumber(text)


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b" ", b"nul", b"tru e", b"NaN", b"-Infinity", b"01", b"+1", b"1.", b".5", b"1e", b"-", b"0x1"),
        *(
            b"[1,]",
            b"[,1]",
            b"[1 2]",
            b"[1",
            b"]",
            b'{"a"}',
            b'{"a":}',
            b'{"a":1,}',
            b"{a:1}",
            b'{"a" 1}',
            b"{,}",
        ),
        *(b'{"a":1,"a":1}', b'{"a":1,"\\u0061":1}', b"{1:1}", b"[1}", b'{"a":1]', b"1 1", b"{}{}", b"[]\x00"),
        *(b'"', b'"a', b'"\n"', b'"\\x"', b'"\\u12"', b'"\\ud800"', b'"\\ud800\\u0041"', b'"\\udc00"'),
        *(b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', b"\xef\xbb\xbf1", b"\x0c1", b"\xc2\xa01", b"'a'"),
        *(b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b"1" + b" " * (1 << 20)),
    ],
    ids=lambda payload: repr(payload[:24]),
)
def test_the_judge_takes_no_freedom(payload: bytes) -> None:
    with pytest.raises(IllegalFrameError):
        JsonReader(payload).read()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"sequence_id":', b'"sequence_id":-'),
        (b'"timestamp_ms":1', b'"timestamp_ms":1.'),
        (b'"price_cents":', b'"price_cents":1'),
        (b'"price_cents":', b'"price_cents":0'),
        (b'"price_cents":', b'"price_cent":'),
        (b'"market_id":"', b'"market_id":"X'),
        (b'"type":"', b'"type":"x'),
        (b'"type":"', b'"type":true,"typ":"'),
    ],
)
def test_the_judge_keeps_the_contract(old: bytes, new: bytes) -> None:
    delta = next(payload for payload in FRAMES if b"DELTA" in payload and b"price_cents" in payload)
    legal_book(delta, RECORDING.market_id)
    legal_trade(FRAMES[-1], RECORDING.market_id)
    for payload, legal in ((delta, legal_book), (FRAMES[-1], legal_trade)):
        assert old in payload
        with pytest.raises(IllegalFrameError):
            legal(payload.replace(old, new, 1), RECORDING.market_id)


def test_the_judge_sees_a_decoder_that_takes_freedoms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise agreement would prove nothing: here the last of two equal keys wins."""

    def last_key_wins(payload: bytes, market_id: str) -> BookUpdate:
        return msgspec.json.decode(payload, type=BookUpdate)

    monkeypatch.setattr(ingest, "decode_book", last_key_wins)
    recorded, generator = RECORDING.frames[1], Random(SEED)
    repeated = (repeat_key(recorded.payload, generator) for _ in range(1_000))
    fooling = next(payload for payload in repeated if typed_decoder_takes(payload))
    with pytest.raises(DisagreementError):
        FramePath(RECORDING.market_id).judge(recorded, fooling)


def typed_decoder_takes(payload: bytes) -> bool:
    """Whether the typed decoder alone would take it."""
    try:
        msgspec.json.decode(payload, type=BookUpdate)
    except msgspec.DecodeError:
        return False
    return True


# ---- mutated frames -------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(
    st.integers(0, len(FRAMES) - 1),
    st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=3),
    st.randoms(use_true_random=False),
)
def test_stacked_mutations(path: FramePath, index: int, mutations: list[Any], generator: Random) -> None:
    payload = FRAMES[index]
    for mutation in mutations:
        payload = mutate(payload, mutation, generator)
    note(f"frame {index}: {payload!r}")
    path.judge(RECORDING.frames[index], payload)


def test_a_share_of_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_frames, "FINDINGS", tmp_path)
    campaign = fuzz_frames.Campaign(RECORDING, SEED)
    campaign.run(itertools.islice(systematic(FRAMES, Random(SEED)), 0, None, SHARE))
    print(campaign.report())
    assert campaign.findings == [], campaign.findings[0].read_text()
    assert campaign.clean, campaign.report()
    assert campaign.tried > 15_000
    assert sum(campaign.verdicts.values()) == campaign.tried
    assert campaign.verdicts[Verdict.ACCEPTED] > 500  # legal mutants prove that not everything is refused


@pytest.mark.parametrize("name", TRAPS | OVERSIZED)
def test_traps(path: FramePath, name: str) -> None:
    for recorded in (RECORDING.frames[0], RECORDING.frames[-1]):
        path.judge(recorded, (TRAPS | OVERSIZED)[name](recorded.payload))


def test_a_finding_is_shortened_kept_and_repeatable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(payload: bytes, market_id: str) -> BookUpdate:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(fuzz_frames, "FINDINGS", tmp_path)
    campaign = fuzz_frames.Campaign(RECORDING, SEED)
    with monkeypatch.context() as patched:
        patched.setattr(ingest, "decode_trade", broken)
        index = len(FRAMES) - 1
        mutation = Mutation(index, "truncate", truncate(FRAMES[index], Random(1)))
        campaign.run(iter([mutation]))
        assert (campaign.crashes, campaign.disagreements, campaign.clean) == (1, 0, False)
        (finding,) = campaign.findings
        assert json.loads(finding.read_text())["payload"] == ""  # nothing of the frame is needed
        assert not fuzz_frames.repeat(finding)
    assert fuzz_frames.repeat(finding)  # the bug is gone
