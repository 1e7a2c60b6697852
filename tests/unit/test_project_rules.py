"""Rules of the repository that no compiler checks.

Which way imports point, what the pure packages may touch, that every package is shipped, that every library
is pinned with its hash, and that no tracked file names a package index or a path of somebody's machine.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SOURCE_FOLDERS = ("engine", "native", "tests", "perf")


class Import(NamedTuple):
    """One imported module, absolute, and where: ``from engine import cli`` counts as ``engine.cli`` too."""

    importer: str
    imported: str
    line: int


def python_files(*folders: str) -> Iterator[Path]:
    """Python sources below ``folders`` of the repository, in a fixed order."""
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """Dotted name of a source file: ``engine/paper/__init__.py`` is ``engine.paper``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, *, importer: str, is_package: bool) -> list[Import]:
    """Every import of ``source``, wherever it stands, relative ones resolved against ``importer``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [Import(importer, alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level > 0:
                climb = node.level - 1 if is_package else node.level
                parents = importer.split(".")
                anchor = ".".join(parents[: len(parents) - climb])
                base = f"{anchor}.{base}" if base else anchor
            found.append(Import(importer, base, node.lineno))
            found += [Import(importer, f"{base}.{alias.name}", node.lineno) for alias in node.names]
    return found


def engine_imports() -> list[Import]:
    """Every import in the engine package."""
    found: list[Import] = []
    for path in python_files("engine"):
        is_package = path.name == "__init__.py"
        found += imports_of(path.read_text(), importer=module_name(path), is_package=is_package)
    return found


def is_within(module: str, package: str) -> bool:
    """Whether ``module`` is ``package`` or lies inside it."""
    return module == package or module.startswith(f"{package}.")


def offences(package: str, forbidden: tuple[str, ...]) -> list[str]:
    """Imports of ``forbidden`` modules by modules of ``package``, as readable lines."""
    return [
        f"{found.importer}:{found.line} imports {found.imported}"
        for found in engine_imports()
        if is_within(found.importer, package) and any(is_within(found.imported, name) for name in forbidden)
    ]


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_import_reader_sees_every_form() -> None:
    source = (
        "import a.b\nfrom engine import cli\ndef late():\n from ..paper import ledger\n from . import x\n"
    )
    found = {seen.imported for seen in imports_of(source, importer="engine.quoting.gates", is_package=False)}
    assert {"a.b", "engine.cli", "engine.paper.ledger", "engine.quoting.x"} <= found
    in_package = imports_of("from . import x\n", importer="engine.quoting", is_package=True)
    assert "engine.quoting.x" in {seen.imported for seen in in_package}


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        # Decisions are values to values: whoever wires them to the world imports them, never the reverse.
        ("engine.quoting", ("engine.workers", "engine.venues", "engine.paper", "engine.supervisor")),
        ("engine.risk", ("engine.workers", "engine.venues", "engine.paper", "engine.supervisor")),
        # The exchange judges the engine, so it shares none of its decisions: fee, freeze and conversion are
        # written twice on purpose.
        ("engine.paper", ("engine.quoting", "engine.risk", "engine.workers", "engine.supervisor")),
        ("engine.workers", ("engine.paper",)),
        ("engine.venues", ("engine.workers", "engine.quoting", "engine.risk", "engine.paper")),
        # The command line is the outermost layer.
        ("engine", ("engine.cli",)),
    ],
)
def test_imports_point_one_way(package: str, forbidden: tuple[str, ...]) -> None:
    assert offences(package, forbidden) == []


def test_the_parts_of_a_market_know_only_those_above_them() -> None:
    """The table of ``docs/architecture.md`` is their order; the times of a pass are everybody's."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.partition("## One market in its quoter\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    rank = {
        f"engine.workers.{name}": number
        for number, row in enumerate(rows)
        for name in re.findall(r"`(\w+)\.py`", row)
    }
    assert len(rank) >= 20
    rank["engine.workers.clock"] = -1
    seen = {
        (found.importer, found.imported)
        for found in engine_imports()
        if found.importer in rank and re.fullmatch(r"engine\.workers\.\w+", found.imported)
    }
    assert sorted(pair for pair in seen if rank.get(pair[1], len(rows)) > rank[pair[0]]) == []


@pytest.mark.parametrize("package", ["engine.quoting", "engine.risk"])
def test_decisions_touch_no_clock_and_no_outside(package: str) -> None:
    outside = (
        *("aiohttp", "asyncio", "logging", "mmap", "os", "pathlib", "picows", "psutil", "random", "redis"),
        *("select", "signal", "socket", "structlog", "subprocess", "threading", "time", "uvloop"),
    )
    assert offences(package, outside) == []


