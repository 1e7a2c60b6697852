"""The one shape of every HTTP answer (contract section 1.3), encoded once to bytes."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from litestar.types import Receive, Scope, Send

from engine.paper.refusal import HTTP_STATUS, Refusal

_ENCODER: Final = msgspec.json.Encoder()
_CONTENT_TYPE: Final = (b"content-type", b"application/json")


class Envelope(msgspec.Struct, frozen=True):
    """``code`` 0 is success; ``data`` is null on errors unless section 2.6 gives it content."""

    code: int
    message: str
    data: msgspec.Struct | None
    timestamp: datetime
    request_id: str


class Answer:
    """A finished response, itself a small ASGI application."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.status: Final = status
        self.body: Final = body
        self.headers: Final = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send head and body."""
        length = (b"content-length", str(len(self.body)).encode())
        headers = [_CONTENT_TYPE, length, *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


def ok(data: msgspec.Struct | None, status: int = 200) -> Answer:
    """A success with ``data``."""
    return Answer(status, _encode(0, "success", data))


def refused(refusal: Refusal) -> Answer:
    """A refusal under its code and HTTP status."""
    headers = getattr(refusal, "headers", ())
    return Answer(HTTP_STATUS[refusal.code], _encode(refusal.code, refusal.message, refusal.data), headers)


def failed(status: int, code: int, message: str) -> Answer:
    """An error that no part of the exchange raised itself: unknown route, broken request, internal."""
    return Answer(status, _encode(code, message, None))


def _encode(code: int, message: str, data: msgspec.Struct | None) -> bytes:
    return _ENCODER.encode(Envelope(code, message, data, datetime.now(UTC), f"req_{os.urandom(6).hex()}"))
