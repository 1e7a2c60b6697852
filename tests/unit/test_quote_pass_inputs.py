"""What one pass keeps of trades, of the oracle and of the feed's lateness, on a real ring."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from engine._native import ffi, lib
from engine.arena import Arena, check
from engine.events import Side
from engine.workers.clock import Clock
from engine.workers.market_kernel import MarketKernel
from tests.property.test_trade_tape import listed

SLOT = 0
NONE = lib.ORACLE_NO_PRICE
MS = 1_000_000
UNIX_MS = 1_790_000_000_000


class Rig:
    """One market's kernel on a book ring that the test writes."""

    def __init__(self) -> None:
        self.arena = Arena.create(market_slots=2, worker_slots=1)
        self.ring = self.arena.book_ring(0)
        check(lib.broadcast_acquire(self.ring, 1), "book ring")
        self.join()

    def join(self) -> None:
        """A quoter that starts: as engine.workers.quoter does."""
        self.kernel = MarketKernel(self.arena.market(SLOT))
        self._natives = ffi.new("quote_market_t *[]", [self.kernel.native, ffi.NULL])
        self._news = ffi.new("uint16_t[]", 2)
        self.worker = ffi.new("quote_worker_t *")
        self.worker.ring = self.ring
        self.worker.markets = self._natives
        self.worker.news_slots = self._news
        self.worker.market_count = 2
        lib.quote_join(self.worker, 1)

    def publish(self, kind: int, **fields: int) -> None:
        event = ffi.new("book_event_t *", {"kind": kind, "flags": lib.BOOK_EVENT_END, **fields})
        check(lib.broadcast_publish(self.ring, lib.BOOK_RING_SLOTS, 1, event, 1), "book ring")

    def oracle(self, status: int, price: int = 0, *, venue_ms: int = UNIX_MS, recv: int = 7) -> None:
        self.publish(
            lib.BOOK_ORACLE,
            status=status,
            price_ticks=price,
            venue_unix_ns=venue_ms * MS,
            recv_mono_ns=recv,
        )

    def run(self, unix_ms: int = UNIX_MS) -> int:
        """One pass; the market's news, which are then taken."""
        lib.quote_pass(self.worker, unix_ms)
        news = int(self.kernel.native.news)
        self.kernel.native.news = 0
        return news

    @property
    def said(self) -> Any:
        return self.kernel.oracle


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_market_trades_are_on_the_tape_with_the_time_of_the_pass(rig: Rig) -> None:
    rig.publish(lib.BOOK_TRADE, price_ticks=51, side=Side.BID, size_lots=30)
    assert rig.run(UNIX_MS) & lib.PASS_TRADE
    rig.publish(lib.BOOK_TRADE, price_ticks=49, side=Side.ASK, size_lots=5)
    rig.run(UNIX_MS + 250)
    tape = rig.kernel.tape
    assert listed(tape) == [
        (UNIX_MS, 30, 51, Side.BID),
        (UNIX_MS + 250, 5, 49, Side.ASK),
    ]
    assert tape.window(since_ms=UNIX_MS + 1).trades == 1
    assert (tape.window().lots, tape.window().sell_lots) == (35, 5)


def test_an_oracle_that_has_said_nothing_has_no_value(rig: Rig) -> None:
    assert (rig.said.price_ticks, rig.said.last_ticks, rig.said.previous_ticks) == (NONE, NONE, NONE)
    rig.oracle(lib.ORACLE_FAILED)
    assert rig.run() == lib.PASS_ORACLE
    assert (rig.said.price_ticks, rig.said.last_ticks) == (NONE, NONE)
    assert (rig.said.updates, rig.said.failures) == (0, 1)


def test_a_value_its_times_and_the_one_before(rig: Rig) -> None:
    rig.oracle(lib.ORACLE_VALUE, 60, venue_ms=UNIX_MS, recv=100)
    assert rig.run() == lib.PASS_ORACLE
    rig.oracle(lib.ORACLE_VALUE, 66, venue_ms=UNIX_MS + 900, recv=200)
    rig.oracle(lib.ORACLE_VALUE, 66, venue_ms=UNIX_MS + 1_900, recv=300)  # confirmed, not moved
    rig.run()
    assert (rig.said.price_ticks, rig.said.last_ticks, rig.said.previous_ticks) == (66, 66, 60)
    assert (rig.said.unix_ms, rig.said.recv_mono_ns) == (UNIX_MS + 1_900, 300)
    assert (rig.said.updates, rig.said.failures) == (3, 0)


