"""The kernels on their own, outside Python: sanitized, and with allocation forbidden.

``COREQUOTE_STRESS_OPERATIONS`` lengthens the run, ``COREQUOTE_STRESS_SEED`` repeats one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.compile import CFLAGS, NATIVE, SANITIZED, build, missing

KERNELS = ("orderbook.c", "quote.c", "own_orders.c", "ladder_plan.c")
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


ALLOCATORS = {
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "free",
    "posix_memalign",
    "aligned_alloc",
    "strdup",
}


def test_no_native_source_can_allocate(tmp_path: Path) -> None:
    """What no object file calls, no call of it does: transport and feed included."""
    if reason := missing("gcc"):
        pytest.skip(reason)
    sources = sorted(NATIVE.glob("*.c"))
    assert len(sources) > 5
    for source in sources:
        compiled = tmp_path / f"{source.stem}.o"
        command = [
            "gcc",
            *CFLAGS,
            "-fno-builtin",
            "-DCOREQUOTE_LAYOUT_HASH=0",
            f"-I{NATIVE}",
            "-c",
            str(source),
        ]
        subprocess.run([*command, "-o", str(compiled)], check=True)
        listed = subprocess.run(
            ["nm", "-u", str(compiled)], capture_output=True, text=True, check=True
        ).stdout
        called = {line.split()[-1] for line in listed.splitlines() if line.split()}
        assert not called & ALLOCATORS, f"{source.name} calls {sorted(called & ALLOCATORS)}"


def test_assertions_are_on_in_the_extension_that_is_shipped() -> None:
    """A book that nobody initialised ends the process instead of being read."""
    program = (
        "import faulthandler, resource; faulthandler.disable()\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "from engine._native import ffi, lib\n"
        "memory = ffi.new('int64_t[]', lib.orderbook_bytes(101) // 8)\n"
        "lib.orderbook_best(ffi.cast('orderbook_t *', memory), lib.ORDERBOOK_TOTAL, lib.ORDERBOOK_BID)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=NATIVE.parent
    )
    assert result.returncode == -signal.SIGABRT, result.stderr
    assert "assert" in result.stderr.lower()
