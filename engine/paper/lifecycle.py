"""Markets: creation, status, resolution and settlement (contract sections 2.7 and 5.9)."""

from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from engine.paper.arithmetic import void_shares_cents
from engine.paper.clearing import net_free_pairs
from engine.paper.commands import CreateMarket, HaltMarket, ResolveMarket, SetMarketStatus, SettleMarket
from engine.paper.draft import Draft, Reference
from engine.paper.effects import Decision, MarketChanged, Resolved
from engine.paper.matching import cancel_in
from engine.paper.model import (
    PAIR_CENTS,
    SYSTEM_RESERVE,
    AssetType,
    CancelReason,
    CircuitBreak,
    EntryType,
    Holding,
    Market,
    MarketStatus,
    ReferenceType,
    Resolution,
    Side,
)
from engine.paper.refusal import Code, Refusal
from engine.paper.state import State

OPERATOR_TRANSITIONS: Final = {
    MarketStatus.DRAFT: {MarketStatus.ACTIVE},
    MarketStatus.ACTIVE: {MarketStatus.SUSPENDED, MarketStatus.HALTED},
    MarketStatus.SUSPENDED: {MarketStatus.ACTIVE},
    MarketStatus.HALTED: {MarketStatus.ACTIVE},
}
"""Status changes an operator may make by hand; resolving has its own route."""

RESOLVABLE: Final = {MarketStatus.ACTIVE, MarketStatus.SUSPENDED, MarketStatus.HALTED}


def create(state: State, command: CreateMarket, at: datetime) -> Decision:
    """Create a market with an empty book."""
    if command.id in state.markets:
        raise Refusal(Code.CONFLICT, f"market {command.id} exists")
    draft = Draft(state, at)
    market = Market(
        id=command.id,
        title=command.title,
        description=command.description,
        category=command.category,
        status=command.status,
        min_price_cents=command.min_price_cents,
        max_price_cents=command.max_price_cents,
        max_order_quantity=command.max_order_quantity,
        max_position_per_user=command.max_position_per_user,
        max_order_amount_cents=command.max_order_amount_cents,
        maker_fee_bps=command.maker_fee_bps,
        taker_fee_bps=command.taker_fee_bps,
        amm_approved=command.amm_approved,
        trading_start_at=command.trading_start_at,
        trading_end_at=command.trading_end_at,
        resolution_date=command.resolution_date,
        created_at=command.created_at or at,
        updated_at=at,
    )
    draft.write_market(market)
    return Decision(draft.effects(), MarketChanged(market=market))


def set_status(state: State, command: SetMarketStatus, at: datetime) -> Decision:
    """Move a market to another status by hand; the status it already has changes nothing."""
    market = _known_market(state, command.market_id)
    if command.status is market.status:
        return Decision(None, MarketChanged(market=market))
    if command.status not in OPERATOR_TRANSITIONS.get(market.status, set()):
        raise Refusal(
            Code.MARKET_STATE_FORBIDS,
            f"market {market.id} is {market.status}, it cannot become {command.status}",
        )
    draft = Draft(state, at, market)
    changed = replace(market, status=command.status, updated_at=at)
    draft.write_market(changed)
    return Decision(draft.effects(), MarketChanged(market=changed))


def halt(state: State, command: HaltMarket, at: datetime) -> Decision:
    """Break the circuit: stop a market that can still trade and keep the reason (5.10)."""
    market = _known_market(state, command.market_id)
    draft = Draft(state, at, market)
    draft.circuit_break = CircuitBreak(market_id=market.id, trigger_reason=command.reason, triggered_at=at)
    changed = market
    if market.status in RESOLVABLE or market.status is MarketStatus.DRAFT:
        changed = replace(market, status=MarketStatus.HALTED, updated_at=at)
        draft.write_market(changed)
    return Decision(draft.effects(), MarketChanged(market=changed))


