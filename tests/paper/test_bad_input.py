"""What nobody should send: refused with a 4xx in the envelope, and nothing has changed (contract 1.2 to 1.4).

Each test compares the tables and the journal's end before and after.
"""

import base64
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest

from tests.paper.databases import state_differences, stored_state
from tests.paper.venue import MARKET, Bytes, Person, Venue, open_venue

BODY_BYTES_MAX = 64 * 1024
SECRET = "the-secret-of-these-tests-is-long-enough"
ENVELOPE = {"code", "message", "data", "timestamp", "request_id"}

ORDER = {
    "client_order_id": "bad-input",
    "market_id": MARKET,
    "side": "YES",
    "direction": "BUY",
    "price_cents": 50,
    "quantity": 1,
    "time_in_force": "GTC",
}
SUPPLY = {"market_id": MARKET, "quantity": 1, "idempotency_key": "bad-input"}
# route -> a body that would be accepted by it
ROUTES: dict[str, dict[str, Any]] = {
    "/auth/register": {"username": "nobody", "email": "nobody@example.org", "password": "Secret-123"},
    "/auth/login": {"username": "amm_market_maker", "password": "Market-Maker-1"},
    "/account/deposit": {"amount_cents": 1},
    "/account/withdraw": {"amount_cents": 1},
    "/orders": ORDER,
    "/amm/orders/replace": {"old_order_id": "0", "new_order": ORDER},
    "/amm/orders/batch-cancel": {"market_id": MARKET, "cancel_scope": "ALL"},
    "/amm/mint": SUPPLY,
    "/amm/burn": SUPPLY,
    "/admin/amm/start": {"market_id": MARKET, "initial_budget_cents": 1000, "initial_price_cents": 50},
    "/admin/amm/stop": {"market_id": MARKET, "stop_mode": "GRACEFUL"},
    "/admin/markets": {"id": "MKT-NEW", "title": "New", "max_order_quantity": 10},
    f"/admin/markets/{MARKET}/status": {"status": "SUSPENDED", "reason": "none"},
    f"/admin/markets/{MARKET}/resolve": {"resolution_result": "YES", "settle_delay_ms": 0},
}
INTEGERS = [
    (route, name) for route, body in ROUTES.items() for name, value in body.items() if type(value) is int
] + [("/amm/orders/replace", f"new_order.{name}") for name in ("price_cents", "quantity")]
STRINGS = [
    (route, name) for route, body in ROUTES.items() for name, value in body.items() if type(value) is str
] + [("/amm/orders/replace", f"new_order.{name}") for name, value in ORDER.items() if type(value) is str]
FREE_TEXT = {("/admin/markets", "title"), (f"/admin/markets/{MARKET}/status", "reason")}
"""Members that any character may be in, except one that no table can store."""


@pytest.fixture(scope="module")
def venue() -> Iterator[Venue]:
    with open_venue(jwt_secret=SECRET, admin_users=["operator", "amm_market_maker"], limits="off") as opened:
        opened.amm.post("/account/deposit", {"amount_cents": 100_000})
        yield opened


@pytest.fixture(autouse=True)
def _nothing_changes(venue: Venue) -> Iterator[None]:
    before = stored_state(venue.database)
    end = journal_end(venue)
    yield
    assert state_differences(before, stored_state(venue.database)) == []
    assert journal_end(venue) == end


def journal_end(venue: Venue) -> int:
    """Sequence of the last committed effect."""
    after = 0
    while entries := venue.operator.get(f"/admin/journal?after={after}&limit=10000")["items"]:
        after = entries[-1]["sequence"]
    return after


def refuses(answer: Bytes, *statuses: int) -> None:
    """It was a 4xx in the envelope."""
    envelope = json.loads(answer.body)
    assert answer.status in (statuses or range(400, 500)), (answer.status, envelope)
    assert set(envelope) == ENVELOPE
    assert envelope["code"] != 0
    assert envelope["message"]


def send(
    venue: Venue, route: str, body: bytes, *statuses: int, method: str = "POST", token: str | None = None
) -> None:
    token = venue.amm.token if token is None else token
    refuses(venue.exchange(method, f"/api/v1{route}", body, token=token), *statuses)


