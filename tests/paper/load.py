"""Traders who know what they were told: random load over HTTP, every acknowledged answer kept."""

import asyncio
import itertools
import random
from typing import Any

import aiohttp

DEADLINE = aiohttp.ClientTimeout(total=20)
MARKETS = tuple(f"MKT-{number}" for number in range(8))


class Trader:
    """One user; places and cancels at random and remembers what was acknowledged."""

    def __init__(self, url: str, name: str, seed: int) -> None:
        self.url = url
        self.name = name
        self.token = ""
        self.random = random.Random(seed)
        self.acknowledged: dict[str, dict[str, Any]] = {}
        self.cancelled: set[str] = set()
        self.sent: list[str] = []
        self.statuses: dict[int, int] = {}
        self._numbers = itertools.count(1)

    async def call(
        self, session: aiohttp.ClientSession, method: str, path: str, body: object = None
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = f"{self.url}/api/v1{path}"
        async with session.request(method, url, json=body, headers=headers, timeout=DEADLINE) as response:
            answer = await response.json()
            self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
            return response.status, answer["data"]

    async def join(self, session: aiohttp.ClientSession, cents: int) -> None:
        """Register, log in, deposit."""
        body = {"username": self.name, "email": f"{self.name}@example.org", "password": "Secret-123"}
        assert (await self.call(session, "POST", "/auth/register", body))[0] == 201
        status, data = await self.call(session, "POST", "/auth/login", body)
        assert status == 200
        self.token = data["access_token"]
        assert (await self.call(session, "POST", "/account/deposit", {"amount_cents": cents}))[0] == 200

    async def step(self, session: aiohttp.ClientSession) -> None:
        """One random request."""
        rng = self.random
        live = [order_id for order_id in self.acknowledged if order_id not in self.cancelled]
        if live and rng.random() < 0.3:
            order_id = rng.choice(live)
            status, _ = await self.call(session, "POST", f"/orders/{order_id}/cancel")
            if status == 200:
                self.cancelled.add(order_id)
            return
        key = f"{self.name}-{next(self._numbers)}"
        self.sent.append(key)
        terms = {
            "client_order_id": key,
            "market_id": rng.choice(MARKETS),
            "side": rng.choice(["YES", "NO"]),
            "direction": rng.choice(["BUY", "BUY", "SELL"]),
            "price_cents": rng.randint(44, 56),
            "quantity": rng.randint(1, 20),
            "time_in_force": rng.choice(["GTC", "GTC", "IOC"]),
        }
        status, data = await self.call(session, "POST", "/orders", terms)
        if status == 201:
            self.acknowledged[data["order"]["id"]] = data["order"]

    async def trade_until_cut_off(self, session: aiohttp.ClientSession) -> None:
        """Until the exchange is gone."""
        try:
            while True:
                await self.step(session)
        except (aiohttp.ClientError, TimeoutError):
            return


class MarketMaker(Trader):
    """The market maker's own ways: replace, batch-cancel, mint and burn beside plain orders."""

    async def step(self, session: aiohttp.ClientSession) -> None:
        """One random request."""
        rng, market_id = self.random, self.random.choice(MARKETS)
        live = [order for order_id, order in self.acknowledged.items() if order_id not in self.cancelled]
        what = rng.random()
        if what < 0.4 and live:
            old = rng.choice(live)
            terms = {
                "client_order_id": f"{self.name}-{next(self._numbers)}",
                "market_id": old["market_id"],
                "side": old["original_side"],
                "direction": old["original_direction"],
                "price_cents": rng.randint(44, 56),
                "quantity": rng.randint(1, 20),
            }
            body = {"old_order_id": old["id"], "new_order": terms}
            status, data = await self.call(session, "POST", "/amm/orders/replace", body)
            self.cancelled.add(old["id"])  # or it was filled or gone: no use to try again
            if status == 200:
                self.acknowledged[data["new_order"]["id"]] = data["new_order"]
        elif what < 0.6:
            body = {"market_id": market_id, "quantity": rng.randint(1, 30)}
            key = {"idempotency_key": f"{self.name}-{next(self._numbers)}"}
            await self.call(session, "POST", rng.choice(["/amm/mint", "/amm/burn"]), body | key)
        elif what < 0.63:
            await self.call(session, "POST", "/amm/orders/batch-cancel", {"market_id": market_id})
        else:
            await super().step(session)


async def prepare(session: aiohttp.ClientSession, url: str, operator: str, traders: list[Trader]) -> None:
    """Open the markets and let everybody in."""
    chief = Trader(url, "operator", 0)
    body = {"username": "operator", "password": operator}
    chief.token = (await chief.call(session, "POST", "/auth/login", body))[1]["access_token"]
    for market_id in MARKETS:
        body = {"id": market_id, "title": market_id}
        assert (await chief.call(session, "POST", "/admin/markets", body))[0] == 201
    await asyncio.gather(*(trader.join(session, 5_000_000) for trader in traders))
