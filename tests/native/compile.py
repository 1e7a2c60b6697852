"""Builds the C programs of these tests against ``native/*.c`` with the extension's own flags."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
NATIVE: Final = HERE.parents[1] / "native"

# As native/build_native.py compiles them, less its optimisation and with every warning an error.
CFLAGS: Final = shlex.split(
    "-std=c11 -g -O1 -UNDEBUG -ffp-contract=off -fno-math-errno -fno-omit-frame-pointer"
    " -Wall -Wextra -Wconversion -Wshadow -Werror"
)
SANITIZED: Final = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def build(
    program: str, output: Path, *, compiler: str, sources: Sequence[str], flags: Sequence[str] = ()
) -> Path:
    """Compile ``tests/native/PROGRAM.c`` and the named ``native/`` sources into ``output``.

    Raises CalledProcessError, whose message is the compiler's, when a file does not compile.
    """
    command = [compiler, *CFLAGS, f"-I{NATIVE}", f"-I{HERE}", str(HERE / f"{program}.c")]
    command += [str(NATIVE / source) for source in sources]
    subprocess.run([*command, *flags, "-lm", "-o", str(output)], check=True)
    return output


def missing(compiler: str) -> str | None:
    """Why a test that needs this compiler cannot run here, or None."""
    return None if shutil.which(compiler) else f"{compiler} is not installed: apt-get install {compiler}"
