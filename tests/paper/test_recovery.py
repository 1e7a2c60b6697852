"""What a crash leaves: kills, lost sessions and refused transactions under load (contract section 5.10).

``COREQUOTE_KILLS=20`` makes the long run of the kills. Each run prints its seed, ``COREQUOTE_SEED`` takes it
back.
"""

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from engine.paper.invariants import Audit
from engine.paper.model import Direction
from engine.paper.postgres import Database
from engine.paper.state import State
from tests.paper.databases import (
    execute,
    fetch,
    fresh_database,
    run,
    server,
    state_differences,
    stored_state,
)
from tests.paper.exchange_process import OPERATOR_PASSWORD, ExchangeProcess
from tests.paper.load import MARKETS, Trader, prepare
from tests.paper.relay import CommitLosingRelay
from tests.paper.venue import MARKET, Venue, await_stopped, open_venue
from tests.paper.venue import OPERATOR_PASSWORD as VENUE_OPERATOR

KILLS = int(os.environ.get("COREQUOTE_KILLS", "3"))
SEED = int(os.environ.get("COREQUOTE_SEED", str(random.SystemRandom().randrange(10**6))))


def database_in(directory: Path) -> Database:
    """The embedded server of a running exchange process, past the exchange."""
    arguments = {"host": str(directory / "pg"), "user": "postgres", "database": "postgres"}
    login = type(server().owner)(arguments)
    return Database(name=str(directory), owner=login, runtime=login)


async def compare(
    session: aiohttp.ClientSession, url: str, database: Database, traders: list[Trader]
) -> State:
    """After a restart: invariants hold, books are the live rows, and what was acknowledged is there."""
    state = await asyncio.to_thread(stored_state, database)
    assert Audit(state).check() == []
    for market_id in MARKETS:
        _, shown = await traders[0].call(session, "GET", f"/markets/{market_id}/orderbook?levels=99")
        for direction, name in ((Direction.BUY, "bids"), (Direction.SELL, "asks")):
            levels = [
                (row.price_cents, row.total_quantity) for row in state.books[market_id].levels(direction)
            ]
            assert [(row["price_cents"], row["total_quantity"]) for row in shown["yes"][name]] == levels
    keys = {(order.user_id, order.client_order_id) for order in state.orders.values()}
    assert len(keys) == len(state.orders)
    for trader in traders:
        for order_id, told in trader.acknowledged.items():
            stored = state.orders[order_id]
            assert stored.client_order_id == told["client_order_id"]
            assert stored.filled_quantity >= told["filled_quantity"]
            if order_id in trader.cancelled:
                assert stored.status == "CANCELLED"
        mine = [
            order for order in state.orders.values() if order.client_order_id.startswith(f"{trader.name}-")
        ]
        assert {order.client_order_id for order in mine} <= set(trader.sent)
    _, report = await traders[0].call(session, "GET", "/orders?limit=1")
    assert report is not None
    return state


