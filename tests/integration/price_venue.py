"""Another venue's public price data, spoken by a local server: Polymarket's market channel, Kalshi's REST."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine
from typing import Any

from aiohttp import WSMsgType, web


class PriceVenue:
    """The server, in a thread of its own; its state is set and read by the test."""

    def __init__(self) -> None:
        self.answers_pings = True
        self.refuses = 0  # this many connections or requests are answered with HTTP 503 first
        self.attempts = 0
        self.subscriptions: list[dict[str, Any]] = []
        self.greeting: list[str] = []  # frames sent after each subscription
        self.markets: dict[str, Any] = {}  # Kalshi: ticker -> answer
        self._sockets: set[web.WebSocketResponse] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner: web.AppRunner
        self.port: int = self._call(self._start())

    @property
    def socket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/market"

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/trade-api/v2"

    def _call(self, step: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(20)

    @property
    def connections(self) -> int:
        return len(self._sockets)

    def send(self, *frames: Any) -> None:
        """To every connection; what is no text yet is sent as JSON."""

        async def step() -> None:
            for frame in frames:
                for socket in self._sockets:
                    await socket.send_str(frame if isinstance(frame, str) else json.dumps(frame))

        self._call(step())

    def disconnect(self) -> None:
        async def step() -> None:
            for socket in list(self._sockets):
                await socket.close()

        self._call(step())

    def close(self) -> None:
        self._call(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    # ---- in the server's thread --------------------------------------------------------------

    async def _start(self) -> int:
        app = web.Application()
        app.router.add_get("/ws/market", self._stream)
        app.router.add_get("/trade-api/v2/markets/{ticker}", self._market)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return int(self._runner.addresses[0][1])

    def _refused(self) -> bool:
        self.attempts += 1
        if self.refuses > 0:
            self.refuses -= 1
            return True
        return False

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if self._refused():
            return web.Response(status=503)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            if message.data == "PING":
                if self.answers_pings:
                    await socket.send_str("PONG")
                continue
            self.subscriptions.append(json.loads(message.data))
            self._sockets.add(socket)
            for frame in self.greeting:
                await socket.send_str(frame)
        self._sockets.discard(socket)
        return socket

    async def _market(self, request: web.Request) -> web.Response:
        if self._refused():
            return web.Response(status=503)
        answer = self.markets.get(request.match_info["ticker"])
        return web.json_response(answer) if answer else web.Response(status=404)


def book_frame(token: str, bid: str | None, ask: str | None, *, timestamp: int = 1_770_921_570_954) -> str:
    """A ``book`` event with the best levels last, as the venue orders them; None = nobody."""
    return json.dumps(
        {
            "event_type": "book",
            "asset_id": token,
            "market": "0x02",
            "bids": [{"price": "0.01", "size": "6225.9"}, {"price": bid, "size": "10"}] if bid else [],
            "asks": [{"price": "0.99", "size": "8"}, {"price": ask, "size": "2.5"}] if ask else [],
            "timestamp": str(timestamp),
            "hash": "0",
            "tick_size": "0.01",
        }
    )


def change_frame(token: str, bid: str, ask: str, *, timestamp: int = 1_770_921_571_000) -> str:
    """A ``price_change`` event that names both tokens of a market, as one order change does."""
    change = {"price": "0.5", "size": "200", "side": "BUY", "hash": "0"}
    return json.dumps(
        {
            "event_type": "price_change",
            "market": "0x02",
            "timestamp": str(timestamp),
            "price_changes": [
                {**change, "asset_id": "999", "best_bid": "0.01", "best_ask": "0.02"},
                {**change, "asset_id": token, "best_bid": bid, "best_ask": ask},
            ],
        }
    )
