"""Who pays whom: fills, netting, mint and burn (contract sections 5.3 to 5.8 and 2.6).

All functions work on a :class:`~engine.paper.draft.Draft` and know nothing of queues or requests.
"""

from msgspec.structs import replace

from engine.paper.arithmetic import SCENARIO, charged_bps, fee_cents, released_cost_cents, target_freeze_cents
from engine.paper.draft import Draft, Reference
from engine.paper.effects import OrderEventKind
from engine.paper.model import (
    MINT_PRICE_CENTS,
    PAIR_CENTS,
    PLATFORM_FEE,
    SYSTEM_USER_ID,
    BookType,
    Direction,
    EntryType,
    Holding,
    Order,
    OrderStatus,
    ReferenceType,
    Scenario,
    Side,
    SupplyKey,
    Trade,
)

_PAYMENT = {
    Scenario.MINT: EntryType.MINT_COST,
    Scenario.TRANSFER_YES: EntryType.TRANSFER_PAYMENT,
    Scenario.TRANSFER_NO: EntryType.TRANSFER_PAYMENT,
}
_RECEIPT = {
    Scenario.BURN: EntryType.BURN_REVENUE,
    Scenario.TRANSFER_YES: EntryType.TRANSFER_RECEIPT,
    Scenario.TRANSFER_NO: EntryType.TRANSFER_RECEIPT,
}


def release_shares(draft: Draft, user_id: str, side: Side, quantity: int, *, promised: bool) -> int:
    """Take shares out of a holding and answer the cost that left with them, in cents (5.5).

    ``promised`` shares were held by a sell order and leave its pending count too; others were free.
    """
    holding = draft.holding(user_id, side)
    cost_cents = released_cost_cents(holding.volume, holding.cost_sum_cents, quantity)
    pending = holding.pending_sell - quantity if promised else holding.pending_sell
    draft.set_holding(
        user_id, side, Holding(holding.volume - quantity, holding.cost_sum_cents - cost_cents, pending)
    )
    return cost_cents


def _add_shares(draft: Draft, user_id: str, side: Side, quantity: int, cost_cents: int) -> None:
    holding = draft.holding(user_id, side)
    draft.set_holding(
        user_id,
        side,
        Holding(holding.volume + quantity, holding.cost_sum_cents + cost_cents, holding.pending_sell),
    )


def _after_fill(order: Order, quantity: int, draft: Draft) -> Order:
    remaining = order.remaining_quantity - quantity
    if order.original_direction is Direction.BUY:
        frozen = target_freeze_cents(order.original_price_cents, remaining, draft.market.taker_fee_bps)
    else:
        frozen = remaining
    return replace(
        order,
        filled_quantity=order.filled_quantity + quantity,
        remaining_quantity=remaining,
        frozen_amount=frozen,
        status=OrderStatus.PARTIALLY_FILLED if remaining else OrderStatus.FILLED,
        updated_at=draft.at,
    )


def _pay_fee(draft: Draft, user_id: str, wanted_cents: int, reference: Reference) -> int:
    """Charge a fee, cut to what the payer has (D20); answers what was charged."""
    charged_cents = min(wanted_cents, draft.purse(user_id).available_cents)
    if charged_cents:
        draft.post(user_id, EntryType.FEE, -charged_cents, reference)
    return charged_cents


def fill(draft: Draft, taker: Order, maker: Order, quantity: int) -> Order:
    """Book one meeting of two orders at the maker's price; answers the taker's new version (5.3).

    Writes both orders, both legs, the fees, the reserve and the trade. Closing legs come before opening
    legs, so that an exempt user on both sides sells old shares at their old cost.
    """
    market = draft.market
    price_cents = maker.book_price_cents
    buy, sell = (taker, maker) if taker.book_direction is Direction.BUY else (maker, taker)
    scenario = SCENARIO[buy.book_type, sell.book_type]
    trade_id = draft.new_id()
    reference = Reference(ReferenceType.TRADE, trade_id, market.id)
    after = {order.id: _after_fill(order, quantity, draft) for order in (taker, maker)}
    fees: dict[str, int] = {}
    pnls: dict[str, int | None] = {buy.id: None, sell.id: None}
    for closing in (True, False):
        for order in (buy, sell):
            if (order.original_direction is Direction.SELL) is not closing:
                continue
            user_price_cents = price_cents if order.original_side is Side.YES else PAIR_CENTS - price_cents
            value_cents = user_price_cents * quantity
            bps = charged_bps(
                draft.fee_rule,
                market.taker_fee_bps if order is taker else market.maker_fee_bps,
                takes=order is taker,
                taker_type=taker.book_type,
            )
            fee = fee_cents(value_cents, bps)
            if closing:
                cost_cents = release_shares(
                    draft, order.user_id, order.original_side, quantity, promised=True
                )
                draft.post(order.user_id, _RECEIPT[scenario], value_cents, reference)
                pnls[order.id] = value_cents - cost_cents
                draft.pool.pnl_cents += value_cents - cost_cents
            else:
                freed_cents = order.frozen_amount - after[order.id].frozen_amount
                draft.unfreeze(order.user_id, freed_cents, reference)
                draft.post(order.user_id, _PAYMENT[scenario], -value_cents, reference)
                _add_shares(draft, order.user_id, order.original_side, quantity, value_cents)
            fees[order.id] = _pay_fee(draft, order.user_id, fee, reference)
    if scenario is Scenario.MINT:
        draft.move_reserve(quantity, EntryType.MINT_RESERVE_IN, reference)
    elif scenario is Scenario.BURN:
        draft.move_reserve(-quantity, EntryType.BURN_RESERVE_OUT, reference)
    total_fee_cents = fees[buy.id] + fees[sell.id]
    if total_fee_cents:
        draft.post(PLATFORM_FEE, EntryType.FEE_REVENUE, total_fee_cents, reference)
    draft.trades.append(
        Trade(
            trade_id=trade_id,
            market_id=market.id,
            scenario=scenario,
            buy_order_id=buy.id,
            sell_order_id=sell.id,
            buy_user_id=buy.user_id,
            sell_user_id=sell.user_id,
            buy_book_type=buy.book_type,
            sell_book_type=sell.book_type,
            price_cents=price_cents,
            quantity=quantity,
            maker_order_id=maker.id,
            taker_order_id=taker.id,
            maker_fee_cents=fees[maker.id],
            taker_fee_cents=fees[taker.id],
            buy_realized_pnl_cents=pnls[buy.id],
            sell_realized_pnl_cents=pnls[sell.id],
            executed_at=draft.at,
        )
    )
    for order in (maker, taker):
        draft.write_order(OrderEventKind.FILLED, after[order.id], trade_id=trade_id, quantity=quantity)
    return after[taker.id]


