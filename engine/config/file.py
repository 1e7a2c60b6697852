"""Configuration: TOML file -> frozen Structs; code default < file (global section < market section).

Errors are one line that says where, which key, which value and which rule; callers exit with code 78
(EX_CONFIG).
"""

from __future__ import annotations

import os
import re
import tomllib
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, field, structs

from engine.config.errors import ConfigError
from engine.config.names import Table, Warn, canonical, flat, merged, no_warning
from engine.config.oracle import OracleConfig
from engine.config.quote import QuoteConfig
from engine.config.risk import RiskConfig
from engine.config.rules import broken_rules
from engine.config.sections import EngineConfig, RedisConfig, VenueConfig, Wait

MARKET_ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,64}$"

_FILE_BYTES_MAX: Final = 16 << 20


class Origins(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where values that are not code defaults come from: dotted names by layer, each name once."""

    file_global: tuple[str, ...] = ()  # [quote]
    file_market: tuple[str, ...] = ()  # [markets.quote]
    redis_json: tuple[str, ...] = ()  # amm:config, override_json
    redis_flat: tuple[str, ...] = ()  # amm:config, a field of its own

    def of(self, name: str) -> Origin:
        """The layer that a parameter's value in force comes from."""
        for origin in (Origin.REDIS_FLAT, Origin.REDIS_JSON, Origin.FILE_MARKET, Origin.FILE_GLOBAL):
            if name in getattr(self, origin.name.lower()):
                return origin
        return Origin.DEFAULT


class Origin(Enum):
    """The layers, as `corequote config show` names them."""

    DEFAULT = "default"
    FILE_GLOBAL = "file [quote]"
    FILE_MARKET = "file [markets.quote]"
    REDIS_JSON = "redis override_json"
    REDIS_FLAT = "redis field"


class AppliedOverride(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``amm:config`` hash that is part of a market's values in force."""

    version: int  # its config_version
    updated_at_ms: int  # 0 = it does not say
    updated_by: str
    expires_at_ms: int | None


class MarketConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One market: its id, where it runs, how it is quoted, and which layers that comes from."""

    id: Annotated[str, Meta(pattern=MARKET_ID_PATTERN)]
    core: Annotated[int, Meta(ge=0)] | None = None  # CPU core; None = planned by the supervisor
    wait: Wait | None = None  # how its quoter waits; None = engine.wait
    quote: QuoteConfig = QuoteConfig()
    oracle: OracleConfig | None = None  # another price of the same event; None = no oracle, no oracle checks
    # price kills that this market does without: for a recording that is played to its end, never for money
    spared_kills: tuple[Literal["PRICE_JUMP", "EXTREME_PRICE"], ...] = ()
    origins: Origins = Origins()  # filled in by the layers, never by a file
    override: AppliedOverride | None = None


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole configuration file."""

    engine: EngineConfig = EngineConfig()
    venue: VenueConfig = VenueConfig()
    redis: RedisConfig = RedisConfig()
    risk: RiskConfig = RiskConfig()
    quote: QuoteConfig = QuoteConfig()
    markets: Annotated[list[MarketConfig], Meta(min_length=1, max_length=4000)] = field(default_factory=list)


def _at(document: Any, path: str) -> object:
    """The value at a path as msgspec writes it (``markets[0].core``); None when there is none."""
    place = document
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        try:
            place = place[name] if name else place[int(index)]
        except (KeyError, IndexError, TypeError):
            return None
    return place


def validation_line(where: str, document: object, error: msgspec.ValidationError) -> str:
    """msgspec's "message - at `$.path`" as ``where: path=value: message``."""
    text = str(error)
    match = re.search(r"^(.*?) - at `\$\.?(.*)`$", text, re.DOTALL)
    if not match:
        return f"{where}: {text}"
    message, path = match.groups()
    value = _at(document, path)
    shown = path if isinstance(value, dict | list) or value is None else f"{path}={value!r}"
    return f"{where}: {shown}: {message}" if path else f"{where}: {message}"


def _canonical_quote(holder: Any, where: str, warn: Warn) -> Any:
    """``holder`` with its quote table under declared names; what is no table stays for the decoder."""
    if not isinstance(holder, dict) or not isinstance(holder.get("quote"), dict):
        return holder
    return holder | {"quote": canonical(holder["quote"], where, warn)}


def _canonical_venue(document: dict[str, Any], where: str) -> dict[str, Any]:
    venue = document.get("venue")
    if not isinstance(venue, dict) or "amm_rate_limit" not in venue:
        return document
    if "order_rate_limit" in venue:
        raise ConfigError(
            f"{where}: venue: amm_rate_limit and order_rate_limit are one parameter, given twice"
        )
    renamed = {"order_rate_limit" if key == "amm_rate_limit" else key: value for key, value in venue.items()}
    return document | {"venue": renamed}


def _with_origins(markets: list[MarketConfig], shared: Table, own: list[Table]) -> list[MarketConfig]:
    """The markets with the file's share of :class:`Origins`; ``own`` are their tables as written."""
    found = []
    for market, table in zip(markets, own, strict=True):
        by_market = flat(table.get("quote", {}))
        by_all = [name for name in flat(shared) if name not in by_market]
        origins = Origins(file_global=tuple(by_all), file_market=tuple(by_market))
        found.append(structs.replace(market, origins=origins))
    return found


def _refuse_filled_in(markets: list[Any], where: str) -> None:
    """Fields of a market that the layers fill in are none of a file's."""
    for index, market in enumerate(markets):
        for name in ("origins", "override"):
            if isinstance(market, dict) and name in market:
                raise ConfigError(f"{where}: markets[{index}]: Object contains unknown field `{name}`")


def parse(document: dict[str, Any], where: str, *, warn: Warn = no_warning) -> Config:
    """A parsed TOML document -> Config. ``where`` names the source in errors; ``warn`` takes one line for
    each name that has no effect. Raises ConfigError."""
    document = _canonical_quote(_canonical_venue(document, where), f"{where}: quote", warn)
    markets = document.get("markets", [])
    own: list[Any] = []
    if isinstance(markets, list):
        shared = document.get("quote", {})
        own = [
            _canonical_quote(market, f"{where}: markets[{index}].quote", warn)
            for index, market in enumerate(markets)
        ]
        _refuse_filled_in(own, where)
        document = document | {
            "markets": [
                merged({"quote": shared}, market)
                if isinstance(market, dict) and isinstance(shared, dict)
                else market
                for market in own
            ]
        }
    try:
        config = msgspec.convert(document, Config, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(validation_line(where, document, error)) from None
    config = structs.replace(config, markets=_with_origins(config.markets, document.get("quote", {}), own))
    seen: set[str] = set()
    for index, market in enumerate(config.markets):
        if market.id in seen:
            raise ConfigError(f"{where}: markets[{index}].id: {market.id} is configured twice")
        seen.add(market.id)
        for line in broken_rules(market.quote):
            raise ConfigError(f"{where}: markets[{index}].quote: {line}")
    if config.venue.fills == "kafka" and not config.venue.kafka:
        raise ConfigError(f'{where}: venue.kafka is empty: fills = "kafka" needs the brokers, HOST:PORT')
    if config.engine.restart_backoff_min_ms > config.engine.restart_backoff_max_ms:
        raise ConfigError(
            f"{where}: engine.restart_backoff_min_ms={config.engine.restart_backoff_min_ms} must not exceed "
            f"restart_backoff_max_ms={config.engine.restart_backoff_max_ms}"
        )
    return config


def _read(path: Path) -> bytes:
    """The whole file as it stood at one moment. Raises OSError or ConfigError."""
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        raw = file.read(_FILE_BYTES_MAX + 1)
        after = os.fstat(file.fileno())
    if len(raw) > _FILE_BYTES_MAX:
        raise ConfigError(f"{path}: is larger than {_FILE_BYTES_MAX} bytes")
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise ConfigError(f"{path}: was changed while it was read; try again")
    return raw


def load(path: Path, *, warn: Warn = no_warning) -> Config:
    """Reads and validates a TOML file. Raises ConfigError with one line."""
    try:
        raw = _read(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    try:
        document = tomllib.loads(raw.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML: nested too deeply") from None
    return parse(document, str(path), warn=warn)


def market_json(market: MarketConfig) -> bytes:
    """A market's effective configuration as it travels through its config slot."""
    return msgspec.json.encode(market)


_market_decoder = msgspec.json.Decoder(MarketConfig)


def market_from_json(payload: bytes) -> MarketConfig:
    """Inverse of :func:`market_json`."""
    return _market_decoder.decode(payload)
