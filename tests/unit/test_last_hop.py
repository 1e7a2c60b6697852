"""The last hop on real sockets and a real journal: what leaves, what is written down, what is refused."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._native import ffi, lib
from engine.arena import Arena, cell
from engine.config import MarketConfig, market_json
from engine.events import Direction, LocalReject, OrderKind, Outcome, Scenario
from engine.quoting.inventory import Leg
from engine.workers.gateway_live import LiveOrder
from engine.workers.gateway_market import GatewayMarket
from engine.workers.intent_journal import IntentJournal, Sent, read_journal
from tests.reference import gateway_books as model
from tests.unit.books_rig import (
    BUY,
    MARKET_ID,
    NO,
    RULES,
    SELL,
    YES,
    live,
    new_arena,
    new_books,
    new_market,
    opened,
    record,
    sent,
    standing,
    untold,
)

PLACE_HEAD = b"POST /api/v1/orders HTTP/1.1\r\nContent-Length: "
REPLACE_HEAD = b"POST /api/v1/amm/orders/replace HTTP/1.1\r\nContent-Length: "
BID_TICKS, ASK_TICKS = 40, 60


class Hop:
    """A market that may trade, a journal, and connections whose other ends are here."""

    def __init__(
        self, run_dir: Path, connections: int = 4, reach: Callable[[int], None] | None = None
    ) -> None:
        self.arena = new_arena()
        self.market = new_market(self.arena)
        self.journal = IntentJournal(run_dir, fsync="off", fsync_interval_ms=50, segments_kept=1)
        self.pairs = [socket.socketpair() for _ in range(connections)]
        self.reader = ffi.new("hop_reader_t *")
        self._markets = ffi.new("market_books_t *[]", [self.market.books])
        self._fds = ffi.new("int32_t[]", [ours.fileno() for ours, _ in self.pairs])
        self._heads = ffi.from_buffer(PLACE_HEAD), ffi.from_buffer(REPLACE_HEAD)
        self._reach = ffi.NULL if reach is None else ffi.callback("void(int32_t)", reach)
        self.native = ffi.new(
            "last_hop_t *",
            {
                "markets": self._markets,
                "market_count": 1,
                "connections": self._fds,
                "connection_count": connections,
                "heads_until_mono_ns": (1 << 63) - 1,
                "place_head": self._heads[0],
                "place_head_bytes": len(PLACE_HEAD),
                "replace_head": self._heads[1],
                "replace_head_bytes": len(REPLACE_HEAD),
                "journal": self.journal.segment,
                "reach": self._reach,
            },
        )
        self.keep_fresh()

    def keep_fresh(self) -> None:
        """Signs of life of feed, quoter and reconciliation, and a foreign touch."""
        now, slot = lib.mono_now_ns(), self.arena.market(0)
        for row in (lib.PROCESS_INGEST, lib.PROCESS_QUOTER_FIRST):
            lib.cell_store(cell(self.arena.process(row), "heartbeat_mono_ns"), now)
        lib.cell_store(cell(slot.feed, "snapshot_mono_ns"), now)
        self.market.reconciled(now)
        top = {"valid": 1, "bid_ticks": BID_TICKS, "bid_lots": 9, "ask_ticks": ASK_TICKS, "ask_lots": 9}
        lib.top_write(cell(slot, "top"), ffi.new("top_t *", top))

    def read(self, *records: Any, worker: int = 0) -> Any:
        """The worker's reader with these records read and none looked at."""
        reader = self.reader
        reader.worker, reader.count, reader.end = worker, len(records), 0
        for index, each in enumerate(records):
            reader.records[index] = each[0]
        return reader

    def run(self, *records: Any, worker: int = 0) -> list[Any]:
        """Results of a burst."""
        reader = self.read(*records, worker=worker)
        lib.last_hop_run(self.native, reader, 1)
        assert reader.end == len(records)
        return [reader.results[index] for index in range(reader.end)]

    def lines(self) -> list[Sent]:
        return [line for line in read_journal(self.journal._directory.parent) if isinstance(line, Sent)]

    def close(self) -> None:
        self.journal.close()
        for pair in self.pairs:
            for end in pair:
                end.close()
        os.close(self.arena.fd)


