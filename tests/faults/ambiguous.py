"""Requests whose outcome the gateway cannot know, ten thousand of them, and a history that explains them all.

    python -m tests.faults.ambiguous [--count N] [--seed S]

A real exchange with its fault switches on, a real gateway, and a scripted source of intents that keeps 32 of
them in flight over eight markets with a deadline of 200 ms, while a stranger trades against the orders. The
exchange drops requests before it executes them, loses answers after the commit, cuts them in the middle,
delays them beyond the deadline and answers 5xx or nonsense, before and after. Afterwards: no intent became
two orders, every fill was told once, shares and cash equal the exchange's ledger to the cent, and every
effect in the exchange's journal is explained by a line of the intent journal (``tests/faults/history.py``).

Before it, a short run with the controls' defaults, on one market, shows the pause that those faults deserve.

The last line is ``ambiguous outcomes N, double orders 0, lost fills 0, unexplained effects 0``; exit code 1
when any of them is not so, or fewer than N outcomes were ambiguous.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.events import Direction, ExecutionKind, OrderKind, Outcome
from engine.paper.model import AMM_USER_ID
from tests.faults.history import Intents, doubled, explain
from tests.integration.gateway_rig import AMM, PATIENT, Exchange, GatewayRig, Quoter
from tests.integration.worker_rig import until

COUNT = 10_000
MARKETS = tuple(f"AMBIGUOUS-{number}" for number in range(8))
IN_FLIGHT = 32
DEADLINE_MS = 200
SUPPLY_SHARE = 0.03
LIVE_MAX = 16  # of one market
TAKER_EVERY = 40  # passes
LOOK_EVERY_S = 2.0
QUIET_S_MAX = 120.0
PAUSE_S_MAX = 60.0

ACTIONS: dict[str, dict[str, Any]] = {
    "before send": {"type": "drop_request"},
    "reset before": {"type": "drop_request", "reset": True},
    "lost after commit": {"type": "drop_reply"},
    "reset after commit": {"type": "drop_reply", "reset": True},
    "cut mid-body": {"type": "cut_reply"},
    "5xx before": {"type": "answer", "moment": "before", "status": 503},
    "5xx after commit": {"type": "answer", "moment": "after", "status": 500},
    "garbage after": {"type": "garbage", "moment": "after", "body": "truncated"},
    "408 after": {"type": "answer", "moment": "after", "status": 408},
    "late": {"type": "delay", "moment": "after", "by": {"kind": "fixed", "ms": 2 * DEADLINE_MS}},
}
PROBABILITY = 0.04
"""Of each action and request; together about a third of the requests."""

_ENDS = frozenset({ExecutionKind.CANCELLED, ExecutionKind.FILLED})


def rules(seed: int) -> dict[str, Any]:
    """Rules for every request of the market maker that changes something."""
    return {
        "seed": seed,
        "rules": [
            {
                "name": name,
                "probability": PROBABILITY,
                "match": {"methods": ["POST"], "path": f"/api/v1/{path}*", "users": [AMM]},
                "action": action,
            }
            for path in ("orders", "amm/")
            for name, action in ((f"{path.strip('/')} {name}", action) for name, action in ACTIONS.items())
        ],
    }


class Script:
    """One market's source of intents: keeps its share of them in flight."""

    def __init__(self, quoter: Quoter, rng: random.Random) -> None:
        self.quoter = quoter
        self.asked: set[int] = set()
        self.answered: set[int] = set()
        self.acked: Counter[int] = Counter()
        self.fills: Counter[tuple[str, int]] = Counter()
        self.rejected: set[int] = set()
        self.unknowns = 0
        self._rng = rng
        self._live: dict[int, dict[str, Any]] = {}
        self._asked_about: set[int] = set()
        self._replaces: set[int] = set()
        self._read = 0

    @property
    def in_flight(self) -> int:
        return len(self.asked) - len(self.answered & self.asked)

    def step(self) -> None:
        self.hear()
        while self.in_flight < IN_FLIGHT // len(MARKETS):
            self.asked.add(self._ask())

    def hear(self) -> None:
        records = self.quoter.read()
        for record in records[self._read :]:
            self._take(record)
        self._read = len(records)

    def _take(self, record: dict[str, Any]) -> None:
        kind, slot = record["kind"], record["live_slot"]
        if kind == ExecutionKind.ACKED:
            self._live[slot] = record
            self._asked_about.discard(slot)
            self.acked[record["intent"]] += 1
        elif kind in _ENDS:
            self._live.pop(slot, None)
            self._asked_about.discard(slot)
        elif kind == ExecutionKind.REJECTED:
            self._asked_about.discard(slot)
            self.rejected.add(record["intent"])
        elif kind == ExecutionKind.FILL:
            self.fills[record["trade_id"], record["book_side"]] += 1
        elif kind == ExecutionKind.UNKNOWN:
            self.unknowns += 1
            return
        # a replace is answered by its new order's ACKED, whatever it says of the old one before
        if kind == ExecutionKind.CANCELLED and record["intent"] in self._replaces:
            return
        if record["intent"]:
            self.answered.add(record["intent"])

    def _ask(self) -> int:
        rng, quoter = self._rng, self.quoter
        free = [order for slot, order in self._live.items() if slot not in self._asked_about]
        if rng.random() < SUPPLY_SHARE:  # what the stranger buys is minted anew, and sometimes too much is
            return quoter.ask(
                OrderKind.MINT if rng.random() < 0.8 else OrderKind.BURN, quantity=rng.randint(1, 60)
            )
        choice = rng.random()
        if not free or (choice < 0.5 and len(self._live) < LIVE_MAX):
            outcome, direction = rng.choice(list(Outcome)), rng.choice(list(Direction))
            price = rng.randint(55, 70) if direction == Direction.SELL else rng.randint(30, 45)
            return quoter.place(outcome, direction, price, rng.randint(1, 20))
        order = rng.choice(free)
        self._asked_about.add(order["live_slot"])
        if choice < 0.8:
            price = rng.randint(55, 70) if order["direction"] == Direction.SELL else rng.randint(30, 45)
            intent = quoter.replace(order, price, rng.randint(1, 20))
            self._replaces.add(intent)
            return intent
        return quoter.cancel(order)


