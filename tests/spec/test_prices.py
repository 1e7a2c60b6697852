"""Worked examples EX-01 .. EX-19 of market-making §13 on the C kernel and on its Python twin.

EX-14 (defence ramps) belongs to policy; the multipliers and discounts of EX-15 are inputs here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from engine._native import ffi, lib
from engine.quoting.pricing import MarketTerms, PriceParams
from tests.reference import quote as reference
from tests.reference.kernel import (
    CENTS,
    KernelBook,
    KernelQuote,
    fair_values,
    native_fair,
    native_inputs,
    target_values,
)
from tests.reference.orderbook import ASK, BID, ReferenceBook, grid_prices
from tests.reference.quote import EXPLORATION, SIDE_ASK, SIDE_BID, STABILIZATION, Fair, Inputs, Target, Trades

pytestmark = pytest.mark.spec_examples

HOUR_MS = 3_600_000
GAMMA_SHORT, GAMMA_MID = 2.5, 1.5
Levels = dict[int, int]


def params(gamma: float = GAMMA_MID, **changes: float) -> PriceParams:
    terms = MarketTerms(gamma=gamma, maker_fee_bps=10, taker_fee_bps=20)
    return PriceParams(terms=terms, **changes)  # type: ignore[arg-type]


def inputs(hours: float = 720, yes: int = 700, no: int = 300, **changes: float) -> Inputs:
    return replace(
        Inputs(trading_end_ms=round(hours * HOUR_MS), yes_lots=yes, no_lots=no),
        **changes,  # type: ignore[arg-type]
    )


class Twin:
    """The stages in Python."""

    def reservation(self, params: PriceParams, inputs: Inputs, s: int, sigma: float) -> Fair:
        fair = Fair(fair_price_cents=s, sigma_cents=sigma)
        reference.reservation(params, inputs, fair)
        return fair

    def ladder(self, params: PriceParams, inputs: Inputs, fair: Fair, bids: Levels, asks: Levels) -> Target:
        return reference.ladder(params, self.book(bids, asks), inputs, fair)

    def layers(
        self, params: PriceParams, inputs: Inputs, posterior: float, bids: Levels, asks: Levels
    ) -> Fair:
        fair = Fair()
        reference.layers(params, Trades(posterior), self.book(bids, asks), inputs, fair)
        return fair

    def micro_price(self, params: PriceParams, bids: Levels, asks: Levels) -> float | None:
        return reference.micro_price(params, self.book(bids, asks))

    def volatility(self, params: PriceParams, prices_cents: list[int], s: int) -> float:
        return reference.volatility(params, [price * 100 for price in prices_cents], s)

    def posterior(self, params: PriceParams, start: float, trades: list[tuple[int, int, int]]) -> float:
        seen = Trades(start)
        for price_cents, aggressor, now_ms in trades:
            reference.on_trade(seen, params, price_cents * 100, aggressor, now_ms)
        return seen.posterior_cents

    @staticmethod
    def book(bids: Levels, asks: Levels) -> ReferenceBook:
        book = ReferenceBook(grid_prices(CENTS))
        book.lots = (dict(bids), dict(asks))
        return book


class Kernel:
    """The stages in C."""

    def reservation(self, params: PriceParams, inputs: Inputs, s: int, sigma: float) -> Fair:
        fair = native_fair(Fair(fair_price_cents=s, sigma_cents=sigma))
        lib.quote_reservation(KernelQuote(params, 50.0).params, native_inputs(inputs), fair)
        return fair_values(fair)

    def ladder(self, params: PriceParams, inputs: Inputs, fair: Fair, bids: Levels, asks: Levels) -> Target:
        target = ffi.new("quote_target_t *")
        quote, book = KernelQuote(params, 50.0), self.book(bids, asks)
        lib.quote_ladder(quote.params, book.pointer, native_inputs(inputs), native_fair(fair), target)
        return target_values(target)

    def layers(
        self, params: PriceParams, inputs: Inputs, posterior: float, bids: Levels, asks: Levels
    ) -> Fair:
        fair = ffi.new("quote_fair_t *")
        quote, book = KernelQuote(params, posterior), self.book(bids, asks)
        lib.quote_layers(quote.params, quote.trades, book.pointer, native_inputs(inputs), fair)
        return fair_values(fair)

    def micro_price(self, params: PriceParams, bids: Levels, asks: Levels) -> float | None:
        micro = ffi.new("double *")
        present = lib.quote_micro_price(
            KernelQuote(params, 50.0).params, self.book(bids, asks).pointer, micro
        )
        return float(micro[0]) if present else None

    def volatility(self, params: PriceParams, prices_cents: list[int], s: int) -> float:
        quote = KernelQuote(params, 50.0)
        for price in prices_cents:
            quote.on_trade(price * 100, BID, 0)
        return float(lib.quote_volatility(quote.params, quote.trades, s))

    def posterior(self, params: PriceParams, start: float, trades: list[tuple[int, int, int]]) -> float:
        quote = KernelQuote(params, start)
        for price_cents, aggressor, now_ms in trades:
            quote.on_trade(price_cents * 100, aggressor, now_ms)
        return float(quote.trades.posterior_cents)

    @staticmethod
    def book(bids: Levels, asks: Levels) -> KernelBook:
        book = KernelBook(CENTS)
        for side, levels in ((BID, bids), (ASK, asks)):
            for tick, lots in levels.items():
                assert lib.orderbook_set_level(book.pointer, side, tick, lots) == 0
        return book


@pytest.fixture(params=[Twin, Kernel], ids=["twin", "kernel"])
def path(request: pytest.FixtureRequest) -> Twin | Kernel:
    make: Callable[[], Twin | Kernel] = request.param
    return make()


def touches(
    path: Twin | Kernel, params: PriceParams, inputs: Inputs, s: int, sigma: float
) -> tuple[Fair, Target]:
    fair = path.reservation(params, inputs, s, sigma)
    return fair, path.ladder(params, inputs, fair, {}, {})


@pytest.mark.parametrize(
    ("hours", "tau"), [(720, 0.967742), (48, 0.666667), (24, 0.5), (2, 0.076923), (0, 0.0)]
)
def test_ex01_tau(path: Twin | Kernel, hours: float, tau: float) -> None:
    assert path.reservation(params(), inputs(hours), 50, 3.0).tau == pytest.approx(tau, abs=5e-7)


def test_ex01_past_the_end_is_tau_zero(path: Twin | Kernel) -> None:
    assert path.reservation(params(), replace(inputs(1), now_ms=2 * HOUR_MS), 50, 3.0).tau == 0.0


def test_ex02_heavy_inventory(path: Twin | Kernel) -> None:
    fair, target = touches(path, params(), inputs(), 50, 3.0)
    assert fair.inventory_skew == 0.4
    assert fair.adjustment_cents == pytest.approx(5.225806, abs=5e-7)
    assert fair.reservation_cents == pytest.approx(44.774194, abs=5e-7)
    assert (fair.half_spread_ask_cents, fair.half_spread_bid_cents) == (1.6, 2.4)
    assert (target.touch_ask, target.touch_bid) == (47, 42)
    _, exploration = touches(path, params(), inputs(phase=EXPLORATION), 50, 3.0)
    assert (exploration.touch_ask, exploration.touch_bid) == (49, 38)


def at_time(path: Twin | Kernel, hours: float, gamma: float = GAMMA_MID) -> tuple[float, int, int]:
    """EX-02's stock at another time: reservation price and touches."""
    fair, target = touches(path, params(gamma), inputs(hours), 50, 3.0)
    return round(fair.reservation_cents, 6), target.touch_ask, target.touch_bid


