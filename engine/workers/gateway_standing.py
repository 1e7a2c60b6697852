"""The gateway's own counts at the moment before an order leaves: what the last checks look at.

Reads: kill word, worker epoch.  Writes: nothing.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from engine._native import lib
from engine.events import Direction, Side
from engine.quoting.effects import PAIR_CENTS
from engine.risk.exposure import order_loss_cents, stock_loss_cents
from engine.risk.pretrade import Standing
from engine.risk.staleness import Stale
from engine.workers.gateway_live import LiveOrder
from engine.workers.gateway_market import GatewayMarket

_UNKNOWN: Final = int(lib.LIVE_UNKNOWN)


class Account(Struct, frozen=True, kw_only=True, gc=False):
    """What all markets together come to, and what the gateway as a whole may do."""

    admitting: bool
    stale: Stale  # of the order's market
    clock_offset_ms: int
    collar_cents: int
    orders: int  # all markets, without the order in question
    other_frozen_cents: int  # of all markets but the order's
    other_loss_cents: int
    loss_limit_cents: int
    account_cents: int
    tokens: int
    reserved_tokens: int


def standing_of(
    market: GatewayMarket, order: LiveOrder, top: Any, account: Account, now_mono_ns: int
) -> Standing:
    """Counts for the last-hop checks of ``order``, which is in its row but not yet sent. ``top`` is the
    market's top row as just read.

    Every other order counts that was first or has been sent. Of a replace under way the old and the new
    order hold the same shares and cash in turn, so the larger counts; once its outcome is unknown both count.
    """
    assert market.rules is not None
    own_bid, own_ask, side_orders, market_orders, alike_unacked = 0, PAIR_CENTS, 0, 0, 0
    sell_committed, buy_committed, buy_committed_cents = 0, 0, 0
    side_shares, side_loss_cents = 0, 0
    replaced, side, outcome, number = order.replaces, order.side, order.outcome, order.number
    for other in market.orders:
        if other is order or other is replaced or (other.number > number and not other.sent):
            continue
        price_cents = other.book_price_cents
        if other.side is Side.BID:
            own_bid = max(own_bid, price_cents)
        else:
            own_ask = min(own_ask, price_cents)
        # a replace counts once: as its old order while that one is there
        old = None if other.replaces is None or other.replaces.gone() else other.replaces
        if old is None:
            market_orders += 1
            side_orders += other.side is side
        if not other.venue_order_id:
            alike_unacked += (
                other.outcome is outcome
                and other.direction is order.direction
                and other.price_cents == order.price_cents
                and other.quantity == order.quantity
            )
        extra, extra_cents = other.remaining, other.frozen_cents
        # the old order's shares or cash serve the new one, unless the outcome is unknown: then both count
        if old is not None and other.state != _UNKNOWN and old.direction is other.direction:
            extra_cents = max(0, extra_cents - old.frozen_cents)
            if old.outcome is other.outcome:
                extra = max(0, extra - old.remaining)
        if other.side is side:
            side_shares += extra
            side_loss_cents += order_loss_cents(side, price_cents, extra)
        if other.direction is Direction.BUY:
            buy_committed_cents += extra_cents
            buy_committed += extra if other.outcome is outcome else 0
        elif other.outcome is outcome:
            sell_committed += extra
    sell_committed += max(0, -market.pairs_under_way)
    buy_committed += max(0, market.pairs_under_way)
    buy_committed_cents += max(0, market.pairs_under_way) * PAIR_CENTS
    foreign_bid, foreign_ask = foreign_touch(market, top)
    rules = market.rules
    return Standing(
        now_mono_ns=now_mono_ns,
        kill_word=market.killed(),
        epoch_current=order.worker_epoch == market.worker_epoch(),
        admitting=account.admitting and market.open_for_orders and not market.sweeping,
        status=market.status,
        stale=account.stale,
        clock_offset_ms=account.clock_offset_ms,
        min_price_cents=rules.min_price_cents,
        max_price_cents=rules.max_price_cents,
        order_quantity_max=rules.order_quantity_max,
        order_amount_max_cents=rules.order_amount_max_cents,
        taker_fee_bps=rules.taker_fee_bps,
        collar_cents=account.collar_cents,
        position_limit=market.quote.position_limit,
        loss_limit_cents=market.quote.budget_limit_cents,
        engine_loss_limit_cents=account.loss_limit_cents,
        own_bid_cents=own_bid,
        own_ask_cents=own_ask,
        foreign_bid_cents=foreign_bid,
        foreign_ask_cents=foreign_ask,
        side_orders=side_orders,
        market_orders=market_orders,
        engine_orders=account.orders,
        alike_unacked=alike_unacked,
        stock=market.account.stock,
        side_shares=side_shares,
        worst_loss_cents=stock_loss_cents(market.account.stock) + side_loss_cents,
        other_loss_cents=account.other_loss_cents,
        sell_committed=sell_committed,
        buy_committed=buy_committed,
        buy_committed_cents=buy_committed_cents,
        other_frozen_cents=account.other_frozen_cents,
        account_cents=account.account_cents,
        market_tokens=market.order_tokens.tokens(now_mono_ns),
        tokens=account.tokens,
        reserved_tokens=account.reserved_tokens,
    )


def foreign_touch(market: GatewayMarket, top: Any) -> tuple[int, int]:
    """Best foreign bid and ask, cents in YES terms; 0 and 100 where the touch holds own orders alone.

    Behind such a touch a foreign order may rest, further out than our own, which the own-cross check keeps
    any order of ours from reaching.
    """
    own_bid_lots = own_ask_lots = 0
    for order in market.orders:
        if order.side is Side.BID:
            own_bid_lots += order.remaining if order.book_price_cents == top.bid_ticks else 0
        else:
            own_ask_lots += order.remaining if order.book_price_cents == top.ask_ticks else 0
    bid = int(top.bid_ticks) if top.bid_ticks > 0 and top.bid_lots > own_bid_lots else 0
    ask = int(top.ask_ticks) if top.ask_ticks > 0 and top.ask_lots > own_ask_lots else PAIR_CENTS
    return bid, ask
