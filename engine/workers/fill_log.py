"""What the writer publishes beside the rows: applied trade legs and the count of replaces.

``amm:processed:{market_id}`` is a set of leg ids (``trade_id:B`` / ``trade_id:S``), fed from the execution
rings; a restart may read it, nobody decides by it. It lives ``processed_event_ttl_hours`` after the last leg,
and holds the newest ``processed_lru_size`` legs of this writer's life.

``ratelimit:AMM_SYSTEM_001:replace`` counts the replaces of all markets in windows of 60 s.

Reads: execution rings (as a tap), the gateway's counters. Both are absolute, so writing them twice changes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import structlog

from engine._native import ffi, lib
from engine.arena import Arena, unpadded
from engine.config import MarketConfig
from engine.events import ExecutionKind, GatewayCounter, Side
from engine.quoting.inventory import leg_id
from engine.workers import redis_rows
from engine.workers.redis_link import Command
from engine.workers.ring_tap import RingTap

_LEGS_PER_COMMAND: Final = 256
_READS_PER_LOOK: Final = 4  # a ring holds two of them
_S_PER_HOUR: Final = 3_600
_WINDOW_MS: Final = 60_000

_LOG: Final = structlog.get_logger()


class _Legs:
    """One market's legs, oldest first, and which of them Redis has not heard of."""

    def __init__(self, market: MarketConfig) -> None:
        self.key = redis_rows.processed_key(market.id)
        self.ttl_s = market.quote.processed_event_ttl_hours * _S_PER_HOUR
        self._capacity = market.quote.processed_lru_size
        self._kept: dict[bytes, None] = {}
        self._new: dict[bytes, None] = {}
        self._gone: dict[bytes, None] = {}

    def add(self, leg: bytes) -> None:
        if leg in self._kept:
            return
        self._kept[leg] = self._new[leg] = None
        if len(self._kept) > self._capacity:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            if oldest in self._new:
                del self._new[oldest]
            else:  # Redis has heard of it
                self._gone[oldest] = None

    def forget(self) -> None:
        self._new = dict(self._kept)

    def commands(self) -> Iterator[Command]:
        for verb, legs in ((b"SADD", self._new), (b"SREM", self._gone)):
            remaining = iter(legs)
            while chunk := list(islice(remaining, _LEGS_PER_COMMAND)):
                yield (verb, self.key, *chunk)
        if self._new:
            yield (b"EXPIRE", self.key, b"%d" % self.ttl_s)
        self._new, self._gone = {}, {}


class FillLog:
    """The legs of all markets."""

    def __init__(self, arena: Arena, markets: Iterable[MarketConfig]) -> None:
        by_id = {market.id: market for market in markets}
        self._legs = {
            slot: _Legs(by_id[arena.market_id(slot)])
            for slot in arena.used_markets()
            if arena.market_id(slot) in by_id
        }
        self._taps = {
            worker: RingTap(arena.execution_ring(worker), "execution_record_t", 0)
            for worker in sorted({arena.market_worker(slot) for slot in self._legs})
        }

    def look(self) -> None:
        """Takes the legs that came since the last look. A ring that ran away is reported."""
        for worker, tap in self._taps.items():
            for _ in range(_READS_PER_LOOK):
                records = tap.read()
                for record in records:
                    if record.kind == ExecutionKind.FILL and record.market_slot in self._legs:
                        leg = leg_id(unpadded(record.trade_id), Side(record.book_side))
                        self._legs[record.market_slot].add(leg.encode())
                if not records:
                    break
            if lost := tap.take_lost():
                _LOG.warning("processed_legs_missed", worker=worker, records=lost)

    def forget(self) -> None:
        """Nothing is known any more about what Redis holds."""
        for legs in self._legs.values():
            legs.forget()

    def commands(self) -> Iterator[Command]:
        """What brings Redis up to date; it then counts as sent."""
        for legs in self._legs.values():
            yield from legs.commands()


class ReplaceCount:
    """Replaces within the current window, which the first of them began."""

    def __init__(self, arena: Arena) -> None:
        counters = arena.process(lib.PROCESS_GATEWAY).counters
        self._total = ffi.addressof(counters[int(GatewayCounter.REPLACES)])
        self._before: int | None = None  # total when the window began
        self._seen = int(lib.cell_load(self._total))
        self._ends_ms = 0
        self._sent = False

    def forget(self) -> None:
        self._sent = False

    def commands(self, now_ms: int) -> Iterator[Command]:
        total = int(lib.cell_load(self._total))
        if total < self._seen:  # another gateway counts from 0
            self._before, self._seen, self._ends_ms = 0, 0, 0
        if now_ms >= self._ends_ms:
            if total == self._seen:
                return
            self._before, self._ends_ms, self._sent = self._seen, now_ms + _WINDOW_MS, False
        if (total == self._seen and self._sent) or self._before is None:
            return
        self._seen, self._sent = total, True
        value = b"%d" % (total - self._before)
        yield (b"SET", redis_rows.REPLACE_COUNT_KEY, value, b"PXAT", b"%d" % self._ends_ms)
