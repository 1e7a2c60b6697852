"""The writer process against a real Valkey server: what Redis holds, and every way to lose it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hiredis
import orjson
import pytest
import redis

from engine._native import ffi, lib
from engine.arena import cell
from engine.events import WriterCounter
from engine.workers import redis_rows
from engine.workers.redis_link import RedisAddress, RedisFault, fault_of
from tests.integration.redis_server import Server
from tests.integration.worker_rig import WorkerRig, counter, until, write_order, write_state

WRITER = lib.PROCESS_WRITER
MARKETS = ("MKT-A", "MKT-B")
REPAIRED_S = 10.0  # the refresh time is 5 s; the rest is for a busy machine


def make_rig(run_dir: Path, url: str, **settings: Any) -> WorkerRig:
    fast = {"url": url, "interval_ms": 10, "timeout_ms": 400}
    markets = [{"id": market} for market in MARKETS]
    return WorkerRig(run_dir, {"redis": {**fast, **settings}, "markets": markets})


@pytest.fixture
def rig(tmp_path: Path, idle_server: Server) -> Iterator[WorkerRig]:
    rig = make_rig(tmp_path, idle_server.url)
    fill(rig)
    yield rig
    rig.close()


def fill(rig: WorkerRig, *, cash_cents: int = 1_000) -> None:
    """Two quoted markets; the first with two live orders."""
    for slot in range(len(MARKETS)):
        publish(rig, slot, cash_cents=cash_cents + slot)
    write_order(rig.arena, 0, 3, order_id="ord-bid", **ORDER)
    write_order(rig.arena, 0, 9, order_id="ord-ask", **{**ORDER, "direction": lib.DIRECTION_SELL})


ORDER = {
    "state": lib.LIVE_ACTIVE,
    "outcome": lib.OUTCOME_YES,
    "direction": lib.DIRECTION_BUY,
    "price_cents": 48,
    "quantity": 100,
    "remaining": 100,
    "created_ms": 1_790_000_000_001,
}


def publish(rig: WorkerRig, slot: int, **fields: Any) -> None:
    known = {
        "inventory_version": 7,
        "yes_volume": 10,
        "updated_at_ms": 1,
        "started_at_ms": 1_790_000_000_000,
        "fair_price_cents": 50,
        "sigma": 2.0,
        "last_requote_ms": 1_790_000_000_100,
    }
    write_state(rig.arena, slot, **{**known, **fields})


def held(server: Server, kind: str, market: str) -> dict[bytes, bytes]:
    """A hash as Redis holds it; empty when the key holds something else."""
    try:
        found: dict[bytes, bytes] = server.client.hgetall(f"amm:{kind}:{market}")
    except redis.ResponseError:
        return {}
    return found


def inventory(server: Server, slot: int = 0) -> dict[bytes, bytes]:
    return held(server, "inventory", MARKETS[slot])


def cash(server: Server, slot: int = 0) -> bytes | None:
    return inventory(server, slot).get(b"cash_cents")


def order_ids(server: Server, slot: int = 0) -> set[bytes]:
    return set(held(server, "orders", MARKETS[slot]))


def writer_counter(rig: WorkerRig, index: WriterCounter) -> int:
    return int(lib.cell_load(ffi.addressof(rig.arena.process(WRITER).counters[index])))


def faults(rig: WorkerRig) -> list[str]:
    return [entry["fault"] for entry in rig.logged("writer", "redis_fault")]


def all_there(server: Server, *, cash_cents: int) -> bool:
    """Every hash of both markets is complete and from the newest rows."""
    return all(
        (
            cash(server, 0) == b"%d" % cash_cents,
            cash(server, 1) == b"%d" % (cash_cents + 1),
            order_ids(server) == {b"ord-bid", b"ord-ask"},
            *(
                set(held(server, kind, market)) == set(fields)
                for market in MARKETS
                for kind, fields in (
                    ("inventory", redis_rows.INVENTORY_FIELDS),
                    ("state", redis_rows.STATE_FIELDS),
                    ("engine", redis_rows.ENGINE_FIELDS),
                )
            ),
        )
    )


# ---- the normal path -----------------------------------------------------------------------------


def test_rows_become_the_specified_hashes(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    rig.start("writer", WRITER)
    rig.await_running(WRITER)
    until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")
    assert idle_server.client.dbsize() == 7  # three per market, and the orders of the one that has some
    value = orjson.loads(idle_server.client.hget("amm:orders:MKT-A", "ord-ask"))
    assert value == {
        "side": "YES",
        "direction": "SELL",
        "price": 48,
        "qty": 100,
        "remaining": 100,
        "book_type": "NATIVE_SELL",
        "created_ms": 1_790_000_000_001,
    }
    until(lambda: writer_counter(rig, WriterCounter.KEYS) == 7, "keys counted")
    assert writer_counter(rig, WriterCounter.WRITES) >= 7
    assert writer_counter(rig, WriterCounter.ERRORS) == 0


def test_changes_follow_and_the_newest_row_wins(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    rig.start("writer", WRITER)
    until(lambda: order_ids(idle_server) == {b"ord-bid", b"ord-ask"}, "orders")
    for amount in range(5_000):
        publish(rig, 1, cash_cents=amount)
    write_order(rig.arena, 0, 3, order_id="ord-bid", **{**ORDER, "remaining": 40})
    write_order(rig.arena, 0, 9)
    write_order(rig.arena, 1, 63, order_id="ord-new", **ORDER)
    until(lambda: cash(idle_server, 1) == b"4999", "the newest row")
    until(lambda: order_ids(idle_server) == {b"ord-bid"}, "the terminal order is gone")
    until(lambda: order_ids(idle_server, 1) == {b"ord-new"}, "the new order")
    until(
        lambda: orjson.loads(idle_server.client.hget("amm:orders:MKT-A", "ord-bid"))["remaining"] == 40,
        "the partial fill",
    )


def test_a_market_without_truth_is_left_as_it_was(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    idle_server.client.hset("amm:inventory:MKT-A", mapping={"cash_cents": "777"})
    publish(rig, 0, recovering=1)
    rig.start("writer", WRITER)
    until(lambda: inventory(idle_server, 1), "the other market")
    assert inventory(idle_server) == {b"cash_cents": b"777"}


def test_first_round_removes_what_does_not_belong(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    idle_server.client.hset("amm:orders:MKT-A", mapping={"ord-old": "{}", "ord-bid": "{}"})
    idle_server.client.hset("amm:orders:MKT-B", mapping={"ord-older": "{}"})
    idle_server.client.hset("amm:inventory:MKT-A", mapping={"cash_cents": "5", "stranger": "1"})
    idle_server.client.set("amm:state:MKT-B", "not a hash")
    idle_server.client.hset("amm:config:MKT-A", mapping={"config_version": "3"})
    rig.start("writer", WRITER)
    until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")
    assert not idle_server.client.exists("amm:orders:MKT-B")
    assert idle_server.client.hgetall("amm:config:MKT-A") == {b"config_version": b"3"}  # the operator's


def test_updates_are_announced_after_the_rows(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    rig.start("writer", WRITER)
    until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")
    listener = idle_server.client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe("amm:updates")
    listener.get_message(timeout=1)
    publish(rig, 1, cash_cents=123, inventory_version=42)

    def announced() -> bool:
        message = listener.get_message(timeout=1)
        return message is not None and message["data"] == b"MKT-B 42"

    until(announced, "the announcement")
    assert cash(idle_server, 1) == b"123"


def test_announcements_can_be_switched_off(tmp_path: Path, idle_server: Server) -> None:
    idle_server.start()
    rig = make_rig(tmp_path, idle_server.url, publish_updates=False)
    try:
        fill(rig)
        listener = idle_server.client.pubsub(ignore_subscribe_messages=True)
        listener.subscribe("amm:updates")
        listener.get_message(timeout=1)
        rig.start("writer", WRITER)
        until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")
        assert listener.get_message(timeout=0.2) is None
    finally:
        rig.close()


def test_password_database_and_tcp(tmp_path: Path, idle_server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    idle_server.start("--port", str(port), "--bind", "127.0.0.1", "--requirepass", "secret-word")
    rig = make_rig(tmp_path, f"redis://:secret-word@127.0.0.1:{port}/2")
    client = redis.Redis(port=port, password="secret-word", db=2, retry=None)
    try:
        fill(rig)
        rig.start("writer", WRITER)
        until(lambda: client.hget("amm:inventory:MKT-A", "cash_cents") == b"1000", "rows in database 2")
    finally:
        rig.close()
    assert b"secret-word" not in (tmp_path / "writer.log").read_bytes()


def test_a_restricted_user_is_enough(tmp_path: Path, idle_server: Server) -> None:
    """With no command that could read the server's settings or endanger its data."""
    rules = "+@read +@write -@dangerous +publish +select ~amm:* ~ratelimit:* &amm:updates"
    idle_server.start("--user", "engine", "on", ">word", *rules.split())
    rig = make_rig(tmp_path, f"unix://engine:word@{idle_server.path}")
    try:
        fill(rig)
        rig.start("writer", WRITER)
        until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")
        assert rig.logged("writer", "eviction_policy_not_readable")
        assert faults(rig) == []
    finally:
        rig.close()


