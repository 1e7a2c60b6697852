"""Envelope, error codes, pagination, idempotency and admin routes (contract sections 1 and 2)."""

import http.client
import itertools
import json
import re
import time
from datetime import UTC, datetime

import jwt
import pytest

from engine.paper.draft import Draft
from engine.paper.model import AMM_USER_ID, Holding, Side
from engine.paper.refusal import HTTP_STATUS, Code
from tests.paper.venue import (
    AMM_PASSWORD,
    MARKET,
    OTHER_MARKET,
    SERVICE_TOKEN,
    Person,
    Reply,
    Venue,
    open_server,
    open_venue,
)

_names = (f"person_{number}" for number in itertools.count())


@pytest.fixture
def anna(shared: Venue) -> Person:
    return shared.person(next(_names))


@pytest.fixture
def bert(shared: Venue) -> Person:
    return shared.person(next(_names))


@pytest.fixture(autouse=True)
def _clean_books(request: pytest.FixtureRequest) -> None:
    """Live orders of earlier tests would trade with this one's."""
    if "shared" not in request.fixturenames:
        return
    shared: Venue = request.getfixturevalue("shared")
    state = shared.server.exchange.state
    tokens = {}
    for order in [row for row in state.orders.values() if row.is_live]:
        if order.user_id not in tokens:
            name = state.users[order.user_id].username
            password = AMM_PASSWORD if order.user_id == AMM_USER_ID else "Secret-123"
            tokens[order.user_id] = shared.login(name, password)
        assert tokens[order.user_id].cancel(order.id).status == 200


def refused(reply: Reply) -> tuple[int, int]:
    assert reply.envelope["message"]
    return reply.status, reply.code


class TestEnvelope:
    def test_success(self, shared: Venue) -> None:
        reply = shared.call("GET", "/health", prefix="")
        assert (reply.status, reply.code, reply.envelope["message"]) == (200, 0, "success")
        assert re.fullmatch(r"req_[0-9a-f]{12}", reply.envelope["request_id"])
        sent = datetime.fromisoformat(reply.envelope["timestamp"])
        assert abs((datetime.now(UTC) - sent).total_seconds()) < 60

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/nothing", 404),
            ("DELETE", "/orders", 405),
            ("GET", "/auth/login", 405),
            ("GET", "/orders/no-such-order/more", 404),
        ],
    )
    def test_unknown_routes(self, shared: Venue, anna: Person, method: str, path: str, status: int) -> None:
        assert refused(anna.call(method, path)) == (status, status)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'"text"',
            b"\xff\xfe",
            b'{"amount_cents": 1',
            b'{"amount_cents": 1}}',
            b'{"amount_cents": "1"}',
            b'{"amount_cents": 1.0}',
            b'{"amount_cents": 1e2}',
            b'{"amount_cents": true}',
            b'{"amount_cents": null}',
            b'{"amount_cents": 0}',
            b'{"amount_cents": -5}',
            b'{"amount_cents": 10000001}',
            b'{"amount_cents": 99999999999999999999999}',
            b'{"amount_cents": NaN}',
            b"{}",
            b'{"amount": 5}',
        ],
    )
    def test_bad_bodies(self, shared: Venue, anna: Person, raw: bytes) -> None:
        reply = shared.call("POST", "/account/deposit", raw=raw, token=anna.token)
        assert refused(reply) == (400, 400)
        assert anna.cash == (1_000_000, 0)

    def test_oversized_body(self, shared: Venue, anna: Person) -> None:
        connection = http.client.HTTPConnection(shared.host, shared.port, timeout=10)
        body = b'{"amount_cents": 5, "x": "' + b"x" * 70_000 + b'"}'
        headers = {"Authorization": f"Bearer {anna.token}", "Content-Type": "application/json"}
        connection.request("POST", "/api/v1/account/deposit", body, headers)
        response = connection.getresponse()
        envelope = json.loads(response.read())
        assert (response.status, envelope["code"], envelope["data"]) == (413, 413, None)
        connection.close()
        assert anna.cash == (1_000_000, 0)

    @pytest.mark.parametrize(
        ("member", "value"),
        [
            ("price_cents", "50"),
            ("price_cents", 50.0),
            ("price_cents", True),
            ("quantity", "1"),
            ("quantity", 1.5),
            ("side", "yes"),
            ("side", "MAYBE"),
            ("direction", "HOLD"),
            ("time_in_force", "FOK"),
            ("client_order_id", ""),
            ("client_order_id", "a b"),
            ("client_order_id", "tab\t"),
            ("client_order_id", "line\n"),
            ("client_order_id", "nul\x00"),
            ("client_order_id", "ünïcode"),
            ("client_order_id", "x" * 65),
            ("client_order_id", 7),
            ("market_id", "../" + MARKET),
            ("market_id", "x" * 65),
        ],
    )
    def test_bad_order_members(self, anna: Person, member: str, value: object) -> None:
        body = {**anna.terms("BUY YES 50x1"), member: value}
        assert refused(anna.call("POST", "/orders", body)) == (400, 400)
        assert anna.get("/orders")["items"] == []

    def test_unknown_members_are_ignored(self, anna: Person) -> None:
        body = {**anna.terms("BUY YES 50x1"), "hint": "none"}
        assert anna.call("POST", "/orders", body).status == 201

    def test_every_code_has_its_status(self) -> None:
        assert {code: HTTP_STATUS[code] for code in Code if code < 1000} == {
            code: int(code) for code in Code if code < 1000
        }
        assert HTTP_STATUS[Code.NOT_ENOUGH_CASH] == 422
        assert set(HTTP_STATUS) == set(Code)


