"""One market's share of the account as the gateway books it: cash, shares, and the trades they include.

Cash and the cursor of the newest trade in it are one row written at once, so that a successor goes on from it
after a ``kill -9``.

Writes: account row of its market slot.
"""

from __future__ import annotations

from typing import Any, Final

import structlog
from msgspec import structs

from engine._native import ffi, lib
from engine.arena import check, padded, unpadded
from engine.events import MarketStatus
from engine.quoting.effects import PAIR_CENTS, cost_sum_after, fill_effect
from engine.quoting.inventory import Leg, Stock, apply_trade

_log = structlog.get_logger()


class MarketAccount:
    """``stock``: cash counts always; shares only while ``position_known``, and as none otherwise.

    ``cursor``: id of the newest trade in ``stock``. ``supplies``: mints and burns booked by this process.
    """

    def __init__(self, market_id: str, row: Any, books: Any, *, client_ms_min: int) -> None:
        """``row`` is the slot's ``account_row_t *``, as a predecessor left it, ``books`` the market's
        ``market_books_t *``; ``client_ms_min`` the newest time in a client order id of an earlier life, by
        the journal."""
        self._market_id: Final = market_id
        self._row: Final = row
        self._books: Final = books
        self._state = ffi.new("account_state_t *")
        check(lib.account_read(row, self._state), "account row")
        books.account_row, books.account_state = row, self._state
        # no client order id has a newer time, and none that is to come an older one
        books.ids_ms = self._state.last_client_ms = max(self._state.last_client_ms, client_ms_min)
        self.stock = Stock(cash_cents=int(self._state.cash_cents))
        self.cursor = unpadded(self._state.cursor_trade_id)
        self.position_known = False  # shares are the venue's plus fills since
        self.supplies = 0

    @property
    def fills(self) -> int:
        """Legs booked since the market's first start."""
        return int(self._state.fills)

    @property
    def funded(self) -> bool:
        return bool(self._state.funded)

    @property
    def stock(self) -> Stock:
        """As booked here; the last hop counts with a copy of it."""
        return self._stock

    @stock.setter
    def stock(self, stock: Stock) -> None:
        self._stock = stock
        copy = self._books.stock
        copy.yes_volume, copy.yes_cost_sum_cents = stock.yes_volume, stock.yes_cost_sum_cents
        copy.no_volume, copy.no_cost_sum_cents = stock.no_volume, stock.no_cost_sum_cents
        copy.cash_cents = stock.cash_cents
        lib.books_recount(self._books)

    def set_status(self, status: MarketStatus, mono_ns: int, *, changed: bool) -> None:
        """What the venue says of the market; only a change is published at once."""
        self._state.status = int(status)
        self._state.status_mono_ns = mono_ns
        if changed:
            self._write()

    def set_cash(
        self,
        cash_cents: int,
        *,
        cursor: str,
        funded: bool,
        budget_cents: int | None = None,
        outside_cents: int = 0,
    ) -> None:
        """Books an absolute figure that includes trades up to ``cursor``, and ``outside_cents`` beside it."""
        self.stock = structs.replace(self.stock, cash_cents=cash_cents + outside_cents)
        self.cursor = cursor
        self._state.outside_cents = outside_cents
        self._state.funded = int(funded)
        if budget_cents is not None:
            self._state.budget_cents = budget_cents
        self._write()

    def set_outside(self, outside_cents: int) -> None:
        """Money beside the market's ledger adds up to this now: cash moves by what is new."""
        news_cents = outside_cents - int(self._state.outside_cents)
        if news_cents:
            self.stock = structs.replace(self.stock, cash_cents=self.stock.cash_cents + news_cents)
            self._state.outside_cents = outside_cents
            self._write()

    def set_position(self, *, yes_volume: int, yes_cost: int, no_volume: int, no_cost: int) -> None:
        """The venue's word on the shares held; cash is left alone."""
        self.position_known = True
        self.stock = Stock(
            yes_volume=yes_volume,
            no_volume=no_volume,
            yes_cost_sum_cents=yes_cost,
            no_cost_sum_cents=no_cost,
            cash_cents=self.stock.cash_cents,
        )

    def book_supply(self, pairs: int) -> bool:
        """A mint (``pairs`` > 0) or a burn (< 0): 100 cents a pair, half of it each side's cost.

        True when the position is lost by it.
        """
        self.supplies += 1
        short = min(self.stock.yes_volume, self.stock.no_volume) + pairs < 0
        lost = short and self._lose_position(f"burn of {-pairs} pairs")
        stock = self.stock
        cash_cents = stock.cash_cents - pairs * PAIR_CENTS
        if self.position_known:
            value_cents = max(0, pairs) * PAIR_CENTS // 2
            self.stock = Stock(
                yes_volume=stock.yes_volume + pairs,
                no_volume=stock.no_volume + pairs,
                yes_cost_sum_cents=cost_sum_after(
                    volume=stock.yes_volume,
                    cost_sum_cents=stock.yes_cost_sum_cents,
                    change=pairs,
                    value_cents=value_cents,
                ),
                no_cost_sum_cents=cost_sum_after(
                    volume=stock.no_volume,
                    cost_sum_cents=stock.no_cost_sum_cents,
                    change=pairs,
                    value_cents=value_cents,
                ),
                cash_cents=cash_cents,
            )
        else:
            self.stock = Stock(cash_cents=cash_cents)
        self._write()
        return lost

    def book_leg(self, leg: Leg, *, newest: bool) -> bool:
        """``newest`` False: later ones are booked, and the cursor stays at the latest. The row is left as it
        is, until :meth:`keep`.

        True when the position is lost by it. ValueError: the leg is impossible.
        """
        effect = fill_effect(
            scenario=leg.scenario,
            book_side=leg.book_side,
            price_cents=leg.price_cents,
            quantity=leg.quantity,
            fee_cents=leg.fee_cents,
        )
        left = min(self.stock.yes_volume + effect.yes_volume, self.stock.no_volume + effect.no_volume)
        lost = left < 0 and self._lose_position(f"trade {leg.trade_id}")
        if self.position_known:
            self.stock = apply_trade(
                self.stock,
                scenario=leg.scenario,
                book_side=leg.book_side,
                price_cents=leg.price_cents,
                quantity=leg.quantity,
                own_fee_cents=leg.fee_cents,
            )
        else:
            self.stock = Stock(cash_cents=self.stock.cash_cents + effect.cash_cents)
        if newest:
            self.cursor = leg.trade_id
        self._state.fills += 1
        self._state.fees_cents += leg.fee_cents
        return lost

    def keep(self) -> None:
        """What was booked is in the row: a successor goes on behind it."""
        self._write()

    def _lose_position(self, cause: str) -> bool:
        """More shares went than we knew of; False when none were known. The money is certain; shares count as
        none, so that nothing is sold on a wrong figure, until the next sync brings the venue's."""
        if not self.position_known:
            return False
        _log.error("position_drift", market=self._market_id, cause=cause, stock=str(self.stock))
        self.position_known = False
        return True

    def _write(self) -> None:
        self._state.cash_cents = self.stock.cash_cents
        self._state.cursor_trade_id = padded(self.cursor, lib.VENUE_ID_BYTES)
        lib.account_write(self._row, self._state)
