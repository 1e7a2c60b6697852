"""What the exchange itself says about the engine, read by a client that is not the engine's gateway.

Two accounts look. The operator tails ``GET /admin/journal``, every committed effect in commit order, and
folds it into the engine's live orders and the exact times at which both sides of a market held one. The
market maker's own login reads positions, live orders, balance and ledger for the comparison at the end.
Nothing here is read from the engine, and the engine reads nothing from here.

Reads: the exchange's journal and account routes (platform contract 2.2, 2.4, 2.5, 2.7). Writes: nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import aiohttp
import msgspec

from engine._native import lib
from engine.events import Side
from engine.paper.client import (
    PAGE_ITEMS_MAX,
    PAGES_MAX,
    ExchangeClient,
    Order,
    RefusedError,
    UnreachableError,
)
from engine.paper.model import AMM_USER_ID, AMM_USERNAME
from engine.spans import Switch

OPERATOR: Final = "operator"
JOURNAL_LIMIT: Final = 5_000
"""Entries asked for at once."""
POLL_S: Final = 0.1
SILENCE_S_MAX: Final = 10.0
"""A journal that cannot be read for this long is an error of the run, not a pause."""

_BOOK_SIDE: Final = {"BUY": Side.BID, "SELL": Side.ASK}


class LiveOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One resting order of the engine in the YES book: cents and shares."""

    side: Side
    price_cents: int
    remaining: int


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One effect; ``data`` is decoded by kind, and only where the fold uses it."""

    sequence: int
    commit: int
    at_unix_ns: int
    kind: str
    data: msgspec.Raw


class JournalPage(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the journal; ``last_sequence`` is the newest entry there is."""

    items: list[JournalEntry]
    last_sequence: int


class _OrderStep(msgspec.Struct, frozen=True):
    order_id: str
    user_id: str
    market_id: str
    book_side: str
    book_price_cents: int
    remaining_quantity: int


class _Holding(msgspec.Struct, frozen=True):
    volume: int


class _PositionRow(msgspec.Struct, frozen=True):
    user_id: str
    market_id: str
    yes: _Holding
    no: _Holding


class _MarketRow(msgspec.Struct, frozen=True):
    id: str
    status: str


_STEP_KINDS: Final = frozenset({"ORDER_RESTED", "ORDER_FILLED", "ORDER_CANCELLED"})
_STEP_DECODER: Final = msgspec.json.Decoder(_OrderStep)
_POSITION_DECODER: Final = msgspec.json.Decoder(_PositionRow)
_MARKET_DECODER: Final = msgspec.json.Decoder(_MarketRow)


class MarketFold:
    """One market as the journal tells it: the watched user's live orders and volumes, the market's status."""

    def __init__(self) -> None:
        self.live: dict[str, LiveOrder] = {}
        self.yes_volume = 0
        self.no_volume = 0
        self.status = ""
        self.both_sides: Final = Switch()
        self.any_live: Final = Switch()
        self.active: Final = Switch()
        self.changes = 0
        """Rises with every step of one of the user's orders."""

    def quotes_both_sides(self) -> bool:
        """Whether a bid and an ask of the user rest right now."""
        return {order.side for order in self.live.values()} == set(Side)

    def levels(self) -> dict[tuple[Side, int], int]:
        """The user's resting shares by (book side, price in cents)."""
        levels: dict[tuple[Side, int], int] = {}
        for order in self.live.values():
            key = (order.side, order.price_cents)
            levels[key] = levels.get(key, 0) + order.remaining
        return levels


class JournalFold:
    """Folds journal entries in sequence. Times are the exchange's commit times in Unix ns.

    Invariant: both-sides presence is judged between commits, never inside one, so a replace (cancel and rest
    in one commit) leaves no hole.
    """

    def __init__(self, user_id: str = AMM_USER_ID) -> None:
        self.last_sequence = 0
        self._user_id: Final = user_id
        self._markets: Final[dict[str, MarketFold]] = {}
        self._commit = 0
        self._commit_unix_ns = 0
        self._touched: Final[set[str]] = set()

    def market(self, market_id: str) -> MarketFold:
        """The fold of a market; empty until the journal mentions it."""
        return self._markets.setdefault(market_id, MarketFold())

    def add(self, page: JournalPage) -> None:
        """Take the entries of a page that continues exactly where the last one ended.

        Raises ValueError when it does not: a hole in the journal would make every answer a guess.
        """
        for entry in page.items:
            if entry.sequence != self.last_sequence + 1:
                raise ValueError(f"journal continues with {entry.sequence} after {self.last_sequence}")
            if entry.commit != self._commit:
                self._settle()
                self._commit, self._commit_unix_ns = entry.commit, entry.at_unix_ns
            self.last_sequence = entry.sequence
            self._take(entry)
        if self.last_sequence == page.last_sequence:
            self._settle()

    def _take(self, entry: JournalEntry) -> None:
        if entry.kind in _STEP_KINDS:
            step = _STEP_DECODER.decode(entry.data)
            if step.user_id == self._user_id:
                self._step(entry.kind, step)
        elif entry.kind == "POSITION":
            row = _POSITION_DECODER.decode(entry.data)
            if row.user_id == self._user_id:
                market = self.market(row.market_id)
                market.yes_volume, market.no_volume = row.yes.volume, row.no.volume
        elif entry.kind == "MARKET":
            changed = _MARKET_DECODER.decode(entry.data)
            self.market(changed.id).status = changed.status
            self._touched.add(changed.id)

    def _step(self, kind: str, step: _OrderStep) -> None:
        market = self.market(step.market_id)
        # A fill of an order that never rested belongs to its arrival: the rest of it rests or is cancelled.
        if kind == "ORDER_RESTED" or (kind == "ORDER_FILLED" and step.order_id in market.live):
            if step.remaining_quantity:
                market.live[step.order_id] = LiveOrder(
                    side=_BOOK_SIDE[step.book_side],
                    price_cents=step.book_price_cents,
                    remaining=step.remaining_quantity,
                )
            else:
                market.live.pop(step.order_id, None)
        elif kind == "ORDER_CANCELLED":
            market.live.pop(step.order_id, None)
        market.changes += 1
        self._touched.add(step.market_id)

    def _settle(self) -> None:
        for market_id in self._touched:
            market = self._markets[market_id]
            market.both_sides.set(on=market.quotes_both_sides(), at_ns=self._commit_unix_ns)
            market.any_live.set(on=bool(market.live), at_ns=self._commit_unix_ns)
            market.active.set(on=market.status == "ACTIVE", at_ns=self._commit_unix_ns)
        self._touched.clear()