class TestIdentity:
    def body(self, **changes: object) -> dict[str, object]:
        name = next(_names)
        return {"username": name, "email": f"{name}@example.org", "password": "Secret-123", **changes}

    def test_register_login_refresh(self, shared: Venue) -> None:
        body = self.body()
        registered = shared.call("POST", "/auth/register", body)
        assert registered.status == 201
        assert set(registered.data) == {"user_id", "username", "email", "created_at"}
        login = shared.call(
            "POST", "/auth/login", {"username": body["username"], "password": body["password"]}
        ).data
        assert (login["token_type"], login["expires_in"]) == ("Bearer", 1800)
        assert login["user"] == {key: registered.data[key] for key in ("user_id", "username", "email")}
        claims = jwt.decode(login["access_token"], options={"verify_signature": False})
        assert (claims["sub"], claims["type"]) == (registered.data["user_id"], "access")
        assert claims["exp"] - claims["iat"] == 1800
        refreshed = shared.call("POST", "/auth/refresh", {"refresh_token": login["refresh_token"]})
        assert set(refreshed.data) == {"access_token", "expires_in"}
        balance = shared.call("GET", "/account/balance", token=refreshed.data["access_token"]).data
        assert (balance["total_balance_cents"], balance["auto_netting_enabled"]) == (0, True)

    def test_taken(self, shared: Venue) -> None:
        body = self.body()
        shared.call("POST", "/auth/register", body)
        assert refused(shared.call("POST", "/auth/register", self.body(username=body["username"]))) == (
            409,
            1001,
        )
        email = str(body["email"]).upper()
        assert refused(shared.call("POST", "/auth/register", self.body(email=email))) == (409, 1002)

    @pytest.mark.parametrize(
        "changes",
        [
            {"username": "ab"},
            {"username": "has space"},
            {"username": "x" * 65},
            {"username": "name\n"},
            {"email": "nobody"},
            {"email": "a@b@c"},
            {"password": "Short-1"},
            {"password": "alllower-1"},
            {"password": "ALLUPPER-1"},
            {"password": "No-digits-here"},
            {"password": "Aa1" + "x" * 126},
            {"password": 12345678},
        ],
    )
    def test_bad_registrations(self, shared: Venue, changes: dict[str, object]) -> None:
        assert refused(shared.call("POST", "/auth/register", self.body(**changes))) == (400, 400)

    def test_a_long_password_counts_to_its_end(self, shared: Venue) -> None:
        body = self.body(password="Aa1" + "x" * 125)
        assert shared.call("POST", "/auth/register", body).status == 201
        wrong = {"username": body["username"], "password": str(body["password"])[:-1] + "y"}
        assert refused(shared.call("POST", "/auth/login", wrong)) == (401, 1003)

    def test_bad_credentials_look_alike(self, shared: Venue, anna: Person) -> None:
        replies = [
            shared.call("POST", "/auth/login", {"username": name, "password": "Wrong-1234"})
            for name in (anna.name, "nobody_here")
        ]
        assert [refused(reply) for reply in replies] == [(401, 1003), (401, 1003)]
        assert replies[0].envelope["message"] == replies[1].envelope["message"]

    def test_bad_tokens(self, shared: Venue, anna: Person) -> None:
        login = {"username": anna.name, "password": "Secret-123"}
        tokens = shared.call("POST", "/auth/login", login).data
        forged = jwt.encode(jwt.decode(anna.token, options={"verify_signature": False}), "x" * 32)
        unsigned = jwt.encode(
            {"sub": anna.id, "type": "access", "iat": 0, "exp": 2**40}, None, algorithm="none"
        )
        for token in (tokens["refresh_token"], forged, unsigned, "", "a.b.c", anna.token[:-2], "é"):
            headers = {"Authorization": f"Bearer {token}".encode().decode("latin-1")}
            assert refused(shared.call("GET", "/account/balance", headers=headers)) == (401, 401)
        assert refused(shared.call("GET", "/account/balance")) == (401, 401)
        assert refused(shared.call("GET", "/account/balance", headers={"Authorization": "Basic x"})) == (
            401,
            401,
        )
        for token in (tokens["access_token"], "", "x"):
            assert refused(shared.call("POST", "/auth/refresh", {"refresh_token": token})) == (401, 1005)

    def test_expired_token(self) -> None:
        from engine.paper.refusal import Refusal
        from engine.paper.tokens import Tokens

        tokens = Tokens("s" * 32, None)
        stale = tokens.issue("someone", "access", -1)
        with pytest.raises(Refusal, match="expired") as refusal:
            tokens.read_access(stale, None)
        assert refusal.value.code is Code.UNAUTHORIZED
        fresh = tokens.issue("someone", "access", 1)
        assert tokens.read_access(fresh, None).user_id == "someone"
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:  # a token read before must not outlive its expiry
            try:
                tokens.read_access(fresh, None)
            except Refusal:
                return
            time.sleep(0.05)
        pytest.fail("token is still read after its expiry")

    def test_service_token_needs_its_header(self, shared: Venue) -> None:
        path = "/account/balance"
        assert refused(shared.call("GET", path, token=SERVICE_TOKEN)) == (401, 401)
        headers = {"X-AMM-System-Id": "AMM_SYSTEM_001"}
        balance = shared.call("GET", path, token=SERVICE_TOKEN, headers=headers)
        assert (balance.data["user_id"], balance.data["auto_netting_enabled"]) == (AMM_USER_ID, False)
        headers = {"X-AMM-System-Id": "SOMEBODY"}
        assert refused(shared.call("GET", path, token=SERVICE_TOKEN, headers=headers)) == (401, 401)

    def test_market_maker_has_no_password_unless_configured(self) -> None:
        from engine.paper.config import PaperConfig, Secrets

        nothing = Secrets(amm_password=None, operator_password=None, jwt_secret=None, service_token=None)
        with open_server(PaperConfig(), nothing) as server:
            state = server.exchange.state
        assert state.users[AMM_USER_ID].password_hash is None
        assert set(state.users) == {AMM_USER_ID}
        assert set(state.markets) == {
            "MKT-BTC-100K-2026",
            "MKT-ETH-10K-2026",
            "MKT-FED-RATE-CUT-2026Q2",
        }


