"""Conformance of everything that moves through the arena: both rings, the rows, the images, the bells.

Payloads are filled with one repeated word, so that a torn read shows. States that a crash leaves behind are
set directly.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from engine._native import ffi, lib
from engine.arena import Arena, RingFullError, cell, check

SLOTS = 8
TOKEN, STRANGER = 7, 8


class Ring:
    """One kind of ring in memory of its own, so small that its ends are near."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.words = {"broadcast": 7, "message": 31}[kind]
        slot_bytes = 8 * (self.words + 1)
        self.memory = ffi.new("uint64_t[]", (ffi.sizeof(f"{kind}_ring_t") + SLOTS * slot_bytes) // 8)
        self.ring: Any = ffi.cast(f"{kind}_ring_t *", self.memory)
        self.slots: Any = ffi.cast(f"{kind}_slot_t *", self.ring + 1)

    def payload(self, value: int, count: int = 1) -> bytes:
        return b"".join(struct.pack(f"<{self.words}Q", *[value + k] * self.words) for k in range(count))

    def values(self, raw: bytes) -> list[int]:
        """The word each payload repeats; a torn payload fails."""
        found = []
        for start in range(0, len(raw), 8 * self.words):
            words = set(struct.unpack_from(f"<{self.words}Q", raw, start))
            assert len(words) == 1, f"torn payload: {words}"
            found.append(words.pop())
        return found

    def acquire(self, token: int = TOKEN) -> int:
        return int(getattr(lib, f"{self.kind}_acquire")(self.ring, token))

    def free_role(self) -> None:
        getattr(lib, f"{self.kind}_free_role")(self.ring)

    def publish(self, value: int, token: int = TOKEN, count: int = 1) -> int:
        if self.kind == "broadcast":
            payloads = self.payload(value, count)
            return int(lib.broadcast_publish(self.ring, SLOTS, token, payloads, count))
        return int(lib.message_publish(self.ring, SLOTS, token, self.payload(value)))

    def cursor(self, position: int = 0) -> Any:
        return ffi.new("broadcast_cursor_t *", {"position": position})

    def read(self, cursor: Any, capacity: int = 64) -> tuple[list[int], bool]:
        """What a tap sees; both rings are read the same way."""
        out = ffi.new("char[]", capacity * 8 * self.words)
        lapped = ffi.new("int *")
        read = lib.broadcast_read if self.kind == "broadcast" else lib.message_tap
        count = read(self.ring, SLOTS, cursor, out, capacity, lapped)
        return self.values(bytes(ffi.buffer(out, count * 8 * self.words))), bool(lapped[0])

    def peek(self, capacity: int = 64) -> list[int]:
        out = ffi.new("char[]", capacity * 8 * self.words)
        count = lib.message_peek(self.ring, SLOTS, out, capacity)
        return self.values(bytes(ffi.buffer(out, count * 8 * self.words)))

    def release(self, count: int) -> None:
        lib.message_release(self.ring, count)


@pytest.fixture(params=["broadcast", "message"])
def ring(request: pytest.FixtureRequest) -> Ring:
    return Ring(request.param)


@pytest.fixture
def broadcast() -> Ring:
    made = Ring("broadcast")
    assert made.acquire() == lib.RING_OK
    return made


@pytest.fixture
def message() -> Ring:
    made = Ring("message")
    assert made.acquire() == lib.RING_OK
    return made


# ---- the producer's role ----


def test_the_role_is_refused_the_second_time(ring: Ring) -> None:
    assert ring.acquire(TOKEN) == lib.RING_OK
    assert ring.acquire(STRANGER) == lib.RING_OWNED
    assert ring.acquire(TOKEN) == lib.RING_OWNED, "not even to its holder"


def test_a_freed_role_can_be_taken_and_the_old_holder_cannot_publish(ring: Ring) -> None:
    ring.acquire(TOKEN)
    assert ring.publish(1) == lib.RING_OK
    ring.free_role()
    assert ring.acquire(STRANGER) == lib.RING_OK
    assert ring.publish(2, token=TOKEN) == lib.RING_NOT_OWNER
    assert ring.publish(3, token=STRANGER) == lib.RING_OK
    assert ring.read(ring.cursor()) == ([1, 3], False)


def test_nobody_publishes_without_the_role(ring: Ring) -> None:
    assert ring.publish(1) == lib.RING_NOT_OWNER
    assert ring.acquire(0) == lib.RING_BAD_ARGUMENT, "0 means free"
    assert ring.read(ring.cursor()) == ([], False)


# ---- reading along ----


def test_records_come_in_order_and_once(ring: Ring) -> None:
    ring.acquire()
    cursor = ring.cursor()
    for value in range(5):
        assert ring.publish(value) == lib.RING_OK
    assert ring.read(cursor, capacity=3) == ([0, 1, 2], False)
    assert ring.read(cursor) == ([3, 4], False)
    assert ring.read(cursor) == ([], False)
    assert (cursor.lost, cursor.laps) == (0, 0)


def test_readers_share_nothing(ring: Ring) -> None:
    ring.acquire()
    first, second = ring.cursor(), ring.cursor()
    ring.publish(1)
    assert ring.read(first) == ([1], False)
    ring.publish(2)
    assert ring.read(second) == ([1, 2], False)
    assert ring.read(first) == ([2], False)


def busy(position: int) -> int:
    """The sequence of a slot that is being written for ``position``."""
    return 1 << 63 | (position + 1)


def test_a_record_half_written_is_not_read(ring: Ring) -> None:
    """The state a producer killed inside a slot leaves: slot busy, words of two payloads."""
    ring.acquire()
    cursor = ring.cursor()
    ring.publish(1)
    slot = ring.slots[1]
    slot.sequence.value = busy(1)
    slot.words[0].value = 99
    assert ring.read(cursor) == ([1], False)
    ring.free_role()
    ring.acquire(STRANGER)
    assert ring.publish(2, token=STRANGER) == lib.RING_OK
    assert ring.read(cursor) == ([2], False)


def test_a_message_whose_producer_died_before_the_head_is_replaced(message: Ring) -> None:
    """Slot complete, head not moved: nobody acts on it, and the successor's record takes its place."""
    cursor = message.cursor()
    message.publish(1)
    message.publish(2)
    message.ring.published.value = 1
    assert message.read(cursor) == ([1], False)
    assert message.peek() == [1]
    message.release(1)
    assert message.peek() == []
    message.free_role()
    message.acquire(STRANGER)
    assert message.publish(3, token=STRANGER) == lib.RING_OK
    assert message.read(cursor) == ([3], False)
    assert message.peek() == [3]
    assert lib.message_space(message.ring, SLOTS) == SLOTS - 1


def test_an_event_whose_producer_died_before_the_head_was_published(broadcast: Ring) -> None:
    """Slots shown, head not moved: readers have them, so the successor goes on behind them."""
    cursor = broadcast.cursor()
    broadcast.publish(1)
    broadcast.publish(2, count=2)
    broadcast.ring.published.value = 1
    assert broadcast.read(cursor) == ([1, 2, 3], False)
    broadcast.free_role()
    broadcast.acquire(STRANGER)
    assert broadcast.publish(4, token=STRANGER) == lib.RING_OK
    assert broadcast.read(cursor) == ([4], False)
    assert lib.broadcast_position(broadcast.ring) == 4


def test_what_is_left_of_a_batch_that_was_never_shown_does_not_follow_a_shorter_one(broadcast: Ring) -> None:
    """A producer killed before it showed the first slot of a batch, whose other slots are complete."""
    cursor = broadcast.cursor()
    broadcast.publish(1)
    broadcast.publish(98, count=2)
    broadcast.ring.published.value = 1
    broadcast.slots[1].sequence.value = busy(1)
    assert broadcast.read(cursor) == ([1], False)
    broadcast.free_role()
    broadcast.acquire(STRANGER)
    assert broadcast.publish(2, token=STRANGER) == lib.RING_OK
    assert broadcast.read(cursor) == ([2], False)
    assert broadcast.publish(3, token=STRANGER) == lib.RING_OK
    assert broadcast.read(cursor) == ([3], False)


def test_positions_far_from_zero_wrap_the_same(ring: Ring) -> None:
    start = 2**40 - 3
    ring.ring.published.value = start
    if ring.kind == "message":
        ring.ring.consumed.value = start
    ring.acquire()
    cursor = ring.cursor(start)
    for value in range(6):
        assert ring.publish(value) == lib.RING_OK
    assert ring.read(cursor) == ([0, 1, 2, 3, 4, 5], False)


# ---- overwriting ----


def test_a_lapped_reader_knows_and_reads_on_from_safe_ground(broadcast: Ring) -> None:
    cursor = broadcast.cursor()
    published = 2 * SLOTS + 3
    for value in range(published):
        broadcast.publish(value)
    assert broadcast.read(cursor) == ([], True)
    assert cursor.laps == 1
    assert cursor.position == published - SLOTS // 4
    assert cursor.lost == cursor.position
    assert broadcast.read(cursor) == (list(range(published - SLOTS // 4, published)), False)


def test_a_reader_lapped_in_the_middle_keeps_what_it_read(broadcast: Ring) -> None:
    cursor = broadcast.cursor()
    for value in range(4):
        broadcast.publish(value)
    broadcast.slots[2].sequence.value = busy(2 + SLOTS)  # the producer has come round and is writing here
    assert broadcast.read(cursor) == ([0, 1], False), "the head does not show it yet: wait"
    broadcast.ring.published.value = 2 + SLOTS
    assert broadcast.read(cursor) == ([], True)
    assert cursor.position == 2 + SLOTS - SLOTS // 4
    assert cursor.lost == cursor.position - 2


def test_the_reader_just_ahead_of_the_producer_loses_nothing(broadcast: Ring) -> None:
    cursor = broadcast.cursor()
    for value in range(SLOTS):
        broadcast.publish(value)
    assert broadcast.read(cursor) == (list(range(SLOTS)), False)


def test_a_batch_is_published_whole(broadcast: Ring) -> None:
    cursor = broadcast.cursor()
    assert broadcast.publish(10, count=2) == lib.RING_OK
    assert lib.broadcast_position(broadcast.ring) == 2
    assert broadcast.read(cursor) == ([10, 11], False)
    assert broadcast.publish(0, count=0) == lib.RING_OK
    assert broadcast.read(cursor) == ([], False)


def test_a_batch_appears_with_its_first_slot(broadcast: Ring) -> None:
    """The first slot is shown last, so that is all a reader waits for."""
    cursor = broadcast.cursor()
    broadcast.publish(10, count=2)
    shown = broadcast.slots[0].sequence.value
    broadcast.slots[0].sequence.value = busy(0)
    assert broadcast.read(cursor) == ([], False)
    broadcast.slots[0].sequence.value = shown
    assert broadcast.read(cursor) == ([10, 11], False)


def test_bound_calls_do_what_the_others_do(broadcast: Ring) -> None:
    payloads = ffi.from_buffer(broadcast.payload(10, count=2))
    ring = {"ring": broadcast.ring, "slot_count": SLOTS}
    writer = ffi.new("broadcast_writer_t *", {**ring, "payloads": payloads, "token": TOKEN, "count": 2})
    out = ffi.new("char[]", 8 * 56)
    reader = ffi.new("broadcast_reader_t *", {**ring, "payloads": out, "capacity": 8})
    assert lib.broadcast_write(writer) == lib.RING_OK
    assert lib.broadcast_next(reader) == 2
    assert broadcast.values(bytes(ffi.buffer(out, 2 * 56))) == [10, 11]
    assert (reader.cursor.position, reader.lapped) == (2, 0)
    for _ in range(SLOTS):
        lib.broadcast_write(writer)
    assert lib.broadcast_next(reader) == 0
    assert reader.lapped == 1
    writer.token = STRANGER
    assert lib.broadcast_write(writer) == lib.RING_NOT_OWNER


def test_a_batch_is_at_most_a_quarter_ring(broadcast: Ring) -> None:
    assert broadcast.publish(0, count=SLOTS // 4 + 1) == lib.RING_BAD_ARGUMENT
    assert lib.broadcast_position(broadcast.ring) == 0


@pytest.mark.parametrize("slot_count", [0, 1, 2, 3, 6, 2**32 - 1])
def test_a_slot_count_that_is_no_ring_is_refused(ring: Ring, slot_count: int) -> None:
    ring.acquire()
    ring.publish(1)
    out, lapped = ffi.new("char[]", 8 * ring.words), ffi.new("int *")
    if ring.kind == "broadcast":
        assert (
            lib.broadcast_publish(ring.ring, slot_count, TOKEN, ring.payload(1), 1) == lib.RING_BAD_ARGUMENT
        )
        assert lib.broadcast_read(ring.ring, slot_count, ring.cursor(), out, 1, lapped) == 0
    else:
        assert lib.message_publish(ring.ring, slot_count, TOKEN, ring.payload(1)) == lib.RING_BAD_ARGUMENT
        assert lib.message_peek(ring.ring, slot_count, out, 1) == 0


def test_a_reader_begins_a_quarter_ring_behind(broadcast: Ring) -> None:
    cursor = broadcast.cursor(position=99)
    lib.broadcast_attach(broadcast.ring, SLOTS, cursor)
    assert (cursor.position, cursor.lost, cursor.laps) == (0, 0, 0)
    for value in range(5):
        broadcast.publish(value)
    lib.broadcast_attach(broadcast.ring, SLOTS, cursor)
    assert broadcast.read(cursor) == ([3, 4], False)


def test_a_concurrent_reader_sees_whole_records_in_order(broadcast: Ring) -> None:
    """Both calls release the interpreter: the reader really runs beside the producer."""
    total = 200_000
    batch = SLOTS // 4

    def produce() -> None:
        for value in range(0, total, batch):
            lib.broadcast_publish(broadcast.ring, SLOTS, TOKEN, broadcast.payload(value, count=batch), batch)

    producer = threading.Thread(target=produce)
    producer.start()
    cursor = broadcast.cursor()
    seen = 0
    previous = -1
    while cursor.position < total:
        values, _ = broadcast.read(cursor)  # fails on a torn payload
        assert all(earlier < later for earlier, later in zip([previous, *values], values, strict=False))
        previous = values[-1] if values else previous
        seen += len(values)
    producer.join()
    assert seen + cursor.lost == total


# ---- lossless ----


def test_a_full_ring_says_so_and_loses_nothing(message: Ring) -> None:
    for value in range(SLOTS):
        assert message.publish(value) == lib.RING_OK
    assert lib.message_space(message.ring, SLOTS) == 0
    assert message.publish(99) == lib.RING_FULL
    with pytest.raises(RingFullError, match=r"orders: ring is full"):
        check(message.publish(99), "orders")
    assert message.peek() == list(range(SLOTS))
    message.release(1)
    assert message.publish(SLOTS) == lib.RING_OK
    assert message.publish(99) == lib.RING_FULL
    assert message.peek() == list(range(1, SLOTS + 1))


def test_no_more_is_released_than_is_there(message: Ring) -> None:
    message.publish(1)
    assert lib.message_release(message.ring, 2) == lib.RING_BAD_ARGUMENT
    assert message.peek() == [1]
    assert lib.message_release(message.ring, 1) == lib.RING_OK
    assert lib.message_release(message.ring, 1) == lib.RING_BAD_ARGUMENT


def test_what_was_not_released_is_there_for_the_next_consumer(message: Ring) -> None:
    for value in range(3):
        message.publish(value)
    assert message.peek(capacity=2) == [0, 1]
    message.release(1)
    assert message.peek() == [1, 2], "a consumer that died after one of two finds the other again"


def test_a_tap_may_be_lapped_but_never_holds_anyone_back(message: Ring) -> None:
    tap = message.cursor()
    for value in range(3 * SLOTS):
        assert message.publish(value) == lib.RING_OK
        assert message.peek() == [value]
        message.release(1)
    assert message.read(tap) == ([], True)
    assert tap.lost == 3 * SLOTS - SLOTS // 4


# ---- rows ----


def live_order(value: int) -> bytes:
    return struct.pack("<30Q", *[value] * 30)


def test_a_row_holds_its_newest_payload() -> None:
    row = ffi.new("live_order_row_t *")
    out = ffi.new("live_order_t *")
    for value in (1, 2, 3):
        lib.live_order_write(row, ffi.cast("live_order_t *", ffi.from_buffer(live_order(value))))
        assert lib.live_order_read(row, out) == lib.RING_OK
        assert bytes(ffi.buffer(out)) == live_order(value)
        assert row.version.value == value


def test_a_row_whose_writer_died_inside_it_is_busy_until_its_successor_writes() -> None:
    row = ffi.new("account_row_t *")
    account = ffi.new("account_state_t *", {"cash_cents": 5})
    lib.account_write(row, account)
    row.sequence.value |= 1
    row.words[0].value = 999
    out = ffi.new("account_state_t *")
    assert lib.account_read(row, out) == lib.ROW_BUSY
    lib.account_write(row, account)
    assert row.sequence.value % 2 == 0
    assert lib.account_read(row, out) == lib.RING_OK
    assert out.cash_cents == 5


def test_the_state_row_carries_its_header() -> None:
    row = ffi.new("state_row_t *")
    payload = ffi.new("quoter_state_t *", {"fair_price_cents": 47})
    size = ffi.sizeof("quoter_state_t")
    assert lib.state_write(row, lib.STATE_KIND_QUOTER, 3, 10, 20, payload, size) == lib.RING_OK
    header, out = ffi.new("state_header_t *"), ffi.new("quoter_state_t *")
    assert lib.state_read(row, header, out, size) == lib.RING_OK
    assert (header.version, header.kind, header.worker_epoch) == (1, lib.STATE_KIND_QUOTER, 3)
    assert (header.mono_ns, header.unix_ns, out.fair_price_cents) == (10, 20, 47)
    for bad in (1032, 7):
        assert lib.state_write(row, 1, 1, 0, 0, payload, bad) == lib.RING_BAD_ARGUMENT
        assert lib.state_read(row, header, out, bad) == lib.RING_BAD_ARGUMENT


def test_the_configuration_row_refuses_what_does_not_fit() -> None:
    slot = ffi.new("config_slot_t *")
    version = ffi.new("uint64_t *")
    out = ffi.new("char[16]")
    assert lib.config_write(slot, 1, b"x" * 17, 17) == lib.RING_OK
    assert lib.config_read(slot, version, out, 16) == lib.RING_BAD_ARGUMENT
    slot.length.value = 2**63  # as a hostile writer would
    assert lib.config_read(slot, version, out, 16) == lib.RING_BAD_ARGUMENT
    slot.sequence.value |= 1
    assert lib.config_read(slot, version, out, 16) == lib.ROW_BUSY


@pytest.mark.parametrize(("bid", "ask"), [(-1, -1), (1, 99), (-1, 50), (0, -1), (10_000, 10_000)])
def test_the_top_row_tells_an_empty_side_from_a_price(bid: int, ask: int) -> None:
    row = ffi.new("top_row_t *")
    top = {
        "bid_ticks": bid,
        "ask_ticks": ask,
        "bid_lots": 2**40,
        "ask_lots": 0,
        "generation": 2**31,
        "valid": 1,
        "venue_sequence": -1,
        "recv_mono_ns": 5,
        "trade_count": 6,
    }
    lib.top_write(row, ffi.new("top_t *", top))
    out = ffi.new("top_t *")
    assert lib.top_read(row, out) == lib.RING_OK
    assert {name: getattr(out, name) for name in top} == top


# ---- book images ----


def write_image(images: Any, position: int, level: int, ticks: int = 3) -> int:
    header = ffi.new(
        "image_header_t *", {"generation": 1, "ring_position": position, "tick_count": ticks, "valid": 1}
    )
    return int(lib.image_write(images, header, ffi.new("int64_t[]", [level] * (2 * ticks))))


def read_image(images: Any, capacity: int = 3) -> tuple[int, int, list[int]]:
    header = ffi.new("image_header_t *")
    levels = ffi.new("int64_t[]", 2 * capacity)
    code = lib.image_read(images, header, levels, capacity)
    return int(code), int(header.ring_position), list(levels)


def test_images_are_written_in_turn_and_the_newer_is_read() -> None:
    images = ffi.new("book_image_t[2]")
    assert read_image(images)[0] == lib.ROW_BUSY, "none written yet"
    for position in range(1, 6):
        assert write_image(images, position, level=position) == lib.RING_OK
        assert read_image(images) == (lib.RING_OK, position, [position] * 6)
    assert {images[0].ring_position.value, images[1].ring_position.value} == {4, 5}


def test_a_torn_image_leaves_the_older_one_and_is_overwritten_first() -> None:
    images = ffi.new("book_image_t[2]")
    write_image(images, 1, level=1)
    write_image(images, 2, level=2)
    newer = 0 if images[0].ring_position.value == 2 else 1
    images[newer].sequence.value |= 1
    assert read_image(images) == (lib.RING_OK, 1, [1] * 6)
    write_image(images, 3, level=3)
    assert read_image(images) == (lib.RING_OK, 3, [3] * 6)
    assert images[1 - newer].ring_position.value == 1, "the whole one was left alone"


def test_an_image_larger_than_the_readers_room_is_refused() -> None:
    images = ffi.new("book_image_t[2]")
    write_image(images, 1, level=1, ticks=5)
    assert read_image(images, capacity=3)[0] == lib.RING_BAD_ARGUMENT
    assert write_image(images, 2, level=1, ticks=0) == lib.RING_BAD_ARGUMENT
    images[0].tick_count.value = 2**40
    assert read_image(images, capacity=3)[0] == lib.RING_BAD_ARGUMENT


# ---- bells ----


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "waited 10 s in vain"
        time.sleep(0.001)


def test_a_sleeper_is_woken_by_the_futex() -> None:
    row = ffi.new("process_row_t *")
    woken = threading.Event()

    def sleep() -> None:
        lib.bell_wait(row, lib.bell_value(row), 0, 60_000_000_000)
        woken.set()

    thread = threading.Thread(target=sleep, daemon=True)
    thread.start()
    until(lambda: lib.cell_load(cell(row, "asleep")) == 1)
    assert not woken.is_set()
    lib.bell_ring(row, -1)
    assert woken.wait(30), "the ring was not heard"
    assert lib.cell_load(cell(row, "asleep")) == 0


def test_a_ring_before_the_wait_is_not_lost() -> None:
    row = ffi.new("process_row_t *")
    seen = lib.bell_value(row)
    lib.bell_ring(row, -1)
    lib.bell_wait(row, seen, 0, 60_000_000_000)  # would time the test out


def test_a_wait_ends_by_itself() -> None:
    row = ffi.new("process_row_t *")
    lib.bell_wait(row, lib.bell_value(row), 10, 1_000_000)
    lib.bell_wait(row, lib.bell_value(row), 10, 0)
    assert lib.cell_load(cell(row, "asleep")) == 0


def test_an_eventfd_is_written_for_a_sleeper_only_and_once() -> None:
    row = ffi.new("process_row_t *")
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        lib.bell_ring(row, fd)
        with pytest.raises(BlockingIOError):
            os.eventfd_read(fd)
        lib.bell_sleep(row)
        lib.bell_ring(row, fd)
        lib.bell_ring(row, fd)
        assert os.eventfd_read(fd) == 1
        lib.bell_sleep(row)
        lib.bell_awake(row)
        lib.bell_ring(row, fd)
        with pytest.raises(BlockingIOError):
            os.eventfd_read(fd)
    finally:
        os.close(fd)


def test_a_bell_crosses_processes() -> None:
    """A child sleeps on the word in the arena it inherited; ringing it here ends the child."""
    arena = Arena.create(market_slots=1, worker_slots=1)
    row = arena.process(lib.PROCESS_QUOTER_FIRST)
    child = os.fork()
    if child == 0:
        lib.bell_wait(row, 0, 0, 60_000_000_000)
        os._exit(7)
    until(lambda: lib.cell_load(cell(row, "asleep")) == 1)
    lib.bell_ring(row, -1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    os.close(arena.fd)


# ---- histograms ----


def test_buckets_are_ordered_and_three_percent_wide() -> None:
    previous = -1
    for exponent in range(36):
        for value in {2**exponent, 2**exponent + 1, 2 ** (exponent + 1) - 1}:
            bucket = lib.histogram_bucket(value)
            floor = lib.histogram_bucket_floor_ns(bucket)
            assert floor <= value <= floor * 1.04
            assert lib.histogram_bucket(floor) == bucket
        assert bucket >= previous
        previous = bucket
    assert lib.histogram_bucket(2**63) == lib.HISTOGRAM_BUCKETS - 1


def test_a_histogram_counts_sums_and_remembers_the_largest() -> None:
    histogram = ffi.new("histogram_t *")
    for value in (5, 5, 1_000_000):
        lib.histogram_record(histogram, value)
    assert (histogram.count.value, histogram.sum_ns.value, histogram.max_ns.value) == (
        3,
        1_000_010,
        1_000_000,
    )
    assert histogram.buckets[5].value == 2
