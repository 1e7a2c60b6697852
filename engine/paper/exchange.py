"""The running exchange: one committer decides the waiting commands in order and commits them together.

There are two states. ``working`` is what commands are decided on; it runs ahead by the batch that is being
written. ``state`` is what everybody sees; it follows once the batch is committed, and only then are callers
answered and listeners told. While one batch is written the next one gathers, so the busier the exchange, the
more commands share a transaction. A refused command leaves its batch before anything is written, but hears
of it with the others: what it was refused on may not have been committed yet.

When the database takes nothing of a batch, ``working`` is thrown away and made anew from the rows, and the
batch is decided again: as a whole if its session was lost, else command by command, so that one that cannot
be written does not take its neighbours along.

Reads: commands from the routes. Writes: the database, and (after commit) the state and the market streams.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from engine.paper.book import LevelChange
from engine.paper.commands import Command, HaltMarket
from engine.paper.decide import decide
from engine.paper.effects import Effects, Result
from engine.paper.events import outbox_events, wal_events
from engine.paper.guard import check_effects
from engine.paper.invariants import Breach
from engine.paper.journal_view import JournalEnd, JournalView
from engine.paper.model import Trade
from engine.paper.refusal import Code, Refusal
from engine.paper.state import State
from engine.paper.store import Batch, RolledBackError, SessionLostError, Store

BATCH_MAX: Final = 128
"""Commands one transaction takes at most; more would keep the event loop from reading requests."""
WAITING_MAX: Final = 4096
ATTEMPTS_MAX: Final = 5
"""How often a batch is tried whose session ends under it."""
_TICK_NS: Final = 1000
_LOG: Final = logging.getLogger("engine.paper")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_IDS_PER_MS: Final = 1_000_000


class Committed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became visible with one commit: the book levels it changed and the fills it made."""

    market_id: str
    at_unix_ms: int
    levels: list[LevelChange]
    trades: list[Trade]


class Clock:
    """Wall time that rises with every reading, by a microsecond at least: rows never share a time."""

    def __init__(self) -> None:
        self._last_unix_ns = 0

    def read_unix_ns(self) -> int:
        """Nanoseconds since the epoch, more than what was read before."""
        self._last_unix_ns = max(self._last_unix_ns + _TICK_NS, time.time_ns())
        return self._last_unix_ns

    def never_before(self, unix_ns: int) -> None:
        """Continue after a time that rows already carry, whatever the wall says."""
        self._last_unix_ns = max(self._last_unix_ns, unix_ns)


