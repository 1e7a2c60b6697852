"""Kill, resume, start, stop, fund and withdraw, as an operator asks for them, and what came of it.

Killing needs nobody's consent: the file, then the word. Resuming needs the quoter's, which alone knows
whether a cause still holds, and then the supervisor's hand, which removes the file and lowers the word.
Commands travel by the command ring of whoever shall act and are answered by their number.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct, field

from engine import kill_files
from engine._native import ffi, lib
from engine.arena import cell, check, padded
from engine.events import GatewayCounter, KillCause, Lifecycle, LocalReject, SupervisorCounter
from engine.kill_files import KillOrder
from engine.snapshot import live_orders
from engine.workers.market_life import StopMode
from engine.workers.process import WorkerProcess

_ANSWER_S: Final = 3.0
_START_S: Final = 15.0  # the first snapshot alone may take 10 s
_STOP_S: Final = 13.0  # a graceful stop may take 10 s
_MONEY_S: Final = 12.0
_POLL_S: Final = 0.01
_BEAT_NS_MAX: Final = 1_000_000_000


class CommandRefusedError(Exception):
    """A command that was not carried out; the message is one line, ``causes`` those of a refused resume."""

    def __init__(self, text: str, causes: KillCause = KillCause(0)) -> None:  # noqa: B008 - a constant
        super().__init__(text)
        self.causes = causes


class NoAnswerError(Exception):
    """Whoever should act does not; what was asked may or may not come to pass."""


class Command(Struct, frozen=True, kw_only=True):
    """What is asked of the process that a command goes to; fields as in ``command_record_t``."""

    kind: int
    slot: int
    reason: str
    mode: int = 0
    amount_cents: int = 0
    mono_ns: int = field(default_factory=lambda: int(lib.mono_now_ns()))


class Commands:
    """The producer of all command rings but ingest's."""

    def __init__(self, proc: WorkerProcess) -> None:
        self._proc = proc
        arena = proc.arena
        self._watch = kill_files.KillWatch(proc.run_dir)
        self._rings: dict[int, Any] = {}
        self.slots = {arena.market_id(slot): slot for slot in arena.used_markets()}
        rows = {lib.PROCESS_SUPERVISOR, lib.PROCESS_GATEWAY}
        rows |= {self._quoter_row(slot) for slot in self.slots.values()}
        for row in sorted(rows):
            self._rings[row] = arena.command_ring(row)
            check(lib.message_acquire(self._rings[row], proc.token), f"command ring of row {row}")
        # one command at a time and ring: an answer is the latest number
        self._locks = {row: asyncio.Lock() for row in rows}

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
            self._raise(slot)

    def raise_kill_files(self) -> None:
        """Kills what a new kill file names: the supervisor, which does the same, may be stopped."""
        for order in self._watch.news():
            if order.market_id in self.slots:
                self._raise(self.slots[order.market_id])

    def _raise(self, slot: int) -> None:
        lib.cell_or(self._proc.arena.kill_market(slot), lib.KILL_ADMIN)
        self._proc.ring_bell(lib.PROCESS_GATEWAY)
        self._proc.ring_bell(self._quoter_row(slot))

    async def resume(self, market_id: str, *, reason: str) -> None:
        """Lets a killed market go on. Raises CommandRefusedError or NoAnswerError."""
        slot = self.slots[market_id]
        self.raise_kill_files()  # what is there now has been seen, and is not acted upon after the resume
        # by its time: a kill after this moment is none that we were asked to undo
        wish = Command(kind=lib.COMMAND_RESUME, slot=slot, reason=reason)
        state = await self._ask_quoter(wish)
        causes = KillCause(int(state.command_refused))
        if causes:
            raise CommandRefusedError(f"still holds: {', '.join(names_of(causes))}", causes)
        async with self._locks[lib.PROCESS_SUPERVISOR]:
            number = self._send(lib.PROCESS_SUPERVISOR, wish)
            await self._until(
                lambda: self._count(lib.PROCESS_SUPERVISOR, SupervisorCounter.COMMAND_NUMBER) >= number,
                "supervisor",
            )
            resumed = self._count(lib.PROCESS_SUPERVISOR, SupervisorCounter.RESUMED_NUMBER)
        if resumed != number:
            raise CommandRefusedError(
                "killed again meanwhile, or its kill file stays: see the supervisor's log"
            )

    # ---- life of a market (§8) ----------------------------------------------------------------

    async def start(self, market_id: str, *, reason: str, budget_cents: int) -> int:
        """Every step of the start, of a stopped market: 0 once it runs (or is in EMERGENCY: killed), or the
        code that refused it. Raises CommandRefusedError or NoAnswerError."""
        slot = self.slots[market_id]
        wish = Command(kind=lib.COMMAND_START, slot=slot, reason=reason, amount_cents=budget_cents)
        code = await self._ask_gateway(wish)
        if code:
            return code
        await self._ask_quoter(wish)
        await self._until(
            lambda: self.lifecycle(slot) not in (None, Lifecycle.STARTING), "market's start", _START_S
        )
        return int(LocalReject.NOT_READY) if self.lifecycle(slot) == Lifecycle.STOPPED else 0

    async def stop(self, market_id: str, *, reason: str, mode: StopMode) -> int:
        """Takes the market's orders off and ends its quoting; how many orders may still be live. Raises
        CommandRefusedError or NoAnswerError."""
        slot = self.slots[market_id]
        wish = Command(kind=lib.COMMAND_STOP, slot=slot, reason=reason, mode=mode)
        await self._ask_quoter(wish)
        await self._until(lambda: self.lifecycle(slot) == Lifecycle.STOPPED, "market's stop", _STOP_S)
        return len(live_orders(self._proc.arena, slot))

    async def fund(self, market_id: str, *, reason: str, cents: int) -> int:
        """Puts an operator's money on the market: 0, or the code that refused it. Raises NoAnswerError."""
        slot = self.slots[market_id]
        return await self._ask_gateway(
            Command(kind=lib.COMMAND_FUND, slot=slot, reason=reason, amount_cents=cents)
        )

    async def withdraw(self, market_id: str, *, reason: str, cents: int) -> int:
        """Takes money off the market, burning free pairs where cash is short: 0, or the code that refused it.
        Raises NoAnswerError."""
        slot = self.slots[market_id]
        return await self._ask_gateway(
            Command(kind=lib.COMMAND_WITHDRAW, slot=slot, reason=reason, amount_cents=cents)
        )

    def lifecycle(self, slot: int) -> Lifecycle | None:
        """Of a market as its quoter last said; None before it has."""
        state = self._state(slot)
        return None if state is None else Lifecycle(state.lifecycle)

    # ---- asking --------------------------------------------------------------------------------

    def _state(self, slot: int) -> Any | None:
        state, header = ffi.new("quoter_state_t *"), ffi.new("state_header_t *")
        source = ffi.addressof(self._proc.arena.market(slot), "state")
        code = lib.state_read(source, header, state, ffi.sizeof("quoter_state_t"))
        return state if code == lib.RING_OK and header.kind == lib.STATE_KIND_QUOTER else None

    def _expect_running(self, row_index: int, who: str) -> None:
        """Raises CommandRefusedError: it would act on the command much later."""
        row = self._proc.arena.process(row_index)
        beat_ns = lib.mono_now_ns() - lib.cell_load(cell(row, "heartbeat_mono_ns"))
        if lib.cell_load(cell(row, "state")) != lib.PROCESS_RUNNING or beat_ns > _BEAT_NS_MAX:
            raise CommandRefusedError(f"{who} is not running")

    async def _ask_quoter(self, wish: Command) -> Any:
        """The market's state row with the answer in it."""
        row = self._quoter_row(wish.slot)
        async with self._locks[row]:
            self._expect_running(row, "its quoter")
            number = self._send(row, wish)
            state = None

            def answered() -> bool:
                nonlocal state
                state = self._state(wish.slot)
                return state is not None and state.command_number == number

            await self._until(answered, "quoter")
            return state

    async def _ask_gateway(self, wish: Command) -> int:
        """The code the command ended with."""
        row = lib.PROCESS_GATEWAY
        async with self._locks[row]:
            self._expect_running(row, "the gateway")
            number = self._send(row, wish)
            await self._until(
                lambda: self._count(row, GatewayCounter.COMMAND_NUMBER) >= number, "gateway", _MONEY_S
            )
            code = self._count(row, GatewayCounter.COMMAND_CODE)
        return code - (1 << 64) if code >> 63 else code

    def _send(self, row: int, wish: Command) -> int:
        """Publishes a command; its number, which rises within a ring over every restart."""
        ring = self._rings[row]
        reason = wish.reason
        command = ffi.new("command_record_t *")
        command.kind = wish.kind
        command.mode = wish.mode
        command.amount_cents = wish.amount_cents
        command.market_slot = wish.slot
        command.number = int(lib.cell_load(cell(ring, "published"))) + 1
        command.mono_ns = wish.mono_ns
        short = reason.encode()[: lib.VENUE_ID_BYTES].decode(errors="ignore")  # the audit has it whole
        ffi.memmove(command.reason, padded(short, lib.VENUE_ID_BYTES), lib.VENUE_ID_BYTES)
        code = lib.message_publish(ring, lib.COMMAND_RING_SLOTS, self._proc.token, command)
        if code == lib.RING_FULL:
            raise NoAnswerError("its command ring is full: nobody takes commands up")
        check(code, f"command ring of row {row}")
        self._proc.ring_bell(row)
        return int(command.number)

    def _count(self, row_index: int, index: int) -> int:
        row = self._proc.arena.process(row_index)
        return int(lib.cell_load(ffi.addressof(row.counters[index])))

    async def _until(self, condition: Callable[[], bool], who: str, seconds: float = _ANSWER_S) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise NoAnswerError(f"the {who} gave no answer within {seconds} s")
            await asyncio.sleep(_POLL_S)


def names_of(causes: KillCause) -> list[str]:
    """Causes by name, in the order of their bits."""
    return [cause.name for cause in KillCause if cause in causes and cause.name]
