"""``native/quote.c`` agrees with its Python twin on every output, bit for bit, and keeps what §3 promises."""

from __future__ import annotations

import itertools
import struct
from dataclasses import astuple, dataclass, replace
from functools import cache
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from engine._native import ffi, lib
from engine.quoting.pricing import MarketTerms, PhasePrices, PriceParams
from tests.reference import quote as reference
from tests.reference.kernel import CENTS, GRIDS, KernelBook, KernelQuote, native_inputs
from tests.reference.orderbook import ASK, BID, FOREIGN, ReferenceBook, Segment, grid_prices
from tests.reference.quote import SIDE_ASK, SIDE_BID, Fair, Inputs, Target, Trades


@cache
def ratio(low: float, high: float) -> st.SearchStrategy[float]:
    """What people configure (few decimals), and any double between."""
    few = st.integers(round(low * 1000), round(high * 1000)).map(lambda thousandths: thousandths / 1000)
    return st.one_of(few, st.floats(low, high))


@cache
def phases(spread: int, ratio_low: float, ratio_high: float) -> st.SearchStrategy[PhasePrices]:
    return st.builds(
        PhasePrices,
        half_spread_cents=st.integers(1, spread).map(float),
        qty_ratio=ratio(ratio_low, ratio_high),
        gradient=st.sampled_from(("LINEAR", "GEOMETRIC")),
        levels=st.integers(2, 10),
        linear_step_cents=st.integers(1, 5),
        linear_qty_increase=st.integers(0, 5000).map(lambda bps: bps / 10_000),
        geometric_ratio=ratio(1.01, 1.20),
        qty_decay=ratio(0.30, 1.0),
    )


@st.composite
def price_params(draw: st.DrawFn) -> PriceParams:
    """Every legal configuration of §10."""
    anchor_weight = draw(ratio(0, 1))
    base_rate = draw(ratio(0.02, 0.30))
    fee = st.sampled_from((0, 10, 20, 100, 200, 500))
    return PriceParams(
        terms=MarketTerms(
            gamma=draw(ratio(0.1, 5)),
            maker_fee_bps=draw(fee),
            taker_fee_bps=draw(fee),
            min_price_e4=draw(st.sampled_from((1, 100, 100, 700, 755))),
            max_price_e4=draw(st.sampled_from((9900, 9900, 9999, 9000, 9245))),
            lots_per_share=draw(st.sampled_from((1, 100))),
        ),
        exploration=draw(phases(20, 0.05, 0.50)),
        stabilization=draw(phases(10, 0.20, 2.0)),
        anchor_initial_weight=anchor_weight,
        anchor_decay_ms=draw(st.integers(60_000, 10_000_000)),
        microprice_weight=draw(ratio(0, 1)) * (1 - anchor_weight),
        microprice_min_depth=draw(st.integers(0, 50)),
        microprice_lambda=draw(st.sampled_from((0.0, 0.1, 0.5, 0.75, 5.0))),
        microprice_levels=draw(st.integers(1, 5)),
        base_learning_rate=base_rate,
        learning_rate_min=draw(ratio(0.019, 0.02)),
        learning_rate_max=draw(ratio(0.1, 0.30)),
        volatility_window=draw(st.integers(5, 100)),
        volatility_min_samples=draw(st.integers(2, 20)),
        default_volatility_cents=draw(st.integers(1, 10)),
        sigma_min_cents=draw(st.integers(1, 5)),
        sigma_max_cents=draw(st.integers(5, 30)),
        time_smoothing_kappa=draw(ratio(1, 168)),
        min_adjustment=draw(st.integers(0, 5)),
        min_price=draw(st.integers(1, 30)),
        max_price=draw(st.integers(70, 99)),
        max_spread_cents=draw(st.integers(5, 30)),
        spread_skew_factor=draw(ratio(0, 1)),
        qty_skew_factor=draw(ratio(0, 1)),
        qty_per_level=draw(st.integers(1, 10_000)),
    )


AGE_MS = st.one_of(st.integers(-1000, 4_000_000), st.integers(0, 2**42))
LEFT_MS = st.one_of(st.integers(-10, 10**6), st.integers(-(2**40), 2**40))


