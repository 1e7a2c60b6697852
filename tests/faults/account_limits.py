"""Fifty markets on one account want far more than the account may: no limit is broken, no cancel waits.

    python -m tests.faults.account_limits [--markets N] [--seconds S] [--seed S]

A real exchange that enforces its limits (600 orders a minute and account, 400 replaces a minute and market,
10 starts a minute), a real engine with the default controls, prices that move every market every few seconds
and some markets twice a second, and a stranger, whom the exchange does not limit, trading against them all.
Half way through the gateway is killed: what it has sent in the minute before counts for its successor.

The verdict is the exchange's own: its journal, folded by ``tests/faults/limits_verdict.py``, gives the
requests in any sixty seconds and when each order ended; the quoters' order rings, read along, give when each
cancel was decided. The last line is ``N markets: R refused for their rate, L limits broken, W cancels over
1 s``; exit code 1 unless all three are 0, half of each limit was used, and every market was quoted.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from engine import rundir
from engine._native import ffi, lib
from engine.arena import unpadded
from engine.events import GatewayCounter, OrderKind
from engine.paper.model import AMM_USER_ID
from engine.workers.intent_journal import ORDERS, Sent, read_journal
from engine.workers.ring_tap import RingTap
from tests.faults.limits_verdict import Requests, Wish, most_in_a_minute, requests_of, waits_ns
from tests.integration.gateway_rig import Exchange
from tests.integration.lifecycle_rig import LiveEngine, short_directory

MARKETS = 50
SECONDS = 90.0
WORKERS = 2
ORDERS_PER_MINUTE = 600
REPLACES_PER_MINUTE = 400
CANCEL_NS_MAX = 1_000_000_000
STARTS_PER_MINUTE = 10
STRANGER = "stranger"

#: The oracle goes through these prices, and every step moves both touches.
PRICES = (50, 52, 50, 48)
RESTLESS = 5  # markets that move every RESTLESS_S, the others about every CALM_S
RESTLESS_S = 0.5
CALM_S = 3.0
TRADES_PER_S = 8
TAKES_UP_TO = 58  # cents
STORM_S = 15.0
STORM_TRADES = 5  # a pass
LOOK_EVERY_S = 5.0
PASS_S = 0.02

#: Trades by the dozen are this run's purpose, not a reason to give a market up.
QUOTE = "lvr_kill_count = 20\nprice_jump_threshold = 0.5\n"


class Crowd:
    """Exchange, engine and stranger, and what the quoters wished."""

    def __init__(self, folder: Path, *, markets: int, seed: int) -> None:
        self.markets = tuple(f"CROWD-{number:02d}" for number in range(markets))
        self._rng = random.Random(seed)
        self.exchange = Exchange(
            folder, limits="contract", markets=self.markets, exempt=("operator", STRANGER)
        )
        self._stranger = self.exchange.trader(deposit_cents=10_000_000, name=STRANGER)
        self.engine = LiveEngine(
            folder, self.exchange, *self.markets, quote=QUOTE, workers=WORKERS, oracle="operator"
        )
        self.wishes: list[Wish] = []
        self.lost = 0  # records of the rings that were overwritten before they were read
        self.quoted: set[str] = set()
        self._offset_ns = int(lib.unix_now_ns()) - int(lib.mono_now_ns())
        self._taps: list[RingTap] = []
        self._redis: Any = None
        self._refused_before = 0
        self._moved = [0] * markets
        self._due_s = [0.0] * markets
        self._trade_due_s = 0.0
        self._storm_due_s = time.monotonic() + STORM_S
        self._storm: list[str] = []

    def start(self) -> None:
        self.engine.start()
        arena = self.engine.arena
        self._taps = [
            RingTap(arena.order_ring(worker), "order_record_t", 0) for worker in range(arena.worker_slots)
        ]
        self._redis = redis.Redis.from_url(rundir.read_info(self.engine.run_dir).redis_url)

    def step(self) -> None:
        """One pass: listen, move what is due, trade now and then."""
        self.listen()
        now_s = time.monotonic()
        moves = [index for index, due_s in enumerate(self._due_s) if now_s >= due_s]
        if moves:
            self._move(moves, now_s)
        self._trade(now_s)

    def listen(self) -> None:
        for tap in self._taps:
            while records := tap.read():
                for record in records:
                    self._hear(record)
            self.lost += tap.take_lost()

    def _hear(self, record: Any) -> None:
        market = self.markets[record.market_slot]
        decided_ns = int(record.decided_mono_ns) + self._offset_ns
        if record.kind == OrderKind.CANCEL:
            order = unpadded(record.target_order_id)
            self.wishes.append(Wish(market=market, decided_ns=decided_ns, order=order))
        elif record.kind == OrderKind.BATCH_CANCEL:
            self.wishes.append(Wish(market=market, decided_ns=decided_ns))
        elif record.kind == OrderKind.PLACE:
            self.quoted.add(market)

    def _move(self, moves: Sequence[int], now_s: float) -> None:
        """The next oracle price of these markets, as an operator's tool writes it."""
        with self._redis.pipeline(transaction=False) as batch:
            for index in moves:
                self._moved[index] += 1
                price = {
                    "price_cents": PRICES[(self._moved[index] + index) % len(PRICES)],
                    "set_at_ms": time.time_ns() // 1_000_000,
                    "set_by": "crowd",
                    "ttl_ms": 60_000,
                }
                batch.hset(f"amm:oracle:{self.markets[index]}", mapping=price)
                step_s = RESTLESS_S if index < RESTLESS else CALM_S * self._rng.uniform(0.8, 1.2)
                self._due_s[index] = now_s + step_s
            batch.execute()

    def _trade(self, now_s: float) -> None:
        """Small trades, rarely in the markets that move most (a fill delays new orders); and every STORM_S
        a large one in each of the others, which then want everything off, and everything anew."""
        rng = self._rng
        if now_s >= self._storm_due_s:
            self._storm_due_s = now_s + STORM_S
            self._storm = list(self.markets[RESTLESS:])
        for _ in range(min(STORM_TRADES, len(self._storm))):
            self._take(self._storm.pop(), 60)
        if now_s >= self._trade_due_s:
            self._trade_due_s = now_s + 1 / TRADES_PER_S
            first = 0 if rng.random() < 0.05 else RESTLESS
            self._take(self.markets[rng.randrange(first, len(self.markets))], rng.randint(1, 5))

    def _take(self, market: str, shares: int) -> None:
        side = self._rng.choice(("YES", "NO"))
        self._stranger.buy(market, side, TAKES_UP_TO, shares, time_in_force="IOC")

    def kill_gateway(self) -> None:
        """kill -9; the supervisor starts another."""
        self._refused_before += self.counter(GatewayCounter.RATE_LIMITED)
        self.engine.processes()["gateway"].kill()

    def refused(self) -> int:
        """Answers 429, over both lives of the gateway."""
        return self._refused_before + self.counter(GatewayCounter.RATE_LIMITED)

    def counter(self, which: GatewayCounter) -> int:
        row = self.engine.arena.process(lib.PROCESS_GATEWAY)
        return int(lib.cell_load(ffi.addressof(row.counters, which)))

    def close(self) -> None:
        self.engine.close()
        self.exchange.end()


