"""Login, renewal and the memory of failures, against a real HTTP server on loopback (contract §1.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from engine.config import ConfigError, VenueConfig
from engine.venues.http_pool import HttpPool
from engine.venues.platform_session import PlatformSession, SessionError, venue_password

CREDENTIALS = {"username": "amm_market_maker", "password": "Correct-Horse-9"}


class AuthServer:
    """Logins and refreshes as a test wants them answered."""

    def __init__(self) -> None:
        self.logins: list[Any] = []
        self.refreshes: list[Any] = []
        self.expires_in = 1800
        self.login_status = 200
        self.refresh_status = 200
        self.raw: bytes | None = None  # answered instead of everything

    async def login(self, request: web.Request) -> web.Response:
        self.logins.append(await request.json())
        data = {"access_token": f"login-{len(self.logins)}", "refresh_token": "again", "token_type": "Bearer"}
        return self._answer(self.login_status, data)

    async def refresh(self, request: web.Request) -> web.Response:
        self.refreshes.append(await request.json())
        return self._answer(self.refresh_status, {"access_token": f"refresh-{len(self.refreshes)}"})

    def _answer(self, status: int, data: dict[str, Any]) -> web.Response:
        if self.raw is not None:
            return web.Response(body=self.raw, content_type="application/json")
        if status != 200:
            return web.json_response({"code": 1003, "message": "no", "data": None}, status=status)
        return web.json_response(
            {"code": 0, "message": "ok", "data": {**data, "expires_in": self.expires_in}}
        )


def with_session(test: Callable[[AuthServer, PlatformSession], Awaitable[None]]) -> None:
    """Runs a test against a fresh server and session."""

    async def run() -> None:
        server = AuthServer()
        app = web.Application()
        app.router.add_post("/api/v1/auth/login", server.login)
        app.router.add_post("/api/v1/auth/refresh", server.refresh)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        pool = HttpPool(f"http://127.0.0.1:{port}", connections=4, timeout_s=5.0)
        try:
            await test(server, PlatformSession(pool, **CREDENTIALS))
        finally:
            pool.close()
            await runner.cleanup()

    asyncio.run(run())


def test_one_login_serves_everybody() -> None:
    async def test(server: AuthServer, session: PlatformSession) -> None:
        tokens = await asyncio.gather(*(session.token() for _ in range(20)))
        assert set(tokens) == {"login-1"}
        assert server.logins == [CREDENTIALS]

    with_session(test)


def test_a_refused_token_is_refreshed_once() -> None:
    async def test(server: AuthServer, session: PlatformSession) -> None:
        refused = await session.token()
        renewed = await asyncio.gather(*(session.renew(refused) for _ in range(20)))
        assert set(renewed) == {"refresh-1"}
        assert await session.renew("refresh-1") == "refresh-2"  # the refresh token is kept
        assert server.refreshes == [{"refresh_token": "again"}] * 2
        assert len(server.logins) == 1

    with_session(test)


def test_a_refused_refresh_means_login() -> None:
    async def test(server: AuthServer, session: PlatformSession) -> None:
        server.refresh_status = 401
        assert await session.renew(await session.token()) == "login-2"

    with_session(test)


def test_a_token_about_to_end_is_renewed_before_use() -> None:
    async def test(server: AuthServer, session: PlatformSession) -> None:
        server.expires_in = 1
        assert await session.token() == "login-1"
        server.expires_in = 1800
        await asyncio.sleep(0.6)  # past half of its life
        assert await session.token() == "refresh-1"

    with_session(test)


def test_a_token_that_still_lives_is_used_when_it_cannot_be_renewed() -> None:
    async def test(server: AuthServer, session: PlatformSession) -> None:
        server.expires_in = 20
        token = await session.token()
        session._renew_mono_s = 0.0  # due
        server.refresh_status = server.login_status = 503
        assert await session.token() == token

    with_session(test)


def test_a_refused_login_is_not_repeated_at_once() -> None:
    async def test(server: AuthServer, session: PlatformSession) -> None:
        server.login_status = 401
        for _ in range(10):
            with pytest.raises(SessionError, match="HTTP 401, code 1003"):
                await session.token()
        assert len(server.logins) == 1

    with_session(test)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not JSON",
        b"[]",
        b'{"code": 0}',
        b'{"code": 0, "data": {"access_token": "", "expires_in": 1800}}',
        b'{"code": 0, "data": {"access_token": "t", "expires_in": 0}}',
        b'{"code": 0, "data": {"access_token": "t", "expires_in": true}}',
        b'{"code": 0, "data": {"access_token": 7, "expires_in": 1800}}',
        b'{"code": true, "data": {"access_token": "t", "expires_in": 1800}}',
        b"[" * 100_000,
        b'{"code": 0, "data": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    ],
    ids=lambda raw: repr(raw[:60]),
)
def test_answers_that_are_no_tokens(raw: bytes) -> None:
    async def test(server: AuthServer, session: PlatformSession) -> None:
        server.raw = raw
        with pytest.raises(SessionError):
            await session.token()

    with_session(test)


def test_nobody_listening() -> None:
    async def run() -> None:
        session = PlatformSession(HttpPool("http://127.0.0.1:1", connections=1, timeout_s=5.0), **CREDENTIALS)
        with pytest.raises(SessionError, match="login: cannot connect") as refused:
            await session.token()
        assert CREDENTIALS["password"] not in str(refused.value)

    asyncio.run(run())


# ---- the password --------------------------------------------------------------------------------


def test_password_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_NAME", "word")
    assert venue_password(VenueConfig(password_env="SOME_NAME")) == "word"
    monkeypatch.delenv("SOME_NAME")
    with pytest.raises(ConfigError, match="SOME_NAME"):
        venue_password(VenueConfig(password_env="SOME_NAME"))


def test_password_from_a_private_file(tmp_path: Any) -> None:
    file = tmp_path / "word"
    file.write_text("from file\n")
    file.chmod(0o600)
    venue = VenueConfig(password_file=str(file))
    assert venue_password(venue) == "from file"
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="0640"):
        venue_password(venue)
    file.chmod(0o600)
    file.write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        venue_password(venue)
    file.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        venue_password(venue)
