"""What all commands share: how one fails, and which run it means."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from engine import rundir
from engine.config import EXIT_USAGE

EXIT_FAILED: Final = 1
EXIT_NOT_RUNNING: Final = 3

RunDirOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Which run; needed only when several engines run.")
]


def fail(message: object, code: int) -> typer.Exit:
    """Prints the one line that says what is wrong; raise the result."""
    print(f"corequote: {message}", file=sys.stderr)
    return typer.Exit(code)


def print_line(line: str) -> None:
    print(line, flush=True)


def the_run(run_dir: Path | None) -> Path:
    """The named run, or this user's only one. Raises typer.Exit, and RunDirError."""
    if run_dir is not None:
        return run_dir.absolute()
    found = rundir.live_runs()
    if not found:
        raise fail("no engine of this user runs", EXIT_NOT_RUNNING)
    if len(found) > 1:
        raise fail(f"several engines run, choose with --run-dir: {', '.join(map(str, found))}", EXIT_USAGE)
    return found[0]
