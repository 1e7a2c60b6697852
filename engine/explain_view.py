"""``corequote explain``: the current decision of one market, as tables or as one JSON document."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import orjson
from rich.console import Console
from rich.table import Table

from engine import rundir
from engine.config_view import UnknownMarketError
from engine.explain import Explanation, explain
from engine.snapshot import plain, take

_PLAIN_WIDTH: Final = 160


def collect(run_dir: Path, market_id: str) -> Explanation:
    """Looks at a live run once. Raises RunDirError, ArenaError, or UnknownMarketError."""
    snapshot = take(rundir.attach(run_dir))
    market = next((market for market in snapshot.markets if market.market_id == market_id), None)
    if market is None:
        raise UnknownMarketError(market_id, [market.market_id for market in snapshot.markets])
    return explain(market, unix_ns=snapshot.unix_ns, mono_ns=snapshot.mono_ns)


def as_json(explanation: Explanation) -> bytes:
    return orjson.dumps(plain(explanation))


def show(explanation: Explanation, console: Console | None = None) -> None:
    """Prints the market's steps, from inputs to prices."""
    if console is None:
        console = Console(highlight=False, markup=False)
        if not console.is_terminal:
            console.width = _PLAIN_WIDTH
    if not explanation.parts:
        console.print(f"{explanation.market_id}: its quoter has said nothing yet")
        return
    if explanation.decided_unix_ms:
        age_s = (explanation.looked_unix_ms - explanation.decided_unix_ms) / 1000
        head = f"decided {max(0.0, age_s):.1f} s ago"
    else:
        head = "nothing decided yet"
    console.print(f"{explanation.market_id}: {head}; sections of the market-making specification")
    for part in explanation.parts:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(min_width=5)
        table.add_column(min_width=18)
        table.add_column(min_width=28)
        table.add_column(overflow="fold")
        for line in part.lines:
            table.add_row(line.section, line.name, line.value, line.how)
        console.print()
        console.print(part.title)
        console.print(table)
