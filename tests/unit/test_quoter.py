"""The quoter on real rings: the test plays ingest and gateway, one pass at a time on a clock of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from engine import config as configuration
from engine import crash_points
from engine._native import ffi, lib
from engine.alerts import Alert, counts
from engine.arena import Arena, cell, check, padded
from engine.events import (
    Direction,
    ExecutionKind,
    Gate,
    KillCause,
    Lifecycle,
    LocalReject,
    MarketStatus,
    News,
    OrderKind,
    Outcome,
    Scenario,
    Side,
)
from engine.quoting.orders import LiveOrder
from engine.workers.clock import Clock
from engine.workers.process import WorkerProcess
from engine.workers.quoter import Quoter

SLOT = 0
WORKER = 0
SECOND = 1_000_000_000
DAY_MS = 86_400_000
START_MS = 1_790_000_000_000
START_NS = 1_000 * SECOND


class Venue:
    """Ingest and gateway of one market, as the quoter sees them."""

    def __init__(self, tmp_path: Path, **quote: Any) -> None:
        """Unless ``quote`` says otherwise: straight into STABILIZATION, and single fills trip no lock."""
        self.arena = Arena.create(market_slots=2, worker_slots=1)
        quote = {"exploration": {"min_volume": 0}, "lvr_velocity_threshold": 0.5, **quote}
        oracle = {"oracle": quote.pop("oracle")} if "oracle" in quote else {}
        document = {"markets": [{"id": "MKT-A", "quote": quote, **oracle}]}
        market = configuration.parse(document, "test").markets[0]
        descriptor = self.arena.market(SLOT).descriptor
        ffi.memmove(descriptor.market_id, padded(market.id, lib.MARKET_ID_BYTES), lib.MARKET_ID_BYTES)
        lib.cell_store(cell(descriptor, "tick_count"), 101)
        lib.cell_store(cell(descriptor, "state"), lib.MARKET_SLOT_USED)
        self.arena.write_config(SLOT, 1, configuration.market_json(market))
        lib.cell_store(cell(self.arena.worker(WORKER), "epoch"), 7)
        self.book_ring = self.arena.book_ring(WORKER)
        self.execution_ring = self.arena.execution_ring(WORKER)
        self.order_ring = self.arena.order_ring(WORKER)
        check(lib.broadcast_acquire(self.book_ring, 1), "book ring")
        check(lib.message_acquire(self.execution_ring, 1), "execution ring")
        self.generation = 0
        self.sequence = 0
        self.mono_ns = START_NS
        self.quoter = self.start(tmp_path)

    def start(self, run_dir: Path) -> Quoter:
        row = lib.PROCESS_QUOTER_FIRST + WORKER
        lib.cell_store(cell(self.arena.process(row), "epoch"), 1)
        proc = WorkerProcess(
            run_dir=run_dir,
            arena=self.arena,
            config=configuration.parse({"markets": [{"id": "MKT-A"}]}, "test"),
            row_index=row,
            row_epoch=1,
            bells={},
            parent_pid=os.getppid(),
        )
        return Quoter(proc, self.clock)

    @property
    def clock(self) -> Clock:
        return Clock(mono_ns=self.mono_ns, unix_ms=START_MS + (self.mono_ns - START_NS) // 1_000_000)

    def run(self, seconds: float = 0.0) -> list[Any]:
        """Lets time pass, runs passes until nothing is left to do, returns the intents of that time."""
        self.mono_ns += int(seconds * SECOND)
        intents = []
        for _ in range(20):
            self.quoter.do_work(self.clock)
            new = self.take_intents()
            intents.extend(new)
            if not new:
                break
        return intents

    def take_intents(self) -> list[Any]:
        buffer = ffi.new("order_record_t[]", 64)
        count = lib.message_peek(self.order_ring, lib.MESSAGE_RING_SLOTS, buffer, 64)
        lib.message_release(self.order_ring, count)
        records = []
        for index in range(count):
            copy = ffi.new("order_record_t *")
            ffi.memmove(copy, buffer + index, ffi.sizeof("order_record_t"))
            records.append(copy)
        return records

    # -- ingest --

    def snapshot(self, bids: dict[int, int], asks: dict[int, int]) -> None:
        self.generation += 1
        self.sequence = 1
        levels = ffi.new("int64_t[]", 202)
        for price, size in bids.items():
            levels[price] = size
        for price, size in asks.items():
            levels[101 + price] = size
        header = ffi.new("image_header_t *")
        header.generation = self.generation
        header.ring_position = lib.broadcast_position(self.book_ring) + 1
        header.venue_sequence = 1
        header.tick_count = 101
        header.valid = 1
        check(lib.image_write(self.arena.market(SLOT).images, header, levels), "image")
        self._event(kind=lib.BOOK_LINK, status=lib.LINK_UP)
        self._event(kind=lib.BOOK_GENERATION, status=lib.GENERATION_VALID, detail=header.ring_position)

    def level(self, side: Side, price: int, size: int) -> None:
        self.sequence += 1
        self._event(kind=lib.BOOK_LEVEL, side=side, price_ticks=price, size_lots=size)

    def trade(self, price: int, size: int, aggressor: Side) -> None:
        self._event(kind=lib.BOOK_TRADE, side=aggressor, price_ticks=price, size_lots=size)

    def oracle(self, price: int | None) -> None:
        """The oracle's word; None = it failed."""
        if price is None:
            self._event(kind=lib.BOOK_ORACLE, status=lib.ORACLE_FAILED, price_ticks=lib.ORACLE_NO_PRICE)
        else:
            self._event(kind=lib.BOOK_ORACLE, status=lib.ORACLE_VALUE, price_ticks=price)

    def invalidate(self) -> None:
        self.generation += 1
        self._event(kind=lib.BOOK_GENERATION, status=lib.GENERATION_INVALID)

    def _event(self, **fields: int) -> None:
        event = ffi.new("book_event_t *", fields)
        event.market_slot = SLOT
        event.flags = lib.BOOK_EVENT_END
        event.generation = self.generation
        event.venue_sequence = self.sequence
        event.recv_mono_ns = self.mono_ns
        check(lib.broadcast_publish(self.book_ring, lib.BOOK_RING_SLOTS, 1, event, 1), "book ring")

    # -- gateway --

    def answer(self, kind: int, **fields: Any) -> None:
        record = ffi.new("execution_record_t *")
        record.kind = kind
        record.market_slot = SLOT
        record.worker_epoch = 7
        record.live_slot = 0xFFFF
        for name, value in fields.items():
            if name in ("venue_order_id", "trade_id"):
                ffi.memmove(getattr(record, name), padded(value, 64), 64)
            else:
                setattr(record, name, value)
        check(lib.message_publish(self.execution_ring, lib.MESSAGE_RING_SLOTS, 1, record), "execution ring")

    def sync(
        self, *, yes: int = 1_250, no: int = 1_250, cash: int = 250_000, live: Sequence[LiveOrder] = ()
    ) -> None:
        self.answer(ExecutionKind.SYNC_BEGIN)
        for order in live:
            self.answer(
                ExecutionKind.ORDER,
                outcome=order.outcome,
                direction=order.direction,
                price_cents=order.price_cents,
                quantity=order.quantity,
                remaining=order.remaining,
                live_slot=order.live_slot,
                venue_order_id=f"order-{order.live_slot}",
            )
        self.answer(
            ExecutionKind.POSITION,
            yes_volume=yes,
            no_volume=no,
            yes_cost_cents=yes * 50,
            no_cost_cents=no * 50,
        )
        self.answer(ExecutionKind.CASH, cash_cents=cash)
        rules = ffi.new("market_rules_record_t *")
        rules.kind = ExecutionKind.MARKET_RULES
        rules.market_slot = SLOT
        rules.status = MarketStatus.ACTIVE
        rules.min_price_cents, rules.max_price_cents = 1, 99
        rules.maker_fee_bps, rules.taker_fee_bps = 10, 20
        rules.order_quantity_max, rules.order_amount_max_cents = 10_000, 1_000_000
        rules.created_ms = START_MS - DAY_MS
        rules.trading_end_ms = rules.resolution_ms = START_MS + 29 * DAY_MS
        check(lib.message_publish(self.execution_ring, lib.MESSAGE_RING_SLOTS, 1, rules), "execution ring")
        self.answer(ExecutionKind.MARKET_STATUS, code=MarketStatus.ACTIVE)
        self.answer(ExecutionKind.SYNC_END)

    def acknowledge(self, intents: list[Any], first_slot: int = 0) -> None:
        """ACKs every PLACE and REPLACE (its old order CANCELLED before), CANCELLED for every CANCEL."""
        for index, intent in enumerate(intents):
            if intent.kind in (OrderKind.REPLACE, OrderKind.CANCEL):
                self.answer(ExecutionKind.CANCELLED, live_slot=intent.live_slot, intent=intent.intent)
            if intent.kind in (OrderKind.REPLACE, OrderKind.PLACE):
                self.answer(
                    ExecutionKind.ACKED,
                    live_slot=first_slot + index,
                    intent=intent.intent,
                    quantity=intent.quantity,
                    remaining=intent.quantity,
                    venue_order_id=f"order-{first_slot + index}",
                )


