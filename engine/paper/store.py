"""The exchange's rows in PostgreSQL: loads them all, writes one batch at a time, reads the journal.

One session writes, and holds an advisory lock for as long as it lives, so that two exchanges never write to
one database. A session that was lost may still be committing somewhere; its successor gets the lock only
once it is gone, and can then say for certain whether the batch is there.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

import asyncpg
import msgspec

from engine.paper import tables
from engine.paper.effects import Effects
from engine.paper.journal_view import JournalEnd, JournalView, entries_after
from engine.paper.migration import HEAD, current_revision, migrate
from engine.paper.model import Account
from engine.paper.postgres import STATEMENT_S_MAX, Database, DatabaseError
from engine.paper.state import Rows
from engine.paper.tables import JournalCommit, OutboxEvent, Table, WalEvent

RECONNECT_S_MAX: Final = 20.0
_LOCK_KEY: Final = 0x636F7265_71756F74
_POLL_S: Final = 0.02
_PREFETCH: Final = 5000
_SEQUENCE_MAX: Final = 2**62
_APPEND_ONLY: Final = frozenset({"trades", "ledger_entries", "journal_commits", "wal_events", "supply_keys"})
_LOG: Final = logging.getLogger("engine.paper.store")

_FAILURES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of a session that broke between two statements
    OSError,
    TimeoutError,
)
Row = TypeVar("Row")


class RolledBackError(Exception):
    """The database took nothing of a batch; what was decided on top of it is void."""


class SessionLostError(RolledBackError):
    """Nothing of it is there because the session ended, not because the database refused it."""


class StoreLostError(Exception):
    """The database cannot be reached any more: one line that says why."""


class Batch:
    """Everything one transaction writes. A row that changes several times is written as it was last."""

    def __init__(self) -> None:
        self.commits: Final[list[JournalCommit]] = []
        self._new: Final[dict[Table, dict[object, object]]] = {}
        self._accounts: Final[dict[str, tuple[Account, Account]]] = {}

    def add(self, effects: Effects, commit: JournalCommit) -> None:
        """One command's effects and its place in the journal. Accounts are added by :meth:`move`."""
        self.commits.append(commit)
        for order in effects.orders:
            self._put(tables.ORDERS, order.id, order)
        for trade in effects.trades:
            self._put(tables.TRADES, trade.trade_id, trade)
        for position in effects.positions:
            self._put(tables.POSITIONS, (position.user_id, position.market_id), position)
        for entry in effects.ledger:
            self._put(tables.LEDGER, entry.id, entry)
        if effects.user is not None:
            self._put(tables.USERS, effects.user.id, effects.user)
        if effects.market is not None:
            self._put(tables.MARKETS, effects.market.id, effects.market)
        if effects.supply_key is not None:
            self._put(
                tables.SUPPLY_KEYS, (effects.supply_key.kind, effects.supply_key.key), effects.supply_key
            )
        if effects.amm_run is not None:
            self._put(tables.AMM_RUNS, effects.amm_run.market_id, effects.amm_run)
        if effects.circuit_break is not None:
            self._put(tables.CIRCUIT_BREAKS, commit.number, effects.circuit_break)
        self._put(tables.JOURNAL, commit.number, commit)

    def move(self, before: Account | None, after: Account) -> None:
        """An account's next version; ``before`` is None for one that is opened."""
        if before is None or after.user_id in self._new.get(tables.ACCOUNTS, ()):
            self._put(tables.ACCOUNTS, after.user_id, after)
            return
        first, _ = self._accounts.get(after.user_id, (before, after))
        self._accounts[after.user_id] = (first, after)

    @property
    def has_events(self) -> bool:
        """Whether it puts anything into the outbox."""
        return tables.OUTBOX in self._new

    def tell(self, events: Iterable[OutboxEvent]) -> None:
        """Events for the bus, which are published if and only if the batch commits."""
        for event in events:
            self._put(tables.OUTBOX, event.event_id, event)

    def trace(self, steps: Iterable[WalEvent]) -> None:
        """Steps of orders for the audit trail."""
        for step in steps:
            self._put(tables.WAL_EVENTS, len(self._new.get(tables.WAL_EVENTS, ())), step)

    def _put(self, table: Table, key: object, row: object) -> None:
        self._new.setdefault(table, {})[key] = row

    async def write(self, connection: asyncpg.Connection) -> None:
        """One transaction; raises what the database says, or ValueError if balances were not as decided."""
        text, written = tables.batch_statement(frozenset(table.name for table in self._new))
        before, after = zip(*self._accounts.values(), strict=True) if self._accounts else ((), ())
        try:
            await connection.fetchval(
                text,
                tables.encode_all(tables.ACCOUNTS, after),
                tables.encode_all(tables.ACCOUNTS, before),
                len(self._accounts),
                *(tables.encode_all(table, self._new[table].values()) for table in written),
            )
        except asyncpg.DivisionByZeroError as error:
            raise ValueError(
                f"balances of {', '.join(self._accounts)}: not all are what the batch was decided on"
            ) from error


