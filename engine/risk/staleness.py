"""How old what an order rests on may be (reliability page §1, C14). Pure.

A quiet market is not stale: the book's age is the age of the feed's signs of life, never of its last change.
The fair price travels with the intent, whose own age limit of one second is below the five of the table.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final

from msgspec import Struct

from engine.config import QuoteConfig, RiskConfig

_NS_PER_MS: Final = 1_000_000


class Stale(IntFlag):
    """What is missing, invalid or too old."""

    BOOK = 1  # sequence gap, connection lost, snapshots that stopped, feed process silent
    WORKER = 2  # the market's quoter is silent
    RECONCILIATION = 4  # the venue's word on shares and cash


class Signs(Struct, frozen=True, kw_only=True, gc=False):
    """Times of the last signs of life, monotonic ns; 0 = never, which is too old."""

    book_valid: bool
    feed_mono_ns: int
    snapshot_mono_ns: int
    worker_mono_ns: int
    reconciled_mono_ns: int


def stale(
    signs: Signs,
    now_mono_ns: int,
    *,
    risk: RiskConfig,
    quote: QuoteConfig,
    reconcile_interval_ms: int,
) -> Stale:
    """Everything that is too old at this moment."""
    beat_ns = risk.heartbeat_stale_ms * _NS_PER_MS
    snapshot_ns = 2 * quote.ws_snapshot_interval_ms * _NS_PER_MS
    reconcile_ns = risk.reconcile_periods_max * reconcile_interval_ms * _NS_PER_MS
    found = Stale(0)
    if (
        not signs.book_valid
        or _older(signs.feed_mono_ns, beat_ns, now_mono_ns)
        or _older(signs.snapshot_mono_ns, snapshot_ns, now_mono_ns)
    ):
        found |= Stale.BOOK
    if _older(signs.worker_mono_ns, beat_ns, now_mono_ns):
        found |= Stale.WORKER
    if _older(signs.reconciled_mono_ns, reconcile_ns, now_mono_ns):
        found |= Stale.RECONCILIATION
    return found


def _older(at_mono_ns: int, limit_ns: int, now_mono_ns: int) -> bool:
    return at_mono_ns <= 0 or now_mono_ns - at_mono_ns > limit_ns
