"""The whole arena as frozen values: what ``corequote status``, the live view and the report read.

Everything here is a copy taken under the rows' own sequence locks, so a reader can make nobody wait and
works on a read-only mapping. A row whose writer died in the middle of it reads as None. Rows are copied
one after the other: each is consistent in itself, and two of them may be some microseconds apart.
"""

from __future__ import annotations

import functools
import time
from enum import Enum, Flag
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from engine import alerts
from engine._native import ffi, lib
from engine.alerts import AlertCount
from engine.arena import Arena, CData, cell, unpadded
from engine.config import MarketConfig, market_from_json
from engine.events import (
    DefenseLevel,
    Direction,
    Gate,
    GatewayCounter,
    Kill,
    KillCause,
    Lifecycle,
    MarketStatus,
    Outcome,
    Phase,
    ProcessState,
    WriterCounter,
)
from engine.quoting.defence import WidenSource
from engine.quoting.phases import PhaseChange
from engine.quoting.transitions import PhaseReason

_HISTOGRAM: Final = np.dtype(
    [
        ("count", np.uint64),
        ("sum_ns", np.uint64),
        ("max_ns", np.uint64),
        ("reserved", np.uint64),
        ("buckets", np.uint64, (lib.HISTOGRAM_BUCKETS,)),
    ]
)
assert _HISTOGRAM.itemsize == ffi.sizeof("histogram_t")

_COUNTERS: Final = {lib.PROCESS_GATEWAY: GatewayCounter, lib.PROCESS_WRITER: WriterCounter}


class Histogram(Struct, frozen=True, kw_only=True):
    """A latency histogram: times in ns. Percentiles are upper bounds of their bucket (3 % wide), never
    above ``max_ns``; None when nothing was recorded."""

    count: int
    mean: int | None
    p50: int | None
    p90: int | None
    p99: int | None
    p999: int | None
    max: int | None


class ProcessView(Struct, frozen=True, kw_only=True):
    """One row of the process table."""

    row: int
    name: str
    pid: int  # 0 = not running
    state: ProcessState
    epoch: int  # lives so far
    restarts: int
    planned_cpu: int | None  # core the supervisor pinned it to
    cpu: int | None  # core it says it last ran on
    heartbeat_age_ns: int | None  # None before the first beat
    pass_count: int
    work_count: int
    longest_pass_ns: int
    slow_pass_count: int  # passes longer than 10 ms
    pass_ns: Histogram
    counters: dict[str, int]  # by lower-case name (engine/events.py); empty for kinds without
    alerts: tuple[AlertCount, ...]  # those raised so far, by all lives of the process


class Top(Struct, frozen=True, kw_only=True):
    """The venue's book at a glance, as ingest sees it; ticks are cents, None = side empty."""

    bid_ticks: int | None
    ask_ticks: int | None
    bid_lots: int
    ask_lots: int
    generation: int
    valid: bool
    venue_sequence: int
    recv_mono_ns: int
    trade_count: int


class Feed(Struct, frozen=True, kw_only=True):
    """What the feed has brought for a market since the engine started."""

    messages: int
    levels: int
    snapshots: int
    trades: int
    sequence_gaps: int
    refused: int
    connects: int
    snapshot_mono_ns: int  # when the last snapshot came; 0 = none yet


class Account(Struct, frozen=True, kw_only=True):
    """The market's share of the account, as the gateway keeps it."""

    cash_cents: int  # incl. what own BUY orders freeze
    funded: bool
    status: MarketStatus
    fills: int
    budget_cents: int
    fees_cents: int
    cursor_trade_id: str


class LiveOrder(Struct, frozen=True, kw_only=True):
    """An order that is, or may be, live at the venue; price and direction in the user's view."""

    slot: int
    state: str
    outcome: Outcome
    direction: Direction
    price_cents: int
    quantity: int
    remaining: int
    frozen_cents: int
    created_ms: int
    intent: int
    worker_epoch: int
    venue_order_id: str
    client_order_id: str


