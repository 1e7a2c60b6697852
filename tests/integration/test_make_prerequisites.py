"""`make venv` on a machine that lacks something: one line that names the package, and nothing half-built.

The Makefile runs in an empty folder under a PATH that holds only the programs a case allows.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"
ALWAYS_THERE = ("make", "sh", "basename", "sed", "rm")

pytestmark = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ALWAYS_THERE),
    reason="make is not on PATH: apt-get install make",
)


def link(folder: Path, name: str, target: str | None = None) -> None:
    """Offer the program ``name`` in ``folder``, by default the one on the caller's PATH."""
    found = target or shutil.which(name)
    assert found is not None, name
    (folder / name).symlink_to(found)


def make_venv(tmp_path: Path, programs: Path, *arguments: str) -> list[str]:
    """Lines that `make venv` printed about what is missing; it must have failed and made no environment."""
    tree = tmp_path / "tree"
    tree.mkdir()
    shutil.copy(MAKEFILE, tree)
    for name in ALWAYS_THERE:
        link(programs, name)
    done = subprocess.run(
        ["make", "venv", *arguments],
        cwd=tree,
        env={"PATH": str(programs), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert [path.name for path in tree.iterdir()] == ["Makefile"], "nothing is built before all is there"
    return [line for line in done.stderr.splitlines() if line.startswith("corequote:")]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    return folder


def test_nothing_there(tmp_path: Path, programs: Path) -> None:
    python, compiler = make_venv(tmp_path, programs)
    assert "python3 python3-dev python3-venv" in python
    assert "gcc" in compiler


def test_no_compiler(tmp_path: Path, programs: Path) -> None:
    link(programs, "python3", os.path.realpath(sys.executable))
    (line,) = make_venv(tmp_path, programs, "CC=absent-cc")
    assert "absent-cc is not on PATH" in line


def test_python_too_old(tmp_path: Path, programs: Path) -> None:
    old = programs / "python3"
    # What the Makefile asks of a candidate: its version, then whether that is enough.
    old.write_text("#!/bin/sh\ncase $2 in *exit*) exit 1 ;; *) echo 3.9.2 ;; esac\n")
    old.chmod(old.stat().st_mode | stat.S_IXUSR)
    line, *_ = make_venv(tmp_path, programs)
    assert "python3 is 3.9.2" in line
    assert "3.11 or newer" in line


def test_named_python_is_no_python(tmp_path: Path, programs: Path) -> None:
    line, *_ = make_venv(tmp_path, programs, "PYTHON=absent-python")
    assert "PYTHON=absent-python" in line