class Store:
    """The open database. One task at a time may write; the journal is read on a session of its own."""

    def __init__(self, database: Database, writer: asyncpg.Connection, reader: asyncpg.Connection) -> None:
        self._database: Final = database
        self._writer = writer
        self._reader = reader
        self._reading: Final = asyncio.Lock()

    @classmethod
    async def open(cls, database: Database) -> "Store":
        """Migrate to the newest revision and take the writer's role. Raises :class:`DatabaseError`."""
        try:
            await _prepare(database)
            writer = await _connect_writer(database, STATEMENT_S_MAX / 2)
            reader = await database.runtime.connect()
        except _FAILURES as error:
            raise DatabaseError(f"database {database.name}: {_one_line(error)}") from error
        return cls(database, writer, reader)

    async def close(self) -> None:
        """End both sessions."""
        for connection in (self._writer, self._reader):
            with contextlib.suppress(*_FAILURES):
                await connection.close(timeout=STATEMENT_S_MAX)

    async def load(self) -> tuple[Rows, JournalEnd, int]:
        """Every row as of one moment, the journal's end, and the time of the last commit (Unix ns)."""
        return await self._ask(load_rows)

    async def write(self, batch: Batch) -> None:
        """Commit a batch. Raises :class:`RolledBackError` if nothing of it is there, :class:`StoreLostError`.

        When the answer to COMMIT is lost, the journal of a new session tells which of the two it was.
        """
        try:
            await batch.write(self._writer)
        except (*_FAILURES, ValueError) as error:
            _LOG.error("a batch of %d commands failed: %s", len(batch.commits), _one_line(error))
            lost = not isinstance(error, asyncpg.PostgresError | ValueError) or self._writer.is_closed()
            if lost:
                await self._reconnect(error)
            if not await self._holds(batch):
                raise (SessionLostError if lost else RolledBackError)(_one_line(error)) from error

    async def journal(self, after: int, limit: int) -> JournalView:
        """Up to ``limit`` entries with a sequence above ``after``."""
        after = min(after, _SEQUENCE_MAX)
        async with self._reading:
            try:
                if self._reader.is_closed():
                    self._reader = await self._database.runtime.connect()
                commits = await self._reader.fetch(
                    "SELECT first_sequence, entries FROM journal_commits "
                    "WHERE last_sequence > $1 AND first_sequence <= $1 + $2 ORDER BY number",
                    after,
                    limit,
                )
                last = await self._reader.fetchval("SELECT max(last_sequence) FROM journal_commits")
            except _FAILURES as error:
                raise StoreLostError(f"database {self._database.name}: {_one_line(error)}") from error
        items: list[msgspec.Raw] = []
        for first_sequence, entries in commits:
            items += entries_after(entries, first_sequence, after)
        return JournalView(items=items[:limit], last_sequence=last or 0)

    async def _holds(self, batch: Batch) -> bool:
        last = await self._ask(lambda session: session.fetchval("SELECT max(number) FROM journal_commits"))
        return last is not None and last >= batch.commits[-1].number

    async def _ask(self, question: Callable[[asyncpg.Connection], Awaitable[Row]]) -> Row:
        """The writer's answer; asked again on a new session when one ends under it."""
        deadline = time.monotonic() + RECONNECT_S_MAX
        while True:
            try:
                return await question(self._writer)
            except _FAILURES as error:
                if time.monotonic() > deadline:
                    raise StoreLostError(f"database {self._database.name}: {_one_line(error)}") from error
                await self._reconnect(error)

    async def _reconnect(self, cause: BaseException) -> None:
        self._writer.terminate()
        deadline = time.monotonic() + RECONNECT_S_MAX
        while True:
            try:
                self._writer = await _connect_writer(self._database, STATEMENT_S_MAX)
            except (*_FAILURES, DatabaseError) as error:
                if time.monotonic() > deadline:
                    raise StoreLostError(
                        f"database {self._database.name}: lost ({_one_line(cause)}) and not found again "
                        f"within {RECONNECT_S_MAX:g} s: {_one_line(error)}"
                    ) from error
                await asyncio.sleep(_POLL_S)
            else:
                return


