"""How far the venue's clock is from ours (reliability page §1, C17). Pure.

An answer was stamped somewhere between its request's first byte and its own last one, and a Date header names
a second or two. So each answer proves an interval in which the difference lies; only what is proven counts,
and a slow answer proves little.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from msgspec import Struct

_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_STAMP: Final = b'"timestamp":"'
_TAIL_BYTES: Final = 160
DATE_RESOLUTION_NS: Final = 2 * _NS_PER_S  # a second, and servers keep the header for another


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
        self._date = b""
        self._date_unix_ns = 0
        self.proven_ms = 0  # least difference that the readings allow

    def seen(self, date: bytes, body: bytes, *, sent_unix_ns: int, received_unix_ns: int) -> None:
        """One answer: the ``timestamp`` of its envelope, else its ``Date`` header; neither proves nothing."""
        stamp_unix_ns, resolution_ns = _envelope_unix_ns(body), _NS_PER_MS
        if stamp_unix_ns is None:
            stamp_unix_ns, resolution_ns = self._of_date(date), DATE_RESOLUTION_NS
        if stamp_unix_ns is None:
            return
        reading = offset(
            stamp_unix_ns=stamp_unix_ns,
            resolution_ns=resolution_ns,
            sent_unix_ns=sent_unix_ns,
            received_unix_ns=received_unix_ns,
        )
        if not 0 <= received_unix_ns - self._since_unix_ns < self._half_ns:
            self._since_unix_ns, self._older, self._newer = received_unix_ns, self._newer, None
        self._newer = narrowed(self._newer, reading)
        self.proven_ms = narrowed(self._older, self._newer).proven_ms

    def _of_date(self, date: bytes) -> int | None:
        if not date:
            return None
        if date != self._date:
            try:
                self._date_unix_ns = int(parsedate_to_datetime(date.decode()).timestamp()) * _NS_PER_S
            except (ValueError, TypeError):
                return None
            self._date = date
        return self._date_unix_ns


def _envelope_unix_ns(body: bytes) -> int | None:
    """The contract's envelope ends with its ``timestamp``."""
    at = body.rfind(_STAMP, max(0, len(body) - _TAIL_BYTES))
    end = body.find(b'"', at + len(_STAMP))
    if at < 0 or end < 0:
        return None
    try:
        instant = datetime.fromisoformat(body[at + len(_STAMP) : end].decode())
    except ValueError:
        return None
    if instant.tzinfo is None:
        return None
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * _NS_PER_S + since.microseconds * 1_000


def narrowed(known: ClockOffset | None, reading: ClockOffset) -> ClockOffset:
    """Both hold; where they contradict, a clock was set, and the newer one holds."""
    if known is None:
        return reading
    low_ms, high_ms = max(known.low_ms, reading.low_ms), min(known.high_ms, reading.high_ms)
    return ClockOffset(low_ms=low_ms, high_ms=high_ms) if low_ms <= high_ms else reading
