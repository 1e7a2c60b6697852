"""Configuration files: what is accepted, and the one line that says what is not."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.config import (
    Config,
    ConfigError,
    EngineConfig,
    MarketConfig,
    QuoteConfig,
    RedisConfig,
    VenueConfig,
    load,
    market_from_json,
    market_json,
    parse,
)

ROOT = Path(__file__).resolve().parents[2]
ONE_MARKET = {"markets": [{"id": "m"}]}


def test_defaults_are_enough() -> None:
    config = parse(ONE_MARKET, "here")
    assert config == Config(markets=[MarketConfig(id="m")])


def test_a_market_overrides_the_shared_section_key_by_key() -> None:
    config = parse(
        {
            "quote": {"min_price": 10, "max_price": 90, "vol": {"window_size": 40, "min_samples": 4}},
            "markets": [{"id": "a"}, {"id": "b", "quote": {"min_price": 20, "vol": {"window_size": 50}}}],
        },
        "here",
    )
    a, b = (market.quote for market in config.markets)
    assert (a.min_price, a.max_price, a.vol.window_size, a.vol.min_samples) == (10, 90, 40, 4)
    assert (b.min_price, b.max_price, b.vol.window_size, b.vol.min_samples) == (20, 90, 50, 4)


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({}, "markets"),
        ({"markets": []}, "markets"),
        ({"markets": [{}]}, "markets[0]"),
        ({"markets": {"id": "m"}}, "markets"),
        ({"markets": ["m"]}, "markets[0]"),
        ({"markets": [{"id": ""}]}, "markets[0].id"),
        ({"markets": [{"id": "a/b"}]}, "markets[0].id"),
        ({"markets": [{"id": "m" * 65}]}, "markets[0].id"),
        ({"markets": [{"id": "m", "core": -1}]}, "markets[0].core"),
        ({"markets": [{"id": "m", "colour": 1}]}, "colour"),
        ({"markets": [{"id": "m"}, {"id": "m"}]}, "markets[1].id: m is configured twice"),
        (ONE_MARKET | {"engin": {}}, "engin"),
        (ONE_MARKET | {"engine": {"wait": "sleep"}}, "engine.wait"),
        (ONE_MARKET | {"engine": {"workers": "2"}}, "engine.workers"),
        (ONE_MARKET | {"engine": {"workers": True}}, "engine.workers"),
        (ONE_MARKET | {"engine": {"heartbeat_timeout_ms": 1}}, "engine.heartbeat_timeout_ms"),
        (
            ONE_MARKET | {"engine": {"restart_backoff_min_ms": 5_000, "restart_backoff_max_ms": 1_000}},
            "engine.restart_backoff_min_ms=5000 must not exceed restart_backoff_max_ms=1000",
        ),
        (ONE_MARKET | {"venue": {"url": "ftp://x"}}, "venue.url"),
        (ONE_MARKET | {"redis": {"url": "localhost"}}, "redis.url"),
        (ONE_MARKET | {"quote": {"initial_price_cents": 100}}, "quote.initial_price_cents"),
        (ONE_MARKET | {"quote": {"initial_price_cents": 50.5}}, "quote.initial_price_cents"),
        (ONE_MARKET | {"quote": {"base_spread_cents": -1}}, "quote.base_spread_cents"),
        (ONE_MARKET | {"quote": 5}, "quote"),
    ],
)
def test_what_is_refused_is_named_in_one_line(document: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(document, "x.toml")
    line = str(caught.value)
    assert line.startswith("x.toml: ")
    assert where in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("quote", "rule"),
    [
        ({"min_price": 30, "max_price": 70}, None),
        ({"anchor_initial_weight": 0.8, "microprice_weight": 0.2}, None),
        ({"anchor_initial_weight": 0.9, "microprice_weight": 0.2}, "must not exceed 1"),
        ({"base_learning_rate": 0.02, "learning_rate_min": 0.05}, "must lie between"),
        ({"base_learning_rate": 0.30, "learning_rate_max": 0.20}, "must lie between"),
        ({"learning_rate_min": 0.001}, "at least a sixteenth of base_learning_rate"),
        ({"vol": {"sigma_min_cents": 5, "sigma_max_cents": 5}}, "must be below"),
        ({"base_spread_cents": 10, "max_spread_cents": 5}, "must not exceed"),
    ],
)
def test_relations_between_fields(quote: dict[str, Any], rule: str | None) -> None:
    document = {"markets": [{"id": "m", "quote": quote}]}
    if rule is None:
        parse(document, "x.toml")
        return
    with pytest.raises(ConfigError, match=rule) as caught:
        parse(document, "x.toml")
    assert "markets[0].quote" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"[engine", "not valid TOML"),
        (b"\xff\xfe", "not valid TOML"),
        (b"a = 1\na = 2", "not valid TOML"),
        (b"", "markets"),
        (b"markets = [{id = 1}]", "markets[0].id"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes, rule: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert rule in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml|Is a directory"):
        load(tmp_path / name)


def test_a_market_travels_as_json() -> None:
    market = parse({"markets": [{"id": "m", "core": 3, "quote": {"min_price": 7}}]}, "here").markets[0]
    assert market_from_json(market_json(market)) == market


@pytest.mark.parametrize("name", ["demo.toml", "production.toml"])
def test_shipped_files_are_accepted(name: str) -> None:
    assert load(ROOT / "config" / name).markets


def leaves(value: object, path: str = "") -> dict[str, object]:
    """Every setting of a section by dotted name."""
    if isinstance(value, dict):
        found: dict[str, object] = {}
        for key, item in value.items():
            found |= leaves(item, f"{path}.{key}" if path else key)
        return found
    return {path: value}


def test_the_production_file_shows_defaults() -> None:
    written = tomllib.loads((ROOT / "config" / "production.toml").read_text())
    chosen = {"engine.run_dir"}  # a service has a place of its own
    for section, built_in in (
        ("engine", EngineConfig()),
        ("venue", VenueConfig()),
        ("redis", RedisConfig()),
        ("quote", QuoteConfig()),
    ):
        default = {
            f"{section}.{name}": value for name, value in leaves(msgspec.to_builtins(built_in)).items()
        }
        shown = {f"{section}.{name}": value for name, value in leaves(written[section]).items()}
        for name, value in shown.items():
            if name not in chosen:
                assert default[name] == value, name
