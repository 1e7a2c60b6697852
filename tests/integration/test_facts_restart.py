"""Facts across engines: kept by a real writer, found again on disk, in Redis, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import facts, facts_restore
from engine._native import lib
from engine.events import KillCause
from engine.facts import FactsError
from tests.integration.redis_server import Server
from tests.integration.worker_rig import WorkerRig, until, write_state
from tests.unit.test_facts import ROW, make_arena, row

WRITER = lib.PROCESS_WRITER


@pytest.fixture
def rig(tmp_path: Path, idle_server: Server) -> Iterator[WorkerRig]:
    document = {
        "redis": {"url": idle_server.url, "interval_ms": 10, "timeout_ms": 400},
        "markets": [{"id": "MKT-A"}, {"id": "MKT-B"}],
    }
    rig = WorkerRig(tmp_path, document)
    yield rig
    rig.close()


def test_a_kill_is_on_disk_although_redis_is_away_and_holds_in_the_next_engine(rig: WorkerRig) -> None:
    write_state(rig.arena, 0, **{**ROW, "kill_causes": 0})
    process = rig.start("writer", WRITER)
    until(lambda: facts.read(rig.run_dir, "MKT-A"), "the first facts")
    write_state(rig.arena, 0, **ROW)
    until(lambda: facts.read(rig.run_dir, "MKT-A").kill_causes, "the kill")  # type: ignore[union-attr]
    process.kill()
    arena = make_arena("MKT-A", "MKT-B")
    restored, fault = facts_restore.restore_all(arena, rig.run_dir, rig.config.redis)
    assert [known.market_id for known in restored] == ["MKT-A"]
    assert fault  # Redis is asked for the other one, and is away
    assert KillCause(row(arena)[1].kill_causes) == KillCause.DAILY_LOSS | KillCause.PRICE_JUMP


def test_the_last_facts_are_written_at_an_orderly_stop(rig: WorkerRig) -> None:
    write_state(rig.arena, 0, **ROW)
    process = rig.start("writer", WRITER)
    until(lambda: facts.read(rig.run_dir, "MKT-A"), "the first facts")
    write_state(rig.arena, 0, **{**ROW, "phase_volume": 1_000})
    process.terminate()
    assert process.wait(20) == 0
    told = facts.read(rig.run_dir, "MKT-A")
    assert told is not None
    assert told.phase_volume == 1_000


def test_redis_is_asked_where_the_file_is_missing(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    for slot in range(2):
        write_state(rig.arena, slot, **{**ROW, "last_requote_ms": 1, "fair_price_cents": 53})
    process = rig.start("writer", WRITER)
    until(lambda: idle_server.client.hgetall("amm:engine:MKT-B"), "both hashes")
    until(lambda: facts.read(rig.run_dir, "MKT-B"), "both files")
    process.terminate()
    process.wait(20)
    facts.path_of(rig.run_dir, "MKT-B").unlink()
    idle_server.client.hset("amm:engine:MKT-A", "kill_causes", "ADMIN")  # the file knows better
    arena = make_arena("MKT-A", "MKT-B")
    restored, fault = facts_restore.restore_all(arena, rig.run_dir, rig.config.redis)
    assert fault == ""
    assert [(known.market_id, known.phase_volume) for known in restored] == [("MKT-A", 412), ("MKT-B", 0)]
    for slot in range(2):
        assert KillCause(row(arena, slot)[1].kill_causes) == KillCause.DAILY_LOSS | KillCause.PRICE_JUMP


def test_an_engine_without_a_past_starts_without_facts(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    arena = make_arena("MKT-A", "MKT-B")
    assert facts_restore.restore_all(arena, rig.run_dir, rig.config.redis) == ([], "")
    assert row(arena)[0].kind == 0


def test_a_hash_that_cannot_be_read_stops_the_start(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    idle_server.client.hset("amm:engine:MKT-A", "started_at_ms", "long ago")
    with pytest.raises(FactsError, match="amm:engine:MKT-A"):
        facts_restore.restore_all(make_arena("MKT-A"), rig.run_dir, rig.config.redis)