@pytest.fixture
def hop(tmp_path: Path) -> Iterator[Hop]:
    made = Hop(tmp_path)
    yield made
    made.close()


def wanted(
    outcome: Outcome = YES, direction: Direction = SELL, price: int = 55, quantity: int = 10, **fields: Any
) -> Any:
    """A record that nothing objects to."""
    return record(
        outcome,
        direction,
        price,
        quantity,
        **{"decided_mono_ns": lib.mono_now_ns(), "basis_fair_cents": 50, **fields},
    )


def request(end: socket.socket) -> tuple[bytes, Any]:
    """(the request up to its body's length, the body) of one whole request."""
    raw = end.recv(65_536)
    head, body = raw.split(b"\r\n\r\n", 1)
    start, _, length = head.rpartition(b" ")
    assert int(length) == len(body)
    return start + b" ", msgspec.json.decode(body)


def test_an_order_leaves_as_the_contract_has_it_and_is_written_down_first(hop: Hop) -> None:
    (result,) = hop.run(wanted(NO, BUY, 45, 7, intent=12, worker_epoch=0))
    assert result.step == lib.HOP_SENT
    assert result.connection == hop.pairs[0][0].fileno()
    head, body = request(hop.pairs[0][1])
    order = hop.market.orders.opened(result.slot)
    assert head == PLACE_HEAD
    assert body == {
        "client_order_id": order.client_order_id,
        "market_id": MARKET_ID,
        "side": "NO",
        "direction": "BUY",
        "price_cents": 45,
        "quantity": 7,
        "time_in_force": "GTC",
    }
    assert hop.lines() == [
        Sent(
            at_ms=order.created_ms,
            op="place",
            market=MARKET_ID,
            id=order.client_order_id,
            side="NO",
            direction="BUY",
            price=45,
            quantity=7,
            intent=12,
        )
    ]
    assert result.written == result.head_bytes + result.tail_bytes


@pytest.mark.parametrize("venue_id", ["ord-1", 'o"\\\x01' + "é" * 20, "v" * 64])
def test_a_replace_names_the_old_order_whatever_the_venue_called_it(hop: Hop, venue_id: str) -> None:
    old = sent(hop.market, opened(hop.market, YES, SELL, 57, 10))
    hop.market.orders.acknowledge(old, venue_id)
    (result,) = hop.run(wanted(kind=OrderKind.REPLACE, live_slot=old.slot, target_order_id=venue_id.encode()))
    assert result.step == lib.HOP_SENT
    head, body = request(hop.pairs[0][1])
    new = hop.market.orders.opened(result.slot)
    assert head == REPLACE_HEAD
    assert (body["old_order_id"], body["new_order"]["client_order_id"]) == (venue_id, new.client_order_id)
    (line,) = hop.lines()
    assert (line.op, line.order, line.id) == ("replace", venue_id, new.client_order_id)
    assert new.replaces is old
    assert (old.state, old.busy) == (lib.LIVE_CANCELLING, True)


def test_each_order_of_a_burst_is_checked_against_the_one_before(hop: Hop) -> None:
    hop.market.account.set_position(yes_volume=25, yes_cost=0, no_volume=25, no_cost=0)
    results = hop.run(*(wanted(price=55 + step) for step in range(3)))
    assert [(each.step, each.code) for each in results] == [
        (lib.HOP_SENT, 0),
        (lib.HOP_SENT, 0),
        (lib.HOP_REFUSED, LocalReject.OVERSELL),
    ]
    assert len(hop.lines()) == 2
    assert hop.native.connections_used == 2, "what is refused uses no connection"
    row = hop.market.books.orders[results[2].slot].row
    assert row.state == lib.LIVE_FREE


