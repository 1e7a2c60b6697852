"""What the kernel makes of a process that gives way, and what it says of policies: no right is needed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import scheduling

#: A process with a child in a session of its own, as PostgreSQL's are; both live until stdin ends.
FAMILY = (
    "import subprocess, sys\n"
    "script = 'import sys; sys.stdin.read()'\n"
    "child = subprocess.Popen([sys.executable, '-c', script], start_new_session=True)\n"
    "print(child.pid, flush=True)\n"
    "child.wait()\n"
)


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", FAMILY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    yield process.pid, int(process.stdout.readline())
    process.communicate()


def test_who_gives_way_does_so_with_all_descendants_and_their_sessions(family: tuple[int, int]) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    asyncio.run(scheduling.give_way(family[0]))
    assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in family] == [scheduling.GIVES_WAY_NICE] * 2
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
    groups = [Path(f"/proc/{pid}/autogroup") for pid in family]
    if not groups[0].exists():
        pytest.skip("a kernel without sched_autogroup: the processes' nice values are all there is")
    words = [group.read_text().split() for group in groups]
    assert [word[1:] for word in words] == [["nice", str(scheduling.GIVES_WAY_NICE)]] * 2
    assert words[0][0] != words[1][0], "each session is a group of its own"


def test_who_has_gone_gives_way_to_all() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    asyncio.run(scheduling.give_way(process.pid))
    with pytest.raises(ProcessLookupError):
        scheduling.in_force(process.pid)


@pytest.mark.parametrize(
    ("policy", "expected"), [(os.SCHED_OTHER, "other"), (os.SCHED_BATCH, "batch"), (os.SCHED_IDLE, "idle")]
)
def test_a_policy_has_a_name(family: tuple[int, int], policy: int, expected: str) -> None:
    os.sched_setscheduler(family[0], policy | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    assert scheduling.in_force(family[0]) == expected
