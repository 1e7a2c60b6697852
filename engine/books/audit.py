"""Looks at both sides until they agree, or until a difference has outlived every chance of being motion."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from engine import rundir
from engine.books import exchange as exchange_books
from engine.books import ours as our_side
from engine.books.compare import Comparison, Ours, compare, our_books
from engine.books.exchange import BooksError
from engine.config import Config
from engine.workers.process import CONFIG_FILE

LOOKS: Final = 5
_PAUSE_S: Final = 0.5


class Audit(Struct, frozen=True, kw_only=True):
    """The result: every cell compared in the last look, and what is not equal in it."""

    market: str
    day: str
    time_zone: str
    account: str
    equal: bool
    looks: int
    compared: int
    legs: int  # of the day
    legs_taken_over: int  # of all time, as the exchange tells them
    legs_not_in_processed: int  # of the day; `amm:processed` is a help for restarts, not a book
    differences: list[Comparison]
    cells: list[Comparison]


def run_config(run_dir: Path) -> Config:
    """The configuration of a run. Raises RunDirError."""
    path = run_dir / CONFIG_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Config)
    except (OSError, msgspec.MsgspecError) as error:
        raise rundir.RunDirError(f"{path}: {error}") from None


async def audit(run_dir: Path, *, database: str, market_id: str, day: date, looks: int = LOOKS) -> Audit:
    """Compares the exchange's books with ours; at most ``looks`` times, because both sides are in motion.

    A cell differs when it does in the last look; the engine publishes within 50 ms and a look follows after
    half a second, so what is only under way is equal in one of them. Raises BooksError, RunDirError.
    """
    config = run_config(run_dir)
    market = next((market for market in config.markets if market.id == market_id), None)
    if market is None:
        raise rundir.RunDirError(f"{run_dir}: no market {market_id!r} in this run")
    zone = ZoneInfo(market.quote.day_reset_tz)
    begin = datetime.combine(day, time.min, zone)
    end = datetime.combine(day + timedelta(days=1), time.min, zone)
    session = await exchange_books.connect(database)
    try:
        link = await our_side.connect(rundir.read_info(run_dir).redis_url)
        try:
            for look in range(1, looks + 1):
                books = await exchange_books.read(
                    session, username=config.venue.username, market_id=market_id, begin=begin, end=end
                )
                published = await our_side.read_published(link, market_id)
                bookings = our_side.read_bookings(run_dir, market_id)
                try:
                    cells = compare(books, published, bookings, market_id)
                    ours = our_books(books, bookings, market_id)
                except ValueError as error:
                    raise BooksError(f"bookings of {market_id} cannot be folded: {error}") from None
                missing = sum(
                    leg_id in bookings.legs and leg_id not in published.processed for leg_id in ours.legs
                )
                if all(cell.equal for cell in cells) or look == looks:
                    return _result(config, market_id, day, zone, look, cells, ours, missing)
                await asyncio.sleep(_PAUSE_S)
        finally:
            link.close()
    finally:
        await session.close()
    raise AssertionError("the last look returns")


def _result(
    config: Config,
    market_id: str,
    day: date,
    zone: ZoneInfo,
    looks: int,
    cells: list[Comparison],
    ours: Ours,
    missing: int,
) -> Audit:
    differences = [cell for cell in cells if not cell.equal]
    return Audit(
        market=market_id,
        day=day.isoformat(),
        time_zone=zone.key,
        account=config.venue.username,
        equal=not differences,
        looks=looks,
        compared=len(cells),
        legs=len(ours.legs),
        legs_taken_over=ours.adopted_legs,
        legs_not_in_processed=missing,
        differences=differences,
        cells=cells,
    )
