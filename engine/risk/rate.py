"""Limits that keep a venue's fixed window whatever the window's phase. Pure: time is an argument.

A venue that counts requests in fixed minutes sees, in any minute, at most what the bucket held at its
start plus what it gained: with a third of the limit as capacity and two thirds gained per minute, never
more than the limit. The counting is ``native/token_bucket.c``, in integer token-nanoseconds: nothing is lost
to rounding.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from engine._native import ffi, lib

WINDOW_NS: Final = lib.BUCKET_WINDOW_MS * 1_000_000
LIMIT_PER_MINUTE_MIN: Final = 3  # a third of it is the capacity: one request


class Bucket:
    """Tokens up to ``capacity``, ``gain_per_minute`` more each minute; starts full."""

    def __init__(
        self, *, capacity: int, gain_per_minute: int, now_mono_ns: int, at: Any | None = None
    ) -> None:
        """``at``: the ``token_bucket_t *`` to use, which its owner keeps; None: one of its own."""
        self.capacity: Final = capacity
        self._native: Final = ffi.new("token_bucket_t *") if at is None else at
        lib.bucket_init(self._native, capacity, gain_per_minute, now_mono_ns)

    def tokens(self, now_mono_ns: int) -> int:
        """Requests that may be sent now; 0 while shut, negative never."""
        return int(lib.bucket_tokens(self._native, now_mono_ns))

    def take(self, now_mono_ns: int) -> None:
        """Accounts for one request that goes out. A resend that must go may overdraw the bucket."""
        lib.bucket_take(self._native, now_mono_ns)

    def shut(self, until_mono_ns: int) -> None:
        """The venue said 429: nothing goes out before ``until_mono_ns``."""
        self._native.shut_until_mono_ns = max(self._native.shut_until_mono_ns, until_mono_ns)


class TokenBucket(Bucket):
    """Requests allowed by a fixed-window ``limit_per_minute``."""

    def __init__(self, limit_per_minute: int, now_mono_ns: int, *, at: Any | None = None) -> None:
        if limit_per_minute < LIMIT_PER_MINUTE_MIN:
            raise ValueError(
                f"limit_per_minute={limit_per_minute}, "
                f"at least {LIMIT_PER_MINUTE_MIN} is needed to fill a bucket"
            )
        capacity = limit_per_minute // 3
        super().__init__(
            capacity=capacity, gain_per_minute=limit_per_minute - capacity, now_mono_ns=now_mono_ns, at=at
        )


class BurstBucket(Bucket):
    """``per_s`` requests a second, ``burst`` of them at once (reliability page §1, C10)."""

    def __init__(self, *, per_s: int, burst: int, now_mono_ns: int, at: Any | None = None) -> None:
        super().__init__(capacity=burst, gain_per_minute=60 * per_s, now_mono_ns=now_mono_ns, at=at)


class WindowLimit:
    """At most ``limit_per_minute`` requests in any minute, all at once if need be: for what is rare."""

    def __init__(self, limit_per_minute: int) -> None:
        self._taken_mono_ns: Final = deque[int](maxlen=limit_per_minute)
        self._shut_until_mono_ns = 0

    def free(self, now_mono_ns: int) -> bool:
        """Whether one more may go out now."""
        taken = self._taken_mono_ns
        full = len(taken) == taken.maxlen and now_mono_ns - taken[0] < WINDOW_NS
        return not full and now_mono_ns >= self._shut_until_mono_ns

    def take(self, now_mono_ns: int) -> None:
        """Accounts for one request that goes out."""
        self._taken_mono_ns.append(now_mono_ns)

    def shut(self, until_mono_ns: int) -> None:
        """The venue said 429: nothing goes out before ``until_mono_ns``."""
        self._shut_until_mono_ns = max(self._shut_until_mono_ns, until_mono_ns)
