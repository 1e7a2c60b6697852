"""What the routes of the admin API share: how a call is refused, and with which codes (§8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from msgspec import Meta

MARKET_UNKNOWN: Final = 3001
AMM_RUNNING: Final = 6007
AMM_NOT_RUNNING: Final = 6008

Author = Annotated[str, Meta(max_length=64)]


class RefusedError(Exception):
    """A call that is answered with an error."""

    def __init__(self, status: int, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.data = data


def known(slots: Mapping[str, int], market_id: str) -> int:
    """The market's slot. Raises RefusedError."""
    if market_id not in slots:
        raise RefusedError(404, MARKET_UNKNOWN, f"{market_id}: no such market here")
    return slots[market_id]
