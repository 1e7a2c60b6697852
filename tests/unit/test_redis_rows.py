"""Exactness of the Redis hashes: name, unit and form of every field (market-making §2.2-§2.4)."""

from datetime import date

import orjson
import pytest

from engine._native import ffi, lib
from engine.workers import redis_rows

ROW_UNIX_NS = 1_790_000_000_123_456_789


def state(**fields):
    return ffi.new("quoter_state_t *", fields)


def account(**fields):
    return ffi.new("account_state_t *", fields)


def order(**fields):
    known = {
        "state": lib.LIVE_ACTIVE,
        "outcome": lib.OUTCOME_YES,
        "direction": lib.DIRECTION_BUY,
        "price_cents": 48,
        "quantity": 100,
        "remaining": 60,
        "created_ms": 1_790_000_000_001,
        "venue_order_id": b"ord-1",
    }
    return ffi.new("live_order_t *", {**known, **fields})


def as_dict(fields):
    return dict(zip(fields[::2], fields[1::2], strict=True))


INVENTORY = {
    "yes_volume": 2_500,
    "no_volume": 2_480,
    "yes_available": 2_100,
    "no_available": 2_080,
    "yes_cost_sum_cents": 125_000,
    "no_cost_sum_cents": 124_000,
    "cash_cents": 249_999,
}


def test_inventory_has_exactly_its_eight_fields():
    found = redis_rows.inventory_fields(state(**INVENTORY, updated_at_ms=1), ROW_UNIX_NS)
    assert as_dict(found) == {
        b"yes_volume": b"2500",
        b"no_volume": b"2480",
        b"yes_available": b"2100",
        b"no_available": b"2080",
        b"yes_cost_sum_cents": b"125000",
        b"no_cost_sum_cents": b"124000",
        b"cash_cents": b"249999",
        b"updated_at_ms": b"1790000000123",
    }


def test_inventory_time_never_goes_behind_the_quoters_own():
    found = redis_rows.inventory_fields(state(updated_at_ms=1_790_000_000_500), ROW_UNIX_NS)
    assert as_dict(found)[b"updated_at_ms"] == b"1790000000500"


def test_inventory_largest_values_keep_every_digit():
    found = redis_rows.inventory_fields(state(updated_at_ms=1, cash_cents=2**63 - 1), ROW_UNIX_NS)
    assert as_dict(found)[b"cash_cents"] == b"9223372036854775807"


@pytest.mark.parametrize("fields", [{"updated_at_ms": 0}, {"updated_at_ms": 1, "recovering": 1}])
def test_unconfirmed_inventory_is_not_published(fields):
    assert redis_rows.inventory_fields(state(**fields), ROW_UNIX_NS) is None


STATE = {
    "phase": lib.PHASE_STABILIZATION,
    "fair_price_cents": 53,
    "sigma": 2.5,
    "skew": -0.125,
    "last_requote_ms": 1_790_000_000_100,
    "daily_pnl_cents": -421,
    "total_fills_today": 17,
    "lvr_cooldown_until_ms": 1_790_000_005_000,
    "kill_switch": 0,
    "defense": lib.DEFENSE_ONE_SIDE,
}


def test_state_has_exactly_its_ten_fields():
    assert as_dict(redis_rows.state_fields(state(**STATE))) == {
        b"phase": b"STABILIZATION",
        b"fair_price_cents": b"53",
        b"sigma_cents": b"2.5",
        b"inventory_skew": b"-0.125",
        b"last_requote_ms": b"1790000000100",
        b"daily_pnl_cents": b"-421",
        b"total_fills_today": b"17",
        b"lvr_cooldown_until": b"1790000005000",
        b"kill_switch": b"OFF",
        b"defense_level": b"ONE_SIDE",
    }


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"phase": lib.PHASE_EXPLORATION}, b"phase", b"EXPLORATION"),
        ({"defense": lib.DEFENSE_NORMAL}, b"defense_level", b"NORMAL"),
        ({"defense": lib.DEFENSE_WIDEN}, b"defense_level", b"WIDEN"),
        ({"defense": lib.DEFENSE_KILL_SWITCH}, b"defense_level", b"KILL_SWITCH"),
        ({"kill_switch": 1}, b"kill_switch", b"ON"),
        ({"lvr_cooldown_until_ms": 0}, b"lvr_cooldown_until", b"0"),
        ({"skew": -0.0}, b"inventory_skew", b"0.0"),
        ({"sigma": 0.1 + 0.2}, b"sigma_cents", b"0.30000000000000004"),
    ],
)
def test_state_values(fields, name, value):
    assert as_dict(redis_rows.state_fields(state(**{**STATE, **fields})))[name] == value


