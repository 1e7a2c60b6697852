"""The engine's trade arithmetic against the specification's table (market-making §2.6, EX-20, EX-21)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.events import Scenario, Side
from engine.quoting.effects import cost_sum_after, fill_effect
from tests.reference.effects import after_leg

stocks = st.fixed_dictionaries(
    {
        "YES": st.integers(0, 10_000),
        "NO": st.integers(0, 10_000),
        "YES_COST": st.integers(0, 2_000_000),
        "NO_COST": st.integers(0, 2_000_000),
        "CASH": st.integers(-1_000_000, 10_000_000),
    }
)


@given(
    stock=stocks,
    scenario=st.sampled_from(Scenario),
    side=st.sampled_from(Side),
    price=st.integers(1, 99),
    quantity=st.integers(1, 10_000),
    fee=st.integers(0, 1_000),
)
def test_every_leg_does_what_the_table_says(
    stock: dict[str, int], scenario: Scenario, side: Side, price: int, quantity: int, fee: int
) -> None:
    effect = fill_effect(
        scenario=scenario, book_side=side, price_cents=price, quantity=quantity, fee_cents=fee
    )
    after = {
        "YES": stock["YES"] + effect.yes_volume,
        "NO": stock["NO"] + effect.no_volume,
        "CASH": stock["CASH"] + effect.cash_cents,
    }
    for name, change in (("YES", effect.yes_volume), ("NO", effect.no_volume)):
        if after[name] < 0:
            with pytest.raises(ValueError, match="shares"):
                cost_sum_after(volume=stock[name], cost_sum_cents=0, change=change, value_cents=0)
            return
    for name, change in (("YES", effect.yes_volume), ("NO", effect.no_volume)):
        after[f"{name}_COST"] = cost_sum_after(
            volume=stock[name],
            cost_sum_cents=stock[f"{name}_COST"],
            change=change,
            value_cents=effect.value_cents,
        )
    expected = after_leg(
        stock,
        scenario=scenario.name,
        side="BUY" if side == Side.BID else "SELL",
        price=price,
        quantity=quantity,
        fee=fee,
    )
    assert after == expected


@pytest.mark.parametrize(
    ("volume", "cost", "sales", "released"),
    [(1800, 90_000, [100], [5_000]), (3, 100, [1, 1, 1], [33, 33, 34]), (7, 1_000, [3, 4], [428, 572])],
)
def test_released_cost_of_ex_20(volume: int, cost: int, sales: list[int], released: list[int]) -> None:
    seen = []
    for sold in sales:
        left = cost_sum_after(volume=volume, cost_sum_cents=cost, change=-sold, value_cents=0)
        seen.append(cost - left)
        volume, cost = volume - sold, left
    assert seen == released


@pytest.mark.parametrize(
    ("scenario", "side", "price", "quantity", "fee", "expected"),
    [
        (Scenario.TRANSFER_YES, Side.ASK, 54, 100, 6, (-100, 0, 5_394)),
        (Scenario.TRANSFER_NO, Side.BID, 46, 80, 5, (0, -80, 4_315)),
        (Scenario.BURN, Side.BID, 46, 80, 5, (0, -80, 4_315)),
        (Scenario.MINT, Side.ASK, 54, 50, 3, (0, 50, -2_303)),
    ],
)
def test_fills_of_ex_21(
    scenario: Scenario, side: Side, price: int, quantity: int, fee: int, expected: tuple[int, int, int]
) -> None:
    effect = fill_effect(
        scenario=scenario, book_side=side, price_cents=price, quantity=quantity, fee_cents=fee
    )
    assert (effect.yes_volume, effect.no_volume, effect.cash_cents) == expected


@pytest.mark.parametrize(("price", "quantity", "fee"), [(0, 1, 0), (100, 1, 0), (50, 0, 0), (50, 1, -1)])
def test_impossible_fills_are_refused(price: int, quantity: int, fee: int) -> None:
    with pytest.raises(ValueError, match="no such fill"):
        fill_effect(
            scenario=Scenario.MINT, book_side=Side.BID, price_cents=price, quantity=quantity, fee_cents=fee
        )
