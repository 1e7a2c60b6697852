"""The recorder's file: quality of every market of a run, RUN/kpi.json, replaced whole and never half.

Bounded: a total, and at most ``DAYS_MAX`` days by phase, for each market.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field

from engine.durable import write_durably
from engine.kpi_values import MarketRecord

KPI_FILE: Final = "kpi.json"
VERSION: Final = 1


class KpiFileError(Exception):
    """The file cannot be used; the message says why, in one line."""


class RingPositions(Struct, kw_only=True):
    """How far a worker's rings were read."""

    orders: int = 0
    executions: int = 0


class Latency(Struct, frozen=True, kw_only=True):
    """Bytes of a book change in hand to target decided, ns, since the engine started; None before any."""

    count: int
    p50: int | None
    p99: int | None
    max: int | None


class KpiDocument(Struct, kw_only=True):
    """What was recorded of a run, as of ``written_unix_ns``."""

    version: int = VERSION
    arena_epoch: int = 0
    """Of the engine's life that wrote last."""
    first_unix_ns: int = 0
    written_unix_ns: int = 0
    lost_records: int = 0
    """Ring records overwritten before they were read; what they said shows as unexplained."""
    rings: dict[int, RingPositions] = field(default_factory=dict)
    """By worker slot."""
    markets: list[MarketRecord] = field(default_factory=list)
    tick_to_quote_ns: dict[str, Latency] = field(default_factory=dict)


_DECODER: Final = msgspec.json.Decoder(KpiDocument)


def save(run_dir: Path, document: KpiDocument) -> None:
    """Replaces RUN/kpi.json. Raises OSError, with the old file as it was."""
    write_durably(run_dir / KPI_FILE, msgspec.json.encode(document), synced=False)


def load(path: Path) -> KpiDocument:
    """A saved document: ``path`` is the file, or the run directory. Raises KpiFileError."""
    file = path / KPI_FILE if path.is_dir() else path
    try:
        document = _DECODER.decode(file.read_bytes())
    except OSError as error:
        raise KpiFileError(f"{file}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise KpiFileError(f"{file}: not a quality record: {error}") from None
    if document.version != VERSION:
        raise KpiFileError(f"{file}: version {document.version}, this build reads {VERSION}")
    return document
