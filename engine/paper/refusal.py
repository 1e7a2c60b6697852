"""What the exchange says no with: the contract's error codes and their HTTP status (section 1.6)."""

from collections.abc import Sequence
from enum import IntEnum
from http import HTTPStatus
from typing import Final

import msgspec


class Code(IntEnum):
    """Business error codes; the generic codes equal their HTTP status (D4)."""

    BAD_REQUEST = 400
    UNAUTHORIZED = 401
    FORBIDDEN = 403
    NOT_FOUND = 404
    METHOD_NOT_ALLOWED = 405
    CONFLICT = 409
    BODY_TOO_LARGE = 413
    USERNAME_TAKEN = 1001
    EMAIL_TAKEN = 1002
    BAD_CREDENTIALS = 1003
    ACCOUNT_DISABLED = 1004
    BAD_REFRESH_TOKEN = 1005
    NOT_ENOUGH_CASH = 2001
    ACCOUNT_FROZEN = 2002
    MARKET_UNKNOWN = 3001
    MARKET_NOT_ACTIVE = 3002
    MARKET_STATE_FORBIDS = 3003
    RESOLUTION_INVALID = 3004
    PRICE_OUT_OF_RANGE = 4001
    LIMIT_EXCEEDED = 4002
    SELF_TRADE = 4003
    ORDER_UNKNOWN = 4004
    CLIENT_ORDER_ID_REUSED = 4005
    NOT_CANCELLABLE = 4006
    NOT_ENOUGH_SHARES = 5001
    REPLACE_PARTLY_FILLED = 6001
    REPLACE_UNKNOWN = 6002
    REPLACE_FILLED = 6003
    REPLACE_NOT_OWNER = 6004
    REPLACE_OTHER_MARKET = 6005
    SUPPLY_KEY_REUSED = 6006
    AMM_RUNNING = 6007
    AMM_NOT_RUNNING = 6008
    AMM_NOT_APPROVED = 6009
    RATE_LIMITED = 9001
    INTERNAL = 9002


_EXCEPTIONAL_STATUS: Final = {
    Code.USERNAME_TAKEN: HTTPStatus.CONFLICT,
    Code.EMAIL_TAKEN: HTTPStatus.CONFLICT,
    Code.BAD_CREDENTIALS: HTTPStatus.UNAUTHORIZED,
    Code.BAD_REFRESH_TOKEN: HTTPStatus.UNAUTHORIZED,
    Code.MARKET_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.ORDER_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.CLIENT_ORDER_ID_REUSED: HTTPStatus.CONFLICT,
    Code.REPLACE_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.REPLACE_NOT_OWNER: HTTPStatus.FORBIDDEN,
    Code.SUPPLY_KEY_REUSED: HTTPStatus.CONFLICT,
    Code.AMM_RUNNING: HTTPStatus.CONFLICT,
    Code.AMM_NOT_APPROVED: HTTPStatus.FORBIDDEN,
    Code.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    Code.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}

HTTP_STATUS: Final[dict[Code, int]] = {
    code: int(code if code < 1000 else _EXCEPTIONAL_STATUS.get(code, HTTPStatus.UNPROCESSABLE_ENTITY))
    for code in Code
}
"""Error code -> HTTP status, as section 1.6 lists them; business refusals are 422 unless named above."""


class RefusalData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the replace refusals 6001-6005 and 4006 tell about the old order (section 2.6)."""

    old_order_id: str | None = None
    owner_user_id: str | None = None
    total_filled_quantity: int | None = None
    status: str | None = None
    old_market_id: str | None = None
    new_market_id: str | None = None
    old_order_status: str | None = None
    filled_quantity: int | None = None
    remaining_quantity_cancelled: int | None = None
    unfrozen_amount: int | None = None
    unfrozen_asset_type: str | None = None


class Refusal(Exception):  # noqa: N818 - a refusal is an answer of the business, not an error of the program
    """A request the exchange declines. Raised before any effect exists, so nothing needs undoing."""

    headers: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self, code: Code, message: str, data: RefusalData | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data
