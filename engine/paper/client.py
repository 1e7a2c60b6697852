"""Typed client of the paper exchange's public REST and WebSocket API, as its participants use it.

One ``ExchangeClient`` is one account: it logs in, renews its token, and gives every call a deadline. It knows
nothing of the exchange beyond the platform contract (sections 1 to 3). The market-making engine does not use
it: the engine's gateway has a client of its own, so that neither can hide the other's mistakes.

Every call either returns, or raises one of

* ``RefusedError``: the exchange answered and said no (contract 1.6). Nothing happened.
* ``RateLimitedError`` (a ``RefusedError``): it says no until ``retry_after_s`` has passed.
* ``UnreachableError``: no answer, or one that is not the exchange's. Whether the call took effect is unknown;
  a placement may be repeated with the same ``client_order_id`` (contract 1.8).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, TypeVar

import aiohttp
import msgspec

Side = Literal["YES", "NO"]
Direction = Literal["BUY", "SELL"]
Role = Literal["MAKER", "TAKER"]

CALL_S_MAX: Final = 5.0
CONNECTIONS_MAX: Final = 32
PAGE_ITEMS_MAX: Final = 100
PAGES_MAX: Final = 1_000
"""Bound of every walk over pages: 100,000 rows."""
DEPOSIT_CENTS_MAX: Final = 10_000_000
ADMIN_CALL_S_MAX: Final = 30.0
"""Resolving pays out every position of a market in one transaction."""

BAD_CREDENTIALS: Final = 1003
NOT_ENOUGH_CASH: Final = 2001
MARKET_UNKNOWN: Final = 3001
MARKET_NOT_ACTIVE: Final = 3002
ORDER_UNKNOWN: Final = 4004
NOT_CANCELLABLE: Final = 4006
NOT_ENOUGH_SHARES: Final = 5001

T = TypeVar("T")


class RefusedError(Exception):
    """The exchange refused a call: ``code`` as in contract 1.6, HTTP ``status``, and its own words."""

    def __init__(self, *, what: str, status: int, code: int, message: str) -> None:
        super().__init__(f"{what}: refused with {status}/{code}: {message}")
        self.status = status
        self.code = code


class RateLimitedError(RefusedError):
    """429: nothing happened, and nothing will before ``retry_after_s``."""

    def __init__(self, *, what: str, message: str, retry_after_s: float) -> None:
        super().__init__(what=what, status=429, code=9001, message=message)
        self.retry_after_s = retry_after_s


class UnreachableError(Exception):
    """No usable answer; the outcome of the call is unknown."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One of the account's orders; prices in the user's own frame (side and direction as placed)."""

    id: str
    original_side: Side
    original_direction: Direction
    original_price_cents: int
    quantity: int
    remaining_quantity: int
    status: str


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """A trade as a placement's answer shows it."""

    trade_id: str
    price_cents: int
    quantity: int
    role: Role


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """The stored order and every trade it has had so far."""

    order: Order
    trades: tuple[Fill, ...]


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """What a cancel took off the book."""

    order_id: str
    remaining_quantity_cancelled: int


class AccountTrade(msgspec.Struct, frozen=True, kw_only=True):
    """One of the account's trades. ``my_side`` is the book side: it says which of the two orders is ours."""

    trade_id: str
    my_side: Direction
    role: Role
    quantity: int
    buy_order_id: str
    sell_order_id: str

    @property
    def my_order_id(self) -> str:
        return self.buy_order_id if self.my_side == "BUY" else self.sell_order_id


class TradePage(msgspec.Struct, frozen=True, kw_only=True):
    """Trades, newest first; ``next_cursor`` walks to strictly older ones."""

    items: tuple[AccountTrade, ...]
    next_cursor: str | None


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of one outcome; ``available`` are not promised to a resting sale."""

    volume: int
    available: int


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """The account's shares in one market."""

    market_id: str
    yes: Holding
    no: Holding


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """A market's state and the limits its orders must keep."""

    id: str
    status: str
    max_order_quantity: int
    max_position_per_user: int
    max_order_amount_cents: int


class TradePush(msgspec.Struct, frozen=True, kw_only=True):
    """A trade of the market, anybody's, as the trades stream announces it: a hint, not an account's truth."""

    trade_id: str


class _Envelope(msgspec.Struct):
    data: msgspec.Raw


class _Refusal(msgspec.Struct):
    code: int
    message: str


class _Tokens(msgspec.Struct):
    access_token: str
    refresh_token: str


