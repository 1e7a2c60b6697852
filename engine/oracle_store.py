"""``amm:oracle:{market_id}`` in Redis: a person's oracle price, and how it gets there.

A hash with exactly four fields, all strings: ``price_cents`` (1..99, YES), ``set_at_ms`` (Unix ms),
``set_by`` (who, free text), ``ttl_ms`` (1000..86400000: the price is void from ``set_at_ms + ttl_ms`` on).
Writer: ``corequote oracle``, or any operator's tool; reader: the control process, which hands the price to
ingest (engine/workers/control_oracle.py). No key, an old one, or one that breaks these rules is no price.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from engine.workers.redis_link import RedisAddress, RedisLink, raise_first_error

TTL_MS_MIN: Final = 1_000
TTL_MS_MAX: Final = 86_400_000
_FIELDS: Final = frozenset({b"price_cents", b"set_at_ms", b"set_by", b"ttl_ms"})
_SET_BY_MAX: Final = 64
_AHEAD_MS_MAX: Final = 60_000  # clocks of two machines
_TIMEOUT_S: Final = 2.0


class OracleValueError(Exception):
    """A price that cannot be taken; the message is one line that names value and rule."""


class OperatorPrice(Struct, frozen=True, kw_only=True):
    """A person's price, within all bounds."""

    price_cents: int
    set_at_ms: int
    set_by: str
    ttl_ms: int

    @property
    def until_ms(self) -> int:
        return self.set_at_ms + self.ttl_ms


def oracle_key(market_id: str) -> bytes:
    return b"amm:oracle:" + market_id.encode()


def checked(*, price_cents: int, set_at_ms: int, set_by: str, ttl_ms: int) -> OperatorPrice:
    """Raises OracleValueError."""
    if not 1 <= price_cents <= 99:
        raise OracleValueError(f"price_cents={price_cents}: must be within 1..99")
    if not TTL_MS_MIN <= ttl_ms <= TTL_MS_MAX:
        raise OracleValueError(f"ttl_ms={ttl_ms}: must be within {TTL_MS_MIN}..{TTL_MS_MAX}")
    if not 0 < set_at_ms < 1 << 53:
        raise OracleValueError(f"set_at_ms={set_at_ms}: is not a time in Unix milliseconds")
    if len(set_by) > _SET_BY_MAX:
        raise OracleValueError(f"set_by: {len(set_by)} characters, at most {_SET_BY_MAX}")
    return OperatorPrice(price_cents=price_cents, set_at_ms=set_at_ms, set_by=set_by, ttl_ms=ttl_ms)


def parse(fields: Mapping[bytes, bytes], *, now_ms: int) -> OperatorPrice | None:
    """The price a hash holds; None when there is none, or its time is over. Raises OracleValueError."""
    if not fields:
        return None
    if set(fields) != _FIELDS:
        odd = sorted(name.decode(errors="replace")[:32] for name in set(fields) ^ _FIELDS)
        raise OracleValueError(f"fields missing or unknown: {', '.join(odd)[:128]}")
    price = checked(
        price_cents=_integer(fields, b"price_cents"),
        set_at_ms=_integer(fields, b"set_at_ms"),
        set_by=fields[b"set_by"].decode(errors="replace"),
        ttl_ms=_integer(fields, b"ttl_ms"),
    )
    if price.set_at_ms > now_ms + _AHEAD_MS_MAX:
        raise OracleValueError(
            f"set_at_ms={price.set_at_ms}: lies {price.set_at_ms - now_ms} ms in the future"
        )
    return price if now_ms < price.until_ms else None


def _integer(fields: Mapping[bytes, bytes], name: bytes) -> int:
    text = fields[name]
    if not text.isdigit() or len(text) > 16:
        raise OracleValueError(f"{name.decode()}={text[:32]!r}: is not a whole number")
    return int(text)


async def write(address: RedisAddress, market_id: str, price: OperatorPrice | None) -> None:
    """Replaces the market's price in one step; None removes it. Raises RedisFaultError."""
    key = oracle_key(market_id)
    link = await RedisLink.connect(address, timeout_s=_TIMEOUT_S)
    try:
        commands: list[tuple[bytes, ...]] = [(b"MULTI",), (b"DEL", key)]
        if price is not None:
            values = (price.price_cents, price.set_at_ms, price.set_by, price.ttl_ms)
            names = (b"price_cents", b"set_at_ms", b"set_by", b"ttl_ms")
            pairs = [
                part
                for name, value in zip(names, values, strict=True)
                for part in (name, str(value).encode())
            ]
            commands += [(b"HSET", key, *pairs), (b"PEXPIREAT", key, str(price.until_ms).encode())]
        replies = await link.execute([*commands, (b"EXEC",)])
        raise_first_error(replies)
        raise_first_error(replies[-1])
    finally:
        link.close()
