"""Simulated traders: separate accounts that trade on the paper exchange through its public API, seeded.

    python -m engine.paper.traders --url URL --markets M1,M2,… --seed S [--rate X] [--initial-price P]
        [--kinds noise,informed,liquidity] [--run ID]

Each market has a hidden value, a slow random walk that is pulled back to where it started. Around it trade

* ``liquidity``: rest several levels on both sides, wider than a market maker would, and keep moving them;
* ``noise``: take small amounts on either side for no reason, against their own position more often than not;
* ``informed``: know the value a few seconds ahead and take only what is mispriced against it;
* ``spoofer``: show large orders near the touch and pull them (off unless asked for);
* ``burst``: now and then take many times in a row on one side (off unless asked for).

All of them buy and sell both outcomes, so all four order kinds and all four trade scenarios of contract 5.1
and 5.3 occur. What a trader decides is drawn from its own generator, seeded by ``--seed`` and its name;
``--run`` only makes account names unique. ``--rate`` is the total of requests per second, whatever the number
of markets.

stdout: one JSON line, ``{"event": "ready", …}``, once the first levels rest. Logs go to stderr. An exchange
that is away or restarts is waited for; one that has forgotten the accounts gets them again. Exit codes: 0
told to stop (own orders are cancelled first), 1 the exchange refused the accounts, 2 usage.
"""

import argparse
import asyncio
import math
import secrets
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Final, TypeVar

import aiohttp
import msgspec
import structlog

from engine.paper.client import (
    BAD_CREDENTIALS,
    DEPOSIT_CENTS_MAX,
    MARKET_NOT_ACTIVE,
    MARKET_UNKNOWN,
    NOT_CANCELLABLE,
    NOT_ENOUGH_CASH,
    NOT_ENOUGH_SHARES,
    ORDER_UNKNOWN,
    Direction,
    ExchangeClient,
    Placed,
    RateLimitedError,
    RefusedError,
    Side,
    UnreachableError,
)
from engine.paper.participant import (
    EXIT_OK,
    Backoff,
    cancel_everything,
    emit,
    leave_the_book,
    new_password,
    open_account,
    run,
    run_name,
)

T = TypeVar("T")

FUNDS_CENTS: Final = DEPOSIT_CENTS_MAX
MARKET_REST_S: Final = 1.0
"""A market that takes no orders is left alone for this long."""
POSITIONS_S: Final = 5.0
"""Traders with resting orders learn of their fills by asking for their positions this often."""


def seeded(*parts: object) -> Random:
    """A generator that depends on nothing but ``parts``."""
    return Random("/".join(map(str, parts)))  # noqa: S311 (decides trades, guards nothing)


# --- the hidden value -------------------------------------------------------------------


class HiddenValue:
    """A market's value in cents as a function of time: a seeded, bounded walk around its start.

    The path depends on seed and market only. ``at`` may be asked for rising times.
    """

    STEP_S: Final = 0.25
    SIGMA_CENTS: Final = 0.4
    """Standard deviation of one second's move."""
    PULL: Final = 0.02
    """Share of the distance to the start that is undone each second."""
    REACH_CENTS: Final = 12.0
    """The value never leaves start ± this, nor 5..95."""

    def __init__(self, *, seed: int, market_id: str, start_cents: float) -> None:
        self._random = seeded(seed, "value", market_id)
        self._start_cents = start_cents
        self._low = max(5.0, start_cents - self.REACH_CENTS)
        self._high = min(95.0, start_cents + self.REACH_CENTS)
        self._value = start_cents
        self._steps = 0

    def at(self, elapsed_s: float) -> float:
        """The value ``elapsed_s`` after the start, in cents."""
        spread = self.SIGMA_CENTS * math.sqrt(self.STEP_S)
        while self._steps < int(elapsed_s / self.STEP_S):
            drift = self.PULL * self.STEP_S * (self._start_cents - self._value)
            moved = self._value + drift + self._random.gauss(0.0, spread)
            self._value = min(max(moved, self._low), self._high)
            self._steps += 1
        return self._value


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What all traders share: the markets, the clock's zero, and what the values grow from."""

    seed: int
    market_ids: tuple[str, ...]
    initial_price_cents: int
    started_s: float

    def values(self) -> dict[str, HiddenValue]:
        """Hidden values for one trader to read at its own times; equal for all who ask."""
        return {
            market_id: HiddenValue(
                seed=self.seed, market_id=market_id, start_cents=float(self.initial_price_cents)
            )
            for market_id in self.market_ids
        }


