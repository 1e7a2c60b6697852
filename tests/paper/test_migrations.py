"""The schema's revisions up and down, and the moves they refuse (contract section 6)."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from engine.paper import tables
from engine.paper.__main__ import main
from engine.paper.migration import HEAD, MigrationRefusedError, current_revision, migrate
from engine.paper.model import AMM_EMAIL, AMM_USER_ID
from engine.paper.postgres import Database
from tests.paper.databases import execute, fetch, fresh_database, run

USER_ID = "00000000-0000-4000-a000-0000000000aa"
PLATFORM_TABLES = (
    *("users", "accounts", "markets", "orders", "trades", "positions"),
    *("ledger_entries", "wal_events", "circuit_breaker_events"),
)
POPULATION = (
    f"INSERT INTO users (id, username, email, password_hash) VALUES ('{USER_ID}', 'anna', 'a@x', 'h')",
    "INSERT INTO accounts (user_id, available_balance, frozen_balance, version) "
    f"VALUES ('{USER_ID}', 90, 10, 7)",
    "INSERT INTO markets (id, title, status, reserve_balance, total_yes_shares, total_no_shares) "
    "VALUES ('M', 't', 'ACTIVE', 500, 5, 5)",
    "INSERT INTO orders (id, client_order_id, market_id, user_id, original_side, original_direction, "
    "original_price, book_type, book_direction, book_price, quantity, remaining_quantity, frozen_amount, "
    f"frozen_asset_type, status) VALUES ('1', 'k', 'M', '{USER_ID}', 'YES', 'BUY', 5, 'NATIVE_BUY', 'BUY', "
    "5, 2, 2, 10, 'FUNDS', 'OPEN')",
    "INSERT INTO trades (trade_id, market_id, scenario, buy_order_id, sell_order_id, buy_user_id, "
    "sell_user_id, buy_book_type, sell_book_type, price, quantity, maker_order_id, taker_order_id) "
    f"VALUES ('2', 'M', 'MINT', '1', '3', '{USER_ID}', 'other', 'NATIVE_BUY', "
    "'SYNTHETIC_SELL', 50, 5, '1', '3')",
    f"INSERT INTO positions (user_id, market_id, yes_volume, yes_cost_sum) VALUES ('{USER_ID}', 'M', 5, 250)",
    "INSERT INTO ledger_entries (user_id, entry_type, amount, balance_after, reference_type, reference_id) "
    f"VALUES ('{USER_ID}', 'DEPOSIT', 100, 100, 'DEPOSIT', '1')",
    "INSERT INTO wal_events (market_id, event_type, payload) VALUES ('M', 'ORDER_ACCEPTED', '{}')",
    "INSERT INTO circuit_breaker_events (market_id, trigger_reason) VALUES ('M', 'r')",
)


async def move(database: Database, target: str) -> None:
    await migrate(await database.owner.connect(), target)


async def revision(database: Database) -> str | None:
    connection = await database.owner.connect()
    try:
        return await current_revision(connection)
    finally:
        await connection.close()


async def contents(database: Database) -> dict[str, list[asyncpg.Record]]:
    return {
        table: await fetch(database.owner, f"SELECT * FROM {table} ORDER BY 1, 2")
        for table in PLATFORM_TABLES
    }


def on_empty_database(story: Callable[[Database], Awaitable[None]]) -> None:
    database = fresh_database("template1")
    run(story(database))  # type: ignore[arg-type]


def test_a_populated_database_goes_up_and_down_unchanged() -> None:
    async def story(database: Database) -> None:
        await move(database, "011")
        await execute(database.owner, *POPULATION)
        before = await contents(database)
        assert all(before.values())
        await move(database, "head")
        assert await revision(database) == HEAD == "014_seed_amm_system_account"
        ((email,),) = await fetch(database.owner, "SELECT email FROM users WHERE id = $1::uuid", AMM_USER_ID)
        assert email == AMM_EMAIL
        flags = await fetch(database.owner, "SELECT user_id, auto_netting_enabled FROM accounts")
        assert {user for user, nets in flags if not nets} == {AMM_USER_ID}
        await move(database, "011")
        assert await contents(database) == before

    on_empty_database(story)


def test_every_revision_has_a_way_back() -> None:
    async def story(database: Database) -> None:
        await move(database, "head")
        await move(database, "base")
        left = await fetch(database.owner, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert [name for (name,) in left] == ["alembic_version"]
        await move(database, "012")
        assert await revision(database) == "012_add_auto_netting_enabled"
        await move(database, "013")
        assert await revision(database) == "013_amm_self_trade_constraint"

    on_empty_database(story)


@pytest.mark.parametrize(
    ("taken", "named"),
    [
        (f"VALUES ('{AMM_USER_ID}', 'somebody', 's@x', 'h')", f"id {AMM_USER_ID} is taken"),
        (f"VALUES ('{USER_ID}', 'amm_market_maker', 's@x', 'h')", "username amm_market_maker is taken"),
        (f"VALUES ('{USER_ID}', 'somebody', '{AMM_EMAIL}', 'h')", f"email {AMM_EMAIL} is taken"),
    ],
)
def test_a_taken_market_maker_refuses_the_upgrade(taken: str, named: str) -> None:
    async def story(database: Database) -> None:
        await move(database, "011")
        await execute(database.owner, f"INSERT INTO users (id, username, email, password_hash) {taken}")
        with pytest.raises(MigrationRefusedError, match=named) as refused:
            await move(database, "head")
        assert "\n" not in str(refused.value)
        assert (
            await revision(database) == "011_updated_at_and_accounts"
        )  # all or nothing: 012 is not there either

    on_empty_database(story)


def test_self_trades_refuse_the_downgrade() -> None:
    async def story(database: Database) -> None:
        await move(database, "head")
        trade = POPULATION[4].replace("'other'", f"'{AMM_USER_ID}'").replace(USER_ID, AMM_USER_ID)
        await execute(database.owner, trade)
        with pytest.raises(MigrationRefusedError, match="1 trades of a user with itself") as refused:
            await move(database, "011")
        assert "\n" not in str(refused.value)
        assert await revision(database) == HEAD
        with pytest.raises(asyncpg.CheckViolationError, match="ck_trades_diff_users"):
            await execute(
                database.owner, POPULATION[4].replace("'other'", f"'{USER_ID}'").replace("'2'", "'9'")
            )

    on_empty_database(story)


def test_who_may_trade_with_itself_is_configured() -> None:
    async def story(database: Database) -> None:
        await migrate(await database.owner.connect(), self_trade_exempt=(USER_ID, "other"))
        await execute(database.owner, POPULATION[4].replace("'other'", f"'{USER_ID}'"))
        with pytest.raises(asyncpg.CheckViolationError, match="ck_trades_diff_users"):
            await execute(
                database.owner,
                POPULATION[4].replace("'other'", "'third'").replace(USER_ID, "third").replace("'2'", "'9'"),
            )

    on_empty_database(story)


def test_a_market_maker_with_history_refuses_the_downgrade() -> None:
    async def story(database: Database) -> None:
        await move(database, "head")
        await execute(database.owner, POPULATION[6].replace(USER_ID, AMM_USER_ID))
        with pytest.raises(MigrationRefusedError, match="1 orders and ledger entries"):
            await move(database, "013")

    on_empty_database(story)


def test_an_unknown_revision_is_named() -> None:
    async def story(database: Database) -> None:
        with pytest.raises(MigrationRefusedError, match="revision 999"):
            await move(database, "999")

    on_empty_database(story)


def test_migrating_by_command(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    directory = f"{tmp_path}/data"
    assert main(["--data", directory, "--migrate", "011"]) == 0
    assert main(["--data", directory, "--migrate", "999"]) == 78
    assert capsys.readouterr().err.startswith("corequote paper: revision 999")


def test_rows_have_the_columns_of_their_tables() -> None:
    """Batches are arrays of the tables' own row types, so names and order must agree."""
    database = fresh_database()
    query = (
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND table_name = $1 ORDER BY ordinal_position"
    )
    for table in tables.TABLES:
        columns = asyncio.run(fetch(database.owner, query, table.name))
        assert table.columns == tuple(name for (name,) in columns), table.name


def test_updated_at_follows_changes_by_hand() -> None:
    database = fresh_database()
    read = "SELECT updated_at FROM accounts WHERE user_id = 'SYSTEM_RESERVE'"
    ((before,),) = asyncio.run(fetch(database.owner, read))
    asyncio.run(execute(database.owner, "UPDATE accounts SET version = 1 WHERE user_id = 'SYSTEM_RESERVE'"))
    ((after,),) = asyncio.run(fetch(database.owner, read))
    assert after > before
