"""Orders: checks, price-time matching, resting, cancelling, replacing (contract sections 2.4, 2.6, 5)."""

from datetime import datetime

from msgspec.structs import replace

from engine.paper.arithmetic import (
    BOOK_DIRECTION,
    BOOK_TYPE,
    SHARES_OF,
    book_price_cents,
    target_freeze_cents,
)
from engine.paper.clearing import fill, net_free_pairs
from engine.paper.commands import BatchCancel, CancelOrder, OrderTerms, PlaceOrder, ReplaceOrder
from engine.paper.draft import Draft, Reference
from engine.paper.effects import (
    BatchCancelled,
    Cancelled,
    Decision,
    NettingResult,
    OrderEventKind,
    Placed,
    Replaced,
)
from engine.paper.model import (
    AMM_USER_ID,
    PAIR_CENTS,
    AssetType,
    CancelReason,
    CancelScope,
    Direction,
    Market,
    MarketStatus,
    Order,
    OrderStatus,
    ReferenceType,
    Side,
    TimeInForce,
)
from engine.paper.refusal import Code, Refusal, RefusalData
from engine.paper.state import State


def place(state: State, command: PlaceOrder, at: datetime) -> Decision:
    """Place an order: idempotency, static checks, freeze, match, net, rest or cancel (2.4)."""
    replay = _replayed(state, command.user_id, command.terms)
    if replay is not None:
        return Decision(None, replay)
    market = _checked_market(state, command.user_id, command.terms)
    draft = Draft(state, at, market, command.fee_rule)
    placed = _place(draft, command.user_id, command.terms)
    return Decision(draft.effects(), placed)


def cancel(state: State, command: CancelOrder, at: datetime) -> Decision:
    """Cancel one live order in any market state (D11)."""
    order = state.orders.get(command.order_id)
    if order is None:
        raise Refusal(Code.ORDER_UNKNOWN, f"order {command.order_id} is unknown")
    if order.user_id != command.user_id:
        raise Refusal(Code.FORBIDDEN, f"order {command.order_id} belongs to another user")
    if not order.is_live:
        raise Refusal(Code.NOT_CANCELLABLE, f"order {command.order_id} is {order.status}")
    draft = Draft(state, at, state.markets[order.market_id])
    cancelled = cancel_in(draft, order, CancelReason.USER_CANCELLED)
    _net_after_cancel(draft, order)
    return Decision(draft.effects(), cancelled)


def replace_order(state: State, command: ReplaceOrder, at: datetime) -> Decision:
    """Swap an unfilled order for a new one; all outcomes of section 2.6."""
    replay = _replayed(state, command.user_id, command.terms)
    old = state.orders.get(command.old_order_id)
    if replay is not None:
        return Decision(None, Replaced(old_order_id=command.old_order_id, old=old, placed=replay))
    if old is None:
        raise Refusal(
            Code.REPLACE_UNKNOWN,
            f"old order {command.old_order_id} is unknown",
            RefusalData(old_order_id=command.old_order_id),
        )
    _check_replaceable(old, command)
    market = _checked_market(state, command.user_id, command.terms)
    if old.filled_quantity and not command.cancels_partly_filled:
        raise Refusal(Code.REPLACE_PARTLY_FILLED, f"old order {old.id} is partly filled; nothing was done")
    draft = Draft(state, at, market, command.fee_rule)
    cancelled = cancel_in(draft, old, CancelReason.REPLACED)
    if old.filled_quantity:
        _net_after_cancel(draft, old)
        refusal = Refusal(
            Code.REPLACE_PARTLY_FILLED,
            f"old order {old.id} was partly filled; its remainder was cancelled and no new order placed",
            RefusalData(
                old_order_id=old.id,
                old_order_status=OrderStatus.CANCELLED,
                filled_quantity=old.filled_quantity,
                remaining_quantity_cancelled=old.remaining_quantity,
                unfrozen_amount=cancelled.unfrozen_amount,
                unfrozen_asset_type=cancelled.unfrozen_asset_type,
            ),
        )
        return Decision(draft.effects(), refusal)
    placed = _place(draft, command.user_id, command.terms)
    return Decision(draft.effects(), Replaced(old_order_id=old.id, old=cancelled.order, placed=placed))


def batch_cancel(state: State, command: BatchCancel, at: datetime) -> Decision:
    """Cancel the caller's live orders of one market (2.6)."""
    market = state.markets.get(command.market_id)
    if market is None:
        raise Refusal(Code.MARKET_UNKNOWN, f"market {command.market_id} is unknown")
    draft = Draft(state, at, market)
    result = cancel_all_of(draft, command.user_id, command.scope, CancelReason.BATCH_CANCELLED)
    return Decision(draft.effects() if result.cancelled_count else None, result)


