"""The others as clients of the exchange's public API: they play a schedule, order by order, on time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, get_args

import aiohttp

from engine.paper.client import (
    DEPOSIT_CENTS_MAX,
    ExchangeClient,
    RefusedError,
    Side,
    UnreachableError,
)
from engine.paper.participant import leave_the_book, new_password, open_account
from tests.scenarios.flow import Account, FlowOrder

ACCOUNTS: Final[tuple[Account, ...]] = get_args(Account)
FUNDS_CENTS: Final = 2 * DEPOSIT_CENTS_MAX


def username(run_id: str, market_id: str, account: str) -> str:
    """An account's name at the exchange; every market has its own accounts."""
    return f"flow_{run_id}_{market_id.lower().replace('-', '_')}_{account}"[:64]


def usernames(run_id: str, market_id: str) -> list[str]:
    return [username(run_id, market_id, account) for account in ACCOUNTS]


class Players:
    """All of one market but its maker. They only buy: YES, or NO at 100 minus the price."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, run_id: str, market_id: str) -> None:
        self.market_id: Final = market_id
        self.sent = 0
        self.refused = 0
        self.latest_s = 0.0
        """How far behind its time the latest order was."""
        self._clients: Final = {
            account: ExchangeClient(
                session, url, username=username(run_id, market_id, account), password=new_password()
            )
            for account in ACCOUNTS
        }
        self._numbers: Final[Iterator[int]] = iter(range(1, 1 << 31))
        self._under_way: Final[set[asyncio.Task[None]]] = set()

    async def open(self) -> None:
        """Opens and funds the accounts."""
        for client in self._clients.values():
            await open_account(client, funds_cents=FUNDS_CENTS)

    async def play(self, orders: Sequence[FlowOrder], started_s: float) -> None:
        """Sends every order at its time; ``started_s`` is the schedule's zero on the monotonic clock."""
        for order in orders:
            await asyncio.sleep(max(0.0, started_s + order.at_s - time.monotonic()))
            self.latest_s = max(self.latest_s, time.monotonic() - started_s - order.at_s)
            task = asyncio.create_task(self._send(order))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def leave(self) -> None:
        """Nothing of theirs stays in the book."""
        for task in tuple(self._under_way):
            task.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way)
        for client in self._clients.values():
            await leave_the_book(client)

    async def _send(self, order: FlowOrder) -> None:
        client = self._clients[order.account]
        side: Side = "YES" if order.buy else "NO"
        try:
            placed = await client.place(
                self.market_id,
                side=side,
                direction="BUY",
                price_cents=order.price_cents if order.buy else 100 - order.price_cents,
                quantity=order.quantity,
                client_order_id=f"{order.account}_{next(self._numbers)}",
                immediate=not order.rest_s,
            )
        except (RefusedError, UnreachableError):
            self.refused += 1
            return
        self.sent += 1
        if order.rest_s and placed.order.remaining_quantity:
            await asyncio.sleep(order.rest_s)
            with suppress(RefusedError, UnreachableError):  # filled meanwhile
                await client.cancel(placed.order.id)
