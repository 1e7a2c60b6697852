"""What must be true after every transaction (contract section 7), checked from the rows alone.

Pure: reads a state, changes nothing. :class:`Audit` folds the ledger and the trades incrementally, so that
checking after each of many commands does not read the whole history each time.
"""

from collections import defaultdict
from typing import Final

import msgspec

from engine.paper.arithmetic import book_price_cents, target_freeze_cents
from engine.paper.book import Book
from engine.paper.model import (
    AMM_USER_ID,
    PAIR_CENTS,
    PLATFORM_FEE,
    SYSTEM_RESERVE,
    AssetType,
    Direction,
    EntryType,
    MarketStatus,
    Order,
    ReferenceType,
    Side,
)
from engine.paper.state import State

_SYSTEM_ACCOUNTS: Final = frozenset({SYSTEM_RESERVE, PLATFORM_FEE})
_HOLDS: Final = frozenset({EntryType.ORDER_FREEZE, EntryType.ORDER_UNFREEZE})
_NETTING: Final = frozenset({EntryType.NETTING, EntryType.NETTING_RESERVE_OUT})
_SELF_BALANCED: Final = frozenset({ReferenceType.TRADE, ReferenceType.AMM_MINT, ReferenceType.AMM_BURN})


class Breach(msgspec.Struct, frozen=True, kw_only=True):
    """One broken invariant: its name, the market it concerns (None for global ones), values and rule."""

    check: str
    market_id: str | None
    what: str


CHECKS: Final = {
    "shares_balanced": "total_yes_shares = total_no_shares = sum of yes_volume = sum of no_volume",
    "reserve_consistency": "reserve_balance = 100 x total_yes_shares",
    "cost_conservation": "reserve_balance + pnl_pool = sum of all cost sums",
    "global_zero_sum": "available + frozen + reserves + fees = deposits - withdrawals",
    "reserve_account_consistency": "SYSTEM_RESERVE ledger sum = sum of market reserves",
    "non_negative": "balances and volumes >= 0, pending_sell <= volume, prices 1..99",
    "order_quantities": "filled + remaining = quantity; book price follows from the original price",
    "freezes": "frozen_balance and pending_sell equal what live orders hold",
    "book": "book in memory = live rows; crossed only by orders of one ordinary user",
    "ledger": "each reference sums to 0; each user's rows sum to the balance",
}
"""Name -> rule. The first five are the names the contract gives to verify-invariants."""


