"""The facts of a market: from the state row to disk or Redis, and back into the row of a new engine."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine import facts
from engine._native import ffi, lib
from engine.arena import Arena
from engine.events import KillCause
from engine.facts import Facts, FactsError
from engine.workers import redis_rows
from engine.workers.facts_keeper import FactsKeeper
from tests.integration.worker_rig import write_state

NOW_MS = 1_790_000_000_000
ROW: dict[str, Any] = {
    "started_at_ms": NOW_MS,
    "kill_causes": int(KillCause.DAILY_LOSS | KillCause.PRICE_JUMP),
    "kill_switch": 1,
    "phase": lib.PHASE_STABILIZATION,
    "phase_since_ms": NOW_MS + 60_000,
    "phase_volume": 412,
    "rollback_until_ms": NOW_MS + 1,
    "phase_log": [{"timestamp_ms": NOW_MS + 60_000, "from_phase": 0, "to_phase": 1, "reason": 2}],
    "posterior": 52.125,
    "day": 739_941,
    "day_start_assets_cents": 500_000,
    "net_flows_cents": -2_500,
    "total_fills_today": 31,
    "start_assets_cents": 499_000,
    "flows_cents": 7,
    "spread_pnl_cents": 120,
    "inventory_pnl_cents": -60_000,
    "fees_paid_cents": 44,
    "budget_used_cents": 51_000,
    "corrections_cents": -3,
    "mark_cents": 53,
    "lvr_cooldown_until_ms": NOW_MS + 5_000,
    "last_supply_ms": NOW_MS + 2,
    "inventory_version": 977,
}


def make_arena(*markets: str) -> Arena:
    arena = Arena.create(market_slots=len(markets), worker_slots=1)
    for slot, market in enumerate(markets):
        arena.place_market(slot, market_id=market, worker=0, tick_count=101)
    return arena


def row(arena: Arena, slot: int = 0) -> tuple[Any, Any]:
    header, state = ffi.new("state_header_t *"), ffi.new("quoter_state_t *")
    pointer = ffi.addressof(arena.market(slot), "state")
    assert lib.state_read(pointer, header, state, ffi.sizeof("quoter_state_t")) == lib.RING_OK
    return header, state


def test_what_a_row_says_comes_back_whole(tmp_path: Path) -> None:
    before = ffi.new("quoter_state_t *", ROW)
    told = facts.from_state("MKT-A", before)
    assert told is not None
    assert told.kill_causes == ["DAILY_LOSS", "PRICE_JUMP"]
    assert (told.day, told.phase) == ("2026-11-21", "STABILIZATION")
    path = facts.path_of(tmp_path, "MKT-A")
    path.parent.mkdir()
    path.write_bytes(facts.encoded(told))
    arena = make_arena("MKT-A")
    read = facts.read(tmp_path, "MKT-A")
    assert read == told
    facts.restore(arena, 0, told)
    header, after = row(arena)
    assert header.kind == lib.STATE_KIND_QUOTER
    after.recovering = before.recovering
    assert ffi.buffer(after)[:] == ffi.buffer(before)[:]  # and nothing else


def test_a_restored_row_is_not_published_as_current() -> None:
    arena = make_arena("MKT-A")
    facts.restore(arena, 0, Facts(market_id="MKT-A", started_at_ms=1, mark_cents=50))
    _, state = row(arena)
    assert redis_rows.inventory_fields(state, 10**18) is None
    assert redis_rows.state_fields(state) is None


def test_redis_holds_what_the_file_would() -> None:
    state = ffi.new(
        "quoter_state_t *", {**ROW, "last_requote_ms": 1, "fair_price_cents": 53, "daily_pnl_cents": -421}
    )
    engine = redis_rows.engine_fields(state, ffi.new("account_state_t *"))
    shown = redis_rows.state_fields(state)
    assert engine is not None
    assert shown is not None
    told = facts.from_redis(
        "MKT-A",
        dict(zip(engine[::2], engine[1::2], strict=True)),
        dict(zip(shown[::2], shown[1::2], strict=True)),
    )
    whole = facts.from_state("MKT-A", state)
    assert told is not None
    assert whole is not None
    assert told.start_assets_cents == ROW["day_start_assets_cents"] + ROW["net_flows_cents"] - 421
    assert told.mark_cents == 53
    only_on_disk = {
        *("phase_volume", "rollback_until_ms", "start_assets_cents", "flows_cents", "spread_pnl_cents"),
        *("inventory_pnl_cents", "fees_paid_cents", "budget_used_cents", "corrections_cents", "mark_cents"),
        *("lvr_cooldown_until_ms", "last_supply_ms"),
    }
    for name in set(Facts.__struct_fields__) - only_on_disk:
        assert getattr(told, name) == getattr(whole, name), name


@pytest.mark.parametrize(
    "engine",
    [
        {b"started_at_ms": b"soon"},
        {b"started_at_ms": b"1", b"phase_log": b"{"},
        {b"started_at_ms": b"1", b"posterior_cents": b"1000"},
        {b"started_at_ms": b"1", b"day_start_assets": b"5.5"},
    ],
)
def test_a_hash_that_cannot_be_read_is_an_error_not_a_default(engine: dict[bytes, bytes]) -> None:
    with pytest.raises(FactsError, match="amm:engine:MKT-A"):
        facts.from_redis("MKT-A", engine, {})


def test_no_hash_is_no_facts() -> None:
    assert facts.from_redis("MKT-A", {}, {b"phase": b"STABILIZATION"}) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"market_id":"MKT-A"}',
        b'{"market_id":"MKT-B","started_at_ms":1}',
        b'{"market_id":"MKT-A","started_at_ms":1,"kill_causes":"SKEW"}',
        b'{"market_id":"MKT-A","started_at_ms":1,"surprise":1}',
    ],
)
def test_a_damaged_file_stops_the_start(tmp_path: Path, content: bytes) -> None:
    path = facts.path_of(tmp_path, "MKT-A")
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(FactsError, match="move it away"):
        facts.read(tmp_path, "MKT-A")


@pytest.mark.parametrize("changes", [{"kill_causes": ["BOREDOM"]}, {"phase": "PANIC"}, {"day": "yesterday"}])
def test_a_name_unknown_here_is_an_error(changes: dict[str, Any]) -> None:
    told = msgspec.structs.replace(Facts(market_id="MKT-A", started_at_ms=1), **changes)
    with pytest.raises(FactsError, match="MKT-A"):
        facts.restore(make_arena("MKT-A"), 0, told)


# ---- the keeper


class Keeper:
    def __init__(self, run_dir: Path, *markets: str) -> None:
        self.run_dir = run_dir
        self.arena = make_arena(*markets)
        self.keeper = FactsKeeper(self.arena, run_dir)

    def look(self, *, everything: bool = False) -> None:
        asyncio.run(self.keeper.look(everything=everything))

    def file(self, market: str = "MKT-A") -> Facts | None:
        return facts.read(self.run_dir, market)


def test_facts_are_written_on_change_and_private(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, "MKT-A", "MKT-B")
    keeper.look()
    assert keeper.file() is None
    write_state(keeper.arena, 0, **ROW)
    keeper.look()
    path = facts.path_of(tmp_path, "MKT-A")
    first = path.stat()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    write_state(keeper.arena, 0, **{**ROW, "last_requote_ms": 77})  # no fact
    keeper.look(everything=True)
    assert path.stat().st_ino == first.st_ino
    assert keeper.file("MKT-B") is None
    assert [entry.name for entry in path.parent.iterdir()] == ["MKT-A.json"]


def test_at_most_once_a_second_but_kill_causes_at_once(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, "MKT-A")
    write_state(keeper.arena, 0, **{**ROW, "kill_causes": 0})
    keeper.look()
    write_state(keeper.arena, 0, **{**ROW, "kill_causes": 0, "phase_volume": 999})
    assert keeper.keeper.due(lib.mono_now_ns()) == []
    assert len(keeper.keeper.due(lib.mono_now_ns() + 1_000_000_000)) == 1
    write_state(keeper.arena, 0, **{**ROW, "kill_causes": int(KillCause.SKEW)})
    keeper.look()
    told = keeper.file()
    assert told is not None
    assert told.kill_causes == ["SKEW"]


def test_a_disk_that_refuses_is_tried_again(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, "MKT-A")
    blocked = tmp_path / facts.FACTS_DIRECTORY
    blocked.write_bytes(b"not a directory")
    write_state(keeper.arena, 0, **ROW)
    keeper.look()
    blocked.unlink()
    keeper.look()
    assert keeper.file() is not None
