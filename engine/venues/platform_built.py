"""Answers of the platform as it was built (platform §2.8), read into what the contract would have said.

Which dialect an answer is in is seen from the answer itself, endpoint by endpoint: :class:`Reader` tries the
contract's shape and then the other; no body fits both. What the as-built platform leaves out is either not
needed or made up for here: a trade row names neither orders nor roles, but the answer to an order that took
something lists what it took, so every other row of ours was made by a resting order (:class:`BuiltTrades`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from engine.venues import platform_wire as wire

T = TypeVar("T")
_REMEMBERED_MAX: Final = 4_096  # takes not yet listed, and rows that were matched to one


class BuiltOrderTrade(Struct, frozen=True, kw_only=True, gc=False):
    """What an order took when it was placed."""

    buy_order_id: wire.Text
    sell_order_id: wire.Text
    price: wire.Price
    quantity: wire.Quantity
    scenario: wire.ScenarioName


class BuiltPlaced(Struct, frozen=True, kw_only=True, gc=False):
    order: wire.VenueOrder
    trades: list[BuiltOrderTrade]


class BuiltNewOrder(Struct, frozen=True, kw_only=True, gc=False):
    id: wire.Text
    client_order_id: wire.Text
    status: wire.OrderStatus
    quantity: wire.Quantity
    filled: wire.Count
    remaining: wire.Count


class BuiltReplaced(Struct, frozen=True, kw_only=True, gc=False):
    new_order: BuiltNewOrder
    trades: list[BuiltOrderTrade]
    old_order_filled_quantity: wire.Count | None = None


class BuiltPosition(Struct, frozen=True, kw_only=True, gc=False):
    yes_volume: wire.Count
    yes_cost_sum: wire.Count
    no_volume: wire.Count
    no_cost_sum: wire.Count


class BuiltTrade(Struct, frozen=True, kw_only=True, gc=False):
    trade_id: wire.Text
    market_id: wire.Text
    scenario: wire.ScenarioName
    price: wire.Price
    quantity: wire.Quantity
    buy_user_id: wire.Text
    sell_user_id: wire.Text
    taker_fee: wire.Count
    executed_at: datetime


def _enveloped(content: Any) -> Any:
    return wire.Envelope[content]


class Reader(Generic[T]):
    """Reads one endpoint's success in either dialect.

    ``built`` is the as-built type, ``bare`` whether it comes without an envelope, ``as_contract`` makes the
    contract's value of it. MsgspecError when the body is in neither.
    """

    def __init__(
        self,
        contract: Any,
        built: Any = None,
        *,
        bare: bool = False,
        as_contract: Callable[[Any], T] | None = None,
    ) -> None:
        self._contract: Final[msgspec.json.Decoder[wire.Envelope[T]]] = msgspec.json.Decoder(
            _enveloped(contract)
        )
        self._bare: Final = bare
        self._built: msgspec.json.Decoder[Any] | None = None
        other: Any = contract if built is None else built
        if bare:
            self._built = msgspec.json.Decoder(other)
        elif built is not None:
            self._built = msgspec.json.Decoder(_enveloped(other))
        self._as_contract: Final = as_contract

    def read(self, body: bytes) -> T:
        """The answer's content."""
        try:
            return self._contract.decode(body).data
        except msgspec.ValidationError:
            if self._built is None:
                raise
            try:
                answer: Any = self._built.decode(body)
            except msgspec.ValidationError:
                answer = None
            if answer is None:
                raise
        content = answer if self._bare else answer.data
        return content if self._as_contract is None else self._as_contract(content)


def position(built: BuiltPosition) -> wire.Position:
    """The nested form."""
    return wire.Position(
        yes=wire.Holding(volume=built.yes_volume, cost_sum_cents=built.yes_cost_sum),
        no=wire.Holding(volume=built.no_volume, cost_sum_cents=built.no_cost_sum),
    )


