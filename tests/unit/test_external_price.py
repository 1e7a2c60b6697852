"""Prices of other venues: exact decimals, the mid, and the frames they come in."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.venues import kalshi_prices, polymarket_prices
from engine.venues.external_price import PriceRefusedError, TopOfBook, mid_cents, price_e4


def top(bid: int | None, ask: int | None) -> TopOfBook:
    return TopOfBook(bid_e4=bid, ask_e4=ask, unix_ms=1)


@given(st.integers(1, 9_999))
def test_every_price_of_the_grid_is_read_exactly(e4: int) -> None:
    text = str(Decimal(e4) / 10_000)
    assert price_e4(text) == e4
    assert price_e4(text.removeprefix("0")) == e4  # ".48"
    assert price_e4(f"{Decimal(e4) / 10_000:.6f}") == e4


@pytest.mark.parametrize("text", ["", "0", "0.0000", "1", "1.0000"])
def test_nobody_is_no_price(text: str) -> None:
    assert price_e4(text) is None


@pytest.mark.parametrize(
    "text", ["-0.1", "1.0001", "0.12345", "nan", "1e-2", "0,5", "99999", "\u0660.\u0665", " 0.5"]
)
def test_what_is_no_share_price_is_refused(text: str) -> None:
    with pytest.raises(PriceRefusedError):
        price_e4(text)


@pytest.mark.parametrize(
    ("bid", "ask", "expected"),
    [
        (1_300, 1_400, 14),  # 13.5 rounds half up
        (4_600, 4_700, 47),
        (9_960, 9_970, 99),
        (10, 20, 1),
        (4_000, 5_000, 45),
        (4_000, 5_001, None),  # wider than 10 cents
        (5_000, 5_000, None),  # locked
        (5_100, 5_000, None),  # crossed
        (None, 5_000, None),
        (5_000, None, None),
    ],
)
def test_a_mid_or_no_price(bid: int | None, ask: int | None, expected: int | None) -> None:
    assert mid_cents(top(bid, ask), 10) == expected


# ---- polymarket


def event(**fields: object) -> str:
    return json.dumps({"timestamp": "1770921570954", **fields})


def test_a_book_is_its_best_levels_in_any_order() -> None:
    bids = [{"price": ".48", "size": "30"}, {"price": ".50", "size": "15"}, {"price": ".49", "size": "20"}]
    asks = [{"price": "0.51", "size": "0.00"}, {"price": ".54", "size": "10"}, {"price": ".52", "size": "25"}]
    frame = event(event_type="book", asset_id="7", bids=bids, asks=asks)
    touch = TopOfBook(bid_e4=5_000, ask_e4=5_200, unix_ms=1_770_921_570_954)
    assert polymarket_prices.decode(frame) == [("7", touch)]
    assert polymarket_prices.decode(f"[{frame},{frame}]") == [("7", touch)] * 2


def test_changes_say_the_new_touch_of_each_token() -> None:
    changes = [
        {"asset_id": "7", "price": "0.5", "size": "0", "best_bid": "0.5", "best_ask": "1"},
        {"asset_id": "8", "price": "0.5", "size": "0", "best_bid": "0", "best_ask": "0.51"},
    ]
    decoded = polymarket_prices.decode(event(event_type="price_change", price_changes=changes))
    assert [(token, touch.bid_e4, touch.ask_e4) for token, touch in decoded] == [
        ("7", 5_000, None),
        ("8", None, 5_100),
    ]
    both = event(event_type="best_bid_ask", asset_id="7", best_bid="0.73", best_ask="0.77")
    assert polymarket_prices.decode(both)[0][1].ask_e4 == 7_700


def test_a_new_tick_size_and_a_resolution_end_the_price() -> None:
    frames = [
        event(event_type="tick_size_change", asset_id="7", old_tick_size="0.01", new_tick_size="0.001"),
        event(event_type="market_resolved", assets_ids=["7"], winning_asset_id="7"),
    ]
    for frame in frames:
        ((token, touch),) = polymarket_prices.decode(frame)
        assert (token, touch.bid_e4, touch.ask_e4) == ("7", None, None)


@pytest.mark.parametrize("kind", ["last_trade_price", "new_market", "something_new"])
def test_other_events_say_nothing_of_the_touch(kind: str) -> None:
    assert polymarket_prices.decode(event(event_type=kind, asset_id="7", price="0.3")) == []


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "7",
        '{"asset_id":"7"}',
        '{"event_type":"book","bids":{}}',
        '{"event_type":"book","asset_id":"7","timestamp":"soon"}',
        '{"event_type":"best_bid_ask","asset_id":"7","best_bid":"2","timestamp":"1"}',
    ],
)
def test_a_frame_that_breaks_the_protocol_is_refused(frame: str) -> None:
    with pytest.raises(PriceRefusedError):
        polymarket_prices.decode(frame)


def test_the_subscription_names_the_tokens() -> None:
    assert json.loads(polymarket_prices.subscription(["7", "8"])) == {
        "type": "market",
        "assets_ids": ["7", "8"],
        "custom_feature_enabled": True,
    }


# ---- kalshi


def summary(**changes: str) -> bytes:
    market = {
        "ticker": "KXFED-27APR-T4.25",
        "status": "active",
        "notional_value_dollars": "1.0000",
        "yes_bid_dollars": "0.1600",
        "yes_ask_dollars": "0.3500",
    }
    return json.dumps({"market": market | changes}).encode()


def test_a_summary_is_its_touch() -> None:
    touch = kalshi_prices.decode(summary(), "KXFED-27APR-T4.25", unix_ms=5)
    assert touch == TopOfBook(bid_e4=1_600, ask_e4=3_500, unix_ms=5)
    nobody = kalshi_prices.decode(
        summary(yes_bid_dollars="0.0000", yes_ask_dollars="1.0000"), "KXFED-27APR-T4.25", unix_ms=5
    )
    assert (nobody.bid_e4, nobody.ask_e4) == (None, None)
    closed = kalshi_prices.decode(summary(status="finalized"), "KXFED-27APR-T4.25", unix_ms=5)
    assert (closed.bid_e4, closed.ask_e4) == (None, None)


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b'{"market":{}}', summary(ticker="OTHER"), summary(notional_value_dollars="0.5000")],
)
def test_an_answer_that_is_not_the_market_is_refused(payload: bytes) -> None:
    with pytest.raises(PriceRefusedError):
        kalshi_prices.decode(payload, "KXFED-27APR-T4.25", unix_ms=5)


def test_an_address_cannot_be_escaped() -> None:
    assert kalshi_prices.market_url("http://h/v2", "A/../b") == "http://h/v2/markets/A%2F..%2Fb"
