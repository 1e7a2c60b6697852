"""Life cycle of the embedded server: whose it is, when it dies, what it refuses, and a server by URL."""

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from engine.paper.__main__ import main
from engine.paper.postgres import (
    DatabaseError,
    EmbeddedServer,
    _program,
    choose_identity,
    embedded,
    external,
)
from engine.paper.store import Store
from tests.paper.databases import fetch, run
from tests.paper.exchange_process import ROOT, ExchangeProcess

DEADLINE_S = 20.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def workers(cluster: Path) -> list[int]:
    """Processes at work in a cluster."""
    found = []
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and os.readlink(f"/proc/{entry.name}/cwd") == str(cluster):
                found.append(int(entry.name))
    return found


def select(login: object, query: str) -> object:
    ((value,),) = run(fetch(login, query))  # type: ignore[arg-type]
    return value


def test_private_to_its_owner_and_durable(tmp_path: Path) -> None:
    with embedded(tmp_path / "data") as database:
        cluster = tmp_path / "data" / "pg"
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
        assert (cluster / ".s.PGSQL.5432").stat().st_mode & 0o777 == 0o600
        assert cluster.stat().st_uid == os.geteuid()
        for name, value in {"listen_addresses": "", "synchronous_commit": "on", "fsync": "on"}.items():
            assert select(database.owner, f"SHOW {name}") == value
    assert workers(cluster) == []


def test_the_path_may_be_long(tmp_path: Path) -> None:
    """A socket address has room for 107 bytes."""
    directory = tmp_path / ("d" * 100) / "e"
    with embedded(directory) as database:
        assert select(database.owner, "SELECT 1") == 1


