"""What several modules stand on; one that needs it otherwise has a fixture of the same name of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.gateway_rig import Exchange
from tests.integration.lifecycle_rig import short_directory
from tests.integration.redis_server import Server
from tests.integration.supervisor_rig import Engine


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A directory of the module's."""
    with short_directory() as path:
        yield path


@pytest.fixture(scope="module")
def exchange(root: Path) -> Iterator[Exchange]:
    """An exchange that does nothing wrong, for all tests of a module."""
    with Exchange(root) as started:
        yield started


@pytest.fixture
def idle_server(tmp_path: Path) -> Iterator[Server]:
    """A Redis of the test's own that is not started: tests differ in when, and how."""
    server = Server(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def server(idle_server: Server) -> Server:
    """The same, started."""
    idle_server.start()
    return idle_server


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine of tiny workers, not started."""
    made = Engine(Path(tempfile.mkdtemp(prefix="cq-")))  # short: socket paths are
    yield made
    made.close()
