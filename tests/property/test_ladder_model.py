"""``native/ladder_plan.c`` makes the plan of its Python twin, action for action."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine._native import ffi, lib
from engine.events import Direction, Outcome, Side
from engine.quoting.funding import FundingRules
from engine.quoting.inventory import Stock
from engine.quoting.orders import LiveOrder
from engine.workers.market_kernel import CENTS_GRID_TICKS
from tests.reference import ladder as model
from tests.reference import ladder_kernel as kernel
from tests.reference.ladder import Level, Tokens
from tests.reference.ladder_kernel import KernelLadder

NOW_MS = 1_000_000
quantities = st.one_of(st.integers(1, 60), st.integers(1, 3_000))


@st.composite
def ladders(draw: st.DrawFn) -> tuple[list[Level], list[Level]]:
    """Up to ten levels a side; nothing says that they are apart, or in order."""
    price = st.integers(40, 60) if draw(st.booleans()) else st.integers(1, 99)
    level = st.builds(Level, price_cents=price, quantity=quantities)
    return draw(st.lists(level, max_size=10)), draw(st.lists(level, max_size=10))


@st.composite
def live_orders(draw: st.DrawFn) -> list[LiveOrder]:
    """Resting, on their way, leaving, replaced by one another, of unknown outcome, partly filled, old."""
    orders = []
    for index in range(draw(st.integers(0, 24))):
        quantity = draw(quantities)
        busy = draw(st.booleans())
        leaving = busy and draw(st.booleans())
        orders.append(
            LiveOrder(
                outcome=draw(st.sampled_from(Outcome)),
                direction=draw(st.sampled_from(Direction)),
                price_cents=draw(st.integers(40, 60)),
                quantity=quantity,
                remaining=draw(st.one_of(st.just(quantity), st.integers(0, quantity))),
                created_ms=draw(st.sampled_from([NOW_MS, NOW_MS, NOW_MS - 300_000, NOW_MS - 300_001])),
                live_slot=index if not busy or leaving else -1,
                intent=draw(st.integers(1, 8)),
                leaving_intent=draw(st.integers(1, 8)) if leaving else 0,
                busy=busy,
                leaving=leaving,
                replaced=leaving and draw(st.booleans()),
                unknown=busy and draw(st.booleans()),
            )
        )
    return orders


stocks = st.builds(
    Stock,
    yes_volume=st.integers(0, 6_000),
    no_volume=st.integers(0, 6_000),
    cash_cents=st.integers(-10_000, 400_000),
)
rules = st.builds(
    FundingRules,
    allow_buy=st.booleans(),
    cash_reserve_cents=st.integers(0, 50_000),
    position_limit=st.integers(1, 8_000),
    taker_fee_bps=st.one_of(st.integers(0, 1_000), st.integers(0, 100_000)),
    order_quantity_max=st.integers(1, 10_000),
    order_amount_max_cents=st.integers(0, 1_000_000),
    buy_share_bp=st.sampled_from([0, 0, 3_333, 5_000, 10_000]),
)


@st.composite
def buckets(draw: st.DrawFn) -> Tokens:
    capacity = draw(st.integers(1, 60))
    return Tokens(left=draw(st.integers(0, capacity)), capacity=capacity)


@settings(max_examples=600, deadline=None)
@given(ladder=ladders(), stock=stocks, rule=rules, live=live_orders(), orders=buckets(), replaces=buckets())
def test_a_plan_is_the_models(
    ladder: tuple[list[Level], list[Level]],
    stock: Stock,
    rule: FundingRules,
    live: list[LiveOrder],
    orders: Tokens,
    replaces: Tokens,
) -> None:
    bids, asks = ladder
    planned = KernelLadder(live)
    planned.set_ladder(bids, asks)
    planned.set_rules(rule)
    planned.set_stock(stock)
    planned.set_tokens(orders=orders, replaces=replaces)
    planned.plan.now_ms, planned.plan.max_age_ms = NOW_MS, 300_000
    assert lib.ladder_plan(planned.plan) == lib.LADDER_OK

    desired = model.fund(bids=bids, asks=asks, stock=stock, rules=rule)
    actions, waiting = model.diff(
        desired, live, stock=stock, taker_fee_bps=rule.taker_fee_bps, now_ms=NOW_MS, max_age_ms=300_000
    )
    chosen = model.affordable(actions, orders=orders, replaces=replaces)
    assert planned.desired == desired
    assert planned.actions == chosen
    assert planned.waiting == (waiting or len(chosen) < len(actions))


@settings(max_examples=200, deadline=None)
@given(live=live_orders(), bid=st.integers(0, 99), ask=st.integers(0, 99), bps=st.integers(0, 1_000))
def test_retreat_and_collateral_are_the_models(live: list[LiveOrder], bid: int, ask: int, bps: int) -> None:
    touches = {"touch_bid_cents": bid, "touch_ask_cents": ask}
    assert kernel.more_aggressive(live, **touches) == model.more_aggressive(live, **touches)
    assert kernel.held_by(live, bps) == model.held_by(live, bps)


@settings(max_examples=200, deadline=None)
@given(live=live_orders(), gone=st.lists(st.integers(0, 23), max_size=12))
def test_the_table_says_what_its_orders_say(live: list[LiveOrder], gone: list[int]) -> None:
    """After any of them went, wherever it stood."""
    ladder = KernelLadder(live)
    lots = ffi.new("int64_t *")
    for number in gone:
        if live:
            index = number % len(live)
            live = live[:index] + live[index + 1 :]
            lib.own_orders_remove(ladder.orders, ladder.orders.orders + index)
    table = ladder.orders
    assert [table.orders[i].quantity for i in range(table.count)] == [order.quantity for order in live]
    for side in Side:
        resting = [order for order in live if order.live_slot >= 0 and order.side == side]
        assert lib.own_orders_resting(table, side, lots) == len(resting)
        assert lots[0] == sum(order.remaining for order in resting)
        for price in range(1, CENTS_GRID_TICKS - 1):
            lib.orderbook_set_level(ladder.book.pointer, side, price, 1_000_000)
        seen = dict(ladder.book.levels(lib.ORDERBOOK_FOREIGN, side))
        for price in range(40, 61):
            here = [order for order in live if (order.side, order.book_price_cents) == (side, price)]
            assert seen[price] == 1_000_000 - sum(order.remaining for order in here)
    unknown = {order.side for order in live if order.unknown}
    assert bool(lib.own_orders_unknown_on_both_sides(table)) == (unknown == set(Side))
    assert lib.own_orders_oldest_ms(table) == min((order.created_ms for order in live), default=-1)
    assert lib.own_orders_flagged(table, lib.OWN_ORDER_BUSY, lib.OWN_ORDER_UNKNOWN) == sum(
        order.busy and not order.unknown for order in live
    )


def test_a_full_table_takes_no_more_and_the_plan_leaves_no_more_to_take() -> None:
    order = LiveOrder(
        outcome=Outcome.YES,
        direction=Direction.SELL,
        price_cents=90,
        quantity=1,
        remaining=1,
        created_ms=NOW_MS,
        live_slot=0,
    )
    ladder = KernelLadder([order] * (lib.OWN_ORDERS_MAX - 1))
    ladder.set_ladder([], [Level(price_cents=80, quantity=50), Level(price_cents=81, quantity=50)])
    ladder.set_rules(
        FundingRules(
            allow_buy=False,
            cash_reserve_cents=0,
            position_limit=0,
            taker_fee_bps=0,
            order_quantity_max=100,
            order_amount_max_cents=1_000_000,
        )
    )
    ladder.set_stock(Stock(yes_volume=10_000))
    lib.ladder_fund(ladder.plan)
    lib.ladder_compare(ladder.plan)
    new = [action for action in ladder.actions if not isinstance(action, model.Cancel)]
    assert [action.desired.price_cents for action in new] == [80]
    assert ladder.waiting
    assert lib.own_orders_add(ladder.orders, kernel.native_order(order))
    assert not lib.own_orders_add(ladder.orders, kernel.native_order(order))


def test_what_cannot_be_is_refused() -> None:
    ladder = KernelLadder()
    ladder.set_ladder([Level(price_cents=0, quantity=1)], [])
    assert lib.ladder_plan(ladder.plan) == lib.LADDER_BAD_LEVEL
    ladder.set_ladder([], [])
    ladder.target.ask_count = lib.QUOTE_LEVELS_MAX + 1
    assert lib.ladder_plan(ladder.plan) == lib.LADDER_BAD_LEVEL
    ladder.set_ladder([], [])
    ladder.plan.rules.taker_fee_bps = -1
    assert lib.ladder_plan(ladder.plan) == lib.LADDER_BAD_RULES
    for field, value in (("price_cents", 101), ("remaining", 1 << 37), ("quantity", -1), ("outcome", 2)):
        order = ffi.new("own_order_t *", {field: value})
        assert not lib.own_orders_add(ladder.orders, order), field
