"""The guard: outlives the supervisor, and takes every order off the venue when nobody else can.

It watches the supervisor and the gateway through pidfds and heartbeats, with a venue session of its own
that may only cancel. When one of the two goes, or falls silent for longer than
``engine.heartbeat_timeout_ms`` (it is then killed: a process that comes back after that must find nothing
to send with), the guard batch-cancels every market and asks the venue for live orders until there are none.
Where the dead gateway's journal says that an order was under way, or where it may not have ended, the guard
goes on for as long as a request may take: what was on its way when its sender died may still arrive. After a
gateway's death it stops as soon as a new gateway runs, which sweeps by itself before it admits anything.
After the supervisor's death (the kernel has killed the other processes, ``PR_SET_PDEATHSIG``) it ends with
its sweep. It inherits the run directory's lock and never lets go of it, so a new supervisor in the same
directory waits for exactly that.

Reads: process rows, market descriptors, the intent journal. Writes: kill words (raises KILL_GUARD), its own
process row.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog
import uvloop

from engine._native import lib
from engine.arena import cell
from engine.config import EXIT_CONFIG, ConfigError
from engine.venues.platform_account import open_account
from engine.venues.platform_rest import Answered, PlatformRest, ReadError
from engine.venues.platform_session import PlatformSession, SessionError
from engine.workers import process
from engine.workers.hardening import harden
from engine.workers.intent_journal import JournalError, orders_under_way
from engine.workers.process import WorkerProcess

_log = structlog.get_logger()

_NS_PER_MS: Final = 1_000_000
_TICK_S: Final = 0.02
_LOOK_S: Final = 0.02  # between two looks at the venue's list
_RETRY_S_MAX: Final = 1.0
_TOKEN_CHECK_S: Final = 10.0  # a token is renewed before it ends: a sweep must not begin with a login

EXIT_UNCONFIRMED: Final = 1


class Watched:
    """One process that the guard watches. ``gone`` turns true once per life."""

    def __init__(self, name: str, row: Any, *, limit_ns: int, on_gone: Callable[[str], None]) -> None:
        self.name: Final = name
        self.pid = 0
        self.has_ended = False  # seen to be gone, not only told to go
        self._row: Final = row
        self._limit_ns: Final = limit_ns
        self._on_gone: Final = on_gone
        self.running = False  # until its death or its silence has been told
        self._pidfd = -1
        self._heartbeat = 0
        self._silent_ns = 0

    def follow(self, pid: int) -> None:
        """Watches this pid from now on; a pid that is gone already is a death."""
        self._let_go()
        self.pid = pid
        self.has_ended, self.running = False, True
        self._silent_ns = 0
        self._heartbeat = 0
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._died()
            return
        asyncio.get_running_loop().add_reader(self._pidfd, self._died)

    def follow_row(self) -> None:
        """Takes up the life that the process row names, when it is a new one."""
        pid = int(lib.cell_load(cell(self._row, "pid")))
        if pid and not self.running and pid != self.pid:
            self.follow(pid)

    def watch(self, watched_ns: int) -> None:
        """Counts silence while the process says that it runs; too much of it ends the process."""
        if not self.running:
            return
        heartbeat = int(lib.cell_load(cell(self._row, "heartbeat_mono_ns")))
        state = lib.cell_load(cell(self._row, "state"))
        # who stops in order is past its last beat before it has left: the supervisor has a deadline for that
        if heartbeat != self._heartbeat or state != lib.PROCESS_RUNNING:
            self._heartbeat = heartbeat
            self._silent_ns = 0
            return
        self._silent_ns += watched_ns
        if self._silent_ns > self._limit_ns:
            _log.error("stalled", watched=self.name, pid=self.pid, silent_ms=self._silent_ns // _NS_PER_MS)
            self._silent_ns = 0
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._tell("stalled")  # its end is still watched for

    def _died(self) -> None:
        self._let_go()
        self.has_ended = True
        self._tell("died")

    def _tell(self, how: str) -> None:
        if self.running:
            self.running = False
            self._on_gone(how)

    def _let_go(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


class Guard:
    """Watching, and one sweep at a time."""

    def __init__(self, proc: WorkerProcess, rest: PlatformRest, session: PlatformSession) -> None:
        self._proc: Final = proc
        self._rest: Final = rest
        self._session: Final = session
        self._gateway_row: Final = proc.arena.process(lib.PROCESS_GATEWAY)
        limit_ns = proc.config.engine.heartbeat_timeout_ms * _NS_PER_MS
        self._supervisor: Final = Watched(
            "supervisor",
            proc.arena.process(lib.PROCESS_SUPERVISOR),
            limit_ns=limit_ns,
            on_gone=self._supervisor_gone,
        )
        self._gateway: Final = Watched(
            "gateway", self._gateway_row, limit_ns=limit_ns, on_gone=self._gateway_gone
        )
        self._linger_s: Final = proc.config.venue.request_timeout_ms / 1_000
        self._markets: Final = [proc.arena.market_id(slot) for slot in proc.arena.used_markets()]
        self._stop: Final = asyncio.Event()
        self._sweep: asyncio.Task[bool] | None = None
        self._lost_epoch = 0  # of the gateway whose death is being swept up
        self._orphaned = False

    async def run(self) -> int:
        """Watches until told to stop or orphaned; the exit code says whether nothing of ours is live."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        if self._proc.stopping:
            self._stop.set()
        if os.getppid() == self._proc.parent_pid:
            self._supervisor.follow(self._proc.parent_pid)
        else:
            self._supervisor_gone("died before the guard was up")
        tick = loop.create_task(self._tick())
        session = loop.create_task(self._keep_session())
        try:
            await self._stop.wait()
            self._proc.set_state(lib.PROCESS_STOPPING)
            await asyncio.sleep(_TICK_S)  # a death that came together with the signal is heard first
            if self._sweep is None and self._gateway.pid and not self._gateway.running:
                self._begin("gateway")
            if self._sweep is not None and not await self._sweep:
                return EXIT_UNCONFIRMED
            return 0
        finally:
            tick.cancel()
            session.cancel()

    async def _tick(self) -> None:
        """Heartbeats, theirs and ours. Only time in which we ran ourselves counts as their silence."""
        await self._warm_up()
        self._proc.set_state(lib.PROCESS_RUNNING)
        last_mono_ns = lib.mono_now_ns()
        while True:
            await asyncio.sleep(_TICK_S)
            now_mono_ns = lib.mono_now_ns()
            watched_ns = min(now_mono_ns - last_mono_ns, int(2 * _TICK_S * 1e9))
            last_mono_ns = now_mono_ns
            self._proc.beat(now_mono_ns)
            self._gateway.follow_row()
            self._gateway.watch(watched_ns)
            self._supervisor.watch(watched_ns)

    async def _keep_session(self) -> None:
        """Renews the token in time. Not in the tick: a venue that is slow to answer must not silence us."""
        while True:
            await asyncio.sleep(_TOKEN_CHECK_S)
            await self._warm_up()

    async def _warm_up(self) -> None:
        """A token in hand. Without one the guard stays up: the first sweep tries again."""
        try:
            await self._session.token()
        except SessionError as error:
            _log.warning("no_session", reason=str(error))

    # ---- deaths ----

    def _supervisor_gone(self, how: str) -> None:
        lib.cell_or(self._proc.arena.kill_global(), lib.KILL_GUARD)
        _log.error("supervisor_gone", how=how, pid=self._supervisor.pid)
        self._orphaned = True
        self._begin("supervisor")
        self._stop.set()

    def _gateway_gone(self, how: str) -> None:
        if self._orphaned:
            return
        self._lost_epoch = int(lib.cell_load(cell(self._gateway_row, "attached_epoch")))
        _log.error("gateway_gone", how=how, pid=self._gateway.pid)
        self._begin("gateway")

    def _begin(self, cause: str) -> None:
        """Starts a sweep; one that runs already is told of the new cause by ``_orphaned``."""
        if self._sweep is None or self._sweep.done():
            self._sweep = asyncio.get_running_loop().create_task(self._take_all_off(cause))

    def _relieved(self) -> bool:
        """Whether a new gateway runs: it has swept by itself, and what is live now is its own."""
        return (
            not self._orphaned
            and int(lib.cell_load(cell(self._gateway_row, "attached_epoch"))) > self._lost_epoch
            and lib.cell_load(cell(self._gateway_row, "state")) == lib.PROCESS_RUNNING
        )

    # ---- the sweep ----

    async def _take_all_off(self, cause: str) -> bool:
        """Cancels everything until the venue lists nothing and nothing can follow. False: patience ended."""
        began = time.monotonic()
        empty_since: float | None = None
        delay_s = _LOOK_S
        patience_s = self._proc.config.engine.guard_patience_ms / 1_000
        cancelled = 0
        answered: dict[int, bool] = {}  # by gateway that has ended: whether its journal has all answers
        while not self._relieved():
            try:
                if empty_since is None:
                    cancelled += await self._cancel_everything()
                if self._gateway.has_ended and self._gateway.pid not in answered:
                    # no cancel waits for it; what it finds answered is listed by the look
                    answered[self._gateway.pid] = self._all_answered()
                live = await self._listed()
            except ReadError as error:
                _log.warning("sweep_waits", reason=str(error))
                live = None
            now = time.monotonic()
            if live == 0:
                if empty_since is None:
                    empty_since = now
                    _log.info("nothing_live", cause=cause, after_ms=round(1_000 * (now - began), 1))
                settled = answered.get(self._gateway.pid, False) or self._in_order()
                if settled or now - empty_since >= self._linger_s:
                    break
            else:
                empty_since = None
                if now - began > patience_s:
                    _log.error("sweep_given_up", cause=cause, live=live, after_s=round(now - began, 1))
                    return False
            delay_s = _LOOK_S if live is not None else min(2 * delay_s, _RETRY_S_MAX)
            await asyncio.sleep(delay_s)
        _log.info("swept", cause=cause, cancelled=cancelled, relieved=self._relieved())
        return True

    def _in_order(self) -> bool:
        """An orderly stop: the gateway has confirmed the same before it ended, and sent nothing since."""
        return not self._orphaned and bool(lib.cell_load(self._proc.arena.kill_global()) & lib.KILL_STOPPING)

    def _all_answered(self) -> bool:
        """Whether no order of the gateway, which has ended, can still arrive: every one that it wrote down
        before the send (I4) has had its answer."""
        try:
            return not orders_under_way(self._proc.run_dir)
        except (JournalError, OSError) as error:
            _log.warning("journal_not_read", reason=str(error))
            return False

    async def _cancel_everything(self) -> int:
        """One batch cancel a market, all at once; returns how many orders they took off."""
        outcomes = await asyncio.gather(
            *(self._rest.batch_cancel(market_id, "ALL") for market_id in self._markets)
        )
        return sum(outcome.data.cancelled_count for outcome in outcomes if isinstance(outcome, Answered))

    async def _listed(self) -> int:
        """Orders of ours that the venue shows as live in our markets. Raises ReadError."""
        mine = set(self._markets)
        live = [order for order in await self._rest.live_orders() if order.market_id in mine]
        for order in live:  # the fallback for a venue without batch cancel (§6.4)
            await self._rest.cancel(order.id)
        return len(live)


async def serve(proc: WorkerProcess) -> int:
    """Opens the guard's own account and runs it to its end."""
    async with open_account(proc.config.venue) as account:
        return await Guard(proc, account.rest, account.session).run()


def main() -> int:
    proc = process.start("guard", outlives_parent=True)
    harden()
    try:
        return uvloop.run(serve(proc))
    except ConfigError as error:
        print(f"engine.workers.guard: {error}", file=sys.stderr)
        return EXIT_CONFIG


if __name__ == "__main__":
    sys.exit(main())