# ---- a server that loses, stalls or refuses ------------------------------------------------------


def test_flushall_is_repaired(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    rig.start("writer", WRITER)
    until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")
    idle_server.client.flushall()
    until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes again", deadline_s=REPAIRED_S)
    assert faults(rig) == []


def test_an_older_copy_is_overwritten(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    rig.start("writer", WRITER)
    until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")
    idle_server.client.hset("amm:inventory:MKT-A", "cash_cents", "1")
    idle_server.client.hset("amm:orders:MKT-A", "ord-older", "{}")
    idle_server.client.hdel("amm:state:MKT-B", "phase")
    until(lambda: all_there(idle_server, cash_cents=1_000), "the newest rows", deadline_s=REPAIRED_S)


def test_kill_and_restart_of_the_server(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    process = rig.start("writer", WRITER)
    until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")
    idle_server.kill()
    fill(rig, cash_cents=2_000)
    until(lambda: faults(rig), "the fault is named")
    beat = rig.heartbeat_ns(WRITER)
    until(lambda: rig.heartbeat_ns(WRITER) > beat, "the writer's heart beats on")
    fill(rig, cash_cents=3_000)
    idle_server.start()
    until(lambda: all_there(idle_server, cash_cents=3_000), "the newest rows", deadline_s=REPAIRED_S)
    until(lambda: rig.logged("writer", "redis_recovered"), "the recovery is logged")
    assert faults(rig) == [RedisFault.CONNECTION.value]  # once, however often it was tried
    assert process.poll() is None


def test_a_stalled_server(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    rig.start("writer", WRITER)
    until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")
    idle_server.signal(signal.SIGSTOP)
    fill(rig, cash_cents=2_000)
    until(lambda: faults(rig), "the fault is named")
    assert faults(rig) == [RedisFault.TIMEOUT.value]
    beat = rig.heartbeat_ns(WRITER)
    until(lambda: rig.heartbeat_ns(WRITER) > beat, "the writer's heart beats on")
    fill(rig, cash_cents=3_000)
    idle_server.signal(signal.SIGCONT)
    until(lambda: all_there(idle_server, cash_cents=3_000), "the newest rows", deadline_s=REPAIRED_S)


def test_a_server_that_comes_later(rig: WorkerRig, idle_server: Server) -> None:
    rig.start("writer", WRITER)
    rig.await_running(WRITER)
    assert faults(rig) == [RedisFault.CONNECTION.value]
    idle_server.start()
    until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")


def cause_oom(server: Server) -> None:
    server.client.config_set("maxmemory", 1)


def end_oom(server: Server) -> None:
    server.client.config_set("maxmemory", 0)


def cause_readonly(server: Server) -> None:
    server.client.replicaof("127.0.0.1", 1)


def end_readonly(server: Server) -> None:
    server.client.replicaof("NO", "ONE")


def cause_no_replicas(server: Server) -> None:
    server.client.config_set("min-replicas-to-write", 1)


def end_no_replicas(server: Server) -> None:
    server.client.config_set("min-replicas-to-write", 0)


def cause_misconf(server: Server) -> None:
    """Its snapshot directory is gone."""
    gone = server.directory / "gone"
    gone.mkdir()
    server.client.config_set("dir", str(gone))
    gone.rmdir()
    server.client.config_set("save", "3600 1")
    server.client.bgsave()
    until(lambda: server.client.info("persistence")["rdb_last_bgsave_status"] == "err", "a failed save")


def end_misconf(server: Server) -> None:
    server.client.config_set("stop-writes-on-bgsave-error", "no")


def cause_no_auth(server: Server) -> None:
    server.client.config_set("requirepass", "new-word")
    server.client.client_kill_filter(_type="normal", skipme=True)


def end_no_auth(server: Server) -> None:
    server.client.config_set("requirepass", "")


@pytest.mark.parametrize(
    ("fault", "cause", "end"),
    [
        (RedisFault.OUT_OF_MEMORY, cause_oom, end_oom),
        (RedisFault.READ_ONLY, cause_readonly, end_readonly),
        (RedisFault.NO_REPLICAS, cause_no_replicas, end_no_replicas),
        (RedisFault.DISK, cause_misconf, end_misconf),
        (RedisFault.NO_AUTH, cause_no_auth, end_no_auth),
    ],
)
def test_each_refusal_has_its_name_and_ends(
    rig: WorkerRig, idle_server: Server, fault: RedisFault, cause: Any, end: Any
) -> None:
    idle_server.start("--enable-protected-configs", "yes")
    rig.start("writer", WRITER)
    until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")
    cause(idle_server)
    fill(rig, cash_cents=2_000)
    until(lambda: fault.value in faults(rig), f"the fault {fault.value} is named")
    errors = writer_counter(rig, WriterCounter.ERRORS)
    until(lambda: writer_counter(rig, WriterCounter.ERRORS) > errors, "it is tried again and counted")
    assert faults(rig).count(fault.value) == 1
    fill(rig, cash_cents=3_000)
    end(idle_server)
    until(lambda: all_there(idle_server, cash_cents=3_000), "the newest rows", deadline_s=REPAIRED_S)


def test_a_key_of_another_type_is_replaced(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    rig.start("writer", WRITER)
    until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")
    idle_server.client.set("amm:inventory:MKT-A", "not a hash")
    publish(rig, 0, cash_cents=1_000)
    until(lambda: rig.logged("writer", "redis_fault"), "the fault is named")
    assert faults(rig) == [RedisFault.WRONG_TYPE.value]
    until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes", deadline_s=REPAIRED_S)


# ---- start and stop ------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_an_evicting_server_is_refused_at_start(rig: WorkerRig, idle_server: Server, policy: str) -> None:
    idle_server.start("--maxmemory-policy", policy)
    process = rig.start("writer", WRITER)
    assert process.wait(20) == 78
    lines = (rig.run_dir / "writer.log").read_text().splitlines()
    assert len(lines) == 1
    assert policy in lines[0]
    assert "noeviction" in lines[0]
    assert idle_server.client.dbsize() == 0


@pytest.mark.parametrize("url", ["", "unix://"])
def test_a_useless_address_is_refused(tmp_path: Path, url: str) -> None:
    rig = make_rig(tmp_path, "unix:///nowhere")
    document = orjson.loads((tmp_path / "config.json").read_bytes())
    document["redis"]["url"] = url
    (tmp_path / "config.json").write_bytes(orjson.dumps(document))
    try:
        process = rig.start("writer", WRITER)
        assert process.wait(20) == 78
    finally:
        rig.close()


def test_the_last_rows_are_written_before_it_ends(tmp_path: Path, idle_server: Server) -> None:
    idle_server.start()
    rig = make_rig(tmp_path, idle_server.url, interval_ms=5_000)
    try:
        fill(rig)
        process = rig.start("writer", WRITER)
        until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")
        fill(rig, cash_cents=2_000)
        write_order(rig.arena, 0, 3)
        process.terminate()
        assert process.wait(20) == 0
        assert cash(idle_server) == b"2000"
        assert order_ids(idle_server) == {b"ord-ask"}
        assert rig.state(WRITER) == lib.PROCESS_STOPPING
    finally:
        rig.close()


def test_a_stalled_server_does_not_hold_up_the_end(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    process = rig.start("writer", WRITER)
    until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")
    idle_server.signal(signal.SIGSTOP)
    fill(rig, cash_cents=2_000)
    process.terminate()
    assert process.wait(20) == 0
    assert rig.logged("writer", "last_rows_not_written")


def test_a_new_writer_takes_over_after_kill(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    first = rig.start("writer", WRITER)
    until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")
    first.kill()
    rig.reap(first)
    fill(rig, cash_cents=2_000)
    write_order(rig.arena, 0, 9)
    write_order(rig.arena, 0, 10, order_id="ord-ask", **ORDER)
    rig.start("writer", WRITER)
    until(lambda: all_there(idle_server, cash_cents=2_000), "the newest rows")


def test_a_superseded_writer_leaves(rig: WorkerRig, idle_server: Server) -> None:
    idle_server.start()
    process = rig.start("writer", WRITER)
    rig.await_running(WRITER)
    lib.cell_add(cell(rig.arena.process(WRITER), "epoch"), 1)
    assert process.wait(20) == 75


def test_a_torn_row_is_written_when_it_is_whole(rig: WorkerRig, idle_server: Server) -> None:
    """A quoter that died inside its row leaves it odd; its successor's write makes it whole."""
    idle_server.start()
    rig.start("writer", WRITER)
    until(lambda: all_there(idle_server, cash_cents=1_000), "all hashes")
    row = rig.arena.market(1).state
    lib.cell_add(cell(row, "sequence"), 1)
    lib.cell_add(cell(row, "version"), 1)
    publish(rig, 0, cash_cents=9_000)
    until(lambda: cash(idle_server) == b"9000", "the other market goes on")
    publish(rig, 1, cash_cents=9_001)
    until(lambda: cash(idle_server, 1) == b"9001", "the row that is whole again")
    assert counter(row, "sequence") % 2 == 0


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", RedisFault.OUT_OF_MEMORY),
        ("READONLY You can't write against a read only replica.", RedisFault.READ_ONLY),
        ("MISCONF Errors writing to the AOF file", RedisFault.DISK),
        ("NOREPLICAS Not enough good replicas to write.", RedisFault.NO_REPLICAS),
        ("LOADING Valkey is loading the dataset in memory", RedisFault.LOADING),
        ("NOAUTH Authentication required.", RedisFault.NO_AUTH),
        ("WRONGPASS invalid username-password pair", RedisFault.NO_AUTH),
        ("NOPERM User default has no permissions", RedisFault.NO_PERMISSION),
        ("WRONGTYPE Operation against a key", RedisFault.WRONG_TYPE),
        ("ERR unknown command", RedisFault.OTHER),
        ("", RedisFault.OTHER),
    ],
)
def test_error_replies_have_names(reply: str, fault: RedisFault) -> None:
    assert fault_of(hiredis.ReplyError(reply)) is fault


# ---- addresses -----------------------------------------------------------------------------------


def test_addresses() -> None:
    address = RedisAddress.parse("unix:///run/a%20b/v.sock")
    assert (address.path, address.tls) == ("/run/a b/v.sock", False)
    address = RedisAddress.parse("rediss://name:word@db.example:7000/3")
    assert (address.host, address.port, address.database, address.tls) == ("db.example", 7_000, 3, True)
    assert (address.username, address.password) == ("name", "word")
    assert "word" not in repr(address)
