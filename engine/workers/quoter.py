"""The quoting worker: one pinned process that carries one market, or several where cores are few.

The hot path is :meth:`Quoter.do_work`: ``lib.quote_pass`` drains the book ring through the C kernel and
decides every touched market's target; Python is asked only about markets with news. No network, no
Redis; the only system calls are the clock and, when nothing is left to do, the wait.

Reads: its book ring, its execution ring, its command ring, kill words, config slots.
Writes: its order ring, its step ring, its markets' state rows and tick-to-quote histograms.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from typing import Any, Final

import structlog

from engine import config as configuration
from engine import crash_points
from engine._native import ffi, lib
from engine.arena import RingFullError, cell, check
from engine.command_ring import CommandReader
from engine.placement import worker_wait
from engine.risk.rate import LIMIT_PER_MINUTE_MIN
from engine.workers import clock as clocks
from engine.workers import process
from engine.workers.clock import Clock
from engine.workers.intents import Outbox
from engine.workers.process import WorkerProcess
from engine.workers.quoted_market import QuotedMarket

_log = structlog.get_logger()

_EXECUTIONS_PER_PASS: Final = 64
_COMMANDS_PER_PASS: Final = 8
_HEARTBEAT_NS: Final = 50_000_000
_LONGEST_WAIT_NS: Final = 50_000_000
_NEVER_NS: Final = 1 << 62
_SLOW_PASS_NS: Final = 10_000_000
_FINAL_SYNC_NS: Final = 3_000_000_000


class Quoter:
    """All markets of one worker slot and the loop that serves them."""

    def __init__(self, proc: WorkerProcess, clock: Clock) -> None:
        self.proc = proc
        arena = proc.arena
        self.worker = proc.row_index - lib.PROCESS_QUOTER_FIRST
        self.worker_epoch = int(lib.cell_load(cell(arena.worker(self.worker), "epoch")))
        self._order_ring = arena.order_ring(self.worker)
        self._execution_ring = arena.execution_ring(self.worker)
        self._book_ring = arena.book_ring(self.worker)
        self._step_ring = arena.step_ring(self.worker)
        for acquire, ring, name in (
            (lib.message_acquire, self._order_ring, "order ring"),
            (lib.broadcast_acquire, self._step_ring, "step ring"),
        ):
            check(acquire(ring, proc.token), f"{name} of worker {self.worker}")
        self._gateway_row = arena.process(lib.PROCESS_GATEWAY)
        self._gateway_attached = cell(self._gateway_row, "attached_epoch")
        self._gateway_epoch = int(lib.cell_load(self._gateway_attached))
        self._bell_row = proc.row
        self._commands = CommandReader(arena, proc.row_index, per_look=_COMMANDS_PER_PASS)
        self._executions = ffi.new("execution_record_t[]", _EXECUTIONS_PER_PASS)
        self._news_slots = ffi.new("uint16_t[]", arena.market_slots)
        self._natives = ffi.new("quote_market_t *[]", arena.market_slots)
        self._native: Any = ffi.new("quote_worker_t *")
        self._native.ring = self._book_ring
        self._native.markets = self._natives
        self._native.news_slots = self._news_slots
        self._native.market_count = arena.market_slots
        self._cursor = ffi.addressof(self._native, "cursor")
        self._step: Any = ffi.new("step_record_t *")
        self._steps = ffi.new(
            "broadcast_writer_t *",
            {
                "ring": self._step_ring,
                "payloads": self._step,
                "token": proc.token,
                "slot_count": lib.STEP_RING_SLOTS,
                "count": 1,
            },
        )
        self._config_version = 0
        self._outbox = Outbox(
            ring=self._order_ring,
            token=proc.token,
            gateway_row=self._gateway_row,
            gateway_eventfd=proc.bells.get(lib.PROCESS_GATEWAY, -1),
        )
        self._next_beat_ns = 0
        self._next_reconcile_ns = 0
        # No market has a timer due before this. Timers change where a market is served, so that a pass looks
        # at the markets that have news and not at all of them.
        self._next_timer_ns = 0
        self.stopping = False
        self._final_sync_until_ns = 0
        self.markets: dict[int, QuotedMarket] = {}
        self._load_markets(clock)

    def _load_markets(self, clock: Clock) -> None:
        arena = self.proc.arena
        slots = [slot for slot in arena.used_markets() if arena.market_worker(slot) == self.worker]
        order_rate_limit = self.proc.config.venue.order_rate_limit
        # A market's share of the account's rate. With hundreds of markets the shares add up to more than the
        # whole; the gateway, which sees all orders, keeps the whole.
        share = max(LIMIT_PER_MINUTE_MIN, order_rate_limit // max(1, len(arena.used_markets())))
        for slot in slots:
            version, payload = arena.config_bytes(slot)
            self._config_version = max(self._config_version, version)
            market = QuotedMarket(
                arena=arena,
                slot=slot,
                worker_epoch=self.worker_epoch,
                config=configuration.market_from_json(payload),
                config_version=version,
                order_rate_limit=share,
                redis_pause_ms=self.proc.config.redis.pause_after_ms,
                outbox=self._outbox,
                alert=self.proc.alert,
                clock=clock,
            )
            self.markets[slot] = market
            self._natives[slot] = market.kernel.native
        default = self.proc.config.engine.wait
        self.strategy = worker_wait((market.config.wait for market in self.markets.values()), default)
        lib.quote_join(self._native, clock.mono_ns)
        self._next_reconcile_ns = clock.mono_ns + self._reconcile_interval_ns()

    def _reconcile_interval_ns(self) -> int:
        """All markets of a worker go with the one that asks for it most often (§7.5)."""
        wishes = [market.config.quote.reconciliation_interval_ms for market in self.markets.values()]
        return min(self.proc.config.venue.reconcile_interval_ms, *wishes) * 1_000_000

    # ---- one pass ----------------------------------------------------------------------------

    def do_work(self, clock: Clock) -> int:
        """Drains inputs, lets due timers fire, sends what follows. Returns the amount of work done."""
        sent_before = self._outbox.sent
        touched: set[int] = set()
        work = self._take_executions(clock, touched)
        gateway_epoch = lib.cell_load(self._gateway_attached)
        if gateway_epoch != self._gateway_epoch:
            self._gateway_epoch = gateway_epoch
            for slot, market in self.markets.items():
                market.gateway_restarted()
                touched.add(slot)
        work += self._take_commands(clock, touched)
        work += lib.quote_pass(self._native, clock.unix_ms)
        if crash_points.armed:
            crash_points.reach("quoter.after_read")
        for index in range(self._native.news_count):
            touched.add(self._news_slots[index])
        if clock.mono_ns >= self._next_timer_ns:
            touched.update(
                slot for slot, market in self.markets.items() if clock.mono_ns >= market.next_timer_ns()
            )
        for slot in sorted(touched):
            if slot in self.markets:
                self._serve(self.markets[slot], clock)
                work += 1
        if clock.mono_ns >= self._next_timer_ns:
            timers = (market.next_timer_ns() for market in self.markets.values())
            self._next_timer_ns = min(timers, default=_NEVER_NS)
        if work:
            self._record_step(clock, intents=self._outbox.sent - sent_before)
        return int(work)

    def _take_executions(self, clock: Clock, touched: set[int]) -> int:
        """Applies what the gateway said, then gives the slots back: a crash between repeats records,
        which dedup by trade and the SYNC at restart make harmless."""
        count = int(
            lib.message_peek(
                self._execution_ring, lib.MESSAGE_RING_SLOTS, self._executions, _EXECUTIONS_PER_PASS
            )
        )
        for i in range(count):
            record = self._executions[i]
            market = self.markets.get(record.market_slot)
            if market is not None:
                market.on_execution(record, clock)
                touched.add(record.market_slot)
        if count:
            if crash_points.armed:
                crash_points.reach("quoter.before_release")
            lib.message_release(self._execution_ring, count)
        return count

    def _take_commands(self, clock: Clock, touched: set[int]) -> int:
        """What a person asked of a market of ours; answered in its state row by the command's number."""
        count = 0
        for command in self._commands.take():
            count += 1
            market = self.markets.get(command.market_slot)
            if market is not None:
                market.on_command(command, clock)
                touched.add(command.market_slot)
        return count

    def _serve(self, market: QuotedMarket, clock: Clock) -> None:
        try:
            market.decide(clock)
        except RingFullError as error:
            market.halt(str(error))
        market.kernel.native.news = 0
        market.publish(clock, self._cursor)
        self._next_timer_ns = min(self._next_timer_ns, market.next_timer_ns())

    def _record_step(self, clock: Clock, *, intents: int) -> None:
        step = self._step
        step.step += 1
        step.mono_ns = clock.mono_ns
        step.unix_ns = clock.unix_ms * 1_000_000
        step.book_position = self._cursor.position
        step.execution_position = lib.message_consumed(self._execution_ring)
        step.config_version = self._config_version
        step.intent_count = intents
        step.kill_word = lib.cell_load(self.proc.arena.kill_global())
        check(lib.broadcast_write(self._steps), "step ring")

    # ---- life --------------------------------------------------------------------------------

    def housekeeping(self, clock: Clock) -> None:
        """Heartbeat, core, reconciliation timer: at most every 50 ms."""
        if clock.mono_ns < self._next_beat_ns:
            return
        self._next_beat_ns = clock.mono_ns + _HEARTBEAT_NS
        self.proc.beat(clock.mono_ns)
        self.proc.record_cpu(lib.current_cpu())
        if clock.mono_ns >= self._next_reconcile_ns:
            self._next_reconcile_ns = clock.mono_ns + self._reconcile_interval_ns()
            for market in self.markets.values():
                market.reconcile()
        starting = any(not market.has_synced and not market.life.failed for market in self.markets.values())
        if not self.stopping:
            self.proc.set_state(lib.PROCESS_STARTING if starting else lib.PROCESS_RUNNING)

    def stop(self) -> None:
        """SIGTERM: pull everything, then a last look at the venue's books."""
        if not self.stopping:
            self.stopping = True
            self.proc.set_state(lib.PROCESS_STOPPING)
            for market in self.markets.values():
                market.stopping = True

    def stopped(self, clock: Clock) -> bool:
        """True once nothing is live and the venue's books have been taken a last time, if it answers."""
        markets = self.markets.values()
        if any(market.orders for market in markets):
            return False
        if not self._final_sync_until_ns:
            self._final_sync_until_ns = clock.mono_ns + _FINAL_SYNC_NS
            for market in markets:
                market.reconcile()
        known = all(market.synced or market.life.failed for market in markets)
        return known or clock.mono_ns >= self._final_sync_until_ns

    def finish(self) -> None:
        """The last rows of this process."""
        clock = clocks.now()
        for market in self.markets.values():
            market.end(clock, self._cursor)

    def wait(self, clock: Clock, seen: int) -> None:
        """Idle strategy of the configuration, bounded by the next timer and the heartbeat."""
        if self.strategy == "spin":
            return
        if self.strategy == "yield":
            os.sched_yield()
            return
        timeout = max(0, min(self._next_timer_ns - clock.mono_ns, _LONGEST_WAIT_NS))
        lib.bell_wait(self._bell_row, seen, self.proc.config.engine.spin_count, timeout)


def main() -> int:
    proc = process.start("quoter")
    quoter = Quoter(proc, clocks.now())
    signal.signal(signal.SIGTERM, lambda *_: quoter.stop())
    _log.info("started", worker=quoter.worker, markets=[m.config.id for m in quoter.markets.values()])
    gc.collect()
    gc.freeze()  # what lives as long as the process is never looked at again
    row = proc.row
    deadline: float | None = None
    while True:
        seen = lib.bell_value(row)
        clock = clocks.now()
        work = quoter.do_work(clock)
        quoter.housekeeping(clock)
        lib.process_pass(row, lib.mono_now_ns() - clock.mono_ns, work, _SLOW_PASS_NS)
        if quoter.stopping:
            deadline = deadline or time.monotonic() + proc.config.engine.stop_timeout_ms / 1000
            if quoter.stopped(clock):
                break
            if time.monotonic() > deadline:
                _log.error("stop_timeout", live={m.config.id: len(m.orders) for m in quoter.markets.values()})
                return 1
        if work == 0:
            quoter.wait(clock, seen)
    quoter.finish()
    _log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
