"""A recorded Betfair stream as the other participants of one paper market: file -> messages -> cents.

Pure: nothing here knows a clock, a socket or the exchange. Three steps, in this order:

1. ``read_messages`` turns a file (plain, gzip or bzip2, told apart by content) into typed messages, one for
   each market change. Whatever is not a two-runner Betfair stream is refused with one line:
   what was found, where, and the rule it breaks.
2. ``RecordedMarket`` keeps the recorded ladders (decimal odds -> stake) and, for each message, says which
   takers came and which levels changed.
3. ``describe`` runs both over a whole file and sums up what a demo must know before it starts.

How odds become orders
    Runner with sortPriority 1 is YES, the other one is NO. Decimal odds ``o`` are a price of ``100/o`` cents
    for a contract that pays 100; a stake ``s`` at odds ``o`` pays ``s*o`` and is ``floor(s*o)`` contracts.
    All of it is exact: decimals are never turned into floats.

    ``atb`` (available to back) is what a backer may take: an *offer to sell* the runner, rounded up to a
    cent. ``atl`` (available to lay) is a *bid* for the runner, rounded down. Both are clipped to 1..99, and
    odds that land on the same cent add up.

    Every one of them can be posted as a purchase, because on a single YES book an offer to sell one outcome
    at ``p`` is a bid for the other at ``100 - p`` (platform contract 5.1). So the crowd only ever buys, needs
    cash and no shares, and a ``Level`` is a purchase:

    ========  ===================  ===================
    recorded  runner 1 (YES)       runner 2 (NO)
    ========  ===================  ===================
    atb at p  BUY NO at 100 - p    BUY YES at 100 - p
    atl at p  BUY YES at p         BUY NO at p
    ========  ===================  ===================

    ``trd`` is the volume traded so far at each odds; it counts both sides of a trade, so half of each
    increment becomes a taker. The taker buys the runner if the odds are nearer to the best available-to-back
    odds of that runner than to its best available-to-lay odds (a backer took an offer), else sells it. An
    image (``img``) replaces what is known, its traded volumes included, and is no event: it makes no takers.
"""

import bz2
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

Outcome = Literal["YES", "NO"]
Result = Literal["YES", "NO", "VOID"]
Start = Literal["inplay", "start"]
Ladder = Literal["atb", "atl"]
RecordedStatus = Literal["OPEN", "SUSPENDED", "CLOSED"]
Pairs = tuple[tuple[Decimal, Decimal], ...]
"""(decimal odds, stake) pairs in file order; for ladders and traded volume the stake is the new total."""

PAYOUT_CENTS = 100
PRICE_CENTS_MIN = 1
PRICE_CENTS_MAX = 99
ODDS_MAX = 1000
STAKE_MAX = 10**12
DECIMALS_MAX = 20
LINE_BYTES_MAX = 16 * 1024 * 1024


class FeedError(Exception):
    """The file is not a stream this module can replay; the text is one line: file, line, what, rule."""

    def __init__(self, path: Path, line: int, what: str, rule: str) -> None:
        where = f"line {line}: " if line else ""
        super().__init__(f"feed {path}: {where}{what}; {rule}")


class Level(NamedTuple):
    """A purchase at a price: BUY ``side`` at ``price_cents`` (in that side's own cents, 1..99)."""

    side: Outcome
    price_cents: int


class RunnerChange(msgspec.Struct, frozen=True, kw_only=True):
    """What one message says about one runner. Pairs are absolute totals; stake 0 deletes the odds."""

    outcome: Outcome
    to_back: Pairs
    to_lay: Pairs
    traded: Pairs


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """Market state in a message. ``result`` is set exactly when the status is CLOSED."""

    status: RecordedStatus
    in_play: bool
    result: Result | None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded market change. ``publish_ms`` is the venue's publish time in epoch milliseconds."""

    line: int
    publish_ms: int
    image: bool
    definition: Definition | None
    changes: tuple[RunnerChange, ...]

    @property
    def has_ladder(self) -> bool:
        """Whether the message speaks about resting levels at all."""
        return any(change.to_back or change.to_lay for change in self.changes)


