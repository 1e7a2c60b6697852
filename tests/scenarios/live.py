"""A live engine under the hands of a test: real exchange, real processes, single takers, operators' doors.

What a test sees of a market it sees in three places: the exchange's book (the observer's fold of the
journal), Redis (read with plain RESP, not through the engine's own writer), and ``corequote`` commands run
as processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import redis

from engine import oracle_operator, rundir
from engine.events import Side
from engine.observer import OPERATOR
from engine.paper.client import DEPOSIT_CENTS_MAX, ExchangeClient, open_session
from engine.paper.model import AMM_USERNAME
from engine.paper.participant import new_password, open_account
from engine.snapshot import QuoterState, take
from engine.stage import Stage, toml_document
from tests.scenarios.catalogue import SHARED_MACHINE

DEADLINE_S: Final = 60.0
OPEN_DAYS: Final = 60
ORACLE_EVERY_S: Final = 1.0
ORACLE_TTL_S: Final = 60.0


class OracleVoice:
    """What an operator says a market is worth."""

    def __init__(self, price_cents: int) -> None:
        self.price_cents = price_cents


class Live:
    """One stage with one taker. Times out loudly: every wait names what it waited for."""

    def __init__(self, stage: Stage, markets: Mapping[str, Mapping[str, Any]], taker: ExchangeClient) -> None:
        self.stage: Final = stage
        self._markets: Final = markets
        self._taker: Final = taker
        self._orders = 0

    # ---- life --------------------------------------------------------------------------------

    async def start_engine(self) -> None:
        """Starts the engine (again) in the stage's run directory."""
        document = {
            "engine": SHARED_MACHINE,
            "venue": {"url": self.stage.url, "username": AMM_USERNAME},
            "markets": [{"id": market, **settings} for market, settings in self._markets.items()],
        }
        await self.stage.open_engine(toml_document(document), market_count=len(self._markets))

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
        await self.stage.until(condition, what=what, timeout_s=timeout_s)

    # ---- the market --------------------------------------------------------------------------

    def state(self, market: str) -> QuoterState:
        """The market's state row."""
        (view,) = [view for view in take(self.stage.arena).markets if view.market_id == market]
        assert view.state is not None, f"{market} has published nothing"
        return view.state

    def has_state(self, market: str) -> bool:
        return any(
            view.market_id == market and view.state is not None for view in take(self.stage.arena).markets
        )

    def book(self, market: str) -> dict[tuple[Side, int], int]:
        """The engine's own resting shares at the exchange, by book side and YES price."""
        return self.stage.observer.fold.market(market).levels()

    def prices(self, market: str, side: Side) -> list[int]:
        """Own prices of a side, nearest first."""
        found = sorted({price for own, price in self.book(market) if own == side})
        return found[::-1] if side == Side.BID else found

    def quotes_both(self, market: str) -> bool:
        return bool(self.prices(market, Side.BID)) and bool(self.prices(market, Side.ASK))

    async def take(self, market: str, *, buy: bool, price_cents: int, quantity: int) -> int:
        """Takes from the YES book; returns how many shares were filled."""
        self._orders += 1
        placed = await self._taker.place(
            market,
            side="YES" if buy else "NO",
            direction="BUY",
            price_cents=price_cents if buy else 100 - price_cents,
            quantity=quantity,
            client_order_id=f"take_{self._orders}",
            immediate=True,
        )
        return sum(fill.quantity for fill in placed.trades)

    # ---- Redis -------------------------------------------------------------------------------

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(rundir.read_info(self.stage.run_dir).redis_url, decode_responses=True)

    def hash(self, kind: str, market: str) -> dict[str, str]:
        """``amm:KIND:MARKET`` as it stands in Redis."""
        with self.redis() as connection:
            found = connection.hgetall(f"amm:{kind}:{market}")
        assert isinstance(found, dict)
        return found

    def book_types(self, market: str) -> set[str]:
        """Kinds of the live orders that Redis shows."""
        orders = self.hash("orders", market)
        return {msgspec.json.decode(order)["book_type"] for order in orders.values()}

    @contextlib.asynccontextmanager
    async def oracle(self, market: str, price_cents: int) -> AsyncIterator[OracleVoice]:
        """An operator repeats a price, which may be changed, until the context ends."""
        voice = OracleVoice(price_cents)

        async def repeat() -> None:
            while True:
                await asyncio.to_thread(
                    oracle_operator.say,
                    self.stage.run_dir,
                    market,
                    price_cents=voice.price_cents,
                    ttl_s=ORACLE_TTL_S,
                )
                await asyncio.sleep(ORACLE_EVERY_S)

        task = asyncio.create_task(repeat())
        try:
            yield voice
        finally:
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    # ---- commands ----------------------------------------------------------------------------

    async def corequote(self, *arguments: str, code: int = 0) -> str:
        """Runs a ``corequote`` command on this run; its output. Fails on another exit code."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "engine.cli", *arguments, "--run-dir", str(self.stage.run_dir)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        text = output.decode()
        assert process.returncode == code, f"corequote {' '.join(arguments)}: {process.returncode}: {text}"
        return text


def private(run_dir: Path) -> Path:
    """Makes a directory fit to be a run directory."""
    (run_dir / "log").mkdir(mode=0o700, exist_ok=True)
    run_dir.chmod(0o700)
    return run_dir


@contextlib.asynccontextmanager
async def live(run_dir: Path, markets: Mapping[str, Mapping[str, Any]]) -> AsyncIterator[Live]:
    """Exchange with these markets and one funded taker; the engine is the test's to start. ``run_dir`` is
    there, private, with its log directory (:func:`private`)."""
    async with Stage(run_dir, stop=asyncio.Event()) as stage, open_session() as session:
        now = datetime.now(UTC)
        taker_name = f"taker_{stage.run_id}"
        config = {
            "admin_users": [OPERATOR, AMM_USERNAME],
            "exempt_users": [OPERATOR, taker_name],
            "markets": [
                {
                    "id": market,
                    "title": market,
                    "created_at": now,
                    "trading_end_at": now + timedelta(days=OPEN_DAYS),
                    "resolution_date": now + timedelta(days=OPEN_DAYS),
                }
                for market in markets
            ],
        }
        await stage.open_exchange(toml_document(config))
        taker = ExchangeClient(session, stage.url, username=taker_name, password=new_password())
        await open_account(taker, funds_cents=2 * DEPOSIT_CENTS_MAX)
        yield Live(stage, markets, taker)
