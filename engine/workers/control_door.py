"""Serves the admin API on ``RUN/admin.sock`` until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvicorn
from litestar import Litestar

from engine.rundir import ADMIN_SOCKET

_KEEP_ALIVE_S: Final = 30
_STOP_S: Final = 1
_CONNECTIONS_MAX: Final = 64


class _Uvicorn(uvicorn.Server):
    """uvicorn's server without its signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def open_socket(run_dir: Path) -> socket.socket:
    """The listening socket, for the engine's own user alone; one left by a predecessor is replaced."""
    path = run_dir / ADMIN_SOCKET
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(_CONNECTIONS_MAX)
    return listener


async def serve(app: Litestar, listener: socket.socket, stop: asyncio.Event) -> None:
    """Accepts calls until ``stop``; those under way get a second to end. Closes the socket."""
    server = _Uvicorn(
        uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_CONNECTIONS_MAX,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_STOP_S,
        )
    )
    with listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        server.should_exit = True
        await serving
    if not stop.is_set():
        raise RuntimeError(f"{ADMIN_SOCKET}: the server ended by itself")
