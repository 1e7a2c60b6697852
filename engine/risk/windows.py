"""Sums over the last stretch of time. Pure: time is an argument and never goes back."""

from __future__ import annotations

from collections import deque
from typing import Final


class Window:
    """What was added within the last ``span_ns``. Holds at most ``entries_max``; the oldest then leave early,
    so that a limit below that number is seen all the same."""

    def __init__(self, span_ns: int, *, entries_max: int = 4_096) -> None:
        self._span_ns: Final = span_ns
        self._entries: Final[deque[tuple[int, int]]] = deque()
        self._entries_max: Final = entries_max
        self._sum = 0

    def add(self, now_mono_ns: int, amount: int = 1) -> int:
        """Adds and returns the sum with it."""
        self._entries.append((now_mono_ns, amount))
        self._sum += amount
        if len(self._entries) > self._entries_max:
            self._sum -= self._entries.popleft()[1]
        return self.total(now_mono_ns)

    def total(self, now_mono_ns: int) -> int:
        """The sum of what was added at or after ``now - span``."""
        while self._entries and now_mono_ns - self._entries[0][0] > self._span_ns:
            self._sum -= self._entries.popleft()[1]
        return self._sum

    def clear(self) -> None:
        self._entries.clear()
        self._sum = 0
