"""Request bodies and queries as typed values (contract section 2).

Bodies are decoded strictly: ``"1"``, ``1.0`` and ``true`` are no integers. Shape is checked here and answered
with 400; ranges that have their own error code (price, quantity) are left to the exchange's core. Unknown
members are ignored, as in any public API.
"""

import base64
import binascii
from typing import Annotated, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec

from engine.paper.commands import OrderTerms
from engine.paper.model import (
    CancelScope,
    Direction,
    EntryType,
    MarketStatus,
    OrderStatus,
    Scenario,
    Side,
    StopMode,
    TimeInForce,
)
from engine.paper.refusal import Code, Refusal

NO_MORE: Final = r"(?![\s\S])"  # unlike $, admits no trailing newline
Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}" + NO_MORE)]
Key = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,64}" + NO_MORE)]
"""1 to 64 visible ASCII characters, no spaces."""
Integer = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
PositiveCents = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
DepositCents = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
PairQuantity = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
PriceCents = Annotated[int, msgspec.Meta(ge=1, le=99)]
SettleDelayMs = Annotated[int, msgspec.Meta(ge=0, le=86_400_000)]
Username = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_]{3,64}" + NO_MORE)]
Email = Annotated[str, msgspec.Meta(pattern=r"^[!-?A-~]{1,64}@[!-?A-~]{1,190}" + NO_MORE)]
NewPassword = Annotated[str, msgspec.Meta(min_length=8, max_length=128)]
AnyPassword = Annotated[str, msgspec.Meta(max_length=128)]
PageLimit = Annotated[int, msgspec.Meta(ge=1, le=100)]
Levels = Annotated[int, msgspec.Meta(ge=1, le=99)]


class RegisterBody(msgspec.Struct, frozen=True, kw_only=True):
    """POST /auth/register."""

    username: Username
    email: Email
    password: NewPassword

    def __post_init__(self) -> None:
        kinds = (str.isupper, str.islower, str.isdigit)
        if not all(any(kind(character) for character in self.password) for kind in kinds):
            raise ValueError("password needs an upper case letter, a lower case letter and a digit")


class LoginBody(msgspec.Struct, frozen=True, kw_only=True):
    """POST /auth/login."""

    username: str
    password: AnyPassword


class RefreshBody(msgspec.Struct, frozen=True, kw_only=True):
    """POST /auth/refresh."""

    refresh_token: str


class DepositBody(msgspec.Struct, frozen=True, kw_only=True):
    """POST /account/deposit."""

    amount_cents: DepositCents


class WithdrawBody(msgspec.Struct, frozen=True, kw_only=True):
    """POST /account/withdraw."""

    amount_cents: PositiveCents


class PlaceOrderBody(msgspec.Struct, frozen=True, kw_only=True):
    """POST /orders, and the new order of a replace."""

    client_order_id: Key
    market_id: Id
    side: Side
    direction: Direction
    price_cents: Integer
    quantity: Integer
    time_in_force: TimeInForce = TimeInForce.GTC

    def terms(self) -> OrderTerms:
        """The same as the core knows it."""
        return OrderTerms(
            client_order_id=self.client_order_id,
            market_id=self.market_id,
            side=self.side,
            direction=self.direction,
            price_cents=self.price_cents,
            quantity=self.quantity,
            time_in_force=self.time_in_force,
        )


class ReplaceBody(msgspec.Struct, frozen=True, kw_only=True):
    """POST /amm/orders/replace."""

    old_order_id: Id
    new_order: PlaceOrderBody


class BatchCancelBody(msgspec.Struct, frozen=True, kw_only=True):
    """POST /amm/orders/batch-cancel."""

    market_id: Id
    cancel_scope: CancelScope = CancelScope.ALL


class SupplyBody(msgspec.Struct, frozen=True, kw_only=True):
    """POST /amm/mint and /amm/burn."""

    market_id: Id
    quantity: PairQuantity
    idempotency_key: Key


class StartAmmBody(msgspec.Struct, frozen=True, kw_only=True):
    """POST /admin/amm/start; price and overrides concern the engine, the exchange only checks their shape."""

    market_id: Id
    initial_budget_cents: PositiveCents
    initial_price_cents: PriceCents
    config_override: dict[str, object] = {}


class StopAmmBody(msgspec.Struct, frozen=True, kw_only=True):
    """POST /admin/amm/stop."""

    market_id: Id
    stop_mode: StopMode = StopMode.GRACEFUL


