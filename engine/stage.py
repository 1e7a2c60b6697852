"""A whole play on one machine: exchange, engine and the other participants as processes of this one.

What ``corequote demo`` and the fault campaign are made of. Every process has its own session, so that Ctrl-C
reaches only us, and dies with us, whatever kills us. Passwords are made anew for each run and travel by
environment only, to those who need them. Everything is written below one private run directory, which is the
engine's too.

Order of life: exchange, observer, engine, participants. Order of the end: participants, engine (which cancels
every order), a last look at the exchange's books, exchange.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
from msgspec import Struct

from engine import crash_points, lifeline, rundir
from engine.arena import Arena, ArenaError
from engine.config import EXIT_CONFIG, EXIT_USAGE
from engine.durable import write_durably
from engine.observer import Observer
from engine.paper.client import RefusedError, UnreachableError
from engine.process_log import LogFile

POLL_S: Final = 0.02
QUICK_DEATH_S: Final = 10.0
QUICK_DEATHS_MAX: Final = 5
START_S_MAX: Final = 60.0
PARTICIPANT_STOP_S_MAX: Final = 5.0
ENGINE_STOP_S_MAX: Final = 60.0
EXCHANGE_STOP_S_MAX: Final = 5.0
EXIT_FAILED: Final = 1
_PRIVATE_VARIABLES: Final = "COREQUOTE_"
_PREFIX: Final = "demo-"
_LOCK_FILE: Final = "demo.lock"
_LEFT_BEHIND_MAX: Final = 4


class StageError(Exception):
    """The play cannot go on; the message is one line and ``exit_code`` what the command ends with."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StopAskedError(Exception):
    """Somebody asked for the end while something was being waited for."""


class ChildProcess:
    """One process of the play. stderr (and stdout, unless it is read) go to ``RUN/log/NAME.log``."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, log: LogFile, *, may_end: bool
    ) -> None:
        self.name: Final = name
        self.process: Final = process
        self._may_end: Final = may_end
        self._log: Final = log

    @classmethod
    async def start(
        cls,
        name: str,
        arguments: list[str],
        *,
        run_dir: Path,
        secret: Mapping[str, str] | None = None,
        piped: bool = False,
        may_end: bool = False,
    ) -> ChildProcess:
        """Starts ``python ARGUMENTS`` bound to our life. ``piped``: stdin and stdout are ours; ``may_end``:
        ending by itself with exit code 0 is no accident."""
        log = LogFile(run_dir / rundir.LOG_DIRECTORY / f"{name}.log")
        log.begin_life()
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(_PRIVATE_VARIABLES)
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", lifeline.__file__, str(os.getpid())),
            *(sys.executable, "-P", *arguments),
            stdin=asyncio.subprocess.PIPE if piped else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if piped else log.fd,
            stderr=log.fd,
            env={**environment, **(secret or {})},
            start_new_session=True,
        )
        return cls(name, process, log, may_end=may_end)

    @property
    def ended(self) -> bool:
        return self.process.returncode is not None

    @property
    def fallen(self) -> bool:
        """Whether it ended although it should run."""
        return self.ended and not (self._may_end and self.process.returncode == 0)

    def why(self) -> str:
        """Name, exit code and the one line that matters."""
        line = self.last_line()
        return f"{self.name} ended with exit code {self.process.returncode}{f': {line}' if line else ''}"

    def last_line(self) -> str:
        """The newest line of its log."""
        return self._log.last_line()

    async def stop(self, timeout_s: float) -> bool:
        """SIGTERM and wait; SIGKILL when that is not enough. True when it ended by itself."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
        try:
            async with asyncio.timeout(timeout_s):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
            return False
        return True

    async def close(self) -> None:
        """Kills what is left."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        self._log.close()


class Passwords(Struct, frozen=True, kw_only=True):
    """Made for one run; never written anywhere."""

    amm: str
    operator: str

    @classmethod
    def fresh(cls) -> Passwords:
        return cls(amm=_password(), operator=_password())


def _armed_crash_point() -> dict[str, str]:
    """The one private variable that the engine inherits: a fault campaign set it."""
    text = os.environ.get(crash_points.VARIABLE)
    return {crash_points.VARIABLE: text} if text else {}


def _password() -> str:
    """Fits the contract's form (upper, lower, digit) and cannot be guessed."""
    return f"Aa1{secrets.token_urlsafe(24)}"


