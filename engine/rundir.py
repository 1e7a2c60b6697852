"""Run directories: where one engine keeps its sockets, logs and configuration, and how tools find it.

    RUN/lock          held (flock) by the supervisor while it lives; holds its pid
    RUN/run.json      what tools need to know, 0600 (RunInfo)
    RUN/config.json   the configuration in force, 0600
    RUN/arena.sock    hands out a read-only descriptor of the arena (SCM_RIGHTS), 0600
    RUN/admin.sock    the admin API of the control process, 0600
    RUN/audit.jsonl   every administrative call
    RUN/kills/        one file per market that somebody killed
    RUN/facts/        what each market must not forget, one file each (engine/facts.py)
    RUN/log/          one file per process
    RUN/intents/      what the gateway may have sent (engine/workers/intent_journal.py)
    RUN/bookings/     what the gateway booked (engine/booking_journal.py)

A run directory is private (0700, our own). Without a configured one a fresh one is made in the base
directory, ``$XDG_RUNTIME_DIR/corequote`` or ``/tmp/corequote-UID``; a configured one is entered there as a
symbolic link, so that ``corequote status`` finds both. A run is live when its arena socket answers.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import stat
import struct
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
import psutil
from msgspec import Struct

from engine.arena import Arena
from engine.durable import write_durably

ARENA_SOCKET: Final = "arena.sock"
ADMIN_SOCKET: Final = "admin.sock"
LOG_DIRECTORY: Final = "log"
_LOCK_FILE: Final = "lock"
_RUN_FILE: Final = "run.json"
_PREFIX: Final = "run-"
_LISTING_MAX: Final = 1000  # entries of the base directory that are looked at
_DEAD_RUNS_KEPT: Final = 8
_SOCKET_PATH_BYTES_MAX: Final = 107  # sun_path, without its closing NUL
_LONGEST_SOCKET_NAME: Final = 16
_CONNECT_TIMEOUT_S: Final = 2.0
_LOCK_TRIES: Final = 10
_GUARD_TRIES: Final = 750  # 15 s: a guard that takes longer has no venue to talk to
_LOCK_PAUSE_S: Final = 0.02
_MSG_CMSG_CLOEXEC: Final = 0x40000000
_EPOCH: Final = struct.Struct("<Q")
_PEER_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid


class RunDirError(Exception):
    """A run directory cannot be used, or holds no live run; the message is one line."""


class RunInfo(Struct, frozen=True, kw_only=True):
    """What ``RUN/run.json`` says about a run."""

    pid: int  # of the supervisor
    arena_epoch: int
    started_at_ms: int
    arena_socket: str
    exchange_url: str
    redis_url: str
    market_ids: list[str]


def base_directory() -> Path:
    """The private directory that lists this user's runs, created when missing. Raises RunDirError."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.path.isdir(runtime):
        base = Path(runtime) / "corequote"
    else:
        base = Path("/tmp") / f"corequote-{os.getuid()}"  # noqa: S108 - 0700, and refused when not our own
    try:
        base.mkdir(mode=0o700)
    except FileExistsError:
        pass  # it may be anything, so it is checked
    except OSError as error:
        raise RunDirError(f"{base}: {error.strerror}") from None
    _check_private(base)
    return base


