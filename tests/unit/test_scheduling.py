"""What the kernel says of policies: nothing here needs a right."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from engine import scheduling


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    process.communicate()


@pytest.mark.parametrize(
    ("policy", "expected"), [(os.SCHED_OTHER, "other"), (os.SCHED_BATCH, "batch"), (os.SCHED_IDLE, "idle")]
)
def test_a_policy_has_a_name(sleeper: subprocess.Popen[bytes], policy: int, expected: str) -> None:
    os.sched_setscheduler(sleeper.pid, policy | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    assert scheduling.in_force(sleeper.pid) == expected


def test_who_has_gone_has_none(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.communicate()
    with pytest.raises(ProcessLookupError):
        scheduling.in_force(sleeper.pid)
