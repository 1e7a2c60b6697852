"""The market facts on disk, kept by the writer: on change, at most once a second, kill causes at once.

Independent of Redis: a writer that cannot reach it still keeps the facts. Files are written in a thread, one
at a time, so that a slow disk delays facts and nothing else.

Reads: state rows. Writes: ``RUN/facts/{market_id}.json`` (engine/facts.py).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog
from msgspec import Struct

from engine import facts
from engine._native import ffi, lib
from engine.arena import Arena, cell
from engine.backoff import NS_PER_S
from engine.durable import write_durably
from engine.facts import Facts

_LOOK_S: Final = 0.05
_INTERVAL_NS: Final = NS_PER_S

_LOG: Final = structlog.get_logger()


class _Kept(Struct, kw_only=True):
    """One market: what was last seen, and what its file holds."""

    market_id: str
    seen_version: int = 0
    latest: Facts | None = None
    written: Facts | None = None
    written_mono_ns: int = 0


class FactsKeeper:
    """All markets of the arena."""

    def __init__(self, arena: Arena, run_dir: Path) -> None:
        self._arena = arena
        self._run_dir = run_dir
        self._kept: dict[int, _Kept] = {}
        self._header = ffi.new("state_header_t *")
        self._state = ffi.new("quoter_state_t *")
        self._failure = ""

    def _read(self, slot: int) -> _Kept:
        market_id = self._arena.market_id(slot)
        kept = self._kept.get(slot)
        if kept is None or kept.market_id != market_id:
            kept = self._kept[slot] = _Kept(market_id=market_id)
        row = ffi.addressof(self._arena.market(slot), "state")
        version = int(lib.cell_load(cell(row, "version")))
        if version == kept.seen_version:
            return kept
        code = lib.state_read(row, self._header, self._state, ffi.sizeof("quoter_state_t"))
        if code == lib.RING_OK and self._header.kind == lib.STATE_KIND_QUOTER:
            kept.seen_version = version
            kept.latest = facts.from_state(market_id, self._state)
        return kept

    def due(self, now_mono_ns: int, *, everything: bool = False) -> list[_Kept]:
        """Markets whose file is to be written now; a changed set of kill causes first, whatever the time."""
        urgent, others = [], []
        for slot in self._arena.used_markets():
            kept = self._read(slot)
            latest, written = kept.latest, kept.written
            if latest is None or latest == written:
                continue
            if written is None or latest.kill_causes != written.kill_causes:
                urgent.append(kept)
            elif everything or now_mono_ns - kept.written_mono_ns >= _INTERVAL_NS:
                others.append(kept)
        return urgent + others

    async def _write(self, kept: _Kept) -> None:
        """Writes one file; a disk that refuses is reported once and tried again."""
        latest = kept.latest
        assert latest is not None, "due() names markets with facts"
        path = facts.path_of(self._run_dir, kept.market_id)
        kept.written_mono_ns = lib.mono_now_ns()
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            await asyncio.to_thread(write_durably, path, facts.encoded(latest))
        except OSError as error:
            if str(error) != self._failure:
                _LOG.error("facts_not_written", market=kept.market_id, reason=str(error))
                self._failure = str(error)
            await asyncio.sleep(_LOOK_S)
            return
        kept.written = latest
        self._failure = ""

    async def look(self, *, everything: bool = False) -> None:
        """One round: every file that is due, each once, what is urgent before each of the others."""
        done: set[str] = set()
        while True:
            due = self.due(lib.mono_now_ns(), everything=everything)
            kept = next((kept for kept in due if kept.market_id not in done), None)
            if kept is None:
                return
            done.add(kept.market_id)
            await self._write(kept)

    async def run(self, stop: asyncio.Event) -> None:
        """Rounds until told to stop."""
        while not stop.is_set():
            await self.look()
            await asyncio.sleep(_LOOK_S)