def test_a_refused_replace_leaves_the_old_order_as_it_was(hop: Hop) -> None:
    old = live(hop.market, YES, SELL, 57, 10)
    target = {"live_slot": old.slot, "target_order_id": old.venue_order_id.encode()}
    (result,) = hop.run(wanted(price=99, kind=OrderKind.REPLACE, **target))
    assert (result.step, result.code) == (lib.HOP_REFUSED, LocalReject.COLLAR)
    own = hop.market.books.orders[old.slot]
    assert (own.row.state, own.busy) == (lib.LIVE_ACTIVE, 0)
    assert hop.run(wanted(kind=OrderKind.REPLACE, **target))[0].step == lib.HOP_SENT


def test_without_a_connection_an_order_waits_and_is_checked_when_it_goes(hop: Hop) -> None:
    hop.native.connection_count = 0
    (result,) = hop.run(wanted())
    assert (result.step, hop.lines()) == (lib.HOP_WAITS, [])
    order = hop.market.orders.opened(result.slot)
    hop.market.raise_kill(lib.KILL_ADMIN)
    assert lib.last_hop_pass(hop.native, hop.market.books, order.slot) == LocalReject.KILLED
    lib.cell_clear(hop.arena.kill_market(0), lib.KILL_ADMIN)
    assert lib.last_hop_pass(hop.native, hop.market.books, order.slot) == 0
    assert [line.id for line in hop.lines()] == [order.client_order_id]


@pytest.mark.parametrize(
    ("fields", "step", "code"),
    [
        ({"outcome": 2}, lib.HOP_SENSELESS, 0),
        ({"direction": 2}, lib.HOP_SENSELESS, 0),
        ({"quantity": -1}, lib.HOP_SENSELESS, 0),
        ({"quantity": 1 << 31}, lib.HOP_SENSELESS, 0),
        ({"quantity": 0}, lib.HOP_REFUSED, LocalReject.LIMIT),
        ({"price_cents": -(1 << 31)}, lib.HOP_REFUSED, LocalReject.PRICE_RANGE),
        ({"price_cents": (1 << 31) - 1, "direction": BUY}, lib.HOP_REFUSED, LocalReject.PRICE_RANGE),
        ({"price_cents": -(1 << 31), "outcome": NO}, lib.HOP_REFUSED, LocalReject.PRICE_RANGE),
        ({"decided_mono_ns": -(1 << 63)}, lib.HOP_REFUSED, LocalReject.NOT_READY),
        ({"decided_mono_ns": (1 << 63) - 1}, lib.HOP_REFUSED, LocalReject.NOT_READY),
        ({"market_slot": 1}, lib.HOP_FOREIGN, 0),
        ({"worker_epoch": 7}, lib.HOP_FENCED, 0),
        ({"decided_mono_ns": 1}, lib.HOP_REFUSED, LocalReject.NOT_READY),
        ({"basis_fair_cents": 0}, lib.HOP_REFUSED, LocalReject.COLLAR),
        ({"basis_gates": 1}, lib.HOP_REFUSED, LocalReject.GATED),
        ({"kind": OrderKind.REPLACE}, lib.HOP_REJECTED, LocalReject.UNKNOWN_ORDER),
        ({"kind": OrderKind.REPLACE, "live_slot": 0}, lib.HOP_REJECTED, LocalReject.UNKNOWN_ORDER),
        ({"kind": OrderKind.CANCEL}, lib.HOP_NO_ORDER, 0),
    ],
)
def test_what_does_not_leave(hop: Hop, fields: dict[str, Any], step: int, code: int) -> None:
    (result,) = hop.run(wanted(**fields))
    assert (result.step, result.code) == (step, code)
    assert hop.lines() == []
    assert not len(hop.market.orders)
    assert hop.market.books.sums.orders == 0


def test_another_workers_market_is_not_for_it(hop: Hop) -> None:
    assert hop.run(wanted(), worker=1)[0].step == lib.HOP_FOREIGN


