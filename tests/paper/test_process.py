"""``python -m engine.paper`` as a process: start, refused starts, stop."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.paper.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 20.0


def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COREQUOTE_")}
    return subprocess.Popen(
        # a shell's background job, which the tests may be, ignores SIGINT and hands that down
        ["env", "--default-signal=INT", sys.executable, "-m", "engine.paper", *arguments],
        cwd=ROOT,
        env={**environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Refused:
    """Starts that must not succeed; in this process, since they end before anything is served."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Exit code and what stands on stderr."""
        try:
            code = main(list(arguments))
        except SystemExit as stop:
            code = int(str(stop.code))
        return code, self.capsys.readouterr().err


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    return Refused(capsys)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    port_file = tmp_path / "port"
    process = start("--port", "0", "--port-file", str(port_file))
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not port_file.exists():
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        host, port = port_file.read_text().strip().split(":")
        yield process, host, int(port)
    finally:
        process.kill()
        process.communicate()


def test_start_announce_and_stop(running: tuple[subprocess.Popen[str], str, int]) -> None:
    process, host, port = running
    assert process.stdout is not None
    assert process.stdout.readline() == f"paper exchange listening on http://{host}:{port}\n"
    connection = http.client.HTTPConnection(host, port, timeout=DEADLINE_S)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    second = start("--port", str(port))
    _, errors = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 78
    assert errors == f"corequote paper: 127.0.0.1:{port}: cannot listen: address already in use\n"
    process.send_signal(signal.SIGTERM)  # with a kept-alive connection open
    out, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out, errors) == (0, "", "")


def test_sigint_stops_a_process_started_by_hand(running: tuple[subprocess.Popen[str], str, int]) -> None:
    process, _, _ = running
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("colour = 1\n", "Object contains unknown field `colour`"),
        ('limits = "none"\n', "limits = 'none': Invalid enum value 'none'"),
        ("snapshot_interval_ms = 99\n", "snapshot_interval_ms = 99: Expected `int` >= 100"),
        ('snapshot_interval_ms = "200"\n', "snapshot_interval_ms = '200': Expected `int`, got `str`"),
        (
            '[[markets]]\nid = "A"\ntitle = "a"\nmin_price_cents = 0\n',
            "markets[0].min_price_cents = 0: Expected",
        ),
        (
            '[[markets]]\nid = "A"\ntitle = "a"\nmin_price_cents = 50\nmax_price_cents = 50\n',
            "markets[0]: min_price_cents 50 must be below max_price_cents 50",
        ),
        ('[[markets]]\nid = "A"\n', "markets[0]: Object missing required field `title`"),
        (
            '[[markets]]\nid = "A"\ntitle = "a"\n[[markets]]\nid = "A"\ntitle = "b"\n',
            "market id A appears 2 times, allowed once",
        ),
        ("limits = \n", "not TOML: Invalid value (at line 1, column 10)"),
    ],
)
def test_bad_configuration(refused: Refused, tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "paper.toml"
    path.write_text(text)
    code, errors = refused("--port", "0", "--config", str(path))
    assert code == 78
    assert errors.startswith(f"corequote paper: {path}: {line}")
    assert errors.count("\n") == 1


def test_missing_configuration(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert refused("--config", str(path)) == (78, f"corequote paper: {path}: No such file or directory\n")


@pytest.mark.parametrize(
    "arguments",
    [["--nonsense"], ["--port", "x"], ["--port", "65536"], ["--limits", "some"], ["extra"]],
)
def test_usage(refused: Refused, arguments: list[str]) -> None:
    code, errors = refused(*arguments)
    assert code == 2
    assert "error:" in errors


def test_unreachable_host(refused: Refused) -> None:
    code, errors = refused("--host", "192.0.2.1", "--port", "0")
    assert code == 78
    assert errors.startswith("corequote paper: 192.0.2.1:0: cannot listen: ")


def test_configured_markets(tmp_path: Path) -> None:
    from engine.paper.config import load_config
    from engine.paper.limits import LimitProfile

    path = tmp_path / "paper.toml"
    path.write_text(
        'limits = "off"\nadmin_users = ["root_user"]\nexempt_users = ["t1"]\n'
        '[[markets]]\nid = "A"\ntitle = "a"\nmax_order_quantity = 7\ntaker_fee_bps = 0\n'
        "trading_end_at = 2027-01-01T00:00:00Z\n"
    )
    config = load_config(path)
    assert (config.limits, config.admin_users, config.exempt_users) == (
        LimitProfile.OFF,
        ("root_user",),
        ("t1",),
    )
    assert config.markets is not None
    (market,) = config.markets
    assert (market.max_order_quantity, market.taker_fee_bps, market.max_price_cents) == (7, 0, 99)


def test_dies_with_its_parent(tmp_path: Path) -> None:
    """A parent that is killed takes the exchange along; SIGINT alone does not stop it."""
    port_file = tmp_path / "port"
    program = (
        "import os, subprocess, sys, time\n"
        "os.environ['COREQUOTE_PARENT_PID'] = str(os.getpid())\n"
        "child = subprocess.Popen([sys.executable, '-m', 'engine.paper', '--port', '0',"
        f" '--port-file', {str(port_file)!r}], stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not port_file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        host, port = port_file.read_text().strip().split(":")
        os.kill(child, signal.SIGINT)
        connection = http.client.HTTPConnection(host, int(port), timeout=DEADLINE_S)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        parent.kill()
        parent.wait()
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
            except OSError:
                break
            assert time.monotonic() < deadline + DEADLINE_S
            time.sleep(0.01)
    finally:
        parent.kill()
        parent.communicate()
