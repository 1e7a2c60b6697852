"""``RUN/audit.jsonl``: every administrative call and what came of it, appended and never rewritten."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

AUDIT_FILE: Final = "audit.jsonl"


def append(run_dir: Path, action: str, *, by: str, outcome: str, **fields: Any) -> None:
    """One line, synced to disk before the caller goes on. Raises OSError."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    entry = {"timestamp": moment, "action": action, "by": by, "outcome": outcome, **fields}
    fd = os.open(run_dir / AUDIT_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, msgspec.json.encode(entry) + b"\n")  # one write: lines of several processes do not mix
        os.fdatasync(fd)
    finally:
        os.close(fd)
