"""What a state row says of a decision's inputs, on the kernel of a market."""

from __future__ import annotations

from engine._native import ffi, lib
from engine.arena import Arena
from engine.workers.clock import Clock
from engine.workers.market_kernel import MarketKernel

CLOCK = Clock(mono_ns=5_000_000, unix_ms=1_000)


def test_a_market_without_a_decision_has_no_ladder_and_no_oracle() -> None:
    arena = Arena.create(market_slots=1, worker_slots=1)
    kernel = MarketKernel(arena.market(0))
    state = ffi.new("quoter_state_t *", {"target_bid_cents": [7] * 10, "gamma": 1.5})
    kernel.describe(state, CLOCK)
    assert (state.oracle_price_ticks, state.oracle_last_ticks, state.oracle_recv_mono_ns) == (-1, -1, 0)
    assert (state.target_bid_count, state.target_ask_count, state.feed_latency_us) == (0, 0, 0)
    assert list(state.target_bid_cents) == [0] * 10
    assert state.gamma == 1.5


def test_the_ladder_touch_first_and_its_largest_size() -> None:
    arena = Arena.create(market_slots=1, worker_slots=1)
    kernel = MarketKernel(arena.market(0))
    target = kernel.target
    target.bid_count, target.ask_count = 2, 1
    target.bids[0].price_ticks, target.bids[0].lots = 48, 100
    target.bids[1].price_ticks, target.bids[1].lots = 45, 70
    target.asks[0].price_ticks, target.asks[0].lots = 52, 1 << 40
    kernel.oracle.price_ticks = kernel.oracle.last_ticks = 61
    kernel.oracle.recv_mono_ns = 9
    kernel.trades.price_count = 12
    for number in range(lib.FEED_DELAY_MESSAGES):
        lib.feed_delay_add(ffi.addressof(kernel.native, "delay"), 900_000_000 + number, 5_000_000)
    state = ffi.new("quoter_state_t *")
    kernel.describe(state, CLOCK)
    assert list(state.target_bid_cents)[:3] == [48, 45, 0]
    assert list(state.target_bid_lots)[:3] == [100, 70, 0]
    assert (state.target_ask_count, state.target_ask_cents[0], state.target_ask_lots[0]) == (1, 52, 65_535)
    assert (state.oracle_price_ticks, state.oracle_last_ticks, state.oracle_recv_mono_ns) == (61, 61, 9)
    assert state.sigma_trades == 0  # the window's length is a parameter, which comes with the rules
    assert state.feed_latency_us == 99_999  # at 900 ms of venue time, arrived at 1000 ms