class Taker(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded taker: buy up to ``quantity`` of ``level.side`` at ``level.price_cents`` or better."""

    level: Level
    quantity: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What one message means for the exchange: takers first, then the new size of each changed level."""

    takers: tuple[Taker, ...]
    levels: Mapping[Level, int]


class FeedSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A recording in numbers, for the market and the accounts that replay it.

    Counts are of the messages replayed from ``start`` on. ``ladder_messages`` are those that change a ladder
    while the market is open. ``first_mid_cents`` is the YES mid of the first two-sided ladder, halves rounded
    up. The three ``market_*`` limits admit every order of the replay; the funds cover it with room for
    whatever other participants take.
    """

    market_id: str
    yes_runner_id: int
    no_runner_id: int
    messages: int
    ladder_messages: int
    recorded_ms: int
    first_mid_cents: int
    level_contracts_max: int
    resting_cash_cents_max: int
    taker_contracts: int
    taker_orders: int
    result: Result | None
    market_max_order_quantity: int
    market_max_position_per_user: int
    market_max_order_amount_cents: int
    crowd_funds_cents: int
    taker_funds_cents: int


# --- conversion (exact) ----------------------------------------


def contracts(stake: Decimal, odds: Decimal, *, share: int = 1) -> int:
    """Contracts of payout 1 that ``stake / share`` at ``odds`` buys: floor(stake * odds / share), exactly."""
    stake_top, stake_bottom = stake.as_integer_ratio()
    odds_top, odds_bottom = odds.as_integer_ratio()
    return stake_top * odds_top // (stake_bottom * odds_bottom * share)


def bid_cents(odds: Decimal) -> int:
    """Price of a bid for the runner at ``odds``: 100/odds rounded down, clipped to 1..99."""
    top, bottom = odds.as_integer_ratio()
    return _clipped(PAYOUT_CENTS * bottom // top)


def ask_cents(odds: Decimal) -> int:
    """Price of an offer to sell the runner at ``odds``: 100/odds rounded up, clipped to 1..99."""
    top, bottom = odds.as_integer_ratio()
    return _clipped(-(-PAYOUT_CENTS * bottom // top))


def bid_level(outcome: Outcome, price_cents: int) -> Level:
    """The purchase that is a bid for ``outcome``."""
    return Level(outcome, price_cents)


def ask_level(outcome: Outcome, price_cents: int) -> Level:
    """The purchase that is an offer to sell ``outcome``: a bid for the other one."""
    return Level("NO" if outcome == "YES" else "YES", PAYOUT_CENTS - price_cents)


def yes_book(levels: Mapping[Level, int]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Purchases as a YES ladder: ([(bid cents, quantity)] descending, [(ask cents, quantity)] ascending)."""
    bids = [(level.price_cents, quantity) for level, quantity in levels.items() if level.side == "YES"]
    asks = [
        (PAYOUT_CENTS - level.price_cents, quantity)
        for level, quantity in levels.items()
        if level.side == "NO"
    ]
    return sorted(bids, reverse=True), sorted(asks)


def mid_cents(levels: Mapping[Level, int]) -> int | None:
    """YES mid of the two best prices, halves rounded up, or None while a side is empty."""
    bids, asks = yes_book(levels)
    if not bids or not asks:
        return None
    return (bids[0][0] + asks[0][0] + 1) // 2


def _clipped(price_cents: int) -> int:
    return min(max(price_cents, PRICE_CENTS_MIN), PRICE_CENTS_MAX)


# --- reading ----------------------------------------


class _WireRunner(msgspec.Struct):
    id: int
    status: str
    sort_priority: int = msgspec.field(name="sortPriority")


class _WireDefinition(msgspec.Struct):
    status: str
    runners: list[_WireRunner]
    in_play: bool = msgspec.field(name="inPlay", default=False)


class _WireRunnerChange(msgspec.Struct):
    id: int
    atb: Pairs = ()
    atl: Pairs = ()
    trd: Pairs = ()
    batb: tuple[tuple[int, Decimal, Decimal], ...] = ()
    batl: tuple[tuple[int, Decimal, Decimal], ...] = ()


class _WireMarketChange(msgspec.Struct):
    id: str
    img: bool = False
    definition: _WireDefinition | None = msgspec.field(name="marketDefinition", default=None)
    rc: list[_WireRunnerChange] = []


class _WireLine(msgspec.Struct):
    op: str
    pt: int | None = None
    mc: list[_WireMarketChange] = []


_DECODER = msgspec.json.Decoder(_WireLine)
_STATUSES: Mapping[str, RecordedStatus] = {
    "INACTIVE": "SUSPENDED",
    "OPEN": "OPEN",
    "SUSPENDED": "SUSPENDED",
    "CLOSED": "CLOSED",
}
_OTHER_OPERATIONS = frozenset({"connection", "status"})


class RunnerIds(NamedTuple):
    """Betfair's selection ids of the two runners."""

    yes: int
    no: int


class RecordedStream:
    """Iterates the messages of one file; ``market_id`` and ``runners`` are known once the first one is out.

    Reads line by line and keeps nothing else, so memory does not grow with the file. Raises ``FeedError`` at
    the first line that breaks a rule. The file is closed when the iteration ends or is dropped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.market_id = ""
        self.runners: RunnerIds | None = None

    def __iter__(self) -> Iterator[Message]:
        full_depth_seen = False
        shallow_line = 0
        line = 0
        try:
            with self.path.open("rb") as file, _decompressed(file) as stream:
                while raw := stream.readline(LINE_BYTES_MAX + 1):
                    line += 1
                    if len(raw) > LINE_BYTES_MAX:
                        raise FeedError(self.path, line, "an endless line", f"at most {LINE_BYTES_MAX} bytes")
                    if not raw.strip():
                        continue
                    for publish_ms, change in self._market_changes(raw, line):
                        message = self._message(change, line=line, publish_ms=publish_ms)
                        full_depth_seen = full_depth_seen or message.has_ladder
                        if not shallow_line and any(rc.batb or rc.batl for rc in change.rc):
                            shallow_line = line
                        yield message
        except (OSError, EOFError, zlib.error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise FeedError(self.path, line, reason, "must be a readable and complete file") from error
        if self.runners is None:
            raise FeedError(self.path, line + 1, "end of file", "must hold at least one market definition")
        if shallow_line and not full_depth_seen:
            raise FeedError(
                self.path,
                shallow_line,
                "only level-numbered ladders (batb, batl)",
                "must be recorded with whole ladders (atb, atl)",
            )

    def _market_changes(self, raw: bytes, line: int) -> Iterator[tuple[int, _WireMarketChange]]:
        rule = 'must be a Betfair market-change message {"op":"mcm","pt":…,"mc":[…]}'
        try:
            wire = _DECODER.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FeedError(self.path, line, str(error), rule) from error
        if wire.op in _OTHER_OPERATIONS:
            return
        if wire.op != "mcm":
            raise FeedError(self.path, line, f"op={wire.op!r}", rule)
        for change in wire.mc:
            if wire.pt is None:
                raise FeedError(self.path, line, "no publish time (pt)", rule)
            yield wire.pt, change

    def _message(self, change: _WireMarketChange, *, line: int, publish_ms: int) -> Message:
        if self.market_id and change.id != self.market_id:
            raise FeedError(
                self.path,
                line,
                f"market {change.id!r} beside {self.market_id!r}",
                "one file must hold one market",
            )
        self.market_id = change.id
        definition = None
        if change.definition is not None:
            definition = self._definition(change.definition, line)
        return Message(
            line=line,
            publish_ms=publish_ms,
            image=change.img,
            definition=definition,
            changes=tuple(self._runner_change(rc, line) for rc in change.rc),
        )

    def _definition(self, wire: _WireDefinition, line: int) -> Definition:
        by_priority = {runner.sort_priority: runner.id for runner in wire.runners}
        if len(wire.runners) != 2 or set(by_priority) != {1, 2}:
            raise FeedError(
                self.path,
                line,
                f"market {self.market_id!r} has {len(wire.runners)} runners",
                "must be a two-runner market (sortPriority 1 is YES, 2 is NO)",
            )
        runners = RunnerIds(yes=by_priority[1], no=by_priority[2])
        if self.runners is not None and runners != self.runners:
            raise FeedError(self.path, line, f"runners {runners}", f"must stay {self.runners}")
        self.runners = runners
        status = _STATUSES.get(wire.status)
        if status is None:
            raise FeedError(
                self.path, line, f"market status {wire.status!r}", f"must be one of {', '.join(_STATUSES)}"
            )
        winners: list[Outcome] = [
            "YES" if runner.id == runners.yes else "NO"
            for runner in wire.runners
            if runner.status == "WINNER"
        ]
        result: Result | None = None
        if status == "CLOSED":
            result = winners[0] if len(winners) == 1 else "VOID"
        return Definition(status=status, in_play=wire.in_play, result=result)

    def _runner_change(self, wire: _WireRunnerChange, line: int) -> RunnerChange:
        if self.runners is None:
            raise FeedError(
                self.path, line, f"runner {wire.id} before any market definition", "a definition comes first"
            )
        if wire.id not in self.runners:
            raise FeedError(self.path, line, f"runner {wire.id}", f"must be one of {tuple(self.runners)}")
        for name, pairs in (("atb", wire.atb), ("atl", wire.atl), ("trd", wire.trd)):
            for odds, stake in pairs:
                if not (_is_short(odds) and 1 < odds <= ODDS_MAX):
                    rule = f"must be above 1, at most {ODDS_MAX}, with at most {DECIMALS_MAX} decimals"
                    raise FeedError(self.path, line, f"{name} odds {odds}", rule)
                if not (_is_short(stake) and 0 <= stake <= STAKE_MAX):
                    rule = f"must be 0..{STAKE_MAX} with at most {DECIMALS_MAX} decimals"
                    raise FeedError(self.path, line, f"{name} stake {stake}", rule)
        return RunnerChange(
            outcome="YES" if wire.id == self.runners.yes else "NO",
            to_back=wire.atb,
            to_lay=wire.atl,
            traded=wire.trd,
        )


def _is_short(value: Decimal) -> bool:
    """Finite and with few decimals: the exact integers made of it stay small whatever the file says."""
    return value.is_finite() and int(value.as_tuple().exponent) >= -DECIMALS_MAX


def _decompressed(file: io.BufferedReader) -> io.BufferedIOBase:
    """The file's content by its magic bytes. Closing the result does not close a compressed ``file``."""
    magic = file.peek(3)[:3]
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file, mode="rb")
    if magic == b"BZh":
        return bz2.BZ2File(file, mode="rb")
    return file


