"""The scenario suite's own promises, and one short play through real exchange, engine and recorder."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import uvloop
from msgspec import structs

from engine.kpi_figures import figures
from engine.kpi_values import Tally
from tests.scenarios import tables
from tests.scenarios.catalogue import (
    CALM,
    SCENARIOS,
    TREND_UP,
    Change,
    Outcome,
    failures,
    no_breach,
    not_losing,
    one_side_before_kill,
    present,
)
from tests.scenarios.flow import schedule
from tests.scenarios.makers import AvellanedaStoikov, FixedSpread
from tests.scenarios.play import Play
from tests.scenarios.sweep import SWEEPS, VARIATIONS


def test_a_schedule_is_its_seed() -> None:
    for scenario in SCENARIOS.values():
        first, again, other = (
            schedule(seed=seed, name=scenario.name, walk=scenario.walk, parts=scenario.parts, seconds=60)
            for seed in (1, 1, 2)
        )
        assert first == again
        assert first != other
        path, orders = first
        assert orders == sorted(orders, key=lambda order: order.at_s)
        assert all(1 <= order.price_cents <= 99 and order.quantity > 0 for order in orders)
        assert all(1 <= path.mark_cents(second) <= 99 for second in range(120))


def test_values_of_a_sweep_meet_the_flow_of_their_base() -> None:
    for variation in VARIATIONS:
        flows = {SWEEPS[variation.name(value)].flow for value in variation.values}
        assert flows == {variation.base.name}
    assert SWEEPS["exploration_qty_ratio_0p1"].quote["exploration"] == {"qty_ratio": 0.1}


def test_the_textbook_leans_against_its_stock_until_the_end() -> None:
    maker = object.__new__(AvellanedaStoikov)
    bid, ask = maker.touches(50.0, 0, 0.0)
    assert (round(bid, 2), round(ask, 2)) == (48.0, 52.0)
    bid, ask = maker.touches(50.0, 500, 60.0)
    assert round((bid + ask) / 2, 2) == 47.12  # 500 shares, 0.0006 a cent and share, 0.16 cents² a second
    assert round(ask - bid, 3) == round(2 * 2.0 + 0.0006 * 0.16 * 60, 3)
    fixed = object.__new__(FixedSpread)
    assert fixed.touches(50.0, 500, 60.0) == (48.0, 52.0)


def outcome(**fields: object) -> Outcome:
    nothing = figures(Tally())
    empty = Outcome(
        name="calm",
        market_id="M",
        seed=1,
        seconds=1.0,
        engine=nothing,
        true=nothing,
        rivals={},
        changes=(),
        not_pulled=(),
        crossed=0,
        orders_sent=0,
        orders_refused=0,
        lateness_s=0.0,
        problems=(),
    )
    return structs.replace(empty, **fields)


def change(at_s: float, level: str, *causes: str) -> Change:
    return Change(at_s=at_s, phase="STABILIZATION", level=level, gates=(), causes=causes, lifecycle="RUNNING")


@pytest.mark.parametrize(
    ("judged", "said"),
    [
        (no_breach(outcome(problems=("YES: 1 in the worker, 2 at the exchange",))), "2 at the exchange"),
        (no_breach(outcome(crossed=1)), "own bid met own ask 1 times"),
        (not_losing(outcome()), "None"),
        (present(outcome()), "None"),
        (one_side_before_kill(outcome(changes=(change(1.0, "KILL_SWITCH", "SKEW"),))), "without ONE_SIDE"),
    ],
)
def test_a_criterion_fails_on_what_it_forbids(judged: str, said: str) -> None:
    assert said in judged


def test_a_kill_after_one_side_is_as_it_should_be() -> None:
    story = (change(1.0, "ONE_SIDE"), change(2.0, "KILL_SWITCH", "SKEW"))
    assert one_side_before_kill(outcome(changes=story)) == ""


@pytest.mark.timeout(240)
def test_a_short_play_is_recorded_as_the_exchange_saw_it(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir(mode=0o700)
    tmp_path.chmod(0o700)
    calm, trend = uvloop.run(Play((CALM, TREND_UP), seed=3, stretch=0.15).run(tmp_path))
    assert [line for line in failures(CALM, calm) if "presence" not in line] == []
    assert failures(TREND_UP, trend) == []
    for played in (calm, trend):
        assert played.engine.fills == played.true.fills > 0
        assert played.engine.filled_shares == played.true.filled_shares
        assert played.engine.money is not None
        assert played.true.money is not None
        assert played.engine.money.fees == played.true.money.fees
        # two clocks, two sources: the recorder's looks are 20 ms apart
        assert played.engine.presence == pytest.approx(played.true.presence, abs=0.05)
        assert played.engine.quoted_spread == pytest.approx(played.true.quoted_spread, abs=1.0)


def test_tables_replace_what_stands_between_the_marks_and_nothing_else(tmp_path: Path) -> None:
    document = tmp_path / "quality.md"
    document.write_text("# Words\n\nabove\n")
    results = tmp_path / "results"
    results.mkdir()
    played = outcome(commit="abc1234", changes=(change(7.0, "ONE_SIDE"),))
    (results / "calm-1.json").write_bytes(msgspec.json.encode(played))
    for _ in range(2):
        tables.write_document(document, results, VARIATIONS)
    text = document.read_text()
    assert text.count(tables.BEGIN) == text.count(tables.END) == 1
    assert text.startswith("# Words\n\nabove\n")
    assert "at abc1234" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| calm |")]
    assert "**failed**: nothing was booked" in row
    assert "ONE_SIDE 7" in row
