"""Kill sources (market-making §5.2), each at its threshold."""

from __future__ import annotations

from typing import Any

import pytest

from engine.config import QuoteConfig
from engine.events import KillCause, MarketStatus
from engine.quoting.kills import KillEvidence, Money, causes, near_limits, resumes_by_itself

QUOTE = QuoteConfig()


def money(**changes: int) -> Money:
    return Money(**{"assets_cents": 500_000, "daily_pnl_cents": 0, "budget_used_cents": 0, **changes})


@pytest.mark.parametrize(
    ("holds", "not_yet", "cause"),
    [
        ({"yes_volume": 1_951, "no_volume": 49}, {"yes_volume": 1_950, "no_volume": 50}, KillCause.SKEW),
        (
            {"money": money(daily_pnl_cents=-50_001)},
            {"money": money(daily_pnl_cents=-50_000)},
            KillCause.DAILY_LOSS,
        ),
        (
            {"money": money(assets_cents=249_999)},
            {"money": money(assets_cents=250_000)},
            KillCause.ASSET_FLOOR,
        ),
        (
            {"money": money(budget_used_cents=500_000)},
            {"money": money(budget_used_cents=499_999)},
            KillCause.BUDGET,
        ),
        ({"fair_price_cents": 5}, {"fair_price_cents": 6}, KillCause.EXTREME_PRICE),
        ({"fair_price_cents": 95}, {"fair_price_cents": 94}, KillCause.EXTREME_PRICE),
        ({"lvr_repeats": True}, {}, KillCause.LVR_REPEAT),
        ({"negative_available": True}, {}, KillCause.NEGATIVE_AVAILABLE),
        ({"gate_timed_out": True}, {}, KillCause.GATE_TIMEOUT),
        ({"status": MarketStatus.SUSPENDED}, {"status": MarketStatus.UNKNOWN}, KillCause.MARKET_SUSPENDED),
        ({"status": MarketStatus.HALTED}, {"status": MarketStatus.RESOLVED}, KillCause.MARKET_HALTED),
    ],
)
def test_each_cause_at_its_threshold(
    holds: dict[str, Any], not_yet: dict[str, Any], cause: KillCause
) -> None:
    assert causes(KillEvidence(**holds), QUOTE) == cause
    assert causes(KillEvidence(**not_yet), QUOTE) == KillCause(0)


def test_several_causes_are_named_together() -> None:
    found = causes(KillEvidence(yes_volume=10, money=money(daily_pnl_cents=-60_000)), QUOTE)
    assert found == KillCause.SKEW | KillCause.DAILY_LOSS


def test_a_lowered_limit_holds_at_once() -> None:
    seen = KillEvidence(money=money(daily_pnl_cents=-20_000))
    assert causes(seen, QuoteConfig(max_loss_daily_cents=19_999)) == KillCause.DAILY_LOSS


def test_an_alert_comes_at_four_fifths() -> None:
    assert near_limits(money(daily_pnl_cents=-40_000), QUOTE) == KillCause(0)
    assert near_limits(money(daily_pnl_cents=-40_001), QUOTE) == KillCause.DAILY_LOSS
    assert near_limits(money(budget_used_cents=400_001), QUOTE) == KillCause.BUDGET


@pytest.mark.parametrize(
    ("latched", "status", "by_itself"),
    [
        (KillCause.MARKET_SUSPENDED, MarketStatus.ACTIVE, True),
        (KillCause.MARKET_SUSPENDED, MarketStatus.SUSPENDED, False),
        (KillCause.MARKET_SUSPENDED | KillCause.SKEW, MarketStatus.ACTIVE, False),
        (KillCause.MARKET_HALTED, MarketStatus.ACTIVE, False),
        (KillCause.ADMIN, MarketStatus.ACTIVE, False),
    ],
)
def test_d15_suspended_alone_resumes_by_itself(
    latched: KillCause, status: MarketStatus, by_itself: bool
) -> None:
    assert resumes_by_itself(latched, status) is by_itself
