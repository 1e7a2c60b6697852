"""The recorder: what quoting was worth, kept while it happens, for `corequote report`.

Fifty times a second it taps the order and execution rings of every worker, looks at the rows that changed,
folds both into each market's KPIs (:mod:`engine.kpi`), and every ``_SAVE_S`` replaces RUN/kpi.json. It reads
the arena and writes nothing there but its own process row, so it can hold nobody back; when it dies, its
successor goes on from the file and from the rings, and what they no longer hold is counted as lost.

Reads: order and execution rings, state rows, live-order rows, kill words.
Writes: RUN/kpi.json, its own process row.
"""

from __future__ import annotations

import sys
import time
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from engine import kpi_file
from engine._native import lib
from engine.arena import cell
from engine.kpi_file import KpiDocument, KpiFileError, Latency, RingPositions
from engine.kpi_values import MarketRecord
from engine.row_versions import RowVersions
from engine.snapshot import histogram
from engine.workers import process
from engine.workers.process import WorkerProcess
from engine.workers.recorded_market import RecordedMarket
from engine.workers.ring_tap import RingTap

_log = structlog.get_logger()

_LOOK_S: Final = 0.02
_SAVE_NS: Final = 5_000_000_000
_SLOW_PASS_NS: Final = 10_000_000
_TAPS_PER_PASS: Final = 4


class Recorder:
    """All markets of a run. ``do_work`` is one look at everything."""

    def __init__(self, proc: WorkerProcess) -> None:
        self._proc: Final = proc
        self._arena: Final = proc.arena
        self._versions: Final = RowVersions(proc.arena)
        # Durations must not follow steps of the wall clock: it is read once.
        self._unix_offset_ns: Final = int(lib.unix_now_ns()) - int(lib.mono_now_ns())
        self.document: Final = self._load()
        self._records: Final = {record.market_id: record for record in self.document.markets}
        self._taps: Final[dict[int, tuple[RingTap, RingTap]]] = {}
        self._markets: Final[dict[int, RecordedMarket]] = {}
        self._seen_state: Final[NDArray[np.uint64]] = np.zeros_like(self._versions.state)
        self._seen_orders: Final[NDArray[np.uint64]] = np.zeros_like(self._versions.orders)
        self._save_due_mono_ns = 0
        self._find_markets(self._unix_ns())

    def _load(self) -> KpiDocument:
        try:
            document = kpi_file.load(self._proc.run_dir)
        except KpiFileError as error:
            if (self._proc.run_dir / kpi_file.KPI_FILE).exists():
                _log.warning("began_anew", reason=str(error))
            document = KpiDocument(first_unix_ns=self._unix_ns())
        if document.arena_epoch != self._arena.epoch:  # other rings, read from their beginning
            document.rings.clear()
            document.arena_epoch = self._arena.epoch
        return document

    def _unix_ns(self) -> int:
        return int(lib.mono_now_ns()) + self._unix_offset_ns

    def _find_markets(self, at_ns: int) -> None:
        """Takes up markets and workers that were added."""
        for slot in self._arena.used_markets():
            if slot in self._markets:
                continue
            market_id = self._arena.market_id(slot)
            if market_id not in self._records:
                self._records[market_id] = MarketRecord(market_id=market_id)
                self.document.markets.append(self._records[market_id])
            self._markets[slot] = RecordedMarket(self._arena, slot, self._records[market_id], at_ns)
            worker = self._arena.market_worker(slot)
            if worker not in self._taps:
                positions = self.document.rings.setdefault(worker, RingPositions())
                self._taps[worker] = (
                    RingTap(self._arena.order_ring(worker), "order_record_t", positions.orders),
                    RingTap(self._arena.execution_ring(worker), "execution_record_t", positions.executions),
                )

    def do_work(self) -> int:
        """Reads everything that is new; returns how much there was."""
        at_ns = self._unix_ns()
        # Rings first: a fill should meet the fair price it was made at, not the one it led to.
        return self._drain(at_ns) + self._look(at_ns)

    def _drain(self, at_ns: int) -> int:
        count = 0
        for orders, executions in self._taps.values():
            for _ in range(_TAPS_PER_PASS):
                asked, answered = orders.read(), executions.read()
                for record in asked:
                    if (market := self._markets.get(record.market_slot)) is not None:
                        market.on_order(record, at_ns)
                for record in answered:
                    if (market := self._markets.get(record.market_slot)) is not None:
                        market.on_execution(record, at_ns)
                count += len(asked) + len(answered)
                if not asked and not answered:
                    break
            lost = orders.take_lost() + executions.take_lost()
            if lost:
                self.document.lost_records += lost
                _log.warning("records_lost", records=lost)
        return count

    def _look(self, at_ns: int) -> int:
        states, orders = self._versions.state.copy(), self._versions.orders.copy()
        changed = np.nonzero(states != self._seen_state)[0].tolist()
        for slot in changed:
            market = self._markets.get(slot)
            if market is not None and market.look_at_state(at_ns):
                self._seen_state[slot] = states[slot]
        moved = orders != self._seen_orders
        for slot in np.nonzero(moved.any(axis=1))[0].tolist():
            market = self._markets.get(slot)
            if market is None:
                continue
            stuck = market.look_at_orders(at_ns, np.nonzero(moved[slot])[0].tolist())
            kept = self._seen_orders[slot, stuck].copy()
            self._seen_orders[slot] = orders[slot]
            self._seen_orders[slot, stuck] = kept
        for market in self._markets.values():
            market.look_at_kill_word(at_ns)
        return len(changed)

    def save_when_due(self) -> None:
        """Every ``_SAVE_NS``: adopts new markets and replaces the file."""
        now_mono_ns = int(lib.mono_now_ns())
        if now_mono_ns >= self._save_due_mono_ns:
            self._save_due_mono_ns = now_mono_ns + _SAVE_NS
            self._find_markets(self._unix_ns())
            self.save()

    def save(self) -> None:
        """Replaces RUN/kpi.json; a disk that takes nothing costs the report its freshness, no more."""
        document = self.document
        at_ns = document.written_unix_ns = self._unix_ns()
        for worker, (orders, executions) in self._taps.items():
            document.rings[worker] = RingPositions(orders=orders.position, executions=executions.position)
        for slot, market in self._markets.items():
            market.kpis.advance(at_ns)
            found = histogram(cell(self._arena.market(slot), "tick_to_quote_ns"))
            document.tick_to_quote_ns[market.kpis.record.market_id] = Latency(
                count=found.count, p50=found.p50, p99=found.p99, max=found.max
            )
        try:
            kpi_file.save(self._proc.run_dir, document)
        except OSError as error:
            _log.warning("not_saved", reason=str(error))


def main() -> int:
    proc = process.start("recorder")
    recorder = Recorder(proc)
    proc.set_state(lib.PROCESS_RUNNING)
    while not proc.stopping:
        started = lib.mono_now_ns()
        proc.beat(started)
        work = recorder.do_work()
        recorder.save_when_due()
        proc.record_cpu(lib.current_cpu())
        lib.process_pass(proc.row, lib.mono_now_ns() - started, work, _SLOW_PASS_NS)
        time.sleep(_LOOK_S)
    proc.set_state(lib.PROCESS_STOPPING)
    recorder.do_work()
    recorder.save()
    return 0


if __name__ == "__main__":
    sys.exit(main())
