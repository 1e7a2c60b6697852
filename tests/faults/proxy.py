"""A TCP proxy between an HTTP client and its server that breaks single requests on purpose.

It understands just enough HTTP/1.1 (heads, Content-Length) to know where a request ends and which one it
is. For each, a rule says what happens to it; everything else passes. The client sees real sockets: resets,
silence, half an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import Self


class Fault(Enum):
    """What happens to one request."""

    PASS = auto()
    DROP_REQUEST = auto()  # read, never forwarded, connection reset
    STALL_REQUEST = auto()  # read, never forwarded, silence
    LOSE_REPLY = auto()  # forwarded and answered; the answer is swallowed, connection reset
    STALL_REPLY = auto()  # forwarded and answered; silence
    CUT_REPLY = auto()  # half of the answer, then a reset
    SERVER_ERROR = auto()  # forwarded and answered; the client is told 500 in plain text
    GARBAGE = auto()  # forwarded and answered; the client is told 200 with something that is no JSON
    UNAUTHORIZED = auto()  # not forwarded; 401
    TOO_MANY = auto()  # not forwarded; 429 with Retry-After: 1
    UNAVAILABLE = auto()  # not forwarded; 503


AMBIGUOUS = (
    Fault.DROP_REQUEST,
    Fault.STALL_REQUEST,
    Fault.LOSE_REPLY,
    Fault.STALL_REPLY,
    Fault.CUT_REPLY,
    Fault.SERVER_ERROR,
    Fault.GARBAGE,
)
"""Faults after which the client cannot know what happened."""

Rule = Callable[[str, str], Fault]
"""(method, path) of a request -> what happens to it. Called once per request, from the proxy's thread."""

_CANNED = {
    Fault.SERVER_ERROR: (500, "text/plain", b"Internal Server Error"),
    Fault.GARBAGE: (200, "application/json", b'{"code":0,"data":{"order'),
    Fault.UNAUTHORIZED: (401, "application/json", b'{"code":401,"message":"token expired","data":null}'),
    Fault.TOO_MANY: (429, "application/json", b'{"code":9001,"message":"slow down","data":null}'),
    Fault.UNAVAILABLE: (503, "text/plain", b"upstream is gone"),
}


def pass_all(_method: str, _path: str) -> Fault:
    return Fault.PASS


class FaultProxy:
    """Listens on a free loopback port and forwards to ``upstream_port``; lives in a thread of its own."""

    def __init__(self, upstream_port: int) -> None:
        self.rule: Rule = pass_all
        self.port = 0
        self.counts: dict[Fault, int] = dict.fromkeys(Fault, 0)
        self._upstream_port = upstream_port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the proxy does not listen"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def fail_next(self, method: str, path_part: str, *faults: Fault) -> None:
        """The next matching requests meet these faults, one each; all others pass."""
        waiting = list(faults)

        def rule(seen_method: str, seen_path: str) -> Fault:
            if waiting and seen_method == method and path_part in seen_path:
                return waiting.pop(0)
            return Fault.PASS

        self.rule = rule

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            while True:
                request = await _message(reader)
                if not await self._one(request, upstream, writer, reader):
                    break
        for each in (writer, upstream[1] if upstream else None):
            if each is not None:
                each.transport.abort()

    async def _one(
        self,
        request: bytes,
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        client: asyncio.StreamWriter,
        client_gone: asyncio.StreamReader,
    ) -> bool:
        """Handles one request; False ends the connection. Silence lasts until the client hangs up."""
        method, path, _ = request.split(b" ", 2)
        fault = self.rule(method.decode(), path.decode())
        self.counts[fault] += 1
        if fault == Fault.DROP_REQUEST:
            return False
        if fault == Fault.STALL_REQUEST:
            await client_gone.read()
            return False
        if fault in {Fault.UNAUTHORIZED, Fault.TOO_MANY, Fault.UNAVAILABLE}:
            client.write(_canned(fault))
            await client.drain()
            return True
        upstream[1].write(request)
        await upstream[1].drain()
        reply = await _message(upstream[0])
        match fault:
            case Fault.PASS:
                client.write(reply)
            case Fault.STALL_REPLY:
                await client_gone.read()
                return False
            case Fault.CUT_REPLY:
                client.write(reply[: len(reply) // 2])
                await client.drain()
                await asyncio.sleep(0.01)
                return False
            case Fault.SERVER_ERROR | Fault.GARBAGE:
                client.write(_canned(fault))
            case _:
                return False
        await client.drain()
        return True


def _canned(fault: Fault) -> bytes:
    status, kind, body = _CANNED[fault]
    head = f"HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Retry-After: 1\r\n\r\n" + body


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One whole request or answer, head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return head + await reader.readexactly(length)
