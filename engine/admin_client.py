"""One call of a running engine's admin API, over its Unix socket."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from engine.rundir import ADMIN_SOCKET

_TIMEOUT_S: Final = 30.0
_ANSWER_BYTES_MAX: Final = 64 << 20


class AdminError(Exception):
    """The control process cannot be asked; the message is one line."""


class AdminAnswer(Struct, frozen=True, kw_only=True):
    """What the API said: ``code`` 0 is success."""

    code: int
    message: str
    data: Any


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def call(run_dir: Path, method: str, path: str, body: dict[str, Any] | None = None) -> AdminAnswer:
    """Sends one request below /admin/amm. Raises AdminError."""
    connection = _Connection(run_dir / ADMIN_SOCKET)
    try:
        payload = None if body is None else msgspec.json.encode(body)
        connection.request(method, f"/admin/amm{path}", payload, {"Content-Type": "application/json"})
        answer = connection.getresponse().read(_ANSWER_BYTES_MAX)
        return msgspec.json.decode(answer, type=AdminAnswer)
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        raise AdminError(f"the control process of {run_dir} does not answer: {error}") from None
    finally:
        connection.close()