@st.composite
def market_inputs(draw: st.DrawFn) -> Inputs:
    now_ms = draw(st.integers(0, 2**42))
    volume = st.one_of(st.integers(0, 30), st.integers(0, 25_000), st.integers(0, 2**52))
    inputs = Inputs(
        now_ms=now_ms,
        started_at_ms=max(0, now_ms - draw(AGE_MS)),
        trading_end_ms=max(0, now_ms + draw(LEFT_MS)),
        anchor_cents=draw(st.one_of(st.integers(1, 99).map(float), st.floats(0, 100))),
        yes_lots=draw(volume),
        no_lots=draw(volume),
        spread_multiplier=draw(st.one_of(st.just(1.0), ratio(1, 5))),
        size_scale=draw(st.sampled_from((1.0, 0.5, 0.2, 0.05, 0.0025))),
        phase=draw(st.sampled_from((0, 1))),
        sides=draw(st.integers(0, 3)),
    )
    if draw(st.booleans()):
        reducing = (
            SIDE_ASK
            if inputs.yes_lots > inputs.no_lots
            else SIDE_BID
            if inputs.yes_lots < inputs.no_lots
            else 0
        )
        discount = float(draw(st.integers(0, 15)))
        return replace(inputs, one_side=1, sides=inputs.sides & reducing, discount_cents=discount)
    return inputs


@dataclass
class Books:
    """The same book twice."""

    kernel: KernelBook
    model: ReferenceBook


