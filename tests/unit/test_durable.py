"""Files that survive a crash: replaced whole, or added to a line at a time, and private."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.durable import append_durably, write_durably


@pytest.mark.parametrize("synced", [True, False])
def test_a_file_is_replaced_whole_and_no_draft_stays(tmp_path: Path, synced: bool) -> None:
    path = tmp_path / "facts.json"
    write_durably(path, b"old, and longer", synced=synced)
    write_durably(path, b"new", synced=synced)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_lines_are_added_behind_each_other(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    append_durably(path, b"one\n")
    append_durably(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_bounded_file_takes_no_line_beyond_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "letters.jsonl"
    append_durably(path, b"12345\n", file_bytes_max=12)
    append_durably(path, b"12345\n", file_bytes_max=12)
    with pytest.raises(OSError, match=r"letters\.jsonl has reached 12 bytes: move it away"):
        append_durably(path, b"\n", file_bytes_max=12)
    assert path.stat().st_size == 12
