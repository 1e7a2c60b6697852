"""Kill and resume of a market, as an operator asks for them, and what came of it.

Killing needs nobody's consent: the file, then the word. Resuming needs the quoter's, which alone knows
whether a cause still holds, and then the supervisor's hand, which removes the file and lowers the word.
Commands travel by the command ring of whoever shall act and are answered by their number.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from engine import kill_files
from engine._native import ffi, lib
from engine.arena import cell, check, padded
from engine.events import KillCause, SupervisorCounter
from engine.kill_files import KillOrder
from engine.workers.process import WorkerProcess

_ANSWER_S: Final = 3.0
_POLL_S: Final = 0.01
_BEAT_NS_MAX: Final = 1_000_000_000


class CommandRefusedError(Exception):
    """A command that was not carried out; the message is one line, ``causes`` those of a refused resume."""

    def __init__(self, text: str, causes: KillCause = KillCause(0)) -> None:  # noqa: B008 - a constant
        super().__init__(text)
        self.causes = causes


class NoAnswerError(Exception):
    """Whoever should act does not; what was asked may or may not come to pass."""


class Commands:
    """The producer of all command rings but ingest's."""

    def __init__(self, proc: WorkerProcess) -> None:
        self._proc = proc
        arena = proc.arena
        self._rings: dict[int, Any] = {}
        self.slots = {arena.market_id(slot): slot for slot in arena.used_markets()}
        rows = {lib.PROCESS_SUPERVISOR} | {self._quoter_row(slot) for slot in self.slots.values()}
        for row in sorted(rows):
            self._rings[row] = arena.command_ring(row)
            check(lib.message_acquire(self._rings[row], proc.token), f"command ring of row {row}")
        self._lock = asyncio.Lock()  # one command at a time: an answer is the latest number

    def _quoter_row(self, slot: int) -> int:
        return int(lib.PROCESS_QUOTER_FIRST) + self._proc.arena.market_worker(slot)

    def kill(self, market_id: str, *, reason: str, by: str) -> None:
        """Stops a market until a person resumes it; its quoter raises the alert. Idempotent.

        Raises OSError when the file cannot be written; the word is up all the same.
        """
        slot = self.slots[market_id]
        order = KillOrder(market_id=market_id, reason=reason, by=by, unix_ms=time.time_ns() // 1_000_000)
        try:
            kill_files.write(self._proc.run_dir, order)
        finally:  # a disk that is full stops no kill
            lib.cell_or(self._proc.arena.kill_market(slot), lib.KILL_ADMIN)
            self._proc.ring_bell(lib.PROCESS_GATEWAY)
            self._proc.ring_bell(self._quoter_row(slot))

    async def resume(self, market_id: str, *, reason: str) -> None:
        """Lets a killed market go on. Raises CommandRefusedError or NoAnswerError."""
        slot = self.slots[market_id]
        begun_mono_ns = int(lib.mono_now_ns())  # a kill after this moment is none that we were asked to undo
        async with self._lock:
            await self._ask_quoter(slot, reason, begun_mono_ns)
            number = self._send(lib.PROCESS_SUPERVISOR, slot, reason, begun_mono_ns)
            await self._until(
                lambda: self._supervisor_count(SupervisorCounter.COMMAND_NUMBER) >= number, "supervisor"
            )
        if self._supervisor_count(SupervisorCounter.RESUMED_NUMBER) != number:
            raise CommandRefusedError(
                "killed again meanwhile, or its kill file stays: see the supervisor's log"
            )

    async def _ask_quoter(self, slot: int, reason: str, begun_mono_ns: int) -> None:
        row = self._proc.arena.process(self._quoter_row(slot))
        beat_ns = lib.mono_now_ns() - lib.cell_load(cell(row, "heartbeat_mono_ns"))
        if lib.cell_load(cell(row, "state")) != lib.PROCESS_RUNNING or beat_ns > _BEAT_NS_MAX:
            raise CommandRefusedError("its quoter is not running")  # it would act on the command much later
        number = self._send(self._quoter_row(slot), slot, reason, begun_mono_ns)
        state = ffi.new("quoter_state_t *")
        header = ffi.new("state_header_t *")
        source = ffi.addressof(self._proc.arena.market(slot), "state")

        def answered() -> bool:
            code = lib.state_read(source, header, state, ffi.sizeof("quoter_state_t"))
            return bool(code == lib.RING_OK and state.command_number == number)

        await self._until(answered, "quoter")
        causes = KillCause(int(state.command_refused))
        if causes:
            raise CommandRefusedError(f"still holds: {', '.join(names_of(causes))}", causes)

    def _send(self, row: int, slot: int, reason: str, begun_mono_ns: int) -> int:
        """Publishes a COMMAND_RESUME; its number, which rises within a ring over every restart."""
        ring = self._rings[row]
        command = ffi.new("command_record_t *")
        command.kind = lib.COMMAND_RESUME
        command.market_slot = slot
        command.number = int(lib.cell_load(cell(ring, "published"))) + 1
        command.mono_ns = begun_mono_ns
        short = reason.encode()[: lib.VENUE_ID_BYTES].decode(errors="ignore")  # the audit has it whole
        ffi.memmove(command.reason, padded(short, lib.VENUE_ID_BYTES), lib.VENUE_ID_BYTES)
        code = lib.message_publish(ring, lib.COMMAND_RING_SLOTS, self._proc.token, command)
        if code == lib.RING_FULL:
            raise NoAnswerError("its command ring is full: nobody takes commands up")
        check(code, f"command ring of row {row}")
        self._proc.ring_bell(row)
        return int(command.number)

    def _supervisor_count(self, index: SupervisorCounter) -> int:
        row = self._proc.arena.process(lib.PROCESS_SUPERVISOR)
        return int(lib.cell_load(ffi.addressof(row.counters[index])))

    async def _until(self, condition: Callable[[], bool], who: str) -> None:
        deadline = time.monotonic() + _ANSWER_S
        while not condition():
            if time.monotonic() > deadline:
                raise NoAnswerError(f"the {who} gave no answer within {_ANSWER_S} s")
            await asyncio.sleep(_POLL_S)


def names_of(causes: KillCause) -> list[str]:
    """Causes by name, in the order of their bits."""
    return [cause.name for cause in KillCause if cause in causes and cause.name]
