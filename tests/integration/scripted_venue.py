"""A small venue that says over its WebSockets exactly what a test tells it to, in a thread of its own.

Login and refresh always succeed. An order-book client is greeted with its market's snapshot, if there is
one, and gets it again for every REQUEST_SNAPSHOT; all else is sent by the test, which numbers its own frames.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Coroutine
from typing import Any

from aiohttp import WSMsgType, web

BOOK = "orderbook"
TRADES = "trades"


def levels(pairs: Any) -> list[dict[str, int]]:
    return [{"price_cents": price, "total_quantity": quantity} for price, quantity in pairs]


def book(
    kind: str, sequence: int, *, market: str = "MKT-A", bids: Any = (), asks: Any = ()
) -> dict[str, Any]:
    return {
        "type": "ORDERBOOK_UPDATE",
        "update_type": kind,
        "sequence_id": sequence,
        "market_id": market,
        "timestamp_ms": 1_790_000_000_000 + sequence,
        "yes": {"bids": levels(bids), "asks": levels(asks)},
    }


def trade(sequence: int, *, market: str = "MKT-A", **changes: Any) -> dict[str, Any]:
    return {
        "type": "TRADE",
        "sequence_id": sequence,
        "market_id": market,
        "timestamp_ms": 1_790_000_000_000 + sequence,
        "trade_id": f"trd-{sequence}",
        "price_cents": 55,
        "quantity": 10,
        "scenario": "MINT",
        "aggressor_side": "BUY",
        **changes,
    }


class ScriptedVenue:
    """The server. Its state is read by the test between two of its own steps."""

    def __init__(self) -> None:
        self.snapshots: dict[str, dict[str, Any] | None] = {}
        self.answers_pings = True
        self.refused_tokens: set[str] = set()
        self.refuses_by_status = False  # with HTTP 401 instead of close code 4401
        self.logins = 0
        self.refreshes = 0
        self.requests: list[str] = []  # what order-book clients sent
        self.connects: list[tuple[str, str, float]] = []  # stream, market, monotonic time
        self._sockets: dict[tuple[str, str], web.WebSocketResponse] = {}
        self._transports: dict[tuple[str, str], Any] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner: web.AppRunner
        self.url: str = self._call(self._start())

    # ---- in the test's thread ----------------------------------------------------------------

    def _call(self, step: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(20)

    def connected(self, stream: str, market: str = "MKT-A") -> bool:
        return (stream, market) in self._sockets

    def attempts(self, stream: str, market: str = "MKT-A") -> list[float]:
        """When connections of a stream were accepted."""
        return [at for name, where, at in self.connects if (name, where) == (stream, market)]

    def send(self, *frames: Any, stream: str = BOOK, market: str = "MKT-A") -> None:
        """Sends text frames: dicts as JSON, strings as they are."""

        async def step() -> None:
            for frame in frames:
                text = frame if isinstance(frame, str) else json.dumps(frame)
                await self._sockets[stream, market].send_str(text)

        self._call(step())

    def send_bytes(self, payload: bytes, stream: str = BOOK, market: str = "MKT-A") -> None:
        """Sends a binary frame."""
        self._call(self._sockets[stream, market].send_bytes(payload))

    def send_raw(self, data: bytes, stream: str = BOOK, market: str = "MKT-A") -> None:
        """Writes bytes to the socket below the WebSocket protocol."""

        async def step() -> None:
            self._transports[stream, market].write(data)

        self._call(step())

    def disconnect(self, stream: str = BOOK, market: str = "MKT-A", *, code: int = 0) -> None:
        """Closes a stream with a code, or cuts its TCP connection when ``code`` is 0."""

        async def step() -> None:
            if code:
                await self._sockets[stream, market].close(code=code)
            else:
                self._transports[stream, market].abort()

        self._call(step())

    def close(self) -> None:
        self._call(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    # ---- in the server's thread --------------------------------------------------------------

    async def _start(self) -> str:
        app = web.Application()
        app.router.add_post("/api/v1/auth/login", self._login)
        app.router.add_post("/api/v1/auth/refresh", self._refresh)
        app.router.add_get("/ws/v1/{stream}/{market}", self._stream)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    def _token_answer(self, **more: Any) -> web.Response:
        token = f"token-{self.logins}-{self.refreshes}"
        data = {"access_token": token, "expires_in": 1800, **more}
        return web.json_response({"code": 0, "message": "ok", "data": data})

    async def _login(self, request: web.Request) -> web.Response:
        self.logins += 1
        return self._token_answer(refresh_token="refresh", token_type="Bearer")

    async def _refresh(self, request: web.Request) -> web.Response:
        self.refreshes += 1
        return self._token_answer()

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        stream, market = request.match_info["stream"], request.match_info["market"]
        refused = request.query["token"] in self.refused_tokens
        if refused and self.refuses_by_status:
            return web.Response(status=401)
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        self.connects.append((stream, market, time.monotonic()))
        if refused:
            await socket.close(code=4401)
            return socket
        key = (stream, market)
        self._transports[key] = request.transport
        self._sockets[key] = socket
        try:
            await self._serve(socket, stream, market)
        finally:
            if self._sockets.get(key) is socket:
                del self._sockets[key]
        return socket

    async def _serve(self, socket: web.WebSocketResponse, stream: str, market: str) -> None:
        if stream == BOOK:
            await self._greet(socket, market)
        async for message in socket:
            if message.type == WSMsgType.PING and self.answers_pings:
                await socket.pong(message.data)
            elif message.type == WSMsgType.TEXT:
                self.requests.append(message.data)
                await self._greet(socket, market)

    async def _greet(self, socket: web.WebSocketResponse, market: str) -> None:
        snapshot = self.snapshots.get(market)
        if snapshot is not None:
            await socket.send_str(json.dumps(snapshot))
