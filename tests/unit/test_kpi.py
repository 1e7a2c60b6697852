"""Corners of the KPI fold that a history told in order does not reach."""

from __future__ import annotations

from engine.events import Scenario, Side
from engine.kpi import DAYS_MAX, MarketKpis
from engine.kpi_values import Condition, Fill, MarketRecord, OwnQuotes
from engine.quoting.inventory import Stock

S = 1_000_000_000
START = 1_750_000_000 * S
DAY = 86_400 * S


def market() -> MarketKpis:
    """1000 pairs at a fair price of 50 cents."""
    kpis = MarketKpis(MarketRecord(market_id="M"))
    kpis.resume(START)
    kpis.venue_stock(START, Stock(yes_volume=1_000, no_volume=1_000, cash_cents=100_000))
    kpis.hold(START, Condition(phase="STABILIZATION"))
    kpis.mark(START, 50)
    return kpis


def test_a_fill_that_is_known_late_is_valued_at_its_own_time() -> None:
    kpis = market()
    kpis.mark(START + 2 * S, 53)  # a second after the trade
    kpis.mark(START + 4 * S, 51)
    sold = Fill(scenario=Scenario.TRANSFER_YES, side=Side.ASK, price_cents=52, quantity=10, fee_cents=1)
    kpis.fill(START + 5 * S, sold, traded_ns=START + S)
    kpis.advance(START + 6 * S)
    total = kpis.record.total
    assert total.capture_cents == 10 * (52 - 50)
    assert total.inventory_cents == -10 * (51 - 50)  # ten YES fewer while the price rose by a cent
    assert total.assets_change_cents == 10 * (52 - 51) - 1
    assert total.identity_error_cents == 0
    assert total.markout_cents[0] == 10 * (52 - 53)  # one second after the trade, not after the news
    assert total.markout_shares[:2] == [10, 0]


def test_midnight_parts_the_days_and_old_days_leave() -> None:
    kpis = market()
    kpis.quote(START, OwnQuotes(bids={48: 10}, asks={52: 10}))
    kpis.advance(START + 9 * DAY)
    record = kpis.record
    assert len(record.days) == DAYS_MAX
    assert record.total.quoted_ns == 9 * DAY
    whole = [day["STABILIZATION"].quoted_ns for _, day in sorted(record.days.items())][:-1]
    assert whole == [DAY] * (DAYS_MAX - 1)


def test_time_that_nobody_watched_does_not_count() -> None:
    kpis = market()
    kpis.quote(START, OwnQuotes(bids={48: 10}, asks={52: 10}))
    kpis.advance(START + S)
    successor = MarketKpis(kpis.record)
    successor.resume(START + 100 * S)
    successor.advance(START + 101 * S)
    assert kpis.record.total.observed_ns == 2 * S
    assert kpis.record.total.quoted_ns == S  # what rests is not known until it is looked at again
