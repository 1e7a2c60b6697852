"""Rate limits in fixed windows of one minute (contract section 1.7)."""

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from engine.paper.refusal import Code, Refusal

WINDOW_SECONDS: Final = 60


class LimitProfile(StrEnum):
    """Which table of limits applies."""

    CONTRACT = "contract"
    JWT_MVP = "jwt_mvp"
    OFF = "off"


class LimitClass(StrEnum):
    """Kinds of request that are counted apart."""

    LOGIN = "login"
    ORDER = "order"
    QUERY = "query"
    ADMIN = "admin"
    REPLACE = "replace"


PER_MINUTE: Final = {
    LimitClass.LOGIN: 5,
    LimitClass.ORDER: 30,
    LimitClass.QUERY: 120,
    LimitClass.ADMIN: 10,
    LimitClass.REPLACE: 400,
}
AMM_ORDERS_PER_MINUTE: Final = 600


class TooManyRequests(Refusal):
    """429/9001 with the headers that tell when to come back."""

    def __init__(self, limit: int, reset_unix: int, now_unix: float) -> None:
        wait_seconds = max(1, int(reset_unix - now_unix) + 1)
        super().__init__(Code.RATE_LIMITED, f"limit of {limit} requests per minute reached")
        self.headers = [
            (b"retry-after", str(wait_seconds).encode()),
            (b"x-ratelimit-limit", str(limit).encode()),
            (b"x-ratelimit-remaining", b"0"),
            (b"x-ratelimit-reset", str(reset_unix).encode()),
        ]


class FixedWindows:
    """Counts per (class, key) that all start anew at each full minute, so memory is one minute's callers."""

    def __init__(self, read_unix: Callable[[], float]) -> None:
        self._read_unix: Final = read_unix
        self._window = -1
        self._counts: Final[dict[tuple[LimitClass, str], int]] = {}

    def count(self, limit_class: LimitClass, key: str, limit: int) -> None:
        """Count one request, or refuse it with 9001 without counting it."""
        now_unix = self._read_unix()
        window = int(now_unix // WINDOW_SECONDS)
        if window != self._window:
            self._window = window
            self._counts.clear()
        used = self._counts.get((limit_class, key), 0)
        if used >= limit:
            raise TooManyRequests(limit, (window + 1) * WINDOW_SECONDS, now_unix)
        self._counts[limit_class, key] = used + 1
