"""``corequote oracle``: a person's price into the Redis of a running engine."""

from __future__ import annotations

import asyncio
import getpass
import time
from pathlib import Path

import msgspec

from engine import oracle_store, rundir
from engine.config import Config, ConfigError
from engine.config.oracle import OperatorOracle
from engine.oracle_store import OracleValueError
from engine.workers.process import CONFIG_FILE
from engine.workers.redis_link import RedisAddress, RedisFaultError

_NS_PER_MS = 1_000_000


def say(run_dir: Path, market_id: str, *, price_cents: int | None, ttl_s: float) -> str:
    """Writes the price, or removes it (None); a line for the person.

    Raises OracleValueError for a price or market that cannot be, ConfigError when the market's oracle is not
    the operator or Redis does not take it, RunDirError without a run.
    """
    config = _configuration(run_dir)
    market = next((market for market in config.markets if market.id == market_id), None)
    if market is None:
        known = ", ".join(market.id for market in config.markets[:8])
        raise OracleValueError(f"market {market_id!r} is not in this run: {known}")
    if not isinstance(market.oracle, OperatorOracle):
        source = "none" if market.oracle is None else msgspec.to_builtins(market.oracle)["source"]
        raise ConfigError(
            f'market {market_id}: its oracle is {source}; set markets.oracle source = "operator" and restart'
        )
    price = None
    if price_cents is not None:
        price = oracle_store.checked(
            price_cents=price_cents,
            set_at_ms=time.time_ns() // _NS_PER_MS,
            set_by=_who(),
            ttl_ms=round(ttl_s * 1000),
        )
    try:
        address = RedisAddress.parse(config.redis.url)
        asyncio.run(oracle_store.write(address, market_id, price))
    except (ValueError, RedisFaultError) as error:
        raise ConfigError(f"redis: {error}") from None
    if price is None:
        return f"{market_id}: oracle price cleared"
    return f"{market_id}: oracle price {price.price_cents} cents for {price.ttl_ms / 1000:g} s"


def _configuration(run_dir: Path) -> Config:
    path = run_dir / CONFIG_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Config)
    except (OSError, msgspec.DecodeError) as error:
        raise rundir.RunDirError(f"{path}: {error}") from None


def _who() -> str:
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):  # a user without a name
        return "unknown"
