"""Quote gates (market-making §5.3): transient stops that open by themselves; the lifecycle stays RUNNING.

Pure. Times are milliseconds of one monotonic clock. Each gate's rule of entry and release stands beside it.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, structs

from engine.config import QuoteConfig
from engine.events import Gate, Side
from engine.quoting.ratios import exceeds, falls_below

LINK_SILENCE_MS: Final = 5_000  # BOOK_STALE: WebSocket disconnected for longer
LATENCY_SAMPLES: Final = 20
LATENCY_CALM_MS: Final = 5_000
LATENCY_RELEASE_PERCENT: Final = 80  # of max_latency_ms
API_CALLS: Final = 100
API_CALLS_MIN: Final = 20
API_CALM_MS: Final = 10_000
API_RELEASE: Final = 0.50  # of api_error_threshold
TIMEOUT_MS: Final = 60_000  # §5.2 GATE_TIMEOUT

#: Gates that leave orders on the book: POST_FILL holds back new ones, as does INVENTORY while a SYNC is its
#: only cause; ORACLE_GAP pulls one side.
_PARTIAL: Final = Gate.POST_FILL | Gate.INVENTORY | Gate.ORACLE_GAP
_NO_GATE: Final = Gate(0)
# Bits of gates that are asked for at every look. The operators of an IntFlag are Python functions.
_PULLING_BITS: Final = ~int(_PARTIAL)
_ORACLE_DEVIATION_BIT: Final = int(Gate.ORACLE_DEVIATION)
_LATENCY_BIT: Final = int(Gate.LATENCY)
_API_ERRORS_BIT: Final = int(Gate.API_ERRORS)


class Calls(Struct, frozen=True, kw_only=True):
    """Venue calls: all of them and those that failed, since some moment."""

    requests: int = 0
    errors: int = 0


class CallWindow(Struct, frozen=True, kw_only=True):
    """Running totals of calls, oldest first, as far back as the last 100 calls reach."""

    samples: tuple[Calls, ...] = ()

    def recent(self) -> Calls:
        """The last 100 calls, or a few more, or fewer while there are fewer."""
        if not self.samples:
            return Calls()
        first, last = self.samples[0], self.samples[-1]
        return Calls(requests=last.requests - first.requests, errors=last.errors - first.errors)


def observed(window: CallWindow, total: Calls) -> CallWindow:
    """The window after one more look at the totals. A total that fell is another gateway's: begin anew."""
    samples = window.samples
    if samples and (total.requests < samples[-1].requests or total.errors < samples[-1].errors):
        samples = ()
    if samples and total == samples[-1]:
        return window
    samples = (*samples, total)
    while len(samples) > 2 and total.requests - samples[1].requests >= API_CALLS:
        samples = samples[1:]
    return CallWindow(samples=samples)


class GateEvidence(Struct, frozen=True, kw_only=True):
    """What a cycle knows about the world outside."""

    book_valid: bool = True
    link_down_ms: int = 0  # how long the feed's connection has been down; 0 = up
    snapshot_age_ms: int | None = None  # None = the feed does not say
    feed_latency_ms: float | None = None  # median of the last 20 messages; None = fewer
    calls: Calls = Calls()  # the last 100
    own_fill_ms: int | None = None  # time of the last own fill
    lvr_fell: bool = False  # the velocity lock falls now
    oracle_deviates: bool = False
    oracle_gap_side: Side | None = None  # of a value that came since the last look
    inventory_confirmed: bool = True
    kill_word: bool = False
    market_active: bool = True
    redis_lost: bool = False  # Redis has not held the newest rows for redis.pause_after_ms


_ALL_OPEN: Final = (-1, -1, -1)


class GateState(Struct, frozen=True, kw_only=True):
    """Gates held, and what their release waits for."""

    held: Gate = Gate(0)
    post_fill_until_ms: int = 0
    lvr_until_ms: int = 0
    deviated_ms: int = 0  # last time the oracle was outside
    gap_until_ms: int = 0
    gap_side: Side | None = None
    slow_ms: int = 0  # last time latency was not below its release
    failing_ms: int = 0  # last time the error rate was not below its release
    timed_since_ms: tuple[int, int, int] = _ALL_OPEN  # BOOK_STALE, LATENCY, API_ERRORS; -1 = open

    @property
    def pulls(self) -> bool:
        """Whether every quote has to go."""
        return bool(int(self.held) & _PULLING_BITS)

    def timed_out(self, now_ms: int) -> Gate:
        """Timed gates held for longer than 60 s."""
        found = _NO_GATE
        if self.timed_since_ms == _ALL_OPEN:
            return found
        for gate, since_ms in zip(_TIMED_ORDER, self.timed_since_ms, strict=True):
            if since_ms >= 0 and now_ms - since_ms > TIMEOUT_MS:
                found |= gate
        return found


_TIMED_ORDER: Final = (Gate.BOOK_STALE, Gate.LATENCY, Gate.API_ERRORS)
_TIMED_BITS: Final = int(Gate.BOOK_STALE | Gate.LATENCY | Gate.API_ERRORS)


def _book_is_stale(seen: GateEvidence, quote: QuoteConfig) -> bool:
    """Sequence gap, connection down, or snapshots that stopped coming. A quiet feed alone is not stale."""
    silent = seen.snapshot_age_ms is not None and seen.snapshot_age_ms > 2 * quote.ws_snapshot_interval_ms
    return not seen.book_valid or seen.link_down_ms > LINK_SILENCE_MS or silent


