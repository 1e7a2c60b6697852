"""The event bus on Kafka: ``kafka://HOST:PORT[,HOST:PORT...]`` (optional extra ``corequote[kafka]``).

Each message is keyed by its market, so that a market's events share a partition and keep their order. The
producer is idempotent: within one producer a retry neither repeats nor reorders. After a failure a new
producer sends the whole stretch again, which can only repeat it.
"""

import logging
import re
import socket
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from engine.paper.event_bus import BusDownError, EventBus, EventsError, Message

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Producer

NO_EVENTS: Final = "none"
EVENTS_RULE: Final = f"{NO_EVENTS} or kafka://HOST:PORT[,HOST:PORT...] (without user, TLS or path)"
DELIVER_S_MAX: Final = 20.0
"""How long the brokers may take for one stretch before a new producer tries it again."""
_SLICE_S: Final = 0.1
_SERVER: Final = re.compile(r"(?P<host>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
_LOG: Final = logging.getLogger("engine.paper.events")


def kafka_servers(events: str) -> list[tuple[str, int]]:
    """Hosts and ports of an ``events`` setting, none for ``none``; raises ValueError with the rule."""
    if events == NO_EVENTS:
        return []
    scheme, separator, rest = events.partition("://")
    found = [_SERVER.fullmatch(server) for server in rest.split(",")]
    servers = [(match["host"].strip("[]"), int(match["port"])) for match in found if match is not None]
    ports_are_ports = all(0 < port < 65_536 for _, port in servers)
    if scheme != "kafka" or not separator or len(servers) != len(found) or not ports_are_ports:
        raise ValueError(f"events {events!r}: {EVENTS_RULE} is the rule")
    return servers


def open_bus(events: str) -> EventBus | None:
    """The bus of an ``events`` setting, None for ``none``.

    A broker that is merely down is no error: events wait for it. Raises :class:`EventsError` when the client
    library is not installed or no broker's name can be resolved, ValueError for a setting that is none.
    """
    servers = kafka_servers(events)
    if not servers:
        return None
    try:
        import confluent_kafka  # noqa: F401, PLC0415 - an optional extra
    except ImportError as error:
        raise EventsError(
            f"events {events}: confluent-kafka is not installed: pip install 'corequote[kafka]'"
        ) from error
    if not any(_is_known(host, port) for host, port in servers):
        raise EventsError(f"events {events}: no such host")
    return KafkaBus(events.partition("://")[2])


def _is_known(host: str, port: int) -> bool:
    try:
        return bool(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return False


class KafkaBus:
    """Delivers to the cluster behind ``servers`` (``HOST:PORT,...``)."""

    def __init__(self, servers: str) -> None:
        self._servers: Final = servers
        self._closed: Final = threading.Event()
        self._producer: Producer | None = None
        self._trouble: str | None = None

    def deliver(self, messages: Sequence[Message]) -> None:
        """Block until every message is acknowledged by all replicas in sync.

        Raises :class:`BusDownError` after :data:`DELIVER_S_MAX`, when a broker refuses one, or soon after
        :meth:`close`; some of the messages may have been stored then.
        """
        from confluent_kafka import KafkaException  # noqa: PLC0415 - an optional extra

        refusals: list[str] = []

        def on_delivery(error: "KafkaError | None", _: object) -> None:
            if error is not None:
                refusals.append(error.str())

        try:
            producer = self._producer = self._producer or self._connect()
            for message in messages:
                producer.produce(message.topic, message.value, message.key, on_delivery=on_delivery)
            deadline = time.monotonic() + DELIVER_S_MAX
            while producer.flush(_SLICE_S) and not self._closed.is_set() and time.monotonic() < deadline:
                pass
            waiting = len(producer)
        except (KafkaException, BufferError) as error:
            self._abandon()
            raise BusDownError(f"{self._servers}: {error}") from error
        if waiting or refusals:
            self._abandon()
            reason = self._trouble or (refusals[0] if refusals else "no answer")
            raise BusDownError(f"{self._servers}: {reason}")
        self._trouble = None

    def close(self) -> None:
        """End a delivery under way within a fraction of a second."""
        self._closed.set()

    def _connect(self) -> "Producer":
        from confluent_kafka import Producer  # noqa: PLC0415 - an optional extra

        return Producer(
            {
                "bootstrap.servers": self._servers,
                "client.id": "corequote-paper",
                "enable.idempotence": True,
                # Where Java's clients put the same key, so that other producers of a market agree.
                "partitioner": "murmur2_random",
                "message.timeout.ms": int(DELIVER_S_MAX * 1000),
                "reconnect.backoff.max.ms": 1000,
                "log_level": 0,  # what it has to say comes by the callback
                "error_cb": self._on_error,
            }
        )

    def _abandon(self) -> None:
        """Forget the producer and what it still has; the next stretch starts with a new one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.flush(_SLICE_S)

    def _on_error(self, error: "KafkaError") -> None:
        if self._trouble is None:
            _LOG.warning("event bus %s: %s", self._servers, error.str())
        self._trouble = error.str()
