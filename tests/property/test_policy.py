"""Policy over all legal inputs: defence, money and supply (market-making §5, §9, §12)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from engine.config import QuoteConfig
from engine.events import DefenseLevel, Phase, Scenario, Side
from engine.quoting import budget, supply
from engine.quoting.defence import (
    DefenceInputs,
    DefenceState,
    advance,
    one_side_discount_cents,
    one_side_multiplier,
    skew_bp,
    target_level,
    widen_multiplier,
)
from engine.quoting.inventory import Stock, apply_trade
from engine.quoting.supply import Merge, Mint, SupplyView

QUOTE = QuoteConfig()
volumes = st.integers(0, 25_000)
inputs = st.builds(
    DefenceInputs,
    yes_volume=volumes,
    no_volume=volumes,
    fair_price_cents=st.integers(1, 99),
    vpin_imbalance=st.integers(0, 50),
    vpin_volume=st.just(50),
    oracle_stale=st.booleans(),
    killed=st.booleans(),
)


@given(values=inputs)
def test_the_level_is_the_same_for_the_mirrored_market(values: DefenceInputs) -> None:
    mirrored = structs.replace(
        values,
        yes_volume=values.no_volume,
        no_volume=values.yes_volume,
        fair_price_cents=100 - values.fair_price_cents,
    )
    assert advance(DefenceState(), values, QUOTE) == advance(DefenceState(), mirrored, QUOTE)


@given(sequence=st.lists(inputs, max_size=40))
def test_the_stack_follows_its_rules_through_any_sequence(sequence: list[DefenceInputs]) -> None:
    state = DefenceState()
    for values in sequence:
        target, after = target_level(values, QUOTE), advance(state, values, QUOTE)
        assert after.level >= target, "never less than the values ask for"
        assert after.level >= state.level - 1, "one level down at most"
        assert after.level <= max(state.level, target), "never up without a reason"
        assert state.level != DefenseLevel.KILL_SWITCH or after.level == DefenseLevel.KILL_SWITCH
        assert 1.0 <= after.multiplier <= 4.0
        assert 0 <= after.discount_cents <= QUOTE.distress_max_discount
        assert after.discount_cents == 0 or after.level == DefenseLevel.ONE_SIDE
        state = after


@given(yes=volumes, no=volumes, more=st.integers(1, 5_000))
def test_ramps_rise_with_skew_and_stay_within_their_bounds(yes: int, no: int, more: int) -> None:
    bp, further = sorted((skew_bp(yes, no), skew_bp(yes + more, no)))
    for ramp, low, high in ((widen_multiplier, 1.5, 3.0), (one_side_multiplier, 2.0, 4.0)):
        assert low <= ramp(bp, QUOTE) <= ramp(further, QUOTE) <= high
    assert 0 <= one_side_discount_cents(bp, QUOTE) <= one_side_discount_cents(further, QUOTE) <= 5


fills = st.tuples(
    st.just("fill"), st.sampled_from(Scenario), st.sampled_from(Side), st.integers(1, 99), st.integers(1, 500)
)
moves = st.tuples(st.just("move"), st.integers(1, 99))
flows = st.tuples(st.just("flow"), st.integers(-10_000, 10_000))


@settings(max_examples=200)
@given(events=st.lists(st.one_of(fills, moves, flows), max_size=60), start=st.integers(1, 99))
def test_the_parts_of_profit_add_up_to_the_cent(events: list[tuple[object, ...]], start: int) -> None:
    stock = Stock(yes_volume=10**6, no_volume=10**6, cash_cents=10**9)
    ledger = budget.opened(stock, fair_price_cents=start, day=1)
    for event in events:
        match event:
            case ("fill", Scenario() as scenario, Side() as side, int(price), int(shares)):
                fee = (price * shares * 10 + 9_999) // 10_000
                stock = apply_trade(
                    stock,
                    scenario=scenario,
                    book_side=side,
                    price_cents=price,
                    quantity=shares,
                    own_fee_cents=fee,
                )
                ledger = budget.filled(ledger, side=side, price_cents=price, shares=shares, fee_cents=fee)
            case ("move", int(price)):
                ledger = budget.marked(ledger, stock, price)
            case ("flow", int(amount)):
                stock = structs.replace(stock, cash_cents=stock.cash_cents + amount)
                ledger = budget.flowed(ledger, amount)
        assert budget.unexplained_cents(ledger, stock) == 0


def test_a_new_day_has_a_new_baseline_and_keeps_the_loss_since_the_start() -> None:
    stock = Stock(yes_volume=100, no_volume=100, cash_cents=50_000)
    ledger = budget.opened(stock, fair_price_cents=50, day=1)
    poorer = structs.replace(stock, cash_cents=20_000)
    assert budget.money(ledger, poorer).daily_pnl_cents == -30_000
    ledger = budget.new_day(budget.flowed(ledger, 0), poorer, day=2)
    seen = budget.money(ledger, poorer)
    assert (seen.daily_pnl_cents, seen.budget_used_cents) == (0, 30_000)


def test_days_begin_at_midnight_of_the_zone() -> None:
    midnight_ms = 1_790_035_200_000  # 2026-09-22 00:00 UTC
    assert budget.trading_day(midnight_ms, "UTC") == budget.trading_day(midnight_ms - 1, "UTC") + 1
    assert budget.trading_day(midnight_ms, "Asia/Tokyo") == budget.trading_day(midnight_ms - 1, "Asia/Tokyo")


@settings(max_examples=300)
@given(yes=st.integers(0, 5_000), no=st.integers(0, 5_000), cash=st.integers(0, 600_000))
def test_merge_and_mint_never_go_in_circles(yes: int, no: int, cash: int) -> None:
    """D20: whatever the start, after a few operations nothing is left to do, and none breaks its bounds."""
    operations = []
    for _ in range(6):
        plan = supply.plan(
            SupplyView(
                stock=Stock(yes_volume=yes, no_volume=no, cash_cents=cash),
                yes_available=yes,
                no_available=no,
                free_cash_cents=cash,
                phase=Phase.STABILIZATION,
                level=DefenseLevel.NORMAL,
                market_active=True,
                left_ms=10**9,
                since_last_ms=None,
            ),
            QUOTE,
        )
        if plan is None:
            break
        operations.append(type(plan))
        if isinstance(plan, Merge):
            yes, no, cash = yes - plan.pairs, no - plan.pairs, cash + 100 * plan.pairs
            assert abs(yes - no) * 10 <= 8 * (yes + no)
            assert min(yes, no) >= 250
        else:
            assert isinstance(plan, Mint)
            yes, no, cash = yes + plan.pairs, no + plan.pairs, cash - 100 * plan.pairs
            assert cash >= 50_000
            assert max(yes, no) <= QUOTE.position_limit
    assert len(operations) <= 2
    assert operations != [Mint, Merge]
