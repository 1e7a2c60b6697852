"""What the engine says of one market: its published copy in Redis, and its journal of bookings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from engine import booking_journal
from engine.booking_journal import Baseline, BookedLeg, BookedSupply
from engine.books.exchange import BooksError, RestingOrder
from engine.facts import FACTS_DIRECTORY
from engine.override_store import as_hash
from engine.workers import redis_rows
from engine.workers.redis_link import RedisAddress, RedisFaultError, RedisLink, raise_first_error

_TIMEOUT_S: Final = 5.0


class _OrderValue(Struct, frozen=True, kw_only=True):
    """A value of ``amm:orders`` (market-making §2.3)."""

    side: str
    direction: str
    price: int
    qty: int
    remaining: int
    book_type: str
    created_ms: int


_ORDER: Final = msgspec.json.Decoder(_OrderValue)


class Published(Struct, frozen=True, kw_only=True):
    """One market in Redis. ``inventory`` holds the numbers of ``amm:inventory`` but ``updated_at_ms``."""

    inventory: dict[str, int]
    orders: dict[str, RestingOrder]
    trade_cursor: str
    processed: frozenset[str]


class Bookings(Struct, frozen=True, kw_only=True):
    """The journal: legs and supplies of all markets by id and key, and this market's newest baseline."""

    legs: dict[str, BookedLeg]
    supplies: dict[str, BookedSupply]
    baseline: Baseline | None
    outside_cents: int  # operators' money for the market, which the exchange's ledger gives to no market
    started_pairs: int  # by the exchange at the market's first start, as it told us; 0 = not known


class _Flows(Struct, frozen=True, kw_only=True):
    """What of ``RUN/facts/{market}.flows.json`` is looked at (engine/workers/gateway_flows.py)."""

    outside_cents: int = 0


def _outside_cents(run_dir: Path, market_id: str) -> int:
    path = run_dir / FACTS_DIRECTORY / f"{market_id}.flows.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Flows).outside_cents
    except FileNotFoundError:
        return 0
    except (OSError, msgspec.MsgspecError) as error:
        raise BooksError(f"{path}: {error}") from None


def read_bookings(run_dir: Path, market_id: str) -> Bookings:
    """Everything the run has booked; the first line of an id counts. Raises BooksError."""
    legs: dict[str, BookedLeg] = {}
    supplies: dict[str, BookedSupply] = {}
    baseline: Baseline | None = None
    started_pairs = 0
    try:
        for booking in booking_journal.read(run_dir):
            if isinstance(booking, BookedLeg):
                legs.setdefault(booking.id, booking)
            elif isinstance(booking, BookedSupply):
                supplies.setdefault(booking.key, booking)
            elif booking.market == market_id:
                baseline = booking
                started_pairs = booking.started_pairs or started_pairs
    except OSError as error:
        raise BooksError(f"{run_dir / booking_journal.DIRECTORY}: {error.strerror or error}") from None
    return Bookings(
        legs=legs,
        supplies=supplies,
        baseline=baseline,
        outside_cents=_outside_cents(run_dir, market_id),
        started_pairs=started_pairs,
    )


async def connect(redis_url: str) -> RedisLink:
    """Raises BooksError."""
    try:
        return await RedisLink.connect(RedisAddress.parse(redis_url), timeout_s=_TIMEOUT_S)
    except (ValueError, RedisFaultError) as error:
        raise BooksError(f"redis: {error}") from None


async def read_published(link: RedisLink, market_id: str) -> Published:
    """Raises BooksError, also for a hash that this engine cannot have written."""
    keys = [
        (b"HGETALL", redis_rows.inventory_key(market_id)),
        (b"HGETALL", redis_rows.orders_key(market_id)),
        (b"HGETALL", redis_rows.engine_key(market_id)),
        (b"SMEMBERS", redis_rows.processed_key(market_id)),
    ]
    try:
        replies = await link.execute(keys)
        raise_first_error(replies)
    except RedisFaultError as error:
        raise BooksError(f"redis: {error}") from None
    inventory, orders, engine = (as_hash(reply) for reply in replies[:3])
    try:
        return Published(
            inventory={
                name.decode(): int(inventory[name])
                for name in redis_rows.INVENTORY_FIELDS
                if name != b"updated_at_ms" and name in inventory
            },
            orders={key.decode(): _resting(key, value) for key, value in orders.items()},
            trade_cursor=_text(engine, b"trade_cursor"),
            processed=frozenset(member.decode() for member in replies[3]),
        )
    except (ValueError, msgspec.MsgspecError) as error:
        raise BooksError(f"redis: amm hashes of {market_id}: {error}") from None


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str:
    return fields.get(name, b"").decode()


def _resting(key: bytes, value: Any) -> RestingOrder:
    decoded = _ORDER.decode(value)
    return RestingOrder(
        order_id=key.decode(),
        side=decoded.side,
        direction=decoded.direction,
        price=decoded.price,
        qty=decoded.qty,
        remaining=decoded.remaining,
        book_type=decoded.book_type,
    )
