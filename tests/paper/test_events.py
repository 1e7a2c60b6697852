"""The event bus: told if and only if committed, in order per market, whatever dies (contract section 4)."""

import asyncio
import json
import logging
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from engine.paper.__main__ import main
from engine.paper.events import MARKET_EVENTS, ORDER_EVENTS, TRADE_EVENTS
from engine.paper.kafka import kafka_servers, open_bus
from engine.paper.model import AMM_USER_ID
from engine.paper.postgres import Database
from tests.paper.databases import execute, fetch, fresh_database, run, server
from tests.paper.exchange_process import OPERATOR_PASSWORD, ExchangeProcess
from tests.paper.load import Trader, prepare
from tests.paper.mock_kafka import DEADLINE_S, MockKafka, Received
from tests.paper.test_recovery import POISON, database_in
from tests.paper.venue import MARKET, OTHER_MARKET, open_venue

SEED = 4


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    with MockKafka() as cluster:
        yield cluster


def committed_events(database: Database) -> dict[str, int]:
    """Ids of the events that must be published, each with its sequence, from the journal's rows alone."""
    rows = run(fetch(database.owner, "SELECT first_sequence, entries FROM journal_commits ORDER BY number"))
    statuses: dict[str, str] = {}
    wanted: dict[str, int] = {}
    for first_sequence, entries in rows:
        for entry in json.loads(entries):
            data, sequence = entry["data"], entry["sequence"]
            told = entry["kind"].startswith("ORDER_") and entry["kind"] != "ORDER_RESTED"
            filled = entry["kind"] == "TRADE" and "SYSTEM" not in {data["buy_user_id"], data["sell_user_id"]}
            if told or filled:
                wanted[f"evt_{sequence}"] = sequence
            elif entry["kind"] == "MARKET":
                if statuses.get(data["id"]) != data["status"]:
                    wanted[f"evt_{first_sequence}_market"] = first_sequence
                statuses[data["id"]] = data["status"]
    return wanted


def outbox_size(database: Database) -> int:
    ((count,),) = run(fetch(database.owner, "SELECT count(*) FROM outbox"))
    return int(count)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def check_published(kafka: MockKafka, wanted: dict[str, int]) -> list[Received]:
    """All of them and no other; per market and topic one partition and, repeats dropped, commit order."""
    received = kafka.read_until(set(wanted))
    assert {message.event_id for message in received} == set(wanted)
    firsts: dict[tuple[str, str], list[int]] = defaultdict(list)
    partitions: dict[tuple[str, str], set[int]] = defaultdict(set)
    seen: set[str] = set()
    for message in received:
        where = (message.topic, message.key)
        assert message.event["market_id"] == message.key
        partitions[where].add(message.partition)
        if message.event_id not in seen:
            seen.add(message.event_id)
            firsts[where].append(wanted[message.event_id])
    assert all(len(used) == 1 for used in partitions.values())
    assert all(sequences == sorted(sequences) for sequences in firsts.values())
    return received


def on_topic(received: list[Received], topic: str, kind: str) -> list[dict[str, Any]]:
    events = [message.event for message in received if message.topic == topic]
    assert {event["event_type"] for event in events} == {kind}
    return events


def test_every_commit_is_told_in_the_words_of_the_contract(kafka: MockKafka) -> None:
    with open_venue(events=kafka.url) as venue:
        a, b = venue.people("AB")
        bid = a.place("BUY YES 65x100")["order"]
        fill = b.place("BUY NO 35x30")
        assert a.cancel(bid["id"]).status == 200
        assert a.try_place("BUY YES 65x1000000").code == 4002  # a refusal is no event
        venue.amm.post("/account/deposit", {"amount_cents": 100_000})
        venue.amm.post(
            "/amm/mint", {"market_id": OTHER_MARKET, "quantity": 10, "idempotency_key": "m"}
        )  # neither is this
        venue.operator.post(
            f"/admin/markets/{MARKET}/resolve", {"resolution_result": "YES", "settle_delay_ms": 0}
        )
        wanted = committed_events(venue.database)
        received = check_published(kafka, wanted)
        until(lambda: outbox_size(venue.database) == 0)
    (trade,) = on_topic(received, TRADE_EVENTS, "TRADE_EXECUTED")
    assert set(trade) == {"event_type", "event_id", "timestamp_ms", "market_id", "trade"}
    told = fill["trades"][0]
    assert trade["trade"].pop("executed_at").replace("+00:00", "Z") == told["executed_at"].replace(
        "+00:00", "Z"
    )
    assert trade["trade"] == {
        "trade_id": told["trade_id"],
        "scenario": "MINT",
        "price_cents": 65,
        "quantity": 30,
        "buyer": {
            "user_id": a.id,
            "order_id": bid["id"],
            "role": "MAKER",
            "fee_cents": 2,
            "is_amm": False,
        },
        "seller": {
            "user_id": b.id,
            "order_id": fill["order"]["id"],
            "role": "TAKER",
            "fee_cents": 3,
            "is_amm": False,
        },
    }
    steps = on_topic(received, ORDER_EVENTS, "ORDER_STATUS_CHANGED")
    assert set(steps[0]) == {"event_type", "event_id", "timestamp_ms", "market_id", "order"}
    assert steps[0]["order"] == {
        "order_id": bid["id"],
        "user_id": a.id,
        "side": "YES",
        "direction": "BUY",
        "price_cents": 65,
        "original_quantity": 100,
        "filled_quantity": 0,
        "remaining_quantity": 100,
        "status": "OPEN",
        "previous_status": None,
    }
    own = [step["order"] for step in steps if step["order"]["order_id"] == bid["id"]]
    assert [(step["previous_status"], step["status"]) for step in own] == [
        (None, "OPEN"),
        ("OPEN", "PARTIALLY_FILLED"),
        ("PARTIALLY_FILLED", "CANCELLED"),
    ]
    ends = on_topic(received, MARKET_EVENTS, "MARKET_STATUS_CHANGED")
    assert {event["market_id"]: event["new_status"] for event in ends} == {
        MARKET: "SETTLED",
        OTHER_MARKET: "ACTIVE",
    }
    last = ends[-1]
    assert (last["previous_status"], last["resolution_result"]) == ("ACTIVE", "YES")
    assert last["resolved_at"] is not None
    assert AMM_USER_ID not in {step["order"]["user_id"] for step in steps}


