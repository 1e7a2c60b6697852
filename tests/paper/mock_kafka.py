"""librdkafka's mock cluster as a process: the real protocol on loopback, memory only, can be stopped.

``python -m tests.paper.mock_kafka`` makes the topics, prints the brokers' addresses and lives until its
stdin ends.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from engine.paper.events import MARKET_EVENTS, ORDER_EVENTS, TRADE_EVENTS

ROOT = Path(__file__).resolve().parents[2]
BROKERS = 2
TOPICS = (TRADE_EVENTS, ORDER_EVENTS, MARKET_EVENTS)
DEADLINE_S = 60.0


class Received(NamedTuple):
    """One message as a consumer saw it."""

    topic: str
    partition: int
    key: str
    event_id: str
    event: dict[str, Any]


class MockKafka:
    """The cluster's process and a consumer that reads everything from the beginning."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.paper.mock_kafka"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.servers = self._process.stdout.readline().strip()
        assert self.servers
        self.url = f"kafka://{self.servers}"
        self._consumer: Consumer | None = None
        self.received: list[Received] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._consumer is not None:
            self._consumer.close()
        self._process.kill()
        self._process.communicate()

    def stop(self) -> None:
        """Hang: connections stay open, nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End of :meth:`stop`."""
        self._process.send_signal(signal.SIGCONT)

    def read_until(self, wanted: set[str]) -> list[Received]:
        """Everything received since the beginning, once all ``wanted`` event ids are there."""
        deadline = time.monotonic() + DEADLINE_S
        while missing := wanted - {received.event_id for received in self.received}:
            assert time.monotonic() < deadline, f"{len(missing)} of {len(wanted)} events are missing"
            self.read_some()
        return self.received

    def read_some(self) -> list[Received]:
        """Everything received since the beginning, with what comes within a moment."""
        consumer = self._consumer = self._consumer or self._open_consumer()
        for message in consumer.consume(500, 0.2):
            if message.error() is None:
                event = msgspec.json.decode(message.value())
                self.received.append(
                    Received(
                        message.topic(),
                        message.partition(),
                        message.key().decode(),
                        event["event_id"],
                        event,
                    )
                )
        return self.received

    def _open_consumer(self) -> Consumer:
        """One that reads every partition itself, without waiting for a group to form."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "tests", "log_level": 0})
        topics = consumer.list_topics(timeout=DEADLINE_S).topics
        consumer.assign(
            [
                TopicPartition(topic, partition, OFFSET_BEGINNING)
                for topic in TOPICS
                for partition in topics[topic].partitions
            ]
        )
        return consumer


def main() -> None:
    producer = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": BROKERS, "log_level": 0})
    for topic in TOPICS:  # made by being asked for, a moment later
        while not producer.list_topics(topic, timeout=DEADLINE_S).topics[topic].partitions:
            time.sleep(0.01)
    brokers = producer.list_topics(timeout=DEADLINE_S).brokers.values()
    print(",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
