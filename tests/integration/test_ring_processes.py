"""Two real processes, one arena: everything the readers see is whole, in order and accounted for.

The writer is this file run as a program, so it shares nothing with the test but the inherited descriptor. It
writes until it is told to stop by a kill word, or until it is killed. The reader maps the segment read-only.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from engine._native import ffi, lib
from engine.arena import Arena, cell, check

ROOT: Final = Path(__file__).resolve().parents[2]
SECONDS: Final = float(os.environ.get("COREQUOTE_RING_SECONDS", "2"))
SLOTS: Final = 64  # of the book ring's 8192: laps are the rule
BATCH_MAX: Final = SLOTS // 4
IMAGE_TICKS: Final = 101
DEADLINE_S: Final = 60.0


def write_until_stopped(fd: int, epoch: int, token: int) -> None:
    """Batches of 1 to 16 events whose words are their position; an image and a state row after each 64."""
    arena = Arena(fd, epoch=epoch)
    ring, market = arena.book_ring(0), arena.market(0)
    check(lib.broadcast_acquire(ring, token), "book ring")
    events = ffi.new("uint64_t[]", BATCH_MAX * lib.BROADCAST_WORDS)
    words = np.frombuffer(ffi.buffer(events), dtype=np.uint64).reshape(BATCH_MAX, lib.BROADCAST_WORDS)
    levels = ffi.new("int64_t[]", 2 * IMAGE_TICKS)
    level_words = np.frombuffer(ffi.buffer(levels), dtype=np.int64)
    state = ffi.new("uint64_t[]", lib.STATE_PAYLOAD_WORDS)
    state_words = np.frombuffer(ffi.buffer(state), dtype=np.uint64)
    image = ffi.new("image_header_t *", {"tick_count": IMAGE_TICKS, "valid": 1})
    steps = np.arange(BATCH_MAX, dtype=np.uint64)[:, None]
    stop = arena.kill_global()
    count = 0
    while not lib.cell_load(stop):
        for _ in range(64):
            count = count % BATCH_MAX + 1
            position = lib.broadcast_position(ring)
            words[:] = steps + position
            check(lib.broadcast_publish(ring, SLOTS, token, events, count), "book ring")
        position += count
        level_words[:] = position
        image.generation = image.ring_position = position
        check(lib.image_write(market.images, image, levels), "image")
        state_words[:] = position
        check(
            lib.state_write(ffi.addressof(market, "state"), 1, 1, 0, 0, state, 8 * len(state_words)), "state"
        )


class Reader:
    """Reads with nothing but a read-only mapping; any torn, repeated or reordered event fails."""

    def __init__(self, arena: Arena) -> None:
        self.arena = Arena(arena.read_only_fd(), epoch=arena.epoch, writable=False)
        self.ring, self.market = self.arena.book_ring(0), self.arena.market(0)
        self.cursor = ffi.new("broadcast_cursor_t *")
        self.read = self.images = self.states = self.newest_image = 0
        self._events = ffi.new("uint64_t[]", SLOTS * lib.BROADCAST_WORDS)
        self._words = np.frombuffer(ffi.buffer(self._events), dtype=np.uint64)
        self._words = self._words.reshape(SLOTS, lib.BROADCAST_WORDS)
        self._lapped = ffi.new("int *")
        self._header, self._levels = ffi.new("image_header_t *"), ffi.new("int64_t[]", 2 * IMAGE_TICKS)
        self._level_words = np.frombuffer(ffi.buffer(self._levels), dtype=np.int64)
        self._state_header = ffi.new("state_header_t *")
        self._state = ffi.new("uint64_t[]", lib.STATE_PAYLOAD_WORDS)
        self._state_words = np.frombuffer(ffi.buffer(self._state), dtype=np.uint64)

    def look(self) -> int:
        """Reads what there is; returns how many events."""
        position = self.cursor.position
        count = lib.broadcast_read(self.ring, SLOTS, self.cursor, self._events, SLOTS, self._lapped)
        expected = np.arange(position, position + count, dtype=np.uint64)[:, None]
        assert (self._words[:count] == expected).all(), "torn or misplaced"
        assert self.cursor.position == position + count or self._lapped[0]
        self.read += count
        return int(count)

    def look_at_rows(self) -> None:
        images = self.market.images
        if lib.image_read(images, self._header, self._levels, IMAGE_TICKS) == lib.RING_OK:
            newest = int(self._header.ring_position)
            assert (self._level_words == newest).all(), "torn image"
            assert newest >= self.newest_image, "an image of the past"
            self.newest_image = newest
            self.images += 1
        row, size = ffi.addressof(self.market, "state"), 8 * len(self._state_words)
        if lib.state_read(row, self._state_header, self._state, size) == lib.RING_OK:
            assert (self._state_words == self._state_words[0]).all(), "torn row"
            self.states += 1

    def drain(self) -> None:
        """Reads until nothing moves: the writer has ended."""
        before = -1
        while before != self.cursor.position:
            before = self.cursor.position
            self.look()


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena.create(market_slots=1, worker_slots=1)
    yield made
    os.close(made.fd)


@contextmanager
def writing(arena: Arena, token: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    program = [sys.executable, __file__, str(arena.fd), str(arena.epoch), str(token)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(program, pass_fds=[arena.fd], env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S:.0f} s in vain"


def test_a_reader_in_another_process_sees_whole_events_however_often_it_is_lapped(arena: Arena) -> None:
    reader = Reader(arena)
    with writing(arena) as writer:
        until(reader.look)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or reader.cursor.laps == 0 or reader.images == 0:
            for _ in range(100):
                reader.look()
            reader.look_at_rows()
            assert writer.poll() is None
            time.sleep(0.001)  # to be lapped
        lib.cell_or(arena.kill_global(), lib.KILL_ADMIN)
        assert writer.wait(DEADLINE_S) == 0
    reader.drain()
    assert reader.cursor.position == lib.broadcast_position(reader.ring)
    assert reader.read + reader.cursor.lost == reader.cursor.position
    assert reader.read > 1000
    assert reader.cursor.lost > 0


def test_a_killed_writer_is_replaced_and_nothing_it_showed_is_taken_back(arena: Arena) -> None:
    """Killed at moments of no choosing, in the middle of slots, rows and images; each time one goes on."""
    reader = Reader(arena)
    for token in range(1, 6):
        with writing(arena, token) as writer:
            shown = reader.cursor.position
            until(lambda shown=shown: (reader.look(), reader.cursor.position > shown + 10_000)[1])
            reader.look_at_rows()
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait(DEADLINE_S)
        reader.drain()
        shown = reader.cursor.position
        assert shown >= lib.broadcast_position(reader.ring), "shown before it is counted"
        assert lib.broadcast_acquire(arena.book_ring(0), 99) == lib.RING_OWNED
        lib.broadcast_free_role(arena.book_ring(0))
    assert reader.images > 0
    assert reader.states > 0


def test_a_read_only_mapping_cannot_be_written_to(arena: Arena) -> None:
    """What a reader's bug could do to the ring is end the reader."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        reader = Reader(arena)
        lib.cell_store(cell(reader.ring, "published"), 1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGSEGV


if __name__ == "__main__":
    descriptor, arena_epoch, role = (int(text) for text in sys.argv[1:])
    write_until_stopped(descriptor, arena_epoch, role)
