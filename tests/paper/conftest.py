"""Exchanges for the tests: a fresh one where balances matter, a shared one where only answers do."""

from collections.abc import Iterator

import pytest

from tests.paper.venue import Venue, await_stopped, open_venue


@pytest.fixture(scope="session", autouse=True)
def _servers_end() -> Iterator[None]:
    yield
    await_stopped()


@pytest.fixture
def venue() -> Iterator[Venue]:
    """An exchange nobody has used yet."""
    with open_venue() as opened:
        yield opened


@pytest.fixture(scope="module")
def shared() -> Iterator[Venue]:
    """One exchange for all tests of a module; each test brings its own people."""
    with open_venue() as opened:
        yield opened
