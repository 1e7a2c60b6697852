"""Messages of the event bus: ours are picked out, and what is no event is refused with one line."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.config import ConfigError, parse
from engine.venues.platform_events import (
    MARKET_EVENTS,
    ORDER_EVENTS,
    TRADE_EVENTS,
    MarketEvent,
    OrderEvent,
    PoisonError,
    TradeEvent,
    decode,
)
from engine.venues.platform_kafka import require_client

US = "00000000-0000-4000-a000-000000000001"
THEM = "someone"


def trade(**changes: Any) -> dict[str, Any]:
    def side(user: str, role: str) -> dict[str, Any]:
        return {"user_id": user, "order_id": f"o-{role}", "role": role, "fee_cents": 3, "is_amm": user == US}

    body = {
        "trade_id": "t1",
        "scenario": "TRANSFER_YES",
        "price_cents": 65,
        "quantity": 30,
        "buyer": side(THEM, "TAKER"),
        "seller": side(US, "MAKER"),
        "executed_at": "2026-11-21T10:00:00.123456Z",
    }
    return {
        "event_type": "TRADE_EXECUTED",
        "event_id": "e1",
        "timestamp_ms": 1,
        "market_id": "m",
        "trade": body | changes,
    }


def told(topic: str, document: Any, key: bytes = b"m") -> Any:
    return decode(topic, key, json.dumps(document).encode(), user_id=US)


def test_a_trade_of_ours_is_a_leg() -> None:
    event = told(TRADE_EVENTS, trade())
    assert isinstance(event, TradeEvent)
    (leg,) = event.legs
    assert (leg.trade_id, leg.my_side, leg.role, leg.fee_cents) == ("t1", "SELL", "MAKER", 3)
    assert (leg.order_id, leg.audit) == ("o-MAKER", False)
    assert leg.executed_at == datetime(2026, 11, 21, 10, 0, 0, 123456, tzinfo=UTC)


def test_a_trade_with_ourselves_is_two_legs_and_one_of_others_none() -> None:
    ours = trade()["trade"]["seller"]
    event = told(TRADE_EVENTS, trade(buyer=ours | {"role": "TAKER", "order_id": "o2"}))
    assert [(leg.my_side, leg.order_id) for leg in event.legs] == [("BUY", "o2"), ("SELL", "o-MAKER")]
    assert told(TRADE_EVENTS, trade(seller=trade()["trade"]["buyer"])) is None


def test_orders_and_markets() -> None:
    order = {"order_id": "o", "user_id": US, "status": "CANCELLED", "previous_status": "OPEN"}
    document = {"event_type": "ORDER_STATUS_CHANGED", "event_id": "e", "market_id": "m", "order": order}
    assert told(ORDER_EVENTS, document) == OrderEvent(
        event_id="e", market_id="m", order_id="o", status="CANCELLED"
    )
    assert told(ORDER_EVENTS, document | {"order": order | {"user_id": THEM}}) is None
    moved = {
        "event_type": "MARKET_STATUS_CHANGED",
        "event_id": "e",
        "market_id": "m",
        "new_status": "HALTED",
    }
    assert told(MARKET_EVENTS, moved) == MarketEvent(event_id="e", market_id="m", status="HALTED")


@pytest.mark.parametrize(
    "changes",
    [
        {"price_cents": 0},
        {"price_cents": 100},
        {"price_cents": 65.0},
        {"price_cents": True},
        {"quantity": 0},
        {"quantity": "30"},
        {"scenario": "GIFT"},
        {"trade_id": ""},
        {"executed_at": "2026-11-21T10:00:00"},
        {"executed_at": 1},
        {"buyer": None},
    ],
)
def test_an_impossible_trade_is_poison(changes: dict[str, Any]) -> None:
    with pytest.raises(PoisonError) as refused:
        told(TRADE_EVENTS, trade(**changes))
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"null", b"[]", b"{", b"[" * 100_000, b"NaN"])
@pytest.mark.parametrize("topic", [TRADE_EVENTS, ORDER_EVENTS, MARKET_EVENTS, "else"])
def test_what_is_no_event_is_poison(topic: str, value: bytes | None) -> None:
    with pytest.raises(PoisonError):
        decode(topic, b"m", value, user_id=US)


@pytest.mark.parametrize("key", [None, b"", b"other"])
def test_another_key_than_the_market_is_poison(key: bytes | None) -> None:
    with pytest.raises(PoisonError, match="market_id"):
        decode(TRADE_EVENTS, key, json.dumps(trade()).encode(), user_id=US)


def test_kafka_without_the_client_or_without_brokers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    require_client()
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(ConfigError, match=r"pip install 'corequote\[kafka\]'"):
        require_client()
    markets = [{"id": "m"}]
    with pytest.raises(ConfigError, match=r"venue\.kafka is empty"):
        parse({"venue": {"fills": "kafka"}, "markets": markets}, "x")
    with pytest.raises(ConfigError, match=r"venue\.kafka"):
        parse({"venue": {"fills": "kafka", "kafka": "kafka://b:1"}, "markets": markets}, "x")
    config = parse({"venue": {"fills": "kafka", "kafka": "a:1,[::1]:2"}, "markets": markets}, "x")
    assert config.venue.kafka == "a:1,[::1]:2"
