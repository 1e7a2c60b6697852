"""Operators' commands that need the venue's account: START, FUND and WITHDRAW of a market (§8 Admin API).

One at a time, in the order they came. A command keeps its place in the ring until it has ended, so a gateway
that dies with one leaves it to its successor; money that was moved by then is known by the command's key and
is not moved again. What has ended is answered by its number in this process's counters.

Reads: the gateway's command ring.  Writes: its counters, account rows, execution rings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from engine._native import ffi, lib
from engine.arena import unpadded
from engine.events import GatewayCounter, LocalReject
from engine.quoting.effects import PAIR_CENTS
from engine.quoting.inventory import free_pairs, frozen_by
from engine.venues import platform_rest as venue
from engine.venues.platform_rest import ReadError
from engine.workers.gateway_context import GatewayContext
from engine.workers.gateway_flows import TRANSFER_CENTS_MAX, MoneyFlows
from engine.workers.gateway_funds import MarketFunds, StartLaterError, StartRefusedError
from engine.workers.gateway_market import GatewayMarket

_log = structlog.get_logger()

_AGE_NS_MAX: Final = 60_000_000_000  # an older one has been given up by whoever sent it
_WORD_BITS: Final = 64


class CommandDesk:
    """The one consumer of the gateway's command ring."""

    def __init__(
        self,
        context: GatewayContext,
        funds: MarketFunds,
        flows: MoneyFlows,
        admit: Callable[[GatewayMarket], Awaitable[None]],
    ) -> None:
        self._context: Final = context
        self._funds: Final = funds
        self._flows: Final = flows
        self._admit: Final = admit
        self._ring = context.proc.arena.command_ring(lib.PROCESS_GATEWAY)
        self._record = ffi.new("command_record_t *")
        self._busy = False

    def waiting(self) -> bool:
        """Whether a command could be taken up now."""
        return not self._busy and bool(lib.message_peek(self._ring, lib.COMMAND_RING_SLOTS, self._record, 1))

    def look(self) -> int:
        """Takes up the next command when none is under way."""
        if not self.waiting():
            return 0
        self._busy = True
        self._context.spawn(self._carry_out(ffi.new("command_record_t *", self._record[0])))
        return 1

    async def _carry_out(self, command: Any) -> None:
        market = self._context.markets.get(command.market_slot)
        code = int(LocalReject.NOT_READY)
        if market is None:
            _log.error("command_for_no_market", slot=int(command.market_slot))
        elif lib.mono_now_ns() - command.mono_ns > _AGE_NS_MAX:
            _log.warning("command_too_late", market=market.market_id, number=int(command.number))
        else:
            try:
                code = await self._do(market, command)
            except ReadError as error:
                _log.warning("command_read_failed", market=market.market_id, reason=str(error))
            _log.info(
                "command_ended",
                market=market.market_id,
                kind=int(command.kind),
                number=int(command.number),
                cents=int(command.amount_cents),
                code=code,
                reason=unpadded(command.reason),
            )
        self._context.proc.count(GatewayCounter.COMMAND_CODE, code % (1 << _WORD_BITS))
        self._context.proc.count(GatewayCounter.COMMAND_NUMBER, int(command.number))
        lib.message_release(self._ring, 1)
        self._busy = False

    async def _do(self, market: GatewayMarket, command: Any) -> int:
        """What came of it: 0, or a code that says why nothing did."""
        if command.kind == lib.COMMAND_START:
            return await self._start(market, int(command.amount_cents))
        if not market.account.funded or not market.open_for_orders or self._context.proc.stopping:
            return int(LocalReject.NOT_READY)
        amount_cents = int(command.amount_cents)
        if not 0 < amount_cents <= TRANSFER_CENTS_MAX:
            return int(LocalReject.LIMIT)
        key = f"{self._context.proc.arena.epoch} {int(command.number)}"
        if command.kind == lib.COMMAND_FUND:
            refused = await self._flows.move(market, "deposit", amount_cents, key=key)
        elif command.kind == lib.COMMAND_WITHDRAW:
            code = await self._free_up(market, amount_cents, key)
            if code:
                return code
            refused = await self._flows.move(market, "withdraw", amount_cents, key=key)
        else:
            return int(LocalReject.NOT_READY)
        self._context.reports_of(market).cash(market)
        return 0 if refused is None else int(refused.code)

    async def _start(self, market: GatewayMarket, budget_cents: int) -> int:
        """Whatever of the start the venue has not seen yet. Done again it does nothing."""
        if market.account.funded and market.open_for_orders:
            return 0
        try:
            await self._funds.open(market, budget_cents=budget_cents)
        except StartLaterError as error:
            return error.code
        except StartRefusedError as error:
            market.start_failure = error.failure
            return error.failure.code
        market.start_failure = None
        await self._admit(market)
        return 0

    async def _free_up(self, market: GatewayMarket, amount_cents: int, key: str) -> int:
        """Burns as many free pairs as the cash lacks; nothing at all when they are too few (2001)."""
        if self._flows.of(market).last_key == key or market.rules is None:
            return 0
        stock, frozen = market.account.stock, frozen_by(market.orders, market.rules.taker_fee_bps)
        missing_cents = amount_cents - (stock.cash_cents - frozen.cash_cents)
        if missing_cents <= 0:
            return 0
        pairs = -(-missing_cents // PAIR_CENTS)
        if pairs > free_pairs(stock, frozen):
            return venue.NOT_ENOUGH_CASH
        return await self._funds.burn_for_operator(market, pairs)
