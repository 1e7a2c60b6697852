"""Faults of requests: an application around the exchange's, and the hold on the connection that they need.

Only an exchange with ``--faults`` has this layer, and while no rule is about requests it only passes them on.
A request and its reply go through memory whole, so that each side of the execution can be left out: bodies
are bounded by the application, replies by the views.

Reads: requests, fault rules. Writes: replies, broken ones among them.
"""

import asyncio
import os
import signal
import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import pairwise
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from engine.paper import connection
from engine.paper.connection import JoiningHttpProtocol
from engine.paper.desk import Desk
from engine.paper.envelope import Answer
from engine.paper.faults import (
    AnswerStatus,
    CutReply,
    DropReply,
    DropRequest,
    DuplicateReply,
    Garbage,
    HttpAction,
    Kill,
    KillPoint,
    Moment,
    Nonsense,
    OmitRecentOrders,
    RepeatRequest,
    StaleRead,
)
from engine.paper.faults_switches import Plan, Seen, Switches
from engine.paper.refusal import HTTP_STATUS, Code, Refusal

FAULTS_PATH: Final = "/api/v1/admin/faults"
REPLIES_KEPT_MAX: Final = 1024
_FLUSH_POLL_S: Final = 0.001
_FLUSH_POLLS_MAX: Final = 5000
BODY_READ_MAX: Final = 1 << 17
_LINE: Final = "corequote.line"
_PARENTS: Final = frozenset({"markets", "positions"})
_POINTS_OF_THE_TRANSACTION: Final = frozenset(
    {KillPoint.BEFORE_COMMIT, KillPoint.MID_TRANSACTION, KillPoint.AFTER_COMMIT}
)
_HTML: Final = b"<html><head><title>502</title></head><body><h1>Bad gateway</h1></body></html>\n"
_OTHER_SHAPE: Final = b'{"code":0,"message":"success","data":["what","is","this"],"timestamp":null}'
_BINARY: Final = bytes(range(256))


class FaultyHttpProtocol(JoiningHttpProtocol):
    """Lets the fault layer at the connection a request came on."""

    def on_headers_complete(self) -> None:
        """Put the connection into the scope of the request that now begins."""
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self.cycle.scope["extensions"] = {_LINE: {"protocol": self, "cycle": self.cycle}}


