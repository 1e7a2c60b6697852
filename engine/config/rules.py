"""Relations between the parameters of one market (§10 Validator): one line per broken rule."""

from __future__ import annotations

from collections.abc import Iterator
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from engine.config.quote import QuoteConfig

#: The learning rate counts this many trades at most; its floor must be reached by then: 1/sqrt(256).
_LEARNING_SPAN = 16


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _fee_floor_cents(price_cents: int, fee_bps: int) -> int:
    """Fee per share, rounded up (§3.6)."""
    return -(-price_cents * fee_bps // 10_000)


def broken_rules(quote: QuoteConfig) -> Iterator[str]:
    """What is wrong with the parameters as a whole; each line names the values and the rule."""
    for low, high in (
        ("min_price", "max_price"),
        ("vol.sigma_min_cents", "vol.sigma_max_cents"),
        ("inventory_warning_threshold", "inventory_danger_threshold"),
        ("inventory_danger_threshold", "inventory_hard_limit"),
        ("extreme_price_kill", "extreme_price_halt"),
    ):
        if not _value(quote, low) < _value(quote, high):
            yield f"{low}={_value(quote, low)} must be below {high}={_value(quote, high)}"
    for low, high in (
        ("base_spread_cents", "max_spread_cents"),
        ("exploration.spread", "max_spread_cents"),
        ("spread_multiplier_warning", "spread_multiplier_danger"),
        ("one_side_multiplier_min", "one_side_multiplier_max"),
        ("vol.min_samples", "vol.window_size"),
    ):
        if not _value(quote, low) <= _value(quote, high):
            yield f"{low}={_value(quote, low)} must not exceed {high}={_value(quote, high)}"
    yield from _broken_price_rules(quote)
    yield from _broken_money_rules(quote)
    if not _is_zone(quote.day_reset_tz):
        yield f"day_reset_tz={quote.day_reset_tz!r} must be a time zone of this system, such as UTC"


def _value(quote: QuoteConfig, name: str) -> float:
    place: object = quote
    for part in name.split("."):
        place = getattr(place, part)
    assert isinstance(place, int | float)
    return place


def _broken_price_rules(quote: QuoteConfig) -> Iterator[str]:
    if quote.anchor_initial_weight + quote.microprice_weight > 1.0:
        yield (
            f"anchor_initial_weight={quote.anchor_initial_weight} + microprice_weight="
            f"{quote.microprice_weight} must not exceed 1"
        )
    if not quote.learning_rate_min <= quote.base_learning_rate <= quote.learning_rate_max:
        yield (
            f"base_learning_rate={quote.base_learning_rate} must lie between learning_rate_min="
            f"{quote.learning_rate_min} and learning_rate_max={quote.learning_rate_max}"
        )
    if _LEARNING_SPAN * quote.learning_rate_min < quote.base_learning_rate:
        yield (
            f"learning_rate_min={quote.learning_rate_min} must be at least a sixteenth of base_learning_rate="
            f"{quote.base_learning_rate}"
        )
    if 0.0 < quote.deviation_multiplier < 1.0:
        yield f"deviation_multiplier={quote.deviation_multiplier} must be 0 (off) or from 1 to 5"
    if any(moment <= 0 for moment in quote.event_times):
        yield f"event_times={list(quote.event_times)} must be Unix milliseconds above 0"
    if quote.market_maker_fee_bps is not None:
        floor = _fee_floor_cents(quote.max_price, quote.market_maker_fee_bps)
        for name, half in (
            ("base_spread_cents", quote.base_spread_cents),
            ("exploration.spread", quote.exploration.spread),
        ):
            if half < floor:
                yield (
                    f"{name}={half} must be at least the fee floor of {floor} ¢ that market_maker_fee_bps="
                    f"{quote.market_maker_fee_bps} asks for at max_price={quote.max_price}"
                )


def _broken_money_rules(quote: QuoteConfig) -> Iterator[str]:
    if 2 * quote.max_loss_daily_cents > quote.budget_limit_cents:
        yield (
            f"max_loss_daily_cents={quote.max_loss_daily_cents} must not exceed half of budget_limit_cents="
            f"{quote.budget_limit_cents}"
        )
    # The daily budget is what max_loss_daily_cents is one half of (D2).
    if quote.pnl_rollback_cents > 2 * quote.max_loss_daily_cents:
        yield (
            f"rollback.pnl_rollback_threshold={quote.pnl_rollback_cents} must not exceed the daily budget of "
            f"{2 * quote.max_loss_daily_cents}, twice max_loss_daily_cents={quote.max_loss_daily_cents}"
        )