def test_a_jump_there_and_back_within_one_pass_is_not_lost(rig: Rig) -> None:
    for price in (50, 57, 49):
        rig.oracle(lib.ORACLE_VALUE, price)
    rig.run()
    assert (rig.said.rise_ticks, rig.said.fall_ticks) == (7, 8)
    rig.said.rise_ticks = rig.said.fall_ticks = 0
    rig.oracle(lib.ORACLE_VALUE, 49)
    rig.run()
    assert (rig.said.rise_ticks, rig.said.fall_ticks) == (0, 0)


def test_a_failure_is_no_value_and_a_gap_across_it_is_seen(rig: Rig) -> None:
    rig.oracle(lib.ORACLE_VALUE, 50, recv=100)
    rig.oracle(lib.ORACLE_FAILED, recv=200)
    rig.run()
    assert (rig.said.price_ticks, rig.said.last_ticks, rig.said.recv_mono_ns) == (NONE, 50, 100)
    rig.oracle(lib.ORACLE_VALUE, 58, recv=300)
    rig.run()
    assert (rig.said.price_ticks, rig.said.previous_ticks, rig.said.rise_ticks) == (58, 50, 8)


def test_a_withdrawn_value_was_never_there(rig: Rig) -> None:
    rig.oracle(lib.ORACLE_VALUE, 50)
    rig.oracle(lib.ORACLE_WITHDRAWN)
    rig.oracle(lib.ORACLE_VALUE, 70)
    rig.run()
    assert (rig.said.price_ticks, rig.said.previous_ticks, rig.said.rise_ticks) == (70, NONE, 0)


@pytest.mark.parametrize("price", [0, -1, 101, 50_000])
def test_a_price_that_is_none_is_no_value(rig: Rig, price: int) -> None:
    rig.oracle(lib.ORACLE_VALUE, price)
    rig.run()
    assert (rig.said.price_ticks, rig.said.updates, rig.said.failures) == (NONE, 0, 1)


def test_a_quoter_that_starts_finds_what_the_oracle_said(rig: Rig) -> None:
    rig.oracle(lib.ORACLE_VALUE, 61, recv=100)
    rig.publish(lib.BOOK_TRADE, price_ticks=51, side=Side.BID, size_lots=30)
    rig.join()
    assert (rig.said.price_ticks, rig.said.recv_mono_ns) == (61, 100)
    assert rig.kernel.tape.count == 0  # trades of another life were counted by it


def test_the_oracle_says_nothing_of_our_own_feed(rig: Rig) -> None:
    native = rig.kernel.native
    before = (native.messages, native.link_mono_ns, native.trigger_recv_ns, native.delay.count)
    rig.oracle(lib.ORACLE_VALUE, 61, recv=10**9)
    rig.run()
    assert (native.messages, native.link_mono_ns, native.trigger_recv_ns, native.delay.count) == before


def test_lateness_is_the_median_of_the_last_twenty_messages(rig: Rig) -> None:
    clock = Clock(mono_ns=500 * MS, unix_ms=UNIX_MS)  # Unix time at monotonic 0 is UNIX_MS - 500
    late_ms = [*range(900, 1_000), 300, 5, 40, 10, 70, *range(90, 105)]
    for number, late in enumerate(late_ms):
        assert (rig.kernel.feed_latency_ms(clock) is None) == (number < 20)
        arrived_ms = 100 + number
        rig.publish(
            lib.BOOK_TRADE,
            price_ticks=50,
            side=Side.BID,
            size_lots=1,
            recv_mono_ns=arrived_ms * MS,
            venue_unix_ns=(UNIX_MS - 500 + arrived_ms - late) * MS,
        )
        rig.run()
    assert rig.kernel.feed_latency_ms(clock) == statistics.median_low(late_ms[-20:])


@pytest.mark.parametrize("venue_unix_ns", [0, -1, 1 << 62, (1 << 63) - 1])
def test_a_message_without_a_venue_time_says_nothing_of_lateness(rig: Rig, venue_unix_ns: int) -> None:
    rig.publish(lib.BOOK_TRADE, price_ticks=50, side=Side.BID, size_lots=1, venue_unix_ns=venue_unix_ns)
    rig.run()
    assert rig.kernel.native.delay.count == 0
