"""One test per row of the table of dialects (contract section 2.8); none passes under the other dialect."""

import http.client
import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.paper.__main__ import main
from engine.paper.commands import PlaceOrder
from engine.paper.config import ConfigError, load_config
from engine.paper.decide import _DECIDERS
from engine.paper.dialect import DialectName
from tests.paper.venue import MARKET, OTHER_MARKET, Person, Venue, open_venue

ENVELOPE = {"code", "message", "data", "timestamp", "request_id"}
_names = (f"speaker_{number}" for number in itertools.count())


class Answer(NamedTuple):
    """Status, JSON body (None where it is none), and the body as it came."""

    status: int
    body: Any
    raw: bytes

    @property
    def bare(self) -> bool:
        """Whether there is no envelope round it."""
        return not (isinstance(self.body, dict) and set(self.body) == ENVELOPE)

    @property
    def data(self) -> Any:
        """The content, with or without envelope."""
        return self.body if self.bare else self.body["data"]

    @property
    def code(self) -> Any:
        """The envelope's code."""
        assert not self.bare, self
        return self.body["code"]


def say(person: Person, method: str, path: str, body: object = None) -> Answer:
    payload = json.dumps(body).encode() if body is not None else None
    answer = person.venue.exchange(method, f"/api/v1{path}", payload, token=person.token)
    assert person.venue.audit.check() == []
    is_json = answer.headers["content-type"] == "application/json"
    return Answer(answer.status, json.loads(answer.body) if is_json else None, answer.body)


def place(person: Person, words: str, market: str = MARKET, key: str | None = None) -> Answer:
    return say(person, "POST", "/orders", person.terms(words, market, key))


def order_id(answer: Answer) -> str:
    assert answer.status == 201, answer
    return str(answer.data["order"]["id"])


@pytest.fixture(scope="module")
def venues() -> Iterator[Callable[[str], Venue]]:
    """One exchange per dialect, opened when first asked for."""
    opened: dict[str, Venue] = {}
    with ExitStack() as stack:

        def venue_of(dialect: str) -> Venue:
            if dialect not in opened:
                opened[dialect] = stack.enter_context(
                    open_venue(dialect=dialect, limits="contract", exempt_users=["operator"])
                )
            return opened[dialect]

        yield venue_of


Venues = Callable[[str], Venue]
BOTH = pytest.mark.parametrize("dialect", ["contract", "as-built"])


def pair(venues: Venues, dialect: str) -> tuple[Person, Person, str]:
    """Two people in a market of their own."""
    venue = venues(dialect)
    market = f"MKT-{next(_names)}"
    created = say(venue.operator, "POST", "/admin/markets", {"id": market, "title": market})
    assert created.status == 201, created
    return venue.person(next(_names)), venue.person(next(_names)), market


class TestOrderRoutes:
    """order routes: enveloped / bare."""

    @BOTH
    def test_place_list_get_and_cancel(self, venues: Venues, dialect: str) -> None:
        anna, _, market = pair(venues, dialect)
        placed = place(anna, "BUY YES 40x10", market)
        found = order_id(placed)
        answers = [
            placed,
            say(anna, "GET", "/orders"),
            say(anna, "GET", f"/orders/{found}"),
            say(anna, "POST", f"/orders/{found}/cancel"),
        ]
        assert [answer.bare for answer in answers] == [dialect == "as-built"] * 4
        assert set(placed.data) == {"order", "trades", "netting_result"}
        assert set(answers[1].data) == {"items", "next_cursor", "has_more"}
        assert answers[3].data == {
            "order_id": found,
            "status": "CANCELLED",
            "unfrozen_amount": 401,
            "unfrozen_asset_type": "FUNDS",
            "remaining_quantity_cancelled": 10,
        }

    @BOTH
    def test_everything_else_stays_enveloped(self, venues: Venues, dialect: str) -> None:
        anna, _, market = pair(venues, dialect)
        for path in ("/account/balance", "/markets", f"/markets/{market}", "/positions", "/trades"):
            assert not say(anna, "GET", path).bare
        refusal = place(anna, "BUY YES 40x10", "nowhere")
        assert (refusal.status, refusal.code) == (404, 3001)


