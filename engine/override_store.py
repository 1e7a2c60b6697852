"""``amm:config:{market_id}`` in Redis: read one, or replace one in a single transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import hiredis

from engine.config.edit import Edited
from engine.config.override import config_key
from engine.workers.redis_link import RedisFault, RedisFaultError, RedisLink, raise_first_error

_TRIES: Final = 5


def as_hash(reply: Any) -> dict[bytes, bytes]:
    """A HGETALL reply as a mapping. Raises RedisFaultError for an error reply."""
    if isinstance(reply, hiredis.ReplyError):
        raise_first_error([reply])
    return dict(zip(reply[::2], reply[1::2], strict=True))


async def read(link: RedisLink, market_ids: list[str]) -> list[Any]:
    """One HGETALL reply per market, in order; an error reply stands among them as a value."""
    return await link.execute([(b"HGETALL", config_key(market_id).encode()) for market_id in market_ids])


async def change(link: RedisLink, market_id: str, edit: Callable[[Mapping[bytes, bytes]], Edited]) -> Edited:
    """Reads the hash, lets ``edit`` say what it shall hold, and replaces it in one MULTI.

    Nothing is written when ``edit`` raises, or when somebody else changed the hash meanwhile: then it is
    asked again, ``_TRIES`` times at most. The link must be used by nobody else meanwhile. Raises
    RedisFaultError, and whatever ``edit`` raises.
    """
    key = config_key(market_id).encode()
    for _ in range(_TRIES):
        replies = await link.execute([(b"WATCH", key), (b"HGETALL", key)])
        raise_first_error(replies[:1])
        try:
            result = edit(as_hash(replies[1]))
        except BaseException:
            await link.execute([(b"UNWATCH",)])
            raise
        fields = [part.encode() for item in result.fields.items() for part in item]
        replies = await link.execute([(b"MULTI",), (b"DEL", key), (b"HSET", key, *fields), (b"EXEC",)])
        raise_first_error(replies)
        if replies[-1] is not None:
            raise_first_error(replies[-1])
            return result
    raise RedisFaultError(RedisFault.OTHER, f"{key.decode()}: changed by others {_TRIES} times meanwhile")