def test_ex03_a_day_before_the_end(path: Twin | Kernel) -> None:
    assert at_time(path, 24) == (47.3, 49, 44)


def test_ex04_a_short_market(path: Twin | Kernel) -> None:
    assert at_time(path, 48, GAMMA_SHORT) == (44.0, 46, 41)


def test_ex05_two_hours_before_the_end(path: Twin | Kernel) -> None:
    assert at_time(path, 2) == (49.584615, 52, 47)


def test_ex05_with_min_adjustment(path: Twin | Kernel) -> None:
    assert touches(path, params(), inputs(2), 50, 3.0)[0].adjustment_cents == pytest.approx(
        0.415385, abs=5e-7
    )
    fair, target = touches(path, params(min_adjustment=1), inputs(2), 50, 3.0)
    assert (fair.reservation_cents, target.touch_ask, target.touch_bid) == (49.0, 51, 46)


def test_ex06_near_the_lower_limit(path: Twin | Kernel) -> None:
    fair, target = touches(path, params(), inputs(), 10, 1.8)
    assert fair.reservation_cents == pytest.approx(8.118710, abs=5e-7)
    assert (target.touch_ask, target.touch_bid) == (10, 5)
    _, wide = touches(path, params(), inputs(spread_multiplier=3.0), 10, 1.8)
    assert (wide.touch_ask, wide.bids) == (13, [])