def cancel_all_of(draft: Draft, user_id: str, scope: CancelScope, reason: CancelReason) -> BatchCancelled:
    """Cancel a user's live orders of the draft's market within ``scope``, oldest first."""
    unfrozen = dict.fromkeys(AssetType, 0)
    count = 0
    wanted = {CancelScope.BUY_ONLY: Direction.BUY, CancelScope.SELL_ONLY: Direction.SELL}.get(scope)
    for order_id in tuple(draft.state.live_order_ids_by_user.get(user_id, ())):
        order = draft.order(order_id)
        if order.market_id != draft.market.id:
            continue
        if wanted is not None and order.original_direction is not wanted:
            continue
        cancelled = cancel_in(draft, order, reason)
        unfrozen[cancelled.unfrozen_asset_type] += cancelled.unfrozen_amount
        count += 1
        _net_after_cancel(draft, order)
    return BatchCancelled(
        market_id=draft.market.id,
        cancelled_count=count,
        unfrozen_funds_cents=unfrozen[AssetType.FUNDS],
        unfrozen_yes_shares=unfrozen[AssetType.YES_SHARES],
        unfrozen_no_shares=unfrozen[AssetType.NO_SHARES],
    )


def cancel_in(draft: Draft, order: Order, reason: CancelReason) -> Cancelled:
    """Take one live order off the book and give back exactly what it holds; nets nothing."""
    draft.release(order, Reference(ReferenceType.ORDER, order.id, order.market_id))
    cancelled = replace(
        order, frozen_amount=0, status=OrderStatus.CANCELLED, cancel_reason=reason, updated_at=draft.at
    )
    draft.write_order(OrderEventKind.CANCELLED, cancelled)
    return Cancelled(
        order=cancelled, unfrozen_amount=order.frozen_amount, unfrozen_asset_type=order.frozen_asset_type
    )


def _net_after_cancel(draft: Draft, order: Order) -> None:
    if order.original_direction is Direction.SELL:
        net_free_pairs(draft, order.user_id, Reference(ReferenceType.ORDER, order.id, order.market_id))


def _replayed(state: State, user_id: str, terms: OrderTerms) -> Placed | None:
    """The stored order of a key used before with the same content; 4005 for other content (1.8)."""
    order_id = state.order_ids_by_key.get((user_id, terms.client_order_id))
    if order_id is None:
        return None
    order = state.orders[order_id]
    stored = OrderTerms(
        client_order_id=order.client_order_id,
        market_id=order.market_id,
        side=order.original_side,
        direction=order.original_direction,
        price_cents=order.original_price_cents,
        quantity=order.quantity,
        time_in_force=order.time_in_force,
    )
    if stored != terms:
        raise Refusal(
            Code.CLIENT_ORDER_ID_REUSED,
            f"client_order_id {terms.client_order_id} was used for another order",
        )
    return Placed(order=order, trades=state.order_trades(order_id), netting=None, replayed=True)


def _checked_market(state: State, user_id: str, terms: OrderTerms) -> Market:
    """The order's market, once the static checks of section 2.4 pass, in their order."""
    market = state.markets.get(terms.market_id)
    if market is None:
        raise Refusal(Code.MARKET_UNKNOWN, f"market {terms.market_id} is unknown")
    if market.status is not MarketStatus.ACTIVE:
        raise Refusal(Code.MARKET_NOT_ACTIVE, f"market {market.id} is {market.status}")
    if not market.min_price_cents <= terms.price_cents <= market.max_price_cents:
        raise Refusal(
            Code.PRICE_OUT_OF_RANGE,
            f"price_cents {terms.price_cents}, allowed {market.min_price_cents}..{market.max_price_cents}",
        )
    if not 1 <= terms.quantity <= market.max_order_quantity:
        raise Refusal(
            Code.LIMIT_EXCEEDED, f"quantity {terms.quantity}, allowed 1..{market.max_order_quantity}"
        )
    amount_cents = terms.price_cents * terms.quantity
    if amount_cents > market.max_order_amount_cents:
        raise Refusal(
            Code.LIMIT_EXCEEDED,
            f"order amount {amount_cents} cents, allowed {market.max_order_amount_cents}",
        )
    if terms.direction is Direction.BUY and user_id != AMM_USER_ID:
        position = state.positions[market.id].get(user_id)
        held = 0
        if position is not None:
            held = position.yes.volume if terms.side is Side.YES else position.no.volume
        if held + terms.quantity > market.max_position_per_user:
            raise Refusal(
                Code.LIMIT_EXCEEDED,
                f"position {held} + {terms.quantity} {terms.side} shares, "
                f"allowed {market.max_position_per_user}",
            )
    return market


