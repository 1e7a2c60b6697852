"""``corequote explain``: what the lines say of a state row, on a real arena."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pytest
from rich.console import Console

from engine import explain_view
from engine._native import lib
from engine.arena import Arena
from engine.config import MarketConfig, market_json
from engine.config.oracle import OperatorOracle
from engine.events import Gate, KillCause
from engine.explain import Explanation, explain
from engine.snapshot import take
from tests.integration.worker_rig import write_order, write_state

NOW_NS = 1_790_000_060_000_000_000
NOW_MS = NOW_NS // 1_000_000
MONO_NS = 90_000_000_000

# EX-13's fair price, EX-02's reservation (s 50 -> 60 here), a two-level ladder
ROW: dict[str, Any] = {
    "started_at_ms": NOW_MS - 1_800_000,
    "lifecycle": lib.LIFECYCLE_RUNNING,
    "market_status": lib.MARKET_ACTIVE,
    "phase": lib.PHASE_STABILIZATION,
    "phase_since_ms": NOW_MS - 42_000,
    "phase_volume": 231,
    "phase_log": [{"timestamp_ms": NOW_MS - 42_000, "from_phase": 0, "to_phase": 1, "reason": 2}],
    "defense": lib.DEFENSE_WIDEN,
    "widen_sources": 2,
    "book_valid": 1,
    "generation": 7,
    "venue_sequence": 1_234,
    "best_bid_ticks": 57,
    "best_ask_ticks": 63,
    "foreign_bid_ticks": 55,
    "foreign_ask_ticks": -1,
    "anchor": 60.0,
    "micro": 55.0,
    "posterior": 62.0,
    "weight_anchor": 0.35,
    "weight_micro": 0.2,
    "weight_posterior": 0.45,
    "fair_price_cents": 60,
    "sigma": 3.0,
    "sigma_trades": 30,
    "gamma": 1.5,
    "tau": 0.967742,
    "skew": 0.4,
    "adjustment": 5.225806,
    "reservation": 54.774194,
    "multiplier": 2.0,
    "half_spread_ask": 3.2,
    "half_spread_bid": 4.8,
    "size_scale": 1.0,
    "sides": lib.QUOTE_SIDES_BOTH,
    "touch_ask_cents": 58,
    "touch_bid_cents": 49,
    "target_ask_count": 2,
    "target_ask_cents": [58, 61],
    "target_ask_lots": [112, 78],
    "target_bid_count": 1,
    "target_bid_cents": [49],
    "target_bid_lots": [88],
    "target_unix_ms": NOW_MS - 300,
    "oracle_price_ticks": -1,
    "oracle_last_ticks": 61,
    "oracle_recv_mono_ns": MONO_NS - 12_500_000_000,
    "feed_latency_us": 1_500,
    "yes_volume": 700,
    "no_volume": 300,
    "vpin": 0.72,
    "daily_pnl_cents": -1_234,
    "config_version": 4,
}


def explained(*, row: dict[str, Any] | None, config: MarketConfig | None = None) -> Explanation:
    arena = Arena.create(market_slots=1, worker_slots=1)
    arena.place_market(0, market_id="MKT-A", worker=0, tick_count=101)
    arena.write_config(0, 4, market_json(config or MarketConfig(id="MKT-A", oracle=OperatorOracle())))
    if row is not None:
        write_state(arena, 0, **row)
        order = {"state": lib.LIVE_ACTIVE, "quantity": 112, "remaining": 100, "created_ms": NOW_MS - 5_000}
        write_order(arena, 0, 1, order_id="o-1", direction=lib.DIRECTION_SELL, price_cents=58, **order)
        write_order(
            *(arena, 0, 2), order_id="o-2", outcome=lib.OUTCOME_NO, direction=1, price_cents=40, **order
        )
    return explain(take(arena).markets[0], unix_ns=NOW_NS, mono_ns=MONO_NS)


@pytest.fixture(scope="module")
def lines() -> dict[str, tuple[str, str, str]]:
    """name -> (section, value, how) of the row above."""
    return {
        line.name: (line.section, line.value, line.how)
        for part in explained(row=ROW).parts
        for line in part.lines
    }


@pytest.mark.parametrize(
    ("name", "section", "value", "how"),
    [
        ("lifecycle", "§8", "RUNNING", "market ACTIVE"),
        ("kill causes", "§5.2", "none", "kill word: none; no cause is latched"),
        ("gates", "§5.3", "none", ""),
        ("defence", "§5.1", "WIDEN", "|q| 0.4000; WIDEN above 0.8, ONE_SIDE above 0.9, KILL above 0.95"),
        ("phase", "§4", "STABILIZATION", "42 s, 231 shares traded; from EXPLORATION by VOLUME_REACHED"),
        ("book", "§2.5", "generation 7", "sequence 1234, best 57/63"),
        ("foreign touch", "§3.2", "55/-", ""),
        ("feed latency", "§5.3", "1.5 ms", "gate above 100 ms"),
        ("oracle", "§5.3", "no value", "operator; last value 61, 12.5 s old; stale after 30 s"),
        ("VPIN", "§5.5", "0.7200", "WIDEN above 0.7"),
        ("stock", "§2.2", "YES 700, NO 300", ""),
        ("profit today", "§5.5", "-$12.34", "kill below -$500.00"),
        ("anchor A", "§3.1", "60.00 x 0.3500", "oracle; 0.7 falling to 0 over 3600 s, 1800 s since"),
        ("micro-price M", "§3.2", "55.0000 x 0.2000", ""),
        ("posterior P", "§3.3", "62.0000 x 0.4500", ""),
        ("fair price s", "§3.3", "60", "= 59.9000, rounded half up"),
        ("volatility sigma", "§3.4", "3.0000", "30 of 30 trades, within 1..15"),
        ("risk aversion gamma", "§3.5", "1.5", "gamma_mid, default: a life of 7 to 90 days"),
        ("time factor tau", "§3.5", "0.967742", "h = 720.00 hours to the end, kappa = 24"),
        ("skew q", "§3.5", "+0.4000", "(700 - 300) / (700 + 300)"),
        ("adjustment", "§3.5", "+5.2258", "0.4000 x 1.5 x 3.0000² x 0.967742"),
        ("reservation r", "§3.5", "54.7742", "60 - (5.2258), within 5..95"),
        ("half-spread", "§3.6", "2", "base_spread_cents, default"),
        ("multiplier m", "§5.1", "2.0000", "largest of what is active: VPIN"),
        ("half-spread ask", "§3.6", "3.2000", "2 x (1 - 0.5 x 0.4000) x 2.0000"),
        ("half-spread bid", "§3.6", "4.8000", "2 x (1 + 0.5 x 0.4000) x 2.0000"),
        ("touch ask", "§3.6", "58", "up(54.7742 + 3.2000)"),
        ("touch bid", "§3.6", "49", "dn(54.7742 - 4.8000)"),
        ("target asks", "§3.7", "58x112  61x78", "INVENTORY_FIRST: SELL YES, then BUY NO; both sides"),
        ("target bids", "§3.7", "49x88", "SELL NO, then BUY YES"),
        ("ask 58", "§2.3", "SELL YES @58 x 100", "NATIVE_SELL, active, 5 s old, target 112"),
        ("bid 60", "§2.3", "SELL NO @40 x 100", "SYNTHETIC_BUY, active, 5 s old, not in the target"),
        ("configuration", "§10", "version 4", "the file's"),
    ],
)
def test_each_line(
    lines: dict[str, tuple[str, str, str]], name: str, section: str, value: str, how: str
) -> None:
    found = lines[name]
    assert found[:2] == (section, value)
    assert how in found[2]


def test_every_line_has_its_section(lines: dict[str, tuple[str, str, str]]) -> None:
    assert all(section.startswith("§") for section, _, _ in lines.values())


def named(explanation: Explanation, name: str) -> tuple[str, str]:
    return next(
        (line.value, line.how) for part in explanation.parts for line in part.lines if line.name == name
    )


def test_a_killed_market_names_its_causes_and_gates() -> None:
    row = {
        **ROW,
        "kill_causes": int(KillCause.DAILY_LOSS | KillCause.SKEW),
        "gates": int(Gate.POST_FILL | Gate.LVR_COOLDOWN),
        "lvr_cooldown_until_ms": NOW_MS + 2_500,
        "defense": lib.DEFENSE_KILL_SWITCH,
        "book_valid": 0,
        "recovering": 1,
    }
    explanation = explained(row=row)
    assert named(explanation, "kill causes")[0] == "SKEW, DAILY_LOSS"
    assert named(explanation, "gates") == ("POST_FILL, LVR_COOLDOWN", "LVR cooldown for 2.5 s more")
    assert named(explanation, "book")[0] == "generation 7, INVALID"
    assert "books not confirmed" in named(explanation, "lifecycle")[1]


def test_one_side_shows_its_discount_in_the_touch() -> None:
    row = {**ROW, "defense": lib.DEFENSE_ONE_SIDE, "discount_cents": 2, "sides": lib.QUOTE_SIDES_ASK}
    explanation = explained(row=row)
    assert named(explanation, "discount d")[0] == "2"
    assert "up(54.7742 + 3.2000 - 2)" in named(explanation, "touch ask")[1]
    assert "VPIN, ONE_SIDE" in named(explanation, "multiplier m")[1]
    assert "asks only" in named(explanation, "target asks")[1]


def test_without_an_oracle_its_checks_are_off() -> None:
    explanation = explained(row=ROW, config=MarketConfig(id="MKT-A"))
    assert named(explanation, "oracle") == ("none", "not configured: its checks are off")


def test_a_market_nobody_has_spoken_for() -> None:
    explanation = explained(row=None)
    assert explanation.parts == ()
    out = io.StringIO()
    explain_view.show(explanation, Console(file=out, width=100))
    assert "said nothing yet" in out.getvalue()


def test_a_row_of_zeros_is_explained_too() -> None:
    explanation = explained(row={"started_at_ms": NOW_MS, "market_status": 0})
    assert named(explanation, "fair price s")[0] == "-"
    assert named(explanation, "touch ask")[0] == "none"


def test_the_table_and_the_document_say_the_same() -> None:
    explanation = explained(row=ROW)
    out = io.StringIO()
    explain_view.show(explanation, Console(file=out, width=200))
    text = out.getvalue()
    document = orjson.loads(explain_view.as_json(explanation))
    assert (document["market_id"], document["config_version"]) == ("MKT-A", 4)
    assert document["market"]["state"]["reservation"] == ROW["reservation"]
    for part in document["parts"]:
        for line in part["lines"]:
            assert line["value"] in text
            assert line["section"] in text