def net_free_pairs(draft: Draft, user_id: str, reference: Reference, *, ignore_flag: bool = False) -> int:
    """Turn a user's free YES and NO pairs back into cash; answers how many (5.8)."""
    account = draft.state.accounts.get(user_id)
    if not ignore_flag and account is not None and not account.auto_netting_enabled:
        return 0
    pairs = min(draft.holding(user_id, Side.YES).free, draft.holding(user_id, Side.NO).free)
    if pairs <= 0:
        return 0
    dissolve_pairs(
        draft, user_id, pairs, reference, into=EntryType.NETTING, out_of=EntryType.NETTING_RESERVE_OUT
    )
    return pairs


def dissolve_pairs(
    draft: Draft, user_id: str, pairs: int, reference: Reference, *, into: EntryType, out_of: EntryType
) -> None:
    """Destroy free pairs of one user for 100 cents each; the gain on their cost goes to pnl_pool (D28)."""
    cost_cents = sum(release_shares(draft, user_id, side, pairs, promised=False) for side in Side)
    draft.pool.pnl_cents += PAIR_CENTS * pairs - cost_cents
    draft.post(user_id, into, PAIR_CENTS * pairs, reference)
    draft.move_reserve(-pairs, out_of, reference)


def mint_pairs(draft: Draft, user_id: str, pairs: int, key: str) -> SupplyKey:
    """Create pairs for cash the user is known to have, with ledger, audit trade and key (2.6)."""
    reference = Reference(ReferenceType.AMM_MINT, key, draft.market.id)
    draft.post(user_id, EntryType.MINT_COST, -PAIR_CENTS * pairs, reference)
    draft.move_reserve(pairs, EntryType.MINT_RESERVE_IN, reference)
    for side in Side:
        _add_shares(draft, user_id, side, pairs, MINT_PRICE_CENTS * pairs)
    _write_audit_trade(draft, Scenario.MINT, pairs, buyer=user_id, seller=SYSTEM_USER_ID)
    return _write_supply_key(draft, ReferenceType.AMM_MINT, user_id, pairs, key)


def burn_pairs(draft: Draft, user_id: str, pairs: int, key: str) -> SupplyKey:
    """Destroy free pairs the user is known to have, with ledger, audit trade and key (2.6)."""
    reference = Reference(ReferenceType.AMM_BURN, key, draft.market.id)
    dissolve_pairs(
        draft, user_id, pairs, reference, into=EntryType.BURN_REVENUE, out_of=EntryType.BURN_RESERVE_OUT
    )
    _write_audit_trade(draft, Scenario.BURN, pairs, buyer=SYSTEM_USER_ID, seller=user_id)
    return _write_supply_key(draft, ReferenceType.AMM_BURN, user_id, pairs, key)


def _write_audit_trade(draft: Draft, scenario: Scenario, quantity: int, *, buyer: str, seller: str) -> None:
    trade_id = draft.new_id()
    minted = scenario is Scenario.MINT
    draft.trades.append(
        Trade(
            trade_id=trade_id,
            market_id=draft.market.id,
            scenario=scenario,
            buy_order_id=trade_id,
            sell_order_id=trade_id,
            buy_user_id=buyer,
            sell_user_id=seller,
            buy_book_type=BookType.NATIVE_BUY if minted else BookType.SYNTHETIC_BUY,
            sell_book_type=BookType.SYNTHETIC_SELL if minted else BookType.NATIVE_SELL,
            price_cents=MINT_PRICE_CENTS,
            quantity=quantity,
            maker_order_id=trade_id,
            taker_order_id=trade_id,
            maker_fee_cents=0,
            taker_fee_cents=0,
            buy_realized_pnl_cents=None,
            sell_realized_pnl_cents=None,
            executed_at=draft.at,
        )
    )


def _write_supply_key(draft: Draft, kind: ReferenceType, user_id: str, quantity: int, key: str) -> SupplyKey:
    draft.supply_key = SupplyKey(
        kind=kind,
        key=key,
        market_id=draft.market.id,
        quantity=quantity,
        value_cents=PAIR_CENTS * quantity,
        new_yes_inventory=draft.holding(user_id, Side.YES).volume,
        new_no_inventory=draft.holding(user_id, Side.NO).volume,
        remaining_balance_cents=draft.purse(user_id).available_cents,
    )
    return draft.supply_key
