"""The shared segment: made once, sealed, and refused whenever it is not exactly the one meant."""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import struct
from collections.abc import Iterator

import pytest

from engine._native import ffi, lib
from engine.arena import Arena, ArenaError, cell, padded, record_pass, unpadded

MARKETS, WORKERS = 3, 2


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena.create(market_slots=MARKETS, worker_slots=WORKERS)
    yield made
    os.close(made.fd)


def header_field(name: str) -> tuple[int, int]:
    """Offset and size of a field of the header."""
    field = dict(ffi.typeof("arena_header_t").fields)[name]
    return field.offset, ffi.sizeof(field.type)


def forged(arena: Arena, field: str, value: int) -> int:
    """A new segment of the same bytes with one header field changed; returns its descriptor."""
    size = os.fstat(arena.fd).st_size
    fd = os.memfd_create("forged")
    os.ftruncate(fd, size)
    page = bytearray(os.pread(arena.fd, lib.ARENA_PAGE_BYTES, 0))
    offset, length = header_field(field)
    page[offset : offset + length] = value.to_bytes(length, "little")
    os.pwrite(fd, page, 0)
    return fd


def test_counts_and_epoch_are_readable_by_whoever_attaches(arena: Arena) -> None:
    attached = Arena(os.dup(arena.fd), epoch=arena.epoch)
    assert (attached.market_slots, attached.worker_slots) == (MARKETS, WORKERS)
    assert attached.process_slots == lib.PROCESS_QUOTER_FIRST + WORKERS
    assert attached.header.supervisor_pid.value == os.getpid()


@pytest.mark.parametrize(("markets", "workers"), [(0, 1), (1, 0), (4097, 1), (1, 1025), (-1 & 0xFFFFFFFF, 1)])
def test_absurd_counts_are_refused(markets: int, workers: int) -> None:
    with pytest.raises(ArenaError, match="out of range"):
        Arena.create(market_slots=markets, worker_slots=workers)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("ready", 0, "magic missing"),
        ("ready", 0xDEADBEEF, "magic missing"),
        ("layout_hash", 1, "layout hash differs"),
        ("epoch", 1, "epoch differs"),
        ("market_slots", MARKETS + 1, "contradicts its counts"),
        ("worker_slots", 0, "contradicts its counts"),
        ("market_slots", 0xFFFFFFFF, "contradicts its counts"),
        ("process_slots", 0xFFFF, "contradicts its counts"),
        ("market_offset", 8, "contradicts its counts"),
        ("worker_stride", 0, "contradicts its counts"),
        ("total_bytes", 0, "contradicts its counts"),
    ],
)
def test_a_foreign_segment_is_refused(arena: Arena, field: str, value: int, rule: str) -> None:
    fd = forged(arena, field, value)
    with pytest.raises(ArenaError, match=rule):
        Arena(fd, epoch=arena.epoch)
    os.close(fd)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096])
def test_a_segment_that_is_too_small_is_refused(arena: Arena, size: int) -> None:
    fd = os.memfd_create("short")
    os.ftruncate(fd, size)
    os.pwrite(fd, os.pread(arena.fd, min(size, lib.ARENA_PAGE_BYTES), 0), 0)
    with pytest.raises(ArenaError):
        Arena(fd)
    os.close(fd)


def test_the_segment_cannot_change_its_size_or_its_seals(arena: Arena) -> None:
    size = os.fstat(arena.fd).st_size
    for other in (size - 4096, size + 4096):
        with pytest.raises(OSError, match="Operation not permitted"):
            os.ftruncate(arena.fd, other)


def test_a_read_only_descriptor_cannot_be_mapped_for_writing(arena: Arena) -> None:
    fd = arena.read_only_fd()
    size = os.fstat(fd).st_size
    with pytest.raises(PermissionError):
        mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(fd, b"x", 0)
    assert Arena(fd, writable=False).epoch == arena.epoch
    os.close(fd)


def test_a_kernel_without_memfd_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(ArenaError, match=r"memfd_create failed .*Linux 3\.17 or newer"):
        Arena.create(market_slots=1, worker_slots=1)


@pytest.mark.parametrize(
    ("section", "first_bad"),
    [
        ("market", MARKETS),
        ("kill_market", MARKETS),
        ("worker", WORKERS),
        ("book_ring", WORKERS),
        ("step_ring", WORKERS),
        ("order_ring", WORKERS),
        ("execution_ring", WORKERS),
        ("process", lib.PROCESS_QUOTER_FIRST + WORKERS),
        ("command_ring", lib.PROCESS_QUOTER_FIRST + WORKERS),
    ],
)
def test_an_index_out_of_range_is_an_error(arena: Arena, section: str, first_bad: int) -> None:
    accessor = getattr(arena, section)
    assert accessor(first_bad - 1) != ffi.NULL
    for index in (first_bad, 0xFFFFFFFF):
        with pytest.raises(ArenaError, match=rf"{index}: out of range"):
            accessor(index)


