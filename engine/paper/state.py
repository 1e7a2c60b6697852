"""The exchange's tables in memory and the one applier that moves them forward.

Commands are decided on a :class:`State` they only read (:mod:`engine.paper.decide`); :meth:`State.apply` is
the single place that writes. A state is a cache of the database's rows: :meth:`State.restored` makes the same
state from the rows alone as the commands that led to them.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import msgspec

from engine.paper.book import Book, LevelChange
from engine.paper.effects import Effects
from engine.paper.model import (
    Account,
    AmmRun,
    CircuitBreak,
    Direction,
    LedgerEntry,
    Market,
    Order,
    Position,
    ReferenceType,
    SupplyKey,
    Trade,
    User,
)


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the tables hold, oldest first: orders by (created_at, id), trades and ledger by id."""

    users: list[User]
    accounts: list[Account]
    markets: list[Market]
    orders: list[Order]
    trades: list[Trade]
    positions: list[Position]
    ledger: list[LedgerEntry]
    supply_keys: list[SupplyKey]
    amm_runs: list[AmmRun]
    circuit_breaks: list[CircuitBreak]
    next_id: int
    next_ledger_id: int


class State:
    """All rows, the indexes that queries need, and one order book per market.

    ``first_id`` seeds the one counter behind order and trade ids. It is taken from the wall clock so that
    ids rise with time and never repeat over a restart.
    """

    def __init__(self, first_id: int) -> None:
        self.next_id = first_id
        self.next_ledger_id = 1
        self.users: Final[dict[str, User]] = {}
        self.users_by_name: Final[dict[str, User]] = {}
        self.emails: Final[set[str]] = set()
        self.accounts: Final[dict[str, Account]] = {}
        self.markets: Final[dict[str, Market]] = {}
        self.books: Final[dict[str, Book]] = {}
        self.orders: Final[dict[str, Order]] = {}
        self.order_ids_by_key: Final[dict[tuple[str, str], str]] = {}
        self.order_ids_by_user: Final[dict[str, list[str]]] = defaultdict(list)
        self.live_order_ids_by_user: Final[dict[str, dict[str, None]]] = defaultdict(dict)
        self.trades: Final[dict[str, Trade]] = {}
        self.trade_ids_by_user: Final[dict[str, list[str]]] = defaultdict(list)
        self.trade_ids_by_market: Final[dict[str, list[str]]] = defaultdict(list)
        self.trade_ids_by_order: Final[dict[str, list[str]]] = defaultdict(list)
        self.last_trade_price_cents: Final[dict[str, int]] = {}
        self.positions: Final[dict[str, dict[str, Position]]] = {}
        self.ledger: Final[list[LedgerEntry]] = []
        self.ledger_by_user: Final[dict[str, list[LedgerEntry]]] = defaultdict(list)
        self.supply_keys: Final[dict[tuple[ReferenceType, str], SupplyKey]] = {}
        self.amm_runs: Final[dict[str, AmmRun]] = {}
        self.circuit_breaks: Final[list[CircuitBreak]] = []

    @classmethod
    def restored(cls, rows: Rows) -> "State":
        """The state these rows describe, its books queued by (created_at, id) (5.10)."""
        state = cls(first_id=rows.next_id)
        state.next_ledger_id = rows.next_ledger_id
        for user in rows.users:
            state._apply_user(user)
        for market in rows.markets:
            state._apply_market(market)
        state.accounts.update((account.user_id, account) for account in rows.accounts)
        for position in rows.positions:
            state.positions[position.market_id][position.user_id] = position
        state._apply_orders(rows.orders)
        for trade in rows.trades:
            state._append_trade(trade)
        for entry in rows.ledger:
            state._append_entry(entry)
        state.supply_keys.update(((key.kind, key.key), key) for key in rows.supply_keys)
        state.amm_runs.update((run.market_id, run) for run in rows.amm_runs)
        state.circuit_breaks.extend(rows.circuit_breaks)
        return state

    def order_trades(self, order_id: str) -> tuple[Trade, ...]:
        """Every fill of one order, oldest first."""
        return tuple(self.trades[trade_id] for trade_id in self.trade_ids_by_order.get(order_id, ()))

    def apply(self, effects: Effects) -> list[LevelChange]:
        """Make one command's effects true; answers the book levels it changed."""
        self.next_id = effects.next_id
        self.next_ledger_id = effects.next_ledger_id
        self._apply_single_rows(effects)
        for account in effects.accounts:
            self.accounts[account.user_id] = account
        for position in effects.positions:
            self.positions[position.market_id][position.user_id] = position
        changes = self._apply_orders(effects.orders)
        for trade in effects.trades:
            self._append_trade(trade)
        for entry in effects.ledger:
            self._append_entry(entry)
        return changes

    def _apply_single_rows(self, effects: Effects) -> None:
        if effects.user is not None:
            self._apply_user(effects.user)
        if effects.market is not None:
            self._apply_market(effects.market)
        if effects.supply_key is not None:
            self.supply_keys[effects.supply_key.kind, effects.supply_key.key] = effects.supply_key
        if effects.amm_run is not None:
            self.amm_runs[effects.amm_run.market_id] = effects.amm_run
        if effects.circuit_break is not None:
            self.circuit_breaks.append(effects.circuit_break)

    def _apply_user(self, user: User) -> None:
        self.users[user.id] = user
        self.users_by_name[user.username] = user
        self.emails.add(user.email.lower())

    def _apply_market(self, market: Market) -> None:
        if market.id not in self.markets:
            self.books[market.id] = Book()
            self.positions[market.id] = {}
        self.markets[market.id] = market

    def _append_entry(self, entry: LedgerEntry) -> None:
        self.ledger.append(entry)
        self.ledger_by_user[entry.user_id].append(entry)

    def _apply_orders(self, orders: Sequence[Order]) -> list[LevelChange]:
        totals_before: dict[tuple[str, Direction, int], int] = {}
        for order in orders:
            before = self.orders.get(order.id)
            if before is None:
                self.order_ids_by_key[order.user_id, order.client_order_id] = order.id
                self.order_ids_by_user[order.user_id].append(order.id)
            self.orders[order.id] = order
            live = self.live_order_ids_by_user[order.user_id]
            if order.is_live:
                live[order.id] = None
            else:
                live.pop(order.id, None)
            book = self.books[order.market_id]
            total_before = book.total(order.book_direction, order.book_price_cents)
            if book.follow(before, order):
                level = (order.market_id, order.book_direction, order.book_price_cents)
                totals_before.setdefault(level, total_before)
        return [
            LevelChange(direction, price_cents, total)
            for (market_id, direction, price_cents), total_before in totals_before.items()
            if (total := self.books[market_id].total(direction, price_cents)) != total_before
        ]

    def _append_trade(self, trade: Trade) -> None:
        self.trades[trade.trade_id] = trade
        for user_id in {trade.buy_user_id, trade.sell_user_id}:
            self.trade_ids_by_user[user_id].append(trade.trade_id)
        self.trade_ids_by_market[trade.market_id].append(trade.trade_id)
        if trade.is_audit:
            return
        self.trade_ids_by_order[trade.buy_order_id].append(trade.trade_id)
        self.trade_ids_by_order[trade.sell_order_id].append(trade.trade_id)
        self.last_trade_price_cents[trade.market_id] = trade.price_cents
