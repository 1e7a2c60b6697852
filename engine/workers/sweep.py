"""Taking every order of a market off the book: for a gate, a stop, or a kill (market-making §5.2, §5.3).

Writes: order intents ring.
"""

from __future__ import annotations

from typing import Any, Final

from engine.alerts import Alert, Alerts, Severity
from engine.workers.clock import Clock
from engine.workers.intents import IntentWriter
from engine.workers.own_orders import OwnOrders

_RETRY_NS: Final = 1_000_000_000
_ALERT_NS: Final = 5_000_000_000


class Sweep:
    """One market's; ``counters`` is its ``quoter_state_t *``."""

    def __init__(
        self,
        *,
        market: str,
        orders: OwnOrders,
        intents: IntentWriter,
        counters: Any,
        alert: Alerts,
        clock: Clock,
    ) -> None:
        self._market = market
        self._orders = orders
        self._intents = intents
        self._counters = counters
        self._alert = alert
        self._swept_ns = clock.mono_ns - _RETRY_NS
        self._armed = False  # a kill's one batch cancel is still to be sent
        self._since_ns = 0  # when it was; 0 = nothing is waited for

    def arm(self) -> None:
        """A kill: its batch cancel goes out with the next look."""
        self._armed = True

    def disarm(self) -> None:
        self._armed, self._since_ns = False, 0

    def pull(self, clock: Clock) -> None:
        """One batch cancel; again at once for an order that lands after it, and each second until none is
        live. What was under way is not in the venue's book yet when the cancel gets there."""
        orders = self._orders
        if not orders or (clock.mono_ns < self._swept_ns + _RETRY_NS and not orders.any_landed):
            return
        self._swept_ns = clock.mono_ns
        intent = self._intents.cancel_all()
        orders.all_leave(intent)
        self._counters.cancels += 1

    def pull_killed(self, clock: Clock, *, word_is_up: bool) -> None:
        """One batch cancel. While the kill word is up the gateway verifies and repeats it by itself."""
        if not self._orders:
            self.disarm()
        elif self._armed and clock.mono_ns >= self._swept_ns + _RETRY_NS:
            self._armed, self._since_ns = False, clock.mono_ns
            self.pull(clock)
        elif not word_is_up:  # suspended: nobody else looks
            self.pull(clock)
        elif self._since_ns and clock.mono_ns - self._since_ns > _ALERT_NS:
            self._since_ns = 0
            self._alert(
                Alert.CANCEL_NOT_CONFIRMED,
                Severity.CRITICAL,
                market=self._market,
                live=len(self._orders),
            )