async def load_rows(connection: asyncpg.Connection) -> tuple[Rows, JournalEnd, int]:
    """What :meth:`Store.load` answers, by a session that may only read."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        last = await connection.fetchrow(
            "SELECT number, last_sequence, next_id, next_ledger_id, at_unix_ns FROM journal_commits "
            "ORDER BY number DESC LIMIT 1"
        )

        async def every(table: Table, decode: Callable[[asyncpg.Record], Row], order: str) -> list[Row]:
            query = f"SELECT {', '.join(table.columns)} FROM {table.name} ORDER BY {order}"  # noqa: S608
            return [decode(row) async for row in connection.cursor(query, prefetch=_PREFETCH)]

        rows = Rows(
            users=await every(tables.USERS, tables.decode_user, "created_at, id"),
            accounts=await every(tables.ACCOUNTS, tables.decode_account, "user_id"),
            markets=await every(tables.MARKETS, tables.decode_market, "created_at, id"),
            orders=await every(tables.ORDERS, tables.decode_order, "created_at, id"),
            trades=await every(tables.TRADES, tables.decode_trade, "executed_at, trade_id"),
            positions=await every(tables.POSITIONS, tables.decode_position, "market_id, user_id"),
            ledger=await every(tables.LEDGER, tables.decode_entry, "id"),
            supply_keys=await every(tables.SUPPLY_KEYS, tables.decode_supply_key, "kind, key"),
            amm_runs=await every(tables.AMM_RUNS, tables.decode_run, "market_id"),
            circuit_breaks=await every(tables.CIRCUIT_BREAKS, tables.decode_break, "id"),
            next_id=last["next_id"] if last is not None else 1,
            next_ledger_id=last["next_ledger_id"] if last is not None else 1,
        )
    if last is None:
        return rows, JournalEnd(), 0
    return rows, JournalEnd(last["number"], last["last_sequence"]), last["at_unix_ns"]


async def _prepare(database: Database) -> None:
    """Bring the schema to :data:`HEAD` and let the runtime role at its rows."""
    connection = await database.owner.connect()
    present = await current_revision(connection)
    if present != HEAD:
        await migrate(connection)
        connection = await database.owner.connect()
    try:
        if (role := database.runtime_role) is not None:
            await _grant(connection, role)
    finally:
        await connection.close(timeout=STATEMENT_S_MAX)


async def _grant(connection: asyncpg.Connection, role: str) -> None:
    if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role) is None:
        await connection.execute(f"CREATE ROLE {role} LOGIN")
    for table in tables.TABLES:
        rights = "SELECT, INSERT" if table.name in _APPEND_ONLY else "SELECT, INSERT, UPDATE"
        if table is tables.OUTBOX:
            rights = "SELECT, INSERT, DELETE"
        await connection.execute(f"GRANT {rights} ON {table.name} TO {role}")
    await connection.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")


async def _connect_writer(database: Database, wait_s: float) -> asyncpg.Connection:
    """A session that holds the writer's lock; raises :class:`DatabaseError` if another keeps it."""
    connection = await database.runtime.connect()
    deadline = time.monotonic() + wait_s
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):
        if time.monotonic() > deadline:
            await connection.close(timeout=STATEMENT_S_MAX)
            raise DatabaseError(f"database {database.name}: another exchange works on it")
        await asyncio.sleep(_POLL_S)
    await connection.execute("SET synchronous_commit = on")
    # One plan per statement for good: planning ten inserts anew for each batch takes as long as running them.
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    return connection


def _one_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