@pytest.fixture
def venue(tmp_path: Path) -> Venue:
    return Venue(tmp_path)


@pytest.fixture
def quoting(venue: Venue) -> Venue:
    """A market whose ladder is live and needs nothing."""
    intents = venue.run()
    assert [intent.kind for intent in intents] == [OrderKind.SYNC]
    venue.snapshot({45: 300, 44: 300}, {55: 300, 56: 300})
    venue.sync()
    placed = venue.run()
    venue.acknowledge(placed)
    assert venue.run(0.1) == []
    return venue


def market(venue: Venue) -> Any:
    return venue.quoter.markets[SLOT]


def test_nothing_is_sent_before_the_venue_has_spoken(venue: Venue) -> None:
    venue.snapshot({45: 100}, {55: 100})
    assert [intent.kind for intent in venue.run()] == [OrderKind.SYNC]
    assert venue.run(1.0) == []
    assert market(venue).gates & Gate.INVENTORY


def test_first_ladder_is_ex17_at_the_default_parameters(venue: Venue) -> None:
    venue.run()
    venue.snapshot({45: 300}, {55: 300})
    venue.sync()
    placed = venue.run()
    ladder = {
        Side.ASK: [(o.price_cents, o.quantity) for o in placed if o.outcome == Outcome.YES],
        Side.BID: [(100 - o.price_cents, o.quantity) for o in placed if o.outcome == Outcome.NO],
    }
    assert {intent.kind for intent in placed} == {OrderKind.PLACE}
    assert {intent.direction for intent in placed} == {Direction.SELL}  # inventory first
    # EX-17: 52x100,55x70,58x49,61x34,64x24 / 48x100,45x70,43x49,41x34,39x24
    assert ladder[Side.ASK] == [(52, 100), (55, 70), (58, 49), (61, 34), (64, 24)]
    assert ladder[Side.BID] == [(48, 100), (45, 70), (43, 49), (41, 34), (39, 24)]


