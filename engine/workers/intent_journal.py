"""What the gateway may have sent: one line per request that can change anything, written before its bytes go.

A line is handed to the kernel with write(2), so it survives the death of any process; ``fsync`` decides what
survives the death of the machine: ``each`` (before the send), ``interval`` (a thread, every few milliseconds)
or ``off``. A second line closes an order once the venue has said what became of it. A gateway that starts
reads all lines: what is not closed may be live or may have filled, and is asked for by its id.

Lines are JSON, in segments ``RUN/intents/NUMBER.jsonl`` of a bounded size. A segment whose orders are all
closed is reconciled; the newest few of those are kept for whoever wants to read them, the others go. A line
that was being written when the machine died is the last of its segment and unreadable; nothing was sent for
it. An unreadable line anywhere else is a damaged journal, and the gateway refuses to start on it.

Written by the gateway alone (reliability C-list: I3, I4): the lines of orders by the last hop
(``native/last_hop.c``), all others here. Read by its successor, and by the guard after its death.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import structlog
from msgspec import Struct

from engine._native import ffi, lib
from engine.arena import cell

_log = structlog.get_logger()

Fsync = Literal["each", "interval", "off"]
Operation = Literal["place", "replace", "cancel", "batch", "mint", "burn"]

DIRECTORY: Final = "intents"
SEGMENT_BYTES_MAX: Final = 1 << 20
_SUFFIX: Final = ".jsonl"
ORDERS: Final[frozenset[Operation]] = frozenset({"place", "replace"})  # their ids are client order ids
_NAMED: Final = ORDERS | {"mint", "burn"}
_LATELY_MS: Final = 60_000  # the venue's window of rate limits


class JournalError(Exception):
    """The journal cannot be written or read; the message names file and reason."""


class Sent(Struct, frozen=True, kw_only=True, tag="sent", omit_defaults=True):
    """A request that is about to leave. ``id`` is the client order id, or a mint's or burn's key."""

    at_ms: int
    op: Operation
    market: str
    id: str = ""
    side: str = ""  # YES, NO
    direction: str = ""  # BUY, SELL
    price: int = 0  # cents, user view
    quantity: int = 0
    order: str = ""  # venue id: what a cancel or replace takes off
    scope: str = ""  # batch: ALL, BUY_ONLY, SELL_ONLY
    epoch: int = 0  # of the worker that asked
    intent: int = 0  # its number in that epoch


class Closed(Struct, frozen=True, kw_only=True, tag="closed", omit_defaults=True):
    """What became of a ``Sent`` with an id: ``order`` is the venue's id, empty when it never was."""

    at_ms: int
    id: str
    order: str = ""


_LINE: Final = msgspec.json.Decoder(Sent | Closed)
_ENCODER: Final = msgspec.json.Encoder()


