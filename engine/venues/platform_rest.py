"""The platform's REST API as the gateway calls it: one request, one classified outcome (market-making §6).

Every mutating call ends in exactly one of

* ``Answered``: the venue did it and said what it did;
* ``Refused``: the venue said no; nothing changed (replace 6001 apart, which says what did);
* ``NotSent``: no byte left this process; nothing can have changed;
* ``Unknown``: bytes left and no intelligible answer came. The caller must find out, never guess.

Reads return their value or raise ``ReadError``: a failed read is not an empty answer. A token the venue
refuses is renewed once and the request repeated once; the refused one did nothing. Answers are read in the
contract's dialect and in the as-built one (:mod:`platform_built`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar, cast
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from engine._native import lib
from engine.events import LocalReject
from engine.venues import platform_built as built
from engine.venues import platform_wire as wire
from engine.venues.http_pool import (
    Connection,
    HttpPool,
    LostAnswerError,
    NotSentError,
    Reply,
    RequestClass,
)
from engine.venues.platform_built import Reader
from engine.venues.platform_session import PlatformSession, SessionError
from engine.venues.venue_clock import VenueClock

T = TypeVar("T")
Gate = Callable[[], LocalReject | None]

PAGE_ITEMS: Final = 100
HTTP_UNAUTHORIZED: Final = 401

# platform §1.6
MARKET_UNKNOWN: Final = 3001
NOT_ENOUGH_CASH: Final = 2001
MARKET_NOT_ACTIVE: Final = 3002
ORDER_UNKNOWN: Final = 4004
CLIENT_ID_REUSED: Final = 4005
NOT_CANCELLABLE: Final = 4006
REPLACE_PARTLY_FILLED: Final = 6001
REPLACE_UNKNOWN: Final = 6002
REPLACE_FILLED: Final = 6003
REPLACE_NOT_OURS: Final = 6004
KEY_REUSED: Final = 6006
AMM_RUNNING: Final = 6007
RATE_LIMITED: Final = 9001


class Answered(Struct, Generic[T], frozen=True, kw_only=True, gc=False):
    data: T
    sent_mono_ns: int


class Refused(Struct, frozen=True, kw_only=True, gc=False):
    code: int  # §1.6; the HTTP status where the body names none
    status: int
    message: str
    sent_mono_ns: int
    data: wire.RefusalData | None = None
    retry_after_s: float | None = None
    rate_reset_unix_s: int | None = None


class NotSent(Struct, frozen=True, kw_only=True, gc=False):
    code: LocalReject  # the gate's reason; NOT_READY when no connection or token could be had
    reason: str = ""


class Unknown(Struct, frozen=True, kw_only=True, gc=False):
    reason: str
    sent_mono_ns: int
    status: int = 0  # HTTP status of an answer that said nothing else


Outcome = Answered[T] | Refused | NotSent | Unknown
Answer = Coroutine[Any, Any, Outcome[T]]
"""The outcome, to be awaited, of a call that has begun."""


class _Call(Struct, frozen=True, kw_only=True, gc=False):
    """One request, but for its token."""

    request_class: RequestClass
    method: bytes
    path: str
    body: bytes = b""
    gate: Gate | None = None


class OrderHeads(Struct, frozen=True, kw_only=True, gc=False):
    """Requests for new orders, each up to the number of bytes in its body."""

    token: str
    until_mono_ns: int  # the token is good until then
    place: bytes
    replace: bytes


class SentOrder(Struct, frozen=True, kw_only=True, gc=False):
    """A request for a new order that somebody else has written to a connection, all but ``unwritten``."""

    heads: OrderHeads  # it began with
    connection: Connection
    body: bytes
    unwritten: bytes
    sent_mono_ns: int


class ReadError(Exception):
    """A query that brought no answer, or a refusal; ``code`` is the venue's, 0 when none came."""

    def __init__(self, what: str, reason: str, code: int = 0) -> None:
        super().__init__(f"{what}: {reason}")
        self.code = code


