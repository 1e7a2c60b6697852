"""Spans of time: sorted, disjoint, half-open ``[start, end)`` pairs of integer nanoseconds.

Presence is a share of time (how long both sides stood in the exchange's book while nothing forbade quoting),
and shares of time are intersections of spans. Kept apart from whoever measures, so that the arithmetic is
exact and can be tested without a clock.
"""

from __future__ import annotations

from typing import Final

Spans = tuple[tuple[int, int], ...]
"""Ascending ``(start_ns, end_ns)`` with ``start < end`` and no two touching."""


def total_ns(spans: Spans) -> int:
    """Sum of the lengths."""
    return sum(end - start for start, end in spans)


def intersect(left: Spans, right: Spans) -> Spans:
    """What lies in both."""
    result: list[tuple[int, int]] = []
    left_index = right_index = 0
    while left_index < len(left) and right_index < len(right):
        start = max(left[left_index][0], right[right_index][0])
        end = min(left[left_index][1], right[right_index][1])
        if start < end:
            result.append((start, end))
        if left[left_index][1] <= right[right_index][1]:
            left_index += 1
        else:
            right_index += 1
    return tuple(result)


def clip(spans: Spans, start_ns: int, end_ns: int) -> Spans:
    """The part inside ``[start_ns, end_ns)``; empty when that is empty."""
    return intersect(spans, ((start_ns, end_ns),)) if start_ns < end_ns else ()


def share(part: Spans, whole: Spans) -> float | None:
    """How much of ``whole`` is covered by ``part``, 0..1; None when ``whole`` is empty."""
    length_ns = total_ns(whole)
    return total_ns(intersect(part, whole)) / length_ns if length_ns else None


class Switch:
    """Records when something was on. Time does not go back: an earlier moment counts as the last one."""

    def __init__(self) -> None:
        self._closed: Final[list[tuple[int, int]]] = []
        self._on_since_ns: int | None = None
        self._last_ns = 0

    @property
    def is_on(self) -> bool:
        return self._on_since_ns is not None

    def set(self, *, on: bool, at_ns: int) -> None:
        """From ``at_ns`` on the thing is on, or off."""
        at_ns = self._last_ns = max(at_ns, self._last_ns)
        if on == self.is_on:
            return
        if on:
            if self._closed and self._closed[-1][1] == at_ns:
                self._on_since_ns = self._closed.pop()[0]
            else:
                self._on_since_ns = at_ns
            return
        start_ns, self._on_since_ns = self._on_since_ns, None
        if start_ns is not None and start_ns < at_ns:
            self._closed.append((start_ns, at_ns))

    def spans(self, until_ns: int) -> Spans:
        """Everything recorded, a span that is still open ending at ``until_ns``."""
        closed = tuple(self._closed)
        if self._on_since_ns is not None and self._on_since_ns < until_ns:
            return (*closed, (self._on_since_ns, until_ns))
        return closed
