"""When each market was free to quote, and what held it back: the state board looked at many times a second.

The quoter publishes a row at every change of its gates, with the time it has spent ungated so far. From two
looks the moment of a change between them follows exactly as long as there was one; a second change in between
is not seen. A market whose quoter is dead cannot say so itself, so its kill word counts as a gate.

Reads: state rows, kill words and process rows of an attached arena (read-only is enough). Writes: nothing.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from engine._native import ffi, lib
from engine.arena import Arena, cell
from engine.events import Gate, Kill
from engine.spans import Spans, Switch

SAMPLE_S: Final = 0.02
_CPU_EVERY_NS: Final = 1_000_000_000


class StateReader:
    """Reusable buffers for reading one market's state row."""

    def __init__(self, arena: Arena, slot: int) -> None:
        self.header: Any = ffi.new("state_header_t *")
        self.state: Any = ffi.new("quoter_state_t *")
        self.attach(arena, slot)

    def attach(self, arena: Arena, slot: int) -> None:
        """Reads from this arena from now on: the engine was started anew."""
        self._row: Any = ffi.addressof(arena.market(slot), "state")

    def read(self) -> bool:
        """Refreshes ``header`` and ``state``; False while the market has published nothing stable."""
        code = lib.state_read(self._row, self.header, self.state, ffi.sizeof("quoter_state_t"))
        return bool(code == lib.RING_OK and self.header.kind == lib.STATE_KIND_QUOTER)


class Look(Struct, frozen=True, kw_only=True):
    """What one look at a market saw. Times of the row's last publication."""

    unix_ns: int
    ungated_ns: int
    gated: bool
    free: bool
    """Not gated, and the target in the range that counts."""


class MarketSampler:
    """One market's history of gates since its first quote."""

    def __init__(self, arena: Arena, slot: int, *, price_range: tuple[int, int] | None) -> None:
        self.slot: Final = slot
        self.market_id: Final = arena.market_id(slot)
        self.first_quote_unix_ns: int | None = None
        self.kills = 0
        self.gated_ns: Final[dict[str, int]] = {}
        self.free: Final = Switch()
        self.reader: Final = StateReader(arena, slot)
        self._arena = arena
        self._price_range: Final = price_range
        self._last: Look | None = None
        self._last_look_unix_ns = 0
        self._last_kill_word = 0

    @property
    def state(self) -> Any:
        """``quoter_state_t *`` as the last look saw it."""
        return self.reader.state

    def attach(self, arena: Arena, died_unix_ns: int) -> None:
        """A new engine in the place of one that died: between the two nobody was free to quote."""
        self.free.set(on=False, at_ns=died_unix_ns)
        self._last = None
        self._arena = arena
        self.reader.attach(arena, self.slot)

    def look(self, now_unix_ns: int) -> None:
        """One look. ``now_unix_ns`` is the wall time of the looking process."""
        if not self.reader.read():
            return
        state = self.reader.state
        if self.first_quote_unix_ns is None:
            if not state.first_quote_unix_ms:
                return
            self.first_quote_unix_ns = int(state.first_quote_unix_ms) * 1_000_000
        gates = self._gates()
        look = Look(
            unix_ns=int(self.reader.header.unix_ns),
            ungated_ns=int(state.ungated_ns),
            gated=bool(gates),
            free=not gates and self._may_be_counted(),
        )
        self._count_gated(gates, now_unix_ns)
        if self._last is None or look.free != self._last.free:
            self.free.set(on=look.free, at_ns=self._moment(look, now_unix_ns))
        self._last = look

    def free_spans(self, until_ns: int) -> Spans:
        """When nothing forbade quoting, from the first quote up to ``until_ns``."""
        return self.free.spans(until_ns)

    def _gates(self) -> Gate:
        """The quoter's gates, and the kill word as it stands now."""
        gates = Gate(self.reader.state.gates)
        word = self._arena.killed(self.slot)
        if word & ~Kill.STOPPING and not self._last_kill_word & ~Kill.STOPPING:
            self.kills += 1
        self._last_kill_word = word
        return gates | Gate.KILL_WORD if word else gates

    def _may_be_counted(self) -> bool:
        """Whether both touches of the target lie in the price range, if there is one.

        A level outside the strategy's limits is dropped, so a side without a touch is a target outside.
        """
        if self._price_range is None:
            return True
        low, high = self._price_range
        state = self.reader.state
        return bool(low <= state.touch_bid_cents and 0 < state.touch_ask_cents <= high)

    def _count_gated(self, gates: Gate, now_unix_ns: int) -> None:
        since_ns = now_unix_ns - self._last_look_unix_ns if self._last_look_unix_ns else 0
        self._last_look_unix_ns = now_unix_ns
        for gate in gates:
            name = gate.name or str(gate.value)
            self.gated_ns[name] = self.gated_ns.get(name, 0) + max(since_ns, 0)

    def _moment(self, look: Look, now_unix_ns: int) -> int:
        """When the change between the last look and this one happened."""
        last = self._last
        if last is None:
            return int(self.reader.state.first_quote_unix_ms) * 1_000_000 or look.unix_ns
        if look.unix_ns == last.unix_ns:
            return now_unix_ns  # the row stood still: it was the kill word that changed
        if look.gated == last.gated:
            return look.unix_ns  # it was the target that moved
        ungated_ns = min(max(look.ungated_ns - last.ungated_ns, 0), look.unix_ns - last.unix_ns)
        return look.unix_ns - ungated_ns if last.gated else last.unix_ns + ungated_ns