def test_steady_state_sends_nothing_for_100_cycles(quoting: Venue) -> None:
    for _ in range(100):
        quoting.answer(ExecutionKind.MARKET_STATUS, code=MarketStatus.ACTIVE)
        assert quoting.run(1.0) == []


def _best_ask(venue: Venue) -> LiveOrder:
    return next(order for order in market(venue).live if order.book_price_cents == 52)


def _fill(venue: Venue, trade_id: str, quantity: int, **fields: int) -> None:
    """A sale of YES at 52."""
    venue.answer(
        ExecutionKind.FILL,
        trade_id=trade_id,
        scenario=Scenario.TRANSFER_YES,
        book_side=Side.ASK,
        price_cents=52,
        quantity=quantity,
        fee_cents=2,
        **fields,
    )


def test_a_fill_waits_out_the_delay_then_renews_the_level(quoting: Venue) -> None:
    best_ask = _best_ask(quoting)
    _fill(quoting, "t1", 30, live_slot=best_ask.live_slot)
    # r moved to 50.07, so the target's ask is 53 now: the rest of the order at 52 is too aggressive
    cancels = quoting.run()
    assert [(intent.kind, intent.live_slot) for intent in cancels] == [(OrderKind.CANCEL, best_ask.live_slot)]
    quoting.acknowledge(cancels)
    assert market(quoting).gates == Gate.POST_FILL
    assert market(quoting).stock.yes_volume == 1_220
    assert market(quoting).stock.cash_cents == 250_000 + 52 * 30 - 2
    assert quoting.run(2.4) == []
    renewed = quoting.run(0.2)
    assert OrderKind.PLACE in {intent.kind for intent in renewed}
    assert not market(quoting).gates