def test_rows_survive_a_kill_of_the_server(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    server = EmbeddedServer(directory, durable=True)
    server.start()
    run(fetch(server.database.owner, "CREATE TABLE kept (number int)"))
    run(fetch(server.database.owner, "INSERT INTO kept VALUES (7)"))
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    with embedded(directory) as database:
        assert select(database.owner, "SELECT number FROM kept") == 7


@pytest.mark.parametrize("name", ["postmaster.pid", ".s.PGSQL.5432.lock"])
def test_a_lock_file_that_names_somebody_else_is_no_obstacle(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "data"
    with embedded(directory):
        lines = (directory / "pg" / name).read_text().splitlines()
    lines[0] = str(os.getppid())
    (directory / "pg" / name).write_text("\n".join(lines) + "\n")
    with embedded(directory) as database:
        assert select(database.owner, "SELECT 1") == 1


def test_nothing_outlives_a_killed_exchange(tmp_path: Path) -> None:
    cluster = tmp_path / "data" / "pg"
    with ExchangeProcess(tmp_path, "--data", str(tmp_path / "data")) as exchange:
        assert workers(cluster)
        exchange.kill()
        until(lambda: workers(cluster) == [])


def test_without_data_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with ExchangeProcess(tmp_path) as exchange:
        (home,) = tmp_path.glob("corequote-paper-*")
        assert exchange.stop() == 0
        assert not home.exists()
    with ExchangeProcess(tmp_path) as exchange:
        (left,) = tmp_path.glob("corequote-paper-*")
        exchange.kill()
    assert left.exists()
    with ExchangeProcess(tmp_path) as exchange:
        assert left not in set(tmp_path.glob("corequote-paper-*"))  # the next one tidies up
        assert exchange.stop() == 0


def test_ctrl_c_reaches_the_exchange_first(tmp_path: Path) -> None:
    """The whole foreground group gets SIGINT; the server is not in it."""
    with ExchangeProcess(tmp_path, "--data", str(tmp_path / "data")) as exchange:
        pids = workers(tmp_path / "data" / "pg")
        assert all(os.getsid(pid) != os.getsid(exchange.process.pid) for pid in pids)


def test_one_exchange_per_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with embedded(tmp_path / "data"):
        assert main(["--port", "0", "--data", str(tmp_path / "data")]) == 78
    assert capsys.readouterr().err == f"corequote paper: {tmp_path}/data: another exchange works here\n"


def test_a_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    with (
        pytest.raises(DatabaseError, match="mode 0755 lets others in, 0700 is the rule"),
        embedded(tmp_path / "data"),
    ):
        pass


def test_a_broken_cluster_is_one_line(tmp_path: Path) -> None:
    with embedded(tmp_path / "data"):
        pass
    (tmp_path / "data" / "pg" / "global" / "pg_control").write_bytes(b"")
    with (
        pytest.raises(DatabaseError, match="the server ended with exit code") as refused,
        embedded(tmp_path / "data"),
    ):
        pass
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_without_namespaces_runs_it_as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.paper.postgres._NAMESPACE", ("false",))
    identity = choose_identity()
    assert identity.owner == "nobody"
    directory = Path("/tmp") / f"corequote-nobody-{os.getpid()}"
    directory.mkdir()
    directory.chmod(0o755)
    server = EmbeddedServer(directory, durable=False)
    reachable = subprocess.run(
        [*identity.prefix, _program("postgres"), "--version"], check=False, capture_output=True
    )
    try:
        if reachable.returncode != 0:
            with pytest.raises(DatabaseError):
                server.start()
            return
        server.start()
        assert select(server.database.owner, "SELECT 1") == 1
        assert (directory / "pg").stat().st_uid != 0
        assert "Uid:\t65534" in Path(f"/proc/{server.pid}/status").read_text()
    finally:
        server.stop()
        shutil.rmtree(directory)


def test_the_runtime_role_cannot_rewrite_history(tmp_path: Path) -> None:
    with embedded(None) as database:
        run(opened_and_closed(database))
        for forbidden in ("DELETE FROM trades", "UPDATE ledger_entries SET amount = 0", "DROP TABLE users"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                run(fetch(database.runtime, forbidden))
        assert select(database.runtime, "SELECT count(*) FROM trades") == 0


async def opened_and_closed(database: object) -> None:
    await (await Store.open(database)).close()  # type: ignore[arg-type]


def test_a_server_by_url(tmp_path: Path) -> None:
    """Another PostgreSQL, which we neither start nor stop, holds the exchange over two lives."""
    cluster = tmp_path / "theirs"
    identity = choose_identity()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(
        [*identity.prefix, _program("initdb"), "-D", str(cluster), "-U", "them", "--auth=trust", "--no-sync"],
        check=True,
        **quiet,  # type: ignore[call-overload]
    )
    server = subprocess.Popen(
        [
            *(*identity.prefix, _program("postgres"), "-D", str(cluster), "-k", str(tmp_path)),
            *("-c", "listen_addresses=", "-c", "fsync=off"),
        ],
        **quiet,  # type: ignore[call-overload]
    )
    try:
        until((tmp_path / ".s.PGSQL.5432").exists)
        url = f"postgresql://them@/postgres?host={tmp_path}"
        database = external(url)
        assert database.runtime_role is None
        until(
            lambda: (
                subprocess.run([_program("psql"), url, "-c", "select 1"], check=False, **quiet).returncode
                == 0
            )
        )  # type: ignore[call-overload]
        for life in (1, 2):
            with ExchangeProcess(tmp_path, "--database", url) as exchange:
                assert exchange.stop() == 0
            users = select(database.owner, "SELECT count(*) FROM users WHERE username = 'operator'")
            assert users == 1, life
        assert server.poll() is None
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(DEADLINE_S)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("mysql://x@y/z", "postgresql://... is the rule"),
        ("postgresql://nobody:secret@127.0.0.1:1/none", "database 127.0.0.1:1/none: "),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(
    url: str, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--port", "0", "--database", url]) == 78
    told = capsys.readouterr().err
    assert rule in told
    assert "secret" not in told
    assert told.count("\n") == 1


def test_data_and_database_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--data", "/x", "--database", "postgresql:///y"])
    assert "not allowed with" in capsys.readouterr().err


def test_a_database_that_goes_ends_the_exchange(tmp_path: Path) -> None:
    """Only by its death notice can a caller tell: requests are refused, then the process ends with 1."""
    code = (
        "import engine.paper.store as s, sys; s.RECONNECT_S_MAX = 0.3\n"
        "from engine.paper.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    port_file = tmp_path / "address"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", code, "--port", "0", "--limits", "off"),
            *("--data", str(tmp_path / "data"), "--port-file", str(port_file)),
        ],
        cwd=ROOT,
        env={**os.environ, "COREQUOTE_PARENT_PID": str(os.getpid()), "LOGNAME": getpass.getuser()},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        until(port_file.exists)
        for pid in workers(tmp_path / "data" / "pg"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        import http.client

        connection = http.client.HTTPConnection(port_file.read_text().strip(), timeout=DEADLINE_S)
        body = '{"username": "anna", "email": "a@x", "password": "Secret-123"}'
        connection.request("POST", "/api/v1/auth/register", body)
        assert connection.getresponse().status == 500
        assert process.wait(DEADLINE_S) == 1
        assert process.stderr is not None
        assert process.stderr.read().splitlines()[-1].startswith("corequote paper: database ")
    finally:
        process.kill()
        process.wait()
