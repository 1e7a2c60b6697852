"""A person's oracle prices, from Redis to ingest: the control process looks, ingest is told of changes.

A market whose oracle is the operator is looked at with every poll. What is new goes into ingest's command
ring as COMMAND_ORACLE; a new ingest is told everything again. While Redis is away the last price holds
until its own end of life, because ingest knows that end.

Reads: ``amm:oracle`` in Redis. Writes: ingest's command ring.
"""

from __future__ import annotations

import time
from typing import Any, Final

import hiredis

from engine import oracle_store
from engine._native import ffi, lib
from engine.alerts import Alert, Severity
from engine.arena import cell, check, padded
from engine.config.oracle import OperatorOracle
from engine.oracle_store import OperatorPrice, OracleValueError
from engine.workers.process import WorkerProcess
from engine.workers.redis_link import RedisFault, RedisLink, fault_of, raise_first_error

_MS: Final = 1_000_000


class OracleRelay:
    """All markets whose oracle is the operator. Raises ArenaError when another process holds the role."""

    def __init__(self, proc: WorkerProcess) -> None:
        self._proc = proc
        arena = proc.arena
        wanted = {market.id for market in proc.config.markets if isinstance(market.oracle, OperatorOracle)}
        self._slots = {
            arena.market_id(slot): slot for slot in arena.used_markets() if arena.market_id(slot) in wanted
        }
        self._ring = arena.command_ring(lib.PROCESS_INGEST)
        check(lib.message_acquire(self._ring, proc.token), "command ring of ingest")
        self._ingest_row = arena.process(lib.PROCESS_INGEST)
        self._ingest_epoch = 0
        self._told: dict[str, OperatorPrice | None] = {}
        self._refused: dict[str, str] = {}
        self._number = 0

    async def poll(self, link: RedisLink) -> None:
        """Looks at every market once. Raises RedisFaultError."""
        epoch = int(lib.cell_load(cell(self._ingest_row, "attached_epoch")))
        if epoch != self._ingest_epoch:
            self._ingest_epoch = epoch
            self._told.clear()
        if not self._slots:
            return
        markets = list(self._slots)
        replies = await link.execute([(b"HGETALL", oracle_store.oracle_key(market)) for market in markets])
        now_ms = time.time_ns() // _MS
        for market, reply in zip(markets, replies, strict=True):
            price = self._price(market, reply, now_ms)
            if market not in self._told and price is None:
                self._told[market] = None  # nothing was said, and there is nothing to say
            elif self._told.get(market) != price and self._tell(market, price):
                self._told[market] = price

    def _price(self, market: str, reply: Any, now_ms: int) -> OperatorPrice | None:
        """What the market's hash says; one that breaks the rules is no price, and is reported once."""
        try:
            if isinstance(reply, hiredis.ReplyError):
                if fault_of(reply) is not RedisFault.WRONG_TYPE:
                    raise_first_error([reply])
                raise OracleValueError("the key holds something else than a hash")
            price = oracle_store.parse(dict(zip(reply[::2], reply[1::2], strict=True)), now_ms=now_ms)
        except OracleValueError as error:
            if self._refused.get(market) != str(error):
                self._refused[market] = str(error)
                self._proc.alert(
                    Alert.ORACLE_UNUSABLE,
                    Severity.WARNING,
                    market=market,
                    source="operator",
                    reason=str(error),
                )
            return None
        self._refused.pop(market, None)
        return price

    def _tell(self, market: str, price: OperatorPrice | None) -> bool:
        """Publishes one command; False when the ring is full, which the next poll tries again."""
        self._number += 1
        command = ffi.new("command_record_t *")
        command.kind = lib.COMMAND_ORACLE
        command.market_slot = self._slots[market]
        command.number = self._number
        command.mono_ns = lib.mono_now_ns()
        if price is not None:
            command.amount_cents = price.price_cents
            command.set_unix_ms = price.set_at_ms
            command.until_unix_ms = price.until_ms
            set_by = price.set_by.encode()[: lib.VENUE_ID_BYTES].decode(errors="ignore")
            ffi.memmove(command.reason, padded(set_by, lib.VENUE_ID_BYTES), lib.VENUE_ID_BYTES)
        code = lib.message_publish(self._ring, lib.COMMAND_RING_SLOTS, self._proc.token, command)
        if code == lib.RING_FULL:
            return False
        check(code, "command ring of ingest")
        return True
