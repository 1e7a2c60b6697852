"""A person's oracle price: from the command through Redis and the relay of control to ingest's ring."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import oracle_operator, oracle_store
from engine._native import ffi, lib
from engine.alerts import counts
from engine.arena import Arena, cell, unpadded
from engine.config import ConfigError, parse
from engine.oracle_store import OracleValueError
from engine.workers.control_oracle import OracleRelay
from engine.workers.process import WorkerProcess
from engine.workers.redis_link import RedisAddress, RedisLink
from tests.integration.redis_server import Server
from tests.integration.worker_rig import WorkerRig, until

NOW_MS = 1_790_000_000_000


class Rig:
    """A run directory, a server, the relay, and ingest's end of the command ring."""

    def __init__(self, tmp_path: Path) -> None:
        self.server = Server(tmp_path)
        self.server.start()
        operator = {"source": "operator"}
        markets = [{"id": "MKT-A", "oracle": operator}, {"id": "MKT-B"}, {"id": "MKT-C", "oracle": operator}]
        self.workers = WorkerRig(tmp_path, {"redis": {"url": self.server.url}, "markets": markets})
        self.arena: Arena = self.workers.arena
        self.run_dir = tmp_path
        row = self.arena.process(lib.PROCESS_CONTROL)
        lib.cell_store(cell(row, "epoch"), 1)
        self.proc = WorkerProcess(
            run_dir=tmp_path,
            arena=self.arena,
            config=self.workers.config,
            row_index=lib.PROCESS_CONTROL,
            row_epoch=1,
            bells={},
            parent_pid=os.getppid(),
        )
        self.relay = OracleRelay(self.proc)

    def poll(self) -> list[tuple[int, int]]:
        """One look of the relay; what ingest was told: (market slot, price in cents, 0 = none)."""

        async def step() -> None:
            link = await RedisLink.connect(RedisAddress.parse(self.server.url), timeout_s=2.0)
            try:
                await self.relay.poll(link)
            finally:
                link.close()

        asyncio.run(step())
        return [(int(c.market_slot), int(c.amount_cents)) for c in self.commands()]

    def commands(self) -> list[Any]:
        ring = self.arena.command_ring(lib.PROCESS_INGEST)
        buffer = ffi.new("command_record_t[]", 64)
        count = lib.message_peek(ring, lib.COMMAND_RING_SLOTS, buffer, 64)
        lib.message_release(ring, count)
        self._keep = buffer
        return [buffer[index] for index in range(count)]

    def say(self, market: str, price_cents: int | None, ttl_s: float = 60.0) -> str:
        return oracle_operator.say(self.run_dir, market, price_cents=price_cents, ttl_s=ttl_s)

    def close(self) -> None:
        self.server.kill()
        self.workers.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def test_a_price_reaches_ingest_once(rig: Rig) -> None:
    assert rig.poll() == []
    before_ms = time.time_ns() // 1_000_000
    assert rig.say("MKT-A", 62) == "MKT-A: oracle price 62 cents for 60 s"
    hash_ = rig.server.client.hgetall("amm:oracle:MKT-A")
    assert set(hash_) == {b"price_cents", b"set_at_ms", b"set_by", b"ttl_ms"}
    assert 0 < rig.server.client.pttl("amm:oracle:MKT-A") <= 60_000
    asyncio.run(_poll_once(rig))
    (command,) = rig.commands()
    assert (command.kind, command.market_slot, command.amount_cents) == (lib.COMMAND_ORACLE, 0, 62)
    assert before_ms <= command.set_unix_ms <= time.time_ns() // 1_000_000
    assert command.until_unix_ms == command.set_unix_ms + 60_000
    assert unpadded(command.reason) == hash_[b"set_by"].decode()
    assert rig.poll() == []


async def _poll_once(rig: Rig) -> None:
    link = await RedisLink.connect(RedisAddress.parse(rig.server.url), timeout_s=2.0)
    await rig.relay.poll(link)
    link.close()


def test_changes_clears_and_the_end_of_a_price_are_told(rig: Rig) -> None:
    rig.say("MKT-A", 62)
    rig.say("MKT-C", 30, ttl_s=1.0)
    assert sorted(rig.poll()) == [(0, 62), (2, 30)]
    rig.say("MKT-A", 63)
    assert rig.poll() == [(0, 63)]
    assert rig.say("MKT-A", None) == "MKT-A: oracle price cleared"
    assert rig.poll() == [(0, 0)]
    until(lambda: rig.poll() == [(2, 0)], "the second price ends by itself")


