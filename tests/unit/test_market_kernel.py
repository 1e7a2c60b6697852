"""A market's kernel memory: what markets of one configuration share, and what they must not."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from engine._native import ffi, lib
from engine.arena import Arena
from engine.config import QuoteConfig
from engine.workers.market_kernel import MarketKernel

DAY_MS = 86_400_000
START_MS = 1_790_000_000_000


def rules() -> Any:
    found = ffi.new("market_rules_record_t *")
    found.min_price_cents, found.max_price_cents = 1, 99
    found.maker_fee_bps, found.taker_fee_bps = 10, 20
    found.created_ms = START_MS - DAY_MS
    found.trading_end_ms = found.resolution_ms = START_MS + 29 * DAY_MS
    return found


def test_a_ramp_writes_into_its_own_markets_parameters_only() -> None:
    arena = Arena.create(market_slots=2, worker_slots=1)
    ramping, other = (MarketKernel(arena.market(slot)) for slot in (0, 1))
    before = QuoteConfig(config_ramp_enabled=True)
    after = structs.replace(before, base_spread_cents=before.base_spread_cents + 4)
    ramping.set_rules(before, rules(), START_MS)
    other.set_rules(after, rules(), START_MS)
    shared = bytes(ffi.buffer(other.native.params))
    ramping.set_rules(after, rules(), START_MS)
    phase = ramping.native.params.phases[lib.QUOTE_STABILIZATION]
    assert phase.half_spread_cents == before.base_spread_cents, "it begins where it was"
    for _ in range(10):
        ramping.ramp(1_000)
    assert phase.half_spread_cents == after.base_spread_cents
    assert bytes(ffi.buffer(other.native.params)) == shared
    other.set_rules(after, rules(), START_MS)  # the same values again: nothing to ramp from but themselves
    assert bytes(ffi.buffer(other.native.params)) == shared
