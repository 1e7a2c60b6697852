"""The section ``[risk]``: limits of the gateway's own controls (reliability page §1). Read at start only.

The figures hold for every market and stand behind the market maker's own limits in ``[quote]``: with the
defaults of both, the market maker never meets one of them.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from engine.config.setting import setting


class RiskConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last checks before an order leaves, and what makes them stop a market for a while."""

    order_quantity_max: Annotated[
        int, setting("C", "D", "C6: largest order", unit="shares", ge=1, le=1_000_000)
    ] = 500
    order_loss_max_cents: Annotated[
        int,
        setting("C", "D", "C6: most that one order can lose", unit="¢", ge=100, le=100_000_000),
    ] = 25_000
    side_orders_max: Annotated[
        int, setting("C", "D", "C7: live orders on one side of a market", unit="orders", ge=1, le=64)
    ] = 20
    market_orders_max: Annotated[
        int, setting("C", "D", "C7: live orders of a market", unit="orders", ge=1, le=64)
    ] = 40
    engine_orders_max: Annotated[
        int, setting("C", "D", "C7: live orders of the account", unit="orders", ge=1, le=100_000)
    ] = 1_000
    collar_ladder_cents: Annotated[
        int,
        setting(
            "C",
            "D",
            "C4: an order is at most this plus max_spread_cents from the fair price and the foreign mid",
            unit="¢",
            ge=0,
            le=98,
        ),
    ] = 30
    collar_refusals_max: Annotated[
        int, setting("C", "D", "C4: so many refusals pause the market", unit="refusals", ge=1, le=10_000)
    ] = 5
    collar_window_ms: Annotated[
        int, setting("C", "D", "C4: within this time", unit="ms", ge=100, le=600_000)
    ] = 10_000
    engine_loss_max_cents: (
        Annotated[
            int,
            setting(
                "C",
                "D",
                "C8: most that all markets can lose",
                unit="¢",
                ge=10_000,
                unset="the markets' budget_limit_cents together",
            ),
        ]
        | None
    ) = None
    cash_share_percent: Annotated[
        int,
        setting(
            "C", "D", "C9: share of the account's balance that BUY orders may freeze", unit="%", ge=1, le=100
        ),
    ] = 90
    market_rate_per_s: Annotated[
        int, setting("C", "D", "C10: orders of one market", unit="/s", ge=1, le=10_000)
    ] = 20
    market_rate_burst: Annotated[
        int, setting("C", "D", "C10: orders of one market at once", unit="orders", ge=1, le=10_000)
    ] = 40
    cancel_reserve_percent: Annotated[
        int,
        setting(
            "C", "S", "C10: share of the account's rate that orders leave to cancels", unit="%", ge=0, le=90
        ),
    ] = 10
    unacked_alike_max: Annotated[
        int,
        setting("C", "D", "C11: orders of one side, price and size not yet acknowledged", ge=1, le=64),
    ] = 1
    duplicates_max: Annotated[
        int, setting("C", "D", "C11: so many duplicates pause the market", unit="refusals", ge=1, le=10_000)
    ] = 3
    duplicates_window_ms: Annotated[
        int, setting("C", "D", "C11: within this time", unit="ms", ge=100, le=600_000)
    ] = 1_000
    executed_shares_max: Annotated[
        int, setting("C", "D", "C12: more shares than this filled", unit="shares", ge=1, le=100_000_000)
    ] = 1_000
    executed_shares_window_ms: Annotated[
        int, setting("C", "D", "C12: within this time pause the market", unit="ms", ge=100, le=600_000)
    ] = 15_000
    side_fills_max: Annotated[
        int, setting("C", "D", "C12: so many fills on one side", unit="fills", ge=1, le=100_000)
    ] = 20
    side_fills_window_ms: Annotated[
        int, setting("C", "D", "C12: within this time pause the market", unit="ms", ge=100, le=600_000)
    ] = 5_000
    executions_kill_count: Annotated[
        int, setting("C", "D", "C12: so many of these pauses kill the market", ge=2, le=1_000)
    ] = 3
    executions_kill_window_ms: Annotated[
        int, setting("C", "D", "C12: within this time", unit="ms", ge=1_000, le=86_400_000)
    ] = 600_000
    daily_loss_max_cents: (
        Annotated[
            int,
            setting(
                "C",
                "D",
                "C13: daily loss of all markets together that kills them all",
                unit="¢",
                ge=100,
                unset="the markets' max_loss_daily_cents together",
            ),
        ]
        | None
    ) = None
    heartbeat_stale_ms: Annotated[
        int,
        setting(
            "C", "D", "C14: a quoter or feed silent for longer sends nothing", unit="ms", ge=200, le=60_000
        ),
    ] = 1_000
    reconcile_periods_max: Annotated[
        int,
        setting("C", "D", "C14: reconciliation older than so many intervals closes admission", ge=1, le=100),
    ] = 2
    answers_window_ms: Annotated[
        int,
        setting(
            "C", "D", "C15: answers to orders are counted over this time", unit="ms", ge=1_000, le=600_000
        ),
    ] = 30_000
    refused_percent: Annotated[
        int, setting("C", "D", "C15: more refusals than this pause the market", unit="%", ge=1, le=100)
    ] = 20
    answers_min: Annotated[
        int, setting("C", "D", "C15: of at least so many answers", unit="answers", ge=1, le=100_000)
    ] = 20
    unknowns_max: Annotated[
        int, setting("C", "D", "C15: more unknown outcomes than this pause the market", ge=0, le=1_000_000)
    ] = 5
    pause_ms: Annotated[
        int, setting("C", "D", "a pause ends by itself after this time", unit="ms", ge=100, le=600_000)
    ] = 15_000
    clock_warn_ms: Annotated[
        int, setting("C", "D", "C17: alert when the venue's clock is further off", unit="ms", ge=1, le=60_000)
    ] = 250
    clock_stop_ms: Annotated[
        int, setting("C", "D", "C17: no new orders when it is", unit="ms", ge=1, le=600_000)
    ] = 1_000
