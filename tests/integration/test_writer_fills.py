"""``amm:processed`` and the replace counter: what a real writer makes of the gateway's words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine._native import ffi, lib
from engine.arena import Arena, check, padded
from engine.config import MarketConfig, parse
from engine.events import ExecutionKind, GatewayCounter, Side
from engine.workers.fill_log import FillLog, ReplaceCount
from tests.integration.redis_server import Server
from tests.integration.worker_rig import WorkerRig, until

WRITER = lib.PROCESS_WRITER
KEY = "amm:processed:MKT-A"
COUNTER = "ratelimit:AMM_SYSTEM_001:replace"
MARKETS = {"markets": [{"id": "MKT-A", "quote": {"processed_lru_size": 1_000}}, {"id": "MKT-B"}]}
NOW_MS = 1_790_000_000_000


class Gateway:
    """The gateway's end of an arena."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self._ring = arena.execution_ring(0)
        check(lib.message_acquire(self._ring, 9), "execution ring")

    def say(self, kind: int, *, trade: str = "", side: Side = Side.BID, slot: int = 0) -> None:
        record = ffi.new("execution_record_t *")
        record.kind, record.market_slot, record.book_side = kind, slot, side
        ffi.memmove(record.trade_id, padded(trade, 64), 64)
        check(lib.message_publish(self._ring, lib.MESSAGE_RING_SLOTS, 9, record), "execution ring")

    def fill(self, trade: str, side: Side = Side.BID, slot: int = 0) -> None:
        self.say(ExecutionKind.FILL, trade=trade, side=side, slot=slot)

    def quoter_reads(self) -> None:
        buffer = ffi.new("execution_record_t[]", lib.MESSAGE_RING_SLOTS)
        count = lib.message_peek(self._ring, lib.MESSAGE_RING_SLOTS, buffer, lib.MESSAGE_RING_SLOTS)
        lib.message_release(self._ring, count)

    def replaces(self, total: int) -> None:
        row = self.arena.process(lib.PROCESS_GATEWAY)
        lib.cell_store(ffi.addressof(row.counters[int(GatewayCounter.REPLACES)]), total)


@pytest.fixture
def rig(tmp_path: Path, server: Server) -> Iterator[WorkerRig]:
    redis = {"url": server.url, "interval_ms": 10, "timeout_ms": 400}
    rig = WorkerRig(tmp_path, {"redis": redis, **MARKETS})
    yield rig
    rig.close()


def test_every_leg_of_ours_is_in_the_set_for_a_day(rig: WorkerRig, server: Server) -> None:
    gateway = Gateway(rig.arena)
    gateway.fill("t-1")
    gateway.say(ExecutionKind.ACKED)
    gateway.say(ExecutionKind.CURSOR, trade="t-9")  # names a trade, applies none
    rig.start("writer", WRITER)
    gateway.fill("t-2", Side.BID)
    gateway.fill("t-2", Side.ASK)  # a self-trade has two legs
    gateway.fill("t-3", slot=1)
    gateway.fill("t-1")  # delivered twice
    until(lambda: server.client.scard(KEY) == 3, "three legs")
    assert server.client.smembers(KEY) == {b"t-1:B", b"t-2:B", b"t-2:S"}
    until(lambda: server.client.smembers("amm:processed:MKT-B") == {b"t-3:B"}, "the other market's leg")
    assert 86_390 <= server.client.ttl(KEY) <= 86_400


def test_legs_survive_a_redis_that_forgets(rig: WorkerRig, server: Server) -> None:
    gateway = Gateway(rig.arena)
    rig.start("writer", WRITER)
    gateway.fill("t-1")
    until(lambda: server.client.scard(KEY) == 1, "the first leg")
    server.kill()
    gateway.fill("t-2")
    server.start()
    until(lambda: server.client.scard(KEY) == 2, "both legs in the new server")


def test_the_ring_is_read_while_redis_is_away(rig: WorkerRig, server: Server) -> None:
    gateway = Gateway(rig.arena)
    server.kill()
    rig.start("writer", WRITER)
    rig.await_running(WRITER)
    for batch in range(3):
        for number in range(400):
            gateway.fill(f"t-{batch}-{number}")
        beat = rig.heartbeat_ns(WRITER)
        until(lambda beat=beat: rig.heartbeat_ns(WRITER) > beat + 200_000_000, "some looks")
        gateway.quoter_reads()
    assert not rig.logged("writer", "processed_legs_missed")
    server.start()
    until(lambda: server.client.scard(KEY) == 1_000, "as many as are remembered")
    assert server.client.sismember(KEY, "t-2-399:B")


def test_replaces_of_a_minute_are_counted(rig: WorkerRig, server: Server) -> None:
    gateway = Gateway(rig.arena)
    gateway.replaces(5)  # of an earlier writer's time
    rig.start("writer", WRITER)
    rig.await_running(WRITER)
    assert server.client.get(COUNTER) is None
    gateway.replaces(8)
    until(lambda: server.client.get(COUNTER) == b"3", "three replaces")
    assert 50 <= server.client.ttl(COUNTER) <= 60
    gateway.replaces(12)
    until(lambda: server.client.get(COUNTER) == b"7", "four more in the same window")
    assert server.client.ttl(COUNTER) <= 60


# ---- on a clock of the test's own


def test_a_window_begins_with_its_first_replace_and_a_new_gateway_with_zero() -> None:
    arena = Arena.create(market_slots=1, worker_slots=1)
    gateway = Gateway(arena)
    count = ReplaceCount(arena)
    key = COUNTER.encode()

    def sent(now_ms: int) -> list[tuple[bytes, ...]]:
        return list(count.commands(now_ms))

    assert sent(NOW_MS) == []
    gateway.replaces(2)
    end = b"%d" % (NOW_MS + 60_000)
    assert sent(NOW_MS) == [(b"SET", key, b"2", b"PXAT", end)]
    assert sent(NOW_MS + 1) == []
    gateway.replaces(3)
    assert sent(NOW_MS + 59_999) == [(b"SET", key, b"3", b"PXAT", end)]
    assert sent(NOW_MS + 60_000) == []  # Redis ends the window by itself
    gateway.replaces(4)
    later = NOW_MS + 90_000
    assert sent(later) == [(b"SET", key, b"1", b"PXAT", b"%d" % (later + 60_000))]
    count.forget()
    assert sent(later + 1) == [(b"SET", key, b"1", b"PXAT", b"%d" % (later + 60_000))]
    gateway.replaces(1)
    assert sent(later + 2) == [(b"SET", key, b"1", b"PXAT", b"%d" % (later + 2 + 60_000))]


def test_the_oldest_leg_leaves_when_there_are_too_many() -> None:
    config = parse(MARKETS, "test").markets[0]
    assert isinstance(config, MarketConfig)
    arena = Arena.create(market_slots=1, worker_slots=1)
    arena.place_market(0, market_id="MKT-A", worker=0, tick_count=101)
    gateway, log = Gateway(arena), FillLog(arena, [config])
    redis: set[bytes] = set()

    def apply() -> None:
        for verb, _, *legs in log.commands():
            if verb == b"SADD":
                redis.update(legs)
            elif verb == b"SREM":
                redis.difference_update(legs)

    for number in range(1_200):
        gateway.fill(f"t-{number}")
        gateway.quoter_reads()
        log.look()
        if number % 7 == 0:
            apply()
    apply()
    assert redis == {f"t-{number}:B".encode() for number in range(200, 1_200)}
