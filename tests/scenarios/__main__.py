"""The scenario suite (`make scenarios`): seeded plays on real processes, judged, and turned into tables.

    python -m tests.scenarios [NAME …] [--seed S] [--together N] [--resume] [--rivals] [--sweep] [--docs]
        [--stretch X] [--results DIR]

Each outcome is a JSON file below ``build/scenarios``; ``--resume`` leaves out what is there already.
``--rivals`` puts the two rival makers in front of the same flow, ``--sweep`` varies one parameter at a time,
and ``--docs`` writes the tables of docs/quoting-quality.md from all files there are. Exit codes: 0 every
criterion met; 1 not, and which; 2 usage.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from engine.stage import StageError
from tests.scenarios import tables
from tests.scenarios.catalogue import COMPARED, SCENARIOS, Outcome, Scenario, failures
from tests.scenarios.play import RIVALS, Play
from tests.scenarios.sweep import SWEEPS, VARIATIONS

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "build" / "scenarios"
DEFAULT_SEED: Final = 1


def result_file(results: Path, name: str, *, seed: int, rivals: bool) -> Path:
    return results / f"{name}{'-rivals' if rivals else ''}-{seed}.json"


def run_play(scenarios: Sequence[Scenario], options: argparse.Namespace) -> list[Outcome]:
    """One play in a directory of its own, which stays when it fails. Raises StageError."""
    play = Play(
        scenarios,
        seed=options.seed,
        rivals=tuple(RIVALS) if options.rivals else (),
        stretch=options.stretch,
    )
    run_dir = Path(tempfile.mkdtemp(prefix="cq-play-"))
    (run_dir / "log").mkdir()
    try:
        outcomes = uvloop.run(play.run(run_dir))
    except StageError as error:
        raise StageError(f"{error} (see {run_dir}/log)", error.exit_code) from None
    shutil.rmtree(run_dir, ignore_errors=True)
    return outcomes


def report(scenario: Scenario, outcome: Outcome) -> list[str]:
    """Prints one outcome; returns what failed."""
    failed = failures(scenario, outcome)
    print(f"{'FAIL' if failed else 'ok':5}{tables.one_line(outcome)}", flush=True)
    for line in failed:
        print(f"       {line}", flush=True)
    return failed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scenarios", description="The scenario suite.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCENARIOS)} (default: all)")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of all flows (default 1)")
    parser.add_argument("--together", type=int, default=5, help="scenarios played at once (default 5)")
    parser.add_argument("--resume", action="store_true", help="leave out what has a result")
    parser.add_argument("--rivals", action="store_true", help="compare with two other makers")
    parser.add_argument("--sweep", action="store_true", help="vary one parameter at a time instead")
    parser.add_argument("--docs", action="store_true", help="write the tables of docs/quoting-quality.md")
    parser.add_argument("--stretch", type=float, default=1.0, help="longer flows, times so many (default 1)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results go")
    options = parser.parse_args(arguments)
    catalogue = {**SCENARIOS, **SWEEPS} if options.sweep else SCENARIOS
    default = SWEEPS if options.sweep else COMPARED if options.rivals else SCENARIOS
    names = options.names or list(default)
    unknown = [name for name in names if name not in catalogue]
    if unknown:
        parser.error(f"{', '.join(unknown)}: no such scenario, known are {', '.join(catalogue)}")
    options.results.mkdir(parents=True, exist_ok=True)
    wanted = [
        name
        for name in names
        if not (
            options.resume
            and result_file(options.results, name, seed=options.seed, rivals=options.rivals).exists()
        )
    ]
    failed = False
    for first in range(0, len(wanted), options.together):
        group = [catalogue[name] for name in wanted[first : first + options.together]]
        try:
            outcomes = run_play(group, options)
        except StageError as error:
            print(f"FAIL {', '.join(scenario.name for scenario in group)}: {error}", flush=True)
            failed = True
            continue
        for scenario, outcome in zip(group, outcomes, strict=True):
            file = result_file(options.results, scenario.name, seed=options.seed, rivals=options.rivals)
            file.write_bytes(msgspec.json.format(msgspec.json.encode(outcome), indent=1))
            failed = bool(report(scenario, outcome)) or failed
    if options.docs:
        tables.write_document(ROOT / "docs" / "quoting-quality.md", options.results, VARIATIONS)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
