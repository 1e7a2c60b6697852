"""What the outside is told about a commit: event-bus messages and the audit trail of orders (section 4).

Pure. Events are written into the ``outbox`` in the transaction they tell of, so that one exists if and only
if the transaction committed; publishing is somebody else's, later and at least once. ``event_id`` is made of
the journal sequence of the effect it tells of, so that a replay publishes the same ids.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

import msgspec

from engine.paper.effects import Effects, OrderEvent, OrderEventKind
from engine.paper.model import AMM_USER_ID, CancelReason, Direction, Order, Role, Trade
from engine.paper.state import State
from engine.paper.tables import OutboxEvent, WalEvent

TRADE_EVENTS: Final = "trade_events"
ORDER_EVENTS: Final = "order_events"
MARKET_EVENTS: Final = "market_events"

_ENCODER: Final = msgspec.json.Encoder()
_EXPIRING: Final = frozenset({CancelReason.IOC_UNFILLED, CancelReason.MARKET_RESOLVED})


class TradeSide(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One book side of a trade."""

    user_id: str
    order_id: str
    role: Role
    fee_cents: int
    is_amm: bool


class TradeBody(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A fill; the price is the YES book price, the sides are book sides."""

    trade_id: str
    scenario: str
    price_cents: int
    quantity: int
    buyer: TradeSide
    seller: TradeSide
    executed_at: datetime


class OrderBody(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order right after a step; ``previous_status`` is None for one that did not exist before."""

    order_id: str
    user_id: str
    side: str
    direction: str
    price_cents: int
    original_quantity: int
    filled_quantity: int
    remaining_quantity: int
    status: str
    previous_status: str | None


class TradeExecuted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Message of trade_events."""

    event_type: str = "TRADE_EXECUTED"
    event_id: str
    timestamp_ms: int
    market_id: str
    trade: TradeBody


class OrderStatusChanged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Message of order_events."""

    event_type: str = "ORDER_STATUS_CHANGED"
    event_id: str
    timestamp_ms: int
    market_id: str
    order: OrderBody


class MarketStatusChanged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Message of market_events."""

    event_type: str
    event_id: str
    timestamp_ms: int
    market_id: str
    previous_status: str | None
    new_status: str
    resolution_result: str | None = None
    resolved_at: datetime | None = None


def outbox_events(
    effects: Effects, before: State, first_sequence: int, at_unix_ns: int, at: datetime
) -> list[OutboxEvent]:
    """Every event of one command. ``before`` is the state the command was decided on, not yet changed.

    An order's RESTED step changes no status and is no event. Mint and burn are no events (2.6).
    """
    timestamp_ms = at_unix_ns // 1_000_000
    events: list[OutboxEvent] = []

    def add(topic: str, sequence: int, event_id: str, market_id: str, message: msgspec.Struct) -> None:
        events.append(
            OutboxEvent(
                event_id=event_id,
                sequence=sequence,
                topic=topic,
                market_id=market_id,
                payload=_ENCODER.encode(message),
                created_at=at,
            )
        )

    previous: dict[str, Order] = {}
    for sequence, event in enumerate(effects.order_events, first_sequence):
        order = event.order
        was = previous.get(order.id) or before.orders.get(order.id)
        previous[order.id] = order
        if event.kind is OrderEventKind.RESTED:
            continue
        event_id = f"evt_{sequence}"
        body = _order_body(order, was)
        changed = OrderStatusChanged(
            event_id=event_id, timestamp_ms=timestamp_ms, market_id=order.market_id, order=body
        )
        add(ORDER_EVENTS, sequence, event_id, order.market_id, changed)
    for sequence, trade in enumerate(effects.trades, first_sequence + len(effects.order_events)):
        if trade.is_audit:
            continue
        event_id = f"evt_{sequence}"
        executed = TradeExecuted(
            event_id=event_id,
            timestamp_ms=timestamp_ms,
            market_id=trade.market_id,
            trade=_trade_body(trade),
        )
        add(TRADE_EVENTS, sequence, event_id, trade.market_id, executed)
    market = effects.market
    if market is not None:
        known = before.markets.get(market.id)
        if known is None or known.status is not market.status:
            event_id = f"evt_{first_sequence}_market"
            message = MarketStatusChanged(
                event_type="MARKET_STATUS_CHANGED",
                event_id=event_id,
                timestamp_ms=timestamp_ms,
                market_id=market.id,
                previous_status=known.status if known is not None else None,
                new_status=market.status,
                resolution_result=market.resolution_result,
                resolved_at=market.resolved_at,
            )
            add(MARKET_EVENTS, first_sequence, event_id, market.id, message)
    return events


def _order_body(order: Order, before: Order | None) -> OrderBody:
    return OrderBody(
        order_id=order.id,
        user_id=order.user_id,
        side=order.original_side,
        direction=order.original_direction,
        price_cents=order.original_price_cents,
        original_quantity=order.quantity,
        filled_quantity=order.filled_quantity,
        remaining_quantity=order.remaining_quantity,
        status=order.status,
        previous_status=before.status if before is not None else None,
    )


def _trade_body(trade: Trade) -> TradeBody:
    buyer, seller = (_trade_side(trade, direction) for direction in (Direction.BUY, Direction.SELL))
    return TradeBody(
        trade_id=trade.trade_id,
        scenario=trade.scenario,
        price_cents=trade.price_cents,
        quantity=trade.quantity,
        buyer=buyer,
        seller=seller,
        executed_at=trade.executed_at,
    )


def _trade_side(trade: Trade, direction: Direction) -> TradeSide:
    bought = direction is Direction.BUY
    order_id = trade.buy_order_id if bought else trade.sell_order_id
    user_id = trade.buy_user_id if bought else trade.sell_user_id
    made = order_id == trade.maker_order_id
    return TradeSide(
        user_id=user_id,
        order_id=order_id,
        role=Role.MAKER if made else Role.TAKER,
        fee_cents=trade.maker_fee_cents if made else trade.taker_fee_cents,
        is_amm=user_id == AMM_USER_ID,
    )


class WalPayload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the audit trail keeps of a step."""

    order_id: str
    user_id: str
    filled_quantity: int
    remaining_quantity: int
    status: str
    trade_id: str | None = None
    quantity: int = 0
    cancel_reason: str | None = None


def wal_events(effects: Effects, at: datetime) -> Iterator[WalEvent]:
    """The steps of one command for ``wal_events``; resting is no step of its own there."""
    for event in effects.order_events:
        event_type = _wal_type(event)
        if event_type is None:
            continue
        order = event.order
        payload = WalPayload(
            order_id=order.id,
            user_id=order.user_id,
            filled_quantity=order.filled_quantity,
            remaining_quantity=order.remaining_quantity,
            status=order.status,
            trade_id=event.trade_id,
            quantity=event.quantity,
            cancel_reason=order.cancel_reason,
        )
        yield WalEvent(
            market_id=order.market_id,
            event_type=event_type,
            payload=_ENCODER.encode(payload),
            created_at=at,
        )


def _wal_type(event: OrderEvent) -> str | None:
    if event.kind is OrderEventKind.ACCEPTED:
        return "ORDER_ACCEPTED"
    if event.kind is OrderEventKind.FILLED:
        return "ORDER_PARTIALLY_FILLED" if event.order.remaining_quantity else "ORDER_MATCHED"
    if event.kind is OrderEventKind.CANCELLED:
        return "ORDER_EXPIRED" if event.order.cancel_reason in _EXPIRING else "ORDER_CANCELLED"
    return None
