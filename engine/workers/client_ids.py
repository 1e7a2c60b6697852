"""Keys of ours at the venue (platform §2.3): at most 64 characters, whatever the market is called.

Client order ids themselves are made where orders are opened (``native/gateway_books.c``).
"""

from __future__ import annotations

import functools
import hashlib
from typing import Final

from engine._native import lib

CLIENT_ID_CHARS_MAX: Final = int(lib.CLIENT_ID_BYTES_MAX)


@functools.cache
def short_market_id(market_id: str) -> str:
    """Stand-in of fixed length for a market id where the key would be too long: ``m`` and 16 hex digits of
    its SHA-256."""
    return "m" + hashlib.sha256(market_id.encode()).hexdigest()[:16]
