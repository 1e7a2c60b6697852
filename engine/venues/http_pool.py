"""Keep-alive HTTP/1.1 to one host, with a send that is one step: check, write, nothing in between.

The order gateway needs three things of its HTTP client that a general one hides: the last pre-trade check
and the socket write happen with no await between them; it is known for certain whether any byte of a request
was handed to the socket; cancels are never behind orders, nor orders behind queries. So connections are
plain asyncio protocols (one request at a time each, parsed by llhttp), and the pool hands them out by
class. Where one is open and free a request is in the socket when :meth:`HttpPool.send_now` returns: no task,
no turn of the event loop; :meth:`HttpPool.tend` keeps some open, so that a request seldom waits for a
connection to be made. A burst whose bytes somebody else writes takes its connections with
:meth:`HttpPool.claim`.

Deadlines cover a request from asking for a connection to the last byte of its answer. Redirects, proxies,
cookies and decompression do not exist here. Heads and bodies are capped.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Final, cast
from urllib.parse import urlsplit

import httptools
from msgspec import Struct

from engine import crash_points
from engine._native import lib

BODY_BYTES_MAX: Final = 8 << 20
HEAD_BYTES_MAX: Final = 64 << 10
WAITING_MAX: Final = 4_096  # requests of one class that may wait for a connection
IDLE_NS_MAX: Final = 4_000_000_000  # servers commonly close after 5 s; a request must not race with that
AHEAD_MAX: Final = 32  # connections kept open for requests to come
ORDER_PATIENCE_S: Final = 0.5  # an order is not queued behind others for longer: it is planned anew instead
_AHEAD_RETRY_NS: Final = 1_000_000_000  # after one that could not be opened


class RequestClass(IntEnum):
    """Who goes first when connections are short; a lower class never waits for a higher one."""

    CANCEL = 0
    ORDER = 1
    QUERY = 2


class Reply(Struct, frozen=True, kw_only=True, gc=False):
    """A whole HTTP answer."""

    status: int
    body: bytes
    retry_after_s: float | None  # header Retry-After, when it is a number of seconds
    rate_reset_unix_s: int | None  # header X-RateLimit-Reset
    sent_mono_ns: int  # just before the request's bytes were handed to the socket
    date: bytes = b""  # header Date, as it came


class NotSentError(Exception):
    """No byte of the request was handed to the socket: nothing can have happened."""


class LostAnswerError(Exception):
    """The request was handed to the socket and no whole answer came: its outcome is unknown."""

    def __init__(self, reason: str, sent_mono_ns: int) -> None:
        super().__init__(reason)
        self.sent_mono_ns = sent_mono_ns


class Connection(asyncio.Protocol):
    """One TCP or TLS connection: at most one request under way."""

    def __init__(self, pool: HttpPool) -> None:
        self.idle_since_mono_ns = lib.mono_now_ns()
        self.sent_mono_ns = 0
        self.reusable = True
        self.fd = -1  # ours, beside the transport's: it means this connection until the pool lets go of it
        self.lane: _Lane | None = None  # of the request under way
        self._pool: Final = pool
        self._loop: Final = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Reply] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._start_answer()

    def _start_answer(self) -> None:
        self._in_head = True
        self._header_bytes = 0  # of headers read whole
        self._unparsed_bytes = 0  # received while the head was not whole
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._retry_after_s: float | None = None
        self._rate_reset_unix_s: int | None = None
        self._date = b""

    def send(self, request: bytes, within_s: float) -> asyncio.Future[Reply]:
        """Hands the request's bytes to the socket; the answer's future fails with LostAnswerError."""
        assert self._transport is not None
        self.sent_mono_ns = lib.mono_now_ns()
        self._transport.write(request)
        if crash_points.armed:
            crash_points.reach("gateway.after_send")
        return self._await_answer(within_s)

    def sent(self, sent_mono_ns: int, unwritten: bytes, within_s: float) -> asyncio.Future[Reply]:
        """Somebody else has written a request to ``fd``, all but ``unwritten``; the future of its answer."""
        self.sent_mono_ns = sent_mono_ns
        answer = self._await_answer(within_s)
        if not self.usable:
            self.abort("connection lost before the request")
        elif unwritten:
            assert self._transport is not None
            self._transport.write(unwritten)
        return answer

    def close_fd(self) -> None:
        """Nobody writes to ``fd`` any more."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _await_answer(self, within_s: float) -> asyncio.Future[Reply]:
        assert self._answer is None
        self._start_answer()
        answer = self._answer = self._loop.create_future()
        answer.add_done_callback(self._given_up)
        self._deadline = self._loop.call_later(within_s, self._too_late)
        return answer

    def abort(self, reason: str = "connection dropped") -> None:
        """Drops the connection; an answer still awaited is lost."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()
        self._fail(reason)

    @property
    def usable(self) -> bool:
        return self.reusable and self._transport is not None and not self._transport.is_closing()

    @property
    def warm(self) -> bool:
        """Usable, and used lately enough for the server to keep it open."""
        return self.usable and lib.mono_now_ns() - self.idle_since_mono_ns < IDLE_NS_MAX

    @property
    def unwritten_bytes(self) -> int:
        """Of an earlier request, answered before it was written to its end."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def busy(self) -> bool:
        return self._answer is not None

    def _too_late(self) -> None:
        self.abort("no answer within the deadline")

    def _given_up(self, answer: asyncio.Future[Reply]) -> None:
        """Whoever awaited the answer does so no more: it must not meet the next request."""
        if answer.cancelled() and self._answer is answer:
            self.abort()

    def _take_answer(self) -> asyncio.Future[Reply] | None:
        """The request under way ends here: its future, once."""
        answer, self._answer = self._answer, None
        self.idle_since_mono_ns = lib.mono_now_ns()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        return answer

    def _fail(self, reason: str) -> None:
        answer = self._take_answer()
        if answer is None:
            return
        if not answer.done():
            answer.set_exception(LostAnswerError(reason, self.sent_mono_ns))
            answer.exception()  # nobody may be left to hear it: then it is no news either
        self._pool.ended(self)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, but not by inheritance
        self.fd = os.dup(transport.get_extra_info("socket").fileno())

    def data_received(self, data: bytes) -> None:
        self._pool.before_answer()
        if self._answer is None:  # nothing was asked: this is no HTTP server we can talk to
            self.abort()
            return
        if self._in_head:
            self._unparsed_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.abort(f"answer is not HTTP/1.1: {error}")
        else:
            if max(self._header_bytes, self._unparsed_bytes if self._in_head else 0) > HEAD_BYTES_MAX:
                self.abort(f"answer's head exceeds {HEAD_BYTES_MAX} bytes")
        if not self.busy:  # only now: what follows an answer in the same bytes has been seen
            self._pool.ended(self)

    def eof_received(self) -> bool:
        return False  # close our side too

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._fail(f"connection lost: {exc}" if exc else "connection closed before the whole answer")
        self._pool.lost(self)

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        if self._answer is None:  # an answer nobody asked for must not meet the next request
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        lowered = name.lower()
        if lowered == b"retry-after" and value.isdigit():
            self._retry_after_s = float(value)
        elif lowered == b"x-ratelimit-reset" and value.isdigit():
            self._rate_reset_unix_s = int(value)
        elif lowered == b"date":
            self._date = value

    def on_headers_complete(self) -> None:
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > BODY_BYTES_MAX:
            self.abort(f"answer's body exceeds {BODY_BYTES_MAX} bytes")
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer: the real one follows
            self._start_answer()
            return
        if self._header_bytes > HEAD_BYTES_MAX:
            return  # data_received() refuses it
        if not self._parser.should_keep_alive():
            self.reusable = False
        answer = self._take_answer()
        if answer is not None and not answer.done():
            answer.set_result(
                Reply(
                    status=status,
                    body=b"".join(self._body),
                    retry_after_s=self._retry_after_s,
                    rate_reset_unix_s=self._rate_reset_unix_s,
                    sent_mono_ns=self.sent_mono_ns,
                    date=self._date,
                )
            )


