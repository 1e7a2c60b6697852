"""What an oracle value means for quoting (market-making §5.1, §5.3, D12, D13): staleness, deviation, gap.

Pure. A configured oracle that has never spoken is stale; a value is never made up. Times are ms of one clock.
"""

from __future__ import annotations

from msgspec import Struct

from engine.config import QuoteConfig
from engine.events import Side


class OracleView(Struct, frozen=True, kw_only=True):
    """The oracle as this cycle sees it. ``price_cents`` is its newest value, None before the first."""

    configured: bool = False
    price_cents: int | None = None
    updated_ms: int = 0
    rise_cents: int = 0  # largest move from one value to the next since the last look
    fall_cents: int = 0  # the same downwards, as a positive number


def is_stale(oracle: OracleView, quote: QuoteConfig, now_ms: int) -> bool:
    """Older than oracle_stale_ms, or never updated while configured."""
    if not (oracle.configured and quote.oracle_guard_enabled):
        return False
    return oracle.price_cents is None or now_ms - oracle.updated_ms > quote.oracle_stale_ms


def fresh_price_cents(oracle: OracleView, quote: QuoteConfig, now_ms: int) -> int | None:
    """The anchor it gives (§3.1): None when there is no oracle or no fresh value."""
    if not oracle.configured or oracle.price_cents is None:
        return None
    return None if now_ms - oracle.updated_ms > quote.oracle_stale_ms else oracle.price_cents


def deviation_limit_cents(sigma_cents: float, quote: QuoteConfig) -> float:
    """5 cents, or max(5, k sigma) with deviation_multiplier k (D12)."""
    return max(float(quote.oracle_deviation_cents), quote.deviation_multiplier * sigma_cents)


def deviates(oracle: OracleView, *, fair_price_cents: int, sigma_cents: float, quote: QuoteConfig) -> bool:
    """|s - oracle| beyond the limit, strictly; a stale value still counts."""
    if not (oracle.configured and quote.oracle_guard_enabled) or oracle.price_cents is None:
        return False
    return abs(fair_price_cents - oracle.price_cents) > deviation_limit_cents(sigma_cents, quote)


def gap_side(oracle: OracleView, quote: QuoteConfig) -> Side | None:
    """The side to pull after a step between two values: the one the oracle moved toward (D13)."""
    if not (oracle.configured and quote.oracle_guard_enabled):
        return None
    if max(oracle.rise_cents, oracle.fall_cents) <= quote.oracle_gap_cents:
        return None
    return Side.ASK if oracle.rise_cents >= oracle.fall_cents else Side.BID