class QuoterState(Struct, frozen=True, kw_only=True):
    """``quoter_state_t``, field by field (native/quoter_state.h says what each means)."""

    inventory_version: int
    yes_volume: int
    no_volume: int
    yes_available: int
    no_available: int
    yes_cost_sum_cents: int
    no_cost_sum_cents: int
    cash_cents: int
    frozen_cents: int
    updated_at_ms: int
    last_requote_ms: int
    daily_pnl_cents: int
    total_fills_today: int
    lvr_cooldown_until_ms: int
    day_start_assets_cents: int
    net_flows_cents: int
    kill_causes: KillCause
    fair_price_cents: int
    gates: Gate
    lifecycle: Lifecycle
    phase: Phase
    defense: DefenseLevel
    kill_switch: int
    market_status: MarketStatus
    book_valid: int
    recovering: int
    stopped: int
    anchor: float
    micro: float
    posterior: float
    weight_anchor: float
    weight_micro: float
    weight_posterior: float
    sigma: float
    gamma: float
    tau: float
    skew: float
    adjustment: float
    reservation: float
    multiplier: float
    half_spread_ask: float
    half_spread_bid: float
    touch_bid_cents: int
    touch_ask_cents: int
    best_bid_ticks: int
    best_ask_ticks: int
    foreign_bid_ticks: int
    foreign_ask_ticks: int
    own_bid_orders: int
    own_ask_orders: int
    target_unix_ms: int
    oracle_recv_mono_ns: int
    oracle_price_ticks: int
    oracle_last_ticks: int
    feed_latency_us: int
    sigma_trades: int
    target_bid_count: int
    target_ask_count: int
    target_bid_cents: tuple[int, ...]
    target_ask_cents: tuple[int, ...]
    target_bid_lots: tuple[int, ...]
    target_ask_lots: tuple[int, ...]
    generation: int
    venue_sequence: int
    book_digest: int
    ring_position: int
    config_version: int
    live_orders: int
    book_messages: int
    deltas: int
    trades: int
    laps: int
    lost_events: int
    generations: int
    quotes: int
    places: int
    replaces: int
    cancels: int
    rejects: int
    fills: int
    unknowns: int
    syncs: int
    started_at_ms: int
    first_quote_unix_ms: int
    gated_ns: tuple[int, ...]  # by bit of Gate
    ungated_ns: int
    target_in_range_ns: int
    phase_since_ms: int
    phase_volume: int
    rollback_until_ms: int
    phase_log: tuple[PhaseChange, ...]  # oldest first
    level_ns: tuple[int, ...]  # by DefenseLevel
    vpin: float
    size_scale: float
    discount_cents: int
    sides: int
    widen_sources: WidenSource
    calm_cycles: int
    one_side: int
    day: int
    start_assets_cents: int
    flows_cents: int
    spread_pnl_cents: int
    inventory_pnl_cents: int
    fees_paid_cents: int
    budget_used_cents: int
    corrections_cents: int
    mark_cents: int
    last_supply_ms: int
    command_number: int
    command_refused: KillCause


class MarketView(Struct, frozen=True, kw_only=True):
    """Everything the arena holds of one market."""

    slot: int
    market_id: str
    slot_epoch: int
    worker: int
    process_row: int  # of its quoter
    tick_count: int
    kill: Kill  # its own bits and the global ones
    config_version: int
    config: MarketConfig
    top: Top | None
    feed: Feed
    account: Account | None
    state: QuoterState | None  # None until its quoter has written one
    state_version: int
    state_worker_epoch: int
    state_mono_ns: int
    state_unix_ns: int
    orders: tuple[LiveOrder, ...]
    tick_to_quote_ns: Histogram


class Snapshot(Struct, frozen=True, kw_only=True):
    """The arena at one moment."""

    arena_epoch: int
    mono_ns: int
    unix_ns: int
    kill_global: Kill
    processes: tuple[ProcessView, ...]  # rows in use, ascending
    markets: tuple[MarketView, ...]  # slots in use, ascending

    def process(self, row: int) -> ProcessView | None:
        """The process of a row, or None when the row was never used."""
        return next((view for view in self.processes if view.row == row), None)

    def quoter_of(self, market: MarketView) -> ProcessView | None:
        return self.process(market.process_row)


@functools.cache
def _bucket_ends_ns() -> npt.NDArray[np.uint64]:
    """Largest time each bucket stands for; the last one is open and has none."""
    floors = [lib.histogram_bucket_floor_ns(bucket) for bucket in range(1, lib.HISTOGRAM_BUCKETS)]
    return np.array([*(floor - 1 for floor in floors), np.iinfo(np.uint64).max], dtype=np.uint64)