_REFUSAL: Final = msgspec.json.Decoder(wire.RefusalEnvelope)
_REFUSAL_DATA: Final = msgspec.json.Decoder(wire.RefusalData | None)
_CANCELLED: Final = Reader[wire.CancelledOrder](wire.CancelledOrder, bare=True)
_BATCH: Final = Reader[wire.BatchCancelled](wire.BatchCancelled)
_SUPPLIED: Final = Reader[wire.Supplied](wire.Supplied)
_STARTED: Final = Reader[wire.AmmStarted](wire.AmmStarted)
_DEPOSITED: Final = Reader[wire.Deposited](wire.Deposited)
_WITHDRAWN: Final = Reader[wire.Withdrawn](wire.Withdrawn)
_BALANCE: Final = Reader[wire.Balance](wire.Balance)
_LEDGER: Final = Reader[wire.Page[wire.LedgerEntry]](wire.Page[wire.LedgerEntry])
_MARKETS: Final = Reader[wire.Page[wire.MarketSummary]](wire.Page[wire.MarketSummary])
_MARKET: Final = Reader[wire.MarketDetail](wire.MarketDetail)
_ORDERS: Final = Reader[wire.Page[wire.VenueOrder]](wire.Page[wire.VenueOrder], bare=True)
_ORDER: Final = Reader[wire.FoundOrder](
    wire.FoundOrder, wire.VenueOrder, bare=True, as_contract=built.found_order
)
_POSITION: Final = Reader[wire.Position](wire.Position, built.BuiltPosition, as_contract=built.position)
_TRADES: Final = Reader[wire.Page[wire.AccountTrade] | wire.Page[built.BuiltTrade]](
    wire.Page[wire.AccountTrade], wire.Page[built.BuiltTrade]
)
_ENCODER: Final = msgspec.json.Encoder()
_PLACE: Final = "/orders"
_REPLACE: Final = "/amm/orders/replace"


def _path(*segments: str) -> str:
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


def _page_query(cursor: str, filters: dict[str, str]) -> str:
    query = {"limit": str(PAGE_ITEMS), **{key: value for key, value in filters.items() if value}}
    if cursor:
        query["cursor"] = cursor
    return urlencode(query)


