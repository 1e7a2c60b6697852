"""A real paper exchange and its participants as processes, and a plain client to look at them with.

The client is urllib and dicts on purpose: what a test reads does not pass through the code under test.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OPERATOR_PASSWORD = "Operator-of-the-tests-1"
DEADLINE_S = 60.0


def eventually(condition: Callable[[], Any], *, what: str, deadline_s: float = DEADLINE_S) -> Any:
    """The first true value of ``condition``; fails the test when there is none before the deadline."""
    deadline = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"still not so after {deadline_s} s: {what}"
        time.sleep(0.02)


class Process:
    """A child whose stdout is JSON lines; stderr goes to a file that a failure can show."""

    def __init__(self, folder: Path, *command: str, **variables: str) -> None:
        self.name = command[0].rpartition(".")[2]
        self.errors = folder / f"{self.name}-{time.monotonic_ns()}.log"
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        environment = {
            **os.environ,
            "COREQUOTE_OPERATOR_PASSWORD": OPERATOR_PASSWORD,
            "COREQUOTE_PARENT_PID": str(os.getpid()),  # a test run that is killed leaves nothing behind
            **variables,
        }
        with self.errors.open("wb") as errors:
            self._child = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env={name: value for name, value in environment.items() if value},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._child.pid

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._events.put(json.loads(line) if line.startswith("{") else {"event": "text", "text": line})
        self._events.put(None)

    def event(self, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        """The next event; fails the test when the child ends or stays silent instead."""
        try:
            event = self._events.get(timeout=deadline_s)
        except queue.Empty:
            raise AssertionError(f"{self.name} said nothing for {deadline_s} s: {self.log()}") from None
        assert event is not None, f"{self.name} ended with {self.wait()}: {self.log()}"
        return event

    def events_until(self, name: str) -> Iterator[dict[str, Any]]:
        """Events up to and including the first one called ``name``."""
        while True:
            event = self.event()
            yield event
            if event["event"] == name:
                return

    def tell(self, line: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def running(self) -> bool:
        return self._child.poll() is None

    def send_signal(self, number: int) -> None:
        self._child.send_signal(number)

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        return self._child.wait(deadline_s)

    def log(self) -> str:
        return self.errors.read_text()

    def end(self) -> None:
        if self.running():
            self._child.kill()
        self._child.wait()
        self._reader.join(DEADLINE_S)
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            pipe.close()


class PaperExchange:
    """``python -m engine.paper`` on a free loopback port, without rate limits and with cheap passwords."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self._folder = folder
        self._port_file = folder / "port"
        self._port_file.unlink(missing_ok=True)
        config = folder / "paper.toml"
        config.write_text('limits = "off"\npassword_hash_rounds = 4\n')
        command = ["engine.paper", "--port", str(port), "--port-file", str(self._port_file)]
        self.process = Process(folder, *command, "--config", str(config))
        eventually(lambda: self._port_file.exists() or not self.process.running(), what="exchange listens")
        assert self.process.running(), self.process.log()
        self.port = int(self._port_file.read_text().strip().rpartition(":")[2])
        self.url = f"http://127.0.0.1:{self.port}"

    def crash(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def restarted(self) -> "PaperExchange":
        """A new one on the same port, knowing nothing of the old one."""
        self.process.end()
        return PaperExchange(self._folder, port=self.port)

    def account(self, username: str, password: str, *, deposit_cents: int = 0) -> "Account":
        """Log in, registering the account first if a deposit says it is new."""
        account = Account(self.url)
        if deposit_cents:
            body = {"username": username, "email": f"{username}@tests.internal", "password": password}
            account.post("auth/register", body)
        account.token = account.post("auth/login", {"username": username, "password": password})[
            "access_token"
        ]
        if deposit_cents:
            account.post("account/deposit", {"amount_cents": deposit_cents})
        return account

    def operator(self) -> "Account":
        return self.account("operator", OPERATOR_PASSWORD)


class Account:
    """Bare REST calls with one account's token; answers are the envelope's data, or a bare body."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.token = ""

    def get(self, path: str) -> Any:
        return self._call("GET", path, None)

    def put(self, path: str, body: Mapping[str, object]) -> Any:
        return self._call("PUT", path, json.dumps(body).encode())

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        return self._call("POST", path, json.dumps(body).encode())

    def buy(self, market_id: str, side: str, price_cents: int, quantity: int, **fields: object) -> Any:
        body = {
            "client_order_id": f"t{time.monotonic_ns()}",
            "market_id": market_id,
            "side": side,
            "direction": "BUY",
            "price_cents": price_cents,
            "quantity": quantity,
        }
        return self.post("orders", {**body, **fields})

    def ladder(self, market_id: str) -> tuple[list[list[int]], list[list[int]]]:
        """The YES book: bids descending, asks ascending, as [cents, quantity]."""
        book = self.get(f"markets/{market_id}/orderbook?levels=99")["yes"]
        bids, asks = (
            [[level["price_cents"], level["total_quantity"]] for level in book[side]]
            for side in ("bids", "asks")
        )
        return bids, asks

    def _call(self, method: str, path: str, data: bytes | None) -> Any:
        request = urllib.request.Request(f"{self.url}/api/v1/{path}", data=data, method=method)
        request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = json.load(answer)
        return body["data"] if "code" in body else body  # as-built, order routes answer without envelope


@contextmanager
def running(process: Process) -> Iterator[Process]:
    """Ends the child whatever happens to the test."""
    try:
        yield process
    finally:
        process.end()


@contextmanager
def exchange_in(folder: Path) -> Iterator[PaperExchange]:
    """A paper exchange for the length of a test."""
    exchange = PaperExchange(folder)
    try:
        yield exchange
    finally:
        exchange.process.end()
