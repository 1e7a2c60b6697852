"""An audit as a table: what is equal in short, what differs in full."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table

from engine.books.audit import Audit
from engine.books.compare import Comparison

_ROWS_MAX: Final = 200
_SUMMARY_TABLES: Final = frozenset({"trades", "amm:orders"})  # rows of which are not shown
_PLAIN_WIDTH: Final = 160


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
