"""Which quoter runs on which core: the plan, row by row."""

from __future__ import annotations

import pytest

from engine.config import ConfigError
from engine.config.sections import Wait
from engine.placement import plan, worker_wait

FREE = None


@pytest.mark.parametrize(
    ("market_cores", "workers", "cores", "allowed", "expected"),
    [
        # one quoter per market, dealt round over every allowed core
        ([FREE] * 3, 0, None, {0, 1}, [(0, (0,)), (1, (1,)), (0, (2,))]),
        ([FREE] * 3, 0, None, {5, 3, 9}, [(3, (0,)), (5, (1,)), (9, (2,))]),
        # only the named cores, in the order they are named
        ([FREE] * 3, 0, [3, 1], {0, 1, 2, 3}, [(3, (0,)), (1, (1,)), (3, (2,))]),
        # fewer quoters than markets: market i goes to worker i mod workers
        ([FREE] * 5, 2, None, {0, 1}, [(0, (0, 2, 4)), (1, (1, 3))]),
        ([FREE] * 4, 1, [2], {1, 2}, [(2, (0, 1, 2, 3))]),
        # never more quoters than markets
        ([FREE] * 2, 8, None, {0, 1}, [(0, (0,)), (1, (1,))]),
        # a market's own core belongs to it alone
        ([2, FREE, FREE], 0, None, {0, 1, 2}, [(2, (0,)), (0, (1,)), (1, (2,))]),
        ([FREE, 0, FREE], 0, None, {0, 1}, [(1, (0,)), (0, (1,)), (1, (2,))]),
        # ... unless there is no other
        ([0, FREE], 0, None, {0}, [(0, (0,)), (0, (1,))]),
        # a market's core need not be among the dealt ones
        ([3, FREE], 0, [0], {0, 3}, [(3, (0,)), (0, (1,))]),
        # markets that share a worker may both name its core
        ([1, FREE, 1], 2, None, {0, 1}, [(1, (0, 2)), (0, (1,))]),
    ],
)
def test_plan(
    market_cores: list[int | None],
    workers: int,
    cores: list[int] | None,
    allowed: set[int],
    expected: list[tuple[int, tuple[int, ...]]],
) -> None:
    plans = plan(market_cores=market_cores, workers=workers, cores=cores, allowed=allowed)
    assert [(each.core, each.market_indexes) for each in plans] == expected
    assert [each.worker for each in plans] == list(range(len(plans)))


@pytest.mark.parametrize(
    ("market_cores", "workers", "cores", "allowed", "line"),
    [
        ([7], 0, None, {0, 1}, "markets[0].core=7: this process may only use cores 0, 1"),
        ([FREE], 0, [0, 7], {0, 1}, "engine.cores[1]=7: this process may only use cores 0, 1"),
        ([FREE], 0, [1, 1], {0, 1}, "engine.cores[1]=1: is listed twice"),
        ([FREE], 0, [], {0}, "engine.cores: is empty; leave it out to use every allowed core"),
        ([1, 1], 0, None, {0, 1}, "markets[1].core=1: is already given to another market"),
        ([0, FREE, 1], 2, None, {0, 1}, "markets[2].core=1: shares worker 0 with a market on core 0"),
        ([FREE], 0, None, set(), "engine.cores: this process may use no core at all"),
        ([], 0, None, {0}, "markets: at least one is needed"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(
    market_cores: list[int | None], workers: int, cores: list[int] | None, allowed: set[int], line: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(market_cores=market_cores, workers=workers, cores=cores, allowed=allowed)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("wishes", "default", "expected"),
    [
        ([None, None], "park", "park"),
        ([None, None], "spin", "spin"),
        (["park", "yield", None], "park", "yield"),
        (["park", "yield", "spin"], "park", "spin"),
        (["park", None], "spin", "spin"),
        (["park"], "spin", "park"),
        ([], "yield", "yield"),
    ],
)
def test_the_most_wakeful_wish_holds(wishes: list[Wait | None], default: Wait, expected: Wait) -> None:
    assert worker_wait(wishes, default) == expected
