"""How long does one message take from one process to another, and how many pass per second?

    process A (core 0)                          process B (core 1)
    payload of 56 bytes, 7 words  ── ring ──►   polls, checks every message

A regression here is paid by every market-data change and every order. Latency is taken one way, from
just before the sending call to just after the receiving one, at a pace that leaves no queue; a message
that is sent a whole interval late, because the machine stalled, is charged from the moment it was due.
Throughput is taken at the receiver, in sixteenths of a run of messages sent one per call; what could be
lost is held back, so all arrive. The floor, in C: two threads bounce one cache line. Rows "in C" are
half round trips of ``ring_hop.c``.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine._native import ffi, lib
from engine.arena import Arena, check
from perf.windows import Contender, Report, Row, Samples, interleave, machine, show

ROOT: Final = Path(__file__).resolve().parents[1]
WORDS: Final = lib.BROADCAST_WORDS
# Stays in a second-level cache. The engine's book rings are longer for the sake of recovery, not speed.
SLOTS: Final = 8_192
MASK: Final = SLOTS - 1
PARTS: Final = 16
CHECK_EVERY: Final = 1024  # messages between two looks at how far the receiver is
AHEAD_MAX: Final = SLOTS // 2
DEADLINE_S: Final = 10.0
TOKEN: Final = 7
LEAD_NS: Final = 20_000_000  # before the first paced message: the receiver begins to look
SLEEP_ABOVE_NS: Final = 100_000

HOPS: Final = 100_000
BATCHED_EVENTS: Final = 1 << 22
BATCH: Final = 64
DRAIN: Final = 256

now = time.perf_counter_ns


def cores() -> tuple[int, int]:
    """Two cores of this process; twice the same when there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


