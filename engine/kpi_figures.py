"""From exact sums to the figures people read (market-making §12). Pure.

A figure without anything to be measured on is None, "no value", and never 0: no time quoted has no spread,
and a horizon that has not passed has no markout.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from engine._native import lib
from engine.kpi_values import DEPTH_CENTS, MARKOUT_S, Tally

_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_S_PER_HOUR: Final = 3_600
_PER_MILLE: Final = 1_000


class Money(Struct, frozen=True, kw_only=True):
    """The PnL identity in cents: ``assets_change = capture + inventory - fees + flows + settlement +
    unexplained``, and ``pnl = assets_change - flows``."""

    pnl: int
    capture: int
    inventory: int
    fees: int
    flows: int
    settlement: int
    unexplained: int
    unexplained_abs: int
    assets_change: int
    identity_error: int
    venue_checks: int


class Figures(Struct, frozen=True, kw_only=True):
    """KPIs of one tally. Times in seconds, prices and spreads in cents per share, shares 0..1."""

    observed_s: float
    active_s: float
    presence: float | None
    """Share of ACTIVE time with own bid and ask in the book."""
    presence_free: float | None
    """The same of the time in which nothing held quoting back."""
    quoted_spread: float | None
    quoted_half_bid: float | None
    """Fair price minus own best bid, time-weighted; ``quoted_half_ask`` likewise."""
    quoted_half_ask: float | None
    effective_spread: float | None
    """Twice ``dir·(p - s)``, share-weighted, s at the trade."""
    realised_spread: float | None
    """Twice the markout at 60 s."""
    depth_touch: float | None
    """Own shares at both touches together; ``depth_near`` within so many cents of the fair price."""
    depth_near: dict[int, float | None]
    fill_rate: float | None
    fills: int
    filled_shares: int
    posted_shares: int
    fills_per_hour: float | None
    requests: int
    order_to_trade: float | None
    markout: dict[int, float | None]
    """Cents per share by horizon in seconds; positive is good for the market maker."""
    markout_shares: dict[int, int]
    money: Money | None
    drawdown_cents: int | None
    subsidy_per_1000: float | None
    """What 1000 traded shares cost, in cents; negative when they earned."""
    skew_mean: float | None
    skew_p95: float | None
    exposure_mean: float | None
    """``|Y - N|`` in shares, averaged over time; ``exposure_max`` the most it was for any time."""
    exposure_max: int | None
    level_s: dict[str, float]
    gate_s: dict[str, float]
    gate_entries: dict[str, int]
    kill_s: dict[str, float]
    kill_entries: dict[str, int]
    replace_ms_p50: float | None
    replace_ms_p99: float | None
    cancel_ms_p50: float | None = None
    """From the event to the cancel's answer; target below 100 ms."""
    cancel_ms_p99: float | None = None
    requests_per_minute: float | None = None
    """Of ACTIVE time: the rate budget's use."""
    oracle_deviation: float | None = None
    """Mean distance of the fair price from the oracle, cents."""
    outcomes: dict[str, int]


