"""Outcomes as tables: a line for the terminal, Markdown for docs/quoting-quality.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from engine.kpi_figures import Figures
from tests.scenarios.catalogue import SCENARIOS, Outcome, failures
from tests.scenarios.sweep import Variation

BEGIN: Final = "<!-- results: written by `make scenarios ARGS=--docs`, not by hand -->"
END: Final = "<!-- end of results -->"
LEVELS: Final = ("WIDEN", "ONE_SIDE", "KILL_SWITCH")


def one_line(outcome: Outcome) -> str:
    """A scenario in a line."""
    shown = outcome.engine
    return (
        f"{outcome.name:24} presence {_percent(shown.presence)} ungated {_percent(shown.presence_free)} "
        f"spread {_number(shown.quoted_spread)} fills {shown.fills} PnL {_money(shown)} "
        f"markout 10 s {_number(shown.markout[10])} |q| {_number(shown.skew_mean, 3)} "
        f"causes {','.join(sorted(outcome.causes())) or '-'}"
    )


def write_document(document: Path, results: Path, variations: Sequence[Variation]) -> None:
    """Replaces what stands between the two marks of the document by the tables of all results."""
    outcomes = {
        file.stem: msgspec.json.decode(file.read_bytes(), type=Outcome)
        for file in sorted(results.glob("*.json"))
    }
    parts = [BEGIN, "", *_suite(outcomes), *_comparison(outcomes), *_sweeps(outcomes, variations), END]
    text = document.read_text()
    head = text[: text.index(BEGIN)] if BEGIN in text else f"{text.rstrip()}\n\n"
    tail = text[text.index(END) + len(END) :] if END in text else "\n"
    document.write_text(head + "\n".join(parts) + tail)


# ---- the three chapters --------------------------------------------------------------------


def _suite(outcomes: dict[str, Outcome]) -> list[str]:
    found = [outcome for outcome in outcomes.values() if outcome.name in SCENARIOS and not outcome.rivals]
    found.sort(key=lambda outcome: (list(SCENARIOS).index(outcome.name), outcome.seed))
    if not found:
        return []
    rows = []
    for outcome in found:
        shown = outcome.engine
        failed = failures(SCENARIOS[outcome.name], outcome)
        money = shown.money
        rows.append(
            [
                outcome.name,
                f"{outcome.seconds:g}",
                "passed" if not failed else f"**failed**: {'; '.join(failed)}",
                _percent(shown.presence),
                _percent(shown.presence_free),
                _number(shown.quoted_spread),
                _number(shown.effective_spread),
                str(shown.fills),
                *(_number(shown.markout[horizon]) for horizon in (1, 10, 60, 300)),
                *(
                    ["-"] * 4
                    if money is None
                    else [_dollars(c) for c in (money.capture, money.inventory, -money.fees, money.pnl)]
                ),
                _dollars(shown.drawdown_cents or 0),
                _number(shown.skew_mean, 3),
                _number(shown.skew_p95),
                " ".join(_first(outcome)) or "-",
            ]
        )
    head = [
        *("scenario", "s", "verdict", "presence", "ungated", "spread ¢", "effective ¢", "fills"),
        *("markout 1 s", "10 s", "60 s", "300 s", "capture", "inventory", "fees", "PnL", "drawdown"),
        *("\\|q\\| mean", "p95", "levels and kills, at second"),
    ]
    about = [
        f"{scenario.name}: {scenario.title}." for scenario in SCENARIOS.values() if _has(found, scenario.name)
    ]
    return [
        "## Scenarios",
        "",
        f"Measured {_made_by(found)}. Prices in cents, money in dollars, at the engine's own fair price."
        f" {' '.join(about)}",
        "",
        *_table(head, rows),
        "",
    ]


def _comparison(outcomes: dict[str, Outcome]) -> list[str]:
    found = [outcome for outcome in outcomes.values() if outcome.rivals]
    if not found:
        return []
    rows = []
    for outcome in found:
        for maker, shown in (("engine", outcome.true), *outcome.rivals.items()):
            money = shown.money
            rows.append(
                [
                    outcome.name if maker == "engine" else "",
                    maker,
                    _percent(shown.presence),
                    _number(shown.quoted_spread),
                    _number(shown.depth_touch, 0),
                    str(shown.fills),
                    str(shown.filled_shares),
                    _number(shown.effective_spread),
                    *(_number(shown.markout[horizon]) for horizon in (1, 10, 60)),
                    "-" if money is None else _dollars(money.capture),
                    "-" if money is None else _dollars(money.inventory),
                    "-" if money is None else _dollars(money.pnl),
                    _dollars(shown.drawdown_cents or 0),
                    _number(shown.exposure_mean, 0),
                    str(shown.exposure_max),
                ]
            )
    head = [
        *("scenario", "maker", "presence", "spread ¢", "touch", "fills", "shares", "effective ¢"),
        *("markout 1 s", "10 s", "60 s", "capture", "inventory", "PnL", "drawdown"),
        *("\\|Y-N\\| mean", "max"),
    ]
    return [
        "## Against other makers, on the same flow",
        "",
        f"Measured {_made_by(found)}, {found[0].seconds:g} s each, seed {found[0].seed}, all three by the"
        " exchange's journal and at the hidden value. *fixed*: two cents either side of the middle of the"
        " others' book."
        " *textbook*: Avellaneda and Stoikov 2008 with inventory in shares (`tests/scenarios/makers.py`).",
        "",
        *_table(head, rows),
        "",
    ]


def _sweeps(outcomes: dict[str, Outcome], variations: Sequence[Variation]) -> list[str]:
    by_name = {outcome.name: outcome for outcome in outcomes.values()}
    lines: list[str] = []
    used: list[Outcome] = []
    for variation in variations:
        rows = []
        for value in variation.values:
            outcome = by_name.get(variation.name(value))
            if outcome is None:
                continue
            used.append(outcome)
            shown, money = outcome.engine, outcome.engine.money
            rows.append(
                [
                    f"{value:g}",
                    _percent(shown.presence),
                    _number(shown.quoted_spread),
                    str(shown.fills),
                    _number(outcome.true.effective_spread),
                    *(_number(outcome.true.markout[horizon]) for horizon in (10, 60)),
                    "-" if money is None else _dollars(money.pnl),
                    "-" if outcome.true.money is None else _dollars(outcome.true.money.pnl),
                    _dollars(shown.drawdown_cents or 0),
                    _number(shown.skew_mean, 3),
                    " ".join(_first(outcome)) or "-",
                ]
            )
        if rows:
            note = f" ({variation.note})" if variation.note else ""
            head = [
                *(f"`{variation.parameter}`", "presence", "spread ¢", "fills", "effective ¢"),
                *("markout 10 s", "60 s", "PnL at fair", "PnL at value", "drawdown", "\\|q\\| mean"),
                "levels and kills, at second",
            ]
            lines += [
                f"`{variation.parameter}` on *{variation.base.name}*{note}:",
                "",
                *_table(head, rows),
                "",
            ]
    if not lines:
        return []
    return ["## Sensitivity", "", f"Measured {_made_by(used)}; one value changed at a time.", "", *lines]


# ---- cells ---------------------------------------------------------------------------------


def _first(outcome: Outcome) -> list[str]:
    """When each level and each cause began for the first time."""
    seen: dict[str, float] = {}
    for change in outcome.changes:
        if change.level in LEVELS:
            seen.setdefault(change.level, change.at_s)
        for cause in change.causes:
            seen.setdefault(cause, change.at_s)
    return [f"{name} {at_s:.0f}" for name, at_s in seen.items()]


def _has(outcomes: Iterable[Outcome], name: str) -> bool:
    return any(outcome.name == name for outcome in outcomes)


def _made_by(outcomes: Iterable[Outcome]) -> str:
    commits = sorted({outcome.commit for outcome in outcomes if outcome.commit})
    return f"at {', '.join(commits)}" if commits else "at an unknown commit"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _dollars(cents: int) -> str:
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def _money(shown: Figures) -> str:
    return "-" if shown.money is None else _dollars(shown.money.pnl)