def with_member(route: str, name: str, text: str) -> bytes:
    """The route's good body with one member's JSON replaced by ``text``."""
    body = json.loads(json.dumps(ROUTES[route]))
    owner = body
    *path, last = name.split(".")
    for part in path:
        owner = owner[part]
    owner[last] = "@@@"
    return json.dumps(body).replace('"@@@"', text).encode()


NOT_JSON = {
    "nothing": b"",
    "space": b"  ",
    "open": b"{",
    "mixed": b"{]",
    "single quotes": b"{'amount_cents': 1}",
    "trailing comma": b'{"amount_cents": 1,}',
    "trailing text": b'{"amount_cents": 1} 2',
    "comment": b'{"amount_cents": 1 /* one */}',
    "bom": b"\xef\xbb\xbf" + b'{"amount_cents": 1}',
    "utf-16": '{"amount_cents": 1}'.encode("utf-16"),
    "invalid utf-8": b'{"amount_cents": 1, "\xff": 1}',
    "encoded surrogate": b'{"amount_cents": 1, "\xed\xa0\x80": 1}',
    "nul": b'{"amount_cents": 1}\x00',
    "form": b"amount_cents=1",
    "nan": b'{"amount_cents": NaN}',
    "infinity": b'{"amount_cents": Infinity}',
    "minus infinity": b'{"amount_cents": -Infinity}',
    "leading zero": b'{"amount_cents": 01}',
    "plus": b'{"amount_cents": +1}',
    "hex": b'{"amount_cents": 0x1}',
    "control character": b'{"amount_cents": 1, "a\nb": 1}',
    "repeated": b'{"amount_cents": 1, "amount_cents": 2}',
    "repeated and equal": b'{"amount_cents": 1, "amount_cents": 1}',
    "repeated inside": b'{"amount_cents": 1, "extra": {"a": 1, "a": 2}}',
    "deep": b'{"amount_cents": 1, "extra": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "deep objects": b'{"amount_cents": 1, "extra": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
    "digits nobody asked for": b'{"amount_cents": 1, "extra": ' + b"9" * 5_000 + b"}",
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_not_json(venue: Venue, body: bytes) -> None:
    send(venue, "/account/deposit", body, 400)


@pytest.mark.parametrize("route", ROUTES)
def test_other_json(venue: Venue, route: str) -> None:
    for body in (b"[]", b"null", b"1", b'"text"', b"true", b"{}", b"[{}]", b"{", b"[" * 50_000):
        send(venue, route, body, 400)


@pytest.mark.parametrize("route", ROUTES)
def test_oversized(venue: Venue, route: str) -> None:
    good = json.dumps(ROUTES[route])
    padding = " " * (BODY_BYTES_MAX + 1 - len(good))
    for body in (good + padding, good + "[" * 100_000, f'{{"x": "{"x" * BODY_BYTES_MAX}", {good[1:]}'):
        send(venue, route, body.encode(), 413)


def test_oversized_in_chunks(venue: Venue) -> None:
    connection = http.client.HTTPConnection(venue.host, venue.port, timeout=10)
    headers = {"Authorization": f"Bearer {venue.amm.token}", "Transfer-Encoding": "chunked"}
    chunks = iter([b'{"amount_cents": 1', *[b" " * 8192] * 9, b"}"])
    connection.request("POST", "/api/v1/account/deposit", chunks, headers, encode_chunked=True)
    response = connection.getresponse()
    refuses(Bytes(response.status, response.read(), {}), 413)
    connection.close()


@pytest.mark.parametrize(("route", "name"), INTEGERS)
def test_no_integer(venue: Venue, route: str, name: str) -> None:
    # The core refuses prices and quantities out of range; a replace finds its old order missing first.
    no = (400, 404, 422) if name.startswith("new_order") else (400, 422)
    for text in (
        *('"1"', "1.0", "1e0", "1.5", "true", "false", "null", "[1]", "{}", '""', "1e400", "-1e400"),
        *("-1", str(2**63), str(-(2**63) - 1), str(2**64), "9" * 5_000, "-" + "9" * 5_000, "NaN", "1e-400"),
    ):
        send(venue, route, with_member(route, name, text), *no)


@pytest.mark.parametrize(("route", "name"), STRINGS)
def test_no_text(venue: Venue, route: str, name: str) -> None:
    for text in ("1", "1.0", "true", "[]", '["YES"]', "{}", '"\\ud800"', '"\\udc00x"', '"\\x"', '"a'):
        send(venue, route, with_member(route, name, text), 400)


STRANGE = {
    "nul": "a\0b",
    "newline": "a\n",
    "escape": "\x1b[31m",
    "delete": "\x7f",
    "c1": "\x85",
    "right to left": "\u202eabc",
    "zero width": "a\u200bb",
    "bom": "\ufeffa",
    "combining": "e\u0301",
    "fullwidth": "\uff21\uff22\uff23",  # ABC, but not ASCII
    "astral": "\U0001f4b8",
    "noncharacter": "\uffff",
    "long": "a" * 10_001,
    "path": "../../etc/passwd",
    "sql": "x'; DROP TABLE orders; --",
}


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize(("route", "name"), [pair for pair in STRINGS if pair not in FREE_TEXT])
def test_strange_text(venue: Venue, route: str, name: str, text: str) -> None:
    if name.endswith(("client_order_id", "idempotency_key")) and text == STRANGE["path"]:
        return  # visible ASCII without a space is a key
    if (route, name) == ("/auth/register", "password") and text != STRANGE["long"]:
        text = text[:7]  # of such characters too a password needs eight, a capital and a digit
    for escaped in (True, False):
        body = with_member(route, name, json.dumps(text, ensure_ascii=escaped))
        send(venue, route, body, 400, 401, 404, 422)


@pytest.mark.parametrize(("route", "name"), sorted(FREE_TEXT))
def test_text_no_table_can_store(venue: Venue, route: str, name: str) -> None:
    for text in ("a\0b", "\0"):
        send(venue, route, with_member(route, name, json.dumps(text)), 400)


QUERIES = {
    "/orders": ("status=LIVE", "side=MAYBE", "direction=UP", "limit=0", "limit=101", "limit=1.0", "limit=-1"),
    "/trades": ("scenario=GIFT", "limit=", "limit=abc", "limit=%00", "limit=1e1", "limit=%F0%9F%92%B8"),
    "/positions": ("has_volume=maybe", "has_volume=%00"),
    "/account/ledger": ("entry_type=GIFT", "limit=" + "9" * 5_000),
    f"/markets/{MARKET}/orderbook": ("levels=0", "levels=100", "levels=true"),
    "/admin/journal": ("after=-1", "after=1.5", "limit=0", "limit=10001", "after=" + "9" * 30),
}


@pytest.mark.parametrize("path", QUERIES)
def test_query(venue: Venue, path: str) -> None:
    for query in QUERIES[path]:
        send(venue, f"{path}?{query}", b"", 400, method="GET")
    send(venue, f"{path}?" + "&".join(f"a{number}=1" for number in range(100)), b"", 400, method="GET")


def test_harmless_queries(venue: Venue) -> None:
    """An unreadable cursor acts as none, and filters that nothing matches find nothing (1.5)."""
    amm = venue.amm
    whole = amm.get("/orders")
    for cursor in ("%00", "!!!", "e30=", base64.b64encode(b'{"id": 1e400}').decode(), "A" * 5_000):
        assert amm.get(f"/orders?cursor={cursor}") == whole
    for deep in (b"[" * 5_000, b'{"id":' * 1_000):
        assert amm.get(f"/orders?cursor={base64.b64encode(deep).decode()}") == whole
    for text in ("%00", "%F0%9F%92%B8", "%ED%A0%80", "x" * 5_000):
        assert amm.get(f"/orders?market_id={text}")["items"] == []
        assert amm.get(f"/markets?status={text}")["items"] == []


def test_strange_paths(venue: Venue) -> None:
    for part in (
        "%00",
        "%0A",
        "%F0%9F%92%B8",
        "%ED%A0%80",
        "..",
        "%2e%2e%2f",
        "a" * 5_000,
        "%",
        "a%20b",
        "'--",
    ):
        for method, path in (
            ("POST", f"/orders/{part}/cancel"),
            ("GET", f"/orders/{part}"),
            ("GET", f"/markets/{part}"),
            ("GET", f"/markets/{part}/orderbook"),
            ("GET", f"/positions/{part}"),
            ("GET", f"/admin/markets/{part}/stats"),
            ("POST", f"/{part}"),
        ):
            send(venue, path, b"", 404, 405, method=method)


def test_wrong_methods_and_paths(venue: Venue) -> None:
    for route, body in ROUTES.items():
        for method in ("PUT", "DELETE", "PATCH", "TRACE", "BREW"):
            send(venue, route, json.dumps(body).encode(), 400, 404, 405, method=method)
        send(venue, f"{route}/more", json.dumps(body).encode(), 404, 405)
        answer = venue.exchange("POST", route, json.dumps(body).encode(), token=venue.amm.token)
        refuses(answer, 404)  # without /api/v1


class TestTokens:
    """401, whatever is wrong with the token, on every kind of route."""

    def bad_tokens(self, venue: Venue) -> dict[str, str]:
        now = int(time.time())
        good = {"sub": venue.amm.id, "type": "access", "iat": now, "exp": now + 600}

        def signed(secret: str = SECRET, algorithm: str = "HS256", **changes: object) -> str:
            claims = {key: value for key, value in {**good, **changes}.items() if value is not None}
            return jwt.encode(claims, secret, algorithm)

        def part(value: object) -> str:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

        head, body, signature = signed().split(".")
        assert venue.exchange("GET", "/api/v1/account/balance", token=signed()).status == 200
        forged = part({**good, "sub": venue.operator.id})
        return {
            "expired": signed(exp=now - 1),
            "forged": signed("another-secret-that-is-long-enough-too"),
            "other algorithm": signed(algorithm="HS512"),
            "wrong type": signed(type="refresh"),
            "no type": signed(type=None),
            "no expiry": signed(exp=None),
            "no subject": signed(sub=None),
            "no issue": signed(iat=None),
            "unknown user": signed(sub="00000000-0000-4000-a000-0000000000ff"),
            "system account": signed(sub="SYSTEM"),
            "strange subject": signed(sub="\0"),
            "issued tomorrow": signed(iat=now + 86_400),
            "text as expiry": signed(exp="soon"),
            "huge expiry": ".".join((head, part(good)[:-3] + "!!!", signature)),
            "none": ".".join((part({"alg": "none", "typ": "JWT"}), body, "")),
            "none, signed": ".".join((part({"alg": "none", "typ": "JWT"}), body, signature)),
            "None": ".".join((part({"alg": "None", "typ": "JWT"}), body, "")),
            "other claims": ".".join((head, forged, signature)),
            "no signature": f"{head}.{body}.",
            "cut": signed()[:-4],
            "two parts": f"{head}.{body}",
            "four parts": f"{head}.{body}.{signature}.{signature}",
            "empty": "",
            "dots": "..",
            "text": "not-a-token",
            "latin": "t\u00f6ken",
            "long": "a" * 8_000,
        }

    def test_access(self, venue: Venue) -> None:
        for name, token in self.bad_tokens(venue).items():
            for method, route in (("GET", "/account/balance"), *(("POST", route) for route in ROUTES)):
                if route.startswith("/auth/"):
                    continue
                body = json.dumps(ROUTES.get(route)).encode()
                answer = venue.exchange(method, f"/api/v1{route}", body, token=token)
                assert answer.status == 401, (name, route, answer)
                refuses(answer, 401)

    def test_refresh(self, venue: Venue) -> None:
        tokens = self.bad_tokens(venue)
        del tokens["wrong type"], tokens["latin"]
        tokens["access token"] = venue.amm.token
        for name, token in tokens.items():
            body = json.dumps({"refresh_token": token}).encode()
            answer = venue.exchange("POST", "/api/v1/auth/refresh", body)
            assert (answer.status, json.loads(answer.body)["code"]) == (401, 1005), name

    def test_header(self, venue: Venue) -> None:
        token = venue.amm.token
        for value in (
            "",
            "Bearer",
            "Bearer ",
            token,
            f"Basic {token}",
            f"Bearer  {token}",
            f"Bearer {token} x",
        ):
            answer = venue.exchange("GET", "/api/v1/account/balance", headers={"Authorization": value})
            refuses(answer, 401)
        refuses(venue.exchange("GET", "/api/v1/account/balance"), 401)


def test_members_nobody_knows_are_ignored(venue: Venue) -> None:
    """As in any public API; what is known is checked all the same."""
    person: Person = venue.amm
    body = {**ORDER, "market_id": "nowhere", "price": "50", "\0": {"a": [None]}}
    answer = person.call("POST", "/orders", body)
    assert (answer.status, answer.code) == (404, 3001)
