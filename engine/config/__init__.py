"""Configuration: what every process reads, declared, layered and checked.

``setting`` declares a parameter; ``quote``, ``risk`` and ``sections`` declare them all, ``rules`` relates
them, ``names`` knows their other names, ``file`` reads TOML, ``override`` the Redis hash, ``edit`` changes
it. Layers: code default < TOML [quote] < a market's [markets.quote] < Redis ``amm:config`` (market-making
§10).
"""

from engine.config.errors import EXIT_CONFIG, EXIT_USAGE, ConfigError
from engine.config.file import (
    MARKET_ID_PATTERN,
    AppliedOverride,
    Config,
    MarketConfig,
    Origin,
    Origins,
    load,
    market_from_json,
    market_json,
    parse,
)
from engine.config.quote import (
    ExplorationConfig,
    QuoteConfig,
    RollbackConfig,
    StabilizationConfig,
    VolatilityConfig,
)
from engine.config.risk import RiskConfig
from engine.config.sections import EngineConfig, RedisConfig, VenueConfig

__all__ = [
    "EXIT_CONFIG",
    "EXIT_USAGE",
    "MARKET_ID_PATTERN",
    "AppliedOverride",
    "Config",
    "ConfigError",
    "EngineConfig",
    "ExplorationConfig",
    "MarketConfig",
    "Origin",
    "Origins",
    "QuoteConfig",
    "RedisConfig",
    "RiskConfig",
    "RollbackConfig",
    "StabilizationConfig",
    "VenueConfig",
    "VolatilityConfig",
    "load",
    "market_from_json",
    "market_json",
    "parse",
]
