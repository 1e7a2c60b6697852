"""Exchange -> Apache Kafka -> gateway, with the broker killed under it (``make kafka`` runs this)."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.events import GatewayCounter
from engine.venues.platform_events import TRADE_EVENTS
from engine.workers.gateway_bus import DEAD_LETTERS
from tests.integration.kafka_table import LONG_S, Table
from tests.integration.worker_rig import until
from tests.kafka.broker import CLASSPATH_VARIABLE, ApacheKafka

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        CLASSPATH_VARIABLE not in os.environ, reason="make kafka brings Apache Kafka, given Maven and a JDK"
    ),
]


@pytest.fixture
def kafka() -> Iterator[ApacheKafka]:
    with tempfile.TemporaryDirectory(prefix="kafka-") as folder, ApacheKafka(Path(folder)) as broker:
        yield broker


@pytest.fixture
def table(tmp_path: Path, kafka: ApacheKafka) -> Iterator[Table]:
    made = Table(tmp_path, kafka.servers)
    yield made
    made.close()


def test_fills_poison_a_killed_broker_and_a_killed_gateway(table: Table, kafka: ApacheKafka) -> None:
    table.await_steady()
    for slot in (0, 1):
        table.rest(slot)
    for number in range(10):
        table.take(1 + number, slot=number % 2, outcome="YES" if number % 3 else "NO")
    table.await_fills(10)
    until(lambda: table.counter(GatewayCounter.BUS_FILLS) == 10, "ten legs by the bus", deadline_s=LONG_S)
    table.check()

    table.publish(TRADE_EVENTS, b"\xff not an event")
    until(lambda: table.counter(GatewayCounter.BUS_POISON) == 1, "it is buried", deadline_s=LONG_S)
    (letter,) = (table.rig.run_dir / DEAD_LETTERS).read_text().splitlines()
    assert json.loads(letter)["poison"]["topic"] == TRADE_EVENTS
    until(table.unasked, "no poll of the trade list", deadline_s=LONG_S)

    kafka.kill()
    until(lambda: table.rig.logged("gateway", "event_bus_trouble"), "trouble is seen", deadline_s=LONG_S)
    for quantity in (4, 5, 6):
        table.take(quantity)
    table.await_fills(13)  # by the trade list
    table.check()
    kafka.start()
    table.await_steady(2)
    before = table.counter(GatewayCounter.BUS_FILLS)
    table.take(7)
    table.await_fills(14)
    until(
        lambda: table.counter(GatewayCounter.BUS_FILLS) == before + 1,
        "the bus tells again",
        deadline_s=LONG_S,
    )
    table.check()

    table.outlive_a_killed_gateway(steady=3)