class Audit:
    """A standing check of one state. ``check`` may be called after every command."""

    def __init__(self, state: State) -> None:
        self._state: Final = state
        self._ledger_read = 0
        self._available: Final[dict[str, int]] = defaultdict(int)
        self._total: Final[dict[str, int]] = defaultdict(int)
        self._external_cents = 0

    def check(self) -> list[Breach]:
        """Every breach of section 7 in the state as it is now."""
        breaches = self._check_ledger()
        for market_id in self._state.markets:
            breaches += self._check_market(market_id)
            breaches += self._check_book(market_id)
        breaches += self._check_freezes()
        breaches += self._check_global()
        return breaches

    def _check_ledger(self) -> list[Breach]:
        """Fold the rows written since the last call; 11, and the sums that 4 and 5 need."""
        fresh = self._state.ledger[self._ledger_read :]
        self._ledger_read = len(self._state.ledger)
        references: dict[tuple[ReferenceType | str, str], int] = defaultdict(int)
        breaches = []
        for entry in fresh:
            self._available[entry.user_id] += entry.amount_cents
            if entry.balance_after_cents != self._available[entry.user_id] or entry.balance_after_cents < 0:
                breaches.append(
                    Breach(
                        check="ledger",
                        market_id=entry.market_id,
                        what=f"row {entry.id}: balance_after {entry.balance_after_cents}, "
                        f"sum of rows {self._available[entry.user_id]}",
                    )
                )
            if entry.entry_type in _HOLDS:
                continue
            self._total[entry.user_id] += entry.amount_cents
            if entry.entry_type in {EntryType.DEPOSIT, EntryType.WITHDRAW}:
                self._external_cents += entry.amount_cents
            elif entry.entry_type in _NETTING:
                references["netting", entry.reference_id] += entry.amount_cents
            elif entry.reference_type in _SELF_BALANCED:
                references[entry.reference_type, entry.reference_id] += entry.amount_cents
        breaches += [
            Breach(check="ledger", market_id=None, what=f"{kind} {reference_id} sums to {cents}, not 0")
            for (kind, reference_id), cents in references.items()
            if cents
        ]
        return breaches

    def _check_market(self, market_id: str) -> list[Breach]:
        """1, 2, 3 and the shares part of 6."""
        market = self._state.markets[market_id]
        positions = self._state.positions[market_id].values()
        yes = sum(row.yes.volume for row in positions)
        no = sum(row.no.volume for row in positions)
        costs_cents = sum(row.yes.cost_sum_cents + row.no.cost_sum_cents for row in positions)
        breaches = []
        if not market.total_yes_shares == market.total_no_shares == yes == no:
            breaches.append(
                Breach(
                    check="shares_balanced",
                    market_id=market_id,
                    what=f"totals {market.total_yes_shares}/{market.total_no_shares}, volumes {yes}/{no}",
                )
            )
        if market.reserve_balance_cents != PAIR_CENTS * market.total_yes_shares:
            breaches.append(
                Breach(
                    check="reserve_consistency",
                    market_id=market_id,
                    what=f"reserve {market.reserve_balance_cents}, shares {market.total_yes_shares}",
                )
            )
        if market.reserve_balance_cents + market.pnl_pool_cents != costs_cents:
            breaches.append(
                Breach(
                    check="cost_conservation",
                    market_id=market_id,
                    what=f"reserve {market.reserve_balance_cents} + pnl_pool {market.pnl_pool_cents}, "
                    f"costs {costs_cents}",
                )
            )
        breaches += [
            Breach(check="non_negative", market_id=market_id, what=f"{row.user_id}: {holding}")
            for row in positions
            for holding in (row.yes, row.no)
            if not (0 <= holding.pending_sell <= holding.volume and holding.cost_sum_cents >= 0)
        ]
        return breaches

    def _check_book(self, market_id: str) -> list[Breach]:
        """7 for live rows, and 10."""
        book = self._state.books[market_id]
        live = [
            order
            for user_orders in self._state.live_order_ids_by_user.values()
            for order_id in user_orders
            if (order := self._state.orders[order_id]).market_id == market_id
        ]
        breaches = [
            Breach(check="order_quantities", market_id=market_id, what=f"order {order.id} breaks the rule")
            for order in live
            if not _quantities_agree(order)
        ]
        if book.queued() != Book.rebuild(live).queued():
            breaches.append(
                Breach(check="book", market_id=market_id, what="book in memory differs from live rows")
            )
        if self._is_crossed(book, live):
            breaches.append(
                Breach(check="book", market_id=market_id, what="best bid >= best ask between two users")
            )
        if live and self._state.markets[market_id].status in {
            MarketStatus.RESOLVED,
            MarketStatus.SETTLED,
            MarketStatus.VOIDED,
        }:
            breaches.append(
                Breach(check="book", market_id=market_id, what=f"{len(live)} live orders after the end")
            )
        return breaches

    @staticmethod
    def _is_crossed(book: Book, live: list[Order]) -> bool:
        bids, asks = book.levels(Direction.BUY, 1), book.levels(Direction.SELL, 1)
        if not bids or not asks or bids[0].price_cents < asks[0].price_cents:
            return False
        buys = [order for order in live if order.book_direction is Direction.BUY]
        sells = [order for order in live if order.book_direction is Direction.SELL]
        return any(
            buy.book_price_cents >= sell.book_price_cents
            and (buy.user_id != sell.user_id or buy.user_id == AMM_USER_ID)
            for buy in buys
            for sell in sells
        )

    def _check_freezes(self) -> list[Breach]:
        """9, with the freeze of each live order recomputed, and the cash part of 6."""
        frozen: dict[str, int] = defaultdict(int)
        pending: dict[tuple[str, str, Side], int] = defaultdict(int)
        breaches = []
        for user_id, order_ids in self._state.live_order_ids_by_user.items():
            for order_id in order_ids:
                order = self._state.orders[order_id]
                if order.frozen_asset_type is AssetType.FUNDS:
                    frozen[user_id] += order.frozen_amount
                    fee_bps = self._state.markets[order.market_id].taker_fee_bps
                    due = target_freeze_cents(order.original_price_cents, order.remaining_quantity, fee_bps)
                else:
                    pending[user_id, order.market_id, order.original_side] += order.remaining_quantity
                    due = order.remaining_quantity
                if order.frozen_amount != due:
                    breaches.append(
                        Breach(
                            check="freezes",
                            market_id=order.market_id,
                            what=f"order {order.id} holds {order.frozen_amount}, due {due}",
                        )
                    )
        for account in self._state.accounts.values():
            if account.frozen_cents != frozen[account.user_id]:
                breaches.append(
                    Breach(
                        check="freezes",
                        market_id=None,
                        what=f"{account.user_id} frozen {account.frozen_cents}, "
                        f"live orders {frozen[account.user_id]}",
                    )
                )
            if account.available_cents < 0 or account.frozen_cents < 0:
                breaches.append(Breach(check="non_negative", market_id=None, what=str(account)))
        for market_id, positions in self._state.positions.items():
            for row in positions.values():
                for side, holding in ((Side.YES, row.yes), (Side.NO, row.no)):
                    if holding.pending_sell != pending[row.user_id, market_id, side]:
                        breaches.append(
                            Breach(
                                check="freezes",
                                market_id=market_id,
                                what=f"{row.user_id} {side} pending {holding.pending_sell}, live orders "
                                f"{pending[row.user_id, market_id, side]}",
                            )
                        )
        return breaches

    def _check_global(self) -> list[Breach]:
        """4, 5 and the per-user part of 11."""
        state = self._state
        users_cents = sum(
            account.available_cents + account.frozen_cents
            for account in state.accounts.values()
            if account.user_id not in _SYSTEM_ACCOUNTS
        )
        reserves_cents = sum(market.reserve_balance_cents for market in state.markets.values())
        fees_cents = self._available[PLATFORM_FEE]
        breaches = []
        if users_cents + reserves_cents + fees_cents != self._external_cents:
            breaches.append(
                Breach(
                    check="global_zero_sum",
                    market_id=None,
                    what=f"users {users_cents} + reserves {reserves_cents} + fees {fees_cents}, "
                    f"paid in {self._external_cents}",
                )
            )
        if self._available[SYSTEM_RESERVE] != reserves_cents:
            breaches.append(
                Breach(
                    check="reserve_account_consistency",
                    market_id=None,
                    what=f"SYSTEM_RESERVE {self._available[SYSTEM_RESERVE]}, reserves {reserves_cents}",
                )
            )
        for account in state.accounts.values():
            available, total = self._available[account.user_id], self._total[account.user_id]
            if (available, total) != (
                account.available_cents,
                account.available_cents + account.frozen_cents,
            ):
                breaches.append(
                    Breach(
                        check="ledger",
                        market_id=None,
                        what=f"{account.user_id}: rows {available} and {total} without holds, "
                        f"account {account.available_cents} + {account.frozen_cents}",
                    )
                )
        return breaches


def _quantities_agree(order: Order) -> bool:
    return (
        order.filled_quantity + order.remaining_quantity == order.quantity
        and 1 <= order.book_price_cents <= 99
        and order.book_price_cents == book_price_cents(order.original_side, order.original_price_cents)
    )