# --- traders ----------------------------------------------------------------------------


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """An order in terms of the YES book, before it is decided in which outcome it is placed."""

    direction: Direction
    yes_price_cents: int
    quantity: int


class Trader(ABC):
    """One account. Its decisions come from its own generator; its requests from one task, one at a time.

    ``net`` is YES minus NO shares per market: netting (contract 5.8) leaves an account only one of the two.
    """

    def __init__(self, client: ExchangeClient, world: World) -> None:
        self.client = client
        self.counts = {"orders": 0, "filled": 0, "refused": 0}
        self._world = world
        self._random = seeded(world.seed, type(self).__name__, client.username.rpartition("_")[2])
        self._values = world.values()
        self._net = dict.fromkeys(world.market_ids, 0)
        self._rests_until_s = dict.fromkeys(world.market_ids, 0.0)
        self._backoff = Backoff()
        self._orders_sent = 0
        self._out_of_touch = False

    @abstractmethod
    async def act(self, market_id: str) -> int:
        """Do one thing in one market; returns how many requests it took."""

    async def trade(self, *, requests_per_s: float) -> None:
        """Act for ever, at random moments that average to the given rate."""
        while True:
            if self._out_of_touch:
                await self._get_back_in_touch()
            requests = 0
            now_s = time.monotonic()
            market_id = self._random.choice(self._world.market_ids)
            if now_s >= self._rests_until_s[market_id]:
                requests = await self.act(market_id)
            await asyncio.sleep(self._random.expovariate(1.0) * max(requests, 1) / requests_per_s)

    async def attempt(self, call: Callable[[], Awaitable[T]], market_id: str) -> T | None:
        """The answer, or None when there is none to act on: whatever the reason, trading goes on."""
        try:
            answer = await call()
        except RateLimitedError as limit:
            self._out_of_touch = True
            await asyncio.sleep(limit.retry_after_s)
        except RefusedError as refusal:
            if refusal.code not in {NOT_CANCELLABLE, ORDER_UNKNOWN}:  # filled before it could be cancelled
                self.counts["refused"] += 1
                await self._take_refusal(refusal, market_id)
        except UnreachableError as error:
            self._out_of_touch = True
            structlog.get_logger().warning("out_of_touch", account=self.client.username, reason=str(error))
        else:
            self._backoff.succeeded()
            return answer
        return None

    async def place(self, market_id: str, intent: Intent, *, immediate: bool) -> Placed | None:
        """Place an intent in one of the two outcomes; fills are in ``net`` when it returns."""
        side, direction, price_cents = self._outcome_for(market_id, intent)
        self._orders_sent += 1
        placed = await self.attempt(
            lambda: self.client.place(
                market_id,
                side=side,
                direction=direction,
                price_cents=price_cents,
                quantity=intent.quantity,
                client_order_id=f"{self.client.username}_{self._orders_sent}",
                immediate=immediate,
            ),
            market_id,
        )
        if placed is not None:
            filled = sum(fill.quantity for fill in placed.trades)
            self._net[market_id] += filled if intent.direction == "BUY" else -filled
            self.counts["orders"] += 1
            self.counts["filled"] += filled
        return placed

    def free_to_sell(self, market_id: str, side: Side) -> int:
        """Shares of an outcome that no resting sale has promised already."""
        return max(self._net[market_id] if side == "YES" else -self._net[market_id], 0)

    def value(self, market_id: str, *, ahead_s: float = 0.0) -> float:
        """Hidden value in cents, now or a fixed time ahead (one trader always asks for the same)."""
        return self._values[market_id].at(time.monotonic() - self._world.started_s + ahead_s)

    async def resync(self) -> None:
        """Read back from the exchange what this trader believes about itself."""
        await self._read_positions()

    async def _read_positions(self) -> None:
        held = {position.market_id: position for position in await self.client.positions()}
        for market_id in self._net:
            position = held.get(market_id)
            self._net[market_id] = position.yes.volume - position.no.volume if position else 0

    def _outcome_for(self, market_id: str, intent: Intent) -> tuple[Side, Direction, int]:
        """Half of the time sell what is held, else buy the other outcome: both are the same book side."""
        closing: Side = "NO" if intent.direction == "BUY" else "YES"
        opening: Side = "YES" if intent.direction == "BUY" else "NO"
        closes = self._random.random() < 0.5 and self.free_to_sell(market_id, closing) >= intent.quantity
        side = closing if closes else opening
        price_cents = intent.yes_price_cents if side == "YES" else 100 - intent.yes_price_cents
        return side, "SELL" if closes else "BUY", price_cents

    async def _take_refusal(self, refusal: RefusedError, market_id: str) -> None:
        if refusal.code == NOT_ENOUGH_CASH:
            await self.attempt(lambda: self.client.deposit(FUNDS_CENTS), market_id)
        elif refusal.code in {MARKET_NOT_ACTIVE, MARKET_UNKNOWN}:
            self._rests_until_s[market_id] = time.monotonic() + MARKET_REST_S
        elif refusal.code in {NOT_ENOUGH_SHARES, BAD_CREDENTIALS}:
            self._out_of_touch = True
        else:
            structlog.get_logger().warning("refused", account=self.client.username, reason=str(refusal))

    async def _get_back_in_touch(self) -> None:
        """Wait for the exchange, open the account again if it is gone, and read back what is ours."""
        while True:
            try:
                await self.resync()
                break
            except RefusedError as refusal:
                if refusal.code != BAD_CREDENTIALS:
                    await asyncio.sleep(self._backoff.next_s(refusal))
                    continue
                await self._reopen()
            except UnreachableError as error:
                await asyncio.sleep(self._backoff.next_s(error))
        self._backoff.succeeded()
        self._out_of_touch = False

    async def _reopen(self) -> None:
        try:
            await open_account(self.client, funds_cents=FUNDS_CENTS)
        except (RefusedError, UnreachableError) as error:
            structlog.get_logger().warning("not_reopened", account=self.client.username, reason=str(error))
            await asyncio.sleep(self._backoff.next_s(error))