def book_digest(bids: dict[int, int], asks: dict[int, int]) -> int:
    """``orderbook_digest`` of a ladder given as price in cents -> shares; zero sizes do not count."""
    total = 0
    for side, levels in ((Side.BID, bids), (Side.ASK, asks)):
        for price_cents, lots in levels.items():
            if lots:
                total += int(lib.orderbook_digest_level(side, price_cents, lots))
    return total % 2**64


# --- the market maker's own books at the exchange ---------------------------------------------------------


class HoldingView(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of one outcome as the exchange books them."""

    volume: int
    cost_sum_cents: int
    pending_sell: int


class PositionView(msgspec.Struct, frozen=True, kw_only=True):
    """The account's position in one market."""

    market_id: str
    yes: HoldingView
    no: HoldingView


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """The account's cash in cents."""

    available_balance_cents: int
    frozen_balance_cents: int


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One movement of available cash."""

    amount_cents: int


class _LedgerPage(msgspec.Struct):
    items: tuple[LedgerRow, ...]
    next_cursor: str | None = None


class ExchangeBooks(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchange holds for the engine in one market; cash is free cash, the sum of its ledger rows."""

    position: PositionView
    live_orders: int
    cash_cents: int


class OperatorClient(ExchangeClient):
    """The operator's login: the journal."""

    async def journal(self, after: int) -> JournalPage:
        """Entries above ``after``, oldest first."""
        query = {"after": str(after), "limit": str(JOURNAL_LIMIT)}
        return await self._call("GET", "admin/journal", JournalPage, query=query)


class AccountClient(ExchangeClient):
    """The market maker's login, for reading only."""

    async def position(self, market_id: str) -> PositionView:
        """The position in one market, zeros where there is none."""
        return await self._call("GET", f"positions/{market_id}", PositionView)

    async def balance(self) -> Balance:
        """Available and frozen cash of the whole account."""
        return await self._call("GET", "account/balance", Balance)

    async def ledger(self, market_id: str) -> list[LedgerRow]:
        """Every ledger row of one market, newest first."""
        query = {"market_id": market_id, "limit": str(PAGE_ITEMS_MAX)}
        rows: list[LedgerRow] = []
        for _ in range(PAGES_MAX):
            page = await self._call("GET", "account/ledger", _LedgerPage, query=query)
            rows.extend(page.items)
            if page.next_cursor is None:
                return rows
            query["cursor"] = page.next_cursor
        raise UnreachableError(f"GET account/ledger: more than {PAGES_MAX} pages for {market_id}")

    async def books(self, market_id: str) -> ExchangeBooks:
        """All that the account has in one market; one consistent picture once the engine has stopped."""
        orders: list[Order] = await self.live_orders(market_id)
        rows = await self.ledger(market_id)
        return ExchangeBooks(
            position=await self.position(market_id),
            live_orders=len(orders),
            cash_cents=sum(row.amount_cents for row in rows),
        )


class Observer:
    """Follows the exchange at ``url`` until closed. Use as an async context manager."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, *, operator_password: str, amm_password: str
    ) -> None:
        self.fold: Final = JournalFold()
        self.account: Final = AccountClient(session, url, username=AMM_USERNAME, password=amm_password)
        self._operator: Final = OperatorClient(session, url, username=OPERATOR, password=operator_password)
        self._reading: Final = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Observer:
        """Logs both accounts in and begins to follow. Raises RefusedError or UnreachableError."""
        await self._operator.log_in()
        await self.account.log_in()
        await self.catch_up()
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    @property
    def failure(self) -> BaseException | None:
        """Why following ended by itself, if it did."""
        if self._task is None or not self._task.done() or self._task.cancelled():
            return None
        return self._task.exception()

    async def catch_up(self) -> None:
        """Returns once everything committed before the call is folded."""
        async with self._reading:
            for _ in range(PAGES_MAX):
                page = await self._operator.journal(self.fold.last_sequence)
                self.fold.add(page)
                if self.fold.last_sequence == page.last_sequence:
                    return
        raise UnreachableError(f"GET admin/journal: more than {PAGES_MAX} pages behind")

    async def books(self, market_ids: list[str]) -> dict[str, ExchangeBooks]:
        """Books of every market, by the market maker's own login."""
        return {market_id: await self.account.books(market_id) for market_id in market_ids}

    async def _follow(self) -> None:
        last_read = time.monotonic()
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.catch_up()
                last_read = time.monotonic()
            except (UnreachableError, RefusedError):
                if time.monotonic() - last_read > SILENCE_S_MAX:
                    raise
