"""Counted operations at once through HTTP: eight markets, sixteen clients, every invariant after each commit.

``COREQUOTE_HTTP_OPERATIONS=20000`` makes it longer. The run prints its seed; ``COREQUOTE_SEED`` takes it.
"""

import asyncio
import os
import random

import aiohttp
import pytest

from engine.paper.invariants import Audit, Breach
from engine.paper.model import AMM_USER_ID
from tests.paper.databases import fetch, run, state_differences, stored_state
from tests.paper.load import MARKETS, MarketMaker, Trader, prepare
from tests.paper.venue import AMM_PASSWORD, OPERATOR_PASSWORD, Venue, open_venue

OPERATIONS = int(os.environ.get("COREQUOTE_HTTP_OPERATIONS", "5000"))
SEED = int(os.environ.get("COREQUOTE_SEED", str(random.SystemRandom().randrange(10**6))))
CLIENTS = 16


async def trade(venue: Venue, traders: list[Trader], maker: MarketMaker) -> None:
    """Exactly :data:`OPERATIONS` requests, one in flight each."""
    async with aiohttp.ClientSession() as session:
        await prepare(session, maker.url, OPERATOR_PASSWORD, traders)
        login = {"username": "amm_market_maker", "password": AMM_PASSWORD}
        maker.token = (await maker.call(session, "POST", "/auth/login", login))[1]["access_token"]
        await maker.call(session, "POST", "/account/deposit", {"amount_cents": 5_000_000})
        everybody = [maker, *traders]
        for trader in everybody:
            trader.statuses.clear()
        left = iter(range(OPERATIONS))

        async def go_on(trader: Trader) -> None:
            for _ in left:
                await trader.step(session)

        await asyncio.gather(*map(go_on, everybody))


@pytest.mark.timeout(60 + OPERATIONS // 20)
def test_sixteen_clients_on_eight_markets_never_break_an_invariant() -> None:
    print(f"seed {SEED}")
    with open_venue() as venue:
        url = f"http://{venue.host}:{venue.port}"
        traders = [Trader(url, f"trader_{number}", SEED + number) for number in range(CLIENTS - 1)]
        maker = MarketMaker(url, "maker", SEED + CLIENTS)
        exchange = venue.server.exchange
        audit, breaches, audits = Audit(exchange.state), list[Breach](), 0

        def check() -> None:
            nonlocal audits
            audits += 1
            breaches.extend(audit.check())

        exchange.watch(check)
        asyncio.run(trade(venue, traders, maker))
        everybody = [maker, *traders]
        statuses = {
            status: sum(trader.statuses.get(status, 0) for trader in everybody)
            for status in sorted({status for trader in everybody for status in trader.statuses})
        }
        assert breaches == []
        assert sum(statuses.values()) == OPERATIONS
        assert {200, 201, 422} <= set(statuses)
        assert max(statuses) < 500
        stored = stored_state(venue.database)
        assert state_differences(exchange.state, stored) == []
        assert Audit(stored).check() == []
        for trader in everybody:
            for order_id, told in trader.acknowledged.items():
                assert stored.orders[order_id].client_order_id == told["client_order_id"]
        used = {order.market_id for order in stored.orders.values()}
        assert set(MARKETS) <= used
        assert any(AMM_USER_ID in {trade.buy_user_id, trade.sell_user_id} for trade in stored.trades.values())
        ((deadlocks,),) = run(
            fetch(
                venue.database.owner,
                "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
            )
        )
        assert deadlocks == 0
        print(
            f"{OPERATIONS} operations of {CLIENTS} clients on {len(MARKETS)} markets: answers {statuses}, "
            f"{audits} commits audited, 0 breaches, 0 deadlocks, {len(stored.trades)} trades"
        )
