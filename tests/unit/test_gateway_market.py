"""The gateway's account of one market: ids, rows, counts for the last hop, legs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._native import ffi, lib
from engine.arena import Arena, unpadded
from engine.config import MarketConfig, market_json
from engine.events import Direction, MarketStatus, Outcome, Scenario, Side
from engine.quoting.inventory import Leg, Stock
from engine.venues.platform_wire import AccountTrade
from engine.workers.client_ids import short_market_id
from engine.workers.gateway_fills import in_order_of_booking
from engine.workers.gateway_funds import supply_key
from engine.workers.gateway_live import LiveOrder
from engine.workers.gateway_market import GatewayMarket, market_status
from tests.unit.books_rig import (
    BUY,
    MARKET_ID,
    NO,
    SELL,
    YES,
    live,
    new_arena,
    new_books,
    new_market,
    opened,
    record,
    replacing,
    sent,
    standing,
    untold,
)

# -- ids


@pytest.mark.spec_examples
def test_ex33_client_order_id() -> None:
    plain = client_order_id(MARKET_ID)
    assert plain == "amm_MKT-BTC-100K-2026_YES_SELL_1740652800000_001"
    assert len(plain) == 48
    hashed = client_order_id("M" * 36)
    assert len(hashed) <= 64
    assert hashed.startswith("amm_m")
    assert hashed.endswith("_YES_SELL_1740652800000_001")
    assert hashed != client_order_id("M" * 37)


def client_order_id(market_id: str) -> str:
    """Of a market's first order, a sale of YES."""
    arena = Arena.create(market_slots=1, worker_slots=1)
    arena.place_market(0, market_id=market_id, worker=0, tick_count=101)
    arena.write_config(0, 1, market_json(MarketConfig(id=market_id)))
    market = GatewayMarket(new_books(arena), arena, 0)
    slot = lib.books_open(market.books, record(YES, SELL, 60, 1), 1_740_652_800_000)
    return market.orders.opened(slot).client_order_id


@pytest.mark.parametrize("length", range(1, 65))
@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("direction", Direction)
def test_a_client_order_id_names_the_market_where_it_fits(
    length: int, outcome: Outcome, direction: Direction
) -> None:
    market = new_market()
    market.books.market_id = b"M" * length
    found = opened(market, outcome, direction, 50, 1).client_order_id
    whole = f"amm_{'M' * length}_{outcome.name}_{direction.name}_1000_001"
    short = f"amm_{short_market_id(MARKET_ID)}_{outcome.name}_{direction.name}_1000_001"
    assert found == (whole if len(whole) <= 64 else short)


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
        order = market.orders.opened(lib.books_open(market.books, record(YES, SELL, 50, 1), now_ms))
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
    assert lib.books_open(market.books, record(YES, SELL, 60, 1), 0) == lib.BOOKS_NO_SLOT
    for order in (orders[5], orders[3]):
        market.orders.close(order)
    assert opened(market, YES, SELL, 60, 1).slot == orders[5].slot
    assert opened(market, YES, SELL, 60, 1).slot == orders[3].slot


def test_a_successor_finds_cash_and_cursor_and_frees_the_rows() -> None:
    arena = new_arena()
    market = new_market(arena)
    order = live(market, YES, SELL, 60, 10)
    leg(market, "T1", order.venue_order_id, quantity=4)
    successor = GatewayMarket(new_books(arena), arena, 0)
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
    tell: Callable[[LiveOrder | None], None] = untold,
) -> LiveOrder | None:
    booked = Leg(
        trade_id=trade_id,
        scenario=Scenario.TRANSFER_YES,
        book_side=side,
        price_cents=price,
        quantity=quantity,
        fee_cents=4,
    )
    return market.apply_leg(booked, order_id=order_id, tell=tell)


def test_a_leg_moves_cash_shares_cursor_and_the_orders_remainder() -> None:
    market = new_market()
    order = live(market, YES, SELL, 60, 10)
    assert leg(market, "T1", order.venue_order_id, quantity=4) is order
    assert (order.remaining, market.account.cursor) == (6, "T1")
    assert (market.account.stock.cash_cents, market.account.stock.yes_volume) == (100_000 + 236, 996)
    assert market.account.stock.yes_cost_sum_cents == 50_000 - 200


def test_a_leg_is_told_before_a_successor_would_take_it_for_booked() -> None:
    """Who dies in between lets it be told again; who died the other way round would lose it."""
    arena = new_arena()
    market = new_market(arena)
    order = live(market, YES, SELL, 60, 10)
    seen: list[tuple[int, str, int]] = []

    def tell(told: LiveOrder | None) -> None:
        assert told is order
        successor = GatewayMarket(new_books(arena), arena, 0).account
        seen.append((successor.stock.cash_cents, successor.cursor, successor.fills))

    leg(market, "T1", order.venue_order_id, quantity=2, tell=tell)
    assert seen == [(100_000, "", 0)]
    successor = GatewayMarket(new_books(arena), arena, 0).account
    assert (successor.stock.cash_cents, successor.cursor, successor.fills) == (100_116, "T1", 1)


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
    assert standing(market, opened(market, YES, SELL, 60, 1)).stock.yes_volume == 0
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
    sent(market, second)
    assert standing(market, first).sell_committed == 600


def test_a_replace_counts_once_and_never_against_itself() -> None:
    market = new_market()
    old = live(market, YES, SELL, 60, 600)
    new = replacing(market, old, YES, SELL, 61, 700)
    assert standing(market, new).sell_committed == 0
    assert standing(market, new).own_ask_cents == 100
    sent(market, new)
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
    sent(market, new)
    found = standing(market, opened(market, YES, SELL, 65, 1))
    assert (found.sell_committed, found.buy_committed_cents) == (600, 4_008)


def test_what_is_live_counts_as_filled_and_an_unanswered_twin_as_a_duplicate() -> None:
    market = new_market()
    live(market, YES, BUY, 45, 7)
    unanswered = opened(market, NO, SELL, 60, 9)  # a bid at 40
    sent(market, unanswered)
    twin = opened(market, NO, SELL, 60, 9)
    found = standing(market, twin)
    assert found.alike_unacked == 1
    assert found.side_shares == 16
    assert found.worst_loss_cents == 7 * 45 + 9 * 40
    market.orders.acknowledge(unanswered, "venue-9")
    assert standing(market, twin).alike_unacked == 0


def test_the_sums_follow_orders_and_stock() -> None:
    market = new_market()
    sums = market.books.sums
    assert sums.worst_loss_cents == 0
    order = live(market, YES, BUY, 45, 100)
    live(market, YES, SELL, 60, 10)
    assert sums.frozen_cents == 4_509
    assert sums.worst_loss_cents == 45 * 100
    leg(market, "T1", order.venue_order_id, side=Side.BID, price=45, quantity=60)
    assert sums.frozen_cents == 40 * 45 + 4
    assert sums.worst_loss_cents == 60 * 45 + 40 * 45, "what was filled costs what it cost"


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
    found = standing(market, opened(market, YES, SELL, 60, 1))
    assert (found.foreign_bid_cents, found.foreign_ask_cents) == foreign


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
