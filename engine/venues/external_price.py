"""A price of another venue, for an oracle: exact decimals in, YES cents out.

Pure. Prices are integers of 1/10,000 dollar (``e4``) until the one rounding to cents.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

_DECIMAL: Final = re.compile(r"(\d{0,4})(?:\.(\d{0,10}))?", re.ASCII)
_E4: Final = 10_000


class PriceRefusedError(Exception):
    """A message of the venue is not what its protocol says; the text is one line."""


class TopOfBook(Struct, frozen=True, kw_only=True):
    """Best bid and ask of what pays like our YES. None = nobody bids or offers."""

    bid_e4: int | None
    ask_e4: int | None
    unix_ms: int  # the venue's time of it; 0 = it says none


def price_e4(text: str) -> int | None:
    """A share price in dollars as text: ``"0.456"`` is 4560; ``""``, 0 and 1 mean an empty side: None.

    Raises PriceRefusedError for anything that is no decimal within 0..1, or finer than 1/10,000.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise PriceRefusedError(f"price {text[:32]!r} is not a decimal number")
    whole, fraction = match.group(1), match.group(2) or ""
    kept, rest = fraction[:4].ljust(4, "0"), fraction[4:]
    if rest.strip("0"):
        raise PriceRefusedError(f"price {text[:32]!r} is finer than 0.0001")
    price = int(whole or 0) * _E4 + int(kept)
    if price > _E4:
        raise PriceRefusedError(f"price {text[:32]!r} is above 1")
    return price if 0 < price < _E4 else None


def mid_cents(top: TopOfBook, max_spread_cents: int) -> int | None:
    """The mid, rounded half up and kept within 1..99; None when a side is empty, the book is crossed or
    locked, or its spread exceeds ``max_spread_cents``: such a book has no price."""
    bid, ask = top.bid_e4, top.ask_e4
    if bid is None or ask is None or not bid < ask <= bid + 100 * max_spread_cents:
        return None
    return min(99, max(1, (bid + ask + 100) // 200))
