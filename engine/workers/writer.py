"""The writer process: copies the newest rows of the state board to Redis.

Every ``redis.interval_ms`` it compares row versions with those it has published, builds the hashes of the
markets that changed, and sends them in pipelined batches. The board is not a queue: a slow or dead Redis
costs freshness, never memory, and nobody waits for it.

Redis is a projection and is treated as one that may have lost or kept anything. At start, after every
error and every ``_REFRESH_S`` a *full* round writes every hash whole and removes what does not belong in
it, so an emptied, replaced or older server is right again within the refresh time. Values are absolute and
come from one writer, so writing them twice changes nothing.

The facts that must survive on disk are kept beside, by :mod:`engine.workers.facts_keeper`.

Reads: state rows, live-order rows, account rows; execution rings as a tap.
Writes: ``amm:*`` in Redis but ``amm:config`` and ``amm:oracle``, and the replace counter.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections import deque
from itertools import islice
from typing import Any, Final

import hiredis
import structlog
import uvloop

from engine import crash_points
from engine._native import ffi, lib
from engine.backoff import NS_PER_S, RestartHistory, RestartPolicy, restart_delay_ns
from engine.config import EXIT_CONFIG
from engine.events import WriterCounter
from engine.workers import process
from engine.workers.facts_keeper import FactsKeeper
from engine.workers.fill_log import FillLog, ReplaceCount
from engine.workers.process import WorkerProcess
from engine.workers.redis_link import (
    Batch,
    Command,
    RedisAddress,
    RedisFault,
    RedisFaultError,
    RedisLink,
    fault_of,
    raise_first_error,
)
from engine.workers.state_board import PUBLISH, Board

_TICK_S: Final = 0.05  # heartbeat
_REFRESH_S: Final = 4.0  # full round: what Redis lost is back, and no row is older, within 5 s
_FLUSH_S_MAX: Final = 2.0  # the last rows at an orderly stop
_BATCH_COMMANDS_MAX: Final = 512
_BATCHES_UNDER_WAY_MAX: Final = 2
_SLOW_PASS_NS: Final = 10_000_000
_NS_PER_MS: Final = 1_000_000
_RETRY: Final = RestartPolicy(delay_ns_min=NS_PER_S // 10, delay_ns_max=2 * NS_PER_S)
_RETRY_STREAK_MAX: Final = 16
_POLICY: Final = "noeviction"

_LOG: Final = structlog.get_logger()


class PolicyRefusedError(Exception):
    """The server may evict the engine's keys; the message is one line for a person."""


