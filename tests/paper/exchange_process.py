"""``corequote paper`` as a process that can be killed and started again on the same data."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
START_S_MAX = 60.0
AMM_PASSWORD = "Market-Maker-1"
OPERATOR_PASSWORD = "Operator-1"
JWT_SECRET = "a-secret-that-outlives-the-process"


class ExchangeProcess:
    """One life of the exchange; tokens of an earlier life stay good."""

    def __init__(self, folder: Path, *arguments: str, limits: str = "off") -> None:
        self._port_file = folder / "address"
        self._port_file.unlink(missing_ok=True)
        self.stderr = folder / "stderr"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("COREQUOTE_")}
        with self.stderr.open("ab") as stderr:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "engine.paper", "--port", "0", "--limits", limits),
                    *("--port-file", str(self._port_file), *arguments),
                ],
                cwd=ROOT,
                env={
                    **environment,
                    "COREQUOTE_PARENT_PID": str(os.getpid()),
                    "COREQUOTE_AMM_PASSWORD": AMM_PASSWORD,
                    "COREQUOTE_OPERATOR_PASSWORD": OPERATOR_PASSWORD,
                    "COREQUOTE_JWT_SECRET": JWT_SECRET,
                },
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        deadline = time.monotonic() + START_S_MAX
        while not self._port_file.exists():
            assert self.process.poll() is None, self.stderr.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.url = f"http://{self._port_file.read_text().strip()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """kill -9: nothing is tidied up."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; answers the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_S_MAX)
