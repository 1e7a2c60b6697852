"""``LocalOrderBook``: one market's YES book as market-making §2.5 names it, kept by the C kernel.

Sequence rule (platform §3): a SNAPSHOT replaces the book and restarts the count; a DELTA is applied only
when its ``sequence_id`` is exactly one above the last. Anything else leaves the book *invalid*, and an
invalid book takes nothing but a SNAPSHOT, because changes after a gap apply to levels nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec

from engine._native import ffi, lib

_SIDES: Final[dict[str, int]] = {"bid": lib.ORDERBOOK_BID, "ask": lib.ORDERBOOK_ASK}


class _Level(Protocol):
    @property
    def price_cents(self) -> int: ...
    @property
    def total_quantity(self) -> int: ...


class _Ladders(Protocol):
    @property
    def bids(self) -> Sequence[_Level]: ...
    @property
    def asks(self) -> Sequence[_Level]: ...


class BookMessage(Protocol):
    """What the book reads of an ORDERBOOK_UPDATE, whichever decoder made it."""

    @property
    def market_id(self) -> str: ...
    @property
    def sequence_id(self) -> int: ...
    @property
    def yes(self) -> _Ladders: ...


class PriceLevel(msgspec.Struct, frozen=True, kw_only=True):
    """One level: price in cents 1..99, total resting shares (0 removes it in a DELTA)."""

    price_cents: int
    total_quantity: int


class YesLevels(msgspec.Struct, frozen=True, kw_only=True):
    """The levels a message names, any order."""

    bids: tuple[PriceLevel, ...] = ()
    asks: tuple[PriceLevel, ...] = ()


class OrderbookUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """An ORDERBOOK_UPDATE as far as the book is concerned (platform §3)."""

    market_id: str
    sequence_id: int
    yes: YesLevels


class BookMessageError(ValueError):
    """A message that cannot be part of this book: another market's, or a level against the rules."""


_RULES: Final[dict[int, str]] = {
    lib.ORDERBOOK_TICK_OUT_OF_RANGE: "price_cents must be 1..99",
    lib.ORDERBOOK_SIZE_NEGATIVE: "total_quantity must not be negative",
    lib.ORDERBOOK_SIZE_OVERFLOW: "the side's quantities must not exceed 2**62 together",
}