def _check_private(path: Path) -> None:
    """Refuses a directory that another user owns, can enter, or has replaced by a link."""
    try:
        found = path.lstat()
    except OSError as error:
        raise RunDirError(f"{path}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise RunDirError(f"{path}: is not a directory")
    if found.st_uid != os.getuid():
        raise RunDirError(f"{path}: belongs to user {found.st_uid}, must belong to {os.getuid()}")
    if found.st_mode & 0o077:
        raise RunDirError(f"{path}: mode {found.st_mode & 0o777:04o} lets others in, must be 0700")


def _locked(path: Path) -> int:
    """Descriptor of the held lock file of ``path``. Raises RunDirError when another supervisor holds it."""
    fd = os.open(path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    holder = "?"
    for attempt in range(_GUARD_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "?"
            # who looks for abandoned runs holds it for an instant; a guard, until its sweep is done
            if attempt >= _LOCK_TRIES and _is_alive(holder):
                break
            time.sleep(_LOCK_PAUSE_S)
            continue
        os.truncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        return fd
    os.close(fd)
    if _is_alive(holder):
        raise RunDirError(f"{path}: another supervisor (pid {holder}) runs here")
    raise RunDirError(
        f"{path}: the guard of an engine that died (pid {holder}) is still cancelling its orders: "
        f"see {path / LOG_DIRECTORY}/guard.log, and try again when it is done"
    )


def _is_alive(holder: str) -> bool:
    try:
        return bool(psutil.Process(int(holder)).status() != psutil.STATUS_ZOMBIE)
    except (ValueError, psutil.Error):
        return False


class RunDirectory:
    """A run directory claimed by this process; :meth:`release` gives it up."""

    def __init__(self, path: Path, *, lock_fd: int, fresh: bool, link: Path | None) -> None:
        self.path = path
        self.fresh = fresh  # made for this run, and worth nothing after a clean one
        self.lock_fd = lock_fd  # whoever inherits it holds the directory too
        self._link = link

    @classmethod
    def claim(cls, configured: Path | None) -> RunDirectory:
        """The configured directory, or a fresh one. Raises RunDirError with one line."""
        base = base_directory()
        try:
            _prune(base)
            return cls._claim(base, configured)
        except OSError as error:
            raise RunDirError(f"{error.filename or configured or base}: {error.strerror}") from None

    @classmethod
    def _claim(cls, base: Path, configured: Path | None) -> RunDirectory:
        if configured is None:
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        else:
            path = configured.absolute()
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_private(path)
        longest = len(os.fsencode(path)) + 1 + _LONGEST_SOCKET_NAME
        if longest > _SOCKET_PATH_BYTES_MAX:
            raise RunDirError(
                f"{path}: too long: a socket in it would have a path of {longest} bytes, "
                f"limit {_SOCKET_PATH_BYTES_MAX}"
            )
        lock_fd = _locked(path)
        link = None
        if configured is not None:
            link = base / f"{_PREFIX}{os.getpid()}"
            link.unlink(missing_ok=True)
            link.symlink_to(path)
        (path / LOG_DIRECTORY).mkdir(mode=0o700, exist_ok=True)
        return cls(path, lock_fd=lock_fd, fresh=configured is None, link=link)

    def publish(self, info: RunInfo) -> None:
        write_durably(self.path / _RUN_FILE, msgspec.json.format(msgspec.json.encode(info)), synced=False)

    def release(self, *, remove: bool) -> None:
        """Gives the directory up; ``remove`` deletes a fresh one with everything in it."""
        (self.path / ARENA_SOCKET).unlink(missing_ok=True)
        if self._link is not None:
            self._link.unlink(missing_ok=True)
        if remove and self.fresh:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock_fd)


class ArenaServer:
    """Hands out read-only descriptors of an arena to processes of this user, one per connection."""

    def __init__(self, run_dir: Path, arena: Arena) -> None:
        self._arena = arena
        self._read_only_fd = arena.read_only_fd()
        path = run_dir / ARENA_SOCKET
        path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(path))
        path.chmod(0o600)
        self.socket.listen(16)

    def serve_one(self) -> None:
        """Answers one waiting connection; never waits."""
        try:
            client, _ = self.socket.accept()
        except OSError:  # the client has gone again, or we are out of descriptors: the next pass tries anew
            return
        with client:
            client.setblocking(False)
            packed = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
            _, uid, _ = _PEER_CREDENTIALS.unpack(packed)
            if uid in (0, os.getuid()):
                with contextlib.suppress(OSError):
                    socket.send_fds(client, [_EPOCH.pack(self._arena.epoch)], [self._read_only_fd])

    def close(self) -> None:
        self.socket.close()
        os.close(self._read_only_fd)


def attach(run_dir: Path) -> Arena:
    """A read-only mapping of the arena of a live run. Raises RunDirError or ArenaError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_CONNECT_TIMEOUT_S)
        try:
            client.connect(str(run_dir / ARENA_SOCKET))
            payload, fds, _, _ = socket.recv_fds(client, _EPOCH.size, 1, _MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise RunDirError(f"{run_dir}: no engine answers here ({error.strerror or error})") from None
    if len(payload) != _EPOCH.size or len(fds) != 1:
        for fd in fds:
            os.close(fd)
        raise RunDirError(f"{run_dir}: the engine here refused to hand out its arena")
    try:
        return Arena(fds[0], epoch=_EPOCH.unpack(payload)[0], writable=False)
    except BaseException:
        os.close(fds[0])
        raise


def read_info(run_dir: Path) -> RunInfo:
    """``RUN/run.json``. Raises RunDirError."""
    try:
        return msgspec.json.decode((run_dir / _RUN_FILE).read_bytes(), type=RunInfo)
    except (OSError, msgspec.DecodeError) as error:
        raise RunDirError(f"{run_dir / _RUN_FILE}: {error}") from None


def _entries(base: Path) -> list[Path]:
    found = []
    with os.scandir(base) as listing:
        for entry in listing:
            if entry.name.startswith(_PREFIX):
                found.append(Path(entry.path))
            if len(found) == _LISTING_MAX:
                break
    return sorted(found)


def _is_live(run_dir: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_CONNECT_TIMEOUT_S)
            client.connect(str(run_dir / ARENA_SOCKET))
    except OSError:
        return False
    return True


def live_runs() -> list[Path]:
    """Run directories of this user with a live engine."""
    return [entry.resolve() for entry in _entries(base_directory()) if _is_live(entry)]


def _is_abandoned(path: Path) -> bool:
    """Whether a run directory was claimed once and nobody holds its lock any more."""
    try:
        fd = os.open(path / _LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # a fresh directory that is about to be claimed; a link is made after the lock
        return path.is_symlink()
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def _prune(base: Path) -> None:
    """Drops links to runs that ended, and all but the newest of the directories that runs left behind."""
    left_behind = []
    for entry in _entries(base):
        if not _is_abandoned(entry):
            continue
        if entry.is_symlink():
            entry.unlink(missing_ok=True)
        else:
            left_behind.append(entry)
    left_behind.sort(key=lambda path: path.stat().st_mtime_ns)
    for path in left_behind[:-_DEAD_RUNS_KEPT]:
        shutil.rmtree(path, ignore_errors=True)
