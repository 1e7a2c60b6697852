"""Stock and money of one market: worked examples of market-making §13 and the dedup set of §2.5."""

from __future__ import annotations

import pytest

from engine.events import Direction, Outcome, Scenario, Side
from engine.quoting.inventory import (
    AppliedTrades,
    Stock,
    apply_trade,
    assets_cents,
    buy_freeze_cents,
    fee_cents,
    free_pairs,
    frozen_by,
    leg_id,
)
from engine.quoting.orders import LiveOrder


@pytest.mark.spec_examples
def test_ex20_released_cost() -> None:
    stock = Stock(yes_volume=1_800, yes_cost_sum_cents=90_000)
    sold = apply_trade(
        stock,
        scenario=Scenario.TRANSFER_YES,
        book_side=Side.ASK,
        price_cents=54,
        quantity=100,
        own_fee_cents=0,
    )
    assert sold.yes_cost_sum_cents == 85_000
    stock = Stock(yes_volume=3, yes_cost_sum_cents=100)
    released = []
    for _ in range(3):
        before = stock.yes_cost_sum_cents
        stock = apply_trade(
            stock, scenario=Scenario.BURN, book_side=Side.ASK, price_cents=50, quantity=1, own_fee_cents=0
        )
        released.append(before - stock.yes_cost_sum_cents)
    assert released == [33, 33, 34]
    assert stock.yes_cost_sum_cents == 0


@pytest.mark.spec_examples
@pytest.mark.parametrize(
    ("scenario", "side", "price", "quantity", "fee", "yes", "no", "cash"),
    [
        (Scenario.TRANSFER_YES, Side.ASK, 54, 100, 6, -100, 0, 5_394),
        (Scenario.TRANSFER_NO, Side.BID, 46, 80, 5, 0, -80, 4_315),
        (Scenario.BURN, Side.BID, 46, 80, 5, 0, -80, 4_315),
        (Scenario.MINT, Side.ASK, 54, 50, 3, 0, 50, -2_303),
    ],
)
def test_ex21_effect_of_each_kind(
    scenario: Scenario, side: Side, price: int, quantity: int, fee: int, yes: int, no: int, cash: int
) -> None:
    stock = Stock(yes_volume=1_000, no_volume=1_000, yes_cost_sum_cents=50_000, no_cost_sum_cents=50_000)
    after = apply_trade(
        stock, scenario=scenario, book_side=side, price_cents=price, quantity=quantity, own_fee_cents=fee
    )
    assert (after.yes_volume - 1_000, after.no_volume - 1_000, after.cash_cents) == (yes, no, cash)


@pytest.mark.spec_examples
def test_ex22_assets_identity() -> None:
    stock = Stock(
        yes_volume=2_500,
        no_volume=2_500,
        yes_cost_sum_cents=125_000,
        no_cost_sum_cents=125_000,
        cash_cents=250_000,
    )
    assert assets_cents(stock, 50) == 500_000
    fee = fee_cents(52, 100, 10)
    after = apply_trade(
        stock,
        scenario=Scenario.TRANSFER_YES,
        book_side=Side.ASK,
        price_cents=52,
        quantity=100,
        own_fee_cents=fee,
    )
    assert (fee, after.cash_cents, after.yes_cost_sum_cents) == (6, 255_194, 120_000)
    assert assets_cents(after, 51) == 500_094


@pytest.mark.spec_examples
def test_ex23_freeze_then_maker_fill() -> None:
    assert 250_000 - buy_freeze_cents(48, 100, 20) == 245_190
    after = apply_trade(
        Stock(cash_cents=250_000),
        scenario=Scenario.MINT,
        book_side=Side.BID,
        price_cents=48,
        quantity=100,
        own_fee_cents=fee_cents(48, 100, 10),
    )
    assert after.cash_cents == 250_000 - 4_805


def test_frozen_by_counts_shares_of_sells_and_cash_of_buys() -> None:
    def order(outcome: Outcome, direction: Direction, price: int, remaining: int) -> LiveOrder:
        return LiveOrder(
            outcome=outcome,
            direction=direction,
            price_cents=price,
            quantity=remaining,
            remaining=remaining,
            created_ms=0,
        )

    frozen = frozen_by(
        [
            order(Outcome.YES, Direction.SELL, 56, 200),
            order(Outcome.NO, Direction.SELL, 48, 150),
            order(Outcome.YES, Direction.BUY, 40, 100),
        ],
        taker_fee_bps=20,
    )
    # platform example X15
    assert (frozen.yes_volume, frozen.no_volume, frozen.cash_cents) == (200, 150, 4_008)
    assert free_pairs(Stock(yes_volume=500, no_volume=400), frozen) == 250
    assert free_pairs(Stock(yes_volume=180, no_volume=400), frozen) == -20


def test_a_leg_more_than_the_capacity_evicts_the_oldest() -> None:
    applied = AppliedTrades(capacity=3)
    for number in range(4):
        applied.add(leg_id(f"t{number}", Side.BID))
    assert len(applied) == 3
    assert "t0:B" not in applied
    assert all(f"t{number}:B" in applied for number in (1, 2, 3))


def test_a_leg_applied_twice_is_held_once_and_keeps_its_age() -> None:
    applied = AppliedTrades(capacity=2)
    for leg in ("a:B", "b:B", "a:B", "c:B"):
        applied.add(leg)
    assert len(applied) == 2
    assert "a:B" not in applied
    assert "b:B" in applied
    assert "c:B" in applied


def test_legs_by_the_thousand_past_the_capacity_leave_exactly_the_newest() -> None:
    applied = AppliedTrades(capacity=100)
    for number in range(10_000):
        applied.add(leg_id(f"t{number}", Side.ASK))
        assert len(applied) == min(100, number + 1)
    assert not any(f"t{number}:S" in applied for number in range(9_900))
    assert all(f"t{number}:S" in applied for number in range(9_900, 10_000))


def test_the_two_legs_of_a_self_trade_are_distinct() -> None:
    assert leg_id("t", Side.BID) != leg_id("t", Side.ASK)


def test_selling_more_than_held_is_refused() -> None:
    with pytest.raises(ValueError, match="sale of 2 out of 1"):
        apply_trade(
            Stock(yes_volume=1, yes_cost_sum_cents=50),
            scenario=Scenario.BURN,
            book_side=Side.ASK,
            price_cents=50,
            quantity=2,
            own_fee_cents=0,
        )