def test_a_new_ingest_is_told_again(rig: Rig) -> None:
    rig.say("MKT-A", 62)
    assert rig.poll() == [(0, 62)]
    lib.cell_add(cell(rig.arena.process(lib.PROCESS_INGEST), "attached_epoch"), 1)
    assert rig.poll() == [(0, 62)]
    assert rig.poll() == []


def test_a_full_ring_is_tried_again(rig: Rig) -> None:
    ring = rig.arena.command_ring(lib.PROCESS_INGEST)
    filler = ffi.new("command_record_t *")
    for _ in range(lib.COMMAND_RING_SLOTS):
        assert lib.message_publish(ring, lib.COMMAND_RING_SLOTS, rig.proc.token, filler) == lib.RING_OK
    rig.say("MKT-A", 62)
    asyncio.run(_poll_once(rig))
    assert len(rig.commands()) == lib.COMMAND_RING_SLOTS
    assert rig.poll() == [(0, 62)]


def test_a_hash_that_breaks_the_rules_is_no_price_and_one_alert(rig: Rig) -> None:
    rig.say("MKT-A", 62)
    assert rig.poll() == [(0, 62)]
    rig.server.client.hset("amm:oracle:MKT-A", "price_cents", "62.5")
    assert rig.poll() == [(0, 0)]
    assert rig.poll() == []
    rig.server.client.delete("amm:oracle:MKT-A")
    rig.server.client.set("amm:oracle:MKT-A", "62")
    assert rig.poll() == []
    assert [(alert.name, alert.count) for alert in counts(rig.proc.row)] == [("ORACLE_UNUSABLE", 2)]


def test_what_the_command_refuses(rig: Rig) -> None:
    with pytest.raises(OracleValueError, match=r"price_cents=100: must be within 1\.\.99"):
        rig.say("MKT-A", 100)
    with pytest.raises(OracleValueError, match=r"ttl_ms=500: must be within 1000\.\.86400000"):
        rig.say("MKT-A", 50, ttl_s=0.5)
    with pytest.raises(OracleValueError, match="'MKT-X' is not in this run: MKT-A, MKT-B, MKT-C"):
        rig.say("MKT-X", 50)
    with pytest.raises(ConfigError, match="MKT-B: its oracle is none"):
        rig.say("MKT-B", 50)
    rig.server.kill()
    with pytest.raises(ConfigError, match="redis: "):
        rig.say("MKT-A", 50)


GOOD = {b"price_cents": b"50", b"set_at_ms": b"%d" % NOW_MS, b"set_by": b"ann", b"ttl_ms": b"1000"}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({b"price_cents": b"0"}, "price_cents=0"),
        ({b"price_cents": b"-5"}, "not a whole number"),
        ({b"price_cents": b"5 0"}, "not a whole number"),
        ({b"ttl_ms": b"86400001"}, "ttl_ms=86400001"),
        ({b"ttl_ms": b""}, "not a whole number"),
        ({b"set_at_ms": b"%d" % (NOW_MS + 60_001)}, "in the future"),
        ({b"set_by": b"x" * 65}, "65 characters"),
        ({b"color": b"red"}, "color"),
    ],
)
def test_hashes_that_are_refused(changes: dict[bytes, bytes], rule: str) -> None:
    with pytest.raises(OracleValueError, match=rule):
        oracle_store.parse(GOOD | changes, now_ms=NOW_MS)


def test_a_hash_and_its_end() -> None:
    price = oracle_store.parse(GOOD, now_ms=NOW_MS + 999)
    assert price is not None
    assert (price.price_cents, price.set_by) == (50, "ann")
    assert oracle_store.parse(GOOD, now_ms=NOW_MS + 1_000) is None
    assert oracle_store.parse({}, now_ms=NOW_MS) is None
    with pytest.raises(OracleValueError, match="ttl_ms"):
        oracle_store.parse({b"price_cents": b"50"}, now_ms=NOW_MS)


def test_a_market_whose_oracle_is_another_kind_is_named() -> None:
    document = {"markets": [{"id": "MKT-A", "oracle": {"source": "kalshi", "ticker": "KX-1"}}]}
    assert parse(document, "test").markets[0].oracle is not None
    with pytest.raises(ConfigError, match="source"):
        parse({"markets": [{"id": "MKT-A", "oracle": {"source": "crystal ball"}}]}, "test")
