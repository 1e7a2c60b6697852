"""The gateway's controls at work: what refusals and answers come to, pauses, and what closes admission.

The checks of single orders are ``native/pretrade.c``, asked by the last hop.

A pause is the bit PAUSE in the market's kill word: the sweeper pulls the market's orders, nothing new goes
out, the quoter sees the word as a gate, ``corequote status`` names it, an alert says which control it was,
and it ends by itself. C12 three times over is for a person: the market's quoter is told to latch it.

Reads: top rows, heartbeats, config slots, state rows (losses only).
Writes: PAUSE and RISK in kill words, kill files.
"""

from __future__ import annotations

import time
from typing import Any, Final

import structlog

from engine import kill_files
from engine._native import ffi, lib
from engine.alerts import Alert, Severity
from engine.arena import ArenaError
from engine.events import Direction, LocalReject, Outcome
from engine.kill_files import KillOrder
from engine.risk import losses
from engine.risk.breakers import Control
from engine.venues import platform_rest as venue
from engine.venues.venue_clock import VenueClock
from engine.workers.gateway_market import GatewayMarket
from engine.workers.gateway_reports import WorkerReports
from engine.workers.process import WorkerProcess

_log = structlog.get_logger()

_NS_PER_MS: Final = 1_000_000
_STALE_PULL_NS: Final = 100_000_000  # C14: quotes are gone or going this long after their reference
_CLOCK_ALERT_NS: Final = 60_000_000_000

#: Our own refusals that are the ordinary course of things and no news for a person.
_ROUTINE: Final = frozenset(
    {
        LocalReject.KILLED,
        LocalReject.PAUSED,
        LocalReject.STALE,
        LocalReject.STALE_EPOCH,
        LocalReject.NOT_READY,
        LocalReject.RATE_LIMIT,
        LocalReject.UNKNOWN_ORDER,
    }
)


