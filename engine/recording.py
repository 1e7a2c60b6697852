"""The recorded feed seen from the demo: the crowd process is followed, and at each of its checkpoints the
quoter's book must be exactly the recording's ladder plus the engine's own live orders.

Three parties speak: the crowd (its ladder, confirmed by its own order listing), the exchange's journal (the
engine's live orders) and the quoter's state row (digest of its book). Orders move meanwhile, so a comparison
is repeated until the three agree or its time is up.

Reads: the crowd's stdout, the observer's fold, a market's state row. Writes: ``next`` to the crowd's stdin.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec

from engine.events import Side
from engine.observer import Observer, book_digest
from engine.paper.client import RefusedError, UnreachableError
from engine.sampler import StateReader
from engine.stage import ChildProcess, StageError

COMPARE_S_MAX: Final = 5.0
COMPARE_EVERY_S: Final = 0.02
DIFFERENCES_KEPT: Final = 5
LINE_BYTES_MAX: Final = 1 << 20

Ladder = list[tuple[int, int]]


class CrowdEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the crowd's stdout; which fields it has depends on ``event``."""

    event: str
    messages: int = 0
    n: int = 0
    line: int = 0
    bids: Ladder = []
    asks: Ladder = []


class Recording:
    """Follows one crowd in one market."""

    def __init__(
        self, crowd: ChildProcess, *, observer: Observer, market_id: str, reader: StateReader
    ) -> None:
        self.checkpoints = 0
        self.matched = 0
        self.messages = 0
        self.finished = False
        self.unmatched: Final[list[str]] = []
        self._crowd: Final = crowd
        self._observer: Final = observer
        self._market_id: Final = market_id
        self._reader: Final = reader
        self._task: Final = asyncio.create_task(self._follow())

    def is_over(self) -> bool:
        """Whether the crowd has said all it will say. Raises StageError when it broke off."""
        if not self._task.done():
            return False
        error = self._task.exception()
        if error is not None:
            raise StageError(f"the crowd cannot be followed: {error!r}")
        if not self.finished:
            raise StageError("the crowd fell silent before the recording's end")
        return True

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _follow(self) -> None:
        stdout, stdin = self._crowd.process.stdout, self._crowd.process.stdin
        assert stdout is not None
        assert stdin is not None
        while line := await stdout.readline():
            event = msgspec.json.decode(line, type=CrowdEvent)
            if event.event == "ready":
                self.messages = event.messages
            elif event.event == "checkpoint":
                await self._compare(event)
                stdin.write(b"next\n")
                await stdin.drain()
            elif event.event == "done":
                self.finished = True

    async def _compare(self, checkpoint: CrowdEvent) -> None:
        """Looks until the quoter's book is the expected one, for at most ``COMPARE_S_MAX``."""
        self.checkpoints += 1
        deadline = time.monotonic() + COMPARE_S_MAX
        while True:
            difference = await self._difference(checkpoint)
            if not difference:
                self.matched += 1
                return
            if time.monotonic() > deadline:
                if len(self.unmatched) < DIFFERENCES_KEPT:
                    self.unmatched.append(f"checkpoint {checkpoint.n} (line {checkpoint.line}): {difference}")
                return
            await asyncio.sleep(COMPARE_EVERY_S)

    async def _difference(self, checkpoint: CrowdEvent) -> str:
        """What keeps the quoter's book from being the expected one; empty when nothing does."""
        try:
            await self._observer.catch_up()
        except (RefusedError, UnreachableError) as error:
            return f"journal: {error}"
        books = {Side.BID: dict(checkpoint.bids), Side.ASK: dict(checkpoint.asks)}
        for (side, price_cents), lots in self._observer.fold.market(self._market_id).levels().items():
            books[side][price_cents] = books[side].get(price_cents, 0) + lots
        expected = book_digest(books[Side.BID], books[Side.ASK])
        if not self._reader.read():
            return "no state row"
        state = self._reader.state
        if not state.book_valid:
            return "the quoter holds no valid book"
        if state.book_digest != expected:
            return f"digest {state.book_digest:016x}, expected {expected:016x}"
        return ""
