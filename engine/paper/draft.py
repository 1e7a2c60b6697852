"""The working copy one command is decided on: reads fall through to the state, writes stay here.

Dropping a draft undoes everything, which is what makes each command all or nothing. A draft touches at
most one market. Every movement of available cash goes through :meth:`Draft.post`, so a ledger row and the
balance it explains cannot part.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from engine.paper.arithmetic import FeeRule
from engine.paper.effects import Effects, OrderEvent, OrderEventKind
from engine.paper.model import (
    PAIR_CENTS,
    SYSTEM_RESERVE,
    Account,
    AmmRun,
    AssetType,
    CircuitBreak,
    EntryType,
    Holding,
    LedgerEntry,
    Market,
    Order,
    Position,
    ReferenceType,
    Side,
    SupplyKey,
    Trade,
    User,
)
from engine.paper.refusal import Code, Refusal
from engine.paper.state import State


@dataclass(slots=True)
class Purse:
    """Cash of one account while a command is being decided."""

    available_cents: int
    frozen_cents: int


@dataclass(slots=True)
class Pool:
    """Pooled money and share totals of the market while a command is being decided."""

    reserve_cents: int
    pnl_cents: int
    total_yes_shares: int
    total_no_shares: int

    def add_pairs(self, pairs: int) -> None:
        """Create pairs (or destroy them, negative) against the reserve."""
        self.reserve_cents += PAIR_CENTS * pairs
        self.total_yes_shares += pairs
        self.total_no_shares += pairs


@dataclass(slots=True, frozen=True)
class Reference:
    """What a ledger row is about, and the market its money belongs to."""

    type: ReferenceType
    id: str
    market_id: str | None


class Draft:
    """One transaction in the making. ``at`` is the command's wall time, the only clock it sees."""

    def __init__(
        self,
        state: State,
        at: datetime,
        market: Market | None = None,
        fee_rule: FeeRule = FeeRule.BOTH_SIDES,
    ) -> None:
        self.state: Final = state
        self.at: Final = at
        self.fee_rule: Final = fee_rule
        self._market: Market | None = market
        self._pool: Pool | None = None
        self._next_id = state.next_id
        self._purses: Final[dict[str, Purse]] = {}
        self._holdings: Final[dict[tuple[str, Side], Holding]] = {}
        self._orders: Final[dict[str, Order]] = {}
        self._ledger: Final[list[LedgerEntry]] = []
        self._events: Final[list[OrderEvent]] = []
        self.trades: Final[list[Trade]] = []
        self.user: User | None = None
        self.supply_key: SupplyKey | None = None
        self.amm_run: AmmRun | None = None
        self.circuit_break: CircuitBreak | None = None
        self._market_written = False
        self._opened_account: tuple[str, bool] | None = None

    # -- ids ---------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        """Next id; decimal and of constant width, so text order is time order."""
        issued = self._next_id
        self._next_id += 1
        return str(issued)

    # -- market ------------------------------------------------------------------------------------------

    @property
    def market(self) -> Market:
        """The market this command works on."""
        assert self._market is not None
        return self._market

    def write_market(self, market: Market) -> None:
        """Set the market's descriptive columns; its pool is kept separately until :meth:`effects`."""
        assert self._market is None or self._market.id == market.id
        self._market = market
        self._market_written = True

    @property
    def pool(self) -> Pool:
        """The market's money; whoever asks for it is taken to change it."""
        if self._pool is None:
            market = self.market
            self._pool = Pool(
                market.reserve_balance_cents,
                market.pnl_pool_cents,
                market.total_yes_shares,
                market.total_no_shares,
            )
        return self._pool

    def close_pool(self, market: Market) -> None:
        """Set the columns of a settled market and empty its pool."""
        self.write_market(market)
        self._pool = Pool(0, 0, 0, 0)

    # -- cash --------------------------------------------------------------------------------------------

    def purse(self, user_id: str) -> Purse:
        """Working balances of an account; an account that does not exist yet starts empty."""
        purse = self._purses.get(user_id)
        if purse is None:
            account = self.state.accounts.get(user_id)
            purse = Purse(account.available_cents, account.frozen_cents) if account else Purse(0, 0)
            self._purses[user_id] = purse
        return purse

    def open_account(self, user_id: str, *, auto_netting_enabled: bool) -> None:
        """Create an empty account with its netting flag."""
        self._opened_account = (user_id, auto_netting_enabled)
        self.purse(user_id)

    def post(self, user_id: str, entry_type: EntryType, amount_cents: int, reference: Reference) -> int:
        """Move available cash by ``amount_cents`` and write the row that says why; answers the row's id."""
        purse = self.purse(user_id)
        purse.available_cents += amount_cents
        entry_id = self.state.next_ledger_id + len(self._ledger)
        self._ledger.append(
            LedgerEntry(
                id=entry_id,
                user_id=user_id,
                entry_type=entry_type,
                amount_cents=amount_cents,
                balance_after_cents=purse.available_cents,
                reference_type=reference.type,
                reference_id=reference.id,
                market_id=reference.market_id,
                created_at=self.at,
            )
        )
        return entry_id

    def freeze(self, user_id: str, cents: int, reference: Reference) -> None:
        """Move cash from available to frozen, or refuse with 2001."""
        purse = self.purse(user_id)
        if purse.available_cents < cents:
            raise Refusal(
                Code.NOT_ENOUGH_CASH, f"available {purse.available_cents} cents, the order freezes {cents}"
            )
        self.post(user_id, EntryType.ORDER_FREEZE, -cents, reference)
        purse.frozen_cents += cents

    def unfreeze(self, user_id: str, cents: int, reference: Reference) -> None:
        """Move cash from frozen back to available."""
        self.post(user_id, EntryType.ORDER_UNFREEZE, cents, reference)
        self.purse(user_id).frozen_cents -= cents

    def move_reserve(self, pairs: int, entry_type: EntryType, reference: Reference) -> None:
        """Create or destroy pairs and book the reserve's side of it."""
        self.pool.add_pairs(pairs)
        self.post(SYSTEM_RESERVE, entry_type, PAIR_CENTS * pairs, reference)

    # -- shares ------------------------------------------------------------------------------------------

    def holding(self, user_id: str, side: Side) -> Holding:
        """Working holding of one outcome in this command's market."""
        holding = self._holdings.get((user_id, side))
        if holding is None:
            position = self.state.positions[self.market.id].get(user_id)
            if position is None:
                return Holding()
            return position.yes if side is Side.YES else position.no
        return holding

    def set_holding(self, user_id: str, side: Side, holding: Holding) -> None:
        """Replace the working holding of one outcome."""
        self._holdings[user_id, side] = holding

    # -- orders ------------------------------------------------------------------------------------------

    def order(self, order_id: str) -> Order:
        """Newest version of an order."""
        return self._orders.get(order_id) or self.state.orders[order_id]

    def write_order(
        self, kind: OrderEventKind, order: Order, *, trade_id: str | None = None, quantity: int = 0
    ) -> None:
        """Store an order's new version and the step that led to it."""
        self._orders[order.id] = order
        self._events.append(OrderEvent(kind, order, trade_id, quantity))

    def hold(self, order: Order, reference: Reference) -> None:
        """Freeze what a new order needs, or refuse with 2001 or 5001."""
        if order.frozen_asset_type is AssetType.FUNDS:
            self.freeze(order.user_id, order.frozen_amount, reference)
            return
        holding = self.holding(order.user_id, order.original_side)
        if holding.free < order.quantity:
            raise Refusal(
                Code.NOT_ENOUGH_SHARES,
                f"{holding.free} free {order.original_side} shares, the order sells {order.quantity}",
            )
        pending = holding.pending_sell + order.quantity
        self.set_holding(
            order.user_id, order.original_side, Holding(holding.volume, holding.cost_sum_cents, pending)
        )

    def release(self, order: Order, reference: Reference) -> None:
        """Give back all that a live order still holds."""
        if order.frozen_asset_type is AssetType.FUNDS:
            self.unfreeze(order.user_id, order.frozen_amount, reference)
            return
        holding = self.holding(order.user_id, order.original_side)
        pending = holding.pending_sell - order.frozen_amount
        self.set_holding(
            order.user_id, order.original_side, Holding(holding.volume, holding.cost_sum_cents, pending)
        )

    # -- result ------------------------------------------------------------------------------------------

    def effects(self) -> Effects:
        """Everything this draft changes."""
        return Effects(
            next_id=self._next_id,
            next_ledger_id=self.state.next_ledger_id + len(self._ledger),
            order_events=tuple(self._events),
            trades=tuple(self.trades),
            ledger=tuple(self._ledger),
            accounts=self._account_rows(),
            positions=self._position_rows(),
            orders=tuple(self._orders.values()),
            market=self._market_row(),
            user=self.user,
            supply_key=self.supply_key,
            amm_run=self.amm_run,
            circuit_break=self.circuit_break,
        )

    def _account_rows(self) -> tuple[Account, ...]:
        rows = []
        for user_id, purse in self._purses.items():
            stored = self.state.accounts.get(user_id)
            nets = stored.auto_netting_enabled if stored else self._opened_account != (user_id, False)
            rows.append(
                Account(
                    user_id=user_id,
                    available_cents=purse.available_cents,
                    frozen_cents=purse.frozen_cents,
                    version=stored.version + 1 if stored else 1,
                    auto_netting_enabled=nets,
                    updated_at=self.at,
                )
            )
        return tuple(rows)

    def _position_rows(self) -> tuple[Position, ...]:
        return tuple(
            Position(
                user_id=user_id,
                market_id=self.market.id,
                yes=self.holding(user_id, Side.YES),
                no=self.holding(user_id, Side.NO),
                updated_at=self.at,
            )
            for user_id in dict.fromkeys(user_id for user_id, _ in self._holdings)
        )

    def _market_row(self) -> Market | None:
        if self._pool is None:
            return self._market if self._market_written else None
        return replace(
            self.market,
            reserve_balance_cents=self._pool.reserve_cents,
            pnl_pool_cents=self._pool.pnl_cents,
            total_yes_shares=self._pool.total_yes_shares,
            total_no_shares=self._pool.total_no_shares,
            updated_at=self.at,
        )
