"""A market as the gateway accounts for it, on a real arena, and orders in every state."""

from __future__ import annotations

from typing import Any

from engine._native import ffi, lib
from engine.arena import Arena
from engine.config import MarketConfig, RiskConfig, market_json
from engine.events import NO_LIVE_SLOT, Direction, MarketStatus, OrderKind, Outcome
from engine.workers.gateway_books import AccountBooks
from engine.workers.gateway_live import LiveOrder
from engine.workers.gateway_market import GatewayMarket, MarketRules

YES, NO = Outcome.YES, Outcome.NO
BUY, SELL = Direction.BUY, Direction.SELL
MARKET_ID = "MKT-BTC-100K-2026"
RULES = MarketRules(
    min_price_cents=1,
    max_price_cents=99,
    maker_fee_bps=10,
    taker_fee_bps=20,
    order_quantity_max=10_000,
    order_amount_max_cents=1_000_000,
    created_ms=0,
    trading_start_ms=0,
    trading_end_ms=0,
    resolution_ms=0,
)


def new_arena() -> Arena:
    arena = Arena.create(market_slots=1, worker_slots=1)
    arena.place_market(0, market_id=MARKET_ID, worker=0, tick_count=101)
    arena.write_config(0, 1, market_json(MarketConfig(id=MARKET_ID)))
    return arena


def new_books(arena: Arena, risk: RiskConfig | None = None) -> AccountBooks:
    books = AccountBooks(
        arena,
        risk=risk or RiskConfig(),
        order_rate_limit=600,
        reconcile_interval_ms=300_000,
        full_mono_ns=0,
    )
    books.admitting = True
    books.unallocated_cents = 0
    return books


def new_market(arena: Arena | None = None, *, risk: RiskConfig | None = None) -> GatewayMarket:
    arena = arena or new_arena()
    market = GatewayMarket(new_books(arena, risk), arena, 0)
    market.rules = RULES
    market.account.set_position(yes_volume=1_000, yes_cost=50_000, no_volume=1_000, no_cost=50_000)
    market.account.set_cash(100_000, cursor="", funded=True)
    market.set_status(MarketStatus.ACTIVE, 0)
    market.admit()
    return market


def record(outcome: Outcome, direction: Direction, price: int, quantity: int, **fields: Any) -> Any:
    """An ``order_record_t *`` as a quoter of this market publishes it."""
    return ffi.new(
        "order_record_t *",
        {
            "kind": OrderKind.PLACE,
            "outcome": outcome,
            "direction": direction,
            "price_cents": price,
            "quantity": quantity,
            "live_slot": NO_LIVE_SLOT,
            "intent": 1,
            **fields,
        },
    )


def opened(
    market: GatewayMarket, outcome: Outcome, direction: Direction, price: int, quantity: int, **fields: Any
) -> LiveOrder:
    slot = lib.books_open(market.books, record(outcome, direction, price, quantity, **fields), 1_000)
    assert slot != lib.BOOKS_NO_SLOT
    return market.orders.opened(slot)


def sent(market: GatewayMarket, order: LiveOrder) -> LiveOrder:
    market.books.orders[order.slot].sent = 1
    return order


def live(market: GatewayMarket, *terms: Any) -> LiveOrder:
    order = sent(market, opened(market, *terms))
    market.orders.acknowledge(order, f"venue-{order.number}")
    return order


def replacing(market: GatewayMarket, old: LiveOrder, *terms: Any, **fields: Any) -> LiveOrder:
    """The order that the last hop opens for a REPLACE when no connection is at hand."""
    markets = ffi.new("market_books_t *[]", [market.books])
    hop = ffi.new("last_hop_t *", {"markets": markets, "market_count": 1})
    wanted = record(
        *terms,
        kind=OrderKind.REPLACE,
        live_slot=old.slot,
        target_order_id=old.venue_order_id.encode(),
        **fields,
    )
    reader = ffi.new("hop_reader_t *", {"count": 1, "records": [wanted[0]]})
    lib.last_hop_run(hop, reader, 1)
    result = reader.results[0]
    assert (reader.end, result.step) == (1, lib.HOP_WAITS)
    return market.orders.opened(result.slot)


def untold(_: LiveOrder | None) -> None:
    """Nobody listens to a leg."""


def standing(market: GatewayMarket, order: LiveOrder, now_mono_ns: int = 0) -> Any:
    found = ffi.new("standing_t *")
    lib.books_count(market.books, order.slot, now_mono_ns, found)
    return found
