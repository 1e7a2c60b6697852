"""Worked examples of market-making §13 that belong to policy: EX-14, EX-15, EX-24 .. EX-31, by number."""

from __future__ import annotations

import pytest

from engine._native import ffi, lib
from engine.config import QuoteConfig, RollbackConfig
from engine.events import DefenseLevel, Gate, KillCause, Phase, Side
from engine.quoting import budget, defence, drift, gates, kills, oracle, phases, scaling, supply, toxicity
from engine.quoting.defence import DefenceInputs, DefenceState
from engine.quoting.inventory import Stock, assets_cents
from engine.quoting.phases import PhaseEvidence, PhaseState
from engine.quoting.pricing import MarketTerms, PriceParams
from engine.quoting.supply import Merge, Mint, SupplyView
from engine.quoting.toxicity import LvrState, OwnFill
from engine.quoting.trade_window import PriceRange
from engine.workers.trade_tape import TradeTape
from tests.reference import quote as twin
from tests.reference.kernel import CENTS, KernelBook, KernelQuote, native_fair, native_inputs, target_values
from tests.reference.orderbook import ReferenceBook, grid_prices

pytestmark = pytest.mark.spec_examples

QUOTE = QuoteConfig()
HOUR_MS = 3_600_000


def values(yes: int, no: int, *, fair: int = 50) -> DefenceInputs:
    return DefenceInputs(
        yes_volume=yes,
        no_volume=no,
        fair_price_cents=fair,
        vpin_imbalance=0,
        vpin_volume=0,
        oracle_stale=False,
        killed=False,
    )


@pytest.mark.parametrize(
    ("yes", "no", "level", "multiplier", "discount"),
    [
        (900, 100, DefenseLevel.NORMAL, 1.0, 0),
        (905, 95, DefenseLevel.WIDEN, 1.65, 0),
        (1850, 150, DefenseLevel.WIDEN, 2.25, 0),
        (1900, 100, DefenseLevel.WIDEN, 3.0, 0),
        (1901, 99, DefenseLevel.ONE_SIDE, 2.04, 0),
        (1920, 80, DefenseLevel.ONE_SIDE, 2.8, 2),
        (1950, 50, DefenseLevel.ONE_SIDE, 4.0, 5),
        (1951, 49, DefenseLevel.KILL_SWITCH, 1.0, 0),
        (0, 0, DefenseLevel.NORMAL, 1.0, 0),
        (10, 0, DefenseLevel.KILL_SWITCH, 1.0, 0),
    ],
)
def test_ex14_levels_multipliers_discounts(
    yes: int, no: int, level: DefenseLevel, multiplier: float, discount: int
) -> None:
    for pair in ((yes, no), (no, yes)):
        state = defence.advance(DefenceState(), values(*pair), QUOTE)
        assert state.level == level
        assert state.multiplier == pytest.approx(multiplier, abs=1e-12)
        assert state.discount_cents == discount


@pytest.mark.parametrize("path", ["twin", "kernel"])
@pytest.mark.parametrize(
    ("yes", "no", "ask", "bid"),
    [
        (1700, 300, 43, 38),
        (1850, 150, 42, 32),
        (1901, 99, 41, None),
        (1920, 80, 40, None),
        (1950, 50, 37, None),
    ],
)
def test_ex15_from_stock_to_prices(path: str, yes: int, no: int, ask: int, bid: int | None) -> None:
    """The defence stack's own multiplier, discount and sides, through both implementations of the prices."""
    state = defence.advance(DefenceState(), values(yes, no), QUOTE)
    one_side = state.level == DefenseLevel.ONE_SIDE
    params = PriceParams(terms=MarketTerms(gamma=1.5, maker_fee_bps=10, taker_fee_bps=20))
    inputs = twin.Inputs(
        trading_end_ms=720 * HOUR_MS,
        yes_lots=yes,
        no_lots=no,
        spread_multiplier=state.multiplier,
        discount_cents=state.discount_cents,
        one_side=int(one_side),
        sides=defence.reducing_sides(yes, no) if one_side else lib.QUOTE_SIDES_BOTH,
    )
    fair = twin.Fair(fair_price_cents=50, sigma_cents=3.0)
    if path == "twin":
        twin.reservation(params, inputs, fair)
        target = twin.ladder(params, ReferenceBook(grid_prices(CENTS)), inputs, fair)
    else:
        native, out = native_fair(fair), ffi.new("quote_target_t *")
        quote, book = KernelQuote(params, 50.0), KernelBook(CENTS)
        lib.quote_reservation(quote.params, native_inputs(inputs), native)
        lib.quote_ladder(quote.params, book.pointer, native_inputs(inputs), native, out)
        target = target_values(out)
    assert (target.touch_ask, target.touch_bid) == (ask, bid)