class Verdict:
    """The numbers of one run, and sentences for what is not as it must be."""

    def __init__(self, crowd: Crowd, requests: Requests, *, end_ns: int) -> None:
        self.problems: list[str] = []
        self.refused = crowd.refused()
        self.places = most_in_a_minute(requests.placed_ns)
        self.replaces = max((most_in_a_minute(times) for times in requests.replaced_ns.values()), default=0)
        self.broken = (self.places > ORDERS_PER_MINUTE) + sum(
            most_in_a_minute(times) > REPLACES_PER_MINUTE for times in requests.replaced_ns.values()
        )
        waits = waits_ns(crowd.wishes, requests, end_ns=end_ns)
        self.late = [wait for wait in waits if wait[0] > CANCEL_NS_MAX]
        self.waits_ms = [wait / 1e6 for wait, _ in waits] or [0.0]
        self.wishes = crowd.wishes
        self.requests = requests
        if self.refused or self.broken:
            self.problems.append(f"{self.refused} answers 429, {self.broken} limits broken")
        self.endless = sum(order.ended_ns is None for order in requests.orders.values())
        if self.endless:
            self.problems.append(f"{self.endless} orders are live after an orderly stop")
        if crowd.lost:
            self.problems.append(f"{crowd.lost} intents were not seen")
        silent = [market for market in crowd.markets if market not in crowd.quoted]
        if silent:
            self.problems.append(f"never quoted: {silent}")
        sent = {
            line.id
            for line in read_journal(crowd.engine.run_dir)
            if isinstance(line, Sent) and line.op in ORDERS
        }
        if requests.client_ids - sent:
            self.problems.append(f"orders that nobody wrote down: {requests.client_ids - sent}")

    def lines(self) -> list[str]:
        replaced = sum(len(times) for times in self.requests.replaced_ns.values())
        batches = sum(not wish.order for wish in self.wishes)
        p50, p99 = (self.waits_ms[len(self.waits_ms) * share // 100] for share in (50, 1))
        return [
            f"{len(self.requests.placed_ns)} orders, at most {self.places} in 60 s of {ORDERS_PER_MINUTE}",
            f"{replaced} replaces, at most {self.replaces} in 60 s and market of {REPLACES_PER_MINUTE}",
            f"{len(self.wishes) - batches} cancels and {batches} of whole markets: "
            f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, longest {self.waits_ms[0]:.0f} ms",
        ]


def run(folder: Path, *, markets: int, seconds: float, seed: int, said: Any = print) -> Verdict:
    """From the start of everything to its stop; ``seconds`` count from when every market is quoted."""
    crowd = Crowd(folder, markets=markets, seed=seed)
    try:
        crowd.start()
        began_s = time.monotonic()
        starts_s = 60.0 * -(-markets // STARTS_PER_MINUTE)
        deadline_s, due_s, all_since_s, killed = began_s + starts_s + 60.0, began_s, 0.0, False
        while not all_since_s or time.monotonic() < all_since_s + seconds:
            crowd.step()
            now_s = time.monotonic()
            if not all_since_s and (len(crowd.quoted) == markets or now_s > deadline_s):
                all_since_s = now_s
            if all_since_s and not killed and now_s > all_since_s + seconds / 2:
                killed = True
                crowd.kill_gateway()
            if now_s >= due_s:
                due_s = now_s + LOOK_EVERY_S
                said(
                    f"{now_s - began_s:6.1f} s  {len(crowd.quoted)} markets quoted, "
                    f"{len(crowd.wishes)} cancels wished, {crowd.counter(GatewayCounter.REQUESTS)} requests, "
                    f"{crowd.counter(GatewayCounter.REPLACES)} replaces, "
                    f"{crowd.counter(GatewayCounter.REFUSED)} held back, "
                    f"{crowd.refused()} refused by the exchange"
                )
            time.sleep(PASS_S)
        code = crowd.engine.stop()
        crowd.listen()
        requests = requests_of(crowd.exchange.journal(), user_id=AMM_USER_ID)
        verdict = Verdict(crowd, requests, end_ns=time.time_ns())
        if code != 0:
            verdict.problems.append(f"the engine ended with {code}")
        return verdict
    finally:
        crowd.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="account_limits", description=__doc__.partition("\n")[0])
    parser.add_argument("--markets", type=int, default=MARKETS, metavar="N")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S")
    parser.add_argument("--seed", type=int, default=None, metavar="S")
    wish = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if wish.seed is None else wish.seed
    with short_directory() as folder:
        verdict = run(folder, markets=wish.markets, seconds=wish.seconds, seed=seed)
    if verdict.places < ORDERS_PER_MINUTE // 2 or verdict.replaces < REPLACES_PER_MINUTE // 2:
        verdict.problems.append("less than half of the limits was used: nothing was shown")
    for line in verdict.lines():
        print(line)
    verdict.problems += [f"{wished} took {wait / 1e6:.0f} ms" for wait, wished in verdict.late[:10]]
    for problem in verdict.problems:
        print(f"account_limits: {problem}")
    print(
        f"{wish.markets} markets: {verdict.refused} refused for their rate, {verdict.broken} limits broken, "
        f"{len(verdict.late)} cancels over 1 s; seed {seed}",
        flush=True,
    )
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
