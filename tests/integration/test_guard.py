"""The guard with a real exchange and a real gateway: who dies, and what is then live at the venue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
import pytest

from engine._native import lib
from engine.arena import cell
from engine.events import Direction, Outcome
from engine.workers.clock import unix_ms
from engine.workers.intent_journal import DIRECTORY, Sent, orders_under_way
from tests.integration.gateway_rig import MARKET, OTHER_MARKET, Exchange, GatewayRig
from tests.integration.worker_rig import PASSWORD, ROOT, until

PATIENCE_MS = 3_000
_LAUNCHER = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:], close_fds=False); time.sleep(600)"


class GuardRig(GatewayRig):
    """A gateway with orders in two markets, and a guard whose parent plays the supervisor."""

    def __init__(self, run_dir: Path, url: str, *, request_timeout_ms: int = 500) -> None:
        super().__init__(
            run_dir,
            url,
            markets=(MARKET, OTHER_MARKET),
            engine={"guard_patience_ms": PATIENCE_MS},
            request_timeout_ms=request_timeout_ms,
        )
        self.gateway = self.start_gateway()
        for quoter in self.quoters:
            quoter.place(Outcome.YES, Direction.SELL, 60, 10)
            quoter.place(Outcome.NO, Direction.SELL, 60, 10)
        row = self.arena.process(lib.PROCESS_GATEWAY)
        lib.cell_store(cell(row, "pid"), self.gateway.pid)
        self.parent = self._start_guard()
        self.guard = psutil.Process(
            until(lambda: [child.pid for child in psutil.Process(self.parent.pid).children()], "a guard")[0]
        )
        self.await_running(lib.PROCESS_GUARD)

    def _start_guard(self) -> subprocess.Popen[bytes]:
        row_epoch = int(lib.cell_add(cell(self.arena.process(lib.PROCESS_GUARD), "epoch"), 1)) + 1
        with (self.run_dir / "guard.log").open("ab") as log:
            parent = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-c", _LAUNCHER),
                    *(sys.executable, "-P", "-m", "engine.workers.guard", "--run-dir", str(self.run_dir)),
                    *("--arena-fd", str(self.arena.fd), "--arena-epoch", str(self.arena.epoch)),
                    *("--row", str(lib.PROCESS_GUARD), "--row-epoch", str(row_epoch)),
                ],
                env={**os.environ, "PYTHONPATH": str(ROOT), "COREQUOTE_AMM_PASSWORD": PASSWORD},
                pass_fds=(self.arena.fd,),
                stderr=log,
            )
        self._processes.append(parent)
        return parent

    def close(self) -> None:
        with suppress(psutil.NoSuchProcess):
            self.guard.kill()
        super().close()


@pytest.fixture
def rig(exchange: Exchange, tmp_path: Path) -> Iterator[GuardRig]:
    found = GuardRig(tmp_path, exchange.url)
    until(lambda: live(exchange) == 4, "four orders live")
    yield found
    found.close()
    for market_id in (MARKET, OTHER_MARKET):
        exchange.amm.post("amm/orders/batch-cancel", {"market_id": market_id})


def live(exchange: Exchange) -> int:
    return len(exchange.live(MARKET)) + len(exchange.live(OTHER_MARKET))


def ended(guard: psutil.Process) -> bool:
    """The guard's parent is dead and nobody waits for it: gone, or a zombie that init has yet to reap."""
    try:
        return not guard.is_running() or guard.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_dead_gateways_orders_go_without_a_new_gateway(rig: GuardRig, exchange: Exchange) -> None:
    rig.kill_gateway(rig.gateway)
    until(lambda: live(exchange) == 0, "nothing live")
    until(lambda: rig.logged("guard", "swept"), "the sweep's end")
    assert rig.logged("guard", "nothing_live")[0]["cause"] == "gateway"
    assert rig.guard.is_running()
    assert lib.cell_load(rig.arena.kill_global()) == 0  # a new gateway may trade


def test_a_new_gateway_relieves_the_guard(rig: GuardRig, exchange: Exchange) -> None:
    rig.kill_gateway(rig.gateway)
    until(lambda: live(exchange) == 0, "nothing live")
    rig.start_gateway()
    until(lambda: rig.logged("guard", "swept"), "the sweep's end")
    rig.quoters[0].place(Outcome.YES, Direction.SELL, 60, 10)
    until(lambda: live(exchange) == 1, "the new gateway's order")


