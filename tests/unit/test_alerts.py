"""Alerts are counted each and every one, written at most once a second per market, and shown by status."""

from __future__ import annotations

import structlog
from rich.console import Console
from structlog.testing import capture_logs

from engine import rundir, status_view
from engine._native import ffi, lib
from engine.alerts import Alert, Alerts, Severity, counts
from engine.arena import Arena, padded
from engine.config_state import OverridesState
from engine.snapshot import take


def test_there_is_room_for_every_alert() -> None:
    assert max(Alert) < lib.PROCESS_ALERTS


def test_every_alert_is_counted_and_a_storm_is_one_line_per_market() -> None:
    structlog.reset_defaults()
    arena = Arena.create(market_slots=1, worker_slots=1)
    row = arena.process(lib.PROCESS_GATEWAY)
    alert = Alerts(row)
    with capture_logs() as lines:
        for _ in range(5):
            alert(Alert.ORDER_REJECTED, Severity.WARNING, market="a", code=2001)
        alert(Alert.ORDER_REJECTED, Severity.WARNING, market="b", code=2001)
        alert(Alert.KILL_SWITCH, Severity.CRITICAL, market="a", causes="SKEW")
    found = {count.name: count.count for count in counts(row)}
    assert found == {"ORDER_REJECTED": 6, "KILL_SWITCH": 1}
    assert [(line["alert"], line["market"], line["log_level"]) for line in lines] == [
        ("ORDER_REJECTED", "a", "warning"),
        ("ORDER_REJECTED", "b", "warning"),
        ("KILL_SWITCH", "a", "error"),
    ]
    assert lines[0]["code"] == 2001


def test_status_shows_the_sum_over_processes() -> None:
    arena = Arena.create(market_slots=1, worker_slots=1)
    for row, name in ((lib.PROCESS_GATEWAY, "gateway"), (lib.PROCESS_QUOTER_FIRST, "quoter-0")):
        ffi.buffer(arena.process(row).name)[:] = padded(name, 32)
        with capture_logs():
            Alerts(arena.process(row))(Alert.KILL_SWITCH, Severity.CRITICAL, market="a")
    snapshot = take(arena)
    (count,) = status_view.alert_counts(snapshot.processes)
    assert (count.name, count.count) == ("KILL_SWITCH", 2)
    run = rundir.RunInfo(
        pid=1,
        arena_epoch=arena.epoch,
        started_at_ms=1,
        arena_socket="s",
        exchange_url="u",
        redis_url="r",
        market_ids=[],
    )
    console = Console(record=True, width=180)
    with console.capture() as shown:
        status_view.show(
            status_view.Status(
                run_dir="d", run=run, rss_bytes={}, scheduling={}, arena=snapshot, overrides=OverridesState()
            ),
            console,
        )
    assert "KILL_SWITCH" in shown.get()
