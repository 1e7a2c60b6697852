"""Routes of sections 2.3 to 2.6: markets, orders, positions, trades, and the market maker's own."""

from datetime import datetime
from typing import Final

import msgspec
from litestar import get, post
from litestar.handlers import HTTPRouteHandler

from engine.paper.commands import BatchCancel, Burn, CancelOrder, Mint, PlaceOrder, ReplaceOrder
from engine.paper.desk import Desk, Web, answering, read_body
from engine.paper.effects import BatchCancelled, Cancelled, Placed, Replaced, Supplied
from engine.paper.envelope import Answer, ok, refused
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
    NettingView,
    OrderbookView,
    OrderDetailView,
    OrderTradeView,
    OrderView,
    PageView,
    PlacedView,
    PositionsView,
    PositionView,
    ReplaceView,
    SideBookView,
    TradeView,
)

_PLACE: Final = msgspec.json.Decoder(PlaceOrderBody)
_REPLACE: Final = msgspec.json.Decoder(ReplaceBody)
_BATCH_CANCEL: Final = msgspec.json.Decoder(BatchCancelBody)
_SUPPLY: Final = msgspec.json.Decoder(SupplyBody)
_LIVE: Final = frozenset({OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED})


def market_routes(desk: Desk) -> list[HTTPRouteHandler]:
    """Handlers of /markets."""
    state = desk.exchange.state

    @get("/markets", opt=told(PageView, query=MarketsQuery))
    @answering
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
    @answering
    async def get_market(request: Web) -> Answer:
        desk.reader(request)
        return ok(MarketDetailView.of(_known_market(desk, request.path_params["market_id"])))

    @get("/markets/{market_id:str}/orderbook", opt=told(OrderbookView, query=OrderbookQuery))
    @answering
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

    @post("/orders", opt=told(PlacedView, 201, 200, body=PlaceOrderBody))
    @answering
    async def place_order(request: Web) -> Answer:
        caller = desk.caller(request)
        desk.count_order(caller)
        body = await read_body(request, _PLACE)
        result = await exchange.submit(PlaceOrder(user_id=caller.user_id, terms=body.terms()))
        assert isinstance(result, Placed)
        view = PlacedView(
            order=OrderView.of(result.order),
            trades=[OrderTradeView.of(trade, result.order.id) for trade in result.trades],
            netting_result=NettingView.of(result.netting),
        )
        return ok(view, 200 if result.replayed else 201)

    @post("/orders/{order_id:str}/cancel", status_code=200, opt=told(CancelView))
    @answering
    async def cancel_order(request: Web) -> Answer:
        caller = desk.caller(request)
        order_id = request.path_params["order_id"]
        result = await exchange.submit(CancelOrder(user_id=caller.user_id, order_id=order_id))
        assert isinstance(result, Cancelled)
        return ok(CancelView.of(result))

    @get("/orders", opt=told(PageView, query=OrdersQuery))
    @answering
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
            filter(wanted, newest_first), query.limit, lambda row: row.id, lambda row: [OrderView.of(row)]
        )
        return ok(found)

    @get("/orders/{order_id:str}", opt=told(OrderDetailView))
    @answering
    async def get_order(request: Web) -> Answer:
        caller = desk.reader(request)
        order = state.orders.get(request.path_params["order_id"])
        if order is None:
            raise Refusal(Code.ORDER_UNKNOWN, f"order {request.path_params['order_id']} is unknown")
        if order.user_id != caller.user_id:
            raise Refusal(Code.FORBIDDEN, f"order {order.id} belongs to another user")
        trades = [OrderTradeView.of(trade, order.id) for trade in state.order_trades(order.id)]
        return ok(OrderDetailView(order=OrderView.of(order), trades=trades))

    return [place_order, cancel_order, list_orders, get_order]


def history_routes(desk: Desk) -> list[HTTPRouteHandler]:
    """Handlers of /positions and /trades."""
    exchange, state = desk.exchange, desk.exchange.state

    @get("/positions", opt=told(PositionsView, query=PositionsQuery))
    @answering
    async def list_positions(request: Web) -> Answer:
        caller = desk.reader(request)
        query = read_query(request.scope["query_string"], PositionsQuery)
        items = []
        for market_id, positions in state.positions.items():
            position = positions.get(caller.user_id)
            if position is None or (query.market_id and market_id != query.market_id):
                continue
            if query.has_volume and not position.yes.volume and not position.no.volume:
                continue
            items.append(PositionView.of(position, state.markets[market_id]))
        return ok(PositionsView(items=items))

    @get("/positions/{market_id:str}", opt=told(PositionView))
    @answering
    async def get_position(request: Web) -> Answer:
        caller = desk.reader(request)
        market = _known_market(desk, request.path_params["market_id"])
        return ok(PositionView.of(state.position(caller.user_id, market.id, exchange.now()), market))

    @get("/trades", opt=told(PageView, query=TradesQuery))
    @answering
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
                lambda row: TradeView.all_of(row, caller.user_id),
            )
        )

    return [list_positions, get_position, list_trades]


def amm_routes(desk: Desk) -> list[HTTPRouteHandler]:
    """Handlers of /amm, for the market maker alone."""
    exchange = desk.exchange

    @post("/amm/orders/replace", status_code=200, opt=told(ReplaceView, body=ReplaceBody))
    @answering
    async def replace_order(request: Web) -> Answer:
        caller = desk.amm(request)
        body = await read_body(request, _REPLACE)
        desk.count_replace(body.new_order.market_id)
        result = await exchange.submit(
            ReplaceOrder(user_id=caller.user_id, old_order_id=body.old_order_id, terms=body.new_order.terms())
        )
        if isinstance(result, Refusal):
            return refused(result)
        assert isinstance(result, Replaced)
        return ok(ReplaceView.of(result))

    @post("/amm/orders/batch-cancel", status_code=200, opt=told(BatchCancelView, body=BatchCancelBody))
    @answering
    async def batch_cancel(request: Web) -> Answer:
        caller = desk.amm(request)
        body = await read_body(request, _BATCH_CANCEL)
        result = await exchange.submit(
            BatchCancel(user_id=caller.user_id, market_id=body.market_id, scope=body.cancel_scope)
        )
        assert isinstance(result, BatchCancelled)
        return ok(BatchCancelView.of(result))

    @post("/amm/mint", opt=told(MintView, 201, 200, body=SupplyBody))
    @answering
    async def mint(request: Web) -> Answer:
        caller = desk.amm(request)
        body = await read_body(request, _SUPPLY)
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
    @answering
    async def burn(request: Web) -> Answer:
        caller = desk.amm(request)
        body = await read_body(request, _SUPPLY)
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