def test_the_same_fill_twice_counts_once(quoting: Venue) -> None:
    for _ in range(2):
        _fill(quoting, "t1", 30)
    quoting.run()
    assert market(quoting).stock.yes_volume == 1_220


def test_a_fill_left_for_a_predecessor_is_counted_by_the_position_not_twice(venue: Venue) -> None:
    _fill(venue, "t1", 30)
    assert [intent.kind for intent in venue.run()] == [OrderKind.SYNC]
    venue.snapshot({45: 300}, {55: 300})
    venue.sync(yes=1_220)
    venue.run()
    _fill(venue, "t1", 30)
    venue.run()
    assert market(venue).stock.yes_volume == 1_220


def test_a_fill_of_shares_we_do_not_have_asks_for_the_venues_word(quoting: Venue) -> None:
    _fill(quoting, "t1", 5_000)
    assert OrderKind.SYNC in {intent.kind for intent in quoting.run()}
    assert market(quoting).gates & Gate.INVENTORY
    assert market(quoting).stock.yes_volume == 1_250


def test_a_reconciliation_pulls_nothing_even_after_a_fill(quoting: Venue) -> None:
    """INVENTORY while a SYNC is under way holds back what is new; POST_FILL still cancels, and no more."""
    live, best_ask = list(market(quoting).live), _best_ask(quoting)
    quoting.answer(ExecutionKind.REJECTED, code=LocalReject.RECONCILE)
    assert [intent.kind for intent in quoting.run()] == [OrderKind.SYNC]
    _fill(quoting, "t1", 30, live_slot=best_ask.live_slot)
    (cancel,) = quoting.run(0.1)
    assert market(quoting).gates == Gate.INVENTORY | Gate.POST_FILL
    assert (cancel.kind, cancel.live_slot) == (OrderKind.CANCEL, best_ask.live_slot)
    # the venue's list was made before the cancel got there
    quoting.sync(yes=1_220, cash=250_000 + 52 * 30 - 2, live=live)
    assert quoting.run(0.1) == []
    assert market(quoting).gates == Gate.POST_FILL
    quoting.acknowledge([cancel])
    assert quoting.run(0.1) == []
    alerted = {count.name for count in counts(quoting.quoter.proc.row)}
    assert Alert.UNEXPECTED_CANCEL.name not in alerted, "it was asked for"
    assert len(market(quoting).live) == len(live) - 1


def test_a_list_that_nobody_asked_for_forgets_no_order_under_way(venue: Venue) -> None:
    """The gateway tells its books anew before it has taken what waits in the order ring."""
    venue.run()
    venue.snapshot({45: 300}, {55: 300})
    venue.sync()
    placed = venue.run()
    venue.sync()
    assert venue.run(0.1) == []
    venue.acknowledge(placed)
    assert venue.run(0.1) == []
    assert {order.live_slot for order in market(venue).live} == set(range(len(placed)))


def test_unknown_outcomes_on_both_sides_pull_everything(quoting: Venue) -> None:
    """§5.3 INVENTORY: nobody knows what is shown, so nothing is, until the venue has said it."""
    for _ in range(60):
        quoting.trade(60, 10, Side.BID)
    quoting.snapshot({59: 500, 58: 500, 57: 500}, {61: 500, 62: 500})
    replaced = [intent for intent in quoting.run(1.0) if intent.kind == OrderKind.REPLACE]
    by_side = {intent.outcome: intent for intent in replaced}
    assert set(by_side) == {Outcome.YES, Outcome.NO}
    quoting.answer(ExecutionKind.UNKNOWN, intent=by_side[Outcome.YES].intent)
    assert OrderKind.BATCH_CANCEL not in {intent.kind for intent in quoting.run()}, "one side is known"
    quoting.answer(ExecutionKind.UNKNOWN, intent=by_side[Outcome.NO].intent)
    assert [intent.kind for intent in quoting.run()] == [OrderKind.BATCH_CANCEL]
    assert market(quoting).gates == Gate.INVENTORY
    assert all(order.leaving for order in market(quoting).live)


