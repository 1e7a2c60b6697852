"""One pipelined connection to Redis: batches of commands out, their replies back, every failure with a name.

hiredis encodes and parses; redis-py reads the URL. Nothing is retried here: after any failure of the
connection the link is closed, because replies could no longer be told apart.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from itertools import islice
from typing import Any, Final, cast

import hiredis
from msgspec import Struct
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url

Command = tuple[bytes, ...]
Batch = asyncio.Future[list[Any]]  # of commands that were sent

_REPLY_BYTES_MAX: Final = 64 << 20  # of one batch
_PORT: Final = 6379


class RedisFault(Enum):
    """What is wrong with Redis, as a person would look for it."""

    CONNECTION = "connection"  # refused, reset, closed
    TIMEOUT = "timeout"  # stalled; what was sent may still be applied
    PROTOCOL = "protocol"  # not Redis, or a reply beyond all measure
    OUT_OF_MEMORY = "out_of_memory"  # maxmemory reached and nothing may be evicted
    READ_ONLY = "read_only"  # a replica
    DISK = "disk"  # MISCONF: it cannot save
    NO_REPLICAS = "no_replicas"
    LOADING = "loading"  # it still reads its file
    NO_AUTH = "no_auth"  # password missing or wrong
    NO_PERMISSION = "no_permission"  # the ACL forbids a command or key
    WRONG_TYPE = "wrong_type"  # one of our keys holds something else
    OTHER = "other"


_BY_CODE: Final = {
    "OOM": RedisFault.OUT_OF_MEMORY,
    "READONLY": RedisFault.READ_ONLY,
    "MISCONF": RedisFault.DISK,
    "NOREPLICAS": RedisFault.NO_REPLICAS,
    "LOADING": RedisFault.LOADING,
    "NOAUTH": RedisFault.NO_AUTH,
    "WRONGPASS": RedisFault.NO_AUTH,
    "NOPERM": RedisFault.NO_PERMISSION,
    "WRONGTYPE": RedisFault.WRONG_TYPE,
}


class RedisFaultError(Exception):
    """A batch, or the connection, failed. The message holds no credentials."""

    def __init__(self, fault: RedisFault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


def fault_of(reply: hiredis.ReplyError) -> RedisFault:
    """The class of an error reply, by its code word."""
    return _BY_CODE.get(str(reply).partition(" ")[0], RedisFault.OTHER)


class RedisAddress(Struct, frozen=True, kw_only=True):
    """Where a server listens and who we are there."""

    path: str  # of a Unix socket; "" = TCP
    host: str
    port: int
    tls: bool
    ca_file: str | None
    database: int
    username: str
    password: str

    def __repr__(self) -> str:
        where = self.path or f"{self.host}:{self.port}"
        return f"RedisAddress({where}, database={self.database})"  # never the password

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """``unix://PATH``, ``redis://`` or ``rediss://`` with redis-py's grammar. Raises ValueError."""
        parts: dict[str, Any] = dict(parse_url(url))
        kind = parts.get("connection_class")
        path = str(parts.get("path", ""))
        if kind is UnixDomainSocketConnection and not path:
            raise ValueError("a unix:// URL needs the socket's path")
        return cls(
            path=path if kind is UnixDomainSocketConnection else "",
            host=str(parts.get("host") or "localhost"),
            port=int(parts.get("port", _PORT)),
            tls=kind is SSLConnection,
            ca_file=parts.get("ssl_ca_certs"),
            database=int(parts.get("db", 0)),
            username=str(parts.get("username") or ""),
            password=str(parts.get("password") or ""),
        )


