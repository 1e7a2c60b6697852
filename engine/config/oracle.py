"""Where a market's oracle price comes from: ``[[markets]].oracle`` (market-making §3.1, §5.3, §5.4).

Without the table a market has no oracle and all oracle checks are off. Every source says a price in YES
cents, or that it has none; none of them ever says a default.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Spread = Annotated[int, Meta(ge=1, le=99)]


class PolymarketOracle(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="source", tag="polymarket"
):
    """Mid of the best bid and ask of one outcome token on Polymarket's public market channel."""

    token_id: Annotated[str, Meta(pattern=r"^[0-9]{1,78}$")]  # the token that pays what our YES pays
    url: Annotated[str, Meta(pattern=r"^wss?://\S+$")] = (
        "wss://ws-subscriptions-clob.polymarket.com/ws/market"
    )
    max_spread_cents: Spread = 10  # a wider book has no price


class KalshiOracle(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="source", tag="kalshi"
):
    """Mid of the best YES bid and ask of one market of Kalshi's public REST API, polled."""

    ticker: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    url: Annotated[str, Meta(pattern=r"^https?://\S+[^/]$")] = "https://external-api.kalshi.com/trade-api/v2"
    poll_interval_ms: Annotated[int, Meta(ge=200, le=60_000)] = 2_000
    max_spread_cents: Spread = 10  # a wider book has no price


class OperatorOracle(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="source", tag="operator"
):
    """A person's price: ``corequote oracle set MARKET PRICE``."""


OracleConfig = PolymarketOracle | KalshiOracle | OperatorOracle
