"""The event bus on Kafka, read by one thread (optional extra ``corequote[kafka]``).

The thread polls librdkafka, decodes, and hands batches to the event loop's queue. It never holds more than
``BATCHES_MAX`` that the loop has not finished; then it stops asking and the brokers keep the rest. A
partition's offset is committed once the loop has finished everything before it, so that a death of the
process repeats events and never skips one.

Whatever may have made a hole is told as a :class:`Batch` with ``resync``: an assignment, partitions taken
away, an error of the client, a broker that did not answer the probe, an offset that jumped. The loop then
takes the venue's own word before it goes on.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog
from msgspec import Struct

from engine.config import ConfigError
from engine.venues.platform_events import GROUP, TOPICS, TRADE_EVENTS, Event, PoisonError, decode

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, TopicPartition

_log = structlog.get_logger()

BATCHES_MAX: Final = 8
BATCH_MESSAGES_MAX: Final = 256
_POLL_S: Final = 0.1
_PROBE_S: Final = 1.0
_PROBE_TIMEOUT_S: Final = 1.5
_CLOSE_S_MAX: Final = 3.0

Place = tuple[str, int]
"""Topic and partition."""


class Poison(Struct, frozen=True, kw_only=True):
    """A message nobody can read: where it was, why, and its bytes."""

    topic: str
    partition: int
    offset: int
    reason: str
    key: bytes
    value: bytes


class Batch(Struct, frozen=True, kw_only=True):
    """What the loop is to do, in this order: resync when asked to, then the events, then the poison."""

    resync: str = ""  # why; "" = not needed
    steady: bool = True  # the bus delivers: the venue's list need not be polled often
    events: tuple[Event, ...] = ()
    poison: tuple[Poison, ...] = ()
    messages: int = 0
    offsets: dict[Place, int] = {}  # the next to read of each partition, once this batch is finished


def require_client() -> None:
    """Raises ConfigError, one line, when the extra is not installed."""
    try:
        import confluent_kafka  # noqa: F401, PLC0415 - an optional extra
    except ImportError:
        raise ConfigError(
            "venue.fills = \"kafka\": confluent-kafka is not installed: pip install 'corequote[kafka]'"
        ) from None


class EventThread:
    """The consumer and its thread. ``deliver`` is called in the thread, and must not block."""

    def __init__(self, servers: str, *, user_id: str, deliver: Callable[[Batch], object]) -> None:
        self._servers: Final = servers
        self._user_id: Final = user_id
        self._deliver: Final = deliver  # what it returns is nobody's
        self._finished: Final[queue.SimpleQueue[Batch]] = queue.SimpleQueue()
        self._stop: Final = threading.Event()
        self._under_way = 0
        self._resync = ""
        self._steady = False
        self._told_steady = False
        self._assigned: dict[Place, int] = {}  # next offset expected; -1 = whatever comes first
        self._probe_due = 0.0
        self._thread: Final = threading.Thread(target=self._run, name="event-bus", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self, batch: Batch) -> None:
        """The batch's effects are published: its offsets may be committed. Called by the loop."""
        self._finished.put(batch)

    def close(self) -> None:
        """Commits what is finished and leaves the group; blocks for ``_CLOSE_S_MAX`` at most."""
        self._stop.set()
        self._thread.join(_CLOSE_S_MAX)

    # -- the thread

    def _run(self) -> None:
        from confluent_kafka import Consumer  # noqa: PLC0415 - an optional extra

        consumer = Consumer(
            {
                "bootstrap.servers": self._servers,
                "group.id": GROUP,
                "client.id": "corequote-gateway",
                # Without a committed offset, or with one that the broker no longer has: from the beginning.
                # What is known already is dropped; what was skipped would be lost.
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "session.timeout.ms": 6_000,
                "heartbeat.interval.ms": 1_000,
                "socket.timeout.ms": 6_000,
                "reconnect.backoff.max.ms": 1_000,
                "topic.metadata.refresh.interval.ms": 5_000,
                "queued.max.messages.kbytes": 8_192,
                "log_level": 0,  # what it has to say comes by the callback
                "error_cb": self._on_error,
            }
        )
        try:
            consumer.subscribe(
                list(TOPICS), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not self._stop.is_set():
                self._step(consumer)
            self._commit(consumer, wait=True)
        except Exception as error:  # a thread must not die silently: the gateway falls back to the list
            _log.exception("event_bus_failed", reason=str(error))
            self._deliver(Batch(resync="the consumer failed", steady=False))
        finally:
            consumer.close()

    def _step(self, consumer: Consumer) -> None:
        self._commit(consumer, wait=False)
        if self._under_way >= BATCHES_MAX:
            time.sleep(_POLL_S / 10)  # the loop is behind
            return
        messages = consumer.consume(BATCH_MESSAGES_MAX, _POLL_S)
        self._probe(consumer)
        batch = self._batch(messages)
        if batch is not None:
            self._under_way += 1
            self._deliver(batch)

    def _batch(self, messages: list[Message]) -> Batch | None:
        events: list[Event] = []
        poison: list[Poison] = []
        offsets: dict[Place, int] = {}
        for message in messages:
            error = message.error()
            if error is not None:
                self._trouble(str(error.str()))
                continue
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            assert topic is not None
            assert partition is not None
            assert offset is not None
            self._expect(topic, partition, offset)
            offsets[topic, partition] = offset + 1
            try:
                event = decode(topic, message.key(), message.value(), user_id=self._user_id)
            except PoisonError as reason:
                poison.append(_poison(message, topic, partition, offset, str(reason)))
            else:
                if event is not None:
                    events.append(event)
        resync, self._resync = self._resync, ""
        if not offsets and not resync and self._steady == self._told_steady:
            return None
        self._told_steady = self._steady
        return Batch(
            resync=resync,
            steady=self._steady,
            events=tuple(events),
            poison=tuple(poison),
            messages=len(offsets) and len(messages),
            offsets=offsets,
        )

    def _expect(self, topic: str, partition: int, offset: int) -> None:
        """Notes a jump forward. One backward only repeats what is known."""
        expected = self._assigned.get((topic, partition), -1)
        if 0 <= expected < offset:
            self._ask_resync(f"{topic}[{partition}] jumped from {expected} to {offset}")
        self._assigned[topic, partition] = offset + 1

    def _commit(self, consumer: Consumer, *, wait: bool) -> None:
        """Commits what the loop has finished since; a refused commit only means that it is read again."""
        from confluent_kafka import KafkaException, TopicPartition  # noqa: PLC0415 - an optional extra

        places: dict[Place, int] = {}
        while True:
            try:
                batch = self._finished.get_nowait()
            except queue.Empty:
                break
            self._under_way -= 1
            places.update(batch.offsets)
        offsets = [
            TopicPartition(topic, partition, offset)
            for (topic, partition), offset in places.items()
            if (topic, partition) in self._assigned
        ]
        if not offsets:
            return
        try:
            if wait:
                consumer.commit(offsets=offsets, asynchronous=False)
            else:
                consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            _log.info("offsets_not_committed", reason=str(error))

    # -- health

    def _probe(self, consumer: Consumer) -> None:
        """Asks the brokers for the ends of our partitions: silence is trouble, however calm the client, and
        so is a partition that somebody else reads."""
        now = time.monotonic()
        if now < self._probe_due:
            return
        self._probe_due = now + _PROBE_S
        from confluent_kafka import KafkaException, TopicPartition  # noqa: PLC0415 - an optional extra

        places = [place for place in self._assigned if place[0] == TRADE_EVENTS]
        if not places:
            return
        try:
            topics = consumer.list_topics(TRADE_EVENTS, timeout=_PROBE_TIMEOUT_S).topics
            for topic, partition in places:
                consumer.get_watermark_offsets(
                    TopicPartition(topic, partition), timeout=_PROBE_TIMEOUT_S, cached=False
                )
        except KafkaException as error:
            self._trouble(str(error))
            return
        if len(places) < len(topics[TRADE_EVENTS].partitions):
            self._trouble("another member of the group holds partitions of ours")
            return
        if not self._steady:
            self._steady = True
            self._ask_resync("the bus answers")

    def _trouble(self, reason: str) -> None:
        if self._steady:
            _log.warning("event_bus_trouble", servers=self._servers, reason=reason)
        self._steady = False

    def _ask_resync(self, why: str) -> None:
        self._resync = self._resync or why

    def _on_error(self, error: Any) -> None:
        self._trouble(str(error.str()))

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned = {(found.topic, found.partition): -1 for found in partitions}
        self._steady = False  # until the probe has been answered
        self._probe_due = 0.0
        self._ask_resync("partitions were assigned")

    def _on_revoke(self, consumer: Consumer, _: list[TopicPartition]) -> None:
        self._commit(consumer, wait=True)
        self._on_lost(consumer, _)

    def _on_lost(self, _: Consumer, __: list[TopicPartition]) -> None:
        self._assigned = {}
        self._steady = False
        self._ask_resync("partitions were taken away")


def _poison(message: Message, topic: str, partition: int, offset: int, reason: str) -> Poison:
    key, value = message.key(), message.value()
    return Poison(
        topic=topic,
        partition=partition,
        offset=offset,
        reason=reason,
        key=key if isinstance(key, bytes) else b"",
        value=value if isinstance(value, bytes) else b"",
    )
