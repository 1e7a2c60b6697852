"""Fault switches: what a client sees of each fault of a request, and what the tables hold afterwards."""

import asyncio
import http.client
import itertools
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import aiohttp
import pytest

from tests.paper.databases import stored_state
from tests.paper.exchange_process import OPERATOR_PASSWORD, ExchangeProcess
from tests.paper.venue import DEADLINE_S, MARKET, OTHER_MARKET, Person, Venue, open_venue

API = "/api/v1"
ORDERS = {"path": f"{API}/orders", "methods": ["POST"]}
WORDS = "BUY YES 50x10"
FROZEN_CENTS = 501

_keys = itertools.count(1)


class Outcome(NamedTuple):
    """What a client made of one request: ``end`` is answered, closed, reset, cut or timeout."""

    end: str
    status: int = 0
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})

    @property
    def seen(self) -> str:
        return f"{self.end} {self.status}" if self.end == "answered" else self.end


def ask(
    host: str,
    port: int,
    token: str,
    method: str,
    path: str,
    body: object = None,
    timeout_s: float = DEADLINE_S,
    prefix: str = API,
) -> Outcome:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    response = None
    try:
        connection.request(method, prefix + path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        return Outcome("answered", response.status, response.read(), dict(response.headers.items()))
    except http.client.RemoteDisconnected:
        return Outcome("closed")
    except http.client.IncompleteRead as error:
        return Outcome("cut", response.status if response else 0, error.partial)
    except ConnectionResetError:
        return Outcome("cut" if response else "reset")
    except TimeoutError:
        return Outcome("timeout")
    finally:
        connection.close()


def place(person: Person, key: str, words: str = WORDS, market: str = MARKET, **options: Any) -> Outcome:
    venue = person.venue
    terms = person.terms(words, market, key)
    return ask(venue.host, venue.port, person.token, "POST", "/orders", terms, **options)


def rule(action: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"name": f"rule-{next(_keys)}", "action": action, "match": ORDERS, **changes}


def switch(venue: Venue, *rules: dict[str, Any], seed: int = 0) -> None:
    reply = venue.operator.call("PUT", "/admin/faults", {"rules": rules, "seed": seed})
    assert reply.status == 200, reply


def counts(venue: Venue) -> list[tuple[int, int]]:
    items = venue.operator.get("/admin/faults")["items"]
    return [(item["matched"], item["fired"]) for item in items]


def held(person: Person, key: str) -> tuple[int, int]:
    """(orders under this key, cents frozen) as the tables have it, read past the exchange."""
    state = stored_state(person.venue.database)
    orders = [order for order in state.orders.values() if order.client_order_id == key]
    return len(orders), state.accounts[person.id].frozen_cents


@pytest.fixture(scope="module")
def faulty() -> Iterator[Venue]:
    """One exchange with fault switches for the module."""
    with open_venue(faults=True) as venue:
        yield venue


@pytest.fixture
def a(faulty: Venue) -> Iterator[Person]:
    """Somebody new, and no rule left behind."""
    yield faulty.person(f"person_{next(_keys)}")
    switch(faulty)


BEFORE, AFTER = "before", "after"
SLOW = {"kind": "fixed", "ms": 60}


@pytest.mark.parametrize(
    ("action", "seen", "committed"),
    [
        ({"type": "delay", "moment": BEFORE, "by": SLOW}, "answered 201", True),
        (
            {"type": "delay", "moment": AFTER, "by": {"kind": "uniform", "min_ms": 1, "max_ms": 9}},
            "answered 201",
            True,
        ),
        (
            {"type": "delay", "moment": AFTER, "by": {"kind": "exponential", "mean_ms": 5, "max_ms": 50}},
            "answered 201",
            True,
        ),
        (
            {
                "type": "delay",
                "moment": BEFORE,
                "by": {"kind": "lognormal", "median_ms": 5, "sigma": 1.0, "max_ms": 50},
            },
            "answered 201",
            True,
        ),
        ({"type": "drop_request"}, "closed", False),
        ({"type": "drop_request", "reset": True}, "reset", False),
        ({"type": "drop_reply"}, "closed", True),
        ({"type": "drop_reply", "reset": True}, "reset", True),
        ({"type": "cut_reply"}, "cut", True),
        ({"type": "cut_reply", "sent_percent": 0}, "cut", True),
        ({"type": "cut_reply", "sent_percent": 99}, "cut", True),
        ({"type": "duplicate_reply"}, "answered 201", True),
        ({"type": "repeat_request"}, "answered 200", True),
        ({"type": "answer", "moment": BEFORE, "status": 500}, "answered 500", False),
        ({"type": "answer", "moment": AFTER, "status": 500}, "answered 500", True),
        ({"type": "answer", "moment": AFTER, "status": 503, "retry_after_s": 1}, "answered 503", True),
        ({"type": "answer", "moment": BEFORE, "status": 408}, "answered 408", False),
        ({"type": "answer", "moment": AFTER, "status": 408}, "answered 408", True),
        ({"type": "answer", "moment": BEFORE, "status": 429}, "answered 429", False),
        ({"type": "answer", "moment": BEFORE, "status": 429, "retry_after_s": 7}, "answered 429", False),
        (
            {"type": "answer", "moment": BEFORE, "status": 307, "location": "/elsewhere"},
            "answered 307",
            False,
        ),
        ({"type": "garbage", "moment": BEFORE}, "answered 200", False),
        *(
            ({"type": "garbage", "moment": AFTER, "body": body}, "answered 200", True)
            for body in ("empty", "html", "truncated", "other_shape", "binary")
        ),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_fault_of_a_request(
    faulty: Venue, a: Person, action: dict[str, Any], seen: str, committed: bool
) -> None:
    key = f"key-{next(_keys)}"
    switch(faulty, rule(action, times=1))
    assert place(a, key).seen == seen
    assert held(a, key) == ((1, FROZEN_CENTS) if committed else (0, 0))
    assert counts(faulty) == [(1, 1)]
    # The same intent under the same key, now without a fault: exactly once in the end.
    assert place(a, key).status == (200 if committed else 201)
    assert held(a, key) == (1, FROZEN_CENTS)


def test_a_delay_takes_its_time_on_its_side_of_the_commit(faulty: Venue, a: Person) -> None:
    for moment, committed in ((BEFORE, 0), (AFTER, 1)):
        key = f"key-{next(_keys)}"
        switch(faulty, rule({"type": "delay", "moment": moment, "by": {"kind": "fixed", "ms": 1500}}))
        before = held(a, key)[1]
        assert place(a, key, timeout_s=0.2).seen == "timeout"
        assert held(a, key) == (committed, before + committed * FROZEN_CENTS)
        deadline = time.monotonic() + DEADLINE_S
        while held(a, key) != (1, before + FROZEN_CENTS):  # the client has given up, the exchange has not
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_delays_add_up_and_go_with_one_other_fault(faulty: Venue, a: Person) -> None:
    by = {"kind": "fixed", "ms": 70}
    switch(
        faulty,
        rule({"type": "delay", "moment": BEFORE, "by": by}),
        rule({"type": "delay", "moment": BEFORE, "by": by}),
        rule({"type": "delay", "moment": AFTER, "by": by}),
        rule({"type": "answer", "moment": AFTER, "status": 502}),
        rule({"type": "drop_reply"}),
    )
    began = time.monotonic()
    assert place(a, "late").seen == "answered 502"
    assert time.monotonic() - began >= 0.21
    assert counts(faulty) == [(1, 1), (1, 1), (1, 1), (1, 1), (0, 0)]


def test_what_an_unwanted_answer_looks_like(faulty: Venue, a: Person) -> None:
    answers = [
        ({"status": 429, "retry_after_s": 7}, 9001, "7", None),
        ({"status": 429}, 9001, None, None),
        ({"status": 500}, 9002, None, None),
        ({"status": 503}, 503, None, None),
        ({"status": 302, "location": "http://127.0.0.1:1/x"}, 302, None, "http://127.0.0.1:1/x"),
    ]
    for members, code, retry_after, location in answers:
        switch(faulty, rule({"type": "answer", "moment": BEFORE, **members}))
        outcome = place(a, "never")
        assert outcome.status == members["status"]
        envelope = json.loads(outcome.body)
        assert set(envelope) == {"code", "message", "data", "timestamp", "request_id"}
        assert (envelope["code"], envelope["data"]) == (code, None)
        assert outcome.headers.get("retry-after") == retry_after
        assert outcome.headers.get("location") == location


def test_a_cut_reply_promises_more_than_it_sends(faulty: Venue, a: Person) -> None:
    whole = place(a, "cut-1")
    switch(faulty, rule({"type": "cut_reply", "sent_percent": 25}, times=1))
    connection = http.client.HTTPConnection(faulty.host, faulty.port, timeout=DEADLINE_S)
    headers = {"Authorization": f"Bearer {a.token}"}
    connection.request("POST", f"{API}/orders", json.dumps(a.terms(WORDS, MARKET, "cut-2")), headers)
    response = connection.getresponse()
    promised = int(response.headers["content-length"])
    assert abs(promised - len(whole.body)) < 20
    assert len(response.read(promised // 4)) == promised // 4
    with pytest.raises(ConnectionResetError):
        response.read1(1)
    assert json.loads(place(a, "cut-2").body)["data"]["order"]["client_order_id"] == "cut-2"


def test_a_duplicate_reply_answers_no_request(faulty: Venue, a: Person) -> None:
    switch(faulty, rule({"type": "duplicate_reply"}, times=1))
    body = json.dumps(a.terms(WORDS, MARKET, "twice"))
    head = f"POST {API}/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {a.token}\r\n"
    received = b""
    with socket.create_connection((faulty.host, faulty.port), timeout=DEADLINE_S) as client:
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        while received.count(b"HTTP/1.1 201") < 2 or not received.endswith(b"}"):
            received += client.recv(65536)
    first, second = received.split(b"HTTP/1.1 201")[1:]
    assert json.loads(first.split(b"\r\n\r\n")[1]) == json.loads(second.split(b"\r\n\r\n")[1])
    assert held(a, "twice") == (1, FROZEN_CENTS)


def test_garbage(faulty: Venue, a: Person) -> None:
    for body in ("empty", "html", "truncated", "binary"):
        switch(faulty, rule({"type": "garbage", "moment": AFTER, "body": body}))
        with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)):
            json.loads(place(a, f"garbage-{body}").body)
    switch(faulty, rule({"type": "garbage", "moment": AFTER, "body": "other_shape"}))
    assert isinstance(json.loads(place(a, "garbage-shape").body)["data"], list)


def test_cancel_mint_and_replace_take_faults_too(faulty: Venue, a: Person) -> None:
    amm = faulty.amm
    amm.post("/account/deposit", {"amount_cents": 100_000})

    def call(person: Person, path: str, body: object = None) -> Outcome:
        return ask(faulty.host, faulty.port, person.token, "POST", path, body)

    order_id = a.place(WORDS)["order"]["id"]
    old_id = amm.place("BUY YES 30x10")["order"]["id"]
    new_order = amm.terms("BUY YES 31x10", key="replacing")
    mint = {"market_id": MARKET, "quantity": 5, "idempotency_key": "mint-once"}
    paths = [f"{API}/orders/*/cancel", f"{API}/amm/mint", f"{API}/amm/orders/replace"]
    switch(faulty, *(rule({"type": "drop_reply"}, match={"path": path}, times=1) for path in paths))
    assert call(a, f"/orders/{order_id}/cancel").seen == "closed"
    assert call(amm, "/amm/mint", mint).seen == "closed"
    replace = {"old_order_id": old_id, "new_order": new_order}
    assert call(amm, "/amm/orders/replace", replace).seen == "closed"
    assert counts(faulty) == [(1, 1)] * 3
    state = stored_state(faulty.database)
    assert state.orders[order_id].status == "CANCELLED"
    assert state.orders[old_id].cancel_reason == "REPLACED"
    assert state.positions[MARKET][amm.id].yes.volume == 5
    assert call(a, f"/orders/{order_id}/cancel").status == 422
    assert call(amm, "/amm/mint", mint).status == 200
    assert call(amm, "/amm/orders/replace", replace).status == 200
    state = stored_state(faulty.database)
    assert state.positions[MARKET][amm.id].yes.volume == 5
    assert [order.client_order_id for order in state.orders.values() if order.user_id == amm.id].count(
        "replacing"
    ) == 1


# -- reads ---------------------------------------------------------------------------------------------------


def test_an_order_list_that_omits_the_recent(faulty: Venue, a: Person) -> None:
    old = a.place(WORDS)["order"]["id"]
    time.sleep(0.3)
    new = a.place(WORDS)["order"]["id"]
    match = {"path": f"{API}/orders", "methods": ["GET"]}
    switch(faulty, rule({"type": "omit_recent_orders", "age_ms": 250}, match=match))
    assert [item["id"] for item in a.get("/orders")["items"]] == [old]
    assert a.order(new)["status"] == "OPEN"  # the targeted query knows it
    switch(faulty, rule({"type": "omit_recent_orders", "age_ms": 600_000}, match=match))
    assert a.get("/orders")["items"] == []
    switch(faulty)
    assert {item["id"] for item in a.get("/orders")["items"]} == {old, new}


def test_stale_reads(faulty: Venue, a: Person) -> None:
    b = faulty.person(f"person_{next(_keys)}")
    match = {"path": f"{API}/*", "methods": ["GET"]}
    switch(faulty, rule({"type": "stale_read", "age_ms": 600_000}, match=match))
    assert a.cash == (1_000_000, 0)
    order_id = a.place(WORDS)["order"]["id"]
    assert a.cash == (1_000_000, 0)  # as it was
    assert b.cash == (1_000_000, 0)
    assert a.order(order_id)["status"] == "OPEN"  # never asked before, so it is true
    a.cancel(order_id)
    assert a.order(order_id)["status"] == "OPEN"
    switch(faulty, rule({"type": "stale_read", "age_ms": 1}, match=match))
    time.sleep(0.01)
    assert a.order(order_id)["status"] == "CANCELLED"


def test_positions_that_cannot_be_read(faulty: Venue, a: Person) -> None:
    match = {"path": f"{API}/positions*"}
    switch(faulty, rule({"type": "answer", "moment": BEFORE, "status": 503}, match=match))
    for path in ("/positions", f"/positions/{MARKET}"):
        assert ask(faulty.host, faulty.port, a.token, "GET", path).status == 503
    assert a.cash == (1_000_000, 0)


# -- which requests, and how often ---------------------------------------------------------------------------


def fates(faulty: Venue, a: Person, count: int) -> list[bool]:
    return [place(a, f"fate-{next(_keys)}").status == 503 for _ in range(count)]


def test_every_skip_and_times(faulty: Venue, a: Person) -> None:
    action = {"type": "answer", "moment": BEFORE, "status": 503}
    switch(faulty, rule(action, every=3, skip=2, times=2))
    assert [index for index, fate in enumerate(fates(faulty, a, 14), 1) if fate] == [5, 8]
    assert counts(faulty) == [(14, 2)]


def test_a_seed_repeats_the_fates(faulty: Venue, a: Person) -> None:
    action = {"type": "answer", "moment": BEFORE, "status": 503}
    drawn = {}
    for seed in (1, 2, 1):
        switch(faulty, rule(action, probability=0.5, name="coin"), seed=seed)
        told = fates(faulty, a, 40)
        assert drawn.setdefault(seed, told) == told
        assert counts(faulty) == [(40, sum(told))]
    assert drawn[1] != drawn[2]
    assert 5 < sum(drawn[1]) < 35


def test_by_user_and_by_market(faulty: Venue, a: Person) -> None:
    action = {"type": "answer", "moment": BEFORE, "status": 503}
    b = faulty.person(f"person_{next(_keys)}")
    for name in (a.name, a.id):
        switch(faulty, rule(action, match={"users": [name], "path": "/api/*"}))
        assert place(a, "x").status == 503
        assert place(b, f"key-{next(_keys)}").status == 201
    mine = a.venue
    switch(faulty)
    here, there = (a.place(WORDS, market)["order"]["id"] for market in (MARKET, OTHER_MARKET))
    switch(faulty, rule(action, match={"markets": [OTHER_MARKET]}))
    requests: list[tuple[str, str, object]] = [
        ("POST", "/orders", a.terms(WORDS, MARKET)),
        ("POST", "/orders", a.terms(WORDS, OTHER_MARKET)),
        ("POST", f"/orders/{here}/cancel", None),
        ("POST", f"/orders/{there}/cancel", None),
        ("GET", f"/markets/{MARKET}/orderbook", None),
        ("GET", f"/markets/{OTHER_MARKET}/orderbook", None),
        ("GET", f"/positions/{MARKET}", None),
        ("GET", f"/positions/{OTHER_MARKET}", None),
        ("GET", f"/trades?market_id={MARKET}", None),
        ("GET", f"/trades?market_id={OTHER_MARKET}", None),
    ]
    for number, (method, path, body) in enumerate(requests):
        outcome = ask(mine.host, mine.port, a.token, method, path, body)
        assert (outcome.status == 503) == (number % 2 == 1), (method, path)
    body = {"old_order_id": "x", "new_order": a.terms(WORDS, OTHER_MARKET)}
    assert ask(mine.host, mine.port, a.token, "POST", "/amm/orders/replace", body).status == 503
    assert ask(mine.host, mine.port, a.token, "POST", "/orders", ["no", "order"]).status == 400


# -- the operator's hand -------------------------------------------------------------------------------------


def test_there_are_no_switches_without_the_option(shared: Venue) -> None:
    assert shared.operator.call("GET", "/admin/faults").status == 404
    assert shared.operator.call("PUT", "/admin/faults", {"rules": []}).status == 404


def described(venue: Venue) -> dict[str, Any]:
    outcome = ask(venue.host, venue.port, "", "GET", "/schema/openapi.json", prefix="")
    return dict(json.loads(outcome.body)["paths"])


def test_the_description_knows_them_where_they_are(faulty: Venue, shared: Venue) -> None:
    operations = described(faulty)["/api/v1/admin/faults"]
    assert set(operations) == {"get", "put"}
    body = operations["put"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/Rules"}
    assert "/api/v1/admin/faults" not in described(shared)


def test_the_as_built_dialect_has_them_too() -> None:
    with open_venue(faults=True, dialect="as-built") as venue:
        (person,) = venue.people("A")
        answer = {"type": "answer", "moment": AFTER, "status": 500}
        switch(
            venue, rule(answer, times=1), rule({"type": "omit_recent_orders", "age_ms": 600_000}, match={})
        )
        outcome = place(person, "lost")
        assert (outcome.status, outcome.body) == (500, b"Internal Server Error")
        assert held(person, "lost") == (1, FROZEN_CENTS)
        page = ask(venue.host, venue.port, person.token, "GET", "/orders")
        assert json.loads(page.body)["items"] == []


def test_only_administrators(faulty: Venue, a: Person) -> None:
    assert a.call("PUT", "/admin/faults", {"rules": []}).status == 403
    assert a.call("GET", "/admin/faults").status == 403
    assert faulty.call("GET", "/admin/faults").status == 401


def test_no_rule_meets_the_switches_themselves(faulty: Venue, a: Person) -> None:
    switch(faulty, rule({"type": "drop_request"}, match={}))
    assert place(a, "x").seen == "closed"
    assert counts(faulty) == [(1, 1)]
    switch(faulty)
    assert a.cash == (1_000_000, 0)


FIXED = {"kind": "fixed", "ms": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": {"type": "explode"}}, "rules[0].action.type = 'explode': Invalid value 'explode'"),
        (
            {"action": {"type": "delay", "moment": "before", "by": {**FIXED, "ms": "1"}}},
            "rules[0].action.by.ms = '1': Expected `int`, got `str`",
        ),
        (
            {"action": {"type": "delay", "moment": "before", "by": {**FIXED, "ms": 1.0}}},
            "rules[0].action.by.ms = 1.0: Expected `int`, got `float`",
        ),
        (
            {
                "action": {
                    "type": "delay",
                    "moment": "before",
                    "by": {"kind": "uniform", "min_ms": 2, "max_ms": 1},
                }
            },
            "rules[0].action.by: min_ms 2 must not be above max_ms 1",
        ),
        (
            {"action": {"type": "answer", "moment": "before", "status": 200}},
            "rules[0].action.status = 200: Expected `int` >= 300",
        ),
        (
            {"action": {"type": "answer", "moment": "before", "status": 304}},
            "rules[0].action: status 304 has no body and answers only a conditional request",
        ),
        (
            {"action": {"type": "kill", "point": "somewhere"}},
            "rules[0].action.point = 'somewhere': Invalid enum",
        ),
        ({"action": {"type": "ws_disconnect", "code": 1006}}, "rules[0].action: code 1006 must not be sent"),
        (
            {"action": {"type": "drop_reply", "loudly": True}},
            "rules[0].action: Object contains unknown field",
        ),
        ({"probability": 1.5}, "rules[0].probability = 1.5: Expected `float` <= 1.0"),
        ({"probability": True}, "rules[0].probability = True: Expected `float`, got `bool`"),
        ({"every": 0}, "rules[0].every = 0: Expected `int` >= 1"),
        ({"match": {"path": "orders"}}, "rules[0].match.path = 'orders': Expected `str` matching regex"),
        ({"match": {"messages": ["DELTA"]}}, "rules[0]: rule bad: match.messages is for actions on streams"),
        ({"match": {"methods": ["FETCH"]}}, "rules[0].match.methods[0] = 'FETCH': Invalid enum value"),
        ({"name": "good"}, "rule name 'good' appears 2 times, allowed once"),
    ],
)
def test_bad_rules_change_nothing(faulty: Venue, a: Person, changes: dict[str, Any], message: str) -> None:
    good = rule({"type": "drop_request"}, name="good", times=1)
    switch(faulty, good, seed=5)
    bad = {"name": "bad", "action": {"type": "drop_reply"}, **changes}
    others = [good] if changes.get("name") == "good" else []
    reply = faulty.operator.call("PUT", "/admin/faults", {"rules": [bad, *others]})
    assert (reply.status, reply.code) == (400, 400)
    assert reply.envelope["message"].startswith(message)
    assert reply.envelope["message"].endswith("; the rules stay as they were")
    view = faulty.operator.get("/admin/faults")
    assert (view["seed"], [item["rule"]["name"] for item in view["items"]]) == (5, ["good"])
    assert place(a, "x").seen == "closed"


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff", b"[]", b'{"rules":{}}', b'{"rules":[],"seed":-1}', b"{}"]
)
def test_no_rules_at_all(faulty: Venue, raw: bytes) -> None:
    reply = faulty.call("PUT", "/admin/faults", token=faulty.operator.token, raw=raw)
    assert reply.status == 400


def test_the_rules_come_back_as_they_were_sent(faulty: Venue, a: Person) -> None:
    sent = rule(
        {
            "type": "delay",
            "moment": "after",
            "by": {"kind": "lognormal", "median_ms": 5, "sigma": 0.5, "max_ms": 90},
        },
        match={"methods": ["POST"], "path": "/x/*", "users": ["u"], "markets": ["m"], "messages": None},
        probability=0.25,
        every=2,
        skip=3,
        times=4,
    )
    switch(faulty, sent, seed=9)
    view = faulty.operator.get("/admin/faults")
    assert view == {"seed": 9, "items": [{"rule": sent, "matched": 0, "fired": 0}]}


# -- many at once --------------------------------------------------------------------------------------------

AMBIGUOUS = (
    {"type": "drop_request"},
    {"type": "drop_reply"},
    {"type": "drop_reply", "reset": True},
    {"type": "cut_reply"},
    {"type": "answer", "moment": "after", "status": 500},
)
ORDERS_AT_ONCE = 32
ORDERS_EACH = 12


def test_ambiguous_outcomes_at_32_in_flight_leave_each_order_once(faulty: Venue) -> None:
    """Every intent is sent again under its key until it is answered."""
    person = faulty.person(f"person_{next(_keys)}", cents=10_000_000)
    rules = [rule(action, probability=0.25) for action in AMBIGUOUS]
    switch(faulty, *rules, seed=20)
    statuses: Counter[str] = Counter()

    async def intent(session: aiohttp.ClientSession, key: str, rng: random.Random) -> None:
        terms = person.terms(f"BUY YES {rng.randint(1, 30)}x1", key=key)
        while True:
            try:
                async with session.post(
                    f"http://{faulty.host}:{faulty.port}{API}/orders",
                    json=terms,
                    headers={"Authorization": f"Bearer {person.token}"},
                ) as response:
                    await response.read()
                    statuses[str(response.status)] += 1
                    if response.status in {200, 201}:
                        return
            except aiohttp.ClientError as error:
                statuses[type(error).__name__] += 1

    async def play() -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_S)) as session:

            async def one(number: int) -> None:
                for step in range(ORDERS_EACH):
                    await intent(session, f"many-{number}-{step}", random.Random(number))

            await asyncio.gather(*map(one, range(ORDERS_AT_ONCE)))

    asyncio.run(play())
    fired = sum(fired for _, fired in counts(faulty))
    assert fired == sum(statuses.values()) - statuses["200"] - statuses["201"]
    assert fired > 200
    state = stored_state(faulty.database)
    mine = [order.client_order_id for order in state.orders.values() if order.user_id == person.id]
    assert len(mine) == len(set(mine)) == ORDERS_AT_ONCE * ORDERS_EACH
    switch(faulty)