class Campaign:
    """One run."""

    def __init__(self, folder: Path, *, count: int, seed: int) -> None:
        self._count = count
        self._seed = seed
        self._rng = random.Random(seed)
        (folder / "exchange").mkdir()
        (folder / "run").mkdir()
        self._exchange = Exchange(folder / "exchange", markets=MARKETS, faults=True)
        self._operator = self._exchange.operator()
        self._stranger = self._exchange.trader(deposit_cents=10_000_000)
        self._rig = GatewayRig(
            folder / "run",
            self._exchange.url,
            markets=MARKETS,
            engine={"intent_segments_kept": 100_000},
            risk=PATIENT,
            request_timeout_ms=DEADLINE_MS,
            order_rate_limit=100_000,
            connections=2 * IN_FLIGHT,
        )
        self._scripts: list[Script] = []

    def run(self) -> int:
        rig = self._rig
        rig.start_gateway()
        self._scripts = [Script(quoter, random.Random(self._rng.random())) for quoter in rig.quoters]
        self._operator.put("admin/faults", rules(self._seed))
        began, due, passes = time.monotonic(), 0.0, 0
        while True:
            for script in self._scripts:
                script.step()
            passes += 1
            if passes % TAKER_EVERY == 0:
                self._trade()
            if time.monotonic() > due:
                due = time.monotonic() + LOOK_EVERY_S
                fired = self._fired()
                asked = sum(len(script.asked) for script in self._scripts)
                print(f"{time.monotonic() - began:6.1f} s  ambiguous {fired}  intents {asked}", flush=True)
                if fired >= self._count:
                    break
            time.sleep(0.002)
        by_rule = self._fired_by_rule()
        self._operator.put("admin/faults", {"seed": 0, "rules": []})
        until(self._all_answered, "every intent answered", deadline_s=QUIET_S_MAX)
        return self._judge(by_rule)

    def close(self) -> None:
        self._rig.close()
        self._exchange.end()

    def _trade(self) -> None:
        """The stranger takes a little from somebody's quotes."""
        market_id, rng = self._rng.choice(MARKETS), self._rng
        side = rng.choice(("YES", "NO"))
        self._stranger.buy(market_id, side, rng.randint(60, 70), rng.randint(1, 15), time_in_force="IOC")

    def _fired_by_rule(self) -> dict[str, int]:
        shown = self._operator.get("admin/faults")
        return {item["rule"]["name"]: item["fired"] for item in shown["items"]}

    def _fired(self) -> int:
        return sum(self._fired_by_rule().values())

    def _all_answered(self) -> bool:
        for script in self._scripts:
            script.hear()
        return all(script.in_flight == 0 for script in self._scripts)

    def _false_answers(self, intents: Intents, at_exchange: set[str]) -> list[str]:
        """What the worker was told of a new order is what the exchange has."""
        problems = []
        for market_id, script in zip(MARKETS, self._scripts, strict=True):
            for intent in script.rejected | set(script.acked):
                sent_ids = intents.ids_of_intent.get((1, intent, market_id))
                if sent_ids is None:
                    continue  # a cancel, or refused before it was sent
                (client_id,) = sent_ids
                exists, told = client_id in at_exchange, intent in script.acked
                if exists != told:
                    problems.append(
                        f"{market_id}: intent {intent} ({client_id}) was "
                        f"{'acknowledged' if told else 'rejected'}, and the exchange has "
                        f"{'the order' if exists else 'none'}"
                    )
        return problems

    def _judge(self, by_rule: dict[str, int]) -> int:
        answers = [script.quoter.sync() for script in self._scripts]
        entries = self._exchange.journal()
        intents = Intents.of_run(self._rig.run_dir)
        history = explain(entries, intents, user_id=AMM_USER_ID)
        problems = list(history.problems)
        ids = [
            order["client_order_id"] for market_id in MARKETS for order in self._exchange.orders(market_id)
        ]
        problems += self._false_answers(intents, set(ids))
        for name, fired in by_rule.items():
            print(f"  {fired:6d}  {name}")
        booked_cents = 0
        for market_id, answer in zip(MARKETS, answers, strict=True):
            held, told = history.holdings[market_id], answer["position"]
            if (held.yes, held.no) != (told["yes_volume"], told["no_volume"]):
                problems.append(
                    f"{market_id}: {told['yes_volume']} YES and {told['no_volume']} NO by the gateway, "
                    f"{held.yes} and {held.no} by the history"
                )
            booked_cents += answer["cash"]
        if booked_cents != self._exchange.cash_cents():
            problems.append(
                f"cash {booked_cents} by the gateway, {self._exchange.cash_cents()} at the exchange"
            )
        trades = [entry["data"] for entry in entries if entry["kind"] == "TRADE"]
        legs = {(trade["trade_id"], side) for trade in trades for side in _own_sides(trade)}
        told_legs = [leg for script in self._scripts for leg in script.fills.elements()]
        lost = len(legs - set(told_legs)) + len(told_legs) - len(set(told_legs))
        acked_twice = sum(count > 1 for script in self._scripts for count in script.acked.values())
        double = len(doubled(ids)) + acked_twice
        for problem in problems:
            print(f"ambiguous: {problem}")
        fired = sum(by_rule.values())
        unknowns = sum(script.unknowns for script in self._scripts)
        print(
            f"{history.orders} orders, {history.cancels} cancels, {history.fills} fills, "
            f"{history.supplies} mints and burns explained; "
            f"{unknowns} outcomes were unknown at first; seed {self._seed}"
        )
        print(
            f"ambiguous outcomes {fired}, double orders {double}, lost fills {lost}, "
            f"unexplained effects {len(problems)}",
            flush=True,
        )
        return 0 if fired >= self._count and not double and not lost and not problems else 1


