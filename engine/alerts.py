"""Alerts: what a person should hear of. Each is a structured log line and a counter in the process's row.

The counters outlive a restart of the process, ``corequote status`` shows their sum over all processes. A
storm of one alert of one market is one line a second; the counter counts every one of them.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Any, Final

import structlog
from msgspec import Struct

from engine._native import ffi, lib

_LINE_INTERVAL_NS: Final = 1_000_000_000

_log: Final = structlog.get_logger()


class Severity(Enum):
    INFO = "info"  # worth a line, nothing to do
    WARNING = "warning"  # look at it today
    CRITICAL = "critical"  # look at it now


class Alert(IntEnum):
    """Indexes into the alert counters of a process row; new names are added at the end."""

    KILL_SWITCH = 0  # a market stopped for good (§5.2); fields: causes
    KILL_REFUSED_RESUME = 1  # a resume was refused: a cause still holds
    RESUMED = 2
    DEFENSE_LEVEL = 3  # a level changed
    PHASE_ROLLBACK = 4  # EMERGENCY_ROLLBACK
    LIMIT_NEAR = 5  # 80 % of a limit is used
    INVENTORY_DRIFT_CRITICAL = 6  # own books rebuilt from the venue's (§7.5)
    INVENTORY_DRIFT_WARNING = 7  # a difference within tolerance
    INVENTORY_NETTING_OVERRIDE = 8  # YES and NO fell together without a burn
    ORDER_REJECTED = 9
    UNEXPECTED_CANCEL = 10  # an order went that nobody here cancelled
    GHOST_ORDER = 11  # 6002: the venue does not know an order of ours
    ORDER_OWNERSHIP = 12  # 6004
    MARKET_MISMATCH = 13  # 6005
    CLIENT_ID_REUSED = 14  # 4005
    STRAY_ORDER = 15  # an order of ours that nobody here knew
    CANCEL_NOT_CONFIRMED = 16  # still live 5 s after a kill's batch cancel
    MINT_MISMATCH = 17  # P1-P5: a mint or burn moved something else
    INVARIANT_BREACH = 18  # A1, A2, E1-E3
    ORACLE_STALE = 19
    ORACLE_UNUSABLE = 20  # a source answered with no value
    GATE_HELD = 21  # a transient gate held so long that it kills
    RATE_LIMITED = 22  # 429
    MARKET_STATUS = 23  # not ACTIVE, or not known
    CONFIG_REJECTED = 24  # an override was refused whole; fields: reason
    CONFIG_APPLIED = 25
    CONFIG_SOURCE_LOST = 26  # amm:config cannot be read: the last values hold
    CONFIG_EXPIRED = 27  # an override's time is over: the file's values hold
    REDIS_LOST = 28
    PROCESS_DIED = 29
    PROCESS_STALLED = 30
    CRASH_LOOP = 31
    RING_FULL = 32
    AUTO_MERGE_FAILED = 33
    AUTO_MINT_FAILED = 34
    PHASE_CHANGED = 35  # a phase ended in its own time
    START_FAILED = 36  # a market could not be started; fields: code, reason
    CONTROL_PAUSE = 37  # a control of the gateway stopped a market for a while; fields: control
    CONTROL_STALE = 38  # C14: admission closed; fields: what is too old
    CLOCK_SKEW = 39  # C17
    LOSS_LATCH = 40  # C13: all markets together lost too much
    EVENT_POISON = 41  # a message of the event bus that nobody can read: RUN/dead_letters.jsonl


class AlertCount(Struct, frozen=True, kw_only=True):
    """How often an alert was raised, and when last (Unix ns)."""

    name: str
    count: int
    last_unix_ns: int


class Alerts:
    """One process's alerts. ``row`` is its own ``process_row_t *``."""

    def __init__(self, row: Any) -> None:
        self._counts = row.alerts
        self._lines: dict[tuple[Alert, str], list[int]] = {}  # when last written, how many since

    def __call__(self, alert: Alert, severity: Severity, *, market: str = "", **fields: object) -> None:
        """Counts the alert and writes its line. ``fields`` are plain values; ``market`` is a market id."""
        now_mono_ns = int(lib.mono_now_ns())
        count = self._counts[int(alert)]
        lib.cell_add(ffi.addressof(count, "count"), 1)
        lib.cell_store(ffi.addressof(count, "last_unix_ns"), lib.unix_now_ns())
        line = self._lines.setdefault((alert, market), [now_mono_ns - _LINE_INTERVAL_NS, 0])
        if now_mono_ns - line[0] < _LINE_INTERVAL_NS:
            line[1] += 1
            return
        if market:
            fields["market"] = market
        if line[1]:
            fields["unlogged_before"] = line[1]
        line[:] = (now_mono_ns, 0)
        write = _log.info if severity is Severity.INFO else _log.warning
        write = _log.error if severity is Severity.CRITICAL else write
        write("alert", alert=alert.name, severity=severity.value, **fields)


def counts(row: Any) -> tuple[AlertCount, ...]:
    """What a ``process_row_t *`` has counted; alerts never raised are left out."""
    found = []
    for alert in Alert:
        cell = row.alerts[int(alert)]
        count = int(lib.cell_load(ffi.addressof(cell, "count")))
        if count:
            last = int(lib.cell_load(ffi.addressof(cell, "last_unix_ns")))
            found.append(AlertCount(name=alert.name, count=count, last_unix_ns=last))
    return tuple(found)