class Line:
    """The connection of one request."""

    def __init__(self, scope: HTTPScope) -> None:
        extensions: Any = scope["extensions"]
        self._cycle: Final = extensions[_LINE]["cycle"]
        self._transport: Final = extensions[_LINE]["protocol"].transport.plain

    def write(self, data: bytes) -> None:
        """Send bytes as they are, past the server."""
        self._transport.write(data)

    async def flush(self) -> None:
        """Wait until the kernel has everything; not for ever, the client may have stopped reading."""
        for _ in range(_FLUSH_POLLS_MAX):
            await asyncio.sleep(_FLUSH_POLL_S)  # first, because what was just written is not in the count yet
            if self._transport.is_closing() or not self._transport.get_write_buffer_size():
                return

    def close(self, *, reset: bool) -> None:
        """End the connection, by FIN or by RST; whatever is answered afterwards goes nowhere."""
        self._cycle.disconnected = True
        if self._transport.is_closing():
            return
        if reset:
            connection.reset(self._transport)
        else:
            self._transport.abort()


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A whole answer, caught before anybody saw it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    async def send(self, send: Send) -> None:
        """Answer it."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})

    def with_body(self, body: bytes, status: int | None = None) -> "Reply":
        """The same with another body."""
        headers = [header for header in self.headers if header[0] != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        return Reply(self.status if status is None else status, headers, body)

    def raw(self) -> bytes:
        """Head and body as they go over the wire."""
        lines = [name + b": " + value + b"\r\n" for name, value in self.headers]
        return STATUS_LINE[self.status] + b"".join(lines) + b"\r\n" + self.body


class FaultyApp:
    """The exchange's application behind its fault switches."""

    def __init__(self, app: ASGIApp, switches: Switches, desk: Desk) -> None:
        self._app: Final = app
        self._switches: Final = switches
        self._desk: Final = desk
        self._replies: Final[OrderedDict[tuple[frozenset[str], str, bytes], tuple[float, Reply]]] = (
            OrderedDict()
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or do to it what the rules say."""
        if (
            scope["type"] != ScopeType.HTTP
            or not self._switches.concern_requests
            or scope["path"].rstrip("/") == FAULTS_PATH
        ):
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return  # the client has left
        seen = self._see(scope, body)
        plan = self._switches.plan(seen)
        request = Request(self._app, scope, body, send)
        if plan is None:
            await request.pass_on()
        else:
            await self._spoil(request, seen, plan)

    # -- what a rule may ask -----------------------------------------------------------------------------

    def _see(self, scope: HTTPScope, body: bytes) -> Seen:
        markets = self._markets(scope, body) if self._switches.needs_markets else frozenset()
        return Seen(path=scope["path"], method=scope["method"], users=self._users(scope), markets=markets)

    def _users(self, scope: HTTPScope) -> frozenset[str]:
        headers = dict(scope["headers"])
        authorization = headers.get(b"authorization", b"")
        if authorization[:7].lower() != b"bearer ":
            return frozenset()
        system_id = headers.get(b"x-amm-system-id", b"").decode("latin-1") or None
        try:
            caller = self._desk.tokens.read_access(authorization[7:].decode("latin-1"), system_id)
        except Refusal:
            return frozenset()
        user = self._desk.exchange.state.users.get(caller.user_id)
        return frozenset({caller.user_id, user.username} if user is not None else {caller.user_id})

    def _markets(self, scope: HTTPScope, body: bytes) -> frozenset[str]:
        """Every market the request names; a malformed one may name none."""
        named = set(parse_qs(scope["query_string"].decode("latin-1")).get("market_id", []))
        parts = scope["path"].split("/")
        orders = self._desk.exchange.state.orders
        for parent, part in pairwise(parts):
            if parent in _PARENTS:
                named.add(part)
            elif parent == "orders" and part in orders:
                named.add(orders[part].market_id)
        try:
            document = msgspec.json.decode(body) if body else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            document = None
        if isinstance(document, dict):
            nested = document.get("new_order")
            for member in (document, nested if isinstance(nested, dict) else {}):
                market_id = member.get("market_id")
                if isinstance(market_id, str):
                    named.add(market_id)
        return frozenset(named)

    # -- what becomes of it ------------------------------------------------------------------------------

    async def _spoil(self, request: "Request", seen: Seen, plan: Plan) -> None:
        await _wait(plan.before_ms)
        action = plan.action
        match action:
            case DropRequest():
                request.line.close(reset=action.reset)
                return
            case AnswerStatus(moment=Moment.BEFORE):
                await _wait(plan.after_ms)
                await self._status_reply(action).send(request.send)
                return
            case Garbage(moment=Moment.BEFORE):
                await _wait(plan.after_ms)
                await _garbled(_reply_of(self._desk.dialect.broke()), action).send(request.send)
                return
            case Kill():
                reply = await self._execute_to_die(request, action, plan)
            case StaleRead():
                reply = await self._read_stale(request, seen, action)
            case RepeatRequest():
                await request.execute()
                reply = await request.execute()
            case _:
                reply = await request.execute()
        await _wait(plan.after_ms)
        await self._answer(request, reply, action)

    async def _answer(self, request: "Request", reply: Reply, action: HttpAction | None) -> None:
        """Let the caller have ``reply``, or what the action leaves of it."""
        match action:
            case DropReply():
                request.line.close(reset=action.reset)
            case CutReply():
                line = request.line
                line.write(reply.raw()[: len(reply.raw()) - _withheld(reply, action)])
                await line.flush()
                line.close(reset=True)
            case DuplicateReply():
                line = request.line
                await reply.send(request.send)
                line.write(reply.raw())
            case AnswerStatus():
                await self._status_reply(action).send(request.send)
            case Garbage():
                await _garbled(reply, action).send(request.send)
            case OmitRecentOrders():
                await _without_recent(request, reply, action).send(request.send)
            case Kill(point=KillPoint.AFTER_REPLY):
                line = request.line
                await reply.send(request.send)
                await line.flush()
                _die()
            case _:
                await reply.send(request.send)

    def _status_reply(self, action: AnswerStatus) -> Reply:
        """An error, or a redirect, in the words of the dialect."""
        dialect = self._desk.dialect
        if action.status == HTTP_STATUS[Code.INTERNAL]:
            answer = dialect.broke()
        elif action.status == HTTP_STATUS[Code.RATE_LIMITED]:
            answer = dialect.refused(Refusal(Code.RATE_LIMITED, "limit reached, says a fault rule"))
        else:
            answer = dialect.unroutable(action.status, f"status {action.status}, says a fault rule")
        reply = _reply_of(answer)
        if action.retry_after_s is not None:
            reply.headers.append((b"retry-after", str(action.retry_after_s).encode()))
        if action.location is not None:
            reply.headers.append((b"location", action.location.encode()))
        return reply

    async def _execute_to_die(self, request: "Request", action: Kill, plan: Plan) -> Reply:
        switch = self._switches.kill_switch
        if action.point is KillPoint.BEFORE_EXECUTION:
            _die()
        if action.point not in _POINTS_OF_THE_TRANSACTION:
            reply = await request.execute()
            if action.point is KillPoint.AFTER_COMMIT_BEFORE_REPLY:
                _die()
            return reply
        # The body is here and the handlers wait for nothing before they submit, so that the next batch that
        # is written holds this request's command.
        switch.armed = action.point
        try:
            reply = await request.execute()
        finally:
            switch.armed = None
        plan.take_back()
        return reply

    async def _read_stale(self, request: "Request", seen: Seen, action: StaleRead) -> Reply:
        """What this user was told at this address within the last ``age_ms``, or the truth, remembered."""
        if request.scope["method"] != "GET":
            return await request.execute()
        key = (seen.users, seen.path, request.scope["query_string"])
        now_s = time.monotonic()
        kept = self._replies.get(key)
        if kept is not None and now_s - kept[0] < action.age_ms / 1000:
            return kept[1]
        reply = await request.execute()
        self._replies[key] = (now_s, reply)
        self._replies.move_to_end(key)
        if len(self._replies) > REPLIES_KEPT_MAX:
            self._replies.popitem(last=False)
        return reply


class Request:
    """One request with its body read: it can be executed any number of times, each time into memory."""

    def __init__(self, app: ASGIApp, scope: HTTPScope, body: bytes, send: Send) -> None:
        self.scope: Final = scope
        self.send: Final = send
        self._app: Final = app
        self._body: Final = body

    @property
    def line(self) -> Line:
        """The connection it came on."""
        return Line(self.scope)

    async def pass_on(self) -> None:
        """Execute it and let its answer go."""
        await self._app(self.scope, self._replay(), self.send)

    async def execute(self) -> Reply:
        """Execute it and keep its answer."""
        status = 0
        headers: list[tuple[bytes, bytes]] = []
        parts = []

        async def keep(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], list(message["headers"])
            elif message["type"] == "http.response.body":
                parts.append(message["body"])

        # The framework leaves marks in the scope: a second execution gets one without them.
        scope: Any = {**self.scope, "state": dict(self.scope["state"])}
        await self._app(scope, self._replay(), keep)
        return Reply(status, headers, b"".join(parts))

    def _replay(self) -> Receive:
        messages: list[Any] = [{"type": "http.request", "body": self._body, "more_body": False}]

        async def receive() -> Any:
            return messages.pop() if messages else {"type": "http.disconnect"}

        return receive


async def _read(receive: Receive) -> bytes | None:
    """The body, cut where the application would refuse it anyway; None if the client left."""
    parts = []
    size = 0
    while size <= BODY_READ_MAX:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message["body"])
        size += len(message["body"])
        if not message["more_body"]:
            break
    return b"".join(parts)


async def _wait(ms: float) -> None:
    if ms > 0:
        await asyncio.sleep(ms / 1000)


def _withheld(reply: Reply, action: CutReply) -> int:
    """Bytes of the body that are not sent: at least one."""
    return max(1, len(reply.body) - len(reply.body) * action.sent_percent // 100)


def _reply_of(answer: Answer) -> Reply:
    headers = [(b"content-type", answer.content_type), *answer.headers]
    return Reply(answer.status, headers, answer.body).with_body(answer.body)


def _garbled(reply: Reply, action: Garbage) -> Reply:
    bodies = {
        Nonsense.EMPTY: b"",
        Nonsense.HTML: _HTML,
        Nonsense.TRUNCATED: reply.body[: len(reply.body) // 2],
        Nonsense.OTHER_SHAPE: _OTHER_SHAPE,
        Nonsense.BINARY: _BINARY,
    }
    return reply.with_body(bodies[action.body], HTTPStatus.OK)


def _without_recent(request: Request, reply: Reply, action: OmitRecentOrders) -> Reply:
    """A page of orders without the youngest; any other reply as it is."""
    if request.scope["method"] != "GET" or not request.scope["path"].rstrip("/").endswith("/orders"):
        return reply
    document = msgspec.json.decode(reply.body)
    page = document.get("data", document)  # the as-built dialect has no envelope
    if not isinstance(page, dict) or "items" not in page:
        return reply
    youngest = datetime.now(UTC) - timedelta(milliseconds=action.age_ms)
    page["items"] = [item for item in page["items"] if datetime.fromisoformat(item["created_at"]) < youngest]
    return reply.with_body(msgspec.json.encode(document))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
