"""The last-hop checks, one table: what stands, what wants to go out, who objects."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from engine.events import Direction, LocalReject, MarketStatus, Outcome, Side
from engine.risk.pretrade import CHECKS, INTENT_AGE_NS_MAX, Candidate, Standing, first_refusal

NOW_NS = 10_000_000_000
YES, NO = Outcome.YES, Outcome.NO
BUY, SELL = Direction.BUY, Direction.SELL

CLEAR = Standing(
    now_mono_ns=NOW_NS,
    kill_word=0,
    epoch_current=True,
    admitting=True,
    status=MarketStatus.ACTIVE,
    min_price_cents=1,
    max_price_cents=99,
    order_quantity_max=10_000,
    order_amount_max_cents=1_000_000,
    taker_fee_bps=20,
    own_bid_cents=45,
    own_ask_cents=55,
    side_orders=0,
    market_orders=0,
    engine_orders=0,
    volume=1_000,
    sell_committed=0,
    cash_cents=100_000,
    buy_committed_cents=0,
    tokens=1,
)


def order(
    outcome: Outcome = YES,
    direction: Direction = SELL,
    price: int = 60,
    quantity: int = 10,
    age_ns: int = 1_000,
) -> Candidate:
    return Candidate(
        outcome=outcome,
        direction=direction,
        price_cents=price,
        quantity=quantity,
        decided_mono_ns=NOW_NS - age_ns,
    )


@pytest.mark.parametrize(
    ("candidate", "changes", "expected"),
    [
        (order(), {}, None),
        (order(), {"kill_word": 8}, LocalReject.KILLED),
        (order(), {"epoch_current": False}, LocalReject.STALE_EPOCH),
        (order(), {"admitting": False}, LocalReject.NOT_READY),
        *((order(), {"status": status}, LocalReject.NOT_READY) for status in MarketStatus if status != 2),
        (order(age_ns=INTENT_AGE_NS_MAX), {}, None),
        (order(age_ns=INTENT_AGE_NS_MAX + 1), {}, LocalReject.NOT_READY),
        (order(age_ns=-1), {}, LocalReject.NOT_READY),
        (order(price=0), {}, LocalReject.PRICE_RANGE),
        (order(price=100), {"max_price_cents": 200}, LocalReject.PRICE_RANGE),
        (order(price=96), {"max_price_cents": 95}, LocalReject.PRICE_RANGE),
        (order(NO, BUY, price=4), {"min_price_cents": 5}, LocalReject.PRICE_RANGE),
        (order(quantity=0), {}, LocalReject.LIMIT),
        (order(quantity=-5), {}, LocalReject.LIMIT),
        (order(quantity=101), {"order_quantity_max": 100}, LocalReject.LIMIT),
        (order(price=60, quantity=17), {"order_amount_max_cents": 1_019}, LocalReject.LIMIT),
        (order(price=60, quantity=17), {"order_amount_max_cents": 1_020}, None),
        (order(), {"side_orders": 20}, LocalReject.LIMIT),
        (order(), {"market_orders": 40}, LocalReject.LIMIT),
        (order(), {"engine_orders": 1_000}, LocalReject.LIMIT),
        (order(), {"side_orders": 19, "market_orders": 39, "engine_orders": 999}, None),
        # an ask must stay above the best own bid, a bid below the best own ask, in YES terms
        (order(YES, SELL, 46), {}, None),
        (order(YES, SELL, 45), {}, LocalReject.SELF_CROSS),
        (order(NO, BUY, 54), {}, None),
        (order(NO, BUY, 55), {}, LocalReject.SELF_CROSS),
        (order(YES, BUY, 54), {}, None),
        (order(YES, BUY, 55), {}, LocalReject.SELF_CROSS),
        (order(NO, SELL, 46), {}, None),
        (order(NO, SELL, 45), {}, LocalReject.SELF_CROSS),
        (order(YES, SELL, 1), {"own_bid_cents": 0}, None),
        (order(YES, BUY, 99, 1), {"own_ask_cents": 100}, None),
        (order(quantity=400), {"sell_committed": 600}, None),
        (order(quantity=401), {"sell_committed": 600}, LocalReject.OVERSELL),
        (order(quantity=1), {"volume": 0}, LocalReject.OVERSELL),
        # 65 x 100 freezes 6513 at 20 bps (platform X1)
        (order(YES, BUY, 65, 100), {"cash_cents": 6_513, "own_ask_cents": 100}, None),
        (order(YES, BUY, 65, 100), {"cash_cents": 6_512, "own_ask_cents": 100}, LocalReject.CASH),
        (order(YES, BUY, 50, 10), {"cash_cents": 1_000, "buy_committed_cents": 500}, LocalReject.CASH),
        (order(), {"tokens": 0}, LocalReject.RATE_LIMIT),
        # the first check that objects decides
        (order(price=0), {"kill_word": 1, "tokens": 0}, LocalReject.KILLED),
    ],
)
def test_who_objects(candidate: Candidate, changes: dict[str, Any], expected: LocalReject | None) -> None:
    assert first_refusal(candidate, structs.replace(CLEAR, **changes)) == expected


def test_every_check_can_object() -> None:
    worst = structs.replace(
        CLEAR,
        kill_word=1,
        epoch_current=False,
        admitting=False,
        order_quantity_max=0,
        market_orders=99,
        own_ask_cents=1,
        own_bid_cents=99,
        volume=0,
        cash_cents=0,
        tokens=0,
    )
    candidates = [order(YES, SELL, 0), order(YES, BUY, 10)]
    silent = [check.__name__ for check in CHECKS if all(check(each, worst) is None for each in candidates)]
    assert silent == []


@given(
    side=st.sampled_from(Side),
    price=st.integers(1, 99),
    own_bid=st.integers(0, 99),
    own_ask=st.integers(1, 100),
    native=st.booleans(),
)
def test_what_goes_out_never_crosses_an_own_order(
    side: Side, price: int, own_bid: int, own_ask: int, native: bool
) -> None:
    if side == Side.BID:
        candidate = order(YES, BUY, price, 1) if native else order(NO, SELL, 100 - price, 1)
    else:
        candidate = order(YES, SELL, price, 1) if native else order(NO, BUY, 100 - price, 1)
    assert (candidate.side, candidate.book_price_cents) == (side, price)
    standing = structs.replace(CLEAR, own_bid_cents=own_bid, own_ask_cents=own_ask)
    crosses = price >= own_ask if side == Side.BID else price <= own_bid
    assert (first_refusal(candidate, standing) == LocalReject.SELF_CROSS) == crosses