def test_a_moved_price_replaces_orders_and_never_crosses_its_own(quoting: Venue) -> None:
    for _ in range(60):
        quoting.trade(60, 10, Side.BID)
    quoting.snapshot({59: 500, 58: 500, 57: 500}, {61: 500, 62: 500})
    before = list(market(quoting).live)
    intents = quoting.run(1.0)
    assert OrderKind.REPLACE in {intent.kind for intent in intents}
    highest_bid = max(order.book_price_cents for order in before if order.side == Side.BID)
    lowest_ask = min(order.book_price_cents for order in before if order.side == Side.ASK)
    for intent in intents:
        if intent.outcome == Outcome.YES and intent.direction == Direction.SELL:
            assert intent.price_cents > highest_bid
        if intent.outcome == Outcome.NO and intent.direction == Direction.SELL:
            assert 100 - intent.price_cents < lowest_ask


def _news(intent: Any) -> tuple[News, int, int]:
    return News(intent.trigger), int(intent.trigger_mono_ns), int(intent.waited)


def test_orders_say_what_news_they_are_the_first_answer_to(quoting: Venue) -> None:
    best_ask = _best_ask(quoting)
    told_ns = quoting.mono_ns - 1_000
    _fill(quoting, "t1", 30, live_slot=best_ask.live_slot, sent_mono_ns=told_ns)
    (cancel,) = quoting.run()
    filled_ns = quoting.mono_ns
    assert _news(cancel) == (News.FILL, told_ns, 0)
    assert cancel.decided_mono_ns == filled_ns
    assert cancel.chosen_mono_ns > 0
    quoting.acknowledge([cancel])
    renewed = quoting.run(2.6)
    delay_ns = market(quoting).config.quote.post_fill_delay_ms * 1_000_000
    # held until the delay was over, and the old decision was two and a half seconds ago
    assert {_news(intent) for intent in renewed} == {(News.RELEASE, filled_ns + delay_ns, 0)}
    quoting.acknowledge(renewed, first_slot=20)
    quoting.run(0.1)
    for _ in range(60):
        quoting.trade(60, 10, Side.BID)
    quoting.level(Side.BID, 46, 500)
    arrived_ns = quoting.mono_ns
    moved = quoting.run(0.003)
    assert moved
    assert {_news(intent) for intent in moved} == {(News.MESSAGE, arrived_ns, 0)}
    quoting.acknowledge(moved[:1], first_slot=40)
    assert {_news(intent)[0] for intent in quoting.run(0.1)} <= {News.NONE}, (
        "a further step of the same answer"
    )


def test_an_answer_that_a_pause_held_back_says_so(quoting: Venue) -> None:
    quoting.answer(ExecutionKind.REJECTED, intent=10_000, code=-4)
    quoting.run()
    for _ in range(60):
        quoting.trade(60, 10, Side.BID)
    arrived_ns = quoting.mono_ns
    assert quoting.run(0.01) == []
    late = quoting.run(0.5)
    assert late
    assert {_news(intent) for intent in late} == {(News.MESSAGE, arrived_ns, 1)}


def test_a_side_that_comes_back_into_the_limits_is_quoted_at_once(tmp_path: Path) -> None:
    venue = Venue(tmp_path, initial_price_cents=94, extreme_price_kill=1, extreme_price_halt=5)
    venue.run()
    venue.snapshot({91: 300, 90: 300}, {97: 300, 98: 300})
    venue.sync()
    placed = venue.run()
    venue.acknowledge(placed)
    assert {order.side for order in market(venue).live} == {Side.BID}  # the ask would be 96
    assert venue.run(0.1) == []
    market(venue).kernel.trades.posterior_cents = 88.0  # fair moves by one cent: below the 2 % that re-quote
    asks = [intent for intent in venue.run(1.0) if intent.outcome == Outcome.YES]
    assert [(intent.kind, intent.price_cents) for intent in asks] == [(OrderKind.PLACE, 95)]


def test_an_invalid_book_pulls_everything_once(quoting: Venue) -> None:
    quoting.invalidate()
    intents = quoting.run()
    assert [intent.kind for intent in intents] == [OrderKind.BATCH_CANCEL]
    assert market(quoting).gates & Gate.BOOK_STALE
    assert quoting.run(0.5) == []
    for order in list(market(quoting).live):
        quoting.answer(ExecutionKind.CANCELLED, live_slot=order.live_slot)
    assert quoting.run(2.0) == []
    quoting.snapshot({45: 300}, {55: 300})
    again = quoting.run()
    assert {intent.kind for intent in again} == {OrderKind.PLACE}


