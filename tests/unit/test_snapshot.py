"""The arena as values: every field arrives, and a half-written row is nothing rather than nonsense."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import numpy as np
import pytest

from engine._native import ffi, lib
from engine.arena import Arena, cell, padded
from engine.config import MarketConfig, market_json
from engine.events import Direction, Gate, Kill, Lifecycle, MarketStatus, Outcome, Phase, ProcessState
from engine.quoting.phases import PhaseChange
from engine.quoting.transitions import PhaseReason
from engine.snapshot import QuoterState, book_messages_per_s, histogram, plain, quoter_state, take


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena.create(market_slots=3, worker_slots=2)
    for slot, market_id in ((0, "alpha"), (2, "beta")):
        made.place_market(slot, market_id=market_id, worker=slot // 2, tick_count=101)
        made.write_config(slot, 4, market_json(MarketConfig(id=market_id)))
    yield made
    os.close(made.fd)


def test_the_state_has_every_field_of_the_row() -> None:
    declared = {name for name, _ in ffi.typeof("quoter_state_t").fields if not name.startswith("reserved")}
    assert set(QuoterState.__struct_fields__) == declared


def test_every_field_of_the_state_comes_from_its_own_place() -> None:
    row = ffi.new("quoter_state_t *")
    expected: dict[str, object] = {}
    fields = dict(ffi.typeof("quoter_state_t").fields)
    for number, name in enumerate(sorted(QuoterState.__struct_fields__)):
        kind = fields[name].type
        if kind.kind == "array" and kind.item.kind == "primitive":
            values = [number + index for index in range(kind.length)]
            setattr(row, name, values)
            expected[name] = tuple(values)
            continue
        if name == "phase_log":
            row.phase_log[0] = {"timestamp_ms": 5, "from_phase": 0, "to_phase": 1, "reason": 2}
            expected[name] = (
                PhaseChange(
                    from_phase=Phase.EXPLORATION,
                    to_phase=Phase.STABILIZATION,
                    reason=PhaseReason.VOLUME_REACHED,
                    timestamp_ms=5,
                ),
            )
            continue
        value = 1 if name in ("lifecycle", "phase", "defense", "market_status") else number
        setattr(row, name, value)
        expected[name] = value
    state = quoter_state(row)
    assert {name: getattr(state, name) for name in expected} == expected
    assert isinstance(state.gates, Gate)
    assert (state.lifecycle, state.phase) == (Lifecycle.RUNNING, Phase.STABILIZATION)


def test_an_empty_arena_is_a_snapshot_too(arena: Arena) -> None:
    snapshot = take(arena)
    assert snapshot.processes == ()
    assert [(m.slot, m.market_id, m.worker, m.config_version) for m in snapshot.markets] == [
        (0, "alpha", 0, 4),
        (2, "beta", 1, 4),
    ]
    market = snapshot.markets[0]
    assert (market.state, market.account, market.orders) == (None, None, ())
    assert (market.kill, market.tick_to_quote_ns.count) == (Kill(0), 0)
    assert market.top is not None
    assert (market.top.bid_ticks, market.top.ask_ticks) == (None, None)
    json.dumps(plain(snapshot))


def test_a_market_is_read_whole(arena: Arena) -> None:
    struct = arena.market(2)
    lib.top_write(cell(struct, "top"), ffi.new("top_t *", {"bid_ticks": 48, "ask_ticks": -1, "valid": 1}))
    lib.account_write(
        cell(struct, "account"),
        ffi.new(
            "account_state_t *",
            {
                "cash_cents": 77,
                "funded": 1,
                "status": lib.MARKET_ACTIVE,
                "cursor_trade_id": padded("t-9", 64),
            },
        ),
    )
    order = {
        "state": lib.LIVE_ACTIVE,
        "outcome": lib.OUTCOME_NO,
        "direction": lib.DIRECTION_SELL,
        "price_cents": 52,
        "quantity": 100,
        "remaining": 40,
        "venue_order_id": padded("o" * 64, 64),
    }
    lib.live_order_write(ffi.addressof(struct.live_orders[63]), ffi.new("live_order_t *", order))
    lib.live_order_write(ffi.addressof(struct.live_orders[5]), ffi.new("live_order_t *"))  # freed again
    state = ffi.new("quoter_state_t *", {"fair_price_cents": 50, "gates": lib.GATE_POST_FILL})
    lib.state_write(
        cell(struct, "state"), lib.STATE_KIND_QUOTER, 3, 11, 12, state, ffi.sizeof("quoter_state_t")
    )
    lib.cell_add(cell(struct.feed, "messages"), 9)
    lib.cell_or(arena.kill_market(2), lib.KILL_WORKER_DEAD)
    lib.cell_or(arena.kill_global(), lib.KILL_STOPPING)
    market = take(arena).markets[1]
    assert market.top is not None
    assert (market.top.bid_ticks, market.top.ask_ticks) == (48, None)
    assert market.account is not None
    assert (market.account.cash_cents, market.account.status) == (77, MarketStatus.ACTIVE)
    assert market.account.cursor_trade_id == "t-9"
    (live,) = market.orders
    assert (live.slot, live.outcome, live.direction) == (63, Outcome.NO, Direction.SELL)
    assert (live.remaining, live.venue_order_id, live.state) == (40, "o" * 64, "active")
    assert market.state is not None
    assert (market.state.fair_price_cents, market.state.gates) == (50, Gate.POST_FILL)
    assert (market.state_version, market.state_worker_epoch) == (1, 3)
    assert (market.state_mono_ns, market.state_unix_ns) == (11, 12)
    assert market.feed.messages == 9
    assert plain(market.kill) == ["WORKER_DEAD", "STOPPING"]


@pytest.mark.parametrize("row", ["top", "account", "state"])
def test_a_row_whose_writer_died_inside_it_is_none(arena: Arena, row: str) -> None:
    struct = arena.market(0)
    lib.account_write(cell(struct, "account"), ffi.new("account_state_t *"))
    size = ffi.sizeof("quoter_state_t")
    lib.state_write(cell(struct, "state"), lib.STATE_KIND_QUOTER, 1, 1, 1, ffi.new("quoter_state_t *"), size)
    getattr(struct, row).sequence.value |= 1
    assert getattr(take(arena).markets[0], row) is None


def test_a_state_of_another_kind_is_not_misread(arena: Arena) -> None:
    lib.state_write(cell(arena.market(0), "state"), 99, 1, 1, 1, bytes(1024), 1024)
    assert take(arena).markets[0].state is None


def test_processes_are_the_rows_with_a_name(arena: Arena) -> None:
    row = arena.process(lib.PROCESS_GATEWAY)
    ffi.buffer(row.name)[:] = padded("gateway", 32)
    for field, value in (("pid", 5), ("state", lib.PROCESS_RUNNING), ("epoch", 2), ("cpu", 1)):
        lib.cell_store(cell(row, field), value)
    lib.cell_store(ffi.addressof(row.counters[6]), 12)
    (view,) = take(arena).processes
    assert (view.name, view.pid, view.state, view.epoch) == ("gateway", 5, ProcessState.RUNNING, 2)
    assert (view.cpu, view.planned_cpu, view.heartbeat_age_ns) == (0, None, None)
    assert view.counters["fills"] == 12


def test_percentiles_are_never_better_than_what_was_recorded() -> None:
    generator = np.random.default_rng(20240611)
    values = np.sort(generator.lognormal(mean=10, sigma=1.5, size=5_000).astype(np.uint64))
    recorded = ffi.new("histogram_t *")
    for value in values:
        lib.histogram_record(recorded, int(value))
    found = histogram(recorded)
    assert (found.count, found.max) == (len(values), values[-1])
    for permille, bound in ((500, found.p50), (900, found.p90), (990, found.p99), (999, found.p999)):
        exact = int(values[-(-len(values) * permille // 1000) - 1])
        assert bound is not None
        assert exact <= bound <= exact * 1.04


def test_one_value_is_every_percentile() -> None:
    recorded = ffi.new("histogram_t *")
    lib.histogram_record(recorded, 1_234_567)
    found = histogram(recorded)
    assert {found.mean, found.p50, found.p99, found.p999, found.max} == {1_234_567}


def test_rates_come_from_two_looks(arena: Arena) -> None:
    before = take(arena)
    lib.cell_add(cell(arena.market(0).feed, "messages"), 100)
    after = take(arena)
    elapsed_s = (after.mono_ns - before.mono_ns) / 1e9
    assert book_messages_per_s(before, after, "alpha") == pytest.approx(100 / elapsed_s)
    assert book_messages_per_s(before, after, "beta") == 0
    assert book_messages_per_s(before, before, "alpha") == 0
