"""A whole engine under its real supervisor, on a real exchange: what the tests of the life cycle stand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil

from engine import admin_client, rundir
from engine.arena import Arena
from engine.events import Lifecycle, ProcessState
from engine.snapshot import QuoterState, market_view, take
from tests.integration.gateway_rig import Exchange
from tests.integration.participants import Account
from tests.integration.worker_rig import PASSWORD, ROOT, until

DEADLINE_S = 90.0

#: A machine that is busy with other things is not a slow feed, nor a stalled process.
_PATIENCE = """
[risk]
heartbeat_stale_ms = 20_000
[quote]
max_latency_ms = 1_000
"""


@contextmanager
def short_directory() -> Iterator[Path]:
    """A directory whose path is short enough for the sockets in it; what processes still write is let go."""
    with tempfile.TemporaryDirectory(prefix="cq-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


class LiveEngine:
    """``corequote run`` in a private directory; markets are those given, in slot order."""

    def __init__(
        self,
        root: Path,
        exchange: Exchange,
        *markets: str,
        quote: str = "",
        redis: str = "",
        workers: int = 0,
        oracle: str = "",
        **venue: int,
    ) -> None:
        """``quote``: lines of its table, ``redis``: its table, ``oracle``: the source of every market's,
        ``venue``: further keys of that section."""
        self.exchange = exchange
        self.run_dir = root / "run"
        self.run_dir.mkdir(mode=0o700, exist_ok=True)
        self.config = root / "engine.toml"
        source = f'oracle = {{ source = "{oracle}" }}\n' if oracle else ""
        tables = "".join(f'[[markets]]\nid = "{market}"\n{source}' for market in markets)
        intervals = {"status_poll_interval_ms": 200, "trade_poll_interval_ms": 200, **venue}
        keys = "".join(f"{key} = {value}\n" for key, value in intervals.items())
        self.config.write_text(
            f'[venue]\nurl = "{exchange.url}"\n{keys}'
            f"[engine]\nworkers = {workers}\nheartbeat_timeout_ms = 20_000\n"
            f"{_PATIENCE}{quote}\n{redis}\n{tables}"
        )
        self.slots = {market: slot for slot, market in enumerate(markets)}
        self.process: subprocess.Popen[bytes] | None = None
        self._arena: Arena | None = None

    def start(self) -> LiveEngine:
        self._arena = None
        with (self.run_dir / "engine.out").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "engine.cli", "run", str(self.config)),
                    *("--run-dir", str(self.run_dir)),
                ],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "COREQUOTE_AMM_PASSWORD": PASSWORD},
                stdout=log,
                stderr=log,
            )
        return self

    @contextmanager
    def quoting(self, *markets: str) -> Iterator[Self]:
        """Started, with these markets quoted; ended in any case."""
        try:
            self.start()
            for market in markets:
                self.await_quotes(market)
            yield self
        finally:
            self.close()

    @property
    def arena(self) -> Arena:
        if self._arena is None:
            self._arena = until(self._attach, "the arena", deadline_s=DEADLINE_S)
        return self._arena

    def _attach(self) -> Arena | None:
        assert self.process is not None
        assert self.process.poll() is None, (self.run_dir / "engine.out").read_text()[-2_000:]
        try:
            return rundir.attach(self.run_dir)
        except rundir.RunDirError:
            return None

    def state(self, market: str) -> QuoterState | None:
        return market_view(self.arena, self.slots[market]).state

    def is_in(self, market: str, lifecycle: Lifecycle) -> bool:
        state = self.state(market)
        return state is not None and state.lifecycle == lifecycle

    def await_lifecycle(self, market: str, lifecycle: Lifecycle) -> QuoterState:
        until(
            lambda: self.is_in(market, lifecycle),
            f"{market} {lifecycle.name}, not {self.state(market)}",
            deadline_s=DEADLINE_S,
        )
        state = self.state(market)
        assert state is not None
        return state

    def await_quotes(self, market: str) -> None:
        """Both sides of the market are quoted at the exchange."""

        def two_sided() -> bool:
            sides = {(row["original_side"], row["original_direction"]) for row in self.exchange.live(market)}
            bids = {("YES", "BUY"), ("NO", "SELL")}
            return bool(sides & bids) and bool(sides - bids)

        until(two_sided, f"{market} quoted; {self.state(market)}", deadline_s=DEADLINE_S)

    def call(self, path: str, **wish: Any) -> admin_client.AdminAnswer:
        """POST of the admin API, once the control process listens."""
        until(self._control_runs, "the control process", deadline_s=DEADLINE_S)
        return admin_client.call(self.run_dir, "POST", path, {"reason": "a test", **wish})

    def _control_runs(self) -> bool:
        views = take(self.arena).processes
        return any(view.name == "control" and view.state is ProcessState.RUNNING for view in views)

    def corequote(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "engine.cli", *arguments, "--run-dir", str(self.run_dir)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def processes(self) -> dict[str, psutil.Process]:
        """The engine's live processes by name; one that has just died is none, whatever its row says."""
        found = {}
        for view in take(self.arena).processes:
            with suppress(psutil.NoSuchProcess):
                if view.pid:
                    found[view.name] = psutil.Process(view.pid)
        return found

    def log(self, name: str) -> str:
        return (self.run_dir / "log" / f"{name}.log").read_text()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(30)


def set_status(operator: Account, market: str, status: str) -> None:
    operator.post(f"admin/markets/{market}/status", {"status": status, "reason": "a test"})