def histogram(pointer: CData) -> Histogram:
    """A ``histogram_t *`` as count, mean, percentiles and maximum."""
    copied = np.frombuffer(ffi.buffer(pointer), dtype=_HISTOGRAM)[0].copy()
    running = np.cumsum(copied["buckets"])
    count = int(running[-1])  # of the copied buckets: the count beside them may be a record ahead
    if count == 0:
        return Histogram(count=0, mean=None, p50=None, p90=None, p99=None, p999=None, max=None)
    largest = int(copied["max_ns"])

    def percentile(permille: int) -> int:
        rank = max(1, -(-count * permille // 1000))
        return min(int(_bucket_ends_ns()[np.searchsorted(running, rank)]), largest)

    return Histogram(
        count=count,
        mean=int(copied["sum_ns"]) // max(1, int(copied["count"])),
        p50=percentile(500),
        p90=percentile(900),
        p99=percentile(990),
        p999=percentile(999),
        max=largest,
    )


def _load(struct: CData, field: str) -> int:
    return int(lib.cell_load(cell(struct, field)))


def _core(stored: int) -> int | None:
    return stored - 1 if stored > 0 else None


def _process(arena: Arena, row: int, now_mono_ns: int) -> ProcessView | None:
    struct = arena.process(row)
    name = unpadded(struct.name)
    if not name:
        return None
    heartbeat = _load(struct, "heartbeat_mono_ns")
    return ProcessView(
        row=row,
        name=name,
        pid=_load(struct, "pid"),
        state=ProcessState(_load(struct, "state")),
        epoch=_load(struct, "epoch"),
        restarts=_load(struct, "restarts"),
        planned_cpu=_core(_load(struct, "planned_cpu")),
        cpu=_core(_load(struct, "cpu")),
        heartbeat_age_ns=max(0, now_mono_ns - heartbeat) if heartbeat else None,
        pass_count=_load(struct, "pass_count"),
        work_count=_load(struct, "work_count"),
        longest_pass_ns=_load(struct, "longest_pass_ns"),
        slow_pass_count=_load(struct, "slow_pass_count"),
        pass_ns=histogram(cell(struct, "pass_ns")),
        counters={
            counter.name.lower(): int(lib.cell_load(ffi.addressof(struct.counters[counter.value])))
            for counter in _COUNTERS.get(row, ())
        },
        alerts=alerts.counts(struct),
    )


def _top(slot: CData) -> Top | None:
    top = ffi.new("top_t *")
    if lib.top_read(cell(slot, "top"), top) != lib.RING_OK:
        return None
    return Top(
        bid_ticks=top.bid_ticks if top.bid_ticks >= 0 else None,
        ask_ticks=top.ask_ticks if top.ask_ticks >= 0 else None,
        bid_lots=top.bid_lots,
        ask_lots=top.ask_lots,
        generation=top.generation,
        valid=bool(top.valid),
        venue_sequence=top.venue_sequence,
        recv_mono_ns=top.recv_mono_ns,
        trade_count=top.trade_count,
    )


def _feed(slot: CData) -> Feed:
    feed = cell(slot, "feed")
    return Feed(**{field: _load(feed, field) for field in Feed.__struct_fields__})


def _account(slot: CData) -> Account | None:
    if _load(slot.account, "version") == 0:
        return None
    account = ffi.new("account_state_t *")
    if lib.account_read(cell(slot, "account"), account) != lib.RING_OK:
        return None
    return Account(
        cash_cents=account.cash_cents,
        funded=bool(account.funded),
        status=MarketStatus(account.status),
        fills=account.fills,
        budget_cents=account.budget_cents,
        fees_cents=account.fees_cents,
        cursor_trade_id=unpadded(account.cursor_trade_id),
    )


_LIVE_STATES: Final = {
    lib.LIVE_PENDING: "pending",
    lib.LIVE_ACTIVE: "active",
    lib.LIVE_UNKNOWN: "unknown",
    lib.LIVE_CANCELLING: "cancelling",
}


def live_orders(arena: Arena, slot: int) -> tuple[LiveOrder, ...]:
    """The orders of a market slot that are, or may be, live."""
    rows = arena.market(slot).live_orders
    order = ffi.new("live_order_t *")
    found = []
    for index in range(lib.LIVE_ORDER_SLOTS):
        if _load(rows[index], "version") == 0:
            continue
        if lib.live_order_read(ffi.addressof(rows[index]), order) != lib.RING_OK:
            continue
        if order.state == lib.LIVE_FREE:
            continue
        found.append(
            LiveOrder(
                slot=index,
                state=_LIVE_STATES.get(order.state, f"state {order.state}"),
                outcome=Outcome(order.outcome),
                direction=Direction(order.direction),
                price_cents=order.price_cents,
                quantity=order.quantity,
                remaining=order.remaining,
                frozen_cents=order.frozen_cents,
                created_ms=order.created_ms,
                intent=order.intent,
                worker_epoch=order.worker_epoch,
                venue_order_id=unpadded(order.venue_order_id),
                client_order_id=unpadded(order.client_order_id),
            )
        )
    return tuple(found)


def _phase_log(entries: CData) -> tuple[PhaseChange, ...]:
    return tuple(
        PhaseChange(
            from_phase=Phase(entry.from_phase),
            to_phase=Phase(entry.to_phase),
            reason=PhaseReason(entry.reason),
            timestamp_ms=entry.timestamp_ms,
        )
        for entry in entries
        if entry.timestamp_ms
    )


_ENUM_FIELDS: Final[dict[str, Any]] = {
    "gates": Gate,
    "lifecycle": Lifecycle,
    "phase": Phase,
    "defense": DefenseLevel,
    "market_status": MarketStatus,
    "kill_causes": KillCause,
    "command_refused": KillCause,
    "widen_sources": WidenSource,
    "target_bid_cents": tuple,
    "target_ask_cents": tuple,
    "target_bid_lots": tuple,
    "target_ask_lots": tuple,
    "gated_ns": tuple,
    "level_ns": tuple,
    "phase_log": _phase_log,
}


def quoter_state(payload: CData) -> QuoterState:
    """A copied ``quoter_state_t *`` as a value."""
    return QuoterState(
        **{
            field: _ENUM_FIELDS[field](getattr(payload, field))
            if field in _ENUM_FIELDS
            else getattr(payload, field)
            for field in QuoterState.__struct_fields__
        }
    )


def market_view(arena: Arena, slot: int) -> MarketView:
    """One used market slot, copied. Raises ArenaError when its config slot cannot be read."""
    struct = arena.market(slot)
    header = ffi.new("state_header_t *")
    payload = ffi.new("quoter_state_t *")
    code = lib.state_read(cell(struct, "state"), header, payload, ffi.sizeof("quoter_state_t"))
    has_state = code == lib.RING_OK and header.version > 0 and header.kind == lib.STATE_KIND_QUOTER
    config_version, config = arena.config_bytes(slot)
    worker = arena.market_worker(slot)
    return MarketView(
        slot=slot,
        market_id=arena.market_id(slot),
        slot_epoch=_load(struct.descriptor, "epoch"),
        worker=worker,
        process_row=lib.PROCESS_QUOTER_FIRST + worker,
        tick_count=_load(struct.descriptor, "tick_count"),
        kill=Kill(arena.killed(slot)),
        config_version=config_version,
        config=market_from_json(config),
        top=_top(struct),
        feed=_feed(struct),
        account=_account(struct),
        state=quoter_state(payload) if has_state else None,
        state_version=header.version if has_state else 0,
        state_worker_epoch=header.worker_epoch if has_state else 0,
        state_mono_ns=header.mono_ns if has_state else 0,
        state_unix_ns=header.unix_ns if has_state else 0,
        orders=live_orders(arena, slot),
        tick_to_quote_ns=histogram(cell(struct, "tick_to_quote_ns")),
    )


def take(arena: Arena) -> Snapshot:
    """Copies everything an arena holds. Raises ArenaError only when a config slot cannot be read."""
    now_mono_ns = time.monotonic_ns()
    views = (_process(arena, row, now_mono_ns) for row in range(arena.process_slots))
    return Snapshot(
        arena_epoch=arena.epoch,
        mono_ns=now_mono_ns,
        unix_ns=time.time_ns(),
        kill_global=Kill(lib.cell_load(arena.kill_global())),
        processes=tuple(view for view in views if view is not None),
        markets=tuple(market_view(arena, slot) for slot in arena.used_markets()),
    )


def book_messages_per_s(before: Snapshot, after: Snapshot, market_id: str) -> float:
    """Order-book frames per second of a market between two snapshots of one arena; 0 for equal times."""
    counts = [
        next((market.feed.messages for market in moment.markets if market.market_id == market_id), 0)
        for moment in (before, after)
    ]
    elapsed_ns = after.mono_ns - before.mono_ns
    return (counts[1] - counts[0]) * 1e9 / elapsed_ns if elapsed_ns > 0 else 0.0


def plain(value: object) -> object:
    """A view as what JSON can say: structs as objects, enums by name, sets of flags as lists of names."""
    if isinstance(value, Struct):
        return {field: plain(getattr(value, field)) for field in value.__struct_fields__}
    if isinstance(value, Flag):
        return [flag.name for flag in value]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
