"""An engine of tiny workers: what ``corequote run`` runs, but for workers that only live (tiny_worker.py)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from typer.testing import CliRunner, Result

from engine import cli, rundir
from engine._native import lib
from engine.arena import Arena, cell
from engine.events import Kill, ProcessState
from engine.snapshot import ProcessView, take

HERE = Path(__file__).parent
DEADLINE_S = 60.0
NO_REDIS = 'redis.url = "redis://127.0.0.1:1/0"'


def until(look: Callable[[], Any], what: str) -> Any:
    """The first true value of ``look``; fails when none comes."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


class Engine:
    """One engine of tiny workers in a short private directory, and what it leaves behind."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run_dir = root / "run"
        self.environment = os.environ | {"XDG_RUNTIME_DIR": str(root), "COREQUOTE_AMM_PASSWORD": "secret"}
        self.before: list[str] = []  # what the command line begins with: another program that becomes it
        self.process: subprocess.Popen[str] | None = None
        self._arena: Arena | None = None

    def configure(self, *lines: str, markets: int = 1) -> Path:
        config_file = self.root / "engine.toml"
        tables = "".join(f'[[markets]]\nid = "m{index}"\n' for index in range(markets))
        if not any("heartbeat_timeout_ms" in line for line in lines):
            lines = (
                *lines,
                "engine.heartbeat_timeout_ms = 20_000",
            )  # a busy machine is not a stalled process
        config_file.write_text("\n".join([*lines, tables]))
        return config_file

    def command(self, config_file: Path, *, fresh: bool = False) -> list[str]:
        run_dir = [] if fresh else [str(self.run_dir)]
        return [*self.before, sys.executable, str(HERE / "tiny_engine.py"), str(config_file), *run_dir]

    def start(self, *lines: str, script: dict[str, list[str]] | None = None, **options: Any) -> None:
        self.run_dir.mkdir(mode=0o700, exist_ok=True)
        (self.run_dir / "script.json").write_text(json.dumps(script or {}))
        config_file = self.configure(*lines, markets=options.pop("markets", 1))
        self.process = subprocess.Popen(
            self.command(config_file, **options),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, number: int | None = signal.SIGINT) -> tuple[int, str]:
        """Exit code and output, after a signal or (None) by itself."""
        assert self.process is not None
        if number is not None:
            self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, output

    @property
    def arena(self) -> Arena:
        if self._arena is None:
            self._arena = until(self._attach, "the arena socket")
        return self._arena

    def _attach(self) -> Arena | None:
        try:
            return rundir.attach(self.run_dir)
        except rundir.RunDirError:
            assert self.process is not None
            assert self.process.poll() is None, self.process.communicate()[0]
            return None

    def view(self, name: str) -> ProcessView | None:
        return next((view for view in take(self.arena).processes if view.name == name), None)

    def running(self, name: str, *, epoch: int = 1) -> ProcessView:
        """The process, once it is in this life or a later one and RUNNING."""

        def look() -> ProcessView | None:
            view = self.view(name)
            alive = view is not None and view.state is ProcessState.RUNNING and view.epoch >= epoch
            return view if alive else None

        found: ProcessView = until(look, f"{name} to run in life {epoch}")
        return found

    def all_running(self, *names: str) -> dict[str, ProcessView]:
        names = names or tuple(view.name for view in take(self.arena).processes if view.name != "supervisor")
        return {name: self.running(name) for name in names}

    def diary(self) -> list[list[str]]:
        return [line.split() for line in (self.run_dir / "diary").read_text().splitlines()]

    def worker_epoch(self, worker: int) -> int:
        return int(lib.cell_load(cell(self.arena.worker(worker), "epoch")))

    def kill_word(self, slot: int) -> Kill:
        return Kill(lib.cell_load(self.arena.kill_market(slot)))

    def kill_global(self) -> Kill:
        return Kill(lib.cell_load(self.arena.kill_global()))

    def descendants(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def corequote(self, *arguments: str) -> Result:
        """A command in this process, as this engine's user."""
        return CliRunner().invoke(cli.app, arguments, env={"XDG_RUNTIME_DIR": str(self.root)})

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        shutil.rmtree(self.root, ignore_errors=True)


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=0.01)[1]
