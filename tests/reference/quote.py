"""The price arithmetic of market-making §3.1 - §3.7 in Python, formula by formula.

Doubles are combined in the order in which the specification writes its formulas, left to right; powers and
exponentials are the doubles nearest to their exact value. Everything is recomputed on every call.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache

from engine.quoting.pricing import PhasePrices, PriceParams
from tests.reference.orderbook import ASK, BID, FOREIGN, ReferenceBook

EXPLORATION, STABILIZATION = 0, 1
SIDE_BID, SIDE_ASK = 1, 2


@dataclass(kw_only=True)
class Inputs:
    """What is true at this moment; names and units of ``quote_inputs_t``."""

    now_ms: int = 0
    started_at_ms: int = 0
    trading_end_ms: int = 0
    anchor_cents: float = 50.0
    yes_lots: int = 0
    no_lots: int = 0
    spread_multiplier: float = 1.0
    size_scale: float = 1.0
    discount_cents: float = 0.0
    phase: int = STABILIZATION
    sides: int = SIDE_BID | SIDE_ASK
    one_side: int = 0


@dataclass
class Trades:
    """All trades ever seen, and the posterior they led to."""

    posterior_cents: float
    prices_e4: list[int] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)


@dataclass
class Fair:
    """Names of ``quote_fair_t``."""

    anchor_cents: float = 0.0
    micro_cents: float = 0.0
    posterior_cents: float = 0.0
    anchor_weight: float = 0.0
    micro_weight: float = 0.0
    posterior_weight: float = 0.0
    sigma_cents: float = 0.0
    tau: float = 0.0
    inventory_skew: float = 0.0
    adjustment_cents: float = 0.0
    reservation_cents: float = 0.0
    half_spread_ask_cents: float = 0.0
    half_spread_bid_cents: float = 0.0
    fair_price_cents: int = 0
    has_micro: int = 0


@dataclass
class Target:
    """Touch ticks, None for a side that is off, and (tick, lots) of each level, best first."""

    touch_bid: int | None = None
    touch_ask: int | None = None
    bids: list[tuple[int, int]] = field(default_factory=list)
    asks: list[tuple[int, int]] = field(default_factory=list)


# --- rounding


def up(x: float) -> int:
    return math.ceil(x - 1e-9)


def dn(x: float) -> int:
    return math.floor(x + 1e-9)


def rhu(x: float) -> int:
    return math.floor(x + 0.5)


def clamp(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)


def nearest_double(exact: Decimal) -> float:
    return float(exact)


@cache
def power(base: float, exponent: int) -> float:
    """The double nearest to base^exponent, base being the decimal a person wrote."""
    with localcontext() as context:
        context.prec = 80
        result = Decimal(1)
        for _ in range(exponent):
            result *= Decimal(str(base))
        return nearest_double(result)


@cache
def exponential_decay(rate: float, distance_e4: int) -> float:
    """e^(-rate d): whole cents times the remaining hundredths, each the nearest double."""
    with localcontext() as context:
        context.prec = 80
        cents = nearest_double((-Decimal(str(rate)) * (distance_e4 // 100)).exp())
        rest = nearest_double((-Decimal(str(rate)) * (distance_e4 % 100) / 100).exp())
    return cents * rest


# --- the grid, continued on both ends by its first and last step

# Ticks far enough out for every touch and ladder of a legal configuration.
TICKS = range(-(10**6), 10**6)


def price_cents(book: ReferenceBook, tick: int) -> float:
    prices = book.prices
    if tick < 0:
        return (prices[0] + tick * (prices[1] - prices[0])) / 100
    if tick >= len(prices):
        return (prices[-1] + (tick - len(prices) + 1) * (prices[-1] - prices[-2])) / 100
    return prices[tick] / 100


def tick_up(book: ReferenceBook, cents: float) -> int:
    """First tick whose price is >= cents - 1e-9."""
    return TICKS[bisect_left(TICKS, cents - 1e-9, key=lambda tick: price_cents(book, tick))]


def tick_dn(book: ReferenceBook, cents: float) -> int:
    """Last tick whose price is <= cents + 1e-9."""
    return TICKS[bisect_right(TICKS, cents + 1e-9, key=lambda tick: price_cents(book, tick)) - 1]


# --- 3.1 - 3.3


def on_trade(trades: Trades, params: PriceParams, price_e4: int, aggressor: int, now_ms: int) -> None:
    now_ms = max([now_ms, *trades.times_ms[-1:]])  # a clock that steps back repeats the latest time
    n = sum(1 for time_ms in trades.times_ms if now_ms - time_ms <= 60_000)
    alpha = clamp(
        params.base_learning_rate / math.sqrt(n + 1), params.learning_rate_min, params.learning_rate_max
    )
    p, direction = price_e4 / 100, 1.0 if aggressor == BID else -1.0
    moved = trades.posterior_cents + alpha * (p - trades.posterior_cents + direction)
    trades.posterior_cents = clamp(moved, params.posterior_min_cents, params.posterior_max_cents)
    trades.prices_e4.append(price_e4)
    trades.times_ms.append(now_ms)


def micro_price(params: PriceParams, book: ReferenceBook) -> float | None:
    bids, asks = book.levels(FOREIGN, BID), book.levels(FOREIGN, ASK)
    if not bids or not asks:
        return None
    k = min(params.microprice_levels, len(bids), len(asks))
    best_bid, best_ask = book.prices[bids[0][0]], book.prices[asks[0][0]]
    numerator = denominator = 0.0
    for (bid_tick, bid_lots), (ask_tick, ask_lots) in zip(bids[:k], asks[:k], strict=True):
        bid, ask = book.prices[bid_tick], book.prices[ask_tick]
        bid_weight = exponential_decay(params.microprice_lambda, best_bid - bid)
        ask_weight = exponential_decay(params.microprice_lambda, ask - best_ask)
        numerator += bid_weight * bid_lots * (ask / 100) + ask_weight * ask_lots * (bid / 100)
        denominator += bid_weight * bid_lots + ask_weight * ask_lots
    micro = numerator / denominator
    return micro if best_bid > best_ask else clamp(micro, best_bid / 100, best_ask / 100)


def layers(params: PriceParams, trades: Trades, book: ReferenceBook, inputs: Inputs, fair: Fair) -> None:
    micro = micro_price(params, book)
    t = max(0, inputs.now_ms - inputs.started_at_ms)
    depth = sum(lots for side in (BID, ASK) for _, lots in book.levels(FOREIGN, side)[:3])
    deep = micro is not None and depth >= params.microprice_min_depth * params.terms.lots_per_share
    w1 = params.anchor_initial_weight * max(0.0, 1 - t / params.anchor_decay_ms)
    w2 = params.microprice_weight if deep else 0.0
    w3 = 1 - w1 - w2
    fair.has_micro = int(micro is not None)
    fair.anchor_cents, fair.micro_cents, fair.posterior_cents = (
        inputs.anchor_cents,
        micro or 0.0,
        trades.posterior_cents,
    )
    fair.anchor_weight, fair.micro_weight, fair.posterior_weight = w1, w2, w3
    s = w1 * fair.anchor_cents + w2 * fair.micro_cents + w3 * fair.posterior_cents
    fair.fair_price_cents = int(clamp(rhu(s), 1, 99))


# --- 3.4


def volatility(params: PriceParams, prices_e4: list[int], s: int) -> float:
    window = prices_e4[-params.volatility_window :]
    if len(window) < max(params.volatility_min_samples, 3):
        return clamp(params.default_volatility_cents, params.sigma_min_cents, params.sigma_max_cents)
    differences = [Fraction(b - a, 100) for a, b in itertools.pairwise(window)]
    mean = sum(differences) / len(differences)
    variance = sum((d - mean) ** 2 for d in differences) / (len(differences) - 1)
    w = s * (100 - s) / 2500
    return clamp(math.sqrt(float(variance)) * math.sqrt(w), params.sigma_min_cents, params.sigma_max_cents)


# --- 3.5 and 3.6


def reservation(params: PriceParams, inputs: Inputs, fair: Fair) -> None:
    y, n = inputs.yes_lots, inputs.no_lots
    q = (y - n) / (y + n) if y + n else 0.0
    left_ms = inputs.trading_end_ms - inputs.now_ms
    h = left_ms / 3_600_000
    tau = h / (h + params.time_smoothing_kappa) if left_ms > 0 else 0.0
    sigma = fair.sigma_cents
    adj = q * params.terms.gamma * (sigma * sigma) * tau
    if abs(Fraction(y - n, y + n or 1)) > Fraction(1, 10) and abs(adj) < params.min_adjustment:
        adj = math.copysign(params.min_adjustment, q)
    r = clamp(fair.fair_price_cents - adj, float(params.min_price), float(params.max_price))
    fee_bps = params.terms.taker_fee_bps if inputs.one_side else params.terms.maker_fee_bps
    # an ask may be SELL YES at p or BUY NO at 100 - p, a bid likewise: the dearer of the two
    floor = max(1, up(max(r, 100 - r) * fee_bps / 10000))
    phase = phase_of(params, inputs)
    factor = params.spread_skew_factor
    ask = phase.half_spread_cents * (1 - factor * q) * inputs.spread_multiplier
    bid = phase.half_spread_cents * (1 + factor * q) * inputs.spread_multiplier
    fair.inventory_skew, fair.tau, fair.adjustment_cents, fair.reservation_cents = q, tau, adj, r
    fair.half_spread_ask_cents = clamp(ask, floor, params.max_spread_cents)
    fair.half_spread_bid_cents = clamp(bid, floor, params.max_spread_cents)


def phase_of(params: PriceParams, inputs: Inputs) -> PhasePrices:
    return params.exploration if inputs.phase == EXPLORATION else params.stabilization


# --- 3.6 and 3.7


def level_sizes(params: PriceParams, inputs: Inputs, signed_skew: float) -> list[int]:
    phase = phase_of(params, inputs)
    b = params.qty_per_level * params.terms.lots_per_share * phase.qty_ratio * inputs.size_scale
    base = max(1, dn(b * (1 + params.qty_skew_factor * signed_skew)))
    if phase.gradient == "LINEAR":
        increase = Decimal(str(phase.linear_qty_increase))
        return [int(base * (1 + increase * i)) for i in range(phase.levels)]
    return [max(1, dn(base * power(phase.qty_decay, i))) for i in range(phase.levels)]


def side_levels(
    params: PriceParams, book: ReferenceBook, inputs: Inputs, skew: float, side: int, touch: int
) -> list[tuple[int, int]]:
    phase = phase_of(params, inputs)
    first = max(tick_up(book, max(params.min_price, params.terms.min_price_e4 / 100)), 1)
    last = min(tick_dn(book, min(params.max_price, params.terms.max_price_e4 / 100)), len(book.prices) - 2)
    touch_price = price_cents(book, touch)
    sizes = level_sizes(params, inputs, skew if side == ASK else -skew)
    ticks: list[int] = []
    for i in range(phase.levels):
        step = power(phase.geometric_ratio, i)
        if side == ASK:
            price = (
                touch_price + i * phase.linear_step_cents
                if phase.gradient == "LINEAR"
                else touch_price * step
            )
            tick = tick_up(book, price)
            ticks.append(max(tick, ticks[-1] + 1) if ticks else tick)
        else:
            price = (
                touch_price - i * phase.linear_step_cents
                if phase.gradient == "LINEAR"
                else touch_price / step
            )
            tick = tick_dn(book, price)
            ticks.append(min(tick, ticks[-1] - 1) if ticks else tick)
    return [(tick, size) for tick, size in zip(ticks, sizes, strict=True) if first <= tick <= last]


def shown(book: ReferenceBook, touch: int) -> int:
    """A touch outside the grid is shown as the bound it passed."""
    return min(max(touch, 0), len(book.prices) - 1)


def ladder(params: PriceParams, book: ReferenceBook, inputs: Inputs, fair: Fair) -> Target:
    target = Target()
    r, d = fair.reservation_cents, inputs.discount_cents
    best_bid, best_ask = book.best(FOREIGN, BID), book.best(FOREIGN, ASK)
    if inputs.sides & SIDE_ASK:
        touch = tick_up(book, r + fair.half_spread_ask_cents - d)
        if not inputs.one_side and best_bid >= 0:
            touch = max(touch, best_bid + 1)
        target.touch_ask = shown(book, touch)
        target.asks = side_levels(params, book, inputs, fair.inventory_skew, ASK, touch)
    if inputs.sides & SIDE_BID:
        touch = tick_dn(book, r - fair.half_spread_bid_cents + d)
        if not inputs.one_side and best_ask >= 0:
            touch = min(touch, best_ask - 1)
        target.touch_bid = shown(book, touch)
        target.bids = side_levels(params, book, inputs, fair.inventory_skew, BID, touch)
    return target


def compute(params: PriceParams, trades: Trades, book: ReferenceBook, inputs: Inputs) -> tuple[Fair, Target]:
    fair = Fair()
    layers(params, trades, book, inputs, fair)
    fair.sigma_cents = volatility(params, trades.prices_e4, fair.fair_price_cents)
    reservation(params, inputs, fair)
    return fair, ladder(params, book, inputs, fair)
