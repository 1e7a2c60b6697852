"""What a REJECTED of a market's own request means to it (market-making §6.2): one row per code.

Codes above zero are the venue's, those below zero the gateway's own (``LocalReject``).
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from engine.alerts import Alert, Severity
from engine.events import KillCause, LocalReject

_RATE_SHUT_NS: Final = 1_000_000_000


class Refusal(Struct, frozen=True, kw_only=True):
    """What follows from one code."""

    alert: Alert | None = Alert.ORDER_REJECTED  # None: part of the day's work, a log line is enough
    severity: Severity = Severity.WARNING
    pause_ns: int = 250_000_000  # no new ladder for so long
    shut_ns: int = 0  # no new order for so long; cancels go on
    resync: bool = False  # our picture of the venue is wrong: ask for the venue's
    kills: KillCause = KillCause(0)


_UNLISTED: Final = Refusal()
_EXPECTED: Final = Refusal(alert=None)
_REFUSALS: Final = {
    int(LocalReject.RATE_LIMIT): Refusal(alert=None, pause_ns=0, shut_ns=_RATE_SHUT_NS),
    2001: Refusal(resync=True),
    4005: Refusal(alert=Alert.CLIENT_ID_REUSED, severity=Severity.CRITICAL, resync=True),
    4006: _EXPECTED,  # this one, 6001 and 6003: partly or fully filled meanwhile
    5001: Refusal(resync=True),
    6001: _EXPECTED,
    6002: Refusal(alert=Alert.GHOST_ORDER, resync=True),
    6003: _EXPECTED,
    6004: Refusal(alert=Alert.ORDER_OWNERSHIP, severity=Severity.CRITICAL, kills=KillCause.OWNERSHIP),
    6005: Refusal(alert=Alert.MARKET_MISMATCH, severity=Severity.CRITICAL),
    9001: Refusal(alert=Alert.RATE_LIMITED, pause_ns=0, shut_ns=_RATE_SHUT_NS),
}


def refusal(code: int) -> Refusal:
    """A code without a row: the venue's is an alert, the gateway's own is expected."""
    return _REFUSALS.get(code, _UNLISTED if code > 0 else _EXPECTED)