@pytest.mark.parametrize("fields", [{"fair_price_cents": 0}, {"last_requote_ms": 0}])
def test_state_is_not_published_before_the_first_quote_cycle(fields):
    assert redis_rows.state_fields(state(**{**STATE, **fields})) is None


def test_engine_fields():
    row = state(
        started_at_ms=1_790_000_000_000,
        day_start_assets_cents=500_000,
        day=date(2026, 11, 21).toordinal(),
        net_flows_cents=-100,
        posterior=52.75,
        kill_causes=5,
        config_version=3,
        inventory_version=88,
        phase_log=[{"timestamp_ms": 1_790_000_100_000, "from_phase": 0, "to_phase": 1, "reason": 2}],
    )
    assert as_dict(redis_rows.engine_fields(row, account(cursor_trade_id=b"trd-9"))) == {
        b"started_at_ms": b"1790000000000",
        b"day_start_assets": b"500000",
        b"day": b"2026-11-21",
        b"net_flows": b"-100",
        b"posterior_cents": b"52.75",
        b"trade_cursor": b"trd-9",
        b"kill_causes": b"SKEW,ASSET_FLOOR",
        b"phase_log": b'[{"from_phase":"EXPLORATION","to_phase":"STABILIZATION","reason":"VOLUME_REACHED",'
        b'"timestamp_ms":1790000100000}]',
        b"config_applied": b"3",
        b"inv_version": b"88",
    }


def test_engine_fields_of_a_market_that_has_done_nothing_yet():
    found = as_dict(redis_rows.engine_fields(state(started_at_ms=1), account()))
    assert (found[b"day"], found[b"kill_causes"], found[b"phase_log"]) == (b"", b"", b"[]")
    assert len(found) == 10


def test_engine_fields_wait_for_the_first_start():
    assert redis_rows.engine_fields(state(), account()) is None


@pytest.mark.parametrize(
    ("outcome", "direction", "side", "word", "book_type"),
    [
        (lib.OUTCOME_YES, lib.DIRECTION_BUY, "YES", "BUY", "NATIVE_BUY"),
        (lib.OUTCOME_YES, lib.DIRECTION_SELL, "YES", "SELL", "NATIVE_SELL"),
        (lib.OUTCOME_NO, lib.DIRECTION_BUY, "NO", "BUY", "SYNTHETIC_SELL"),
        (lib.OUTCOME_NO, lib.DIRECTION_SELL, "NO", "SELL", "SYNTHETIC_BUY"),
    ],
)
def test_order_value_has_exactly_its_seven_fields(outcome, direction, side, word, book_type):
    order_id, value = redis_rows.live_order(order(outcome=outcome, direction=direction))
    assert order_id == b"ord-1"
    assert orjson.loads(value) == {
        "side": side,
        "direction": word,
        "price": 48,
        "qty": 100,
        "remaining": 60,
        "book_type": book_type,
        "created_ms": 1_790_000_000_001,
    }


@pytest.mark.parametrize("row_state", [lib.LIVE_ACTIVE, lib.LIVE_CANCELLING, lib.LIVE_UNKNOWN])
def test_an_order_is_kept_until_the_venue_says_it_is_gone(row_state):
    assert redis_rows.live_order(order(state=row_state)) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"state": lib.LIVE_FREE},
        {"state": lib.LIVE_PENDING},
        {"remaining": 0},
        {"state": lib.LIVE_UNKNOWN, "venue_order_id": b""},
    ],
)
def test_rows_that_do_not_rest_at_the_venue_are_not_published(fields):
    assert redis_rows.live_order(order(**fields)) is None


def test_an_id_of_full_length_is_whole():
    assert redis_rows.live_order(order(venue_order_id=b"x" * 64))[0] == b"x" * 64


def test_keys_and_update_message():
    assert redis_rows.inventory_key("M-1") == b"amm:inventory:M-1"
    assert redis_rows.orders_key("M-1") == b"amm:orders:M-1"
    assert redis_rows.state_key("M-1") == b"amm:state:M-1"
    assert redis_rows.engine_key("M-1") == b"amm:engine:M-1"
    assert redis_rows.update_message("M-1", 42) == b"M-1 42"


def test_sizes_stay_within_the_published_estimates():
    """Names and values: inventory <= 200 B, state <= 300 B, one order <= 200 B."""
    full = dict.fromkeys(INVENTORY, 25_000_000)
    inventory = redis_rows.inventory_fields(state(**full, updated_at_ms=1), ROW_UNIX_NS)
    assert sum(map(len, inventory)) <= 200
    assert sum(map(len, redis_rows.state_fields(state(**STATE)))) <= 300
    order_id, value = redis_rows.live_order(order(outcome=lib.OUTCOME_NO, venue_order_id=b"x" * 36))
    assert len(order_id) + len(value) <= 200