def figures(tally: Tally) -> Figures:
    """What a tally says."""
    observed_s = tally.observed_ns / _NS_PER_S
    valued = tally.venue_checks or tally.skew_ns or tally.priced_shares
    effective = _ratio(2 * tally.capture_cents, tally.priced_shares)
    markout = {
        horizon: _ratio(cents, shares)
        for horizon, cents, shares in zip(MARKOUT_S, tally.markout_cents, tally.markout_shares, strict=True)
    }
    realised = markout[60]
    return Figures(
        observed_s=observed_s,
        active_s=tally.active_ns / _NS_PER_S,
        presence=_ratio(tally.quoted_ns, tally.active_ns),
        presence_free=_ratio(tally.quoted_free_ns, tally.free_ns),
        quoted_spread=_ratio(tally.spread_cents_ns, tally.quoted_ns),
        quoted_half_bid=_ratio(tally.half_bid_cents_ns, tally.marked_quoted_ns),
        quoted_half_ask=_ratio(tally.half_ask_cents_ns, tally.marked_quoted_ns),
        effective_spread=effective,
        realised_spread=None if realised is None else 2 * realised,
        depth_touch=_ratio(tally.touch_shares_ns, tally.quoted_ns),
        depth_near={
            reach: _ratio(shares_ns, tally.marked_quoted_ns)
            for reach, shares_ns in zip(DEPTH_CENTS, tally.near_shares_ns, strict=True)
        },
        fill_rate=_ratio(tally.filled_shares, tally.posted_shares),
        fills=tally.fills,
        filled_shares=tally.filled_shares,
        posted_shares=tally.posted_shares,
        fills_per_hour=_ratio(tally.fills * _S_PER_HOUR * _NS_PER_S, tally.active_ns),
        requests=tally.requests,
        order_to_trade=_ratio(tally.requests, tally.fills),
        markout=markout,
        markout_shares=dict(zip(MARKOUT_S, tally.markout_shares, strict=True)),
        money=_money(tally) if valued else None,
        drawdown_cents=tally.drawdown_cents if valued else None,
        subsidy_per_1000=_ratio(-tally.pnl_cents * _PER_MILLE, tally.filled_shares) if valued else None,
        skew_mean=_ratio(tally.skew_bp_ns, tally.skew_ns * 10_000),
        skew_p95=_percentile(tally.skew_percent_ns, 95, 100, scale=0.01),
        exposure_mean=_ratio(tally.exposure_shares_ns, tally.skew_ns),
        exposure_max=tally.exposure_shares_max if tally.skew_ns else None,
        level_s=_seconds(tally.level_ns),
        gate_s=_seconds(tally.gate_ns),
        gate_entries=dict(sorted(tally.gate_entries.items())),
        kill_s=_seconds(tally.kill_ns),
        kill_entries=dict(sorted(tally.kill_entries.items())),
        replace_ms_p50=_latency_ms(tally.replace_ns, 50),
        replace_ms_p99=_latency_ms(tally.replace_ns, 99),
        cancel_ms_p50=_latency_ms(tally.cancel_ns, 50),
        cancel_ms_p99=_latency_ms(tally.cancel_ns, 99),
        requests_per_minute=_ratio(tally.requests * 60 * _NS_PER_S, tally.active_ns),
        oracle_deviation=_ratio(tally.oracle_cents_ns, tally.oracle_ns),
        outcomes=dict(sorted(tally.outcomes.items())),
    )


def _money(tally: Tally) -> Money:
    return Money(
        pnl=tally.pnl_cents,
        capture=tally.capture_cents,
        inventory=tally.inventory_cents,
        fees=tally.fees_cents,
        flows=tally.flows_cents,
        settlement=tally.settlement_cents,
        unexplained=tally.unexplained_cents,
        unexplained_abs=tally.unexplained_abs_cents,
        assets_change=tally.assets_change_cents,
        identity_error=tally.identity_error_cents,
        venue_checks=tally.venue_checks,
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _seconds(times_ns: dict[str, int]) -> dict[str, float]:
    return {name: times_ns[name] / _NS_PER_S for name in sorted(times_ns)}


def _percentile(weights: dict[int, int], part: int, whole: int, *, scale: float) -> float | None:
    """The smallest class below or at which ``part/whole`` of the weight lies, times ``scale``."""
    total = sum(weights.values())
    running = 0
    for value in sorted(weights):
        running += weights[value]
        if running * whole >= total * part:
            return value * scale
    return None


def _latency_ms(buckets: dict[int, int], percent: int) -> float | None:
    """Floor of the histogram bucket (3 % wide) that holds the percentile, ms."""
    bucket = _percentile(buckets, percent, 100, scale=1)
    return None if bucket is None else lib.histogram_bucket_floor_ns(int(bucket)) / _NS_PER_MS