class PrivateDirectory:
    """The run directory of a play: configured, or fresh and removed again after a clean end.

    Held by a lock while the play lasts, so that two plays never meet in one directory. A fresh one that a
    killed or failed play left behind stays for reading until a few newer ones have joined it.
    """

    def __init__(self, configured: Path | None) -> None:
        """Raises StageError when the directory cannot be used."""
        self.fresh: Final = configured is None
        try:
            if configured is None:
                base = rundir.base_directory()
                _prune(base)
                self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
            else:
                self.path = configured.absolute()
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / rundir.LOG_DIRECTORY).mkdir(mode=0o700, exist_ok=True)
            self._lock_fd = os.open(self.path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (OSError, rundir.RunDirError) as error:
            words = error.strerror if isinstance(error, OSError) else str(error)
            raise StageError(f"run directory {configured or 'of the demo'}: {words}", EXIT_CONFIG) from None
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock_fd)
            raise StageError(f"run directory {self.path}: another demo runs here", EXIT_CONFIG) from None

    def release(self, *, remove: bool) -> None:
        """Gives the directory up; ``remove`` deletes a fresh one with everything in it."""
        if remove and self.fresh:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock_fd)


def _prune(base: Path) -> None:
    """Removes all but the newest of the directories that ended plays left behind."""
    left_behind = []
    for path in base.glob(f"{_PREFIX}*"):
        try:
            fd = os.open(path / _LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # about to be locked
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            left_behind.append(path)
        os.close(fd)
    left_behind.sort(key=lambda path: path.stat().st_mtime_ns)
    for path in left_behind[:-_LEFT_BEHIND_MAX]:
        shutil.rmtree(path, ignore_errors=True)


class _SupervisorEvent(Struct, frozen=True):
    """The fields of the supervisor's log lines that say how a process died."""

    event: str
    child: str = ""
    last_line: str = ""


class DeathWatch:
    """Follows the supervisor's event log for processes that die, and for those it has given up."""

    def __init__(self, log_file: Path) -> None:
        self.last_death = ""
        self.given_up = ""
        self._log_file: Final = log_file
        self._offset = 0
        self._due = 0.0

    def look(self) -> None:
        """Reads what is new, at most once a second."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + 1.0
        with contextlib.suppress(OSError), self._log_file.open("rb") as file:
            file.seek(self._offset if self._offset <= self._log_file.stat().st_size else 0)
            *whole, rest = file.read().split(b"\n")
            self._offset = file.tell() - len(rest)  # a line that is still being written is read next time
            for line in whole:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            event = msgspec.json.decode(line, type=_SupervisorEvent)
        except msgspec.DecodeError:
            return
        if event.event == "died":
            self.last_death = f"{event.child} died: {event.last_line or 'without a word'}"
        elif event.event == "crash_loop":
            self.given_up = event.child


class Stage:
    """The running processes, and what is known about the run from outside the engine."""

    def __init__(self, run_dir: Path, *, stop: asyncio.Event) -> None:
        self.run_dir: Final = run_dir
        self.passwords: Final = Passwords.fresh()
        self.run_id: Final = secrets.token_hex(4)
        self.url = ""
        self.exchange: ChildProcess | None = None
        self.engine: ChildProcess | None = None
        self.participants: Final[list[ChildProcess]] = []
        self.engine_restarts = 0
        self.when_engine_returns: Callable[[int], None] = lambda _: None
        """Called with the wall time of the engine's death, once a new one has taken its place."""
        self._stop: Final = stop
        self._engine_started_mono_s = 0.0
        self._quick_deaths = 0
        self._observer: Observer | None = None
        self._arena: Arena | None = None
        self._deaths: DeathWatch | None = None
        self._cleanup: Final = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Stage:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Whatever happened before: nothing stays behind."""
        for child in (*self.participants, self.engine, self.exchange):
            if child is not None:
                await child.close()
        await self._cleanup.aclose()

    @property
    def _engine_config(self) -> Path:
        return self.run_dir / "engine.toml"

    @property
    def observer(self) -> Observer:
        assert self._observer is not None, "the exchange comes first"
        return self._observer

    @property
    def arena(self) -> Arena:
        assert self._arena is not None, "the engine comes first"
        return self._arena

    # ---- beginning ----

    async def open_exchange(self, config: str) -> None:
        """Starts the exchange with this TOML document and the observer that follows it."""
        config_file = self.run_dir / "paper.toml"
        port_file = self.run_dir / "paper.address"
        port_file.unlink(missing_ok=True)
        write_durably(config_file, config.encode(), synced=False)
        self.exchange = await ChildProcess.start(
            "exchange",
            [
                "-m",
                "engine.paper",
                "--port",
                "0",
                "--port-file",
                str(port_file),
                "--config",
                str(config_file),
            ],
            run_dir=self.run_dir,
            secret={
                "COREQUOTE_AMM_PASSWORD": self.passwords.amm,
                "COREQUOTE_OPERATOR_PASSWORD": self.passwords.operator,
            },
        )
        await self.until(port_file.exists, what="the exchange listens")
        self.url = f"http://{port_file.read_text().strip()}"
        session = await self._cleanup.enter_async_context(aiohttp.ClientSession())
        observer = Observer(
            session,
            self.url,
            operator_password=self.passwords.operator,
            amm_password=self.passwords.amm,
        )
        try:
            self._observer = await self._cleanup.enter_async_context(observer)
        except (RefusedError, UnreachableError) as error:
            raise StageError(f"the exchange does not let the observer in: {error}") from None

    async def open_engine(self, config: str, *, market_count: int) -> None:
        """Starts the engine with this TOML document and attaches to its arena."""
        write_durably(self._engine_config, config.encode(), synced=False)
        self.engine = await self._start_engine()
        await self.until(self._attach, what="the engine hands out its arena")
        self._deaths = DeathWatch(self.run_dir / rundir.LOG_DIRECTORY / "supervisor.log")
        await self.until(
            lambda: len(self.arena.used_markets()) == market_count, what=f"{market_count} markets have a slot"
        )

    async def _start_engine(self) -> ChildProcess:
        self._engine_started_mono_s = time.monotonic()
        return await ChildProcess.start(
            "engine",
            ["-m", "engine.cli", "run", str(self._engine_config), "--run-dir", str(self.run_dir)],
            run_dir=self.run_dir,
            secret={"COREQUOTE_AMM_PASSWORD": self.passwords.amm, **_armed_crash_point()},
        )

    async def _revive_engine(self) -> None:
        """Starts the engine again after a signal ended its supervisor, as systemd would in production.

        An engine that ended by itself has had its reasons; one that dies soon after each start is given up.
        """
        engine = self.engine
        code = None if engine is None else engine.process.returncode
        if engine is None or self._deaths is None or code is None or code >= 0:
            return
        died_unix_ns = time.time_ns()
        lived_s = time.monotonic() - self._engine_started_mono_s
        self._quick_deaths = self._quick_deaths + 1 if lived_s < QUICK_DEATH_S else 0
        if self._quick_deaths > QUICK_DEATHS_MAX:
            return
        self.engine_restarts += 1
        await engine.close()
        self.engine = await self._start_engine()
        await self.until(self._attach, what="the engine hands out its arena again")
        self.when_engine_returns(died_unix_ns)

    def _attach(self) -> bool:
        try:
            self._arena = rundir.attach(self.run_dir)
        except (rundir.RunDirError, ArenaError):
            return False
        return True

    async def open_participant(
        self,
        name: str,
        arguments: list[str],
        *,
        secret: Mapping[str, str] | None = None,
        piped: bool = False,
        may_end: bool = False,
    ) -> ChildProcess:
        """Starts somebody else who trades on the exchange."""
        child = await ChildProcess.start(
            name, arguments, run_dir=self.run_dir, secret=secret, piped=piped, may_end=may_end
        )
        self.participants.append(child)
        return child

    # ---- waiting ----

    def check(self) -> None:
        """Raises StageError when something has ended that should run, StopAskedError when asked to stop."""
        if self._stop.is_set():
            raise StopAskedError
        for child in (self.exchange, self.engine, *self.participants):
            if child is not None and child.fallen:
                code = child.process.returncode
                raise StageError(child.why(), code if code in (EXIT_USAGE, EXIT_CONFIG) else EXIT_FAILED)
        if self._deaths is not None:
            self._deaths.look()
            if self._deaths.given_up:
                raise StageError(f"the engine gave up on {self._deaths.given_up}; {self._deaths.last_death}")
        if self._observer is not None and self._observer.failure is not None:
            raise StageError(f"the exchange's journal cannot be followed: {self._observer.failure}")

    async def until(
        self,
        condition: Callable[[], bool],
        *,
        what: str,
        timeout_s: float = START_S_MAX,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        """Waits for a condition, calling ``watch`` all the while. Raises what :meth:`check` raises, and
        StageError when ``timeout_s`` pass."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            await self._revive_engine()
            self.check()
            if time.monotonic() > deadline:
                said = f"; {self._deaths.last_death}" if self._deaths and self._deaths.last_death else ""
                raise StageError(f"waited {timeout_s:.0f} s in vain until {what}{said}")
            watch()
            await asyncio.sleep(POLL_S)

    # ---- end ----

    async def close_participants(self) -> list[str]:
        """Stops everybody else; returns what did not go well."""
        stopped = await asyncio.gather(*(child.stop(PARTICIPANT_STOP_S_MAX) for child in self.participants))
        return [
            f"{child.name} had to be killed"
            for child, in_time in zip(self.participants, stopped, strict=True)
            if not in_time
        ]

    async def close_engine(self) -> list[str]:
        """The engine's orderly stop; returns what did not go well."""
        if self.engine is None:
            return []
        in_time = await self.engine.stop(ENGINE_STOP_S_MAX)
        if not in_time:
            return ["the engine had to be killed"]
        return [self.engine.why()] if self.engine.process.returncode else []

    async def close_exchange(self) -> list[str]:
        """The exchange goes last; returns what did not go well."""
        if self.exchange is None:
            return []
        await self._cleanup.aclose()
        return [] if await self.exchange.stop(EXCHANGE_STOP_S_MAX) else ["the exchange had to be killed"]


@contextlib.asynccontextmanager
async def stop_on_signals() -> AsyncIterator[asyncio.Event]:
    """An event that Ctrl-C and SIGTERM set; a second one changes nothing, the end is on its way."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


# ---- configuration documents ----


def toml_value(value: object) -> str:
    """A plain value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, str):
        escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {toml_value(entry)}' for key, entry in value.items())}}}"
    raise TypeError(f"{value!r}: no TOML value")


def toml_document(tables: Mapping[str, object]) -> str:
    """Top-level keys, ``[table]``s for mappings and ``[[table]]``s for lists of mappings."""
    plain, nested = [], []
    for name, value in tables.items():
        if isinstance(value, Mapping):
            nested.append(f"\n[{name}]\n{_toml_keys(value)}")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            nested += [f"\n[[{name}]]\n{_toml_keys(entry)}" for entry in value]
        else:
            plain.append(f"{name} = {toml_value(value)}\n")
    return "".join((*plain, *nested))


def _toml_keys(table: Mapping[str, object]) -> str:
    return "".join(f"{key} = {toml_value(value)}\n" for key, value in table.items())
