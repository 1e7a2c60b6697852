"""Real PostgreSQL for the tests: one embedded server per run, and a database of its own for each exchange."""

import asyncio
import atexit
import itertools
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar

import asyncpg

from engine.paper.migration import migrate
from engine.paper.postgres import Database, Login, embedded
from engine.paper.state import State
from engine.paper.store import load_rows

Result = TypeVar("Result")

_TEMPLATE = "migrated"
_numbers = itertools.count(1)
_stack = ExitStack()


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine, also for a caller that runs on an event loop itself."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, work).result()


def login_to(server: Database, name: str) -> Login:
    """The owner's way into another database of the same server."""
    return Login(MappingProxyType({**server.owner.arguments, "database": name}))


async def execute(login: Login, *statements: str) -> None:
    """Run statements one by one, each in a transaction of its own."""
    connection = await login.connect()
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@cache
def server() -> Database:
    """The run's server with a migrated template; it dies with the main thread, at the latest."""
    opened = _stack.enter_context(embedded(None))
    atexit.register(_stack.close)
    run(_make_template(opened))
    return opened


async def _make_template(opened: Database) -> None:
    await execute(opened.owner, f"CREATE DATABASE {_TEMPLATE}")
    await migrate(await login_to(opened, _TEMPLATE).connect())


def fresh_database(template: str = _TEMPLATE) -> Database:
    """A database nobody has used yet: at the newest revision, or empty with ``template1``."""
    name = f"exchange_{next(_numbers)}"
    run(execute(server().owner, f"CREATE DATABASE {name} TEMPLATE {template}"))
    login = login_to(server(), name)
    return Database(name=name, owner=login, runtime=login)


async def fetch(login: Login, query: str, *arguments: object) -> list[asyncpg.Record]:
    """Rows of one query on a session of its own."""
    connection = await login.connect()
    try:
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()


def stored_state(database: Database) -> State:
    """The exchange as its tables describe it, read past the exchange."""

    async def load() -> State:
        connection = await database.owner.connect()
        try:
            rows, _, _ = await load_rows(connection)
        finally:
            await connection.close()
        return State.restored(rows)

    return run(load())


def state_differences(left: State, right: State) -> list[str]:
    """Names of what two states disagree on; a table without rows equals one that is not there."""

    def filled(table: object) -> object:
        return {key: row for key, row in table.items() if row} if isinstance(table, dict) else table

    names = [name for name in vars(left) if name != "books"]
    differing = [name for name in names if filled(getattr(left, name)) != filled(getattr(right, name))]
    for market_id in left.books.keys() | right.books.keys():
        if left.books[market_id].queued() != right.books[market_id].queued():
            differing.append(f"book of {market_id}")
    return differing