class TestAccount:
    def test_withdraw_and_ledger(self, shared: Venue, anna: Person) -> None:
        data = anna.post("/account/withdraw", {"amount_cents": 250})
        assert (data["withdrawn_cents"], data["withdrawn_display"]) == (250, "$2.50")
        assert data["available_balance_display"] == "$9,997.50"
        assert refused(anna.call("POST", "/account/withdraw", {"amount_cents": 10**9})) == (422, 2001)
        newest, oldest = anna.ledger()
        assert newest["id"] == data["ledger_entry_id"]
        assert (newest["entry_type"], newest["amount_cents"], newest["amount_display"]) == (
            "WITHDRAW",
            -250,
            "-$2.50",
        )
        assert (oldest["entry_type"], oldest["balance_after_cents"]) == ("DEPOSIT", 1_000_000)
        assert [row["id"] for row in anna.ledger("entry_type=WITHDRAW")] == [newest["id"]]
        assert len(anna.ledger("entry_type=WITHDRAW,DEPOSIT")) == 2
        assert refused(anna.call("GET", "/account/ledger?entry_type=NONSENSE")) == (400, 400)

    def test_rows_add_up_to_the_balance(self, shared: Venue, anna: Person, bert: Person) -> None:
        anna.place("BUY YES 60x100")
        bert.place("BUY NO 45x70")
        anna.place("BUY YES 10x10", OTHER_MARKET)
        rows = anna.ledger()
        assert sum(row["amount_cents"] for row in rows) == anna.cash.available
        by_type = [row["entry_type"] for row in reversed(rows)]
        assert by_type == [
            "DEPOSIT",
            "ORDER_FREEZE",
            "ORDER_UNFREEZE",
            "MINT_COST",
            "FEE",
            "ORDER_FREEZE",
        ]
        one, other = (anna.ledger(f"market_id={market}") for market in (MARKET, OTHER_MARKET))
        assert len(one) + len(other) + 1 == len(rows)
        assert {row["reference_type"] for row in one} == {"ORDER", "TRADE"}

    def test_the_makers_cash_splits_over_markets(self, venue: Venue) -> None:
        amm, (user,) = venue.amm, venue.people("U")
        for market, budget in ((MARKET, 500_000), (OTHER_MARKET, 300_000)):
            body = {"market_id": market, "initial_budget_cents": budget, "initial_price_cents": 50}
            started = venue.operator.call("POST", "/admin/amm/start", body)
            assert started.status == 201
            assert started.data["initial_mint_quantity"] == budget // 200
            amm.place("SELL YES 55x100", market)
            amm.place("BUY YES 45x100", market)
            amm.place("SELL NO 55x100", market)
            user.place("BUY YES 55x40", market)
            user.place("BUY NO 55x30", market)
        amm.post("/amm/mint", {"market_id": MARKET, "quantity": 7, "idempotency_key": "more"})
        amm.post("/amm/burn", {"market_id": OTHER_MARKET, "quantity": 9, "idempotency_key": "less"})
        shares = [
            sum(row["amount_cents"] for row in amm.ledger(f"market_id={market}"))
            for market in (MARKET, OTHER_MARKET)
        ]
        assert sum(shares) == amm.cash.available
        deposits = amm.ledger(f"market_id={MARKET}&entry_type=DEPOSIT")
        assert [(row["amount_cents"], row["reference_type"], row["reference_id"]) for row in deposits] == [
            (500_000, "MARKET", MARKET)
        ]
        state = venue.server.exchange.state
        assert set(state.amm_runs) == {MARKET, OTHER_MARKET}