class Controls:
    """One gateway's. Only its event loop touches it."""

    def __init__(
        self,
        proc: WorkerProcess,
        markets: dict[int, GatewayMarket],
        reports: dict[int, WorkerReports],
        clock: VenueClock,
    ) -> None:
        risk = proc.config.risk
        self._proc: Final = proc
        self._risk: Final = risk
        self._markets: Final = markets
        self._reports: Final = reports
        self._clock: Final = clock
        self._pause_ns: Final = risk.pause_ms * _NS_PER_MS
        self._stale_since: Final[dict[int, int]] = {}  # by market slot; 0 = not yet ever fresh
        self._clock_alert_mono_ns = 0
        self._header = ffi.new("state_header_t *")
        self._state = ffi.new("quoter_state_t *")
        for market in markets.values():
            market.lower_pause()  # a predecessor's; its orders are off the book before this one admits any

    # -- what is counted

    def refused_here(self, market: GatewayMarket, terms: Any, reason: LocalReject) -> None:
        """The last hop has refused an order; ``terms``: its record, or its row."""
        if reason not in _ROUTINE:
            self._proc.alert(
                Alert.ORDER_REJECTED,
                Severity.WARNING,
                market=market.market_id,
                reason=reason.name,
                outcome=Outcome(terms.outcome).name,
                direction=Direction(terms.direction).name,
                price_cents=terms.price_cents,
                quantity=terms.quantity,
            )
        now_mono_ns = int(lib.mono_now_ns())
        control = market.breakers.refused_here(reason, now_mono_ns)
        if control is not None:
            self.pause(market, control, now_mono_ns)

    def answered(self, market: GatewayMarket, code: int = 0) -> None:
        """The venue has answered a new order: done (0), or refused; of its code the quoter alerts."""
        now_mono_ns = int(lib.mono_now_ns())
        if code == venue.REPLACE_NOT_OURS:
            market.raise_kill(lib.KILL_RISK)  # its quoter latches OWNERSHIP when it is told
        control = market.breakers.answered(code, now_mono_ns)
        if control is not None:
            self.pause(market, control, now_mono_ns)

    def unknown(self, market: GatewayMarket) -> None:
        """A new order's request has no intelligible answer."""
        now_mono_ns = int(lib.mono_now_ns())
        control = market.breakers.unknown(now_mono_ns)
        if control is not None:
            self.pause(market, control, now_mono_ns)

    # -- pauses

    def pause(self, market: GatewayMarket, control: Control, now_mono_ns: int) -> None:
        """Stops the market for the time of a pause; one that is paused begins anew."""
        market.paused_until_mono_ns = now_mono_ns + self._pause_ns
        market.raise_kill(lib.KILL_PAUSE)
        self._wake(market)
        self._proc.alert(
            Alert.CONTROL_PAUSE, Severity.WARNING, market=market.market_id, control=control.value
        )
        if control is Control.EXECUTIONS and market.breakers.throttled(now_mono_ns):
            market.raise_kill(lib.KILL_RISK)
            self._reports[market.worker].rejected(
                market, code=LocalReject.EXECUTIONS, intent=0, worker_epoch=market.worker_epoch()
            )

    def watch(self, now_mono_ns: int) -> list[GatewayMarket]:
        """Looks at every market; those whose orders must go because what they rest on is too old."""
        pulled = []
        for market in self._markets.values():
            self._take_config(market)
            control, market.tripped = market.tripped, None
            if control is not None:
                self.pause(market, control, now_mono_ns)
            if market.paused_until_mono_ns and now_mono_ns >= market.paused_until_mono_ns:
                market.lower_pause()
                self._wake(market)
                _log.info("pause_over", market=market.market_id)
            if self._must_pull(market, now_mono_ns):
                pulled.append(market)
            self._reconcile_if_due(market)
        return pulled

    def _take_config(self, market: GatewayMarket) -> None:
        """An operator's limit holds for the next order, whatever its quoter has made of it (§10, W)."""
        try:
            news = market.take_config()
        except ArenaError as error:  # its writer died within the write; the next one repairs it
            _log.error("config_unreadable", market=market.market_id, reason=str(error))
            return
        if news:
            _log.info("config_applied", market=market.market_id, version=market.config_version)

    def _must_pull(self, market: GatewayMarket, now_mono_ns: int) -> bool:
        found = market.stale(now_mono_ns)
        if not found:
            self._stale_since[market.slot] = now_mono_ns
            return False
        since_mono_ns = self._stale_since.get(market.slot, 0)
        if now_mono_ns - since_mono_ns < _STALE_PULL_NS or not market.orders or market.sweeping:
            return False
        self._proc.alert(Alert.CONTROL_STALE, Severity.WARNING, market=market.market_id, stale=found.name)
        return True

    def _reconcile_if_due(self, market: GatewayMarket) -> None:
        """§7.5: after a ghost, and when a gap or reconnect of the feed has begun a new book generation."""
        top = market.top()
        if top.valid and top.generation != market.seen_generation:
            market.reconcile_due |= market.seen_generation != 0
            market.seen_generation = int(top.generation)
        if market.reconcile_due and market.open_for_orders:
            market.reconcile_due = False
            self._reports[market.worker].rejected(
                market, code=LocalReject.RECONCILE, intent=0, worker_epoch=market.worker_epoch()
            )

    def _wake(self, market: GatewayMarket) -> None:
        self._proc.ring_bell(lib.PROCESS_QUOTER_FIRST + market.worker)

    # -- the engine as a whole

    def watch_engine(self, now_mono_ns: int) -> None:
        """Once a second: the loss of all markets together (C13) and the venue's clock (C17)."""
        limit = losses.limit_cents(self._risk, (market.quote for market in self._markets.values()))
        if losses.too_much(self._daily_pnls(), limit):
            self._latch(limit)
        offset_ms = self._clock.proven_ms
        if offset_ms > self._risk.clock_warn_ms and now_mono_ns >= self._clock_alert_mono_ns:
            self._clock_alert_mono_ns = now_mono_ns + _CLOCK_ALERT_NS
            closed = offset_ms > self._risk.clock_stop_ms
            self._proc.alert(
                Alert.CLOCK_SKEW,
                Severity.CRITICAL if closed else Severity.WARNING,
                offset_ms=offset_ms,
                orders_stopped=closed,
            )

    def _daily_pnls(self) -> list[int]:
        found = []
        for slot in self._markets:
            row = ffi.addressof(self._proc.arena.market(slot), "state")
            code = lib.state_read(row, self._header, self._state, ffi.sizeof("quoter_state_t"))
            if code == lib.RING_OK and self._header.kind == lib.STATE_KIND_QUOTER:
                found.append(int(self._state.daily_pnl_cents))
        return found

    def _latch(self, limit: int) -> None:
        """Every market is killed until a person resumes it: file first, then the word (market-making §8)."""
        reason = f"all markets together lost more than {limit} cents today"
        latched = [market for market in self._markets.values() if not market.killed() & lib.KILL_ADMIN]
        for market in latched:
            order = KillOrder(
                market_id=market.market_id,
                reason=reason,
                by="gateway C13",
                unix_ms=time.time_ns() // _NS_PER_MS,
            )
            try:
                kill_files.write(self._proc.run_dir, order)
            except OSError as error:  # a disk that is full stops no kill
                _log.critical("kill_file_not_written", market=market.market_id, reason=str(error))
            market.raise_kill(lib.KILL_ADMIN)
            self._wake(market)
        if latched:
            self._proc.alert(Alert.LOSS_LATCH, Severity.CRITICAL, limit_cents=limit, markets=len(latched))
