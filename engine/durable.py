"""Files that survive a crash: replaced whole in one step, or added to a line at a time."""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, payload: bytes, *, synced: bool = True) -> None:
    """Replaces ``path`` (0600) with ``payload`` on disk: fsync, rename, fsync of the directory.

    After a crash the file is the old one or the new one, whole. With ``synced`` False that holds for the
    death of any process, not for the machine's, and nothing waits for the disk. Several processes may
    replace the same file; the last one stays. Raises OSError.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(payload)
        if synced:
            file.flush()
            os.fsync(file.fileno())
    os.replace(draft, path)
    if synced:
        sync_directory(path.parent)


def append_durably(path: Path, line: bytes, *, file_bytes_max: int | None = None) -> None:
    """Adds ``line`` to ``path`` (0600) in one write, on disk when it returns: lines of several processes do
    not mix. Raises OSError, also for a line that would make the file longer than ``file_bytes_max``.
    """
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if file_bytes_max is not None and os.fstat(fd).st_size + len(line) > file_bytes_max:
            raise OSError(f"{path.name} has reached {file_bytes_max} bytes: move it away")
        os.write(fd, line)
        os.fdatasync(fd)
    finally:
        os.close(fd)


def sync_directory(directory: Path) -> None:
    """What was renamed or removed in ``directory`` stays so after a crash. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
