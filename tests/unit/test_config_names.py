"""Names of §10: every one is declared, its aliases are accepted, retired names have no effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.config import (
    ConfigError,
    EngineConfig,
    QuoteConfig,
    RedisConfig,
    RiskConfig,
    VenueConfig,
    parse,
    reference,
)
from engine.config.names import ALIASES, PARAMETERS, flat, nested
from engine.config.quote import AMM_USER_ID
from engine.config.setting import parameters


def quote_of(table: dict[str, Any], shared: dict[str, Any] | None = None) -> QuoteConfig:
    return parse({"quote": shared or {}, "markets": [{"id": "m", "quote": table}]}, "x.toml").markets[0].quote


def value_of(quote: QuoteConfig, name: str) -> object:
    place: object = quote
    for part in name.split("."):
        place = getattr(place, part)
    return place


@pytest.mark.parametrize("name", sorted(set(PARAMETERS) - {"amm_user_id"}))
def test_every_parameter_can_be_given_by_its_default(name: str) -> None:
    parameter = PARAMETERS[name]
    if parameter.default is not None:
        table = nested({name: parameter.default})
        assert quote_of(table) == QuoteConfig()


@pytest.mark.parametrize("name", sorted(name for name in PARAMETERS if PARAMETERS[name].kind in (int, float)))
def test_every_number_refuses_what_is_no_number_in_range(name: str) -> None:
    parameter = PARAMETERS[name]
    wrong: list[Any] = [True, "1", float("nan"), float("inf"), [1], None]
    wrong += [] if parameter.ge is None else [parameter.ge - 1]
    wrong += [] if parameter.le is None else [parameter.le + 1]
    wrong += [1.5] if parameter.kind is int else []
    for value in wrong:
        if value is None and parameter.optional:
            continue
        with pytest.raises(ConfigError) as caught:
            quote_of(nested({name: value}))
        assert name in str(caught.value)


@pytest.mark.parametrize("name", sorted(name for name in PARAMETERS if PARAMETERS[name].kind is bool))
def test_a_switch_is_true_or_false_and_nothing_else(name: str) -> None:
    for value in (0, 1, "true", "false", "", 1.0):
        with pytest.raises(ConfigError, match=name):
            quote_of(nested({name: value}))


ALIAS_VALUES = {
    "initial_budget_cents": 400_000,
    "max_inventory_per_side": 4_000,
    "daily_loss_limit": 40_000,
    "stabilization.spread": 3,
    "max_oracle_lag_ms": 3_000,
    "min_deviation_threshold_cents": 2,
    "gap_threshold_cents": 4,
    "inventory_warning": 0.6,
    "gradient.linear_step": 2,
    "gradient.linear_levels": 4,
    "gradient.linear_qty_increase": 0.1,
    "gradient.geometric_ratio": 1.1,
    "gradient.geometric_levels": 3,
    "gradient.qty_decay": 0.8,
}


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_an_alias_sets_its_parameter(alias: str) -> None:
    value = ALIAS_VALUES[alias]
    quote = quote_of(nested({alias: value}))
    assert value_of(quote, ALIASES[alias]) == value


def test_a_phase_value_wins_over_the_gradient_alias() -> None:
    quote = quote_of({"gradient": {"linear_levels": 3}, "exploration": {"levels": 7}})
    assert quote.exploration.levels == 7


def test_a_parameter_and_its_alias_in_one_table_contradict() -> None:
    with pytest.raises(ConfigError, match="daily_loss_limit and max_loss_daily_cents are one parameter"):
        quote_of({"daily_loss_limit": 20_000, "max_loss_daily_cents": 20_000})


def test_an_alias_in_the_markets_table_beats_the_shared_value() -> None:
    quote = quote_of({"daily_loss_limit": 20_000}, shared={"max_loss_daily_cents": 30_000})
    assert quote.max_loss_daily_cents == 20_000


def test_retired_names_have_no_effect_and_are_warned_about() -> None:
    lines: list[str] = []
    config = parse(
        {"markets": [{"id": "m", "quote": {"oracle_deviation_warning": 0.05}}]}, "x.toml", warn=lines.append
    )
    assert config.markets[0].quote == QuoteConfig()
    (line,) = lines
    assert "oracle_deviation_warning is retired" in line
    with pytest.raises(ConfigError, match="oracle_deviation_halt='x': must be a number"):
        quote_of({"oracle_deviation_halt": "x"})


@pytest.mark.parametrize("name", ["extreme_price_action", "funding_mode"])
def test_halt_is_no_action_of_ours(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=HALT: refused"):
        quote_of({name: "HALT"})


def test_unset_values_follow_the_parameters_they_stand_for() -> None:
    quote = quote_of({"initial_funding_cents": 200_000, "max_loss_daily_cents": 20_000})
    assert (quote.asset_floor_cents, quote.pnl_rollback_cents) == (100_000, 20_000)
    quote = quote_of({"min_asset_floor_cents": 0, "rollback": {"pnl_rollback_threshold": 60_000}})
    assert (quote.asset_floor_cents, quote.pnl_rollback_cents) == (0, 60_000)


def test_the_user_id_is_fixed() -> None:
    assert quote_of({"amm_user_id": AMM_USER_ID}) == QuoteConfig()
    with pytest.raises(ConfigError, match="amm_user_id"):
        quote_of({"amm_user_id": "someone"})


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        ({"inventory_warning_threshold": 0.8, "inventory_danger_threshold": 0.8}, "must be below"),
        ({"inventory_danger_threshold": 0.95, "inventory_hard_limit": 0.95}, "must be below"),
        ({"extreme_price_kill": 10}, "extreme_price_kill=10 must be below extreme_price_halt=10"),
        ({"rollback": {"pnl_rollback_threshold": 100_001}}, "must not exceed the daily budget of 100000"),
        ({"max_loss_daily_cents": 250_001}, "must not exceed half of budget_limit_cents=500000"),
        ({"market_maker_fee_bps": 300}, "base_spread_cents=2 must be at least the fee floor of 3"),
        ({"deviation_multiplier": 0.5}, "must be 0"),
        ({"spread_multiplier_warning": 3.0, "spread_multiplier_danger": 2.5}, "must not exceed"),
        ({"one_side_multiplier_min": 5.0}, "must not exceed"),
        ({"exploration": {"spread": 20}}, "must not exceed max_spread_cents=15"),
        ({"day_reset_tz": "Moon/Crater"}, "must be a time zone"),
        ({"event_times": [0]}, "must be Unix milliseconds"),
        ({"event_times": ["soon"]}, "event_times"),
    ],
)
def test_relations_of_the_validator(table: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule) as caught:
        quote_of(table)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bps", [None, 0, 10, 210])
def test_a_half_spread_at_the_fee_floor_is_accepted(bps: int | None) -> None:
    table = {} if bps is None else {"market_maker_fee_bps": bps}
    assert quote_of(table).market_maker_fee_bps == bps


def test_flat_and_nested_are_inverse() -> None:
    table = {"a": {"b": 1, "c": {"d": 2}}, "e": [3]}
    assert nested(flat(table)) == table


def test_the_reference_is_current() -> None:
    """After a change: python -m engine.config.reference docs/configuration.md"""
    written = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
    assert written.read_text() == reference.text()


def test_the_reference_names_every_parameter_and_every_alias() -> None:
    text = reference.text()
    for section in (EngineConfig, VenueConfig, RedisConfig, RiskConfig, QuoteConfig):
        for parameter in parameters(section):
            assert f"| `{parameter.name}` |" in text
            assert parameter.why
            assert all(f"`{alias}`" in text for alias in parameter.aliases)
