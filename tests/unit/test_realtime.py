"""Which process of an engine gets which real-time priority: the plan, row by row."""

from __future__ import annotations

import pytest

from engine import child
from engine.child import Child
from engine.config.sections import Wait
from engine.realtime import PRIORITIES, SPIN_COUNT_MAX, SUPERVISOR_PRIORITY, polls, priorities

KINDS = (child.VALKEY, child.GUARD, child.INGEST, child.GATEWAY, child.WRITER, child.CONTROL, child.RECORDER)
#: What a kernel's interrupt threads have: a device is served before those who wait for it.
INTERRUPT_THREADS = 50


def some_children(quoters: int) -> list[Child]:
    fixed = [Child(name=kind, kind=kind, row_index=None) for kind in KINDS]
    return fixed + [
        Child(name=f"quoter-{worker}", kind=child.QUOTER, row_index=None, worker=worker)
        for worker in range(quoters)
    ]


@pytest.mark.parametrize(
    ("waits", "spin_count", "quoters"),
    [
        (["park", "park"], 200, {"quoter-0": 11, "quoter-1": 11}),
        (["park", "park"], SPIN_COUNT_MAX, {"quoter-0": 11, "quoter-1": 11}),
        # one that polls keeps its core from everybody below it
        (["spin", "park"], 200, {"quoter-1": 11}),
        (["park", "yield"], 200, {"quoter-0": 11}),
        (["spin", "spin"], 0, {}),
        # ... and so does one that sleeps only after a long while
        (["park", "park"], SPIN_COUNT_MAX + 1, {}),
    ],
)
def test_priorities(waits: list[Wait], spin_count: int, quoters: dict[str, int]) -> None:
    planned = priorities(some_children(len(waits)), waits=waits, spin_count=spin_count)
    assert planned == {"guard": 12, "ingest": 10, "gateway": 12} | quoters


def test_who_goes_before_whom() -> None:
    """A cancel goes before a decision, a decision before the next message, and he who can end a process that
    does not stop before all of them."""
    gateway, guard = PRIORITIES[child.GATEWAY], PRIORITIES[child.GUARD]
    assert SUPERVISOR_PRIORITY > gateway == guard > PRIORITIES[child.QUOTER] > PRIORITIES[child.INGEST]
    assert max(SUPERVISOR_PRIORITY, *PRIORITIES.values()) < INTERRUPT_THREADS


@pytest.mark.parametrize(("wait", "expected"), [("spin", True), ("yield", True), ("park", False)])
def test_who_polls(wait: Wait, expected: bool) -> None:
    assert polls(wait, spin_count=200) is expected