def test_ex22_parts_of_profit() -> None:
    """Sell YES 100 @52 with a fee of 6 at s 50, then s 51: +200 edge, -100 inventory, -6 fee."""
    stock = Stock(yes_volume=2500, no_volume=2500, yes_cost_sum_cents=125_000, cash_cents=250_000)
    ledger = budget.opened(stock, fair_price_cents=50, day=1)
    assert ledger.start_assets_cents == 500_000
    ledger = budget.filled(ledger, side=Side.ASK, price_cents=52, shares=100, fee_cents=6)
    stock = Stock(yes_volume=2400, no_volume=2500, yes_cost_sum_cents=120_000, cash_cents=255_194)
    ledger = budget.marked(ledger, stock, 51)
    assert (ledger.spread_cents, ledger.inventory_cents, ledger.fees_cents) == (200, -100, 6)
    assert budget.money(ledger, stock).assets_cents == 500_094
    assert budget.money(ledger, stock).daily_pnl_cents == 94
    assert budget.unexplained_cents(ledger, stock) == 0


def view(yes: int, no: int, cash: int, **changes: object) -> SupplyView:
    fields: dict[str, object] = {
        "stock": Stock(yes_volume=yes, no_volume=no, cash_cents=cash),
        "yes_available": yes,
        "no_available": no,
        "free_cash_cents": cash,
        "phase": Phase.STABILIZATION,
        "level": DefenseLevel.NORMAL,
        "market_active": True,
        "left_ms": 720 * HOUR_MS,
        "since_last_ms": None,
        **changes,
    }
    return SupplyView(**fields)  # type: ignore[arg-type]


def test_ex24_mints_once_and_then_nothing() -> None:
    assert supply.initial_pairs(QUOTE) == 2500
    assert supply.plan(view(480, 450, 240_000), QUOTE) == Mint(pairs=1900)
    assert supply.plan(view(2380, 2350, 50_000), QUOTE) is None


@pytest.mark.parametrize(
    ("yes", "no", "funding", "pairs"),
    [(900, 1400, 500_000, 650), (400, 900, 500_000, 150), (200, 800, 20_000, 125)],
)
def test_ex25_merge_keeps_the_reserve_and_the_skew(yes: int, no: int, funding: int, pairs: int) -> None:
    quote = QuoteConfig(initial_funding_cents=funding)
    assert supply.plan(view(yes, no, 20_000), quote) == Merge(pairs=pairs)
    assert not defence.skew_exceeds(yes - pairs, no - pairs, 0.80)


@pytest.mark.parametrize(("lifted", "falls"), [(27, False), (28, True)])
def test_ex26_velocity_lock(lifted: int, falls: bool) -> None:
    seen = toxicity.filled(LvrState(), OwnFill(time_ms=1_000, side=Side.ASK, shares=lifted))
    seen, fell = toxicity.watch(
        seen, resting_bid_shares=277, resting_ask_shares=277 - lifted, quote=QUOTE, now_ms=1_400
    )
    assert fell is falls
    state = gates.advance(
        gates.GateState(), gates.GateEvidence(own_fill_ms=1_000, lvr_fell=fell), QUOTE, now_ms=1_400
    )
    assert state.held == (Gate.POST_FILL | Gate.LVR_COOLDOWN if falls else Gate.POST_FILL)
    assert state.pulls is falls
    if falls:
        assert state.lvr_until_ms == 6_400
        after = gates.advance(state, gates.GateEvidence(), QUOTE, now_ms=6_399)
        assert after.held == Gate.LVR_COOLDOWN
        assert not gates.advance(after, gates.GateEvidence(), QUOTE, now_ms=6_400).held


def tape(prices: list[int], sells: int = 0) -> TradeTape:
    """One share each, a second apart; the first ``sells`` of them sold by the aggressor."""
    made = TradeTape()
    for number, price in enumerate(prices):
        side = Side.ASK if number < sells else Side.BID
        assert made.append(unix_ms=number * 1_000, price_ticks=price, side=side, lots=1)
    return made


def range_of(prices: list[int]) -> PriceRange:
    window = tape(prices).window()
    return PriceRange(
        trades=window.trades, low_cents=window.price_min_ticks, high_cents=window.price_max_ticks
    )


def vpin_of(prices: list[int], sells: int) -> toxicity.Vpin:
    window = tape(prices, sells).window(count=QUOTE.vpin_window)
    return toxicity.vpin(
        trades=window.trades,
        shares=window.lots,
        sold_shares=window.sell_lots,
        window=QUOTE.vpin_window,
    )


