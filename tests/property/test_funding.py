"""Ladder funding never promises more than there is (market-making §3.7), and the diff never overspends."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import Direction, Outcome, Side
from engine.quoting.funding import FundingRules, book_side
from engine.quoting.inventory import Stock, buy_freeze_cents
from engine.quoting.orders import LiveOrder
from tests.reference.ladder import Cancel, DesiredOrder, Level, Place, Replace
from tests.reference.ladder_kernel import diff, fund

RULES = FundingRules(
    allow_buy=True,
    cash_reserve_cents=0,
    position_limit=5_000,
    taker_fee_bps=20,
    order_quantity_max=10_000,
    order_amount_max_cents=1_000_000,
)

quantities = st.integers(1, 1_500)


@st.composite
def ladders(draw: st.DrawFn) -> tuple[list[Level], list[Level]]:
    bid = draw(st.integers(1, 97))
    ask = draw(st.integers(bid + 1, 99))
    bids = [
        Level(price_cents=bid - i, quantity=draw(quantities))
        for i in range(draw(st.integers(0, min(5, bid))))
    ]
    asks = [
        Level(price_cents=ask + i, quantity=draw(quantities))
        for i in range(draw(st.integers(0, min(5, 100 - ask))))
    ]
    return bids, asks


stocks = st.builds(
    Stock,
    yes_volume=st.integers(0, 5_000),
    no_volume=st.integers(0, 5_000),
    cash_cents=st.integers(0, 400_000),
)
rules = st.builds(
    FundingRules,
    allow_buy=st.booleans(),
    cash_reserve_cents=st.integers(0, 50_000),
    position_limit=st.integers(1, 6_000),
    taker_fee_bps=st.integers(0, 1_000),
    order_quantity_max=st.integers(1, 10_000),
    order_amount_max_cents=st.integers(100, 1_000_000),
    buy_share_bp=st.sampled_from([0, 0, 2_500, 5_000, 10_000]),
)


def _sum(orders: list[DesiredOrder], outcome: Outcome, direction: Direction) -> int:
    return sum(o.quantity for o in orders if o.outcome == outcome and o.direction == direction)


@settings(max_examples=400)
@given(ladder=ladders(), stock=stocks, rule=rules)
def test_funding_never_exceeds_stock_cash_or_limits(
    ladder: tuple[list[Level], list[Level]], stock: Stock, rule: FundingRules
) -> None:
    bids, asks = ladder
    orders = fund(bids=bids, asks=asks, stock=stock, rules=rule)
    for outcome, volume in ((Outcome.YES, stock.yes_volume), (Outcome.NO, stock.no_volume)):
        assert _sum(orders, outcome, Direction.SELL) <= volume
        bought = _sum(orders, outcome, Direction.BUY)
        assert bought == 0 or bought + volume <= rule.position_limit
    freeze = sum(
        buy_freeze_cents(o.price_cents, o.quantity, rule.taker_fee_bps)
        for o in orders
        if o.direction == Direction.BUY
    )
    assert freeze == 0 or freeze <= stock.cash_cents - rule.cash_reserve_cents
    for order in orders:
        level = (bids if order.side == Side.BID else asks)[order.level]
        assert order.book_price_cents == level.price_cents
        assert book_side(order.outcome, order.direction) == order.side
        assert 1 <= order.price_cents <= 99
        assert 0 < order.quantity <= min(level.quantity, rule.order_quantity_max)
        assert order.price_cents * order.quantity <= rule.order_amount_max_cents
        assert order.direction == Direction.SELL or rule.allow_buy


@given(ladder=ladders(), stock=stocks)
def test_inventory_is_spent_before_cash(ladder: tuple[list[Level], list[Level]], stock: Stock) -> None:
    bids, asks = ladder
    orders = fund(bids=bids, asks=asks, stock=stock, rules=RULES)
    asked = sum(level.quantity for level in asks)
    assert _sum(orders, Outcome.YES, Direction.SELL) == min(asked, stock.yes_volume)


def test_bids_stay_with_no_cash_at_all() -> None:
    """§14 row 29: cash 0 must not drop SELL NO."""
    orders = fund(
        bids=[Level(price_cents=48, quantity=100)],
        asks=[Level(price_cents=52, quantity=100)],
        stock=Stock(yes_volume=500, no_volume=500, cash_cents=0),
        rules=RULES,
    )
    assert {(o.side, o.outcome, o.direction, o.quantity) for o in orders} == {
        (Side.ASK, Outcome.YES, Direction.SELL, 100),
        (Side.BID, Outcome.NO, Direction.SELL, 100),
    }


@st.composite
def live_orders(draw: st.DrawFn) -> list[LiveOrder]:
    orders = []
    for index in range(draw(st.integers(0, 12))):
        quantity = draw(st.integers(1, 300))
        busy = draw(st.booleans())
        leaving = busy and draw(st.booleans())
        orders.append(
            LiveOrder(
                outcome=draw(st.sampled_from(Outcome)),
                direction=draw(st.sampled_from(Direction)),
                price_cents=draw(st.integers(1, 99)),
                quantity=quantity,
                remaining=draw(st.integers(1, quantity)),
                created_ms=draw(st.sampled_from([0, 1_000_000])),
                live_slot=index,
                busy=busy,
                leaving=leaving,
                unknown=busy and draw(st.booleans()),
            )
        )
    return orders


@settings(max_examples=400)
@given(ladder=ladders(), stock=stocks, live=live_orders())
def test_diff_touches_no_busy_order_and_keeps_within_collateral(
    ladder: tuple[list[Level], list[Level]], stock: Stock, live: list[LiveOrder]
) -> None:
    desired = fund(bids=ladder[0], asks=ladder[1], stock=stock, rules=RULES)
    actions, _ = diff(desired, live, stock=stock, taker_fee_bps=20, now_ms=1_000_000, max_age_ms=300_000)
    touched = [id(action.live) for action in actions if not isinstance(action, Place)]
    assert len(touched) == len(set(touched))
    assert all(not action.live.busy for action in actions if not isinstance(action, Place))
    assert all(
        action.live.remaining == action.live.quantity for action in actions if isinstance(action, Replace)
    )
    replaced = {id(action.live) for action in actions if isinstance(action, Replace)}
    staying = [order for order in live if id(order) not in replaced]
    new = [action.desired for action in actions if not isinstance(action, Cancel)]
    for outcome, volume in ((Outcome.YES, stock.yes_volume), (Outcome.NO, stock.no_volume)):
        held = sum(o.remaining for o in staying if o.outcome == outcome and o.direction == Direction.SELL)
        wanted = _sum(new, outcome, Direction.SELL)
        assert wanted == 0 or held + wanted <= volume
    for side in Side:  # an order of unknown outcome blocks a level (market-making §6.3)
        unknown = sum(order.unknown and not order.leaving and order.side == side for order in live)
        levels = sum(order.side == side for order in desired)
        assert sum(order.side == side for order in new) <= max(0, levels - unknown)
    for order in new:
        for other in live:
            if order.side == Side.BID and other.side == Side.ASK:
                assert order.book_price_cents < other.book_price_cents
            if order.side == Side.ASK and other.side == Side.BID:
                assert order.book_price_cents > other.book_price_cents


def test_an_order_of_unknown_outcome_blocks_the_level_nearest_to_it() -> None:
    """§6.3: the target has moved by a tick, and whether the order is there nobody knows yet."""
    stock = Stock(yes_volume=1_000)
    asks = [Level(price_cents=53, quantity=100), Level(price_cents=56, quantity=70)]
    desired = fund(bids=[], asks=asks, stock=stock, rules=RULES)
    live = LiveOrder(
        outcome=Outcome.YES,
        direction=Direction.SELL,
        price_cents=52,
        quantity=100,
        remaining=100,
        created_ms=0,
        busy=True,
        unknown=True,
    )
    actions, waiting = diff(desired, [live], stock=stock, taker_fee_bps=20, now_ms=0, max_age_ms=300_000)
    assert [action.desired.price_cents for action in actions if isinstance(action, Place)] == [56]
    assert waiting


@given(ladder=ladders(), stock=stocks)
def test_a_book_that_shows_the_target_needs_nothing(
    ladder: tuple[list[Level], list[Level]], stock: Stock
) -> None:
    """Steady state sends 0 requests (§14 row 29)."""
    desired = fund(bids=ladder[0], asks=ladder[1], stock=stock, rules=RULES)
    live = [
        LiveOrder(
            outcome=order.outcome,
            direction=order.direction,
            price_cents=order.price_cents,
            quantity=order.quantity,
            remaining=order.quantity,
            created_ms=1_000_000,
            live_slot=index,
        )
        for index, order in enumerate(desired)
    ]
    actions, waiting = diff(
        desired, live, stock=stock, taker_fee_bps=20, now_ms=1_000_000, max_age_ms=300_000
    )
    assert actions == []
    assert not waiting
