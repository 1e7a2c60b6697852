"""The control process: configuration that changes while the engine runs, and the operators' door to it.

It stands beside the hot path: nobody waits for it, and while it is down the engine quotes on with what it
has. A restart is harmless.

Reads: ``amm:config`` in Redis, state rows. Writes: config slots, command rings, kill words (raises only).
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from typing import Final

import structlog
import uvloop

from engine._native import lib
from engine.backoff import NS_PER_S, RestartHistory, RestartPolicy, restart_delay_ns
from engine.config import EXIT_CONFIG
from engine.workers import control_door, process
from engine.workers.control_admin import Admin, build_app
from engine.workers.control_commands import Commands
from engine.workers.control_config import Overrides
from engine.workers.control_oracle import OracleRelay
from engine.workers.process import WorkerProcess
from engine.workers.redis_link import RedisAddress, RedisFaultError, RedisLink

_TICK_S: Final = 0.05  # heartbeat
_POLL_S_MAX: Final = 1.0  # longest sleep between looks at what is due
_RETRY: Final = RestartPolicy(delay_ns_min=NS_PER_S // 10, delay_ns_max=2 * NS_PER_S)
_RETRY_STREAK_MAX: Final = 16

_log: Final = structlog.get_logger()


class Control:
    """Hot reload and operators' oracle prices, on one connection to Redis, and the admin API."""

    def __init__(self, proc: WorkerProcess, address: RedisAddress) -> None:
        self._proc = proc
        self._address = address
        self._timeout_s = proc.config.redis.timeout_ms / 1000
        self._overrides = Overrides(proc)
        self._oracles = OracleRelay(proc)
        self._commands = Commands(proc)
        self._app = build_app(proc, Admin(proc, self._commands, self._overrides, address))
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()

    async def _follow_redis(self) -> None:
        """Polls for as long as the process lives; a lost Redis is tried again, ever more slowly."""
        link: RedisLink | None = None
        streak = 0
        while not self._stop.is_set():
            self._wake.clear()
            try:
                if link is None:
                    link = await RedisLink.connect(self._address, timeout_s=self._timeout_s)
                await self._overrides.poll(link)
                await self._oracles.poll(link)
                streak = 0
                delay_s = min(self._overrides.due_in_s(), _POLL_S_MAX)
            except RedisFaultError as error:
                if link is not None:
                    link.close()
                    link = None
                self._overrides.source_is(error)
                streak = min(streak + 1, _RETRY_STREAK_MAX)
                history = RestartHistory(streak=streak)
                delay_s = restart_delay_ns(history, _RETRY, jitter=random.random()) / NS_PER_S  # noqa: S311
            await self._sleep(delay_s)
        if link is not None:
            link.close()

    async def _sleep(self, delay_s: float) -> None:
        """Until the delay is over, somebody changed an override here, or the end."""
        try:
            async with asyncio.timeout(delay_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _beat(self) -> None:
        while True:  # to the very end: calls under way may take a second, and silence is death
            self._proc.beat(lib.mono_now_ns())
            self._proc.record_cpu(lib.current_cpu())
            self._commands.raise_kill_files()
            await asyncio.sleep(_TICK_S)

    def _request_stop(self) -> None:
        self._stop.set()
        self._wake.set()

    async def run(self) -> int:
        """Until SIGTERM; the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._request_stop)
        if self._proc.stopping:  # the signal came before there was a handler
            self._request_stop()
        listener = control_door.open_socket(self._proc.run_dir)  # from here on callers wait, at most
        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(self._beat())
            following = tasks.create_task(self._follow_redis())
            serving = tasks.create_task(control_door.serve(self._app, listener, self._stop))
            self._proc.set_state(lib.PROCESS_RUNNING)
            await self._stop.wait()
            self._proc.set_state(lib.PROCESS_STOPPING)
            await asyncio.wait({following, serving})
            beating.cancel()
        _log.info("stopped")
        return 0


def main() -> int:
    proc = process.start("control")
    try:
        address = RedisAddress.parse(proc.config.redis.url)
    except ValueError as error:
        print(f"engine.workers.control: redis.url: {error}", file=sys.stderr)
        return EXIT_CONFIG
    _log.info("started", redis=repr(address), markets=len(proc.config.markets))
    return uvloop.run(Control(proc, address).run())


if __name__ == "__main__":
    sys.exit(main())