@st.composite
def books(draw: st.DrawFn, grids: tuple[tuple[Segment, ...], ...] = GRIDS) -> Books:
    segments = draw(st.sampled_from(grids))
    pair = Books(KernelBook(segments), ReferenceBook(grid_prices(segments)))
    last = len(pair.model.prices) - 1
    place = st.one_of(st.floats(0.3, 0.7), st.floats(0, 1))
    lots = st.one_of(st.integers(1, 40), st.integers(1, 2**61 // 12))
    for side in (BID, ASK):
        for share, total, own in draw(st.lists(st.tuples(place, lots, st.booleans()), max_size=7)):
            tick = max(1, min(last - 1, round(share * last)))
            assert lib.orderbook_set_level(pair.kernel.pointer, side, tick, total) == 0
            pair.model.set_level(side, tick, total)
            if own:
                lib.orderbook_set_own(pair.kernel.pointer, side, tick, total - 1)
                pair.model.set_own(side, tick, total - 1)
    return pair


@st.composite
def trade_lists(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """(price, aggressor, time); mostly close together, sometimes a burst longer than every ring."""
    start_ms = draw(st.integers(0, 2**42))
    start_e4 = draw(st.integers(1, 9999))
    count = draw(st.one_of(st.integers(0, 12), st.integers(0, 400)))
    steps = draw(
        st.lists(
            st.tuples(st.integers(-300, 300), st.sampled_from((BID, ASK)), st.integers(-500, 30_000)),
            min_size=min(count, 12),
            max_size=min(count, 12),
        )
    )
    trades, now_ms, price_e4 = [], start_ms, start_e4
    for move_e4, aggressor, wait_ms in itertools.islice(itertools.cycle(steps), count):
        price_e4 = min(9999, max(1, price_e4 + move_e4))
        now_ms = max(0, now_ms + (wait_ms if count <= 12 else wait_ms // 200))
        trades.append((price_e4, aggressor, now_ms))
    return trades


def bits(values: Any) -> list[bytes]:
    """Doubles and integers as bytes, so that -0.0 differs from 0.0 and every last bit counts."""
    return [struct.pack("<d", float(value)) for value in astuple(values)]


def has_legal_fees(params: PriceParams) -> bool:
    """No fee floor may exceed the cap (§10 validator)."""
    bps = max(params.terms.maker_fee_bps, params.terms.taker_fee_bps)
    dearest = max(params.max_price, 100 - params.max_price, params.min_price, 100 - params.min_price)
    return reference.up(dearest * bps / 10_000) <= params.max_spread_cents


def run_both(
    params: PriceParams, posterior: float, trades: list[tuple[int, int, int]], pair: Books, inputs: Inputs
) -> tuple[KernelQuote, Fair, Target]:
    """Feeds both, compares everything they say, returns it."""
    kernel, seen = KernelQuote(params, posterior), Trades(posterior)
    for price_e4, aggressor, now_ms in trades:
        kernel.on_trade(price_e4, aggressor, now_ms)
        reference.on_trade(seen, params, price_e4, aggressor, now_ms)
        assert kernel.trades.posterior_cents == seen.posterior_cents
    assert kernel.compute(pair.kernel, inputs) >= 0
    fair, target = reference.compute(params, seen, pair.model, inputs)
    assert bits(kernel.fair()) == bits(fair), (kernel.fair(), fair)
    assert kernel.target() == target
    return kernel, fair, target


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(price_params(), st.floats(0, 100), trade_lists(), books(), market_inputs())
def test_kernel_and_twin_agree_and_keep_the_promises(
    params: PriceParams, posterior: float, trades: list[tuple[int, int, int]], pair: Books, inputs: Inputs
) -> None:
    assume(has_legal_fees(params))
    kernel, fair, target = run_both(params, posterior, trades, pair, inputs)
    cents = [price / 100 for price in pair.model.prices]
    low = max(params.min_price, params.terms.min_price_e4 / 100)
    high = min(params.max_price, params.terms.max_price_e4 / 100)

    assert 1 <= fair.fair_price_cents <= 99
    assert params.sigma_min_cents <= fair.sigma_cents <= params.sigma_max_cents
    assert params.min_price <= fair.reservation_cents <= params.max_price
    assert -1 <= fair.inventory_skew <= 1
    assert 0 <= fair.tau < 1
    for half_spread in (fair.half_spread_ask_cents, fair.half_spread_bid_cents):
        assert 1 <= half_spread <= params.max_spread_cents
    if not inputs.one_side:
        if target.touch_ask is not None:
            assert cents[target.touch_ask] > fair.reservation_cents
        if target.touch_bid is not None:
            assert cents[target.touch_bid] < fair.reservation_cents
        assert all(tick > pair.model.best(FOREIGN, BID) for tick, _ in target.asks)
        best_ask = pair.model.best(FOREIGN, ASK)
        assert best_ask < 0 or all(tick < best_ask for tick, _ in target.bids)
    assert all(low - 1e-8 <= cents[tick] <= high + 1e-8 for tick, _ in target.bids + target.asks)
    assert all(lots >= 1 for _, lots in target.bids + target.asks)
    assert all(a[0] < b[0] for a, b in itertools.pairwise(target.asks))
    assert all(a[0] > b[0] for a, b in itertools.pairwise(target.bids))
    assert not target.bids or not target.asks or target.bids[0][0] < target.asks[0][0]
    assert (target.touch_ask is None) == (not inputs.sides & SIDE_ASK)
    assert (target.touch_bid is None) == (not inputs.sides & SIDE_BID)

    assert kernel.compute(pair.kernel, inputs) == lib.QUOTE_SAME, "same question, same answer"


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(price_params(), books(), market_inputs(), st.integers(0, 25_000), st.integers(0, 25_000))
def test_reservation_price_falls_as_inventory_grows(
    params: PriceParams, pair: Books, inputs: Inputs, yes_lots: int, more: int
) -> None:
    assume(has_legal_fees(params))
    inputs = replace(inputs, one_side=0, discount_cents=0.0, sides=3)
    lean = run_both(params, 50.0, [], pair, replace(inputs, yes_lots=yes_lots, no_lots=500))[1]
    heavy = run_both(params, 50.0, [], pair, replace(inputs, yes_lots=yes_lots + more, no_lots=500))[1]
    assert heavy.reservation_cents <= lean.reservation_cents
    assert heavy.half_spread_ask_cents <= lean.half_spread_ask_cents
    assert heavy.half_spread_bid_cents >= lean.half_spread_bid_cents


def mirror_params(params: PriceParams) -> PriceParams:
    """Symmetric limits and linear ladders: what the specification defines alike for YES and NO."""
    return PriceParams(
        **{name: getattr(params, name) for name in params.__struct_fields__}
        | {
            "min_price": 100 - params.max_price,
            "terms": MarketTerms(gamma=params.terms.gamma, maker_fee_bps=10, taker_fee_bps=20),
            "exploration": _linear(params.exploration),
            "stabilization": _linear(params.stabilization),
        }
    )


def _linear(phase: PhasePrices) -> PhasePrices:
    return PhasePrices(
        **{name: getattr(phase, name) for name in phase.__struct_fields__} | {"gradient": "LINEAR"}
    )


def is_near_tie(value: float, slack: float) -> bool:
    """Within rounding noise of the place where a rounded result jumps."""
    distance = abs(value - slack - round(value - slack))
    return distance < 1e-10


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(price_params(), st.floats(0, 100), trade_lists(), books(grids=(CENTS,)), market_inputs())
def test_yes_and_no_mirror_each_other(
    params: PriceParams, posterior: float, trades: list[tuple[int, int, int]], pair: Books, inputs: Inputs
) -> None:
    params = mirror_params(params)
    no_book = Books(KernelBook(CENTS), pair.model.mirrored())
    for side in (BID, ASK):
        for tick, lots in no_book.model.lots[side].items():
            lib.orderbook_set_level(no_book.kernel.pointer, side, tick, lots)
        for tick, lots in no_book.model.own[side].items():
            lib.orderbook_set_own(no_book.kernel.pointer, side, tick, lots)
    no_inputs = replace(
        inputs,
        anchor_cents=100 - inputs.anchor_cents,
        yes_lots=inputs.no_lots,
        no_lots=inputs.yes_lots,
        sides=(inputs.sides & 1) << 1 | inputs.sides >> 1,
    )
    _, yes, yes_target = run_both(params, posterior, trades, pair, inputs)
    s = (
        yes.anchor_weight * yes.anchor_cents
        + yes.micro_weight * yes.micro_cents
        + yes.posterior_weight * yes.posterior_cents
    )
    assume(not is_near_tie(s, 0.5))
    assume(not is_near_tie(yes.reservation_cents + yes.half_spread_ask_cents, 1e-9))
    assume(not is_near_tie(yes.reservation_cents - yes.half_spread_bid_cents, -1e-9))
    no_trades = [(10_000 - price_e4, 1 - aggressor, now_ms) for price_e4, aggressor, now_ms in trades]
    _, no, no_target = run_both(params, 100 - posterior, no_trades, no_book, no_inputs)

    assert no.fair_price_cents == 100 - yes.fair_price_cents
    assert (no.has_micro, no.micro_weight, no.tau, no.sigma_cents) == (
        yes.has_micro,
        yes.micro_weight,
        yes.tau,
        yes.sigma_cents,
    )
    assert no.inventory_skew == -yes.inventory_skew
    assert abs(no.posterior_cents + yes.posterior_cents - 100) < 1e-9
    assert abs(no.reservation_cents + yes.reservation_cents - 100) < 1e-9
    assert no.half_spread_ask_cents == yes.half_spread_bid_cents
    assert no.half_spread_bid_cents == yes.half_spread_ask_cents
    assert no_target.bids == [(100 - tick, lots) for tick, lots in yes_target.asks]
    assert no_target.asks == [(100 - tick, lots) for tick, lots in yes_target.bids]


ANY_DOUBLE = st.one_of(st.floats(), st.floats(0, 100))
ANY_INT64 = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 100))
ANY_INT32 = st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(0, 3))
DEFAULT_PARAMS = PriceParams(terms=MarketTerms(gamma=1.5, maker_fee_bps=10, taker_fee_bps=20))


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(
                ("anchor_cents", "spread_multiplier", "size_scale", "discount_cents"), ANY_DOUBLE
            ),
            **dict.fromkeys(("now_ms", "started_at_ms", "trading_end_ms", "yes_lots", "no_lots"), ANY_INT64),
            **dict.fromkeys(("phase", "sides", "one_side"), ANY_INT32),
        },
    )
)
def test_any_inputs_are_computed_or_refused_untouched(changes: dict[str, Any]) -> None:
    kernel, book = KernelQuote(DEFAULT_PARAMS, 50.0), KernelBook(CENTS)
    kernel.compute(book, Inputs(yes_lots=10, no_lots=10))
    before = bytes(ffi.buffer(kernel.output))
    code = kernel.compute(book, replace(Inputs(), **changes))
    assert code in (lib.QUOTE_SAME, lib.QUOTE_CHANGED, lib.QUOTE_INPUTS_INVALID)
    assert code >= 0 or bytes(ffi.buffer(kernel.output)) == before


