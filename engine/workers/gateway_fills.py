"""Fills: one account-wide poll of GET /trades, one place where a leg is applied (market-making §7.1).

The poll runs every ``trade_poll_interval_ms`` and at once when somebody pokes: the feed saw a market trade,
a reply carried trades, a cancel left less than we thought. Pokes within 20 ms make one poll, and one is
under way at a time. It reads the newest page and walks back until a page holds a leg already applied.

Trades in replies are a reason to poll, never applied themselves: a leg applied out of turn would put the
cursor ahead of an older leg that is not listed yet, and a crash would lose that one.

A leg is a line of the booking journal before it changes anything: a crash in between applies it again, and
the reader of the journal knows it by its id.

Reads: GET /trades.  Writes: booking journal, account rows, live-order rows, execution rings.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from engine import crash_points
from engine._native import lib
from engine.booking_journal import BookedLeg
from engine.events import Scenario, Side
from engine.quoting.inventory import AppliedTrades, leg_id
from engine.venues.platform_rest import PAGE_ITEMS, ReadError
from engine.venues.platform_wire import AccountTrade
from engine.workers.clock import unix_ms
from engine.workers.gateway_context import GatewayContext
from engine.workers.gateway_market import GatewayMarket, LiveOrder

_log = structlog.get_logger()

_POLL_GAP_S: Final = 0.020
_RETRY_S_MIN: Final = 0.050
_RETRY_S_MAX: Final = 1.0
_WALK_PAGES_MAX: Final = 10
_SIDES: Final = {"BUY": Side.BID, "SELL": Side.ASK}
_ROLES: Final = {"MAKER": lib.ROLE_MAKER, "TAKER": lib.ROLE_TAKER}


class TradeFeed:
    """The account's fills. ``lost`` is called when a walk back found no known leg."""

    def __init__(self, context: GatewayContext) -> None:
        self._context: Final = context
        self._applied: Final = AppliedTrades()
        self._wanted: Final = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._lost = False

    @property
    def lost(self) -> bool:
        """More fills than can be walked happened unseen: cash and positions are not known until reset."""
        return self._lost

    def poke(self) -> None:
        """A poll is due now."""
        self._wanted.set()

    async def caught_up(self) -> None:
        """Returns when a poll that began after this call has been applied, however often it takes."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._wanted.set()
        await done

    async def run(self) -> None:
        """The poll loop; ends only by cancellation."""
        interval_s = self._context.proc.config.venue.trade_poll_interval_ms / 1_000
        retry_s = _RETRY_S_MIN
        while True:
            if not self._waiting:
                await self._next_reason(interval_s)
            self._wanted.clear()
            answered, self._waiting = self._waiting, []
            try:
                await self._poll()
            except ReadError as error:
                _log.warning("trade_poll_failed", reason=str(error))
                self._waiting = answered + self._waiting
                await asyncio.sleep(retry_s)
                retry_s = min(_RETRY_S_MAX, 2 * retry_s)
                continue
            retry_s = _RETRY_S_MIN
            for waiter in answered:
                if not waiter.done():
                    waiter.set_result(None)
            await asyncio.sleep(_POLL_GAP_S)

    async def _next_reason(self, interval_s: float) -> None:
        try:
            async with asyncio.timeout(interval_s):
                await self._wanted.wait()
        except TimeoutError:
            return

    async def _poll(self) -> None:
        self._context.counts.trade_polls += 1
        unseen: list[AccountTrade] = []
        cursor = ""
        for _ in range(_WALK_PAGES_MAX):
            page = await self._context.rest.trades(cursor=cursor)
            new = [trade for trade in page.items if _leg(trade) not in self._applied]
            unseen += new
            if len(new) < len(page.items) or not page.has_more or not page.next_cursor:
                break
            cursor = page.next_cursor
        else:
            _log.error("trade_cursor_lost", pages=_WALK_PAGES_MAX, items=PAGE_ITEMS)
            self._lost = True
        self._apply(unseen)

    def _apply(self, newest_first: list[AccountTrade]) -> None:
        for trade in in_order_of_booking(newest_first):
            leg = _leg(trade)
            if leg in self._applied:
                continue
            self._applied.add(leg)
            market = self._context.markets_by_id.get(trade.market_id)
            if market is not None and not trade.audit and not self._lost:
                self._apply_leg(market, trade)

    def _apply_leg(self, market: GatewayMarket, trade: AccountTrade) -> None:
        scenario, side = Scenario[trade.scenario], _SIDES[trade.my_side]
        # As-built rows name no order. One that did not take was resting at the trade's price.
        order_id = trade.order_id or market.resting_at(side, trade.price_cents, closing=_closes(trade))
        self._context.bookings.append(
            BookedLeg(
                market=market.market_id,
                trade=trade.trade_id,
                side="B" if side == Side.BID else "S",
                scenario=trade.scenario,
                price=trade.price_cents,
                quantity=trade.quantity,
                fee=trade.fee_cents,
                role=trade.role,
                order=order_id,
                executed_us=round(trade.executed_at.timestamp() * 1e6),
                booked_ms=unix_ms(),
            )
        )
        order = market.apply_leg(
            trade_id=trade.trade_id,
            scenario=scenario,
            side=side,
            price_cents=trade.price_cents,
            quantity=trade.quantity,
            fee_cents=trade.fee_cents,
            order_id=order_id,
        )
        if crash_points.armed:
            crash_points.reach("gateway.after_fill")
        self._context.counts.fills += 1
        reports = self._context.reports_of(market)
        reports.fill(
            market,
            trade_id=trade.trade_id,
            scenario=scenario,
            side=side,
            role=_ROLES[trade.role],
            price_cents=trade.price_cents,
            quantity=trade.quantity,
            fee_cents=trade.fee_cents,
            order_id=order_id,
            order=order,
            unix_ns=int(trade.executed_at.timestamp() * 1e9),
        )
        if order is not None:
            self.close_if_filled(market, order)

    def close_if_filled(self, market: GatewayMarket, order: LiveOrder) -> None:
        """FILLED once nothing of an acknowledged order is left."""
        if order.remaining == 0 and not order.gone():
            self._context.reports_of(market).filled(market, order)
            market.close(order)

    # -- start and reset

    async def resume(self, market: GatewayMarket) -> bool:
        """Applies what happened since the account row's cursor, and knows the rest as applied.

        False: the cursor is out of reach; cash must be taken from the ledger. Raises ReadError.
        """
        newest_first: list[AccountTrade] = []
        cursor = ""
        for _ in range(_WALK_PAGES_MAX):
            page = await self._context.rest.trades(market_id=market.market_id, cursor=cursor)
            newest_first += page.items
            reached = any(trade.trade_id == market.cursor for trade in page.items)
            if reached or not page.has_more or not page.next_cursor:
                break
            cursor = page.next_cursor
        else:
            return False
        since = [trade.trade_id for trade in newest_first]
        if market.cursor:
            if market.cursor not in since:
                return False
            newest_first, known = (
                newest_first[: since.index(market.cursor)],
                newest_first[since.index(market.cursor) :],
            )
            self.know(known)
        self._apply(newest_first)
        return True

    async def newest(self, market: GatewayMarket) -> str:
        """Id of the market's newest trade, with its whole page known as applied: cash read now has it."""
        page = await self._context.rest.trades(market_id=market.market_id)
        self.know(page.items)
        return page.items[0].trade_id if page.items else ""

    def know(self, trades: list[AccountTrade]) -> None:
        """Marks legs as applied without applying them."""
        for trade in trades:
            self._applied.add(_leg(trade))

    async def know_strangers(self) -> None:
        """Marks the newest page's legs in markets that are not ours, so that no walk starts over them."""
        page = await self._context.rest.trades()
        self.know([trade for trade in page.items if trade.market_id not in self._context.markets_by_id])

    def reset(self) -> None:
        """Cash and positions have been taken from the venue anew."""
        self._lost = False


def _leg(trade: AccountTrade) -> str:
    return leg_id(trade.trade_id, _SIDES[trade.my_side])


def in_order_of_booking(newest_first: list[AccountTrade]) -> list[AccountTrade]:
    """Oldest first; of a self-trade's two legs the closing one first, as the venue books them (§5.3)."""
    ordered = newest_first[::-1]
    for index in range(len(ordered) - 1):
        first, second = ordered[index], ordered[index + 1]
        if first.trade_id == second.trade_id and not _closes(first) and _closes(second):
            ordered[index], ordered[index + 1] = second, first
    return ordered


def _closes(trade: AccountTrade) -> bool:
    """Whether our leg gives shares away (§2.6 table)."""
    if trade.my_side == "BUY":
        return trade.scenario in {"TRANSFER_NO", "BURN"}
    return trade.scenario in {"TRANSFER_YES", "BURN"}
