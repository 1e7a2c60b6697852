"""The platform's event bus (platform §4): what its three topics carry, typed, and ours picked out.

A message that is not what the contract says raises :class:`PoisonError`; nothing is guessed. Members that
are not used are tolerated. Prices are integer cents of the YES book, quantities integer shares.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from engine.venues.platform_wire import (
    AccountTrade,
    Count,
    DirectionName,
    OrderStatus,
    Price,
    Quantity,
    ScenarioName,
    Text,
)

TRADE_EVENTS: Final = "trade_events"
ORDER_EVENTS: Final = "order_events"
MARKET_EVENTS: Final = "market_events"
TOPICS: Final = (TRADE_EVENTS, ORDER_EVENTS, MARKET_EVENTS)
GROUP: Final = "amm_trade_consumer"

_EventId = Annotated[str, Meta(min_length=1, max_length=128)]


class PoisonError(Exception):
    """A message that cannot be an event of its topic; one line that says why."""


class _Side(Struct, frozen=True, kw_only=True, gc=False):
    user_id: Text
    order_id: Text
    role: Literal["MAKER", "TAKER"]
    fee_cents: Count


class _Trade(Struct, frozen=True, kw_only=True, gc=False):
    trade_id: Text
    scenario: ScenarioName
    price_cents: Price
    quantity: Quantity
    buyer: _Side
    seller: _Side
    executed_at: Annotated[datetime, Meta(tz=True)]


class _Order(Struct, frozen=True, kw_only=True, gc=False):
    order_id: Text
    user_id: Text
    status: OrderStatus


class _TradeExecuted(Struct, frozen=True, kw_only=True, gc=False):
    event_type: Literal["TRADE_EXECUTED"]
    event_id: _EventId
    market_id: Text
    trade: _Trade


class _OrderChanged(Struct, frozen=True, kw_only=True, gc=False):
    event_type: Literal["ORDER_STATUS_CHANGED"]
    event_id: _EventId
    market_id: Text
    order: _Order


class _MarketChanged(Struct, frozen=True, kw_only=True, gc=False):
    event_type: Literal["MARKET_STATUS_CHANGED"]
    event_id: _EventId
    market_id: Text
    new_status: Text


_TRADE: Final = msgspec.json.Decoder(_TradeExecuted)
_ORDER: Final = msgspec.json.Decoder(_OrderChanged)
_MARKET: Final = msgspec.json.Decoder(_MarketChanged)


class TradeEvent(Struct, frozen=True, kw_only=True, gc=False):
    """A trade of ours: one leg, or two of a trade with ourselves."""

    event_id: str
    legs: tuple[AccountTrade, ...]


class OrderEvent(Struct, frozen=True, kw_only=True, gc=False):
    """An order of ours has a new status."""

    event_id: str
    market_id: str
    order_id: str
    status: OrderStatus


class MarketEvent(Struct, frozen=True, kw_only=True, gc=False):
    """A market has a new status, in the venue's word."""

    event_id: str
    market_id: str
    status: str


Event = TradeEvent | OrderEvent | MarketEvent


def decode(topic: str, key: bytes | None, value: bytes | None, *, user_id: str) -> Event | None:
    """The event of a message as far as it concerns ``user_id``; None: it does not. Raises PoisonError."""
    if value is None:
        raise PoisonError("no value")
    try:
        if topic == TRADE_EVENTS:
            executed = _TRADE.decode(value)
            _check_key(key, executed.market_id)
            return _ours(executed, user_id)
        if topic == ORDER_EVENTS:
            changed = _ORDER.decode(value)
            _check_key(key, changed.market_id)
            if changed.order.user_id != user_id:
                return None
            return OrderEvent(
                event_id=changed.event_id,
                market_id=changed.market_id,
                order_id=changed.order.order_id,
                status=changed.order.status,
            )
        if topic == MARKET_EVENTS:
            moved = _MARKET.decode(value)
            _check_key(key, moved.market_id)
            return MarketEvent(event_id=moved.event_id, market_id=moved.market_id, status=moved.new_status)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PoisonError((str(error).splitlines() or [type(error).__name__])[0]) from None
    raise PoisonError(f"topic {topic} is none of {', '.join(TOPICS)}")


def _check_key(key: bytes | None, market_id: str) -> None:
    """A market's events are in order because they share a key: one under another key may be out of turn."""
    if key != market_id.encode():
        raise PoisonError(f"key {key!r} is not market_id {market_id!r}")


def _ours(event: _TradeExecuted, user_id: str) -> TradeEvent | None:
    trade = event.trade
    sides: tuple[tuple[DirectionName, _Side], ...] = (("BUY", trade.buyer), ("SELL", trade.seller))
    legs = tuple(
        AccountTrade(
            trade_id=trade.trade_id,
            market_id=event.market_id,
            scenario=trade.scenario,
            my_side=name,
            price_cents=trade.price_cents,
            quantity=trade.quantity,
            role=side.role,
            fee_cents=side.fee_cents,
            executed_at=trade.executed_at,
            buy_user_id=trade.buyer.user_id,
            sell_user_id=trade.seller.user_id,
            buy_order_id=trade.buyer.order_id,
            sell_order_id=trade.seller.order_id,
        )
        for name, side in sides
        if side.user_id == user_id
    )
    return TradeEvent(event_id=event.event_id, legs=legs) if legs else None