def test_a_kill_word_stops_new_orders_until_it_is_lowered(quoting: Venue) -> None:
    word = quoting.arena.kill_market(SLOT)
    lib.cell_or(word, lib.KILL_WORKER_DEAD)
    assert [intent.kind for intent in quoting.run(1.0)] == [OrderKind.BATCH_CANCEL]
    for order in list(market(quoting).live):
        quoting.answer(ExecutionKind.CANCELLED, live_slot=order.live_slot)
    assert quoting.run(5.0) == []
    lib.cell_clear(word, lib.KILL_WORKER_DEAD)
    assert {intent.kind for intent in quoting.run(1.0)} == {OrderKind.PLACE}


def test_a_refused_order_is_forgotten_and_planned_again(venue: Venue) -> None:
    venue.run()
    venue.snapshot({45: 300}, {55: 300})
    venue.sync()
    placed = venue.run()
    venue.acknowledge(placed[1:], first_slot=1)
    venue.answer(ExecutionKind.REJECTED, intent=placed[0].intent, code=lib.LOCAL_RATE_LIMIT)
    assert venue.run() == []
    again = venue.run(1.1)
    assert [(i.kind, i.price_cents, i.quantity) for i in again] == [
        (OrderKind.PLACE, placed[0].price_cents, placed[0].quantity)
    ]


def test_a_rate_limit_holds_orders_back_and_no_cancel(quoting: Venue) -> None:
    quoting.run(1.0)
    config = market(quoting).terms.config
    shorter = structs.replace(config.quote.stabilization, levels=3)
    changed = structs.replace(config, quote=structs.replace(config.quote, stabilization=shorter))
    quoting.arena.write_config(SLOT, 2, configuration.market_json(changed))
    quoting.run(0.5)
    quoting.answer(ExecutionKind.REJECTED, intent=999, code=lib.LOCAL_RATE_LIMIT)
    assert quoting.run() == []
    surplus = quoting.run(0.6)  # the configuration is taken up with the next cycle
    assert [intent.kind for intent in surplus] == [OrderKind.CANCEL] * 4


def test_answers_to_an_older_worker_are_ignored(quoting: Venue) -> None:
    live = len(market(quoting).live)
    quoting.answer(ExecutionKind.REJECTED, intent=1, code=2001, worker_epoch=6)
    assert quoting.run() == []
    assert len(market(quoting).live) == live


def test_a_new_gateway_is_asked_for_everything(quoting: Venue) -> None:
    lib.cell_store(cell(quoting.arena.process(lib.PROCESS_GATEWAY), "attached_epoch"), 2)
    assert [intent.kind for intent in quoting.run()] == [OrderKind.SYNC]
    quoting.sync(yes=1_000, no=1_100, cash=240_000)
    placed = quoting.run()
    assert {intent.kind for intent in placed} == {OrderKind.PLACE}
    assert market(quoting).stock.yes_volume == 1_000


def test_what_a_sync_lists_is_live_and_nothing_else_is(quoting: Venue) -> None:
    """Adopted as it is, and diffed like any other order (§8): nothing is placed twice, nothing is missing."""
    listed = list(market(quoting).live)
    market(quoting).reconcile()
    assert [intent.kind for intent in quoting.run(1.0)] == [OrderKind.SYNC]
    quoting.sync(live=listed)
    assert quoting.run(1.0) == []
    market(quoting).reconcile()
    assert [intent.kind for intent in quoting.run(1.0)] == [OrderKind.SYNC]
    surplus = structs.replace(listed[0], price_cents=70, live_slot=40)
    quoting.sync(live=[*listed[1:], surplus])
    (moved,) = quoting.run(1.0)
    assert (moved.kind, moved.live_slot, moved.price_cents) == (
        OrderKind.REPLACE,
        surplus.live_slot,
        listed[0].price_cents,
    )


