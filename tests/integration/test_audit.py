"""``corequote audit``: a whole engine, a real exchange and its PostgreSQL; every wrong cell is found."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
from typer.testing import CliRunner, Result

from engine import rundir
from engine.books.audit import Audit, audit
from engine.cli import app
from engine.config import EXIT_CONFIG, EXIT_USAGE
from engine.paper.migration import migrate
from engine.terminal import EXIT_FAILED, EXIT_NOT_RUNNING
from tests.integration.gateway_rig import MARKET, OTHER_MARKET, Exchange
from tests.integration.worker_rig import PASSWORD, ROOT, until

pytestmark = pytest.mark.timeout(400)

ENGINE = """
[engine]
heartbeat_timeout_ms = 30000
stop_timeout_ms = 20000
[venue]
url = "{url}"
[quote]
auto_merge_enabled = false
auto_reinvest_enabled = false
price_jump_threshold = 0.5
[[markets]]
id = "{market}"
"""


class Play:
    """Exchange, engine and a trader who has taken something on both sides."""

    def __init__(self, folder: Path) -> None:
        self.exchange = Exchange(folder, data=folder / "db")
        self.database = f"postgresql://postgres@/postgres?host={folder / 'db' / 'pg'}"
        self.run_dir = folder / "run"
        config = folder / "engine.toml"
        config.write_text(ENGINE.format(url=self.exchange.url, market=MARKET))
        self.log = (folder / "engine.log").open("wb")
        self.engine = subprocess.Popen(
            [
                *(sys.executable, "-m", "engine.cli", "run", str(config)),
                *("--run-dir", str(self.run_dir)),
            ],
            cwd=ROOT,
            env={**os.environ, "COREQUOTE_AMM_PASSWORD": PASSWORD},
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        until(self._quoted, "the market is quoted", deadline_s=180)
        self.day = datetime.now(UTC).date()

    def _quoted(self) -> bool:
        return len(self.exchange.live(MARKET)) >= 4

    def trade(self) -> None:
        """Takes the best on both sides, twice."""
        trader = self.exchange.trader()
        for number in range(4):
            book = trader.get(f"markets/{MARKET}/orderbook")["yes"]
            yes = number % 2 == 1
            price = book["asks" if yes else "bids"][0]["price_cents"]
            trader.post(
                "orders",
                {
                    "client_order_id": f"t-{number}",
                    "market_id": MARKET,
                    "side": "YES" if yes else "NO",
                    "direction": "BUY",
                    "price_cents": price if yes else 100 - price,
                    "quantity": 7 + number,
                    "time_in_force": "IOC",
                },
            )
            until(self._quoted, "quotes are back", deadline_s=60)

    def audit(self, *, looks: int = 5, day: date | None = None, market: str = MARKET) -> Audit:
        return asyncio.run(
            audit(self.run_dir, database=self.database, market_id=market, day=day or self.day, looks=looks)
        )

    def database_named(self, name: str) -> str:
        return self.database.replace("/postgres?", f"/{name}?")

    async def execute(self, *statements: str, database: str = "postgres") -> str:
        """Runs statements one by one; what the last one says it did."""
        status = ""
        session = await asyncpg.connect(self.database_named(database))
        try:
            for statement in statements:
                status = await session.execute(statement)
        finally:
            await session.close()
        return status

    def sql(self, *statements: str) -> None:
        asyncio.run(self.execute(*statements))

    def value(self, query: str) -> str:
        async def fetch() -> str:
            session = await asyncpg.connect(self.database)
            try:
                return str(await session.fetchval(query))
            finally:
                await session.close()

        return asyncio.run(fetch())

    def close(self) -> None:
        if self.engine.poll() is None:
            self.engine.send_signal(signal.SIGTERM)
            try:
                self.engine.wait(40)
            except subprocess.TimeoutExpired:
                self.engine.kill()
                self.engine.wait()
        self.log.close()
        self.exchange.end()


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:  # sockets have short names
        made = Play(Path(folder))
        try:
            made.trade()
            yield made
        finally:
            made.close()


def corequote(play: Play, *words: str, day: str | None = None, market: str = MARKET) -> Result:
    arguments = ["audit", "--database", play.database, "--market", market, "--day", day or str(play.day)]
    return CliRunner().invoke(app, [*arguments, "--run-dir", str(play.run_dir), *words])


def test_an_engine_that_booked_everything_is_equal(play: Play) -> None:
    found = play.audit(looks=20)
    assert found.equal, found.differences
    assert found.legs >= 2
    columns = {cell.column for cell in found.cells}
    assert {"trade_count", "total_quantity", "total_fees_paid", "total_realized_pnl"} <= columns
    assert {"total_trades", "total_volume", "mint_count", "transfer_yes_count", "burn_count"} <= columns
    assert {"realized_pnl_cents", "total_fees_cents", "net_ledger_flow", "transfer_no_count"} <= columns
    assert {"yes_delta_ok", "no_delta_ok", "reserve_delta_ok", "shares_delta_ok"} <= columns
    result = corequote(play)
    assert result.exit_code == 0, result.output
    assert "0 differ" in result.stdout
    document = json.loads(corequote(play, "--json").stdout_bytes)
    assert document["equal"] is True
    assert document["legs"] == found.legs


def test_what_cannot_be_asked_or_read(play: Play, tmp_path: Path) -> None:
    assert corequote(play, day="yesterday").exit_code == EXIT_USAGE
    assert corequote(play, market="nowhere").exit_code == EXIT_USAGE
    assert corequote(play, "--database", "mysql://x").exit_code == EXIT_USAGE
    refused = corequote(play, "--database", "postgresql://u:secret@127.0.0.1:1/x")
    assert refused.exit_code == EXIT_CONFIG
    assert "secret" not in refused.output
    assert len(refused.stderr.splitlines()) == 1
    assert corequote(play, "--run-dir", str(tmp_path)).exit_code == EXIT_NOT_RUNNING


def _trade(change: str) -> str:
    return f"UPDATE trades SET {change} WHERE trade_id = '{{trade}}'"


def _order(change: str) -> str:
    return f"UPDATE orders SET {change} WHERE id = '{{order}}'"


def _plus_one(table: str, column: str, where: str = "AND market_id = '{market}'") -> str:
    return f"UPDATE {table} SET {column} = {column} + 1 WHERE user_id = '{{user}}' {where}"


_FEES = _trade("maker_fee = maker_fee + 1, taker_fee = taker_fee + 1")
_PNL = _trade("buy_realized_pnl = 777, sell_realized_pnl = 777")
_QUANTITY = _trade("quantity = quantity + 1")
_OF_TRADE = "AND reference_id = '{trade}' AND entry_type <> 'ORDER_UNFREEZE'"
_RESERVE = (
    "UPDATE ledger_entries SET amount = amount + 1 "
    "WHERE user_id = 'SYSTEM_RESERVE' AND reference_id = '{key}'"
)

#: (table, column, the statement that makes rows of the exchange wrong so that this cell must differ)
SEEDS = [
    ("trades", "scenario", _trade("scenario = CASE scenario WHEN 'BURN' THEN 'MINT' ELSE 'BURN' END")),
    ("trades", "price", _trade("price = CASE price WHEN 50 THEN 51 ELSE 50 END")),
    ("trades", "quantity", _QUANTITY),
    ("trades", "fee", _FEES),
    ("trades", "pnl", _PNL),
    (
        "trades",
        "role",
        _trade("maker_order_id = taker_order_id, taker_order_id = maker_order_id"),
    ),
    (
        "trades",
        "order_id",
        _trade("buy_order_id = 'x' || buy_order_id, sell_order_id = 'x' || sell_order_id"),
    ),
    ("trades", "trade_id", _trade("trade_id = 'never-booked'")),
    ("trades (a)", "trade_count", _trade("market_id = '{other}'")),
    ("trades (a)", "total_quantity", _QUANTITY),
    ("trades (a)", "total_fees_paid", _FEES),
    ("trades (a)", "total_realized_pnl", _PNL),
    ("day end (b)", "total_trades", "DELETE FROM trades WHERE trade_id = '{trade}'"),
    ("day end (b)", "total_volume", _QUANTITY),
    *(
        ("day end (b)", f"{scenario.lower()}_count", f"UPDATE trades SET scenario = '{scenario}'")
        for scenario in ("MINT", "TRANSFER_YES", "TRANSFER_NO", "BURN")
    ),
    ("day end (b)", "realized_pnl_cents", _PNL),
    ("day end (b)", "total_fees_cents", _FEES),
    ("day end (b)", "net_ledger_flow", _plus_one("ledger_entries", "amount", _OF_TRADE)),
    (
        "mint/burn",
        "quantity",
        "UPDATE ledger_entries SET amount = amount - 100 WHERE user_id = '{user}' AND reference_id = '{key}'",
    ),
    ("mint/burn", "reserve", _RESERVE),
    ("mint/burn (c)", "yes_delta_ok", _plus_one("positions", "yes_volume")),
    ("mint/burn (c)", "no_delta_ok", _plus_one("positions", "no_volume")),
    ("mint/burn (c)", "reserve_delta_ok", _RESERVE),
    (
        "mint/burn (c)",
        "shares_delta_ok",
        "UPDATE markets SET total_no_shares = total_no_shares + 1 WHERE id = '{market}'",
    ),
    *(
        ("positions", name, _plus_one("positions", name))
        for name in ("yes_volume", "yes_cost_sum", "no_volume", "no_cost_sum")
    ),
    *(
        ("amm:inventory", ours, _plus_one("positions", theirs))
        for ours, theirs in (
            ("yes_volume", "yes_volume"),
            ("no_volume", "no_volume"),
            ("yes_available", "yes_pending_sell"),
            ("no_available", "no_pending_sell"),
            ("yes_cost_sum_cents", "yes_cost_sum"),
            ("no_cost_sum_cents", "no_cost_sum"),
        )
    ),
    (
        "amm:inventory",
        "cash_cents",
        _plus_one("ledger_entries", "amount", "AND market_id = '{market}' AND entry_type = 'DEPOSIT'"),
    ),
    ("amm:engine", "trade_cursor", "DELETE FROM trades WHERE trade_id = '{trade}'"),
    ("accounts", "available_balance", _plus_one("accounts", "available_balance", "")),
    ("accounts", "frozen_balance", _plus_one("accounts", "frozen_balance", "")),
    ("amm:orders", "order_id", "DELETE FROM orders WHERE id = '{order}'"),
    (
        "amm:orders",
        "side",
        _order("original_side = CASE original_side WHEN 'YES' THEN 'NO' ELSE 'YES' END"),
    ),
    (
        "amm:orders",
        "direction",
        _order("original_direction = CASE original_direction WHEN 'BUY' THEN 'SELL' ELSE 'BUY' END"),
    ),
    ("amm:orders", "price", _order("original_price = original_price + 1")),
    ("amm:orders", "qty", _order("quantity = quantity + 1")),
    ("amm:orders", "remaining", _order("remaining_quantity = remaining_quantity + 1")),
    ("amm:orders", "book_type", _order("book_type = 'x' || book_type")),
]

_CHECKS = """
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', conrelid::regclass, conname)
    FROM pg_constraint WHERE contype IN ('c', 'u') AND connamespace = 'public'::regnamespace
