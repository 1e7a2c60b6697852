"""Controls that count: what stops a market for a while (reliability page §1: C4, C11, C12, C15).

One set per market, owned by the gateway, fed by its own refusals, answers and fills. Each method returns the
control that trips, or None; a control that tripped begins to count anew. Integers and monotonic time only.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from engine.config import RiskConfig
from engine.events import LocalReject, Side
from engine.risk.windows import Window

_NS_PER_MS: Final = 1_000_000

#: Refusals of the venue that say nothing against us: a race with a fill (C15).
EXPECTED_REFUSALS: Final = frozenset({6001, 6003})


class Control(Enum):
    """Why a market was paused."""

    COLLAR = "C4: orders too far from fair"
    DUPLICATES = "C11: the same order again before an answer"
    EXECUTIONS = "C12: filled too often too fast"
    REFUSALS = "C15: the venue refuses too much"
    UNKNOWNS = "C15: too many outcomes unknown"


class Breakers:
    """The counters of one market."""

    def __init__(self, limits: RiskConfig) -> None:
        self._limits: Final = limits
        self._collar: Final = Window(limits.collar_window_ms * _NS_PER_MS)
        self._duplicates: Final = Window(limits.duplicates_window_ms * _NS_PER_MS)
        self._executed: Final = Window(limits.executed_shares_window_ms * _NS_PER_MS)
        self._side_fills: Final = {side: Window(limits.side_fills_window_ms * _NS_PER_MS) for side in Side}
        self._throttled: Final = Window(limits.executions_kill_window_ms * _NS_PER_MS)
        answers_ns = limits.answers_window_ms * _NS_PER_MS
        self._answers: Final = Window(answers_ns, entries_max=200_000)
        self._refused: Final = Window(answers_ns, entries_max=200_000)
        self._unknown: Final = Window(answers_ns, entries_max=200_000)

    def refused_here(self, code: LocalReject, now_mono_ns: int) -> Control | None:
        """One of the last checks has refused an order."""
        limits = self._limits
        if code == LocalReject.COLLAR and self._collar.add(now_mono_ns) >= limits.collar_refusals_max:
            self._collar.clear()
            return Control.COLLAR
        if code == LocalReject.DUPLICATE and self._duplicates.add(now_mono_ns) >= limits.duplicates_max:
            self._duplicates.clear()
            return Control.DUPLICATES
        return None

    def answered(self, code: int, now_mono_ns: int) -> Control | None:
        """The venue has answered a new order; ``code`` 0: it is done."""
        answers = self._answers.add(now_mono_ns)
        if code == 0 or code in EXPECTED_REFUSALS:
            return None
        refused = self._refused.add(now_mono_ns)
        limits = self._limits
        if answers >= limits.answers_min and 100 * refused > limits.refused_percent * answers:
            self._answers.clear()
            self._refused.clear()
            return Control.REFUSALS
        return None

    def unknown(self, now_mono_ns: int) -> Control | None:
        """A new order's request has no intelligible answer."""
        if self._unknown.add(now_mono_ns) > self._limits.unknowns_max:
            self._unknown.clear()
            return Control.UNKNOWNS
        return None

    def filled(self, side: Side, shares: int, now_mono_ns: int) -> Control | None:
        """An order of ours was filled by ``shares``."""
        limits = self._limits
        too_much = self._executed.add(now_mono_ns, shares) > limits.executed_shares_max
        too_often = self._side_fills[side].add(now_mono_ns) >= limits.side_fills_max
        if not (too_much or too_often):
            return None
        self._executed.clear()
        for window in self._side_fills.values():
            window.clear()
        return Control.EXECUTIONS

    def throttled(self, now_mono_ns: int) -> bool:
        """EXECUTIONS has paused the market once more; True: that was once too often, a person must look."""
        if self._throttled.add(now_mono_ns) < self._limits.executions_kill_count:
            return False
        self._throttled.clear()
        return True