# --- replaying ----------------------------------------


class RecordedMarket:
    """The recorded ladders of one market and the purchases they stand for.

    ``levels`` is the crowd's whole target: purchase -> contracts, never zero. It is always equal to the sum
    over all recorded odds of ``contracts(stake, odds)`` at the level those odds convert to.
    """

    def __init__(self) -> None:
        self.levels: dict[Level, int] = {}
        self._stakes: dict[tuple[Outcome, Ladder], dict[Decimal, Decimal]] = {}
        self._traded: dict[Outcome, dict[Decimal, Decimal]] = {"YES": {}, "NO": {}}
        for outcome in ("YES", "NO"):
            for ladder in ("atb", "atl"):
                self._stakes[outcome, ladder] = {}

    def apply(self, message: Message) -> Step:
        """Take one message in. Takers are judged by the ladders as they were before it."""
        takers = self._takers(message)
        touched: dict[Level, int] = {}
        if message.image:
            touched = dict(self.levels)
            self.levels.clear()
            for stakes in self._stakes.values():
                stakes.clear()
        for change in message.changes:
            for odds, stake in change.to_back:
                self._set(change.outcome, "atb", odds, stake, touched)
            for odds, stake in change.to_lay:
                self._set(change.outcome, "atl", odds, stake, touched)
        changed = {
            level: self.levels.get(level, 0)
            for level, before in touched.items()
            if self.levels.get(level, 0) != before
        }
        return Step(takers=takers, levels=changed)

    def _set(
        self, outcome: Outcome, ladder: Ladder, odds: Decimal, stake: Decimal, touched: dict[Level, int]
    ) -> None:
        if ladder == "atb":
            level = ask_level(outcome, ask_cents(odds))
        else:
            level = bid_level(outcome, bid_cents(odds))
        stakes = self._stakes[outcome, ladder]
        before = self.levels.get(level, 0)
        touched.setdefault(level, before)
        quantity = before - contracts(stakes.pop(odds, Decimal(0)), odds) + contracts(stake, odds)
        if stake:
            stakes[odds] = stake
        if quantity:
            self.levels[level] = quantity
        else:
            self.levels.pop(level, None)

    def _takers(self, message: Message) -> tuple[Taker, ...]:
        quantities: dict[Level, int] = {}
        for change in message.changes:
            totals = self._traded[change.outcome]
            if message.image:
                totals.clear()
            for odds, total in change.traded:
                increment = total - totals.get(odds, Decimal(0))
                if total:
                    totals[odds] = total
                else:
                    totals.pop(odds, None)
                if message.image or increment <= 0:
                    continue
                quantity = contracts(increment, odds, share=2)
                if quantity:
                    level = self._taken_at(change.outcome, odds)
                    quantities[level] = quantities.get(level, 0) + quantity
        return tuple(Taker(level=level, quantity=quantity) for level, quantity in quantities.items())

    def _taken_at(self, outcome: Outcome, odds: Decimal) -> Level:
        """Which purchase a trade at these odds was. A tie, or an empty ladder, is a seller of the runner."""
        best_back = max(self._stakes[outcome, "atb"], default=None)
        best_lay = min(self._stakes[outcome, "atl"], default=None)
        buyer = best_back is not None and (best_lay is None or abs(odds - best_back) < abs(odds - best_lay))
        if buyer:
            return bid_level(outcome, ask_cents(odds))
        return ask_level(outcome, bid_cents(odds))


