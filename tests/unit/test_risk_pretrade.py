"""The last-hop checks, one table: what stands, what wants to go out, who objects.

``native/pretrade.c`` decides; the model in ``tests/reference/pretrade.py`` has to agree with it everywhere.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from engine._native import ffi, lib
from engine.config import RiskConfig
from engine.events import DefenseLevel, Direction, Gate, LocalReject, MarketStatus, Outcome, Side, Stale
from engine.quoting.inventory import Stock, buy_freeze_cents
from tests.reference.pretrade import (
    CHECKS,
    INTENT_AGE_NS_MAX,
    Candidate,
    Limits,
    Standing,
    first_refusal,
    increases,
    order_loss_cents,
    stock_loss_cents,
)

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
    stale=Stale(0),
    clock_offset_ms=0,
    collar_cents=45,
    position_limit=5_000,
    loss_limit_cents=500_000,
    engine_loss_limit_cents=500_000,
    own_bid_cents=45,
    own_ask_cents=55,
    foreign_bid_cents=0,
    foreign_ask_cents=100,
    side_orders=0,
    market_orders=0,
    engine_orders=0,
    alike_unacked=0,
    stock=Stock(yes_volume=1_000, no_volume=1_000, cash_cents=100_000),
    side_shares=0,
    worst_loss_cents=0,
    other_loss_cents=0,
    sell_committed=0,
    buy_committed=0,
    buy_committed_cents=0,
    other_frozen_cents=0,
    account_cents=1_000_000,
    market_tokens=1,
    tokens=1,
    reserved_tokens=0,
)
LIMITS = Limits.of(RiskConfig())
ONE_SIDE = int(DefenseLevel.ONE_SIDE)


def held(yes: int, no: int, cash: int = 100_000, cost: int = 0) -> Stock:
    return Stock(
        yes_volume=yes, no_volume=no, yes_cost_sum_cents=cost, no_cost_sum_cents=cost, cash_cents=cash
    )


def order(
    outcome: Outcome = YES,
    direction: Direction = SELL,
    price: int = 60,
    quantity: int = 10,
    age_ns: int = 1_000,
    *,
    fair: int = 50,
    level: int = 0,
    gates: int = 0,
) -> Candidate:
    return Candidate(
        outcome=outcome,
        direction=direction,
        price_cents=price,
        quantity=quantity,
        decided_mono_ns=NOW_NS - age_ns,
        fair_cents=fair,
        level=level,
        gates=gates,
    )


def refusal(candidate: Candidate, standing: Standing, limits: Limits = LIMITS) -> LocalReject | None:
    """What the kernel says."""
    wants = structs.asdict(candidate) | {
        "side": candidate.side,
        "book_price_cents": candidate.book_price_cents,
    }
    stands = structs.asdict(standing) | {"stock": structs.asdict(standing.stock)}
    code = lib.pretrade_refusal(
        ffi.new("candidate_t *", wants),
        ffi.new("standing_t *", stands),
        ffi.new("pretrade_limits_t *", structs.asdict(limits)),
    )
    return LocalReject(code) if code else None


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
        (order(YES, SELL, 5), {"own_bid_cents": 0}, None),
        (order(YES, BUY, 95, 1), {"own_ask_cents": 100}, None),
        (order(quantity=400), {"sell_committed": 600}, None),
        (order(quantity=401), {"sell_committed": 600}, LocalReject.OVERSELL),
        (order(quantity=1), {"stock": held(0, 1_000)}, LocalReject.OVERSELL),
        # 65 x 100 freezes 6513 at 20 bps (platform X1)
        (order(YES, BUY, 65, 100), {"stock": held(0, 0, 6_513), "own_ask_cents": 100}, None),
        (order(YES, BUY, 65, 100), {"stock": held(0, 0, 6_512), "own_ask_cents": 100}, LocalReject.CASH),
        (order(YES, BUY, 50, 10), {"stock": held(0, 0, 1_000), "buy_committed_cents": 500}, LocalReject.CASH),
        (order(), {"tokens": 0}, LocalReject.RATE_LIMIT),
        # C1: a pause is told apart from a kill
        (order(), {"kill_word": lib.KILL_PAUSE}, LocalReject.PAUSED),
        (order(), {"kill_word": lib.KILL_PAUSE | lib.KILL_ADMIN}, LocalReject.KILLED),
        # C2, I5: what its own worker was forbidden to send
        *(
            (order(gates=int(gate)), {}, None if gate is Gate.ORACLE_GAP else LocalReject.GATED)
            for gate in Gate
        ),
        (order(level=int(DefenseLevel.KILL_SWITCH)), {}, LocalReject.GATED),
        (order(level=int(DefenseLevel.WIDEN)), {}, None),
        # C14
        *((order(), {"stale": what}, LocalReject.STALE) for what in Stale),
        # C17
        (order(), {"clock_offset_ms": 1_000}, None),
        (order(), {"clock_offset_ms": 1_001}, LocalReject.CLOCK),
        # C4: the collar around fair, and no fair price is no reference
        (order(price=95), {}, None),
        (order(price=96), {}, LocalReject.COLLAR),
        (order(YES, BUY, 5), {}, None),
        (order(YES, BUY, 4), {}, LocalReject.COLLAR),
        (order(NO, BUY, 5), {}, None),
        (order(NO, BUY, 4), {}, LocalReject.COLLAR),
        (order(fair=0), {}, LocalReject.COLLAR),
        (order(fair=100), {}, LocalReject.COLLAR),
        # around the foreign mid only where both sides stand
        (order(price=60), {"foreign_bid_cents": 10, "foreign_ask_cents": 20}, None),
        (order(price=61), {"foreign_bid_cents": 10, "foreign_ask_cents": 20}, LocalReject.COLLAR),
        (order(price=60), {"foreign_bid_cents": 10, "foreign_ask_cents": 19}, LocalReject.COLLAR),
        (order(price=61), {"foreign_bid_cents": 10}, None),
        (order(price=61), {"foreign_ask_cents": 12}, None),
        # C5: nothing of ours takes, but for the reducing side in ONE_SIDE
        (order(YES, BUY, 52), {"foreign_ask_cents": 53}, None),
        (order(YES, BUY, 53), {"foreign_ask_cents": 53}, LocalReject.POST_ONLY),
        (order(NO, SELL, 48), {"foreign_ask_cents": 52}, LocalReject.POST_ONLY),
        (order(YES, SELL, 48), {"foreign_bid_cents": 47}, None),
        (order(YES, SELL, 48), {"foreign_bid_cents": 48}, LocalReject.POST_ONLY),
        (order(NO, BUY, 52), {"foreign_bid_cents": 48}, LocalReject.POST_ONLY),
        (order(YES, SELL, 48, level=ONE_SIDE), {"foreign_bid_cents": 48, "stock": held(1_901, 99)}, None),
        (
            order(NO, SELL, 52, level=ONE_SIDE),
            {"foreign_ask_cents": 48, "stock": held(1_901, 99)},
            LocalReject.POSITION,
        ),
        # C2, D8: ONE_SIDE only reduces, by the gateway's own count of shares
        (order(YES, BUY, level=ONE_SIDE, price=50), {"stock": held(99, 1_901)}, LocalReject.POSITION),
        (order(YES, SELL, level=ONE_SIDE), {"stock": held(99, 1_901)}, LocalReject.POSITION),
        (order(NO, SELL, level=ONE_SIDE, price=50), {"stock": held(99, 1_901)}, None),
        (order(NO, SELL, level=ONE_SIDE, price=50), {"stock": held(1_000, 1_000)}, LocalReject.POSITION),
        # C6: 500 shares, $250 of worst loss
        (order(quantity=500, price=55), {}, None),
        (order(quantity=501), {}, LocalReject.LIMIT),
        (order(YES, BUY, 54, quantity=462), {}, None),
        (order(YES, BUY, 54, quantity=463), {}, LocalReject.LIMIT),
        (order(NO, BUY, 54, quantity=463), {"own_bid_cents": 0}, LocalReject.LIMIT),
        # C11
        (order(), {"alike_unacked": 1}, LocalReject.DUPLICATE),
        # C8: as if all were filled; what leads back to balance is never held
        (order(YES, BUY, 50), {"buy_committed": 3_990}, None),
        (order(YES, BUY, 50), {"buy_committed": 3_991}, LocalReject.POSITION),
        (order(YES, BUY, 50), {"buy_committed": 9_999, "stock": held(1_000, 2_000)}, None),
        (
            order(YES, BUY, 50),
            {"buy_committed": 9_999, "side_shares": 1_991, "stock": held(1_000, 2_000)},
            LocalReject.POSITION,
        ),
        (order(YES, BUY, 50), {"worst_loss_cents": 499_500}, None),
        (order(YES, BUY, 50), {"worst_loss_cents": 499_501}, LocalReject.POSITION),
        (order(NO, SELL, 50), {"worst_loss_cents": 499_501}, LocalReject.POSITION),
        (order(YES, SELL, 60), {"worst_loss_cents": 499_601}, LocalReject.POSITION),
        (order(YES, BUY, 50), {"other_loss_cents": 499_500}, None),
        (order(YES, BUY, 50), {"other_loss_cents": 499_501}, LocalReject.POSITION),
        # C9: nine tenths of what the venue says the account has; nothing known is nothing there
        (order(YES, BUY, 50, 100), {"account_cents": 5_567}, None),
        (order(YES, BUY, 50, 100), {"account_cents": 5_566}, LocalReject.CASH),
        (order(YES, BUY, 50, 100), {"other_frozen_cents": 894_990}, None),
        (order(YES, BUY, 50, 100), {"other_frozen_cents": 894_991}, LocalReject.CASH),
        (order(YES, BUY, 50), {"account_cents": 0}, LocalReject.CASH),
        # C10
        (order(), {"market_tokens": 0}, LocalReject.RATE_LIMIT),
        (order(), {"tokens": 20, "reserved_tokens": 20}, LocalReject.RATE_LIMIT),
        (order(), {"tokens": 21, "reserved_tokens": 20}, None),
        # the first check that objects decides
        (order(price=0), {"kill_word": 1, "tokens": 0}, LocalReject.KILLED),
    ],
)
def test_who_objects(candidate: Candidate, changes: dict[str, Any], expected: LocalReject | None) -> None:
    standing = structs.replace(CLEAR, **changes)
    assert refusal(candidate, standing) == expected
    assert first_refusal(candidate, standing, LIMITS) == expected


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
        foreign_bid_cents=98,
        foreign_ask_cents=99,
        stock=Stock(),
        stale=Stale.BOOK,
        clock_offset_ms=9_999,
        alike_unacked=1,
        position_limit=0,
        account_cents=0,
        tokens=0,
    )
    candidates = [
        order(YES, SELL, 0, fair=0, gates=1),
        order(YES, SELL, 10, level=ONE_SIDE),
        order(YES, BUY, 10),
    ]
    silent = [
        check.__name__ for check in CHECKS if all(check(each, worst, LIMITS) is None for each in candidates)
    ]
    assert silent == []


@given(
    side=st.sampled_from(Side),
    price=st.integers(5, 95),
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
    assert (refusal(candidate, standing) == LocalReject.SELF_CROSS) == crosses


def near(*limits: int) -> st.SearchStrategy[int]:
    """Values at, just below and just above limits, and others."""
    edges = [limit + step for limit in limits for step in (-1, 0, 1)]
    return st.one_of(st.sampled_from(edges), st.integers(0, 2 * max(limits)))


def mostly(value: Any, others: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """So that later checks get their turn."""
    return st.one_of(*[st.just(value)] * 12, others)


CANDIDATES = st.builds(
    order,
    outcome=st.sampled_from(Outcome),
    direction=st.sampled_from(Direction),
    price=mostly(50, st.integers(-3, 103)),
    quantity=mostly(10, near(100, 500)),
    age_ns=mostly(1_000, near(INTENT_AGE_NS_MAX)),
    fair=mostly(50, st.integers(0, 101)),
    level=st.sampled_from([0, 0, 0, *map(int, DefenseLevel)]),
    gates=mostly(0, st.integers(0, 2047)),
)
STANDINGS = st.builds(
    Standing,
    now_mono_ns=st.just(NOW_NS),
    kill_word=mostly(0, st.integers(0, 127)),
    epoch_current=mostly(True, st.booleans()),
    admitting=mostly(True, st.booleans()),
    status=mostly(MarketStatus.ACTIVE, st.sampled_from(MarketStatus)),
    min_price_cents=mostly(1, st.integers(0, 60)),
    max_price_cents=mostly(99, st.integers(40, 200)),
    order_quantity_max=mostly(10_000, near(100)),
    order_amount_max_cents=mostly(1_000_000, near(500)),
    taker_fee_bps=st.integers(0, 1_000),
    stale=mostly(Stale(0), st.sampled_from(Stale)),
    clock_offset_ms=mostly(0, near(1_000)),
    collar_cents=mostly(45, st.integers(0, 60)),
    position_limit=mostly(5_000, near(1_000, 1_010)),
    loss_limit_cents=mostly(500_000, near(500, 1_500)),
    engine_loss_limit_cents=mostly(500_000, near(500, 2_500)),
    own_bid_cents=mostly(0, st.integers(0, 99)),
    own_ask_cents=mostly(100, st.integers(1, 100)),
    foreign_bid_cents=mostly(0, st.integers(0, 99)),
    foreign_ask_cents=mostly(100, st.integers(1, 100)),
    side_orders=mostly(0, near(20)),
    market_orders=mostly(0, near(40)),
    engine_orders=mostly(0, near(1_000)),
    alike_unacked=mostly(0, st.integers(0, 3)),
    stock=st.builds(
        Stock,
        yes_volume=near(10, 1_000),
        no_volume=near(10, 1_000),
        yes_cost_sum_cents=near(500),
        no_cost_sum_cents=near(500),
        cash_cents=mostly(100_000, near(500, 1_000)),
    ),
    side_shares=near(10, 1_000),
    worst_loss_cents=near(500, 1_000),
    other_loss_cents=near(500, 1_000),
    sell_committed=near(10, 1_000),
    buy_committed=near(10, 1_000),
    buy_committed_cents=near(500),
    other_frozen_cents=near(500),
    account_cents=mostly(1_000_000, near(500, 1_000)),
    market_tokens=mostly(1, st.integers(0, 2)),
    tokens=mostly(21, near(20)),
    reserved_tokens=mostly(20, st.integers(0, 30)),
)


@settings(max_examples=3_000)
@given(candidate=CANDIDATES, standing=STANDINGS)
def test_kernel_and_model_object_to_the_same_for_the_same_reason(
    candidate: Candidate, standing: Standing
) -> None:
    assert refusal(candidate, standing) == first_refusal(candidate, standing, LIMITS)


@pytest.mark.parametrize(
    ("side", "price", "loss"), [(Side.BID, 30, 300), (Side.ASK, 30, 700), (Side.BID, 99, 990)]
)
def test_worst_loss_of_an_order(side: Side, price: int, loss: int) -> None:
    assert lib.order_loss_cents(side, price, 10) == order_loss_cents(side, price, 10) == loss


@pytest.mark.parametrize(
    ("yes", "no", "yes_cost", "loss"), [(100, 100, 5_000, 0), (150, 100, 7_000, 2_000), (150, 100, 0, 0)]
)
def test_worst_loss_of_shares_is_no_gain(yes: int, no: int, yes_cost: int, loss: int) -> None:
    stock = Stock(yes_volume=yes, no_volume=no, yes_cost_sum_cents=yes_cost, no_cost_sum_cents=5_000)
    assert (
        lib.stock_loss_cents(ffi.new("stock_t *", structs.asdict(stock))) == stock_loss_cents(stock) == loss
    )


@given(price=st.integers(1, 99), quantity=st.integers(0, (1 << 31) - 1), bps=st.integers(0, 10_000))
def test_a_freeze_is_the_same_here_and_there(price: int, quantity: int, bps: int) -> None:
    assert lib.own_freeze_cents(price, quantity, bps) == buy_freeze_cents(price, quantity, bps)


@given(yes=st.integers(0, 50), no=st.integers(0, 50), shares=st.integers(1, 120))
def test_what_increases_leads_further_from_balance(yes: int, no: int, shares: int) -> None:
    stock = Stock(yes_volume=yes, no_volume=no)
    assert increases(stock, Side.BID, shares) == (abs(yes + shares - no) > abs(yes - no))
    assert increases(stock, Side.ASK, shares) == (abs(yes - shares - no) > abs(yes - no))
