"""Where the markets' facts come from when an engine starts: their files, and Redis for those without one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engine import facts
from engine.arena import Arena
from engine.config import RedisConfig
from engine.facts import Facts, FactsError
from engine.workers import redis_rows
from engine.workers.redis_link import RedisAddress, RedisFaultError, RedisLink, raise_first_error


def restore_all(arena: Arena, run_dir: Path, redis: RedisConfig) -> tuple[list[Facts], str]:
    """Puts every market's facts into its slot; those found, and why Redis could not be asked ("" = it could).

    A Redis that is away costs the facts it alone holds, never the start (market-making §8, start step 1).
    Raises FactsError for facts that are there and cannot be read: a kill may be among them.
    """
    slots = {arena.market_id(slot): slot for slot in arena.used_markets()}
    found = [found for market in slots if (found := facts.read(run_dir, market)) is not None]
    missing = [market for market in slots if market not in {known.market_id for known in found}]
    fault = ""
    if missing and redis.url:
        try:
            found += asyncio.run(_from_redis(redis, missing))
        except FactsError:
            raise
        except (RedisFaultError, ValueError) as error:
            fault = str(error)
    for known in found:
        facts.restore(arena, slots[known.market_id], known)
    return found, fault


async def _from_redis(redis: RedisConfig, markets: list[str]) -> list[Facts]:
    link = await RedisLink.connect(RedisAddress.parse(redis.url), timeout_s=redis.timeout_ms / 1000)
    try:
        keys = [key(market) for market in markets for key in (redis_rows.engine_key, redis_rows.state_key)]
        replies = await link.execute([(b"HGETALL", key) for key in keys])
    finally:
        link.close()
    raise_first_error(replies)
    hashes = [dict(zip(reply[::2], reply[1::2], strict=True)) for reply in replies]
    found = (
        facts.from_redis(market, hashes[2 * index], hashes[2 * index + 1])
        for index, market in enumerate(markets)
    )
    return [known for known in found if known is not None]