class TestMarkets:
    def test_list_and_detail(self, shared: Venue, anna: Person) -> None:
        listed = anna.get("/markets")["items"]
        assert {MARKET, OTHER_MARKET} <= {row["id"] for row in listed}
        assert set(listed[0]) == {
            *("id", "title", "description", "category", "status", "min_price_cents", "max_price_cents"),
            *("maker_fee_bps", "taker_fee_bps", "reserve_balance_cents", "reserve_balance_display"),
            *("total_yes_shares", "total_no_shares", "trading_start_at", "resolution_date"),
        }
        detail = anna.get(f"/markets/{MARKET}")
        assert {
            *("max_order_quantity", "max_position_per_user", "max_order_amount_cents", "pnl_pool_cents"),
            *("created_at", "trading_end_at", "resolved_at", "settled_at", "resolution_result"),
        } <= set(detail)
        assert refused(anna.call("GET", "/markets/nowhere")) == (404, 3001)
        assert refused(anna.call("GET", "/markets/nowhere/orderbook")) == (404, 3001)
        assert refused(anna.call("GET", "/positions/nowhere")) == (404, 3001)

    def test_create_and_walk_the_states(self, shared: Venue, anna: Person) -> None:
        body = {
            "id": "MKT-NEW",
            "title": "new",
            "status": "DRAFT",
            "category": "tests",
            "max_order_quantity": 5,
        }
        created = shared.operator.call("POST", "/admin/markets", body)
        assert (created.status, created.data["status"], created.data["max_order_quantity"]) == (
            201,
            "DRAFT",
            5,
        )
        assert refused(shared.operator.call("POST", "/admin/markets", body)) == (409, 409)
        assert refused(anna.try_place("BUY YES 50x1", "MKT-NEW")) == (422, 3002)
        path = "/admin/markets/MKT-NEW/status"

        def move(status: str) -> Reply:
            return shared.operator.call("POST", path, {"status": status, "reason": "test"})

        assert refused(move("HALTED")) == (422, 3003)
        assert move("ACTIVE").data["status"] == "ACTIVE"
        order_id = anna.place("BUY YES 50x1", "MKT-NEW")["order"]["id"]
        for status in ("SUSPENDED", "ACTIVE", "HALTED"):
            assert move(status).data["status"] == status
        assert move("HALTED").status == 200
        assert refused(anna.try_place("BUY YES 50x1", "MKT-NEW")) == (422, 3002)
        assert anna.get("/markets/MKT-NEW/orderbook")["yes"]["bids"] == [
            {"price_cents": 50, "total_quantity": 1}
        ]
        assert anna.cancel(order_id).status == 200
        assert anna.get("/markets?category=tests")["items"] == []
        assert [row["id"] for row in anna.get("/markets?status=ALL&category=tests")["items"]] == ["MKT-NEW"]
        assert refused(move("SUSPENDED")) == (422, 3003)
        assert refused(move("RESOLVED")) == (422, 3003)
        assert refused(move("NONSENSE")) == (400, 400)

    @pytest.mark.parametrize(
        "changes",
        [
            {"min_price_cents": 60, "max_price_cents": 60},
            {"status": "SETTLED"},
            {"maker_fee_bps": 1001},
            {"id": "has space"},
            {"title": ""},
            {"max_order_quantity": 0},
            {"created_at": "2026-01-01T00:00:00"},
            {"nonsense": 1},
        ],
    )
    def test_bad_markets(self, shared: Venue, changes: dict[str, object]) -> None:
        body = {"id": "MKT-BAD", "title": "bad", **changes}
        assert refused(shared.operator.call("POST", "/admin/markets", body)) == (400, 400)

    def test_own_limits(self, shared: Venue, anna: Person) -> None:
        limits = {
            "min_price_cents": 10,
            "max_price_cents": 90,
            "max_order_quantity": 100,
            "max_position_per_user": 120,
            "max_order_amount_cents": 4000,
        }
        shared.operator.post("/admin/markets", {"id": "MKT-TIGHT", "title": "tight", **limits})
        assert refused(anna.try_place("BUY YES 9x1", "MKT-TIGHT")) == (422, 4001)
        assert refused(anna.try_place("BUY YES 91x1", "MKT-TIGHT")) == (422, 4001)
        assert refused(anna.try_place("BUY YES 20x101", "MKT-TIGHT")) == (422, 4002)
        assert refused(anna.try_place("BUY YES 20x0", "MKT-TIGHT")) == (422, 4002)
        assert refused(anna.try_place("BUY YES 20x-3", "MKT-TIGHT")) == (422, 4002)
        assert refused(anna.try_place("BUY YES 41x100", "MKT-TIGHT")) == (422, 4002)
        anna.place("BUY YES 40x100", "MKT-TIGHT")
        other = shared.person(next(_names))
        other.place("BUY NO 60x60", "MKT-TIGHT")
        assert refused(anna.try_place("BUY YES 40x61", "MKT-TIGHT")) == (422, 4002)
        assert anna.try_place("BUY YES 40x60", "MKT-TIGHT").status == 201
        assert anna.try_place("BUY NO 10x100", "MKT-TIGHT").status == 201
        shared.amm.post("/account/deposit", {"amount_cents": 1_000_000})
        for price in (11, 12, 13):
            assert shared.amm.try_place(f"BUY NO {price}x100", "MKT-TIGHT").status == 201

    def test_no_view_mirrors_yes(self, shared: Venue, anna: Person, bert: Person) -> None:
        anna.place("BUY YES 40x10")
        anna.place("BUY YES 38x7")
        bert.place("BUY NO 55x20")
        book = anna.get(f"/markets/{MARKET}/orderbook")
        assert book["yes"] == {
            "bids": [{"price_cents": 40, "total_quantity": 10}, {"price_cents": 38, "total_quantity": 7}],
            "asks": [{"price_cents": 45, "total_quantity": 20}],
        }
        assert book["no"] == {
            "bids": [{"price_cents": 55, "total_quantity": 20}],
            "asks": [{"price_cents": 60, "total_quantity": 10}, {"price_cents": 62, "total_quantity": 7}],
        }
        assert len(anna.get(f"/markets/{MARKET}/orderbook?levels=1")["yes"]["bids"]) == 1
        for levels in ("0", "100", "x", "1.0"):
            assert refused(anna.call("GET", f"/markets/{MARKET}/orderbook?levels={levels}")) == (400, 400)


