"""The exchange's core and an obvious model of it, fed the same random commands and compared after each."""

import random
from datetime import UTC, datetime, timedelta

from engine.paper import commands
from engine.paper.decide import decide
from engine.paper.effects import BatchCancelled, Effects, Placed, Replaced, Result
from engine.paper.guard import check_effects
from engine.paper.invariants import Audit
from engine.paper.model import (
    AMM_USER_ID,
    CancelScope,
    Direction,
    Holding,
    MarketStatus,
    Position,
    Resolution,
    Side,
    TimeInForce,
)
from engine.paper.refusal import Refusal
from engine.paper.state import State
from tests.paper.obvious_exchange import AMM, No, Obvious, Room

MARKETS = ("M1", "M2")
PEOPLE = ("u1", "u2", "u3", AMM)
FEES = [(10, 20), (10, 20), (0, 20), (0, 0), (30, 10), (1000, 1000), (0, 1000), (7, 3)]


def real_id(user: str) -> str:
    return AMM_USER_ID if user == AMM else user


class Pair:
    """The exchange's core and the model, fed the same commands and compared after each."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.state = State(first_id=10**18)
        self.audit = Audit(self.state)
        self.at = datetime(2026, 1, 1, tzinfo=UTC)
        self.effects: list[Effects] = []
        self.order_ids: list[str] = []
        self.keys = 0
        maker_bps, taker_bps = FEES[seed % len(FEES)]
        self.max_position = self.random.choice([60, 25000])
        self.model = Obvious(
            {name: Room(maker_bps, taker_bps, max_position=self.max_position) for name in MARKETS}
        )
        for name in MARKETS:
            self.send(
                commands.CreateMarket(
                    id=name,
                    title=name,
                    status=MarketStatus.ACTIVE,
                    min_price_cents=1,
                    max_price_cents=99,
                    max_order_quantity=10000,
                    max_position_per_user=self.max_position,
                    max_order_amount_cents=1000000,
                    maker_fee_bps=maker_bps,
                    taker_fee_bps=taker_bps,
                    amm_approved=True,
                )
            )
        for user in PEOPLE:
            self.send(
                commands.RegisterUser(
                    user_id=real_id(user), username=user, email=f"{user}@x", password_hash=None
                )
            )
            self.deposit(user, self.random.choice([500, 3000, 20000]))

    def send(self, command: commands.Command) -> Result:
        self.at += timedelta(microseconds=self.random.randrange(3))
        decision = decide(self.state, command, self.at)
        if decision.effects is not None:
            assert check_effects(self.state, decision.effects) is None
            self.effects.append(decision.effects)
            self.state.apply(decision.effects)
        return decision.result

    def key(self) -> str:
        self.keys += 1
        return f"key-{self.keys}"

    def step(self) -> tuple[int | None, int | None]:
        """One random command on both sides; answers the refusal codes of model and exchange."""
        name = self.random.choices(
            ["place", "cancel", "replace", "batch_cancel", "mint", "burn", "deposit", "withdraw"],
            [60, 14, 10, 2, 4, 4, 4, 4],
        )[0]
        return getattr(self, name)()

    def both(self, ours: object, theirs: object) -> tuple[int | None, int | None]:
        try:
            expected = None
            ours()
        except No as refusal:
            expected = refusal.code
        try:
            result = theirs()
            answered = result.code if isinstance(result, Refusal) else None
        except Refusal as refusal:
            answered = refusal.code
        return expected, answered

    def terms(self) -> tuple[str, str, str, int, int]:
        rng = self.random
        price = rng.choice(
            [rng.randint(46, 54), rng.randint(1, 99), rng.randint(40, 60), rng.choice([0, 100])]
        )
        if rng.random() < 0.9:
            price = min(99, max(1, price))
        quantity = rng.choice([1, 2, 3, rng.randint(1, 40), 0 if rng.random() < 0.1 else 5])
        return rng.choice(MARKETS), rng.choice(["YES", "NO"]), rng.choice(["BUY", "SELL"]), price, quantity

    def order_terms(self, terms: tuple[str, str, str, int, int], *, ioc: bool) -> commands.OrderTerms:
        market, side, direction, price, quantity = terms
        return commands.OrderTerms(
            client_order_id=self.key(),
            market_id=market,
            side=Side(side),
            direction=Direction(direction),
            price_cents=price,
            quantity=quantity,
            time_in_force=TimeInForce.IOC if ioc else TimeInForce.GTC,
        )

    def place(self) -> tuple[int | None, int | None]:
        user, terms, ioc = self.random.choice(PEOPLE), self.terms(), self.random.random() < 0.25
        command = commands.PlaceOrder(user_id=real_id(user), terms=self.order_terms(terms, ioc=ioc))

        def theirs() -> Result:
            result = self.send(command)
            assert isinstance(result, Placed)
            self.order_ids.append(result.order.id)
            return result

        return self.both(lambda: self.model.place(user, *terms, ioc=ioc), theirs)

    def some_order(self) -> int | None:
        if not self.order_ids:
            return None
        live = [ticket.number for ticket in self.model.tickets if ticket.live]
        if live and self.random.random() < 0.8:
            return self.random.choice(live)
        return self.random.randrange(len(self.order_ids))

    def cancel(self) -> tuple[int | None, int | None]:
        number, user = self.some_order(), self.random.choice(PEOPLE)
        if number is None:
            return None, None
        if self.random.random() < 0.8:
            user = self.model.tickets[number].user
        command = commands.CancelOrder(user_id=real_id(user), order_id=self.order_ids[number])
        return self.both(lambda: self.model.cancel(user, number), lambda: self.send(command))

    def replace(self) -> tuple[int | None, int | None]:
        mine = [ticket.number for ticket in self.model.tickets if ticket.live and ticket.user == AMM]
        number = self.random.choice(mine) if mine and self.random.random() < 0.9 else self.some_order()
        if number is None:
            return None, None
        terms = self.terms()
        if self.random.random() < 0.9:
            terms = (self.model.tickets[number].market, *terms[1:])
        command = commands.ReplaceOrder(
            user_id=AMM_USER_ID,
            old_order_id=self.order_ids[number],
            terms=self.order_terms(terms, ioc=False),
        )

        def theirs() -> Result:
            result = self.send(command)
            if isinstance(result, Replaced):
                self.order_ids.append(result.placed.order.id)
            return result

        return self.both(lambda: self.model.replace(number, *terms), theirs)

    def batch_cancel(self) -> tuple[int | None, int | None]:
        market, scope = self.random.choice(MARKETS), self.random.choice(list(CancelScope))
        gone = self.model.batch_cancel(market, scope)
        result = self.send(commands.BatchCancel(user_id=AMM_USER_ID, market_id=market, scope=scope))
        assert isinstance(result, BatchCancelled)
        assert result.cancelled_count == gone
        return None, None

    def mint(self) -> tuple[int | None, int | None]:
        market, quantity = self.random.choice(MARKETS), self.random.randint(1, 60)
        command = commands.Mint(
            user_id=AMM_USER_ID, market_id=market, quantity=quantity, idempotency_key=self.key()
        )
        return self.both(lambda: self.model.mint(market, quantity), lambda: self.send(command))

    def burn(self) -> tuple[int | None, int | None]:
        market, quantity = self.random.choice(MARKETS), self.random.randint(1, 60)
        command = commands.Burn(
            user_id=AMM_USER_ID, market_id=market, quantity=quantity, idempotency_key=self.key()
        )
        return self.both(lambda: self.model.burn(market, quantity), lambda: self.send(command))

    def deposit(self, user: str | None = None, cents: int | None = None) -> tuple[int | None, int | None]:
        user = user or self.random.choice(PEOPLE)
        cents = cents or self.random.randint(1, 2000)
        self.model.cash[user] += cents
        self.send(commands.Deposit(user_id=real_id(user), amount_cents=cents))
        return None, None

    def withdraw(self) -> tuple[int | None, int | None]:
        """Take all cash off an account: a fee that rounding pushes over the freeze must then be cut (D20)."""
        user = self.random.choice(PEOPLE)
        cents = self.model.available(user)
        if cents:
            self.model.cash[user] -= cents
            self.send(commands.Withdraw(user_id=real_id(user), amount_cents=cents))
        return None, None

    def settle(self, market: str, outcome: Resolution) -> None:
        self.model.settle(market, outcome)
        self.send(commands.ResolveMarket(market_id=market, resolution=outcome))

    def compare(self) -> None:
        """Every balance, position, pool, order and trade."""
        assert self.audit.check() == []
        model, state = self.model, self.state
        for user in PEOPLE:
            account = state.accounts[real_id(user)]
            assert (account.available_cents, account.frozen_cents) == (
                model.available(user),
                model.frozen(user),
            )
            for market in MARKETS:
                position = state.positions[market].get(real_id(user)) or Position.none(user, market, self.at)
                for side, holding in (("YES", position.yes), ("NO", position.no)):
                    key = (user, market, side)
                    assert holding == Holding(model.shares[key], model.costs[key], model.promised(*key)), key
        for name, room in model.rooms.items():
            market = state.markets[name]
            assert (
                market.reserve_balance_cents,
                market.pnl_pool_cents,
                market.total_yes_shares,
                market.status,
            ) == (room.reserve, room.pnl, room.pairs, room.status)
        fee_account = state.accounts.get("PLATFORM_FEE")
        assert (fee_account.available_cents if fee_account else 0) == model.fees
        for ticket, order_id in zip(model.tickets, self.order_ids, strict=True):
            order = state.orders[order_id]
            assert (order.status, order.remaining_quantity) == (ticket.status, ticket.remaining)
        fills = [trade for trade in state.trades.values() if not trade.is_audit]
        assert model.trades == [
            (trade.price_cents, trade.quantity, trade.maker_fee_cents, trade.taker_fee_cents)
            for trade in fills
        ]

    def run(self, operations: int) -> set[int]:
        """Random commands, then both markets' ends, all compared; answers the refusals met, 0 for none.

        Raises AssertionError at the first difference.
        """
        codes = set()
        for number in range(operations):
            expected, answered = self.step()
            assert expected == answered, f"operation {number}: model {expected}, exchange {answered}"
            codes.add(expected or 0)
            self.compare()
        for market, outcome in zip(MARKETS, self.random.sample(list(Resolution), 2), strict=True):
            self.settle(market, outcome)
            self.compare()
        return codes