@pytest.mark.parametrize(
    ("live_slot", "target", "busy", "code"),
    [
        (1, b"venue-1", False, LocalReject.UNKNOWN_ORDER),
        (0, b"venue-2", False, LocalReject.UNKNOWN_ORDER),
        (0, b"venue-1", True, LocalReject.NOT_READY),
        (0, b"", False, 0),  # announced before it was acknowledged: known by slot alone
        (0, b"venue-1", False, 0),
    ],
)
def test_which_order_a_replace_means(
    hop: Hop, live_slot: int, target: bytes, *, busy: bool, code: int
) -> None:
    old = live(hop.market, YES, SELL, 57, 10)
    hop.market.orders.set_state(old, lib.LIVE_ACTIVE, busy=busy)
    (result,) = hop.run(wanted(kind=OrderKind.REPLACE, live_slot=live_slot, target_order_id=target))
    assert (result.step, result.code) == (lib.HOP_REJECTED if code else lib.HOP_SENT, code)


def test_a_gateway_that_admits_nothing_gives_no_row(hop: Hop) -> None:
    hop.market.books.account.admitting = False
    (result,) = hop.run(wanted())
    assert (result.step, result.code) == (lib.HOP_REJECTED, LocalReject.NOT_READY)


def test_rows_run_out(hop: Hop) -> None:
    hop.native.connection_count = 0
    records = [wanted(quantity=1) for _ in range(lib.LIVE_ORDER_SLOTS)]
    assert {each.step for each in hop.run(*records)} == {lib.HOP_WAITS}
    (result,) = hop.run(wanted())
    assert (result.step, result.code) == (lib.HOP_REJECTED, LocalReject.LIMIT)


def test_a_burst_ends_at_what_is_no_order_and_passes_over_cancels(hop: Hop) -> None:
    reader = hop.read(wanted(), wanted(kind=OrderKind.CANCEL), wanted(kind=OrderKind.SYNC), wanted(price=56))
    lib.last_hop_run(hop.native, reader, 1)
    assert reader.end == 2
    assert [reader.results[i].step for i in range(2)] == [lib.HOP_SENT, lib.HOP_NO_ORDER]
    reader.end = 3
    lib.last_hop_run(hop.native, reader, 1)
    assert (reader.end, reader.results[3].step) == (4, lib.HOP_SENT)


def test_a_look_sends_what_has_a_connection_and_leaves_the_rest(hop: Hop) -> None:
    ring = hop.arena.order_ring(0)
    lib.message_acquire(ring, 1)
    hop.reader.ring = ring
    readers = ffi.new("hop_reader_t *[]", [hop.reader])

    def publish(*records: Any) -> None:
        for each in records:
            assert lib.message_publish(ring, lib.MESSAGE_RING_SLOTS, 1, each) == lib.RING_OK

    publish(*(wanted(price=55 + step) for step in range(3)))
    hop.native.connection_count = 2
    assert lib.last_hop_look(hop.native, readers, 1) == 3
    assert (hop.reader.end, hop.native.connections_used) == (2, 2)
    publish(wanted(price=58))
    assert lib.last_hop_look(hop.native, readers, 1) == 3, "what was read is to be taken up first"
    lib.last_hop_run(hop.native, hop.reader, 1)
    assert (hop.reader.end, hop.reader.results[2].step) == (3, lib.HOP_WAITS)
    lib.last_hop_release(hop.reader)
    hop.native.connections_used = 0
    publish(wanted(kind=OrderKind.CANCEL))
    assert lib.last_hop_look(hop.native, readers, 1) == 2
    assert (hop.reader.end, hop.native.connections_used) == (0, 0), "cancels go first"


def test_a_token_that_is_over_sends_nothing(hop: Hop) -> None:
    hop.native.heads_until_mono_ns = lib.mono_now_ns()
    assert hop.run(wanted())[0].step == lib.HOP_WAITS


def test_tokens_are_taken_by_what_leaves_and_by_nothing_else(hop: Hop) -> None:
    books = hop.market.books
    account, burst = books.account.order_tokens, books.order_tokens
    now = lib.mono_now_ns()
    before = lib.bucket_tokens(ffi.addressof(burst), now)
    hop.run(wanted(), wanted(price=99), wanted(price=56))
    assert before - lib.bucket_tokens(ffi.addressof(burst), now) == 2
    assert lib.bucket_tokens(ffi.addressof(account), now) == 200 - 2
    account.units = 20 * 60_000_000_000  # a tenth of 200 is kept for cancels
    assert hop.run(wanted(price=57))[0].code == LocalReject.RATE_LIMIT