class NoiseTaker(Trader):
    """Takes a few shares on either side, more often the side that brings its own position back to zero."""

    QUANTITY_MAX: Final = 30
    QUANTITY_MEAN: Final = 8.0
    LEAN_SHARES: Final = 300.0
    LEAN_MAX: Final = 0.35
    PATIENCE_CENTS: Final = (3.0, 8.0)
    """How far from the value it still trades, drawn anew each time."""

    async def act(self, market_id: str) -> int:
        lean = min(max(self._net[market_id] / self.LEAN_SHARES, -self.LEAN_MAX), self.LEAN_MAX)
        direction: Direction = "BUY" if self._random.random() < 0.5 - lean else "SELL"
        quantity = min(1 + int(self._random.expovariate(1.0 / self.QUANTITY_MEAN)), self.QUANTITY_MAX)
        patience = self._random.uniform(*self.PATIENCE_CENTS)
        value = self.value(market_id)
        price = value + patience if direction == "BUY" else value - patience
        intent = Intent(direction=direction, yes_price_cents=in_range(round(price)), quantity=quantity)
        await self.place(market_id, intent, immediate=True)
        return 1


class InformedTaker(Trader):
    """Knows where the value will be and takes whatever is at least ``EDGE_CENTS`` wrong about it."""

    AHEAD_S: Final = 5.0
    EDGE_CENTS: Final = 0.5
    QUANTITY: Final = (5, 30)

    async def act(self, market_id: str) -> int:
        value = self.value(market_id, ahead_s=self.AHEAD_S)
        direction: Direction = self._random.choice(("BUY", "SELL"))
        if direction == "BUY":
            price_cents = math.floor(value - self.EDGE_CENTS)
        else:
            price_cents = math.ceil(value + self.EDGE_CENTS)
        intent = Intent(
            direction=direction,
            yes_price_cents=in_range(price_cents),
            quantity=self._random.randint(*self.QUANTITY),
        )
        await self.place(market_id, intent, immediate=True)
        return 1


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One of a liquidity provider's places in a market: a side and a depth (0 is nearest the value)."""

    market_id: str
    direction: Direction
    depth: int