def found_order(order: wire.VenueOrder) -> wire.FoundOrder:
    """GET /orders/{id} is the order itself."""
    return wire.FoundOrder(order=order)


class _Take(NamedTuple):
    """How a row in the trade list and a line in the answer to an order are known to be the same."""

    side: wire.DirectionName
    scenario: str
    price_cents: int
    quantity: int


class BuiltTrades:
    """Roles, orders and fees of our as-built trade rows."""

    def __init__(self) -> None:
        self._takes: Final[OrderedDict[str, tuple[_Take, str]]] = OrderedDict()  # by running number
        self._matched: Final[OrderedDict[tuple[str, str], str]] = OrderedDict()  # (trade, side) -> order
        self._numbers = 0

    def placed(self, built: BuiltPlaced) -> wire.PlacedOrder:
        """Notes what the order took."""
        return wire.PlacedOrder(order=built.order, trades=self._took(built.order.id, built.trades))

    def replaced(self, built: BuiltReplaced) -> wire.ReplacedOrder:
        """Notes what the new order took."""
        new = built.new_order
        return wire.ReplacedOrder(
            new_order=wire.OrderState(
                id=new.id,
                client_order_id=new.client_order_id,
                quantity=new.quantity,
                filled_quantity=new.filled,
                remaining_quantity=new.remaining,
                status=new.status,
            ),
            trades=self._took(new.id, built.trades),
            old_order_filled_quantity=built.old_order_filled_quantity,
        )

    def _took(self, order_id: str, trades: Sequence[BuiltOrderTrade]) -> list[wire.OrderTrade]:
        for trade in trades:
            side: wire.DirectionName = "BUY" if trade.buy_order_id == order_id else "SELL"
            self._numbers += 1
            take = _Take(side, trade.scenario, trade.price, trade.quantity)
            self._takes[str(self._numbers)] = take, order_id
            if len(self._takes) > _REMEMBERED_MAX:
                self._takes.popitem(last=False)
        return [wire.OrderTrade(quantity=trade.quantity) for trade in trades]

    def page(self, built: wire.Page[BuiltTrade], user_id: str) -> wire.Page[wire.AccountTrade]:
        """Our legs of the rows; both of a trade with ourselves. Older rows claim takes first."""
        legs: list[wire.AccountTrade] = []
        for trade in reversed(built.items):
            legs += [
                self._leg(trade, side)
                for side, user in (("SELL", trade.sell_user_id), ("BUY", trade.buy_user_id))
                if user == user_id
            ]
        return wire.Page(items=legs[::-1], next_cursor=built.next_cursor, has_more=built.has_more)

    def _leg(self, trade: BuiltTrade, side: Any) -> wire.AccountTrade:
        order_id = self._taker_order(trade, side)
        return wire.AccountTrade(
            trade_id=trade.trade_id,
            market_id=trade.market_id,
            scenario=trade.scenario,
            my_side=side,
            price_cents=trade.price,
            quantity=trade.quantity,
            role="TAKER" if order_id else "MAKER",
            fee_cents=trade.taker_fee if order_id else 0,
            executed_at=trade.executed_at,
            buy_user_id=trade.buy_user_id,
            sell_user_id=trade.sell_user_id,
            buy_order_id=order_id if side == "BUY" else "",
            sell_order_id=order_id if side == "SELL" else "",
        )

    def _taker_order(self, trade: BuiltTrade, side: str) -> str:
        """The order of ours that took this; empty for a resting one. The same answer however often asked."""
        key = trade.trade_id, side
        if key not in self._matched:
            wanted = (side, trade.scenario, trade.price, trade.quantity)
            number = next((number for number, (take, _) in self._takes.items() if take == wanted), None)
            self._matched[key] = "" if number is None else self._takes.pop(number)[1]
            if len(self._matched) > _REMEMBERED_MAX:
                self._matched.popitem(last=False)
        return self._matched[key]