def _check_replaceable(old: Order, command: ReplaceOrder) -> None:
    if old.user_id != command.user_id:
        raise Refusal(
            Code.REPLACE_NOT_OWNER,
            f"old order {old.id} belongs to another user",
            RefusalData(old_order_id=old.id, owner_user_id=old.user_id),
        )
    if old.status is OrderStatus.FILLED:
        raise Refusal(
            Code.REPLACE_FILLED,
            f"old order {old.id} is filled",
            RefusalData(old_order_id=old.id, total_filled_quantity=old.filled_quantity),
        )
    if old.status is OrderStatus.CANCELLED:
        raise Refusal(
            Code.NOT_CANCELLABLE,
            f"old order {old.id} is already cancelled",
            RefusalData(old_order_id=old.id, status=old.status, filled_quantity=old.filled_quantity),
        )
    if old.market_id != command.terms.market_id:
        raise Refusal(
            Code.REPLACE_OTHER_MARKET,
            f"old order {old.id} is in market {old.market_id}, the new one in {command.terms.market_id}",
            RefusalData(old_market_id=old.market_id, new_market_id=command.terms.market_id),
        )


def _new_order(draft: Draft, user_id: str, terms: OrderTerms) -> Order:
    book_type = BOOK_TYPE[terms.side, terms.direction]
    if terms.direction is Direction.BUY:
        asset_type = AssetType.FUNDS
        frozen = target_freeze_cents(terms.price_cents, terms.quantity, draft.market.taker_fee_bps)
    else:
        asset_type = SHARES_OF[terms.side]
        frozen = terms.quantity
    return Order(
        id=draft.new_id(),
        client_order_id=terms.client_order_id,
        market_id=terms.market_id,
        user_id=user_id,
        original_side=terms.side,
        original_direction=terms.direction,
        original_price_cents=terms.price_cents,
        book_type=book_type,
        book_direction=BOOK_DIRECTION[book_type],
        book_price_cents=book_price_cents(terms.side, terms.price_cents),
        time_in_force=terms.time_in_force,
        quantity=terms.quantity,
        filled_quantity=0,
        remaining_quantity=terms.quantity,
        frozen_amount=frozen,
        frozen_asset_type=asset_type,
        status=OrderStatus.OPEN,
        cancel_reason=None,
        created_at=draft.at,
        updated_at=draft.at,
    )


def _place(draft: Draft, user_id: str, terms: OrderTerms) -> Placed:
    """Freeze, match, net, and rest or cancel the remainder. An order the draft cancelled is off the book."""
    order = _new_order(draft, user_id, terms)
    reference = Reference(ReferenceType.ORDER, order.id, order.market_id)
    draft.hold(order, reference)
    draft.write_order(OrderEventKind.ACCEPTED, order)
    order, skipped_own = _match(draft, order)
    if order.remaining_quantity and terms.time_in_force is TimeInForce.IOC:
        if skipped_own and not order.filled_quantity:
            raise Refusal(Code.SELF_TRADE, "only orders of the same user stand at these prices")
        order = cancel_in(draft, order, CancelReason.IOC_UNFILLED).order
    elif order.remaining_quantity:
        draft.write_order(OrderEventKind.RESTED, order)
    netted = _net_everyone(draft, order, reference)
    return Placed(order=order, trades=tuple(draft.trades), netting=netted, replayed=False)


def _match(draft: Draft, taker: Order) -> tuple[Order, bool]:
    """Trade against the book until filled or out of price; also whether an own order was skipped (5.7)."""
    skipped_own = False
    book = draft.state.books[taker.market_id]
    for maker_id in book.crossing(taker.book_direction, taker.book_price_cents):
        maker = draft.order(maker_id)
        if not maker.is_live:  # the order this one replaces
            continue
        if maker.user_id == taker.user_id and taker.user_id != AMM_USER_ID:
            skipped_own = True
            continue
        taker = fill(draft, taker, maker, min(taker.remaining_quantity, maker.remaining_quantity))
        if not taker.remaining_quantity:
            break
    return taker, skipped_own


def _net_everyone(draft: Draft, order: Order, reference: Reference) -> NettingResult | None:
    """Net every user the fills touched, and the caller if an IOC sale gave shares back (5.8)."""
    users = dict.fromkeys([order.user_id])
    for trade in draft.trades:
        users[trade.buy_user_id] = None
        users[trade.sell_user_id] = None
    pairs = {user_id: net_free_pairs(draft, user_id, reference) for user_id in users}
    own = pairs[order.user_id]
    return NettingResult(own, PAIR_CENTS * own) if own else None