class WorkerSampler:
    """Where a quoter process really ran, asked of the kernel once a second."""

    def __init__(self, arena: Arena, worker: int) -> None:
        self.cores: Final[set[int]] = set()
        self.pid = 0
        self._worker: Final = worker
        self._due_unix_ns = 0
        self.attach(arena)

    def attach(self, arena: Arena) -> None:
        self._row: Any = arena.process(lib.PROCESS_QUOTER_FIRST + self._worker)

    @property
    def planned_core(self) -> int | None:
        """The core the supervisor pinned it to."""
        planned = int(lib.cell_load(cell(self._row, "planned_cpu")))
        return planned - 1 if planned else None

    def look(self, now_unix_ns: int) -> None:
        if now_unix_ns < self._due_unix_ns:
            return
        if lib.cell_load(cell(self._row, "state")) != lib.PROCESS_RUNNING:
            return  # before it is pinned a process runs anywhere
        pid = int(lib.cell_load(cell(self._row, "pid")))
        core = last_core(pid)
        if core is not None:
            self.pid = pid
            self.cores.add(core)
            self._due_unix_ns = now_unix_ns + _CPU_EVERY_NS


def last_core(pid: int) -> int | None:
    """The core a process last ran on (proc(5), field 39 of stat); None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # the second field, the name, may hold spaces and parentheses: count from behind its end
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[36])


class EngineSampler:
    """All markets and workers of one engine."""

    def __init__(self, arena: Arena, *, price_range: tuple[int, int] | None = None) -> None:
        """``price_range``: cents; while a market's target lies outside, its time does not count."""
        slots = arena.used_markets()
        self.markets: Final = [MarketSampler(arena, slot, price_range=price_range) for slot in slots]
        self.workers: Final = {
            worker: WorkerSampler(arena, worker) for worker in {arena.market_worker(slot) for slot in slots}
        }

    def look(self) -> None:
        """One look at everything; call it every ``SAMPLE_S``."""
        now_unix_ns = int(lib.unix_now_ns())
        for market in self.markets:
            market.look(now_unix_ns)
        for worker in self.workers.values():
            worker.look(now_unix_ns)

    def attach(self, arena: Arena, died_unix_ns: int) -> None:
        """Goes on with the arena of an engine that took the place of one that died."""
        for market in self.markets:
            market.attach(arena, died_unix_ns)
        for worker in self.workers.values():
            worker.attach(arena)

    @property
    def all_quoting_since_unix_ns(self) -> int | None:
        """First quote of the last market; None until every market has quoted."""
        firsts = [market.first_quote_unix_ns for market in self.markets]
        return None if None in firsts else max(first for first in firsts if first is not None)
