"""Routes of sections 2.3 to 2.6: markets, orders, positions, trades, and the market maker's own."""

from datetime import datetime
from functools import partial
from typing import Final

import msgspec
from litestar import get, post
from litestar.handlers import HTTPRouteHandler

from engine.paper.commands import BatchCancel, Burn, CancelOrder, Mint, PlaceOrder, ReplaceOrder
from engine.paper.desk import Desk, Web, read_body
from engine.paper.effects import BatchCancelled, Cancelled, Placed, Replaced, Supplied
from engine.paper.envelope import Answer, ok
from engine.paper.model import Market, Order, OrderStatus, Trade
from engine.paper.openapi import told
from engine.paper.paging import newer_than, older_than, page
from engine.paper.refusal import Code, Refusal
from engine.paper.requests import (
    BatchCancelBody,
    MarketsQuery,
    OrderbookQuery,
    OrdersQuery,
    PlaceOrderBody,
    PositionsQuery,
    ReplaceBody,
    SupplyBody,
    TradesQuery,
    read_query,
    read_statuses,
)
from engine.paper.views import (
    BatchCancelView,
    BurnView,
    CancelView,
    MarketDetailView,
    MarketView,
    MintView,
    OrderbookView,
    PageView,
    SideBookView,
)

_PLACE: Final = msgspec.json.Decoder(PlaceOrderBody)
_REPLACE: Final = msgspec.json.Decoder(ReplaceBody)
_BATCH_CANCEL: Final = msgspec.json.Decoder(BatchCancelBody)
_SUPPLY: Final = msgspec.json.Decoder(SupplyBody)
_LIVE: Final = frozenset({OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED})


def market_routes(desk: Desk) -> list[HTTPRouteHandler]:
    """Handlers of /markets."""
    state = desk.exchange.state

    @get("/markets", opt=told(PageView[MarketView], query=MarketsQuery))
    @desk.answering
    async def list_markets(request: Web) -> Answer:
        desk.reader(request)
        query = read_query(request.scope["query_string"], MarketsQuery)
        # A cursor names a market; "older" follows (created_at, id), so the sort key is looked up first.
        rows = sorted(state.markets.values(), key=_market_age)
        last = state.markets.get(str(query.cursor_id()))

        def wanted(market: Market) -> bool:
            return (
                (query.status in {"ALL", market.status})
                and (not query.category or market.category == query.category)
                and (last is None or _market_age(market) < _market_age(last))
            )

        newest_first = filter(wanted, reversed(rows))
        return ok(page(newest_first, query.limit, lambda row: row.id, lambda row: [MarketView.of(row)]))

    @get("/markets/{market_id:str}", opt=told(MarketDetailView))
    @desk.answering
    async def get_market(request: Web) -> Answer:
        desk.reader(request)
        return ok(MarketDetailView.of(_known_market(desk, request.path_params["market_id"])))

    @get("/markets/{market_id:str}/orderbook", opt=told(OrderbookView, query=OrderbookQuery))
    @desk.answering
    async def get_orderbook(request: Web) -> Answer:
        desk.reader(request)
        query = read_query(request.scope["query_string"], OrderbookQuery)
        market = _known_market(desk, request.path_params["market_id"])
        yes = SideBookView.of(state.books[market.id], query.levels)
        return ok(
            OrderbookView(
                market_id=market.id,
                yes=yes,
                no=yes.mirrored(),
                last_trade_price_cents=state.last_trade_price_cents.get(market.id),
                updated_at=desk.exchange.now(),
            )
        )

    return [list_markets, get_market, get_orderbook]


def order_routes(desk: Desk) -> list[HTTPRouteHandler]:
    """Handlers of /orders."""
    exchange, state = desk.exchange, desk.exchange.state
    dialect, shapes = desk.dialect, desk.dialect.shapes
    order_told = partial(told, enveloped=dialect.envelopes_orders)

    @post("/orders", opt=order_told(shapes.placed, 201, 200, body=PlaceOrderBody))
    @desk.answering
    async def place_order(request: Web) -> Answer:
        caller = desk.caller(request)
        desk.count_order(caller)
        body = await read_body(request, _PLACE)
        result = await exchange.submit(
            PlaceOrder(user_id=caller.user_id, terms=body.terms(), fee_rule=dialect.fee_rule)
        )
        assert isinstance(result, Placed)
        return dialect.placed(result)

    @post("/orders/{order_id:str}/cancel", status_code=200, opt=order_told(CancelView))
    @desk.answering
    async def cancel_order(request: Web) -> Answer:
        caller = desk.caller(request)
        order_id = request.path_params["order_id"]
        result = await exchange.submit(CancelOrder(user_id=caller.user_id, order_id=order_id))
        assert isinstance(result, Cancelled)
        return dialect.cancelled(result)

    @get("/orders", opt=order_told(shapes.orders, query=OrdersQuery))
    @desk.answering
    async def list_orders(request: Web) -> Answer:
        caller = desk.reader(request)
        query = read_query(request.scope["query_string"], OrdersQuery)
        statuses = read_statuses(query.status)
        if statuses and statuses <= _LIVE:
            order_ids = list(state.live_order_ids_by_user.get(caller.user_id, ()))
        else:
            order_ids = state.order_ids_by_user.get(caller.user_id, [])

        def wanted(order: Order) -> bool:
            return (
                (not statuses or order.status in statuses)
                and (not query.market_id or order.market_id == query.market_id)
                and (query.side is None or order.original_side is query.side)
                and (query.direction is None or order.original_direction is query.direction)
            )

        newest_first = (state.orders[row] for row in older_than(order_ids, str, query.cursor_id()))
        found = page(
            filter(wanted, newest_first), query.limit, lambda row: row.id, lambda row: [dialect.order(row)]
        )
        return dialect.orders(found)

    @get("/orders/{order_id:str}", opt=order_told(shapes.order))
    @desk.answering
    async def get_order(request: Web) -> Answer:
        caller = desk.reader(request)
        order = state.orders.get(request.path_params["order_id"])
        if order is None:
            raise Refusal(Code.ORDER_UNKNOWN, f"order {request.path_params['order_id']} is unknown")
        if order.user_id != caller.user_id:
            raise Refusal(Code.FORBIDDEN, f"order {order.id} belongs to another user")
        return dialect.order_with_trades(order, state.order_trades(order.id))

    return [place_order, cancel_order, list_orders, get_order]


