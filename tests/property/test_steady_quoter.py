"""The assembled quoter over legal configurations and stock: it settles, never crosses itself, is silent."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.events import Direction, OrderKind, Outcome, Side
from engine.quoting.funding import book_price_cents, book_side
from engine.quoting.inventory import buy_freeze_cents
from engine.quoting.orders import LiveOrder
from tests.unit.test_quoter import SECOND, Venue, market

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


# own orders rest at the only foreign level, and hold more than half of what is held
SCARCE = {
    "initial_price_cents": 12,
    "base_spread_cents": 1,
    "exploration": {"levels": 2, "gradient_type": "LINEAR", "min_volume": 200},
    "stabilization": {"levels": 2, "gradient_type": "LINEAR", "qty_decay": 0.3},
    "qty_per_level": 900,
    "min_asset_floor_cents": 0,
}
SELLS_ONLY = {
    **SCARCE,
    "funding_mode": "INVENTORY_FIRST",
    "buy_share": 0.0,
    "allow_buy": False,
    "position_limit": 1,
}
BUYS_ONLY = {**SCARCE, "funding_mode": "SPLIT", "buy_share": 1.0, "allow_buy": True, "position_limit": 2_000}


class BookVenue(Venue):
    """A venue whose book shows our orders among the others', from before it answers for them."""

    def __init__(self, run_dir: Path, **quote: Any) -> None:
        super().__init__(run_dir, **quote)
        self._shown: dict[tuple[Side, int], int] = {}
        self._resting: dict[int, tuple[Side, int, int]] = {}  # live slot -> side, price, shares

    def snapshot(self, bids: dict[int, int], asks: dict[int, int]) -> None:
        super().snapshot(bids, asks)
        self._shown = {(Side.BID, price): size for price, size in bids.items()}
        self._shown |= {(Side.ASK, price): size for price, size in asks.items()}

    def acknowledge(self, intents: list[Any], first_slot: int = 0) -> None:
        for slot, intent in enumerate(intents, first_slot):
            if intent.kind in (OrderKind.REPLACE, OrderKind.CANCEL):
                side, price, shares = self._resting.pop(intent.live_slot)
                self._show(side, price, -shares)
            if intent.kind in (OrderKind.REPLACE, OrderKind.PLACE):
                outcome, direction = Outcome(intent.outcome), Direction(intent.direction)
                side, price = book_side(outcome, direction), book_price_cents(outcome, intent.price_cents)
                self._resting[slot] = side, price, intent.quantity
                self._show(side, price, intent.quantity)
        super().acknowledge(intents, first_slot)

    def _show(self, side: Side, price: int, change: int) -> None:
        size = self._shown[side, price] = self._shown.get((side, price), 0) + change
        self.level(side, price, size)


def freeze_cents(order: LiveOrder) -> int:
    return buy_freeze_cents(order.price_cents, order.remaining, 20)


def held(live: list[LiveOrder], outcomes: set[Outcome], direction: Direction, *, cents: bool = False) -> int:
    """Shares, or cents, of these orders; of the two orders of a replace under way the larger counts."""
    sizes: dict[int, int] = {}
    for order in live:
        if order.outcome in outcomes and order.direction == direction:
            request = order.leaving_intent or order.intent
            size = freeze_cents(order) if cents else order.remaining
            sizes[request] = max(sizes.get(request, 0), size)
    return sum(sizes.values())


def check_live(venue: Venue, position_limit: int) -> None:
    """What may be live at one moment (§3.6, §3.7, E1, E2)."""
    owner = market(venue)
    bids = [order.book_price_cents for order in owner.live if order.side == Side.BID]
    asks = [order.book_price_cents for order in owner.live if order.side == Side.ASK]
    assert not bids or not asks or max(bids) < min(asks), "own orders cross"
    assert all(5 <= price <= 95 for price in bids + asks)
    for outcome, volume in ((Outcome.YES, owner.stock.yes_volume), (Outcome.NO, owner.stock.no_volume)):
        assert held(owner.live, {outcome}, Direction.SELL) <= volume
        bought = held(owner.live, {outcome}, Direction.BUY)
        assert bought == 0 or bought + volume <= position_limit
    assert held(owner.live, set(Outcome), Direction.BUY, cents=True) <= owner.stock.cash_cents


@settings(max_examples=40, deadline=None)
@example(quote=SELLS_ONLY, yes=200, no=157, cash=0, spread=5).via("sells of 400 under way, 200 held")
@example(quote=BUYS_ONLY, yes=157, no=198, cash=84_162, spread=5).via("84464 cents under way, 84162 held")
@example(quote=BUYS_ONLY, yes=24, no=35, cash=83_877, spread=4).via("own orders taken for foreign depth")
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
        venue = BookVenue(Path(directory), **quote)
    try:
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
        due_ns = market(venue).next_timer_ns() - venue.mono_ns
        assert due_ns == SECOND, "nothing of the ladder waits: the next look is the next cycle's"
        check_live(venue, quote["position_limit"])
    finally:
        os.close(venue.arena.fd)