# --- summing up ----------------------------------------


def is_start(message: Message, start: Start) -> bool:
    """Whether the replay begins with this message (everything before it is the state it begins from)."""
    return start == "start" or (message.definition is not None and message.definition.in_play)


def describe(path: Path, start: Start) -> FeedSummary:
    """Scan a whole recording. Raises ``FeedError`` when it cannot be replayed from ``start``.

    Reading to the end first means that a broken line is found before the first order is placed.
    """
    stream = RecordedStream(path)
    market = RecordedMarket()
    tally = _Tally()
    started = False
    line = 0
    for message in stream:
        line = message.line
        if not started and is_start(message, start):
            started = True
            tally.see_levels(market.levels)
        step = market.apply(message)
        if started:
            tally.see_message(message, step)
            if step.levels:
                tally.see_levels(market.levels)
    if not started:
        raise FeedError(path, line, "end of file before the match", "from inplay needs an in-play definition")
    if tally.first_mid_cents is None or stream.runners is None:
        raise FeedError(
            path, line, "end of file without a two-sided ladder", "a first mid is needed to quote"
        )
    return FeedSummary(
        market_id=stream.market_id,
        yes_runner_id=stream.runners.yes,
        no_runner_id=stream.runners.no,
        messages=tally.messages,
        ladder_messages=tally.ladder_messages,
        recorded_ms=tally.recorded_ms,
        first_mid_cents=tally.first_mid_cents,
        level_contracts_max=tally.level_contracts_max,
        resting_cash_cents_max=tally.resting_cash_cents_max,
        taker_orders=tally.taker_orders,
        taker_contracts=tally.taker_contracts,
        result=tally.result,
        market_max_order_quantity=max(tally.order_contracts_max, DEFAULT_MAX_ORDER_QUANTITY),
        market_max_position_per_user=max(
            FUNDS_FACTOR * (tally.taker_contracts + tally.resting_contracts_max),
            DEFAULT_MAX_POSITION_PER_USER,
        ),
        market_max_order_amount_cents=max(tally.order_cash_cents_max, DEFAULT_MAX_ORDER_AMOUNT_CENTS),
        crowd_funds_cents=FUNDS_FACTOR
        * (tally.resting_cash_cents_max + PAYOUT_CENTS * tally.taker_contracts),
        taker_funds_cents=max(FUNDS_FACTOR * tally.taker_cash_cents, 1),
    )