class RestingSale(msgspec.Struct, frozen=True, kw_only=True):
    """What a slot's order holds frozen, if it sells shares."""

    side: Side
    quantity: int


class LiquidityProvider(Trader):
    """Keeps one order in each slot and moves one slot at a time: the book is always there, never still."""

    DEPTH: Final = 3
    NEAREST_CENTS: Final = 4
    STEP_CENTS: Final = 2
    TIGHT_SHARE: Final = 0.05
    """How often a slot is placed nearer than a market maker's touch."""
    TIGHT_CENTS: Final = (2.0, 3.0)
    QUANTITY: Final = (20, 80)
    SKEW_SHARES: Final = 100.0
    SKEW_CENTS_MAX: Final = 3.0

    def __init__(self, client: ExchangeClient, world: World) -> None:
        super().__init__(client, world)
        self._slots = [
            Slot(market_id=market_id, direction=direction, depth=depth)
            for depth in range(self.DEPTH)
            for market_id in world.market_ids
            for direction in ("BUY", "SELL")
        ]
        self._order_ids: dict[Slot, str] = {}
        self._sales: dict[Slot, RestingSale] = {}
        self._stagger_cents = int(client.username.rpartition("_")[2]) % self.STEP_CENTS
        self._positions_read_s = time.monotonic()

    async def fill_slots(self) -> None:
        """Fill every slot, the nearest ones of all markets first."""
        for slot in self._slots:
            await self._fill(slot)

    async def act(self, market_id: str) -> int:
        requests = 1
        slot = self._random.choice([slot for slot in self._slots if slot.market_id == market_id])
        order_id = self._order_ids.pop(slot, None)
        if order_id is not None:
            requests += 1
            await self.attempt(lambda: self.client.cancel(order_id), market_id)
            self._sales.pop(slot, None)
        await self._fill(slot)
        if time.monotonic() >= self._positions_read_s + POSITIONS_S:
            requests += 1
            self._positions_read_s = time.monotonic()
            await self.attempt(self._read_positions, market_id)
        return requests

    async def resync(self) -> None:
        """Positions, and empty slots: orders of unknown fate are cancelled, slots filled as they come up."""
        await self._read_positions()
        await cancel_everything(self.client)
        self._order_ids.clear()
        self._sales.clear()

    def free_to_sell(self, market_id: str, side: Side) -> int:
        promised = sum(
            sale.quantity
            for slot, sale in self._sales.items()
            if slot.market_id == market_id and sale.side == side
        )
        return max(super().free_to_sell(market_id, side) - promised, 0)

    async def _fill(self, slot: Slot) -> None:
        placed = await self.place(slot.market_id, self._quote(slot), immediate=False)
        if placed is None or not placed.order.remaining_quantity:
            return
        self._order_ids[slot] = placed.order.id
        if placed.order.original_direction == "SELL":
            self._sales[slot] = RestingSale(
                side=placed.order.original_side, quantity=placed.order.remaining_quantity
            )

    def _quote(self, slot: Slot) -> Intent:
        skew = self._net[slot.market_id] / self.SKEW_SHARES
        value = self.value(slot.market_id) - min(max(skew, -self.SKEW_CENTS_MAX), self.SKEW_CENTS_MAX)
        away: float = self.NEAREST_CENTS + self.STEP_CENTS * slot.depth + self._stagger_cents
        away += self._random.uniform(-0.5, 1.5)
        if self._random.random() < self.TIGHT_SHARE:
            away = self._random.uniform(*self.TIGHT_CENTS)
        price = math.floor(value - away) if slot.direction == "BUY" else math.ceil(value + away)
        quantity = self._random.randint(*self.QUANTITY) * (1 + slot.depth)
        return Intent(direction=slot.direction, yes_price_cents=in_range(price), quantity=quantity)