def utc(unix_ns: int) -> datetime:
    """The same instant as an aware datetime, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=unix_ns // 1000)


class _Waiting(msgspec.Struct, frozen=True):
    """A command and where its answer goes."""

    command: Command
    answer: asyncio.Future[Result]

    def tell(self, result: Result) -> None:
        """Answer the caller, if it still waits."""
        if not self.answer.done():
            self.answer.set_result(result)

    def fail(self, error: Exception) -> None:
        """Raise at the caller, if it still waits."""
        if not self.answer.done():
            self.answer.set_exception(error)


class _Decided(msgspec.Struct, frozen=True):
    """A command of the batch that is being written: its effects, if any, and what its caller will hear.

    ``error`` is raised at the caller. It comes without effects, or with those of halting a market.
    """

    waiting: _Waiting
    unix_ns: int
    effects: Effects | None = None
    result: Result | None = None
    error: Exception | None = None


class Exchange:
    """Owner of both states and their only writer. All methods run on one event loop."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        state: State,
        working: State,
        end: JournalEnd,
        on_events: Callable[[], None] | None,
    ) -> None:
        self.state: Final = state
        self._store: Final = store
        self._clock: Final = clock
        self._working = working
        self._journal_end = end
        self._on_events: Final = on_events
        self._listeners: Final[list[Callable[[Committed], None]]] = []
        self._watchers: Final[list[Callable[[], None]]] = []
        self._waiting: Final[deque[_Waiting]] = deque()
        self._wake: Final = asyncio.Event()
        self._closing = False
        self._failure: Exception | None = None

    @classmethod
    async def open(
        cls, store: Store, clock: Clock, on_events: Callable[[], None] | None = None
    ) -> "Exchange":
        """The exchange that the database's rows describe.

        ``on_events`` is called after each commit that put events into the outbox. Without it nobody
        publishes, and none are written.
        """
        rows, end, last_unix_ns = await store.load()
        clock.never_before(last_unix_ns)
        working = State.restored(rows)
        # Ids rise over restarts too, and tell roughly when they were issued.
        working.next_id = max(working.next_id, clock.read_unix_ns() // 1_000_000 * _IDS_PER_MS)
        return cls(store, clock, State.restored(rows), working, end, on_events)

    def now(self) -> datetime:
        """The exchange's time."""
        return utc(self._clock.read_unix_ns())

    def listen(self, listener: Callable[[Committed], None]) -> None:
        """Call ``listener`` after each commit that changed a book or made a fill."""
        self._listeners.append(listener)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher`` after every command that changed anything, before its caller is answered."""
        self._watchers.append(watcher)

    async def journal(self, after: int, limit: int) -> JournalView:
        """Up to ``limit`` committed effects with a sequence above ``after``."""
        return await self._store.journal(after, limit)

    async def submit(self, command: Command) -> Result:
        """Have one command decided and committed; answers once what it changed is durable and visible.

        Raises :class:`~engine.paper.refusal.Refusal` when it is declined; a refusal *returned* (6001) has
        changed something. Raises 9001 when too many commands wait, and
        :class:`~engine.paper.store.RolledBackError` or :class:`~engine.paper.store.StoreLostError` when the
        database did not take it.
        """
        if self._failure is not None:
            raise self._failure
        if len(self._waiting) >= WAITING_MAX:
            raise Refusal(Code.RATE_LIMITED, f"{WAITING_MAX} commands are waiting, no more are taken")
        waiting = _Waiting(command, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._wake.set()
        return await waiting.answer

    # -- the committer -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Commit what is submitted until :meth:`close`; raises StoreLostError when the database is gone."""
        try:
            while self._waiting or not self._closing:
                if self._waiting:
                    size = min(len(self._waiting), BATCH_MAX)
                    await self._commit([self._waiting.popleft() for _ in range(size)])
                else:
                    self._wake.clear()
                    await self._wake.wait()
        except Exception as error:
            self._failure = error
            while self._waiting:
                self._waiting.popleft().fail(error)
            raise

    def close(self) -> None:
        """Let :meth:`run` end once nothing waits any more."""
        self._closing = True
        self._wake.set()

    async def _commit(self, batch: list[_Waiting], attempts: int = ATTEMPTS_MAX) -> None:
        decided, written = self._decide(batch)
        try:
            if written.commits:
                await self._store.write(written)
        except RolledBackError as error:
            await self._rebuild()
            if isinstance(error, SessionLostError) and attempts > 1:
                await self._commit(batch, attempts - 1)
            elif len(batch) == 1:
                batch[0].fail(error)
            else:
                for waiting in batch:
                    await self._commit([waiting])
            return
        except Exception as error:
            for waiting in batch:
                waiting.fail(error)
            raise
        if written.has_events and self._on_events is not None:
            self._on_events()
        for one in decided:
            self._publish(one)

    def _decide(self, batch: list[_Waiting]) -> tuple[list[_Decided], Batch]:
        """Decide commands in order, each on what those before it did; nobody sees any of it yet."""
        decided = []
        written = Batch()
        for waiting in batch:
            one = self._decide_one(waiting)
            if one.effects is not None:
                self._stage(one.effects, one.unix_ns, written)
            decided.append(one)
        return decided, written

    def _decide_one(self, waiting: _Waiting) -> _Decided:
        unix_ns = self._clock.read_unix_ns()
        try:
            effects, result = decide(self._working, waiting.command, utc(unix_ns))
        except Refusal as refusal:
            return _Decided(waiting, unix_ns, error=refusal)
        except Exception as bug:
            _LOG.exception("%s cannot be decided", type(waiting.command).__name__)
            return _Decided(waiting, unix_ns, error=bug)
        breach = check_effects(self._working, effects) if effects is not None else None
        if breach is not None:
            error = Refusal(
                Code.INTERNAL, "internal error: the transaction does not add up, nothing was done"
            )
            return _Decided(waiting, unix_ns, effects=self._halting(breach, unix_ns), error=error)
        return _Decided(waiting, unix_ns, effects=effects, result=result)

    def _halting(self, breach: Breach, unix_ns: int) -> Effects | None:
        """Stop the market a wrong transaction concerns and keep the reason (5.10)."""
        reason = f"{breach.check}: {breach.what}"
        _LOG.error("transaction refused, market %s halted: %s", breach.market_id, reason)
        if breach.market_id is None:
            return None
        return decide(
            self._working, HaltMarket(market_id=breach.market_id, reason=reason), utc(unix_ns)
        ).effects

    def _stage(self, effects: Effects, unix_ns: int, written: Batch) -> None:
        before, at = self._working, utc(unix_ns)
        commit = self._journal_end.next(effects, unix_ns)
        written.add(effects, commit)
        for account in effects.accounts:
            written.move(before.accounts.get(account.user_id), account)
        if self._on_events is not None:
            written.tell(outbox_events(effects, before, commit.first_sequence, unix_ns, at))
        written.trace(wal_events(effects, at))
        before.apply(effects)
        self._journal_end = JournalEnd(commit.number, commit.last_sequence)

    def _publish(self, one: _Decided) -> None:
        """Show what one command changed, then answer it."""
        effects = one.effects
        if effects is not None:
            levels = self.state.apply(effects)
            fills = [trade for trade in effects.trades if not trade.is_audit]
            if levels or fills:
                committed = Committed(
                    market_id=fills[0].market_id if fills else effects.orders[0].market_id,
                    at_unix_ms=one.unix_ns // 1_000_000,
                    levels=levels,
                    trades=fills,
                )
                for listener in self._listeners:
                    listener(committed)
            for watcher in self._watchers:
                watcher()
        if one.error is not None:
            one.waiting.fail(one.error)
        else:
            assert one.result is not None
            one.waiting.tell(one.result)

    async def _rebuild(self) -> None:
        """Make the working state anew from the database's rows (5.10)."""
        rows, self._journal_end, _ = await self._store.load()
        self._working = State.restored(rows)
