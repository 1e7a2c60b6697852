"""Fills: one place where a leg is applied; by polls of GET /trades (market-making §7.1), or told (§7.2).

The poll runs every ``trade_poll_interval_ms`` and at once when somebody pokes: the feed saw a market trade,
a reply carried trades, a cancel left less than we thought. Pokes within 20 ms make one poll, and one is
under way at a time. It reads the newest page and walks back until a page holds a leg already applied.

With an event bus, legs are told by :mod:`gateway_bus` as well. While the bus is steady nobody's poke makes a
poll, and the loop polls slowly, to repair. The two sources are independent: each tells a market's legs in
order and without a hole, so the union never has one. A walk therefore goes back to what a *poll* has seen,
not to what the bus has applied; and the cursor only moves forward in the venue's time.

Trades in replies are a reason to poll, never applied themselves: a leg applied out of turn would put the
cursor ahead of an older leg that is not listed yet, and a crash would lose that one.

A leg is a line of the booking journal before it changes anything: a crash in between applies it again, and
the reader of the journal knows it by its id.

Reads: GET /trades.  Writes: booking journal, account rows, live-order rows, execution rings.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from engine import crash_points
from engine._native import lib
from engine.booking_journal import BookedLeg
from engine.events import Scenario, Side
from engine.quoting.inventory import AppliedTrades, Leg, leg_id
from engine.venues.platform_rest import PAGE_ITEMS, ReadError
from engine.venues.platform_wire import AccountTrade
from engine.workers.clock import unix_ms
from engine.workers.gateway_context import GatewayContext
from engine.workers.gateway_live import LiveOrder
from engine.workers.gateway_market import GatewayMarket

_log = structlog.get_logger()

_POLL_GAP_S: Final = 0.020
_RETRY_S_MIN: Final = 0.050
_RETRY_S_MAX: Final = 1.0
_WALK_PAGES_MAX: Final = 10
# The venue may list a trade later than one that it dates after it: by how much at most.
_SETTLED_AFTER: Final = timedelta(seconds=60)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_SIDES: Final = {"BUY": Side.BID, "SELL": Side.ASK}
_ROLES: Final = {"MAKER": lib.ROLE_MAKER, "TAKER": lib.ROLE_TAKER}


class TradeFeed:
    """The account's fills. ``lost`` is set when a walk back found no known leg."""

    def __init__(self, context: GatewayContext) -> None:
        self._context: Final = context
        self._applied: Final = AppliedTrades()
        self._wanted: Final = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        # more fills than can be walked happened unseen: cash and positions are not known until they have been
        # taken from the venue anew
        self.lost = False
        self._listed: frozenset[str] = frozenset()  # legs of the newest page of the last poll
        self._known_before: dict[str, datetime] = {}  # per market: older legs are known, applied or not
        self._newest_at: dict[str, datetime] = {}  # per market: executed_at of the newest applied leg
        self.bus_steady = False  # the event bus tells fills: polls are for repair

    def poke(self) -> None:
        """Fills may have happened: a poll is due now, unless the bus tells them."""
        if not self.bus_steady:
            self._wanted.set()

    async def caught_up(self) -> None:
        """Returns when a poll that began after this call has been applied, however often it takes."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._wanted.set()
        await done

    async def run(self) -> None:
        """The poll loop; ends only by cancellation."""
        retry_s = _RETRY_S_MIN
        while True:
            if not self._waiting:
                await self._next_reason()
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

    async def _next_reason(self) -> None:
        """A poke, or the interval that holds now is over; it may change while we wait."""
        venue = self._context.proc.config.venue
        began_s = time.monotonic()
        while True:
            interval_ms = venue.kafka_repair_interval_ms if self.bus_steady else venue.trade_poll_interval_ms
            left_s = began_s + interval_ms / 1_000 - time.monotonic()
            if left_s <= 0:
                return
            try:
                async with asyncio.timeout(min(left_s, venue.trade_poll_interval_ms / 1_000)):
                    await self._wanted.wait()
            except TimeoutError:
                continue
            return

    async def _poll(self) -> None:
        self._context.counts.trade_polls += 1
        unseen: list[AccountTrade] = []
        newest: list[AccountTrade] = []
        cursor = ""
        for _ in range(_WALK_PAGES_MAX):
            page = await self._context.rest.trades(cursor=cursor)
            newest = newest or page.items
            new = [trade for trade in page.items if _leg(trade) not in self._applied]
            unseen += new
            # before the first poll, what start has made known bounds the walk
            reached = (
                any(_leg(trade) in self._listed for trade in page.items)
                if self._listed
                else len(new) < len(page.items)
            )
            if reached or not page.has_more or not page.next_cursor:
                break
            cursor = page.next_cursor
        else:
            # a page of which the bus has told everything joins both: nothing is missing before it
            if new:
                _log.error("trade_cursor_lost", pages=_WALK_PAGES_MAX, items=PAGE_ITEMS)
                self.lost = True
        self._apply(unseen)
        self._listed = frozenset(_leg(trade) for trade in newest)
        if newest:
            self._know_before(newest[0].executed_at - _SETTLED_AFTER)

    def _know_before(self, moment: datetime) -> None:
        """A complete poll has seen everything that is older: the set of applied legs may forget it."""
        for market_id in self._context.markets_by_id:
            if moment > self._known_before.get(market_id, _NEVER):
                self._known_before[market_id] = moment

    def apply_told(self, legs: tuple[AccountTrade, ...]) -> int:
        """Applies what of a trade told by the bus is not known yet; the number of legs applied.

        A leg from before the market's known time was applied, or is in a figure taken from the venue: the
        bus may repeat everything it has kept.
        """
        fresh = [
            leg
            for leg in legs
            if leg.market_id in self._context.markets_by_id
            and _leg(leg) not in self._applied
            and leg.executed_at >= self._known_before.get(leg.market_id, _NEVER)
        ]
        self._apply(fresh[::-1])
        return len(fresh)

    def _apply(self, newest_first: list[AccountTrade]) -> None:
        for trade in in_order_of_booking(newest_first):
            leg = _leg(trade)
            if leg in self._applied:
                continue
            self._applied.add(leg)
            market = self._context.markets_by_id.get(trade.market_id)
            if market is not None and not trade.audit and not self.lost:
                self._apply_leg(market, trade)

    def _apply_leg(self, market: GatewayMarket, trade: AccountTrade) -> None:
        leg = Leg(
            trade_id=trade.trade_id,
            scenario=Scenario[trade.scenario],
            book_side=_SIDES[trade.my_side],
            price_cents=trade.price_cents,
            quantity=trade.quantity,
            fee_cents=trade.fee_cents,
        )
        # As-built rows name no order. One that did not take was resting at the trade's price.
        order_id = trade.order_id or market.orders.resting_at(
            leg.book_side, leg.price_cents, closing=_closes(trade)
        )
        self._context.bookings.append(
            BookedLeg(
                market=market.market_id,
                trade=trade.trade_id,
                side="B" if leg.book_side == Side.BID else "S",
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

        def tell(order: LiveOrder | None) -> None:
            self._context.reports_of(market).fill(
                market,
                leg=leg,
                role=_ROLES[trade.role],
                order_id=order_id,
                order=order,
                unix_ns=int(trade.executed_at.timestamp() * 1e9),
            )
            if crash_points.armed:
                crash_points.reach("gateway.after_fill")

        order = market.apply_leg(leg, order_id=order_id, tell=tell, newest=self._is_newest(market, trade))
        self._context.counts.fills += 1
        if order is not None:
            self.close_if_filled(market, order)

    def _is_newest(self, market: GatewayMarket, trade: AccountTrade) -> bool:
        """Whether the cursor may move to the trade: a repair can bring one that is older than others."""
        newest = trade.executed_at >= self._newest_at.get(market.market_id, _NEVER)
        if newest:
            self._newest_at[market.market_id] = trade.executed_at
        return newest

    def close_if_filled(self, market: GatewayMarket, order: LiveOrder) -> None:
        """FILLED once nothing of an acknowledged order is left."""
        if order.remaining == 0 and not order.gone():
            self._context.reports_of(market).filled(market, order)
            market.orders.close(order)

    # -- start

    async def resume(self, market: GatewayMarket) -> bool:
        """Applies what happened since the account row's cursor, and knows the rest as applied.

        False: the cursor is out of reach; cash must be taken from the ledger. Raises ReadError.
        """
        newest_first: list[AccountTrade] = []
        cursor = ""
        for _ in range(_WALK_PAGES_MAX):
            page = await self._context.rest.trades(market_id=market.market_id, cursor=cursor)
            newest_first += page.items
            reached = any(trade.trade_id == market.account.cursor for trade in page.items)
            if reached or not page.has_more or not page.next_cursor:
                break
            cursor = page.next_cursor
        else:
            return False
        since = [trade.trade_id for trade in newest_first]
        newest_at = newest_first[0].executed_at if newest_first else _NEVER
        if market.account.cursor:
            if market.account.cursor not in since:
                return False
            newest_first, known = (
                newest_first[: since.index(market.account.cursor)],
                newest_first[since.index(market.account.cursor) :],
            )
            self.know(known)
        self._apply(newest_first)
        if since:
            self._known_before[market.market_id] = newest_at
        return True

    async def newest(self, market: GatewayMarket) -> str:
        """Id of the market's newest trade, with its whole page known as applied: cash read now has it."""
        page = await self._context.rest.trades(market_id=market.market_id)
        self.know(page.items)
        if not page.items:
            return ""
        self._known_before[market.market_id] = page.items[0].executed_at
        return page.items[0].trade_id

    def know(self, trades: list[AccountTrade]) -> None:
        """Marks legs as applied without applying them."""
        for trade in trades:
            self._applied.add(_leg(trade))

    async def know_strangers(self) -> None:
        """Marks the newest page's legs in markets that are not ours, so that no walk starts over them."""
        page = await self._context.rest.trades()
        self.know([trade for trade in page.items if trade.market_id not in self._context.markets_by_id])


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