def test_modules_are_named_for_what_they_know() -> None:
    vague = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}
    assert [str(path.relative_to(ROOT)) for path in python_files(*SOURCE_FOLDERS) if path.stem in vague] == []
    folders = {path.parent for path in python_files(*SOURCE_FOLDERS)}
    assert [str(folder.relative_to(ROOT)) for folder in folders if folder.name in vague] == []


def test_every_package_is_shipped() -> None:
    folders = {path.parent for path in python_files("engine")}
    present = sorted(module_name(folder / "__init__.py") for folder in folders)
    assert pyproject()["tool"]["setuptools"]["packages"] == present
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def pins(file_name: str) -> dict[str, str]:
    """Pinned version by canonical name; fails on a line that is neither a hashed pin nor a comment."""
    found: dict[str, str] = {}
    for entry in (ROOT / file_name).read_text().replace("\\\n", " ").splitlines():
        if not entry.strip() or entry.lstrip().startswith("#"):
            continue
        pin, *hashes = (part.strip() for part in entry.split("--hash="))
        requirement = Requirement(pin)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", entry
        assert hashes, f"{requirement.name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes), requirement.name
        found[canonicalize_name(requirement.name)] = specifier.version
    return found


def test_every_library_is_pinned_with_hashes_and_no_index_is_named() -> None:
    project = pyproject()
    for file_name, wanted in (
        ("requirements.txt", project["project"]["dependencies"]),
        ("requirements-dev.txt", project["dependency-groups"]["dev"]),
        ("perf/rivals.txt", (ROOT / "perf" / "rivals.in").read_text().split()),
    ):
        pinned = pins(file_name)
        names = [Requirement(text).name for text in wanted]
        assert names == sorted(names), f"dependencies of {file_name} are kept in alphabetical order"
        for requirement in map(Requirement, wanted):
            version = pinned.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement} is not in {file_name}: make requirements"
            assert requirement.specifier.contains(version), f"{requirement}, but {file_name} pins {version}"


@pytest.mark.parametrize("other", ["requirements-dev.txt", "perf/rivals.txt"])
def test_pin_files_agree_with_what_the_engine_runs_on(other: str) -> None:
    run, beside = pins("requirements.txt"), pins(other)
    both = run.keys() & beside.keys()
    assert {name: (run[name], beside[name]) for name in both if run[name] != beside[name]} == {}


def tracked_texts() -> Iterator[tuple[str, str]]:
    """Path and text of every tracked file that is text; skips outside a git checkout."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: there is no list of tracked files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=False, capture_output=True, timeout=30)
    if listed.returncode != 0:
        pytest.skip(f"git lists no tracked files: {listed.stderr.decode().strip()}")
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file():
            content = path.read_bytes()
            if b"\0" not in content[:8192]:
                yield name, content.decode(errors="replace")


@pytest.mark.parametrize(
    ("rule", "pattern"),
    [
        (
            "names no package index",
            r"(?i)(?:pypi|pythonhosted|npmjs|crates|maven(?:\.apache)?)\.(?:org|com|io)\b",
        ),
        ("takes no option that picks an index", r"(?m)^\s*--?(?:extra-index-url|index-url|find-links)\b"),
        ("holds no path of somebody's machine", r"(?<![\w.~$})-])/(?:work|root|Users|home/\w+|opt/wheels)/"),
        ("leaves no note that is nobody's", r"\b(?:TO[D]O|FIX[M]E|XX[X])\b"),
    ],
)
def test_every_tracked_file(rule: str, pattern: str) -> None:
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()}"
        for name, text in tracked_texts()
        for match in re.finditer(pattern, text)
    ]
    assert found == [], f"every tracked file {rule}"


def test_every_link_between_documents_leads_somewhere() -> None:
    broken = [
        f"{name} links to {target}"
        for name, text in tracked_texts()
        if name.endswith(".md")
        for target in re.findall(r"\]\((?!\w+:)([^)#]+)", text)
        if not (ROOT / name).parent.joinpath(target).exists()
    ]
    assert broken == []


def test_make_help_lists_every_verb() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    described = set(re.findall(r"^([a-z]+):.*## \S", makefile, flags=re.MULTILINE))
    assert described == set(phony.split()) - {"lost"}
    assert {"venv", "demo", "test", "lint", "race", "fuzz", "perf", "faults", "clean", "help"} <= described