@pytest.mark.timeout(120 + 20 * KILLS)
def test_kill_9_under_load(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    data = tmp_path / "data"
    traders = [Trader("", f"trader_{number}", SEED + number) for number in range(8)]
    orders = journal = 0

    async def one_life(number: int, exchange: ExchangeProcess) -> None:
        nonlocal orders, journal
        async with aiohttp.ClientSession() as session:
            for trader in traders:
                trader.url = exchange.url
            if number == 0:
                await prepare(session, exchange.url, OPERATOR_PASSWORD, traders)
            else:
                state = await compare(session, exchange.url, database_in(data), traders)
                assert len(state.orders) >= orders
                orders = len(state.orders)
                chief = Trader(exchange.url, "operator", 0)
                body = {"username": "operator", "password": OPERATOR_PASSWORD}
                chief.token = (await chief.call(session, "POST", "/auth/login", body))[1]["access_token"]
                _, page = await chief.call(session, "GET", f"/admin/journal?after={journal}&limit=10000")
                sequences = [entry["sequence"] for entry in page["items"]]
                assert sequences == list(range(journal + 1, journal + 1 + len(sequences)))
                assert page["last_sequence"] >= journal
                journal = sequences[-1] if sequences else journal
                _, report = await chief.call(session, "POST", "/admin/verify-invariants")
                assert report["all_passed"], report
            if number < KILLS:
                load = [asyncio.create_task(trader.trade_until_cut_off(session)) for trader in traders]
                await asyncio.sleep(rng.uniform(0.2, 1.5))
                await asyncio.to_thread(exchange.kill)
                await asyncio.gather(*load)

    for number in range(KILLS + 1):
        with ExchangeProcess(tmp_path, "--data", str(data)) as exchange:
            asyncio.run(one_life(number, exchange))
    assert orders > 0
    assert not any(status >= 500 for trader in traders for status in trader.statuses)


def test_stop_and_start_keep_everything(tmp_path: Path) -> None:
    data = tmp_path / "data"
    traders = [Trader("", f"trader_{number}", number) for number in range(4)]

    async def live(exchange: ExchangeProcess, first: bool) -> None:
        async with aiohttp.ClientSession() as session:
            for trader in traders:
                trader.url = exchange.url
            if first:
                await prepare(session, exchange.url, OPERATOR_PASSWORD, traders)
                for _ in range(20):
                    await asyncio.gather(*(trader.step(session) for trader in traders))
            else:
                await compare(session, exchange.url, database_in(data), traders)

    for first in (True, False):
        with ExchangeProcess(tmp_path, "--data", str(data)) as exchange:
            asyncio.run(live(exchange, first))
            assert exchange.stop() == 0
    assert not (data / "pg" / "postmaster.pid").exists()


def storm(venue: Venue, seconds: float, disturb: object = None) -> list[Trader]:
    """Sixteen traders on eight markets for a while, somebody disturbing them."""
    traders = [Trader(f"http://{venue.host}:{venue.port}", f"trader_{n}", n) for n in range(16)]

    async def play() -> None:
        async with aiohttp.ClientSession() as session:
            await prepare(session, traders[0].url, VENUE_OPERATOR, traders)

            async def trade(trader: Trader) -> None:
                while asyncio.get_running_loop().time() < end:
                    await trader.step(session)

            end = asyncio.get_running_loop().time() + seconds
            tasks = [asyncio.create_task(trade(trader)) for trader in traders]
            if disturb is not None:
                while asyncio.get_running_loop().time() < end:
                    await asyncio.sleep(0.1)
                    await asyncio.to_thread(disturb)
            await asyncio.gather(*tasks)

    asyncio.run(play())
    return traders


def test_the_database_session_dies_again_and_again() -> None:
    with open_venue() as venue:

        def disturb() -> None:
            run(
                execute(
                    server().owner,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    f"WHERE datname = '{venue.database.name}'",
                )
            )

        traders = storm(venue, 2.0, disturb)
        shown = venue.server.exchange.state
        for trader in traders:
            assert max(trader.statuses) < 500  # what was rolled back was tried again
            assert all(order_id in shown.orders for order_id in trader.acknowledged)


POISON = """
CREATE FUNCTION refuse_poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.client_order_id LIKE 'poison%' THEN RAISE EXCEPTION 'poisoned'; END IF;
    RETURN NEW;
END $$
"""


def test_one_command_the_database_refuses_takes_no_other_along(venue: Venue) -> None:
    trigger = "CREATE TRIGGER poison BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION refuse_poison()"
    run(execute(venue.database.owner, POISON, trigger))
    (a,) = venue.people("A")
    keys = ["good-1", "poison-1", "good-2", "poison-2", "good-3"]
    answers: dict[str, int] = {}

    async def together() -> None:
        trader = Trader(f"http://{venue.host}:{venue.port}", "A", 1)
        trader.token = a.token
        async with aiohttp.ClientSession() as session:

            async def place(key: str) -> None:
                terms = a.terms("BUY YES 50x10", key=key)
                answers[key], _ = await trader.call(session, "POST", "/orders", terms)

            await asyncio.gather(*map(place, keys))

    asyncio.run(together())
    assert answers == {key: 500 if key.startswith("poison") else 201 for key in keys}
    assert {order["client_order_id"] for order in a.get("/orders")["items"]} == {"good-1", "good-2", "good-3"}
    assert a.cash == (1_000_000 - 3 * 501, 3 * 501)
    bids = a.get(f"/markets/{MARKET}/orderbook")["yes"]["bids"]
    assert bids == [{"price_cents": 50, "total_quantity": 30}]


@pytest.fixture
def relay() -> Iterator[CommitLosingRelay]:
    """In front of the run's server."""
    opened = CommitLosingRelay(server())
    yield opened
    opened.close()


def test_a_commit_whose_answer_is_lost_counts(relay: CommitLosingRelay) -> None:
    database = fresh_database()
    through = relay.in_front_of(database)
    with open_venue(database=through) as venue:
        (a,) = venue.people("A")
        relay.lose_next_commit.set()
        order = a.place("BUY YES 50x10", key="lost")["order"]
        assert not relay.lose_next_commit.is_set()
        assert a.order(order["id"])["status"] == "OPEN"
        assert a.try_place("BUY YES 50x10", key="lost").status == 200
        assert a.cash == (1_000_000 - 501, 501)
    await_stopped()  # before the relay it would say goodbye through is gone


def test_balances_that_somebody_else_moved_are_not_overwritten(venue: Venue) -> None:
    (a,) = venue.people("A")
    moved = f"UPDATE accounts SET available_balance = 77, version = version + 1 WHERE user_id = '{a.id}'"
    run(execute(venue.database.owner, moved))
    trader = Trader(f"http://{venue.host}:{venue.port}", "A", 1)
    trader.token = a.token

    async def place() -> int:
        async with aiohttp.ClientSession() as session:
            return (await trader.call(session, "POST", "/orders", a.terms("BUY YES 50x10")))[0]

    assert asyncio.run(place()) == 500
    ((balance,),) = run(
        fetch(venue.database.owner, "SELECT available_balance FROM accounts WHERE user_id = $1", a.id)
    )
    assert balance == 77
    assert asyncio.run(place()) == 422  # decided anew on the rows: 77 cents do not buy it
    venue.compares_rows = False


@pytest.mark.parametrize(
    ("path", "body", "refusal"),
    [
        ("/admin/markets", {"id": "M", "title": "a\0b"}, 400),
        ("/admin/markets", {"id": "M", "title": "t", "description": "\0"}, 400),
        ("/admin/markets", {"id": "M", "title": "t", "created_at": "9999-12-31T23:00:00-10:00"}, 400),
        (
            "/admin/amm/start",
            {"market_id": MARKET, "initial_budget_cents": 2**53, "initial_price_cents": 50},
            4002,
        ),
    ],
)
def test_what_no_table_can_hold_is_refused(shared: Venue, path: str, body: object, refusal: int) -> None:
    assert shared.operator.call("POST", path, body).code == refusal


def test_journal_beyond_every_sequence_is_empty(shared: Venue) -> None:
    assert shared.operator.get(f"/admin/journal?after={2**53}")["items"] == []
    assert shared.operator.call("GET", f"/admin/journal?after={2**53 + 1}").status == 400


def test_two_exchanges_never_share_a_database(venue: Venue, tmp_path: Path) -> None:
    from engine.paper.postgres import DatabaseError
    from engine.paper.store import Store

    with pytest.raises(DatabaseError, match="another exchange works on it"):
        run(Store.open(venue.database))


def test_restart_shows_the_same_to_everybody() -> None:
    """A random history, then the same database served again: every route answers as before."""
    database = fresh_database()
    paths = [f"/markets/{market_id}/orderbook?levels=99" for market_id in MARKETS]
    paths += ["/orders?limit=100", "/trades?limit=100", "/positions", "/account/ledger?limit=100"]
    paths += ["/account/balance", "/markets?status=ALL", "/markets/MKT-0"]

    def look(venue: Venue, trader: Trader) -> list[object]:
        shown = [venue.call("GET", path, token=trader.token).data for path in paths]
        for book in shown[: len(MARKETS)]:
            book.pop("updated_at")
        return shown

    with open_venue(database=database) as venue:
        traders = storm(venue, 1.0)
        before = [look(venue, trader) for trader in traders]
        journal = venue.operator.get("/admin/journal?limit=10000")
        first = venue.server.exchange.state
    await_stopped()
    with open_venue(database=database) as venue:
        for trader in traders:
            data = venue.call("POST", "/auth/login", {"username": trader.name, "password": "Secret-123"}).data
            trader.token = data["access_token"]
        assert [look(venue, trader) for trader in traders] == before
        assert state_differences(venue.server.exchange.state, first) in ([], ["next_id"])
        assert (
            venue.operator.get("/admin/journal?limit=10000")["items"][: len(journal["items"])]
            == (journal["items"])
        )
        assert venue.person("late").place("BUY YES 40x1", "MKT-0")["order"]["id"] > max(first.orders)
