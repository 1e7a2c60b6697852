"""The one shape of every HTTP answer (contract section 1.3), encoded once to bytes."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from litestar.types import Receive, Scope, Send

from engine.paper.refusal import RefusalData

_ENCODER: Final = msgspec.json.Encoder()
_JSON: Final = b"application/json"


RequestId = Annotated[str, msgspec.Meta(pattern="^req_[0-9a-f]{12}$")]


class Envelope(msgspec.Struct, frozen=True):
    """``code`` 0 is success; ``data`` is null on errors unless section 2.6 gives it content."""

    code: int
    message: str
    data: msgspec.Struct | None
    timestamp: datetime
    request_id: RequestId


class ErrorEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope as errors fill it, for the description; ``code`` is one of section 1.6."""

    code: Annotated[int, msgspec.Meta(ge=400, le=9999)]
    message: Annotated[str, msgspec.Meta(min_length=1)]
    data: RefusalData | None
    timestamp: datetime
    request_id: RequestId


class Answer:
    """A finished response, itself a small ASGI application."""

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        headers: Sequence[tuple[bytes, bytes]] = (),
        content_type: bytes = _JSON,
    ) -> None:
        self.status: Final = status
        self.body: Final = body
        self.content_type: Final = content_type
        self.headers: Final = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send head and body."""
        length = (b"content-length", str(len(self.body)).encode())
        headers = [(b"content-type", self.content_type), length, *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


def ok(data: msgspec.Struct | None, status: int = 200) -> Answer:
    """A success with ``data``, in the envelope."""
    return Answer(status, _encode(0, "success", data))


def enveloped_error(
    status: int,
    code: int,
    message: str,
    data: RefusalData | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> Answer:
    """An error in the envelope."""
    return Answer(status, _encode(code, message, data), headers)


def bare(data: msgspec.Struct, status: int = 200) -> Answer:
    """``data`` as the whole body."""
    return Answer(status, _ENCODER.encode(data))


def text(body: str, status: int) -> Answer:
    """A body that is no JSON at all."""
    return Answer(status, body.encode(), content_type=b"text/plain; charset=utf-8")


def _encode(code: int, message: str, data: msgspec.Struct | None) -> bytes:
    return _ENCODER.encode(Envelope(code, message, data, datetime.now(UTC), f"req_{os.urandom(6).hex()}"))