class TestOrders:
    def test_order_members(self, anna: Person) -> None:
        placed = anna.place("SELL NO 60x1") if anna.holds() else anna.place("BUY NO 60x1")
        assert set(placed) == {"order", "trades", "netting_result"}
        assert set(placed["order"]) == {
            *("id", "client_order_id", "market_id", "original_side", "original_direction"),
            *("original_price_cents", "book_type", "book_direction", "book_price_cents", "price_type"),
            *("time_in_force", "quantity", "filled_quantity", "remaining_quantity", "frozen_amount"),
            *("frozen_asset_type", "status", "cancel_reason", "created_at", "updated_at"),
        }
        assert placed["netting_result"] is None

    def test_idempotency(self, shared: Venue, anna: Person, bert: Person) -> None:
        first = anna.try_place("BUY YES 60x10", key="same-key")
        bert.place("BUY NO 40x4")
        again = anna.try_place("BUY YES 60x10", key="same-key")
        assert (first.status, again.status) == (201, 200)
        assert again.data["order"]["id"] == first.data["order"]["id"]
        assert again.data["order"]["filled_quantity"] == 4
        assert len(again.data["trades"]) == 1
        for words in (
            "BUY YES 61x10",
            "BUY YES 60x11",
            "BUY NO 60x10",
            "SELL YES 60x10",
            "BUY YES 60x10 IOC",
        ):
            assert refused(anna.try_place(words, key="same-key")) == (409, 4005)
        assert refused(anna.try_place("BUY YES 60x10", OTHER_MARKET, key="same-key")) == (409, 4005)
        assert bert.try_place("BUY YES 10x1", key="same-key").status == 201
        assert len(anna.get("/orders?limit=100")["items"]) == 1

    def test_idempotency_comes_before_the_market(self, shared: Venue, anna: Person) -> None:
        shared.operator.post("/admin/markets", {"id": "MKT-PAUSE", "title": "p"})
        first = anna.try_place("BUY YES 60x10", "MKT-PAUSE", key="kept")
        shared.operator.post("/admin/markets/MKT-PAUSE/status", {"status": "SUSPENDED", "reason": ""})
        again = anna.try_place("BUY YES 60x10", "MKT-PAUSE", key="kept")
        assert (first.status, again.status) == (201, 200)

    def test_refused_orders_leave_no_trace(self, shared: Venue, anna: Person) -> None:
        before = shared.operator.get("/admin/journal?limit=1")["last_sequence"]
        assert refused(anna.try_place("BUY YES 50x1", "nowhere")) == (404, 3001)
        assert refused(anna.try_place("BUY YES 0x1")) == (422, 4001)
        assert refused(anna.try_place("BUY YES 100x1")) == (422, 4001)
        assert refused(anna.try_place("BUY YES 50x10001")) == (422, 4002)
        assert refused(anna.try_place("SELL YES 50x1")) == (422, 5001)
        anna.post("/account/withdraw", {"amount_cents": 999_000})
        assert refused(anna.try_place("BUY YES 99x11")) == (422, 2001)
        assert anna.get("/orders")["items"] == []
        written = shared.operator.get(f"/admin/journal?after={before}")["items"]
        assert {entry["kind"] for entry in written} == {"LEDGER", "ACCOUNT"}
        assert {entry["commit"] for entry in written} == {written[0]["commit"]}

    def test_cancel(self, shared: Venue, anna: Person, bert: Person) -> None:
        order_id = anna.place("BUY YES 50x10")["order"]["id"]
        assert refused(bert.cancel(order_id)) == (403, 403)
        assert refused(bert.call("GET", f"/orders/{order_id}")) == (403, 403)
        assert anna.cancel(order_id).data == {
            "order_id": order_id,
            "status": "CANCELLED",
            "unfrozen_amount": 501,
            "unfrozen_asset_type": "FUNDS",
            "remaining_quantity_cancelled": 10,
        }
        assert refused(anna.cancel(order_id)) == (422, 4006)
        assert refused(anna.cancel("nothing")) == (404, 4004)
        assert refused(anna.call("GET", "/orders/nothing")) == (404, 4004)
        assert anna.order(order_id)["cancel_reason"] == "USER_CANCELLED"

    def test_cancel_of_a_sale_nets(self, anna: Person, bert: Person) -> None:
        anna.place("BUY YES 50x10")
        bert.place("BUY NO 50x10")
        sale = anna.place("SELL YES 90x10")["order"]["id"]
        bert.place("BUY YES 70x10 IOC")  # nothing to meet: bert's own NO is no order
        anna.place("BUY NO 30x10")
        bert.place("BUY YES 70x10")
        assert anna.holds() == {"YES": (10, 500), "NO": (10, 300)}
        before = anna.cash.available
        anna.cancel(sale)
        assert anna.holds() == {}
        assert anna.cash.available - before == 1000

    def test_self_trade_of_an_ioc(self, anna: Person) -> None:
        anna.place("BUY NO 50x10")
        assert refused(anna.try_place("BUY YES 55x10 IOC")) == (422, 4003)
        resting = anna.place("BUY YES 55x10")["order"]
        assert (resting["status"], resting["filled_quantity"]) == ("OPEN", 0)

    def test_filters_and_pages(self, shared: Venue, anna: Person) -> None:
        ids = [anna.place(f"BUY YES {10 + number}x1")["order"]["id"] for number in range(7)]
        ids += [anna.place(f"BUY NO {10 + number}x1", OTHER_MARKET)["order"]["id"] for number in range(3)]
        for order_id in ids[:4]:
            anna.cancel(order_id)

        def listed(query: str) -> list[str]:
            return [row["id"] for row in anna.pages(f"/orders?limit=2&{query}")]

        assert listed("") == ids[::-1]
        assert listed("status=OPEN") == ids[:3:-1]
        assert listed("status=OPEN,PARTIALLY_FILLED") == ids[:3:-1]
        assert listed("status=CANCELLED") == ids[3::-1]
        assert listed(f"market_id={OTHER_MARKET}") == ids[:6:-1]
        assert listed("side=NO&direction=BUY") == ids[:6:-1]
        assert listed("direction=SELL") == []
        assert anna.get("/orders?cursor=garbage")["items"][0]["id"] == ids[-1]
        assert anna.get("/orders?cursor=eyJpZCI6IDV9")["items"][0]["id"] == ids[-1]
        for query in ("limit=0", "limit=101", "limit=x", "status=NEW", "side=MAYBE", "limit=1.5"):
            assert refused(anna.call("GET", f"/orders?{query}")) == (400, 400)


class TestHistory:
    def test_trades_of_both_sides(self, shared: Venue, anna: Person, bert: Person) -> None:
        anna.place("BUY YES 60x10")
        bert.place("BUY NO 45x10")
        (mine,), (theirs,) = (person.get("/trades")["items"] for person in (anna, bert))
        assert mine["trade_id"] == theirs["trade_id"]
        expected = {
            "market_id": MARKET,
            "scenario": "MINT",
            "price_cents": 60,
            "quantity": 10,
            "price": 60,
            "buy_user_id": anna.id,
            "sell_user_id": bert.id,
            "maker_fee": 1,
            "taker_fee": 1,
            "buy_realized_pnl": None,
            "sell_realized_pnl": None,
            "realized_pnl_cents": None,
            "realized_pnl_display": None,
        }
        for item in (mine, theirs):
            assert {key: item[key] for key in expected} == expected
        assert (mine["my_side"], mine["my_original_side"], mine["my_original_direction"]) == (
            "BUY",
            "YES",
            "BUY",
        )
        assert (theirs["my_side"], theirs["my_original_side"]) == ("SELL", "NO")
        assert (mine["role"], theirs["role"]) == ("MAKER", "TAKER")
        assert mine["counterparty_original_side"] == "NO"
        assert mine["buy_order_id"] == anna.get("/orders")["items"][0]["id"]
        assert mine["sell_order_id"] == bert.get("/orders")["items"][0]["id"]

    def test_since_and_pages(self, shared: Venue, anna: Person, bert: Person) -> None:
        ids = []
        for _ in range(5):
            anna.place("BUY YES 50x2")
            ids.append(bert.place("BUY NO 50x2")["trades"][0]["trade_id"])
        assert [row["trade_id"] for row in anna.pages("/trades?limit=2")] == ids[::-1]
        newer = anna.get(f"/trades?since={ids[1]}")
        assert [row["trade_id"] for row in newer["items"]] == ids[2:]
        newer = anna.get(f"/trades?since={ids[1]}&limit=2")
        assert ([row["trade_id"] for row in newer["items"]], newer["has_more"]) == (ids[2:4], True)
        assert anna.get(f"/trades?since={ids[-1]}")["items"] == []
        assert len(anna.get(f"/trades?market_id={MARKET}&scenario=MINT")["items"]) == 5
        assert anna.get("/trades?scenario=BURN")["items"] == []
        assert anna.get(f"/trades?market_id={OTHER_MARKET}")["items"] == []

    def test_both_sides_of_a_self_trade_share_a_page(self, venue: Venue) -> None:
        amm = venue.amm
        amm.post("/account/deposit", {"amount_cents": 1_000_000})
        for _ in range(3):
            amm.place("BUY YES 50x2")
            amm.place("BUY NO 50x2")
        pages = []
        cursor = ""
        while True:
            page = amm.get(f"/trades?limit=1&cursor={cursor}")
            pages.append([(row["trade_id"], row["my_side"]) for row in page["items"]])
            if not page["has_more"]:
                break
            cursor = page["next_cursor"]
        assert [len(page) for page in pages] == [2, 2, 2]
        assert len({pair for page in pages for pair in page}) == 6

    def test_audit_trades(self, venue: Venue) -> None:
        amm = venue.amm
        amm.post("/account/deposit", {"amount_cents": 10_000})
        amm.post("/amm/mint", {"market_id": MARKET, "quantity": 20, "idempotency_key": "a"})
        amm.post("/amm/burn", {"market_id": MARKET, "quantity": 5, "idempotency_key": "a"})
        burned, minted = amm.get("/trades")["items"]
        assert (minted["scenario"], minted["buy_user_id"], minted["sell_user_id"]) == (
            "MINT",
            amm.id,
            "SYSTEM",
        )
        assert (burned["scenario"], burned["buy_user_id"], burned["sell_user_id"]) == (
            "BURN",
            "SYSTEM",
            amm.id,
        )
        for item in (minted, burned):
            assert item["price_cents"] == 50
            assert item["buy_order_id"] == item["sell_order_id"] == item["trade_id"]
            assert item["maker_fee"] == item["taker_fee"] == 0

    def test_positions(self, shared: Venue, anna: Person, bert: Person) -> None:
        zero = anna.get(f"/positions/{MARKET}")
        assert zero["yes"] == zero["no"]
        assert (zero["yes"]["volume"], zero["yes"]["available"], zero["yes"]["cost_sum_cents"]) == (0, 0, 0)
        assert anna.get("/positions") == {"items": []}
        anna.place("BUY YES 33x3")
        bert.place("BUY NO 67x3")
        anna.place("SELL YES 90x1")
        (item,) = anna.get("/positions?has_volume=true")["items"]
        assert item == anna.get(f"/positions/{MARKET}")
        assert item["yes"] == {
            "volume": 3,
            "cost_sum_cents": 99,
            "cost_sum_display": "$0.99",
            "avg_cost_display": "$0.33",
            "pending_sell": 1,
            "available": 2,
        }
        assert anna.get(f"/positions?market_id={OTHER_MARKET}")["items"] == []