@BOTH
def test_order_fields(venues: Venues, dialect: str) -> None:
    anna, _, market = pair(venues, dialect)
    placed = place(anna, "BUY NO 40x10", market).data["order"]
    listed = say(anna, "GET", "/orders").data["items"][0]
    assert placed == listed
    assert placed["book_type"] == "SYNTHETIC_SELL"
    present = {"book_direction", "book_price_cents"} & placed.keys()
    assert present == ({"book_direction", "book_price_cents"} if dialect == "contract" else set())
    assert len(placed) == (20 if dialect == "contract" else 18)


@BOTH
def test_one_order(venues: Venues, dialect: str) -> None:
    anna, bert, market = pair(venues, dialect)
    found = order_id(place(anna, "BUY YES 40x10", market))
    place(bert, "BUY NO 60x4", market)
    data = say(anna, "GET", f"/orders/{found}").data
    if dialect == "contract":
        assert set(data) == {"order", "trades"}
        assert (data["order"]["id"], len(data["trades"])) == (found, 1)
    else:
        assert (data["id"], data["filled_quantity"]) == (found, 4)
        assert "trades" not in data


@BOTH
def test_trades_in_the_answer_to_an_order(venues: Venues, dialect: str) -> None:
    anna, bert, market = pair(venues, dialect)
    bid = order_id(place(anna, "BUY YES 40x10", market))
    placed = place(bert, "BUY NO 60x4", market)
    (trade,) = placed.data["trades"]
    if dialect == "contract":
        assert {"trade_id", "role", "fee_cents", "price_cents"} <= trade.keys()
    else:
        assert trade == {
            "buy_order_id": bid,
            "sell_order_id": order_id(placed),
            "price": 40,
            "quantity": 4,
            "scenario": "MINT",
        }


@BOTH
def test_replay_of_an_order(venues: Venues, dialect: str) -> None:
    anna, bert, market = pair(venues, dialect)
    place(anna, "BUY YES 40x10", market)
    first = place(bert, "BUY NO 60x4", market, "again")
    second = place(bert, "BUY NO 60x4", market, "again")
    assert order_id(first) == second.data["order"]["id"]
    assert len(first.data["trades"]) == 1
    expected = (200, 1) if dialect == "contract" else (201, 0)
    assert (second.status, len(second.data["trades"])) == expected
    reused = place(bert, "BUY NO 60x5", market, "again")
    assert (reused.status, reused.code) == (409, 4005)


@BOTH
def test_netting_result(venues: Venues, dialect: str) -> None:
    anna, bert, market = pair(venues, dialect)
    place(anna, "BUY YES 40x10", market)
    place(bert, "BUY NO 60x10", market)
    # At the price they paid: nothing is realised but the pairs.
    place(bert, "SELL NO 60x5", market)
    netted = place(anna, "BUY NO 60x5", market).data["netting_result"]
    if dialect == "contract":
        assert netted == {"pairs_netted": 5, "released_cents": 500, "released_display": "$5.00"}
    else:
        assert netted == {"netting_qty": 5, "refund_amount": 500}


@BOTH
def test_own_trades(venues: Venues, dialect: str) -> None:
    anna, bert, market = pair(venues, dialect)
    place(anna, "BUY YES 40x10", market)
    place(bert, "BUY NO 60x4", market)
    (item,) = say(anna, "GET", "/trades").data["items"]
    if dialect == "contract":
        assert {"role", "my_side", "buy_order_id", "maker_fee", "fee_cents"} <= item.keys()
    else:
        assert item.keys() == {
            *("trade_id", "market_id", "scenario", "price", "quantity", "buy_user_id", "sell_user_id"),
            *("taker_fee", "buy_realized_pnl", "sell_realized_pnl", "executed_at"),
        }
        assert (item["buy_user_id"], item["sell_user_id"], item["price"]) == (anna.id, bert.id, 40)


