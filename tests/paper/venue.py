"""A real exchange on a real loopback socket, and people who trade on it over HTTP.

The server runs on its own thread and event loop. Between two requests nothing moves in it, so after every
answer the invariants of section 7 are checked on its rows.
"""

import http.client
import itertools
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from engine.paper.config import MarketSettings, PaperConfig, Secrets
from engine.paper.invariants import Audit
from engine.paper.kafka import open_bus
from engine.paper.model import AMM_USER_ID, AMM_USERNAME
from engine.paper.postgres import Database
from engine.paper.server import PaperServer, open_socket
from tests.paper.databases import fresh_database, state_differences, stored_state

MARKET = "MKT-A"
OTHER_MARKET = "MKT-B"
AMM_PASSWORD = "Market-Maker-1"
OPERATOR_PASSWORD = "Operator-1"
SERVICE_TOKEN = "service-token-of-the-tests"
START_CENTS = 1_000_000
DEADLINE_S = 10.0

_numbers = itertools.count(1)
_stopping: list[threading.Thread] = []


class Reply(NamedTuple):
    """One answer: HTTP status, the envelope's code and data, and the whole envelope."""

    status: int
    code: int
    data: Any
    envelope: dict[str, Any]
    headers: Mapping[str, str]


class Bytes(NamedTuple):
    """One answer as it came."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Cash(NamedTuple):
    """Available and frozen cents."""

    available: int
    frozen: int


class Person:
    """One user with a token; every request is checked for its envelope and the exchange's invariants."""

    def __init__(self, venue: "Venue", name: str, token: str, user_id: str) -> None:
        self.venue = venue
        self.name = name
        self.token = token
        self.id = user_id

    def call(self, method: str, path: str, body: object = None) -> Reply:
        return self.venue.call(method, path, body, token=self.token)

    def get(self, path: str) -> Any:
        reply = self.call("GET", path)
        assert reply.status == 200, reply
        return reply.data

    def post(self, path: str, body: object = None) -> Any:
        reply = self.call("POST", path, body)
        assert reply.code == 0, reply
        return reply.data

    def terms(self, words: str, market: str = MARKET, key: str | None = None) -> dict[str, Any]:
        """``"BUY YES 65x100"`` (optionally followed by IOC) as an order body."""
        direction, side, size, *tif = words.split()
        price, quantity = size.split("x")
        return {
            "client_order_id": key or f"{self.name}-{next(_numbers)}",
            "market_id": market,
            "side": side,
            "direction": direction,
            "price_cents": int(price),
            "quantity": int(quantity),
            "time_in_force": tif[0] if tif else "GTC",
        }

    def try_place(self, words: str, market: str = MARKET, key: str | None = None) -> Reply:
        return self.call("POST", "/orders", self.terms(words, market, key))

    def place(self, words: str, market: str = MARKET, key: str | None = None) -> Any:
        reply = self.try_place(words, market, key)
        assert reply.status == 201, reply
        return reply.data

    def cancel(self, order_id: str) -> Reply:
        return self.call("POST", f"/orders/{order_id}/cancel")

    def try_replace(self, old_id: str, words: str, market: str = MARKET, key: str | None = None) -> Reply:
        body = {"old_order_id": old_id, "new_order": self.terms(words, market, key)}
        return self.call("POST", "/amm/orders/replace", body)

    def order(self, order_id: str) -> Any:
        return self.get(f"/orders/{order_id}")["order"]

    @property
    def cash(self) -> Cash:
        data = self.get("/account/balance")
        return Cash(data["available_balance_cents"], data["frozen_balance_cents"])

    def holds(self, market: str = MARKET) -> dict[str, tuple[int, int]]:
        """Side -> (volume, cost sum), empty sides left out."""
        data = self.get(f"/positions/{market}")
        sides = {side.upper(): (data[side]["volume"], data[side]["cost_sum_cents"]) for side in ("yes", "no")}
        return {side: pair for side, pair in sides.items() if pair != (0, 0)}

    def ledger(self, query: str = "") -> list[Any]:
        """Every row, newest first, over all pages."""
        return self.pages(f"/account/ledger?limit=100&{query}")

    def pages(self, path: str) -> list[Any]:
        items: list[Any] = []
        cursor = ""
        while True:
            page = self.get(f"{path}&cursor={cursor}")
            items += page["items"]
            assert page["has_more"] == (page["next_cursor"] is not None)
            if not page["has_more"]:
                return items
            cursor = page["next_cursor"]


