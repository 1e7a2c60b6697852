"""``make fuzz``: every ``fuzz_*.c`` under libFuzzer with AddressSanitizer and UndefinedBehaviorSanitizer, and
``frames``, mutated recorded frames on their way to the book ring (``fuzz_frames.py``).

Each target runs for ``--seconds``. Those in C begin at ``corpus/NAME`` beside this file; inputs that reached
new code are merged back into it, so the next run starts where this one ended. A finding is written to
``build/fuzz/`` with the command that repeats it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.native import fuzz_frames
from tests.native.compile import HERE, NATIVE, SANITIZED, build, missing

CORPUS: Final = HERE / "corpus"
FINDINGS: Final = HERE.parents[1] / "build" / "fuzz"
INPUT_BYTES_MAX: Final = 4096
FRAMES: Final = "frames"


def native_targets() -> list[str]:
    """Names of all targets in C: ``book`` for ``fuzz_book.c``."""
    return sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.c"))


def fuzz(name: str, seconds: int, work: Path) -> bool:
    """Run one target in C; True when it found nothing."""
    corpus, fresh = CORPUS / name, work / name
    for directory in (corpus, fresh, FINDINGS):
        directory.mkdir(parents=True, exist_ok=True)
    program = build(
        f"fuzz_{name}",
        FINDINGS / f"fuzz_{name}",
        compiler="clang",
        sources=[path.name for path in sorted(NATIVE.glob("*.c"))],
        flags=("-DCOREQUOTE_LAYOUT_HASH=0", "-fsanitize=fuzzer", *SANITIZED),
    )
    command = [
        str(program),
        f"-max_len={INPUT_BYTES_MAX}",
        "-len_control=10",
        f"-artifact_prefix={FINDINGS}/{name}-",
    ]
    run = subprocess.run(
        [*command, f"-max_total_time={seconds}", "-print_final_stats=1", str(fresh), str(corpus)],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        print(run.stderr[-4000:], file=sys.stderr)
        print(f"fuzz {name}: FAILED; repeat with {program} {FINDINGS}/{name}-*", flush=True)
        return False
    # Edges alone decide what is kept: with hit counters the corpus would be ten times as large.
    merge = [*command, "-merge=1", "-use_counters=0", str(corpus), str(fresh)]
    subprocess.run(merge, stderr=subprocess.DEVNULL, check=True)
    executions = re.search(r"number_of_executed_units: (\d+)", run.stderr)
    coverage = re.findall(r"cov: (\d+)", run.stderr)
    print(
        f"fuzz {name}: {executions.group(1) if executions else '?'} executions in {seconds} s, "
        f"{coverage[-1] if coverage else '?'} edges, {sum(1 for _ in corpus.iterdir())} inputs kept",
        flush=True,
    )
    return True


def main() -> int:
    """Exit 0 when no target found anything, 1 otherwise, 2 when clang is missing."""
    known = [*native_targets(), FRAMES]
    parser = argparse.ArgumentParser(prog="python -m tests.native.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(known)}; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="per target")
    parser.add_argument("--seed", type=int, help=f"of {FRAMES}, as printed by the run to be repeated")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(known):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    chosen = arguments.targets or known
    if chosen != [FRAMES] and (reason := missing("clang")):
        print(f"fuzz: {reason}", file=sys.stderr)
        return 2
    seed = fuzz_frames.new_seed() if arguments.seed is None else arguments.seed
    with tempfile.TemporaryDirectory() as work:
        clean = [
            fuzz_frames.fuzz(arguments.seconds, seed)
            if name == FRAMES
            else fuzz(name, arguments.seconds, Path(work))
            for name in chosen
        ]
    print(f"fuzz targets clean {sum(clean)}/{len(clean)}")
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
