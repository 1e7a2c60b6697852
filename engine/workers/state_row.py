"""A quoted market's state row: taken over from a predecessor at start, published after every decision.

Writes: the state row of one market slot.
"""

from __future__ import annotations

from typing import Any

from engine._native import ffi, lib
from engine.arena import check
from engine.events import DefenseLevel, Gate, Lifecycle, MarketStatus, Side
from engine.quoting.inventory import Frozen, Stock
from engine.workers.clock import Clock
from engine.workers.market_kernel import MarketKernel
from engine.workers.own_orders import OwnOrders


class StateRow:
    """``counters`` is the ``quoter_state_t`` itself: the owner counts in it between two publications."""

    def __init__(
        self,
        *,
        row: Any,
        worker_epoch: int,
        initial_price_cents: int,
        kernel: MarketKernel,
        clock: Clock,
    ) -> None:
        self._row = row
        self._worker_epoch = worker_epoch
        self._kernel = kernel
        self.counters: Any = ffi.new("quoter_state_t *")
        self._gates_since_ns = clock.mono_ns
        self._judged: tuple[Gate, DefenseLevel, Clock] | None = None  # the look since the last publication
        self._take_over(initial_price_cents, clock)

    def _take_over(self, initial_price_cents: int, clock: Clock) -> None:
        """Starting is recovering (§8): baseline, counters, posterior and start time of a predecessor.

        Stock and orders are not among it: those come from the venue.
        """
        header = ffi.new("state_header_t *")
        state = self.counters
        code = lib.state_read(self._row, header, state, ffi.sizeof("quoter_state_t"))
        if code != lib.RING_OK or header.kind != lib.STATE_KIND_QUOTER:
            ffi.memmove(state, bytes(ffi.sizeof("quoter_state_t")), ffi.sizeof("quoter_state_t"))
            state.started_at_ms = clock.unix_ms
        native = self._kernel.native
        native.messages, native.deltas = state.book_messages, state.deltas
        native.trade_count, native.generations = state.trades, state.generations
        state.syncs = 0
        lib.quote_trades_init(self._kernel.trades, state.posterior or float(initial_price_cents))

    @property
    def started_at_ms(self) -> int:
        """The market's first start: a restart does not re-arm the anchor (§3.1)."""
        return int(self.counters.started_at_ms)

    def first_quote(self, clock: Clock) -> None:
        if not self.counters.first_quote_unix_ms:
            self.counters.first_quote_unix_ms = clock.unix_ms

    def cycle_ended(self, clock: Clock) -> None:
        """§2.4: set at the end of every quote cycle, changed or not."""
        self.counters.last_requote_ms = clock.unix_ms

    def looked(self, held: Gate, level: DefenseLevel, clock: Clock) -> None:
        """Policy is looked at anew; ``held`` and ``level`` are what held since it last was. Accounted for
        with the next publication: no order has to wait for it."""
        self._judged = held, level, clock

    def _account_time(self) -> None:
        """Adds the time between two looks to the gates and the level that held during it (from the first
        quote on)."""
        if self._judged is None:
            return
        state, (held, level, clock) = self.counters, self._judged
        elapsed_ns = clock.mono_ns - self._gates_since_ns
        self._judged, self._gates_since_ns = None, clock.mono_ns
        if not state.first_quote_unix_ms:
            return
        state.level_ns[level] += elapsed_ns
        if not held:
            state.ungated_ns += elapsed_ns
            return
        bits = int(held)
        for index in range(lib.GATE_COUNT):
            if bits & (1 << index):
                state.gated_ns[index] += elapsed_ns

    def publish(
        self,
        clock: Clock,
        cursor: Any,
        *,
        stock: Stock,
        frozen: Frozen,
        orders: OwnOrders,
        lifecycle: Lifecycle,
        status: MarketStatus,
        gates: Gate,
        synced: bool,
    ) -> None:
        state = self.counters
        self._account_time()
        self._fill_stock(stock, frozen)
        self._fill_decision(clock)
        self._fill_book(cursor)
        state.updated_at_ms = clock.unix_ms
        state.gates = int(gates)
        state.lifecycle = lifecycle
        state.market_status = status
        state.recovering = not synced
        state.own_bid_orders = orders.resting(Side.BID)
        state.own_ask_orders = orders.resting(Side.ASK)
        state.live_orders = len(orders)
        code = lib.state_write(
            self._row,
            lib.STATE_KIND_QUOTER,
            self._worker_epoch,
            clock.mono_ns,
            clock.unix_ms * 1_000_000,
            state,
            ffi.sizeof("quoter_state_t"),
        )
        check(code, "state row")

    def _fill_stock(self, stock: Stock, frozen: Frozen) -> None:
        state = self.counters
        state.yes_volume = stock.yes_volume
        state.no_volume = stock.no_volume
        state.yes_available = stock.yes_volume - frozen.yes_volume
        state.no_available = stock.no_volume - frozen.no_volume
        state.yes_cost_sum_cents = stock.yes_cost_sum_cents
        state.no_cost_sum_cents = stock.no_cost_sum_cents
        state.cash_cents = stock.cash_cents - frozen.cash_cents
        state.frozen_cents = frozen.cash_cents

    def _fill_decision(self, clock: Clock) -> None:
        state, kernel, fair = self.counters, self._kernel, self._kernel.fair
        state.fair_price_cents = fair.fair_price_cents
        state.anchor, state.micro = fair.anchor_cents, fair.micro_cents
        state.posterior = kernel.trades.posterior_cents
        state.weight_anchor, state.weight_micro = fair.anchor_weight, fair.micro_weight
        state.weight_posterior = fair.posterior_weight
        state.sigma, state.gamma, state.tau = fair.sigma_cents, kernel.gamma, fair.tau
        state.skew = fair.inventory_skew
        state.adjustment, state.reservation = fair.adjustment_cents, fair.reservation_cents
        state.multiplier = kernel.inputs.spread_multiplier
        state.half_spread_ask = fair.half_spread_ask_cents
        state.half_spread_bid = fair.half_spread_bid_cents
        state.touch_bid_cents = kernel.touch_bid_cents
        state.touch_ask_cents = kernel.touch_ask_cents
        state.target_unix_ms = kernel.inputs.now_ms
        kernel.describe(state, clock)

    def _fill_book(self, cursor: Any) -> None:
        state, native, book = self.counters, self._kernel.native, self._kernel.book
        bid, ask = lib.ORDERBOOK_BID, lib.ORDERBOOK_ASK
        state.best_bid_ticks = lib.orderbook_best(book, lib.ORDERBOOK_TOTAL, bid)
        state.best_ask_ticks = lib.orderbook_best(book, lib.ORDERBOOK_TOTAL, ask)
        state.foreign_bid_ticks = lib.orderbook_best(book, lib.ORDERBOOK_FOREIGN, bid)
        state.foreign_ask_ticks = lib.orderbook_best(book, lib.ORDERBOOK_FOREIGN, ask)
        state.book_valid = native.book_valid
        state.generation = native.generation
        state.venue_sequence = native.venue_sequence
        state.book_digest = lib.orderbook_digest(book)
        state.ring_position = cursor.position
        state.laps, state.lost_events = cursor.laps, cursor.lost
        state.book_messages, state.deltas = native.messages, native.deltas
        state.trades, state.generations = native.trade_count, native.generations