def test_ex07_balanced(path: Twin | Kernel) -> None:
    fair, target = touches(path, params(), inputs(yes=500, no=500), 50, 3.0)
    assert (fair.reservation_cents, target.touch_ask, target.touch_bid) == (50.0, 52, 48)
    _, exploration = touches(path, params(), inputs(yes=500, no=500, phase=EXPLORATION), 50, 3.0)
    assert (exploration.touch_ask, exploration.touch_bid) == (55, 45)


@pytest.mark.parametrize(("yes", "no", "reservation"), [(550, 450, 49.976), (555, 445, 49.9736)])
def test_ex08_small_skew(path: Twin | Kernel, yes: int, no: int, reservation: float) -> None:
    fair, target = touches(path, params(), inputs(1, yes, no), 50, 2.0)
    assert fair.reservation_cents == pytest.approx(reservation, abs=1e-12)
    assert (target.touch_ask, target.touch_bid) == (52, 47)


@pytest.mark.parametrize(("yes", "no", "expected"), [(550, 450, (52, 47)), (555, 445, (51, 46))])
def test_ex08_with_min_adjustment_the_tenth_itself_is_not_skewed(
    path: Twin | Kernel, yes: int, no: int, expected: tuple[int, int]
) -> None:
    _, target = touches(path, params(min_adjustment=1), inputs(1, yes, no), 50, 2.0)
    assert (target.touch_ask, target.touch_bid) == expected


@pytest.mark.parametrize(
    ("trades", "posterior"),
    [
        ([(50, BID, 0)], 50.15),
        ([(50, ASK, 0)], 49.85),
        ([(52, BID, second * 15_000) for second in range(4)], 51.074040),
    ],
)
def test_ex09_posterior(path: Twin | Kernel, trades: list[tuple[int, int, int]], posterior: float) -> None:
    assert path.posterior(params(), 50.0, trades) == pytest.approx(posterior, abs=5e-7)


@pytest.mark.parametrize(("n", "alpha"), [(0, 0.15), (3, 0.075), (15, 0.0375), (80, 0.02)])
def test_ex10_learning_rate(path: Twin | Kernel, n: int, alpha: float) -> None:
    """A trade at its own posterior moves it by exactly alpha, so two histories differ by their last step."""
    history = [(50, BID if i % 2 else ASK, 0) for i in range(n)]
    before = path.posterior(params(), 50.0, history)
    after = path.posterior(params(), 50.0, [*history, (50, BID, 60_000)])
    assert after - before == pytest.approx(alpha * (50 - before + 1), abs=1e-12)
    later = path.posterior(params(), 50.0, [*history, (50, BID, 60_001)])
    assert later - before == pytest.approx(0.15 * (50 - before + 1), abs=1e-12), "older than 60 s: n = 0"


@pytest.mark.parametrize(
    ("prices", "s", "sigma"),
    [
        ([50, 52, 49, 53, 50, 51], 50, 3.114482),
        ([10, 12, 9, 13, 10, 11], 10, 1.868689),
        ([50] * 6, 50, 1.0),
        ([50, 52, 49, 53], 50, 2.0),
    ],
)
def test_ex11_volatility(path: Twin | Kernel, prices: list[int], s: int, sigma: float) -> None:
    assert path.volatility(params(), prices, s) == pytest.approx(sigma, abs=5e-7)


