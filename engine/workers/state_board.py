"""The state board as the writer sees it: rows, and the Redis commands that bring a copy of them up to date.

Reads: state rows, live-order rows, account rows. Writes: nothing; commands are for the writer to send.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine._native import ffi, lib
from engine.arena import Arena
from engine.row_versions import RowVersions
from engine.workers import redis_rows
from engine.workers.redis_link import Command

PUBLISH: Final = b"PUBLISH"


class MarketRows:
    """One market's rows and what Redis is known to hold of them."""

    def __init__(self, arena: Arena, slot: int) -> None:
        self.slot = slot
        self.market_id = arena.market_id(slot)
        self._market = arena.market(slot)
        self._header = ffi.new("state_header_t *")
        self._state = ffi.new("quoter_state_t *")
        self._account = ffi.new("account_state_t *")
        self._order = ffi.new("live_order_t *")
        self._orders_key = redis_rows.orders_key(self.market_id)
        self._keys = (
            redis_rows.inventory_key(self.market_id),
            redis_rows.state_key(self.market_id),
            redis_rows.engine_key(self.market_id),
        )
        self._hashes: dict[bytes, redis_rows.Fields] = {}  # as read from the rows
        self._orders: list[tuple[bytes, bytes] | None] = [None] * lib.LIVE_ORDER_SLOTS
        self._written: dict[bytes, redis_rows.Fields] = {}
        self._written_orders: dict[bytes, bytes] = {}

    # ---- rows --------------------------------------------------------------------------------

    def read_state(self) -> bool:
        """Takes over the state row; False when its writer is stuck half way."""
        row = ffi.addressof(self._market, "state")
        code = lib.state_read(row, self._header, self._state, ffi.sizeof("quoter_state_t"))
        if code != lib.RING_OK:
            return False
        account_row = ffi.addressof(self._market, "account")
        if lib.account_read(account_row, self._account) != lib.RING_OK:
            return False
        if self._header.kind == lib.STATE_KIND_QUOTER:
            fields = (
                redis_rows.inventory_fields(self._state, self._header.unix_ns),
                redis_rows.state_fields(self._state),
                redis_rows.engine_fields(self._state, self._account),
            )
            self._hashes.update(
                (key, hash_fields)
                for key, hash_fields in zip(self._keys, fields, strict=True)
                if hash_fields is not None
            )
        return True

    def read_order(self, index: int) -> bool:
        """Takes over one live-order row; False when its writer is stuck half way."""
        row = ffi.addressof(self._market.live_orders[index])
        if lib.live_order_read(row, self._order) != lib.RING_OK:
            return False
        self._orders[index] = redis_rows.live_order(self._order)
        return True

    # ---- commands ----------------------------------------------------------------------------

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Every key this market may have."""
        return (*self._keys, self._orders_key)

    @property
    def key_count(self) -> int:
        """Keys that Redis holds of this market, as far as was acknowledged."""
        return len(self._written) + bool(self._written_orders)

    def forget(self) -> None:
        """Nothing is known any more about what Redis holds."""
        self._written.clear()
        self._written_orders.clear()

    def foreign_fields(self, key: bytes, present: Iterable[bytes]) -> list[bytes]:
        """Fields found under ``key`` that do not belong there. A hash we cannot write yet is left alone."""
        if key == self._orders_key:
            return sorted(set(present) - {order[0] for order in self._orders if order is not None})
        fields = self._hashes.get(key)
        return [] if fields is None else sorted(set(present) - set(fields[::2]))

    def changes(self) -> Iterator[Command]:
        """The commands that bring Redis from what was written to the rows, which then count as written."""
        touched = False
        for key, fields in self._hashes.items():
            if self._written.get(key) != fields:
                self._written[key] = fields
                touched = True
                yield (b"HSET", key, *fields)
        live = dict(order for order in self._orders if order is not None)
        if live != self._written_orders:
            gone = [order_id for order_id in self._written_orders if order_id not in live]
            news = [part for item in live.items() - self._written_orders.items() for part in item]
            self._written_orders = live
            touched = True
            if news:
                yield (b"HSET", self._orders_key, *news)
            if gone:
                yield (b"HDEL", self._orders_key, *gone)
        if touched:
            message = redis_rows.update_message(self.market_id, self._state.inventory_version)
            yield (PUBLISH, redis_rows.UPDATES_CHANNEL, message)


class Board:
    """All markets' rows, and which of them changed since they were last read.

    Versions of all used slots are compared in one step (:class:`engine.row_versions.RowVersions`).
    """

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._versions = RowVersions(arena)
        self.markets: list[MarketRows] = []
        self._slots: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self._seen_state: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._seen_orders: NDArray[np.uint64] = np.empty((0, lib.LIVE_ORDER_SLOTS), dtype=np.uint64)

    def find_markets(self) -> None:
        """Takes up markets that were added and drops those that were removed."""
        found = [(slot, self._arena.market_id(slot)) for slot in self._arena.used_markets()]
        if found == [(market.slot, market.market_id) for market in self.markets]:
            return
        self.markets = [MarketRows(self._arena, slot) for slot, _ in found]
        self._slots = np.array([slot for slot, _ in found], dtype=np.intp)
        self._seen_state = np.zeros(len(found), dtype=np.uint64)
        self._seen_orders = np.zeros((len(found), lib.LIVE_ORDER_SLOTS), dtype=np.uint64)

    def refresh(self) -> list[MarketRows]:
        """Reads every row that changed; the markets they belong to."""
        states = self._versions.state[self._slots]
        orders = self._versions.orders[self._slots]
        changed: dict[int, MarketRows] = {}
        for index in np.nonzero(states != self._seen_state)[0].tolist():
            if self.markets[index].read_state():
                self._seen_state[index] = states[index]
                changed[index] = self.markets[index]
        for index, row in np.argwhere(orders != self._seen_orders).tolist():
            if self.markets[index].read_order(row):
                self._seen_orders[index, row] = orders[index, row]
                changed[index] = self.markets[index]
        return list(changed.values())
