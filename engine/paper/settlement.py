"""Settles markets that were resolved with a delay, each when it is due (contract section 2.7).

When a market is due stands in its row, so the delay goes on through a restart: it neither starts anew nor is
cut short, and what became due while nobody ran is settled at the start.
"""

import asyncio
import logging
from typing import Final

from engine.paper.commands import SettleMarket
from engine.paper.exchange import Exchange
from engine.paper.model import Market, MarketStatus
from engine.paper.refusal import Refusal
from engine.paper.store import RolledBackError

RETRY_S: Final = 1.0
_LOG: Final = logging.getLogger("engine.paper")


class Settlements:
    """One waiting task for each RESOLVED market."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange: Final = exchange
        self._tasks: Final[set[asyncio.Task[None]]] = set()

    def resume(self) -> None:
        """Expect every market that an earlier life left RESOLVED."""
        for market in self._exchange.state.markets.values():
            if market.status is MarketStatus.RESOLVED:
                self.expect(market)

    def expect(self, market: Market) -> None:
        """Settle a RESOLVED market when it is due."""
        task = asyncio.create_task(self._settle(market))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Leave what is not due to the next life."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _settle(self, market: Market) -> None:
        due_at = market.settle_due_at or self._exchange.now()
        # The loop's timers may fire a millisecond early.
        while (left_s := (due_at - self._exchange.now()).total_seconds()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left_s)
        while self._exchange.state.markets[market.id].status is MarketStatus.RESOLVED:
            try:
                await self._exchange.submit(SettleMarket(market_id=market.id))
            except (Refusal, RolledBackError) as error:
                _LOG.warning("market %s is not settled yet: %s", market.id, error)
                await asyncio.sleep(RETRY_S)
