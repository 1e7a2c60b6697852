"""What ``corequote status`` shows of a run: tables for a person, or one JSON document for a program."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import orjson
import psutil
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from engine import rundir, scheduling
from engine._native import lib
from engine.alerts import AlertCount
from engine.config_state import OverridesState, read_state
from engine.snapshot import Histogram, MarketView, ProcessView, Snapshot, plain, take

_NS_PER_US = 1_000
_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000
_PLAIN_WIDTH = 180


class Status(Struct, frozen=True, kw_only=True):
    """One look at one run."""

    run_dir: str
    run: rundir.RunInfo
    rss_bytes: dict[str, int]  # resident memory by process name, for those that live
    scheduling: dict[str, str]  # the same, by the kernel's word: "rr 12" (real time, its priority), "other"
    arena: Snapshot
    overrides: OverridesState  # what hot reload refused, and whether it can read Redis


def layout() -> str:
    """The layout hash of shared memory that this build speaks."""
    return f"{lib.arena_layout_hash():016x}"


def _rss_bytes(processes: tuple[ProcessView, ...]) -> dict[str, int]:
    found = {}
    for process in processes:
        if process.pid == 0:
            continue
        try:
            found[process.name] = int(psutil.Process(process.pid).memory_info().rss)
        except psutil.Error:  # it ended after the snapshot
            continue
    return found


def _scheduling(processes: tuple[ProcessView, ...]) -> dict[str, str]:
    found = {}
    for process in processes:
        if process.pid == 0:
            continue
        with suppress(OSError):  # it ended after the snapshot
            found[process.name] = scheduling.in_force(process.pid)
    return found


def collect(run_dir: Path) -> Status:
    """Attaches to a live run and looks at it once. Raises RunDirError or ArenaError."""
    arena = rundir.attach(run_dir)
    info = rundir.read_info(run_dir)
    snapshot = take(arena)
    return Status(
        run_dir=str(run_dir),
        run=info,
        rss_bytes=_rss_bytes(snapshot.processes),
        scheduling=_scheduling(snapshot.processes),
        arena=snapshot,
        overrides=read_state(run_dir),
    )


def as_json(status: Status) -> bytes:
    return orjson.dumps(plain(status))


def _micros(value_ns: int | None) -> str:
    return "-" if value_ns is None else f"{value_ns / _NS_PER_US:,.0f}"


def _dollars(value_cents: int) -> str:
    return f"{'-' if value_cents < 0 else ''}${abs(value_cents) // 100:,}.{abs(value_cents) % 100:02d}"


def _process_table(status: Status) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("process", "state"):
        table.add_column(name)
    for name in ("pid", "cpu", "sched", "beat ms ago", "restarts", "RSS MiB", "pass p99 µs"):
        table.add_column(name, justify="right")
    for process in status.arena.processes:
        rss = status.rss_bytes.get(process.name)
        cpu = process.cpu if process.cpu is not None else process.planned_cpu
        age = process.heartbeat_age_ns
        table.add_row(
            process.name,
            process.state.name.lower(),
            str(process.pid) if process.pid else "-",
            "-" if cpu is None else str(cpu),
            status.scheduling.get(process.name, "-"),
            "-" if age is None else str(age // _NS_PER_MS),
            str(process.restarts),
            "-" if rss is None else f"{rss / 2**20:.0f}",
            _micros(process.pass_ns.p99),
        )
    return table


def _latency(histogram: Histogram) -> str:
    return f"{_micros(histogram.p50)}/{_micros(histogram.p99)}"


def _market_cells(market: MarketView) -> list[str]:
    """What the quoter says of its market (dashes until it has said something), and what holds it back."""
    state = market.state
    if state is None:
        return [*["-"] * 9, _flag_names(market.kill) or "-"]
    stops = " ".join(
        filter(None, (_flag_names(flags) for flags in (state.gates, market.kill, state.kill_causes)))
    )
    return [
        state.lifecycle.name.lower(),
        state.phase.name.lower(),
        state.defense.name.lower(),
        str(state.fair_price_cents or "-"),
        f"{state.touch_bid_cents or '-'}/{state.touch_ask_cents or '-'}",
        str(state.live_orders),
        str(state.fills),
        f"{state.yes_volume}/{state.no_volume}",
        _dollars(state.daily_pnl_cents),
        stops or "-",
    ]


def _flag_names(flags: object) -> str:
    names = plain(flags)
    return ",".join(str(name).lower() for name in names) if isinstance(names, list) else ""


def _market_table(status: Status) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("market", "lifecycle", "phase", "defence"):
        table.add_column(name)
    for name in ("fair", "bid/ask", "live", "fills", "YES/NO", "PnL today"):
        table.add_column(name, justify="right")
    table.add_column("gates, kills, causes")
    for name in ("book msgs", "tick-to-quote p50/p99 µs"):
        table.add_column(name, justify="right")
    for market in status.arena.markets:
        table.add_row(
            market.market_id,
            *_market_cells(market),
            str(market.feed.messages),
            _latency(market.tick_to_quote_ns),
        )
    return table


def alert_counts(processes: tuple[ProcessView, ...]) -> list[AlertCount]:
    """Every alert raised in this run, summed over processes, the latest first."""
    found: dict[str, AlertCount] = {}
    for process in processes:
        for alert in process.alerts:
            before = found.get(alert.name)
            found[alert.name] = AlertCount(
                name=alert.name,
                count=alert.count + (before.count if before else 0),
                last_unix_ns=max(alert.last_unix_ns, before.last_unix_ns if before else 0),
            )
    return sorted(found.values(), key=lambda alert: -alert.last_unix_ns)


def _alert_table(counts: list[AlertCount], now_unix_ns: int) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("alert")
    for name in ("count", "last, s ago"):
        table.add_column(name, justify="right")
    for alert in counts:
        age_s = max(0, now_unix_ns - alert.last_unix_ns) // _NS_PER_S
        table.add_row(alert.name, str(alert.count), str(age_s))
    return table


def show(status: Status, console: Console | None = None) -> None:
    """Prints processes, markets and, if there were any, alerts."""
    if console is None:
        console = Console(highlight=False, markup=False)
        if not console.is_terminal:
            console.width = _PLAIN_WIDTH  # a file has no edge
    console.print(
        f"{status.run_dir} (pid {status.run.pid}, exchange {status.run.exchange_url})", soft_wrap=True
    )
    tables = [_process_table(status), _market_table(status)]
    if raised := alert_counts(status.arena.processes):
        tables.append(_alert_table(raised, status.arena.unix_ns))
    for market_id, refused in status.overrides.refused.items():
        console.print(
            f"{market_id}: override config_version {refused.config_version} refused: {refused.reason}",
            soft_wrap=True,
        )
    if status.overrides.source_fault:
        console.print(f"amm:config cannot be read: {status.overrides.source_fault}", soft_wrap=True)
    for table in tables:
        console.print()
        console.print(table)