BIDS, ASKS = {48: 100, 47: 150, 46: 200}, {52: 50, 53: 80, 54: 120}


@pytest.mark.parametrize(
    ("levels", "bids", "asks", "micro"),
    [
        (1, BIDS, ASKS, 50.666667),
        (3, BIDS, ASKS, 50.847429),
        (3, {48: 100, 40: 10_000}, {52: 100, 53: 100}, 49.871428),
        (3, {48: 100, 47: 10_000}, {52: 100, 53: 100}, 52.0),
    ],
    ids=["touch only", "three levels", "spoof far away", "spoof near: clamped"],
)
def test_ex12_micro_price(path: Twin | Kernel, levels: int, bids: Levels, asks: Levels, micro: float) -> None:
    assert path.micro_price(params(microprice_levels=levels), bids, asks) == pytest.approx(micro, abs=5e-7)


@pytest.mark.parametrize(("bids", "asks"), [({}, ASKS), (BIDS, {}), ({}, {})])
def test_ex12_no_micro_price_without_both_sides(path: Twin | Kernel, bids: Levels, asks: Levels) -> None:
    assert path.micro_price(params(), bids, asks) is None


@pytest.mark.parametrize(
    ("t_ms", "depth", "weights", "s"),
    [
        (1_800_000, 40, (0.35, 0.2, 0.45), 60),
        (1_800_000, 9, (0.35, 0.0, 0.65), 61),
        (3_600_000, 40, (0.0, 0.2, 0.8), 61),
    ],
)
def test_ex13_layers(
    path: Twin | Kernel, t_ms: int, depth: int, weights: tuple[float, float, float], s: int
) -> None:
    bids, asks = {50: depth // 2}, {60: depth // 2}
    if depth % 2:
        asks[90] = 1
    fair = path.layers(params(), inputs(anchor_cents=60.0, now_ms=t_ms), 62.0, bids, asks)
    assert fair.micro_cents == 55.0
    assert (fair.anchor_weight, fair.micro_weight, fair.posterior_weight) == pytest.approx(weights, abs=1e-12)
    assert fair.fair_price_cents == s


@pytest.mark.parametrize(
    ("yes", "no", "multiplier", "discount", "reservation", "ask", "bid"),
    [
        (1700, 300, 1.0, 0, 40.8548, 43, 38),
        (1850, 150, 2.25, 0, 38.8952, 42, 32),
        (1901, 99, 2.04, 0, 38.2289, 41, None),
        (1920, 80, 2.8, 2, 37.9806, 40, None),
        (1950, 50, 4.0, 5, 37.5887, 37, None),
    ],
)
def test_ex15_defence_levels_as_inputs(
    path: Twin | Kernel,
    yes: int,
    no: int,
    multiplier: float,
    discount: float,
    reservation: float,
    ask: int,
    bid: int | None,
) -> None:
    one_side = int(bid is None)
    sides = SIDE_ASK if one_side else SIDE_ASK | SIDE_BID
    moment = inputs(
        yes=yes, no=no, spread_multiplier=multiplier, discount_cents=discount, one_side=one_side, sides=sides
    )
    fair, target = touches(path, params(), moment, 50, 3.0)
    assert fair.reservation_cents == pytest.approx(reservation, abs=5e-5)
    assert (target.touch_ask, target.touch_bid) == (ask, bid)


def laid(path: Twin | Kernel, phase: int, ask: float, bid: float, **changes: float) -> Target:
    """The ladder around given touches: r and the half-spreads are chosen to lie on them."""
    fair = Fair(
        fair_price_cents=50,
        reservation_cents=(ask + bid) / 2,
        half_spread_ask_cents=(ask - bid) / 2,
        half_spread_bid_cents=(ask - bid) / 2,
    )
    return path.ladder(params(**changes), inputs(phase=phase), fair, {}, {})


def test_ex16_exploration_ladder(path: Twin | Kernel) -> None:
    target = laid(path, EXPLORATION, 55, 45)
    assert target.asks == [(55, 25), (56, 30), (57, 35), (58, 40), (59, 45)]
    assert target.bids == [(45, 25), (44, 30), (43, 35), (42, 40), (41, 45)]


def test_ex17_stabilization_ladder(path: Twin | Kernel) -> None:
    target = laid(path, STABILIZATION, 52, 48)
    assert target.asks == [(52, 100), (55, 70), (58, 49), (61, 34), (64, 24)]
    assert target.bids == [(48, 100), (45, 70), (43, 49), (41, 34), (39, 24)]


def test_ex18_levels_beyond_the_limits_are_dropped(path: Twin | Kernel) -> None:
    assert laid(path, STABILIZATION, 12, 8).bids == [(8, 100), (7, 70), (6, 49), (5, 34)]
    assert laid(path, STABILIZATION, 88, 84).asks == [(88, 100), (93, 70)]


@pytest.mark.parametrize(
    ("qty_ratio", "scale", "ask", "bid"), [(1.0, 1.0, 112, 88), (0.25, 1.0, 28, 22), (0.25, 0.05, 1, 1)]
)
def test_ex19_sizes_lean_against_inventory(
    path: Twin | Kernel, qty_ratio: float, scale: float, ask: int, bid: int
) -> None:
    phase = EXPLORATION if qty_ratio == 0.25 else STABILIZATION
    target = touches(path, params(), inputs(phase=phase, size_scale=scale), 50, 3.0)[1]
    assert (target.asks[0][1], target.bids[0][1]) == (ask, bid)


def test_passive_rule_stays_one_tick_behind_foreign_prices(path: Twin | Kernel) -> None:
    fair = path.reservation(params(), inputs(yes=500, no=500), 50, 3.0)
    target = path.ladder(params(), inputs(yes=500, no=500), fair, {55: 1}, {58: 1})
    assert (target.touch_ask, target.touch_bid) == (56, 48)
    target = path.ladder(params(), inputs(yes=500, no=500), fair, {42: 1}, {45: 1})
    assert (target.touch_ask, target.touch_bid) == (52, 44)


def test_reducing_side_may_take(path: Twin | Kernel) -> None:
    moment = inputs(yes=1920, no=80, one_side=1, sides=SIDE_ASK)
    fair = path.reservation(params(), moment, 50, 3.0)
    assert path.ladder(params(), moment, fair, {60: 1}, {}).touch_ask == 40


@pytest.mark.parametrize("anchor", [1, 2, 5, 6, 49, 50, 51, 94, 95, 98, 99])
def test_row30_without_trades_the_fair_price_is_the_anchor(path: Twin | Kernel, anchor: int) -> None:
    """No prior of 50 pulls it anywhere, however old the anchor is."""
    for now_ms in (0, 1_800_000, 7_200_000):
        moment = inputs(anchor_cents=float(anchor), now_ms=now_ms)
        assert path.layers(params(), moment, float(anchor), {}, {}).fair_price_cents == anchor


def test_row2_quotes_are_continuous_towards_the_end(path: Twin | Kernel) -> None:
    """tau of 0 is a value, not "unset": no jump at h = 0, and nothing changes after it."""
    reservations = [
        path.reservation(params(), inputs(hours), 50, 3.0).reservation_cents
        for hours in (1.0, 0.1, 0.01, 1 / 3600, 0)
    ]
    assert reservations == sorted(reservations)
    assert reservations[-1] == 50.0
    assert reservations[-2] == pytest.approx(50.0, abs=1e-3)
    past = path.reservation(params(), replace(inputs(1), now_ms=3 * HOUR_MS), 50, 3.0)
    assert (past.tau, past.reservation_cents) == (0.0, 50.0)


def test_row11_shipped_defaults_quote_four_cents_and_five_levels(path: Twin | Kernel) -> None:
    _, target = touches(path, params(), inputs(yes=500, no=500), 50, 3.0)
    assert (target.touch_ask or 0) - (target.touch_bid or 0) == 4
    assert min(len(target.bids), len(target.asks)) >= 3
