"""The shared-memory arena, seen from Python: create, attach, and typed access to its sections.

The layout is declared once, in ``native/arena.h``; this module adds no offset of its own. Shared
words are only ever written by C functions, because plain Python buffer writes promise neither
order nor atomicity.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from typing import Any, Final

from engine._native import ffi, lib

_F_ADD_SEALS: Final = 1033
_SEALS: Final = 0x1 | 0x2 | 0x4  # no further seals, no shrink, no grow

_CHECK_ERRORS: Final = {
    lib.ARENA_TOO_SMALL: "the segment is smaller than its header says",
    lib.ARENA_NOT_AN_ARENA: "the segment is not a corequote arena (magic missing)",
    lib.ARENA_OTHER_LAYOUT: "the arena was made by another build (layout hash differs)",
    lib.ARENA_OTHER_EPOCH: "the arena is not the one this process was started for (epoch differs)",
    lib.ARENA_BAD_OFFSETS: "the arena's section table contradicts its counts",
}

_ERRORS: Final = {
    lib.RING_FULL: "ring is full: its consumer has not made room",
    lib.RING_OWNED: "another process holds the producer role",
    lib.RING_NOT_OWNER: "this process does not hold the producer role",
    lib.RING_BAD_ARGUMENT: "argument out of range",
    lib.ROW_BUSY: "no stable copy of the row: its writer stopped half way",
}

CData = Any  # cffi's cdata has no useful static type


class ArenaError(Exception):
    """The segment cannot be created, attached or used; the message names the rule that failed."""


class RingFullError(ArenaError):
    """A lossless ring has no free slot: the consumer is stuck."""


def check(code: int, what: str) -> int:
    """Returns a non-negative ``code`` unchanged; raises ArenaError naming ``what`` otherwise."""
    if code >= 0:
        return code
    if code == lib.RING_FULL:
        raise RingFullError(f"{what}: {_ERRORS[code]}")
    raise ArenaError(f"{what}: {_ERRORS.get(code, f'error {code}')}")


def padded(text: str, size: int) -> bytes:
    """Text as a NUL-padded field of ``size`` bytes; ValueError when it does not fit."""
    raw = text.encode()
    if len(raw) > size:
        raise ValueError(f"{text!r} has {len(raw)} bytes, limit {size}")
    return raw.ljust(size, b"\0")


def unpadded(field: CData) -> str:
    """The text of a NUL-padded char array."""
    return bytes(ffi.buffer(field)).rstrip(b"\0").decode()


class Arena:
    """One attached arena. Index errors raise ArenaError; the mapping lives as long as the object."""

    def __init__(self, fd: int, *, epoch: int = 0, writable: bool = True) -> None:
        self.fd = fd
        self.writable = writable
        size = os.fstat(fd).st_size
        if size < lib.ARENA_PAGE_BYTES:
            raise ArenaError(f"segment of {size} bytes: {_CHECK_ERRORS[lib.ARENA_TOO_SMALL]}")
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._map = mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=access)
        self._buffer = ffi.from_buffer(self._map)
        self.base: CData = ffi.cast("void *", self._buffer)
        code = lib.arena_check(self.base, size, epoch)
        if code != lib.ARENA_OK:
            raise ArenaError(_CHECK_ERRORS[code])
        self.header: CData = ffi.cast("arena_header_t *", self.base)

    @classmethod
    def create(cls, *, market_slots: int, worker_slots: int) -> Arena:
        """A new sealed memfd, formatted; the descriptor is inheritable by name only (pass_fds)."""
        size = lib.arena_bytes(market_slots, worker_slots)
        if size == 0:
            raise ArenaError(f"market_slots={market_slots}, worker_slots={worker_slots}: out of range")
        try:
            fd = os.memfd_create("corequote", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except (AttributeError, OSError) as error:
            raise ArenaError(f"memfd_create failed ({error}): Linux 3.17 or newer is required") from error
        os.fchmod(fd, 0o600)  # whoever is handed a read-only descriptor cannot reopen it for writing
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
        with mmap.mmap(fd, size) as memory:
            view = ffi.from_buffer(memory)
            code = lib.arena_format(
                ffi.cast("void *", view), size, market_slots, worker_slots, time.time_ns(), os.getpid()
            )
            ffi.release(view)
        if code != lib.ARENA_OK:
            raise ArenaError(_CHECK_ERRORS[code])
        return cls(fd)

    def read_only_fd(self) -> int:
        """A second descriptor of the same segment that can only be mapped for reading."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def epoch(self) -> int:
        return int(self.header.epoch.value)

    @property
    def market_slots(self) -> int:
        return int(self.header.market_slots.value)

    @property
    def worker_slots(self) -> int:
        return int(self.header.worker_slots.value)

    @property
    def process_slots(self) -> int:
        return int(self.header.process_slots.value)

    def _at(self, pointer: CData, what: str, index: int) -> CData:
        if pointer == ffi.NULL:
            raise ArenaError(f"{what} {index}: out of range in this arena")
        return pointer

    def market(self, slot: int) -> CData:
        """``market_slot_t *``"""
        return self._at(lib.arena_market(self.base, slot), "market slot", slot)

    def process(self, row: int) -> CData:
        """``process_row_t *``"""
        return self._at(lib.arena_process(self.base, row), "process row", row)

    def worker(self, slot: int) -> CData:
        """``worker_control_t *``"""
        return self._at(lib.arena_worker(self.base, slot), "worker slot", slot)

    def book_ring(self, worker: int) -> CData:
        return self._at(lib.arena_book_ring(self.base, worker), "book ring", worker)

    def step_ring(self, worker: int) -> CData:
        return self._at(lib.arena_step_ring(self.base, worker), "step ring", worker)

    def order_ring(self, worker: int) -> CData:
        return self._at(lib.arena_order_ring(self.base, worker), "order ring", worker)

    def execution_ring(self, worker: int) -> CData:
        return self._at(lib.arena_execution_ring(self.base, worker), "execution ring", worker)

    def command_ring(self, row: int) -> CData:
        return self._at(lib.arena_command_ring(self.base, row), "command ring", row)

    def kill_global(self) -> CData:
        """``atomic_u64 *``: KILL_* bits that hold for every market."""
        return lib.arena_kill_global(self.base)

    def kill_market(self, slot: int) -> CData:
        """``atomic_u64 *``: KILL_* bits of one market."""
        return self._at(lib.arena_kill_market(self.base, slot), "kill word", slot)

    def killed(self, slot: int) -> int:
        """KILL_* bits in force for a market: its own and the global ones."""
        return int(lib.cell_load(self.kill_global()) | lib.cell_load(self.kill_market(slot)))

    def used_markets(self) -> list[int]:
        """Slots that hold a market, ascending."""
        return [
            slot
            for slot in range(self.market_slots)
            if lib.cell_load(ffi.addressof(self.market(slot).descriptor, "state")) == lib.MARKET_SLOT_USED
        ]

    def market_id(self, slot: int) -> str:
        return unpadded(self.market(slot).descriptor.market_id)

    def market_worker(self, slot: int) -> int:
        """Worker slot that carries the market."""
        return int(lib.cell_load(ffi.addressof(self.market(slot).descriptor, "worker_slot")))

    def place_market(self, slot: int, *, market_id: str, worker: int, tick_count: int) -> None:
        """Fills a free slot's descriptor; the slot's epoch rises. The supervisor's to call."""
        descriptor = self.market(slot).descriptor
        if lib.cell_load(cell(descriptor, "state")) != lib.MARKET_SLOT_FREE:
            raise ArenaError(f"market slot {slot}: holds {self.market_id(slot)}")
        ffi.buffer(descriptor.market_id)[:] = padded(market_id, lib.MARKET_ID_BYTES)
        lib.cell_store(cell(descriptor, "worker_slot"), worker)
        lib.cell_store(cell(descriptor, "tick_count"), tick_count)
        lib.cell_add(cell(descriptor, "epoch"), 1)
        lib.cell_add(cell(self.worker(worker), "market_count"), 1)
        # last: whoever sees the slot in use sees what it holds
        lib.cell_store(cell(descriptor, "state"), lib.MARKET_SLOT_USED)

    def config_bytes(self, slot: int) -> tuple[int, bytes]:
        """(version, JSON) of a market's effective configuration; version 0 = none written yet."""
        version = ffi.new("uint64_t *")
        buffer = ffi.new("char[]", lib.CONFIG_BYTES_MAX)
        config = ffi.addressof(self.market(slot), "config")
        length = check(lib.config_read(config, version, buffer, lib.CONFIG_BYTES_MAX), "config slot")
        return int(version[0]), bytes(ffi.buffer(buffer, length))

    def write_config(self, slot: int, version: int, payload: bytes) -> None:
        config = ffi.addressof(self.market(slot), "config")
        check(lib.config_write(config, version, payload, len(payload)), "config slot")


def cell(struct: CData, field: str) -> CData:
    """Pointer to one shared word of a struct, for lib.cell_load and friends."""
    return ffi.addressof(struct, field)


_SLOW_PASS_NS: Final = 10_000_000


def record_pass(row: CData, *, pass_ns: int, work_count: int) -> None:
    """Counts one pass of a loop in its own ``process_row_t``; the caller is the row's process."""
    lib.histogram_record(cell(row, "pass_ns"), pass_ns)
    lib.cell_add(cell(row, "pass_count"), 1)
    lib.cell_add(cell(row, "work_count"), work_count)
    if pass_ns > _SLOW_PASS_NS:
        lib.cell_add(cell(row, "slow_pass_count"), 1)
    if pass_ns > lib.cell_load(cell(row, "longest_pass_ns")):
        lib.cell_store(cell(row, "longest_pass_ns"), pass_ns)
