"""``python -m engine.paper``: the paper exchange as a process of its own."""

import argparse
import asyncio
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from msgspec.structs import replace

from engine.paper.config import EXIT_CONFIG, ConfigError, PaperConfig, Secrets, load_config
from engine.paper.dialect import DialectName
from engine.paper.event_bus import EventsError
from engine.paper.kafka import open_bus
from engine.paper.lifetime import bind_to_parent
from engine.paper.limits import LimitProfile
from engine.paper.migration import MigrationRefusedError, migrate
from engine.paper.postgres import Database, DatabaseError, embedded, external
from engine.paper.server import BindError, flush_print, serve
from engine.paper.store import StoreLostError

EXIT_LOST = 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m engine.paper",
        description="A prediction-market exchange to trade against: REST and WebSocket on PostgreSQL.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=8000, help="port to listen on, 0 for a free one (default %(default)s)"
    )
    parser.add_argument(
        "--port-file", type=Path, metavar="PATH", help="write HOST:PORT here once connections are accepted"
    )
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="markets, admins and limits")
    parser.add_argument(
        "--limits",
        type=LimitProfile,
        choices=list(LimitProfile),
        help="rate-limit profile (default contract)",
    )
    parser.add_argument(
        "--dialect",
        type=DialectName,
        choices=list(DialectName),
        help="how it speaks: as the contract says (the default) or like the platform as it was built, to "
        "test a client against both",
    )
    parser.add_argument(
        "--events",
        metavar="none|kafka://HOST:PORT[,HOST:PORT...]",
        help="event bus that every committed trade, order step and market status is published to "
        "(default none; kafka needs the extra corequote[kafka])",
    )
    parser.add_argument(
        "--snapshot-interval-ms", type=int, metavar="N", help="how often book streams repeat the snapshot"
    )
    parser.add_argument(
        "--faults",
        action="store_true",
        help="for tests and drills: administrators may switch faults on with PUT /admin/faults (delays, "
        "lost, cut, doubled and wrong answers, stream gaps and stalls, kill -9 at named points); without "
        "this option that route does not exist",
    )
    storage = parser.add_mutually_exclusive_group()
    storage.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="private directory (0700, created if missing) for an embedded PostgreSQL server; started again "
        "on it, the exchange continues where it was. Default: a fresh one, removed at the end",
    )
    storage.add_argument(
        "--database",
        metavar="URL",
        help="use this database (postgresql://USER:PASSWORD@HOST/NAME) instead of an embedded server",
    )
    parser.add_argument(
        "--migrate",
        metavar="REVISION",
        help="move the database's schema to this revision (a number such as 011, head, base) and exit",
    )
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port, 0..65535 is the rule")
    return int(text)


def _configure(options: argparse.Namespace) -> PaperConfig:
    config = load_config(options.config) if options.config is not None else PaperConfig()
    if options.limits is not None:
        config = replace(config, limits=options.limits)
    if options.dialect is not None:
        config = replace(config, dialect=options.dialect)
    if options.faults:
        config = replace(config, faults=True)
    if options.events is not None:
        try:
            config = replace(config, events=options.events)
        except ValueError as error:
            raise ConfigError(f"--{error}") from error
    if options.snapshot_interval_ms is not None:
        if not 100 <= options.snapshot_interval_ms <= 3_600_000:
            raise ConfigError(
                f"--snapshot-interval-ms = {options.snapshot_interval_ms}: 100..3600000 is the rule"
            )
        config = replace(config, snapshot_interval_ms=options.snapshot_interval_ms)
    return config


def _storage(options: argparse.Namespace) -> AbstractContextManager[Database]:
    if options.database is not None:
        return nullcontext(external(options.database))
    return embedded(options.data)


async def _migrate(database: Database, revision: str) -> None:
    await migrate(await database.owner.connect(), revision)


def main(arguments: list[str] | None = None) -> int:
    """Run the exchange; answers the exit code: 0 stopped, 1 database lost, 2 usage, 78 configuration."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        bind_to_parent()
        storage = _storage(options)
        if options.migrate is not None:
            with storage as database:
                asyncio.run(_migrate(database, options.migrate))
            return 0
        config = _configure(options)
        serve(
            config,
            options.host,
            options.port,
            secret=Secrets.from_environment(os.environ),
            storage=storage,
            bus=open_bus(config.events),
            port_file=options.port_file,
            announce=flush_print,
        )
    except (ConfigError, BindError, DatabaseError, EventsError, MigrationRefusedError) as error:
        print(f"corequote paper: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except StoreLostError as error:
        print(f"corequote paper: {error}", file=sys.stderr)
        return EXIT_LOST
    except ValueError as error:
        print(f"corequote paper: {error}", file=sys.stderr)
        return EXIT_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
