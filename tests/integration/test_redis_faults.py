"""Redis dies, stalls, refuses and forgets under a whole engine (reliability F15, F16, F30).

Quoting goes on for ``redis.pause_after_ms``, then every quote is pulled by a gate that opens by itself; after
each fault Redis holds exactly the newest state. What the writer calls each error class is tested one by one
in ``test_writer.py``.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine._native import ffi, lib
from engine.events import Gate, Lifecycle, WriterCounter
from engine.workers import redis_rows
from tests.integration import test_writer as causes
from tests.integration.gateway_rig import MARKET, Exchange
from tests.integration.lifecycle_rig import DEADLINE_S, LiveEngine
from tests.integration.redis_server import Server
from tests.integration.worker_rig import until

PAUSE_MS = 2_000

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    made = Server(root)
    made.start("--enable-protected-configs", "yes")
    yield made
    made.kill()


@pytest.fixture(scope="module")
def engine(root: Path, exchange: Exchange, server: Server) -> Iterator[LiveEngine]:
    redis = f'[redis]\nurl = "{server.url}"\ntimeout_ms = 500\npause_after_ms = {PAUSE_MS}\n'
    with LiveEngine(root, exchange, MARKET, redis=redis).quoting(MARKET) as engine:
        yield engine


def written_ns(engine: LiveEngine) -> int:
    row = engine.arena.process(lib.PROCESS_WRITER)
    return int(lib.cell_load(ffi.addressof(row.counters[WriterCounter.WRITTEN_MONO_NS])))


def paused(engine: LiveEngine) -> bool:
    state = engine.state(MARKET)
    return state is not None and bool(state.gates & Gate.REDIS)


def holds_the_newest_state(engine: LiveEngine, server: Server) -> bool:
    """Every key of the market equals what the arena says, field by field; nothing else is there."""
    arena = engine.arena
    header, state = ffi.new("state_header_t *"), ffi.new("quoter_state_t *")
    account, order = ffi.new("account_state_t *"), ffi.new("live_order_t *")
    slot = arena.market(0)
    size = ffi.sizeof("quoter_state_t")
    assert lib.state_read(ffi.addressof(slot, "state"), header, state, size) == lib.RING_OK
    assert lib.account_read(ffi.addressof(slot, "account"), account) == lib.RING_OK
    rows = {
        redis_rows.inventory_key(MARKET): redis_rows.inventory_fields(state, header.unix_ns),
        redis_rows.state_key(MARKET): redis_rows.state_fields(state),
        redis_rows.engine_key(MARKET): redis_rows.engine_fields(state, account),
    }
    for key, fields in rows.items():
        if fields is None or server.client.hgetall(key) != dict(zip(fields[::2], fields[1::2], strict=True)):
            return False
    orders = {}
    for index in range(lib.LIVE_ORDER_SLOTS):
        assert lib.live_order_read(ffi.addressof(slot.live_orders[index]), order) == lib.RING_OK
        row = redis_rows.live_order(order)
        if row is not None:
            orders[row[0]] = row[1]
    return bool(server.client.hgetall(redis_rows.orders_key(MARKET)) == orders)


def stall(server: Server) -> None:
    server.signal(signal.SIGSTOP)


def go_on(server: Server) -> None:
    server.signal(signal.SIGCONT)


def kill(server: Server) -> None:
    server.kill()


def start_empty(server: Server) -> None:
    server.start("--enable-protected-configs", "yes")


@pytest.mark.parametrize(
    ("cause", "end"),
    [
        pytest.param(kill, start_empty, id="killed, back empty"),
        pytest.param(stall, go_on, id="stalled"),
        pytest.param(causes.cause_oom, causes.end_oom, id="full"),
        pytest.param(causes.cause_readonly, causes.end_readonly, id="read-only"),
        pytest.param(causes.cause_misconf, causes.end_misconf, id="cannot save"),
        pytest.param(causes.cause_no_replicas, causes.end_no_replicas, id="no replicas"),
        pytest.param(causes.cause_no_auth, causes.end_no_auth, id="password changed"),
    ],
)
def test_quoting_goes_on_for_a_while_then_pauses_then_goes_on(
    engine: LiveEngine,
    exchange: Exchange,
    server: Server,
    cause: Callable[[Server], None],
    end: Callable[[Server], None],
) -> None:
    until(lambda: not paused(engine), "no gate to begin with", deadline_s=DEADLINE_S)
    engine.await_quotes(MARKET)
    cause(server)
    try:
        until(lambda: paused(engine), "the gate", deadline_s=DEADLINE_S)
        paused_ns = time.monotonic_ns()
        assert paused_ns - written_ns(engine) > PAUSE_MS * 1_000_000, "never before the bounded time is over"
        until(lambda: not exchange.live(MARKET), "every quote is pulled", deadline_s=DEADLINE_S)
        assert engine.is_in(MARKET, Lifecycle.RUNNING)
    finally:
        end(server)
    until(lambda: not paused(engine), "the gate opens by itself", deadline_s=DEADLINE_S)
    engine.await_quotes(MARKET)
    until(lambda: holds_the_newest_state(engine, server), "Redis is as the arena", deadline_s=DEADLINE_S)


def test_an_emptied_server_is_filled_again_without_a_pause(
    engine: LiveEngine, exchange: Exchange, server: Server
) -> None:
    until(lambda: not paused(engine), "no gate to begin with", deadline_s=DEADLINE_S)
    engine.await_quotes(MARKET)
    server.client.flushall()
    until(lambda: holds_the_newest_state(engine, server), "Redis is as the arena", deadline_s=DEADLINE_S)
    assert not paused(engine)


def test_a_writer_that_dies_costs_nothing(engine: LiveEngine, server: Server) -> None:
    """The time without Redis is counted over the writer's restarts, and a new writer writes everything."""
    engine.await_quotes(MARKET)
    before_ns = written_ns(engine)
    engine.processes()["writer"].kill()
    until(lambda: written_ns(engine) > before_ns, "a new writer has written", deadline_s=DEADLINE_S)
    until(lambda: holds_the_newest_state(engine, server), "Redis is as the arena", deadline_s=DEADLINE_S)


def test_a_market_is_killed_while_redis_is_away(
    engine: LiveEngine, exchange: Exchange, server: Server
) -> None:
    """F30: by a kill file alone; and the resume brings it back, Redis or not."""
    engine.await_quotes(MARKET)
    server.kill()
    try:
        result = engine.corequote("kill", MARKET, "--reason", "redis is away")
        assert result.returncode == 0, result.stderr
        assert exchange.live(MARKET) == []
        engine.await_lifecycle(MARKET, Lifecycle.EMERGENCY)
        resumed = engine.corequote("resume", MARKET, "--reason", "no matter")
        assert resumed.returncode == 0, resumed.stderr
        engine.await_lifecycle(MARKET, Lifecycle.RUNNING)
    finally:
        start_empty(server)
    engine.await_quotes(MARKET)