class Spoofer(Trader):
    """Shows a large order near the touch for a moment, then pulls it."""

    QUANTITY: Final = (200, 500)
    AWAY_CENTS: Final = (2.5, 4.0)
    SHOWN_S: Final = (0.2, 1.0)

    async def act(self, market_id: str) -> int:
        direction: Direction = self._random.choice(("BUY", "SELL"))
        away = self._random.uniform(*self.AWAY_CENTS)
        value = self.value(market_id)
        price = math.floor(value - away) if direction == "BUY" else math.ceil(value + away)
        quantity = self._random.randint(*self.QUANTITY)
        intent = Intent(direction=direction, yes_price_cents=in_range(price), quantity=quantity)
        placed = await self.place(market_id, intent, immediate=False)
        if placed is None or not placed.order.remaining_quantity:
            return 1
        await asyncio.sleep(self._random.uniform(*self.SHOWN_S))
        await self.attempt(lambda: self.client.cancel(placed.order.id), market_id)
        return 2

    async def resync(self) -> None:
        await super().resync()
        await cancel_everything(self.client)


class BurstTaker(Trader):
    """Takes many times in a row on one side, then is quiet for as many requests' time."""

    TAKES: Final = (5, 12)
    QUANTITY: Final = (20, 60)
    REACH_CENTS: Final = 8.0

    async def act(self, market_id: str) -> int:
        direction: Direction = "SELL" if self._net[market_id] > 0 else "BUY"
        takes = self._random.randint(*self.TAKES)
        for _ in range(takes):
            value = self.value(market_id)
            price = value + self.REACH_CENTS if direction == "BUY" else value - self.REACH_CENTS
            quantity = self._random.randint(*self.QUANTITY)
            intent = Intent(direction=direction, yes_price_cents=in_range(round(price)), quantity=quantity)
            await self.place(market_id, intent, immediate=True)
        return takes


def in_range(price_cents: int) -> int:
    """The nearest price an order may have."""
    return min(max(price_cents, 1), 99)


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """How many accounts a kind of trader has, and its share of the requests relative to other kinds."""

    trader: type[Trader]
    accounts: int
    weight: float


KINDS: Final[Mapping[str, Kind]] = {
    # In this order they open their accounts: the book comes before those who take from it.
    "liquidity": Kind(trader=LiquidityProvider, accounts=2, weight=0.5),
    "noise": Kind(trader=NoiseTaker, accounts=2, weight=0.35),
    "informed": Kind(trader=InformedTaker, accounts=1, weight=0.15),
    "spoofer": Kind(trader=Spoofer, accounts=1, weight=0.1),
    "burst": Kind(trader=BurstTaker, accounts=1, weight=0.1),
}
DEFAULT_KINDS: Final = ("liquidity", "noise", "informed")


def usernames(*, seed: int, run_id: str, kinds: Sequence[str] = DEFAULT_KINDS) -> dict[str, list[str]]:
    """Account names by kind, so that whoever starts the traders can exempt them from rate limits."""
    return {
        kind: [f"sim_{seed}_{run_id}_{kind}_{number}" for number in range(spec.accounts)]
        for kind, spec in KINDS.items()
        if kind in kinds
    }


