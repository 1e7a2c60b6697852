"""How fast do state rows reach Redis, compared with the server's own load generator?

    state row --> ten fields --> RESP (hiredis) --> Unix socket --> valkey-server --> replies --> parsed
    this process (core 0)                                           (core 1)

Every row is formatted and encoded anew, as the writer process does it (``redis_rows.state_fields``,
``RedisLink``): batches of ``BATCH`` HSET commands, two of them on their way. ``redis-benchmark -c 1 -P 100``
sends the same HSET with the same key and fields to the same server, encoded once. A regression here is state
in Redis that is older than it says.

Samples are nanoseconds per HSET of one batch; ``redis-benchmark`` reports one mean per window. The floor is
the work on our side alone: rows formatted and encoded, nothing sent.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final

import hiredis
import numpy as np
import uvloop

from engine import valkey
from engine._native import ffi
from engine.events import Phase
from engine.workers import redis_rows
from engine.workers.redis_link import Command, RedisAddress, RedisLink, raise_first_error
from perf.feeding import cores, wait_until
from perf.windows import Contender, Report, Samples, interleave, machine, show

ROWS: Final = 20_000
BATCH: Final = 200  # the writer's own are as large as what is due, at most 512
STATES: Final = 10 * BATCH
MARKET: Final = "MKT-A"
KEY: Final = redis_rows.state_key(MARKET)
OURS: Final = "corequote"
THEIRS: Final = "redis-benchmark -c 1 -P 100"
PIPELINE: Final = "redis-py pipeline"


class Rows:
    """A market's state rows, each a little different from the one before, and their HSETs."""

    def __init__(self) -> None:
        self._states = ffi.new("quoter_state_t[]", STATES)
        for index, state in enumerate(self._states):
            state.phase = Phase.STABILIZATION
            state.fair_price_cents = 30 + index % 40
            state.sigma = 2.0625 + index / 1024
            state.skew = -0.135 + index / 4096
            state.last_requote_ms = 1_790_000_000_000 + index
            state.daily_pnl_cents = -1_250 + index
            state.total_fills_today = 118 + index
        self._next = 0
        self.last: redis_rows.Fields | None = None

    def batch(self) -> list[Command]:
        """The next ``BATCH`` rows."""
        first = self._next
        self._next = (first + BATCH) % STATES
        rows = [redis_rows.state_fields(state) for state in self._states[first : first + BATCH]]
        self.last = rows[-1]
        return [(b"HSET", KEY, *fields) for fields in rows]


def encoding_alone() -> Samples:
    rows = Rows()
    now = time.perf_counter_ns
    costs = []
    for _ in range(ROWS // BATCH):
        began = now()
        b"".join(map(hiredis.pack_command, rows.batch()))
        costs.append((now() - began) / BATCH)
    return np.array(costs)


async def corequote(address: RedisAddress) -> Samples:
    link = await RedisLink.connect(address, timeout_s=5.0)
    rows = Rows()
    now = time.perf_counter_ns
    waiting = deque([link.send(rows.batch())])
    marks = [now()]
    for _ in range(ROWS // BATCH):
        waiting.append(link.send(rows.batch()))
        raise_first_error(await link.replies(waiting.popleft()))
        marks.append(now())
    raise_first_error(await link.replies(waiting.popleft()))
    last = (await link.execute([(b"HGETALL", KEY)]))[0]
    assert tuple(last) == rows.last, "the hash is not the last row"
    link.close()
    return np.diff(marks) / BATCH


async def redis_py(address: RedisAddress) -> Samples:
    from redis.asyncio import Redis

    rows = Rows()
    now = time.perf_counter_ns
    marks = [now()]
    async with Redis(unix_socket_path=address.path) as client:
        for _ in range(ROWS // BATCH):
            pipeline = client.pipeline(transaction=False)
            for command in rows.batch():
                pipeline.execute_command(*command)
            await pipeline.execute()
            marks.append(now())
    return np.diff(marks) / BATCH


def redis_benchmark(address: RedisAddress) -> Samples:
    command = [part.decode() for part in Rows().batch()[0]]
    run = subprocess.run(
        ["redis-benchmark", "-s", address.path, "-c", "1", "-P", "100", "--csv", "-n", str(ROWS), *command],
        capture_output=True,
        text=True,
        check=True,
    )
    # "test","rps",... and one line of values
    per_second = float(run.stdout.splitlines()[-1].split(",")[-7].strip('"'))
    return np.array([1e9 / per_second])


def looped(client: Callable[[RedisAddress], Coroutine[Any, Any, Samples]], address: RedisAddress) -> Samples:
    gc.collect()
    gc.disable()
    try:
        return uvloop.run(client(address))
    finally:
        gc.enable()


def measure() -> Report:
    """Run everything once."""
    near, far = cores()
    notes = [
        "same server for all: the embedded Valkey with the engine's own configuration, append-only file on"
    ]
    if near == far:
        notes.append("one core only: client and server shared it")
    contenders = [Contender(who="floor: formatting and encoding alone", window=encoding_alone)]
    with tempfile.TemporaryDirectory() as directory:
        run_dir = Path(directory)
        server = subprocess.Popen(
            valkey.command(run_dir, parent_pid=os.getpid()),
            stdout=subprocess.DEVNULL,
        )
        try:
            os.sched_setaffinity(server.pid, {far})
            wait_until(partial(valkey.is_ready, run_dir), "the server")
            os.sched_setaffinity(0, {near})
            address = RedisAddress.parse(valkey.url(run_dir))
            contenders.append(Contender(who=OURS, window=partial(looped, corequote, address)))
            if shutil.which("redis-benchmark"):
                contenders.append(Contender(who=THEIRS, window=partial(redis_benchmark, address)))
            else:
                notes.append("redis-benchmark is not here: apt-get install redis-tools")
            contenders.append(Contender(who=PIPELINE, window=partial(looped, redis_py, address)))
            rows, discarded = interleave(contenders)
        finally:
            server.terminate()
            server.wait()
    by_who = {row.who: row for row in rows}
    theirs = by_who.get(THEIRS)
    return Report(
        name="writer",
        unit="ns per HSET of ten fields",
        rows=rows,
        ratios={
            "vs_redis_benchmark": by_who[OURS].throughput / theirs.throughput if theirs else None,
            "vs_redis_py": by_who[OURS].throughput / by_who[PIPELINE].throughput,
        },
        discarded=discarded,
        machine=machine(),
        notes=notes,
    )


def main() -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="python -m perf.writer", description="From state row to Redis.")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    show(measure(), as_json=parser.parse_args().json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
