"""Hot reload on a real arena and a real Valkey: what is handed over, what is refused, what a loss costs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import config_state, override_store
from engine._native import lib
from engine.alerts import Alert
from engine.config import MarketConfig, market_from_json, market_json
from engine.config.edit import Edit, Edited, edited
from engine.workers.control_config import Overrides
from engine.workers.process import WorkerProcess
from engine.workers.redis_link import RedisAddress, RedisFaultError, RedisLink
from tests.integration.redis_server import Server
from tests.integration.worker_rig import WorkerRig, alerts, until

CONTROL = lib.PROCESS_CONTROL
RELOAD_S = 5.0  # config_reload_interval_ms of the tests, the shortest allowed


@pytest.fixture
def rig(tmp_path: Path, server: Server) -> Iterator[WorkerRig]:
    document = {
        "redis": {"url": server.url, "timeout_ms": 400},
        "quote": {"config_reload_interval_ms": 5_000},
        "markets": [{"id": "A"}, {"id": "B", "quote": {"gamma_mid": 1.2}}],
    }
    rig = WorkerRig(tmp_path, document)
    for slot, market in enumerate(rig.config.markets):
        rig.arena.write_config(slot, 1, market_json(market))
    yield rig
    rig.close()


def in_force(rig: WorkerRig, slot: int = 0) -> tuple[int, MarketConfig]:
    version, payload = rig.arena.config_bytes(slot)
    return version, market_from_json(payload)


def overrides(rig: WorkerRig) -> Overrides:
    proc = WorkerProcess(
        run_dir=rig.run_dir,
        arena=rig.arena,
        config=rig.config,
        row_index=CONTROL,
        row_epoch=1,
        bells={},
        parent_pid=os.getpid(),
    )
    return Overrides(proc)


def poll(rig: WorkerRig, server: Server, found: Overrides) -> config_state.OverridesState:
    async def once() -> None:
        link = await RedisLink.connect(RedisAddress.parse(server.url), timeout_s=2.0)
        try:
            for market_id in found.markets:
                found.look_now(market_id)
            await found.poll(link)
        finally:
            link.close()

    asyncio.run(once())
    return config_state.read_state(rig.run_dir)


def put(server: Server, market_id: str, version: int, **fields: Any) -> None:
    server.client.hset(f"amm:config:{market_id}", mapping={"config_version": version, **fields})


def test_a_valid_override_becomes_a_new_version_of_its_market_alone(rig: WorkerRig, server: Server) -> None:
    found = overrides(rig)
    put(server, "A", 5, gamma_mid="1.4")
    state = poll(rig, server, found)
    version, market = in_force(rig)
    assert (version, market.quote.gamma_mid) == (5, 1.4)
    assert market.override is not None
    assert market.override.version == 5
    assert in_force(rig, 1)[0] == 1
    assert state == config_state.OverridesState()
    assert alerts(rig.arena, CONTROL, Alert.CONFIG_APPLIED) == 1


def test_only_a_raised_version_is_looked_into(rig: WorkerRig, server: Server) -> None:
    found = overrides(rig)
    put(server, "A", 5, gamma_mid="1.4")
    poll(rig, server, found)
    put(server, "A", 5, gamma_mid="1.6")
    poll(rig, server, found)
    assert in_force(rig)[1].quote.gamma_mid == 1.4
    put(server, "A", 6)
    poll(rig, server, found)
    assert in_force(rig)[1].quote.gamma_mid == 1.6


def test_what_is_refused_changes_nothing_and_says_why_once(rig: WorkerRig, server: Server) -> None:
    found = overrides(rig)
    before = in_force(rig)
    put(server, "A", 5, gamma_mid="1.4", gamma_long="NaN")
    put(server, "B", 3, gamma_mid="1.4")
    state = poll(rig, server, found)
    assert poll(rig, server, found) == state
    assert in_force(rig) == before
    assert in_force(rig, 1)[1].quote.gamma_mid == 1.4
    refused = state.refused["A"]
    assert refused.config_version == "5"
    assert "gamma_long='NaN'" in refused.reason
    assert alerts(rig.arena, CONTROL, Alert.CONFIG_REJECTED) == 1
    put(server, "A", 6, gamma_long="0.7")
    assert poll(rig, server, found).refused == {}
    assert in_force(rig)[1].quote.gamma_long == 0.7


def test_a_key_of_another_kind_concerns_its_market_alone(rig: WorkerRig, server: Server) -> None:
    found = overrides(rig)
    server.client.set("amm:config:A", "x")
    put(server, "B", 3, gamma_mid="1.4")
    state = poll(rig, server, found)
    assert list(state.refused) == ["A"]
    assert state.source_fault == ""
    assert in_force(rig, 1)[1].quote.gamma_mid == 1.4


def test_a_removed_or_expired_override_gives_the_file_its_say_back(rig: WorkerRig, server: Server) -> None:
    found = overrides(rig)
    put(server, "A", 5, gamma_mid="1.4")
    now_ms = time.time_ns() // 1_000_000
    put(server, "B", 5, gamma_mid="1.4", updated_at=now_ms, override_ttl_ms=300)
    poll(rig, server, found)
    assert in_force(rig, 1)[1].quote.gamma_mid == 1.4
    server.client.delete("amm:config:A")
    until(lambda: time.time_ns() // 1_000_000 >= now_ms + 300, "the override's time is over")
    poll(rig, server, found)
    assert in_force(rig) == (6, rig.config.markets[0])
    assert in_force(rig, 1) == (6, rig.config.markets[1])


def test_a_restart_writes_nothing_that_is_there_already(rig: WorkerRig, server: Server) -> None:
    put(server, "A", 5, gamma_mid="1.4")
    poll(rig, server, overrides(rig))
    poll(rig, server, overrides(rig))
    assert in_force(rig)[0] == 5


def test_a_version_below_the_slots_still_becomes_a_new_one(rig: WorkerRig, server: Server) -> None:
    found = overrides(rig)
    put(server, "A", 1, gamma_mid="1.4")
    poll(rig, server, found)
    assert in_force(rig)[0] == 2


def change(server: Server, rig: WorkerRig, edit: Any) -> Edited:
    async def once() -> Edited:
        link = await RedisLink.connect(RedisAddress.parse(server.url), timeout_s=2.0)
        try:
            return await override_store.change(link, "A", edit)
        finally:
            link.close()

    return asyncio.run(once())


def test_an_edit_is_written_in_one_transaction_or_not_at_all(rig: WorkerRig, server: Server) -> None:
    base = rig.config.markets[0]

    def edit(raw: Any, **values: Any) -> Edited:
        wish = Edit(values=values, by="ada")
        return edited(raw, wish, base=base, in_force=base, applied=1, now_ms=1_790_000_000_000)

    change(server, rig, lambda raw: edit(raw, gamma_mid=1.4))
    held = server.client.hgetall("amm:config:A")
    assert held == {
        b"gamma_mid": b"1.4",
        b"config_version": b"2",
        b"updated_at": b"1790000000000",
        b"updated_by": b"ada",
    }
    with pytest.raises(Exception, match=r"gamma_mid=9\.0"):
        change(server, rig, lambda raw: edit(raw, gamma_mid=9.0))
    assert server.client.hgetall("amm:config:A") == held

    tries: list[int] = []

    def edit_beside_another(raw: Any) -> Edited:
        tries.append(1)
        if len(tries) == 1:
            put(server, "A", 9, gamma_long="0.6")  # somebody else, between our look and our write
        return edit(raw, gamma_mid=1.6)

    assert change(server, rig, edit_beside_another).version == 10
    assert len(tries) == 2
    assert server.client.hget("amm:config:A", "gamma_long") == b"0.6"

    def never_alone(raw: Any) -> Edited:
        put(server, "A", 50 + len(tries), gamma_long="0.6")
        tries.append(1)
        return edit(raw, gamma_mid=1.6)

    with pytest.raises(RedisFaultError, match="changed by others 5 times"):
        change(server, rig, never_alone)


def test_the_process_polls_survives_a_lost_server_and_stops_in_order(rig: WorkerRig, server: Server) -> None:
    put(server, "A", 5, gamma_mid="1.4")
    process = rig.start("control", CONTROL)
    rig.await_running(CONTROL)
    until(lambda: in_force(rig)[0] == 5, "the override found at start")
    server.kill()
    until(lambda: config_state.read_state(rig.run_dir).source_fault, "the loss is noticed")
    assert in_force(rig)[1].quote.gamma_mid == 1.4
    server.start()  # it comes back empty
    until(lambda: not config_state.read_state(rig.run_dir).source_fault, "Redis is back")
    until(lambda: in_force(rig)[1] == rig.config.markets[0], "the file's values hold")
    put(server, "A", 7, gamma_mid="1.6")
    until(lambda: in_force(rig)[0] == 7, f"polled within {RELOAD_S} s", deadline_s=4 * RELOAD_S)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20.0) == 0
    assert alerts(rig.arena, CONTROL, Alert.CONFIG_SOURCE_LOST) == 1
