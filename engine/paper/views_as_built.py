"""The answers that the as-built platform gives in another shape than the contract (contract section 2.8)."""

from datetime import datetime

import msgspec

from engine.paper.effects import NettingResult, Replaced
from engine.paper.model import Account, Order, Position, Trade
from engine.paper.views import BalanceView, OrderView


class BuiltBalanceView(msgspec.Struct, frozen=True, kw_only=True):
    """Without ``auto_netting_enabled`` (2.2)."""

    user_id: str
    available_balance_cents: int
    available_balance_display: str
    frozen_balance_cents: int
    frozen_balance_display: str
    total_balance_cents: int
    total_balance_display: str

    @classmethod
    def of(cls, account: Account) -> "BuiltBalanceView":
        full = BalanceView.of(account)
        return cls(**{name: getattr(full, name) for name in cls.__struct_fields__})


class BuiltOrderView(msgspec.Struct, frozen=True, kw_only=True):
    """Without ``book_direction`` and ``book_price_cents``."""

    id: str
    client_order_id: str
    market_id: str
    original_side: str
    original_direction: str
    original_price_cents: int
    book_type: str
    price_type: str
    time_in_force: str
    quantity: int
    filled_quantity: int
    remaining_quantity: int
    frozen_amount: int
    frozen_asset_type: str
    status: str
    cancel_reason: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, order: Order) -> "BuiltOrderView":
        full = OrderView.of(order)
        return cls(**{name: getattr(full, name) for name in cls.__struct_fields__})


class BuiltOrderTradeView(msgspec.Struct, frozen=True, kw_only=True):
    """A fill in the answer to an order: which orders met, but neither an id nor a fee."""

    buy_order_id: str
    sell_order_id: str
    price: int
    quantity: int
    scenario: str

    @classmethod
    def of(cls, trade: Trade) -> "BuiltOrderTradeView":
        return cls(
            buy_order_id=trade.buy_order_id,
            sell_order_id=trade.sell_order_id,
            price=trade.price_cents,
            quantity=trade.quantity,
            scenario=trade.scenario,
        )


class BuiltNettingView(msgspec.Struct, frozen=True, kw_only=True):
    """The caller's netting under its as-built names."""

    netting_qty: int
    refund_amount: int

    @classmethod
    def of(cls, netting: NettingResult | None) -> "BuiltNettingView | None":
        if netting is None:
            return None
        return cls(netting_qty=netting.pairs_netted, refund_amount=netting.released_cents)


class BuiltPlacedView(msgspec.Struct, frozen=True, kw_only=True):
    order: BuiltOrderView
    trades: list[BuiltOrderTradeView]
    netting_result: BuiltNettingView | None


class BuiltNewOrderView(msgspec.Struct, frozen=True, kw_only=True):
    """All that a replace tells about its new order."""

    id: str
    client_order_id: str
    status: str
    quantity: int
    filled: int
    remaining: int

    @classmethod
    def of(cls, order: Order) -> "BuiltNewOrderView":
        return cls(
            id=order.id,
            client_order_id=order.client_order_id,
            status=order.status,
            quantity=order.quantity,
            filled=order.filled_quantity,
            remaining=order.remaining_quantity,
        )


class BuiltReplaceView(msgspec.Struct, frozen=True, kw_only=True):
    old_order_id: str
    old_order_status: str | None
    old_order_filled_quantity: int | None
    old_order_original_quantity: int | None
    new_order: BuiltNewOrderView
    trades: list[BuiltOrderTradeView]

    @classmethod
    def of(cls, replaced: Replaced) -> "BuiltReplaceView":
        old = replaced.old
        return cls(
            old_order_id=replaced.old_order_id,
            old_order_status=old.status if old else None,
            old_order_filled_quantity=old.filled_quantity if old else None,
            old_order_original_quantity=old.quantity if old else None,
            new_order=BuiltNewOrderView.of(replaced.placed.order),
            trades=[BuiltOrderTradeView.of(trade) for trade in replaced.placed.trades],
        )


class BuiltPositionView(msgspec.Struct, frozen=True, kw_only=True):
    """Flat, and silent about shares that sell orders hold."""

    market_id: str
    yes_volume: int
    yes_cost_sum: int
    no_volume: int
    no_cost_sum: int

    @classmethod
    def of(cls, position: Position) -> "BuiltPositionView":
        return cls(
            market_id=position.market_id,
            yes_volume=position.yes.volume,
            yes_cost_sum=position.yes.cost_sum_cents,
            no_volume=position.no.volume,
            no_cost_sum=position.no.cost_sum_cents,
        )


class BuiltPositionsView(msgspec.Struct, frozen=True, kw_only=True):
    items: list[BuiltPositionView]


class BuiltTradeView(msgspec.Struct, frozen=True, kw_only=True):
    """A trade as its row stands: no order ids, no roles, no maker's fee."""

    trade_id: str
    market_id: str
    scenario: str
    price: int
    quantity: int
    buy_user_id: str
    sell_user_id: str
    taker_fee: int
    buy_realized_pnl: int | None
    sell_realized_pnl: int | None
    executed_at: datetime

    @classmethod
    def of(cls, trade: Trade) -> "BuiltTradeView":
        return cls(
            trade_id=trade.trade_id,
            market_id=trade.market_id,
            scenario=trade.scenario,
            price=trade.price_cents,
            quantity=trade.quantity,
            buy_user_id=trade.buy_user_id,
            sell_user_id=trade.sell_user_id,
            taker_fee=trade.taker_fee_cents,
            buy_realized_pnl=trade.buy_realized_pnl_cents,
            sell_realized_pnl=trade.sell_realized_pnl_cents,
            executed_at=trade.executed_at,
        )


class BuiltInvariantsView(msgspec.Struct, frozen=True, kw_only=True):
    ok: bool
    violations: list[str]


class ValidationFault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong with a request, and where."""

    type: str
    loc: list[str]
    msg: str


class ValidationDetail(msgspec.Struct, frozen=True, kw_only=True):
    """422: the request is malformed."""

    detail: list[ValidationFault]


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """401, 403, and what no route answers."""

    detail: str
