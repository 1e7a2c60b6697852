"""Which quoter carries which market, on which core, and how it waits: a pure plan made before a start."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from msgspec import Struct

from engine.config import ConfigError
from engine.config.sections import Wait

_MOST_WAKEFUL_FIRST: Final[tuple[Wait, ...]] = ("spin", "yield", "park")


class WorkerPlan(Struct, frozen=True, kw_only=True):
    """One quoter process: its worker slot, the CPU core it is pinned to, and the markets it carries."""

    worker: int
    core: int
    market_indexes: tuple[int, ...]  # positions in the configuration, ascending


def worker_wait(wishes: Iterable[Wait | None], default: Wait) -> Wait:
    """How the quoter of some markets waits: the most wakeful wish holds. ``default``: that of no wish."""
    wanted = {wish or default for wish in wishes}
    return next((wait for wait in _MOST_WAKEFUL_FIRST if wait in wanted), default)


def _named_cores(cores: Sequence[int], allowed: Collection[int]) -> list[int]:
    """``engine.cores`` as it stands, after checking each entry. Raises ConfigError."""
    if not cores:
        raise ConfigError("engine.cores: is empty; leave it out to use every allowed core")
    for index, core in enumerate(cores):
        _check_allowed(f"engine.cores[{index}]", core, allowed)
        if core in cores[:index]:
            raise ConfigError(f"engine.cores[{index}]={core}: is listed twice")
    return list(cores)


def _check_allowed(where: str, core: int, allowed: Collection[int]) -> None:
    if core not in allowed:
        usable = ", ".join(map(str, sorted(allowed)))
        raise ConfigError(f"{where}={core}: this process may only use cores {usable}")


def _explicit_cores(market_cores: Sequence[int | None], workers: int) -> dict[int, int]:
    """Core by worker for the workers whose markets name one. Raises ConfigError on a contradiction."""
    chosen: dict[int, int] = {}
    for index, core in enumerate(market_cores):
        if core is None:
            continue
        worker = index % workers
        if chosen.get(worker, core) != core:
            raise ConfigError(
                f"markets[{index}].core={core}: shares worker {worker} with a market on core {chosen[worker]}"
            )
        for other, taken in chosen.items():
            if taken == core and other != worker:
                raise ConfigError(f"markets[{index}].core={core}: is already given to another market")
        chosen[worker] = core
    return chosen


def plan(
    *,
    market_cores: Sequence[int | None],
    workers: int,
    cores: Sequence[int] | None,
    allowed: Collection[int],
) -> tuple[WorkerPlan, ...]:
    """One plan per quoter process, by worker slot.

    ``market_cores``: each market's configured core, or None. ``workers``: quoter processes, 0 = one per
    market; never more than there are markets. ``cores``: those to deal out, None = all of ``allowed``.
    Market i goes to worker i mod workers. A core that a market names belongs to its worker alone; the
    others are dealt round robin over what is left, or over all cores when nothing is left. Raises
    ConfigError when a core is not available or named twice.
    """
    if not market_cores:
        raise ConfigError("markets: at least one is needed")
    if not allowed:
        raise ConfigError("engine.cores: this process may use no core at all")
    worker_count = min(workers, len(market_cores)) or len(market_cores)
    for index, core in enumerate(market_cores):
        if core is not None:
            _check_allowed(f"markets[{index}].core", core, allowed)
    dealt = sorted(allowed) if cores is None else _named_cores(cores, allowed)
    explicit = _explicit_cores(market_cores, worker_count)
    free = [core for core in dealt if core not in explicit.values()] or dealt
    plans = []
    deals = 0
    for worker in range(worker_count):
        core = explicit.get(worker)
        if core is None:
            core = free[deals % len(free)]
            deals += 1
        indexes = tuple(range(worker, len(market_cores), worker_count))
        plans.append(WorkerPlan(worker=worker, core=core, market_indexes=indexes))
    return tuple(plans)
