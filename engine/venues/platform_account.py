"""An account at the platform, open for requests: connections, login and the endpoints on top of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct

from engine.config import VenueConfig
from engine.venues.http_pool import HttpPool
from engine.venues.platform_rest import PlatformRest
from engine.venues.platform_session import PlatformSession, venue_password


class PlatformAccount(Struct, frozen=True, kw_only=True, eq=False):
    """One holder's: nothing of it is shared with another process."""

    pool: HttpPool
    session: PlatformSession
    rest: PlatformRest


@asynccontextmanager
async def open_account(venue: VenueConfig) -> AsyncIterator[PlatformAccount]:
    """Connects and logs in when first asked for something; closes its connections at the end.

    Raises ConfigError when there is no usable password.
    """
    password = venue_password(venue)
    timeout_s = venue.request_timeout_ms / 1_000
    pool = HttpPool(venue.url, connections=venue.connections, timeout_s=timeout_s)
    session = PlatformSession(pool, username=venue.username, password=password)
    try:
        yield PlatformAccount(pool=pool, session=session, rest=PlatformRest(pool, session))
    finally:
        pool.close()