def _latency(state: GateState, seen: GateEvidence, quote: QuoteConfig, now_ms: int) -> tuple[bool, int]:
    """Enters above max_latency_ms, leaves after 5 s below 80 % of it. (held, last slow time)."""
    latency_ms, limit_ms = seen.feed_latency_ms, quote.max_latency_ms
    fast = latency_ms is None or 100 * latency_ms < LATENCY_RELEASE_PERCENT * limit_ms
    slow_ms = state.slow_ms if fast else now_ms
    if latency_ms is not None and latency_ms > limit_ms:
        return True, slow_ms
    return bool(int(state.held) & _LATENCY_BIT) and now_ms - slow_ms < LATENCY_CALM_MS, slow_ms


def _api_errors(state: GateState, seen: GateEvidence, quote: QuoteConfig, now_ms: int) -> tuple[bool, int]:
    """Enters above api_error_threshold of at least 20 calls, leaves after 10 s below half of it."""
    calls, limit = seen.calls, quote.api_error_threshold
    calm = falls_below(calls.errors, calls.requests, limit * API_RELEASE)
    failing_ms = state.failing_ms if calm else now_ms
    if calls.requests >= API_CALLS_MIN and exceeds(calls.errors, calls.requests, limit):
        return True, failing_ms
    return bool(int(state.held) & _API_ERRORS_BIT) and now_ms - failing_ms < API_CALM_MS, failing_ms


def _oracle_gap(
    state: GateState, seen: GateEvidence, quote: QuoteConfig, now_ms: int
) -> tuple[int, Side | None]:
    """(until, side). A gap the other way while one is held pulls that side instead, from now on."""
    if seen.oracle_gap_side is not None:
        return now_ms + quote.observation_period_ms, seen.oracle_gap_side
    return state.gap_until_ms, state.gap_side if now_ms < state.gap_until_ms else None


def advance(state: GateState, seen: GateEvidence, quote: QuoteConfig, *, now_ms: int) -> GateState:
    """The gates after one look."""
    post_fill_until_ms = state.post_fill_until_ms
    if seen.own_fill_ms is not None:
        post_fill_until_ms = max(post_fill_until_ms, seen.own_fill_ms + quote.post_fill_delay_ms)
    lvr_until_ms = now_ms + quote.lvr_cooldown_ms if seen.lvr_fell else state.lvr_until_ms
    deviated_ms = now_ms if seen.oracle_deviates else state.deviated_ms
    deviating = seen.oracle_deviates or (
        bool(int(state.held) & _ORACLE_DEVIATION_BIT) and now_ms - deviated_ms < quote.observation_period_ms
    )
    gap_until_ms, gap_side = _oracle_gap(state, seen, quote, now_ms)
    slow, slow_ms = _latency(state, seen, quote, now_ms)
    failing, failing_ms = _api_errors(state, seen, quote, now_ms)
    held = _NO_GATE
    if now_ms < post_fill_until_ms:
        held |= Gate.POST_FILL
    if now_ms < lvr_until_ms:
        held |= Gate.LVR_COOLDOWN
    if deviating:
        held |= Gate.ORACLE_DEVIATION
    if gap_side is not None:
        held |= Gate.ORACLE_GAP
    if _book_is_stale(seen, quote):
        held |= Gate.BOOK_STALE
    if slow:
        held |= Gate.LATENCY
    if failing:
        held |= Gate.API_ERRORS
    if not seen.inventory_confirmed:
        held |= Gate.INVENTORY
    if seen.kill_word:
        held |= Gate.KILL_WORD
    if not seen.market_active:
        held |= Gate.MARKET_STATUS
    if seen.redis_lost:
        held |= Gate.REDIS
    return GateState(
        held=held,
        post_fill_until_ms=post_fill_until_ms,
        lvr_until_ms=lvr_until_ms,
        deviated_ms=deviated_ms,
        gap_until_ms=gap_until_ms,
        gap_side=gap_side,
        slow_ms=slow_ms,
        failing_ms=failing_ms,
        timed_since_ms=_timed_since(state, held, now_ms),
    )


def _timed_since(state: GateState, held: Gate, now_ms: int) -> tuple[int, int, int]:
    if not int(held) & _TIMED_BITS:
        return _ALL_OPEN
    stale, slow, failing = (
        (since_ms if since_ms >= 0 else now_ms) if held & gate else -1
        for gate, since_ms in zip(_TIMED_ORDER, state.timed_since_ms, strict=True)
    )
    return stale, slow, failing


def next_release_ms(state: GateState) -> int | None:
    """When a gate with a fixed end opens next; None while none is held."""
    held = int(state.held)
    ends = [
        until_ms
        for bit, until_ms in (
            (int(Gate.POST_FILL), state.post_fill_until_ms),
            (int(Gate.LVR_COOLDOWN), state.lvr_until_ms),
            (int(Gate.ORACLE_GAP), state.gap_until_ms),
        )
        if held & bit
    ]
    return min(ends, default=None)


def without_timers(state: GateState) -> GateState:
    """The same gates with the clock of GATE_TIMEOUT started anew: nobody is held up by them now."""
    return structs.replace(state, timed_since_ms=_ALL_OPEN)