class Channel(ABC):
    """One way for messages between this process and a child that is forked after the channel was made.

    A message is a number, repeated in all words of a payload of 56 bytes. ``sender`` and ``receiver`` are
    called once, in the process that sends or receives; the functions they return are what is measured.
    """

    who: str
    messages = 1 << 17  # of a throughput run
    hops = 4_000  # of a latency run
    interval_ns = 30_000
    ahead_max = AHEAD_MAX  # messages that may be on their way: what the channel holds without losing any

    def __init__(self) -> None:
        self.progress = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")  # messages received

    @abstractmethod
    def sender(self) -> Callable[[int], object]:
        """A function that sends one number."""

    @abstractmethod
    def receiver(self) -> Callable[[], int]:
        """A function that returns the next number, or -1 when there is none yet."""

    def flush(self) -> None:  # noqa: B027 - most channels keep nothing back
        """Called in the sender before it ends."""

    def wait_for_room(self, sent: int, coming: int) -> None:
        """Holds the sender back to what the channel can hold."""
        progress = self.progress
        while sent + coming - progress[0] > self.ahead_max:
            pass

    def send_all(self, count: int) -> None:
        """Sends 0 .. count - 1, one call each."""
        send, step = self.sender(), self.ahead_max // 4
        for first in range(0, count, step):
            self.wait_for_room(first, step)
            for number in range(first, first + step):
                send(number)

    def receive_all(self, count: int) -> Samples:
        """Receives and checks them; ns per message of each part of the run."""
        receive, step, progress = self.receiver(), self.ahead_max // 4, self.progress
        marks = []
        for first in range(0, count, step):
            if first % (count // PARTS) == 0:
                marks.append(now())
            for expected in range(first, first + step):
                while (number := receive()) < 0:
                    pass
                assert number == expected, f"{self.who}: {number} instead of {expected}"
            progress[0] = first + step
        return parts([*marks, now()], count)

    def send_paced(self) -> None:
        """Sends ``hops`` times, one per interval, each the time at which it is sent or was due."""
        send, interval = self.sender(), self.interval_ns
        due = now() + LEAD_NS
        for _ in range(self.hops):
            due += interval
            late = due + interval
            while (at := now()) < due:
                if due - at > SLEEP_ABOVE_NS:
                    time.sleep(0)  # a thread that sends for us needs the interpreter
            send(at if at < late else due)

    def receive_paced(self, count: int) -> Samples:
        """Receives numbers that are times, each as soon as it is there: how old each was then."""
        receive = self.receiver()
        samples = np.empty(count)
        for i in range(count):
            while (sent := receive()) < 0:
                pass
            samples[i] = now() - sent
        return samples


def parts(marks: list[int], count: int) -> Samples:
    """ns per message between marks that are ``count // PARTS`` messages apart."""
    return np.diff(np.array(marks, dtype=np.float64)) / (count // PARTS)


def words_of(payload: Any) -> memoryview:
    """The words of a payload in C memory, as Python reads and writes them fastest."""
    return memoryview(ffi.buffer(payload)).cast("B").cast("Q")


class ArenaChannel(Channel):
    """A channel over the book ring of a new arena."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena.create(market_slots=1, worker_slots=1)
        self.ring = self.arena.book_ring(0)
        assert SLOTS <= lib.BOOK_RING_SLOTS
        check(lib.broadcast_acquire(self.ring, TOKEN), "book ring")


class OurRing(ArenaChannel):
    """``broadcast_write`` and ``broadcast_next``, one event per call."""

    who = "corequote"
    messages = 1 << 18

    def writer(self, events: Any, count: int) -> Any:
        return ffi.new(
            "broadcast_writer_t *",
            {"ring": self.ring, "payloads": events, "token": TOKEN, "slot_count": SLOTS, "count": count},
        )

    def reader(self, events: Any, capacity: int) -> Any:
        return ffi.new(
            "broadcast_reader_t *",
            {"ring": self.ring, "payloads": events, "slot_count": SLOTS, "capacity": capacity},
        )

    def sender(self) -> Callable[[int], object]:
        write, event = lib.broadcast_write, ffi.new("uint64_t[]", WORDS)
        writer = self.writer(event, 1)

        def send(number: int) -> None:
            event[0] = number
            write(writer)

        return send

    def receiver(self) -> Callable[[], int]:
        read, event = lib.broadcast_next, ffi.new("uint64_t[]", WORDS)
        reader = self.reader(event, 1)

        def receive() -> int:
            return event[0] if read(reader) else -1

        return receive

    def send_all(self, count: int) -> None:
        write, payload = lib.broadcast_write, ffi.new("uint64_t[]", WORDS)
        writer, event = self.writer(payload, 1), words_of(payload)
        for first in range(0, count, CHECK_EVERY):
            self.wait_for_room(first, CHECK_EVERY)
            for number in range(first, first + CHECK_EVERY):
                event[0] = number
                write(writer)

    def receive_all(self, count: int) -> Samples:
        read, progress, payload = lib.broadcast_next, self.progress, ffi.new("uint64_t[]", WORDS)
        reader, event = self.reader(payload, 1), words_of(payload)
        marks = []
        for first in range(0, count, CHECK_EVERY):
            if first % (count // PARTS) == 0:
                marks.append(now())
            for number in range(first, first + CHECK_EVERY):
                while not read(reader):
                    pass
                assert event[0] == number
            progress[0] = first + CHECK_EVERY
        return parts([*marks, now()], count)

    def send_paced(self) -> None:
        write, payload, interval = lib.broadcast_write, ffi.new("uint64_t[]", WORDS), self.interval_ns
        writer, event = self.writer(payload, 1), words_of(payload)
        due = now() + LEAD_NS
        for _ in range(self.hops):
            due += interval
            late = due + interval
            while (at := now()) < due:
                pass
            event[0] = at if at < late else due
            write(writer)

    def receive_paced(self, count: int) -> Samples:
        read, payload = lib.broadcast_next, ffi.new("uint64_t[]", WORDS)
        reader, event = self.reader(payload, 1), words_of(payload)
        samples = np.empty(count)
        for i in range(count):
            while not read(reader):
                pass
            samples[i] = now() - event[0]
        return samples


class OurRingBatched(OurRing):
    """64 events per call, up to 256 read by one; first and last of each reading are checked."""

    who = "corequote, batched"
    messages = 1 << 21

    def send_all(self, count: int) -> None:
        write, events = lib.broadcast_write, ffi.new("uint64_t[]", BATCH * WORDS)
        writer = self.writer(events, BATCH)
        numbers = np.frombuffer(ffi.buffer(events), dtype=np.uint64).reshape(BATCH, WORDS)
        numbers[:] = np.arange(BATCH)[:, None]
        for first in range(0, count, BATCH):
            if first % CHECK_EVERY == 0:
                self.wait_for_room(first, CHECK_EVERY)
            write(writer)
            numbers += BATCH

    def receive_all(self, count: int) -> Samples:
        read, progress, events = lib.broadcast_next, self.progress, ffi.new("uint64_t[]", DRAIN * WORDS)
        reader = self.reader(events, DRAIN)
        marks = [now()]
        received, mark_at = 0, count // PARTS
        while received < count:
            found = read(reader)
            if found == 0:
                continue
            assert events[0] == received
            received += found
            assert events[WORDS * found - 1] == received - 1
            progress[0] = received
            if received >= mark_at:
                marks.append(now())
                mark_at += count // PARTS
        return parts(marks, count)


class PurePythonRing(ArenaChannel):
    """The same memory, protocol and promises (whole payloads, laps seen), written and read by Python alone.

    Correct where stores become visible in order, as on x86-64; Python can ask for nothing else.
    """

    who = "pure Python ring"

    first_word = ffi.sizeof("broadcast_ring_t") // 8

    def __init__(self) -> None:
        super().__init__()
        size = ffi.sizeof("broadcast_ring_t") + SLOTS * ffi.sizeof("broadcast_slot_t")
        self.words = memoryview(ffi.buffer(self.ring, size)).cast("B").cast("Q")

    def sender(self) -> Callable[[int], object]:
        words, first_word = self.words, self.first_word
        payload = memoryview(bytearray(8 * WORDS)).cast("Q")
        position = 0

        def send(number: int) -> None:
            nonlocal position
            payload[0] = number
            at = first_word + (position & MASK) * 8
            position += 1
            words[at] = 1 << 63 | position
            words[at + 1 : at + 8] = payload
            words[at] = position
            words[1] = position

        return send

    def receiver(self) -> Callable[[], int]:
        words, first_word = self.words, self.first_word
        event = memoryview(bytearray(8 * WORDS)).cast("Q")
        position = 0

        def receive() -> int:
            nonlocal position
            at = first_word + (position & MASK) * 8
            sequence = words[at]
            if sequence != position + 1:
                assert sequence & ~(1 << 63) <= position + 1, "lapped"
                return -1
            event[:] = words[at + 1 : at + 8]
            position += 1
            assert words[at] == position, "lapped"
            return event[0]

        return receive

    def send_all(self, count: int) -> None:
        words, first_word = self.words, self.first_word
        payload = memoryview(bytearray(8 * WORDS)).cast("Q")
        for first in range(0, count, CHECK_EVERY):
            self.wait_for_room(first, CHECK_EVERY)
            for number in range(first, first + CHECK_EVERY):
                payload[0] = number
                at = first_word + (number & MASK) * 8
                words[at] = 1 << 63 | number + 1
                words[at + 1 : at + 8] = payload
                words[at] = number + 1
                words[1] = number + 1

    def receive_all(self, count: int) -> Samples:
        words, first_word, progress = self.words, self.first_word, self.progress
        event = memoryview(bytearray(8 * WORDS)).cast("Q")
        marks = []
        for first in range(0, count, CHECK_EVERY):
            if first % (count // PARTS) == 0:
                marks.append(now())
            for number in range(first, first + CHECK_EVERY):
                at = first_word + (number & MASK) * 8
                while (sequence := words[at]) != number + 1:
                    assert sequence & ~(1 << 63) <= number + 1, "lapped"
                event[:] = words[at + 1 : at + 8]
                assert words[at] == number + 1, "lapped"
                assert event[0] == number
            progress[0] = first + CHECK_EVERY
        return parts([*marks, now()], count)

    def receive_paced(self, count: int) -> Samples:
        words, first_word = self.words, self.first_word
        event = memoryview(bytearray(8 * WORDS)).cast("Q")
        samples = np.empty(count)
        for number in range(count):
            at = first_word + (number & MASK) * 8
            while (sequence := words[at]) != number + 1:
                assert sequence & ~(1 << 63) <= number + 1, "lapped"
            event[:] = words[at + 1 : at + 8]
            assert words[at] == number + 1, "lapped"
            samples[number] = now() - event[0]
        return samples


class YieldingRing(OurRing):
    """The receiver gives its core away between two looks."""

    who = "corequote, receiver yields"
    send_paced = Channel.send_paced
    receive_paced = Channel.receive_paced

    def receiver(self) -> Callable[[], int]:
        look, give_way = super().receiver(), os.sched_yield

        def receive() -> int:
            if (number := look()) < 0:
                give_way()
            return number

        return receive


class ParkedRing(OurRing):
    """The receiver sleeps on its bell, which the sender rings after each event."""

    who = "corequote, receiver parked"
    send_paced = Channel.send_paced
    receive_paced = Channel.receive_paced
    interval_ns = 200_000
    hops = 1_000

    def sender(self) -> Callable[[int], object]:
        send, ring_bell = super().sender(), lib.bell_ring
        row = self.arena.process(lib.PROCESS_QUOTER_FIRST)

        def send_and_ring(number: int) -> None:
            send(number)
            ring_bell(row, -1)

        return send_and_ring

    def receiver(self) -> Callable[[], int]:
        look, value, wait = super().receiver(), lib.bell_value, lib.bell_wait
        row = self.arena.process(lib.PROCESS_QUOTER_FIRST)

        def receive() -> int:
            seen = value(row)
            if (number := look()) < 0:
                wait(row, seen, 0, 1_000_000_000)
            return number

        return receive


class _Payload(ctypes.Structure):
    _fields_ = (("words", ctypes.c_uint64 * WORDS),)


class Iceoryx(Channel):
    """The Python package ``iceoryx2``: publish-subscribe, nothing lost, one sample per call."""

    who = "iceoryx2"
    messages = 1 << 14
    ahead_max = 512

    def __init__(self) -> None:
        super().__init__()
        self._name = f"corequote/perf/{os.getpid()}/{time.monotonic_ns()}"

    def _service(self) -> tuple[Any, Any]:
        import iceoryx2

        iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
        node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
        builder = node.service_builder(iceoryx2.ServiceName.new(self._name)).publish_subscribe(_Payload)
        service = builder.subscriber_max_buffer_size(1024).enable_safe_overflow(False).open_or_create()
        return node, service

    def _publisher(self) -> Any:
        """Once somebody subscribes."""
        import iceoryx2

        self._kept, service = self._service()  # a node that is dropped takes its ports along
        strategy = iceoryx2.BackpressureStrategy.RetryUntilDelivered
        publisher = service.publisher_builder().backpressure_strategy(strategy).create()
        deadline = time.monotonic() + DEADLINE_S
        while service.dynamic_config.number_of_subscribers == 0:
            assert time.monotonic() < deadline, "no subscriber came"
        publisher.update_connections()
        return publisher

    def sender(self) -> Callable[[int], object]:
        loan, payload = self._publisher().loan_uninit, _Payload()
        words = payload.words

        def send(number: int) -> None:
            words[0] = number
            loan().write_payload(payload).send()

        return send

    def send_paced(self) -> None:
        loan, payload, interval = self._publisher().loan_uninit, _Payload(), self.interval_ns
        words = payload.words
        due = now() + LEAD_NS
        for _ in range(self.hops):
            due += interval
            late = due + interval
            while (at := now()) < due:
                pass
            words[0] = at if at < late else due
            loan().write_payload(payload).send()

    def receiver(self) -> Callable[[], int]:
        node, service = self._service()
        subscriber = service.subscriber_builder().create()
        word = ctypes.c_uint64.from_address

        def receive() -> int:
            sample = subscriber.receive()
            if sample is None:
                return -1
            number: int = word(sample.payload_ptr).value
            sample.delete()
            return number

        self._kept = node
        return receive

    def receive_paced(self, count: int) -> Samples:
        node, service = self._service()
        receive = service.subscriber_builder().create().receive
        word = ctypes.c_uint64.from_address
        samples = np.empty(count)
        for i in range(count):
            while (sample := receive()) is None:
                pass
            samples[i] = now() - word(sample.payload_ptr).value
            sample.delete()
        del node
        return samples


class Pipe(Channel):
    """``multiprocessing.Pipe``: the kernel carries the bytes and wakes the receiver."""

    who = "multiprocessing.Pipe"
    messages = 1 << 14
    hops = 1_000
    interval_ns = 200_000

    def __init__(self) -> None:
        super().__init__()
        self._receiving: Connection
        self._sending: Connection
        self._receiving, self._sending = multiprocessing.Pipe(duplex=False)

    def sender(self) -> Callable[[int], object]:
        send_bytes = self._sending.send_bytes
        payload = bytearray(8 * WORDS)
        words = memoryview(payload).cast("Q")

        def send(number: int) -> None:
            words[0] = number
            send_bytes(payload)

        return send

    def receiver(self) -> Callable[[], int]:
        receive_bytes = self._receiving.recv_bytes
        return lambda: int.from_bytes(receive_bytes()[:8], sys.byteorder)


class Queue(Channel):
    """``multiprocessing.Queue``, with the same payload."""

    who = "multiprocessing.Queue"
    messages = 1 << 14
    hops = 1_000
    interval_ns = 300_000

    def __init__(self) -> None:
        super().__init__()
        self._queue: Any = multiprocessing.get_context("fork").Queue()

    def sender(self) -> Callable[[int], object]:
        put = self._queue.put
        rest = bytes(8 * (WORDS - 1))
        return lambda number: put(number.to_bytes(8, sys.byteorder) + rest)

    def receiver(self) -> Callable[[], int]:
        get = self._queue.get
        return lambda: int.from_bytes(get()[:8], sys.byteorder)

    def flush(self) -> None:
        self._queue.close()
        self._queue.join_thread()


@contextmanager
def receiving() -> Iterator[None]:
    """On the first core, and not for ever: TimeoutError when the window lasts longer than ``DEADLINE_S``."""

    def late(_number: int, _frame: object) -> None:
        raise TimeoutError(f"a window did not end within {DEADLINE_S} s")

    allowed = os.sched_getaffinity(0)
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE_S)
    os.sched_setaffinity(0, {cores()[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_child(channel: Channel, work: Callable[[], None]) -> int:
    """Forks a process that works on the second core and ends; returns its pid."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.sched_setaffinity(0, {cores()[1]})
            work()
            channel.flush()
            code = 0
        except BaseException as error:
            print(f"perf.ring: {error!r}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def reap(child: int) -> None:
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the other process failed"


def window(channel: Channel, send: Callable[[], None], receive: Callable[[], Samples]) -> Samples:
    """What is received here of what a child sends. TimeoutError when they do not come to an end."""
    child = in_child(channel, send)
    try:
        with receiving():
            samples = receive()
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    reap(child)
    return samples


def throughput(make: Callable[[], Channel]) -> Samples:
    """One run of messages, as fast as they go."""
    channel = make()
    count = channel.messages
    return window(channel, lambda: channel.send_all(count), lambda: channel.receive_all(count))


def latency(make: Callable[[], Channel]) -> Samples:
    """One-way times of messages that are sent at a fixed pace."""
    channel = make()
    return window(channel, channel.send_paced, lambda: channel.receive_paced(channel.hops))


def compiled(folder: Path) -> Path:
    """``ring_hop.c`` with the shipped flags."""
    program = folder / "ring_hop"
    sources = [ROOT / "perf" / "ring_hop.c", *(ROOT / "native" / name for name in ("ring.c", "system.c"))]
    flags = ["-O3", "-std=c11", "-UNDEBUG", "-fstack-protector-strong", "-pthread", f"-I{ROOT / 'native'}"]
    command = [os.environ.get("CC", "cc"), *flags, *map(str, sources), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def in_c(program: Path, kind: str, count: int) -> Samples:
    command = [str(program), kind, str(count), *(str(core) for core in cores())]
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=DEADLINE_S)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(str(error)) from None
    return np.frombuffer(run.stdout)


LINE: Final = "floor: one cache line between two threads, in C"
OURS_IN_C: Final = "corequote in C, one way"
BATCHED_IN_C: Final = "corequote in C, batched"


def measure() -> Report:
    """Run everything once."""
    notes: list[str] = []
    channels: list[type[Channel]] = [OurRing, PurePythonRing, Pipe, Queue]
    if find_spec("iceoryx2") is None:
        notes.append("iceoryx2 is not installed here: its rows and ratios are missing (perf/README.md)")
    else:
        channels.insert(1, Iceoryx)
    if len(set(cores())) == 1:
        notes.append("one core only: both processes share it, and nothing here says what the ring can do")
    with tempfile.TemporaryDirectory() as work:
        program = compiled(Path(work))
        contenders = [
            Contender(who=LINE, window=lambda: in_c(program, "line", HOPS)),
            Contender(who=OURS_IN_C, window=lambda: in_c(program, "ring", HOPS)),
            Contender(who=BATCHED_IN_C, window=lambda: in_c(program, "batched", BATCHED_EVENTS)),
        ]
        contenders += [
            Contender(who=f"{make.who}, one way", window=lambda make=make: latency(make))
            for make in (*channels, YieldingRing, ParkedRing)
        ]
        contenders += [
            Contender(who=f"{make.who}, per message", window=lambda make=make: throughput(make))
            for make in (*channels, OurRingBatched)
        ]
        rows, discarded = interleave(contenders)
    by_who: dict[str, Row] = {row.who: row for row in rows}

    def ratio(slower: str, faster: str) -> float | None:
        return by_who[slower].p50 / by_who[faster].p50 if slower in by_who else None

    return Report(
        name="ring",
        unit="ns",
        rows=rows,
        ratios={
            "p50_vs_iceoryx2": ratio("iceoryx2, one way", "corequote, one way"),
            "throughput_vs_iceoryx2": ratio("iceoryx2, per message", "corequote, per message"),
            "throughput_vs_pure_python": ratio("pure Python ring, per message", "corequote, per message"),
            "c_p50_vs_floor": ratio(OURS_IN_C, LINE),
            "batched_msgs_per_s": by_who["corequote, batched, per message"].throughput,
            "batched_msgs_per_s_in_c": by_who[BATCHED_IN_C].throughput,
        },
        discarded=discarded,
        machine=machine(),
        notes=notes,
    )


def main() -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(
        prog="python -m perf.ring", description="From one process to another through shared memory."
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    show(measure(), as_json=parser.parse_args().json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
