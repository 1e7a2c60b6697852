"""Apache Kafka itself as a process: one node in KRaft mode, on loopback, its log on disk."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Self

from confluent_kafka.admin import AdminClient, NewTopic

from engine.venues.platform_events import TOPICS
from tests.integration.worker_rig import until

CLASSPATH_VARIABLE = "COREQUOTE_KAFKA_CLASSPATH"
START_S = 90.0
PARTITIONS = 4

_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/log
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""


class ApacheKafka:
    """A broker on a directory of its own. :meth:`kill` is kill -9; :meth:`start` goes on with its log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._classpath = os.environ[CLASSPATH_VARIABLE]
        port, controller = _free_ports(2)
        self.servers = f"127.0.0.1:{port}"
        self._properties = folder / "server.properties"
        self._properties.write_text(_PROPERTIES.format(port=port, controller=controller, folder=folder))
        self._process: subprocess.Popen[bytes] | None = None
        storage = ("kafka.tools.StorageTool", "format", "--standalone")
        subprocess.run(
            self._java(*storage, "-t", "corequote-tests-000000", "-c", str(self._properties)),
            check=True,
            capture_output=True,
            timeout=START_S,
        )
        self.start()
        admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        for made in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in TOPICS]).values():
            made.result(START_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _java(self, *command: str) -> list[str]:
        return ["java", "-Xmx384m", "-XX:TieredStopAtLevel=1", "-cp", self._classpath, *command]

    def start(self) -> None:
        """Up again, with what its log holds; returns when it answers."""
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._properties)), stdout=log, stderr=log
            )
        until(self._answers, "the broker answers", deadline_s=START_S)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "broker.log").read_text()[-2_000:]
        try:
            AdminClient({"bootstrap.servers": self.servers, "log_level": 0}).list_topics(timeout=2)
        except Exception:
            return False
        return True

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(START_S)
            self._process = None


def _free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in taken]
    for server in taken:
        server.close()
    return ports