def test_what_the_database_refused_is_never_told(kafka: MockKafka) -> None:
    trigger = "CREATE TRIGGER poison BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION refuse_poison()"
    with open_venue(events=kafka.url) as venue:
        run(execute(venue.database.owner, POISON, trigger))
        (a,) = venue.people("A")
        keys = [f"{'poison' if number % 3 == 0 else 'good'}-{number}" for number in range(12)]

        async def together() -> None:
            trader = Trader(f"http://{venue.host}:{venue.port}", "A", 1)
            trader.token = a.token
            async with aiohttp.ClientSession() as session:
                bodies = [a.terms("BUY YES 50x1", key=key) for key in keys]
                await asyncio.gather(*(trader.call(session, "POST", "/orders", body) for body in bodies))
            assert trader.statuses == {201: 8, 500: 4}

        asyncio.run(together())
        assert len(a.get("/orders")["items"]) == 8
        received = check_published(kafka, committed_events(venue.database))
        assert len(on_topic(received, ORDER_EVENTS, "ORDER_STATUS_CHANGED")) == 8


def test_without_a_bus_nothing_is_written() -> None:
    with open_venue() as venue:
        (a,) = venue.people("A")
        a.place("BUY YES 50x10")
        assert outbox_size(venue.database) == 0
        assert committed_events(venue.database)


