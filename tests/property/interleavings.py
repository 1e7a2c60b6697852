"""Fills, replies, mints, burns, reconciliation and restarts in random order: final stock = sum of the ledger.

    python -m tests.property.interleavings [--seeds N] [--first S]

Virtual time: nothing runs but the order of steps that a seed draws. Real: the gateway's account of a market
with its shared-memory row, leg ids and dedup, the order of booking, the quoter's arithmetic and its drift
rule. The venue is a ledger in this file whose effects come from tests/reference. Every 1,000 seeds the next
one is printed, which is where ``--first`` goes on; a seed that fails is printed, and ``--first S --seeds 1``
repeats it.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from engine._native import ffi, lib
from engine.config import QuoteConfig
from engine.events import Scenario, Side
from engine.quoting.drift import Drift, compare
from engine.quoting.inventory import AppliedTrades, Leg, Stock, apply_trade, leg_id
from engine.venues.platform_wire import AccountTrade
from engine.workers.gateway_fills import in_order_of_booking
from engine.workers.gateway_market import GatewayMarket
from tests.reference.effects import TABLE, after_leg
from tests.unit.books_rig import MARKET_ID, new_arena, new_books, untold

STEPS = 120
AT = datetime(2026, 1, 1, tzinfo=UTC)
SIDES = {"BUY": Side.BID, "SELL": Side.ASK}
START = {"YES": 500, "NO": 500, "YES_COST": 25_000, "NO_COST": 25_000, "CASH": 50_000}


class Venue:
    """The truth: a ledger of legs and pairs, and what can be asked of it."""

    def __init__(self) -> None:
        self.holding = dict(START)
        self.trades: list[AccountTrade] = []  # oldest first
        self.keys: set[str] = set()

    def trade(self, rng: random.Random) -> None:
        scenario, side = rng.choice(list(TABLE))
        price, quantity, fee = rng.randint(1, 99), rng.randint(1, 60), rng.randint(0, 5)
        outcome, volume_sign, _ = TABLE[scenario, side]
        if volume_sign < 0 and quantity > self.holding[outcome]:
            return
        self.holding = after_leg(
            self.holding, scenario=scenario, side=side, price=price, quantity=quantity, fee=fee
        )
        self.trades.append(
            AccountTrade(
                trade_id=f"T{len(self.trades)}",
                market_id=MARKET_ID,
                scenario=scenario,  # type: ignore[arg-type]
                my_side=side,  # type: ignore[arg-type]
                price_cents=price,
                quantity=quantity,
                role="MAKER",
                fee_cents=fee,
                executed_at=AT,
            )
        )

    def supply(self, key: str, pairs: int) -> bool:
        """Once per key, however often it is sent; False: refused."""
        if key in self.keys:
            return True
        held = self.holding
        if pairs < 0 and -pairs > min(held["YES"], held["NO"]):
            return False
        self.keys.add(key)
        for outcome in ("YES", "NO"):
            cost = held[f"{outcome}_COST"]
            change = 50 * pairs if pairs > 0 else -(cost * -pairs // held[outcome])
            held = {**held, outcome: held[outcome] + pairs, f"{outcome}_COST": cost + change}
        self.holding = {**held, "CASH": held["CASH"] - 100 * pairs}
        return True

    def stock(self) -> Stock:
        held = self.holding
        return Stock(
            yes_volume=held["YES"],
            no_volume=held["NO"],
            yes_cost_sum_cents=held["YES_COST"],
            no_cost_sum_cents=held["NO_COST"],
            cash_cents=held["CASH"],
        )


class World:
    """One seed's play."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.venue = Venue()
        self.arena = new_arena()
        self.records: deque[tuple[Any, ...]] = deque()  # gateway -> quoter, in order
        self.lost_reply: tuple[str, int] | None = None  # a mint or burn whose answer has not come
        self.keys = 0
        self.gateway = self._new_gateway()
        self.gateway.account.set_cash(START["CASH"], cursor="", funded=True)
        self._take_position()
        self.applied = AppliedTrades()
        self.new_quoter()

    def _new_gateway(self) -> GatewayMarket:
        return GatewayMarket(new_books(self.arena), self.arena, 0)

    # -- steps

    def trade(self) -> None:
        self.venue.trade(self.rng)

    def poll(self) -> None:
        """The newest page may overlap what is known; a stale one lacks the newest rows."""
        listed = self.venue.trades[: len(self.venue.trades) - self.rng.choice((0, 0, 0, 1, 3))]
        self._apply(listed[::-1])

    def _apply(self, newest_first: list[AccountTrade]) -> None:
        for trade in in_order_of_booking(newest_first):
            side = SIDES[trade.my_side]
            leg = leg_id(trade.trade_id, side)
            if leg in self.applied:
                continue
            self.applied.add(leg)
            terms: dict[str, Any] = {
                "scenario": Scenario[trade.scenario],
                "book_side": side,
                "price_cents": trade.price_cents,
                "quantity": trade.quantity,
            }
            booked = Leg(trade_id=trade.trade_id, fee_cents=trade.fee_cents, **terms)
            self.gateway.apply_leg(booked, order_id="", tell=untold)
            self.records.append(("FILL", leg, {**terms, "own_fee_cents": trade.fee_cents}))
            if self.rng.random() < 0.1:
                self.records.append(self.records[-1])  # a fill may be told twice

    def supply(self) -> None:
        """Sent under a new key; the answer comes now, or with a later step of the same key."""
        if self.lost_reply is None:
            self.keys += 1
            self.lost_reply = (f"K{self.keys}", self.rng.choice((-1, 1)) * self.rng.randint(1, 80))
        self.gateway.supply_busy = True
        key, pairs = self.lost_reply
        done = self.venue.supply(key, pairs)
        if self.rng.random() < 0.5:
            return  # no answer: the same key again later
        self.poll_all()  # shares it burned may be of fills not yet listed
        self._booked(pairs if done else 0)

    def _booked(self, pairs: int) -> None:
        self.lost_reply = None
        self.gateway.supply_busy = False
        if pairs:
            self.gateway.supply(pairs)
            self.records.append(("STOCK", self.gateway.account.stock))

    def poll_all(self) -> None:
        self._apply(self.venue.trades[::-1])

    def reconcile(self) -> None:
        """Position and cash are told only when nothing was booked between two looks at the trades."""
        if self.lost_reply is not None:
            return  # positions are in motion
        self.poll_all()
        before = self.gateway.account.cursor, self.gateway.account.supplies
        seen = self.venue.stock()
        if self.rng.random() < 0.3:
            self.venue.trade(self.rng)  # between request and reply
        self.poll_all()
        if (self.gateway.account.cursor, self.gateway.account.supplies) != before:
            return
        self._tell(seen)

    def _take_position(self) -> None:
        self._tell(self.venue.stock())

    def _tell(self, seen: Stock) -> None:
        self.gateway.account.set_position(
            yes_volume=seen.yes_volume,
            yes_cost=seen.yes_cost_sum_cents,
            no_volume=seen.no_volume,
            no_cost=seen.no_cost_sum_cents,
        )
        self.gateway.admit()
        self.records.append(("SYNC", self.gateway.account.stock))

    def gateway_dies(self) -> None:
        """kill -9: cash and cursor are in the row, the key of a mint on disk, everything else is gone."""
        cursor, done = self.gateway.account.cursor, False
        self.gateway = self._new_gateway()
        self.applied = AppliedTrades()
        ids = [trade.trade_id for trade in self.venue.trades]
        known = ids.index(cursor) + 1 if cursor else 0
        for trade in self.venue.trades[:known]:
            self.applied.add(leg_id(trade.trade_id, SIDES[trade.my_side]))
        if self.lost_reply is not None:  # resolved with its own key before anything else
            key, pairs = self.lost_reply
            done = self.venue.supply(key, pairs)
            self.lost_reply = None
            self.poll_all()
            if done:
                cents = self.gateway.account.stock.cash_cents - 100 * pairs
                self.gateway.account.set_cash(cents, cursor=self.gateway.account.cursor, funded=True)
        self.poll_all()
        self._take_position()
        if done:
            self.records.append(("STOCK", self.gateway.account.stock))

    def new_quoter(self) -> None:
        """A successor knows nothing, and hears only what is told from now on."""
        self.stock: Stock | None = None
        self.seen = AppliedTrades()
        self.records.clear()
        if self.lost_reply is None:
            self.poll_all()
            self.records.clear()
            self._take_position()

    def hear(self, count: int) -> None:
        for _ in range(min(count, len(self.records))):
            record = self.records.popleft()
            if record[0] == "SYNC":
                self._hear_sync(record[1])
            elif record[0] == "STOCK":
                self.stock = record[1] if self.stock is not None else None
            elif record[1] not in self.seen:
                self.seen.add(record[1])
                if self.stock is not None:
                    self.stock = self._filled(self.stock, record[2])

    def _filled(self, stock: Stock, fill: dict[str, Any]) -> Stock | None:
        try:
            return apply_trade(stock, **fill)
        except ValueError:
            return None  # contradicts: nothing is believed until the next SYNC

    def _hear_sync(self, told: Stock) -> None:
        if self.stock is None or compare(self.stock, told, QuoteConfig()).drift == Drift.CRITICAL:
            self.stock = told

    # -- the play

    def play(self) -> None:
        steps = (
            [self.trade] * 8
            + [self.poll] * 5
            + [self.supply] * 2
            + [self.reconcile] * 2
            + [self.gateway_dies, self.new_quoter]
            + [lambda: self.hear(self.rng.randint(1, 6))] * 6
        )
        for _ in range(STEPS):
            self.rng.choice(steps)()
        self._settle()

    def _settle(self) -> None:
        """Everything under way arrives."""
        while self.lost_reply is not None:
            self.supply()
        self.poll_all()
        if not self.gateway.account.position_known:  # shares sold before their mint was answered
            self._take_position()
        self._judge("gateway", self.gateway.account.stock)
        self.rng = random.Random(0)
        self._take_position()
        self.hear(len(self.records))
        assert self.stock is not None
        self._judge("quoter", self.stock)
        account = ffi.new("account_state_t *")
        assert lib.account_read(ffi.addressof(self.arena.market(0), "account"), account) == lib.RING_OK
        assert account.cash_cents == self.venue.holding["CASH"], "the row a successor goes on from"

    def _judge(self, who: str, stock: Stock) -> None:
        """Shares and cash to the piece; cost sums within the tolerance of §7.5, which no order changes."""
        truth = self.venue.stock()
        ours = (stock.yes_volume, stock.no_volume, stock.cash_cents)
        theirs = (truth.yes_volume, truth.no_volume, truth.cash_cents)
        assert ours == theirs, f"{who}: {ours}, the ledger says {theirs}"


def play(seed: int) -> None:
    """AssertionError names who is wrong."""
    world = World(seed)
    try:
        world.play()
    finally:
        os.close(world.arena.fd)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.property.interleavings", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args(arguments)
    for seed in range(options.first, options.first + options.seeds):
        try:
            play(seed)
        except Exception as error:
            print(f"interleavings: seed {seed}: {error!r}; again: --first {seed} --seeds 1")
            return 1
        if (seed + 1) % 1_000 == 0:
            print(f"next seed {seed + 1}", flush=True)
    print(f"interleavings {options.seeds}, violations 0")
    return 0


if __name__ == "__main__":
    sys.exit(main())
