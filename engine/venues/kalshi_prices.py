"""Kalshi's public market summary, as far as a price is concerned: ``GET /markets/{ticker}``.

An ask of 0 or of the notional, and a bid of 0, mean that nobody offers or bids. The answer carries no time
of the quote, so the time it was asked for stands in.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import msgspec
from msgspec import Struct

from engine.venues.external_price import PriceRefusedError, TopOfBook, price_e4

ANSWER_BYTES_MAX: Final = 1 << 20


class _Market(Struct, frozen=True):
    ticker: str
    status: str
    yes_bid_dollars: str = ""
    yes_ask_dollars: str = ""
    notional_value_dollars: str = "1.0000"


class _Answer(Struct, frozen=True):
    market: _Market


_decode: Final = msgspec.json.Decoder(_Answer).decode


def market_url(base_url: str, ticker: str) -> str:
    return f"{base_url}/markets/{quote(ticker, safe='')}"


def decode(payload: bytes, ticker: str, *, unix_ms: int) -> TopOfBook:
    """The touch of ``ticker``; a market that is not active has none. Raises PriceRefusedError."""
    try:
        market = _decode(payload).market
    except msgspec.DecodeError as error:
        raise PriceRefusedError(f"kalshi market: {error}") from None
    if market.ticker != ticker:
        raise PriceRefusedError(f"kalshi market: {market.ticker[:64]!r} was answered for {ticker}")
    if price_e4(market.notional_value_dollars) is not None:  # 1 dollar has no touch price, a fraction has
        raise PriceRefusedError(f"kalshi market: pays {market.notional_value_dollars}, not 1 dollar")
    if market.status != "active":
        return TopOfBook(bid_e4=None, ask_e4=None, unix_ms=unix_ms)
    bid, ask = price_e4(market.yes_bid_dollars), price_e4(market.yes_ask_dollars)
    return TopOfBook(bid_e4=bid, ask_e4=ask, unix_ms=unix_ms)
