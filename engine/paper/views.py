"""Answers as the wire shows them (contract section 2), built from rows.

Types only: which rows go into which answer is decided by the routes. Money appears as a pair of integer
cents and a display text; member names follow the contract to the letter.
"""

from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from engine.paper.book import Book, Level
from engine.paper.effects import (
    AmmStarted,
    AmmStopped,
    BatchCancelled,
    Cancelled,
    NettingResult,
    Replaced,
    Resolved,
    Supplied,
)
from engine.paper.model import (
    PAIR_CENTS,
    Account,
    BookType,
    Direction,
    Holding,
    LedgerEntry,
    Market,
    Order,
    Position,
    Role,
    Side,
    Trade,
    User,
)

Item = TypeVar("Item")

_ORIGINAL = {
    BookType.NATIVE_BUY: (Side.YES, Direction.BUY),
    BookType.NATIVE_SELL: (Side.YES, Direction.SELL),
    BookType.SYNTHETIC_SELL: (Side.NO, Direction.BUY),
    BookType.SYNTHETIC_BUY: (Side.NO, Direction.SELL),
}


def display(cents: int) -> str:
    """``$1,234.56``; negative ``-$12.00`` (1.4)."""
    sign = "-" if cents < 0 else ""
    return f"{sign}${abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def display_pnl(cents: int) -> str:
    """Like :func:`display`, with an explicit plus for a gain."""
    return f"+{display(cents)}" if cents > 0 else display(cents)


class Empty(msgspec.Struct, frozen=True):
    """An answer without content."""


class UserView(msgspec.Struct, frozen=True, kw_only=True):
    user_id: str
    username: str
    email: str

    @classmethod
    def of(cls, user: User) -> "UserView":
        return cls(user_id=user.id, username=user.username, email=user.email)


class RegisteredView(msgspec.Struct, frozen=True, kw_only=True):
    user_id: str
    username: str
    email: str
    created_at: datetime

    @classmethod
    def of(cls, user: User) -> "RegisteredView":
        return cls(user_id=user.id, username=user.username, email=user.email, created_at=user.created_at)


class LoginView(msgspec.Struct, frozen=True, kw_only=True):
    access_token: str
    refresh_token: str
    token_type: str
    expires_in: int
    user: UserView


class RefreshView(msgspec.Struct, frozen=True, kw_only=True):
    access_token: str
    expires_in: int


class BalanceView(msgspec.Struct, frozen=True, kw_only=True):
    user_id: str
    available_balance_cents: int
    available_balance_display: str
    frozen_balance_cents: int
    frozen_balance_display: str
    total_balance_cents: int
    total_balance_display: str
    auto_netting_enabled: bool

    @classmethod
    def of(cls, account: Account) -> "BalanceView":
        total_cents = account.available_cents + account.frozen_cents
        return cls(
            user_id=account.user_id,
            available_balance_cents=account.available_cents,
            available_balance_display=display(account.available_cents),
            frozen_balance_cents=account.frozen_cents,
            frozen_balance_display=display(account.frozen_cents),
            total_balance_cents=total_cents,
            total_balance_display=display(total_cents),
            auto_netting_enabled=account.auto_netting_enabled,
        )


class DepositView(msgspec.Struct, frozen=True, kw_only=True):
    available_balance_cents: int
    available_balance_display: str
    deposited_cents: int
    deposited_display: str
    ledger_entry_id: int


class WithdrawView(msgspec.Struct, frozen=True, kw_only=True):
    available_balance_cents: int
    available_balance_display: str
    withdrawn_cents: int
    withdrawn_display: str
    ledger_entry_id: int


