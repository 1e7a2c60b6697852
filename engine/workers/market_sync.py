"""When a quoted market asks for the venue's word (SYNC, market-making §7.5), and the answer while it comes.

Writes: order intents ring.
"""

from __future__ import annotations

from typing import Final

from engine.workers.clock import Clock
from engine.workers.intents import IntentWriter
from engine.workers.sync_answer import SyncAnswer

_RETRY_NS: Final = 5_000_000_000


class MarketSync:
    """``done``: stock and orders are the venue's. ``answer`` is there from SYNC_BEGIN to SYNC_END, ``intent``
    is the last SYNC asked for."""

    def __init__(self, intents: IntentWriter) -> None:
        self.done = False
        self.answer: SyncAnswer | None = None
        self.intent = 0
        self._intents = intents
        # monotonic ns
        self._retry_ns = 0
        self._force_ns = 0  # 0 = not yet waiting for requests under way

    def ask(self) -> None:
        """The venue's word is wanted, as soon as nothing is under way."""
        self.done = False
        self._retry_ns = self._force_ns = 0

    def is_due(self, clock: Clock, *, any_busy: bool) -> bool:
        """Not while a request is under way, unless its answer is overdue."""
        if self.done or clock.mono_ns < self._retry_ns:
            return False
        if not self._force_ns:
            self._force_ns = clock.mono_ns + _RETRY_NS
        return clock.mono_ns >= self._force_ns or not any_busy

    def send(self, clock: Clock) -> None:
        self._retry_ns = clock.mono_ns + _RETRY_NS
        self.intent = self._intents.sync()