@settings(max_examples=200, deadline=None)
@given(ANY_INT32, ANY_INT32, ANY_INT64)
def test_trade_is_learned_or_refused_untouched(price_e4: int, aggressor: int, now_ms: int) -> None:
    kernel = KernelQuote(DEFAULT_PARAMS, 50.0)
    before = bytes(ffi.buffer(kernel.trades))
    code = lib.quote_on_trade(kernel.trades, kernel.params, price_e4, aggressor, now_ms)
    legal = 1 <= price_e4 <= 9999 and aggressor in (BID, ASK) and now_ms >= 0
    assert code == (lib.QUOTE_CHANGED if legal else lib.QUOTE_TRADE_INVALID)
    assert legal or bytes(ffi.buffer(kernel.trades)) == before


def test_changed_means_the_ladder_and_not_the_price() -> None:
    kernel, book = KernelQuote(DEFAULT_PARAMS, 50.0), KernelBook(CENTS)
    inputs = Inputs(yes_lots=100, no_lots=100, now_ms=10**7, trading_end_ms=10**9)
    assert kernel.compute(book, inputs) == lib.QUOTE_CHANGED
    kernel.on_trade(5000, BID, 10**7)
    posterior = kernel.output.fair.posterior_cents
    assert kernel.compute(book, inputs) == lib.QUOTE_SAME
    assert kernel.output.fair.posterior_cents != posterior, "the fair price is published all the same"
    assert kernel.compute(book, replace(inputs, yes_lots=150)) == lib.QUOTE_CHANGED
    other = ffi.new("quote_output_t *")
    lib.quote_compute(kernel.params, kernel.trades, book.pointer, native_inputs(inputs), other)
    left, right = ffi.addressof(kernel.output, "target"), ffi.addressof(other, "target")
    assert lib.quote_same_target(left, right) == 0
    assert lib.quote_same_target(left, left) == 1


def test_book_priced_beyond_a_payout_is_refused() -> None:
    kernel, book = KernelQuote(DEFAULT_PARAMS, 50.0), KernelBook(((101, 0, 200),))
    assert kernel.compute(book, Inputs()) == lib.QUOTE_GRID_INVALID
