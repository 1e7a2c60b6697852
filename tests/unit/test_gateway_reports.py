"""Execution records towards a quoter that reads, is slow, or is gone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from engine._native import ffi, lib
from engine.arena import Arena, ArenaError
from engine.config import Config, MarketConfig, market_json
from engine.workers import gateway_reports
from engine.workers.gateway_market import GatewayMarket
from engine.workers.gateway_reports import WorkerReports
from engine.workers.process import WorkerProcess
from tests.unit.books_rig import new_books

RING = lib.MESSAGE_RING_SLOTS


class Desk:
    """One market, its reports, and the quoter's end of the ring."""

    def __init__(self) -> None:
        self.arena = Arena.create(market_slots=1, worker_slots=1)
        self.arena.place_market(0, market_id="M", worker=0, tick_count=101)
        market = MarketConfig(id="M")
        self.arena.write_config(0, 1, market_json(market))
        self.proc = WorkerProcess(
            run_dir=Path("/nowhere"),
            arena=self.arena,
            config=Config(markets=[market]),
            row_index=lib.PROCESS_GATEWAY,
            row_epoch=1,
            bells={},
            parent_pid=os.getppid(),
        )
        self.market = GatewayMarket(new_books(self.arena), self.arena, 0)
        self.reports = WorkerReports(self.proc, 0)
        self._ring = self.arena.execution_ring(0)
        self._batch = ffi.new("execution_record_t[]", RING)

    def tell(self, *codes: int) -> None:
        for code in codes:
            self.reports.rejected(self.market, code=code, intent=code, worker_epoch=1)

    def read(self, count: int = RING) -> list[Any]:
        found = lib.message_peek(self._ring, RING, self._batch, count)
        codes = [int(self._batch[index].code) for index in range(found)]
        lib.message_release(self._ring, found)
        return codes


def test_the_role_of_the_rings_producer_is_taken_once() -> None:
    desk = Desk()
    with pytest.raises(ArenaError, match="another process holds the producer role"):
        WorkerReports(desk.proc, 0)


def test_a_full_ring_holds_records_back_in_order_and_loses_none() -> None:
    desk = Desk()
    desk.tell(*range(RING + 100))
    assert desk.reports.stuck
    seen = desk.read(50)
    desk.tell(RING + 100)  # behind those that wait, although there is room
    assert not desk.reports.flush()
    while desk.reports.stuck:
        seen += desk.read()
        desk.reports.flush()
    seen += desk.read()
    assert seen == list(range(RING + 101))


def test_beyond_the_bound_the_quoter_is_told_everything_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_reports, "_BACKLOG_MAX", 10)
    desk = Desk()
    desk.tell(*range(RING + 20))
    assert desk.reports.stuck
    assert not desk.reports.flush()
    assert desk.read() == list(range(RING))
    assert desk.reports.flush(), "whoever flushes must sync the worker's markets"
    assert not desk.reports.flush()
    assert not desk.reports.stuck
    assert desk.read() == list(range(RING, RING + 10))


def test_a_successor_is_not_told_what_its_predecessor_missed() -> None:
    desk = Desk()
    desk.tell(*range(RING + 20))
    desk.reports.forget()
    assert not desk.reports.stuck
    assert desk.read() == list(range(RING))
    desk.tell(7)
    assert desk.read() == [7]
