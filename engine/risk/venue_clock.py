"""How far the venue's clock is from ours (reliability page §1, C17). Pure.

An answer was stamped somewhere between its request's first byte and its own last one, and a Date header names
a whole second. So each answer proves an interval in which the difference lies; only what is proven counts,
and a slow answer proves little.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final

from msgspec import Struct

_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000


class ClockOffset(Struct, frozen=True, kw_only=True):
    """Venue minus local, ms: at least ``low``, at most ``high``."""

    low_ms: int = 0
    high_ms: int = 0

    @property
    def proven_ms(self) -> int:
        """The least difference that every reading allows; 0 when the clocks may agree."""
        if self.low_ms > 0:
            return self.low_ms
        return -self.high_ms if self.high_ms < 0 else 0


def offset(
    *, stamp_unix_ns: int, resolution_ns: int, sent_unix_ns: int, received_unix_ns: int
) -> ClockOffset:
    """What one answer proves.

    Its stamp, rounded down to ``resolution_ns``, was taken at a moment of [stamp, stamp + resolution) by the
    venue's clock and of [sent, received] by ours.
    """
    return ClockOffset(
        low_ms=(stamp_unix_ns - received_unix_ns) // _NS_PER_MS,  # rounded outward, as is
        high_ms=-((sent_unix_ns - stamp_unix_ns - resolution_ns) // _NS_PER_MS),
    )


class VenueClock:
    """The offset over the last readings, narrowed by each of them; what contradicts starts anew.

    A difference drifts, so what is older than the window proves nothing any more: two halves of a window are
    kept, and the older one is dropped when the younger is full.
    """

    def __init__(self, window_ns: int = 60_000_000_000) -> None:
        self._half_ns: Final = window_ns // 2
        self._since_unix_ns = 0
        self._older: ClockOffset | None = None
        self._newer: ClockOffset | None = None
        self._stamp = b""
        self._stamp_unix_ns = 0
        self.proven_ms = 0  # least difference that the readings allow

    def seen(self, date: bytes, *, sent_unix_ns: int, received_unix_ns: int) -> None:
        """One answer's ``Date`` header; an unreadable one proves nothing."""
        if date != self._stamp:
            try:
                instant = parsedate_to_datetime(date.decode())
            except (ValueError, TypeError):
                return
            self._stamp, self._stamp_unix_ns = date, int(instant.timestamp()) * _NS_PER_S
        reading = offset(
            stamp_unix_ns=self._stamp_unix_ns,
            resolution_ns=_NS_PER_S,
            sent_unix_ns=sent_unix_ns,
            received_unix_ns=received_unix_ns,
        )
        if not 0 <= received_unix_ns - self._since_unix_ns < self._half_ns:
            self._since_unix_ns, self._older, self._newer = received_unix_ns, self._newer, None
        self._newer = narrowed(self._newer, reading)
        self.proven_ms = narrowed(self._older, self._newer).proven_ms


def narrowed(known: ClockOffset | None, reading: ClockOffset) -> ClockOffset:
    """Both hold; where they contradict, a clock was set, and the newer one holds."""
    if known is None:
        return reading
    low_ms, high_ms = max(known.low_ms, reading.low_ms), min(known.high_ms, reading.high_ms)
    return ClockOffset(low_ms=low_ms, high_ms=high_ms) if low_ms <= high_ms else reading