def shows_pause(folder: Path, *, seed: int) -> bool:
    """The same faults on one market with the controls' defaults: it is paused, emptied, and released."""
    (folder / "exchange").mkdir(parents=True)
    (folder / "run").mkdir()
    exchange = Exchange(folder / "exchange", markets=MARKETS[:1], faults=True)
    rig = GatewayRig(folder / "run", exchange.url, markets=MARKETS[:1], request_timeout_ms=DEADLINE_MS)
    try:
        rig.start_gateway()
        operator = exchange.operator()
        operator.put("admin/faults", rules(seed))
        script = Script(rig.quoters[0], random.Random(seed))
        pauses: list[dict[str, Any]] = []
        end = time.monotonic() + PAUSE_S_MAX
        while not pauses and time.monotonic() < end:
            script.step()
            time.sleep(0.02)
            pauses = [line for line in rig.logged("gateway", "alert") if line["alert"] == "CONTROL_PAUSE"]
        if not pauses:
            print(f"ambiguous: no pause within {PAUSE_S_MAX:g} s of faults with the defaults")
            return False
        operator.put("admin/faults", {"seed": 0, "rules": []})
        until(lambda: not exchange.live(MARKETS[0]), "paused: nothing live", deadline_s=QUIET_S_MAX)
        until(lambda: not rig.arena.killed(0), "the pause ends by itself", deadline_s=QUIET_S_MAX)
        print(f"with the defaults: paused by {pauses[0]['control']!r}, nothing left live, released")
        return True
    finally:
        rig.close()
        exchange.end()


def _own_sides(trade: dict[str, Any]) -> list[int]:
    """Book sides of the market maker in a trade: 0 buyer, 1 seller; none in the rows of mint and burn."""
    parties = (trade["buy_user_id"], trade["sell_user_id"])
    return [] if "SYSTEM" in parties else [side for side, user in enumerate(parties) if user == AMM_USER_ID]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.ambiguous", description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help="ambiguous outcomes (default %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="repeat the choices of an earlier run")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else secrets.randbelow(2**31)
    print(
        f"ambiguous: {options.count} outcomes, {IN_FLIGHT} in flight, {DEADLINE_MS} ms, seed {seed}",
        flush=True,
    )
    folder = Path(tempfile.mkdtemp(prefix="corequote-ambiguous-"))
    os.chmod(folder, 0o700)
    campaign = Campaign(folder, count=options.count, seed=seed)
    code = 1
    try:
        paused = shows_pause(folder / "defaults", seed=seed)
        code = campaign.run() if paused else 1
    finally:
        campaign.close()
        if code == 0:
            shutil.rmtree(folder)
        else:
            print(f"ambiguous: logs and journals are in {folder}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