@BOTH
def test_position(venues: Venues, dialect: str) -> None:
    anna, bert, market = pair(venues, dialect)
    nothing = say(anna, "GET", f"/positions/{market}")
    place(anna, "BUY YES 40x10", market)
    place(bert, "BUY NO 60x4", market)
    place(anna, "SELL YES 70x1", market)
    data = say(anna, "GET", f"/positions/{market}").data
    (listed,) = say(anna, "GET", "/positions").data["items"]
    assert listed == data
    if dialect == "contract":
        assert (nothing.status, nothing.data["yes"]["volume"]) == (200, 0)
        assert (data["yes"]["volume"], data["yes"]["pending_sell"]) == (4, 1)
    else:
        assert (nothing.status, nothing.code) == (404, 3001)
        assert data == {
            "market_id": market,
            "yes_volume": 4,
            "yes_cost_sum": 160,
            "no_volume": 0,
            "no_cost_sum": 0,
        }


@BOTH
def test_replace_of_a_partly_filled_order(venues: Venues, dialect: str) -> None:
    _, bert, market = pair(venues, dialect)
    amm = venues(dialect).amm
    amm.post("/account/deposit", {"amount_cents": 100_000})
    old = order_id(place(amm, "BUY YES 40x10", market))
    place(bert, "BUY NO 60x4", market)
    body = {"old_order_id": old, "new_order": amm.terms("BUY YES 39x10", market)}
    refusal = say(amm, "POST", "/amm/orders/replace", body)
    assert (refusal.status, refusal.code) == (422, 6001)
    order = say(amm, "GET", f"/orders/{old}").data
    if dialect == "contract":
        assert refusal.data["remaining_quantity_cancelled"] == 6
        assert order["order"]["status"] == "CANCELLED"
    else:
        assert refusal.data is None
        assert order["status"] == "PARTIALLY_FILLED"
        assert say(amm, "POST", f"/orders/{old}/cancel").data["remaining_quantity_cancelled"] == 6


@BOTH
def test_new_order_of_a_replace(venues: Venues, dialect: str) -> None:
    _, _, market = pair(venues, dialect)
    amm = venues(dialect).amm
    amm.post("/account/deposit", {"amount_cents": 100_000})
    old = order_id(place(amm, "BUY YES 40x10", market))
    body = {"old_order_id": old, "new_order": amm.terms("BUY YES 39x12", market)}
    answer = say(amm, "POST", "/amm/orders/replace", body)
    assert (answer.status, answer.bare) == (200, False)
    new = answer.data["new_order"]
    if dialect == "contract":
        assert {"original_side", "book_price_cents", "side", "direction", "price_cents"} <= new.keys()
    else:
        assert new == {
            "id": new["id"],
            "client_order_id": body["new_order"]["client_order_id"],
            "status": "OPEN",
            "quantity": 12,
            "filled": 0,
            "remaining": 12,
        }


@BOTH
def test_mint_and_burn(venues: Venues, dialect: str) -> None:
    anna, _, market = pair(venues, dialect)
    amm = venues(dialect).amm
    amm.post("/account/deposit", {"amount_cents": 100_000})
    before = say(amm, "GET", "/account/balance").data
    body = {"market_id": market, "quantity": 10}
    answers = [
        say(amm, "POST", f"/amm/{kind}", {**body, "idempotency_key": f"{market}-{kind}"})
        for kind in ("mint", "burn")
    ]
    if dialect == "contract":
        assert [(answer.status, answer.code) for answer in answers] == [(201, 0), (200, 0)]
    else:
        assert [(answer.status, answer.raw) for answer in answers] == [(500, b"Internal Server Error")] * 2
    assert say(amm, "GET", "/account/balance").data == before
    assert say(anna, "POST", "/amm/mint", body).status == 403


@BOTH
def test_resolve(venues: Venues, dialect: str) -> None:
    venue = venues(dialect)
    _, _, market = pair(venues, dialect)
    path = f"/admin/markets/{market}/resolve"
    says = {
        name: say(venue.operator, "POST", path, body).status
        for name, body in {
            "result": {"resolution_result": "MAYBE"},
            "void": {"outcome": "MAYBE"},
        }.items()
    }
    assert says == {"result": 422, "void": 422}
    void = say(venue.operator, "POST", path, {"outcome": "VOID"})
    if dialect == "contract":
        assert (void.status, void.data["resolution_result"]) == (200, "VOID")
        assert say(venue.operator, "POST", path, {"outcome": "YES"}).code == 3003
    else:
        assert (void.status, void.code) == (422, 3004)
        assert say(venue.operator, "POST", path, {"resolution_result": "YES"}).bare
        say(venue.operator, "POST", f"/admin/markets/{market}/status", {"status": "HALTED"})
        assert say(venue.operator, "POST", path, {"outcome": "YES"}).code == 3002
        say(venue.operator, "POST", f"/admin/markets/{market}/status", {"status": "ACTIVE"})
        assert say(venue.operator, "POST", path, {"outcome": "YES"}).data["resolution_result"] == "YES"
        assert say(venue.operator, "POST", path, {"outcome": "YES"}).code == 3002


