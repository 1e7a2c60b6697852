"""The oracle in the assembled engine: another venue's socket, ingest, book ring, a quoter process, its gates.

Acceptance rows 1 and 25 of market-making §14, with nothing of ours replaced but the gateway, whose words the
test writes into the execution ring.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine._native import ffi, lib
from engine.arena import check
from engine.config import market_json
from engine.events import ExecutionKind, Gate, MarketStatus
from engine.snapshot import QuoterState, take
from tests.integration.price_venue import PriceVenue, book_frame
from tests.integration.scripted_venue import ScriptedVenue, book
from tests.integration.worker_rig import WorkerRig, until

QUOTER = lib.PROCESS_QUOTER_FIRST
DAY_MS = 86_400_000


class Engine:
    """Ingest and quoter as processes; the oracle's venue speaks when the test lets it."""

    def __init__(self, run_dir: Path) -> None:
        self.prices = PriceVenue()
        self.exchange = ScriptedVenue()
        self.exchange.snapshots["MKT-A"] = book("SNAPSHOT", 1, bids=[(45, 300)], asks=[(55, 300)])
        oracle = {"source": "polymarket", "token_id": "7", "url": self.prices.socket_url}
        market = {"id": "MKT-A", "oracle": oracle, "quote": {"quote_interval_ms": 100}}
        self.rig = WorkerRig(run_dir, {"venue": {"url": self.exchange.url}, "markets": [market]})
        self.rig.arena.write_config(0, 1, _market_json(self.rig))
        lib.cell_store(ffi.addressof(self.rig.arena.worker(0), "epoch"), 1)
        self._executions = self.rig.arena.execution_ring(0)
        check(lib.message_acquire(self._executions, 9), "execution ring")

    def start(self) -> None:
        self.rig.start("ingest", lib.PROCESS_INGEST)
        self.rig.await_running(lib.PROCESS_INGEST)
        self.rig.start("quoter", QUOTER)
        self._sync()
        until(lambda: self.state and not self.state.recovering, "a quoter with its books")

    def _say(self, record: Any) -> None:
        record.market_slot = 0
        payload = ffi.cast("execution_record_t *", record)
        code = lib.message_publish(self._executions, lib.MESSAGE_RING_SLOTS, 9, payload)
        check(code, "execution ring")

    def _sync(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        rules = ffi.new("market_rules_record_t *")
        rules.kind, rules.status = ExecutionKind.MARKET_RULES, MarketStatus.ACTIVE
        rules.min_price_cents, rules.max_price_cents = 1, 99
        rules.maker_fee_bps, rules.taker_fee_bps = 10, 20
        rules.order_quantity_max, rules.order_amount_max_cents = 10_000, 1_000_000
        rules.created_ms = now_ms - DAY_MS
        rules.trading_end_ms = rules.resolution_ms = now_ms + 29 * DAY_MS
        for kind, fields in (
            (ExecutionKind.SYNC_BEGIN, {}),
            (ExecutionKind.POSITION, {"yes_volume": 1_250, "no_volume": 1_250}),
            (ExecutionKind.CASH, {"cash_cents": 250_000}),
            (None, {}),
            (ExecutionKind.MARKET_STATUS, {"code": int(MarketStatus.ACTIVE)}),
            (ExecutionKind.SYNC_END, {}),
        ):
            if kind is None:
                self._say(rules)
            else:
                self._say(ffi.new("execution_record_t *", {"kind": int(kind), **fields}))
        lib.bell_ring(self.rig.arena.process(QUOTER), -1)

    @property
    def state(self) -> QuoterState | None:
        return take(self.rig.arena).markets[0].state

    def await_state(self, what: str, holds: Any) -> QuoterState:
        def look() -> QuoterState | None:
            state = self.state
            return state if state is not None and holds(state) else None

        found: QuoterState = until(look, what)
        return found

    def close(self) -> None:
        self.rig.close()
        self.exchange.close()
        self.prices.close()


def _market_json(rig: WorkerRig) -> bytes:
    return market_json(rig.config.markets[0])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    engine.close()


def test_row1_no_price_at_first_then_refreshed(engine: Engine) -> None:
    engine.prices.refuses = 2  # N failures first
    engine.start()
    state = engine.await_state("a target", lambda state: state.touch_bid_cents and state.touch_ask_cents)
    assert (state.oracle_last_ticks, state.anchor) == (-1, 50.0)  # no value, and no default in its place
    until(lambda: engine.prices.connections == 1, "the source has come through")
    engine.prices.send(book_frame("7", "0.51", "0.53"))
    state = engine.await_state("the oracle's anchor", lambda state: state.anchor == 52.0)
    assert state.oracle_price_ticks == 52
    assert state.touch_bid_cents
    assert state.touch_ask_cents  # two-sided before and after
    assert not state.gates & (Gate.ORACLE_DEVIATION | Gate.ORACLE_GAP)


def test_row25_a_jump_in_the_feed_triggers_the_gate_and_a_failure_is_no_value(engine: Engine) -> None:
    engine.prices.greeting = [book_frame("7", "0.49", "0.51")]
    engine.start()
    engine.await_state("the oracle's value", lambda state: state.oracle_price_ticks == 50)
    engine.prices.send(book_frame("7", "0.55", "0.57"))
    engine.await_state("the gap", lambda state: Gate.ORACLE_GAP in state.gates)
    engine.prices.greeting = []
    engine.prices.disconnect()
    state = engine.await_state("no value", lambda state: state.oracle_price_ticks == -1)
    assert state.oracle_last_ticks == 56  # it grows old; nothing takes its place
