"""``RUN/overrides.json``: what hot reload refused, and whether it can read Redis; written by control."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from engine import rundir

STATE_FILE: Final = "overrides.json"


class Refused(Struct, frozen=True, kw_only=True):
    """An override that changed nothing, and why."""

    config_version: str  # as the hash has it
    reason: str
    unix_ms: int


class OverridesState(Struct, frozen=True, kw_only=True):
    """``RUN/overrides.json``: what tools show of hot reload."""

    source_fault: str = ""  # why amm:config cannot be read; "" = it can
    refused: dict[str, Refused] = {}


def read_state(run_dir: Path) -> OverridesState:
    """The state file; an empty state when there is none yet. Raises RunDirError."""
    path = run_dir / STATE_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=OverridesState)
    except FileNotFoundError:
        return OverridesState()
    except (OSError, msgspec.DecodeError) as error:
        raise rundir.RunDirError(f"{path}: {error}") from None
