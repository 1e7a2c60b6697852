"""``corequote config``: check a file, show what a market runs on, change it while it runs."""

from __future__ import annotations

import asyncio
import getpass
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import orjson
import typer

from engine import config, config_view, override_store, rundir
from engine.arena import ArenaError
from engine.config import EXIT_CONFIG, EXIT_USAGE, Config, ConfigError, MarketConfig
from engine.config.edit import Edit, Edited, edited
from engine.config.names import ALIASES
from engine.config.override import check_reloadable, value_from_text
from engine.terminal import EXIT_FAILED, EXIT_NOT_RUNNING, RunDirOption, fail, the_run
from engine.workers.process import CONFIG_FILE
from engine.workers.redis_link import RedisAddress, RedisFaultError, RedisLink

_TTL: Final = re.compile(r"([1-9][0-9]{0,11})(ms|s|m|h|d)?")
_UNIT_MS: Final = {None: 1, "ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_REDIS_TIMEOUT_S: Final = 2.0

app = typer.Typer(
    help="Check a configuration file; show and change what a market runs on.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.command()
def check(
    config_file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML file.")],
) -> None:
    """Read FILE as `corequote run` would, and start nothing.

    Exit codes: 0 it can be used, with a summary; 78 it cannot, and one line says where and why.
    """
    try:
        loaded = config.load(config_file, warn=lambda line: print(f"corequote: {line}", file=sys.stderr))
    except ConfigError as error:
        raise fail(error, EXIT_CONFIG) from None
    for line in config_view.summary(loaded):
        print(line)


@app.command()
def show(
    market: Annotated[str, typer.Argument(metavar="MARKET")],
    run_dir: RunDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
) -> None:
    """Show every parameter of a running market: value in force, unit, origin, and when it can change.

    Exit codes: 0 shown; 2 no such market, or several engines run; 3 nothing runs.
    """
    try:
        view = config_view.collect(the_run(run_dir), market)
    except (rundir.RunDirError, ArenaError) as error:
        raise fail(error, EXIT_NOT_RUNNING) from None
    except config_view.UnknownMarketError as error:
        raise fail(error, EXIT_USAGE) from None
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(msgspec.to_builtins(view)) + b"\n")
    else:
        config_view.show(view)


def _milliseconds(text: str) -> int:
    """``90s``, ``30m``, ``12h``, ``1d`` or plain milliseconds."""
    match = _TTL.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r}: must be a number with ms, s, m, h or d behind it")
    return int(match[1]) * _UNIT_MS[match[2]]


def _values(assignments: list[str]) -> dict[str, Any]:
    """KEY=VALUE words as typed values by declared name. Raises ConfigError."""
    found: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{assignment!r}: must be KEY=VALUE")
        check_reloadable(name)
        declared = ALIASES.get(name, name)
        if declared in found:
            raise ConfigError(f"{name}: {declared} is given twice")
        found[declared] = value_from_text(name, text)
    return found


@app.command("set")
def set_values(
    market: Annotated[str, typer.Argument(metavar="MARKET")],
    assignments: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Names of docs/configuration.md.")
    ] = None,
    all_fields: Annotated[
        bool, typer.Option("--all", help="Write all 14 fields of the hash, with the values then in force.")
    ] = False,
    reset: Annotated[
        bool, typer.Option("--reset", help="Forget what was set before; without KEY=VALUE back to the file.")
    ] = False,
    ttl: Annotated[
        str | None, typer.Option(metavar="TIME", help="Back to the file after it: 90s, 30m, 12h, 1d.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who changes it; default: your login.")
    ] = None,
    run_dir: RunDirOption = None,
) -> None:
    """Change parameters of a running market, through its `amm:config` hash in Redis.

    The whole change is checked first, then written together with a raised config_version in one
    transaction; the engine takes it up at its next look. Values set before stay, unless their time is over.

    Exit codes: 0 written; 1 Redis did not take it; 2 usage; 3 nothing runs; 78 refused, nothing written.
    """
    if not assignments and not reset and not all_fields:
        raise fail("nothing to set: give KEY=VALUE, --all or --reset", EXIT_USAGE)
    try:
        chosen = the_run(run_dir)
        base = _base_of(chosen, market)
        in_force = config_view.collect(chosen, market)
        edit = Edit(
            values=_values(assignments or []),
            all_fields=all_fields,
            reset=reset,
            ttl_ms=None if ttl is None else _milliseconds(ttl),
            by=getpass.getuser() if by is None else by,
        )

        def change(raw: Mapping[bytes, bytes]) -> Edited:
            return edited(
                raw,
                edit,
                base=base,
                in_force=in_force.market,
                applied=in_force.slot_version,
                now_ms=time.time_ns() // 1_000_000,
            )

        result = asyncio.run(_write(rundir.read_info(chosen).redis_url, market, change))
    except (rundir.RunDirError, ArenaError) as error:
        raise fail(error, EXIT_NOT_RUNNING) from None
    except config_view.UnknownMarketError as error:
        raise fail(error, EXIT_USAGE) from None
    except ConfigError as error:
        raise fail(f"{market}: {error}; nothing written", EXIT_CONFIG) from None
    except RedisFaultError as error:
        raise fail(f"{market}: Redis: {error.fault.value}: {error}", EXIT_FAILED) from None
    seconds = base.quote.config_reload_interval_ms / 1_000
    print(f"{market}: config_version {result.version} written, taken up within {seconds:g} s")


def _base_of(run_dir: Path, market_id: str) -> MarketConfig:
    """The market by its file. Raises RunDirError or UnknownMarketError."""
    path = run_dir / CONFIG_FILE
    try:
        loaded = msgspec.json.decode(path.read_bytes(), type=Config)
    except (OSError, msgspec.DecodeError) as error:
        raise rundir.RunDirError(f"{path}: {error}") from None
    for market in loaded.markets:
        if market.id == market_id:
            return market
    raise config_view.UnknownMarketError(market_id, [market.id for market in loaded.markets])


async def _write(redis_url: str, market_id: str, change: Any) -> Edited:
    link = await RedisLink.connect(RedisAddress.parse(redis_url), timeout_s=_REDIS_TIMEOUT_S)
    try:
        return await override_store.change(link, market_id, change)
    finally:
        link.close()
