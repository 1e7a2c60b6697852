"""Routes of sections 2.1 and 2.2: registration, login, balance, deposit, withdrawal, ledger."""

import asyncio
import uuid
from typing import Final

import msgspec
from litestar import get, post
from litestar.handlers import HTTPRouteHandler

from engine.paper.commands import Deposit, RegisterUser, Withdraw
from engine.paper.desk import Desk, Web, read_body
from engine.paper.effects import Posted, Registered
from engine.paper.envelope import Answer, ok
from engine.paper.model import LedgerEntry
from engine.paper.openapi import told
from engine.paper.paging import older_than, page
from engine.paper.refusal import Code, Refusal
from engine.paper.requests import (
    DepositBody,
    LedgerQuery,
    LoginBody,
    RefreshBody,
    RegisterBody,
    WithdrawBody,
    read_entry_types,
    read_query,
)
from engine.paper.tokens import ACCESS_SECONDS, REFRESH_SECONDS, check_password, hash_password
from engine.paper.views import (
    DepositView,
    LedgerView,
    LoginView,
    PageView,
    RefreshView,
    RegisteredView,
    UserView,
    WithdrawView,
    display,
)

_REGISTER: Final = msgspec.json.Decoder(RegisterBody)
_LOGIN: Final = msgspec.json.Decoder(LoginBody)
_REFRESH: Final = msgspec.json.Decoder(RefreshBody)
_DEPOSIT: Final = msgspec.json.Decoder(DepositBody)
_WITHDRAW: Final = msgspec.json.Decoder(WithdrawBody)


def account_routes(desk: Desk) -> list[HTTPRouteHandler]:
    """Handlers of /auth and /account."""
    exchange, state = desk.exchange, desk.exchange.state

    @post("/auth/register", opt=told(RegisteredView, 201, body=RegisterBody, public=True))
    @desk.answering
    async def register(request: Web) -> Answer:
        desk.count_login(request)
        body = await read_body(request, _REGISTER)
        rounds = desk.config.password_hash_rounds
        password_hash = await asyncio.to_thread(hash_password, body.password, rounds)
        result = await exchange.submit(
            RegisterUser(
                user_id=str(uuid.uuid4()),
                username=body.username,
                email=body.email,
                password_hash=password_hash,
            )
        )
        assert isinstance(result, Registered)
        return ok(RegisteredView.of(result.user), 201)

    @post("/auth/login", status_code=200, opt=told(LoginView, body=LoginBody, public=True))
    @desk.answering
    async def login(request: Web) -> Answer:
        desk.count_login(request)
        body = await read_body(request, _LOGIN)
        user = state.users_by_name.get(body.username)
        password_hash = user.password_hash if user is not None else None
        matches = password_hash is not None and await asyncio.to_thread(
            check_password, body.password, password_hash
        )
        if user is None or not matches:
            raise Refusal(Code.BAD_CREDENTIALS, "wrong username or password")
        if not user.is_active:
            raise Refusal(Code.ACCOUNT_DISABLED, "account disabled")
        return ok(
            LoginView(
                access_token=desk.tokens.issue(user.id, "access", ACCESS_SECONDS),
                refresh_token=desk.tokens.issue(user.id, "refresh", REFRESH_SECONDS),
                token_type="Bearer",  # noqa: S106 - a scheme name, no secret
                expires_in=ACCESS_SECONDS,
                user=UserView.of(user),
            )
        )

    @post("/auth/refresh", status_code=200, opt=told(RefreshView, body=RefreshBody, public=True))
    @desk.answering
    async def refresh(request: Web) -> Answer:
        desk.count_login(request)
        body = await read_body(request, _REFRESH)
        user_id = desk.tokens.read_refresh(body.refresh_token)
        if user_id not in state.users:
            raise Refusal(Code.BAD_REFRESH_TOKEN, "the token's user does not exist here")
        access_token = desk.tokens.issue(user_id, "access", ACCESS_SECONDS)
        return ok(RefreshView(access_token=access_token, expires_in=ACCESS_SECONDS))

    @get("/account/balance", opt=told(desk.dialect.shapes.balance))
    @desk.answering
    async def balance(request: Web) -> Answer:
        caller = desk.reader(request)
        return desk.dialect.balance(state.accounts[caller.user_id])

    @post("/account/deposit", status_code=200, opt=told(DepositView, body=DepositBody))
    @desk.answering
    async def deposit(request: Web) -> Answer:
        caller = desk.caller(request)
        body = await read_body(request, _DEPOSIT)
        result = await exchange.submit(Deposit(user_id=caller.user_id, amount_cents=body.amount_cents))
        assert isinstance(result, Posted)
        return ok(
            DepositView(
                available_balance_cents=result.available_cents,
                available_balance_display=display(result.available_cents),
                deposited_cents=result.amount_cents,
                deposited_display=display(result.amount_cents),
                ledger_entry_id=result.ledger_entry_id,
            )
        )

    @post("/account/withdraw", status_code=200, opt=told(WithdrawView, body=WithdrawBody))
    @desk.answering
    async def withdraw(request: Web) -> Answer:
        caller = desk.caller(request)
        body = await read_body(request, _WITHDRAW)
        result = await exchange.submit(Withdraw(user_id=caller.user_id, amount_cents=body.amount_cents))
        assert isinstance(result, Posted)
        return ok(
            WithdrawView(
                available_balance_cents=result.available_cents,
                available_balance_display=display(result.available_cents),
                withdrawn_cents=result.amount_cents,
                withdrawn_display=display(result.amount_cents),
                ledger_entry_id=result.ledger_entry_id,
            )
        )

    @get("/account/ledger", opt=told(PageView[LedgerView], query=LedgerQuery))
    @desk.answering
    async def ledger(request: Web) -> Answer:
        caller = desk.reader(request)
        query = read_query(request.scope["query_string"], LedgerQuery)
        entry_types = read_entry_types(query.entry_type)

        def wanted(entry: LedgerEntry) -> bool:
            return (not entry_types or entry.entry_type in entry_types) and (
                not query.market_id or entry.market_id == query.market_id
            )

        rows = state.ledger_by_user.get(caller.user_id, [])
        newest_first = older_than(rows, lambda entry: entry.id, query.cursor_id())
        found = page(
            filter(wanted, newest_first), query.limit, lambda row: row.id, lambda row: [LedgerView.of(row)]
        )
        return ok(found)

    return [register, login, refresh, balance, deposit, withdraw, ledger]
