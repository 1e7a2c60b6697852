"""What a market runs on, for people and programs: value, unit, layer and reload class of every parameter."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from engine import rundir
from engine.config import Config, MarketConfig, Origin, QuoteConfig, market_from_json
from engine.config.names import PARAMETERS
from engine.config.setting import Hot, Parameter
from engine.config_state import Refused, read_state

_PLAIN_WIDTH: Final = 140
_HOT: Final = {"H": "next cycle", "W": "next cycle, safety", "C": "restart", "L": "never"}
_NAMED_MARKETS_MAX: Final = 12


class UnknownMarketError(Exception):
    """No market of the run has this name; the message is one line."""

    def __init__(self, market_id: str, known: list[str]) -> None:
        shown = ", ".join(known[:_NAMED_MARKETS_MAX]) + (" ..." if len(known) > _NAMED_MARKETS_MAX else "")
        super().__init__(f"no market {market_id!r} in this run: {shown}")


class Value(Struct, frozen=True, kw_only=True):
    """One parameter in force."""

    name: str
    value: Any
    unit: str
    origin: Origin
    hot: Hot


class ConfigView(Struct, frozen=True, kw_only=True):
    """One market's configuration in force and what hot reload has to say about it."""

    market: MarketConfig
    slot_version: int
    values: tuple[Value, ...]
    refused: Refused | None
    source_fault: str  # why amm:config cannot be read; "" = it can


def value_of(quote: QuoteConfig, parameter: Parameter) -> Any:
    """A parameter's value in force; one that stands for another is resolved where that can be done."""
    if parameter.name == "min_asset_floor_cents":
        return quote.asset_floor_cents
    if parameter.name == "rollback.pnl_rollback_threshold":
        return quote.pnl_rollback_cents
    place: Any = quote
    for part in parameter.name.split("."):
        place = getattr(place, part)
    return place


def collect(run_dir: Path, market_id: str) -> ConfigView:
    """Looks at a live run once. Raises RunDirError, ArenaError or UnknownMarketError."""
    arena = rundir.attach(run_dir)
    slots = {arena.market_id(slot): slot for slot in arena.used_markets()}
    if market_id not in slots:
        raise UnknownMarketError(market_id, sorted(slots))
    version, payload = arena.config_bytes(slots[market_id])
    market = market_from_json(payload)
    state = read_state(run_dir)
    return ConfigView(
        market=market,
        slot_version=version,
        values=tuple(
            Value(
                name=parameter.name,
                value=value_of(market.quote, parameter),
                unit=parameter.unit,
                origin=market.origins.of(parameter.name),
                hot=parameter.hot,
            )
            for parameter in PARAMETERS.values()
        ),
        refused=state.refused.get(market_id),
        source_fault=state.source_fault,
    )


def _moment(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1_000, UTC).isoformat(timespec="seconds")


def _heading(view: ConfigView) -> Iterator[str]:
    yield f"{view.market.id}: version {view.slot_version} in force"
    override = view.market.override
    if override is not None:
        line = f"override: config_version {override.version}"
        if override.updated_by:
            line += f" by {override.updated_by}"
        if override.updated_at_ms:
            line += f" at {_moment(override.updated_at_ms)}"
        if override.expires_at_ms is not None:
            line += f", until {_moment(override.expires_at_ms)}"
        yield line
    if view.refused is not None:
        yield f"REFUSED: config_version {view.refused.config_version}: {view.refused.reason}"
    if view.source_fault:
        yield f"amm:config cannot be read ({view.source_fault}): the last values hold"


def show(view: ConfigView, console: Console | None = None) -> None:
    """Prints the table."""
    if console is None:
        console = Console(highlight=False, markup=False)
        if not console.is_terminal:
            console.width = _PLAIN_WIDTH
    for line in _heading(view):
        console.print(line, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("parameter")
    table.add_column("value", justify="right")
    for name in ("unit", "from", "changes"):
        table.add_column(name)
    for value in view.values:
        shown = "from the market" if value.value is None else str(value.value)
        table.add_row(value.name, shown, value.unit, value.origin.value, _HOT[value.hot])
    console.print()
    console.print(table)


def summary(config: Config) -> list[str]:
    """What a configuration file comes to, one line per fact."""
    quoters = min(config.engine.workers or len(config.markets), len(config.markets))
    lines = [
        f"valid: {len(config.markets)} markets, {quoters} quoters, exchange {config.venue.url} as "
        f"{config.venue.username}, {'Redis of its own' if config.redis.url else 'embedded Valkey'}"
    ]
    for market in config.markets:
        quote = market.quote
        given = len(market.origins.file_global) + len(market.origins.file_market)
        lines.append(
            f"{market.id}: {given} parameters given; funding {quote.initial_funding_cents} ¢, position limit "
            f"{quote.position_limit}, daily loss {quote.max_loss_daily_cents} ¢, half-spread "
            f"{quote.base_spread_cents} to {quote.max_spread_cents} ¢"
        )
    return lines