def _nothing() -> None:
    """Nobody wants to be asked."""


class _Lane:
    """The requests of one class: how many may be under way, who waits, and for how long at most."""

    def __init__(self, limit: int, patience_s: float | None = None) -> None:
        self.limit = limit
        self.patience_s = patience_s
        self.used = 0
        self.waiting: deque[asyncio.Future[None]] = deque()


class HttpPool:
    """Up to ``connections`` connections to the host of ``url`` (scheme and authority only).

    A quarter of them is kept for cancels, and queries together get another quarter at most, so a venue
    that is slow to place or to list cannot keep a cancel from being sent. An order waits ORDER_PATIENCE_S at
    most for one: quotes are not queued until they are stale, and the order that a replace means is not kept
    from a cancel meanwhile.
    """

    def __init__(self, url: str, *, connections: int, timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is not http://HOST[:PORT] or https://HOST[:PORT]")
        self.authority: Final = parts.netloc.encode()
        self._host: Final = parts.hostname
        self._port: Final = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._tls = ssl.create_default_context()
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._timeout_s: Final = timeout_s
        self._limit: Final = connections
        reserved = max(1, connections // 4) if connections > 1 else 0
        self._lanes: Final = {
            RequestClass.CANCEL: _Lane(connections),
            RequestClass.ORDER: _Lane(connections - reserved, ORDER_PATIENCE_S),
            RequestClass.QUERY: _Lane(max(1, connections // 4)),
        }
        self._used = 0
        self._idle: list[Connection] = []  # last used last: the warmest is taken first
        self.connections: Final[set[Connection]] = set()
        self._ahead: Final = min(connections, AHEAD_MAX)
        self._opening: asyncio.Task[None] | None = None
        self._open_after_mono_ns = 0
        self._closed = False
        #: Called before an answer's bytes, and before an answer that was awaited, are looked at.
        self.before_answer: Callable[[], None] = _nothing

    def send_now(
        self, request_class: RequestClass, request: bytes, *, gate: Callable[[], int | None] | None = None
    ) -> asyncio.Future[Reply] | int | None:
        """As :meth:`send`, but without waiting: the future of the answer to a request that is in the socket,
        or what ``gate`` returned. None: the request would have to wait; nothing was sent or asked.

        The future fails with LostAnswerError.
        """
        lane = self._lanes[request_class]
        if self._closed or lane.used >= lane.limit or self._used >= self._limit or lane.waiting:
            return None
        connection = self._warm()
        if connection is None:
            return None
        lane.used += 1
        self._used += 1
        return self._hand_over(connection, lane, request, gate, self._timeout_s)

    def at_once(self, request_class: RequestClass) -> int:
        """How many requests of a class may be under way."""
        return self._lanes[request_class].limit

    def claim(self, request_class: RequestClass, most: int) -> list[Connection]:
        """Up to ``most`` connections for requests that somebody else writes to their ``fd``, each to be given
        to :meth:`sent` or :meth:`ended`. None where bytes cannot be written as they are."""
        lane = self._lanes[request_class]
        claimed: list[Connection] = []
        if self._closed or self._tls is not None or lane.waiting:
            return claimed
        most = min(most, lane.limit - lane.used, self._limit - self._used)
        while len(claimed) < most and (connection := self._warm()) is not None:
            if connection.unwritten_bytes:
                self._drop(connection)
            else:
                connection.lane = lane
                claimed.append(connection)
        lane.used += len(claimed)
        self._used += len(claimed)
        return claimed

    def sent(self, connection: Connection, sent_mono_ns: int, unwritten: bytes) -> asyncio.Future[Reply]:
        """A request has been written to a claimed connection, all but ``unwritten``; the future of its
        answer, which fails with LostAnswerError."""
        return connection.sent(sent_mono_ns, unwritten, self._timeout_s)

    async def send(
        self, request_class: RequestClass, request: bytes, *, gate: Callable[[], int | None] | None = None
    ) -> Reply | int:
        """One request, a whole one as bytes; its answer, or what ``gate`` returned instead of None.

        ``gate`` runs immediately before the bytes go out, with no other code between, and stops them by
        returning a code. NotSentError: no connection, or the deadline passed before one was free.
        LostAnswerError: no whole answer, or the deadline passed while waiting for it.
        """
        begun = self.send_now(request_class, request, gate=gate)
        if begun is None:
            begun = await self._send_later(self._lanes[request_class], request, gate)
        return begun if isinstance(begun, int) else await begun

    async def _send_later(
        self, lane: _Lane, request: bytes, gate: Callable[[], int | None] | None
    ) -> asyncio.Future[Reply] | int:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._timeout_s
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._enter(lane)
                try:
                    connection = self._warm() or await self._connect()
                except BaseException:
                    self._leave(lane)
                    raise
        except TimeoutError:
            raise NotSentError("no connection was free in time") from None
        except OSError as error:
            raise NotSentError(f"cannot connect: {error}") from None
        return self._hand_over(connection, lane, request, gate, max(0.0, deadline_s - loop.time()))

    def _hand_over(
        self,
        connection: Connection,
        lane: _Lane,
        request: bytes,
        gate: Callable[[], int | None] | None,
        within_s: float,
    ) -> asyncio.Future[Reply] | int:
        """The gate's word, and if it has none against it the bytes; the place in the lane is taken."""
        connection.lane = lane
        if gate is not None and (declined := gate()) is not None:
            self.ended(connection)
            return declined
        return connection.send(request, within_s)

    def tend(self, now_mono_ns: int) -> None:
        """Closes connections nobody used for IDLE_NS_MAX, and opens one where few are left: called often."""
        while self._idle and now_mono_ns - self._idle[0].idle_since_mono_ns >= IDLE_NS_MAX:
            self._drop(self._idle.pop(0))
        if (
            self._opening is None
            and not self._closed
            and self._used + len(self._idle) < self._ahead
            and now_mono_ns >= self._open_after_mono_ns
        ):
            self._opening = asyncio.get_running_loop().create_task(self._open_ahead())

    @property
    def opening(self) -> bool:
        """Whether a connection is being opened ahead."""
        return self._opening is not None

    async def _open_ahead(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                self._give_back(await self._connect())
        except OSError:  # TimeoutError is one
            self._open_after_mono_ns = lib.mono_now_ns() + _AHEAD_RETRY_NS
        finally:
            self._opening = None

    def close(self) -> None:
        """Drops every connection; requests under way lose their answers, later ones are not sent."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
        for connection in list(self.connections):
            self._drop(connection)
        self._idle.clear()

    # -- lanes

    async def _enter(self, lane: _Lane) -> None:
        if self._closed:
            raise NotSentError("the pool is closed")
        if lane.used < lane.limit and self._used < self._limit and not lane.waiting:
            lane.used += 1
            self._used += 1
            return
        if len(lane.waiting) >= WAITING_MAX:
            raise NotSentError(f"{WAITING_MAX} requests wait already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.waiting.append(turn)
        try:
            async with asyncio.timeout(lane.patience_s):
                await turn
        except (asyncio.CancelledError, TimeoutError):
            if turn.done() and not turn.cancelled():  # it was our turn already: pass it on
                self._leave(lane)
            elif turn in lane.waiting:
                lane.waiting.remove(turn)
            raise

    def _leave(self, lane: _Lane) -> None:
        lane.used -= 1
        self._used -= 1
        for candidate in self._lanes.values():  # in order of class
            while candidate.waiting and candidate.used < candidate.limit and self._used < self._limit:
                turn = candidate.waiting.popleft()
                if not turn.done():
                    candidate.used += 1
                    self._used += 1
                    turn.set_result(None)

    # -- connections

    def _warm(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.warm:
                return connection
            self._drop(connection)
        return None

    async def _connect(self) -> Connection:
        """A new connection that can be used. Raises OSError."""
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self),
            self._host,
            self._port,
            ssl=self._tls,
            server_hostname=self._host if self._tls is not None else None,
        )
        if self._closed or not connection.usable:  # either may have come while the connection was made
            connection.abort()
            raise ConnectionAbortedError("the connection ended at once")
        self.connections.add(connection)
        return connection

    def ended(self, connection: Connection) -> None:
        """The request of a connection is over, answered or not."""
        lane, connection.lane = connection.lane, None
        if lane is not None:
            self._give_back(connection)
            self._leave(lane)

    def lost(self, connection: Connection) -> None:
        """A connection has ended by itself."""
        self.connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if connection.lane is None:  # else it is claimed, and comes back
            connection.close_fd()

    def _give_back(self, connection: Connection) -> None:
        if connection.usable and not self._closed:
            self._idle.append(connection)
        else:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        self.connections.discard(connection)
        connection.abort()
        connection.close_fd()
