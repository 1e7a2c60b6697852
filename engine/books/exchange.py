"""What the exchange's PostgreSQL says of one account in one market on one day (platform §6, §6.1).

Read-only: every query runs in one REPEATABLE READ transaction, so that all figures are of one instant. The
account is found by its user name, never by its alias. Own fees only; a trade of the account with itself has
two legs; the audit rows of a privileged mint or burn (counterparty ``SYSTEM``) are no trades.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import asyncpg
from msgspec import Struct

STATEMENT_S_MAX: Final = 60.0
_CONNECT_S_MAX: Final = 5.0
_RESERVE: Final = "SYSTEM_RESERVE"

_LEG_ROWS: Final = """
    trades AS t CROSS JOIN LATERAL (
        VALUES ('B', t.buy_user_id, t.sell_user_id, t.buy_order_id, t.buy_realized_pnl),
               ('S', t.sell_user_id, t.buy_user_id, t.sell_order_id, t.sell_realized_pnl)
    ) AS leg (side, user_id, counterparty, order_id, pnl)
    WHERE t.market_id = $1 AND leg.user_id = $2
"""
_NO_AUDIT: Final = "leg.counterparty NOT LIKE 'SYSTEM%'"
_FEE: Final = "CASE WHEN leg.order_id = t.maker_order_id THEN t.maker_fee ELSE t.taker_fee END"
_IN_DAY: Final = "t.executed_at >= $3 AND t.executed_at < $4"

#: (a) of §6.1: one row per scenario.
BY_SCENARIO: Final = f"""
    SELECT t.scenario, count(*)::bigint AS trade_count, sum(t.quantity)::bigint AS total_quantity,
           sum({_FEE})::bigint AS total_fees_paid, coalesce(sum(leg.pnl), 0)::bigint AS total_realized_pnl
    FROM {_LEG_ROWS} AND {_NO_AUDIT} AND {_IN_DAY} GROUP BY t.scenario
"""  # noqa: S608 - fragments of this file
#: (b) of §6.1: the day's end, apart from the account's ledger.
DAY_END: Final = f"""
    SELECT count(*)::bigint AS total_trades, coalesce(sum(t.quantity), 0)::bigint AS total_volume,
           (count(*) FILTER (WHERE t.scenario = 'MINT'))::bigint AS mint_count,
           (count(*) FILTER (WHERE t.scenario = 'TRANSFER_YES'))::bigint AS transfer_yes_count,
           (count(*) FILTER (WHERE t.scenario = 'TRANSFER_NO'))::bigint AS transfer_no_count,
           (count(*) FILTER (WHERE t.scenario = 'BURN'))::bigint AS burn_count,
           coalesce(sum(leg.pnl), 0)::bigint AS realized_pnl_cents,
           coalesce(sum({_FEE}), 0)::bigint AS total_fees_cents
    FROM {_LEG_ROWS} AND {_NO_AUDIT} AND {_IN_DAY}
"""  # noqa: S608 - fragments of this file
#: (b), ``net_ledger_flow``: what the account's ledger booked that day, by what it refers to.
LEDGER_DAY: Final = """
    SELECT reference_type, reference_id, sum(amount)::bigint AS cents,
           coalesce(
               sum(amount) FILTER (WHERE entry_type NOT IN ('ORDER_FREEZE', 'ORDER_UNFREEZE')), 0
           )::bigint AS moved_cents
    FROM ledger_entries WHERE user_id = $1 AND created_at >= $2 AND created_at < $3
    GROUP BY reference_type, reference_id
"""
#: (c) of §6.1: each mint and burn with both sides of its ledger.
SUPPLIES: Final = """
    SELECT l.reference_id AS key, min(l.id) AS ledger_id, min(l.created_at) AS at,
           coalesce(-sum(l.amount) FILTER (WHERE l.user_id = $2), 0)::bigint AS paid_cents,
           coalesce(sum(l.amount) FILTER (WHERE l.user_id = $3), 0)::bigint AS reserve_cents
    FROM ledger_entries AS l
    WHERE l.reference_type IN ('AMM_MINT', 'AMM_BURN') AND l.market_id = $1 GROUP BY l.reference_id
