"""Risk aversion by the market's total life (market-making §3.5, D26). Times are Unix ms; 0 = not given."""

from __future__ import annotations

from typing import Final

from engine.config import QuoteConfig

_DAY_MS: Final = 86_400_000


class MissingDateError(Exception):
    """A date the pricing needs is given neither by the market nor by its configuration."""


def lifecycle_days(
    *, created_ms: int, trading_start_ms: int, trading_end_ms: int, resolution_ms: int
) -> float:
    """Whole life of the market in days. Raises MissingDateError."""
    start = created_ms or trading_start_ms
    end = resolution_ms or trading_end_ms
    if not start or not end:
        raise MissingDateError(
            f"market has created_ms={created_ms}, trading_start_ms={trading_start_ms}, "
            f"resolution_ms={resolution_ms}, trading_end_ms={trading_end_ms}: a start and an end are needed"
        )
    return (end - start) / _DAY_MS


def gamma(quote: QuoteConfig, days: float) -> float:
    """Below 7 days short, 7 to 90 inclusive mid, above long."""
    if days < 7:
        return quote.gamma_short
    return quote.gamma_mid if days <= 90 else quote.gamma_long


def quoting_end_ms(*, trading_end_ms: int, resolution_ms: int) -> int:
    """The end that τ counts down to: trading_end_at, else resolution_date. Raises MissingDateError."""
    end = trading_end_ms or resolution_ms
    if not end:
        raise MissingDateError("market has neither trading_end_at nor resolution_date")
    return end
