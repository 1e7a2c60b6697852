"""``RUN/kills/MARKET.json``: what keeps a market killed over every restart.

Whoever kills a market writes the file first and syncs it to disk, then raises the market's kill word; the
supervisor and the control process raise the word of every file they find, at their start and whenever the
directory changes, so that either may be stopped or dead. Only a resume removes one. The name alone kills: a
file that cannot be read is as good as any.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from engine.config import MARKET_ID_PATTERN, ConfigError
from engine.durable import sync_directory, write_durably

_DIRECTORY: Final = "kills"
_SUFFIX: Final = ".json"
_TEXT_CHARACTERS_MAX: Final = 256
_SETTLED_NS: Final = 1_000_000_000  # a second change within one tick of the disk's clock is seen by then


class KillOrder(Struct, frozen=True, kw_only=True):
    """Who killed a market, when and why."""

    market_id: str
    reason: str
    by: str
    unix_ms: int


def check_reason(reason: str) -> None:
    """A reason is one printable line that says something. Raises ConfigError."""
    if not reason.strip() or len(reason) > _TEXT_CHARACTERS_MAX or not reason.isprintable():
        raise ConfigError(
            f"reason={reason[:32]!r}: must be one line of 1 to {_TEXT_CHARACTERS_MAX} characters"
        )


def write(run_dir: Path, order: KillOrder) -> None:
    """Writes and syncs the file. Raises OSError."""
    assert re.fullmatch(MARKET_ID_PATTERN, order.market_id)
    directory = run_dir / _DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    write_durably(directory / f"{order.market_id}{_SUFFIX}", msgspec.json.encode(order))


def remove(run_dir: Path, market_id: str) -> None:
    """Removes the file, if there is one, and syncs that. Raises OSError."""
    directory = run_dir / _DIRECTORY
    try:
        os.unlink(directory / f"{market_id}{_SUFFIX}")
    except FileNotFoundError:
        return
    sync_directory(directory)


def stamp(run_dir: Path) -> int:
    """Changes whenever a file comes or goes; 0 = nothing was ever killed here."""
    try:
        return os.stat(run_dir / _DIRECTORY).st_mtime_ns
    except FileNotFoundError:
        return 0


def read(run_dir: Path) -> dict[str, KillOrder]:
    """Every market that has a file, by id."""
    try:
        names = os.listdir(run_dir / _DIRECTORY)
    except FileNotFoundError:
        return {}
    found = {}
    for name in sorted(names):
        market_id = name.removesuffix(_SUFFIX)
        if name.startswith(".") or market_id == name:
            continue
        found[market_id] = _order(run_dir / _DIRECTORY / name, market_id)
    return found


def _order(path: Path, market_id: str) -> KillOrder:
    try:
        return msgspec.json.decode(path.read_bytes(), type=KillOrder)
    except (OSError, msgspec.DecodeError) as error:
        return KillOrder(market_id=market_id, reason=f"unreadable kill file: {error}", by="", unix_ms=0)


class KillWatch:
    """Which files came or changed, each told once: a resume lowers the word before the file goes."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir: Final = run_dir
        self._stamp = 0
        self._seen: dict[str, KillOrder] = {}

    def news(self) -> list[KillOrder]:
        """The orders to act upon now. Cheap while nothing changes."""
        changed_ns = stamp(self._run_dir)
        settled = time.time_ns() - changed_ns > _SETTLED_NS
        if changed_ns == self._stamp and settled:
            return []
        self._stamp = changed_ns
        found = read(self._run_dir)
        news = [order for market_id, order in found.items() if self._seen.get(market_id) != order]
        self._seen = found
        return news
