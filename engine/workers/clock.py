"""The two times of one pass, read once and handed down: decisions see no other clock."""

from __future__ import annotations

from msgspec import Struct

from engine._native import lib


class Clock(Struct, frozen=True, kw_only=True):
    """Monotonic ns for durations, Unix ms for what the venue and Redis see."""

    mono_ns: int
    unix_ms: int

    @property
    def mono_ms(self) -> int:
        return self.mono_ns // 1_000_000


def now() -> Clock:
    return Clock(mono_ns=lib.mono_now_ns(), unix_ms=lib.unix_now_ns() // 1_000_000)


def unix_ms() -> int:
    """Wall clock, Unix ms, for stamps that nothing is decided by."""
    return int(lib.unix_now_ns()) // 1_000_000