FUNDS_FACTOR = 2
"""Accounts and positions get twice what the recording alone needs: a level that shrinks is placed anew before
its old order is cancelled, and other participants take from levels that are then placed again."""
DEFAULT_MAX_ORDER_QUANTITY = 10_000
DEFAULT_MAX_POSITION_PER_USER = 25_000
DEFAULT_MAX_ORDER_AMOUNT_CENTS = 1_000_000


class _Tally:
    """Counts and peaks of the replayed part of a recording."""

    def __init__(self) -> None:
        self.messages = self.ladder_messages = self.recorded_ms = 0
        self.taker_orders = self.taker_contracts = self.taker_cash_cents = 0
        self.level_contracts_max = self.order_contracts_max = self.order_cash_cents_max = 0
        self.resting_contracts_max = self.resting_cash_cents_max = 0
        self.first_mid_cents: int | None = None
        self.result: Result | None = None
        self._previous_ms: int | None = None
        self._open = True

    def see_message(self, message: Message, step: Step) -> None:
        if self._previous_ms is not None:
            self.recorded_ms += max(message.publish_ms - self._previous_ms, 0)
        self._previous_ms = message.publish_ms
        if message.definition is not None:
            self._open = message.definition.status == "OPEN"
            self.result = message.definition.result
        self.messages += 1
        self.ladder_messages += self._open and message.has_ladder
        for taker in step.takers:
            self.taker_orders += 1
            self.taker_contracts += taker.quantity
            self.taker_cash_cents += taker.quantity * taker.level.price_cents
            self._see_order(taker.level, taker.quantity)

    def see_levels(self, levels: Mapping[Level, int]) -> None:
        if self.first_mid_cents is None:
            self.first_mid_cents = mid_cents(levels)
        for level, quantity in levels.items():
            self.level_contracts_max = max(self.level_contracts_max, quantity)
            self._see_order(level, quantity)
        self.resting_contracts_max = max(self.resting_contracts_max, sum(levels.values()))
        cash_cents = sum(level.price_cents * quantity for level, quantity in levels.items())
        self.resting_cash_cents_max = max(self.resting_cash_cents_max, cash_cents)

    def _see_order(self, level: Level, quantity: int) -> None:
        self.order_contracts_max = max(self.order_contracts_max, quantity)
        self.order_cash_cents_max = max(self.order_cash_cents_max, level.price_cents * quantity)
