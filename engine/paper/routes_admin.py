"""Routes of section 2.7: the market maker's start and stop, market life, statistics, checks, journal."""

from collections import Counter
from datetime import UTC, datetime
from typing import Final

import msgspec
from litestar import get, post
from litestar.handlers import HTTPRouteHandler

from engine.paper.commands import (
    CreateMarket,
    HaltMarket,
    ResolveMarket,
    SetMarketStatus,
    StartAmm,
    StopAmm,
)
from engine.paper.config import MarketSettings
from engine.paper.desk import Desk, Web, read_body
from engine.paper.effects import AmmStarted, AmmStopped, MarketChanged, Resolved
from engine.paper.envelope import Answer, ok
from engine.paper.invariants import Audit, Breach
from engine.paper.journal_view import JournalView
from engine.paper.model import AMM_USER_ID, MarketStatus, Scenario
from engine.paper.openapi import told
from engine.paper.refusal import Code, Refusal
from engine.paper.requests import (
    BuiltResolveBody,
    JournalQuery,
    MarketStatusBody,
    ResolveBody,
    StartAmmBody,
    StopAmmBody,
    read_query,
)
from engine.paper.settlement import Settlements
from engine.paper.views import (
    AmmStartView,
    AmmStopView,
    MarketDetailView,
    ResolvedView,
    StatsView,
    display,
)

_START: Final = msgspec.json.Decoder(StartAmmBody)
_STOP: Final = msgspec.json.Decoder(StopAmmBody)
_MARKET: Final = msgspec.json.Decoder(MarketSettings)
_STATUS: Final = msgspec.json.Decoder(MarketStatusBody)


def create_market_command(settings: MarketSettings) -> CreateMarket:
    """The command that creates a configured or requested market, its times in UTC."""

    def value(name: str) -> object:
        given = getattr(settings, name)
        return given.astimezone(UTC) if isinstance(given, datetime) else given

    return CreateMarket(**{name: value(name) for name in settings.__struct_fields__})  # type: ignore[arg-type]


