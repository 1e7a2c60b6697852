"""Log files: bounded, private, and harmless to print."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import process_log
from engine.process_log import EventLog, LogFile, one_line

S = 1_000_000_000


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogFile]:
    made = LogFile(tmp_path / "quoter-0.log")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("written", "line"),
    [
        (b"", ""),
        (b"first\nlast\n", "last"),
        (b"first\nlast without end", "last without end"),
        (b"words\n\n  \n", "words"),
        (b"\x1b[31mred\x07\n", "\\x1b[31mred\\x07"),
        (b"\xff\xfe\n", "\ufffd\ufffd"),
        (b'{"event": "fenced", "row_epoch": 2, "process": "quoter", "pid": 1}\n', "fenced row_epoch=2"),
        (b'{"event": "x", "text": "a\\u001b[2Jb"}\n', "x text=a\\x1b[2Jb"),
        (b'{"no": "event"}\n', '{"no": "event"}'),
        (b"5\n", "5"),
        (b"x" * 10_000, "x" * 400),
    ],
)
def test_the_last_line_of_a_life(log: LogFile, written: bytes, line: str) -> None:
    os.write(log.fd, b"of an earlier life\n")
    log.begin_life()
    os.write(log.fd, written)
    assert log.last_line() == line


def test_an_earlier_run_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    for content in (b"one", b"two", b"three"):
        made = LogFile(path)
        os.write(made.fd, content)
        made.close()
    assert path.read_bytes() == b"three"
    assert (tmp_path / "x.log.1").read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_grows_is_cut_while_it_is_written(
    log: LogFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_log, "LOG_BYTES_MAX", 100)
    path, old = tmp_path / "quoter-0.log", tmp_path / "quoter-0.log.1"
    child_fd = os.dup(log.fd)  # as a process has it
    os.write(child_fd, b"a" * 100)
    log.keep_bounded(2 * S)
    assert not old.exists()
    os.write(child_fd, b"a")
    log.keep_bounded(2 * S + S // 2)
    assert not old.exists(), "once a second is enough"
    log.keep_bounded(3 * S)
    assert (old.read_bytes(), path.read_bytes()) == (b"a" * 101, b"")
    os.write(child_fd, b"after\n")
    assert path.read_bytes() == b"after\n"
    assert log.last_line() == "after"
    os.close(child_fd)


def test_events_are_json_in_the_file_and_readable_on_the_console(tmp_path: Path) -> None:
    lines: list[str] = []
    log = EventLog(tmp_path / "supervisor.log", lines.append)
    log.event("died", child="quoter-0", exit=-9, last_line="")
    log.close()
    entry = json.loads((tmp_path / "supervisor.log").read_text())
    assert {name: entry[name] for name in ("event", "child", "exit")} == {
        "event": "died",
        "child": "quoter-0",
        "exit": -9,
    }
    (line,) = lines
    assert line.endswith(" died child=quoter-0 exit=-9")


def test_a_console_that_has_gone_is_not_asked_again(tmp_path: Path) -> None:
    calls = []

    def broken(line: str) -> None:
        calls.append(line)
        raise BrokenPipeError

    log = EventLog(tmp_path / "supervisor.log", broken)
    log.event("one")
    log.event("two")
    log.close()
    assert len(calls) == 1
    assert len((tmp_path / "supervisor.log").read_text().splitlines()) == 2


def test_text_of_others_cannot_forge_lines() -> None:
    assert one_line("a\r\nb\u2028c\x00") == "a\\r\\nb\\u2028c\\x00"