def test_an_outage_delays_events_and_nothing_else(
    kafka: MockKafka, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.paper.kafka.DELIVER_S_MAX", 1.5)
    with open_venue(events=kafka.url) as venue, caplog.at_level(logging.WARNING, "engine.paper.events"):
        (a,) = venue.people("A")
        a.place("BUY YES 50x1")
        until(lambda: outbox_size(venue.database) == 0)
        kafka.stop()
        for number in range(40):
            a.place(f"BUY YES {40 + number % 5}x1", (MARKET, OTHER_MARKET)[number % 2])
        until(lambda: "events wait" in caplog.text)
        assert outbox_size(venue.database) == 40
        kafka.go_on()
        until(lambda: outbox_size(venue.database) == 0)
        check_published(kafka, committed_events(venue.database))
        until(lambda: "published again" in caplog.text)
        assert caplog.text.count("events wait") == 1


def test_a_stop_during_an_outage_is_no_wait_and_no_loss(kafka: MockKafka) -> None:
    database = fresh_database()
    with open_venue(database=database, events=kafka.url) as venue:
        (a,) = venue.people("A")
        until(lambda: outbox_size(database) == 0)
        kafka.stop()
        a.place("BUY YES 50x1")
    until(lambda: not any(thread.name.startswith("asyncio_") for thread in threading.enumerate()))
    assert outbox_size(database) == 1
    kafka.go_on()
    with open_venue(database=database, events=kafka.url):
        until(lambda: outbox_size(database) == 0)
        check_published(kafka, committed_events(database))


SLOW_DELETE = """
CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); RETURN OLD; END $$
"""


def test_kill_9_between_delivery_and_deletion_repeats_and_loses_nothing(
    kafka: MockKafka, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    arguments = ("--data", str(data), "--events", kafka.url)
    traders = [Trader("", f"trader_{number}", SEED + number) for number in range(4)]

    async def trade(url: str, steps: int) -> None:
        async with aiohttp.ClientSession() as session:
            for trader in traders:
                trader.url = url
            if not traders[0].token:
                await prepare(session, url, OPERATOR_PASSWORD, traders)
            for _ in range(steps):
                await asyncio.gather(*(trader.step(session) for trader in traders))

    with ExchangeProcess(tmp_path, *arguments) as exchange:
        database = database_in(data)
        asyncio.run(trade(exchange.url, 5))
        until(lambda: outbox_size(database) == 0)
        trap = "CREATE TRIGGER never BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION never()"
        run(execute(database.owner, SLOW_DELETE, trap))
        asyncio.run(trade(exchange.url, 5))
        ((oldest,),) = run(
            fetch(database.owner, "SELECT event_id FROM outbox ORDER BY sequence, event_id LIMIT 1")
        )
        kafka.read_until({oldest})  # delivered, and its deletion sleeps
        exchange.kill()
    with ExchangeProcess(tmp_path, *arguments) as exchange:
        run(execute(database.owner, "DROP TRIGGER never ON outbox"))
        asyncio.run(trade(exchange.url, 5))
        until(lambda: outbox_size(database) == 0)
        received = check_published(kafka, committed_events(database))
        assert len({message.event_id for message in received}) < len(received)
        assert [message.event_id for message in received].count(oldest) >= 2


def test_kill_9_at_random_moments_loses_no_event(kafka: MockKafka, tmp_path: Path) -> None:
    data, rng = tmp_path / "data", random.Random(SEED)
    traders = [Trader("", f"trader_{number}", SEED + number) for number in range(8)]

    async def one_life(exchange: ExchangeProcess) -> None:
        async with aiohttp.ClientSession() as session:
            for trader in traders:
                trader.url = exchange.url
            if not traders[0].token:
                await prepare(session, exchange.url, OPERATOR_PASSWORD, traders)
            load = [asyncio.create_task(trader.trade_until_cut_off(session)) for trader in traders]
            await asyncio.sleep(rng.uniform(0.2, 0.8))
            await asyncio.to_thread(exchange.kill)
            await asyncio.gather(*load)

    for _ in range(3):
        with ExchangeProcess(tmp_path, "--data", str(data), "--events", kafka.url) as exchange:
            asyncio.run(one_life(exchange))
    with ExchangeProcess(tmp_path, "--data", str(data), "--events", kafka.url):
        database = database_in(data)
        until(lambda: outbox_size(database) == 0)
        assert len(check_published(kafka, committed_events(database))) > 100


@pytest.mark.parametrize(
    "events",
    [
        *("", "kafka", "kafka://", "kafka://host", "kafka://:9092", "kafka://host:0", "kafka://host:65536"),
        *("kafka://a:1,", "kafka://a:1/topic", "kafka://user@a:1", "http://a:1", "None", "kafka://[::1:9"),
    ],
)
def test_what_is_no_bus_is_one_line_and_exit_78(capsys: pytest.CaptureFixture[str], events: str) -> None:
    assert main(["--port", "0", "--events", events]) == 78
    assert capsys.readouterr().err == (
        f"corequote paper: --events {events!r}: none or kafka://HOST:PORT[,HOST:PORT...] "
        "(without user, TLS or path) is the rule\n"
    )


def test_a_bad_bus_in_the_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "paper.toml"
    path.write_text('events = "kafka:9092"\n')
    assert main(["--port", "0", "--config", str(path)]) == 78
    assert "events 'kafka:9092': none or kafka://" in capsys.readouterr().err


def test_the_as_built_dialect_has_no_bus(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", "0", "--dialect", "as-built", "--events", "kafka://127.0.0.1:9092"]) == 78
    assert "the as-built dialect has no event bus" in capsys.readouterr().err


def test_servers_of_a_setting() -> None:
    assert kafka_servers("none") == []
    assert kafka_servers("kafka://a.b-c:1,[::1]:9092") == [("a.b-c", 1), ("::1", 9092)]
    assert open_bus("none") is None


def test_a_host_nobody_knows_is_exit_78(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", "0", "--events", "kafka://no-such-host.invalid:9092"]) == 78
    assert capsys.readouterr().err == (
        "corequote paper: events kafka://no-such-host.invalid:9092: no such host\n"
    )


def test_a_missing_client_library_is_exit_78(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    assert main(["--port", "0", "--events", "kafka://127.0.0.1:9092"]) == 78
    assert capsys.readouterr().err == (
        "corequote paper: events kafka://127.0.0.1:9092: confluent-kafka is not installed: "
        "pip install 'corequote[kafka]'\n"
    )


def test_a_broker_that_is_not_there_yet_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING, "engine.paper.events"),
        open_venue(events="kafka://127.0.0.1:9") as venue,
    ):
        (a,) = venue.people("A")
        a.place("BUY YES 50x1")
        until(lambda: "event bus 127.0.0.1:9" in caplog.text)
        assert outbox_size(venue.database) == 3  # two markets and the order
    assert server()
