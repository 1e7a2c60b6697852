"""Configuration: TOML file -> frozen Structs; code default < file (global section < market section).

Every field carries unit, range and default where it is declared. Names are those of the
market-making specification §10 where it names them. Errors are one line that says where, which
key, which value and which rule; callers exit with code 78 (EX_CONFIG).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, field

EXIT_CONFIG: Final = 78
EXIT_USAGE: Final = 2

MARKET_ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,64}$"

Port = Annotated[int, Meta(ge=0, le=65535)]
Ratio = Annotated[float, Meta(ge=0.0, le=1.0)]


class ConfigError(Exception):
    """The configuration is refused; the message is one line for a person."""


class ExplorationConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cold-start phase (§10 exploration.*)."""

    spread: Annotated[int, Meta(ge=1, le=20)] = 5  # cents, half-spread per side
    qty_ratio: Annotated[float, Meta(ge=0.05, le=0.50)] = 0.25
    gradient_type: Literal["LINEAR", "GEOMETRIC"] = "LINEAR"
    linear_step: Annotated[int, Meta(ge=1, le=5)] = 1  # cents between levels
    linear_qty_increase: Annotated[float, Meta(ge=0.0, le=0.50)] = 0.20
    levels: Annotated[int, Meta(ge=2, le=10)] = 5


class StabilizationConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Converged phase (§10 stabilization.*)."""

    qty_ratio: Annotated[float, Meta(ge=0.20, le=2.0)] = 1.0
    gradient_type: Literal["LINEAR", "GEOMETRIC"] = "GEOMETRIC"
    geometric_ratio: Annotated[float, Meta(ge=1.01, le=1.20)] = 1.05
    levels: Annotated[int, Meta(ge=2, le=10)] = 5
    qty_decay: Annotated[float, Meta(ge=0.30, le=1.0)] = 0.70
    cancel_on_price_move: Annotated[float, Meta(ge=0.005, le=0.10)] = 0.02  # share of fair price
    max_order_age_ms: Annotated[int, Meta(ge=30_000, le=600_000)] = 300_000


class VolatilityConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """APV-BVD volatility (§3.4, §10 vol.*)."""

    window_size: Annotated[int, Meta(ge=5, le=100)] = 30  # trades
    min_samples: Annotated[int, Meta(ge=2, le=20)] = 5  # trades
    default_volatility_cents: Annotated[int, Meta(ge=1, le=10)] = 2
    sigma_min_cents: Annotated[int, Meta(ge=1, le=5)] = 1
    sigma_max_cents: Annotated[int, Meta(ge=5, le=30)] = 15


class QuoteConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one market is quoted (§3, §10). Prices in cents, quantities in shares, times in ms."""

    # money
    initial_funding_cents: Annotated[int, Meta(ge=10_000)] = 500_000
    initial_price_cents: Annotated[int, Meta(ge=1, le=99)] = 50
    position_limit: Annotated[int, Meta(ge=1, le=25_000)] = 5_000
    cash_reserve_cents: Annotated[int, Meta(ge=0)] = 0
    allow_buy: bool = True

    # prices
    anchor_initial_weight: Ratio = 0.70
    anchor_decay_ms: Annotated[int, Meta(ge=60_000)] = 3_600_000
    microprice_weight: Ratio = 0.20
    microprice_min_depth: Annotated[int, Meta(ge=0)] = 10
    microprice_lambda: Annotated[float, Meta(ge=0.0, le=5.0)] = 0.5  # per cent of distance
    microprice_levels: Annotated[int, Meta(ge=1, le=5)] = 3
    base_learning_rate: Annotated[float, Meta(ge=0.02, le=0.30)] = 0.15
    learning_rate_min: Annotated[float, Meta(ge=0.001, le=0.30)] = 0.02
    learning_rate_max: Annotated[float, Meta(ge=0.02, le=1.0)] = 0.30
    gamma_short: Annotated[float, Meta(ge=0.5, le=5.0)] = 2.5
    gamma_mid: Annotated[float, Meta(ge=0.5, le=3.0)] = 1.5
    gamma_long: Annotated[float, Meta(ge=0.1, le=2.0)] = 0.8
    time_smoothing_kappa: Annotated[float, Meta(ge=1.0, le=168.0)] = 24.0  # hours
    min_adjustment: Annotated[int, Meta(ge=0, le=5)] = 0
    min_price: Annotated[int, Meta(ge=1, le=30)] = 5
    max_price: Annotated[int, Meta(ge=70, le=99)] = 95
    vol: VolatilityConfig = VolatilityConfig()

    # spreads and ladder
    base_spread_cents: Annotated[int, Meta(ge=1, le=10)] = 2  # half-spread per side
    max_spread_cents: Annotated[int, Meta(ge=5, le=30)] = 15  # cap of each half
    spread_skew_factor: Ratio = 0.5
    qty_skew_factor: Ratio = 0.3
    qty_per_level: Annotated[int, Meta(ge=1, le=10_000)] = 100
    exploration: ExplorationConfig = ExplorationConfig()
    stabilization: StabilizationConfig = StabilizationConfig()

    # timing and gates
    quote_interval_ms: Annotated[int, Meta(ge=100, le=60_000)] = 1_000
    post_fill_delay_ms: Annotated[int, Meta(ge=500, le=10_000)] = 2_500
    replace_rate_limit: Annotated[int, Meta(ge=100, le=1_000)] = 400  # per minute and market


class MarketConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One market: its id, where it runs, and what it overrides of [quote]."""

    id: Annotated[str, Meta(pattern=MARKET_ID_PATTERN)]
    core: Annotated[int, Meta(ge=0)] | None = None  # CPU core; None = planned by the supervisor
    quote: QuoteConfig = QuoteConfig()


class EngineConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The processes of one engine."""

    run_dir: str = ""  # "" = a fresh private directory
    wait: Literal["spin", "yield", "park"] = "park"
    spin_count: Annotated[int, Meta(ge=0, le=10_000_000)] = 200  # park: polls before sleeping
    cores: list[Annotated[int, Meta(ge=0)]] | None = None  # None = all allowed cores, round robin
    workers: Annotated[int, Meta(ge=0, le=1024)] = 0  # quoter processes; 0 = one per market
    heartbeat_timeout_ms: Annotated[int, Meta(ge=200, le=60_000)] = 1_000
    start_timeout_ms: Annotated[int, Meta(ge=1_000, le=120_000)] = 30_000
    stop_timeout_ms: Annotated[int, Meta(ge=500, le=60_000)] = 10_000
    restart_backoff_min_ms: Annotated[int, Meta(ge=10, le=10_000)] = 100
    restart_backoff_max_ms: Annotated[int, Meta(ge=100, le=60_000)] = 10_000


class VenueConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The exchange account. Secrets come from the environment or a 0600 file, never from here."""

    url: Annotated[str, Meta(pattern=r"^https?://[^\s/]+(:\d+)?$")] = "http://127.0.0.1:8000"
    username: str = "amm_market_maker"
    password_env: str = "COREQUOTE_AMM_PASSWORD"  # noqa: S105 - the name of a variable
    password_file: str = ""  # read instead of the variable when set; must be 0600
    request_timeout_ms: Annotated[int, Meta(ge=50, le=60_000)] = 2_000
    connections: Annotated[int, Meta(ge=1, le=256)] = 16
    order_rate_limit: Annotated[int, Meta(ge=10, le=100_000)] = 600  # per minute and account
    trade_poll_interval_ms: Annotated[int, Meta(ge=100, le=60_000)] = 1_000
    status_poll_interval_ms: Annotated[int, Meta(ge=100, le=5_000)] = 1_000
    reconcile_interval_ms: Annotated[int, Meta(ge=1_000, le=600_000)] = 300_000


class RedisConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the published copy goes."""

    url: Annotated[str, Meta(pattern=r"^$|^(redis|rediss|unix)://\S+$")] = ""  # "" = embedded Valkey
    interval_ms: Annotated[int, Meta(ge=1, le=5_000)] = 50  # longest wait of a changed row
    timeout_ms: Annotated[int, Meta(ge=50, le=60_000)] = 1_000
    publish_updates: bool = True  # PUBLISH market id and version on amm:updates


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole configuration file."""

    engine: EngineConfig = EngineConfig()
    venue: VenueConfig = VenueConfig()
    redis: RedisConfig = RedisConfig()
    quote: QuoteConfig = QuoteConfig()
    markets: Annotated[list[MarketConfig], Meta(min_length=1, max_length=4000)] = field(default_factory=list)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``base``, table by table."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _validation_line(where: str, error: msgspec.ValidationError) -> str:
    """msgspec's "message - at `$.path`" as ``where: path: message``."""
    text = str(error)
    match = re.search(r"^(.*?) - at `\$\.?(.*)`$", text, re.DOTALL)
    return f"{where}: {match.group(2)}: {match.group(1)}" if match else f"{where}: {text}"


