"""One market as its quoter carries it: book memory, stock, live orders, gates, and what to do next.

Everything that changes it arrives through two doors: :meth:`QuotedMarket.on_execution` (what the gateway
says) and :meth:`QuotedMarket.decide` (what the book and the clock say). It sends intents through the one
function it is given, and publishes itself through :meth:`QuotedMarket.publish`.

Reads: its market slot's config, images and kill word.  Writes: its state row, order intents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import structlog
from msgspec import Struct

from engine._native import ffi, lib
from engine.arena import Arena, check
from engine.config import MarketConfig
from engine.events import (
    DefenseLevel,
    Direction,
    ExecutionKind,
    Gate,
    Lifecycle,
    LocalReject,
    MarketStatus,
    OrderKind,
    Outcome,
    Phase,
    Scenario,
    Side,
)
from engine.quoting import horizon
from engine.quoting.funding import DesiredOrder, FundingRules, Level, fund
from engine.quoting.inventory import (
    AppliedTrades,
    Stock,
    apply_trade,
    assets_cents,
    frozen_by,
    leg_id,
)
from engine.quoting.orders import Action, Cancel, LiveOrder, Replace, diff, more_aggressive
from engine.quoting.pricing import MarketTerms, native_params, price_params
from engine.risk.rate import TokenBucket

_log = structlog.get_logger()

CENTS_GRID_TICKS: Final = 101
_LINK_SILENCE_NS: Final = 5_000_000_000  # §5.3 BOOK_STALE: WebSocket down for longer
_SYNC_RETRY_NS: Final = 5_000_000_000
_SWEEP_RETRY_NS: Final = 1_000_000_000
_REJECT_PAUSE_NS: Final = 250_000_000
_RATE_PAUSE_NS: Final = 1_000_000_000
_NO_SLOT: Final = 0xFFFF

# refusals that say our picture of the venue is wrong: ask for the venue's
_RESYNC_CODES: Final = frozenset({2001, 5001, 6002, 6003, 4005, 4006})

Emit = Callable[[Any], int]


class Clock(Struct, frozen=True, kw_only=True):
    """The two times of one pass; decisions see no other clock."""

    mono_ns: int
    unix_ms: int


class _Staged(Struct, kw_only=True):
    """A SYNC answer while it is still arriving."""

    stock: Stock
    live: list[LiveOrder]


class QuotedMarket:
    """State and decisions of one market. Not thread safe; one per quoter process and market."""

    def __init__(
        self,
        *,
        arena: Arena,
        slot: int,
        worker_epoch: int,
        config: MarketConfig,
        config_version: int,
        order_rate_limit: int,
        emit: Emit,
        clock: Clock,
    ) -> None:
        self.arena = arena
        self.slot = slot
        self.worker_epoch = worker_epoch
        self.config = config
        self.config_version = config_version
        self._emit = emit
        self._row: Any = arena.market(slot)
        self._state: Any = ffi.new("quoter_state_t *")
        self._record: Any = ffi.new("order_record_t *")
        self._allocate()

        self.lifecycle = Lifecycle.STARTING
        self.stock = Stock()
        self.inventory_version = 0
        self.applied = AppliedTrades()
        self.live: list[LiveOrder] = []
        self.status = MarketStatus.UNKNOWN
        self.taker_fee_bps = 0
        self.synced = False
        self.stopping = False
        self._staged: _Staged | None = None
        self._sync_asked_ns = 0
        self._swept_ns = 0
        self._quiet_until_ns = 0
        self._last_fill_ns = 0
        self._cycle_due_ns = 0
        self._requote = True
        self._requote_reason = "start"
        self._quoted_fair = 0
        self._gates = Gate.INVENTORY
        self._gates_since_ns = clock.mono_ns
        self._funding: FundingRules | None = None
        self._replace_tokens = TokenBucket.per_minute(config.quote.replace_rate_limit, clock.mono_ns)
        self._order_tokens = TokenBucket.per_minute(order_rate_limit, clock.mono_ns)
        self._started_at_ms = clock.unix_ms
        self._day_start_assets: int | None = None
        self._restore()

    # ---- set-up ------------------------------------------------------------------------------

    def _allocate(self) -> None:
        """The kernel's memory for this market; nothing is allocated per message afterwards."""
        grid = ffi.new("price_grid_t *")
        lib.price_grid_cents(grid)
        size = lib.orderbook_bytes(CENTS_GRID_TICKS)
        self._book_memory = ffi.new("int64_t[]", size // 8)
        code = lib.orderbook_init(self._book_memory, size, grid)
        if code != lib.ORDERBOOK_OK:
            raise ValueError(f"orderbook_init: code {code}")
        self.book: Any = ffi.cast("orderbook_t *", self._book_memory)
        self._levels = ffi.new("int64_t[]", 2 * CENTS_GRID_TICKS)
        self._trades = ffi.new("quote_trades_t *")
        self._inputs = ffi.new("quote_inputs_t *")
        self._output = ffi.new("quote_output_t *")
        self._params: Any = ffi.NULL
        self._depth = ffi.new("book_depth_t *")
        native = ffi.new("quote_market_t *")
        native.book = self.book
        native.trades = self._trades
        native.inputs = self._inputs
        native.output = self._output
        native.images = self._row.images
        native.tick_to_quote_ns = ffi.addressof(self._row, "tick_to_quote_ns")
        native.levels = self._levels
        native.tick_count = CENTS_GRID_TICKS
        self.native: Any = native

    def _restore(self) -> None:
        """Takes over what a predecessor in this slot published: starting is recovering (§8).

        Stock and orders are not among it: those come from the venue.
        """
        header = ffi.new("state_header_t *")
        row = ffi.addressof(self._row, "state")
        code = lib.state_read(row, header, self._state, ffi.sizeof("quoter_state_t"))
        if code == lib.RING_OK and header.kind == lib.STATE_KIND_QUOTER:
            self._started_at_ms = self._state.started_at_ms
            self.inventory_version = self._state.inventory_version
            if self._state.day_start_assets_cents:
                self._day_start_assets = self._state.day_start_assets_cents
            self.native.messages = self._state.book_messages
            self.native.deltas = self._state.deltas
            self.native.trade_count = self._state.trades
            self.native.generations = self._state.generations
        posterior = self._state.posterior or float(self.config.quote.initial_price_cents)
        lib.quote_trades_init(self._trades, posterior)
        state = self._state
        state.started_at_ms = self._started_at_ms
        state.gates = 0

    # ---- execution records -------------------------------------------------------------------

    def on_execution(self, record: Any, clock: Clock) -> None:
        """Applies one ``execution_record_t``. Records of an older worker epoch answer nobody here."""
        kind = record.kind
        if kind == ExecutionKind.MARKET_RULES:
            self._on_rules(ffi.cast("market_rules_record_t *", ffi.addressof(record)))
        elif kind == ExecutionKind.FILL:
            self._on_fill(record, clock)
        elif kind in _SYNC_KINDS:
            self._on_sync(record, clock)
        elif kind == ExecutionKind.MARKET_STATUS:
            self._set_status(MarketStatus(record.code))
        elif kind == ExecutionKind.CANCELLED:
            self._on_gone(record, cancelled=True)
        elif kind == ExecutionKind.FILLED:
            self._on_gone(record, cancelled=False)
        elif record.worker_epoch == self.worker_epoch:
            self._on_answer(record, clock)

    def _on_answer(self, record: Any, clock: Clock) -> None:
        """ACKED, REJECTED, UNKNOWN, MINTED or BURNED: the fate of one of our own intents."""
        if record.kind == ExecutionKind.ACKED:
            self._on_acked(record, clock)
        elif record.kind == ExecutionKind.REJECTED:
            self._on_rejected(record, clock)
        elif record.kind == ExecutionKind.UNKNOWN:
            self._state.unknowns += 1  # it stays busy: an unknown order counts as live

    def _on_acked(self, record: Any, clock: Clock) -> None:
        order = next(
            (order for order in self.live if order.intent == record.intent and order.live_slot < 0), None
        )
        if order is None:
            return
        order.live_slot = record.live_slot
        order.venue_order_id = bytes(ffi.buffer(record.venue_order_id))
        order.remaining = record.remaining
        order.created_ms = clock.unix_ms
        order.busy = False
        self._own_changed(order)
        if not self._state.first_quote_unix_ms:
            self._state.first_quote_unix_ms = clock.unix_ms

    def _on_rejected(self, record: Any, clock: Clock) -> None:
        self._state.rejects += 1
        pause = _RATE_PAUSE_NS if record.code in (LocalReject.RATE_LIMIT, 9001) else _REJECT_PAUSE_NS
        self._quiet_until_ns = max(self._quiet_until_ns, clock.mono_ns + pause)
        self._want_requote("rejected")
        for order in list(self.live):
            if order.intent == record.intent and order.live_slot < 0:
                self.live.remove(order)  # the new order never came to be
                self._own_changed(order)
            elif order.leaving_intent == record.intent:
                order.busy = order.leaving = False  # the order meant is still live
                order.leaving_intent = 0
        if record.code in _RESYNC_CODES:
            self.synced = False
        _log.info("rejected", market=self.config.id, code=int(record.code), intent=int(record.intent))

    def _on_gone(self, record: Any, *, cancelled: bool) -> None:
        order = self._by_slot(record.live_slot)
        if order is None:
            return
        self.live.remove(order)
        self._own_changed(order)
        if not order.leaving:
            self._want_requote("cancelled" if cancelled else "filled")

    def _on_fill(self, record: Any, clock: Clock) -> None:
        side = Side(record.book_side)
        trade_id = bytes(ffi.buffer(record.trade_id)).rstrip(b"\0").decode()
        leg = leg_id(trade_id, side)
        if leg in self.applied:
            return
        self.stock = apply_trade(
            self.stock,
            scenario=Scenario(record.scenario),
            book_side=side,
            price_cents=record.price_cents,
            quantity=record.quantity,
            own_fee_cents=record.fee_cents,
        )
        self.applied.add(leg)
        self._stock_changed()
        order = self._by_slot(record.live_slot)
        if order is not None:
            order.remaining = max(0, order.remaining - record.quantity)
            self._own_changed(order)
        self._state.fills += 1
        self._state.total_fills_today += 1
        self._last_fill_ns = clock.mono_ns
        self._want_requote("fill")

    def _on_sync(self, record: Any, clock: Clock) -> None:
        kind = record.kind
        if kind == ExecutionKind.SYNC_BEGIN:
            self._staged = _Staged(stock=self.stock, live=[])
            return
        if kind == ExecutionKind.CASH and self._staged is None:
            self.stock = _with(self.stock, cash_cents=record.cash_cents)
            self._stock_changed()
            return
        staged = self._staged
        if staged is None:
            return
        if kind == ExecutionKind.POSITION:
            staged.stock = _with(
                staged.stock,
                yes_volume=record.yes_volume,
                no_volume=record.no_volume,
                yes_cost_sum_cents=record.yes_cost_cents,
                no_cost_sum_cents=record.no_cost_cents,
            )
        elif kind == ExecutionKind.CASH:
            staged.stock = _with(staged.stock, cash_cents=record.cash_cents)
        elif kind == ExecutionKind.ORDER:
            staged.live.append(
                LiveOrder(
                    outcome=Outcome(record.outcome),
                    direction=Direction(record.direction),
                    price_cents=record.price_cents,
                    quantity=record.quantity,
                    remaining=record.remaining,
                    created_ms=clock.unix_ms,
                    live_slot=record.live_slot,
                    venue_order_id=bytes(ffi.buffer(record.venue_order_id)),
                    intent=record.intent,
                )
            )
        elif kind == ExecutionKind.SYNC_END:
            self._finish_sync(staged)

    def _finish_sync(self, staged: _Staged) -> None:
        if self._state.syncs and staged.stock != self.stock:
            _log.warning("drift", market=self.config.id, ours=str(self.stock), venue=str(staged.stock))
        self._staged = None
        self._state.syncs += 1
        self.stock = staged.stock
        self.live = staged.live
        self.synced = True
        lib.orderbook_clear_own(self.book)
        for order in self.live:
            self._own_changed(order)
        self._stock_changed()
        if self.lifecycle == Lifecycle.STARTING:
            self.lifecycle = Lifecycle.RUNNING
            _log.info("running", market=self.config.id, stock=str(self.stock), live=len(self.live))
        self._want_requote("sync")

    def _on_rules(self, rules: Any) -> None:
        """The market's own terms: fees, limits, dates. Prices can be computed from here on."""
        quote = self.config.quote
        self._set_status(MarketStatus(rules.status))
        self.taker_fee_bps = rules.taker_fee_bps
        days = horizon.lifecycle_days(
            created_ms=rules.created_ms,
            trading_start_ms=rules.trading_start_ms,
            trading_end_ms=rules.trading_end_ms,
            resolution_ms=rules.resolution_ms,
        )
        self._params = native_params(
            price_params(
                quote,
                MarketTerms(
                    gamma=horizon.gamma(quote, days),
                    maker_fee_bps=rules.maker_fee_bps,
                    taker_fee_bps=rules.taker_fee_bps,
                    min_price_e4=rules.min_price_cents * 100,
                    max_price_e4=rules.max_price_cents * 100,
                ),
            )
        )
        self.native.params = self._params
        self._funding = FundingRules(
            allow_buy=quote.allow_buy,
            cash_reserve_cents=quote.cash_reserve_cents,
            position_limit=quote.position_limit,
            taker_fee_bps=rules.taker_fee_bps,
            order_quantity_max=rules.order_quantity_max,
            order_amount_max_cents=rules.order_amount_max_cents,
        )
        inputs = self._inputs
        inputs.started_at_ms = self._started_at_ms
        inputs.trading_end_ms = horizon.quoting_end_ms(
            trading_end_ms=rules.trading_end_ms, resolution_ms=rules.resolution_ms
        )
        inputs.anchor_cents = float(quote.initial_price_cents)
        inputs.spread_multiplier = 1.0
        inputs.size_scale = 1.0
        inputs.phase = lib.QUOTE_STABILIZATION
        inputs.sides = lib.QUOTE_SIDES_BOTH

    def _set_status(self, status: MarketStatus) -> None:
        if status == self.status:
            return
        _log.info("market_status", market=self.config.id, before=self.status.name, now=status.name)
        self.status = status
        if status in (MarketStatus.SETTLED, MarketStatus.VOIDED):
            self.lifecycle = Lifecycle.STOPPED
        elif status == MarketStatus.RESOLVED:
            self.lifecycle = Lifecycle.WINDING_DOWN
        # settlement and resolution move stock and cash without a trade: take the venue's word
        if status in (MarketStatus.RESOLVED, MarketStatus.SETTLED, MarketStatus.VOIDED):
            self.synced = False

    # ---- bookkeeping -------------------------------------------------------------------------

    def _by_slot(self, live_slot: int) -> LiveOrder | None:
        if live_slot == _NO_SLOT:
            return None
        return next((order for order in self.live if order.live_slot == live_slot), None)

    def _stock_changed(self) -> None:
        self.inventory_version += 1
        self._inputs.yes_lots = self.stock.yes_volume
        self._inputs.no_lots = self.stock.no_volume

    def _own_changed(self, order: LiveOrder) -> None:
        """Tells the kernel our size on the order's level, so that pricing sees the book without us.

        An order under way counts: its level may show it before its answer arrives.
        """
        side, price = order.side, order.book_price_cents
        lots = sum(
            other.remaining for other in self.live if other.side == side and other.book_price_cents == price
        )
        lib.orderbook_set_own(self.book, side, price, lots)

    def _want_requote(self, reason: str) -> None:
        self._requote = True
        self._requote_reason = reason

    # ---- decisions ---------------------------------------------------------------------------

    def _gates_now(self, clock: Clock) -> Gate:
        gates = Gate(0)
        if self.arena.killed(self.slot):
            gates |= Gate.KILL_WORD
        link_down_ns = 0 if self.native.link_up else clock.mono_ns - self.native.link_mono_ns
        if not self.native.book_valid or link_down_ns > _LINK_SILENCE_NS:
            gates |= Gate.BOOK_STALE
        if self.status != MarketStatus.ACTIVE:
            gates |= Gate.MARKET_STATUS
        if not self.synced or self.lifecycle != Lifecycle.RUNNING:
            gates |= Gate.INVENTORY
        if (
            self._last_fill_ns
            and clock.mono_ns < self._last_fill_ns + self.config.quote.post_fill_delay_ms * 1_000_000
        ):
            gates |= Gate.POST_FILL
        return gates

    def _account_gates(self, gates: Gate, clock: Clock) -> None:
        """Adds the time since the last look to the gates that held during it."""
        elapsed = clock.mono_ns - self._gates_since_ns
        self._gates_since_ns = clock.mono_ns
        if self._state.first_quote_unix_ms:
            if self._gates:
                for index in range(lib.GATE_COUNT):
                    if self._gates & (1 << index):
                        self._state.gated_ns[index] += elapsed
            else:
                self._state.ungated_ns += elapsed
        if gates != self._gates:
            if self._gates & ~gates:
                self._want_requote("gate_release")
            self._gates = gates

    def next_timer_ns(self, clock: Clock) -> int:
        """Monotonic time at which something here is due even if nothing arrives."""
        due = [self._cycle_due_ns]
        if self._gates & Gate.POST_FILL:
            due.append(self._last_fill_ns + self.config.quote.post_fill_delay_ms * 1_000_000)
        if self._quiet_until_ns > clock.mono_ns:
            due.append(self._quiet_until_ns)
        return min(due)

    def decide(self, clock: Clock) -> bool:
        """One look at everything: gates, sync, triggers, and the orders that follow. True when it sent."""
        cycle = clock.mono_ns >= self._cycle_due_ns
        if cycle:
            self._cycle_due_ns = clock.mono_ns + self.config.quote.quote_interval_ms * 1_000_000
        if cycle or self._requote:
            lib.quote_market_compute(self.native, clock.unix_ms)
        gates = self._gates_now(clock)
        self._account_gates(gates, clock)
        sent = self._act(gates, clock)
        if cycle:
            self._state.last_requote_ms = clock.unix_ms
            self._state.updated_at_ms = clock.unix_ms
        return sent

    def _act(self, gates: Gate, clock: Clock) -> bool:
        if self.stopping and self.live:
            return self._pull(clock)
        if not self.synced and self._may_sync(clock):
            return self._send_sync(clock)
        if self.stopping:
            return False
        pulling = gates & ~Gate.POST_FILL
        if pulling:
            return False if pulling == Gate.INVENTORY else self._pull(clock)
        if self._params == ffi.NULL or self.native.last_code < 0 or clock.mono_ns < self._quiet_until_ns:
            return False
        if gates & Gate.POST_FILL:
            return self._cancel_aggressive(clock)
        self._look_for_triggers(clock)
        return self._requote and self._quote(clock)

    def _may_sync(self, clock: Clock) -> bool:
        nothing_under_way = not any(order.busy for order in self.live)
        return clock.mono_ns >= self._sync_asked_ns + _SYNC_RETRY_NS and (
            nothing_under_way or self._state.syncs == 0 or self._sync_asked_ns == 0
        )

    def _look_for_triggers(self, clock: Clock) -> None:
        """§3.8, STABILIZATION: fair price moved, an order grew old. The others set the flag themselves."""
        if self._requote:
            return
        fair = self._output.fair.fair_price_cents
        moved = abs(fair - self._quoted_fair)
        if moved >= 1 and moved > self.config.quote.stabilization.cancel_on_price_move * fair:
            self._want_requote("price_move")
        max_age_ms = self.config.quote.stabilization.max_order_age_ms
        if any(clock.unix_ms - order.created_ms > max_age_ms for order in self.live):
            self._want_requote("order_age")

    def _desired(self) -> list[DesiredOrder]:
        assert self._funding is not None
        target = self._output.target
        return fund(
            bids=[_level(target.bids[i]) for i in range(target.bid_count)],
            asks=[_level(target.asks[i]) for i in range(target.ask_count)],
            stock=self.stock,
            rules=self._funding,
        )

    def _quote(self, clock: Clock) -> bool:
        actions, waiting = diff(
            self._desired(),
            self.live,
            stock=self.stock,
            taker_fee_bps=self.taker_fee_bps,
            now_ms=clock.unix_ms,
            max_age_ms=self.config.quote.stabilization.max_order_age_ms,
        )
        sent = 0
        for action in actions:
            if not self._affordable(action, clock):
                waiting = True
                continue
            self._send(action, clock)
            sent += 1
        if sent:
            self._state.quotes += 1
        self._quoted_fair = self._output.fair.fair_price_cents
        if not sent and not waiting and not any(order.busy for order in self.live):
            self._requote = False
        elif waiting and not sent:
            # nothing to do until an answer or a token arrives: no busy loop over the same plan
            self._quiet_until_ns = max(self._quiet_until_ns, clock.mono_ns + 20_000_000)
        return sent > 0

    def _affordable(self, action: Action, clock: Clock) -> bool:
        """Takes a rate token for the action; cancels are never held back."""
        if isinstance(action, Cancel):
            return True
        bucket = self._replace_tokens if isinstance(action, Replace) else self._order_tokens
        return bucket.take(clock.mono_ns)

    def _cancel_aggressive(self, clock: Clock) -> bool:
        target = self._output.target
        cancels = more_aggressive(
            self.live,
            touch_bid_cents=target.touch_bid_ticks if target.bid_count else 0,
            touch_ask_cents=target.touch_ask_ticks if target.ask_count else 0,
        )
        for action in cancels:
            self._send(action, clock)
        return bool(cancels)

    def _pull(self, clock: Clock) -> bool:
        """Takes every order off the book, once, and again each second until none is live."""
        if not self.live or clock.mono_ns < self._swept_ns + _SWEEP_RETRY_NS:
            return False
        self._swept_ns = clock.mono_ns
        record = self._blank(OrderKind.BATCH_CANCEL, clock)
        record.scope = lib.SCOPE_ALL
        intent = self._emit(record)
        for order in self.live:
            _leave(order, intent)
        self._state.cancels += 1
        return True

    # ---- intents -----------------------------------------------------------------------------

    def _blank(self, kind: OrderKind, clock: Clock) -> Any:
        """An order record with everything but the order itself filled in (the basis explains it)."""
        record = self._record
        ffi.memmove(record, _ZERO_RECORD, ffi.sizeof("order_record_t"))
        fair = self._output.fair
        record.kind = kind
        record.market_slot = self.slot
        record.live_slot = _NO_SLOT
        record.worker_epoch = self.worker_epoch
        record.generation = self.native.generation
        record.config_version = self.config_version
        record.decided_mono_ns = clock.mono_ns
        record.trigger_mono_ns = self.native.trigger_recv_ns
        record.inventory_version = self.inventory_version
        record.basis_anchor = fair.anchor_cents
        record.basis_micro = fair.micro_cents
        record.basis_posterior = fair.posterior_cents
        record.basis_weight_anchor = fair.anchor_weight
        record.basis_weight_micro = fair.micro_weight
        record.basis_sigma = fair.sigma_cents
        record.basis_gamma = self._params.gamma if self._params else 0.0
        record.basis_tau = fair.tau
        record.basis_skew = fair.inventory_skew
        record.basis_reservation = fair.reservation_cents
        record.basis_multiplier = self._inputs.spread_multiplier
        record.basis_fair_cents = fair.fair_price_cents
        record.basis_phase = Phase.STABILIZATION
        record.basis_defense = DefenseLevel.NORMAL
        record.basis_gates = int(self._gates)
        return record

    def _send_sync(self, clock: Clock) -> bool:
        self._sync_asked_ns = clock.mono_ns
        self._emit(self._blank(OrderKind.SYNC, clock))
        return True

    def _send(self, action: Action, clock: Clock) -> None:
        if isinstance(action, Cancel):
            self._send_cancel(action.live, clock)
            return
        replaced = action.live if isinstance(action, Replace) else None
        order = action.desired
        record = self._blank(OrderKind.PLACE if replaced is None else OrderKind.REPLACE, clock)
        record.outcome = order.outcome
        record.direction = order.direction
        record.price_cents = order.price_cents
        record.quantity = order.quantity
        if replaced is not None:
            _name_target(record, replaced)
        intent = self._emit(record)
        if replaced is not None:
            _leave(replaced, intent)
            self._state.replaces += 1
        else:
            self._state.places += 1
        new = LiveOrder(
            outcome=order.outcome,
            direction=order.direction,
            price_cents=order.price_cents,
            quantity=order.quantity,
            remaining=order.quantity,
            created_ms=clock.unix_ms,
            intent=intent,
            busy=True,
        )
        self.live.append(new)
        self._own_changed(new)

    def _send_cancel(self, order: LiveOrder, clock: Clock) -> None:
        record = self._blank(OrderKind.CANCEL, clock)
        record.outcome = order.outcome
        record.direction = order.direction
        record.price_cents = order.price_cents
        record.quantity = order.remaining
        _name_target(record, order)
        _leave(order, self._emit(record))
        self._state.cancels += 1

    # ---- process events ----------------------------------------------------------------------

    def gateway_restarted(self) -> None:
        """Whatever was asked of the old gateway is answered by the new one's SYNC."""
        self.synced = False
        self._staged = None
        self._sync_asked_ns = 0

    def reconcile(self) -> None:
        """Asks for the venue's word at the next decision (§7.5)."""
        self.synced = False

    def halt(self, reason: str) -> None:
        """EMERGENCY: nothing is sent for this market any more by this process."""
        self.lifecycle = Lifecycle.EMERGENCY
        _log.error("emergency", market=self.config.id, reason=reason)

    def begin_final_sync(self) -> None:
        """After the last order is gone: take the venue's books once more before saying goodbye."""
        self.synced = False
        self._sync_asked_ns = 0

    def finish(self, clock: Clock, cursor: Any) -> None:
        """The last row of this process."""
        self.lifecycle = Lifecycle.STOPPED
        self.publish(clock, cursor)

    @property
    def idle(self) -> bool:
        """Nothing live and nothing under way."""
        return not self.live

    # ---- state row ---------------------------------------------------------------------------

    def publish(self, clock: Clock, cursor: Any) -> None:
        """Writes the state row: what Redis, status and the live view show of this market."""
        state = self._state
        native = self.native
        stock = self.stock
        fair = self._output.fair
        target = self._output.target
        frozen = frozen_by(self.live, self.taker_fee_bps)
        state.inventory_version = self.inventory_version
        state.yes_volume = stock.yes_volume
        state.no_volume = stock.no_volume
        state.yes_available = stock.yes_volume - frozen.yes_volume
        state.no_available = stock.no_volume - frozen.no_volume
        state.yes_cost_sum_cents = stock.yes_cost_sum_cents
        state.no_cost_sum_cents = stock.no_cost_sum_cents
        state.cash_cents = stock.cash_cents - frozen.cash_cents
        state.frozen_cents = frozen.cash_cents
        if fair.fair_price_cents and state.syncs:
            assets = assets_cents(stock, fair.fair_price_cents)
            if self._day_start_assets is None:
                self._day_start_assets = assets
            state.day_start_assets_cents = self._day_start_assets
            state.daily_pnl_cents = assets - self._day_start_assets - state.net_flows_cents
        state.fair_price_cents = fair.fair_price_cents
        state.gates = int(self._gates)
        state.lifecycle = self.lifecycle
        state.phase = Phase.STABILIZATION
        state.defense = DefenseLevel.NORMAL
        state.market_status = self.status
        state.book_valid = native.book_valid
        state.recovering = not self.synced
        state.anchor, state.micro, state.posterior = (
            fair.anchor_cents,
            fair.micro_cents,
            self._trades.posterior_cents,
        )
        state.weight_anchor, state.weight_micro = fair.anchor_weight, fair.micro_weight
        state.weight_posterior = fair.posterior_weight
        state.sigma, state.tau, state.skew = fair.sigma_cents, fair.tau, fair.inventory_skew
        state.gamma = self._params.gamma if self._params else 0.0
        state.adjustment, state.reservation = fair.adjustment_cents, fair.reservation_cents
        state.multiplier = self._inputs.spread_multiplier
        state.half_spread_ask, state.half_spread_bid = fair.half_spread_ask_cents, fair.half_spread_bid_cents
        state.touch_bid_cents = target.touch_bid_ticks if target.bid_count else 0
        state.touch_ask_cents = target.touch_ask_ticks if target.ask_count else 0
        book = self.book
        state.best_bid_ticks = lib.orderbook_best(book, lib.ORDERBOOK_TOTAL, lib.ORDERBOOK_BID)
        state.best_ask_ticks = lib.orderbook_best(book, lib.ORDERBOOK_TOTAL, lib.ORDERBOOK_ASK)
        state.foreign_bid_ticks = lib.orderbook_best(book, lib.ORDERBOOK_FOREIGN, lib.ORDERBOOK_BID)
        state.foreign_ask_ticks = lib.orderbook_best(book, lib.ORDERBOOK_FOREIGN, lib.ORDERBOOK_ASK)
        resting = [order for order in self.live if order.live_slot >= 0]
        state.own_bid_orders = sum(order.side == Side.BID for order in resting)
        state.own_ask_orders = len(resting) - state.own_bid_orders
        state.live_orders = len(self.live)
        state.generation = native.generation
        state.venue_sequence = native.venue_sequence
        state.book_digest = lib.orderbook_digest(book)
        state.ring_position = cursor.position
        state.laps, state.lost_events = cursor.laps, cursor.lost
        state.config_version = self.config_version
        state.book_messages, state.deltas = native.messages, native.deltas
        state.trades, state.generations = native.trade_count, native.generations
        row = ffi.addressof(self._row, "state")
        unix_ns = clock.unix_ms * 1_000_000
        check(
            lib.state_write(
                row,
                lib.STATE_KIND_QUOTER,
                self.worker_epoch,
                clock.mono_ns,
                unix_ns,
                state,
                ffi.sizeof("quoter_state_t"),
            ),
            "state row",
        )


_SYNC_KINDS: Final = frozenset(
    {
        ExecutionKind.SYNC_BEGIN,
        ExecutionKind.POSITION,
        ExecutionKind.CASH,
        ExecutionKind.ORDER,
        ExecutionKind.CURSOR,
        ExecutionKind.SYNC_END,
    }
)
_ZERO_RECORD: Final = ffi.new("order_record_t *")


def _level(level: Any) -> Level:
    return Level(price_cents=level.price_ticks, quantity=level.lots)


def _leave(order: LiveOrder, intent: int) -> None:
    order.busy = order.leaving = True
    order.leaving_intent = intent


def _name_target(record: Any, order: LiveOrder) -> None:
    record.live_slot = order.live_slot
    ffi.memmove(
        record.target_order_id, order.venue_order_id.ljust(lib.VENUE_ID_BYTES, b"\0"), lib.VENUE_ID_BYTES
    )


def _with(stock: Stock, **changes: int) -> Stock:
    fields = {name: getattr(stock, name) for name in Stock.__struct_fields__}
    return Stock(**{**fields, **changes})
