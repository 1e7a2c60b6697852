"""How rows of the model stand in PostgreSQL: one :class:`Table` per table, and the statement that writes a
batch.

A batch is written by one statement: a ``WITH`` clause per table that has rows, each taking all its rows as
one array of the table's own row type. So a batch costs one round trip however many orders it holds, and
PostgreSQL checks every constraint of section 6 on the way.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache
from typing import Any, Final

import asyncpg
import msgspec

from engine.paper.model import (
    UNUSABLE_PASSWORD_HASH,
    Account,
    AmmRun,
    AssetType,
    BookType,
    CancelReason,
    CircuitBreak,
    Direction,
    EntryType,
    Holding,
    LedgerEntry,
    Market,
    MarketStatus,
    Order,
    OrderStatus,
    Position,
    ReferenceType,
    Resolution,
    Scenario,
    Side,
    SupplyKey,
    TimeInForce,
    Trade,
    User,
)

Tuple = tuple[Any, ...]


class Table(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One table: ``columns`` as the table itself orders them, and what writing a row means.

    ``generated`` columns get their value from the table's default. A row whose ``key`` is there already
    replaces the ``changing`` columns; without any, a known key is an error. ``encode`` makes a full row.
    """

    name: str
    columns: tuple[str, ...]
    encode: Callable[[Any], Tuple]
    key: str = ""
    changing: tuple[str, ...] = ()
    generated: frozenset[str] = frozenset()

    def clause(self, parameter: int) -> str:
        """The part of the batch's statement that writes this table from parameter ``$parameter``."""
        names = ", ".join(name for name in self.columns if name not in self.generated)
        source = f"unnest(${parameter}::{self.name}[])"
        clause = f"INSERT INTO {self.name} ({names}) SELECT {names} FROM {source}"  # noqa: S608 - our names
        if self.changing:
            changes = ", ".join(f"{name} = EXCLUDED.{name}" for name in self.changing)
            clause += f" ON CONFLICT ({self.key}) DO UPDATE SET {changes}"
        return clause


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# -- rows ------------------------------------------------------------------------------------------------


def _encode_user(user: User) -> Tuple:
    password_hash = user.password_hash.decode() if user.password_hash is not None else UNUSABLE_PASSWORD_HASH
    created_at = user.created_at
    return (user.id, user.username, user.email, password_hash, user.is_active, created_at, created_at)


def decode_user(row: asyncpg.Record) -> User:
    """A row of users."""
    stored: str = row["password_hash"]
    return User(
        id=str(row["id"]),
        username=row["username"],
        email=row["email"],
        password_hash=None if stored == UNUSABLE_PASSWORD_HASH else stored.encode(),
        is_active=row["is_active"],
        created_at=row["created_at"],
    )


def _encode_account(account: Account) -> Tuple:
    return (
        None,
        account.user_id,
        account.available_cents,
        account.frozen_cents,
        account.version,
        account.updated_at,
        account.updated_at,
        account.auto_netting_enabled,
    )


def decode_account(row: asyncpg.Record) -> Account:
    """A row of accounts."""
    return Account(
        user_id=row["user_id"],
        available_cents=row["available_balance"],
        frozen_cents=row["frozen_balance"],
        version=row["version"],
        auto_netting_enabled=row["auto_netting_enabled"],
        updated_at=row["updated_at"],
    )


def _encode_market(market: Market) -> Tuple:
    return (
        market.id,
        market.title,
        market.description,
        market.category,
        market.status,
        market.min_price_cents,
        market.max_price_cents,
        market.max_order_quantity,
        market.max_position_per_user,
        market.max_order_amount_cents,
        market.maker_fee_bps,
        market.taker_fee_bps,
        market.amm_approved,
        market.trading_start_at,
        market.trading_end_at,
        market.resolution_date,
        market.created_at,
        market.updated_at,
        market.resolved_at,
        market.settle_due_at,
        market.settled_at,
        market.resolution_result,
        market.reserve_balance_cents,
        market.pnl_pool_cents,
        market.total_yes_shares,
        market.total_no_shares,
    )


