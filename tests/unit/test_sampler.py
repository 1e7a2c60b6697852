"""Gates sampled from the state board become exact spans of free time."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest

from engine._native import ffi, lib
from engine.arena import Arena
from engine.events import Gate, Kill
from engine.sampler import EngineSampler, MarketSampler, last_core
from engine.snapshot import take

MS = 1_000_000
START_NS = 1_700_000_000_000 * MS


class Board:
    """One market whose quoter we are: publishes rows at times in ms after START."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.row = ffi.addressof(arena.market(0), "state")
        self.state: Any = ffi.new("quoter_state_t *")

    def publish(
        self,
        at_ms: int,
        *,
        gate: Gate | None = None,
        ungated_ms: int = 0,
        reservation: float = 50.0,
        touch: tuple[int, int] = (50, 54),
    ) -> None:
        self.state.gates = int(gate or 0)
        self.state.ungated_ns = ungated_ms * MS
        self.state.reservation = reservation
        self.state.touch_bid_cents, self.state.touch_ask_cents = touch
        size = ffi.sizeof("quoter_state_t")
        at_ns = START_NS + at_ms * MS
        code = lib.state_write(self.row, lib.STATE_KIND_QUOTER, 1, at_ns, at_ns, self.state, size)
        assert code == lib.RING_OK

    def first_quote(self, at_ms: int) -> None:
        self.state.first_quote_unix_ms = START_NS // MS + at_ms


@pytest.fixture
def board() -> Board:
    arena = Arena.create(market_slots=1, worker_slots=1)
    arena.place_market(0, market_id="MKT-DEMO-01", worker=0, tick_count=101)
    return Board(arena)


def free_ms(sampler: MarketSampler, until_ms: int) -> list[tuple[int, int]]:
    spans = sampler.free_spans(START_NS + until_ms * MS)
    return [((start - START_NS) // MS, (end - START_NS) // MS) for start, end in spans]


def look(sampler: MarketSampler, at_ms: int) -> None:
    sampler.look(START_NS + at_ms * MS)


def test_nothing_counts_before_the_first_quote(board: Board) -> None:
    sampler = MarketSampler(board.arena, 0, price_range=None)
    look(sampler, 5)
    board.publish(10)
    look(sampler, 20)
    assert sampler.first_quote_unix_ns is None
    assert free_ms(sampler, 100) == []


def test_changes_between_two_looks_are_placed_exactly(board: Board) -> None:
    sampler = MarketSampler(board.arena, 0, price_range=None)
    board.first_quote(100)
    board.publish(110, ungated_ms=10)
    look(sampler, 115)
    # gated since 123, published several times since
    board.publish(140, gate=Gate.POST_FILL, ungated_ms=23)
    look(sampler, 145)
    # released at 2623
    board.publish(2640, ungated_ms=23 + 17)
    look(sampler, 2645)
    assert free_ms(sampler, 3000) == [(100, 123), (2623, 3000)]
    assert sampler.gated_ns == {"POST_FILL": 30 * MS}, "counted per look: those that saw the gate"


def test_a_kill_word_gates_a_market_whose_quoter_is_dead(board: Board) -> None:
    sampler = MarketSampler(board.arena, 0, price_range=None)
    board.first_quote(0)
    board.publish(0)
    look(sampler, 0)
    lib.cell_or(board.arena.kill_market(0), int(Kill.WORKER_DEAD))
    look(sampler, 50)
    look(sampler, 70)
    lib.cell_clear(board.arena.kill_market(0), int(Kill.WORKER_DEAD))
    look(sampler, 90)
    assert free_ms(sampler, 100) == [(0, 50), (90, 100)]
    assert sampler.kills == 1
    assert sampler.gated_ns == {"KILL_WORD": 70 * MS}


def test_the_orderly_stop_is_no_kill(board: Board) -> None:
    sampler = MarketSampler(board.arena, 0, price_range=None)
    board.first_quote(0)
    board.publish(0)
    lib.cell_or(board.arena.kill_global(), int(Kill.STOPPING))
    look(sampler, 10)
    assert sampler.kills == 0
    assert free_ms(sampler, 100) == []


def test_time_outside_the_price_range_does_not_count(board: Board) -> None:
    sampler = MarketSampler(board.arena, 0, price_range=(5, 95))
    board.first_quote(0)
    board.publish(0)
    look(sampler, 0)
    board.publish(100, ungated_ms=100, touch=(93, 0))  # the ask would be 96: dropped
    look(sampler, 100)
    board.publish(200, ungated_ms=200, touch=(92, 95))
    look(sampler, 200)
    assert free_ms(sampler, 300) == [(0, 100), (200, 300)]


def test_all_markets_quote_when_the_last_one_does(board: Board) -> None:
    sampler = EngineSampler(board.arena)
    sampler.look()
    assert sampler.all_quoting_since_unix_ns is None
    board.first_quote(42)
    board.publish(50)
    sampler.look()
    assert sampler.all_quoting_since_unix_ns == START_NS + 42 * MS


def test_the_kernel_says_where_a_process_ran() -> None:
    import os

    core = last_core(os.getpid())
    assert core in range(os.cpu_count() or 1)
    assert last_core(2**22 + 1) is None


@pytest.mark.parametrize("width", [80, 200])
def test_the_live_view_shows_every_market_and_process(board: Board, width: int) -> None:
    from rich.console import Console, Group

    from engine.liveview import live_tables, processes_line

    board.first_quote(10)
    board.state.own_bid_orders = board.state.own_ask_orders = 5
    board.state.fair_price_cents = 52
    board.state.lifecycle = lib.LIFECYCLE_RUNNING
    board.state.market_status = lib.MARKET_ACTIVE
    board.publish(20, reservation=52.3)
    board.arena.write_config(0, 1, b'{"id":"MKT-DEMO-01"}')
    snapshot = take(board.arena)
    console = Console(width=width, record=True, file=StringIO())
    tables = live_tables(snapshot, snapshot, width=width)
    console.print(Group(*tables, processes_line(snapshot, {})))
    shown = console.export_text()
    for words in ("MKT-DEMO-01", "52.3", "50/54", "quoting"):
        assert words in shown