# -- death ---------------------------------------------------------------------------------------------------

KILL_POINTS = {
    "before_execution": False,
    "before_commit": False,
    "mid_transaction": False,
    "after_commit": True,
    "after_commit_before_reply": True,
    "after_reply": True,
}


@pytest.mark.timeout(180)
def test_killed_at_each_point(tmp_path: Path) -> None:
    """One life per point; the next one tells what survived, and the same key settles it."""
    data = tmp_path / "data"
    earlier: tuple[str, bool] | None = None
    token = ""

    def call(exchange: ExchangeProcess, method: str, path: str, body: object = None) -> Outcome:
        host, port = exchange.url.removeprefix("http://").split(":")
        return ask(host, int(port), token, method, path, body)

    def terms(key: str) -> dict[str, Any]:
        members = {"market_id": "MKT-BTC-100K-2026", "side": "YES", "direction": "BUY"}
        return {"client_order_id": key, **members, "price_cents": 50, "quantity": 10}

    for point in [*KILL_POINTS, None]:
        with ExchangeProcess(tmp_path, "--data", str(data), "--faults") as exchange:
            if not token:
                login = {"username": "operator", "password": OPERATOR_PASSWORD}
                reply = call(exchange, "POST", "/auth/login", login)
                token = json.loads(reply.body)["data"]["access_token"]
                assert call(exchange, "POST", "/account/deposit", {"amount_cents": 100_000}).status == 200
            if earlier is not None:
                key, committed = earlier
                reply = call(exchange, "GET", "/orders?limit=100")
                keys = [item["client_order_id"] for item in json.loads(reply.body)["data"]["items"]]
                assert keys.count(key) == committed
                assert call(exchange, "POST", "/orders", terms(key)).status == (200 if committed else 201)
                reply = call(exchange, "POST", "/admin/verify-invariants")
                assert json.loads(reply.body)["data"]["all_passed"]
            if point is None:
                break
            kill = {"name": "kill", "match": ORDERS, "action": {"type": "kill", "point": point}}
            body = {"rules": [kill]}
            assert call(exchange, "PUT", "/admin/faults", body).status == 200
            if point in {"before_commit", "mid_transaction", "after_commit"}:
                # A refused order writes nothing: nobody dies of it, and the rule has not fired.
                refused = call(exchange, "POST", "/orders", {**terms("refused"), "price_cents": 100})
                assert refused.status == 422
                items = json.loads(call(exchange, "GET", "/admin/faults").body)["data"]["items"]
                assert (items[0]["matched"], items[0]["fired"]) == (1, 0)
            outcome = call(exchange, "POST", "/orders", terms(point))
            assert (
                outcome.seen == "answered 201"
                if point == "after_reply"
                else outcome.seen in {"closed", "reset"}
            )
            assert exchange.process.wait(DEADLINE_S) == -9
            earlier = (point, KILL_POINTS[point])
