"""The running exchange: takes commands one at a time, decides, commits, and tells its listeners.

Reads: commands from the routes. Writes: the state, the journal, and (after commit) the market streams.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from engine.paper.book import LevelChange
from engine.paper.commands import Command, HaltMarket
from engine.paper.decide import decide
from engine.paper.effects import Result
from engine.paper.guard import check_effects
from engine.paper.invariants import Breach
from engine.paper.model import Trade
from engine.paper.refusal import Code, Refusal
from engine.paper.state import State

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_IDS_PER_MS: Final = 1_000_000
_LOG: Final = logging.getLogger("engine.paper")


class Committed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became visible with one commit: the book levels it changed and the fills it made."""

    market_id: str
    at_unix_ms: int
    levels: list[LevelChange]
    trades: list[Trade]


class Clock:
    """Wall time in nanoseconds that never steps back, so that rows sort by (time, id)."""

    def __init__(self) -> None:
        self._last_unix_ns = 0

    def read_unix_ns(self) -> int:
        """Nanoseconds since the epoch, at least what was read before."""
        self._last_unix_ns = max(self._last_unix_ns, time.time_ns())
        return self._last_unix_ns


def utc(unix_ns: int) -> datetime:
    """The same instant as an aware datetime, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=unix_ns // 1000)


class Exchange:
    """Owner of the state and its only writer. All methods run on one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock: Final = clock
        self.state: Final = State(first_id=clock.read_unix_ns() // 1_000_000 * _IDS_PER_MS)
        self._listeners: Final[list[Callable[[Committed], None]]] = []

    def now(self) -> datetime:
        """The exchange's time."""
        return utc(self._clock.read_unix_ns())

    def listen(self, listener: Callable[[Committed], None]) -> None:
        """Call ``listener`` after each commit that changed a book or made a fill."""
        self._listeners.append(listener)

    async def submit(self, command: Command) -> Result:
        """Decide one command and commit what it changes before answering.

        Raises :class:`~engine.paper.refusal.Refusal` when it is declined; a refusal *returned* (6001) has
        changed something. The answer exists only after commit, and so does everything the streams say.
        """
        return self.commit(command)

    def commit(self, command: Command) -> Result:
        """The synchronous core of :meth:`submit`, also used to seed the exchange before it serves."""
        unix_ns = self._clock.read_unix_ns()
        decision = decide(self.state, command, utc(unix_ns))
        effects = decision.effects
        if effects is not None:
            breach = check_effects(self.state, effects)
            if breach is not None:
                self._halt(breach, unix_ns)
                raise Refusal(
                    Code.INTERNAL, "internal error: the transaction does not add up, nothing was done"
                )
            _, levels = self.state.apply(effects, unix_ns)
            fills = [trade for trade in effects.trades if not trade.is_audit]
            if levels or fills:
                market_id = fills[0].market_id if fills else effects.orders[0].market_id
                committed = Committed(
                    market_id=market_id, at_unix_ms=unix_ns // 1_000_000, levels=levels, trades=fills
                )
                for listener in self._listeners:
                    listener(committed)
        return decision.result

    def _halt(self, breach: Breach, unix_ns: int) -> None:
        """Stop the market a wrong transaction concerns and keep the reason (5.10)."""
        reason = f"{breach.check}: {breach.what}"
        _LOG.error("transaction refused, market %s halted: %s", breach.market_id, reason)
        if breach.market_id is not None:
            halting = decide(
                self.state, HaltMarket(market_id=breach.market_id, reason=reason), utc(unix_ns)
            ).effects
            assert halting is not None
            self.state.apply(halting, unix_ns)