class ResolveBody(msgspec.Struct, frozen=True, kw_only=True):
    """POST /admin/markets/{id}/resolve; ``outcome`` is the as-built name of ``resolution_result`` (D25)."""

    resolution_result: str | None = None
    outcome: str | None = None
    settle_delay_ms: SettleDelayMs = 0

    def __post_init__(self) -> None:
        if self.resolution_result is None and self.outcome is None:
            raise ValueError("Object missing required field `resolution_result`")

    @property
    def named(self) -> str:
        """The outcome as it was called."""
        named = self.resolution_result if self.resolution_result is not None else self.outcome
        assert named is not None
        return named


class BuiltResolveBody(msgspec.Struct, frozen=True, kw_only=True):
    """POST /admin/markets/{id}/resolve as-built; settlement is never delayed."""

    outcome: str

    @property
    def named(self) -> str:
        """The outcome as it was called."""
        return self.outcome

    @property
    def settle_delay_ms(self) -> int:
        """How long the market stays RESOLVED."""
        return 0


class MarketStatusBody(msgspec.Struct, frozen=True, kw_only=True):
    """POST /admin/markets/{id}/status."""

    status: MarketStatus
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""

    def __post_init__(self) -> None:
        if "\0" in self.reason:
            raise ValueError("Expected text without NUL, which no table can store - at `$.reason`")


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Pagination shared by all lists (1.5)."""

    limit: PageLimit = 20
    cursor: str = ""

    def cursor_id(self) -> str | int | None:
        """The id the page starts below; None for the first page or an unreadable cursor."""
        try:
            decoded = msgspec.json.decode(base64.b64decode(self.cursor, validate=True))
        except (binascii.Error, ValueError, RecursionError):
            return None
        value = decoded.get("id") if isinstance(decoded, dict) else None
        return value if isinstance(value, str | int) and not isinstance(value, bool) else None


class LedgerQuery(PageQuery, frozen=True, kw_only=True):
    """GET /account/ledger; entry_type is a comma-separated list."""

    entry_type: str = ""
    market_id: str = ""


class MarketsQuery(PageQuery, frozen=True, kw_only=True):
    """GET /markets; status ALL means no filter."""

    status: str = MarketStatus.ACTIVE
    category: str = ""


class OrderbookQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /markets/{id}/orderbook."""

    levels: Levels = 10


class OrdersQuery(PageQuery, frozen=True, kw_only=True):
    """GET /orders; status is a comma-separated list."""

    market_id: str = ""
    status: str = ""
    side: Side | None = None
    direction: Direction | None = None


class PositionsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /positions."""

    market_id: str = ""
    has_volume: bool = False


class TradesQuery(PageQuery, frozen=True, kw_only=True):
    """GET /trades; since (a trade id) turns the page around: ascending and strictly newer (D2)."""

    market_id: str = ""
    scenario: Scenario | None = None
    since: str = ""


class JournalQuery(msgspec.Struct, frozen=True, kw_only=True):
    """GET /admin/journal: entries with a sequence above ``after``, whole commits, about ``limit`` of them."""

    after: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000


_INTEGER_NAMES: Final = frozenset({"limit", "levels", "after"})
QueryType = TypeVar("QueryType", bound=msgspec.Struct)


def read_query(query_string: bytes, query_type: type[QueryType]) -> QueryType:
    """Decode a query string; values are text, so here digits do become integers. Raises a 400 refusal."""
    if not query_string:
        return query_type()
    try:
        pairs = dict(parse_qsl(query_string.decode("ascii"), keep_blank_values=True, max_num_fields=64))
        for name in _INTEGER_NAMES.intersection(pairs):
            if not pairs[name].isdecimal():  # msgspec would also take "1.0"
                raise ValueError(f"Expected `int` - at `$.{name}`")
        return msgspec.convert(pairs, query_type, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise Refusal(Code.BAD_REQUEST, f"query: {error}") from error


def read_statuses(csv: str) -> frozenset[OrderStatus]:
    """A comma-separated list of order states; empty for no filter. Raises a 400 refusal."""
    try:
        return frozenset(OrderStatus(name) for name in csv.split(",") if name)
    except ValueError as error:
        raise Refusal(Code.BAD_REQUEST, f"status: {error}") from error


def read_entry_types(csv: str) -> frozenset[EntryType]:
    """A comma-separated list of ledger entry types; empty for no filter. Raises a 400 refusal."""
    try:
        return frozenset(EntryType(name) for name in csv.split(",") if name)
    except ValueError as error:
        raise Refusal(Code.BAD_REQUEST, f"entry_type: {error}") from error