def test_a_journal_that_cannot_be_written_lets_nothing_leave(hop: Hop) -> None:
    hop.run(wanted())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hop.journal.segment.bytes + 20, hard))
    try:
        (result,) = hop.run(wanted(price=56))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (result.step, result.code) == (lib.HOP_REFUSED, LocalReject.JOURNAL)
    assert hop.native.journal_error
    assert len(hop.lines()) == 1, "no half line"
    with pytest.raises(BlockingIOError):
        hop.pairs[1][1].recv(1, socket.MSG_DONTWAIT)


def test_what_the_socket_does_not_take_is_told(hop: Hop) -> None:
    ours, theirs = hop.pairs[0]
    ours.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(b"x" * 4_096)
    (result,) = hop.run(wanted())
    assert result.step == lib.HOP_SENT
    assert result.written < result.head_bytes + result.tail_bytes
    theirs.close()
    hop.native.connections_used = 0
    assert hop.run(wanted(price=56))[0].written == 0, "a broken one is the event loop's to find"


def test_the_places_of_a_crash_are_passed_in_order(tmp_path: Path) -> None:
    seen: list[int] = []
    hop = Hop(tmp_path, reach=seen.append)
    hop.run(wanted())
    assert seen == [
        lib.REACH_AFTER_TAKE,
        lib.REACH_AFTER_RISK,
        lib.REACH_AFTER_JOURNAL,
        lib.REACH_AFTER_SEND,
    ]
    seen.clear()
    hop.run(wanted(price=99))
    assert seen == [lib.REACH_AFTER_TAKE]
    hop.close()


# -- counts against the model


class Books:
    """A market's books and the model's, changed together."""

    def __init__(self) -> None:
        self.arena: Arena = new_arena()
        self.market: GatewayMarket = new_market(self.arena)
        self.pairs: dict[LiveOrder, model.Order] = {}
        self.trades = 0

    def open(self, outcome: Outcome, direction: Direction, price: int, quantity: int) -> LiveOrder | None:
        if len(self.market.orders) == lib.LIVE_ORDER_SLOTS:
            return None
        order = opened(self.market, outcome, direction, price, quantity)
        self.pairs[order] = model.Order(
            outcome=outcome, direction=direction, price_cents=price, quantity=quantity, remaining=quantity
        )
        return order

    def pick(self, number: int) -> tuple[LiveOrder, model.Order] | None:
        pairs = list(self.pairs.items())
        return pairs[number % len(pairs)] if pairs else None

    def change(self, what: str, number: int, terms: tuple[Outcome, Direction, int, int]) -> None:
        """Whatever it is, to both; what is not possible now is left out."""
        picked = self.pick(number)
        if what == "open":
            self.open(*terms)
        elif what == "pairs":
            self.market.pairs_under_way = number - 100
        elif picked is None:
            return
        else:
            getattr(self, what)(*picked, terms)

    def send(self, order: LiveOrder, twin: model.Order, _: Any) -> None:
        sent(self.market, order)
        twin.sent = True

    def acknowledge(self, order: LiveOrder, twin: model.Order, _: Any) -> None:
        if not twin.acknowledged:
            self.market.orders.acknowledge(order, f"venue-{order.number}")
            twin.acknowledged, twin.replaces, twin.state = True, None, int(lib.LIVE_ACTIVE)

    def lose(self, order: LiveOrder, twin: model.Order, _: Any) -> None:
        self.market.orders.set_state(order, lib.LIVE_UNKNOWN, busy=True)
        twin.state = int(lib.LIVE_UNKNOWN)

    def replace(self, order: LiveOrder, twin: model.Order, terms: Any) -> None:
        if not twin.acknowledged or order.busy:
            return
        new = self.open(*terms)
        if new is not None:
            own = self.market.books.orders[new.slot]
            own.replaces, own.replaces_slot = order.number, order.slot
            new.replaces, self.pairs[new].replaces = order, twin
            self.market.orders.set_state(order, lib.LIVE_CANCELLING, busy=True)
            twin.state = int(lib.LIVE_CANCELLING)

    def fill(self, order: LiveOrder, twin: model.Order, terms: Any) -> None:
        quantity = min(terms[3], twin.remaining)
        if not twin.acknowledged or not quantity:
            return
        self.trades += 1
        leg = Leg(
            trade_id=f"T{self.trades}",
            scenario=Scenario.TRANSFER_YES if order.outcome is YES else Scenario.TRANSFER_NO,
            book_side=order.side,
            price_cents=order.book_price_cents,
            quantity=quantity,
            fee_cents=0,
        )
        self.market.apply_leg(leg, order_id=order.venue_order_id, tell=untold)
        twin.remaining -= quantity

    def close(self, order: LiveOrder, twin: model.Order, _: Any) -> None:
        self.market.orders.close(order)
        del self.pairs[order]

    def compare(self) -> None:
        """Sums, and what each order of the market would be checked against."""
        twins, stock = list(self.pairs.values()), self.market.account.stock
        top = self.market.top()
        sums = self.market.books.sums
        expected = model.sums_of(twins, stock, taker_fee_bps=RULES.taker_fee_bps)
        assert {name: getattr(sums, name) for name in expected} == expected
        whole = self.market.books.account.sums
        assert {name: getattr(whole, name) for name in expected} == expected, "one market is all of them"
        for order, twin in self.pairs.items():
            counted = standing(self.market, order)
            wanted = model.standing_of(
                twins,
                twin,
                stock,
                pairs_under_way=self.market.pairs_under_way,
                taker_fee_bps=RULES.taker_fee_bps,
            )
            assert {name: getattr(counted, name) for name in wanted} == wanted
            touch = counted.foreign_bid_cents, counted.foreign_ask_cents
            assert touch == model.foreign_touch(twins, top)