def decode_market(row: asyncpg.Record) -> Market:
    """A row of markets."""
    resolution = row["resolution_result"]
    return Market(
        id=row["id"],
        title=row["title"],
        description=row["description"],
        category=row["category"],
        status=MarketStatus(row["status"]),
        min_price_cents=row["min_price_cents"],
        max_price_cents=row["max_price_cents"],
        max_order_quantity=row["max_order_quantity"],
        max_position_per_user=row["max_position_per_user"],
        max_order_amount_cents=row["max_order_amount_cents"],
        maker_fee_bps=row["maker_fee_bps"],
        taker_fee_bps=row["taker_fee_bps"],
        amm_approved=row["amm_approved"],
        trading_start_at=row["trading_start_at"],
        trading_end_at=row["trading_end_at"],
        resolution_date=row["resolution_date"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        resolved_at=row["resolved_at"],
        settle_due_at=row["settle_due_at"],
        settled_at=row["settled_at"],
        resolution_result=Resolution(resolution) if resolution is not None else None,
        reserve_balance_cents=row["reserve_balance"],
        pnl_pool_cents=row["pnl_pool"],
        total_yes_shares=row["total_yes_shares"],
        total_no_shares=row["total_no_shares"],
    )


def _encode_order(order: Order) -> Tuple:
    return (
        order.id,
        order.client_order_id,
        order.market_id,
        order.user_id,
        order.original_side,
        order.original_direction,
        order.original_price_cents,
        order.book_type,
        order.book_direction,
        order.book_price_cents,
        "LIMIT",
        order.time_in_force,
        order.quantity,
        order.filled_quantity,
        order.remaining_quantity,
        order.frozen_amount,
        order.frozen_asset_type,
        order.status,
        order.cancel_reason,
        order.created_at,
        order.updated_at,
    )


def decode_order(row: asyncpg.Record) -> Order:
    """A row of orders."""
    reason = row["cancel_reason"]
    return Order(
        id=row["id"],
        client_order_id=row["client_order_id"],
        market_id=row["market_id"],
        user_id=row["user_id"],
        original_side=Side(row["original_side"]),
        original_direction=Direction(row["original_direction"]),
        original_price_cents=row["original_price"],
        book_type=BookType(row["book_type"]),
        book_direction=Direction(row["book_direction"]),
        book_price_cents=row["book_price"],
        time_in_force=TimeInForce(row["time_in_force"]),
        quantity=row["quantity"],
        filled_quantity=row["filled_quantity"],
        remaining_quantity=row["remaining_quantity"],
        frozen_amount=row["frozen_amount"],
        frozen_asset_type=AssetType(row["frozen_asset_type"]),
        status=OrderStatus(row["status"]),
        cancel_reason=CancelReason(reason) if reason is not None else None,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _encode_trade(trade: Trade) -> Tuple:
    return (
        None,
        trade.trade_id,
        trade.market_id,
        trade.scenario,
        trade.buy_order_id,
        trade.sell_order_id,
        trade.buy_user_id,
        trade.sell_user_id,
        trade.buy_book_type,
        trade.sell_book_type,
        trade.price_cents,
        trade.quantity,
        trade.maker_order_id,
        trade.taker_order_id,
        trade.maker_fee_cents,
        trade.taker_fee_cents,
        trade.buy_realized_pnl_cents,
        trade.sell_realized_pnl_cents,
        trade.executed_at,
    )


def decode_trade(row: asyncpg.Record) -> Trade:
    """A row of trades."""
    return Trade(
        trade_id=row["trade_id"],
        market_id=row["market_id"],
        scenario=Scenario(row["scenario"]),
        buy_order_id=row["buy_order_id"],
        sell_order_id=row["sell_order_id"],
        buy_user_id=row["buy_user_id"],
        sell_user_id=row["sell_user_id"],
        buy_book_type=BookType(row["buy_book_type"]),
        sell_book_type=BookType(row["sell_book_type"]),
        price_cents=row["price"],
        quantity=row["quantity"],
        maker_order_id=row["maker_order_id"],
        taker_order_id=row["taker_order_id"],
        maker_fee_cents=row["maker_fee"],
        taker_fee_cents=row["taker_fee"],
        buy_realized_pnl_cents=row["buy_realized_pnl"],
        sell_realized_pnl_cents=row["sell_realized_pnl"],
        executed_at=row["executed_at"],
    )


def _encode_position(position: Position) -> Tuple:
    return (
        None,
        position.user_id,
        position.market_id,
        position.yes.volume,
        position.yes.cost_sum_cents,
        position.yes.pending_sell,
        position.no.volume,
        position.no.cost_sum_cents,
        position.no.pending_sell,
        position.updated_at,
        position.updated_at,
    )


def decode_position(row: asyncpg.Record) -> Position:
    """A row of positions."""
    return Position(
        user_id=row["user_id"],
        market_id=row["market_id"],
        yes=Holding(row["yes_volume"], row["yes_cost_sum"], row["yes_pending_sell"]),
        no=Holding(row["no_volume"], row["no_cost_sum"], row["no_pending_sell"]),
        updated_at=row["updated_at"],
    )


def _encode_entry(entry: LedgerEntry) -> Tuple:
    return (
        entry.id,
        entry.user_id,
        entry.entry_type,
        entry.amount_cents,
        entry.balance_after_cents,
        entry.reference_type,
        entry.reference_id,
        None,
        entry.created_at,
        entry.market_id,
    )


def decode_entry(row: asyncpg.Record) -> LedgerEntry:
    """A row of ledger_entries."""
    return LedgerEntry(
        id=row["id"],
        user_id=row["user_id"],
        entry_type=EntryType(row["entry_type"]),
        amount_cents=row["amount"],
        balance_after_cents=row["balance_after"],
        reference_type=ReferenceType(row["reference_type"]),
        reference_id=row["reference_id"],
        market_id=row["market_id"],
        created_at=row["created_at"],
    )


def decode_supply_key(row: asyncpg.Record) -> SupplyKey:
    """A row of supply_keys."""
    return SupplyKey(
        kind=ReferenceType(row["kind"]), **{name: row[name] for name in SUPPLY_KEYS.columns if name != "kind"}
    )


def decode_run(row: asyncpg.Record) -> AmmRun:
    """A row of amm_runs."""
    return AmmRun(market_id=row["market_id"], running=row["running"], changed_at=row["changed_at"])


def _encode_break(event: CircuitBreak) -> Tuple:
    return (None, event.market_id, event.trigger_reason, None, None, None, None, event.triggered_at)


def decode_break(row: asyncpg.Record) -> CircuitBreak:
    """A row of circuit_breaker_events."""
    return CircuitBreak(
        market_id=row["market_id"], trigger_reason=row["trigger_reason"], triggered_at=row["triggered_at"]
    )


class JournalCommit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One command's effects in the journal: a JSON array of entries that number ``first_sequence`` upwards.

    ``next_id`` and ``next_ledger_id`` are the exchange's counters after it.
    """

    number: int
    first_sequence: int
    last_sequence: int
    next_id: int
    next_ledger_id: int
    at_unix_ns: int
    entries: bytes


def _encode_commit(commit: JournalCommit) -> Tuple:
    return (
        commit.number,
        commit.first_sequence,
        commit.last_sequence,
        commit.next_id,
        commit.next_ledger_id,
        commit.at_unix_ns,
        commit.entries.decode(),
    )


class OutboxEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message for the event bus, waiting to be published (section 4)."""

    event_id: str
    sequence: int
    topic: str
    market_id: str
    payload: bytes
    created_at: datetime


def _encode_event(event: OutboxEvent) -> Tuple:
    return (
        event.event_id,
        event.sequence,
        event.topic,
        event.market_id,
        event.payload.decode(),
        event.created_at,
    )


class WalEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One step of an order for the audit trail."""

    market_id: str
    event_type: str
    payload: bytes
    created_at: datetime


def _encode_wal(event: WalEvent) -> Tuple:
    return (None, event.market_id, event.event_type, event.payload.decode(), event.created_at)


# -- tables ----------------------------------------------------------------------------------------------

USERS: Final = Table(
    name="users",
    columns=_words("id username email password_hash is_active created_at updated_at"),
    encode=_encode_user,
    key="id",
    changing=_words("password_hash is_active"),
)
ACCOUNTS: Final = Table(
    name="accounts",
    columns=_words(
        "id user_id available_balance frozen_balance version created_at updated_at auto_netting_enabled"
    ),
    encode=_encode_account,
    generated=frozenset({"id"}),
)
MARKETS: Final = Table(
    name="markets",
    columns=_words(
        "id title description category status min_price_cents max_price_cents max_order_quantity "
        "max_position_per_user max_order_amount_cents maker_fee_bps taker_fee_bps amm_approved "
        "trading_start_at trading_end_at resolution_date created_at updated_at resolved_at settle_due_at "
        "settled_at resolution_result reserve_balance pnl_pool total_yes_shares total_no_shares"
    ),
    encode=_encode_market,
    key="id",
    changing=_words(
        "status updated_at resolved_at settle_due_at settled_at resolution_result reserve_balance "
        "pnl_pool total_yes_shares total_no_shares"
    ),
)
ORDERS: Final = Table(
    name="orders",
    columns=_words(
        "id client_order_id market_id user_id original_side original_direction original_price book_type "
        "book_direction book_price price_type time_in_force quantity filled_quantity remaining_quantity "
        "frozen_amount frozen_asset_type status cancel_reason created_at updated_at"
    ),
    encode=_encode_order,
    key="id",
    changing=_words("filled_quantity remaining_quantity frozen_amount status cancel_reason updated_at"),
)
TRADES: Final = Table(
    name="trades",
    columns=_words(
        "id trade_id market_id scenario buy_order_id sell_order_id buy_user_id sell_user_id buy_book_type "
        "sell_book_type price quantity maker_order_id taker_order_id maker_fee taker_fee buy_realized_pnl "
        "sell_realized_pnl executed_at"
    ),
    encode=_encode_trade,
    generated=frozenset({"id"}),
)
POSITIONS: Final = Table(
    name="positions",
    columns=_words(
        "id user_id market_id yes_volume yes_cost_sum yes_pending_sell no_volume no_cost_sum no_pending_sell "
        "created_at updated_at"
    ),
    encode=_encode_position,
    key="user_id, market_id",
    changing=_words(
        "yes_volume yes_cost_sum yes_pending_sell no_volume no_cost_sum no_pending_sell updated_at"
    ),
    generated=frozenset({"id"}),
)
LEDGER: Final = Table(
    name="ledger_entries",
    columns=_words(
        "id user_id entry_type amount balance_after reference_type reference_id description created_at "
        "market_id"
    ),
    encode=_encode_entry,
)
SUPPLY_KEYS: Final = Table(
    name="supply_keys",
    columns=_words(
        "kind key market_id quantity value_cents new_yes_inventory new_no_inventory remaining_balance_cents"
    ),
    encode=msgspec.structs.astuple,
)
AMM_RUNS: Final = Table(
    name="amm_runs",
    columns=_words("market_id running changed_at"),
    encode=msgspec.structs.astuple,
    key="market_id",
    changing=_words("running changed_at"),
)
CIRCUIT_BREAKS: Final = Table(
    name="circuit_breaker_events",
    columns=_words(
        "id market_id trigger_reason context resolved_at resolved_by resolution_note triggered_at"
    ),
    encode=_encode_break,
    generated=frozenset({"id", "context"}),
)
JOURNAL: Final = Table(
    name="journal_commits",
    columns=_words("number first_sequence last_sequence next_id next_ledger_id at_unix_ns entries"),
    encode=_encode_commit,
)
OUTBOX: Final = Table(
    name="outbox",
    columns=_words("event_id sequence topic market_id payload created_at"),
    encode=_encode_event,
)
WAL_EVENTS: Final = Table(
    name="wal_events",
    columns=_words("id market_id event_type payload created_at"),
    encode=_encode_wal,
    generated=frozenset({"id"}),
)
TABLES: Final = (
    USERS,
    ACCOUNTS,
    MARKETS,
    ORDERS,
    TRADES,
    POSITIONS,
    LEDGER,
    SUPPLY_KEYS,
    AMM_RUNS,
    CIRCUIT_BREAKS,
    JOURNAL,
    OUTBOX,
    WAL_EVENTS,
)


# -- the batch's statement -------------------------------------------------------------------------------

_MOVE: Final = """
UPDATE accounts SET available_balance = n.available_balance, frozen_balance = n.frozen_balance,
    version = n.version, updated_at = n.updated_at
FROM ROWS FROM (unnest(${after}::accounts[]), unnest(${before}::accounts[])) AS n({names})
WHERE accounts.user_id = n.user_id AND accounts.version = n.version_before
    AND accounts.available_balance = n.available_balance_before
    AND accounts.frozen_balance = n.frozen_balance_before
RETURNING 1
"""
_MOVE_NAMES: Final = ", ".join([*ACCOUNTS.columns, *(f"{name}_before" for name in ACCOUNTS.columns)])


@cache
def batch_statement(names: frozenset[str]) -> tuple[str, tuple[Table, ...]]:
    """The statement that writes rows of the named tables, and the tables in the order of its parameters.

    ``$1`` and ``$2`` are known accounts after and before, ``$3`` is their number. Balances move only from
    what the batch was decided on. If any did not, the statement divides by zero, which undoes all of it; so
    it is a transaction by itself, without the two round trips more of BEGIN and COMMIT around it.
    """
    tables = tuple(table for table in TABLES if table.name in names)
    clauses = [f"accounts_moved AS ({_MOVE.format(after=1, before=2, names=_MOVE_NAMES)})"]
    clauses += [f"{table.name}_written AS ({table.clause(4 + n)})" for n, table in enumerate(tables)]
    check = "SELECT 1 / (count(*) = $3)::int FROM accounts_moved"
    return f"WITH {', '.join(clauses)} {check}", tables


def encode_all(table: Table, rows: Iterable[object]) -> list[Tuple]:
    """Full rows of one table."""
    return [table.encode(row) for row in rows]
