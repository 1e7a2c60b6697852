"""What a market takes in memory and in Redis stays within what was promised, by the engine's own encoders."""

from __future__ import annotations

import os

import pytest

from engine._native import lib
from engine.arena import Arena
from perf.sizes import Size, sizes


@pytest.mark.parametrize("size", sizes(), ids=lambda size: size.what)
def test_size(size: Size) -> None:
    assert 0 < size.bytes <= size.limit


def test_a_market_slot_that_nobody_uses_is_address_space_and_no_memory() -> None:
    few, many = (Arena.create(market_slots=count, worker_slots=1) for count in (1, 1_000))
    touched = [os.fstat(arena.fd).st_blocks * 512 for arena in (few, many)]
    assert lib.arena_bytes(1_000, 1) > 100 * 1024 * 1024
    assert touched[1] - touched[0] < 64 * 1024
