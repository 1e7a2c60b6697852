"""What goes wrong with one market, or with the venue's word on it, on a running engine (§8, §14).

Four markets: one that may not be quoted (6009), one whose book never comes, two that are well. Acceptance
rows 8, 16, 20 and 28 are here. Everything runs: supervisor, ingest, gateway, quoters, writer, control, guard,
Valkey, against the real exchange.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from engine._native import lib
from engine.alerts import Alert
from engine.arena import Arena
from engine.config_state import STATE_FILE
from engine.events import Gate, KillCause, Lifecycle, MarketStatus
from engine.snapshot import QuoterState, live_orders, market_view
from engine.valkey import SOCKET_NAME
from tests.integration.gateway_rig import MARKET, MARKET_IDS, OTHER_MARKET, Exchange, fault_at
from tests.integration.lifecycle_rig import DEADLINE_S, LiveEngine, set_status
from tests.integration.worker_rig import alerts, until

BOOKLESS = MARKET_IDS[2]
UNAPPROVED = "MKT-UNAPPROVED"
CASH_CENTS = 250_000
POST_FILL_DELAY_MS = 500

#: A status poll that fails a second is not yet a venue that fails.
_QUOTE = f"""
api_error_threshold = 0.30
post_fill_delay_ms = {POST_FILL_DELAY_MS}
"""
_NO_BOOK = {
    "name": "no book",
    "action": {"type": "ws_gap"},
    "match": {"markets": [BOOKLESS], "messages": ["SNAPSHOT"]},
}

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def exchange(root: Path) -> Iterator[Exchange]:
    with Exchange(root, faults=True) as started:
        wish: dict[str, Any] = {"id": UNAPPROVED, "title": "not for market makers", "amm_approved": False}
        started.operator().post("admin/markets", wish)
        started.set_faults(_NO_BOOK)
        yield started


@pytest.fixture(scope="module")
def engine(root: Path, exchange: Exchange) -> Iterator[LiveEngine]:
    """The tests run in the order they stand in; the last one breaks a market for good and ends the engine."""
    made = LiveEngine(
        root,
        exchange,
        *(MARKET, OTHER_MARKET, BOOKLESS, UNAPPROVED),
        quote=_QUOTE,
        status_poll_interval_ms=1_000,
        reconcile_interval_ms=2_000,
    )
    with made.quoting(MARKET, OTHER_MARKET) as engine:
        yield engine


def start_failures(engine: LiveEngine, market: str) -> int:
    row = lib.PROCESS_QUOTER_FIRST + engine.slots[market]
    return alerts(engine.arena, row, Alert.START_FAILED)


def drifts(engine: LiveEngine) -> int:
    """How often a reconciliation has found a difference, in the gateway or in a quoter."""
    rows = [lib.PROCESS_GATEWAY, *(lib.PROCESS_QUOTER_FIRST + slot for slot in engine.slots.values())]
    kinds = (Alert.INVENTORY_DRIFT_WARNING, Alert.INVENTORY_DRIFT_CRITICAL)
    return sum(alerts(engine.arena, row, kind) for row in rows for kind in kinds)


def told(engine: LiveEngine, market: str) -> QuoterState:
    state = engine.state(market)
    assert state is not None
    return state


def book_side(order: dict[str, Any]) -> tuple[str, int]:
    """An order of ours as the book shows it: side, and price in YES cents."""
    price, is_yes = order["original_price_cents"], order["original_side"] == "YES"
    is_bid = is_yes == (order["original_direction"] == "BUY")
    return ("BID" if is_bid else "ASK"), price if is_yes else 100 - price


def asks(exchange: Exchange, market: str) -> dict[int, int]:
    """Our asks, {price in YES cents: shares left}."""
    found: dict[int, int] = {}
    for order in exchange.live(market):
        side, price = book_side(order)
        if side == "ASK":
            found[price] = found.get(price, 0) + order["remaining_quantity"]
    return found


def tracks_what_is_live(engine: LiveEngine, exchange: Exchange, market: str) -> bool:
    """The engine's rows are the exchange's live orders: its ids, its remaining shares."""
    ours = {row.venue_order_id: row.remaining for row in live_orders(engine.arena, engine.slots[market])}
    return ours == {row["id"]: row["remaining_quantity"] for row in exchange.live(market)}


def replaced_and_never_naked(exchange: Exchange, before: list[dict[str, Any]], *, after: int) -> bool:
    """Whether the journal since then has a replace of ours; fails where a side of ours was empty after a
    commit."""
    ours = exchange.amm.get("account/balance")["user_id"]
    sides = {row["id"]: book_side(row)[0] for row in before}
    replaced, commit = False, 0
    entries = exchange.operator().get(f"admin/journal?after={after}&limit=10000")["items"]
    for entry in entries:
        step = entry["data"]
        if not entry["kind"].startswith("ORDER_") or (step["user_id"], step["market_id"]) != (ours, MARKET):
            continue
        if entry["commit"] != commit:
            assert len(set(sides.values())) == 2, f"one side is empty after commit {commit}"
            commit = entry["commit"]
        if step["status"] in ("CANCELLED", "FILLED"):
            sides.pop(step["order_id"], None)
            replaced |= step["cancel_reason"] == "REPLACED"
        else:
            sides[step["order_id"]] = "BID" if step["book_side"] == "BUY" else "ASK"
    return replaced


def test_markets_that_cannot_start_stand_alone(engine: LiveEngine, exchange: Exchange) -> None:
    """6009 and a snapshot that never comes: STOPPED with a reason, nothing live; the others quote."""
    for market in (UNAPPROVED, BOOKLESS):
        engine.await_lifecycle(market, Lifecycle.STOPPED)
        assert start_failures(engine, market) == 1
        assert exchange.live(market) == []
    assert exchange.position(UNAPPROVED)["yes"]["volume"] == 0
    assert exchange.cash_cents() == 3 * CASH_CENTS, "no money went to the market that is not approved"
    with redis.Redis(unix_socket_path=str(engine.run_dir / SOCKET_NAME)) as published:
        until(lambda: published.exists(f"amm:inventory:{MARKET}"), "what others hold is published")
        assert not published.exists(f"amm:inventory:{UNAPPROVED}"), "no stock before the money (row 13)"
    answer = engine.call("/start", market_id=UNAPPROVED)
    assert (answer.code, answer.message) == (6009, f"{UNAPPROVED}: not started: the exchange says 6009")
    refused = engine.corequote("start", UNAPPROVED, "--reason", "again")
    assert refused.returncode == 1
    assert "the exchange says 6009" in refused.stderr
    assert engine.is_in(UNAPPROVED, Lifecycle.STOPPED)
    for market in (MARKET, OTHER_MARKET):
        assert engine.is_in(market, Lifecycle.RUNNING)
        engine.await_quotes(market)


def test_halted_is_an_emergency_that_only_a_person_ends(engine: LiveEngine, exchange: Exchange) -> None:
    """§8, D15: orders go and shares stay; ACTIVE again is not enough, and no resume is before it."""
    operator = exchange.operator()
    shares = told(engine, MARKET).yes_volume
    set_status(operator, MARKET, "HALTED")
    state = engine.await_lifecycle(MARKET, Lifecycle.EMERGENCY)
    assert KillCause(state.kill_causes) == KillCause.MARKET_HALTED
    until(lambda: not exchange.live(MARKET), "no order of the halted market is live")
    refused = engine.call("/resume", market_id=MARKET)
    assert (refused.code, refused.data) == (409, {"causes": ["MARKET_HALTED"]}), refused.message
    engine.await_quotes(OTHER_MARKET)
    set_status(operator, MARKET, "ACTIVE")
    until(lambda: told(engine, MARKET).market_status is MarketStatus.ACTIVE, "the quoter knows")
    syncs = told(engine, MARKET).syncs
    until(lambda: told(engine, MARKET).syncs > syncs, "a reconciliation later")
    assert engine.is_in(MARKET, Lifecycle.EMERGENCY)
    assert exchange.live(MARKET) == []
    assert engine.call("/resume", market_id=MARKET).code == 0
    engine.await_quotes(MARKET)
    assert told(engine, MARKET).yes_volume == shares


def test_a_market_without_a_book_is_started_once_it_has_one(engine: LiveEngine, exchange: Exchange) -> None:
    """Start step 7: an operator's START is the next try, and may fail as well. Meanwhile nobody learns the
    status of any market: 30 s later nobody assumes that it is ACTIVE."""
    exchange.set_faults(_NO_BOOK, fault_at("/markets", {"type": "drop_request"}))
    answer = engine.call("/start", market_id=BOOKLESS)
    assert (answer.code, engine.is_in(BOOKLESS, Lifecycle.STOPPED)) == (503, True)
    assert start_failures(engine, BOOKLESS) == 2
    assert "status_poll_failed" in engine.log("gateway")
    for market in (MARKET, OTHER_MARKET):
        assert told(engine, market).market_status is MarketStatus.ACTIVE, "a poll that failed says nothing"
        engine.await_quotes(market)

    for market in (MARKET, OTHER_MARKET):
        until(
            lambda market=market: told(engine, market).market_status is MarketStatus.UNKNOWN,
            "the last word is too old",
            deadline_s=DEADLINE_S,
        )
        until(lambda market=market: not exchange.live(market), "every order pulled")
        state = told(engine, market)
        assert Gate.MARKET_STATUS in Gate(state.gates)
        assert (state.lifecycle, KillCause(state.kill_causes)) == (Lifecycle.RUNNING, KillCause(0))

    exchange.set_faults()
    for market in (MARKET, OTHER_MARKET):
        engine.await_quotes(market)
    assert engine.call("/start", market_id=BOOKLESS).data["lifecycle"] == "RUNNING"
    engine.await_quotes(BOOKLESS)


def test_a_filled_level_comes_back_and_a_moved_price_replaces(engine: LiveEngine, exchange: Exchange) -> None:
    """Rows 28, 20 and 8 on one market: its fills, its profit and its replaces are its own."""

    def tracked_asks() -> dict[int, int]:
        """Our asks of one moment, once the engine's ids and shares are the exchange's."""
        shown = asks(exchange, MARKET)
        return shown if tracks_what_is_live(engine, exchange, MARKET) else {}

    engine.await_quotes(MARKET)
    ladder = until(tracked_asks, "a tracked ladder", deadline_s=DEADLINE_S)
    other, found = told(engine, OTHER_MARKET), drifts(engine)
    trader, counterpart = exchange.trader(), exchange.trader()
    best, shares = min(ladder.items())
    fills = told(engine, MARKET).fills
    trader.buy(MARKET, "YES", best, shares)
    until(lambda: told(engine, MARKET).fills > fills, "the level is filled", deadline_s=DEADLINE_S)

    def renewed() -> dict[int, int]:
        """Once the delay after the fill is over: until then the levels that stay may still be moved."""
        shown = {} if told(engine, MARKET).gates else tracked_asks()
        return shown if len(shown) == len(ladder) else {}

    ladder = until(renewed, "as many levels as before", deadline_s=DEADLINE_S)
    fills = told(engine, MARKET).fills
    trader.buy(MARKET, "YES", min(ladder) + 1, 1, time_in_force="IOC")  # also of a quote that has just risen
    until(
        lambda: told(engine, MARKET).fills == fills + 1 and tracks_what_is_live(engine, exchange, MARKET),
        "a part of an order is filled, and what is left of it is the exchange's",
        deadline_s=DEADLINE_S,
    )

    until(lambda: not told(engine, MARKET).gates, "the delay after the fill is over", deadline_s=DEADLINE_S)
    engine.await_quotes(MARKET)
    # the journal's end first: what happens between the two is in the orders already, and harmless twice
    last = exchange.operator().get("admin/journal?limit=1")["last_sequence"]
    before, replaces = exchange.live(MARKET), told(engine, MARKET).replaces

    def moved() -> bool:
        """Others trade inside our spread, with pairs that are made for them; whether a replace came of it."""
        shown, seen = asks(exchange, MARKET), told(engine, MARKET).trades
        assert shown, "a moved price leaves no side empty"
        price = min(shown) - 1
        trader.buy(MARKET, "YES", price, 100)
        counterpart.buy(MARKET, "NO", 100 - price, 100)
        until(lambda: told(engine, MARKET).trades > seen, "the quoter has seen it")
        return replaced_and_never_naked(exchange, before, after=last)

    until(moved, "a replace in the exchange's journal", deadline_s=DEADLINE_S)
    until(
        lambda: told(engine, MARKET).replaces > replaces and tracks_what_is_live(engine, exchange, MARKET),
        "its new id is tracked",
        deadline_s=DEADLINE_S,
    )

    assert told(engine, MARKET).daily_pnl_cents != 0
    state = told(engine, OTHER_MARKET)
    assert (state.daily_pnl_cents, state.cash_cents, state.inventory_version) == (
        other.daily_pnl_cents,
        other.cash_cents,
        other.inventory_version,
    )

    def cash_adds_up() -> bool:
        views = [market_view(engine.arena, slot) for slot in engine.slots.values()]
        return sum(v.account.cash_cents for v in views if v.account) == exchange.cash_cents()

    until(cash_adds_up, "the account's cash, once")
    syncs = told(engine, OTHER_MARKET).syncs
    until(lambda: told(engine, OTHER_MARKET).syncs > syncs, "a reconciliation later")
    assert drifts(engine) == found, "none of it by correction"


def writable_arena(engine: LiveEngine) -> Arena:
    """The arena as the supervisor has it, for a test that breaks what is in it."""
    assert engine.process is not None
    descriptors = Path(f"/proc/{engine.process.pid}/fd")
    link = next(link for link in descriptors.iterdir() if "memfd:corequote" in os.readlink(link))
    return Arena(os.open(link, os.O_RDWR | os.O_CLOEXEC))


def test_an_error_in_one_market_is_no_matter_of_the_others(engine: LiveEngine, exchange: Exchange) -> None:
    """Row 16: a quoter that raises, and its successors too, take their market's orders off and nobody else's;
    the others go on being reconciled. Once the cause is gone it quotes, and the engine ends in order."""
    for market in (MARKET, OTHER_MARKET):
        engine.await_quotes(market)
    # control writes a slot at its first look at a market, and after that only for a new config_version
    until((engine.run_dir / STATE_FILE).exists, "control's first look", deadline_s=DEADLINE_S)
    broken, whole = (f"quoter-{engine.slots[market]}" for market in (MARKET, OTHER_MARKET))
    before, syncs = engine.processes(), told(engine, OTHER_MARKET).syncs
    arena, slot = writable_arena(engine), engine.slots[MARKET]
    death = f'"event":"died","child":"{broken}"'
    version, payload = arena.config_bytes(slot)
    try:
        # past all checks: the quoter that takes it up raises
        arena.write_config(slot, version + 1, payload.replace(b'"UTC"', b'"Nowhere"'))
        until(lambda: not before[broken].is_running(), "its quoter has died of it")
        until(lambda: not exchange.live(MARKET), "its orders are off, within 2 s by the specification")
        engine.await_quotes(OTHER_MARKET)
        until(lambda: told(engine, OTHER_MARKET).syncs > syncs, "the other market is reconciled")
        until(lambda: engine.log("supervisor").count(death) > 1, "the next one dies as well")
        assert exchange.live(MARKET) == []
        engine.await_quotes(OTHER_MARKET)
        assert engine.processes()[whole].pid == before[whole].pid
        assert engine.is_in(OTHER_MARKET, Lifecycle.RUNNING)
    finally:
        arena.write_config(slot, version + 2, payload)
    engine.await_quotes(MARKET)
    assert engine.stop() == 0, "each process within its 10 s"
    assert [exchange.live(market) for market in MARKET_IDS] == [[], [], []]