class PlatformRest:
    """One account's REST calls over ``pool``, authorised by ``session``; both stay the caller's.

    ``requests`` counts requests handed to the socket, once they are over; ``errors`` those without an
    intelligible answer and 5xx, ``rate_limited`` answers 429. ``clock`` is what the answers' dates say of the
    venue's clock.
    """

    def __init__(self, pool: HttpPool, session: PlatformSession) -> None:
        self.requests = 0
        self.errors = 0
        self.rate_limited = 0
        self.clock: Final = VenueClock()
        self._pool: Final = pool
        self._session: Final = session
        self._token = ""  # that the heads below name
        self._head_after_path = b""
        self._order_heads: OrderHeads | None = None
        self._user_id = ""
        self._built_trades: Final = built.BuiltTrades()
        self._placed: Final = Reader[wire.PlacedOrder](
            wire.PlacedOrder, built.BuiltPlaced, bare=True, as_contract=self._built_trades.placed
        )
        self._replaced: Final = Reader[wire.ReplacedOrder](
            wire.ReplacedOrder, built.BuiltReplaced, as_contract=self._built_trades.replaced
        )
        self._under_way: Final[set[asyncio.Future[None]]] = set()  # new orders whose answer is awaited

    # -- orders

    def claim(self, most: int) -> tuple[OrderHeads | None, list[Connection]]:
        """What new orders that go out now begin with, and up to so many connections for them.

        None and no connections where a token has to be had first. Each connection is to be named in a
        SentOrder or given back to :meth:`unclaim`.
        """
        token = self._session.current()
        if not token:
            return None, []
        if token != self._token or self._order_heads is None:
            self._use_token(token)
            self._order_heads = OrderHeads(
                token=token,
                until_mono_ns=self._session.current_until_mono_ns,
                place=self._head(b"POST", _PLACE),
                replace=self._head(b"POST", _REPLACE),
            )
        return self._order_heads, self._pool.claim(RequestClass.ORDER, most)

    @property
    def orders_at_once(self) -> int:
        """How many requests for new orders, supply and funds may be under way."""
        return self._pool.at_once(RequestClass.ORDER)

    def unclaim(self, connections: list[Connection]) -> None:
        """Gives back what was not needed, the warmest last."""
        for connection in reversed(connections):
            self._pool.ended(connection)

    def placed(self, sent: SentOrder, *, gate: Gate) -> Answer[wire.PlacedOrder]:
        """The answer to a POST /orders that was sent; ``gate`` where it has to be sent again."""
        return self._sent(sent, _PLACE, self._placed, gate)

    def replaced(self, sent: SentOrder, *, gate: Gate) -> Answer[wire.ReplacedOrder]:
        """The answer to a POST /amm/orders/replace that was sent."""
        return self._sent(sent, _REPLACE, self._replaced, gate)

    # begin_*: with a token and a connection at hand the request is in the socket on return, and the answer is
    # still to be awaited; NotSent when the gate objected.

    def begin_place(self, body: bytes, *, gate: Gate) -> Answer[wire.PlacedOrder] | NotSent:
        """POST /orders with a whole body."""
        return self._begin_order(_PLACE, body, self._placed, gate)

    def begin_replace(self, body: bytes, *, gate: Gate) -> Answer[wire.ReplacedOrder] | NotSent:
        """POST /amm/orders/replace with a whole body."""
        return self._begin_order(_REPLACE, body, self._replaced, gate)

    def begin_cancel(self, order_id: str) -> Answer[wire.CancelledOrder]:
        path = _path("orders", order_id, "cancel")
        answer = self._begin(RequestClass.CANCEL, path, b"", _CANCELLED)
        assert not isinstance(answer, NotSent), "a cancel has no gate"
        return answer

    async def place(self, body: bytes, *, gate: Gate) -> Outcome[wire.PlacedOrder]:
        return await _outcome(self.begin_place(body, gate=gate))

    async def replace(self, body: bytes, *, gate: Gate) -> Outcome[wire.ReplacedOrder]:
        return await _outcome(self.begin_replace(body, gate=gate))

    async def cancel(self, order_id: str) -> Outcome[wire.CancelledOrder]:
        return await self.begin_cancel(order_id)

    async def batch_cancel(self, market_id: str, scope: wire.ScopeName) -> Outcome[wire.BatchCancelled]:
        body = _ENCODER.encode(wire.BatchCancelBody(market_id=market_id, cancel_scope=scope))
        return await self._mutate(RequestClass.CANCEL, "/amm/orders/batch-cancel", body, _BATCH)

    def _begin_order(self, path: str, body: bytes, reader: Reader[T], gate: Gate) -> Answer[T] | NotSent:
        answer = self._begin(RequestClass.ORDER, path, body, reader, gate)
        return answer if isinstance(answer, NotSent) else self._watched(answer)

    def _sent(self, sent: SentOrder, path: str, reader: Reader[T], gate: Gate) -> Answer[T]:
        call = _Call(request_class=RequestClass.ORDER, method=b"POST", path=path, body=sent.body, gate=gate)
        begun = self._pool.sent(sent.connection, sent.sent_mono_ns, sent.unwritten)
        return self._watched(self._answered(call, sent.heads.token, begun, reader))

    def _watched(self, answer: Answer[T]) -> Answer[T]:
        """The same answer; until it is here, a new order is under way."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.add(done)
        return self._noted(done, answer)

    async def _noted(self, done: asyncio.Future[None], answer: Answer[T]) -> Outcome[T]:
        try:
            return await answer
        finally:
            self._under_way.discard(done)
            done.set_result(None)

    # -- supply and funds

    async def mint(self, body: wire.SupplyBody, *, gate: Gate | None = None) -> Outcome[wire.Supplied]:
        return await self._mutate(RequestClass.ORDER, "/amm/mint", _ENCODER.encode(body), _SUPPLIED, gate)

    async def burn(self, body: wire.SupplyBody, *, gate: Gate | None = None) -> Outcome[wire.Supplied]:
        return await self._mutate(RequestClass.ORDER, "/amm/burn", _ENCODER.encode(body), _SUPPLIED, gate)

    async def start_amm(self, body: wire.AmmStartBody) -> Outcome[wire.AmmStarted]:
        return await self._mutate(RequestClass.ORDER, "/admin/amm/start", _ENCODER.encode(body), _STARTED)

    async def deposit(self, amount_cents: int) -> Outcome[wire.Deposited]:
        body = _ENCODER.encode(wire.DepositBody(amount_cents=amount_cents))
        return await self._mutate(RequestClass.ORDER, "/account/deposit", body, _DEPOSITED)

    async def withdraw(self, amount_cents: int) -> Outcome[wire.Withdrawn]:
        body = _ENCODER.encode(wire.WithdrawBody(amount_cents=amount_cents))
        return await self._mutate(RequestClass.ORDER, "/account/withdraw", body, _WITHDRAWN)

    # -- reads

    async def balance(self) -> wire.Balance:
        return await self._read("/account/balance", _BALANCE)

    async def ledger(self, market_id: str, cursor: str = "") -> wire.Page[wire.LedgerEntry]:
        query = _page_query(cursor, {"market_id": market_id})
        return await self._read(f"/account/ledger?{query}", _LEDGER)

    async def markets(self, cursor: str = "") -> wire.Page[wire.MarketSummary]:
        return await self._read(f"/markets?{_page_query(cursor, {'status': 'ALL'})}", _MARKETS)

    async def market(self, market_id: str) -> wire.MarketDetail:
        return await self._read(_path("markets", market_id), _MARKET)

    async def position(self, market_id: str) -> wire.Position:
        """Shares held. As-built a position nobody ever had is 3001, like a market that nobody knows."""
        try:
            return await self._read(_path("positions", market_id), _POSITION)
        except ReadError as error:
            if error.code != MARKET_UNKNOWN:
                raise
            await self.market(market_id)
            nothing = wire.Holding(volume=0, cost_sum_cents=0)
            return wire.Position(yes=nothing, no=nothing)

    async def orders(
        self, *, market_id: str = "", live_only: bool = False, cursor: str = ""
    ) -> wire.Page[wire.VenueOrder]:
        """Orders of ours, newest first: of one market or all, live ones or all."""
        status = "OPEN,PARTIALLY_FILLED" if live_only else ""
        query = _page_query(cursor, {"market_id": market_id, "status": status})
        return await self._read(f"/orders?{query}", _ORDERS)

    async def live_orders(self, market_id: str = "") -> list[wire.VenueOrder]:
        """All pages of our live orders, of one market or of the account."""
        found: list[wire.VenueOrder] = []
        cursor = ""
        while True:
            page = await self.orders(market_id=market_id, live_only=True, cursor=cursor)
            found += page.items
            if not page.has_more or not page.next_cursor:
                return found
            cursor = page.next_cursor

    async def order(self, order_id: str) -> wire.VenueOrder | None:
        """One order of ours; None when the venue says it knows none by this id."""
        try:
            return (await self._read(_path("orders", order_id), _ORDER)).order
        except ReadError as error:
            if error.code == ORDER_UNKNOWN:
                return None
            raise

    async def trades(self, *, market_id: str = "", cursor: str = "") -> wire.Page[wire.AccountTrade]:
        """Legs of ours, newest first."""
        query = _page_query(cursor, {"market_id": market_id})
        page = await self._read(f"/trades?{query}", _TRADES)
        if page.items and isinstance(page.items[0], built.BuiltTrade):
            # Who took what is told by the answers to orders: those of orders that may be listed come first.
            if self._under_way:
                await asyncio.wait(set(self._under_way))
            if not self._user_id:
                self._user_id = (await self.balance()).user_id
            return self._built_trades.page(page, self._user_id)
        return cast("wire.Page[wire.AccountTrade]", page)

    # -- transport

    async def _mutate(
        self,
        request_class: RequestClass,
        path: str,
        body: bytes,
        reader: Reader[T],
        gate: Gate | None = None,
    ) -> Outcome[T]:
        return await _outcome(self._begin(request_class, path, body, reader, gate))

    def _begin(
        self,
        request_class: RequestClass,
        path: str,
        body: bytes,
        reader: Reader[T],
        gate: Gate | None = None,
    ) -> Answer[T] | NotSent:
        call = _Call(request_class=request_class, method=b"POST", path=path, body=body, gate=gate)
        token, begun = self._send_now(call)
        if isinstance(begun, int):
            return NotSent(code=LocalReject(begun))
        return self._answered(call, token, begun, reader)

    def _send_now(self, call: _Call) -> tuple[str, asyncio.Future[Reply] | int | None]:
        """Sends if nothing has to be waited for: (token, what the pool has begun or the gate has said)."""
        token = self._session.current()
        if not token:
            return "", None
        return token, self._pool.send_now(call.request_class, self._request(token, call), gate=call.gate)

    async def _answered(
        self, call: _Call, token: str, begun: asyncio.Future[Reply] | None, reader: Reader[T]
    ) -> Outcome[T]:
        try:
            reply = await self._send(call, token, begun)
        except (NotSentError, SessionError) as error:
            return NotSent(code=LocalReject.NOT_READY, reason=str(error))
        except LostAnswerError as error:
            return Unknown(reason=str(error), sent_mono_ns=error.sent_mono_ns)
        if not isinstance(reply, Reply):
            return NotSent(code=LocalReject(reply))
        return self._classify(reply, reader)

    def _classify(self, reply: Reply, reader: Reader[T]) -> Outcome[T]:
        if 200 <= reply.status < 300:
            try:
                return Answered(data=reader.read(reply.body), sent_mono_ns=reply.sent_mono_ns)
            except msgspec.MsgspecError as error:
                self.errors += 1
                return Unknown(reason=f"HTTP {reply.status}: {error}", sent_mono_ns=reply.sent_mono_ns)
        # 408 and redirects say nothing about what happened, and neither does any 5xx
        if not 400 <= reply.status < 500 or reply.status == 408:
            self.errors += 1
            return Unknown(
                reason=f"HTTP {reply.status}", sent_mono_ns=reply.sent_mono_ns, status=reply.status
            )
        if reply.status == 429:
            self.rate_limited += 1
        code, message, data = reply.status, "", None
        try:
            refusal = _REFUSAL.decode(reply.body)
            code, message = refusal.code, refusal.message
            data = _REFUSAL_DATA.decode(refusal.data)
        except msgspec.MsgspecError:
            message = message or "no readable body"
        return Refused(
            code=RATE_LIMITED if reply.status == 429 else code,
            status=reply.status,
            message=message[:200],
            sent_mono_ns=reply.sent_mono_ns,
            data=data,
            retry_after_s=reply.retry_after_s,
            rate_reset_unix_s=reply.rate_reset_unix_s,
        )

    async def _read(self, path: str, reader: Reader[T]) -> T:
        try:
            reply = await self._send(_Call(request_class=RequestClass.QUERY, method=b"GET", path=path))
        except (NotSentError, LostAnswerError, SessionError) as error:
            raise ReadError(path, str(error)) from None
        assert isinstance(reply, Reply)
        if reply.status == 200:
            try:
                return reader.read(reply.body)
            except msgspec.MsgspecError as error:
                self.errors += 1
                raise ReadError(path, f"unreadable answer: {error}") from None
        if reply.status >= 500:
            self.errors += 1
        elif reply.status == 429:
            self.rate_limited += 1
        try:
            refusal = _REFUSAL.decode(reply.body)
        except msgspec.MsgspecError:
            raise ReadError(path, f"HTTP {reply.status}", reply.status) from None
        raise ReadError(path, f"HTTP {reply.status}, code {refusal.code}", refusal.code)

    async def _send(
        self, call: _Call, token: str = "", begun: asyncio.Future[Reply] | None = None
    ) -> Reply | int:
        """The answer to a call, ``begun`` with this token or not at all; asked again with another token where
        the venue refused the first."""
        if begun is None:
            token = await self._session.token()
        reply = await self._answer(call, token, begun)
        if isinstance(reply, Reply) and reply.status == HTTP_UNAUTHORIZED:
            reply = await self._answer(call, await self._session.renew(token), None)
        return reply

    async def _answer(self, call: _Call, token: str, begun: asyncio.Future[Reply] | None) -> Reply | int:
        try:
            if begun is None:
                request = self._request(token, call)
                reply: Reply | int = await self._pool.send(call.request_class, request, gate=call.gate)
            else:
                reply = await begun
                self._pool.before_answer()
        except LostAnswerError:
            self.requests += 1
            self.errors += 1
            raise
        if isinstance(reply, Reply):
            self.requests += 1
            received_unix_ns = lib.unix_now_ns()
            under_way_ns = lib.mono_now_ns() - reply.sent_mono_ns
            self.clock.seen(
                reply.date,
                reply.body,
                sent_unix_ns=received_unix_ns - under_way_ns,
                received_unix_ns=received_unix_ns,
            )
        return reply

    def _request(self, token: str, call: _Call) -> bytes:
        if token != self._token:
            self._use_token(token)
        return b"%b%d\r\n\r\n%b" % (self._head(call.method, call.path), len(call.body), call.body)

    def _use_token(self, token: str) -> None:
        self._token, self._order_heads = token, None
        self._head_after_path = (
            b" HTTP/1.1\r\nHost: " + self._pool.authority + b"\r\nAuthorization: Bearer " + token.encode()
        ) + b"\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: "

    def _head(self, method: bytes, path: str) -> bytes:
        """A request up to the number of bytes in its body."""
        return b"%b /api/v1%b%b" % (method, path.encode(), self._head_after_path)


async def _outcome(begun: Answer[T] | NotSent) -> Outcome[T]:
    return begun if isinstance(begun, NotSent) else await begun