"""
_COPIED = ("users", "accounts", "markets", "orders", "trades", "positions", "ledger_entries")


async def copy_books(play: Play) -> None:
    """The exchange's books as database ``audited``, without the constraints that forbid wrong rows."""
    source = await asyncpg.connect(play.database)
    try:
        await source.execute("DROP DATABASE IF EXISTS audited")
        await source.execute("CREATE DATABASE audited TEMPLATE template0")
        await migrate(await asyncpg.connect(play.database_named("audited")))
        copy = await asyncpg.connect(play.database_named("audited"))
        try:
            for (statement,) in await copy.fetch(_CHECKS):
                await copy.execute(statement)
            async with source.transaction(isolation="repeatable_read"):
                for table in _COPIED:
                    buffer = io.BytesIO()
                    await source.copy_from_table(table, output=buffer)
                    buffer.seek(0)
                    await copy.execute(f"TRUNCATE {table}")
                    await copy.copy_to_table(table, source=buffer)
        finally:
            await copy.close()
    finally:
        await source.close()


NOTHING = "UPDATE users SET is_active = is_active"
COPIES_MAX = 5


def test_one_wrong_row_per_column_is_found(play: Play) -> None:
    """In copies of the exchange's database, so that the exchange goes on undisturbed."""
    until(lambda: play.audit().equal, "an equal audit")
    user = play.value("SELECT id FROM users WHERE username = 'amm_market_maker'")
    own = f"market_id = '{MARKET}' AND '{user}' IN (buy_user_id, sell_user_id)"
    names = {
        "user": user,
        "market": MARKET,
        "other": OTHER_MARKET,
        "trade": play.value(
            f"SELECT trade_id FROM trades WHERE {own} AND 'SYSTEM' NOT IN (buy_user_id, sell_user_id) "
            "ORDER BY executed_at DESC, trade_id DESC LIMIT 1"
        ),
        "key": play.value(
            "SELECT reference_id FROM ledger_entries "
            f"WHERE reference_type = 'AMM_MINT' AND market_id = '{MARKET}'"
        ),
    }

    async def differences(statement: str) -> list[str]:
        await play.execute(
            "DROP DATABASE IF EXISTS seeded", "CREATE DATABASE seeded TEMPLATE audited", database="postgres"
        )
        status = await play.execute(statement.format(**names), database="seeded")
        assert not status.endswith(" 0"), statement
        result = await audit(
            play.run_dir, database=play.database_named("seeded"), market_id=MARKET, day=play.day, looks=1
        )
        return [f"{cell.table}.{cell.column}" for cell in result.differences]

    async def copied() -> None:
        """Until the engine, which goes on, has replaced no order between the copy and the look at Redis."""
        for _ in range(COPIES_MAX):
            names["order"] = until(lambda: play.exchange.live(MARKET), "an order is live")[0]["id"]
            await copy_books(play)
            if await differences(NOTHING) == []:
                return
        raise AssertionError(f"the books moved on during each of {COPIES_MAX} copies")

    async def missed() -> dict[str, list[str]]:
        await copied()
        missed = {}
        for table, column, sql in SEEDS:
            cell, cells = f"{table}.{column}", await differences(sql)
            if cell not in cells and await differences(NOTHING) != []:  # of another book by now
                await copied()
                cells = await differences(sql)
            if cell not in cells:
                missed[cell] = cells
        return missed

    assert asyncio.run(missed()) == {}


