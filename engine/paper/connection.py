"""HTTP connections that send a response with one system call, and that nobody can hold on to for ever.

uvicorn writes head and body of a response separately, and uvloop sends each at once: two system calls here
and two wake-ups in the client for answers of a few hundred bytes. Here the head waits for the body that
always follows in the same breath. On a busy two-core machine this was a fifth of the exchange's CPU time.
"""

import asyncio
import logging
import resource
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from engine.paper.envelope import Answer, enveloped_error
from engine.paper.refusal import Code

REQUEST_S_MAX: Final = 30.0
REPLY_S_MAX: Final = 30.0
LEAVING_S_MAX: Final = 1.0
LEAVING_MAX: Final = 64
DESCRIPTORS_BESIDE: Final = 192
"""Connections that leave, sessions of the database and of the bus, and the process's own files."""
_LOG: Final = logging.getLogger("engine.paper")


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
        if self.plain.is_closing():
            return  # cut off while its reply was being made
        if self._head is not None:
            self.plain.write(self._head + data)
            self._head = None
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):
            self._head = data
        else:
            self.plain.write(data)

    def flush(self) -> None:
        """Send a head that no body followed, as in the answer to HEAD."""
        if self._head is not None and not self.plain.is_closing():
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


def reserve_descriptors(connections_max: int) -> None:
    """Let this process hold that many connections beside its own files; raises ValueError if it may not."""
    needed = connections_max + DESCRIPTORS_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ValueError(
            f"connections_max = {connections_max}: needs {needed} open files, this process may have {hard}; "
            "lower it, or raise the limit (ulimit -n)"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class Admission:
    """How many connections are open at a time, streams included, and what one too many is told."""

    def __init__(self, connections_max: int, refusal: Callable[[], Answer]) -> None:
        self.connections_max: Final = connections_max
        self.refusal: Final = refusal
        self.refused_count = 0
        self.leaving: Final[set[asyncio.Protocol]] = set()
        """Refused connections that may still read why; at most :data:`LEAVING_MAX`."""


class JoiningHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol on a joining transport, with bounds on what a client may hold on to.

    A client has ``timeout_keep_alive`` to begin a request, :data:`REQUEST_S_MAX` to bring it to its end, and
    :data:`REPLY_S_MAX` to take a reply that the kernel's buffers do not hold; then the connection is gone.
    """

    def __init__(self, *, admission: Admission, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._admission: Final = admission
        self._receiving = False
        self._upgraded = False
        self._deadline: asyncio.TimerHandle | None = None
        self._reading_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wrap the transport before anything is written to it; refuse it if there are too many."""
        if len(self.connections) >= self._admission.connections_max:
            self._refuse(transport)
            return
        super().connection_made(JoiningTransport(transport))  # type: ignore[arg-type]
        self._expect_request()

    def _refuse(self, transport: asyncio.Transport) -> None:
        """Say why, and leave the client a moment to read it: an answer before a reset might get lost."""
        admission = self._admission
        admission.refused_count += 1
        if admission.refused_count.bit_count() == 1:  # 1, 2, 4, 8 ... so that a flood is no flood of lines
            _LOG.warning(
                "%d connections are open, so another was refused (%d so far); connections_max is the bound",
                admission.connections_max,
                admission.refused_count,
            )
        if len(admission.leaving) >= LEAVING_MAX:
            transport.abort()
            return
        admission.leaving.add(self)
        answer = admission.refusal()
        head = (
            b"HTTP/1.1 %d Service Unavailable\r\ncontent-type: %b\r\ncontent-length: %d\r\n"
            b"retry-after: 1\r\nconnection: close\r\n\r\n"
        )
        transport.write(head % (answer.status, answer.content_type, len(answer.body)) + answer.body)
        transport.write_eof()
        self._deadline = self.loop.call_later(LEAVING_S_MAX, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Parse; what is incomplete afterwards gets a deadline. A request in one piece costs no timer."""
        if self in self._admission.leaving:
            return
        super().data_received(data)
        if self._upgraded:
            return
        if self._receiving:
            if self._deadline is None:
                self._deadline = self.loop.call_later(REQUEST_S_MAX, self._give_up)
        elif self.timeout_keep_alive_task is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_request()  # it was no request at all, such as an empty line

    def on_message_begin(self) -> None:
        """A request starts."""
        self._receiving = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """A request is here."""
        self._receiving = False
        self._drop_deadline()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """From now on the connection is another protocol's."""
        self._receiving = False
        self._drop_deadline()
        self._upgraded = True
        super().handle_websocket_upgrade()

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

    def pause_writing(self) -> None:
        """The client reads too slowly, or not at all."""
        super().pause_writing()
        self._reading_deadline = self.loop.call_later(REPLY_S_MAX, self._give_up)

    def resume_writing(self) -> None:
        """It has caught up."""
        super().resume_writing()
        self._drop_reading_deadline()

    def timeout_keep_alive_handler(self) -> None:
        """No request for too long; nobody waits until the last reply is read."""
        if not self.transport.is_closing() and self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._drop_deadline()
        self._drop_reading_deadline()
        self._unset_keepalive_if_required()
        if self in self._admission.leaving:
            self._admission.leaving.discard(self)
        elif self.transport is not None:
            super().connection_lost(exc)

    def _expect_request(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _drop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _drop_reading_deadline(self) -> None:
        if self._reading_deadline is not None:
            self._reading_deadline.cancel()
            self._reading_deadline = None

    def _give_up(self) -> None:
        _LOG.warning("a client that neither sends nor reads was cut off")
        self.transport.abort()
