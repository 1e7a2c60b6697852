"""Where a quoted market stands: its lifecycle (§8) and the venue's status, and how each is entered.

Writes: the kill word of its market, through its kill switch.
"""

from __future__ import annotations

import structlog

from engine.alerts import Alert, Alerts, Severity
from engine.events import OVER, PAID_OUT, KillCause, Lifecycle, MarketStatus
from engine.quoting.transitions import LIFECYCLE, LifecycleEvent, allows, step
from engine.workers.kill_switch import KillSwitch
from engine.workers.market_life import MarketLife
from engine.workers.sweep import Sweep

_log = structlog.get_logger()


class MarketState:
    """The only place where ``lifecycle`` and ``status`` change."""

    def __init__(
        self, *, market: str, life: MarketLife, kills: KillSwitch, sweep: Sweep, alert: Alerts
    ) -> None:
        self.lifecycle = Lifecycle.STOPPED if life.stopped else Lifecycle.STARTING
        self.status = MarketStatus.UNKNOWN
        self._market = market
        self._life = life
        self._kills = kills
        self._sweep = sweep
        self._alert = alert

    @property
    def is_active(self) -> bool:
        return self.status == MarketStatus.ACTIVE

    @property
    def is_over(self) -> bool:
        """Resolution and settlement move stock and cash without a trade."""
        return self.status in OVER

    def enter(self, event: LifecycleEvent) -> None:
        """Raises TransitionError for an event that the lifecycle's table does not have here."""
        before, self.lifecycle = self.lifecycle, step(LIFECYCLE, self.lifecycle, event)
        if before != self.lifecycle:
            if self.lifecycle == Lifecycle.EMERGENCY:
                self._sweep.arm()
            _log.info("lifecycle", market=self._market, before=before.name, now=self.lifecycle.name)

    def venue_says(self, status: MarketStatus) -> bool:
        """True when the status is news."""
        if status == self.status:
            return False
        _log.info("market_status", market=self._market, before=self.status.name, now=status.name)
        if self.is_active:
            self._alert(Alert.MARKET_STATUS, Severity.WARNING, market=self._market, status=status.name)
        self.status = status
        if status in PAID_OUT:
            self.enter(LifecycleEvent.CLOSED)
        elif status == MarketStatus.RESOLVED and allows(LIFECYCLE, self.lifecycle, LifecycleEvent.RESOLVED):
            self.enter(LifecycleEvent.RESOLVED)
        return True

    def kill(self, causes: KillCause) -> None:
        """Latches causes by name (§5.2): EMERGENCY until an operator's resume."""
        self._kills.kill(causes)
        if allows(LIFECYCLE, self.lifecycle, LifecycleEvent.KILL):
            self.enter(LifecycleEvent.KILL)

    def abandon(self) -> None:
        """Its process ends in order: STOPPED for whoever reads the row, whatever it was."""
        self.lifecycle = Lifecycle.STOPPED

    def start_failed(self, code: int, reason: str) -> None:
        """§8: a step of the start failed; an operator's START tries again. ``code``: the venue's or ours."""
        if self.lifecycle != Lifecycle.STARTING:
            return
        self._life.failed = True
        self.enter(LifecycleEvent.START_FAILED)
        self._alert(Alert.START_FAILED, Severity.CRITICAL, market=self._market, code=code, reason=reason)