class TestMarketMaker:
    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/amm/orders/replace", {}),
            ("/amm/orders/batch-cancel", {"market_id": MARKET}),
            ("/amm/mint", {"market_id": MARKET, "quantity": 1, "idempotency_key": "x"}),
            ("/amm/burn", {"market_id": MARKET, "quantity": 1, "idempotency_key": "x"}),
        ],
    )
    def test_nobody_else(self, shared: Venue, anna: Person, path: str, body: object) -> None:
        assert refused(anna.call("POST", path, body)) == (403, 403)
        assert refused(shared.operator.call("POST", path, body)) == (403, 403)

    def test_mint_and_burn_keys(self, shared: Venue) -> None:
        amm = shared.amm
        amm.post("/account/deposit", {"amount_cents": 100_000})

        def supply(kind: str, quantity: int, key: str, market: str = MARKET) -> Reply:
            body = {"market_id": market, "quantity": quantity, "idempotency_key": key}
            return amm.call("POST", f"/amm/{kind}", body)

        first = supply("mint", 10, "one")
        again = supply("mint", 10, "one")
        assert (first.status, again.status) == (201, 200)
        assert again.data == {**first.data, "idempotent_hit": True}
        assert refused(supply("mint", 11, "one")) == (409, 6006)
        assert refused(supply("mint", 10, "one", OTHER_MARKET)) == (409, 6006)
        burned = supply("burn", 4, "one")
        assert (burned.status, burned.data["idempotent_hit"]) == (200, False)
        assert supply("burn", 4, "one").data["idempotent_hit"] is True
        assert refused(supply("burn", 10_000, "two")) == (422, 5001)
        assert refused(supply("mint", 10**7, "three")) == (422, 2001)
        assert refused(supply("mint", 1, "four", "nowhere")) == (404, 3001)
        for quantity in (0, -1, 10**12):
            assert refused(supply("mint", quantity, "five")) == (400, 400)
        assert refused(supply("mint", 1, "has space")) == (400, 400)
        assert refused(supply("mint", 1, "x" * 65)) == (400, 400)

    def test_batch_cancel_of_nothing(self, shared: Venue) -> None:
        data = shared.amm.post("/amm/orders/batch-cancel", {"market_id": OTHER_MARKET})
        assert (data["cancelled_count"], data["total_unfrozen_funds_cents"]) == (0, 0)
        body = {"market_id": "nowhere"}
        assert refused(shared.amm.call("POST", "/amm/orders/batch-cancel", body)) == (404, 3001)
        body = {"market_id": MARKET, "cancel_scope": "SOME"}
        assert refused(shared.amm.call("POST", "/amm/orders/batch-cancel", body)) == (400, 400)

    def test_batch_cancel_when_halted(self, shared: Venue) -> None:
        shared.operator.post("/admin/markets", {"id": "MKT-HALT", "title": "h"})
        shared.amm.post("/account/deposit", {"amount_cents": 10_000})
        shared.amm.place("BUY YES 40x10", "MKT-HALT")
        shared.operator.post("/admin/markets/MKT-HALT/status", {"status": "HALTED", "reason": "r"})
        data = shared.amm.post("/amm/orders/batch-cancel", {"market_id": "MKT-HALT"})
        assert data["cancelled_count"] == 1

    def test_replace_that_trades(self, shared: Venue, anna: Person) -> None:
        shared.amm.post("/account/deposit", {"amount_cents": 10_000})
        anna.place("BUY NO 50x5")
        old = shared.amm.place("BUY YES 40x10")["order"]["id"]
        reply = shared.amm.try_replace(old, "BUY YES 55x10")
        assert reply.status == 200
        new = reply.data["new_order"]
        assert (new["filled_quantity"], new["status"], new["side"]) == (5, "PARTIALLY_FILLED", "YES")
        assert [trade["price_cents"] for trade in reply.data["trades"]] == [50]

    def test_start_and_stop(self, venue: Venue) -> None:
        operator = venue.operator
        body = {"market_id": MARKET, "initial_budget_cents": 100_000, "initial_price_cents": 45}
        assert refused(venue.amm.call("POST", "/admin/amm/start", body)) == (403, 403)
        assert refused(operator.call("POST", "/admin/amm/stop", {"market_id": MARKET})) == (422, 6008)
        started = operator.call("POST", "/admin/amm/start", body)
        assert started.status == 201
        assert {key: started.data[key] for key in ("amm_user_id", "initial_mint_quantity", "phase")} == {
            "amm_user_id": AMM_USER_ID,
            "initial_mint_quantity": 500,
            "phase": "EXPLORATION",
        }
        assert venue.amm.cash == (50_000, 0)
        assert venue.amm.holds() == {"YES": (500, 25_000), "NO": (500, 25_000)}
        assert refused(operator.call("POST", "/admin/amm/start", body)) == (409, 6007)
        venue.amm.place("BUY YES 40x10")
        stopped = operator.post("/admin/amm/stop", {"market_id": MARKET, "stop_mode": "IMMEDIATE"})
        assert (stopped["cancelled_orders_count"], stopped["remaining_balance_cents"]) == (1, 50_000)
        assert (stopped["remaining_yes_inventory"], stopped["remaining_no_inventory"]) == (500, 500)
        assert refused(operator.call("POST", "/admin/amm/stop", {"market_id": MARKET})) == (422, 6008)
        assert refused(operator.call("POST", "/admin/amm/start", {**body, "market_id": "nowhere"})) == (
            404,
            3001,
        )
        assert refused(operator.call("POST", "/admin/amm/start", {**body, "initial_price_cents": 0})) == (
            400,
            400,
        )
        operator.post("/admin/markets", {"id": "MKT-PRIVATE", "title": "p", "amm_approved": False})
        assert refused(operator.call("POST", "/admin/amm/start", {**body, "market_id": "MKT-PRIVATE"})) == (
            403,
            6009,
        )
        operator.post(f"/admin/markets/{OTHER_MARKET}/status", {"status": "SUSPENDED", "reason": ""})
        assert refused(operator.call("POST", "/admin/amm/start", {**body, "market_id": OTHER_MARKET})) == (
            422,
            3002,
        )


