"""``corequote audit``: the exchange's database against the engine's books, as a table or as JSON."""

from __future__ import annotations

import asyncio
import sys
from datetime import date
from typing import Annotated

import msgspec
import typer

from engine import rundir
from engine.config import EXIT_CONFIG, EXIT_USAGE
from engine.terminal import EXIT_FAILED, EXIT_NOT_RUNNING, RunDirOption, fail, the_run


def audit_command(
    database: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="COREQUOTE_AUDIT_DATABASE",
            help="postgresql://USER:PASSWORD@HOST/NAME of the exchange; a role that may only read will do.",
        ),
    ],
    market: Annotated[str, typer.Option(metavar="MARKET", help="The market's id.")],
    day: Annotated[str, typer.Option(metavar="DAY", help="As 2026-11-21, in the market's day_reset_tz.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Every cell compared, as one JSON document.")
    ] = False,
    run_dir: RunDirOption = None,
) -> None:
    """Compare the exchange's books with ours: trades, fees, PnL, positions, cash, orders, mints and burns.

    Ours are the published copy in Redis and the fold of what the gateway booked. Nothing is written.

    Exit codes: 0 all equal; 1 a difference, each with column, the exchange's value and ours; 2 usage; 3
    nothing runs; 78 the database or Redis cannot be read.
    """
    from engine import audit_view  # noqa: PLC0415
    from engine.books.audit import audit, run_config  # noqa: PLC0415
    from engine.books.exchange import BooksError  # noqa: PLC0415

    try:
        wanted = date.fromisoformat(day)
    except ValueError:
        raise fail(f"--day {day}: must be a date such as 2026-11-21", EXIT_USAGE) from None
    if not database.startswith(("postgresql://", "postgres://")):
        raise fail("--database: postgresql://USER:PASSWORD@HOST/NAME is the rule", EXIT_USAGE)
    try:
        chosen = the_run(run_dir)
        rundir.attach(chosen)
        known = [configured.id for configured in run_config(chosen).markets]
        if market not in known:
            raise fail(f"no market {market!r} in this run: {', '.join(known[:8])}", EXIT_USAGE)
        result = asyncio.run(audit(chosen, database=database, market_id=market, day=wanted))
    except rundir.RunDirError as error:
        raise fail(error, EXIT_NOT_RUNNING) from None
    except BooksError as error:
        raise fail(error, EXIT_CONFIG) from None
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    else:
        audit_view.show(result)
    raise typer.Exit(0 if result.equal else EXIT_FAILED)
