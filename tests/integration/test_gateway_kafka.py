"""Fills by the event bus: exchange -> Kafka (librdkafka's own cluster) -> a real gateway, whatever breaks."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from engine.events import Direction, ExecutionKind, GatewayCounter, Outcome
from engine.paper.events import MARKET_EVENTS, ORDER_EVENTS, TRADE_EVENTS
from engine.venues.platform_events import GROUP
from engine.workers.gateway_bus import DEAD_LETTERS
from tests.integration.gateway_rig import MARKET
from tests.integration.kafka_table import LONG_S, Table
from tests.integration.worker_rig import until
from tests.paper.mock_kafka import MockKafka

pytestmark = pytest.mark.timeout(300)

YES, NO = Outcome.YES, Outcome.NO
BUY, SELL = Direction.BUY, Direction.SELL


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    with MockKafka() as cluster:
        yield cluster


@pytest.fixture
def table(tmp_path: Path, kafka: MockKafka) -> Iterator[Table]:
    made = Table(tmp_path, kafka.servers)
    yield made
    made.close()


def test_fills_come_by_the_bus_alone(table: Table) -> None:
    table.await_steady()
    for slot in (0, 1):
        table.rest(slot)
    for quantity in range(1, 11):
        table.take(quantity, slot=quantity % 2, outcome="YES" if quantity % 3 else "NO")
    table.await_fills(10)
    until(lambda: table.counter(GatewayCounter.BUS_FILLS) == 10, "ten legs by the bus")
    table.check()


def test_repeats_of_everything_change_nothing(table: Table, kafka: MockKafka) -> None:
    """All that was ever published once more, in another order: as after an offset reset."""
    table.await_steady()
    table.rest()
    for quantity in range(1, 6):
        table.take(quantity)
    table.await_fills(5)
    trades = _all_messages(kafka, TRADE_EVENTS, 5)
    random.Random(7).shuffle(trades)
    for key, value in trades:
        table.publish(TRADE_EVENTS, value, key=key)
    table.take(9)
    table.await_fills(6)
    table.check()


def test_a_broker_that_hangs_and_comes_back(table: Table, kafka: MockKafka) -> None:
    """During the outage the list is polled as without a bus; afterwards nothing is booked twice."""
    table.await_steady()
    table.rest()
    table.take(3)
    table.await_fills(1)
    until(lambda: table.counter(GatewayCounter.BUS_FILLS) == 1, "told by the bus")
    kafka.stop()
    until(lambda: table.rig.logged("gateway", "event_bus_trouble"), "trouble is seen", deadline_s=LONG_S)
    for quantity in (4, 5, 6):
        table.take(quantity)
    table.await_fills(4)
    table.check()
    assert table.counter(GatewayCounter.BUS_FILLS) == 1
    kafka.go_on()
    table.await_steady(2)
    table.take(7)
    table.await_fills(5)
    until(lambda: table.counter(GatewayCounter.BUS_FILLS) >= 2, "the bus tells again", deadline_s=LONG_S)
    table.check()


def test_a_killed_gateway_goes_on_where_its_effects_ended(table: Table) -> None:
    table.await_steady()
    table.rest()
    for quantity in (1, 2, 3):
        table.take(quantity)
    table.await_fills(3)
    table.outlive_a_killed_gateway(steady=2)


def test_poison_is_buried_and_the_venue_is_asked(table: Table) -> None:
    table.await_steady()
    table.rest()
    table.take(2)
    table.await_fills(1)
    for poison in (b"", b"\xff\xfe", b"[]", b'{"event_type":"TRADE_EXECUTED"}', b"{" * 5_000):
        table.publish(TRADE_EVENTS, poison)
    table.publish(ORDER_EVENTS, b"null")
    table.publish(MARKET_EVENTS, json.dumps(_market_event("SUSPENDED")).encode(), key=b"somewhere-else")
    until(lambda: table.counter(GatewayCounter.BUS_POISON) == 7, "seven are buried", deadline_s=LONG_S)
    lines = (table.rig.run_dir / DEAD_LETTERS).read_text().splitlines()
    assert len(lines) == 7
    assert {json.loads(line)["poison"]["topic"] for line in lines} == {
        TRADE_EVENTS,
        ORDER_EVENTS,
        MARKET_EVENTS,
    }
    assert table.rig.logged("gateway", "alert")[0]["alert"] == "EVENT_POISON"
    table.take(3)
    table.await_fills(2)
    table.check()


def test_old_and_false_news_of_a_market_is_only_a_question(table: Table) -> None:
    """An event says SUSPENDED, the venue says ACTIVE: orders go on. What the venue says, holds at once."""
    table.await_steady()
    table.publish(MARKET_EVENTS, json.dumps(_market_event("SUSPENDED")).encode())
    table.rest()
    table.exchange.operator().post(
        f"admin/markets/{MARKET}/status", {"status": "SUSPENDED", "reason": "a test"}
    )
    table.rig.quoters[0].expect(ExecutionKind.MARKET_STATUS, code=3)


def test_a_second_consumer_takes_partitions_and_gives_them_back(table: Table) -> None:
    """Rebalance: what another member of the group swallows, the list brings."""
    table.await_steady()
    table.rest()
    other = Consumer(
        {
            "bootstrap.servers": table.servers,
            "group.id": GROUP,
            "session.timeout.ms": 6_000,
            "log_level": 0,
            "auto.offset.reset": "earliest",
        }
    )
    other.subscribe([TRADE_EVENTS, ORDER_EVENTS, MARKET_EVENTS])
    deadline = time.monotonic() + LONG_S
    while not other.assignment():
        other.consume(100, 0.2)
        assert time.monotonic() < deadline
    for quantity in (1, 2, 3, 4):
        table.take(quantity)
        other.consume(100, 0.2)
    other.close()
    table.await_steady(2)
    table.await_fills(4)
    table.take(5)
    table.await_fills(5)
    table.check()


def test_both_modes_at_once(tmp_path: Path, kafka: MockKafka) -> None:
    """The list is polled as fast as it can be while the bus tells the same: each leg once."""
    table = Table(tmp_path, kafka.servers, kafka_repair_interval_ms=100, trade_poll_interval_ms=100)
    try:
        until(lambda: table.rig.logged("gateway", "event_bus_steady"), "the bus is steady", deadline_s=LONG_S)
        for slot in (0, 1):
            table.rest(slot)
        for number in range(30):
            table.take(1 + number % 5, slot=number % 2, outcome="YES" if number % 3 else "NO")
        table.await_fills(30)
        until(lambda: table.counter(GatewayCounter.BUS_EVENTS) >= 30, "the bus told all of it")
        table.check()
    finally:
        table.close()


def _market_event(status: str) -> dict[str, Any]:
    return {
        "event_type": "MARKET_STATUS_CHANGED",
        "event_id": f"false-{status}",
        "timestamp_ms": 1,
        "market_id": MARKET,
        "previous_status": "ACTIVE",
        "new_status": status,
    }


def _all_messages(kafka: MockKafka, topic: str, count: int) -> list[tuple[bytes, bytes]]:
    """Key and value of the topic's messages, at least so many."""

    def found() -> list[tuple[bytes, bytes]]:
        return [
            (message.key.encode(), json.dumps(message.event).encode())
            for message in kafka.read_some()
            if message.topic == topic
        ]

    until(lambda: len(found()) >= count, f"{count} messages", deadline_s=LONG_S)
    return found()
