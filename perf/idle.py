"""What markets cost that nobody trades: the real quoter process, every market synced, its book valid.

this process: arena, one snapshot per market, the gateway's SYNC answers      child: engine.workers.quoter
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from engine import config as configuration
from engine._native import ffi, lib
from engine.arena import Arena, cell, check
from engine.events import ExecutionKind, MarketStatus
from engine.workers.ingest import BookListener, Ingest
from engine.workers.process import CONFIG_FILE
from perf.feeding import (
    DAY_MS,
    new_arena,
    snapshot_frame,
    wait_until,
    worker_process,
)

WATCH_S: Final = 3.0
TOKEN: Final = 1
ORDERS_PER_LOOK: Final = 64


class Gateway:
    """The gateway's side of one worker: every SYNC is answered with an empty account."""

    def __init__(self, arena: Arena) -> None:
        self._orders = arena.order_ring(0)
        self._executions = arena.execution_ring(0)
        self._quoter = arena.process(lib.PROCESS_QUOTER_FIRST)
        check(lib.message_acquire(self._executions, TOKEN), "execution ring")
        self._intents = ffi.new("order_record_t[]", ORDERS_PER_LOOK)
        self._epoch = int(lib.cell_load(cell(arena.worker(0), "epoch")))
        self.answered: set[int] = set()

    def look(self) -> None:
        """Takes what the quoter asked for, and answers."""
        count = lib.message_peek(self._orders, lib.MESSAGE_RING_SLOTS, self._intents, ORDERS_PER_LOOK)
        for index in range(count):
            intent = self._intents[index]
            assert intent.kind == lib.ORDER_SYNC, f"intent {intent.kind} of a market without money"
            self._answer(int(intent.market_slot))
        if count:
            check(lib.message_release(self._orders, count), "order ring")

    def _answer(self, slot: int) -> None:
        rules = ffi.new("market_rules_record_t *")
        rules.kind = ExecutionKind.MARKET_RULES
        rules.market_slot = slot
        rules.status = MarketStatus.ACTIVE
        rules.min_price_cents, rules.max_price_cents = 1, 99
        rules.maker_fee_bps, rules.taker_fee_bps = 10, 20
        rules.order_quantity_max, rules.order_amount_max_cents = 10_000, 1_000_000
        now_ms = time.time_ns() // 1_000_000
        rules.created_ms = now_ms - DAY_MS
        rules.trading_end_ms = rules.resolution_ms = now_ms + 29 * DAY_MS
        self._send(rules)
        for kind in (
            ExecutionKind.SYNC_BEGIN,
            ExecutionKind.POSITION,
            ExecutionKind.CASH,
            ExecutionKind.CURSOR,
            ExecutionKind.SYNC_END,
        ):
            record = ffi.new("execution_record_t *")
            record.kind, record.market_slot, record.worker_epoch = kind, slot, self._epoch
            self._send(record)
        self.answered.add(slot)

    def _send(self, record: Any) -> None:
        wait_until(
            lambda: lib.message_space(self._executions, lib.MESSAGE_RING_SLOTS) > 0, "execution ring read"
        )
        check(lib.message_publish(self._executions, lib.MESSAGE_RING_SLOTS, TOKEN, record), "execution ring")
        lib.bell_ring(self._quoter, -1)


def _cpu_ns(pid: int) -> int:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def idle_cpu_share(count: int) -> float:
    """CPU of one quoter with ``count`` idle markets, per market: 1.0 is a whole core."""
    markets = [f"IDLE-{index:04}" for index in range(count)]
    arena = new_arena(markets)
    lib.cell_store(cell(arena.worker(0), "epoch"), 1)
    ingest = Ingest(worker_process(arena, lib.PROCESS_INGEST, markets), "")
    config = ingest.proc.config
    for slot, market in enumerate(config.markets):
        arena.write_config(slot, 1, configuration.market_json(market))
        BookListener(ingest, ingest.feeds[slot]).message(snapshot_frame(market.id), lib.mono_now_ns())
    row = arena.process(lib.PROCESS_QUOTER_FIRST)
    lib.cell_store(cell(row, "epoch"), 1)
    gateway = Gateway(arena)
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / CONFIG_FILE).write_bytes(msgspec.json.encode(config))
        command = [sys.executable, "-m", "engine.workers.quoter", "--run-dir", directory]
        command += ["--arena-fd", str(arena.fd), "--arena-epoch", str(arena.epoch)]
        command += ["--row", str(lib.PROCESS_QUOTER_FIRST), "--row-epoch", "1"]
        quoter = subprocess.Popen(
            command, pass_fds=[arena.fd], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:

            def synced() -> bool:
                gateway.look()
                return (
                    len(gateway.answered) == count
                    and lib.cell_load(cell(row, "state")) == lib.PROCESS_RUNNING
                )

            wait_until(synced, f"{count} markets synced")
            before = _cpu_ns(quoter.pid)
            began = time.monotonic()
            time.sleep(WATCH_S)
            spent_ns = _cpu_ns(quoter.pid) - before
            elapsed_s = time.monotonic() - began
            assert quoter.poll() is None, "the quoter ended"
        finally:
            quoter.kill()
            quoter.wait()
    return spent_ns / 1e9 / elapsed_s / count
