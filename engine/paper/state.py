"""The exchange's tables in memory and the one applier that moves them forward.

Commands are decided on a :class:`State` they only read (:mod:`engine.paper.decide`); :meth:`State.apply` is
the single place that writes. Row tables grow with the history they record: in memory they stand where the
database stands in a durable deployment.
"""

from bisect import bisect_right
from collections import defaultdict
from datetime import datetime
from typing import Final

import msgspec

from engine.paper.book import Book, LevelChange
from engine.paper.effects import Effects
from engine.paper.model import (
    Account,
    AmmRun,
    CircuitBreak,
    Direction,
    Holding,
    LedgerEntry,
    Market,
    Order,
    Position,
    ReferenceType,
    SupplyKey,
    Trade,
    User,
)


class Commit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One applied command in the journal. Its entries number from ``first_sequence`` upwards."""

    number: int
    first_sequence: int
    entry_count: int
    at_unix_ns: int
    effects: Effects


class Journal:
    """Every commit in order; entries of all commits share one dense sequence starting at 1."""

    def __init__(self) -> None:
        self.commits: Final[list[Commit]] = []
        self._first_sequences: Final[list[int]] = []
        self.last_sequence = 0

    def append(self, effects: Effects, at_unix_ns: int) -> Commit:
        """Record one command's effects."""
        commit = Commit(
            number=len(self.commits) + 1,
            first_sequence=self.last_sequence + 1,
            entry_count=entry_count(effects),
            at_unix_ns=at_unix_ns,
            effects=effects,
        )
        self.commits.append(commit)
        self._first_sequences.append(commit.first_sequence)
        self.last_sequence += commit.entry_count
        return commit

    def position_after(self, sequence: int) -> int:
        """Index of the first commit that holds an entry newer than ``sequence``."""
        index = bisect_right(self._first_sequences, sequence) - 1
        if index < 0:
            return 0
        commit = self.commits[index]
        return index if sequence < commit.first_sequence + commit.entry_count - 1 else index + 1


def entry_count(effects: Effects) -> int:
    """Number of journal entries one command's effects unfold into."""
    rows = (effects.user, effects.market, effects.supply_key, effects.amm_run, effects.circuit_break)
    return (
        len(effects.order_events)
        + len(effects.trades)
        + len(effects.ledger)
        + len(effects.accounts)
        + len(effects.positions)
        + sum(row is not None for row in rows)
    )


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
        self.journal: Final = Journal()

    def position(self, user_id: str, market_id: str, at: datetime) -> Position:
        """The user's row in a market, all zeros where none is stored."""
        stored = self.positions[market_id].get(user_id)
        if stored is not None:
            return stored
        return Position(user_id=user_id, market_id=market_id, yes=Holding(), no=Holding(), updated_at=at)

    def order_trades(self, order_id: str) -> tuple[Trade, ...]:
        """Every fill of one order, oldest first."""
        return tuple(self.trades[trade_id] for trade_id in self.trade_ids_by_order.get(order_id, ()))

    def apply(self, effects: Effects, at_unix_ns: int) -> tuple[Commit, list[LevelChange]]:
        """Make one command's effects true and journal them; answers the book levels it changed."""
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
            self.ledger.append(entry)
            self.ledger_by_user[entry.user_id].append(entry)
        return self.journal.append(effects, at_unix_ns), changes

    def _apply_single_rows(self, effects: Effects) -> None:
        if effects.user is not None:
            self.users[effects.user.id] = effects.user
            self.users_by_name[effects.user.username] = effects.user
            self.emails.add(effects.user.email.lower())
        if effects.market is not None:
            market_id = effects.market.id
            if market_id not in self.markets:
                self.books[market_id] = Book()
                self.positions[market_id] = {}
            self.markets[market_id] = effects.market
        if effects.supply_key is not None:
            self.supply_keys[effects.supply_key.kind, effects.supply_key.key] = effects.supply_key
        if effects.amm_run is not None:
            self.amm_runs[effects.amm_run.market_id] = effects.amm_run
        if effects.circuit_break is not None:
            self.circuit_breaks.append(effects.circuit_break)

    def _apply_orders(self, orders: tuple[Order, ...]) -> list[LevelChange]:
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