"""
_LEGS: Final = f"""
    WITH booked AS (
        SELECT reference_id, min(id) AS id FROM ledger_entries
        WHERE user_id = $2 AND reference_type = 'TRADE' GROUP BY reference_id
    )
    SELECT t.trade_id, leg.side, t.scenario, t.price, t.quantity, {_FEE} AS fee, leg.pnl, leg.order_id,
           CASE WHEN leg.order_id = t.maker_order_id THEN 'MAKER' ELSE 'TAKER' END AS role,
           t.executed_at, coalesce(booked.id, 0) AS ledger_id, {_IN_DAY} AS in_day,
           NOT ({_NO_AUDIT}) AS audit
    FROM {_LEG_ROWS.replace("WHERE", "LEFT JOIN booked ON booked.reference_id = t.trade_id WHERE")}
    ORDER BY t.executed_at, coalesce(booked.id, 0), t.trade_id, leg.side
"""  # noqa: S608 - fragments of this file
_POSITION: Final = """
    SELECT yes_volume, yes_cost_sum, yes_pending_sell, no_volume, no_cost_sum, no_pending_sell
    FROM positions WHERE market_id = $1 AND user_id = $2
"""
_MARKET: Final = """
    SELECT status, reserve_balance, total_yes_shares, total_no_shares,
           (SELECT coalesce(sum(yes_volume), 0)::bigint FROM positions WHERE market_id = $1) AS yes_held,
           (SELECT coalesce(sum(no_volume), 0)::bigint FROM positions WHERE market_id = $1) AS no_held
    FROM markets WHERE id = $1
"""
_ORDERS: Final = """
    SELECT id, original_side, original_direction, original_price, quantity, remaining_quantity, book_type
    FROM orders WHERE market_id = $1 AND user_id = $2 AND status IN ('OPEN', 'PARTIALLY_FILLED')
"""
_CASH: Final = """
    SELECT coalesce(sum(amount), 0)::bigint FROM ledger_entries WHERE user_id = $1 AND market_id = $2
"""
_ACCOUNT: Final = """
    SELECT available_balance, frozen_balance,
           (SELECT coalesce(sum(amount), 0)::bigint FROM ledger_entries WHERE user_id = $1) AS ledger_cents,
           (SELECT coalesce(sum(frozen_amount), 0)::bigint FROM orders
            WHERE user_id = $1 AND frozen_asset_type = 'FUNDS' AND status IN ('OPEN', 'PARTIALLY_FILLED'))
               AS orders_frozen
    FROM accounts WHERE user_id = $1
"""


class BooksError(Exception):
    """One side's books cannot be read; the message is one line that says which and why."""


class Leg(Struct, frozen=True, kw_only=True, gc=False):
    """One leg of the account's. ``pnl`` None: it opened a position. ``ledger_id`` orders legs of one time."""

    trade_id: str
    side: str  # B or S, of the YES book
    scenario: str
    price: int
    quantity: int
    fee: int
    pnl: int | None
    role: str
    order_id: str
    executed_at: datetime
    ledger_id: int
    in_day: bool
    audit: bool = False  # the record of a privileged mint or burn

    @property
    def id(self) -> str:
        return f"{self.trade_id}:{self.side}"

    @property
    def place(self) -> tuple[datetime, int]:
        """Where the exchange booked it among all legs and supplies."""
        return self.executed_at, self.ledger_id


class Supply(Struct, frozen=True, kw_only=True, gc=False):
    """A mint (``pairs`` > 0) or burn, as the account's and the reserve's ledger rows tell it."""

    key: str
    pairs: int
    reserve_cents: int
    at: datetime
    ledger_id: int

    @property
    def place(self) -> tuple[datetime, int]:
        return self.at, self.ledger_id


class RestingOrder(Struct, frozen=True, kw_only=True, gc=False):
    """A live order of the account's; prices in the user's view."""

    order_id: str
    side: str
    direction: str
    price: int
    qty: int
    remaining: int
    book_type: str


class LedgerDay(Struct, frozen=True, kw_only=True, gc=False):
    """What the account's ledger booked in the day for one reference; ``moved_cents`` leaves freezes out."""

    reference_type: str
    reference_id: str
    cents: int
    moved_cents: int