def test_sections_are_apart_and_inside(arena: Arena) -> None:
    """No two structures share a byte, and all of them lie in the segment."""
    base = int(ffi.cast("uintptr_t", arena.base))
    spans = [(0, ffi.sizeof("arena_header_t"))]

    def add(pointer: object, size: int) -> None:
        start = int(ffi.cast("uintptr_t", pointer)) - base
        spans.append((start, start + size))

    ring = ffi.sizeof("broadcast_ring_t")
    message = ffi.sizeof("message_ring_t")
    add(arena.kill_global(), 64)
    for slot in range(MARKETS):
        add(arena.kill_market(slot), 64)
        add(arena.market(slot), ffi.sizeof("market_slot_t"))
    for worker in range(WORKERS):
        add(arena.worker(worker), ffi.sizeof("worker_control_t"))
        add(arena.book_ring(worker), ring + 64 * lib.BOOK_RING_SLOTS)
        add(arena.step_ring(worker), ring + 64 * lib.STEP_RING_SLOTS)
        add(arena.order_ring(worker), message + 256 * lib.MESSAGE_RING_SLOTS)
        add(arena.execution_ring(worker), message + 256 * lib.MESSAGE_RING_SLOTS)
    for row in range(arena.process_slots):
        add(arena.process(row), ffi.sizeof("process_row_t"))
        add(arena.command_ring(row), message + 256 * lib.COMMAND_RING_SLOTS)
    spans.sort()
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert end <= start
    assert spans[-1][1] <= os.fstat(arena.fd).st_size


def test_markets_take_slots_and_their_epoch_rises(arena: Arena) -> None:
    assert arena.used_markets() == []
    arena.place_market(1, market_id="m" * 64, worker=1, tick_count=101)
    assert arena.used_markets() == [1]
    assert (arena.market_id(1), arena.market_worker(1)) == ("m" * 64, 1)
    assert lib.cell_load(cell(arena.market(1).descriptor, "epoch")) == 1
    assert lib.cell_load(cell(arena.worker(1), "market_count")) == 1
    with pytest.raises(ArenaError, match="market slot 1: holds m"):
        arena.place_market(1, market_id="other", worker=0, tick_count=101)
    with pytest.raises(ValueError, match="limit 64"):
        arena.place_market(2, market_id="m" * 65, worker=0, tick_count=101)


def test_kill_words_of_a_market_and_of_all_add_up(arena: Arena) -> None:
    lib.cell_or(arena.kill_market(0), lib.KILL_WORKER_DEAD)
    lib.cell_or(arena.kill_global(), lib.KILL_STOPPING)
    assert [arena.killed(slot) for slot in range(2)] == [
        lib.KILL_WORKER_DEAD | lib.KILL_STOPPING,
        lib.KILL_STOPPING,
    ]
    assert lib.cell_clear(arena.kill_global(), lib.KILL_STOPPING) == lib.KILL_STOPPING
    assert [arena.killed(slot) for slot in range(2)] == [lib.KILL_WORKER_DEAD, 0]


def test_configuration_bytes_come_back_with_their_version(arena: Arena) -> None:
    assert arena.config_bytes(0) == (0, b"")
    for version, payload in ((1, b"{}"), (2, b"x" * lib.CONFIG_BYTES_MAX), (3, b"odd length")):
        arena.write_config(0, version, payload)
        assert arena.config_bytes(0) == (version, payload)
    with pytest.raises(ArenaError, match="out of range"):
        arena.write_config(0, 4, b"x" * (lib.CONFIG_BYTES_MAX + 1))
    assert arena.config_bytes(0)[0] == 3


def test_names_are_padded_and_come_back(arena: Arena) -> None:
    row = arena.process(0)
    ffi.buffer(row.name)[:] = padded("writer", 32)
    assert unpadded(row.name) == "writer"


def test_passes_are_counted_where_they_ran(arena: Arena) -> None:
    row = arena.process(0)
    for pass_ns, work_count in ((1_000, 2), (50_000_000, 0), (3_000, 1)):
        record_pass(row, pass_ns=pass_ns, work_count=work_count)
    found = {
        name: lib.cell_load(cell(row, name))
        for name in ("pass_count", "work_count", "slow_pass_count", "longest_pass_ns")
    }
    assert found == {"pass_count": 3, "work_count": 3, "slow_pass_count": 1, "longest_pass_ns": 50_000_000}


def test_every_shared_struct_is_as_c_says() -> None:
    """cffi compares its idea of a struct with the compiler's at first use: this is that use."""
    for name, size in (
        ("broadcast_slot_t", 64),
        ("message_slot_t", 256),
        ("book_event_t", 56),
        ("step_record_t", 56),
        ("order_record_t", 248),
        ("execution_record_t", 248),
        ("market_rules_record_t", 248),
        ("command_record_t", 248),
        ("live_order_t", 240),
        ("account_state_t", 240),
        ("top_row_t", 64),
        ("state_row_t", 1088),
        ("market_descriptor_t", 128),
    ):
        assert ffi.sizeof(name) == size
        assert len(ffi.buffer(ffi.new(f"{name} *"))) == size
    assert struct.calcsize("<Q") == ffi.sizeof("atomic_u64")
