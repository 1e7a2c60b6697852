"""Who is calling: passwords, HS256 tokens and the market maker's service token (contract section 1.2)."""

import base64
import hashlib
import hmac
import time
from typing import Final

import bcrypt
import jwt
import msgspec

from engine.paper.model import AMM_SYSTEM_ID, AMM_USER_ID
from engine.paper.refusal import Code, Refusal

ACCESS_SECONDS: Final = 1800
REFRESH_SECONDS: Final = 7 * 86_400
SERVICE_SECONDS: Final = 86_400
_ALGORITHM: Final = "HS256"
_CACHED_TOKENS_MAX: Final = 4096


class Caller(msgspec.Struct, frozen=True, gc=False):
    """An authenticated user; ``by_service_token`` tells the market maker's two ways in apart."""

    user_id: str
    by_service_token: bool


def hash_password(password: str, rounds: int) -> bytes:
    """Salted hash of a password of any length; takes tens of milliseconds on purpose."""
    return bcrypt.hashpw(_digest(password), bcrypt.gensalt(rounds))


def check_password(password: str, password_hash: bytes) -> bool:
    """Whether the password is the one the hash was made of."""
    return bcrypt.checkpw(_digest(password), password_hash)


def _digest(password: str) -> bytes:
    # bcrypt reads at most 72 bytes; a digest lets all 128 characters count.
    return base64.b64encode(hashlib.sha256(password.encode()).digest())


class Tokens:
    """Issues and reads tokens. ``service_token`` is valid for 24 hours from construction (D1)."""

    def __init__(self, secret: str, service_token: str | None) -> None:
        self._secret: Final = secret
        self._service_token: Final = service_token.encode() if service_token else None
        self._service_until_unix: Final = time.time() + SERVICE_SECONDS
        # token -> (expiry, caller). A token read once is known until it expires; checking a signature per
        # request would cost more than the request.
        self._read: Final[dict[str, tuple[float, Caller]]] = {}

    def issue(self, user_id: str, kind: str, lifetime_seconds: int) -> str:
        """A signed token of ``kind`` access or refresh."""
        now = int(time.time())
        claims = {"sub": user_id, "type": kind, "iat": now, "exp": now + lifetime_seconds}
        return jwt.encode(claims, self._secret, _ALGORITHM)

    def read_access(self, token: str, system_id: str | None) -> Caller:
        """The caller behind a bearer token, or a 401 refusal.

        ``system_id`` is the header X-AMM-System-Id, which the service token needs beside it.
        """
        cached = self._read.get(token)
        if cached is not None and time.time() < cached[0]:
            return cached[1]
        if self._is_service_token(token):
            if system_id != AMM_SYSTEM_ID:
                raise Refusal(
                    Code.UNAUTHORIZED, f"the service token needs the header X-AMM-System-Id: {AMM_SYSTEM_ID}"
                )
            return Caller(AMM_USER_ID, by_service_token=True)
        user_id, expires_unix = self._read_claims(token, "access", Code.UNAUTHORIZED)
        caller = Caller(user_id, by_service_token=False)
        if len(self._read) >= _CACHED_TOKENS_MAX:
            self._read.clear()
        self._read[token] = (expires_unix, caller)
        return caller

    def read_refresh(self, token: str) -> str:
        """The user id behind a refresh token, or a 1005 refusal."""
        return self._read_claims(token, "refresh", Code.BAD_REFRESH_TOKEN)[0]

    def _is_service_token(self, token: str) -> bool:
        return (
            self._service_token is not None
            and time.time() < self._service_until_unix
            and hmac.compare_digest(token.encode(), self._service_token)
        )

    def _read_claims(self, token: str, kind: str, code: Code) -> tuple[str, float]:
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                options={"require": ["sub", "type", "iat", "exp"]},
            )
        except jwt.PyJWTError as error:
            raise Refusal(code, f"token refused: {error}") from error
        if claims["type"] != kind:
            raise Refusal(code, f"token of type {claims['type']!r}, {kind} token required")
        return str(claims["sub"]), float(claims["exp"])