def test_a_restarted_quoter_takes_over_baseline_and_counters(quoting: Venue, tmp_path: Path) -> None:
    quoting.run(1.0)
    before = market(quoting).row.counters
    baseline, started = before.day_start_assets_cents, before.started_at_ms
    assert baseline == 250_000 + 1_250 * 50 + 1_250 * 50
    lib.message_free_role(quoting.order_ring)
    lib.broadcast_free_role(quoting.arena.step_ring(WORKER))
    lib.cell_store(cell(quoting.arena.worker(WORKER), "epoch"), 8)
    quoting.quoter = quoting.start(tmp_path)
    after = market(quoting).row.counters
    assert (after.day_start_assets_cents, after.started_at_ms) == (baseline, started)
    assert after.book_messages == before.book_messages
    assert [intent.kind for intent in quoting.run()] == [OrderKind.SYNC]


def test_a_restarted_quoter_has_the_levels_that_came_after_the_image(quoting: Venue, tmp_path: Path) -> None:
    """The image is older than the ring's newest events; trades in between are its predecessor's."""
    quoting.level(Side.BID, 41, 777)
    quoting.trade(52, 10, Side.BID)
    quoting.run(0.1)
    before = market(quoting).kernel.native
    lib.message_free_role(quoting.order_ring)
    lib.broadcast_free_role(quoting.arena.step_ring(WORKER))
    quoting.quoter = quoting.start(tmp_path)
    native = market(quoting).kernel.native
    assert native.book_valid
    assert lib.orderbook_level(native.book, lib.ORDERBOOK_TOTAL, lib.ORDERBOOK_BID, 41) == 777
    counts = (native.trade_count, native.deltas, native.messages)
    assert counts == (before.trade_count, before.deltas, before.messages), "counted once"
    quoting.level(Side.BID, 41, 778)
    quoting.run(0.1)
    assert lib.orderbook_level(native.book, lib.ORDERBOOK_TOTAL, lib.ORDERBOOK_BID, 41) == 778
    assert native.deltas == before.deltas + 1


def test_a_second_quoter_on_the_slot_is_refused(quoting: Venue, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="order ring of worker 0: another process holds the producer role"):
        quoting.start(tmp_path)


def test_a_full_order_ring_is_an_emergency(quoting: Venue) -> None:
    blank = ffi.new("order_record_t *")
    token = quoting.quoter.proc.token
    while lib.message_space(quoting.order_ring, lib.MESSAGE_RING_SLOTS):
        lib.message_publish(quoting.order_ring, lib.MESSAGE_RING_SLOTS, token, blank)
    quoting.invalidate()
    quoting.quoter.do_work(quoting.clock)
    assert market(quoting).lifecycle.name == "EMERGENCY"
    assert quoting.arena.killed(SLOT) == lib.KILL_RISK


def test_lapped_by_the_feed_it_recovers_from_the_image(quoting: Venue) -> None:
    for _ in range(lib.BOOK_RING_SLOTS + 100):
        quoting.level(Side.BID, 44, 200)
    quoting.snapshot({46: 700}, {54: 900})
    quoting.run(0.1)
    assert quoting.quoter._cursor.laps == 1
    assert quoting.quoter._cursor.lost > 0
    book = market(quoting).kernel.book
    assert lib.orderbook_best(book, lib.ORDERBOOK_TOTAL, lib.ORDERBOOK_BID) == 46
    assert lib.orderbook_level(book, lib.ORDERBOOK_TOTAL, lib.ORDERBOOK_ASK, 54) == 900


def test_more_markets_than_the_accounts_rate_has_requests_still_start(tmp_path: Path) -> None:
    count = 250
    markets = configuration.parse({"markets": [{"id": f"MKT-{i}"} for i in range(count)]}, "test").markets
    arena = Arena.create(market_slots=count, worker_slots=1)
    for slot, market in enumerate(markets):
        arena.place_market(slot, market_id=market.id, worker=WORKER, tick_count=101)
        arena.write_config(slot, 1, configuration.market_json(market))
    row = lib.PROCESS_QUOTER_FIRST + WORKER
    proc = WorkerProcess(
        run_dir=tmp_path,
        arena=arena,
        config=configuration.parse(
            {"markets": [{"id": "MKT-0"}], "venue": {"order_rate_limit": count - 1}}, "test"
        ),
        row_index=row,
        row_epoch=0,
        bells={},
        parent_pid=os.getpid(),
    )
    quoter = Quoter(proc, Clock(mono_ns=START_NS, unix_ms=START_MS))
    assert len(quoter.markets) == count