def _check_quote(where: str, quote: QuoteConfig) -> None:
    """Relations between fields (§10 validator, the rows this configuration has)."""
    rules = (
        (
            quote.min_price < quote.max_price,
            f"min_price={quote.min_price} must be below max_price={quote.max_price}",
        ),
        (
            quote.anchor_initial_weight + quote.microprice_weight <= 1.0,
            f"anchor_initial_weight={quote.anchor_initial_weight} + microprice_weight="
            f"{quote.microprice_weight} must not exceed 1",
        ),
        (
            quote.learning_rate_min <= quote.base_learning_rate <= quote.learning_rate_max,
            f"base_learning_rate={quote.base_learning_rate} must lie between learning_rate_min="
            f"{quote.learning_rate_min} and learning_rate_max={quote.learning_rate_max}",
        ),
        (
            # n of the learning rate counts 256 trades at most: alpha must have reached its floor by then
            16 * quote.learning_rate_min >= quote.base_learning_rate,
            f"learning_rate_min={quote.learning_rate_min} must be at least a sixteenth of base_learning_rate="
            f"{quote.base_learning_rate}",
        ),
        (
            quote.vol.sigma_min_cents < quote.vol.sigma_max_cents,
            f"vol.sigma_min_cents={quote.vol.sigma_min_cents} must be below vol.sigma_max_cents="
            f"{quote.vol.sigma_max_cents}",
        ),
        (
            quote.base_spread_cents <= quote.max_spread_cents,
            f"base_spread_cents={quote.base_spread_cents} must not exceed max_spread_cents="
            f"{quote.max_spread_cents}",
        ),
    )
    for holds, message in rules:
        if not holds:
            raise ConfigError(f"{where}: {message}")


def parse(document: dict[str, Any], where: str) -> Config:
    """A parsed TOML document -> Config. ``where`` names the source in errors. Raises ConfigError."""
    document = dict(document)
    shared = document.get("quote", {})
    markets = document.get("markets", [])
    if isinstance(shared, dict) and isinstance(markets, list):
        document["markets"] = [
            _merged({"quote": shared}, market) if isinstance(market, dict) else market for market in markets
        ]
    try:
        config = msgspec.convert(document, Config, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(_validation_line(where, error)) from None
    seen: set[str] = set()
    for index, market in enumerate(config.markets):
        if market.id in seen:
            raise ConfigError(f"{where}: markets[{index}].id: {market.id} is configured twice")
        seen.add(market.id)
        _check_quote(f"{where}: markets[{index}].quote", market.quote)
    if config.engine.restart_backoff_min_ms > config.engine.restart_backoff_max_ms:
        raise ConfigError(
            f"{where}: engine.restart_backoff_min_ms={config.engine.restart_backoff_min_ms} must not exceed "
            f"restart_backoff_max_ms={config.engine.restart_backoff_max_ms}"
        )
    return config


def load(path: Path) -> Config:
    """Reads and validates a TOML file. Raises ConfigError with one line."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    try:
        document = tomllib.loads(raw.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    return parse(document, str(path))


def market_json(market: MarketConfig) -> bytes:
    """A market's effective configuration as it travels through its config slot."""
    return msgspec.json.encode(market)


_market_decoder = msgspec.json.Decoder(MarketConfig)


def market_from_json(payload: bytes) -> MarketConfig:
    """Inverse of :func:`market_json`."""
    return _market_decoder.decode(payload)