class LocalOrderBook:
    """The YES book of one market: prices in cents, quantities in shares. One owner, not thread safe."""

    __slots__ = ("_book", "_invalid", "_memory", "_metrics", "last_sequence_id", "market_id")

    def __init__(self, market_id: str) -> None:
        grid = ffi.new("price_grid_t *")
        lib.price_grid_cents(grid)
        memory_bytes = lib.orderbook_bytes(grid.tick_count)
        self._memory = ffi.new("int64_t[]", memory_bytes // 8)
        code = lib.orderbook_init(self._memory, memory_bytes, grid)
        assert code == lib.ORDERBOOK_OK
        self._book = ffi.cast("orderbook_t *", self._memory)
        self._metrics = lib.orderbook_metrics(self._book)
        self._invalid = True
        self.market_id: Final = market_id
        self.last_sequence_id = 0

    def apply_snapshot(self, msg: BookMessage | Mapping[str, Any]) -> None:
        """Replace the whole book. Raises BookMessageError, after which the book is invalid."""
        update = self._checked(msg)
        self._invalid = True
        lib.orderbook_clear(self._book)
        self._apply_levels(update)
        self.last_sequence_id = update.sequence_id
        self._invalid = False

    def apply_delta(self, msg: BookMessage | Mapping[str, Any]) -> bool:
        """Set the named levels to their new totals.

        False when the message was dropped: the book is invalid (now, by a gap, or still) and the caller
        asks for a SNAPSHOT. Raises BookMessageError, after which the book is invalid too.
        """
        update = self._checked(msg)
        if update.sequence_id != self.last_sequence_id + 1:
            self._invalid = True
        if self._invalid:
            return False
        self._apply_levels(update)
        self.last_sequence_id = update.sequence_id
        return True

    def get_vwap(self, side: Literal["bid", "ask"], depth: int) -> float | None:
        """Volume-weighted price in cents of the best ``depth`` (>= 1) levels of a side, or of all it has.

        None for an empty side. The kernel holds it as a ratio of integers; the one division is here.
        """
        if side not in _SIDES:
            raise ValueError(f"side={side!r} must be 'bid' or 'ask'")
        if type(depth) is not int or depth < 1:
            raise ValueError(f"depth={depth!r} must be an integer of at least 1")
        total = ffi.new("book_depth_t *")
        lib.orderbook_depth(
            self._book, lib.ORDERBOOK_TOTAL, _SIDES[side], min(depth, lib.PRICE_GRID_TICKS_MAX), total
        )
        if total.lots == 0:
            return None
        return float((total.value_high << 64 | total.value_low) / (total.lots * 100))

    @property
    def invalid(self) -> bool:
        """True before the first SNAPSHOT and from a gap or a bad message until the next."""
        return self._invalid

    @property
    def bids(self) -> dict[int, int]:
        """price_cents -> total quantity, best first; built on each call."""
        return self._levels(lib.ORDERBOOK_BID, self._metrics.bid.level_count)

    @property
    def asks(self) -> dict[int, int]:
        """price_cents -> total quantity, best first; built on each call."""
        return self._levels(lib.ORDERBOOK_ASK, self._metrics.ask.level_count)

    @property
    def best_bid(self) -> int | None:
        """Cents, None for an empty side."""
        ticks: int = self._metrics.bid.best_ticks
        return None if ticks == lib.ORDERBOOK_NO_TICK else ticks

    @property
    def best_ask(self) -> int | None:
        """Cents, None for an empty side."""
        ticks: int = self._metrics.ask.best_ticks
        return None if ticks == lib.ORDERBOOK_NO_TICK else ticks

    @property
    def mid_price(self) -> float | None:
        """Cents, a half at an odd spread; None unless both sides have a level."""
        bid, ask = self.best_bid, self.best_ask
        return None if bid is None or ask is None else (bid + ask) / 2

    @property
    def spread(self) -> int | None:
        """Best ask minus best bid in cents; None unless both sides have a level."""
        bid, ask = self.best_bid, self.best_ask
        return None if bid is None or ask is None else ask - bid

    @property
    def bid_depth_3(self) -> int:
        """Shares on the best three bid levels."""
        lots: int = self._metrics.bid.top.lots
        return lots

    @property
    def ask_depth_3(self) -> int:
        """Shares on the best three ask levels."""
        lots: int = self._metrics.ask.top.lots
        return lots

    def _checked(self, msg: BookMessage | Mapping[str, Any]) -> BookMessage:
        try:
            update = msgspec.convert(msg, OrderbookUpdate) if isinstance(msg, Mapping) else msg
        except msgspec.ValidationError as error:
            self._invalid = True
            raise BookMessageError(str(error)) from None
        if update.market_id != self.market_id:
            raise BookMessageError(
                f"message of market {update.market_id}, this is the book of {self.market_id}"
            )
        return update

    def _apply_levels(self, update: BookMessage) -> None:
        for side, levels in ((lib.ORDERBOOK_BID, update.yes.bids), (lib.ORDERBOOK_ASK, update.yes.asks)):
            for level in levels:
                self._set_level(side, level)

    def _set_level(self, side: int, level: _Level) -> None:
        try:
            code = lib.orderbook_set_level(self._book, side, level.price_cents, level.total_quantity)
        except (OverflowError, TypeError):  # not an integer of the kernel's width
            code = lib.ORDERBOOK_ARGUMENT_INVALID
        if code != lib.ORDERBOOK_OK:
            self._invalid = True
            raise BookMessageError(f"{level}: {_RULES.get(code, 'price and quantity must be integers')}")

    def _levels(self, side: int, level_count: int) -> dict[int, int]:
        levels = ffi.new("book_level_t[]", level_count)
        lib.orderbook_levels(self._book, lib.ORDERBOOK_TOTAL, side, levels, level_count)
        return {level.price_ticks: level.lots for level in levels}
