"""``RUN/audit.jsonl``: every administrative call and what came of it, appended and never rewritten."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.durable import append_durably

AUDIT_FILE: Final = "audit.jsonl"


def append(run_dir: Path, action: str, *, by: str, outcome: str, **fields: Any) -> None:
    """One line, synced to disk before the caller goes on. Raises OSError."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    entry = {"timestamp": moment, "action": action, "by": by, "outcome": outcome, **fields}
    append_durably(run_dir / AUDIT_FILE, msgspec.json.encode(entry) + b"\n")
