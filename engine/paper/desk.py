"""What every route needs: the exchange, who is calling, how often they may, and how bodies are read."""

import functools
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec
from litestar import Request
from litestar.datastructures import State as AppState

from engine.paper.config import PaperConfig
from engine.paper.dialect import DIALECTS
from engine.paper.envelope import Answer
from engine.paper.exchange import Exchange
from engine.paper.limits import AMM_ORDERS_PER_MINUTE, PER_MINUTE, FixedWindows, LimitClass, LimitProfile
from engine.paper.model import AMM_USER_ID
from engine.paper.refusal import Code, Refusal
from engine.paper.tokens import Caller, Tokens

Web = Request[Any, Any, AppState]
Handler = Callable[[Web], Awaitable[Answer]]
BodyType = TypeVar("BodyType", bound=msgspec.Struct)

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})


class Desk:
    """The front desk: authenticates, counts, decodes; decides nothing about money."""

    def __init__(
        self, exchange: Exchange, tokens: Tokens, windows: FixedWindows, config: PaperConfig
    ) -> None:
        self.exchange: Final = exchange
        self.tokens: Final = tokens
        self.config: Final = config
        self.dialect: Final = DIALECTS[config.dialect]
        self._limits: Final = config.limits if self.dialect.limits_rates else LimitProfile.OFF
        self._windows: Final = windows
        self._admins: Final = frozenset(config.admin_users)
        self._exempt: Final = frozenset(config.exempt_users)

    def answering(self, handler: Handler) -> Handler:
        """Let a route raise its refusals; they become answers here, not in the framework's slow path."""

        @functools.wraps(handler)
        async def answer(request: Web) -> Answer:
            try:
                return await handler(request)
            except Refusal as refusal:
                return self.dialect.refused(refusal)

        return answer

    # -- who ---------------------------------------------------------------------------------------------

    def caller(self, request: Web) -> Caller:
        """The authenticated caller, or 401."""
        authorization = system_id = None
        for name, value in request.scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"x-amm-system-id":
                system_id = value.decode("latin-1")
        if authorization is None or authorization[:7].lower() != b"bearer ":
            raise Refusal(Code.UNAUTHORIZED, "header Authorization: Bearer <token> is missing")
        caller = self.tokens.read_access(authorization[7:].decode("latin-1"), system_id)
        if caller.user_id not in self.exchange.state.accounts:
            raise Refusal(Code.UNAUTHORIZED, "the token's user does not exist here")
        return caller

    def amm(self, request: Web) -> Caller:
        """The market maker, or 403 for everybody else."""
        caller = self.caller(request)
        if caller.user_id != AMM_USER_ID:
            raise Refusal(Code.FORBIDDEN, "only the market maker may use /amm")
        return caller

    def admin(self, request: Web) -> Caller:
        """An administrator, or 403; counts against the admin limit."""
        caller = self.caller(request)
        if self._username(caller) not in self._admins:
            raise Refusal(Code.FORBIDDEN, "administrators only")
        self._count(LimitClass.ADMIN, caller)
        return caller

    def reader(self, request: Web) -> Caller:
        """Any user, counted against the query limit."""
        caller = self.caller(request)
        self._count(LimitClass.QUERY, caller)
        return caller

    def _username(self, caller: Caller) -> str:
        user = self.exchange.state.users.get(caller.user_id)
        return user.username if user is not None else ""

    # -- how often ---------------------------------------------------------------------------------------

    def count_login(self, request: Web) -> None:
        """Count a login, registration or refresh by address; loopback is exempt."""
        client = request.scope.get("client")
        host = client[0] if client else ""
        if self._limits is LimitProfile.OFF or host in _LOOPBACK:
            return
        self._windows.count(LimitClass.LOGIN, host, PER_MINUTE[LimitClass.LOGIN])

    def count_order(self, caller: Caller) -> None:
        """Count a new order."""
        self._count(LimitClass.ORDER, caller)

    def count_replace(self, market_id: str) -> None:
        """Count a replace of the market maker; by market and apart from its orders."""
        if self._limits is not LimitProfile.OFF:
            self._windows.count(LimitClass.REPLACE, market_id, PER_MINUTE[LimitClass.REPLACE])

    def _count(self, limit_class: LimitClass, caller: Caller) -> None:
        profile = self._limits
        if profile is LimitProfile.OFF:
            return
        limit = PER_MINUTE[limit_class]
        privileged = caller.by_service_token or profile is LimitProfile.CONTRACT
        if caller.user_id == AMM_USER_ID and privileged:
            if limit_class is LimitClass.QUERY:
                return
            if limit_class is LimitClass.ORDER:
                limit = AMM_ORDERS_PER_MINUTE
        if self._exempt and self._username(caller) in self._exempt:
            return
        self._windows.count(limit_class, caller.user_id, limit)


async def read_body(request: Web, decoder: msgspec.json.Decoder[BodyType]) -> BodyType:
    """The request's body by a strict typed decoder, or 400."""
    content = await request.body()
    try:
        body = decoder.decode(content)
        # The typed decoder takes the last of two equal keys; which one was meant is not ours to guess.
        _PLAIN.decode(content.decode())
    except (msgspec.MsgspecError, ValueError) as error:
        raise Refusal(Code.BAD_REQUEST, f"body: {error}") from error
    except RecursionError as error:
        raise Refusal(Code.BAD_REQUEST, "body: nested too deeply") from error
    return body


def _once(members: list[tuple[str, object]]) -> None:
    names = [name for name, _ in members]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"member {repeated!r} appears more than once")


_PLAIN: Final = json.JSONDecoder(object_pairs_hook=_once)
