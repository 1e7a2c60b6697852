"""The recorded-feed participant: replays a recorded match as the other side of one paper market.

    python -m engine.paper.crowd --url URL --market ID --feed betfair:FILE [--speed X] [--from inplay|start]
        [--checkpoints N] [--run ID]

Two ordinary accounts trade, both only by buying (see ``engine.paper.betfair``). ``crowd_RUN`` owns every
resting order, so that a locked recorded ladder may rest (own orders never trade with each other, contract
5.7), and ``crowd_RUN_takers`` sends the recorded takers, immediate-or-cancel. The account ``operator``
(``COREQUOTE_OPERATOR_PASSWORD``) moves the market between ACTIVE and SUSPENDED and resolves it with the
winner.

Each message is applied whole before the next: first an ACTIVE it brings, then its takers, then its levels
absolutely, topped up again after whatever other participants took, then a SUSPENDED or the result it
brings. While the market is suspended levels can only shrink; they are filled up when it opens.

stdout is one JSON object per line, ``event`` being ready, status, checkpoint or done. A checkpoint carries
the ladder that the crowd's account holds, confirmed by its own order listing; the crowd then waits for the
line ``next`` on stdin (10 s at most), keeping the ladder topped up. Logs go to stderr.

Exit codes: 0 done or told to stop, 1 the exchange failed us, 2 usage, 78 the feed or the market is unfit.
"""

import argparse
import asyncio
import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
import structlog

from engine.paper.betfair import (
    FeedError,
    FeedSummary,
    Level,
    Message,
    RecordedMarket,
    RecordedStream,
    Result,
    Start,
    Taker,
    describe,
    is_start,
    mid_cents,
    yes_book,
)
from engine.paper.client import (
    DEPOSIT_CENTS_MAX,
    NOT_CANCELLABLE,
    NOT_ENOUGH_CASH,
    ORDER_UNKNOWN,
    ExchangeClient,
    Market,
    Placed,
    RateLimitedError,
    RefusedError,
    UnreachableError,
)
from engine.paper.participant import (
    CALLS_IN_FLIGHT_MAX,
    EXIT_CONFIG,
    EXIT_OK,
    Backoff,
    emit,
    leave_the_book,
    new_password,
    open_account,
    run,
    run_name,
)

T = TypeVar("T")

FEED_KIND: Final = "betfair:"
OPERATOR: Final = "operator"
WAIT_S_MAX: Final = 1.0
"""Longer recorded waits are cut to this much wall time."""
POLL_S: Final = 1.0
"""Trades are asked for at least this often, whether the trades stream says so or not."""
NEXT_S_MAX: Final = 10.0
SILENCE_S_MAX: Final = 60.0
"""An exchange that gives no usable answer for this long ends the replay."""
ORDERS_PER_LEVEL_MAX: Final = 4
ROUNDS_MAX: Final = 100
"""Bound of topping up one set of levels at once; what is missing then is topped up with the next trade."""
KNOWN_TRADES_MAX: Final = 20_000
LATE_MS: Final = 100


# --- keeping levels ---------------------------------------------------------------------


class LevelPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How to bring a level to its target: ``place`` contracts anew (0: none), then cancel these orders."""

    place: int
    cancel: tuple[str, ...]


def plan_level(remaining: Mapping[str, int], target: int, *, may_place: bool) -> LevelPlan:
    """The fewest requests that take resting orders (id -> remaining contracts) to exactly ``target``.

    Growth is one more order, or, when the level has ``ORDERS_PER_LEVEL_MAX`` already, one that replaces
    its smallest. Shrinking cancels orders and places back what that took too much. Without ``may_place``
    (the market is suspended) the plan only cancels, and ends as little below the target as it can.
    """
    surplus = sum(remaining.values()) - target
    if surplus < 0:
        if not may_place:
            return LevelPlan(place=0, cancel=())
        if len(remaining) < ORDERS_PER_LEVEL_MAX:
            return LevelPlan(place=-surplus, cancel=())
        smallest = min(remaining, key=lambda order_id: remaining[order_id])
        return LevelPlan(place=remaining[smallest] - surplus, cancel=(smallest,))
    if surplus == 0 or target == 0:
        return LevelPlan(place=0, cancel=tuple(remaining) if surplus else ())

    def overshoot(order_ids: tuple[str, ...]) -> int:
        return sum(remaining[order_id] for order_id in order_ids) - surplus

    # A level holds few orders, so all choices can be looked at.
    choices = [
        choice
        for count in range(1, len(remaining) + 1)
        for choice in combinations(remaining, count)
        if overshoot(choice) >= 0
    ]
    if may_place:
        # Of equally cheap choices the one that loses least queue place.
        cheapest = min(choices, key=lambda choice: (len(choice) + (overshoot(choice) > 0), overshoot(choice)))
        return LevelPlan(place=overshoot(cheapest), cancel=cheapest)
    return LevelPlan(place=0, cancel=min(choices, key=overshoot))


class RestingOrder:
    """One of the crowd's orders: what is left of it is its quantity less every fill we know of.

    Fills are kept by trade id, so a fill seen twice (in a placement's answer and in the trades) counts once.
    """

    def __init__(self, level: Level, placed: Placed) -> None:
        self.level = level
        self.quantity = placed.order.quantity
        self.fills = {fill.trade_id: fill.quantity for fill in placed.trades}

    @property
    def remaining(self) -> int:
        return self.quantity - sum(self.fills.values())


class RestingLevels:
    """The orders of the crowd's account in one market, kept equal to ``targets``.

    Only one task may use it. All of its orders are known to it, because no placement is ever abandoned
    unanswered; fills of its orders reach it through ``absorb_trades``.
    """

    def __init__(self, client: ExchangeClient, market_id: str, *, order_prefix: str) -> None:
        self.targets: dict[Level, int] = {}
        self.may_place = True
        self.placed_count = 0
        self.cancelled_count = 0
        self.traded = asyncio.Event()
        """Set when the market may have traded against our orders since the last ``absorb_trades``."""
        self._client = client
        self._market_id = market_id
        self._order_prefix = order_prefix
        self._sequence = 0
        self._orders: dict[str, RestingOrder] = {}
        self._at_level: dict[Level, dict[str, RestingOrder]] = {}
        self._known_trades: dict[str, bool] = {}
        """Trades counted already, oldest first; true once the trades listing has shown them."""

    def hint_trade(self, trade_id: str) -> None:
        """Somebody traded in the market: note it, unless it is a trade already counted."""
        if trade_id not in self._known_trades:
            self.traded.set()

    async def reach(self, levels: Iterable[Level]) -> None:
        """Bring these levels to their targets, again and again while others take from what is placed."""
        for _ in range(ROUNDS_MAX):
            plans = {
                level: plan
                for level in levels
                if (plan := self._plan(level)) != LevelPlan(place=0, cancel=())
            }
            if not plans:
                return
            # Shrink first, so that a ladder that moves never crosses itself on the way; and never cancel an
            # order before the one that replaces it rests, so that no level blinks.
            shrinking = [plan for plan in plans.values() if not plan.place]
            placing = {level: plan for level, plan in plans.items() if plan.place}
            await in_flight(self._cancel(order_id) for plan in shrinking for order_id in plan.cancel)
            await in_flight(self._place(level, plan.place) for level, plan in placing.items())
            await in_flight(self._cancel(order_id) for plan in placing.values() for order_id in plan.cancel)
        structlog.get_logger().warning("levels_not_reached", rounds=ROUNDS_MAX)
        self.traded.set()

    async def absorb_trades(self) -> set[Level]:
        """Ask for the account's trades and count the fills of resting orders; returns the levels they hit."""
        self.traded.clear()
        touched = set()
        cursor: str | None = None
        while True:
            page = await insist(partial(self._client.trades, self._market_id, cursor=cursor))
            met_listed = False
            for trade in page.items:
                met_listed = met_listed or self._known_trades.get(trade.trade_id, False)
                self._known_trades[trade.trade_id] = True
                order = self._orders.get(trade.my_order_id)
                if order is None or trade.trade_id in order.fills:
                    continue
                order.fills[trade.trade_id] = trade.quantity
                touched.add(order.level)
                if order.remaining == 0:
                    self._forget(trade.my_order_id)
            # Trades from placements' answers may lie above ones we have not seen; listed ones never do.
            if met_listed or page.next_cursor is None:
                break
            cursor = page.next_cursor
        while len(self._known_trades) > KNOWN_TRADES_MAX:
            del self._known_trades[next(iter(self._known_trades))]
        return touched

    async def top_up(self) -> None:
        """Count what others took, and place it again."""
        await self.reach(await self.absorb_trades())

    async def confirm(self) -> None:
        """Return once the account's own order listing shows exactly the targets.

        Raises ``UnreachableError`` when it does not within ``SILENCE_S_MAX``.
        """
        deadline = time.monotonic() + SILENCE_S_MAX
        while True:
            held: dict[Level, int] = {}
            for order in await insist(lambda: self._client.live_orders(self._market_id)):
                level = Level(order.original_side, order.original_price_cents)
                held[level] = held.get(level, 0) + order.remaining_quantity
            if held == {level: quantity for level, quantity in self.targets.items() if quantity}:
                return
            if time.monotonic() > deadline:
                differing = {*held.items()} ^ {*self.targets.items()}
                raise UnreachableError(f"order listing differs from the recorded ladder: {sorted(differing)}")
            await self.top_up()

    def _plan(self, level: Level) -> LevelPlan:
        resting = self._at_level.get(level, {})
        remaining = {order_id: order.remaining for order_id, order in resting.items()}
        return plan_level(remaining, self.targets.get(level, 0), may_place=self.may_place)

    async def _place(self, level: Level, quantity: int) -> None:
        self._sequence += 1
        client_order_id = f"{self._order_prefix}_{self._sequence}"
        placed = await buy(
            self._client, self._market_id, level, quantity, client_order_id=client_order_id, immediate=False
        )
        self.placed_count += 1
        for fill in placed.trades:
            self._known_trades[fill.trade_id] = False
        order = RestingOrder(level, placed)
        if order.remaining:
            self._orders[placed.order.id] = order
            self._at_level.setdefault(level, {})[placed.order.id] = order

    async def _cancel(self, order_id: str) -> None:
        try:
            await insist(lambda: self._client.cancel(order_id))
        except RefusedError as refusal:
            if refusal.code not in {NOT_CANCELLABLE, ORDER_UNKNOWN}:
                raise
        self.cancelled_count += 1
        self._forget(order_id)

    def _forget(self, order_id: str) -> None:
        order = self._orders.pop(order_id, None)
        if order is not None:
            del self._at_level[order.level][order_id]


async def in_flight(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run calls concurrently, a bounded number at a time; the first failure cancels the rest."""
    gate = asyncio.Semaphore(CALLS_IN_FLIGHT_MAX)

    async def guarded(call: Coroutine[Any, Any, None]) -> None:
        async with gate:
            await call

    tasks = [asyncio.create_task(guarded(call)) for call in calls]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat an idempotent call until the exchange answers it, for at most ``SILENCE_S_MAX``."""
    backoff = Backoff()
    deadline = time.monotonic() + SILENCE_S_MAX
    while True:
        try:
            return await call()
        except (UnreachableError, RateLimitedError) as error:
            wait_s = backoff.next_s(error)
            if time.monotonic() + wait_s > deadline:
                raise
            structlog.get_logger().warning("call_repeated", reason=str(error), wait_s=round(wait_s, 3))
            await asyncio.sleep(wait_s)


async def buy(
    client: ExchangeClient,
    market_id: str,
    level: Level,
    quantity: int,
    *,
    client_order_id: str,
    immediate: bool,
) -> Placed:
    """Place a purchase until it is answered, depositing more cash when the account runs out."""
    while True:
        try:
            return await insist(
                lambda: client.place(
                    market_id,
                    side=level.side,
                    direction="BUY",
                    price_cents=level.price_cents,
                    quantity=quantity,
                    client_order_id=client_order_id,
                    immediate=immediate,
                )
            )
        except RefusedError as refusal:
            if refusal.code != NOT_ENOUGH_CASH:
                raise
            structlog.get_logger().warning("more_cash", account=client.username, cents=DEPOSIT_CENTS_MAX)
            await client.deposit(DEPOSIT_CENTS_MAX)


# --- replaying --------------------------------------------------------------------------


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What to replay, where, and how fast."""

    url: str
    market_id: str
    path: Path
    start: Start
    speed: float
    checkpoints: int | None
    """Number of checkpoints, or None to have none and leave stdin alone."""
    run_id: str
    operator_password: str


class MarketUnfitError(Exception):
    """The exchange's market cannot take this recording: one line with value and rule."""


def usernames(run_id: str) -> tuple[str, str]:
    """Names of the resting and the taking account, so that whoever starts them can lift rate limits."""
    return f"crowd_{run_id}", f"crowd_{run_id}_takers"


class Crowd:
    """The participant: reads messages, waits as they did, applies each to the exchange."""

    def __init__(self, session: aiohttp.ClientSession, replay: Replay, summary: FeedSummary) -> None:
        self._replay = replay
        self._summary = summary
        self._market = RecordedMarket()
        resting_name, taking_name = usernames(replay.run_id)
        self._client, self._takers, self._operator = (
            ExchangeClient(session, replay.url, username=username, password=password)
            for username, password in (
                (resting_name, new_password()),
                (taking_name, new_password()),
                (OPERATOR, replay.operator_password),
            )
        )
        self._levels = RestingLevels(self._client, replay.market_id, order_prefix=resting_name)
        self._commands: asyncio.StreamReader | None = None
        self._messages = 0
        self._ladder_messages = 0
        self._checkpoints_done = 0
        self._taker_orders = 0
        self._taker_contracts = 0
        self._taker_filled = 0
        self._levels_set = 0
        self._lag_ms = self._lag_ms_max = self._late_messages = 0

    async def trade(self) -> int:
        """Replay the recording to its end."""
        listening: asyncio.Task[None] | None = None
        try:
            await self._open()
            listening = asyncio.create_task(self._listen())
            await self._replay_messages()
        except MarketUnfitError as error:
            print(f"crowd: {error}", file=sys.stderr)
            return EXIT_CONFIG
        finally:
            if listening is not None:
                listening.cancel()
                await asyncio.wait({listening})
        emit(
            "done",
            messages=self._messages,
            levels_set=self._levels_set,
            orders_placed=self._levels.placed_count,
            orders_cancelled=self._levels.cancelled_count,
            taker_orders=self._taker_orders,
            taker_contracts=self._taker_contracts,
            taker_filled=self._taker_filled,
            checkpoints=self._checkpoints_done,
            lag_ms={"end": self._lag_ms, "max": self._lag_ms_max},
            late_messages=self._late_messages,
        )
        return EXIT_OK

    async def leave(self) -> None:
        """Take the crowd's orders off the book; the taker account never leaves any."""
        await leave_the_book(self._client, self._replay.market_id)

    async def _open(self) -> None:
        await insist(self._operator.log_in)
        await insist(lambda: open_account(self._client, funds_cents=self._summary.crowd_funds_cents))
        await insist(lambda: open_account(self._takers, funds_cents=self._summary.taker_funds_cents))
        market = await insist(lambda: self._client.market(self._replay.market_id))
        self._require_fit(market)
        self._levels.may_place = market.status == "ACTIVE"
        if self._replay.checkpoints is not None:
            self._commands = await open_stdin()

    def _require_fit(self, market: Market) -> None:
        if market.status not in {"ACTIVE", "SUSPENDED"}:
            raise MarketUnfitError(f"market {market.id}: status {market.status}, must be ACTIVE or SUSPENDED")
        for name in ("max_order_quantity", "max_position_per_user", "max_order_amount_cents"):
            allowed, needed = getattr(market, name), getattr(self._summary, f"market_{name}")
            if allowed < needed:
                raise MarketUnfitError(f"market {market.id}: {name}={allowed}, the recording needs {needed}")

    async def _replay_messages(self) -> None:
        due = time.monotonic()
        previous_ms: int | None = None
        for message in RecordedStream(self._replay.path):
            if previous_ms is None:
                if not is_start(message, self._replay.start):
                    self._market.apply(message)
                    continue
                await self._take_up()
                due = time.monotonic()
                previous_ms = message.publish_ms
            recorded_s = max(message.publish_ms - previous_ms, 0) / 1000 / self._replay.speed
            previous_ms = message.publish_ms
            due += min(recorded_s, WAIT_S_MAX)
            await self._keep_until(due)
            self._note_lag(time.monotonic() - due)
            await self._apply(message)
            if message.definition is not None and message.definition.result is not None:
                return
            if self._is_checkpoint(message):
                await self._checkpoint(message)
                due = time.monotonic()

    async def _take_up(self) -> None:
        """Place everything recorded before the start, at once."""
        self._levels.targets.update(self._market.levels)
        await self._levels.reach(self._market.levels)
        emit(
            "ready",
            market=self._replay.market_id,
            messages=self._summary.messages,
            levels=len(self._market.levels),
            mid_cents=mid_cents(self._market.levels),
            status="ACTIVE" if self._levels.may_place else "SUSPENDED",
        )

    async def _apply(self, message: Message) -> None:
        self._messages += 1
        step = self._market.apply(message)
        definition = message.definition
        changed = set(step.levels)
        if definition is not None and definition.status == "OPEN" and not self._levels.may_place:
            await self._set_open(True)
            changed = {*self._levels.targets, *changed}
        if self._levels.may_place:
            for taker in step.takers:
                await self._take(taker)
        if self._levels.traded.is_set():
            changed |= await self._levels.absorb_trades()
        self._levels.targets.update(step.levels)
        self._levels_set += len(step.levels)
        await self._levels.reach(changed)
        for level in step.levels:
            if not self._levels.targets[level]:
                del self._levels.targets[level]
        if definition is None:
            return
        if definition.status == "SUSPENDED" and self._levels.may_place:
            await self._set_open(False)
        elif definition.result is not None:
            await self._resolve(definition.result)

    async def _take(self, taker: Taker) -> None:
        self._taker_orders += 1
        self._taker_contracts += taker.quantity
        placed = await buy(
            self._takers,
            self._replay.market_id,
            taker.level,
            taker.quantity,
            client_order_id=f"{self._takers.username}_{self._taker_orders}",
            immediate=True,
        )
        self._taker_filled += sum(fill.quantity for fill in placed.trades)
        if placed.trades:
            self._levels.traded.set()

    async def _set_open(self, is_open: bool) -> None:
        status = "ACTIVE" if is_open else "SUSPENDED"
        await self._move_market(
            partial(self._operator.set_market_status, self._replay.market_id, status, reason="as recorded"),
            reached={status},
        )
        self._levels.may_place = is_open
        emit("status", status=status)

    async def _resolve(self, result: Result) -> None:
        await self._move_market(
            partial(self._operator.resolve_market, self._replay.market_id, result),
            reached={"RESOLVED", "SETTLED", "VOIDED"},
        )
        self._levels.may_place = False
        emit("status", status="RESOLVED", result=result)

    async def _move_market(self, move: Callable[[], Awaitable[None]], *, reached: set[str]) -> None:
        """Move the market's state; a refusal after a lost answer is none if the state is reached."""
        try:
            await insist(move)
        except RefusedError:
            market = await insist(lambda: self._client.market(self._replay.market_id))
            if market.status not in reached:
                raise

    # --- waiting ---

    async def _keep_until(self, due: float) -> None:
        """Wait, placing again whatever others take meanwhile."""
        while (left_s := due - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self._levels.traded.wait(), min(left_s, POLL_S))
            except TimeoutError:
                if left_s <= POLL_S:
                    return
            await self._levels.top_up()

    async def _listen(self) -> None:
        """Follow the market's trades stream for ever; it only hints, so losing it costs a second, no more."""
        backoff = Backoff()
        while True:
            try:
                async with self._client.trade_pushes(self._replay.market_id) as pushes:
                    self._levels.traded.set()
                    async for push in pushes:
                        backoff.succeeded()
                        self._levels.hint_trade(push.trade_id)
                wait_s = backoff.next_s(UnreachableError("trades stream closed"))
            except UnreachableError as error:
                wait_s = backoff.next_s(error)
            await asyncio.sleep(wait_s)

    def _note_lag(self, late_s: float) -> None:
        self._lag_ms = max(round(late_s * 1000), 0)
        self._lag_ms_max = max(self._lag_ms_max, self._lag_ms)
        self._late_messages += self._lag_ms >= LATE_MS

    # --- checkpoints ---

    def _is_checkpoint(self, message: Message) -> bool:
        """Whether a checkpoint falls on this message: they lie evenly over the ladder messages."""
        if not self._replay.checkpoints or not self._levels.may_place or not message.has_ladder:
            return False
        self._ladder_messages += 1
        return self._ladder_messages * self._checkpoint_count() >= (
            (self._checkpoints_done + 1) * self._summary.ladder_messages
        )

    def _checkpoint_count(self) -> int:
        return min(self._replay.checkpoints or 0, self._summary.ladder_messages)

    async def _checkpoint(self, message: Message) -> None:
        await self._levels.confirm()
        self._checkpoints_done += 1
        bids, asks = yes_book(self._market.levels)
        emit(
            "checkpoint",
            n=self._checkpoints_done,
            of=self._checkpoint_count(),
            line=message.line,
            pt=message.publish_ms,
            bids=bids,
            asks=asks,
        )
        assert self._commands is not None
        answer = asyncio.ensure_future(self._commands.readline())
        deadline = time.monotonic() + NEXT_S_MAX
        while not answer.done() and time.monotonic() < deadline:
            trade = asyncio.ensure_future(self._levels.traded.wait())
            left_s = min(max(deadline - time.monotonic(), 0), POLL_S)
            await asyncio.wait({answer, trade}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            trade.cancel()
            await self._levels.top_up()
        if not answer.done():
            answer.cancel()
            structlog.get_logger().warning("next_not_given", checkpoint=self._checkpoints_done)
            await asyncio.wait({answer})


async def open_stdin() -> asyncio.StreamReader:
    """Lines of stdin, which must be a pipe, a socket or a terminal."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    try:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    except (ValueError, OSError) as error:
        raise MarketUnfitError(f"stdin: {error}; --checkpoints needs a pipe to read 'next' from") from error
    return reader


# --- command line -----------------------------------------------------------------------


def feed_path(text: str) -> Path:
    """``betfair:FILE``, the one kind of feed there is."""
    if not text.startswith(FEED_KIND) or text == FEED_KIND:
        raise argparse.ArgumentTypeError(f"{text!r}: must be {FEED_KIND}FILE")
    return Path(text.removeprefix(FEED_KIND))


def positive(text: str) -> float:
    """A finite number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number above 0")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m engine.paper.crowd", description="Replay a recorded match into a paper market."
    )
    parser.add_argument("--url", required=True, help="exchange, such as http://127.0.0.1:8000")
    parser.add_argument("--market", required=True, help="market id")
    parser.add_argument("--feed", required=True, type=feed_path, help="betfair:FILE (plain, gzip or bzip2)")
    parser.add_argument("--speed", type=positive, default=1.0, help="divides recorded waits (default 1)")
    parser.add_argument("--from", dest="start", choices=("inplay", "start"), default="inplay")
    parser.add_argument(
        "--checkpoints", type=int, help="stop this often to compare ladders ('next' on stdin)"
    )
    parser.add_argument("--run", type=run_name, default=secrets.token_hex(4), help="part of account names")
    options = parser.parse_args(arguments)
    if options.checkpoints is not None and options.checkpoints < 1:
        parser.error(f"--checkpoints {options.checkpoints}: must be at least 1")
    password = os.environ.get("COREQUOTE_OPERATOR_PASSWORD")
    if not password:
        print("crowd: COREQUOTE_OPERATOR_PASSWORD is not set; market states need it", file=sys.stderr)
        return EXIT_CONFIG
    try:
        summary = describe(options.feed, options.start)
    except FeedError as error:
        print(f"crowd: {error}", file=sys.stderr)
        return EXIT_CONFIG
    replay = Replay(
        url=options.url,
        market_id=options.market,
        path=options.feed,
        start=options.start,
        speed=options.speed,
        checkpoints=options.checkpoints,
        run_id=options.run,
        operator_password=password,
    )
    return run("crowd", lambda session: Crowd(session, replay, summary))


if __name__ == "__main__":
    sys.exit(main())
