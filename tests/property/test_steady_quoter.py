"""The assembled quoter over legal configurations and stock: it settles, never crosses itself, is silent."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import Direction, OrderKind, Outcome, Side
from engine.quoting.inventory import buy_freeze_cents
from tests.unit.test_quoter import Venue, market

phases = {
    "levels": st.integers(2, 5),
    "gradient_type": st.sampled_from(["LINEAR", "GEOMETRIC"]),
}
configurations = st.fixed_dictionaries(
    {
        "initial_price_cents": st.integers(12, 88),
        "base_spread_cents": st.integers(1, 10),
        "exploration": st.fixed_dictionaries({**phases, "min_volume": st.sampled_from([0, 200])}),
        "stabilization": st.fixed_dictionaries({**phases, "qty_decay": st.sampled_from([0.3, 0.7, 1.0])}),
        "funding_mode": st.sampled_from(["INVENTORY_FIRST", "SPLIT"]),
        "buy_share": st.sampled_from([0.0, 0.3, 0.5, 1.0]),
        "qty_per_level": st.sampled_from([1, 7, 100, 900]),
        "allow_buy": st.booleans(),
        "position_limit": st.sampled_from([1, 2_000, 5_000]),
        "min_asset_floor_cents": st.just(0),
    }
)


def check_live(venue: Venue, position_limit: int) -> None:
    """What may be live at one moment (§3.6, §3.7, E1, E2)."""
    owner = market(venue)
    bids = [order.book_price_cents for order in owner.live if order.side == Side.BID]
    asks = [order.book_price_cents for order in owner.live if order.side == Side.ASK]
    assert not bids or not asks or max(bids) < min(asks), "own orders cross"
    assert all(5 <= price <= 95 for price in bids + asks)
    for outcome, volume in ((Outcome.YES, owner.stock.yes_volume), (Outcome.NO, owner.stock.no_volume)):
        of_it = [order for order in owner.live if order.outcome == outcome]
        assert sum(o.remaining for o in of_it if o.direction == Direction.SELL) <= volume
        bought = sum(o.remaining for o in of_it if o.direction == Direction.BUY)
        assert bought == 0 or bought + volume <= position_limit
    frozen = sum(
        buy_freeze_cents(o.price_cents, o.remaining, 20) for o in owner.live if o.direction == Direction.BUY
    )
    assert frozen <= owner.stock.cash_cents


@settings(max_examples=40, deadline=None)
@given(
    quote=configurations,
    yes=st.integers(0, 3_000),
    no=st.integers(0, 3_000),
    cash=st.integers(0, 300_000),
    spread=st.integers(1, 12),
)
def test_it_settles_and_is_silent_for_a_hundred_cycles(
    quote: dict[str, Any], yes: int, no: int, cash: int, spread: int
) -> None:
    middle = quote["initial_price_cents"]
    with tempfile.TemporaryDirectory() as directory:
        venue = Venue(Path(directory), **quote)
    venue.run()
    venue.snapshot({middle - spread: 300}, {middle + spread: 300})
    venue.sync(yes=yes, no=no, cash=cash)
    for _ in range(60):
        sent = venue.run(0.5)
        check_live(venue, quote["position_limit"])
        kinds = {intent.kind for intent in sent}
        if kinds & {OrderKind.BATCH_CANCEL, OrderKind.MINT, OrderKind.BURN}:
            return  # killed by its stock, or it changes it: another test's matter
        free = iter(slot for slot in range(64) if market(venue).orders.by_slot(slot) is None)
        for intent in sent:
            venue.acknowledge([intent], first_slot=next(free))
    silent = [venue.run(1.0) for _ in range(100)]
    assert not any(silent)
    check_live(venue, quote["position_limit"])
