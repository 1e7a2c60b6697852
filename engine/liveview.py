"""The live terminal view of a running engine: one table of markets, one of processes, four times a second.

Reads: snapshots of the arena (:mod:`engine.snapshot`). Writes: the terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import psutil
from msgspec import Struct
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from engine.events import Gate, Kill, Lifecycle, MarketStatus, Phase, ProcessState
from engine.snapshot import MarketView, ProcessView, Snapshot, book_messages_per_s

REFRESH_S: Final = 0.25
_RATE_WINDOW: Final = 8  # refreshes over which rates are averaged


class ProcessUse(Struct, frozen=True, kw_only=True):
    """What a process takes: resident memory in bytes, CPU in per cent of one core since the last look."""

    rss_bytes: int
    cpu_percent: float


class ProcessWatch:
    """Asks the kernel about processes; remembers them, because CPU use is a difference of two looks."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def look(self, pids: list[int]) -> dict[int, ProcessUse]:
        """Use by pid; processes that are gone are left out."""
        self._known = {pid: process for pid, process in self._known.items() if pid in pids}
        found = {}
        for pid in pids:
            try:
                if pid not in self._known:
                    self._known[pid] = psutil.Process(pid)
                process = self._known[pid]
                with process.oneshot():
                    found[pid] = ProcessUse(
                        rss_bytes=process.memory_info().rss, cpu_percent=process.cpu_percent()
                    )
            except psutil.Error:
                self._known.pop(pid, None)
        return found


def money(cents: int, *, signed: bool = False) -> str:
    """``$1,234.56``; negative ``-$12.00``; with an explicit plus when ``signed``."""
    sign = "-" if cents < 0 else "+" if signed else ""
    return f"{sign}${abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def duration(nanoseconds: int | None) -> str:
    """Three significant digits in the unit that fits; a dash for nothing."""
    if nanoseconds is None:
        return "-"
    for unit, scale in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        if nanoseconds >= scale:
            return f"{nanoseconds / scale:.3g} {unit}"
    return f"{nanoseconds} ns"


def condition(market: MarketView) -> str:
    """What holds a market back, or "quoting": kill words before gates."""
    state = market.state
    if state is None:
        return "starting"
    if market.kill:
        return " ".join(kill.name or "?" for kill in Kill(market.kill)).lower()
    if state.lifecycle not in (Lifecycle.RUNNING, Lifecycle.STARTING):
        return state.lifecycle.name.lower()
    if state.gates:
        return " ".join(gate.name or "?" for gate in Gate(state.gates)).lower()
    return "quoting" if state.own_bid_orders and state.own_ask_orders else "placing"


_TEXT_COLUMNS: Final = frozenset({"market", "phase", "now"})
_STATE_COLUMNS: Final = ("market", "phase", "now", "fair", "bid/ask", "live", "fills", "YES", "NO", "PnL")
_MACHINE_COLUMNS: Final = ("book/s", "t2q p50", "t2q p99", "pid", "cpu")
_WIDE: Final = 125
"""From this width on two groups of columns stand side by side."""

Cells = list[str | Text]


def market_tables(
    first: Sequence[str], second: Sequence[str], rows: Sequence[tuple[Cells, Cells]], *, width: int
) -> list[Table]:
    """One row per market: a group of columns that begins with the market, and another one.

    On a narrow terminal the second group becomes a table of its own, with the market before it; names of
    markets give way first.
    """
    if width >= _WIDE:
        return [_table((*first, *second), [[*left, *right] for left, right in rows])]
    return [
        _table(first, [left for left, _ in rows]),
        _table((first[0], *second), [[left[0], *right] for left, right in rows]),
    ]


def _table(names: Sequence[str], rows: Sequence[Cells]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in names:
        side: Literal["left", "right"] = "left" if name in _TEXT_COLUMNS else "right"
        table.add_column(name, justify=side, no_wrap=name != "market", overflow="ellipsis")
    for row in rows:
        table.add_row(*row)
    return table


def live_tables(snapshot: Snapshot, earlier: Snapshot, *, width: int) -> list[Table]:
    """What the markets do and what their machinery does; rates are since ``earlier``."""
    rows = [(_state_cells(market), _machine_cells(market, snapshot, earlier)) for market in snapshot.markets]
    return market_tables(_STATE_COLUMNS, _MACHINE_COLUMNS, rows, width=width)


def _state_cells(market: MarketView) -> Cells:
    state = market.state
    now = condition(market)
    shown = Text(now, "green" if now == "quoting" else "yellow")
    if state is None:
        return [market.market_id, "-", shown, *["-"] * 7]
    if state.market_status in (MarketStatus.ACTIVE, MarketStatus.UNKNOWN):
        phase = "explore" if state.phase is Phase.EXPLORATION else "stable"
    else:
        phase = state.market_status.name.lower()
    return [
        market.market_id,
        phase,
        shown,
        f"{state.reservation:.1f}" if state.fair_price_cents else "-",
        f"{state.touch_bid_cents or '-'}/{state.touch_ask_cents or '-'}",
        str(state.live_orders),
        str(state.fills),
        str(state.yes_volume),
        str(state.no_volume),
        money(state.daily_pnl_cents, signed=True),
    ]


def _machine_cells(market: MarketView, snapshot: Snapshot, earlier: Snapshot) -> Cells:
    quoter = snapshot.quoter_of(market)
    return [
        f"{book_messages_per_s(earlier, snapshot, market.market_id):.0f}",
        duration(market.tick_to_quote_ns.p50),
        duration(market.tick_to_quote_ns.p99),
        str(quoter.pid) if quoter else "-",
        "-" if quoter is None or quoter.cpu is None else str(quoter.cpu),
    ]


def processes_line(snapshot: Snapshot, use: Mapping[int, ProcessUse]) -> Text:
    """State, restarts, memory and CPU of every process of the engine, in one paragraph."""
    line = Text()
    for process in snapshot.processes:
        line.append(process.name, "bold")
        line.append(f" {process.state.name.lower()}", _state_style(process))
        if process.restarts:
            line.append(f" restarts {process.restarts}", "yellow")
        taken = use.get(process.pid)
        if taken is not None:
            line.append(f" {taken.rss_bytes / 2**20:.0f} MB {taken.cpu_percent:.0f} %", "dim")
        line.append("   ")
    return line


def _state_style(process: ProcessView) -> str:
    return "green" if process.state is ProcessState.RUNNING else "yellow"


class LiveView:
    """The view on a terminal; use as a context manager and call :meth:`show` every ``REFRESH_S``."""

    def __init__(self, console: Console) -> None:
        self._console: Final = console
        self._live: Final = Live(console=console, auto_refresh=False, transient=True)
        self._watch: Final = ProcessWatch()
        self._recent: list[Snapshot] = []

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, snapshot: Snapshot, headline: str) -> None:
        """Replaces what the terminal shows."""
        self._recent = [*self._recent[-_RATE_WINDOW + 1 :], snapshot]
        use = self._watch.look([process.pid for process in snapshot.processes if process.pid])
        view = Group(
            Text(headline, "bold"),
            "",
            *live_tables(snapshot, self._recent[0], width=self._console.width),
            "",
            processes_line(snapshot, use),
        )
        self._live.update(view, refresh=True)
