"""Signs of informed flow: the VPIN proxy and how fast own quotes are lifted (market-making §5.3, §5.5, D10).

Pure. Times are milliseconds of one monotonic clock.
"""

from __future__ import annotations

from msgspec import Struct

from engine.config import QuoteConfig
from engine.events import Side
from engine.quoting.ratios import exceeds


class Vpin(Struct, frozen=True, kw_only=True):
    """The proxy as a ratio of integers; 0 / 0 while there are fewer trades than the window."""

    imbalance_shares: int = 0  # |2 * sells - total|
    volume_shares: int = 0

    @property
    def value(self) -> float:
        """|sell_vol / total_vol - 0.5| * 2, for showing."""
        return self.imbalance_shares / self.volume_shares if self.volume_shares else 0.0


def vpin(*, trades: int, shares: int, sold_shares: int, window: int) -> Vpin:
    """Of the newest ``window`` trades: how many there are, their shares, and those the aggressor sold."""
    if trades < window:
        return Vpin()
    return Vpin(imbalance_shares=abs(2 * sold_shares - shares), volume_shares=shares)


class OwnFill(Struct, frozen=True, kw_only=True):
    """One fill of an own order."""

    time_ms: int
    side: Side  # of the YES book, ours
    shares: int


class LvrState(Struct, frozen=True, kw_only=True):
    """Own fills that still count, and when the velocity lock fell lately. Bounded by their windows."""

    fills: tuple[OwnFill, ...] = ()
    triggers_ms: tuple[int, ...] = ()


def filled(state: LvrState, fill: OwnFill) -> LvrState:
    """The state after one more own fill."""
    return LvrState(fills=(*state.fills, fill), triggers_ms=state.triggers_ms)


def watch(
    state: LvrState, *, resting_bid_shares: int, resting_ask_shares: int, quote: QuoteConfig, now_ms: int
) -> tuple[LvrState, bool]:
    """(state, whether the lock falls now).

    A side's size when the window began is what rests now plus what was filled within the window. A fill
    that tripped the lock does not trip it twice.
    """
    state = pruned(state, quote, now_ms)
    for side, resting in ((Side.BID, resting_bid_shares), (Side.ASK, resting_ask_shares)):
        taken = sum(fill.shares for fill in state.fills if fill.side == side)
        if exceeds(taken, resting + taken, quote.lvr_velocity_threshold):
            return LvrState(triggers_ms=(*state.triggers_ms, now_ms)), True
    return state, False


def pruned(state: LvrState, quote: QuoteConfig, now_ms: int) -> LvrState:
    """The state without what its windows have left behind."""
    if not (state.fills or state.triggers_ms):
        return state
    fills = tuple(fill for fill in state.fills if now_ms - fill.time_ms <= quote.velocity_window_ms)
    kept = tuple(at_ms for at_ms in state.triggers_ms if now_ms - at_ms < quote.lvr_kill_window_ms)
    return LvrState(fills=fills, triggers_ms=kept)


def repeats(state: LvrState, quote: QuoteConfig) -> bool:
    """LVR_REPEAT: the lock fell ``lvr_kill_count`` times within the kill window."""
    return len(state.triggers_ms) >= quote.lvr_kill_count
