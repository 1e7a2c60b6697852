"""The Python face of ``native/quote.c``: parameters with the specification's names, one kernel struct.

Prices are cents, quantities shares, times ms, all as in market-making §10; the kernel's units (1/10,000
dollar, lots, tables of powers) appear only in :func:`native_params`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, Literal

from msgspec import Struct

from engine._native import ffi, lib
from engine.config import QuoteConfig
from engine.quoting.tables import decay_tables, exact_decimal, power_table

# A cffi ``quote_params_t *``; cffi has no types a checker could see.
NativeParams = Any

Gradient = Literal["LINEAR", "GEOMETRIC"]
_GRADIENTS: Final[dict[str, int]] = {"LINEAR": lib.QUOTE_LINEAR, "GEOMETRIC": lib.QUOTE_GEOMETRIC}


class MarketTerms(Struct, frozen=True, kw_only=True):
    """What the market itself fixes and no configuration chooses."""

    gamma: float  # risk aversion of the market's lifecycle tier (§3.5, D26)
    maker_fee_bps: int  # 0..1000
    taker_fee_bps: int
    min_price_e4: int = 100  # the market's own price limits, 1/10,000 dollar
    max_price_e4: int = 9_900
    lots_per_share: int = 1  # size scale of the venue: 100 where hundredths of a contract trade


class PhasePrices(Struct, frozen=True, kw_only=True):
    """Spread and ladder of one phase (§3.6, §3.7)."""

    half_spread_cents: float
    qty_ratio: float
    gradient: Gradient
    levels: int  # 1..10
    linear_step_cents: int = 1
    linear_qty_increase: float = 0.20  # share of the base per level, a multiple of 0.0001
    geometric_ratio: float = 1.05
    qty_decay: float = 0.70


class PriceParams(Struct, frozen=True, kw_only=True):
    """All numbers of §3.1 - §3.7 for one market, with the specification's defaults."""

    terms: MarketTerms
    exploration: PhasePrices = PhasePrices(half_spread_cents=5, qty_ratio=0.25, gradient="LINEAR", levels=5)
    stabilization: PhasePrices = PhasePrices(
        half_spread_cents=2, qty_ratio=1.0, gradient="GEOMETRIC", levels=5
    )
    anchor_initial_weight: float = 0.70
    anchor_decay_ms: int = 3_600_000
    microprice_weight: float = 0.20
    microprice_min_depth: int = 10  # shares
    microprice_lambda: float = 0.5  # per cent of distance
    microprice_levels: int = 3
    base_learning_rate: float = 0.15
    learning_rate_min: float = 0.02
    learning_rate_max: float = 0.30
    posterior_min_cents: float = 5
    posterior_max_cents: float = 95
    volatility_window: int = 30  # trade prices
    volatility_min_samples: int = 5
    default_volatility_cents: float = 2
    sigma_min_cents: float = 1
    sigma_max_cents: float = 15
    time_smoothing_kappa: float = 24.0  # hours
    min_adjustment: float = 0
    min_price: int = 5  # strategy limits, cents
    max_price: int = 95
    max_spread_cents: float = 15  # cap of each half
    spread_skew_factor: float = 0.5
    qty_skew_factor: float = 0.3
    qty_per_level: int = 100  # shares


def price_params(config: QuoteConfig, terms: MarketTerms) -> PriceParams:
    """The parameters a market's configuration means on that market.

    A phase without its own value of a ladder parameter uses the other's (§10: gradient.* are aliases).
    """
    exploration, stabilization = config.exploration, config.stabilization
    shared: dict[str, Any] = {
        "linear_step_cents": exploration.linear_step,
        "linear_qty_increase": exploration.linear_qty_increase,
        "geometric_ratio": stabilization.geometric_ratio,
        "qty_decay": stabilization.qty_decay,
    }
    return PriceParams(
        terms=terms,
        exploration=PhasePrices(
            half_spread_cents=exploration.spread,
            qty_ratio=exploration.qty_ratio,
            gradient=exploration.gradient_type,
            levels=exploration.levels,
            **shared,
        ),
        stabilization=PhasePrices(
            half_spread_cents=config.base_spread_cents,
            qty_ratio=stabilization.qty_ratio,
            gradient=stabilization.gradient_type,
            levels=stabilization.levels,
            **shared,
        ),
        anchor_initial_weight=config.anchor_initial_weight,
        anchor_decay_ms=config.anchor_decay_ms,
        microprice_weight=config.microprice_weight,
        microprice_min_depth=config.microprice_min_depth,
        microprice_lambda=config.microprice_lambda,
        microprice_levels=config.microprice_levels,
        base_learning_rate=config.base_learning_rate,
        learning_rate_min=config.learning_rate_min,
        learning_rate_max=config.learning_rate_max,
        volatility_window=config.vol.window_size,
        volatility_min_samples=config.vol.min_samples,
        default_volatility_cents=config.vol.default_volatility_cents,
        sigma_min_cents=config.vol.sigma_min_cents,
        sigma_max_cents=config.vol.sigma_max_cents,
        time_smoothing_kappa=config.time_smoothing_kappa,
        min_adjustment=config.min_adjustment,
        min_price=config.min_price,
        max_price=config.max_price,
        max_spread_cents=config.max_spread_cents,
        spread_skew_factor=config.spread_skew_factor,
        qty_skew_factor=config.qty_skew_factor,
        qty_per_level=config.qty_per_level,
    )


