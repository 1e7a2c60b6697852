"""One market as its quoter carries it: stock, live orders, gates, and what to do next.

Everything that changes it arrives through two doors: :meth:`QuotedMarket.on_execution` (what the gateway
says) and :meth:`QuotedMarket.decide` (what the book and the clock say).

Reads: its market slot's config, images and kill word.  Writes: its state row, order intents.
"""

from __future__ import annotations

from typing import Any, Final

import structlog
from msgspec import Struct, structs

from engine._native import ffi, lib
from engine.arena import Arena
from engine.config import MarketConfig
from engine.events import (
    Direction,
    ExecutionKind,
    Gate,
    Lifecycle,
    LocalReject,
    MarketStatus,
    Outcome,
    Scenario,
    Side,
)
from engine.quoting.funding import DesiredOrder, FundingRules, Level, fund
from engine.quoting.inventory import AppliedTrades, Stock, apply_trade, leg_id
from engine.quoting.orders import Action, Cancel, LiveOrder, Replace, diff, more_aggressive
from engine.risk.rate import TokenBucket
from engine.workers.clock import Clock
from engine.workers.intents import NO_LIVE_SLOT, Emit, IntentWriter
from engine.workers.market_kernel import MarketKernel
from engine.workers.state_row import StateRow

_log = structlog.get_logger()

_LINK_SILENCE_NS: Final = 5_000_000_000  # §5.3 BOOK_STALE: WebSocket down for longer
_SYNC_RETRY_NS: Final = 5_000_000_000
_SWEEP_RETRY_NS: Final = 1_000_000_000
_PLAN_RETRY_NS: Final = 20_000_000
_REJECT_PAUSE_NS: Final = 250_000_000
_RATE_PAUSE_NS: Final = 1_000_000_000
_RATE_CODES: Final = frozenset({int(LocalReject.RATE_LIMIT), 9001})

