"""From the outbox to the event bus: committed events, in commit order, at least once (contract section 4).

Events are written into the table ``outbox`` by the transaction they tell of. The publisher reads the oldest,
hands them to the bus, and deletes them once the bus has them all; so an event is published if and only if its
transaction committed. Whatever happens between delivery and deletion repeats the stretch: consumers drop an
``event_id`` they have seen, and what is left is in order within each market. While the bus is away the table
is the buffer, and memory holds one stretch at most.

Without a bus no event is written at all: a table that nobody drains would only grow.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Final, Protocol

import asyncpg
import msgspec

from engine.paper.postgres import STATEMENT_S_MAX, Database

STRETCH_MAX: Final = 500
"""Events in flight at most; a few hundred bytes each."""
STOP_S_MAX: Final = 2.0
"""How long a stopping exchange goes on delivering; what is left then is published after the next start."""
_IDLE_S_MAX: Final = 1.0
_RETRY_S: Final = 0.5
_LOG: Final = logging.getLogger("engine.paper.events")
_DATABASE_FAILURES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


class Message(msgspec.Struct, frozen=True, gc=False):
    """One event as it is published: ``key`` is the market, whose events stay in order."""

    topic: str
    key: str
    value: bytes


class EventsError(Exception):
    """The bus that was asked for cannot be used: one line that names it and the reason."""


class BusDownError(Exception):
    """The bus did not take a stretch, or not all of it: one line that says why."""


class EventBus(Protocol):
    """Where events go. Both methods may be called from different threads."""

    def deliver(self, messages: Sequence[Message]) -> None:
        """Block until the bus has stored them all, in order within each key, or raise BusDownError."""

    def close(self) -> None:
        """Give up: a delivery under way raises BusDownError soon, and none is begun any more."""


class Publisher:
    """Drains the outbox of one database into one bus. All methods run on the exchange's event loop."""

    def __init__(self, database: Database, bus: EventBus) -> None:
        self._database: Final = database
        self._bus: Final = bus
        self._session: asyncpg.Connection | None = None
        self._wake: Final = asyncio.Event()
        self._closing = False
        self._failing_since_s: float | None = None
        self._task: Final = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Something was committed to the outbox."""
        self._wake.set()

    async def close(self) -> None:
        """Publish what is there, for :data:`STOP_S_MAX` at most, and end."""
        self._closing = True
        self._wake.set()
        await asyncio.wait({self._task}, timeout=STOP_S_MAX)
        self._bus.close()
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._end_session()
        if not self._task.cancelled():
            self._task.result()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                published = await self._publish_some()
            except (BusDownError, *_DATABASE_FAILURES) as error:
                self._failed(error)
                if self._closing:
                    return
                await asyncio.sleep(_RETRY_S)
                continue
            self._succeeded()
            if published == 0:
                if self._closing:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _IDLE_S_MAX)

    async def _publish_some(self) -> int:
        """Publish and delete the oldest stretch; answers its length."""
        if self._session is None or self._session.is_closed():
            self._session = await self._database.runtime.connect()
        rows = await self._session.fetch(
            "SELECT event_id, topic, market_id, payload FROM outbox ORDER BY sequence, event_id LIMIT $1",
            STRETCH_MAX,
        )
        if rows:
            stretch = [Message(row["topic"], row["market_id"], row["payload"].encode()) for row in rows]
            await asyncio.to_thread(self._bus.deliver, stretch)
            published = [row["event_id"] for row in rows]
            await self._session.execute("DELETE FROM outbox WHERE event_id = ANY($1)", published)
        return len(rows)

    def _failed(self, error: Exception) -> None:
        if self._failing_since_s is None:
            self._failing_since_s = time.monotonic()
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            _LOG.warning("events wait in the outbox: %s", reason)

    def _succeeded(self) -> None:
        if self._failing_since_s is not None:
            _LOG.warning("events are published again, %.1f s late", time.monotonic() - self._failing_since_s)
            self._failing_since_s = None

    async def _end_session(self) -> None:
        if self._session is not None:
            with contextlib.suppress(*_DATABASE_FAILURES):
                await self._session.close(timeout=STATEMENT_S_MAX)
