"""Rate limits in their three profiles (contract section 1.7)."""

import pytest

from engine.paper.limits import FixedWindows, LimitClass, TooManyRequests
from tests.paper.venue import MARKET, OTHER_MARKET, SERVICE_TOKEN, Person, Reply, Venue, open_venue


class TestWindows:
    def test_count_and_renewal(self) -> None:
        now = [119.5]
        windows = FixedWindows(lambda: now[0])
        windows.count(LimitClass.ORDER, "a", 2)
        windows.count(LimitClass.ORDER, "a", 2)
        windows.count(LimitClass.ORDER, "b", 2)
        windows.count(LimitClass.QUERY, "a", 2)
        with pytest.raises(TooManyRequests) as refusal:
            windows.count(LimitClass.ORDER, "a", 2)
        headers = dict(refusal.value.headers)
        assert headers == {
            b"retry-after": b"1",
            b"x-ratelimit-limit": b"2",
            b"x-ratelimit-remaining": b"0",
            b"x-ratelimit-reset": b"120",
        }
        now[0] = 120.0
        windows.count(LimitClass.ORDER, "a", 2)


def use_up(person: Person, method: str, path: str, body: object = None) -> tuple[int, Reply]:
    """Repeat a request until it is limited; answers how many passed, and the refusal.

    A window may end meanwhile, so the count is between the limit and twice the limit.
    """
    person.venue.audit = type("Idle", (), {"check": staticmethod(lambda: [])})()  # not what is tested here
    for passed in range(2000):
        reply = person.call(method, path, body)
        if reply.status == 429:
            assert reply.code == 9001
            assert 1 <= int(reply.headers["retry-after"]) <= 61
            return passed, reply
        assert reply.status < 500
    pytest.fail("no limit within 2000 requests")


def within(passed: int, limit: int) -> bool:
    return limit <= passed < 2 * limit


def test_contract_profile() -> None:
    with open_venue(limits="contract", exempt_users=["trader_x"]) as venue:
        (a,) = venue.people("A")
        order = {**a.terms("BUY YES 50x1"), "price_cents": 0}
        assert within(use_up(a, "POST", "/orders", order)[0], 30)
        assert within(use_up(a, "GET", "/account/balance")[0], 120)
        assert a.call("POST", "/orders/none/cancel").code == 4004
        assert within(use_up(venue.operator, "GET", "/admin/journal")[0], 10)
        assert within(use_up(venue.amm, "POST", "/orders", order)[0], 600)
        for _ in range(300):
            assert venue.amm.call("GET", "/account/balance").status == 200
        exempt = venue.person("trader_x")
        for _ in range(150):
            assert exempt.call("GET", "/account/balance").status == 200
            assert exempt.call("POST", "/orders", order).code == 4001
        check_replaces(venue)


def check_replaces(venue: Venue) -> None:
    body = {"old_order_id": "none", "new_order": venue.amm.terms("BUY YES 50x1")}
    passed, reply = use_up(venue.amm, "POST", "/amm/orders/replace", body)
    assert within(passed, 400)
    assert (reply.headers["x-ratelimit-limit"], reply.headers["x-ratelimit-remaining"]) == ("400", "0")
    assert int(reply.headers["x-ratelimit-reset"]) % 60 == 0
    body["new_order"] = venue.amm.terms("BUY YES 50x1", OTHER_MARKET)
    assert venue.amm.call("POST", "/amm/orders/replace", body).code == 6002
    for path in ("/amm/orders/batch-cancel", "/amm/mint", "/amm/burn"):
        body = {"market_id": MARKET, "quantity": 1, "idempotency_key": "k"}
        assert venue.amm.call("POST", path, body).status != 429


def test_jwt_mvp_profile() -> None:
    with open_venue(limits="jwt_mvp") as venue:
        order = {**venue.amm.terms("BUY YES 50x1"), "price_cents": 0}
        assert within(use_up(venue.amm, "POST", "/orders", order)[0], 30)
        assert within(use_up(venue.amm, "GET", "/account/balance")[0], 120)
        headers = {"X-AMM-System-Id": "AMM_SYSTEM_001"}
        for _ in range(150):
            reply = venue.call("GET", "/account/balance", token=SERVICE_TOKEN, headers=headers)
            assert reply.status == 200


def test_logins_from_afar_are_limited(shared: Venue) -> None:
    from types import SimpleNamespace

    from engine.paper.config import PaperConfig
    from engine.paper.desk import Desk
    from engine.paper.tokens import Tokens

    windows = FixedWindows(lambda: 0.0)
    desk = Desk(shared.server.exchange, Tokens("s" * 32, None), windows, PaperConfig())

    def login_from(host: str) -> None:
        desk.count_login(SimpleNamespace(scope={"client": (host, 1)}))  # type: ignore[arg-type]

    for _ in range(5):
        login_from("192.0.2.7")
    with pytest.raises(TooManyRequests):
        login_from("192.0.2.7")
    login_from("192.0.2.8")
    for _ in range(50):
        login_from("127.0.0.1")