class ExchangeBooks(Struct, frozen=True, kw_only=True):
    """One instant of the exchange. Volumes in shares, the rest in cents."""

    begin: datetime  # of the day; its end is the next day's begin
    end: datetime
    user_id: str
    status: str
    by_scenario: dict[str, dict[str, int]]
    day_end: dict[str, int]
    ledger_day: list[LedgerDay]
    legs: list[Leg]  # of all time, in the order they were booked
    audit_rows: list[Leg]  # of mints and burns, likewise
    supplies: list[Supply]  # likewise
    position: dict[str, int]
    market: dict[str, int]
    orders: dict[str, RestingOrder]
    cash_cents: int  # the market's rows of the account's ledger
    account: dict[str, int]


async def connect(url: str) -> asyncpg.Connection:
    """A session for :func:`read`. Raises BooksError."""
    try:
        return await asyncpg.connect(url, timeout=_CONNECT_S_MAX, command_timeout=STATEMENT_S_MAX)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
        raise BooksError(f"database {_named(url)}: {_reason(error)}") from None


async def read(
    session: asyncpg.Connection, *, username: str, market_id: str, begin: datetime, end: datetime
) -> ExchangeBooks:
    """The account's books; the day is ``begin`` <= time < ``end``. Raises BooksError."""
    try:
        async with session.transaction(isolation="repeatable_read", readonly=True):
            return await _read(session, username, market_id, begin, end)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise BooksError(f"database: {_reason(error)}") from None


async def _read(
    session: asyncpg.Connection, username: str, market_id: str, begin: datetime, end: datetime
) -> ExchangeBooks:
    user_id = await session.fetchval("SELECT id::text FROM users WHERE username = $1", username)
    if user_id is None:
        raise BooksError(f"database: the exchange has no user {username!r}: is it the right one?")
    market = await session.fetchrow(_MARKET, market_id)
    if market is None:
        raise BooksError(f"database: the exchange has no market {market_id!r}")
    account = await session.fetchrow(_ACCOUNT, user_id)
    if account is None:
        raise BooksError(f"database: user {username!r} has no account")
    day = (market_id, user_id, begin, end)
    day_end = await session.fetchrow(DAY_END, *day)
    position = await session.fetchrow(_POSITION, market_id, user_id)
    rows = [Leg(**dict(row)) for row in await session.fetch(_LEGS, *day)]
    supplies = [_supply(row) for row in await session.fetch(SUPPLIES, market_id, user_id, _RESERVE)]
    return ExchangeBooks(
        begin=begin,
        end=end,
        user_id=user_id,
        status=market["status"],
        by_scenario={
            row["scenario"]: {name: row[name] for name in row.keys() if name != "scenario"}  # noqa: SIM118
            for row in await session.fetch(BY_SCENARIO, *day)
        },
        day_end=dict(day_end),
        ledger_day=[
            LedgerDay(
                reference_type=row["reference_type"] or "",
                reference_id=row["reference_id"] or "",
                cents=row["cents"],
                moved_cents=row["moved_cents"],
            )
            for row in await session.fetch(LEDGER_DAY, user_id, begin, end)
        ],
        legs=[row for row in rows if not row.audit],
        audit_rows=[row for row in rows if row.audit],
        supplies=sorted(supplies, key=lambda supply: supply.place),
        position=dict(position) if position is not None else dict.fromkeys(_POSITION_COLUMNS, 0),
        market={name: value for name, value in market.items() if name != "status"},
        orders={row["id"]: _order(row) for row in await session.fetch(_ORDERS, market_id, user_id)},
        cash_cents=await session.fetchval(_CASH, user_id, market_id),
        account=dict(account),
    )


_POSITION_COLUMNS: Final = (
    *("yes_volume", "yes_cost_sum", "yes_pending_sell"),
    *("no_volume", "no_cost_sum", "no_pending_sell"),
)


def _supply(row: Any) -> Supply:
    return Supply(
        key=row["key"],
        pairs=row["paid_cents"] // 100,
        reserve_cents=row["reserve_cents"],
        at=row["at"],
        ledger_id=row["ledger_id"],
    )


def _order(row: Any) -> RestingOrder:
    return RestingOrder(
        order_id=row["id"],
        side=row["original_side"],
        direction=row["original_direction"],
        price=row["original_price"],
        qty=row["quantity"],
        remaining=row["remaining_quantity"],
        book_type=row["book_type"],
    )


def _named(url: str) -> str:
    """The URL without its password."""
    return url.rpartition("@")[2]


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
