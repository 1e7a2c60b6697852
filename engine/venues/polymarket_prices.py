"""Polymarket's public market channel, as far as a price is concerned: frames in, best bid and ask out.

The channel has no sequence numbers, so nothing is kept between frames: each one that speaks of the touch
carries it whole (``book`` all levels, ``price_change`` and ``best_bid_ask`` the new best prices). Fields and
event kinds beyond these are ignored, as the venue adds some from time to time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec import Struct

from engine.venues.external_price import PriceRefusedError, TopOfBook, price_e4

FRAME_BYTES_MAX: Final = 4 << 20
TOKENS_MAX: Final = 200  # per connection; the venue allows 500
PING: Final = "PING"  # a text frame, every 10 s at least; PONG comes back
PONG: Final = "PONG"


class _Level(Struct, frozen=True):
    price: str
    size: str


class _Change(Struct, frozen=True):
    asset_id: str
    best_bid: str = ""
    best_ask: str = ""


class _Event(Struct, frozen=True):
    event_type: str
    asset_id: str = ""
    timestamp: str = "0"
    bids: list[_Level] = []
    asks: list[_Level] = []
    price_changes: list[_Change] = []
    best_bid: str = ""
    best_ask: str = ""
    assets_ids: list[str] = []
    winning_asset_id: str = ""


_decode: Final = msgspec.json.Decoder(_Event | list[_Event]).decode


def subscription(token_ids: Iterable[str]) -> bytes:
    """The first frame of a connection."""
    request = {"type": "market", "assets_ids": list(token_ids), "custom_feature_enabled": True}
    return msgspec.json.encode(request)


def decode(payload: str | bytes) -> list[tuple[str, TopOfBook]]:
    """(token id, its touch now) for everything the frame says of a touch, in order.

    A token whose tick size changes, or whose market is resolved, has no touch until the next ``book``.
    Raises PriceRefusedError.
    """
    try:
        frame = _decode(payload)
    except msgspec.DecodeError as error:
        raise PriceRefusedError(f"polymarket frame: {error}") from None
    events = frame if isinstance(frame, list) else [frame]
    return [touch for event in events for touch in _touches(event)]


def _touches(event: _Event) -> Iterator[tuple[str, TopOfBook]]:
    unix_ms = _unix_ms(event.timestamp)
    kind = event.event_type
    if kind == "book":
        bids = [price_e4(level.price) for level in event.bids if level.size.strip("0.")]
        asks = [price_e4(level.price) for level in event.asks if level.size.strip("0.")]
        bid = max((price for price in bids if price is not None), default=None)
        ask = min((price for price in asks if price is not None), default=None)
        yield event.asset_id, TopOfBook(bid_e4=bid, ask_e4=ask, unix_ms=unix_ms)
    elif kind == "price_change":
        for change in event.price_changes:
            yield change.asset_id, _top(change.best_bid, change.best_ask, unix_ms)
    elif kind == "best_bid_ask":
        yield event.asset_id, _top(event.best_bid, event.best_ask, unix_ms)
    elif kind == "tick_size_change":
        yield event.asset_id, _top("", "", unix_ms)
    elif kind == "market_resolved":
        for token in {*event.assets_ids, event.winning_asset_id} - {""}:
            yield token, _top("", "", unix_ms)


def _top(bid: str, ask: str, unix_ms: int) -> TopOfBook:
    return TopOfBook(bid_e4=price_e4(bid), ask_e4=price_e4(ask), unix_ms=unix_ms)


def _unix_ms(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise PriceRefusedError(f"polymarket timestamp {text[:32]!r} is not Unix milliseconds")
    return int(text)