class LedgerView(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    entry_type: str
    amount_cents: int
    amount_display: str
    balance_after_cents: int
    balance_after_display: str
    reference_type: str
    reference_id: str
    description: str | None
    created_at: datetime

    @classmethod
    def of(cls, entry: LedgerEntry) -> "LedgerView":
        return cls(
            id=entry.id,
            entry_type=entry.entry_type,
            amount_cents=entry.amount_cents,
            amount_display=display(entry.amount_cents),
            balance_after_cents=entry.balance_after_cents,
            balance_after_display=display(entry.balance_after_cents),
            reference_type=entry.reference_type,
            reference_id=entry.reference_id,
            description=None,
            created_at=entry.created_at,
        )


class MarketView(msgspec.Struct, frozen=True, kw_only=True):
    """A market as the list shows it."""

    id: str
    title: str
    description: str | None
    category: str | None
    status: str
    min_price_cents: int
    max_price_cents: int
    maker_fee_bps: int
    taker_fee_bps: int
    reserve_balance_cents: int
    reserve_balance_display: str
    total_yes_shares: int
    total_no_shares: int
    trading_start_at: datetime | None
    resolution_date: datetime | None

    @classmethod
    def of(cls, market: Market) -> "MarketView":
        return cls(
            id=market.id,
            title=market.title,
            description=market.description,
            category=market.category,
            status=market.status,
            min_price_cents=market.min_price_cents,
            max_price_cents=market.max_price_cents,
            maker_fee_bps=market.maker_fee_bps,
            taker_fee_bps=market.taker_fee_bps,
            reserve_balance_cents=market.reserve_balance_cents,
            reserve_balance_display=display(market.reserve_balance_cents),
            total_yes_shares=market.total_yes_shares,
            total_no_shares=market.total_no_shares,
            trading_start_at=market.trading_start_at,
            resolution_date=market.resolution_date,
        )


class MarketDetailView(MarketView, frozen=True, kw_only=True):
    """A market with its limits and its whole life."""

    max_order_quantity: int
    max_position_per_user: int
    max_order_amount_cents: int
    max_order_amount_display: str
    pnl_pool_cents: int
    pnl_pool_display: str
    created_at: datetime
    trading_end_at: datetime | None
    resolved_at: datetime | None
    settled_at: datetime | None
    resolution_result: str | None

    @classmethod
    def of(cls, market: Market) -> "MarketDetailView":
        return cls(
            **msgspec.structs.asdict(MarketView.of(market)),
            max_order_quantity=market.max_order_quantity,
            max_position_per_user=market.max_position_per_user,
            max_order_amount_cents=market.max_order_amount_cents,
            max_order_amount_display=display(market.max_order_amount_cents),
            pnl_pool_cents=market.pnl_pool_cents,
            pnl_pool_display=display(market.pnl_pool_cents),
            created_at=market.created_at,
            trading_end_at=market.trading_end_at,
            resolved_at=market.resolved_at,
            settled_at=market.settled_at,
            resolution_result=market.resolution_result,
        )


class SideBookView(msgspec.Struct, frozen=True, kw_only=True):
    bids: list[Level]
    asks: list[Level]

    @classmethod
    def of(cls, book: Book, limit: int = PAIR_CENTS) -> "SideBookView":
        return cls(bids=book.levels(Direction.BUY, limit), asks=book.levels(Direction.SELL, limit))

    def mirrored(self) -> "SideBookView":
        """The NO view: each YES ask is a NO bid at 100 minus its price, and the reverse."""
        return SideBookView(
            bids=[Level(PAIR_CENTS - level.price_cents, level.total_quantity) for level in self.asks],
            asks=[Level(PAIR_CENTS - level.price_cents, level.total_quantity) for level in self.bids],
        )


class OrderbookView(msgspec.Struct, frozen=True, kw_only=True):
    market_id: str
    yes: SideBookView
    no: SideBookView
    last_trade_price_cents: int | None
    updated_at: datetime


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    client_order_id: str
    market_id: str
    original_side: str
    original_direction: str
    original_price_cents: int
    book_type: str
    book_direction: str
    book_price_cents: int
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
    def of(cls, order: Order) -> "OrderView":
        return cls(
            id=order.id,
            client_order_id=order.client_order_id,
            market_id=order.market_id,
            original_side=order.original_side,
            original_direction=order.original_direction,
            original_price_cents=order.original_price_cents,
            book_type=order.book_type,
            book_direction=order.book_direction,
            book_price_cents=order.book_price_cents,
            price_type="LIMIT",
            time_in_force=order.time_in_force,
            quantity=order.quantity,
            filled_quantity=order.filled_quantity,
            remaining_quantity=order.remaining_quantity,
            frozen_amount=order.frozen_amount,
            frozen_asset_type=order.frozen_asset_type,
            status=order.status,
            cancel_reason=order.cancel_reason,
            created_at=order.created_at,
            updated_at=order.updated_at,
        )


class NewOrderView(OrderView, frozen=True, kw_only=True):
    """The new order of a replace, which also carries its intent under the request's names."""

    side: str
    direction: str
    price_cents: int

    @classmethod
    def of(cls, order: Order) -> "NewOrderView":
        return cls(
            **msgspec.structs.asdict(OrderView.of(order)),
            side=order.original_side,
            direction=order.original_direction,
            price_cents=order.original_price_cents,
        )


class OrderTradeView(msgspec.Struct, frozen=True, kw_only=True):
    """A fill as one order sees it; the price is the YES book price."""

    trade_id: str
    scenario: str
    counterparty_side: str
    price_cents: int
    quantity: int
    role: str
    fee_cents: int
    realized_pnl_cents: int | None
    executed_at: datetime

    @classmethod
    def of(cls, trade: Trade, order_id: str) -> "OrderTradeView":
        bought = trade.buy_order_id == order_id
        made = trade.maker_order_id == order_id
        return cls(
            trade_id=trade.trade_id,
            scenario=trade.scenario,
            counterparty_side=Direction.SELL if bought else Direction.BUY,
            price_cents=trade.price_cents,
            quantity=trade.quantity,
            role=Role.MAKER if made else Role.TAKER,
            fee_cents=trade.maker_fee_cents if made else trade.taker_fee_cents,
            realized_pnl_cents=trade.buy_realized_pnl_cents if bought else trade.sell_realized_pnl_cents,
            executed_at=trade.executed_at,
        )


class NettingView(msgspec.Struct, frozen=True, kw_only=True):
    pairs_netted: int
    released_cents: int
    released_display: str

    @classmethod
    def of(cls, netting: NettingResult | None) -> "NettingView | None":
        if netting is None:
            return None
        return cls(
            pairs_netted=netting.pairs_netted,
            released_cents=netting.released_cents,
            released_display=display(netting.released_cents),
        )


class PlacedView(msgspec.Struct, frozen=True, kw_only=True):
    order: OrderView
    trades: list[OrderTradeView]
    netting_result: NettingView | None


class OrderDetailView(msgspec.Struct, frozen=True, kw_only=True):
    order: OrderView
    trades: list[OrderTradeView]


class CancelView(msgspec.Struct, frozen=True, kw_only=True):
    order_id: str
    status: str
    unfrozen_amount: int
    unfrozen_asset_type: str
    remaining_quantity_cancelled: int

    @classmethod
    def of(cls, cancelled: Cancelled) -> "CancelView":
        return cls(
            order_id=cancelled.order.id,
            status=cancelled.order.status,
            unfrozen_amount=cancelled.unfrozen_amount,
            unfrozen_asset_type=cancelled.unfrozen_asset_type,
            remaining_quantity_cancelled=cancelled.order.remaining_quantity,
        )


class ReplaceView(msgspec.Struct, frozen=True, kw_only=True):
    old_order_id: str
    old_order_status: str | None
    old_order_filled_quantity: int | None
    old_order_original_quantity: int | None
    new_order: NewOrderView
    trades: list[OrderTradeView]

    @classmethod
    def of(cls, replaced: Replaced) -> "ReplaceView":
        old, new = replaced.old, replaced.placed.order
        return cls(
            old_order_id=replaced.old_order_id,
            old_order_status=old.status if old else None,
            old_order_filled_quantity=old.filled_quantity if old else None,
            old_order_original_quantity=old.quantity if old else None,
            new_order=NewOrderView.of(new),
            trades=[OrderTradeView.of(trade, new.id) for trade in replaced.placed.trades],
        )


class BatchCancelView(msgspec.Struct, frozen=True, kw_only=True):
    market_id: str
    cancelled_count: int
    total_unfrozen_funds_cents: int
    total_unfrozen_funds_display: str
    total_unfrozen_yes_shares: int
    total_unfrozen_no_shares: int

    @classmethod
    def of(cls, result: BatchCancelled) -> "BatchCancelView":
        return cls(
            market_id=result.market_id,
            cancelled_count=result.cancelled_count,
            total_unfrozen_funds_cents=result.unfrozen_funds_cents,
            total_unfrozen_funds_display=display(result.unfrozen_funds_cents),
            total_unfrozen_yes_shares=result.unfrozen_yes_shares,
            total_unfrozen_no_shares=result.unfrozen_no_shares,
        )


class MintView(msgspec.Struct, frozen=True, kw_only=True):
    market_id: str
    minted_quantity: int
    cost_cents: int
    cost_display: str
    new_yes_inventory: int
    new_no_inventory: int
    remaining_balance_cents: int
    remaining_balance_display: str
    idempotent_hit: bool

    @classmethod
    def of(cls, supplied: Supplied) -> "MintView":
        key = supplied.key
        return cls(
            market_id=key.market_id,
            minted_quantity=key.quantity,
            cost_cents=key.value_cents,
            cost_display=display(key.value_cents),
            new_yes_inventory=key.new_yes_inventory,
            new_no_inventory=key.new_no_inventory,
            remaining_balance_cents=key.remaining_balance_cents,
            remaining_balance_display=display(key.remaining_balance_cents),
            idempotent_hit=supplied.replayed,
        )


class BurnView(msgspec.Struct, frozen=True, kw_only=True):
    market_id: str
    burned_quantity: int
    recovered_cents: int
    recovered_display: str
    new_yes_inventory: int
    new_no_inventory: int
    remaining_balance_cents: int
    remaining_balance_display: str
    idempotent_hit: bool

    @classmethod
    def of(cls, supplied: Supplied) -> "BurnView":
        key = supplied.key
        return cls(
            market_id=key.market_id,
            burned_quantity=key.quantity,
            recovered_cents=key.value_cents,
            recovered_display=display(key.value_cents),
            new_yes_inventory=key.new_yes_inventory,
            new_no_inventory=key.new_no_inventory,
            remaining_balance_cents=key.remaining_balance_cents,
            remaining_balance_display=display(key.remaining_balance_cents),
            idempotent_hit=supplied.replayed,
        )


class HoldingView(msgspec.Struct, frozen=True, kw_only=True):
    volume: int
    cost_sum_cents: int
    cost_sum_display: str
    avg_cost_display: str
    pending_sell: int
    available: int

    @classmethod
    def of(cls, holding: Holding) -> "HoldingView":
        average_cents = holding.cost_sum_cents // holding.volume if holding.volume else 0
        return cls(
            volume=holding.volume,
            cost_sum_cents=holding.cost_sum_cents,
            cost_sum_display=display(holding.cost_sum_cents),
            avg_cost_display=display(average_cents),
            pending_sell=holding.pending_sell,
            available=holding.free,
        )


class PositionView(msgspec.Struct, frozen=True, kw_only=True):
    market_id: str
    market_title: str
    yes: HoldingView
    no: HoldingView
    updated_at: datetime

    @classmethod
    def of(cls, position: Position, market: Market) -> "PositionView":
        return cls(
            market_id=market.id,
            market_title=market.title,
            yes=HoldingView.of(position.yes),
            no=HoldingView.of(position.no),
            updated_at=position.updated_at,
        )


class PositionsView(msgspec.Struct, frozen=True, kw_only=True):
    items: list[PositionView]


class TradeView(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a fill in the caller's history, with the as-built names beside the contract's (2.5)."""

    trade_id: str
    market_id: str
    scenario: str
    my_side: str
    my_original_side: str
    my_original_direction: str
    counterparty_original_side: str
    counterparty_original_direction: str
    price_cents: int
    quantity: int
    role: str
    fee_cents: int
    fee_display: str
    realized_pnl_cents: int | None
    realized_pnl_display: str | None
    executed_at: datetime
    price: int
    buy_user_id: str
    sell_user_id: str
    buy_order_id: str
    sell_order_id: str
    maker_fee: int
    taker_fee: int
    buy_realized_pnl: int | None
    sell_realized_pnl: int | None

    @classmethod
    def of(cls, trade: Trade, my_side: Direction) -> "TradeView":
        bought = my_side is Direction.BUY
        mine, theirs = trade.buy_book_type, trade.sell_book_type
        if not bought:
            mine, theirs = theirs, mine
        made = trade.maker_order_id == (trade.buy_order_id if bought else trade.sell_order_id)
        fee_cents = trade.maker_fee_cents if made else trade.taker_fee_cents
        pnl_cents = trade.buy_realized_pnl_cents if bought else trade.sell_realized_pnl_cents
        return cls(
            trade_id=trade.trade_id,
            market_id=trade.market_id,
            scenario=trade.scenario,
            my_side=my_side,
            my_original_side=_ORIGINAL[mine][0],
            my_original_direction=_ORIGINAL[mine][1],
            counterparty_original_side=_ORIGINAL[theirs][0],
            counterparty_original_direction=_ORIGINAL[theirs][1],
            price_cents=trade.price_cents,
            quantity=trade.quantity,
            role=Role.MAKER if made else Role.TAKER,
            fee_cents=fee_cents,
            fee_display=display(fee_cents),
            realized_pnl_cents=pnl_cents,
            realized_pnl_display=None if pnl_cents is None else display_pnl(pnl_cents),
            executed_at=trade.executed_at,
            price=trade.price_cents,
            buy_user_id=trade.buy_user_id,
            sell_user_id=trade.sell_user_id,
            buy_order_id=trade.buy_order_id,
            sell_order_id=trade.sell_order_id,
            maker_fee=trade.maker_fee_cents,
            taker_fee=trade.taker_fee_cents,
            buy_realized_pnl=trade.buy_realized_pnl_cents,
            sell_realized_pnl=trade.sell_realized_pnl_cents,
        )

    @classmethod
    def all_of(cls, trade: Trade, user_id: str) -> "list[TradeView]":
        """The caller's sides of a trade: one, or both of a self-trade."""
        sides = []
        if trade.buy_user_id == user_id:
            sides.append(cls.of(trade, Direction.BUY))
        if trade.sell_user_id == user_id:
            sides.append(cls.of(trade, Direction.SELL))
        return sides


class AmmStartView(msgspec.Struct, frozen=True, kw_only=True):
    market_id: str
    amm_user_id: str
    initial_budget_cents: int
    initial_budget_display: str
    initial_mint_quantity: int
    phase: str
    started_at: datetime

    @classmethod
    def of(cls, started: AmmStarted, amm_user_id: str) -> "AmmStartView":
        return cls(
            market_id=started.run.market_id,
            amm_user_id=amm_user_id,
            initial_budget_cents=started.initial_budget_cents,
            initial_budget_display=display(started.initial_budget_cents),
            initial_mint_quantity=started.initial_mint_quantity,
            phase="EXPLORATION",
            started_at=started.run.changed_at,
        )


class AmmStopView(msgspec.Struct, frozen=True, kw_only=True):
    market_id: str
    cancelled_orders_count: int
    remaining_yes_inventory: int
    remaining_no_inventory: int
    remaining_balance_cents: int
    remaining_balance_display: str
    stopped_at: datetime

    @classmethod
    def of(cls, stopped: AmmStopped) -> "AmmStopView":
        return cls(
            market_id=stopped.run.market_id,
            cancelled_orders_count=stopped.cancelled_orders_count,
            remaining_yes_inventory=stopped.remaining_yes_inventory,
            remaining_no_inventory=stopped.remaining_no_inventory,
            remaining_balance_cents=stopped.remaining_balance_cents,
            remaining_balance_display=display(stopped.remaining_balance_cents),
            stopped_at=stopped.run.changed_at,
        )


class SettlementView(msgspec.Struct, frozen=True, kw_only=True):
    status: str
    settled_at: datetime | None
    total_payout_cents: int
    total_payout_display: str
    winners_count: int
    cancelled_orders_count: int
    cancelled_orders_unfrozen_cents: int
    cancelled_orders_unfrozen_display: str


class ResolvedView(msgspec.Struct, frozen=True, kw_only=True):
    market_id: str
    resolution_result: str
    resolved_at: datetime
    settlement: SettlementView

    @classmethod
    def of(cls, resolved: Resolved) -> "ResolvedView":
        market = resolved.market
        assert market.resolution_result is not None
        assert market.resolved_at is not None
        return cls(
            market_id=market.id,
            resolution_result=market.resolution_result,
            resolved_at=market.resolved_at,
            settlement=SettlementView(
                status="PENDING" if market.settled_at is None else "COMPLETED",
                settled_at=market.settled_at,
                total_payout_cents=resolved.total_payout_cents,
                total_payout_display=display(resolved.total_payout_cents),
                winners_count=resolved.winners_count,
                cancelled_orders_count=resolved.cancelled_orders_count,
                cancelled_orders_unfrozen_cents=resolved.cancelled_orders_unfrozen_cents,
                cancelled_orders_unfrozen_display=display(resolved.cancelled_orders_unfrozen_cents),
            ),
        )


class StatsView(msgspec.Struct, frozen=True, kw_only=True):
    market_id: str
    reserve_balance_cents: int
    reserve_balance_display: str
    pnl_pool_cents: int
    pnl_pool_display: str
    total_yes_shares: int
    total_no_shares: int
    active_orders_count: int
    total_trades_count: int
    trades_by_scenario: dict[str, int]
    total_fees_collected_cents: int
    total_fees_collected_display: str
    unique_traders: int


class CheckView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str
    passed: bool
    details: dict[str, object]


class InvariantsView(msgspec.Struct, frozen=True, kw_only=True):
    verified_at: datetime
    all_passed: bool
    checks: list[CheckView]


class PageView(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """Any paged list (1.5)."""

    items: list[Item]
    next_cursor: str | None
    has_more: bool
