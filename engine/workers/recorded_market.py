"""One market as the recorder sees it: its rows and its ring records, turned into what the KPIs are told.

Two kinds of source. What *happened* (requests, answers, fills, supply, the venue's word on stock) comes from
the order and execution rings, complete and in order. What *holds* (fair price, phase, level, gates, resting
orders) comes from rows that are looked at many times a second: a state that comes and goes between two looks
is not seen, and a change of resting orders is dated by the look.

Reads: state row, live-order rows and kill words of one market.  Writes: nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

import structlog
from msgspec import structs

from engine._native import ffi, lib
from engine.arena import Arena
from engine.events import (
    OVER,
    DefenseLevel,
    Direction,
    ExecutionKind,
    Gate,
    Kill,
    KillCause,
    LocalReject,
    MarketStatus,
    OrderKind,
    Outcome,
    Phase,
    Scenario,
    Side,
)
from engine.kpi import MarketKpis
from engine.kpi_values import Condition, Fill, MarketRecord, OwnQuotes
from engine.quoting.effects import PAIR_CENTS
from engine.quoting.inventory import Stock

_log = structlog.get_logger()

_ASKED_MAX: Final = 4_096
_COUNTED_KINDS: Final = frozenset(
    {OrderKind.PLACE, OrderKind.REPLACE, OrderKind.CANCEL, OrderKind.BATCH_CANCEL}
)
_RESTING: Final = frozenset({lib.LIVE_ACTIVE, lib.LIVE_CANCELLING})
_TWO_SIDED: Final = frozenset({DefenseLevel.NORMAL, DefenseLevel.WIDEN})


class _Asked:
    """A request whose answer is awaited."""

    __slots__ = ("caused_mono_ns", "decided_mono_ns", "kind")

    def __init__(self, kind: OrderKind, *, caused_mono_ns: int, decided_mono_ns: int) -> None:
        self.kind = kind
        self.caused_mono_ns = caused_mono_ns or decided_mono_ns  # a timer's decision has no other cause
        self.decided_mono_ns = decided_mono_ns


class RecordedMarket:
    """Reads one market slot and tells its :class:`MarketKpis`. Times are Unix ns."""

    def __init__(self, arena: Arena, slot: int, record: MarketRecord, at_ns: int) -> None:
        self.slot: Final = slot
        self.kpis: Final = MarketKpis(record)
        self.kpis.resume(at_ns)
        self._arena: Final = arena
        market = arena.market(slot)
        self._state_row: Final = ffi.addressof(market, "state")
        self._order_rows: Final = market.live_orders
        self._header: Final[Any] = ffi.new("state_header_t *")
        self._state: Final[Any] = ffi.new("quoter_state_t *")
        self._order: Final[Any] = ffi.new("live_order_t *")
        self._resting: Final[dict[int, tuple[Side, int, int]]] = {}
        self._asked: Final[OrderedDict[tuple[int, int], _Asked]] = OrderedDict()
        self._status = MarketStatus.UNKNOWN
        self._staged: Stock | None = None
        self._has_state = False
        self._kill_word = 0

    # ---- rows: what holds --------------------------------------------------------------------

    def look_at_state(self, at_ns: int) -> bool:
        """Takes over the state row; False when its writer is stuck half way."""
        code = lib.state_read(self._state_row, self._header, self._state, ffi.sizeof("quoter_state_t"))
        if code != lib.RING_OK:
            return False
        if self._header.kind == lib.STATE_KIND_QUOTER:
            self._has_state = True
            published_ns = min(int(self._header.unix_ns), at_ns)
            if self._state.fair_price_cents:
                self.kpis.mark(published_ns, int(self._state.fair_price_cents))
            price_ticks = int(self._state.oracle_price_ticks)
            self.kpis.oracle(published_ns, price_ticks if price_ticks > 0 else None)
            self.kpis.hold(published_ns, self._condition())
        return True

    def look_at_kill_word(self, at_ns: int) -> None:
        """A market whose quoter is dead cannot say so itself: its kill word is looked at apart."""
        if self._has_state and self._arena.killed(self.slot) != self._kill_word:
            self.kpis.hold(at_ns, self._condition())

    def look_at_orders(self, at_ns: int, rows: Iterable[int]) -> list[int]:
        """Takes over the live-order rows that changed; returns those that could not be read."""
        stuck = []
        for index in rows:
            if lib.live_order_read(ffi.addressof(self._order_rows[index]), self._order) != lib.RING_OK:
                stuck.append(index)
            elif self._order.state in _RESTING and self._order.remaining > 0:
                self._resting[index] = _in_book(self._order)
            else:
                self._resting.pop(index, None)
        bids: dict[int, int] = {}
        asks: dict[int, int] = {}
        for side, price_cents, remaining in self._resting.values():
            levels = bids if side == Side.BID else asks
            levels[price_cents] = levels.get(price_cents, 0) + remaining
        self.kpis.quote(at_ns, OwnQuotes(bids=bids, asks=asks))
        return stuck

    def _condition(self) -> Condition:
        state = self._state
        self._kill_word = self._arena.killed(self.slot)
        word = Kill(self._kill_word)
        gates = Gate(state.gates)
        if word:
            gates |= Gate.KILL_WORD
        level = DefenseLevel(state.defense)
        return Condition(
            phase=Phase(state.phase).name,
            level=level.name,
            gates=tuple(gate.name or str(gate.value) for gate in gates),
            kills=tuple(
                kill.name or str(kill.value)
                for kill in (*(word & ~Kill.STOPPING), *KillCause(state.kill_causes))
            ),
            # an engine that is told to stop has left the market
            active=state.market_status == MarketStatus.ACTIVE and not word & Kill.STOPPING,
            two_sided=level in _TWO_SIDED,
        )

    # ---- rings: what happened ----------------------------------------------------------------

    def on_order(self, record: Any, at_ns: int) -> None:
        """An intent on its way to the gateway."""
        kind = OrderKind(record.kind)
        if kind not in _COUNTED_KINDS:
            return
        self.kpis.request(at_ns)
        self._asked[record.worker_epoch, record.intent] = _Asked(
            kind,
            caused_mono_ns=int(record.trigger_mono_ns),
            decided_mono_ns=int(record.decided_mono_ns),
        )
        if len(self._asked) > _ASKED_MAX:
            self._asked.popitem(last=False)

    def on_execution(self, record: Any, at_ns: int) -> None:
        """What the gateway said."""
        kind = ExecutionKind(record.kind)
        if kind in _ANSWERS:
            self._on_answer(kind, record, at_ns)
        elif kind == ExecutionKind.FILL:
            self._on_fill(record, at_ns)
        elif kind in (ExecutionKind.MINTED, ExecutionKind.BURNED):
            pairs = int(record.quantity)
            self.kpis.supply(at_ns, pairs if kind == ExecutionKind.MINTED else -pairs)
        elif kind == ExecutionKind.MARKET_STATUS:
            self._status = MarketStatus(record.code)
        else:
            self._on_stock(kind, record, at_ns)

    def _on_answer(self, kind: ExecutionKind, record: Any, at_ns: int) -> None:
        key = (record.worker_epoch, record.intent)
        # An unknown outcome is answered again when it is known.
        asked = self._asked.get(key) if kind == ExecutionKind.UNKNOWN else self._asked.pop(key, None)
        if kind == ExecutionKind.CANCELLED:
            if asked is None:
                return  # nobody asked, or a batch's further orders
            if asked.kind == OrderKind.REPLACE:
                self._asked[key] = asked  # the order that gave way: the new one's answer follows
                return
        name = "UNASKED" if asked is None else asked.kind.name
        self.kpis.outcome(
            at_ns,
            f"{name} {_result(kind, record.code)}",
            posted_shares=int(record.quantity) if kind == ExecutionKind.ACKED else 0,
        )
        if asked is not None:
            self._on_latency(kind, asked, int(record.told_mono_ns))

    def _on_latency(self, kind: ExecutionKind, asked: _Asked, told_mono_ns: int) -> None:
        if kind == ExecutionKind.ACKED and asked.kind == OrderKind.REPLACE:
            took_ns = max(told_mono_ns - asked.decided_mono_ns, 0)
            self.kpis.latency(replace_bucket=lib.histogram_bucket(took_ns))
        elif kind == ExecutionKind.CANCELLED:
            took_ns = max(told_mono_ns - asked.caused_mono_ns, 0)
            self.kpis.latency(cancel_bucket=lib.histogram_bucket(took_ns))

    def _on_fill(self, record: Any, at_ns: int) -> None:
        fill = Fill(
            scenario=Scenario(record.scenario),
            side=Side(record.book_side),
            price_cents=int(record.price_cents),
            quantity=int(record.quantity),
            fee_cents=int(record.fee_cents),
        )
        try:
            self.kpis.fill(at_ns, fill, traded_ns=int(record.venue_unix_ns) or None)
        except ValueError as error:  # the venue's next word corrects the ledger, and shows as unexplained
            _log.warning("fill_contradicts_ledger", market=self.kpis.record.market_id, reason=str(error))

    def _on_stock(self, kind: ExecutionKind, record: Any, at_ns: int) -> None:
        if kind == ExecutionKind.SYNC_BEGIN:
            self._staged = Stock()
        elif kind == ExecutionKind.POSITION and self._staged is not None:
            self._staged = structs.replace(
                self._staged,
                yes_volume=int(record.yes_volume),
                no_volume=int(record.no_volume),
                yes_cost_sum_cents=int(record.yes_cost_cents),
                no_cost_sum_cents=int(record.no_cost_cents),
            )
        elif kind == ExecutionKind.CASH and self._staged is not None:
            self._staged = structs.replace(self._staged, cash_cents=int(record.cash_cents))
        elif kind == ExecutionKind.CASH:
            known = self.kpis.record.stock
            if known is not None and known.cash_cents != record.cash_cents:
                self.kpis.flow(at_ns, int(record.cash_cents) - known.cash_cents)
        elif kind == ExecutionKind.SYNC_END and self._staged is not None:
            stock, self._staged = self._staged, None
            self.kpis.venue_stock(at_ns, stock, settled=self._status in OVER)


_ANSWERS: Final = frozenset(
    {ExecutionKind.ACKED, ExecutionKind.REJECTED, ExecutionKind.UNKNOWN, ExecutionKind.CANCELLED}
)


def _result(kind: ExecutionKind, code: int) -> str:
    if kind != ExecutionKind.REJECTED:
        return kind.name
    try:
        return f"{kind.name} {LocalReject(code).name if code < 0 else code}"
    except ValueError:
        return f"{kind.name} {code}"


def _in_book(order: Any) -> tuple[Side, int, int]:
    """Side, YES price in cents and remaining shares of a ``live_order_t``."""
    yes = order.outcome == Outcome.YES
    buys_yes = (order.direction == Direction.BUY) == yes
    price_cents = order.price_cents if yes else PAIR_CENTS - order.price_cents
    return (Side.BID if buys_yes else Side.ASK), int(price_cents), int(order.remaining)
