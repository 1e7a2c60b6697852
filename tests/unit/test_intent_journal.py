"""The intent journal: what survives, what is asked for again, what goes, and what it refuses."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.workers.intent_journal import (
    DIRECTORY,
    Closed,
    Fsync,
    IntentJournal,
    JournalError,
    Sent,
    orders_under_way,
    read_journal,
)


def new_journal(
    run_dir: Path, *, kept: int = 100, fsync: Fsync = "off", size: int = 1 << 20
) -> IntentJournal:
    return IntentJournal(
        run_dir, fsync=fsync, fsync_interval_ms=1, segments_kept=kept, segment_bytes_max=size
    )


def place(number: int) -> Sent:
    return Sent(
        at_ms=number,
        op="place",
        market="M",
        id=f"id-{number}",
        side="YES",
        direction="SELL",
        price=54,
        quantity=100,
        epoch=1,
        intent=number,
    )


def ids(journal: IntentJournal) -> list[str]:
    return journal.open_ids()


@pytest.mark.parametrize("fsync", ["each", "interval", "off"])
def test_a_new_life_knows_what_was_not_closed(tmp_path: Path, fsync: Fsync) -> None:
    journal = new_journal(tmp_path, fsync=fsync)
    for number in (1, 2, 3):
        journal.record(place(number))
    journal.close_intent("id-2", order="venue-2", at_ms=4)
    journal.record(Sent(at_ms=5, op="cancel", market="M", order="venue-2"))
    # no close(): the process was killed
    heir = new_journal(tmp_path)
    assert ids(heir) == ["id-1", "id-3"]
    assert heir.unresolved() == [place(1), place(3)]
    assert heir.last_client_ms == 5
    heir.close_intent("id-1", order="", at_ms=6)
    heir.close()
    journal.close()
    assert ids(new_journal(tmp_path)) == ["id-3"]
    assert read_journal(tmp_path)[-1] == Closed(at_ms=6, id="id-1")


def test_a_resend_of_the_same_id_is_one_intent(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    mint = Sent(at_ms=1, op="mint", market="M", id="key", quantity=5)
    journal.record(mint)
    journal.record(mint)
    journal.close_intent("key", order="key", at_ms=2)
    assert ids(journal) == []
    assert ids(new_journal(tmp_path)) == []


def test_half_a_last_line_was_never_sent(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    journal.record(place(1))
    journal.close()
    (segment,) = (tmp_path / DIRECTORY).iterdir()
    with segment.open("ab") as file:
        file.write(b'{"type":"sent","at_ms":2,"op":"pla')
    assert ids(new_journal(tmp_path)) == ["id-1"]


def test_a_damaged_line_is_refused_and_named(tmp_path: Path) -> None:
    journal = new_journal(tmp_path)
    for number in (1, 2, 3):
        journal.record(place(number))
    journal.close()
    (segment,) = (tmp_path / DIRECTORY).iterdir()
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"place", b"plaze")
    segment.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=r"00000001\.jsonl: line 2 is damaged"):
        new_journal(tmp_path)


def test_reconciled_segments_go_and_open_ones_stay(tmp_path: Path) -> None:
    journal = new_journal(tmp_path, kept=1, size=400)
    for number in range(1, 40):
        journal.record(place(number))
        if number != 20:
            journal.close_intent(f"id-{number}", order="v", at_ms=number)
    names = sorted(path.name for path in (tmp_path / DIRECTORY).iterdir())
    assert ids(journal) == ["id-20"]
    assert "00000001.jsonl" not in names
    journal = new_journal(tmp_path, kept=1, size=400)
    assert ids(journal) == ["id-20"]
    journal.close_intent("id-20", order="", at_ms=41)
    for number in range(41, 50):
        journal.record(place(number))
        journal.close_intent(f"id-{number}", order="v", at_ms=number)
    assert len(list((tmp_path / DIRECTORY).iterdir())) < len(names)


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond ``size``: what a full disk is to a small file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 20])
def test_a_full_disk_refuses_the_intent_and_leaves_no_half_line(tmp_path: Path, room: int) -> None:
    journal = new_journal(tmp_path)
    journal.record(place(1))
    (segment,) = (tmp_path / DIRECTORY).iterdir()
    size = segment.stat().st_size
    with file_size_limit(size + room), pytest.raises(JournalError):
        journal.record(place(2))
    assert segment.stat().st_size == size
    journal.record(place(3))
    assert ids(journal) == ["id-1", "id-3"]
    assert ids(new_journal(tmp_path)) == ["id-1", "id-3"]


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / DIRECTORY).write_text("a file in its place")
    with pytest.raises(JournalError, match=DIRECTORY):
        new_journal(tmp_path)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(1, 30)),
            st.tuples(st.just("close"), st.integers(1, 30)),
            st.tuples(st.just("restart"), st.just(0)),
        ),
        max_size=80,
    ),
    st.integers(150, 900),
    st.integers(0, 3),
)
def test_unresolved_is_what_was_sent_and_not_closed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], size: int, kept: int
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    journal = new_journal(run_dir, kept=kept, size=size)
    expected: dict[str, None] = {}
    sent = 0
    for what, number in steps:
        if what == "send":
            sent += 1
            journal.record(place(sent))
            expected[f"id-{sent}"] = None
        elif what == "close":
            journal.close_intent(f"id-{number}", order="v", at_ms=sent)
            expected.pop(f"id-{number}", None)
        else:
            journal = new_journal(run_dir, kept=kept, size=size)
            assert [left.id for left in journal.unresolved()] == list(expected)
        assert ids(journal) == list(expected)
        assert orders_under_way(run_dir) == set(expected)
    assert journal.last_client_ms <= sent
