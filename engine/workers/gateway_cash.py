"""The account's cash against what its markets hold (market-making §7.5, D17).

Each market has its share of the account's cash, and what belongs to no market is a figure of its own, kept on
disk: their sum is the account's balance. A sum that is off by no more than the tolerance is told and left
alone; one further off is looked for market by market in the venue's ledger, whose word becomes the market's.
No order leaves a market while its figure is being read anew.

Reads: GET /account/balance, /account/ledger.  Writes: account rows, ``RUN/facts/account.unallocated.json``.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from engine.alerts import Alert, Severity
from engine.durable import write_durably
from engine.events import LocalReject
from engine.venues.platform_rest import ReadError
from engine.workers.gateway_context import GatewayContext
from engine.workers.gateway_fills import TradeFeed
from engine.workers.gateway_flows import MoneyFlows
from engine.workers.gateway_funds import MarketFunds
from engine.workers.gateway_market import GatewayMarket

_log = structlog.get_logger()

_TRIES: Final = 5
_RETRY_S: Final = 0.2
_FILE: Final = "account.unallocated.json"


class Unallocated(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of the file: the account's cash that none of these markets holds."""

    cents: int
    markets: list[str]


class CashTruth:
    """Compares, tells and corrects; one comparison at a time."""

    def __init__(
        self, context: GatewayContext, trades: TradeFeed, funds: MarketFunds, flows: MoneyFlows
    ) -> None:
        self._context: Final = context
        self._trades: Final = trades
        self._funds: Final = funds
        self._path: Final = context.proc.run_dir / "facts" / _FILE
        self._flows: Final = flows
        self._comparing = False

    async def begin(self) -> None:
        """At the start, before any order may go out: with the figure of an earlier life. Raises ReadError."""
        books = self._context.books
        books.unallocated_cents = self._of_earlier_life()
        await self.compare()
        if books.unallocated_cents is None:
            raise ReadError("/account/balance", f"money moved through {_TRIES} readings")

    async def compare(self) -> None:
        """One comparison; a failed reading, or money in motion, concludes nothing. Raises ReadError."""
        if self._comparing:
            return
        self._comparing = True
        try:
            async with self._flows.alone:  # a deposit under way is on the account and in no market yet
                await self._compare()
        finally:
            self._comparing = False

    async def _compare(self) -> None:
        account_cents = await self._account_cents()
        if account_cents is None:
            _log.info("cash_moves", tries=_TRIES)
            return
        known_cents = self._context.books.unallocated_cents
        found_cents = account_cents - self._allocated_cents()
        if known_cents is None:
            self._note(found_cents)
        elif found_cents != known_cents:
            await self._differs(found_cents - known_cents)

    async def _account_cents(self) -> int | None:
        """The balance at a moment in which no market booked anything; None after five readings."""
        for _ in range(_TRIES):
            await self._trades.caught_up()
            before = self._booked()
            balance = await self._context.rest.balance()
            await self._trades.caught_up()
            if self._booked() == before and not any(m.supply_busy for m in self._context.markets.values()):
                return balance.available_balance_cents + balance.frozen_balance_cents
            await asyncio.sleep(_RETRY_S)
        return None

    def _booked(self) -> list[tuple[str, int, bool, int]]:
        """Changes when anything that moves cash is booked in any market."""
        accounts = [market.account for market in self._context.markets.values()]
        return [(each.cursor, each.supplies, each.funded, each.stock.cash_cents) for each in accounts]

    def _allocated_cents(self) -> int:
        return sum(market.account.stock.cash_cents for market in self._context.markets.values())

    async def _differs(self, cents: int) -> None:
        markets = [market for market in self._context.markets.values() if market.account.funded]
        tolerance_cents = min((market.quote.cash_tolerance for market in markets), default=0)
        if abs(cents) <= tolerance_cents:
            self._context.proc.alert(Alert.INVENTORY_DRIFT_WARNING, Severity.WARNING, cash_cents=cents)
            return
        for market in markets:
            await self._correct(market)
        account_cents = await self._account_cents()
        if account_cents is None:
            return  # the next comparison goes on from here
        left_cents = account_cents - self._allocated_cents()
        if left_cents != self._context.books.unallocated_cents:
            _log.warning(
                "unallocated_cash",  # somebody moved money of the account that no market had
                before_cents=self._context.books.unallocated_cents,
                now_cents=left_cents,
            )
        self._note(left_cents)

    async def _correct(self, market: GatewayMarket) -> None:
        """The market's cash becomes what the ledger says; its quoter is told to ask for everything."""
        was_open, market.open_for_orders = market.open_for_orders, False
        try:
            drift_cents = await self._ledger_drift_cents(market)
        finally:
            if was_open:
                market.admit()
        if not drift_cents:
            return
        outside_cents = self._flows.of(market).outside_cents
        account = market.account
        cash_cents = account.stock.cash_cents + drift_cents - outside_cents
        account.set_cash(cash_cents, cursor=account.cursor, funded=True, outside_cents=outside_cents)
        self._funds.note_baseline(market)
        self._context.proc.alert(
            Alert.INVENTORY_DRIFT_CRITICAL,
            Severity.CRITICAL,
            market=market.market_id,
            cash_cents=drift_cents,
        )
        self._context.reports_of(market).rejected(
            market, code=LocalReject.RECONCILE, intent=0, worker_epoch=market.worker_epoch()
        )

    async def _ledger_drift_cents(self, market: GatewayMarket) -> int:
        """What the venue's ledger has more than our figure, with no booking between two looks at the trades.

        0 when the market moved through five readings: the next comparison finds the same drift.
        """
        for _ in range(_TRIES):
            await self._trades.caught_up()
            before = self._booked()
            ledger_cents = await self._funds.ledger_cents(market)
            await self._trades.caught_up()
            if self._booked() == before and not market.supply_busy:
                return ledger_cents + self._flows.of(market).outside_cents - market.account.stock.cash_cents
            await asyncio.sleep(_RETRY_S)
        _log.warning("ledger_moves", market=market.market_id, tries=_TRIES)
        return 0

    # -- the figure that no market holds

    def _note(self, cents: int) -> None:
        self._context.books.unallocated_cents = cents
        found = Unallocated(cents=cents, markets=sorted(self._context.markets_by_id))
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        write_durably(self._path, msgspec.json.encode(found))

    def _of_earlier_life(self) -> int | None:
        """Of the same markets; None: there was none, or others shared the account."""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=Unallocated)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            _log.error("unallocated_unreadable", path=str(self._path), reason=str(error))
            return None
        return found.cents if found.markets == sorted(self._context.markets_by_id) else None
