"""How the exchange speaks: the contract, or the platform as it was built (contract section 2.8).

Everything in which the two differ is a member of :class:`Dialect`, and :class:`AsBuilt` overrides exactly the
rows of that section. Routes ask their desk's dialect and never which one it is.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final

import msgspec

from engine.paper.arithmetic import FeeRule
from engine.paper.effects import Cancelled, Placed, Replaced
from engine.paper.envelope import Answer, ErrorEnvelope, bare, enveloped_error, ok, text
from engine.paper.invariants import CHECKS, Breach
from engine.paper.model import Account, Market, Order, Position, Resolution, Trade
from engine.paper.openapi import Fault
from engine.paper.refusal import HTTP_STATUS, Code, Refusal
from engine.paper.requests import BuiltResolveBody, ResolveBody
from engine.paper.views import (
    BalanceView,
    CancelView,
    CheckView,
    InvariantsView,
    NettingView,
    OrderDetailView,
    OrderTradeView,
    OrderView,
    PageView,
    PlacedView,
    PositionsView,
    PositionView,
    ReplaceView,
    TradeView,
)
from engine.paper.views_as_built import (
    BuiltBalanceView,
    BuiltInvariantsView,
    BuiltNettingView,
    BuiltOrderTradeView,
    BuiltOrderView,
    BuiltPlacedView,
    BuiltPositionsView,
    BuiltPositionView,
    BuiltReplaceView,
    BuiltTradeView,
    Detail,
    ValidationDetail,
    ValidationFault,
)

RATE_HEADERS: Final = ("Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_KEY: Final = re.compile(r"[^.\[\]`]+")


class DialectName(StrEnum):
    """What ``--dialect`` takes."""

    CONTRACT = "contract"
    AS_BUILT = "as-built"


class Shapes(msgspec.Struct, frozen=True, kw_only=True):
    """Types of the bodies and answers that differ, for the description at /schema."""

    balance: Any = BalanceView
    placed: Any = PlacedView
    order: Any = OrderDetailView
    orders: Any = PageView[OrderView]
    replaced: Any = ReplaceView
    position: Any = PositionView
    positions: Any = PositionsView
    trades: Any = PageView[TradeView]
    invariants: Any = InvariantsView
    resolve_body: Any = ResolveBody


class Dialect:
    """The contract: the normative one."""

    limits_rates: ClassVar[bool] = True
    serves_streams: ClassVar[bool] = True
    controls_amm: ClassVar[bool] = True
    """Whether /admin/amm/start and /admin/amm/stop exist."""
    envelopes_orders: ClassVar[bool] = True
    fee_rule: ClassVar[FeeRule] = FeeRule.BOTH_SIDES
    cancels_partly_filled: ClassVar[bool] = True
    """Whether a replace refused with 6001 has cancelled the rest of the old order."""
    resolves_halted: ClassVar[bool] = True
    resolutions: ClassVar[tuple[Resolution, ...]] = (Resolution.YES, Resolution.NO, Resolution.VOID)
    shapes: ClassVar[Shapes] = Shapes()
    faults: ClassVar[tuple[Fault, ...]] = (
        Fault(400, "malformed request (code 400)", (ErrorEnvelope,)),
        Fault(401, "token missing or refused (code 401), or bad credentials (1003, 1005)", (ErrorEnvelope,)),
        Fault(403, "not allowed (codes 403, 6004, 6009)", (ErrorEnvelope,)),
        Fault(404, "unknown (codes 404, 3001, 4004, 6002)", (ErrorEnvelope,)),
        Fault(405, "method not allowed (code 405)", (ErrorEnvelope,)),
        Fault(409, "key or name already used (codes 409, 1001, 1002, 4005, 6006, 6007)", (ErrorEnvelope,)),
        Fault(413, "body too large (code 413)", (ErrorEnvelope,)),
        Fault(
            422,
            "business refusal (codes 1004, 2001 to 2002, 3002 to 3004, 4001 to 4006, 5001, 6001 to 6008)",
            (ErrorEnvelope,),
        ),
        Fault(429, "rate limit (code 9001)", (ErrorEnvelope,), RATE_HEADERS),
        Fault(500, "internal error (code 9002)", (ErrorEnvelope,)),
    )

    # -- orders ------------------------------------------------------------------------------------------

    def order(self, order: Order) -> msgspec.Struct:
        """An order in a list."""
        return OrderView.of(order)

    def orders(self, page: PageView[Any]) -> Answer:
        """A page of :meth:`order` rows."""
        return ok(page)

    def order_with_trades(self, order: Order, trades: Sequence[Trade]) -> Answer:
        """GET /orders/{id}."""
        views = [OrderTradeView.of(trade, order.id) for trade in trades]
        return ok(OrderDetailView(order=OrderView.of(order), trades=views))

    def placed(self, placed: Placed) -> Answer:
        """POST /orders, new or replayed."""
        view = PlacedView(
            order=OrderView.of(placed.order),
            trades=[OrderTradeView.of(trade, placed.order.id) for trade in placed.trades],
            netting_result=NettingView.of(placed.netting),
        )
        return ok(view, 200 if placed.replayed else 201)

    def cancelled(self, cancelled: Cancelled) -> Answer:
        """POST /orders/{id}/cancel."""
        return ok(CancelView.of(cancelled))

    def replaced(self, replaced: Replaced) -> Answer:
        """POST /amm/orders/replace."""
        return ok(ReplaceView.of(replaced))

    # -- what somebody has -------------------------------------------------------------------------------

    def balance(self, account: Account) -> Answer:
        """GET /account/balance."""
        return ok(BalanceView.of(account))

    def position(self, stored: Position | None, market: Market, user_id: str, now: datetime) -> Answer:
        """GET /positions/{market_id}; ``stored`` is None where the user never held anything."""
        position = stored or Position.none(user_id, market.id, now)
        return ok(PositionView.of(position, market))

    def positions(self, rows: Sequence[tuple[Position, Market]]) -> Answer:
        """GET /positions."""
        return ok(PositionsView(items=[PositionView.of(position, market) for position, market in rows]))

    def trade_sides(self, trade: Trade, user_id: str) -> Sequence[msgspec.Struct]:
        """What GET /trades lists for one trade of the caller: one item, or both sides of a self-trade."""
        return TradeView.all_of(trade, user_id)

    # -- administration ----------------------------------------------------------------------------------

    def check_supply(self) -> None:
        """Refuse mint and burn where they do not work."""

    def resolution(self, body: ResolveBody | BuiltResolveBody) -> Resolution:
        """The outcome a resolve body names, or a 3004 refusal."""
        named = body.named
        if named not in self.resolutions:
            allowed = ", ".join(self.resolutions)
            raise Refusal(Code.RESOLUTION_INVALID, f"resolution {named!r}, allowed {allowed}")
        return Resolution(named)

    def verified(self, breaches: Sequence[Breach], now: datetime) -> Answer:
        """POST /admin/verify-invariants."""
        checks = []
        for name, rule in CHECKS.items():
            broken = [_told(breach) for breach in breaches if breach.check == name]
            details: dict[str, object] = {"breaches": broken} if broken else {}
            checks.append(CheckView(name=name, description=rule, passed=not broken, details=details))
        return ok(InvariantsView(verified_at=now, all_passed=not breaches, checks=checks))

    # -- no ----------------------------------------------------------------------------------------------

    def refused(self, refusal: Refusal) -> Answer:
        """A refusal under its code and HTTP status."""
        return enveloped_error(
            HTTP_STATUS[refusal.code], refusal.code, refusal.message, refusal.data, refusal.headers
        )

    def unroutable(self, status: int, message: str) -> Answer:
        """What the framework refuses before a route runs: unknown path, wrong method, oversized body."""
        return enveloped_error(status, status, message)

    def broke(self) -> Answer:
        """Something failed that nobody foresaw."""
        return enveloped_error(500, Code.INTERNAL, "internal error")


class AsBuilt(Dialect):
    """What the running platform does instead."""

    limits_rates = False
    serves_streams = False
    controls_amm = False
    envelopes_orders = False
    fee_rule = FeeRule.TAKER_UNLESS_BUYING_NO
    cancels_partly_filled = False
    resolves_halted = False
    resolutions = (Resolution.YES, Resolution.NO)
    shapes = Shapes(
        balance=BuiltBalanceView,
        placed=BuiltPlacedView,
        order=BuiltOrderView,
        orders=PageView[BuiltOrderView],
        replaced=BuiltReplaceView,
        position=BuiltPositionView,
        positions=BuiltPositionsView,
        trades=PageView[BuiltTradeView],
        invariants=BuiltInvariantsView,
        resolve_body=BuiltResolveBody,
    )
    faults = (
        Fault(401, "token missing or refused, or bad credentials (1003, 1005)", (Detail, ErrorEnvelope)),
        Fault(403, "not allowed, or an order of somebody else (6004)", (Detail, ErrorEnvelope)),
        Fault(404, "no such path, or unknown (codes 3001, 4004, 6002)", (Detail, ErrorEnvelope)),
        Fault(405, "method not allowed", (Detail,)),
        Fault(409, "key or name already used (codes 1001, 1002, 4005)", (Detail, ErrorEnvelope)),
        Fault(413, "body too large", (Detail,)),
        Fault(
            422,
            "malformed request, or business refusal (codes 1004, 2001 to 2002, 3002, 3004, 4001 to 4006, "
            "5001, 6001 to 6005)",
            (ValidationDetail, ErrorEnvelope),
        ),
        Fault(500, "internal error, as plain text", ()),
    )

    def order(self, order: Order) -> msgspec.Struct:
        return BuiltOrderView.of(order)

    def orders(self, page: PageView[Any]) -> Answer:
        return bare(page)

    def order_with_trades(self, order: Order, trades: Sequence[Trade]) -> Answer:  # noqa: ARG002
        return bare(BuiltOrderView.of(order))

    def placed(self, placed: Placed) -> Answer:
        trades = () if placed.replayed else placed.trades
        view = BuiltPlacedView(
            order=BuiltOrderView.of(placed.order),
            trades=[BuiltOrderTradeView.of(trade) for trade in trades],
            netting_result=BuiltNettingView.of(placed.netting),
        )
        return bare(view, 201)

    def cancelled(self, cancelled: Cancelled) -> Answer:
        return bare(CancelView.of(cancelled))

    def replaced(self, replaced: Replaced) -> Answer:
        return ok(BuiltReplaceView.of(replaced))

    def balance(self, account: Account) -> Answer:
        return ok(BuiltBalanceView.of(account))

    def position(self, stored: Position | None, market: Market, user_id: str, now: datetime) -> Answer:  # noqa: ARG002
        if stored is None:
            raise Refusal(Code.MARKET_UNKNOWN, f"no position in market {market.id}")
        return ok(BuiltPositionView.of(stored))

    def positions(self, rows: Sequence[tuple[Position, Market]]) -> Answer:
        return ok(BuiltPositionsView(items=[BuiltPositionView.of(position) for position, _ in rows]))

    def trade_sides(self, trade: Trade, user_id: str) -> Sequence[msgspec.Struct]:  # noqa: ARG002
        return [BuiltTradeView.of(trade)]

    def check_supply(self) -> None:
        raise Refusal(Code.INTERNAL, "mint and burn always fail here")

    def verified(self, breaches: Sequence[Breach], now: datetime) -> Answer:  # noqa: ARG002
        violations = [f"{breach.check}: {_told(breach)}" for breach in breaches]
        return ok(BuiltInvariantsView(ok=not breaches, violations=violations))

    def refused(self, refusal: Refusal) -> Answer:
        if refusal.code is Code.INTERNAL:
            return self.broke()
        if refusal.code is Code.BAD_REQUEST:
            return bare(ValidationDetail(detail=[_fault(refusal.message)]), 422)
        if refusal.code is Code.MARKET_STATE_FORBIDS:
            return super().refused(Refusal(Code.MARKET_NOT_ACTIVE, refusal.message))
        if refusal.code < 1000:
            return self.unroutable(refusal.code, refusal.message)
        return super().refused(refusal)

    def unroutable(self, status: int, message: str) -> Answer:
        return bare(Detail(detail=message), status)

    def broke(self) -> Answer:
        return text("Internal Server Error", 500)


DIALECTS: Final[dict[DialectName, Dialect]] = {
    DialectName.CONTRACT: Dialect(),
    DialectName.AS_BUILT: AsBuilt(),
}


def _told(breach: Breach) -> str:
    return f"{breach.market_id or 'all'}: {breach.what}"


def _fault(message: str) -> ValidationFault:
    """``body: Expected `int` - at `$.a[0]``` as the list of keys that lead there, and the rest."""
    part, _, fault = message.partition(": ")
    rule, _, keys = fault.partition(" - at `$")
    return ValidationFault(type="value_error", loc=[part, *_KEY.findall(keys)], msg=rule)
