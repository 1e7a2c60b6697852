"""Run directories: private, one supervisor each, found by their owner's tools and by nobody else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import rundir
from engine.arena import Arena, ArenaError
from engine.rundir import ArenaServer, RunDirectory, RunDirError, RunInfo, attach, live_runs

INFO = RunInfo(
    pid=1,
    arena_epoch=2,
    started_at_ms=3,
    arena_socket="a",
    exchange_url="http://x",
    redis_url="unix:///y",
    market_ids=["m"],
)


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "corequote"


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena.create(market_slots=1, worker_slots=1)
    yield made
    os.close(made.fd)


def test_a_fresh_directory_is_private_and_goes_with_its_run(base: Path) -> None:
    run = RunDirectory.claim(None)
    assert run.path.parent == base
    assert stat.S_IMODE(base.stat().st_mode) == stat.S_IMODE(run.path.stat().st_mode) == 0o700
    run.publish(INFO)
    assert stat.S_IMODE((run.path / "run.json").stat().st_mode) == 0o600
    assert rundir.read_info(run.path) == INFO
    run.release(remove=True)
    assert list(base.iterdir()) == []


def test_a_configured_directory_stays_and_its_entry_goes(base: Path, tmp_path: Path) -> None:
    run = RunDirectory.claim(tmp_path / "deep" / "run")
    (entry,) = base.iterdir()
    assert entry.resolve() == run.path
    run.release(remove=True)
    assert run.path.is_dir()
    assert list(base.iterdir()) == []


def test_one_supervisor_at_a_time(tmp_path: Path) -> None:
    run = RunDirectory.claim(tmp_path / "run")
    with pytest.raises(RunDirError, match=rf"another supervisor \(pid {os.getpid()}\) runs here"):
        RunDirectory.claim(tmp_path / "run")
    run.release(remove=False)
    RunDirectory.claim(tmp_path / "run").release(remove=False)


def test_a_directory_that_lets_others_in_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o750)
    with pytest.raises(RunDirError, match="mode 0750 lets others in, must be 0700"):
        RunDirectory.claim(shared)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir(mode=0o700)
    os.chown(foreign, 65534, 65534)
    with pytest.raises(RunDirError, match="belongs to user 65534"):
        RunDirectory.claim(foreign)


def test_a_link_in_the_place_of_the_base_directory_is_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    base.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunDirError, match="is not a directory"):
        RunDirectory.claim(None)


def test_a_base_directory_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc")
    with pytest.raises(RunDirError, match=r"^/proc/corequote: "):
        RunDirectory.claim(None)


@pytest.mark.parametrize(
    ("name", "rule"), [("file", "File exists"), ("file/below", "Not a directory"), ("x" * 90, "too long")]
)
def test_a_path_that_cannot_be_used_is_named(tmp_path: Path, name: str, rule: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirError, match=rule):
        RunDirectory.claim(tmp_path / name)


def test_a_run_is_live_while_its_arena_answers(arena: Arena, tmp_path: Path) -> None:
    first, second = RunDirectory.claim(None), RunDirectory.claim(tmp_path / "run")
    assert live_runs() == []
    servers = [ArenaServer(run.path, arena) for run in (first, second)]
    assert sorted(live_runs()) == sorted([first.path, second.path])
    for server, run in zip(servers, (first, second), strict=True):
        server.close()
        run.release(remove=True)
    assert live_runs() == []


def test_the_arena_is_handed_out_for_reading_only(arena: Arena, tmp_path: Path) -> None:
    import threading

    run = RunDirectory.claim(tmp_path / "run")
    server = ArenaServer(run.path, arena)
    assert stat.S_IMODE((run.path / "arena.sock").stat().st_mode) == 0o600
    server.socket.setblocking(True)
    thread = threading.Thread(target=server.serve_one)
    thread.start()
    attached = attach(run.path)
    thread.join()
    assert (attached.epoch, attached.writable) == (arena.epoch, False)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(attached.fd, b"x", 0)
    os.close(attached.fd)
    server.close()
    run.release(remove=True)


def test_a_server_never_waits_for_a_client(arena: Arena, tmp_path: Path) -> None:
    run = RunDirectory.claim(tmp_path / "run")
    server = ArenaServer(run.path, arena)
    server.serve_one()
    server.close()
    run.release(remove=True)


def test_where_nothing_runs_the_message_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="no engine answers here"):
        attach(tmp_path)
    with pytest.raises(RunDirError, match=r"run\.json"):
        rundir.read_info(tmp_path)
    (tmp_path / "run.json").write_text('{"pid": "x"}')
    with pytest.raises(RunDirError, match=r"run\.json"):
        rundir.read_info(tmp_path)


def test_a_stranger_on_the_socket_is_not_believed(tmp_path: Path) -> None:
    """Something else listens where the arena should be: a page of zeroes is not an arena."""
    import socket
    import threading

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "arena.sock"))
    listener.listen(1)
    fd = os.memfd_create("foreign")
    os.ftruncate(fd, 8192)

    def answer() -> None:
        client, _ = listener.accept()
        with client:
            socket.send_fds(client, [bytes(8)], [fd])

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(ArenaError, match="not a corequote arena"):
        attach(tmp_path)
    thread.join()
    listener.close()
    os.close(fd)


def test_what_dead_runs_left_is_bounded_and_the_newest_are_kept(base: Path) -> None:
    left = []
    for age in range(12):
        run = RunDirectory.claim(None)
        os.utime(run.path, ns=(age * 10**9, age * 10**9))
        run.release(remove=False)
        os.utime(run.path, ns=(age * 10**9, age * 10**9))
        left.append(run.path)
    living = RunDirectory.claim(None)
    kept = set(base.iterdir()) - {living.path}
    assert kept == set(left[-8:])
    living.release(remove=True)


def test_the_entry_of_a_dead_run_goes_and_that_of_a_living_one_stays(base: Path, tmp_path: Path) -> None:
    base.mkdir(mode=0o700)
    (base / "run-99999999").symlink_to(tmp_path / "gone")
    living = RunDirectory.claim(tmp_path / "living")
    other = RunDirectory.claim(None)
    assert {entry.resolve() for entry in base.iterdir()} == {living.path, other.path}
    other.release(remove=True)
    living.release(remove=True)