class _Replies(asyncio.Protocol):
    """Parses what arrives and completes the batches in the order they were sent."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(notEnoughData=_NOT_YET)
        self._waiting: deque[tuple[int, list[Any], Batch]] = deque()
        self._unparsed_bytes = 0
        self._error: RedisFaultError | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def expect(self, count: int) -> Batch:
        """The next ``count`` replies. Raises RedisFaultError when the connection is gone."""
        if self._error is not None:
            raise RedisFaultError(self._error.fault, str(self._error))
        future: Batch = asyncio.get_running_loop().create_future()
        self._waiting.append((count, [], future))
        return future

    def data_received(self, data: bytes) -> None:
        self._unparsed_bytes += len(data)
        try:
            self._reader.feed(data)
            self._take_replies()
        except hiredis.ProtocolError as error:
            self.fail(RedisFaultError(RedisFault.PROTOCOL, str(error)))
        if self._unparsed_bytes > _REPLY_BYTES_MAX:
            self.fail(RedisFaultError(RedisFault.PROTOCOL, f"a reply exceeds {_REPLY_BYTES_MAX} bytes"))

    def _take_replies(self) -> None:
        """Hands every whole reply to the batch that waits for it."""
        unparsed = iter(self._reader.gets, _NOT_YET)
        while self._waiting:
            count, replies, future = self._waiting[0]
            had = len(replies)
            replies.extend(islice(unparsed, count - had))
            if len(replies) > had:
                self._unparsed_bytes = 0
            if len(replies) < count:
                return
            self._waiting.popleft()
            if not future.done():
                future.set_result(replies)
        if next(unparsed, _NOT_YET) is not _NOT_YET:
            self.fail(RedisFaultError(RedisFault.PROTOCOL, "a reply that nobody asked for"))

    def connection_lost(self, exc: Exception | None) -> None:
        text = "closed by the server" if exc is None else f"{type(exc).__name__}: {exc}"
        self.fail(RedisFaultError(RedisFault.CONNECTION, text))

    def fail(self, error: RedisFaultError) -> None:
        """Ends the connection; every waiting batch fails with the first error."""
        if self._error is None:
            self._error = error
        while self._waiting:
            future = self._waiting.popleft()[2]
            if not future.done():
                future.set_exception(self._error)
                future.exception()  # seen: nobody awaits a batch that was sent behind a failed one
        if self.transport is not None:
            self.transport.abort()


_NOT_YET: Final = object()
_pack: Final = cast("Callable[[Command], bytes]", hiredis.pack_command)  # its stub knows one-tuples only


class RedisLink:
    """An open connection. Every call has the link's deadline; after a RedisFaultError of it, close it."""

    def __init__(self, replies: _Replies, timeout_s: float) -> None:
        self._replies = replies
        self._timeout_s = timeout_s

    @classmethod
    async def connect(cls, address: RedisAddress, *, timeout_s: float) -> RedisLink:
        """Connected, authenticated, database selected. Raises RedisFaultError."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                if address.path:
                    _, replies = await loop.create_unix_connection(_Replies, address.path)
                else:
                    context = ssl.create_default_context(cafile=address.ca_file) if address.tls else None
                    _, replies = await loop.create_connection(
                        _Replies, address.host, address.port, ssl=context
                    )
        except TimeoutError:
            raise RedisFaultError(RedisFault.TIMEOUT, f"no connection within {timeout_s} s") from None
        except OSError as error:
            raise RedisFaultError(RedisFault.CONNECTION, f"{type(error).__name__}: {error}") from None
        link = cls(replies, timeout_s)
        greeting: list[Command] = []
        if address.password:
            user = (address.username.encode(),) if address.username else ()
            greeting.append((b"AUTH", *user, address.password.encode()))
        if address.database:
            greeting.append((b"SELECT", b"%d" % address.database))
        try:
            if greeting:
                raise_first_error(await link.execute(greeting))
        except RedisFaultError:
            link.close()
            raise
        return link

    def send(self, commands: Sequence[Command]) -> Batch:
        """Sends a batch in one write, behind those under way; :meth:`replies` are awaited in that order.

        Raises RedisFaultError when the connection is gone.
        """
        transport = self._replies.transport
        assert transport is not None
        batch = self._replies.expect(len(commands))
        transport.write(b"".join(map(_pack, commands)))
        return batch

    async def replies(self, batch: Batch) -> list[Any]:
        """The replies to a batch that was sent; error replies are among them as values.

        Raises RedisFaultError when the connection fails or the deadline, counted from this call, passes.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await batch
        except TimeoutError:
            error = RedisFaultError(RedisFault.TIMEOUT, f"no answer within {self._timeout_s} s")
            self._replies.fail(error)
            raise error from None

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """A batch and its replies: :meth:`send`, then :meth:`replies`."""
        return await self.replies(self.send(commands))

    def close(self) -> None:
        """Drops the connection at once."""
        self._replies.fail(RedisFaultError(RedisFault.CONNECTION, "closed"))


def raise_first_error(replies: Sequence[Any]) -> None:
    """Raises RedisFaultError for the first error among replies."""
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            raise RedisFaultError(fault_of(reply), str(reply))
