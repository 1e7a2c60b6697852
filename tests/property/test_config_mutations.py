"""Mutated configuration: whatever a file or a hash holds, it is taken whole or refused in one line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import ConfigError, QuoteConfig, load, market_from_json, market_json, parse
from engine.config.names import PARAMETERS, flat, nested
from engine.config.override import FLAT_FIELDS, apply_override, parse_override, value_from_text
from engine.config.rules import broken_rules

PRODUCTION = (Path(__file__).resolve().parents[2] / "config" / "production.toml").read_bytes()
BASE = parse({"markets": [{"id": "m"}]}, "x").markets[0]
NOW_MS = 1_790_000_000_000

names = st.sampled_from(sorted(PARAMETERS))
scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 30),
    st.floats(),
    st.floats(0, 10),
    st.text(max_size=8),
    st.sampled_from(["HALT", "true", "LINEAR", "NaN", ""]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def is_sound(quote: QuoteConfig) -> bool:
    """Every value in its declared range and every relation held, seen from the declarations alone."""
    shown = flat(msgspec.to_builtins(quote))
    for name, parameter in PARAMETERS.items():
        value = shown[name]
        if value is None:
            assert parameter.optional
        elif parameter.kind in (int, float):
            assert not isinstance(value, bool)
            assert parameter.ge is None or value >= parameter.ge
            assert parameter.le is None or value <= parameter.le
    return not list(broken_rules(quote))


def one_line(error: ConfigError) -> None:
    assert str(error)
    assert "\n" not in str(error)


@settings(max_examples=600, deadline=None)
@given(st.dictionaries(names | st.text(max_size=6), values, max_size=4))
def test_a_mutated_table_is_sound_or_refused(changes: dict[str, Any]) -> None:
    try:
        market = parse({"markets": [{"id": "m", "quote": nested_or_flat(changes)}]}, "x").markets[0]
    except ConfigError as error:
        one_line(error)
        return
    assert is_sound(market.quote)
    assert market_from_json(market_json(market)) == market


def nested_or_flat(changes: dict[str, Any]) -> dict[str, Any]:
    """Dotted names as sections, where they do not contradict each other."""
    try:
        return nested(changes)
    except ConfigError:
        return changes


@settings(max_examples=800, deadline=None)
@given(st.data())
def test_a_mutated_file_is_sound_or_refused(data: st.DataObject) -> None:
    content = bytearray(PRODUCTION)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["flip", "drop", "insert", "swap"]))
        if kind == "flip":
            content[at] = data.draw(st.integers(0, 255))
        elif kind == "drop":
            del content[at : at + data.draw(st.integers(1, 40))]
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=6))
        else:
            content[at : at + 8] = content[at : at + 8][::-1]
    try:
        config = parse(tomllib.loads(content.decode()), "x")
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        return
    except ConfigError as error:
        one_line(error)
        return
    assert all(is_sound(market.quote) for market in config.markets)


@pytest.mark.parametrize(
    "content", [b"\x00", b"a=" + b"[" * 5_000, b"[quote]\nvol = 1", b"[[quote]]", b"\xef\xbb\xbf"]
)
def test_a_file_of_garbage_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    one_line(caught.value)


fields = st.sampled_from(
    [*FLAT_FIELDS, "override_json", "updated_at", "updated_by", "override_ttl_ms", "config_version", "colour"]
)
texts = st.one_of(
    st.sampled_from(
        ["1", "0", "-1", "2.5", "true", "NaN", "1e400", "", " 1", "{}", '{"min_price": 6}', "[]"]
    ),
    st.integers(0, 10**7).map(str),
    st.text(max_size=10),
)


@settings(max_examples=1_500, deadline=None)
@given(st.dictionaries(fields, texts, max_size=4), st.binary(max_size=4))
def test_a_mutated_hash_is_sound_or_refused(changes: dict[str, str], noise: bytes) -> None:
    raw = {b"config_version": b"5"} | {
        name.encode(): text.encode(errors="surrogatepass") for name, text in changes.items()
    }
    if noise:
        raw[b"updated_by"] = noise
    try:
        market = apply_override(BASE, parse_override(raw), now_ms=NOW_MS)
    except ConfigError as error:
        one_line(error)
        return
    assert is_sound(market.quote)


@settings(max_examples=500, deadline=None)
@given(names, texts)
def test_a_text_is_its_parameters_type_or_refused(name: str, text: str) -> None:
    parameter = PARAMETERS[name]
    try:
        value = value_from_text(name, text)
    except ConfigError as error:
        one_line(error)
        return
    assert type(value) is (list if parameter.kind is tuple else parameter.kind)