TERMS = st.tuples(
    st.sampled_from(Outcome), st.sampled_from(Direction), st.sampled_from([40, 41, 59, 60]), st.integers(1, 9)
)
CHANGES = ("open", "open", "send", "acknowledge", "lose", "replace", "replace", "fill", "close", "pairs")


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 200), TERMS), max_size=60),
    lots=st.integers(0, 20),
)
def test_counts_and_model_agree_after_every_change(
    changes: list[tuple[str, int, tuple[Outcome, Direction, int, int]]], lots: int
) -> None:
    books = Books()
    top = {"valid": 1, "bid_ticks": 40, "bid_lots": lots, "ask_ticks": 60, "ask_lots": lots}
    lib.top_write(cell(books.arena.market(0), "top"), ffi.new("top_t *", top))
    try:
        for change in changes:
            books.change(*change)
            books.compare()
    finally:
        os.close(books.arena.fd)


def test_two_markets_share_limits_and_sums() -> None:
    arena = Arena.create(market_slots=2, worker_slots=1)
    for slot in range(2):
        arena.place_market(slot, market_id=f"M{slot}", worker=0, tick_count=101)
        arena.write_config(slot, 1, market_json(MarketConfig(id=f"M{slot}")))
    books = new_books(arena)
    markets = [GatewayMarket(books, arena, slot) for slot in range(2)]
    for market in markets:
        market.rules = RULES
        market.account.set_cash(1_000, cursor="", funded=True)
    live(markets[1], YES, BUY, 45, 10)
    found = standing(markets[0], opened(markets[0], YES, BUY, 40, 5))
    assert (found.engine_orders, found.other_frozen_cents, found.other_loss_cents) == (1, 451, 450)
    assert found.account_cents == 2_000
    assert found.engine_loss_limit_cents == sum(market.quote.budget_limit_cents for market in markets)
    books.unallocated_cents = None
    assert standing(markets[0], opened(markets[0], YES, BUY, 40, 5)).account_cents == 0
    os.close(arena.fd)