class Writer:
    """Rounds, refreshes and recovery; one connection."""

    def __init__(self, proc: WorkerProcess, address: RedisAddress) -> None:
        self._proc = proc
        self._address = address
        settings = proc.config.redis
        self._interval_s = settings.interval_ms / 1000
        self._timeout_s = settings.timeout_ms / 1000
        self._publish = settings.publish_updates
        self._board = Board(proc.arena)
        self._facts = FactsKeeper(proc.arena, proc.run_dir)
        self._fills = FillLog(proc.arena, proc.config.markets)
        self._replaces = ReplaceCount(proc.arena)
        self._link: RedisLink | None = None
        self._full_due_mono_s = 0.0
        self._stop = asyncio.Event()
        self._streak = 0
        self._fault: RedisFault | None = None
        self._fault_count = 0
        self._accepted = False  # a batch was acknowledged: from now on Redis is never refused, only reported
        self._counts = dict.fromkeys(WriterCounter, 0)
        written = lib.cell_load(ffi.addressof(proc.row.counters[WriterCounter.WRITTEN_MONO_NS]))
        self._written_at(int(written) or lib.mono_now_ns())

    # ---- one round ---------------------------------------------------------------------------

    async def _round(self) -> None:
        """Publishes what changed, everything when a refresh is due. Raises RedisFaultError."""
        link = self._link or await self._connect()
        full = time.monotonic() >= self._full_due_mono_s
        started = lib.mono_now_ns()
        if full:
            self._board.find_markets()
        changed = self._board.refresh()
        commands = [command for market in changed for command in market.changes()] if not full else []
        extra = [*self._fills.commands(), *self._replaces.commands(time.time_ns() // _NS_PER_MS)]
        if full or commands:
            lib.process_pass(self._proc.row, lib.mono_now_ns() - started, len(changed), _SLOW_PASS_NS)
        if full:
            commands = await self._repairs(link)
            self._full_due_mono_s = time.monotonic() + _REFRESH_S
        if crash_points.armed:
            crash_points.reach("writer.after_collect")
        await self._send(link, [*commands, *extra])
        if full or commands:  # an empty round has not asked the server anything
            self._written_at(started)

    def _written_at(self, mono_ns: int) -> None:
        """Rows read at that time are in Redis. The word outlives this process: how long Redis has been away
        is counted over every restart of the writer, and quoters pause by it."""
        self._proc.count(WriterCounter.WRITTEN_MONO_NS, mono_ns)

    async def _repairs(self, link: RedisLink) -> list[Command]:
        """Commands that make every hash exactly what the rows say, whatever Redis holds."""
        places = [(market, key) for market in self._board.markets for key in market.keys]
        found = await self._replies(link, [(b"HKEYS", key) for _, key in places])
        commands: list[Command] = []
        for (market, key), reply in zip(places, found, strict=True):
            if isinstance(reply, hiredis.ReplyError):
                if fault_of(reply) is not RedisFault.WRONG_TYPE:
                    raise_first_error([reply])
                commands.append((b"DEL", key))
            elif foreign := market.foreign_fields(key, reply):
                commands.append((b"HDEL", key, *foreign))
        for market in self._board.markets:
            market.forget()
            commands += market.changes()
        return commands

    async def _send(self, link: RedisLink, commands: list[Command]) -> None:
        """Sends write commands; they count once acknowledged."""
        if not self._publish:
            commands = [command for command in commands if command[0] != PUBLISH]
        if not commands:
            return
        replies = await self._replies(link, commands)
        if crash_points.armed:
            crash_points.reach("writer.after_ack")
        raise_first_error(replies)
        self._accepted = True
        writes = sum(command[0] != PUBLISH for command in commands)
        self._count(WriterCounter.WRITES, self._counts[WriterCounter.WRITES] + writes)
        self._count(WriterCounter.KEYS, sum(market.key_count for market in self._board.markets))

    async def _replies(self, link: RedisLink, commands: list[Command]) -> list[Any]:
        """Sends commands in batches, the next one encoded while the server works on the one before."""
        replies: list[Any] = []
        remaining = iter(commands)
        under_way: deque[Batch] = deque()
        while True:
            if batch := list(islice(remaining, _BATCH_COMMANDS_MAX)):
                under_way.append(link.send(batch))
                if crash_points.armed:
                    crash_points.reach("writer.mid_pipeline")
            if not under_way:
                return replies
            if not batch or len(under_way) == _BATCHES_UNDER_WAY_MAX:
                replies += await link.replies(under_way.popleft())
                self._count(WriterCounter.BATCHES, self._counts[WriterCounter.BATCHES] + 1)

    def _count(self, index: WriterCounter, value: int) -> None:
        self._counts[index] = value
        self._proc.count(index, value)

    # ---- connection --------------------------------------------------------------------------

    async def _connect(self) -> RedisLink:
        link = await RedisLink.connect(self._address, timeout_s=self._timeout_s)
        try:
            await self._check_policy(link)
        except BaseException:
            link.close()
            raise
        self._link = link
        return link

    async def _check_policy(self, link: RedisLink) -> None:
        """Refuses a server that may drop our keys. Once rows are published it is only reported."""
        reply = (await link.execute([(b"INFO", b"memory")]))[0]
        if isinstance(reply, hiredis.ReplyError):
            if fault_of(reply) is not RedisFault.NO_PERMISSION:
                raise_first_error([reply])
            _LOG.warning("eviction_policy_not_readable")
            return
        policy = _info_value(bytes(reply), b"maxmemory_policy:")
        if policy in ("", _POLICY):
            return
        line = f"redis: maxmemory-policy is {policy}, must be {_POLICY}: it may drop the engine's keys"
        if not self._accepted:
            raise PolicyRefusedError(line)
        _LOG.error("eviction_policy", reason=line)

    def _failed(self, error: RedisFaultError) -> None:
        """After any error nothing is known about what Redis holds: connect anew and write everything."""
        if self._link is not None:
            self._link.close()
            self._link = None
        self._full_due_mono_s = 0.0
        self._fills.forget()
        self._replaces.forget()
        self._streak = min(self._streak + 1, _RETRY_STREAK_MAX)
        self._count(WriterCounter.ERRORS, self._counts[WriterCounter.ERRORS] + 1)
        self._count(WriterCounter.KEYS, 0)
        if error.fault is not self._fault:
            _LOG.error(
                "redis_fault",
                fault=error.fault.value,
                reason=str(error)[:200],
                before=self._fault.value if self._fault else None,
                count=self._fault_count,
            )
            self._fault, self._fault_count = error.fault, 0
        self._fault_count += 1

    def _succeeded(self) -> None:
        if self._fault is not None:
            _LOG.info("redis_recovered", fault=self._fault.value, count=self._fault_count)
            self._fault, self._fault_count = None, 0
        self._streak = 0

    # ---- life --------------------------------------------------------------------------------

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._proc.beat(lib.mono_now_ns())
        self._proc.record_cpu(lib.current_cpu())
        self._fills.look()  # whether Redis is there or not: the rings do not wait
        loop.call_later(_TICK_S, self._tick, loop)

    async def _rounds(self) -> None:
        """Rounds until told to stop. A failed one only costs freshness: the process is at work either way."""
        running = False
        while not self._stop.is_set():
            try:
                await self._round()
            except RedisFaultError as error:
                self._failed(error)
                history = RestartHistory(streak=self._streak)
                jitter = random.random()  # noqa: S311
                pause_s = restart_delay_ns(history, _RETRY, jitter=jitter) / NS_PER_S
            else:
                self._succeeded()
                pause_s = self._interval_s
            if not running:
                running = True
                self._proc.set_state(lib.PROCESS_RUNNING)
                _LOG.info("running", markets=len(self._board.markets))
            try:
                async with asyncio.timeout(pause_s):
                    await self._stop.wait()
            except TimeoutError:
                continue

    async def _flush(self, rounds: asyncio.Task[None]) -> None:
        """The round under way, then the last rows; both within ``_FLUSH_S_MAX``."""
        try:
            async with asyncio.timeout(_FLUSH_S_MAX):
                await rounds
                await self._round()
        except (TimeoutError, RedisFaultError) as error:
            _LOG.error("last_rows_not_written", reason=f"{type(error).__name__}: {error}")

    async def run(self) -> None:
        """Until SIGTERM. Raises PolicyRefusedError at start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        self._tick(loop)
        rounds = asyncio.create_task(self._rounds())
        facts = asyncio.create_task(self._facts.run(self._stop))
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait((rounds, facts, stop), return_when=asyncio.FIRST_COMPLETED)
        if self._stop.is_set():
            self._proc.set_state(lib.PROCESS_STOPPING)
            await facts
            await self._facts.look(everything=True)
            await self._flush(rounds)
        else:
            for task in (stop, rounds, facts):
                task.cancel()  # the one that ended is not touched by it
            await asyncio.gather(rounds, facts)
        if self._link is not None:
            self._link.close()


def _info_value(info: bytes, name: bytes) -> str:
    """A value of an INFO reply; "" when it has none of this name."""
    for line in info.splitlines():
        if line.startswith(name):
            return line[len(name) :].decode(errors="replace").strip()
    return ""


def _refuse(reason: str) -> int:
    print(f"engine.workers.writer: {reason}", file=sys.stderr)
    return EXIT_CONFIG


async def _main(proc: WorkerProcess, address: RedisAddress) -> None:
    await Writer(proc, address).run()


def main() -> int:
    """Started by the supervisor. Exit codes: engine/workers/process.py."""
    proc = process.start("writer")
    url = proc.config.redis.url
    if not url:
        return _refuse("redis.url: is empty; the supervisor names the embedded server here")
    try:
        address = RedisAddress.parse(url)
    except ValueError as error:
        return _refuse(f"redis.url: {error}")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main(proc, address))
    except PolicyRefusedError as error:
        return _refuse(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
