"""What policy is told at each look by the market that it judges."""

from __future__ import annotations

from msgspec import Struct

from engine.events import Lifecycle, MarketStatus
from engine.quoting.inventory import Stock


class Standing(Struct, frozen=True, kw_only=True):
    """Stock, lifecycle and the venue's word of one market."""

    stock: Stock
    lifecycle: Lifecycle
    status: MarketStatus
    synced: bool  # stock and orders are the venue's
    confirmed: bool  # synced, and no order of unknown outcome on both sides
    negative_available: bool  # more shares for sale than held, after a reconciliation, still
