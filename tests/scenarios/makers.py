"""Two rival market makers, small and honest, as clients of the exchange's public API.

Both see what any client sees: the book without their own orders, and their own position. Both quote the same
ladder of sizes as the engine's converged phase (100, 70, 49, 34, 24 shares a side, prices five per cent
apart) around their own two touches, and renew it once a second. They have the engine's budget in cash; a sale
of YES is a purchase of NO, and the exchange nets pairs back into cash (platform contract 5.8), so cash is all
they need.

* :class:`FixedSpread`: middle of the others' book, two cents either side, whatever it holds.
* :class:`AvellanedaStoikov`: M. Avellaneda and S. Stoikov, "High-frequency trading in a limit order book",
  Quantitative Finance 8(3), 2008, 217-224, equations (29) and (30) with q in shares, not normalised:
  ``r = S - q·gamma·sigma²·(T - t)``, ``spread = gamma·sigma²·(T - t) + (2/gamma)·ln(1 + gamma/k)``.
"""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import aiohttp
import msgspec

from engine.paper.client import (
    NOT_CANCELLABLE,
    ORDER_UNKNOWN,
    Direction,
    ExchangeClient,
    RefusedError,
    Side,
    UnreachableError,
)
from engine.paper.participant import leave_the_book, new_password, open_account
from engine.paper.traders import in_range

BUDGET_CENTS: Final = 500_000
SIZES: Final = (100, 70, 49, 34, 24)
RATIO: Final = 1.05
CYCLE_S: Final = 1.0


class _Level(msgspec.Struct):
    price_cents: int
    total_quantity: int


class _Ladders(msgspec.Struct):
    bids: tuple[_Level, ...]
    asks: tuple[_Level, ...]


class _Orderbook(msgspec.Struct):
    yes: _Ladders


class BookClient(ExchangeClient):
    """An account that also reads the public book."""

    async def book(self, market_id: str) -> tuple[dict[int, int], dict[int, int]]:
        """Bids and asks of the YES book: price in cents to shares."""
        found = await self._call("GET", f"markets/{market_id}/orderbook", _Orderbook, query={"levels": "20"})
        return (
            {level.price_cents: level.total_quantity for level in found.yes.bids},
            {level.price_cents: level.total_quantity for level in found.yes.asks},
        )


class Maker(ABC):
    """Cancels and places until the book shows its target; one market, one task."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, *, name: str, market_id: str, horizon_s: float
    ) -> None:
        self.client: Final = BookClient(session, url, username=name, password=new_password())
        self.market_id: Final = market_id
        self._horizon_s: Final = horizon_s
        self._live: Final[dict[tuple[Direction, int], tuple[str, int]]] = {}
        """Own orders by book side and YES price: id and shares left."""
        self._numbers: Final[Iterator[int]] = iter(range(1, 1 << 31))
        self._middle = 50.0
        self._started_s = 0.0

    @abstractmethod
    def touches(self, middle: float, net_shares: int, left_s: float) -> tuple[float, float]:
        """Bid and ask in cents, unrounded: from the middle, the net position and the time left."""

    async def open(self) -> None:
        await open_account(self.client, funds_cents=BUDGET_CENTS)

    async def quote(self, started_s: float) -> None:
        """Quotes until cancelled."""
        self._started_s = started_s
        while True:
            with suppress(RefusedError, UnreachableError):
                await self._cycle()
            await asyncio.sleep(CYCLE_S)

    async def leave(self) -> None:
        await leave_the_book(self.client, self.market_id)

    async def _cycle(self) -> None:
        net = 0
        for position in await self.client.positions():
            if position.market_id == self.market_id:
                net = position.yes.volume - position.no.volume
        await self._read_own()
        self._middle = await self._others_middle()
        left_s = max(self._horizon_s - (time.monotonic() - self._started_s), 0.0)
        bid, ask = self.touches(self._middle, net, left_s)
        target = _ladder(math.floor(bid + 1e-9), math.ceil(ask - 1e-9))
        for place in [place for place in self._live if place not in target]:
            await self._cancel(place)
        for place, quantity in target.items():
            if place not in self._live:
                await self._place(place, quantity)

    async def _read_own(self) -> None:
        self._live.clear()
        for order in await self.client.live_orders(self.market_id):
            yes = order.original_side == "YES"
            price = order.original_price_cents if yes else 100 - order.original_price_cents
            self._live["BUY" if yes else "SELL", price] = (order.id, order.remaining_quantity)

    async def _others_middle(self) -> float:
        """Middle of the book without own orders; the last one while a side is empty."""
        bids, asks = await self.client.book(self.market_id)
        for (side, price), (_, shares) in self._live.items():
            levels = bids if side == "BUY" else asks
            levels[price] = levels.get(price, 0) - shares
        best_bid = max((price for price, shares in bids.items() if shares > 0), default=None)
        best_ask = min((price for price, shares in asks.items() if shares > 0), default=None)
        if best_bid is None or best_ask is None or best_bid >= best_ask:
            return self._middle
        return (best_bid + best_ask) / 2

    async def _cancel(self, place: tuple[Direction, int]) -> None:
        order_id, _ = self._live.pop(place)
        try:
            await self.client.cancel(order_id)
        except RefusedError as refusal:
            if refusal.code not in {NOT_CANCELLABLE, ORDER_UNKNOWN}:
                raise

    async def _place(self, place: tuple[Direction, int], quantity: int) -> None:
        direction, price_cents = place
        side: Side = "YES" if direction == "BUY" else "NO"
        await self.client.place(
            self.market_id,
            side=side,
            direction="BUY",
            price_cents=price_cents if side == "YES" else 100 - price_cents,
            quantity=quantity,
            client_order_id=f"maker_{next(self._numbers)}",
        )


class FixedSpread(Maker):
    """The same distance on both sides, always."""

    HALF_CENTS: Final = 2.0

    def touches(self, middle: float, net_shares: int, left_s: float) -> tuple[float, float]:
        return middle - self.HALF_CENTS, middle + self.HALF_CENTS


class AvellanedaStoikov(Maker):
    """The textbook, to its own horizon. gamma and k are chosen so that it quotes two cents either side when
    it holds nothing at the end (``ln(1 + gamma/k)/gamma`` is 2 cents), and 500 shares move it by about three
    cents a minute before it; sigma is the calm walk's."""

    GAMMA: Final = 0.0006  # per cent and share
    K: Final = 0.4997  # per cent
    SIGMA_CENTS: Final = 0.4  # per square root of a second

    def touches(self, middle: float, net_shares: int, left_s: float) -> tuple[float, float]:
        risk = self.GAMMA * self.SIGMA_CENTS**2 * left_s
        reservation = middle - net_shares * risk
        half = (risk + 2 / self.GAMMA * math.log(1 + self.GAMMA / self.K)) / 2
        return reservation - half, reservation + half


def _ladder(bid: int, ask: int) -> dict[tuple[Direction, int], int]:
    """Shares by book side and price; levels that no order may have are left out."""
    target: dict[tuple[Direction, int], int] = {}
    for depth, quantity in enumerate(SIZES):
        below = min(math.floor(bid / RATIO**depth), bid - depth)
        above = max(math.ceil(ask * RATIO**depth), ask + depth)
        if in_range(below) == below:
            target["BUY", below] = quantity
        if in_range(above) == above:
            target["SELL", above] = quantity
    return target
