"""The gateway's account of one market: ids, rows, counts for the last hop, legs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._native import ffi, lib
from engine.arena import Arena, unpadded
from engine.config import MarketConfig, RiskConfig, market_json
from engine.events import Direction, MarketStatus, Outcome, Scenario, Side
from engine.quoting.inventory import Leg, Stock
from engine.risk.exposure import order_loss_cents
from engine.risk.pretrade import Candidate, Standing
from engine.risk.staleness import Stale
from engine.venues.platform_wire import AccountTrade
from engine.workers.client_ids import client_order_id
from engine.workers.gateway_fills import in_order_of_booking
from engine.workers.gateway_funds import supply_key
from engine.workers.gateway_live import LiveOrder
from engine.workers.gateway_market import GatewayMarket, MarketRules, market_status
from engine.workers.gateway_standing import Account, foreign_touch, standing_of

YES, NO = Outcome.YES, Outcome.NO
BUY, SELL = Direction.BUY, Direction.SELL
MARKET_ID = "MKT-BTC-100K-2026"
RULES = MarketRules(
    min_price_cents=1,
    max_price_cents=99,
    maker_fee_bps=10,
    taker_fee_bps=20,
    order_quantity_max=10_000,
    order_amount_max_cents=1_000_000,
    created_ms=0,
    trading_start_ms=0,
    trading_end_ms=0,
    resolution_ms=0,
)


def new_arena() -> Arena:
    arena = Arena.create(market_slots=1, worker_slots=1)
    arena.place_market(0, market_id=MARKET_ID, worker=0, tick_count=101)
    arena.write_config(0, 1, market_json(MarketConfig(id=MARKET_ID)))
    return arena


def new_market(arena: Arena | None = None) -> GatewayMarket:
    market = GatewayMarket(arena or new_arena(), 0, risk=RiskConfig(), full_mono_ns=0)
    market.rules = RULES
    market.account.set_position(yes_volume=1_000, yes_cost=50_000, no_volume=1_000, no_cost=50_000)
    market.account.set_cash(100_000, cursor="", funded=True)
    market.set_status(MarketStatus.ACTIVE, 0)
    market.admit()
    return market


def opened(
    market: GatewayMarket, outcome: Outcome, direction: Direction, price: int, quantity: int
) -> LiveOrder:
    candidate = Candidate(
        outcome=outcome, direction=direction, price_cents=price, quantity=quantity, decided_mono_ns=0
    )
    order = market.orders.open(candidate, worker_epoch=0, intent=1, now_ms=1_000)
    assert order is not None
    return order


def live(market: GatewayMarket, *terms: Any) -> LiveOrder:
    order = opened(market, *terms)
    order.sent = True
    market.orders.acknowledge(order, f"venue-{order.number}")
    return order


def replacing(market: GatewayMarket, old: LiveOrder, *terms: Any) -> LiveOrder:
    order = opened(market, *terms)
    order.replaces = old
    market.orders.set_state(old, lib.LIVE_CANCELLING, busy=True)
    return order


def standing(market: GatewayMarket, order: LiveOrder) -> Standing:
    account = Account(
        admitting=True,
        stale=Stale(0),
        clock_offset_ms=0,
        collar_cents=45,
        orders=0,
        other_frozen_cents=0,
        other_loss_cents=0,
        loss_limit_cents=500_000,
        account_cents=100_000,
        tokens=1,
        reserved_tokens=0,
    )
    return standing_of(market, order, market.top(), account, 0)


# -- ids


@pytest.mark.spec_examples
def test_ex33_client_order_id() -> None:
    plain = client_order_id(MARKET_ID, YES, SELL, unix_ms=1_740_652_800_000, sequence=1)
    assert plain == "amm_MKT-BTC-100K-2026_YES_SELL_1740652800000_001"
    assert len(plain) == 48
    hashed = client_order_id("M" * 36, YES, SELL, unix_ms=1_740_652_800_000, sequence=1)
    assert len(hashed) <= 64
    assert hashed.startswith("amm_m")
    assert hashed.endswith("_YES_SELL_1740652800000_001")
    assert hashed != client_order_id("M" * 37, YES, SELL, unix_ms=1_740_652_800_000, sequence=1)


@pytest.mark.parametrize("length", [1, 17, 36, 64])
@pytest.mark.parametrize("kind", ["mint", "burn"])
def test_a_supply_key_fits_and_is_never_made_twice(length: int, kind: Any) -> None:
    keys = {supply_key("M" * length, kind, 1_000_000) for _ in range(100)}
    assert len(keys) == 100
    assert max(map(len, keys)) <= 64


@given(steps=st.lists(st.integers(-5_000, 50), min_size=1, max_size=60))
@settings(max_examples=50)
def test_client_order_ids_never_repeat_nor_go_back_whatever_the_clock_does(steps: list[int]) -> None:
    """Also across a restart, which knows nothing but the account row."""
    arena = new_arena()
    market, now_ms = new_market(arena), 1_000_000
    seen: list[tuple[int, int]] = []
    for index, step in enumerate(steps):
        now_ms += step
        if index % 7 == 6:
            market.orders.left_over()
            market = new_market(arena)
        candidate = Candidate(outcome=YES, direction=SELL, price_cents=50, quantity=1, decided_mono_ns=0)
        order = market.orders.open(candidate, worker_epoch=0, intent=1, now_ms=now_ms)
        assert order is not None
        ms, sequence = order.client_order_id.split("_")[-2:]
        assert len(sequence) == 3
        seen.append((int(ms), int(sequence)))
        market.orders.close(order)
    assert seen == sorted(set(seen))


def test_a_thousand_orders_in_one_millisecond_borrow_from_the_next() -> None:
    market = new_market()
    ids = set()
    for _ in range(1_500):
        order = opened(market, YES, SELL, 50, 1)
        ids.add(order.client_order_id)
        assert len(order.client_order_id.rsplit("_", 1)[1]) == 3
        market.orders.close(order)
    assert len(ids) == 1_500


# -- rows


def test_an_order_is_in_its_row_before_anything_is_sent() -> None:
    arena = new_arena()
    market = new_market(arena)
    order = opened(market, NO, BUY, 40, 10)
    row = ffi.new("live_order_t *")

    def read() -> Any:
        assert lib.live_order_read(ffi.addressof(arena.market(0).live_orders[order.slot]), row) == lib.RING_OK
        return row

    assert read().state == lib.LIVE_PENDING
    assert unpadded(row.client_order_id) == order.client_order_id
    assert row.frozen_cents == 401
    market.orders.acknowledge(order, "V1")
    assert (read().state, unpadded(row.venue_order_id)) == (lib.LIVE_ACTIVE, "V1")
    market.orders.close(order)
    assert read().state == lib.LIVE_FREE


def test_rows_run_out_and_slots_come_back_as_late_as_possible() -> None:
    market = new_market()
    orders = [opened(market, YES, SELL, 60, 1) for _ in range(lib.LIVE_ORDER_SLOTS)]
    candidate = Candidate(outcome=YES, direction=SELL, price_cents=60, quantity=1, decided_mono_ns=0)
    assert market.orders.open(candidate, worker_epoch=0, intent=1, now_ms=0) is None
    for order in (orders[5], orders[3]):
        market.orders.close(order)
    assert opened(market, YES, SELL, 60, 1).slot == orders[5].slot
    assert opened(market, YES, SELL, 60, 1).slot == orders[3].slot


def test_a_successor_finds_cash_and_cursor_and_frees_the_rows() -> None:
    arena = new_arena()
    market = new_market(arena)
    order = live(market, YES, SELL, 60, 10)
    leg(market, "T1", order.venue_order_id, quantity=4)
    successor = GatewayMarket(arena, 0, risk=RiskConfig(), full_mono_ns=0)
    account = successor.account
    assert (account.stock.cash_cents, account.cursor, account.funded) == (100_236, "T1", True)
    assert successor.orders.left_over() == [order.client_order_id]
    assert successor.orders.left_over() == []


# -- legs


def leg(
    market: GatewayMarket,
    trade_id: str,
    order_id: str,
    *,
    quantity: int,
    side: Side = Side.ASK,
    price: int = 60,
) -> LiveOrder | None:
    booked = Leg(
        trade_id=trade_id,
        scenario=Scenario.TRANSFER_YES,
        book_side=side,
        price_cents=price,
        quantity=quantity,
        fee_cents=4,
    )
    return market.apply_leg(booked, order_id=order_id)


def test_a_leg_moves_cash_shares_cursor_and_the_orders_remainder() -> None:
    market = new_market()
    order = live(market, YES, SELL, 60, 10)
    assert leg(market, "T1", order.venue_order_id, quantity=4) is order
    assert (order.remaining, market.account.cursor) == (6, "T1")
    assert (market.account.stock.cash_cents, market.account.stock.yes_volume) == (100_000 + 236, 996)
    assert market.account.stock.yes_cost_sum_cents == 50_000 - 200


def test_a_leg_listed_before_its_order_was_acknowledged_is_taken_off_then() -> None:
    market = new_market()
    order = opened(market, YES, SELL, 60, 10)
    assert leg(market, "T1", "V9", quantity=3) is None
    market.orders.acknowledge(order, "V9")
    assert order.remaining == 7


def test_more_sold_than_was_known_keeps_the_money_and_sells_nothing_more() -> None:
    market = new_market()
    leg(market, "T1", "", quantity=1_001)
    assert market.account.stock.cash_cents == 100_000 + 60 * 1_001 - 4
    assert not market.account.position_known
    assert standing(market, opened(market, YES, SELL, 60, 1)).volume(YES) == 0
    leg(market, "T2", "", quantity=1, side=Side.BID)
    assert market.account.stock.cash_cents == 100_000 + 60 * 1_000 - 8
    market.account.set_position(yes_volume=5, yes_cost=1, no_volume=6, no_cost=2)
    assert market.account.position_known


def test_more_burned_than_was_known_keeps_the_money_and_sells_nothing_more() -> None:
    market = new_market()
    market.supply(-1_001)
    assert market.account.stock == Stock(cash_cents=100_000 + 100_100)
    assert not market.account.position_known
    assert market.reconcile_due
    market.supply(-3)  # answered while shares are not known
    market.supply(2)
    assert market.account.stock == Stock(cash_cents=100_000 + 100_200)


def trade(trade_id: str, side: Any, scenario: Any) -> AccountTrade:
    return AccountTrade(
        trade_id=trade_id,
        market_id=MARKET_ID,
        scenario=scenario,
        my_side=side,
        price_cents=50,
        quantity=1,
        role="MAKER",
        fee_cents=0,
        executed_at=datetime.now(UTC),
    )


@pytest.mark.parametrize(
    ("scenario", "first"), [("TRANSFER_YES", "SELL"), ("TRANSFER_NO", "BUY"), ("BURN", None), ("MINT", None)]
)
@pytest.mark.parametrize("sides", [("BUY", "SELL"), ("SELL", "BUY")])
def test_of_a_self_trade_the_closing_leg_is_booked_first(
    scenario: str, first: str | None, sides: tuple[str, str]
) -> None:
    newest_first = [
        trade("T3", "BUY", "MINT"),
        *(trade("T2", side, scenario) for side in sides),
        trade("T1", "BUY", "MINT"),
    ]
    ordered = in_order_of_booking(newest_first)
    assert [each.trade_id for each in ordered] == ["T1", "T2", "T2", "T3"]
    assert {each.my_side for each in ordered[1:3]} == {"BUY", "SELL"}
    if first is not None:
        assert ordered[1].my_side == first


# -- counts for the last hop


def test_all_that_is_or_may_be_live_counts() -> None:
    market = new_market()
    live(market, YES, SELL, 60, 10)
    live(market, NO, BUY, 41, 5)  # an ask at 59
    unknown = live(market, YES, BUY, 45, 7)
    market.orders.set_state(unknown, lib.LIVE_UNKNOWN, busy=True)
    live(market, NO, SELL, 56, 9)  # a bid at 44
    found = standing(market, opened(market, YES, SELL, 61, 1))
    assert (found.own_bid_cents, found.own_ask_cents) == (45, 59)
    assert (found.side_orders, found.market_orders) == (2, 4)
    assert found.sell_committed == 10
    assert found.buy_committed_cents == (41 * 5 + 1) + (45 * 7 + 1)
    assert standing(market, opened(market, NO, SELL, 30, 1)).sell_committed == 9


def test_who_was_first_counts_for_who_comes_after() -> None:
    market = new_market()
    first = opened(market, YES, SELL, 60, 600)
    second = opened(market, YES, SELL, 61, 600)
    assert standing(market, first).sell_committed == 0
    assert standing(market, second).sell_committed == 600
    second.sent = True
    assert standing(market, first).sell_committed == 600


def test_a_replace_counts_once_and_never_against_itself() -> None:
    market = new_market()
    old = live(market, YES, SELL, 60, 600)
    new = replacing(market, old, YES, SELL, 61, 700)
    assert standing(market, new).sell_committed == 0
    assert standing(market, new).own_ask_cents == 100
    new.sent = True
    probe = opened(market, YES, SELL, 65, 1)
    other = standing(market, probe)
    assert other.sell_committed == 700, "old and new hold the same shares in turn"
    assert (other.market_orders, other.side_orders) == (1, 1)
    assert other.own_ask_cents == 60, "either price may be on the book"
    market.orders.set_state(new, lib.LIVE_UNKNOWN, busy=True)
    assert standing(market, probe).sell_committed == 1_300, "unknown counts twice"
    market.orders.close(old)
    assert standing(market, probe).sell_committed == 700


def test_a_replace_by_the_other_outcome_holds_both() -> None:
    market = new_market()
    old = live(market, YES, SELL, 60, 600)
    new = replacing(market, old, NO, BUY, 40, 100)
    new.sent = True
    found = standing(market, opened(market, YES, SELL, 65, 1))
    assert (found.sell_committed, found.buy_committed_cents) == (600, 4_008)


def test_what_is_live_counts_as_filled_and_an_unanswered_twin_as_a_duplicate() -> None:
    market = new_market()
    live(market, YES, BUY, 45, 7)
    unanswered = opened(market, NO, SELL, 60, 9)  # a bid at 40
    unanswered.sent = True
    twin = opened(market, NO, SELL, 60, 9)
    found = standing(market, twin)
    assert found.alike_unacked == 1
    assert found.side_shares == 16
    assert found.worst_loss_cents == 7 * 45 + 9 * 40
    market.orders.acknowledge(unanswered, "venue-9")
    assert standing(market, twin).alike_unacked == 0


def test_the_commitment_follows_orders_and_stock() -> None:
    market = new_market()
    assert market.commitment().worst_loss_cents == 0
    order = live(market, YES, BUY, 45, 100)
    live(market, YES, SELL, 60, 10)
    assert market.commitment().frozen_cents == 4_509
    assert market.commitment().worst_loss_cents == order_loss_cents(Side.BID, 45, 100)
    leg(market, "T1", order.venue_order_id, side=Side.BID, price=45, quantity=60)
    assert market.commitment().frozen_cents == 40 * 45 + 4
    assert market.commitment().worst_loss_cents == 60 * 45 + 40 * 45, "what was filled costs what it cost"


@pytest.mark.parametrize(
    ("own", "shown", "foreign"),
    [
        (0, 0, (0, 100)),
        (0, 12, (48, 52)),
        (10, 10, (0, 100)),  # all of the touch is our own
        (10, 9, (0, 100)),  # the feed is behind a fill
        (10, 11, (48, 52)),
    ],
)
def test_own_orders_are_taken_off_the_touch(own: int, shown: int, foreign: tuple[int, int]) -> None:
    arena = new_arena()
    market = new_market(arena)
    top = ffi.new("top_t *", {"valid": 1, "bid_ticks": -1, "ask_ticks": -1})
    if shown:
        top.bid_ticks, top.bid_lots, top.ask_ticks, top.ask_lots = 48, shown, 52, shown
    lib.top_write(ffi.addressof(arena.market(0), "top"), top)
    if own:
        live(market, YES, BUY, 48, own)
        live(market, YES, SELL, 52, own)
    assert foreign_touch(market, market.top()) == foreign


@pytest.mark.parametrize(
    ("name", "status"), [("ACTIVE", MarketStatus.ACTIVE), ("PAUSED", MarketStatus.UNKNOWN)]
)
def test_a_status_we_do_not_know_is_unknown(name: str, status: MarketStatus) -> None:
    assert market_status(name) == status


def test_mint_and_burn_move_pairs_cash_and_cost() -> None:
    market = new_market()
    market.supply(100)
    stock = market.account.stock
    assert (stock.yes_volume, stock.no_volume, stock.cash_cents) == (1_100, 1_100, 90_000)
    assert (stock.yes_cost_sum_cents, stock.no_cost_sum_cents) == (55_000, 55_000)
    market.supply(-1_100)
    stock = market.account.stock
    assert (stock.yes_volume, stock.yes_cost_sum_cents, stock.cash_cents) == (0, 0, 200_000)
