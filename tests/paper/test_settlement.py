"""A settlement that waits survives a restart with what is left of its delay."""

import time
from datetime import datetime, timedelta
from typing import Any

from tests.paper.databases import fresh_database
from tests.paper.venue import MARKET, OTHER_MARKET, Venue, open_venue

DEADLINE_S = 30.0
DELAYS_MS = {MARKET: 300, OTHER_MARKET: 6000}


def settled(venue: Venue, market: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while (shown := venue.market(market))["status"] != "SETTLED":
        assert shown["status"] == "RESOLVED"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return shown


def test_a_restart_keeps_what_is_left_of_the_delay() -> None:
    database = fresh_database()
    with open_venue(database=database) as venue:
        a, b = venue.people("AB")
        for market, delay_ms in DELAYS_MS.items():
            a.place("BUY YES 60x10", market)
            b.place("BUY NO 40x10", market)
            venue.operator.post(
                f"/admin/markets/{market}/resolve",
                {"resolution_result": "YES", "settle_delay_ms": delay_ms},
            )
        venue.compares_rows = False  # the short one may be settled in between
    time.sleep(DELAYS_MS[MARKET] / 1000)
    with open_venue(database=database) as venue:
        for market, delay_ms in DELAYS_MS.items():
            shown = settled(venue, market)
            resolved, ended = (datetime.fromisoformat(shown[key]) for key in ("resolved_at", "settled_at"))
            assert ended - resolved >= timedelta(milliseconds=delay_ms)
        a = venue.login("user_A", "Secret-123")
        assert a.cash == (1_000_000 - 2 * (600 + 1) + 2 * 1000, 0)
        assert venue.operator.post("/admin/verify-invariants")["all_passed"]
