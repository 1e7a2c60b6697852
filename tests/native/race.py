"""``make race``: what moves through shared memory, proven against the memory model and then run hard.

1. ``race_model.cpp`` is ``native/ring.c`` and ``native/arena.c`` themselves under the relacy model checker.
   Every suite passes ``--executions`` executions of the program as it is.
2. Every memory ordering in those files has a number. With that ordering weakened by one step the program has
   to fail a suite. An ordering that survives is not needed, or not tested: either is an error.
3. ``stress_transport.c`` runs two threads under ThreadSanitizer, two threads and two processes under
   AddressSanitizer and UndefinedBehaviorSanitizer, and two processes as shipped. ``--long`` gives the last
   one 60 s, and again until at least 10^8 payloads were read whole.

The last line is ``mutants killed n/n``. Exit 0 when everything held, 1 otherwise, 2 when a tool is missing.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from tests.native.compile import HERE, NATIVE, build, missing

EXECUTIONS: Final = 100_000
MUTANT_BUDGETS: Final = (
    1_000,
    EXECUTIONS,
)  # most mutants die at once: all suites briefly, then all at length
LONG_SECONDS: Final = 60
LONG_READS_MIN: Final = 100_000_000
LONG_RUNS_MAX: Final = 5  # on a busy machine one may not be enough

SOURCES: Final = ("arena.c", "ring.c", "system.c")
THREADS: Final = ("-pthread", "-DCOREQUOTE_LAYOUT_HASH=1")


class Ordering(NamedTuple):
    """A memory ordering stronger than relaxed: its number, and where it stands."""

    number: int
    where: str
    text: str


def orderings() -> list[Ordering]:
    """Every numbered ordering in ``native/``, ascending; ValueError when the numbers are not 1, 2, 3, ..."""
    found = []
    for path in sorted(NATIVE.glob("*.[ch]")):
        if path.name == "atomics.h":
            continue
        for line_number, line in enumerate(path.read_text().splitlines(), start=1):
            if "memory_order_" in line:
                raise ValueError(f"{path.name}:{line_number}: only atomics.h may name a memory order")
            for numbers in re.findall(r"\b(?:ACQUIRE|RELEASE|ACQ_REL|SEQ_CST)\(([\d, ]+)\)", line):
                found += [
                    Ordering(int(number), f"{path.name}:{line_number}", line.strip())
                    for number in numbers.split(",")
                ]
    found.sort()
    if [ordering.number for ordering in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"orderings are numbered {[ordering.number for ordering in found]}, not from 1 on")
    return found


def build_model(output: Path) -> Path:
    """The model checker with the program in it. relacy's headers are older than this compiler's warnings."""
    flags = ("-std=c++17", "-O1", "-fpermissive", "-w", f"-I{NATIVE}")
    subprocess.run(["g++", *flags, str(HERE / "race_model.cpp"), "-o", str(output)], check=True)
    return output


def build_stress(output: Path, flags: Sequence[str]) -> Path:
    return build("stress_transport", output, compiler="gcc", sources=SOURCES, flags=(*THREADS, *flags))


def run(command: Sequence[str | Path | int]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)


def check_program(model: Path, suites: Sequence[str], executions: int, pool: Executor) -> bool:
    """Every suite on the program as it is."""
    running = [(suite, pool.submit(run, [model, suite, executions])) for suite in suites]
    passed = True
    for suite, future in running:
        result = future.result()
        print(f"model {suite}: {result.stdout.strip()} of {executions:,}", flush=True)
        if result.returncode != 0:
            print(result.stderr[-8000:], file=sys.stderr)
            passed = False
    return passed


def kill(model: Path, suites: Sequence[str], mutant: int) -> str | None:
    """The suite that a mutant fails, and how; None when it survives all of them."""
    for executions in MUTANT_BUDGETS:
        for suite in suites:
            result = run([model, suite, executions, mutant])
            if result.returncode == 1:
                return f"{suite}, {result.stdout.strip().lower()}"
            if result.returncode != 0:
                raise RuntimeError(
                    f"mutant {mutant}, {suite}: exit code {result.returncode}: {result.stderr}"
                )
    return None


def kill_all(model: Path, suites: Sequence[str], pool: Executor) -> tuple[int, int]:
    """(mutants killed, mutants there are)"""
    wanted = orderings()
    running: list[tuple[Ordering, Future[str | None]]] = [
        (ordering, pool.submit(kill, model, suites, ordering.number)) for ordering in wanted
    ]
    killed = 0
    for ordering, future in running:
        how = future.result()
        killed += how is not None
        print(
            f"mutant {ordering.number} ({ordering.where}): {how or f'SURVIVED: {ordering.text}'}", flush=True
        )
    return killed, len(wanted)


def stress(name: str, program: Path, mode: str, seconds: float, seed: int) -> int:
    """Payloads read whole; 0 after a failure, which is printed."""
    result = run([program, mode, seconds, seed])
    read = re.search(r"^read (\d+) payloads.*$", result.stdout, flags=re.MULTILINE)
    if result.returncode != 0 or read is None:
        print(
            f"stress {name}, {mode}: FAILED with seed {seed}\n{result.stdout}{result.stderr[-8000:]}",
            flush=True,
        )
        return 0
    print(f"stress {name}, {mode}, {seconds:g} s: {read.group()}", flush=True)
    return int(read.group(1))


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tests.native.race", description=__doc__)
    parser.add_argument("--executions", type=int, default=EXECUTIONS, help="of every model suite")
    parser.add_argument("--seconds", type=float, default=5, help="of every stress run")
    parser.add_argument(
        "--long", action="store_true", help=f"{LONG_SECONDS} s for the two processes as shipped"
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 2**31))
    arguments = parser.parse_args()
    for tool in ("g++", "gcc"):
        if reason := missing(tool):
            print(f"race: {reason}", file=sys.stderr)
            return 2
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as work, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        folder = Path(work)
        print("race: compiling", flush=True)
        compiling = pool.submit(build_model, folder / "model")
        # It knows no fences, but all that is shared is atomic: what it can find is a word that is not.
        thread_sanitized = build_stress(folder / "thread", ["-fsanitize=thread", "-Wno-tsan"])
        memory_flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
        memory_sanitized = build_stress(folder / "memory", memory_flags)
        shipped = build_stress(folder / "shipped", ["-O3"])
        model = compiling.result()
        suites = run([model, "list"]).stdout.split()
        held = check_program(model, suites, arguments.executions, pool)
        killed, mutants = kill_all(model, suites, pool)
        for name, program, mode in (
            ("ThreadSanitizer", thread_sanitized, "threads"),
            ("Address- and UndefinedBehaviorSanitizer", memory_sanitized, "threads"),
            ("Address- and UndefinedBehaviorSanitizer", memory_sanitized, "processes"),
        ):
            held = stress(name, program, mode, arguments.seconds, arguments.seed) > 0 and held
        seconds = LONG_SECONDS if arguments.long else arguments.seconds
        reads = stress("as shipped", shipped, "processes", seconds, arguments.seed)
        wanted = LONG_READS_MIN if arguments.long else 1
        for again in range(1, LONG_RUNS_MAX):
            if 0 < reads < wanted:
                more = stress("as shipped", shipped, "processes", seconds, arguments.seed + again)
                reads = reads + more if more else 0
        if reads < wanted:
            print(f"race: {reads:,} whole reads, at least {wanted:,} asked for", file=sys.stderr)
            held = False
    print(
        f"race: {'all held' if held else 'FAILED'}, {time.monotonic() - began:.0f} s, seed {arguments.seed}"
    )
    print(f"mutants killed {killed}/{mutants}")
    return 0 if held and killed == mutants else 1


if __name__ == "__main__":
    sys.exit(main())