class Venue:
    """The exchange under test and its market."""

    def __init__(self, server: PaperServer, database: Database) -> None:
        self.server = server
        self.database = database
        self.host, port = server.address.split(":")
        self.port = int(port)
        self.audit = Audit(server.exchange.state)
        self.compares_rows = True
        self._connection = http.client.HTTPConnection(self.host, self.port, timeout=DEADLINE_S)
        self.operator = self.login("operator", OPERATOR_PASSWORD)
        self.amm = self.login(AMM_USERNAME, AMM_PASSWORD)
        assert self.amm.id == AMM_USER_ID

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        prefix: str = "/api/v1",
    ) -> Reply:
        payload = raw if raw is not None else (json.dumps(body).encode() if body is not None else None)
        response = self.exchange(method, prefix + path, payload, token=token, headers=headers)
        envelope = json.loads(response.body)
        assert set(envelope) == {"code", "message", "data", "timestamp", "request_id"}, envelope
        assert envelope["request_id"].startswith("req_")
        assert len(envelope["request_id"]) == 16
        assert (envelope["code"] == 0) == (response.status < 400), envelope
        assert response.status < 500, envelope
        assert self.audit.check() == []
        return Reply(response.status, envelope["code"], envelope["data"], envelope, response.headers)

    def exchange(
        self,
        method: str,
        target: str,
        payload: bytes | None = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Bytes:
        """One request and its answer, nothing assumed of either."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        self._connection.request(method, target, payload, sent)
        response = self._connection.getresponse()
        return Bytes(response.status, response.read(), dict(response.headers.items()))

    def login(self, name: str, password: str) -> Person:
        reply = self.call("POST", "/auth/login", {"username": name, "password": password})
        assert reply.status == 200, reply
        return Person(self, name, reply.data["access_token"], reply.data["user"]["user_id"])

    def person(self, name: str, cents: int = START_CENTS) -> Person:
        """A newly registered user with that much cash."""
        body = {"username": name, "email": f"{name}@example.org", "password": "Secret-123"}
        assert self.call("POST", "/auth/register", body).status == 201
        person = self.login(name, "Secret-123")
        if cents:
            person.post("/account/deposit", {"amount_cents": cents})
        return person

    def people(self, names: str) -> list[Person]:
        """One person per letter, named like it; usernames have at least three characters."""
        return [self.person(f"user_{name}") for name in names]

    def market(self, market: str = MARKET) -> Any:
        return self.operator.get(f"/markets/{market}")

    def pool(self, market: str = MARKET) -> tuple[int, int]:
        """(reserve, pnl_pool) in cents."""
        data = self.market(market)
        return data["reserve_balance_cents"], data["pnl_pool_cents"]

    @property
    def fees(self) -> int:
        """What the platform has earned so far, cents."""
        return self.server.exchange.state.accounts["PLATFORM_FEE"].available_cents

    def close(self) -> None:
        self._connection.close()


def config(**changes: object) -> PaperConfig:
    """Two markets with the schema's defaults and quick password hashes."""
    base: dict[str, object] = {
        "markets": (MarketSettings(id=MARKET, title="A"), MarketSettings(id=OTHER_MARKET, title="B")),
        "limits": "off",
        "password_hash_rounds": 4,
    }
    return msgspec.convert({**base, **changes}, PaperConfig)


@contextmanager
def open_server(
    config: PaperConfig, secret: Secrets, database: Database | None = None
) -> Iterator[PaperServer]:
    """A served exchange, on a fresh database unless it is told another."""
    with open_socket("127.0.0.1", 0) as listener:
        bus = open_bus(config.events)
        server = PaperServer(config, secret, listener, database or fresh_database(), bus)
        started = threading.Event()
        thread = threading.Thread(target=server.run, args=(started.set,), daemon=True)
        thread.start()
        assert started.wait(DEADLINE_S)
        try:
            yield server
        finally:
            server.stop()  # takes some tenths of a second, which the next test need not wait for
            _stopping.append(thread)


@contextmanager
def open_venue(
    *, database: Database | None = None, jwt_secret: str | None = None, **changes: object
) -> Iterator[Venue]:
    """Serve an exchange for the length of a block; what it shows at the end must be what its tables say."""
    secret = Secrets(
        amm_password=AMM_PASSWORD,
        operator_password=OPERATOR_PASSWORD,
        jwt_secret=jwt_secret,
        service_token=SERVICE_TOKEN,
    )
    used = database or fresh_database()
    with open_server(config(**changes), secret, used) as server:
        venue = Venue(server, used)
        yield venue
        venue.close()
        if venue.compares_rows:
            assert state_differences(server.exchange.state, stored_state(used)) == []


def await_stopped() -> None:
    """Check that every server ended; called once at the end of a run."""
    for thread in _stopping:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    _stopping.clear()