@pytest.mark.parametrize(
    ("sells", "value", "level", "multiplier"),
    [(43, 0.72, DefenseLevel.WIDEN, 2.0), (42, 0.68, DefenseLevel.NORMAL, 1.0)],
)
def test_ex27_vpin_proxy(sells: int, value: float, level: DefenseLevel, multiplier: float) -> None:
    seen = vpin_of([50] * 50, sells)
    assert seen.value == pytest.approx(value)
    inputs = DefenceInputs(
        yes_volume=500,
        no_volume=500,
        fair_price_cents=50,
        vpin_imbalance=seen.imbalance_shares,
        vpin_volume=seen.volume_shares,
        oracle_stale=False,
        killed=False,
    )
    state = defence.advance(DefenceState(), inputs, QUOTE)
    assert (state.level, state.multiplier) == (level, multiplier)


def test_ex27_needs_the_whole_window() -> None:
    assert vpin_of([50] * 49, 49).value == 0.0


QUIET = PriceRange()


def evidence(stability: PriceRange = QUIET, rollback: PriceRange = QUIET) -> PhaseEvidence:
    return PhaseEvidence(stability=stability, rollback=rollback, daily_pnl_cents=0)


@pytest.mark.parametrize(("high", "stable"), [(51, True), (52, False)])
def test_ex28_price_stable(high: int, stable: bool) -> None:
    state = PhaseState(since_ms=0)
    seen = evidence(stability=range_of([50] * 9 + [high]))
    after = phases.advance(state, seen, QUOTE, now_ms=10_000)
    assert (after.phase == Phase.STABILIZATION) is stable


@pytest.mark.parametrize(("low", "high", "rolls"), [(45, 50, True), (46, 50, False), (9, 10, True)])
def test_ex28_rollback(low: int, high: int, rolls: bool) -> None:
    state = PhaseState(since_ms=0, phase=Phase.STABILIZATION)
    seen = evidence(rollback=range_of([low, high]))
    after = phases.advance(state, seen, QUOTE, now_ms=10_000)
    assert (after.phase == Phase.EXPLORATION) is rolls
    assert (after.rollback_until_ms == 10_000 + 600_000) is rolls


@pytest.mark.parametrize(
    ("low", "high", "jumps"), [(50, 58, True), (50, 57, False), (9, 11, False), (9, 12, True)]
)
def test_ex28_price_jump(low: int, high: int, jumps: bool) -> None:
    """The last two: 22 % but 2 cents is no jump, 33 % and 3 cents is (D27)."""
    moved = PriceRange(trades=2, low_cents=low, high_cents=high)
    found = kills.causes(kills.KillEvidence(jump=moved), QUOTE)
    assert (found == KillCause.PRICE_JUMP) is jumps


@pytest.mark.parametrize(
    ("hours", "size", "spread"), [(24.01, 1, 1), (24, 0.5, 1.5), (1, 0.2, 2), (0.25, 0.05, 3), (-1, 0.05, 3)]
)
def test_ex29_time_to_end(hours: float, size: float, spread: float) -> None:
    scale = scaling.time_to_end(round(hours * HOUR_MS))
    assert (scale.size, scale.spread) == (size, spread)


@pytest.mark.parametrize(
    ("field", "tolerated", "beyond"),
    [
        ("yes_volume", 2, 3),
        ("no_volume", 2, 3),
        ("cash_cents", 200, 201),
        ("yes_cost_sum_cents", 500, 501),
        ("no_cost_sum_cents", 500, 501),
    ],
)
def test_ex30_drift(field: str, tolerated: int, beyond: int) -> None:
    ours = Stock(
        yes_volume=1000, no_volume=1000, yes_cost_sum_cents=50_000, no_cost_sum_cents=50_000, cash_cents=9_000
    )
    for change, expected in ((0, 0), (tolerated, 1), (-tolerated, 1), (beyond, 2), (-beyond, 2)):
        fields = {name: getattr(ours, name) for name in ours.__struct_fields__}
        venue = Stock(**{**fields, field: fields[field] + change})
        assert drift.compare(ours, venue, QUOTE).drift == drift.Drift(expected)


def test_ex31_oracle_deviation_limit() -> None:
    with_k = QuoteConfig(deviation_multiplier=2.0)
    assert [oracle.deviation_limit_cents(sigma, QUOTE) for sigma in (2.0, 3.0)] == [5.0, 5.0]
    assert [oracle.deviation_limit_cents(sigma, with_k) for sigma in (2.0, 3.0)] == [5.0, 6.0]


def test_ex31_assets() -> None:
    assert assets_cents(Stock(yes_volume=1800, no_volume=1500, cash_cents=420_000), 65) == 589_500


def test_rollback_threshold_is_the_loss_limit() -> None:
    """D3: phase rollback and kill lie on the same line."""
    assert QUOTE.pnl_rollback_cents == QUOTE.max_loss_daily_cents == 50_000
    assert RollbackConfig().volatility_threshold == 0.10
