"""``corequote run`` with tiny workers in the place of the real ones: ``tiny_engine.py CONFIG [RUN_DIR]``.

The kinds that the variable ``REAL_WORKERS`` names are the real ones.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest import mock

from engine import child, cli

WORKER = Path(__file__).with_name("tiny_worker.py")


def main() -> None:
    config_file, *run_dir = sys.argv[1:]
    option = ["--run-dir", run_dir[0]] if run_dir else []
    real = {kind: child.worker_command(kind) for kind in os.environ.get("REAL_WORKERS", "").split()}

    def command(kind: str) -> list[str]:
        return real.get(kind, [sys.executable, str(WORKER), kind])

    with mock.patch.object(child, "worker_command", command):
        cli.app(["run", config_file, *option])


if __name__ == "__main__":
    main()