def test_a_difference_is_a_line_with_column_and_both_values(play: Play) -> None:
    """Redis says something else for as long as the audit looks."""
    until(lambda: play.audit().equal, "an equal audit")
    writer = next(
        process
        for process in psutil.Process(play.engine.pid).children(recursive=True)
        if "engine.workers.writer" in process.cmdline()
    )
    info = rundir.read_info(play.run_dir)
    client = redis.Redis.from_url(info.redis_url)
    held = int(client.hget(f"amm:inventory:{MARKET}", "yes_volume") or 0)
    writer.suspend()
    try:
        client.hset(f"amm:inventory:{MARKET}", "yes_volume", held + 3)
        found = play.audit(looks=1)
    finally:
        writer.resume()
    (cell,) = found.differences
    assert (cell.table, cell.column, cell.exchange, cell.ours) == (
        "amm:inventory",
        "yes_volume",
        held,
        held + 3,
    )
    until(lambda: play.audit().equal, "the writer has repaired it")


def test_exit_1_and_the_table(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """A market maker who trades by hand is seen: nobody here booked it."""
    play.exchange.amm.post("account/deposit", {"amount_cents": 100})
    before = play.audit()
    assert before.equal, before.differences
    play.sql(
        "UPDATE positions SET yes_cost_sum = yes_cost_sum + 1 WHERE market_id = '" + MARKET + "' AND "
        "user_id = (SELECT id::text FROM users WHERE username = 'amm_market_maker')"
    )
    try:
        result = corequote(play)
        assert result.exit_code == EXIT_FAILED
        lines = [line.split() for line in result.stdout.splitlines() if line.startswith("positions")]
        assert any("yes_cost_sum" in line for line in lines), result.stdout
    finally:
        play.sql(
            "UPDATE positions SET yes_cost_sum = yes_cost_sum - 1 WHERE market_id = '" + MARKET + "' AND "
            "user_id = (SELECT id::text FROM users WHERE username = 'amm_market_maker')"
        )