def resolve(state: State, command: ResolveMarket, at: datetime) -> Decision:
    """Fix the outcome and cancel all live orders; pay out in the same transaction unless told to wait."""
    market = _known_market(state, command.market_id)
    halted = market.status is MarketStatus.HALTED
    if market.status not in RESOLVABLE or (halted and not command.halted_too):
        raise Refusal(Code.MARKET_STATE_FORBIDS, f"market {market.id} is {market.status}")
    draft = Draft(state, at, market)
    live_ids = state.books[market.id].order_ids()
    unfrozen_cents = 0
    for order_id in sorted(live_ids):
        cancelled = cancel_in(draft, draft.order(order_id), CancelReason.MARKET_RESOLVED)
        if cancelled.unfrozen_asset_type is AssetType.FUNDS:
            unfrozen_cents += cancelled.unfrozen_amount
    draft.write_market(
        replace(
            market,
            status=MarketStatus.RESOLVED,
            resolution_result=command.resolution,
            resolved_at=at,
            settle_due_at=at + timedelta(milliseconds=command.settle_delay_ms),
            updated_at=at,
        )
    )
    payouts = {} if command.settle_delay_ms else _pay_out(draft, state)
    resolved = Resolved(
        market=draft.market,
        total_payout_cents=sum(payouts.values()),
        winners_count=len(payouts),
        cancelled_orders_count=len(live_ids),
        cancelled_orders_unfrozen_cents=unfrozen_cents,
    )
    return Decision(draft.effects(), resolved)


def settle(state: State, command: SettleMarket, at: datetime) -> Decision:
    """Pay out a market that was resolved with a delay."""
    market = _known_market(state, command.market_id)
    if market.status is not MarketStatus.RESOLVED:
        raise Refusal(Code.MARKET_STATE_FORBIDS, f"market {market.id} is {market.status}")
    draft = Draft(state, at, market)
    payouts = _pay_out(draft, state)
    resolved = Resolved(
        market=draft.market,
        total_payout_cents=sum(payouts.values()),
        winners_count=len(payouts),
        cancelled_orders_count=0,
        cancelled_orders_unfrozen_cents=0,
    )
    return Decision(draft.effects(), resolved)


def _pay_out(draft: Draft, state: State) -> dict[str, int]:
    """Turn every position into cash and close the market; answers user id -> cents, payouts above 0 only."""
    market = draft.market
    resolution = market.resolution_result
    assert resolution is not None
    reference = Reference(ReferenceType.MARKET, market.id, market.id)
    user_ids = sorted(state.positions[market.id])
    if resolution is Resolution.VOID:
        for user_id in user_ids:
            net_free_pairs(draft, user_id, reference, ignore_flag=True)
        costs = {
            user_id: sum(draft.holding(user_id, side).cost_sum_cents for side in Side) for user_id in user_ids
        }
        owed = void_shares_cents(draft.pool.reserve_cents, costs)
        entry_type = EntryType.SETTLEMENT_VOID
    else:
        winner = Side.YES if resolution is Resolution.YES else Side.NO
        owed = {user_id: PAIR_CENTS * draft.holding(user_id, winner).volume for user_id in user_ids}
        entry_type = EntryType.SETTLEMENT_PAYOUT
    payouts = {user_id: cents for user_id, cents in owed.items() if cents}
    for user_id, cents in payouts.items():
        draft.post(user_id, entry_type, cents, reference)
    reserve_cents = draft.pool.reserve_cents
    if reserve_cents:
        draft.post(SYSTEM_RESERVE, EntryType.BURN_RESERVE_OUT, -reserve_cents, reference)
    for user_id in user_ids:
        for side in Side:
            draft.set_holding(user_id, side, Holding())
    draft.close_pool(
        replace(
            market,
            status=MarketStatus.VOIDED if resolution is Resolution.VOID else MarketStatus.SETTLED,
            settle_due_at=None,
            settled_at=draft.at,
            updated_at=draft.at,
        )
    )
    return payouts


def _known_market(state: State, market_id: str) -> Market:
    market = state.markets.get(market_id)
    if market is None:
        raise Refusal(Code.MARKET_UNKNOWN, f"market {market_id} is unknown")
    return market