class TestAdmin:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/admin/amm/start"),
            ("POST", "/admin/amm/stop"),
            ("POST", "/admin/markets"),
            ("POST", f"/admin/markets/{MARKET}/status"),
            ("POST", f"/admin/markets/{MARKET}/resolve"),
            ("GET", f"/admin/markets/{MARKET}/stats"),
            ("POST", "/admin/verify-invariants"),
            ("GET", "/admin/journal"),
        ],
    )
    def test_administrators_only(self, shared: Venue, anna: Person, method: str, path: str) -> None:
        assert refused(anna.call(method, path, {})) == (403, 403)
        assert refused(shared.call(method, path, {})) == (401, 401)

    def test_configured_admin(self) -> None:
        with open_venue(admin_users=["operator", "amm_market_maker"]) as venue:
            body = {"market_id": MARKET, "initial_budget_cents": 1000, "initial_price_cents": 50}
            assert venue.amm.call("POST", "/admin/amm/start", body).status == 201

    def test_resolve_refusals(self, venue: Venue) -> None:
        path = f"/admin/markets/{MARKET}/resolve"
        assert refused(venue.operator.call("POST", path, {"resolution_result": "MAYBE"})) == (422, 3004)
        assert refused(venue.operator.call("POST", path, {})) == (400, 400)
        nowhere = "/admin/markets/nowhere/resolve"
        assert refused(venue.operator.call("POST", nowhere, {"resolution_result": "YES"})) == (404, 3001)
        venue.operator.post("/admin/markets/MKT-B/status", {"status": "HALTED", "reason": "r"})
        assert venue.operator.call("POST", "/admin/markets/MKT-B/resolve", {"outcome": "NO"}).status == 200
        assert refused(venue.operator.call("POST", "/admin/markets/MKT-B/resolve", {"outcome": "NO"})) == (
            422,
            3003,
        )

    def test_delayed_settlement_leaves_time_to_burn(self, venue: Venue) -> None:
        amm, (user,) = venue.amm, venue.people("U")
        body = {"market_id": MARKET, "initial_budget_cents": 100_000, "initial_price_cents": 50}
        venue.operator.post("/admin/amm/start", body)
        resting = user.place("BUY YES 40x10")["order"]["id"]
        settlement = venue.operator.post(
            f"/admin/markets/{MARKET}/resolve", {"resolution_result": "YES", "settle_delay_ms": 3000}
        )["settlement"]
        assert (settlement["status"], settlement["cancelled_orders_count"]) == ("PENDING", 1)
        assert settlement["cancelled_orders_unfrozen_cents"] == 401
        assert user.order(resting)["cancel_reason"] == "MARKET_RESOLVED"
        assert venue.market()["status"] == "RESOLVED"
        burn = {"market_id": MARKET, "quantity": 500, "idempotency_key": "all"}
        assert amm.call("POST", "/amm/burn", burn).status == 200
        mint = {"market_id": MARKET, "quantity": 1, "idempotency_key": "no"}
        assert refused(amm.call("POST", "/amm/mint", mint)) == (422, 3002)
        deadline = time.monotonic() + 10
        while venue.market()["status"] != "SETTLED":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert amm.cash == (100_000, 0)
        burn = {"market_id": MARKET, "quantity": 1, "idempotency_key": "late"}
        assert refused(amm.call("POST", "/amm/burn", burn)) == (422, 3002)

    def test_stats(self, venue: Venue) -> None:
        a, b = venue.people("AB")
        a.place("BUY YES 60x10")
        b.place("BUY NO 40x10")
        a.place("SELL YES 70x10")
        stats = venue.operator.get(f"/admin/markets/{MARKET}/stats")
        assert (stats["active_orders_count"], stats["total_trades_count"], stats["unique_traders"]) == (
            1,
            1,
            2,
        )
        assert stats["trades_by_scenario"] == {"MINT": 1, "TRANSFER_YES": 0, "TRANSFER_NO": 0, "BURN": 0}
        assert stats["total_fees_collected_cents"] == venue.fees == 2

    def test_a_breach_halts_the_market(self, venue: Venue) -> None:
        from msgspec.structs import replace

        assert venue.operator.post("/admin/verify-invariants")["all_passed"] is True
        state = venue.server.exchange.state
        state.markets[MARKET] = replace(state.markets[MARKET], pnl_pool_cents=1)
        venue.compares_rows = False
        venue.audit = type("Blind", (), {"check": staticmethod(lambda: [])})()  # the damage is ours
        data = venue.operator.post("/admin/verify-invariants")
        assert data["all_passed"] is False
        broken = {check["name"]: check["details"] for check in data["checks"] if not check["passed"]}
        assert set(broken) == {"cost_conservation"}
        assert {
            *("shares_balanced", "reserve_consistency", "cost_conservation"),
            *("global_zero_sum", "reserve_account_consistency"),
        } <= {check["name"] for check in data["checks"]}
        assert venue.market()["status"] == "HALTED"
        assert venue.market(OTHER_MARKET)["status"] == "ACTIVE"
        (record,) = state.circuit_breaks
        assert record.trigger_reason.startswith("cost_conservation")

    def test_journal_folds_into_live_orders(self, venue: Venue) -> None:
        a, b = venue.people("AB")
        keep = a.place("BUY YES 60x10", key="kept")["order"]["id"]
        b.place("BUY NO 40x4")
        b.place("BUY NO 30x9 IOC")
        gone = a.place("BUY YES 20x1")["order"]["id"]
        a.cancel(gone)
        entries: list[dict] = []
        after = 0
        while True:
            page = venue.operator.get(f"/admin/journal?after={after}&limit=7")
            entries += page["items"]
            if not page["items"]:
                break
            after = page["items"][-1]["sequence"]
        assert [entry["sequence"] for entry in entries] == list(range(1, len(entries) + 1))
        times = [entry["at_unix_ns"] for entry in entries]
        assert times == sorted(times)
        live: dict[str, dict] = {}
        for entry in entries:
            step = entry["data"]
            if entry["kind"] == "ORDER_RESTED" or (
                entry["kind"] == "ORDER_FILLED" and step["order_id"] in live
            ):
                live[step["order_id"]] = step
            elif entry["kind"] == "ORDER_CANCELLED":
                live.pop(step["order_id"], None)
        live = {order_id: step for order_id, step in live.items() if step["remaining_quantity"]}
        (step,) = live.values()
        expected = {
            "order_id": keep,
            "user_id": a.id,
            "client_order_id": "kept",
            "book_side": "BUY",
            "book_price_cents": 60,
            "remaining_quantity": 6,
        }
        assert {key: step[key] for key in expected} == expected
        assert not any("password" in json.dumps(entry) for entry in entries)
        for query in ("after=-1", "limit=0", "limit=10001"):
            assert refused(venue.operator.call("GET", f"/admin/journal?{query}")) == (400, 400)


