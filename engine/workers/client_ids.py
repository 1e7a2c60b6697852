"""Client order ids (platform §2.3): never the same twice, never going back in time, over restarts too."""

from __future__ import annotations

import functools
import hashlib
from typing import Final

from engine.events import Direction, Outcome
from engine.workers.gateway_account import MarketAccount

CLIENT_ID_CHARS_MAX: Final = 64
_SEQUENCES_PER_MS: Final = 999


class ClientIds:
    """One market's; the newest time is kept in its account row, before an id with it is used."""

    def __init__(self, market_id: str, account: MarketAccount) -> None:
        self._market_id: Final = market_id
        self._account: Final = account
        self._unix_ms = account.client_ms
        self._sequence = _SEQUENCES_PER_MS  # the predecessor may have used all of its last ms

    def next(self, outcome: Outcome, direction: Direction, now_ms: int) -> tuple[str, int]:
        """An id and the Unix ms in it: now, or later where the clock or the sequences ask for it."""
        if now_ms > self._unix_ms:
            self._unix_ms, self._sequence = now_ms, 1
        elif self._sequence < _SEQUENCES_PER_MS:
            self._sequence += 1
        else:
            self._unix_ms, self._sequence = self._unix_ms + 1, 1
        if self._sequence == 1:
            self._account.set_client_ms(self._unix_ms)
        text = client_order_id(
            self._market_id, outcome, direction, unix_ms=self._unix_ms, sequence=self._sequence
        )
        return text, self._unix_ms


def client_order_id(
    market_id: str, outcome: Outcome, direction: Direction, *, unix_ms: int, sequence: int
) -> str:
    """``amm_{market}_{side}_{direction}_{ms}_{seq}``; where that is too long, ``m`` and 16 hex digits of
    SHA-256 name the market."""
    text = f"amm_{market_id}_{outcome.name}_{direction.name}_{unix_ms}_{sequence:03d}"
    if len(text) <= CLIENT_ID_CHARS_MAX:
        return text
    return f"amm_{short_market_id(market_id)}_{outcome.name}_{direction.name}_{unix_ms}_{sequence:03d}"


@functools.cache
def short_market_id(market_id: str) -> str:
    """Stand-in of fixed length for a market id in keys that hold at most 64 characters."""
    return "m" + hashlib.sha256(market_id.encode()).hexdigest()[:16]