class _Segment:
    """One file, and how many of its orders are not closed."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self.open_ids = 0


class IntentJournal:
    """The journal of one run directory. Not thread safe, apart from its own fsync thread.

    Raises JournalError when the directory cannot be used or holds a damaged segment.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        fsync: Fsync,
        fsync_interval_ms: int,
        segments_kept: int,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
    ) -> None:
        self._directory: Final = run_dir / DIRECTORY
        self._fsync: Final = fsync
        self._segments_kept: Final = segments_kept
        self._segment_bytes_max: Final = segment_bytes_max
        self._segments: Final[OrderedDict[int, _Segment]] = OrderedDict()  # oldest first
        self._open: Final[dict[str, int]] = {}  # ids that are not closed, and the number of their segment
        self._left: Final[dict[str, Sent]] = {}  # of them, what an earlier life sent
        self.last_client_ms = 0  # newest time of any line: client ids must not go back behind it
        self.lately: deque[Sent] = deque()  # by an earlier life, in the minute before its last line
        self._number = 0
        self.segment: Final[Any] = ffi.new("journal_segment_t *", {"fd": -1, "sync_each": fsync == "each"})
        self._dirty: Final = cell(self.segment, "dirty")
        self._lock: Final = threading.Lock()  # the descriptor, between this thread and the fsync thread
        self._ended: Final = threading.Event()
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._read_all()
            self._begin_segment()
        except OSError as error:
            raise JournalError(f"{error.filename or self._directory}: {error.strerror}") from None
        self._thread: threading.Thread | None = None
        if fsync == "interval":
            self._thread = threading.Thread(
                target=self._sync_loop, args=(fsync_interval_ms / 1_000,), name="intent-fsync", daemon=True
            )
            self._thread.start()

    # ---- writing ----

    def record(self, sent: Sent) -> None:
        """Writes one line; the request may leave when this returns. Raises JournalError: it may not."""
        self._write(sent)
        self._remember(sent)

    def make_room(self) -> None:
        """To be called between bursts that the last hop writes: one burst may exceed the bound."""
        if self.segment.bytes >= self._segment_bytes_max:
            try:
                self._begin_segment()
            except OSError as error:  # a full disk: this segment grows, or refuses the lines
                _log.error("journal_segment_not_begun", reason=error.strerror)

    def recorded(self, intent_id: str) -> None:
        """The last hop has written the line of this new order."""
        self._note_open(intent_id)

    def close_intent(self, intent_id: str, *, order: str, at_ms: int) -> None:
        """Notes what became of an id. A journal that cannot be written keeps it open: it is asked for again
        at the next start, which does no harm."""
        if not self._forget(intent_id):
            return
        try:
            self._write(Closed(at_ms=at_ms, id=intent_id, order=order))
        except JournalError as error:
            _log.error("journal_not_written", reason=str(error))

    def unresolved(self) -> list[Sent]:
        """What an earlier life sent and nobody has closed, oldest first."""
        return [self._left[intent_id] for intent_id in self._open if intent_id in self._left]

    def open_ids(self) -> list[str]:
        """Ids of whatever was sent and not closed, oldest first."""
        return list(self._open)

    def close(self) -> None:
        """Ends the fsync thread; the last lines are on disk unless ``off``."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            if self.segment.fd >= 0:
                if self._fsync != "off":
                    os.fdatasync(self.segment.fd)
                os.close(self.segment.fd)
                self.segment.fd = -1

    def _write(self, line: Sent | Closed) -> None:
        data = _ENCODER.encode(line) + b"\n"
        try:
            if self.segment.bytes + len(data) > self._segment_bytes_max:
                self._begin_segment()
        except OSError as error:
            raise JournalError(f"{self._path(self._number)}: {error.strerror}") from None
        code = lib.journal_append(self.segment, data, len(data))
        if code:
            raise JournalError(f"{self._path(self._number)}: {os.strerror(code)}")

    def _begin_segment(self) -> None:
        number = self._number + 1
        path = self._path(number)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with self._lock:
            old, self.segment.fd = self.segment.fd, fd
        if old >= 0:
            if self._fsync != "off":
                os.fdatasync(old)
            os.close(old)
        self._number, self.segment.bytes = number, 0
        self._segments[number] = _Segment(path)
        self._drop_reconciled()

    def _drop_reconciled(self) -> None:
        """Reconciled segments go, but for the newest few. Oldest first, and never past an open one: a line
        that closes an id lies in the same segment or a later one."""
        while len(self._segments) > self._segments_kept + 1:
            number, oldest = next(iter(self._segments.items()))
            if oldest.open_ids:
                return
            oldest.path.unlink(missing_ok=True)
            del self._segments[number]

    def _sync_loop(self, interval_s: float) -> None:
        while not self._ended.wait(interval_s):
            if not lib.cell_load(self._dirty):
                continue
            lib.cell_store(self._dirty, 0)
            with self._lock:
                fd = os.dup(self.segment.fd)
            try:
                os.fdatasync(fd)
            except OSError as error:
                _log.error("journal_not_synced", reason=error.strerror)
            finally:
                os.close(fd)

    # ---- what is not closed ----

    def _remember(self, sent: Sent) -> None:
        """A line of the current segment says that this may have left."""
        if sent.op in _NAMED:
            self._note_open(sent.id)

    def _note_open(self, intent_id: str) -> None:
        if intent_id not in self._open:  # a resend of the same id is the same intent
            self._open[intent_id] = self._number
            self._segments[self._number].open_ids += 1

    def _forget(self, intent_id: str) -> bool:
        """The id is closed; False when it was not open."""
        number = self._open.pop(intent_id, None)
        if number is None:
            return False
        self._left.pop(intent_id, None)
        self._segments[number].open_ids -= 1
        return True

    # ---- reading ----

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:08d}{_SUFFIX}"

    def _read_all(self) -> None:
        numbers = sorted(int(path.stem) for path in self._directory.glob(f"*{_SUFFIX}"))
        for number in numbers:
            self._number = number
            self._segments[number] = _Segment(self._path(number))
            for line in read_segment(self._path(number)):
                self.last_client_ms = max(self.last_client_ms, line.at_ms)
                if isinstance(line, Sent):
                    self._remember(line)
                    if line.id in self._open:
                        self._left.setdefault(line.id, line)
                    self.lately.append(line)
                    while line.at_ms - self.lately[0].at_ms > _LATELY_MS:
                        self.lately.popleft()
                else:
                    self._forget(line.id)


def read_segment(path: Path) -> list[Sent | Closed]:
    """All lines of a segment. Raises JournalError when any but the last cannot be read."""
    *whole, rest = path.read_bytes().split(b"\n")
    lines = []
    for index, raw in enumerate(whole):
        try:
            lines.append(_LINE.decode(raw))
        except msgspec.MsgspecError as error:
            if index == len(whole) - 1 and not rest:
                break  # zeros or half a line where the machine died
            raise JournalError(
                f"{path}: line {index + 1} is damaged ({error}): check the venue's open orders, then move "
                "the file away"
            ) from None
    return lines


def read_journal(run_dir: Path) -> list[Sent | Closed]:
    """Every line that is still there, oldest first, for checkers. Raises JournalError."""
    return [line for path in sorted((run_dir / DIRECTORY).glob(f"*{_SUFFIX}")) for line in read_segment(path)]


def orders_under_way(run_dir: Path) -> set[str]:
    """Client ids of the orders that may have left and were not closed, for a reader beside the gateway.

    Raises JournalError, OSError.
    """
    found: set[str] = set()
    for line in read_journal(run_dir):
        if isinstance(line, Closed):
            found.discard(line.id)
        elif line.op in ORDERS:
            found.add(line.id)
    return found
