"""When a resting ladder is due for a new one (market-making §3.8). Pure; times are Unix ms."""

from __future__ import annotations

from enum import IntFlag
from typing import Final

from msgspec import Struct

from engine.config import QuoteConfig
from engine.events import DefenseLevel, Gate, Phase
from engine.quoting.ratios import exceeds


class Trigger(IntFlag):
    """Why. A fill or a released gate is seen through GATES."""

    FIRST = 1  # nothing has been quoted yet
    INTERVAL = 2  # EXPLORATION: cancel_interval_ms is over
    TOUCH = 4  # EXPLORATION: the target's touch moved
    PRICE = 8  # STABILIZATION: the fair price moved by more than cancel_on_price_move and a cent
    AGE = 16  # STABILIZATION: an order is too old
    SIDES = 32  # a side of the target came or went
    DEFENCE = 64
    GATES = 128
    PHASE = 256
    CONFIG = 512


_NONE: Final = Trigger(0)


class Basis(Struct, frozen=True, kw_only=True):
    """What a ladder rested on when it was funded, or would rest on now."""

    at_ms: int
    fair_price_cents: int
    touch_bid_cents: int  # 0 = no bids
    touch_ask_cents: int  # 0 = no asks
    phase: Phase
    level: DefenseLevel
    multiplier: float
    size_scale: float
    gates: Gate
    config_version: int


def triggers(quoted: Basis | None, now: Basis, *, oldest_order_ms: int | None, quote: QuoteConfig) -> Trigger:
    """Everything that asks for a new ladder. ``oldest_order_ms``: creation of the oldest live order."""
    if quoted is None:
        return Trigger.FIRST
    if now.phase == Phase.EXPLORATION:
        found = _exploration(quoted, now, quote)
    else:
        found = _stabilization(quoted, now, oldest_order_ms, quote)
    if _sides(quoted) != _sides(now):
        found |= Trigger.SIDES
    if (quoted.level, quoted.multiplier, quoted.size_scale) != (now.level, now.multiplier, now.size_scale):
        found |= Trigger.DEFENCE
    if quoted.gates != now.gates:
        found |= Trigger.GATES
    if quoted.phase != now.phase:
        found |= Trigger.PHASE
    if quoted.config_version != now.config_version:
        found |= Trigger.CONFIG
    return found


def _sides(basis: Basis) -> tuple[bool, bool]:
    return bool(basis.touch_bid_cents), bool(basis.touch_ask_cents)


def _exploration(quoted: Basis, now: Basis, quote: QuoteConfig) -> Trigger:
    found = _NONE
    if now.at_ms - quoted.at_ms >= quote.exploration.cancel_interval_ms:
        found |= Trigger.INTERVAL
    if (quoted.touch_bid_cents, quoted.touch_ask_cents) != (now.touch_bid_cents, now.touch_ask_cents):
        found |= Trigger.TOUCH
    return found


def _stabilization(quoted: Basis, now: Basis, oldest_order_ms: int | None, quote: QuoteConfig) -> Trigger:
    found = _NONE
    moved_cents = abs(now.fair_price_cents - quoted.fair_price_cents)
    if moved_cents >= 1 and exceeds(
        moved_cents, now.fair_price_cents, quote.stabilization.cancel_on_price_move
    ):
        found |= Trigger.PRICE
    if oldest_order_ms is not None and now.at_ms - oldest_order_ms > quote.stabilization.max_order_age_ms:
        found |= Trigger.AGE
    return found
