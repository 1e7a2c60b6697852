"""``RUN/bookings/DAY.jsonl``: every fill leg, mint and burn the gateway booked, in the order it booked them.

One line per booking, handed to the kernel with write(2) before the account row changes, so that no death of
a process can leave a booking without its line. A process that dies in between books the same leg again after
its restart: lines are told apart by their id, and the reader keeps the first. ``corequote audit`` folds what
is read from here.

A baseline says that the market's cash was taken from the exchange as a whole: whatever the exchange executed
up to its ``cursor`` is part of that figure and was not booked leg by leg.

Written by the gateway alone. Days are UTC days of the booking; the newest ``DAYS_KEPT`` files are kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
import structlog
from msgspec import Meta, Struct

_log = structlog.get_logger()

DIRECTORY: Final = "bookings"
DAYS_KEPT: Final = 31
_SUFFIX: Final = ".jsonl"

_Id = Annotated[str, Meta(max_length=64)]


class BookedLeg(Struct, frozen=True, kw_only=True, tag="leg", gc=False):
    """One leg of ours of a trade; ``price`` in cents of the YES book, ``fee`` in cents."""

    market: _Id
    trade: _Id
    side: Literal["B", "S"]  # of the YES book
    scenario: Literal["MINT", "TRANSFER_YES", "TRANSFER_NO", "BURN"]
    price: int
    quantity: int
    fee: int
    role: Literal["MAKER", "TAKER"]
    order: str  # the exchange's id; "" where it does not say
    executed_us: int  # Unix microseconds, the exchange's clock
    booked_ms: int  # Unix milliseconds, ours

    @property
    def id(self) -> str:
        """``trade:B`` or ``trade:S``: what the leg is applied under, once."""
        return f"{self.trade}:{self.side}"


class BookedSupply(Struct, frozen=True, kw_only=True, tag="supply", gc=False):
    """A privileged mint (``pairs`` > 0) or burn (< 0) that the exchange confirmed under ``key``."""

    market: _Id
    key: _Id
    pairs: int
    booked_ms: int


class Baseline(Struct, frozen=True, kw_only=True, tag="baseline", gc=False):
    """Cash was taken from the exchange: it includes every trade up to ``cursor`` ("" = none yet).

    ``started_pairs``: minted by the exchange itself, under a key of its own, at the market's first start.
    """

    market: _Id
    cursor: _Id
    cash: int  # cents
    booked_ms: int
    started_pairs: int = 0


Booking: TypeAlias = BookedLeg | BookedSupply | Baseline

_LINE: Final = msgspec.json.Decoder(Booking)
_ENCODER: Final = msgspec.json.Encoder()


class BookingJournal:
    """The journal of one run directory, for its only writer."""

    def __init__(self, run_dir: Path) -> None:
        """Raises OSError when the directory cannot be used."""
        self._directory: Final = run_dir / DIRECTORY
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._day = ""
        self._fd = -1
        self._trouble = False

    def append(self, booking: Booking) -> None:
        """Writes one line. A booking is a fact of the exchange's, so that a full disk does not stop it."""
        line = _ENCODER.encode(booking) + b"\n"
        try:
            self._open(_day_of(booking.booked_ms))
            written = os.write(self._fd, line)
            if written != len(line):
                raise OSError(f"{written} of {len(line)} bytes were written")
        except OSError as error:
            if not self._trouble:
                _log.error("bookings_not_written", directory=str(self._directory), reason=str(error))
            self._trouble = True
            self._close()
            return
        self._trouble = False

    def _open(self, day: str) -> None:
        if day == self._day:
            return
        self._close()
        path = self._directory / f"{day}{_SUFFIX}"
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._day = day
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            os.write(self._fd, b"\n")  # the machine died in the middle of a line
        for old in _files(self._directory)[:-DAYS_KEPT]:
            old.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._day = -1, ""

    def close(self) -> None:
        """Gives the file up. Nothing is appended afterwards."""
        self._close()


def _day_of(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1_000, UTC).date().isoformat()


def _files(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"*{_SUFFIX}"))


def read(run_dir: Path) -> Iterator[Booking]:
    """All bookings that are kept, oldest first. A torn line is passed over. Raises OSError."""
    for path in _files(run_dir / DIRECTORY):
        with path.open("rb") as file:
            for line in file:
                try:
                    yield _LINE.decode(line)
                except msgspec.MsgspecError:
                    continue
