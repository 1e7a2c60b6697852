"""Several markets on one account whose gateway is killed: the short form of `make limits`."""

from __future__ import annotations

import pytest

from tests.faults.account_limits import run
from tests.integration.lifecycle_rig import short_directory

MARKETS = 8
SECONDS = 16.0


@pytest.mark.timeout(300)
def test_no_limit_of_the_account_is_broken_and_no_order_outlives_the_engine() -> None:
    with short_directory() as folder:
        verdict = run(folder, markets=MARKETS, seconds=SECONDS, seed=4, said=lambda _: None)
    assert verdict.problems == []
    assert verdict.wishes, verdict.lines()
    assert verdict.places > 10 * MARKETS
    assert verdict.replaces > 0