@BOTH
def test_verify_invariants(venues: Venues, dialect: str) -> None:
    data = say(venues(dialect).operator, "POST", "/admin/verify-invariants").data
    if dialect == "contract":
        assert data["all_passed"]
        assert len(data["checks"]) >= 5
    else:
        assert data == {"ok": True, "violations": []}


class TestErrors:
    """validation errors; 401 and 403; 500."""

    @BOTH
    def test_malformed(self, venues: Venues, dialect: str) -> None:
        anna, _, market = pair(venues, dialect)
        answer = say(anna, "POST", "/orders", {**anna.terms("BUY YES 40x1", market), "price_cents": "40"})
        if dialect == "contract":
            assert (answer.status, answer.code) == (400, 400)
        else:
            assert answer.status == 422
            (fault,) = answer.body["detail"]
            assert fault == {
                "type": "value_error",
                "loc": ["body", "price_cents"],
                "msg": "Expected `int`, got `str`",
            }

    @BOTH
    def test_malformed_query(self, venues: Venues, dialect: str) -> None:
        anna, _, _ = pair(venues, dialect)
        answer = say(anna, "GET", "/orders?limit=0")
        if dialect == "contract":
            assert (answer.status, answer.code) == (400, 400)
        else:
            assert (answer.status, answer.body["detail"][0]["loc"]) == (422, ["query", "limit"])

    @BOTH
    def test_unauthorized_and_forbidden(self, venues: Venues, dialect: str) -> None:
        anna, bert, market = pair(venues, dialect)
        found = order_id(place(anna, "BUY YES 40x10", market))
        stranger = Person(anna.venue, "nobody", "not.a.token", "")
        answers = [
            say(stranger, "GET", "/account/balance"),
            say(bert, "GET", f"/orders/{found}"),
            say(bert, "POST", "/amm/orders/batch-cancel", {"market_id": market}),
            say(bert, "POST", "/admin/verify-invariants"),
        ]
        assert [answer.status for answer in answers] == [401, 403, 403, 403]
        for answer in answers:
            if dialect == "contract":
                assert answer.code == answer.status
            else:
                assert set(answer.body) == {"detail"}
                assert isinstance(answer.body["detail"], str)
        login = say(stranger, "POST", "/auth/login", {"username": "nobody", "password": "x"})
        assert (login.status, login.code) == (401, 1003)

    @BOTH
    def test_bug(self, dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with open_venue(dialect=dialect) as venue:

            def fail(*_: object) -> None:
                raise ZeroDivisionError

            monkeypatch.setitem(_DECIDERS, PlaceOrder, fail)
            answer = place(venue.amm, "BUY YES 40x10")
        if dialect == "contract":
            assert (answer.status, answer.code) == (500, 9002)
        else:
            assert (answer.status, answer.raw) == (500, b"Internal Server Error")


@BOTH
@pytest.mark.parametrize(
    ("maker", "taker", "contract_fees"),
    [("YES 40", "NO 60", (4, 12)), ("NO 60", "YES 40", (6, 8))],
)
def test_fees(venues: Venues, dialect: str, maker: str, taker: str, contract_fees: tuple[int, int]) -> None:
    anna, bert, market = pair(venues, dialect)
    paid = []
    for person, intent in ((anna, maker), (bert, taker)):
        place(person, f"BUY {intent}x100", market)
    for person, intent in ((anna, maker), (bert, taker)):
        balance = say(person, "GET", "/account/balance").data
        assert balance["frozen_balance_cents"] == 0
        paid.append(1_000_000 - int(intent.split()[1]) * 100 - balance["available_balance_cents"])
    as_built = (0, 0) if taker.startswith("NO") else (0, contract_fees[1])
    assert tuple(paid) == (contract_fees if dialect == "contract" else as_built)


@BOTH
def test_fee_of_a_taker_that_sells_no(venues: Venues, dialect: str) -> None:
    anna, bert, market = pair(venues, dialect)
    place(anna, "BUY YES 40x100", market)
    place(bert, "BUY NO 60x100", market)
    place(anna, "BUY NO 60x100", market)
    before = say(bert, "GET", "/account/balance").data["available_balance_cents"]
    place(bert, "SELL NO 60x100", market)
    after = say(bert, "GET", "/account/balance").data["available_balance_cents"]
    maker_fee = 1_000_000 - say(anna, "GET", "/account/balance").data["total_balance_cents"]
    assert 6000 - (after - before) == 12  # both dialects charge this taker
    # anna: 40x100 and 60x100 bought as the maker, then netted back at their cost
    assert maker_fee == (10 if dialect == "contract" else 0)


class TestAbsent:
    """start/stop, WS, Kafka, limits."""

    @BOTH
    def test_start_and_stop(self, venues: Venues, dialect: str) -> None:
        venue = venues(dialect)
        _, _, market = pair(venues, dialect)
        start = {"market_id": market, "initial_budget_cents": 100_000, "initial_price_cents": 50}
        answers = [
            say(venue.operator, "POST", "/admin/amm/start", start),
            say(venue.operator, "POST", "/admin/amm/stop", {"market_id": market}),
        ]
        if dialect == "contract":
            assert [answer.status for answer in answers] == [201, 200]
        else:
            assert [answer.status for answer in answers] == [404, 404]
            assert all(set(answer.body) == {"detail"} for answer in answers)

    @BOTH
    def test_streams(self, venues: Venues, dialect: str) -> None:
        venue = venues(dialect)
        connection = http.client.HTTPConnection(venue.host, venue.port, timeout=10)
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        path = f"/ws/v1/orderbook/{OTHER_MARKET}?token={venue.amm.token}"
        connection.request("GET", path, headers=upgrade)
        status = connection.getresponse().status
        connection.close()
        assert status == (101 if dialect == "contract" else 404)

    @BOTH
    def test_limits(self, venues: Venues, dialect: str) -> None:
        anna, _, market = pair(venues, dialect)
        terms = {**anna.terms("BUY YES 40x10", market), "price_cents": 0}
        statuses = {say(anna, "POST", "/orders", terms).status for _ in range(70)}
        assert statuses == ({422, 429} if dialect == "contract" else {422})


@BOTH
def test_balance(venues: Venues, dialect: str) -> None:
    balance = say(venues(dialect).amm, "GET", "/account/balance").data
    assert ("auto_netting_enabled" in balance) == (dialect == "contract")


@BOTH
def test_the_description_is_of_the_dialect(venues: Venues, dialect: str) -> None:
    schema = json.loads(venues(dialect).exchange("GET", "/schema").body)
    placing = schema["paths"]["/api/v1/orders"]["post"]["responses"]
    assert ("400" in placing) == ("429" in placing) == (dialect == "contract")
    assert ("/api/v1/admin/amm/start" in schema["paths"]) == (dialect == "contract")
    reference = re.compile(r'"#/components/schemas/(\w+)"')
    names = set(reference.findall(json.dumps(schema["paths"])))
    assert ("BuiltOrderView" in schema["components"]["schemas"]) == (dialect == "as-built")
    assert names <= schema["components"]["schemas"].keys()


class TestChoice:
    def test_file(self, tmp_path: Path) -> None:
        path = tmp_path / "paper.toml"
        path.write_text('dialect = "as-built"\n')
        assert load_config(path).dialect is DialectName.AS_BUILT
        path.write_text('dialect = "klingon"\n')
        with pytest.raises(ConfigError, match="dialect = 'klingon'"):
            load_config(path)

    def test_option(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as end:
            main(["--dialect", "klingon"])
        assert end.value.code == 2
        assert "as-built" in capsys.readouterr().err
