"""What a market takes in memory and in Redis, by the engine's own encoders, against what was promised."""

from __future__ import annotations

import tracemalloc
from typing import Any, Final

from msgspec import Struct

from engine._native import ffi, lib
from engine.config import QuoteConfig
from engine.config.override import FLAT_FIELDS, text_of
from engine.events import Side
from engine.quoting.inventory import AppliedTrades, leg_id
from engine.workers import redis_rows
from perf.feeding import START_UNIX_MS, TICKS

LEGS: Final = 100_000
LARGE_CENTS: Final = 25_000_000  # a quarter of a million dollars
VENUE_ID: Final = b"00000000-0000-4000-a000-000000000001"  # the platform's ids are UUIDs


class Size(Struct, frozen=True, kw_only=True):
    """Bytes of one thing, and the most they may be."""

    what: str
    bytes: int
    limit: int


def _state() -> Any:
    """A row with every number of a busy market at its widest."""
    state = ffi.new("quoter_state_t *")
    for name in (
        "yes_volume",
        "no_volume",
        "yes_available",
        "no_available",
        "yes_cost_sum_cents",
        "no_cost_sum_cents",
        "cash_cents",
    ):
        setattr(state, name, LARGE_CENTS)
    state.daily_pnl_cents = -LARGE_CENTS
    state.updated_at_ms = state.last_requote_ms = state.lvr_cooldown_until_ms = START_UNIX_MS
    state.phase = lib.PHASE_STABILIZATION
    state.defense = lib.DEFENSE_KILL_SWITCH
    state.fair_price_cents = 99
    state.sigma, state.skew = 2.0 / 3, -1.0 / 3
    state.total_fills_today = 100_000
    return state


def _order() -> Any:
    order = ffi.new("live_order_t *")
    order.state, order.outcome, order.direction = lib.LIVE_ACTIVE, lib.OUTCOME_YES, lib.DIRECTION_SELL
    order.price_cents, order.quantity, order.remaining = 99, 100_000, 100_000
    order.created_ms = START_UNIX_MS
    order.venue_order_id = VENUE_ID
    return order


def _config() -> int:
    """The flat fields of ``amm:config`` with the specification's defaults."""
    quote = QuoteConfig()
    return sum(len(name) + len(text_of(getattr(quote, name))) for name in FLAT_FIELDS)


def _bytes(fields: tuple[bytes, ...] | None) -> int:
    assert fields is not None, "there is nothing to publish"
    return sum(map(len, fields))


def dedup_set(legs: int) -> int:
    """Bytes that a quoter's set of applied trade legs holds with so many of them."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        applied = AppliedTrades()
        for number in range(legs):
            applied.add(leg_id(f"{number:08x}-0000-4000-a000-000000000001", Side.BID))
        after, _ = tracemalloc.get_traced_memory()
        assert len(applied) == legs
    finally:
        tracemalloc.stop()
    return after - before


def sizes() -> list[Size]:
    """Everything that was promised a limit. Redis: names and values."""
    state = _state()
    found = (
        ("Redis, inventory hash", _bytes(redis_rows.inventory_fields(state, START_UNIX_MS * 1_000_000)), 200),
        ("Redis, state hash", _bytes(redis_rows.state_fields(state)), 300),
        (f"Redis, the {len(FLAT_FIELDS)} fields of the configuration", _config(), 400),
        ("Redis, one order", _bytes(redis_rows.live_order(_order())), 200),
        ("strategy state of a market", ffi.offsetof("quoter_state_t", "book_messages"), 512),
        ("order book of a 99-tick market", int(lib.orderbook_bytes(TICKS)), 10 * 1024),
        (f"dedup set with {LEGS:,} legs", dedup_set(LEGS), 10_000_000),
        ("dedup set, empty", dedup_set(0), 2_048),
    )
    return [Size(what=what, bytes=size, limit=limit) for what, size, limit in found]
