"""Re-quote triggers (market-making §3.8)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from engine.config import QuoteConfig
from engine.events import DefenseLevel, Gate, Phase
from engine.quoting.requote import Basis, Trigger, triggers

QUOTE = QuoteConfig()
BASIS = Basis(
    at_ms=1_000_000,
    fair_price_cents=50,
    touch_bid_cents=48,
    touch_ask_cents=52,
    phase=Phase.STABILIZATION,
    level=DefenseLevel.NORMAL,
    multiplier=1.0,
    size_scale=1.0,
    gates=Gate(0),
    config_version=1,
)


def found(quoted: Basis = BASIS, oldest_order_ms: int | None = None, **changes: Any) -> Trigger:
    return triggers(quoted, structs.replace(quoted, **changes), oldest_order_ms=oldest_order_ms, quote=QUOTE)


def test_the_first_ladder_needs_no_reason() -> None:
    assert triggers(None, BASIS, oldest_order_ms=None, quote=QUOTE) == Trigger.FIRST


@pytest.mark.parametrize(
    ("changes", "trigger"),
    [
        ({}, Trigger(0)),
        ({"at_ms": 2_000_000}, Trigger(0)),
        ({"fair_price_cents": 51}, Trigger(0)),  # exactly 2 % of 50, below 2 % of 51
        ({"fair_price_cents": 52}, Trigger.PRICE),
        ({"fair_price_cents": 49}, Trigger.PRICE),  # 2.04 %
        ({"touch_ask_cents": 53}, Trigger(0)),
        ({"touch_ask_cents": 0}, Trigger.SIDES),
        ({"level": DefenseLevel.WIDEN}, Trigger.DEFENCE),
        ({"multiplier": 1.5}, Trigger.DEFENCE),
        ({"size_scale": 0.5}, Trigger.DEFENCE),
        ({"gates": Gate.ORACLE_GAP}, Trigger.GATES),
        ({"config_version": 2}, Trigger.CONFIG),
    ],
)
def test_stabilization(changes: dict[str, Any], trigger: Trigger) -> None:
    assert found(**changes) == trigger


def test_an_old_order_is_renewed_in_stabilization() -> None:
    assert found(oldest_order_ms=700_000) == Trigger(0)
    assert found(oldest_order_ms=699_999) == Trigger.AGE


@pytest.mark.parametrize(
    ("changes", "trigger"),
    [
        ({"fair_price_cents": 60}, Trigger(0)),
        ({"touch_bid_cents": 47}, Trigger.TOUCH),
        ({"at_ms": 1_019_999}, Trigger(0)),
        ({"at_ms": 1_020_000}, Trigger.INTERVAL),
    ],
)
def test_exploration(changes: dict[str, Any], trigger: Trigger) -> None:
    assert found(structs.replace(BASIS, phase=Phase.EXPLORATION), **changes) == trigger


def test_a_change_of_phase_is_seen() -> None:
    assert Trigger.PHASE in found(phase=Phase.EXPLORATION)