def test_schema_describes_every_route(shared: Venue) -> None:
    connection = http.client.HTTPConnection(shared.host, shared.port, timeout=10)
    for path in ("/schema", "/schema/openapi.json"):
        connection.request("GET", path)
        response = connection.getresponse()
        schema = json.loads(response.read())
        assert response.status == 200
    connection.close()
    operations = {
        (method, path): operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }
    assert len(operations) == 30
    for (method, path), operation in operations.items():
        if path != "/health":
            assert {"400", "401", "422", "429"} <= set(operation["responses"]), path
        assert ("requestBody" in operation) == (
            method == "post" and not path.endswith(("/cancel", "/verify-invariants"))
        ), path
    text = json.dumps(schema)
    for reference in set(re.findall(r'"#/components/schemas/(\w+)"', text)):
        assert reference in schema["components"]["schemas"]
    placing = schema["components"]["schemas"]["PlaceOrderBody"]
    assert placing["properties"]["price_cents"]["type"] == "integer"
    names = {parameter["name"] for parameter in operations["get", "/api/v1/trades"]["parameters"]}
    assert names == {"limit", "cursor", "market_id", "scenario", "since"}


def _reserve_without_its_ledger_row(draft: Draft, pairs: int, kind: object, reference: object) -> None:
    draft.pool.add_pairs(pairs)


def _shares_for_nothing(draft: Draft, user: str, side: Side, quantity: int, cost_cents: int) -> None:
    draft.set_holding(user, side, Holding(quantity, cost_cents + 1))


def _free_unfreeze(draft: Draft, user: str, cents: int, reference: object) -> None:
    draft.purse(user).available_cents += cents


@pytest.mark.parametrize(
    ("target", "damage", "check"),
    [
        (
            "engine.paper.draft.Draft.move_reserve",
            _reserve_without_its_ledger_row,
            "reserve_account_consistency",
        ),
        ("engine.paper.clearing._add_shares", _shares_for_nothing, "cost_conservation"),
        ("engine.paper.draft.Draft.unfreeze", _free_unfreeze, "ledger"),
    ],
)
def test_a_transaction_that_does_not_add_up_is_refused(
    venue: Venue, monkeypatch: pytest.MonkeyPatch, target: str, damage: object, check: str
) -> None:
    a, b = venue.people("AB")
    resting = a.place("BUY YES 60x10")["order"]["id"]
    before = (a.cash, b.cash, a.order(resting))
    connection = http.client.HTTPConnection(venue.host, venue.port, timeout=10)
    with monkeypatch.context() as patch:
        patch.setattr(target, damage)
        headers = {"Authorization": f"Bearer {b.token}"}
        connection.request("POST", "/api/v1/orders", json.dumps(b.terms("BUY NO 40x10")), headers)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["code"]) == (500, 9002)
    connection.close()
    assert (a.cash, b.cash, a.order(resting)) == before
    assert venue.market()["status"] == "HALTED"
    (record,) = venue.server.exchange.state.circuit_breaks
    assert record.trigger_reason.startswith(check)
    assert a.cancel(resting).status == 200