class _AccessToken(msgspec.Struct):
    access_token: str


class _Positions(msgspec.Struct):
    items: tuple[Position, ...]


class _OrderPage(msgspec.Struct):
    items: tuple[Order, ...]
    next_cursor: str | None = None


class _Anything(msgspec.Struct):
    """For answers of which only success matters."""


_ENVELOPE_DECODER: Final = msgspec.json.Decoder(_Envelope)
_REFUSAL_DECODER: Final = msgspec.json.Decoder(_Refusal)
_PUSH_DECODER: Final = msgspec.json.Decoder(TradePush)


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Keep-alive connections for all clients of one process."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=4.0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


class ExchangeClient:
    """One account on the exchange at ``url`` (scheme, host and port)."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, username: str, password: str) -> None:
        self.username = username
        self._session = session
        self._base = url.rstrip("/")
        self._password = password
        self._access_token = ""
        self._refresh_token = ""
        self._renewal = asyncio.Lock()

    # --- identity ---

    async def log_in(self) -> None:
        """Log in. ``RefusedError`` with ``BAD_CREDENTIALS``: no such account, or not its password."""
        body = {"username": self.username, "password": self._password}
        tokens = await self._send("POST", "auth/login", _Tokens, body=body)
        self._access_token, self._refresh_token = tokens.access_token, tokens.refresh_token

    async def register(self) -> None:
        """Create the account, empty. It still has to log in."""
        body = {
            "username": self.username,
            "email": f"{self.username}@participants.internal",
            "password": self._password,
        }
        await self._send("POST", "auth/register", _Anything, body=body)

    # --- account ---

    async def deposit(self, amount_cents: int) -> None:
        """Add cash, in as many deposits as the exchange's limit per deposit needs."""
        while amount_cents > 0:
            part_cents = min(amount_cents, DEPOSIT_CENTS_MAX)
            await self._call("POST", "account/deposit", _Anything, body={"amount_cents": part_cents})
            amount_cents -= part_cents

    async def positions(self) -> tuple[Position, ...]:
        """Positions in every market where the account holds shares."""
        answer = await self._call("GET", "positions", _Positions, query={"has_volume": "true"})
        return answer.items

    async def trades(self, market_id: str, *, cursor: str | None = None, limit: int = 20) -> TradePage:
        """A page of the account's trades in one market, newest first."""
        query = {"market_id": market_id, "limit": str(limit)}
        if cursor is not None:
            query["cursor"] = cursor
        return await self._call("GET", "trades", TradePage, query=query)

    # --- orders ---

    async def place(
        self,
        market_id: str,
        *,
        side: Side,
        direction: Direction,
        price_cents: int,
        quantity: int,
        client_order_id: str,
        immediate: bool = False,
    ) -> Placed:
        """Place a limit order, resting (GTC) or ``immediate`` (IOC)."""
        body = {
            "client_order_id": client_order_id,
            "market_id": market_id,
            "side": side,
            "direction": direction,
            "price_cents": price_cents,
            "quantity": quantity,
            "time_in_force": "IOC" if immediate else "GTC",
        }
        return await self._call("POST", "orders", Placed, body=body)

    async def cancel(self, order_id: str) -> Cancelled:
        """Cancel an order; ``NOT_CANCELLABLE`` when it is filled or cancelled already."""
        return await self._call("POST", f"orders/{order_id}/cancel", Cancelled, body={})

    async def live_orders(self, market_id: str | None = None) -> list[Order]:
        """Every order of the account that may still trade, in one market or in all."""
        query = {"status": "OPEN,PARTIALLY_FILLED", "limit": str(PAGE_ITEMS_MAX)}
        if market_id is not None:
            query["market_id"] = market_id
        orders: list[Order] = []
        for _ in range(PAGES_MAX):
            page = await self._call("GET", "orders", _OrderPage, query=query)
            orders.extend(page.items)
            if page.next_cursor is None:
                return orders
            query["cursor"] = page.next_cursor
        raise UnreachableError(f"GET orders: more than {PAGES_MAX} pages of live orders")

    # --- markets ---

    async def market(self, market_id: str) -> Market:
        """State and limits of one market."""
        return await self._call("GET", f"markets/{market_id}", Market)

    @asynccontextmanager
    async def trade_pushes(self, market_id: str) -> AsyncIterator[AsyncIterator[TradePush]]:
        """The market's trades stream. The iterator ends when the exchange closes it."""
        url = f"{self._base}/ws/v1/trades/{market_id}".replace("http", "ws", 1)
        query = {"token": self._access_token}
        try:
            async with asyncio.timeout(CALL_S_MAX):
                stream = await self._session.ws_connect(url, params=query, heartbeat=CALL_S_MAX)
            async with stream:
                yield _pushes(stream)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(f"{url}: {_words(error)}") from error

    # --- the operator's calls (admin role) ---

    async def create_market(self, columns: dict[str, str | int]) -> None:
        """Create a market (columns of contract section 6)."""
        await self._call("POST", "admin/markets", _Anything, body=columns, deadline_s=ADMIN_CALL_S_MAX)

    async def set_market_status(self, market_id: str, status: str, *, reason: str) -> None:
        """Move a market to ACTIVE, SUSPENDED or HALTED."""
        body = {"status": status, "reason": reason}
        path = f"admin/markets/{market_id}/status"
        await self._call("POST", path, _Anything, body=body, deadline_s=ADMIN_CALL_S_MAX)

    async def resolve_market(self, market_id: str, result: Literal["YES", "NO", "VOID"]) -> None:
        """Resolve and settle a market."""
        body = {"resolution_result": result}
        path = f"admin/markets/{market_id}/resolve"
        await self._call("POST", path, _Anything, body=body, deadline_s=ADMIN_CALL_S_MAX)

    # --- transport ---

    async def _call(
        self,
        method: str,
        path: str,
        shape: type[T],
        *,
        body: dict[str, Any] | None = None,
        query: dict[str, str] | None = None,
        deadline_s: float = CALL_S_MAX,
    ) -> T:
        """An authenticated call: on 401 renew the token and repeat once (contract 1.2)."""
        token = self._access_token
        try:
            return await self._send(method, path, shape, body=body, query=query, deadline_s=deadline_s)
        except RefusedError as refusal:
            if refusal.status != 401:
                raise
        await self._renew(refused_token=token)
        return await self._send(method, path, shape, body=body, query=query, deadline_s=deadline_s)

    async def _renew(self, *, refused_token: str) -> None:
        async with self._renewal:
            if self._access_token != refused_token:
                return  # another call renewed it while this one waited
            if self._refresh_token:
                try:
                    body = {"refresh_token": self._refresh_token}
                    answer = await self._send("POST", "auth/refresh", _AccessToken, body=body)
                except RateLimitedError:
                    raise
                except RefusedError:
                    self._refresh_token = ""
                else:
                    self._access_token = answer.access_token
                    return
            await self.log_in()

    async def _send(
        self,
        method: str,
        path: str,
        shape: type[T],
        *,
        body: dict[str, Any] | None = None,
        query: dict[str, str] | None = None,
        deadline_s: float = CALL_S_MAX,
    ) -> T:
        what = f"{method} {path}"
        headers = {}
        if self._access_token and not path.startswith("auth/"):
            headers["Authorization"] = f"Bearer {self._access_token}"
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = msgspec.json.encode(body)
        try:
            async with self._session.request(
                method,
                f"{self._base}/api/v1/{path}",
                params=query,
                data=data,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=deadline_s),
            ) as response:
                raw = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(f"{what}: {_words(error)}") from error
        try:
            if response.status < 300:
                return msgspec.json.decode(_ENVELOPE_DECODER.decode(raw).data, type=shape)
            refusal = _REFUSAL_DECODER.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnreachableError(
                f"{what}: status {response.status} with a foreign body: {error}"
            ) from error
        if response.status == 429:
            raise RateLimitedError(
                what=what,
                message=refusal.message,
                retry_after_s=_seconds(response.headers.get("Retry-After")),
            )
        if response.status >= 500:
            raise UnreachableError(f"{what}: {response.status}/{refusal.code}: {refusal.message}")
        raise RefusedError(what=what, status=response.status, code=refusal.code, message=refusal.message)


async def _pushes(stream: aiohttp.ClientWebSocketResponse) -> AsyncIterator[TradePush]:
    async for message in stream:
        if message.type is aiohttp.WSMsgType.TEXT:
            try:
                push = _PUSH_DECODER.decode(message.data)
            except msgspec.DecodeError as error:
                raise UnreachableError(f"trades stream: foreign frame: {error}") from error
            yield push


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _seconds(header: str | None) -> float:
    """``Retry-After`` as seconds; a missing or unreadable one is one second."""
    try:
        return min(max(float(header or 1), 0.1), 60.0)
    except ValueError:
        return 1.0
