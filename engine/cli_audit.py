"""``corequote audit``: the exchange's database against the engine's books, as a table or as JSON."""

from __future__ import annotations

import asyncio
import sys
from datetime import date
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from engine import rundir
from engine.books.audit import Audit, audit, run_config
from engine.books.compare import Comparison
from engine.books.exchange import BooksError
from engine.config import EXIT_CONFIG, EXIT_USAGE
from engine.terminal import EXIT_FAILED, EXIT_NOT_RUNNING, RunDirOption, fail, the_run

_ROWS_MAX: Final = 200
_SUMMARY_TABLES: Final = frozenset({"trades", "amm:orders"})  # rows of which are not shown
_PLAIN_WIDTH: Final = 160


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
        show(result)
    raise typer.Exit(0 if result.equal else EXIT_FAILED)


def show(result: Audit, console: Console | None = None) -> None:
    """Prints what is equal in short, or what differs in full."""
    if console is None:
        console = Console(highlight=False, markup=False)
        if not console.is_terminal:
            console.width = _PLAIN_WIDTH
    console.print(
        f"{result.market} {result.day} ({result.time_zone}), account {result.account}: "
        f"{result.legs} legs, {result.compared} cells compared, {len(result.differences)} differ",
        soft_wrap=True,
    )
    if result.legs_taken_over:
        console.print(f"{result.legs_taken_over} legs from before our bookings are the exchange's word")
    if result.legs_not_in_processed:
        console.print(f"{result.legs_not_in_processed} legs of the day are not in amm:processed")
    shown = result.differences or [cell for cell in result.cells if cell.table not in _SUMMARY_TABLES]
    console.print(_table(shown[:_ROWS_MAX]))
    if len(shown) > _ROWS_MAX:
        console.print(f"and {len(shown) - _ROWS_MAX} more: --json lists all")


def _table(cells: list[Comparison]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("table", "row", "column"):
        table.add_column(name, overflow="fold")
    for name in ("exchange's", "ours"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("ours is of")
    for cell in cells:
        table.add_row(cell.table, cell.row, cell.column, _text(cell.exchange), _text(cell.ours), cell.source)
    return table


def _text(value: object) -> str:
    return "-" if value is None else str(value)
