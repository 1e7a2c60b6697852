"""Kill words as the supervisor raises and lowers them, and whoever has to look then is rung.

Reasons: a dead quoter or feed, a kill file, a signal, the orderly stop; a resume that the market's quoter has
granted lowers them again.  Writes: kill words, worker epochs, kill files, the supervisor's command counters.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from engine import crash_points, kill_files
from engine._native import ffi, lib
from engine.arena import Arena, CData, cell, unpadded
from engine.command_ring import CommandReader
from engine.config import Config
from engine.events import SupervisorCounter
from engine.placement import WorkerPlan
from engine.process_log import EventLog

_COMMANDS_PER_PASS: Final = 16
_COMMAND_NS_MAX: Final = 5_000_000_000  # an older one has been given up by whoever sent it
_NS_PER_MS: Final = 1_000_000


class KillWords:
    """One engine's; ``row`` is the supervisor's process row."""

    def __init__(
        self,
        *,
        config: Config,
        arena: Arena,
        run_dir: Path,
        plans: tuple[WorkerPlan, ...],
        row: Any,
        gateway_bell: int,
        log: EventLog,
    ) -> None:
        self._markets = [market.id for market in config.markets]
        self._slots = {market_id: slot for slot, market_id in enumerate(self._markets)}
        self._arena = arena
        self._run_dir = run_dir
        self._plans = plans
        self._row = row
        self._gateway_bell = gateway_bell
        self._log = log
        self._files = kill_files.KillWatch(run_dir)
        self._commands = CommandReader(arena, lib.PROCESS_SUPERVISOR, per_look=_COMMANDS_PER_PASS)

    # ---- processes ----

    def worker_died(self, worker: int) -> None:
        """Its markets first, then its epoch: what it still had on its way is refused from here on."""
        for slot in self._plans[worker].market_indexes:
            lib.cell_or(self._arena.kill_market(slot), lib.KILL_WORKER_DEAD)
        if crash_points.armed:
            crash_points.reach("supervisor.mid_transition")
        lib.cell_add(cell(self._arena.worker(worker), "epoch"), 1)
        self._ring_gateway()

    def worker_starts(self, worker: int) -> None:
        """The gateway was told of the death by the worker's epoch, which stays; the bit may go."""
        for slot in self._plans[worker].market_indexes:
            lib.cell_clear(self._arena.kill_market(slot), lib.KILL_WORKER_DEAD)

    def feed_died(self) -> None:
        lib.cell_or(self._arena.kill_global(), lib.KILL_FEED_DEAD)
        self._ring_all()

    def feed_runs(self) -> None:
        lib.cell_clear(self._arena.kill_global(), lib.KILL_FEED_DEAD)
        self._ring_quoters()

    def stopping(self) -> None:
        """The orderly stop: from here on the venue sees cancels only."""
        lib.cell_or(self._arena.kill_global(), lib.KILL_STOPPING)
        self._ring_all()

    # ---- operators ----

    def take_files(self) -> int:
        """Raises the word of every market that has a kill file, once files have changed. How many rose."""
        raised = 0
        for order in self._files.news():
            slot = self._slots.get(order.market_id)
            if slot is None:
                continue
            before = lib.cell_or(self._arena.kill_market(slot), lib.KILL_ADMIN)
            if not before & lib.KILL_ADMIN:
                raised += 1
                self._log.event("killed", market=order.market_id, by=order.by, reason=order.reason)
        if raised:
            self._ring_all()
        return raised

    def kill_all(self, how: str) -> None:
        """Every market, at an operator's signal: the file, then the word; a full disk stops no kill."""
        for slot, market_id in enumerate(self._markets):
            order = kill_files.KillOrder(
                market_id=market_id, reason=how, by="signal", unix_ms=time.time_ns() // _NS_PER_MS
            )
            try:
                kill_files.write(self._run_dir, order)
            except OSError as error:
                self._log.event("kill_not_written", market=market_id, error=str(error))
            lib.cell_or(self._arena.kill_market(slot), lib.KILL_ADMIN)
        self._log.event("killed", market="all", by="signal", reason=how)
        self._ring_all()

    def take_commands(self, now_mono_ns: int) -> int:
        """Resumes that the market's quoter has granted: the kill file goes, then the word's bits."""
        count = 0
        for command in self._commands.take():
            count += 1
            if command.kind == lib.COMMAND_RESUME and command.market_slot < len(self._markets):
                self._resume(command, now_mono_ns)
            self._count(SupervisorCounter.COMMAND_NUMBER, int(command.number))
        return count

    def _resume(self, command: CData, now_mono_ns: int) -> None:
        market_id = self._markets[command.market_slot]
        word = self._arena.kill_market(command.market_slot)
        reason = unpadded(command.reason)
        if now_mono_ns - command.mono_ns > _COMMAND_NS_MAX:
            self._log.event("resume_too_late", market=market_id, reason=reason)
            return
        begun_ms = (time.time_ns() - (now_mono_ns - int(command.mono_ns))) // _NS_PER_MS
        order = kill_files.read(self._run_dir).get(market_id)
        if order is not None and order.unix_ms > begun_ms:
            lib.cell_or(word, lib.KILL_ADMIN)
            self._log.event("not_resumed", market=market_id, error="killed again meanwhile")
            self._ring_all()
            return
        try:
            kill_files.remove(self._run_dir, market_id)
        except OSError as error:  # the market would be killed again at the next start: better to stay killed
            self._log.event("not_resumed", market=market_id, error=str(error))
            return
        lib.cell_clear(word, lib.KILL_ADMIN | lib.KILL_RISK)
        self._count(SupervisorCounter.RESUMED_NUMBER, int(command.number))
        self._log.event("resumed", market=market_id, reason=reason)
        self._ring_all()

    def _count(self, index: SupervisorCounter, value: int) -> None:
        lib.cell_store(ffi.addressof(self._row.counters[index]), value)

    # ---- bells ----

    def _ring_all(self) -> None:
        self._ring_gateway()
        self._ring_quoters()

    def _ring_gateway(self) -> None:
        lib.bell_ring(self._arena.process(lib.PROCESS_GATEWAY), self._gateway_bell)

    def _ring_quoters(self) -> None:
        for plan in self._plans:
            lib.bell_ring(self._arena.process(lib.PROCESS_QUOTER_FIRST + plan.worker), -1)
