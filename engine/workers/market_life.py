"""How a market's quoting begins and ends while its quoter lives on (§8): first snapshot, stop, winding down.

Decisions only; the market carries them out. A market that an operator stopped stays stopped over every
restart, one whose start failed is tried again by its next quoter.
"""

from __future__ import annotations

from enum import Enum, IntEnum, auto
from typing import Final

from engine._native import lib
from engine.workers.clock import Clock

SNAPSHOT_NS_MAX: Final = 10_000_000_000  # start step 7
GRACEFUL_NS_MAX: Final = 10_000_000_000
IMMEDIATE_NS_MAX: Final = 1_000_000_000
_BURN_RETRY_NS: Final = 1_000_000_000
_NOT_ENOUGH_SHARES: Final = 5001  # our picture of the free shares is wrong: look again, then try again


class StopMode(IntEnum):
    """GRACEFUL ends with a reconciliation, IMMEDIATE as soon as nothing is live."""

    GRACEFUL = lib.STOP_GRACEFUL
    IMMEDIATE = lib.STOP_IMMEDIATE


class Step(Enum):
    """What the market does next towards its end."""

    WAIT = auto()
    RECONCILE = auto()
    BURN = auto()
    END = auto()


class MarketLife:
    """Owned by one QuotedMarket."""

    def __init__(self, *, stopped: bool, recovering: bool) -> None:
        """``stopped``: by an operator. ``recovering``: a predecessor quoted, no snapshot can be late."""
        self.stopped = stopped
        self.failed = False  # the start: nothing is asked of the gateway before an operator's START
        self._recovering = recovering
        self._waiting_since_ns = 0  # for the first snapshot
        self._mode: StopMode | None = None
        self._deadline_ns = 0
        self._reconciled = False
        self._burn_intent = 0
        self._burn_ended = False
        self._burn_due_ns = 0

    # ---- start -------------------------------------------------------------------------------

    def start(self) -> None:
        """An operator's START: from here on as after the process began."""
        self.stopped = self.failed = self._recovering = False
        self._mode = None
        self._waiting_since_ns = 0

    def snapshot_is_late(self, clock: Clock, *, feed_runs: bool) -> bool:
        """Everything else is there, and the book is not (start step 7). A feed that is itself still starting,
        or being started again, is waited for."""
        if self._recovering or not feed_runs:
            self._waiting_since_ns = 0
            return False
        if not self._waiting_since_ns:
            self._waiting_since_ns = clock.mono_ns
        return clock.mono_ns - self._waiting_since_ns > SNAPSHOT_NS_MAX

    # ---- stop --------------------------------------------------------------------------------

    @property
    def leaving(self) -> bool:
        """Nothing new may be sent: stopped, or on the way there."""
        return self.stopped or self.failed or self._mode is not None

    @property
    def stop_asked(self) -> bool:
        """An operator's STOP has not come to its end."""
        return self._mode is not None

    def stop(self, mode: StopMode, clock: Clock) -> None:
        """An operator's STOP. IMMEDIATE overtakes a GRACEFUL one."""
        if self._mode == StopMode.IMMEDIATE:
            return
        limit_ns = IMMEDIATE_NS_MAX if mode == StopMode.IMMEDIATE else GRACEFUL_NS_MAX
        self._mode, self._deadline_ns, self._reconciled = mode, clock.mono_ns + limit_ns, False

    def stop_step(self, clock: Clock, *, live: int, synced: bool) -> Step:
        """§8 Stop. When the time is over the market counts as stopped and goes on cancelling."""
        if self._mode is None:
            return Step.WAIT
        if clock.mono_ns < self._deadline_ns:
            if live:
                return Step.WAIT
            if self._mode == StopMode.GRACEFUL:
                if not self._reconciled:
                    self._reconciled = True
                    return Step.RECONCILE
                if not synced:
                    return Step.WAIT
        self._mode = None
        self.stopped = True
        return Step.END

    # ---- winding down ------------------------------------------------------------------------

    def wind_step(self, clock: Clock, *, pairs: int) -> Step:
        """With no order live and the venue's word in: one burn of every free pair, or none (D22)."""
        if self._burn_ended or (pairs <= 0 and not self._burn_intent):
            return Step.END
        if self._burn_intent or clock.mono_ns < self._burn_due_ns:
            return Step.WAIT
        return Step.BURN

    def burn_sent(self, intent: int) -> None:
        self._burn_intent = intent

    def burned(self, intent: int) -> None:
        """The gateway's BURNED for an intent of this worker."""
        self._burn_ended |= intent == self._burn_intent != 0

    def burn_refused(self, intent: int, code: int, clock: Clock) -> Step:
        """A REJECTED of this worker's intent: what the venue refuses (3002) is held to settlement, what we
        refused ourselves is tried again, what contradicts our stock after a reconciliation."""
        if not intent or intent != self._burn_intent:
            return Step.WAIT
        self._burn_intent = 0
        if code < 0 or code == _NOT_ENOUGH_SHARES:
            self._burn_due_ns = clock.mono_ns + _BURN_RETRY_NS
            return Step.RECONCILE if code > 0 else Step.WAIT
        self._burn_ended = True
        return Step.END

    def forget_requests(self) -> None:
        """Another gateway: it finishes the old one's burn by its key, and the next sync counts it."""
        self._burn_intent = 0
