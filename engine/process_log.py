"""Log files of the processes, kept bounded by the supervisor, and the supervisor's own event log.

A process writes to an inherited append-only descriptor, so its file can be cut while it writes. At most
``LOG_BYTES_MAX`` stay in NAME.log and as many in NAME.log.1.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

LOG_BYTES_MAX: Final = 16 * 1024 * 1024
_CHECK_INTERVAL_NS: Final = 1_000_000_000
_TAIL_BYTES: Final = 8192
_LINE_CHARACTERS_MAX: Final = 400


def one_line(text: str) -> str:
    """Text of another process as one harmless line: control characters escaped, length bounded."""
    shown = text[:_LINE_CHARACTERS_MAX]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def _fields(fields: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items() if value not in (None, ""))


def _readable(line: str) -> str:
    """A JSON log line as ``event key=value ...``; any other line as it stands."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict) or "event" not in entry:
        return line
    for name in ("process", "pid", "level", "timestamp"):
        entry.pop(name, None)
    event = entry.pop("event")
    return f"{event} {_fields(entry)}".strip()


class LogFile:
    """NAME.log; what an earlier run left there becomes NAME.log.1."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._old_path = path.with_name(f"{path.name}.1")
        with suppress(FileNotFoundError):
            os.replace(path, self._old_path)
        self.fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._life_offset = 0
        self._checked_mono_ns = 0

    def begin_life(self) -> None:
        """What comes from here on belongs to the process about to start."""
        self._life_offset = os.fstat(self.fd).st_size

    def last_line(self) -> str:
        """The newest line of the current life, readable and safe to print; "" when there is none."""
        size = os.fstat(self.fd).st_size
        start = max(min(self._life_offset, size), size - _TAIL_BYTES)
        lines = os.pread(self.fd, size - start, start).decode(errors="replace").split("\n")
        return next((one_line(_readable(line.strip())) for line in reversed(lines) if line.strip()), "")

    def keep_bounded(self, now_mono_ns: int) -> None:
        """Once a second: moves a file that has grown too long aside. Lines written meanwhile may be lost."""
        if now_mono_ns - self._checked_mono_ns < _CHECK_INTERVAL_NS:
            return
        self._checked_mono_ns = now_mono_ns
        if os.fstat(self.fd).st_size <= LOG_BYTES_MAX:
            return
        with suppress(OSError):  # a full disk: the cut below is what helps
            shutil.copyfile(self._path, self._old_path)
        os.ftruncate(self.fd, 0)
        self._life_offset = 0

    def close(self) -> None:
        os.close(self.fd)


class EventLog:
    """What the supervisor did: one JSON line per event in its log, one readable line on the console."""

    def __init__(self, path: Path, console: Callable[[str], None]) -> None:
        self._file = LogFile(path)
        self._console: Callable[[str], None] | None = console

    def event(self, event: str, **fields: Any) -> None:
        """Fields are plain values; an empty or absent one is left out of the readable line."""
        now = datetime.now(UTC)
        entry = {"event": event, **fields, "timestamp": now.isoformat(timespec="microseconds")}
        with suppress(OSError):  # a full disk takes logs first, never the engine
            os.write(self._file.fd, msgspec.json.encode(entry) + b"\n")
        self.say(f"{now:%H:%M:%S} {event} {_fields(fields)}".rstrip())

    def say(self, line: str) -> None:
        """A line for the console alone; a console that has gone away is not written to again."""
        if self._console is None:
            return
        try:
            self._console(line)
        except OSError:
            self._console = None

    def keep_bounded(self, now_mono_ns: int) -> None:
        self._file.keep_bounded(now_mono_ns)

    def close(self) -> None:
        self._file.close()
