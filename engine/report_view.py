"""What ``corequote report`` shows: quality by market, day and phase, for a person or as one JSON document.

A figure that has nothing to be measured on is shown as ``-`` and is ``null`` in JSON.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from engine.kpi_figures import Figures, figures
from engine.kpi_file import KpiDocument, Latency
from engine.kpi_values import DEPTH_CENTS, MARKOUT_S, MarketRecord, Tally
from engine.liveview import money

TOTAL: Final = "total"
_PLAIN_WIDTH: Final = 200
_NS_PER_S: Final = 1_000_000_000


class PhaseQuality(Struct, frozen=True, kw_only=True):
    """One day and phase, or the total (``day`` and ``phase`` are ``total``)."""

    day: str
    phase: str
    figures: Figures


class MarketQuality(Struct, frozen=True, kw_only=True):
    """One market."""

    market_id: str
    parts: tuple[PhaseQuality, ...]
    """The total first, then by day and phase."""
    tick_to_quote_ns: Latency | None


class Quality(Struct, frozen=True, kw_only=True):
    """The report; times are Unix ms."""

    first_ms: int
    written_ms: int
    lost_records: int
    markets: tuple[MarketQuality, ...]


def quality(document: KpiDocument) -> Quality:
    """The figures of a recorded run."""
    return Quality(
        first_ms=document.first_unix_ns // 1_000_000,
        written_ms=document.written_unix_ns // 1_000_000,
        lost_records=document.lost_records,
        markets=tuple(
            MarketQuality(
                market_id=record.market_id,
                parts=tuple(_parts(record)),
                tick_to_quote_ns=document.tick_to_quote_ns.get(record.market_id),
            )
            for record in sorted(document.markets, key=lambda record: record.market_id)
        ),
    )


def _parts(record: MarketRecord) -> list[PhaseQuality]:
    def part(day: str, phase: str, tally: Tally) -> PhaseQuality:
        return PhaseQuality(day=day, phase=phase, figures=figures(tally))

    return [
        part(TOTAL, TOTAL, record.total),
        *(
            part(day, phase, tally)
            for day, phases in sorted(record.days.items())
            for phase, tally in sorted(phases.items())
        ),
    ]


def write_json(document: KpiDocument) -> None:
    """One JSON document on stdout."""
    sys.stdout.buffer.write(msgspec.json.encode(quality(document)) + b"\n")


# ---- for people -----------------------------------------------------------------------------


def show(document: KpiDocument) -> None:
    """Tables on stdout."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PLAIN_WIDTH)
    report = quality(document)
    first, written = (
        datetime.fromtimestamp(ns // _NS_PER_S, UTC)
        for ns in (document.first_unix_ns, document.written_unix_ns)
    )
    console.print(f"quality from {first:%Y-%m-%d %H:%M:%S} to {written:%Y-%m-%d %H:%M:%S} UTC")
    if report.lost_records:
        console.print(f"{report.lost_records} ring records were overwritten unread: figures lack them")
    for table in (_quotes(report), _trading(report), _pnl(report)):
        console.print()
        console.print(table)
    console.print()
    for market in report.markets:
        _print_times(console, market)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("market", "day", "phase"):
        table.add_column(name, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _rows(report: Quality) -> list[tuple[list[str], Figures]]:
    return [
        ([market.market_id if part.day == TOTAL else "", part.day, part.phase.lower()], part.figures)
        for market in report.markets
        for part in market.parts
    ]


def _quotes(report: Quality) -> Table:
    near = [f"in {reach} ¢" for reach in DEPTH_CENTS]
    table = _table(
        "quotes (cents, shares; averages over time)",
        *("active s", "presence", "ungated", "spread", "bid half", "ask half", "touch", *near),
        *("|q| mean", "|q| p95", "|Y-N| mean", "max", "off oracle"),
    )
    for head, shown in _rows(report):
        table.add_row(
            *head,
            f"{shown.active_s:,.0f}",
            _percent(shown.presence),
            _percent(shown.presence_free),
            _number(shown.quoted_spread),
            _number(shown.quoted_half_bid),
            _number(shown.quoted_half_ask),
            _number(shown.depth_touch, 0),
            *(_number(shown.depth_near[reach], 0) for reach in DEPTH_CENTS),
            _number(shown.skew_mean, 3),
            _number(shown.skew_p95),
            _number(shown.exposure_mean, 0),
            "-" if shown.exposure_max is None else f"{shown.exposure_max:,}",
            _number(shown.oracle_deviation),
        )
    return table


def _trading(report: Quality) -> Table:
    markouts = [f"markout {horizon} s" for horizon in MARKOUT_S]
    table = _table(
        "trading (cents per share)",
        *("fills", "shares", "fill rate", "fills/h", "orders/fill", "effective", "realised", *markouts),
        *("replace p50 ms", "p99", "cancel p50 ms", "p99", "requests/min"),
    )
    for head, shown in _rows(report):
        table.add_row(
            *head,
            f"{shown.fills:,}",
            f"{shown.filled_shares:,}",
            _percent(shown.fill_rate),
            _number(shown.fills_per_hour, 0),
            _number(shown.order_to_trade, 1),
            _number(shown.effective_spread),
            _number(shown.realised_spread),
            *(_number(shown.markout[horizon]) for horizon in MARKOUT_S),
            _number(shown.replace_ms_p50, 1),
            _number(shown.replace_ms_p99, 1),
            _number(shown.cancel_ms_p50, 1),
            _number(shown.cancel_ms_p99, 1),
            _number(shown.requests_per_minute, 0),
        )
    return table


def _pnl(report: Quality) -> Table:
    table = _table(
        "money: capture + inventory - fees + settlement + unexplained = PnL, PnL + flows = change of assets",
        *("capture", "inventory", "fees", "settlement", "unexplained", "PnL", "flows", "change", "drawdown"),
        *("¢ per 1000 shares", "checks"),
    )
    for head, shown in _rows(report):
        booked = shown.money
        if booked is None:
            table.add_row(*head, *("-" * 11))
            continue
        parts = (
            *(booked.capture, booked.inventory, -booked.fees, booked.settlement, booked.unexplained),
            *(booked.pnl, booked.flows, booked.assets_change),
        )
        table.add_row(
            *head,
            *(money(cents, signed=True) for cents in parts),
            money(shown.drawdown_cents or 0),
            _number(None if shown.subsidy_per_1000 is None else -shown.subsidy_per_1000, 0),
            str(booked.venue_checks),
        )
    return table


def _print_times(console: Console, market: MarketQuality) -> None:
    """Levels, gates, kills, outcomes and latency of a market's total, one line each."""
    total = market.parts[0].figures
    lines = {
        "levels": [f"{name} {seconds:,.1f} s" for name, seconds in total.level_s.items()],
        "gates": _entered(total.gate_s, total.gate_entries),
        "kills": _entered(total.kill_s, total.kill_entries),
        "outcomes": [f"{name} {count:,}" for name, count in total.outcomes.items()],
    }
    latency = market.tick_to_quote_ns
    if latency is not None and latency.p50 is not None and latency.p99 is not None:
        lines["tick to quote"] = [
            f"p50 {latency.p50 / 1_000:,.0f} µs, p99 {latency.p99 / 1_000:,.0f} µs of {latency.count:,}"
        ]
    console.print(market.market_id, markup=False)
    for name, parts in lines.items():
        console.print(f"  {name}: {', '.join(parts) if parts else '-'}", markup=False, soft_wrap=True)


def _entered(seconds: dict[str, float], entries: dict[str, int]) -> list[str]:
    return [
        f"{name} {entries.get(name, 0)} times, {seconds.get(name, 0.0):,.1f} s"
        for name in sorted({*seconds, *entries})
    ]


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