def _fill_phase(native: Any, phase: PhasePrices) -> None:
    increase_bps = exact_decimal(phase.linear_qty_increase) * 10_000
    if increase_bps != int(increase_bps):
        raise ValueError(f"linear_qty_increase={phase.linear_qty_increase} must be a multiple of 0.0001")
    native.half_spread_cents = phase.half_spread_cents
    native.size_ratio = phase.qty_ratio
    native.gradient = _GRADIENTS[phase.gradient]
    native.level_count = phase.levels
    native.linear_step_e4 = phase.linear_step_cents * 100
    native.linear_increase_bps = int(increase_bps)
    native.ratio_powers = power_table(phase.geometric_ratio, lib.QUOTE_LEVELS_MAX)
    native.decay_powers = power_table(phase.qty_decay, lib.QUOTE_LEVELS_MAX)


@lru_cache(maxsize=256)
def native_params(params: PriceParams) -> NativeParams:
    """The ``quote_params_t`` of these values for the kernel, checked by it; not to be written to.

    Markets with equal values share one: a thousand of them then share its cache lines, and its tables, which
    take milliseconds, are made once.

    Raises ValueError for values the arithmetic is not defined for: out of their range, learning_rate_min
    below base_learning_rate/16, weights above 1 together, a fee floor above max_spread_cents (see
    native/quote.h).
    """
    terms = params.terms
    native = ffi.new("quote_params_t *")
    native.anchor_initial_weight = params.anchor_initial_weight
    native.anchor_decay_ms = params.anchor_decay_ms
    native.microprice_weight = params.microprice_weight
    native.microprice_min_depth_lots = params.microprice_min_depth * terms.lots_per_share
    native.microprice_levels = params.microprice_levels
    native.volatility_window = params.volatility_window
    native.volatility_min_samples = params.volatility_min_samples
    native.volatility_default_cents = params.default_volatility_cents
    native.sigma_min_cents = params.sigma_min_cents
    native.sigma_max_cents = params.sigma_max_cents
    native.learning_rate_base = params.base_learning_rate
    native.learning_rate_min = params.learning_rate_min
    native.learning_rate_max = params.learning_rate_max
    native.posterior_min_cents = params.posterior_min_cents
    native.posterior_max_cents = params.posterior_max_cents
    native.gamma = terms.gamma
    native.kappa_hours = params.time_smoothing_kappa
    native.min_adjustment_cents = params.min_adjustment
    native.min_price_e4 = params.min_price * 100
    native.max_price_e4 = params.max_price * 100
    native.market_min_price_e4 = terms.min_price_e4
    native.market_max_price_e4 = terms.max_price_e4
    native.spread_skew_factor = params.spread_skew_factor
    native.size_skew_factor = params.qty_skew_factor
    native.max_half_spread_cents = params.max_spread_cents
    native.maker_fee_bps = terms.maker_fee_bps
    native.taker_fee_bps = terms.taker_fee_bps
    native.level_lots = params.qty_per_level * terms.lots_per_share
    _fill_phase(native.phases[lib.QUOTE_EXPLORATION], params.exploration)
    _fill_phase(native.phases[lib.QUOTE_STABILIZATION], params.stabilization)
    native.decay_cents, native.decay_e4 = decay_tables(params.microprice_lambda)
    if lib.quote_params_check(native) != lib.QUOTE_SAME:
        raise ValueError(f"price parameters outside the rules of native/quote.h: {params}")
    return native


def own_params(shared: NativeParams) -> NativeParams:
    """A copy of a ``quote_params_t`` that may be written to."""
    return ffi.new("quote_params_t *", shared[0])