def admin_routes(desk: Desk, settlements: Settlements) -> list[HTTPRouteHandler]:
    """Handlers of /admin, for administrators alone (D15)."""
    exchange, state = desk.exchange, desk.exchange.state
    dialect = desk.dialect
    decode_resolve: msgspec.json.Decoder[ResolveBody | BuiltResolveBody] = msgspec.json.Decoder(
        dialect.shapes.resolve_body
    )

    @post("/admin/amm/start", opt=told(AmmStartView, 201, body=StartAmmBody))
    @desk.answering
    async def start_amm(request: Web) -> Answer:
        desk.admin(request)
        body = await read_body(request, _START)
        result = await exchange.submit(
            StartAmm(
                user_id=AMM_USER_ID,
                market_id=body.market_id,
                initial_budget_cents=body.initial_budget_cents,
            )
        )
        assert isinstance(result, AmmStarted)
        return ok(AmmStartView.of(result, AMM_USER_ID), 201)

    @post("/admin/amm/stop", status_code=200, opt=told(AmmStopView, body=StopAmmBody))
    @desk.answering
    async def stop_amm(request: Web) -> Answer:
        desk.admin(request)
        body = await read_body(request, _STOP)
        result = await exchange.submit(
            StopAmm(user_id=AMM_USER_ID, market_id=body.market_id, mode=body.stop_mode)
        )
        assert isinstance(result, AmmStopped)
        return ok(AmmStopView.of(result))

    @post("/admin/markets", opt=told(MarketDetailView, 201, body=MarketSettings))
    @desk.answering
    async def create_market(request: Web) -> Answer:
        desk.admin(request)
        settings = await read_body(request, _MARKET)
        result = await exchange.submit(create_market_command(settings))
        assert isinstance(result, MarketChanged)
        return ok(MarketDetailView.of(result.market), 201)

    @post(
        "/admin/markets/{market_id:str}/status",
        status_code=200,
        opt=told(MarketDetailView, body=MarketStatusBody),
    )
    @desk.answering
    async def set_status(request: Web) -> Answer:
        desk.admin(request)
        body = await read_body(request, _STATUS)
        market_id = request.path_params["market_id"]
        result = await exchange.submit(
            SetMarketStatus(market_id=market_id, status=body.status, reason=body.reason)
        )
        assert isinstance(result, MarketChanged)
        return ok(MarketDetailView.of(result.market))

    @post(
        "/admin/markets/{market_id:str}/resolve",
        status_code=200,
        opt=told(ResolvedView, body=dialect.shapes.resolve_body),
    )
    @desk.answering
    async def resolve_market(request: Web) -> Answer:
        desk.admin(request)
        body = await read_body(request, decode_resolve)
        market_id = request.path_params["market_id"]
        if market_id not in state.markets:
            raise Refusal(Code.MARKET_UNKNOWN, f"market {market_id} is unknown")
        result = await exchange.submit(
            ResolveMarket(
                market_id=market_id,
                resolution=dialect.resolution(body),
                settle_delay_ms=body.settle_delay_ms,
                halted_too=dialect.resolves_halted,
            )
        )
        assert isinstance(result, Resolved)
        if result.market.status is MarketStatus.RESOLVED:
            settlements.expect(result.market)
        return ok(ResolvedView.of(result))

    @get("/admin/markets/{market_id:str}/stats", opt=told(StatsView))
    @desk.answering
    async def market_stats(request: Web) -> Answer:
        desk.admin(request)
        market_id = request.path_params["market_id"]
        market = state.markets.get(market_id)
        if market is None:
            raise Refusal(Code.MARKET_UNKNOWN, f"market {market_id} is unknown")
        trades = [
            trade
            for trade_id in state.trade_ids_by_market.get(market_id, ())
            if not (trade := state.trades[trade_id]).is_audit
        ]
        scenarios = Counter(trade.scenario for trade in trades)
        fees_cents = sum(trade.maker_fee_cents + trade.taker_fee_cents for trade in trades)
        return ok(
            StatsView(
                market_id=market_id,
                reserve_balance_cents=market.reserve_balance_cents,
                reserve_balance_display=display(market.reserve_balance_cents),
                pnl_pool_cents=market.pnl_pool_cents,
                pnl_pool_display=display(market.pnl_pool_cents),
                total_yes_shares=market.total_yes_shares,
                total_no_shares=market.total_no_shares,
                active_orders_count=len(state.books[market_id].order_ids()),
                total_trades_count=len(trades),
                trades_by_scenario={scenario: scenarios[scenario] for scenario in Scenario},
                total_fees_collected_cents=fees_cents,
                total_fees_collected_display=display(fees_cents),
                unique_traders=len(
                    {user for trade in trades for user in (trade.buy_user_id, trade.sell_user_id)}
                ),
            )
        )

    @post("/admin/verify-invariants", status_code=200, opt=told(dialect.shapes.invariants))
    @desk.answering
    async def verify_invariants(request: Web) -> Answer:
        desk.admin(request)
        breaches = Audit(state).check()
        await _halt_broken(desk, breaches)
        return dialect.verified(breaches, exchange.now())

    @get("/admin/journal", opt=told(JournalView, query=JournalQuery))
    @desk.answering
    async def journal(request: Web) -> Answer:
        desk.admin(request)
        query = read_query(request.scope["query_string"], JournalQuery)
        return ok(await exchange.journal(query.after, query.limit))

    return [
        *([start_amm, stop_amm] if dialect.controls_amm else []),
        create_market,
        set_status,
        resolve_market,
        market_stats,
        verify_invariants,
        journal,
    ]


async def _halt_broken(desk: Desk, breaches: list[Breach]) -> None:
    """Stop every market a breach concerns, or all of them for a global one (5.10)."""
    reasons: dict[str, str] = {}
    for breach in breaches:
        for market_id in [breach.market_id] if breach.market_id else desk.exchange.state.markets:
            reasons.setdefault(market_id, f"{breach.check}: {breach.what}")
    for market_id, reason in reasons.items():
        if desk.exchange.state.markets[market_id].status is not MarketStatus.HALTED:
            await desk.exchange.submit(HaltMarket(market_id=market_id, reason=reason))