def test_a_dead_supervisor_leaves_nothing_live(rig: GuardRig, exchange: Exchange) -> None:
    rig.gateway.send_signal(signal.SIGSTOP)  # so that the guard's work is seen, and nobody else's
    rig.parent.kill()
    until(lambda: live(exchange) == 0, "nothing live")
    until(lambda: ended(rig.guard), "the guard's end")
    assert lib.cell_load(rig.arena.kill_global()) & lib.KILL_GUARD
    assert rig.logged("guard", "swept")[-1]["cause"] == "supervisor"


def test_a_silent_supervisor_is_killed_and_swept_up(rig: GuardRig, exchange: Exchange) -> None:
    row = rig.arena.process(lib.PROCESS_SUPERVISOR)
    lib.cell_store(cell(row, "heartbeat_mono_ns"), lib.mono_now_ns())
    lib.cell_store(cell(row, "state"), lib.PROCESS_RUNNING)
    rig.parent.send_signal(signal.SIGSTOP)
    until(lambda: live(exchange) == 0, "nothing live")
    assert rig.parent.wait(5) == -signal.SIGKILL
    assert rig.logged("guard", "stalled")[0]["watched"] == "supervisor"


def under_way(rig: GuardRig) -> None:
    """The gateway's journal says that an order was sent, and nothing of an answer."""
    last = max((rig.run_dir / DIRECTORY).iterdir())
    line = Sent(at_ms=unix_ms(), op="place", market=MARKET, id="late-1", price=70, quantity=5)
    with last.open("ab") as journal:
        journal.write(msgspec.json.encode(line) + b"\n")


def test_an_order_that_arrives_after_the_sweep_goes_too(exchange: Exchange, tmp_path: Path) -> None:
    """The guard looks again for as long as a request may be under way: here long enough for this test."""
    rig = GuardRig(tmp_path, exchange.url, request_timeout_ms=10_000)
    try:
        until(lambda: live(exchange) == 4, "four orders live")
        under_way(rig)
        rig.kill_gateway(rig.gateway)
        until(lambda: rig.logged("guard", "nothing_live"), "nothing live")
        late = {
            "client_order_id": "late-1",
            "market_id": MARKET,
            "side": "YES",
            "direction": "SELL",
            "price_cents": 70,
            "quantity": 5,
        }
        exchange.amm.post("orders", late)
        until(lambda: live(exchange) == 0, "the late order gone")
    finally:
        rig.close()


def test_nothing_is_waited_for_when_every_order_was_answered(exchange: Exchange, tmp_path: Path) -> None:
    """A request may take longer than this test lasts, but none was under way."""
    rig = GuardRig(tmp_path, exchange.url, request_timeout_ms=60_000)
    try:
        until(lambda: live(exchange) == 4, "four orders live")
        until(lambda: not orders_under_way(tmp_path), "their answers")
        rig.kill_gateway(rig.gateway)
        rig.parent.kill()
        until(lambda: ended(rig.guard), "the guard's end")
        assert live(exchange) == 0
    finally:
        rig.close()


def test_the_guards_own_end_touches_no_order(rig: GuardRig, exchange: Exchange) -> None:
    rig.guard.send_signal(signal.SIGTERM)
    until(lambda: ended(rig.guard), "the guard's end")
    assert live(exchange) == 4
    assert not rig.logged("guard", "gateway_gone")


def test_without_a_venue_the_guard_gives_up_when_its_patience_ends(tmp_path: Path) -> None:
    (tmp_path / "exchange").mkdir()
    (tmp_path / "run").mkdir()
    exchange = Exchange(tmp_path / "exchange")
    rig = GuardRig(tmp_path / "run", exchange.url)
    try:
        exchange.end()
        rig.guard.suspend()
        rig.parent.kill()
        rig.guard.resume()
        until(lambda: rig.logged("guard", "sweep_waits"), "an attempt")
        assert not ended(rig.guard)
        until(lambda: rig.logged("guard", "sweep_given_up"), "the end of its patience")
        until(lambda: ended(rig.guard), "the guard's end")
    finally:
        rig.close()
