"""The trade tape against the obvious model: a list of everything, cut to its newest 4,096."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._native import ffi, lib
from engine.events import Side
from engine.workers.trade_tape import CAPACITY, TradeTape, TradeWindow

Trade = tuple[int, int, int, Side]  # unix_ms, lots, price_ticks, side

steps = st.tuples(
    st.integers(-50, 2_000),  # ms since the trade before: a wall clock may step back
    st.integers(1, 10_000),
    st.integers(1, 99),
    st.sampled_from(Side),
)


@functools.cache
def worn(before: int) -> tuple[TradeTape, list[Trade]]:
    """A tape that has seen ``before`` trades, to be copied, and the list that says the same."""
    tape = TradeTape()
    model = [(1_000_000 + number, 1 + number % 7, 50, Side(number % 2)) for number in range(before)]
    for unix_ms, lots, price, side in model:
        assert tape.append(unix_ms=unix_ms, price_ticks=price, side=side, lots=lots)
    return tape, model


def filled(trades: list[Any], *, before: int) -> tuple[TradeTape, list[Trade]]:
    """A tape of ``before`` trades and these, and the list that says the same."""
    template, old = worn(before)
    tape, model = TradeTape(), list(old)
    ffi.memmove(tape.native, template.native, ffi.sizeof("trade_tape_t"))
    clock = old[-1][0] if old else 1_000_000
    for step, lots, price, side in trades:
        clock += step
        assert tape.append(unix_ms=clock, price_ticks=price, side=side, lots=lots)
        model.append((max(clock, model[-1][0]) if model else clock, lots, price, side))
    return tape, model


def listed(tape: TradeTape) -> list[Trade]:
    """What the tape holds, oldest first."""
    kept = range(max(0, tape.count - CAPACITY), tape.count)
    slots = [tape.native.trades[number % CAPACITY] for number in kept]
    return [(slot.unix_ms, slot.lots, slot.price_ticks, Side(slot.side)) for slot in slots]


def summary(trades: list[Trade]) -> TradeWindow:
    prices = [price for _, _, price, _ in trades]
    return TradeWindow(
        trades=len(trades),
        lots=sum(lots for _, lots, _, _ in trades),
        sell_lots=sum(lots for _, lots, _, side in trades if side == Side.ASK),
        price_min_ticks=min(prices, default=0),
        price_max_ticks=max(prices, default=0),
    )


@settings(max_examples=100, deadline=None)
@given(
    trades=st.lists(steps, max_size=40),
    before=st.sampled_from((0, 0, 3, CAPACITY - 20, CAPACITY - 1, CAPACITY, 2 * CAPACITY - 7)),
    count=st.integers(0, 60),
    age_ms=st.integers(-100, 30_000),
)
def test_windows_are_what_a_list_says(trades: list[Any], before: int, count: int, age_ms: int) -> None:
    tape, everything = filled(trades, before=before)
    kept = everything[-CAPACITY:]
    since = (everything[-1][0] if everything else 0) - age_ms
    assert tape.count == len(everything)
    young = [trade for trade in kept if trade[0] >= since]
    assert tape.window(since_ms=since) == summary(young)
    assert tape.window(count=count) == summary(kept[len(kept) - min(count, len(kept)) :])
    assert tape.window(since_ms=since, count=count) == summary(young[len(young) - min(count, len(young)) :])
    assert listed(tape) == kept


@pytest.mark.parametrize(
    ("price", "side", "lots"),
    [
        (-1, lib.ORDERBOOK_BID, 1),
        (50, 2, 1),
        (50, lib.ORDERBOOK_ASK, 0),
        (50, lib.ORDERBOOK_ASK, -3),
        (50, 0, (1 << 50) + 1),
    ],
)
def test_a_trade_that_cannot_be_is_not_on_the_tape(price: int, side: int, lots: int) -> None:
    tape = TradeTape()
    assert lib.tape_append(tape.native, 1, price, side, lots) == 0
    assert tape.count == 0
