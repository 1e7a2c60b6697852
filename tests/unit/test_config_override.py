"""The Redis layer: what a hash may say, which layer wins, and that one bad value refuses the whole update."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine._native import lib
from engine.config import ConfigError, MarketConfig, Origin, market_from_json, market_json, parse
from engine.config.edit import Edit, edited
from engine.config.names import PARAMETERS, nested
from engine.config.override import (
    FLAT_FIELDS,
    apply_override,
    override_table,
    parse_override,
    text_of,
    value_from_text,
)
from engine.config.setting import RELOADABLE

NOW_MS = 1_790_000_000_000


def hash_of(**fields: str) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in {"config_version": "2", **fields}.items()}


def market(quote: dict[str, Any] | None = None, shared: dict[str, Any] | None = None) -> MarketConfig:
    return parse({"quote": shared or {}, "markets": [{"id": "m", "quote": quote or {}}]}, "x").markets[0]


def in_force(base: MarketConfig, raw: dict[bytes, bytes], now_ms: int = NOW_MS) -> MarketConfig:
    return apply_override(base, parse_override(raw), now_ms=now_ms)


def test_the_hash_has_the_seeds_fourteen_fields_and_all_may_be_reloaded() -> None:
    assert len(FLAT_FIELDS) == len(set(FLAT_FIELDS)) == 14
    assert all(PARAMETERS[name].hot in RELOADABLE for name in FLAT_FIELDS)


def test_each_layer_beats_the_one_below_and_every_value_knows_its_origin() -> None:
    base = market(
        {"gamma_mid": 1.2, "max_spread_cents": 12, "min_price": 6},
        shared={"gamma_mid": 1.1, "gamma_long": 0.7, "qty_per_level": 50},
    )
    raw = hash_of(
        gamma_mid="1.3",
        override_json='{"gamma_mid": 1.4, "gamma_long": 0.6, "vol.window_size": 40, '
        '"vol": {"min_samples": 6}}',
    )
    found = in_force(base, raw)
    quote = found.quote
    assert (quote.gamma_short, quote.qty_per_level, quote.min_price) == (2.5, 50, 6)
    assert (quote.gamma_mid, quote.gamma_long) == (1.3, 0.6)  # the flat field beats the same name in JSON
    assert (quote.vol.window_size, quote.vol.min_samples) == (40, 6)
    origins = {
        "gamma_short": Origin.DEFAULT,
        "qty_per_level": Origin.FILE_GLOBAL,
        "min_price": Origin.FILE_MARKET,
        "gamma_long": Origin.REDIS_JSON,
        "vol.window_size": Origin.REDIS_JSON,
        "gamma_mid": Origin.REDIS_FLAT,
    }
    assert {name: found.origins.of(name) for name in origins} == origins
    assert found.override is not None
    assert found.override.version == 2


def test_no_override_is_the_file() -> None:
    base = market({"gamma_mid": 1.2})
    assert apply_override(base, None, now_ms=NOW_MS) == base


def test_an_expired_override_falls_back_to_the_file() -> None:
    base = market()
    raw = hash_of(gamma_mid="1.3", updated_at=str(NOW_MS), override_ttl_ms="60000")
    assert in_force(base, raw, NOW_MS + 59_999).quote.gamma_mid == 1.3
    assert in_force(base, raw, NOW_MS + 60_000) == base


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"gamma_mid": "NaN"}, "gamma_mid='NaN': must be a decimal number"),
        ({"gamma_mid": "inf"}, "must be a decimal number"),
        ({"gamma_mid": "1e99"}, "gamma_mid"),
        ({"gamma_mid": ""}, "gamma_mid='': must be a decimal number"),
        ({"gamma_mid": " 1.5"}, "must be a decimal number"),
        ({"gamma_mid": "1,5"}, "must be a decimal number"),
        ({"gamma_mid": "3.1"}, "gamma_mid=3.1: Expected `float` <= 3"),
        ({"position_limit": "5000.0"}, "position_limit='5000.0': must be an integer"),
        ({"position_limit": "true"}, "must be an integer"),
        ({"position_limit": "5_000"}, "must be an integer"),
        ({"position_limit": "0x10"}, "must be an integer"),
        ({"position_limit": "-1"}, "position_limit=-1: Expected `int` >= 1"),
        ({"position_limit": "9" * 30}, "must be an integer"),
        ({"max_loss_daily_cents": "250001"}, "must not exceed half of budget_limit_cents"),
        ({"daily_loss_limit": "20000", "max_loss_daily_cents": "20000"}, "given twice"),
        ({"colour": "red"}, "colour: no such parameter"),
        ({"min_price": "6"}, "min_price: is no field of its own, put it into override_json"),
        ({"config_version": "0"}, "config_version='0': must be an integer from 1"),
        ({"config_version": "two"}, "config_version='two'"),
        ({"config_version": ""}, "config_version=''"),
        ({"override_ttl_ms": "60000"}, "override_ttl_ms counts from updated_at"),
        ({"override_ttl_ms": "0", "updated_at": "1"}, "override_ttl_ms='0'"),
        ({"updated_at": "yesterday"}, "updated_at='yesterday'"),
        ({"updated_by": "two\nlines"}, "updated_by: must be one printable line"),
        ({"override_json": ""}, "override_json: not valid JSON"),
        ({"override_json": "[]"}, "override_json: must be an object"),
        ({"override_json": "[" * 5_000}, "override_json: not valid JSON"),
        ({"override_json": '{"min_price": "6"}'}, "min_price='6': Expected `int`, got `str`"),
        ({"override_json": '{"min_price": true}'}, "min_price=True: Expected `int`, got `bool`"),
        ({"override_json": '{"allow_buy": "no"}'}, "allow_buy='no': must be true or false"),
        ({"override_json": '{"allow_buy": 0}'}, "allow_buy=0: Expected `bool`, got `int`"),
        ({"override_json": '{"vol": {}}'}, "a section is empty"),
        ({"override_json": '{"vol.colour": 1}'}, "vol.colour: no such parameter"),
        ({"override_json": '{"vol": 1}'}, "vol: no such parameter"),
        ({"override_json": '{"funding_mode": "HALT"}'}, "HALT: refused"),
        ({"override_json": '{"initial_funding_cents": 500000}'}, "is fixed for the life of a market"),
        ({"override_json": '{"initial_budget_cents": 500000}'}, "is fixed for the life of a market"),
        ({"override_json": '{"quote_interval_ms": 1000}'}, "takes a restart"),
        ({"override_json": '{"min_price": 6, "max_price": 60}'}, "max_price=60: Expected `int` >= 70"),
        ({"budget_limit_cents": "5000001"}, "budget_limit_cents=5000001: raises 500000 more than tenfold"),
    ],
)
def test_one_bad_value_refuses_the_whole_update_in_one_line(fields: dict[str, str], rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        in_force(market(), hash_of(gamma_long="0.7", **fields))
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_version_is_required_and_bytes_must_be_text() -> None:
    with pytest.raises(ConfigError, match="config_version is missing"):
        parse_override({b"gamma_mid": b"1.3"})
    with pytest.raises(ConfigError, match="not UTF-8"):
        parse_override({b"config_version": b"1", b"updated_by": b"\xff"})


def test_false_is_false() -> None:
    """Row 17 of §14: bool("false") is true."""
    assert value_from_text("allow_buy", "false") is False
    assert in_force(market(), hash_of(override_json='{"allow_buy": "false"}')).quote.allow_buy is False
    for text in ("False", "0", "no", "", "1", "TRUE"):
        with pytest.raises(ConfigError, match="must be true or false"):
            value_from_text("allow_buy", text)


@pytest.mark.parametrize("name", sorted(n for n in PARAMETERS if PARAMETERS[n].hot in RELOADABLE))
def test_every_reloadable_parameter_can_be_written_and_read_back(name: str) -> None:
    default = PARAMETERS[name].default
    if default is None:
        return
    plain = list(default) if isinstance(default, tuple) else default
    assert value_from_text(name, text_of(plain)) == plain
    raw = hash_of(override_json=msgspec.json.encode({name: plain}).decode())
    if name in FLAT_FIELDS:
        raw = hash_of(**{name: text_of(plain)})
    assert in_force(market(), raw).quote == market().quote


@pytest.mark.parametrize("name", sorted(n for n in PARAMETERS if PARAMETERS[n].hot not in RELOADABLE))
def test_no_other_parameter_can_be_overridden(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: "):
        override_table(nested({name: PARAMETERS[name].default}), "here")


def edit(raw: dict[bytes, bytes], base: MarketConfig, applied: int = 1, **fields: Any) -> Any:
    return edited(raw, Edit(**fields), base=base, in_force=base, applied=applied, now_ms=NOW_MS)


def test_an_edit_keeps_what_it_does_not_name_and_raises_the_version() -> None:
    raw = hash_of(gamma_mid="1.3", override_json='{"vol.window_size":40}', colourless="1")
    del raw[b"colourless"]
    result = edit(raw, market(), values={"gamma_long": 0.7, "min_price": 6}, by="ada")
    assert result.fields == {
        "gamma_mid": "1.3",
        "gamma_long": "0.7",
        "override_json": '{"min_price":6,"vol.window_size":40}',
        "config_version": "3",
        "updated_at": str(NOW_MS),
        "updated_by": "ada",
    }
    again = {name.encode(): value.encode() for name, value in result.fields.items()}
    assert in_force(market(), again) == result.market


def test_a_version_lies_above_the_one_in_force() -> None:
    assert edit({}, market(), applied=7, values={"gamma_mid": 1.3}).version == 8


def test_all_fields_are_written_on_demand() -> None:
    fields = edit({}, market(), values={"gamma_mid": 1.3}, all_fields=True).fields
    assert set(FLAT_FIELDS) <= set(fields)
    assert (fields["gamma_mid"], fields["position_limit"]) == ("1.3", "5000")


def test_an_edit_starts_anew_after_expiry_and_on_reset() -> None:
    expired = hash_of(gamma_mid="1.3", updated_at=str(NOW_MS - 10), override_ttl_ms="10")
    assert "gamma_mid" not in edit(expired, market(), values={"gamma_long": 0.7}).fields
    broken = hash_of(gamma_mid="much")
    with pytest.raises(ConfigError, match=r"unusable: gamma_mid='much'.*--reset forgets it"):
        edit(broken, market(), values={"gamma_long": 0.7})
    reset = edit(broken, market(), values={}, reset=True)
    assert reset.fields.keys() == {"config_version", "updated_at"}
    assert reset.version == 3  # not the broken one's, or nobody would look


def test_an_edit_is_checked_whole_before_anything_is_written() -> None:
    with pytest.raises(ConfigError, match="max_loss_daily_cents=300000 must not exceed"):
        edit({}, market(), values={"max_loss_daily_cents": 300_000, "gamma_mid": 1.3})
    with pytest.raises(ConfigError, match="min_price='6'"):
        edit({}, market(), values={"min_price": "6"})
    with pytest.raises(ConfigError, match="override_ttl_ms"):
        edit({}, market(), values={}, ttl_ms=0)
    with pytest.raises(ConfigError, match="updated_by"):
        edit({}, market(), values={}, by="\x1b[2J")


def test_the_fullest_market_fits_its_slot() -> None:
    every = {n: p.default for n, p in PARAMETERS.items() if p.default is not None}
    every |= {"event_times": [2**52] * 64, "min_asset_floor_cents": 10**9, "initial_price_cents": 50}
    full = parse({"markets": [{"id": "m" * 64, "core": 1000, "quote": nested(every)}]}, "x").markets[0]
    payload = market_json(full)
    assert len(payload) <= lib.CONFIG_BYTES_MAX
    assert market_from_json(payload) == full
