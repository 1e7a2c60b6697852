"""Login, token and refresh on the platform (§1.2): one account's session, shared by whoever needs a token.

An access token lives 30 minutes. :meth:`PlatformSession.token` renews it when it is about to end,
:meth:`PlatformSession.renew` when the venue refused it: refresh first, log in when that is refused. A
failure is remembered for a while, so that many connections that lose their token together do not run into
the login limit (5 a minute).
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from engine.config import ConfigError, VenueConfig
from engine.venues.http_pool import HttpPool, LostAnswerError, NotSentError, RequestClass

_TOKEN_LIFE_S_MIN: Final = 120.0  # a token with less left is renewed before use
_RETRY_AFTER_REFUSAL_S: Final = 12.0  # five logins a minute
_RETRY_AFTER_FAILURE_S: Final = 1.0
_BODY_BYTES_MAX: Final = 64 * 1024
_HTTP_OK: Final = 200

_Token = Annotated[str, Meta(min_length=1, max_length=8192)]


class SessionError(Exception):
    """No token can be had at present; the message says why, without secrets."""


class _RefusedError(SessionError):
    """The venue answered, and said no."""


class _Tokens(Struct, frozen=True, kw_only=True):
    access_token: _Token
    expires_in: Annotated[int, Meta(ge=1, le=31_536_000)]
    refresh_token: _Token | None = None  # a refresh brings no new one


class _Envelope(Struct, frozen=True, kw_only=True):
    code: int
    message: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_TOKENS: Final = msgspec.json.Decoder(_Tokens)


def venue_password(venue: VenueConfig) -> str:
    """The account's password from the 0600 file or the environment variable that the configuration names.

    Raises ConfigError.
    """
    if not venue.password_file:
        password = os.environ.get(venue.password_env, "")
        if not password:
            raise ConfigError(f"venue.password_env: the environment has no {venue.password_env}")
        return password
    path = Path(venue.password_file)
    try:
        mode = path.stat().st_mode
        text = path.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"venue.password_file: {path}: {error}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"venue.password_file: {path}: mode {stat.S_IMODE(mode):04o}, must be 0600")
    if not text:
        raise ConfigError(f"venue.password_file: {path}: is empty")
    return text


class PlatformSession:
    """Tokens of one account. ``pool`` stays the caller's; its deadline is that of every request."""

    def __init__(self, pool: HttpPool, *, username: str, password: str) -> None:
        self._pool = pool
        self._credentials = {"username": username, "password": password}
        self._lock = asyncio.Lock()
        self._access = ""
        self._refresh = ""
        self._expires_mono_s = 0.0
        self._renew_mono_s = 0.0
        self._failure: SessionError | None = None
        self._retry_mono_s = 0.0

    async def token(self) -> str:
        """An access token with two minutes (or half of its life) left, or less when it cannot be renewed.

        Raises SessionError when there is none.
        """
        token = self.current()
        if token:
            return token
        token, now = self._access, time.monotonic()
        try:
            return await self.renew(token)
        except SessionError:
            if token and now < self._expires_mono_s:
                return token
            raise

    def current(self) -> str:
        """The access token while it needs no renewal; empty where :meth:`token` has to be asked."""
        return self._access if time.monotonic() < self._renew_mono_s else ""

    @property
    def current_until_mono_ns(self) -> int:
        """Until when :meth:`current` says what it says now, unless it is renewed before."""
        return int(self._renew_mono_s * 1e9)

    async def renew(self, refused: str) -> str:
        """A token other than ``refused``; callers that come together share one renewal.

        Raises SessionError.
        """
        async with self._lock:
            if self._access != refused:
                return self._access
            if self._failure is not None and time.monotonic() < self._retry_mono_s:
                raise self._failure
            try:
                await self._obtain()
            except SessionError as error:
                pause = _RETRY_AFTER_REFUSAL_S if isinstance(error, _RefusedError) else _RETRY_AFTER_FAILURE_S
                self._failure, self._retry_mono_s = error, time.monotonic() + pause
                raise
            self._failure = None
            return self._access

    async def _obtain(self) -> None:
        if self._refresh:
            refresh, self._refresh = self._refresh, ""
            try:
                self._accept(await self._post("refresh", {"refresh_token": refresh}))
                self._refresh = self._refresh or refresh
                return
            except _RefusedError:
                pass
            except SessionError:
                self._refresh = refresh
                raise
        self._accept(await self._post("login", self._credentials))

    def _accept(self, tokens: _Tokens) -> None:
        self._access = tokens.access_token
        self._refresh = tokens.refresh_token or ""
        margin = min(_TOKEN_LIFE_S_MIN, tokens.expires_in / 2)
        self._expires_mono_s = time.monotonic() + tokens.expires_in
        self._renew_mono_s = self._expires_mono_s - margin

    async def _post(self, what: str, body: dict[str, str]) -> _Tokens:
        payload = msgspec.json.encode(body)
        request = (
            b"POST /api/v1/auth/%b HTTP/1.1\r\nHost: %b\r\nAccept: application/json\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        ) % (what.encode(), self._pool.authority, len(payload), payload)
        try:
            reply = await self._pool.send(RequestClass.QUERY, request)
        except (NotSentError, LostAnswerError) as error:
            raise SessionError(f"{what}: {error}") from None
        assert not isinstance(reply, int), "a login has no gate"
        status = reply.status
        if len(reply.body) > _BODY_BYTES_MAX:
            raise SessionError(f"{what}: body above {_BODY_BYTES_MAX} bytes")
        try:
            envelope = _ENVELOPE.decode(reply.body)
            if status == _HTTP_OK and envelope.code == 0:
                return _TOKENS.decode(envelope.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise SessionError(f"{what}: HTTP {status} with an unreadable body") from None
        text = f"{what}: HTTP {status}, code {envelope.code}"
        raise _RefusedError(text) if status < 500 else SessionError(text)
