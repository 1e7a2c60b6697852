"""HTTP connections that send a response with one system call.

uvicorn writes head and body of a response separately, and uvloop sends each at once: two system calls here
and two wake-ups in the client for answers of a few hundred bytes. Here the head waits for the body that
always follows in the same breath. On a busy two-core machine this was a fifth of the exchange's CPU time.
"""

import asyncio
import socket
import struct
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from engine.paper.envelope import enveloped_error
from engine.paper.refusal import Code


class JoiningTransport:
    """A transport that holds a response head back until the next write."""

    __slots__ = ("_head", "plain")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.plain: Final = transport
        self._head: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)

    def write(self, data: bytes) -> None:
        """Send ``data``, after a head that waits; or let a head wait (an interim 1xx response never does)."""
        if self._head is not None:
            self.plain.write(self._head + data)
            self._head = None
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):
            self._head = data
        else:
            self.plain.write(data)

    def flush(self) -> None:
        """Send a head that no body followed, as in the answer to HEAD."""
        if self._head is not None:
            self.plain.write(self._head)
            self._head = None

    def close(self) -> None:
        """Send what waits, then close."""
        self.flush()
        self.plain.close()


def reset(transport: asyncio.Transport) -> None:
    """End a connection by RST instead of FIN: whoever reads from it gets an error, not an end."""
    no_linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
    transport.abort()


class JoiningHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol on a joining transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wrap the transport before anything is written to it."""
        super().connection_made(JoiningTransport(transport))  # type: ignore[arg-type]

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as HTTP at all, an unheard-of method included, is refused in the envelope."""
        body = enveloped_error(400, Code.BAD_REQUEST, msg).body
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
        self.transport.write(head + b"content-length: %d\r\n\r\n" % len(body))
        self.transport.write(body)
        self.transport.close()

    def on_response_complete(self) -> None:
        """A response is over: nothing of it may wait any longer."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()
