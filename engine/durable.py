"""Files that survive a crash: written whole, then put in place in one step."""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, payload: bytes) -> None:
    """Replaces ``path`` (0600, by the process's umask) with ``payload`` on disk: fsync, rename, fsync of the
    directory. After a crash the file is the old one or the new one, whole. Raises OSError."""
    scratch = path.with_suffix(path.suffix + ".new")
    with scratch.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    scratch.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
