"""Start, stop, fund and withdraw of a market (§8 Admin API): what is asked, and how it is answered."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from engine import kill_files
from engine.config import MARKET_ID_PATTERN, market_from_json
from engine.events import OVER, Lifecycle, LocalReject
from engine.snapshot import market_view
from engine.venues import platform_rest as venue
from engine.workers.control_answers import AMM_NOT_RUNNING, AMM_RUNNING, Author, RefusedError, known
from engine.workers.control_commands import CommandRefusedError, Commands, NoAnswerError
from engine.workers.market_life import StopMode
from engine.workers.process import WorkerProcess

MONEY_CENTS_MAX: Final = 10_000_000

MarketId = Annotated[str, Meta(pattern=MARKET_ID_PATTERN)]
Cents = Annotated[int, Meta(ge=1, le=MONEY_CENTS_MAX)]

_LOCAL_WORDS: Final = {
    LocalReject.NOT_READY: "the market or the exchange is not ready for it: see the gateway's log",
    LocalReject.LIMIT: f"the sum must be 1..{MONEY_CENTS_MAX} cents",
}
_VENUE_STATUS: Final = {venue.AMM_RUNNING: 409, venue.NOT_ENOUGH_CASH: 422, 6009: 403}


class StartRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Quote a configured market that is stopped. Money is needed once, at the market's first start; the price
    is the configured one."""

    market_id: MarketId
    initial_budget_cents: Cents | None = None
    initial_price_cents: Annotated[int, Meta(ge=1, le=99)] | None = None
    config_override: dict[str, Any] | None = None
    reason: str = "start"
    by: Author = ""


class StopRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """End a market's quoting; its stock stays."""

    market_id: MarketId
    stop_mode: Literal["GRACEFUL", "IMMEDIATE"] = "GRACEFUL"
    reason: str = "stop"
    by: Author = ""


class MoneyRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Put money on a market, or take it off."""

    market_id: MarketId
    amount_cents: Cents
    reason: str
    by: Author = ""


class MarketLives:
    """What the four routes do."""

    def __init__(self, proc: WorkerProcess, commands: Commands) -> None:
        self._proc = proc
        self._commands = commands

    def check_start(self, wish: StartRequest) -> None:
        """Raises RefusedError before anything is changed."""
        kill_files.check_reason(wish.reason)
        slot = known(self._commands.slots, wish.market_id)
        if self._commands.lifecycle(slot) != Lifecycle.STOPPED:
            raise RefusedError(409, AMM_RUNNING, f"{wish.market_id}: runs already")
        state = market_view(self._proc.arena, slot).state
        if state is not None and state.market_status in OVER:
            text = f"{wish.market_id}: the market is {state.market_status.name}"
            raise RefusedError(422, venue.MARKET_NOT_ACTIVE, text)
        configured = market_from_json(self._proc.arena.config_bytes(slot)[1]).quote.initial_price_cents
        if wish.initial_price_cents not in (None, configured):
            text = (
                f"initial_price_cents={wish.initial_price_cents}: the file says {configured}, change it there"
            )
            raise RefusedError(422, 422, text)

    async def start(self, wish: StartRequest) -> dict[str, Any]:
        code = await self._asked(
            wish.market_id,
            self._commands.start(
                wish.market_id, reason=wish.reason, budget_cents=wish.initial_budget_cents or 0
            ),
        )
        self._expect_done(wish.market_id, "not started", code)
        slot = self._commands.slots[wish.market_id]
        lifecycle = self._commands.lifecycle(slot)
        return {"market_id": wish.market_id, "lifecycle": lifecycle.name if lifecycle is not None else None}

    async def stop(self, wish: StopRequest) -> dict[str, Any]:
        kill_files.check_reason(wish.reason)
        slot = known(self._commands.slots, wish.market_id)
        if self._commands.lifecycle(slot) == Lifecycle.STOPPED:
            raise RefusedError(422, AMM_NOT_RUNNING, f"{wish.market_id}: does not run")
        mode = StopMode[wish.stop_mode]
        live = await self._asked(
            wish.market_id, self._commands.stop(wish.market_id, reason=wish.reason, mode=mode)
        )
        return {"market_id": wish.market_id, "stop_mode": wish.stop_mode, "live_orders": live}

    async def fund(self, wish: MoneyRequest) -> dict[str, Any]:
        return await self._move(wish, self._commands.fund, "not funded")

    async def withdraw(self, wish: MoneyRequest) -> dict[str, Any]:
        return await self._move(wish, self._commands.withdraw, "nothing withdrawn")

    async def _move(self, wish: MoneyRequest, move: Any, failure: str) -> dict[str, Any]:
        kill_files.check_reason(wish.reason)
        known(self._commands.slots, wish.market_id)
        code = await self._asked(
            wish.market_id, move(wish.market_id, reason=wish.reason, cents=wish.amount_cents)
        )
        self._expect_done(wish.market_id, failure, code)
        return {"market_id": wish.market_id, "amount_cents": wish.amount_cents}

    async def _asked(self, market_id: str, command: Any) -> int:
        try:
            return int(await command)
        except CommandRefusedError as error:
            raise RefusedError(503, 503, f"{market_id}: {error}; nothing was done") from None
        except NoAnswerError as error:
            raise RefusedError(
                503, 503, f"{market_id}: {error}; look at the status before asking again"
            ) from None

    @staticmethod
    def _expect_done(market_id: str, failure: str, code: int) -> None:
        if code == 0:
            return
        if code < 0:
            words = _LOCAL_WORDS.get(LocalReject(code), LocalReject(code).name)
            raise RefusedError(503, 503, f"{market_id}: {failure}: {words}")
        text = f"{market_id}: {failure}: the exchange says {code}"
        raise RefusedError(_VENUE_STATUS.get(code, 422), code, text)
