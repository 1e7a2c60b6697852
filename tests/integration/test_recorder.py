"""The recorder process in an arena whose engine the test plays, and the report of what it recorded."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import kpi_file
from engine._native import ffi, lib
from engine.arena import check
from engine.events import (
    DefenseLevel,
    Direction,
    ExecutionKind,
    Gate,
    Kill,
    MarketStatus,
    OrderKind,
    Outcome,
    Phase,
    Scenario,
    Side,
)
from engine.kpi_figures import Figures, figures
from engine.kpi_values import MarketRecord
from tests.integration.worker_rig import WorkerRig, until

MARKET = "MKT-KPI"
TOKEN = 7
ROW = lib.PROCESS_RECORDER


class Engine:
    """Plays quoter and gateway of one market."""

    def __init__(self, rig: WorkerRig) -> None:
        self.rig = rig
        market = rig.arena.market(0)
        self._rows = market.live_orders
        self._state_row = ffi.addressof(market, "state")
        self._state: Any = ffi.new("quoter_state_t *")
        self._orders = rig.arena.order_ring(0)
        self._executions = rig.arena.execution_ring(0)
        for ring in (self._orders, self._executions):
            check(lib.message_acquire(ring, TOKEN), "ring")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = self.rig.start("recorder", ROW)
        self.rig.await_running(ROW)

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0

    def record(self) -> MarketRecord:
        (record,) = kpi_file.load(self.rig.run_dir).markets
        return record

    def figures(self) -> Figures:
        return figures(self.record().total)

    def state(self, *, fair: int = 50, gates: Gate | None = None, **fields: int) -> None:
        state = self._state
        state.market_status, state.phase = MarketStatus.ACTIVE, Phase.STABILIZATION
        state.fair_price_cents, state.gates = fair, int(gates or 0)
        for name, value in fields.items():
            setattr(state, name, value)
        now = lib.mono_now_ns()
        size = ffi.sizeof("quoter_state_t")
        args = (lib.STATE_KIND_QUOTER, 1, now, lib.unix_now_ns(), state, size)
        check(lib.state_write(self._state_row, *args), "state")

    def rest(
        self, row: int, outcome: Outcome, direction: Direction, price_cents: int, remaining: int
    ) -> None:
        order = {
            "state": lib.LIVE_ACTIVE if remaining else lib.LIVE_FREE,
            **{"outcome": outcome, "direction": direction},
            **{"price_cents": price_cents, "quantity": remaining, "remaining": remaining},
        }
        lib.live_order_write(ffi.addressof(self._rows[row]), ffi.new("live_order_t *", order))

    def ask(self, kind: OrderKind, intent: int) -> None:
        fields = {"kind": kind, "intent": intent, "worker_epoch": 1, "decided_mono_ns": lib.mono_now_ns()}
        self._publish(self._orders, ffi.new("order_record_t *", fields))

    def say(self, kind: ExecutionKind, **fields: int) -> None:
        record = {"kind": kind, "worker_epoch": 1, "told_mono_ns": lib.mono_now_ns(), **fields}
        self._publish(self._executions, ffi.new("execution_record_t *", record))

    def sync(self, *, yes: int, no: int, cash: int) -> None:
        self.say(ExecutionKind.SYNC_BEGIN)
        self.say(ExecutionKind.POSITION, yes_volume=yes, no_volume=no)
        self.say(ExecutionKind.CASH, cash_cents=cash)
        self.say(ExecutionKind.SYNC_END)

    def fill(self, side: Side, scenario: Scenario, price_cents: int, quantity: int, fee_cents: int) -> None:
        self.say(
            ExecutionKind.FILL,
            **{"book_side": side, "scenario": scenario, "price_cents": price_cents},
            **{"quantity": quantity, "fee_cents": fee_cents, "venue_unix_ns": lib.unix_now_ns()},
        )

    def seen(self) -> None:
        """Waits until the recorder has looked twice since."""
        row = self.rig.arena.process(ROW)
        before = int(row.pass_count.value)
        until(lambda: int(row.pass_count.value) >= before + 2, "two more passes of the recorder")

    @staticmethod
    def _publish(ring: Any, record: Any) -> None:
        assert lib.message_publish(ring, lib.MESSAGE_RING_SLOTS, TOKEN, record) == lib.RING_OK
        assert lib.message_release(ring, 1) == lib.RING_OK  # its consumer keeps up


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    rig = WorkerRig(tmp_path, {"markets": [{"id": MARKET}]})
    try:
        yield Engine(rig)
    finally:
        rig.close()


def opened(engine: Engine) -> None:
    """A market of 2500 pairs and 250,000 cents at a fair price of 50 cents."""
    engine.start()
    engine.sync(yes=2500, no=2500, cash=250_000)
    engine.state(fair=50)
    engine.seen()


def test_a_market_is_recorded_from_its_rows_and_rings(engine: Engine) -> None:
    opened(engine)
    engine.rest(0, Outcome.YES, Direction.SELL, 52, 100)
    engine.rest(1, Outcome.NO, Direction.SELL, 53, 80)  # the book's bid at 47
    engine.seen()
    engine.ask(OrderKind.PLACE, 1)
    engine.say(ExecutionKind.ACKED, intent=1, quantity=100)
    engine.ask(OrderKind.REPLACE, 2)
    engine.say(ExecutionKind.CANCELLED, intent=2, quantity=100)
    engine.say(ExecutionKind.ACKED, intent=2, quantity=60)
    engine.ask(OrderKind.REPLACE, 3)
    engine.say(ExecutionKind.UNKNOWN, intent=3)
    engine.say(ExecutionKind.REJECTED, intent=3, code=6001)
    engine.ask(OrderKind.CANCEL, 4)
    engine.say(ExecutionKind.CANCELLED, intent=4, quantity=60)
    engine.fill(Side.ASK, Scenario.TRANSFER_YES, 52, 100, 6)
    engine.seen()
    engine.state(fair=51, oracle_price_ticks=54)
    engine.seen()
    engine.sync(yes=2400, no=2500, cash=255_194)
    engine.stop()

    shown = engine.figures()
    assert shown.money is not None
    # EX-22: sold 100 at 52 with the fair price at 50, then 51
    assert (shown.money.capture, shown.money.inventory, shown.money.fees) == (200, -100, 6)
    assert (shown.money.assets_change, shown.money.unexplained_abs, shown.money.venue_checks) == (94, 0, 1)
    assert shown.quoted_spread == 5
    assert shown.depth_touch == 180
    assert shown.presence is not None
    assert shown.presence > 0
    assert shown.fill_rate == 100 / 160
    assert shown.outcomes == {
        "CANCEL CANCELLED": 1,
        "PLACE ACKED": 1,
        "REPLACE ACKED": 1,
        "REPLACE REJECTED 6001": 1,
        "REPLACE UNKNOWN": 1,
    }
    assert shown.order_to_trade == 4
    assert shown.replace_ms_p50 is not None
    assert shown.cancel_ms_p50 is not None
    assert shown.oracle_deviation == 3
    assert list(shown.level_s) == ["NORMAL"]
    assert shown.markout[300] is None


def test_gates_kills_and_levels_have_time_and_entries(engine: Engine) -> None:
    opened(engine)
    engine.state(gates=Gate.POST_FILL, defense=DefenseLevel.WIDEN)
    engine.seen()
    engine.state(gates=Gate.POST_FILL | Gate.BOOK_STALE, defense=DefenseLevel.ONE_SIDE)
    engine.seen()
    engine.state(gates=None)
    engine.seen()
    lib.cell_or(engine.rig.arena.kill_market(0), Kill.RISK)  # nobody publishes: the word speaks for itself
    engine.seen()
    engine.stop()
    shown = engine.figures()
    assert shown.gate_entries["POST_FILL"] == 1
    assert shown.gate_entries["BOOK_STALE"] == 1
    assert shown.gate_s["POST_FILL"] > shown.gate_s["BOOK_STALE"] > 0
    assert shown.kill_entries == {"RISK": 1}
    assert set(shown.level_s) == {"NORMAL", "WIDEN", "ONE_SIDE"}


def test_a_successor_goes_on_where_a_killed_one_was(engine: Engine) -> None:
    opened(engine)
    engine.fill(Side.ASK, Scenario.TRANSFER_YES, 52, 10, 1)
    until(lambda: _fills(engine.rig.run_dir) == 1, "the file holds the fill", deadline_s=30)
    assert engine.process is not None
    engine.process.kill()
    engine.process.wait()
    engine.fill(Side.BID, Scenario.TRANSFER_NO, 48, 10, 1)
    engine.start()
    engine.seen()
    engine.sync(yes=2490, no=2490, cash=250_000 + 520 - 1 + 520 - 1)
    engine.stop()
    shown = engine.figures()
    assert shown.money is not None
    assert shown.fills == 2
    assert (shown.money.capture, shown.money.fees, shown.money.unexplained_abs) == (40, 2, 0)
    assert kpi_file.load(engine.rig.run_dir).lost_records == 0


def test_what_the_rings_no_longer_hold_is_counted_and_shows(engine: Engine) -> None:
    for _ in range(lib.MESSAGE_RING_SLOTS + 100):
        engine.fill(Side.ASK, Scenario.TRANSFER_YES, 52, 1, 0)
    opened(engine)
    engine.sync(yes=2500, no=2500, cash=250_033)
    engine.stop()
    assert kpi_file.load(engine.rig.run_dir).lost_records >= 100
    money = engine.figures().money
    assert money is not None
    assert (money.unexplained, money.identity_error) == (33, 0)


def test_flows_and_pairs_are_no_gain(engine: Engine) -> None:
    opened(engine)
    engine.say(ExecutionKind.CASH, cash_cents=260_000)
    engine.say(ExecutionKind.MINTED, quantity=50, yes_volume=2550, no_volume=2550, cash_cents=255_000)
    engine.say(ExecutionKind.CASH, cash_cents=255_000)
    engine.sync(yes=2550, no=2550, cash=255_000)
    engine.stop()
    money = engine.figures().money
    assert money is not None
    assert (money.flows, money.pnl, money.unexplained_abs, money.assets_change) == (10_000, 0, 0, 10_000)


def test_a_settled_market_pays_out(engine: Engine) -> None:
    opened(engine)
    engine.say(ExecutionKind.MARKET_STATUS, code=MarketStatus.SETTLED)
    engine.sync(yes=0, no=0, cash=500_000)
    engine.stop()
    money = engine.figures().money
    assert money is not None
    assert (money.settlement, money.unexplained, money.pnl) == (0, 0, 0)


def test_report_shows_the_file_for_people_and_for_machines(engine: Engine) -> None:
    opened(engine)
    engine.stop()
    run_dir = str(engine.rig.run_dir)
    command = [sys.executable, "-P", "-m", "engine.cli", "report"]
    shown = subprocess.run([*command, "--run-dir", run_dir], capture_output=True, text=True, check=True)
    assert MARKET in shown.stdout
    assert "nan" not in shown.stdout.lower()
    file = f"{run_dir}/{kpi_file.KPI_FILE}"
    machine = subprocess.run([*command, "--from", file, "--json"], capture_output=True, check=True)
    (market,) = json.loads(machine.stdout)["markets"]
    total = market["parts"][0]["figures"]
    assert total["markout"] == {"1": None, "10": None, "60": None, "300": None}
    assert total["quoted_spread"] is None
    assert [part["phase"] for part in market["parts"]] == ["total", "STABILIZATION"]
    missing = [*command, "--from", f"{run_dir}/no.json"]
    nothing = subprocess.run(missing, capture_output=True, text=True, check=False)
    assert nothing.returncode == 3
    assert "no.json" in nothing.stderr
    both = subprocess.run([*command, "--from", file, "--run-dir", run_dir], capture_output=True, check=False)
    assert both.returncode == 2


def _fills(run_dir: Path) -> int:
    try:
        (record,) = kpi_file.load(run_dir).markets
    except kpi_file.KpiFileError:
        return 0
    return record.total.fills