# refusals that say our picture of the venue is wrong: ask for the venue's
_RESYNC_CODES: Final = frozenset({2001, 4005, 5001, 6002})


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
        self.kernel = MarketKernel(arena.market(slot))
        self.row = StateRow(
            row=ffi.addressof(arena.market(slot), "state"),
            worker_epoch=worker_epoch,
            config_version=config_version,
            initial_price_cents=config.quote.initial_price_cents,
            kernel=self.kernel,
            clock=clock,
        )
        self._intents = IntentWriter(
            slot=slot,
            worker_epoch=worker_epoch,
            config_version=config_version,
            kernel=self.kernel,
            emit=emit,
        )
        self.lifecycle = Lifecycle.STARTING
        self.status = MarketStatus.UNKNOWN
        self.stock = Stock()
        self.applied = AppliedTrades()
        self.live: list[LiveOrder] = []
        self.taker_fee_bps = 0
        self.synced = False
        self.stopping = False
        self.gates = Gate.INVENTORY
        self._staged: _Staged | None = None
        self._funding: FundingRules | None = None
        self._replace_tokens = TokenBucket(config.quote.replace_rate_limit, clock.mono_ns)
        self._order_tokens = TokenBucket(order_rate_limit, clock.mono_ns)
        self._requote = True
        self._quoted_fair = 0
        self._quoted_sides = (False, False)  # bids, asks
        # monotonic ns
        self._sync_retry_ns = 0
        self._sync_force_ns = 0
        self._swept_ns = clock.mono_ns - _SWEEP_RETRY_NS
        self._quiet_until_ns = 0
        self._post_fill_until_ns = 0
        self._cycle_due_ns = 0

    # ---- execution records -------------------------------------------------------------------

    def on_execution(self, record: Any, clock: Clock) -> None:
        """Applies one ``execution_record_t``. Answers to an older worker's intents concern nobody here."""
        kind = record.kind
        if kind == ExecutionKind.FILL:
            self._on_fill(record, clock)
        elif kind in (ExecutionKind.CANCELLED, ExecutionKind.FILLED):
            self._on_gone(record)
        elif kind == ExecutionKind.MARKET_STATUS:
            self._set_status(MarketStatus(record.code))
        elif kind == ExecutionKind.MARKET_RULES:
            self._on_rules(ffi.cast("market_rules_record_t *", ffi.addressof(record)))
        elif kind in _SYNC_KINDS:
            self._on_sync(record, clock)
        elif record.worker_epoch != self.worker_epoch:
            return
        elif kind == ExecutionKind.ACKED:
            self._on_acked(record, clock)
        elif kind == ExecutionKind.REJECTED:
            self._on_rejected(record, clock)
        elif kind == ExecutionKind.UNKNOWN:
            self.row.counters.unknowns += 1  # the order stays busy: unknown counts as live

    def _on_acked(self, record: Any, clock: Clock) -> None:
        order = next((order for order in self.live if order.intent == record.intent and order.busy), None)
        if order is None:
            return
        order.live_slot = record.live_slot
        order.venue_order_id = bytes(ffi.buffer(record.venue_order_id))
        order.remaining = record.remaining
        order.created_ms = clock.unix_ms
        order.busy = False
        self._own_changed(order)
        self.row.first_quote(clock)

    def _on_rejected(self, record: Any, clock: Clock) -> None:
        self.row.counters.rejects += 1
        pause = _RATE_PAUSE_NS if record.code in _RATE_CODES else _REJECT_PAUSE_NS
        self._quiet_until_ns = max(self._quiet_until_ns, clock.mono_ns + pause)
        self._requote = True
        for order in list(self.live):
            if order.intent == record.intent and order.live_slot < 0:
                self.live.remove(order)  # the new order never came to be
                self._own_changed(order)
            elif order.leaving_intent == record.intent:
                order.busy = order.leaving = False  # the order meant is still live
                order.leaving_intent = 0
        if record.code in _RESYNC_CODES:
            self.reconcile()
        _log.info("rejected", market=self.config.id, code=int(record.code), intent=int(record.intent))

    def _on_gone(self, record: Any) -> None:
        order = self._by_slot(record.live_slot)
        if order is None:
            return
        self.live.remove(order)
        self._own_changed(order)
        self._requote = True

    def _on_fill(self, record: Any, clock: Clock) -> None:
        side = Side(record.book_side)
        leg = leg_id(bytes(ffi.buffer(record.trade_id)).rstrip(b"\0").decode(), side)
        if leg in self.applied:
            return
        self.applied.add(leg)
        if self.row.counters.syncs:  # before the first SYNC we hold nothing: its POSITION counts this fill
            self._book_fill(record, side)
        order = self._by_slot(record.live_slot)
        if order is not None:
            order.remaining = max(0, order.remaining - record.quantity)
            self._own_changed(order)
        self.row.counters.fills += 1
        self.row.counters.total_fills_today += 1
        self._post_fill_until_ns = clock.mono_ns + self.config.quote.post_fill_delay_ms * 1_000_000
        self._requote = True

    def _book_fill(self, record: Any, side: Side) -> None:
        try:
            self.stock = apply_trade(
                self.stock,
                scenario=Scenario(record.scenario),
                book_side=side,
                price_cents=record.price_cents,
                quantity=record.quantity,
                own_fee_cents=record.fee_cents,
            )
        except ValueError as error:  # our stock contradicts the venue's: its word, before anything is sent
            _log.error("fill_contradicts_stock", market=self.config.id, reason=str(error))
            self.reconcile()
            return
        self._stock_changed()

    def _on_sync(self, record: Any, clock: Clock) -> None:
        kind = record.kind
        if kind == ExecutionKind.SYNC_BEGIN:
            self._staged = _Staged(stock=self.stock, live=[])
        elif self._staged is None:
            if kind == ExecutionKind.CASH:  # funding, mint or burn between two syncs
                self.stock = structs.replace(self.stock, cash_cents=record.cash_cents)
                self._stock_changed()
        elif kind == ExecutionKind.POSITION:
            self._staged.stock = structs.replace(
                self._staged.stock,
                yes_volume=record.yes_volume,
                no_volume=record.no_volume,
                yes_cost_sum_cents=record.yes_cost_cents,
                no_cost_sum_cents=record.no_cost_cents,
            )
        elif kind == ExecutionKind.CASH:
            self._staged.stock = structs.replace(self._staged.stock, cash_cents=record.cash_cents)
        elif kind == ExecutionKind.ORDER:
            self._staged.live.append(_adopted(record, clock))
        elif kind == ExecutionKind.SYNC_END:
            self._finish_sync(self._staged)

    def _finish_sync(self, staged: _Staged) -> None:
        counters = self.row.counters
        if counters.syncs and staged.stock != self.stock:
            _log.warning("drift", market=self.config.id, ours=str(self.stock), venue=str(staged.stock))
        counters.syncs += 1
        self._staged = None
        self.stock = staged.stock
        self.live = staged.live
        self.synced = True
        self._requote = True
        self.kernel.clear_own()
        for order in self.live:
            self._own_changed(order)
        self._stock_changed()
        if self.lifecycle == Lifecycle.STARTING:
            self.lifecycle = Lifecycle.RUNNING
            _log.info("running", market=self.config.id, stock=str(self.stock), live=len(self.live))

    def _on_rules(self, rules: Any) -> None:
        """The market's own terms: fees, limits, dates."""
        quote = self.config.quote
        self._set_status(MarketStatus(rules.status))
        self.taker_fee_bps = rules.taker_fee_bps
        self.kernel.set_rules(quote, rules, self.row.started_at_ms)
        self._funding = FundingRules(
            allow_buy=quote.allow_buy,
            cash_reserve_cents=quote.cash_reserve_cents,
            position_limit=quote.position_limit,
            taker_fee_bps=rules.taker_fee_bps,
            order_quantity_max=rules.order_quantity_max,
            order_amount_max_cents=rules.order_amount_max_cents,
        )
        self._requote = True

    def _set_status(self, status: MarketStatus) -> None:
        if status == self.status:
            return
        _log.info("market_status", market=self.config.id, before=self.status.name, now=status.name)
        self.status = status
        if status in (MarketStatus.SETTLED, MarketStatus.VOIDED):
            self.lifecycle = Lifecycle.STOPPED
        elif status == MarketStatus.RESOLVED:
            self.lifecycle = Lifecycle.WINDING_DOWN
        # resolution and settlement move stock and cash without a trade: take the venue's word
        if status in (MarketStatus.RESOLVED, MarketStatus.SETTLED, MarketStatus.VOIDED):
            self.reconcile()

    # ---- bookkeeping -------------------------------------------------------------------------

    def _by_slot(self, live_slot: int) -> LiveOrder | None:
        if live_slot == NO_LIVE_SLOT:
            return None
        return next((order for order in self.live if order.live_slot == live_slot), None)

    def _stock_changed(self) -> None:
        self.row.counters.inventory_version += 1
        self.kernel.set_stock(self.stock)

    def _own_changed(self, order: LiveOrder) -> None:
        """Keeps the kernel's view of our own size on the order's level.

        An order under way counts: its level may show it before its answer arrives.
        """
        side, price = order.side, order.book_price_cents
        shares = sum(
            other.remaining for other in self.live if other.side == side and other.book_price_cents == price
        )
        self.kernel.set_own(side, price, shares)

    # ---- decisions ---------------------------------------------------------------------------

    def next_timer_ns(self) -> int:
        """Monotonic time at which something here is due even if nothing arrives; may lie in the past."""
        due = self._cycle_due_ns
        if self.gates & Gate.POST_FILL:
            due = min(due, self._post_fill_until_ns)
        if self._quiet_until_ns:
            due = min(due, self._quiet_until_ns)
        return due

    def decide(self, clock: Clock) -> None:
        """One look at everything: gates, sync, triggers, and the orders that follow.

        Raises RingFullError when the gateway no longer takes intents.
        """
        cycle = clock.mono_ns >= self._cycle_due_ns
        if clock.mono_ns >= self._quiet_until_ns:
            self._quiet_until_ns = 0
        if cycle:
            self._cycle_due_ns = clock.mono_ns + self.config.quote.quote_interval_ms * 1_000_000
        if cycle or self._requote:
            self.kernel.compute(clock.unix_ms)
        self._set_gates(self._gates_now(clock), clock)
        self._act(clock)
        if cycle:
            self.row.cycle_ended(clock)

    def _gates_now(self, clock: Clock) -> Gate:
        gates = Gate(0)
        native = self.kernel.native
        if self.arena.killed(self.slot):
            gates |= Gate.KILL_WORD
        if not native.book_valid or (
            not native.link_up and clock.mono_ns - native.link_mono_ns > _LINK_SILENCE_NS
        ):
            gates |= Gate.BOOK_STALE
        if self.status != MarketStatus.ACTIVE:
            gates |= Gate.MARKET_STATUS
        if not self.synced or self.lifecycle != Lifecycle.RUNNING:
            gates |= Gate.INVENTORY
        if clock.mono_ns < self._post_fill_until_ns:
            gates |= Gate.POST_FILL
        return gates

    def _set_gates(self, gates: Gate, clock: Clock) -> None:
        self.row.account_gates(self.gates, clock)
        if self.gates & ~gates:
            self._requote = True  # §3.8: a released gate re-quotes
        self.gates = gates

    def _act(self, clock: Clock) -> None:
        if self.stopping and self.live:
            self._pull(clock)
        elif not self.synced and self._may_sync(clock):
            self._sync_retry_ns = clock.mono_ns + _SYNC_RETRY_NS
            self._intents.sync(clock, self.gates)
        elif self.stopping or self.gates == Gate.INVENTORY:
            return  # nothing new; what is live stays until the venue's word is in
        elif self.gates & ~Gate.POST_FILL:
            self._pull(clock)
        elif not self.kernel.ready:
            return
        elif self.gates & Gate.POST_FILL:
            self._cancel_aggressive(clock)
        elif not self._quiet_until_ns:
            self._look_for_triggers(clock)
            if self._requote:
                self._quote(clock)

    def _may_sync(self, clock: Clock) -> bool:
        """Not while a request is under way, unless its answer is overdue."""
        if clock.mono_ns < self._sync_retry_ns:
            return False
        if not self._sync_force_ns:
            self._sync_force_ns = clock.mono_ns + _SYNC_RETRY_NS
        return clock.mono_ns >= self._sync_force_ns or not any(order.busy for order in self.live)

    def _look_for_triggers(self, clock: Clock) -> None:
        """§3.8, STABILIZATION; fills, releases and answers set the flag where they arrive."""
        if not self._requote:
            self._requote = self._price_moved() or self._order_aged(clock) or self._side_came_or_went()

    def _price_moved(self) -> bool:
        fair = self.kernel.fair.fair_price_cents
        moved = abs(fair - self._quoted_fair)
        return moved >= 1 and bool(moved > self.config.quote.stabilization.cancel_on_price_move * fair)

    def _order_aged(self, clock: Clock) -> bool:
        max_age_ms = self.config.quote.stabilization.max_order_age_ms
        return any(clock.unix_ms - order.created_ms > max_age_ms for order in self.live)

    def _side_came_or_went(self) -> bool:
        """A side of the target came back into the price limits, or left them, since it was last funded."""
        return (bool(self.kernel.target.bid_count), bool(self.kernel.target.ask_count)) != self._quoted_sides

    def _desired(self) -> list[DesiredOrder]:
        assert self._funding is not None, "the kernel is ready only after the rules came"
        target = self.kernel.target
        return fund(
            bids=[_level(target.bids[i]) for i in range(target.bid_count)],
            asks=[_level(target.asks[i]) for i in range(target.ask_count)],
            stock=self.stock,
            rules=self._funding,
        )

    def _quote(self, clock: Clock) -> None:
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
            if self._has_token(action, clock):
                self._send(action, clock)
                sent += 1
        self._quoted_fair = self.kernel.fair.fair_price_cents
        self._quoted_sides = (bool(self.kernel.target.bid_count), bool(self.kernel.target.ask_count))
        if sent:
            self.row.counters.quotes += 1
        elif waiting or actions:
            # an answer or a token is needed first: no busy loop over the same plan
            self._quiet_until_ns = max(self._quiet_until_ns, clock.mono_ns + _PLAN_RETRY_NS)
        elif not any(order.busy for order in self.live):
            self._requote = False

    def _has_token(self, action: Action, clock: Clock) -> bool:
        """Takes a rate token for the action; cancels are never held back (§5.5)."""
        if isinstance(action, Cancel):
            return True
        bucket = self._replace_tokens if isinstance(action, Replace) else self._order_tokens
        if bucket.tokens(clock.mono_ns) == 0:
            return False
        bucket.take(clock.mono_ns)
        return True

    def _cancel_aggressive(self, clock: Clock) -> None:
        for action in more_aggressive(
            self.live,
            touch_bid_cents=self.kernel.touch_bid_cents,
            touch_ask_cents=self.kernel.touch_ask_cents,
        ):
            self._send(action, clock)

    def _pull(self, clock: Clock) -> None:
        """Takes every order off the book, once, and again each second until none is live."""
        if not self.live or clock.mono_ns < self._swept_ns + _SWEEP_RETRY_NS:
            return
        self._swept_ns = clock.mono_ns
        intent = self._intents.cancel_all(clock, self.gates)
        for order in self.live:
            order.busy = order.leaving = True
            order.leaving_intent = intent
        self.row.counters.cancels += 1

    def _send(self, action: Action, clock: Clock) -> None:
        counters = self.row.counters
        if isinstance(action, Cancel):
            intent = self._intents.cancel(action.live, clock, self.gates)
            counters.cancels += 1
        elif isinstance(action, Replace):
            intent = self._intents.replace(action.live, action.desired, clock, self.gates)
            counters.replaces += 1
        else:
            intent = self._intents.place(action.desired, clock, self.gates)
            counters.places += 1
        if isinstance(action, Cancel | Replace):
            action.live.busy = action.live.leaving = True
            action.live.leaving_intent = intent
        if not isinstance(action, Cancel):
            self._under_way(action.desired, intent, clock)

    def _under_way(self, desired: DesiredOrder, intent: int, clock: Clock) -> None:
        """An order asked for counts as live from here on."""
        order = LiveOrder(
            outcome=desired.outcome,
            direction=desired.direction,
            price_cents=desired.price_cents,
            quantity=desired.quantity,
            remaining=desired.quantity,
            created_ms=clock.unix_ms,
            intent=intent,
            busy=True,
        )
        self.live.append(order)
        self._own_changed(order)

    # ---- process events ----------------------------------------------------------------------

    def gateway_restarted(self) -> None:
        """Whatever was asked of the old gateway is answered by the new one's SYNC."""
        self._staged = None
        for order in self.live:
            order.busy = False
        self.reconcile()

    def reconcile(self) -> None:
        """Asks for the venue's word as soon as nothing is under way (§7.5)."""
        self.synced = False
        self._sync_retry_ns = 0
        self._sync_force_ns = 0

    def halt(self, reason: str) -> None:
        """EMERGENCY: nothing is sent for this market any more, and the gateway cancels what is live.

        The kill bit is latched: a person lowers it through the supervisor.
        """
        self.lifecycle = Lifecycle.EMERGENCY
        lib.cell_or(self.arena.kill_market(self.slot), lib.KILL_RISK)
        _log.error("emergency", market=self.config.id, reason=reason)

    def publish(self, clock: Clock, cursor: Any) -> None:
        """Writes the state row: what Redis, status and the live view show of this market."""
        self.row.publish(
            clock,
            cursor,
            stock=self.stock,
            live=self.live,
            taker_fee_bps=self.taker_fee_bps,
            lifecycle=self.lifecycle,
            status=self.status,
            gates=self.gates,
            synced=self.synced,
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


def _level(level: Any) -> Level:
    return Level(price_cents=level.price_ticks, quantity=level.lots)


def _adopted(record: Any, clock: Clock) -> LiveOrder:
    """An ORDER record of a SYNC: live at the venue whoever placed it."""
    return LiveOrder(
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
