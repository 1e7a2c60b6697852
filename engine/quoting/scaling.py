"""Size and spread near the end of trading and near announced events (market-making §5.4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from engine.config import QuoteConfig

_HOUR_MS: Final = 3_600_000


class Scale(Struct, frozen=True, kw_only=True):
    """Factors on size and spread. Several that hold at once: least size, largest spread."""

    size: float = 1.0
    spread: float = 1.0

    def with_(self, other: Scale) -> Scale:
        return Scale(size=min(self.size, other.size), spread=max(self.spread, other.spread))


# Time left above which a scale holds, ms; the last one holds down to the end and after it.
_TIME_TO_END: Final = (
    (24 * _HOUR_MS, Scale()),
    (_HOUR_MS, Scale(size=0.5, spread=1.5)),
    (_HOUR_MS // 4, Scale(size=0.2, spread=2.0)),
)
_LAST_MINUTES: Final = Scale(size=0.05, spread=3.0)


def time_to_end(left_ms: int) -> Scale:
    """``left_ms`` until trading_end_at; the bounds themselves belong to the later stage (EX-29)."""
    for above_ms, scale in _TIME_TO_END:
        if left_ms > above_ms:
            return scale
    return _LAST_MINUTES


def event_shield(now_ms: int, event_times_ms: Iterable[int], quote: QuoteConfig) -> Scale:
    """Before and after each configured event, within event_shield_window_ms of it."""
    window_ms = quote.event_shield_window_ms
    if any(abs(now_ms - moment_ms) <= window_ms for moment_ms in event_times_ms):
        return Scale(size=quote.event_qty_ratio, spread=quote.event_spread_multiplier)
    return Scale()
