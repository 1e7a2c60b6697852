"""The kernels on their own, outside Python: sanitized, and with allocation forbidden.

``COREQUOTE_STRESS_OPERATIONS`` lengthens the run, ``COREQUOTE_STRESS_SEED`` repeats one.
"""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.native.compile import SANITIZED, build, missing

KERNELS = ("orderbook.c", "quote.c")
OPERATIONS = int(os.environ.get("COREQUOTE_STRESS_OPERATIONS", "5000000"))
SEED = int(os.environ.get("COREQUOTE_STRESS_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)

WRAPPED = "-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free"


def run(program: Path, operations: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program), str(SEED), str(operations)], capture_output=True, text=True, check=False, timeout=100
    )


def test_random_operations_under_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    if reason := missing("gcc"):
        pytest.skip(reason)
    program = build("stress_kernels", tmp_path / "stress", compiler="gcc", sources=KERNELS, flags=SANITIZED)
    result = run(program, OPERATIONS)
    assert result.returncode == 0, f"seed {SEED}: {result.stderr}"
    assert result.stdout.startswith(f"operations {OPERATIONS} ")


def test_nothing_is_allocated_after_init(tmp_path: Path) -> None:
    if reason := missing("gcc"):
        pytest.skip(reason)
    flags = ("-DFORBID_ALLOCATION", "-fno-builtin", WRAPPED)
    program = build("stress_kernels", tmp_path / "sealed", compiler="gcc", sources=KERNELS, flags=flags)
    result = run(program, 500_000)
    assert result.returncode == 0, f"seed {SEED}: {result.stderr}"
    allocates_once = run(program, 0)
    assert allocates_once.returncode == -6, "the seal itself must hold"
    assert "is_sealed" in allocates_once.stderr
