"""The exchange once more, as plainly as section 5 of the contract can be said: lists, sums and sorting.

Nothing is cached and nothing is incremental. Frozen cash and promised shares are not stored at all but summed
over live orders whenever they are asked for. Written from the contract, never from the exchange's code.
"""

from collections import defaultdict
from dataclasses import dataclass, field

AMM = "amm"
ACTIVE = "ACTIVE"


class No(Exception):  # noqa: N818
    """A refusal with its code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def fee_of(value: int, bps: int) -> int:
    return -(-value * bps // 10000)


@dataclass
class Ticket:
    """One order."""

    number: int
    user: str
    market: str
    side: str
    direction: str
    price: int
    quantity: int
    remaining: int = 0
    status: str = "OPEN"

    @property
    def book_side(self) -> str:
        if self.side == "YES":
            return self.direction
        return "SELL" if self.direction == "BUY" else "BUY"

    @property
    def book_price(self) -> int:
        return self.price if self.side == "YES" else 100 - self.price

    @property
    def live(self) -> bool:
        return self.status in {"OPEN", "PARTIALLY_FILLED"}


@dataclass
class Room:
    """One market."""

    maker_bps: int
    taker_bps: int
    status: str = ACTIVE
    reserve: int = 0
    pnl: int = 0
    pairs: int = 0
    max_position: int = 25000


@dataclass
class Obvious:
    """All of it. Shares and costs by (user, market, side); cash is available plus frozen."""

    rooms: dict[str, Room]
    cash: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    shares: dict[tuple[str, str, str], int] = field(default_factory=lambda: defaultdict(int))
    costs: dict[tuple[str, str, str], int] = field(default_factory=lambda: defaultdict(int))
    tickets: list[Ticket] = field(default_factory=list)
    fees: int = 0
    trades: list[tuple] = field(default_factory=list)

    # -- derived ----------------------------------------------------------------------------------------

    def hold(self, ticket: Ticket) -> int:
        value = ticket.price * ticket.remaining
        return value + fee_of(value, self.rooms[ticket.market].taker_bps)

    def frozen(self, user: str) -> int:
        return sum(self.hold(t) for t in self.tickets if t.live and t.user == user and t.direction == "BUY")

    def available(self, user: str) -> int:
        return self.cash[user] - self.frozen(user)

    def promised(self, user: str, market: str, side: str) -> int:
        mine = [
            t for t in self.tickets if (t.user, t.market, t.side, t.direction) == (user, market, side, "SELL")
        ]
        return sum(t.remaining for t in mine if t.live)

    def free(self, user: str, market: str, side: str) -> int:
        return self.shares[user, market, side] - self.promised(user, market, side)

    # -- commands ---------------------------------------------------------------------------------------

    def place(
        self, user: str, market: str, side: str, direction: str, price: int, quantity: int, ioc: bool
    ) -> int:
        room = self.rooms[market]
        if room.status != ACTIVE:
            raise No(3002)
        if not 1 <= price <= 99:
            raise No(4001)
        if not 1 <= quantity <= 10000 or price * quantity > 1000000:
            raise No(4002)
        if (
            direction == "BUY"
            and user != AMM
            and self.shares[user, market, side] + quantity > room.max_position
        ):
            raise No(4002)
        ticket = Ticket(len(self.tickets), user, market, side, direction, price, quantity, quantity)
        if direction == "BUY" and self.available(user) < self.hold(ticket):
            raise No(2001)
        if direction == "SELL" and self.free(user, market, side) < quantity:
            raise No(5001)
        crossing = [t for t in self.tickets if t.live and t.market == market and self.crosses(ticket, t)]
        strangers = [t for t in crossing if t.user != user or user == AMM]
        if ioc and crossing and not strangers:
            raise No(4003)
        self.tickets.append(ticket)
        better = -1 if ticket.book_side == "SELL" else 1
        touched = {user}
        for maker in sorted(strangers, key=lambda t: (better * t.book_price, t.number)):
            if ticket.remaining == 0:
                break
            self.meet(ticket, maker)
            touched.add(maker.user)
        if ticket.remaining and ioc:
            ticket.status = "CANCELLED"
        for name in touched:
            self.net(name, market)
        return ticket.number

    @staticmethod
    def crosses(taker: Ticket, maker: Ticket) -> bool:
        if taker.book_side == maker.book_side:
            return False
        if taker.book_side == "BUY":
            return maker.book_price <= taker.book_price
        return maker.book_price >= taker.book_price

    def meet(self, taker: Ticket, maker: Ticket) -> None:
        room = self.rooms[taker.market]
        quantity = min(taker.remaining, maker.remaining)
        price = maker.book_price
        legs = sorted((taker, maker), key=lambda t: (t.direction == "BUY", t.book_side == "SELL"))
        charged = {}
        for ticket in legs:  # closing legs first, the book's buyer before its seller
            key = (ticket.user, ticket.market, ticket.side)
            value = quantity * (price if ticket.side == "YES" else 100 - price)
            fee = fee_of(value, room.taker_bps if ticket is taker else room.maker_bps)
            if ticket.direction == "SELL":
                cost = self.cost_of(key, quantity)
                self.shares[key] -= quantity
                self.costs[key] -= cost
                ticket.remaining -= quantity
                self.cash[ticket.user] += value
                room.pnl += value - cost
            else:
                ticket.remaining -= quantity
                self.cash[ticket.user] -= value
                self.shares[key] += quantity
                self.costs[key] += value
            fee = min(fee, self.available(ticket.user))
            self.cash[ticket.user] -= fee
            self.fees += fee
            charged[ticket.number] = fee
            ticket.status = "PARTIALLY_FILLED" if ticket.remaining else "FILLED"
        if taker.direction == maker.direction:
            pairs = quantity if taker.direction == "BUY" else -quantity
            room.pairs += pairs
            room.reserve += 100 * pairs
        self.trades.append((price, quantity, charged[maker.number], charged[taker.number]))

    def cost_of(self, key: tuple[str, str, str], quantity: int) -> int:
        if quantity == self.shares[key]:
            return self.costs[key]
        return self.costs[key] * quantity // self.shares[key]

    def dissolve(self, user: str, market: str, pairs: int) -> None:
        room = self.rooms[market]
        for side in ("YES", "NO"):
            cost = self.cost_of((user, market, side), pairs)
            self.shares[user, market, side] -= pairs
            self.costs[user, market, side] -= cost
            room.pnl -= cost
        room.pnl += 100 * pairs
        room.pairs -= pairs
        room.reserve -= 100 * pairs
        self.cash[user] += 100 * pairs

    def net(self, user: str, market: str, *, anyone: bool = False) -> None:
        pairs = min(self.free(user, market, "YES"), self.free(user, market, "NO"))
        if pairs > 0 and (anyone or user != AMM):
            self.dissolve(user, market, pairs)

    def cancel(self, user: str, number: int) -> None:
        ticket = self.tickets[number]
        if ticket.user != user:
            raise No(403)
        if not ticket.live:
            raise No(4006)
        ticket.status = "CANCELLED"
        self.net(user, ticket.market)

    def replace(self, number: int, market: str, side: str, direction: str, price: int, quantity: int) -> int:
        old = self.tickets[number]
        if old.user != AMM:
            raise No(6004)
        if old.status == "FILLED":
            raise No(6003)
        if old.status == "CANCELLED":
            raise No(4006)
        if old.market != market:
            raise No(6005)
        if self.rooms[market].status != ACTIVE:
            raise No(3002)
        if not 1 <= price <= 99:
            raise No(4001)
        if not 1 <= quantity <= 10000 or price * quantity > 1000000:
            raise No(4002)
        if old.status == "PARTIALLY_FILLED":
            old.status = "CANCELLED"
            raise No(6001)
        old.status = "CANCELLED"
        try:
            return self.place(AMM, market, side, direction, price, quantity, ioc=False)
        except No:
            old.status = "OPEN"
            raise

    def batch_cancel(self, market: str, scope: str) -> int:
        wanted = {"ALL": {"BUY", "SELL"}, "BUY_ONLY": {"BUY"}, "SELL_ONLY": {"SELL"}}[scope]
        gone = [
            t
            for t in self.tickets
            if t.live and (t.user, t.market) == (AMM, market) and t.direction in wanted
        ]
        for ticket in gone:
            ticket.status = "CANCELLED"
        return len(gone)

    def mint(self, market: str, quantity: int) -> None:
        room = self.rooms[market]
        if room.status != ACTIVE:
            raise No(3002)
        if self.available(AMM) < 100 * quantity:
            raise No(2001)
        self.cash[AMM] -= 100 * quantity
        room.pairs += quantity
        room.reserve += 100 * quantity
        for side in ("YES", "NO"):
            self.shares[AMM, market, side] += quantity
            self.costs[AMM, market, side] += 50 * quantity

    def burn(self, market: str, quantity: int) -> None:
        if self.rooms[market].status != ACTIVE:
            raise No(3002)
        if quantity > min(self.free(AMM, market, "YES"), self.free(AMM, market, "NO")):
            raise No(5001)
        self.dissolve(AMM, market, quantity)

    def settle(self, market: str, outcome: str) -> None:
        room = self.rooms[market]
        for ticket in self.tickets:
            if ticket.live and ticket.market == market:
                ticket.status = "CANCELLED"
        users = sorted({user for user, where, _ in self.shares if where == market})
        if outcome == "VOID":
            for user in users:
                self.net(user, market, anyone=True)
            costs = {u: self.costs[u, market, "YES"] + self.costs[u, market, "NO"] for u in users}
            payers = [u for u in users if costs[u] > 0]
            left, total = room.reserve, sum(costs.values())
            for user in payers:
                share = left if user == payers[-1] else costs[user] * room.reserve // total
                self.cash[user] += share
                left -= share
            room.status = "VOIDED"
        else:
            for user in users:
                self.cash[user] += 100 * self.shares[user, market, outcome]
            room.status = "SETTLED"
        for user in users:
            for side in ("YES", "NO"):
                self.shares[user, market, side] = self.costs[user, market, side] = 0
        room.reserve = room.pnl = room.pairs = 0