class Traders:
    """All traders of one process: the participant."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        url: str,
        world: World,
        run_id: str,
        kinds: Sequence[str],
        requests_per_s: float,
    ) -> None:
        self._traders: list[tuple[Trader, float]] = []
        weights = sum(KINDS[kind].weight for kind in kinds)
        for kind, names in usernames(seed=world.seed, run_id=run_id, kinds=kinds).items():
            spec = KINDS[kind]
            for name in names:
                client = ExchangeClient(session, url, username=name, password=new_password())
                share = spec.weight / weights / spec.accounts
                self._traders.append((spec.trader(client, world), share * requests_per_s))

    async def trade(self) -> int:
        """Open the accounts, put the first levels on the book, then trade until stopped."""
        for trader, _ in self._traders:
            await self._open(trader)
        for trader, _ in self._traders:
            if isinstance(trader, LiquidityProvider):
                await trader.fill_slots()
        emit("ready", accounts=[trader.client.username for trader, _ in self._traders])
        tasks = [asyncio.create_task(trader.trade(requests_per_s=rate)) for trader, rate in self._traders]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._log_counts()
        return EXIT_OK

    async def leave(self) -> None:
        """Cancel every resting order of every account."""
        await asyncio.gather(*(leave_the_book(trader.client) for trader, _ in self._traders))

    async def _open(self, trader: Trader) -> None:
        backoff = Backoff()
        while True:
            try:
                await open_account(trader.client, funds_cents=FUNDS_CENTS)
                return
            except (UnreachableError, RateLimitedError) as error:
                wait_s = backoff.next_s(error)
                structlog.get_logger().info("waiting", reason=str(error), wait_s=round(wait_s, 3))
                await asyncio.sleep(wait_s)

    def _log_counts(self) -> None:
        for trader, _ in self._traders:
            structlog.get_logger().info("traded", account=trader.client.username, **trader.counts)


# --- command line -----------------------------------------------------------------------


def market_list(text: str) -> tuple[str, ...]:
    """Comma-separated market ids, each once."""
    market_ids = tuple(text.split(","))
    if not all(market_ids) or len(set(market_ids)) != len(market_ids):
        raise argparse.ArgumentTypeError(f"{text!r}: must be different market ids, separated by commas")
    return market_ids


def kind_list(text: str) -> tuple[str, ...]:
    """Comma-separated kinds of traders."""
    kinds = tuple(text.split(","))
    for kind in kinds:
        if kind not in KINDS:
            raise argparse.ArgumentTypeError(f"{kind!r}: must be one of {', '.join(KINDS)}")
    return kinds


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m engine.paper.traders", description="Simulated traders on a paper exchange."
    )
    parser.add_argument("--url", required=True, help="exchange, such as http://127.0.0.1:8000")
    parser.add_argument("--markets", required=True, type=market_list, help="market ids, separated by commas")
    parser.add_argument("--seed", type=int, default=1, help="seed of all decisions, 0 or more (default 1)")
    parser.add_argument("--rate", type=float, default=30.0, help="requests per second in total (default 30)")
    parser.add_argument("--initial-price", type=int, default=50, help="where the values start, 5..95 cents")
    parser.add_argument(
        "--kinds", type=kind_list, default=DEFAULT_KINDS, help=f"of {','.join(KINDS)} (default: first three)"
    )
    parser.add_argument("--run", type=run_name, default=secrets.token_hex(4), help="part of account names")
    options = parser.parse_args(arguments)
    if options.seed < 0:
        parser.error(f"--seed {options.seed}: must be 0 or more")
    if not 0 < options.rate <= 1000:
        parser.error(f"--rate {options.rate}: must be above 0, at most 1000 requests per second")
    if not 5 <= options.initial_price <= 95:
        parser.error(f"--initial-price {options.initial_price}: must be 5..95 cents")
    world = World(
        seed=options.seed,
        market_ids=options.markets,
        initial_price_cents=options.initial_price,
        started_s=time.monotonic(),
    )
    return run(
        "traders",
        lambda session: Traders(
            session,
            url=options.url,
            world=world,
            run_id=options.run,
            kinds=options.kinds,
            requests_per_s=options.rate,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