def history_routes(desk: Desk) -> list[HTTPRouteHandler]:
    """Handlers of /positions and /trades."""
    exchange, state = desk.exchange, desk.exchange.state
    dialect, shapes = desk.dialect, desk.dialect.shapes

    @get("/positions", opt=told(shapes.positions, query=PositionsQuery))
    @desk.answering
    async def list_positions(request: Web) -> Answer:
        caller = desk.reader(request)
        query = read_query(request.scope["query_string"], PositionsQuery)
        rows = []
        for market_id, positions in state.positions.items():
            position = positions.get(caller.user_id)
            if position is None or (query.market_id and market_id != query.market_id):
                continue
            if query.has_volume and not position.yes.volume and not position.no.volume:
                continue
            rows.append((position, state.markets[market_id]))
        return dialect.positions(rows)

    @get("/positions/{market_id:str}", opt=told(shapes.position))
    @desk.answering
    async def get_position(request: Web) -> Answer:
        caller = desk.reader(request)
        market = _known_market(desk, request.path_params["market_id"])
        stored = state.positions[market.id].get(caller.user_id)
        return dialect.position(stored, market, caller.user_id, exchange.now())

    @get("/trades", opt=told(shapes.trades, query=TradesQuery))
    @desk.answering
    async def list_trades(request: Web) -> Answer:
        caller = desk.reader(request)
        query = read_query(request.scope["query_string"], TradesQuery)
        trade_ids = state.trade_ids_by_user.get(caller.user_id, [])

        def wanted(trade: Trade) -> bool:
            return (not query.market_id or trade.market_id == query.market_id) and (
                query.scenario is None or trade.scenario is query.scenario
            )

        if query.since:
            trades = (state.trades[row] for row in newer_than(trade_ids, query.since))
        else:
            trades = (state.trades[row] for row in older_than(trade_ids, str, query.cursor_id()))
        return ok(
            page(
                filter(wanted, trades),
                query.limit,
                lambda row: row.trade_id,
                lambda row: dialect.trade_sides(row, caller.user_id),
            )
        )

    return [list_positions, get_position, list_trades]


def amm_routes(desk: Desk) -> list[HTTPRouteHandler]:
    """Handlers of /amm, for the market maker alone."""
    exchange, dialect = desk.exchange, desk.dialect

    @post("/amm/orders/replace", status_code=200, opt=told(dialect.shapes.replaced, body=ReplaceBody))
    @desk.answering
    async def replace_order(request: Web) -> Answer:
        caller = desk.amm(request)
        body = await read_body(request, _REPLACE)
        desk.count_replace(body.new_order.market_id)
        result = await exchange.submit(
            ReplaceOrder(
                user_id=caller.user_id,
                old_order_id=body.old_order_id,
                terms=body.new_order.terms(),
                fee_rule=dialect.fee_rule,
                cancels_partly_filled=dialect.cancels_partly_filled,
            )
        )
        if isinstance(result, Refusal):
            return dialect.refused(result)
        assert isinstance(result, Replaced)
        return dialect.replaced(result)

    @post("/amm/orders/batch-cancel", status_code=200, opt=told(BatchCancelView, body=BatchCancelBody))
    @desk.answering
    async def batch_cancel(request: Web) -> Answer:
        caller = desk.amm(request)
        body = await read_body(request, _BATCH_CANCEL)
        result = await exchange.submit(
            BatchCancel(user_id=caller.user_id, market_id=body.market_id, scope=body.cancel_scope)
        )
        assert isinstance(result, BatchCancelled)
        return ok(BatchCancelView.of(result))

    @post("/amm/mint", opt=told(MintView, 201, 200, body=SupplyBody))
    @desk.answering
    async def mint(request: Web) -> Answer:
        caller = desk.amm(request)
        body = await read_body(request, _SUPPLY)
        dialect.check_supply()
        result = await exchange.submit(
            Mint(
                user_id=caller.user_id,
                market_id=body.market_id,
                quantity=body.quantity,
                idempotency_key=body.idempotency_key,
            )
        )
        assert isinstance(result, Supplied)
        return ok(MintView.of(result), 200 if result.replayed else 201)

    @post("/amm/burn", status_code=200, opt=told(BurnView, body=SupplyBody))
    @desk.answering
    async def burn(request: Web) -> Answer:
        caller = desk.amm(request)
        body = await read_body(request, _SUPPLY)
        dialect.check_supply()
        result = await exchange.submit(
            Burn(
                user_id=caller.user_id,
                market_id=body.market_id,
                quantity=body.quantity,
                idempotency_key=body.idempotency_key,
            )
        )
        assert isinstance(result, Supplied)
        return ok(BurnView.of(result))

    return [replace_order, batch_cancel, mint, burn]


def _market_age(market: Market) -> tuple[datetime, str]:
    return market.created_at, market.id


def _known_market(desk: Desk, market_id: str) -> Market:
    market = desk.exchange.state.markets.get(market_id)
    if market is None:
        raise Refusal(Code.MARKET_UNKNOWN, f"market {market_id} is unknown")
    return market