@pytest.mark.parametrize(
    ("engine_wait", "wishes", "expected"),
    [
        ("park", [None, None], "park"),
        ("spin", [None, "park"], "spin"),
        ("spin", ["park", "park"], "park"),
        ("park", ["yield", None], "yield"),
        ("yield", ["park", "spin"], "spin"),
    ],
)
def test_a_process_waits_as_wakefully_as_any_of_its_markets_wants(
    tmp_path: Path, engine_wait: str, wishes: list[str | None], expected: str
) -> None:
    document = {
        "engine": {"wait": engine_wait},
        "markets": [
            {"id": f"MKT-{i}"} | ({} if wish is None else {"wait": wish}) for i, wish in enumerate(wishes)
        ],
    }
    config = configuration.parse(document, "test")
    arena = Arena.create(market_slots=len(wishes), worker_slots=1)
    for slot, market in enumerate(config.markets):
        arena.place_market(slot, market_id=market.id, worker=WORKER, tick_count=101)
        arena.write_config(slot, 1, configuration.market_json(market))
    proc = WorkerProcess(
        run_dir=tmp_path,
        arena=arena,
        config=config,
        row_index=lib.PROCESS_QUOTER_FIRST + WORKER,
        row_epoch=0,
        bells={},
        parent_pid=os.getpid(),
    )
    assert Quoter(proc, Clock(mono_ns=START_NS, unix_ms=START_MS)).strategy == expected


@pytest.mark.parametrize("tick_count", [51, 99, 1_001])
def test_an_image_of_another_grid_is_no_book_to_quote_on(quoting: Venue, tick_count: int) -> None:
    """A new generation on a grid that this market was not set up for: everything is pulled."""
    levels = ffi.new("int64_t[]", 2 * tick_count)
    header = ffi.new("image_header_t *", {"tick_count": tick_count, "valid": 1, "generation": 9})
    header.ring_position = lib.broadcast_position(quoting.book_ring) + 1
    check(lib.image_write(quoting.arena.market(SLOT).images, header, levels), "image")
    quoting.generation = 9
    quoting._event(kind=lib.BOOK_GENERATION, status=lib.GENERATION_VALID, detail=header.ring_position)
    intents = quoting.run()
    assert [intent.kind for intent in intents] == [OrderKind.BATCH_CANCEL]
    assert not quoting.quoter.markets[SLOT].kernel.native.book_valid


def test_a_full_order_ring_is_an_emergency_and_what_was_sent_stands(venue: Venue) -> None:
    """Two records fit: two orders may be live, and no more are counted than were sent."""
    venue.run()
    venue.snapshot({45: 300}, {55: 300})
    venue.sync()
    filler = ffi.new("order_record_t *")
    token = venue.quoter.proc.token
    for _ in range(lib.message_space(venue.order_ring, lib.MESSAGE_RING_SLOTS) - 2):
        check(lib.message_publish(venue.order_ring, lib.MESSAGE_RING_SLOTS, token, filler), "order ring")
    venue.quoter.do_work(venue.clock)
    owner = market(venue)
    assert owner.lifecycle == Lifecycle.EMERGENCY
    assert [(order.busy, order.book_price_cents) for order in owner.live] == [(True, 52), (True, 48)]
    assert owner.row.counters.places == 2
    assert owner.policy.kills.causes == KillCause.GATEWAY_STUCK


def test_a_crash_point_is_passed_before_and_after_each_order(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue.run()
    venue.snapshot({45: 300}, {55: 300})
    venue.sync()
    passed: list[tuple[str, int]] = []

    def reach(name: str) -> None:
        passed.append((name, lib.message_published(venue.order_ring)))

    monkeypatch.setattr(crash_points, "armed", True)
    monkeypatch.setattr(crash_points, "reach", reach)
    published = lib.message_published(venue.order_ring)
    sent = len(venue.run())
    assert sent == 10
    assert [point for point in passed if point[0].endswith("_emit")] == [
        (name, published + count)
        for number in range(sent)
        for name, count in (("quoter.before_emit", number), ("quoter.after_emit", number + 1))
    ]
