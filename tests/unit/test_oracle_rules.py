"""What an oracle value means (market-making §5.1, §5.3; rows 1 and 25 of §14)."""

from __future__ import annotations

import pytest

from engine.config import QuoteConfig
from engine.events import Side
from engine.quoting.oracle import OracleView, deviates, fresh_price_cents, gap_side, is_stale

QUOTE = QuoteConfig()
NOW_MS = 1_000_000


def oracle(price: int | None, *, age_ms: int = 0, rise: int = 0, fall: int = 0) -> OracleView:
    return OracleView(
        configured=True, price_cents=price, updated_ms=NOW_MS - age_ms, rise_cents=rise, fall_cents=fall
    )


def test_row1_an_oracle_that_never_spoke_is_stale_and_no_price() -> None:
    silent = OracleView(configured=True)
    assert is_stale(silent, QUOTE, NOW_MS)
    assert fresh_price_cents(silent, QUOTE, NOW_MS) is None
    assert not deviates(silent, fair_price_cents=50, sigma_cents=2.0, quote=QUOTE)
    assert gap_side(silent, QUOTE) is None


def test_staleness_is_strictly_older() -> None:
    assert not is_stale(oracle(50, age_ms=30_000), QUOTE, NOW_MS)
    assert is_stale(oracle(50, age_ms=30_001), QUOTE, NOW_MS)
    assert fresh_price_cents(oracle(61, age_ms=30_000), QUOTE, NOW_MS) == 61


def test_a_stale_value_still_deviates() -> None:
    assert deviates(oracle(60, age_ms=99_000), fair_price_cents=50, sigma_cents=2.0, quote=QUOTE)


@pytest.mark.parametrize(("price", "outside"), [(55, False), (56, True), (44, True), (45, False)])
def test_deviation_is_strict_both_ways(price: int, outside: bool) -> None:
    assert deviates(oracle(price), fair_price_cents=50, sigma_cents=2.0, quote=QUOTE) is outside


@pytest.mark.parametrize(
    ("rise", "fall", "side"),
    [(0, 0, None), (5, 5, None), (6, 0, Side.ASK), (0, 6, Side.BID), (6, 7, Side.BID)],
)
def test_row25_a_jump_of_the_feed_pulls_the_side_it_moved_toward(
    rise: int, fall: int, side: Side | None
) -> None:
    assert gap_side(oracle(50, rise=rise, fall=fall), QUOTE) == side


def test_without_an_oracle_or_with_the_guard_off_nothing_is_checked() -> None:
    off = QuoteConfig(oracle_guard_enabled=False)
    wild = oracle(90, age_ms=99_000, rise=80)
    for view, quote in ((OracleView(), QUOTE), (wild, off)):
        assert not is_stale(view, quote, NOW_MS)
        assert not deviates(view, fair_price_cents=50, sigma_cents=2.0, quote=quote)
        assert gap_side(view, quote) is None
