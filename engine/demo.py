"""``corequote demo``: paper exchange, other participants and engine in one command, and what came of it.

A run ends after ``--seconds`` (counted from the first quote of the last market), with the recording of
``--feed``, or when somebody says so. Then everybody else leaves, the engine cancels every order, and the
exchange's own books are compared with the workers' before the exchange goes.

Exit codes: 0 all is well; 1 something is not, and is named; 2 usage; 78 a feed, a directory or a
configuration cannot be used.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias, cast, get_args

import msgspec
import uvloop
from msgspec import Struct
from rich.console import Console

from engine import kpi_file
from engine._native import lib
from engine.config import EXIT_CONFIG, EXIT_USAGE
from engine.events import Lifecycle
from engine.liveview import REFRESH_S, Cells, LiveView, condition, duration, market_tables, money
from engine.observer import OPERATOR, ExchangeBooks
from engine.paper import crowd, traders
from engine.paper.betfair import FeedError, FeedSummary, Start, describe
from engine.paper.client import RefusedError, UnreachableError
from engine.paper.config import seed_markets
from engine.paper.model import AMM_USERNAME
from engine.recording import Recording
from engine.report import (
    ExchangeView,
    FeedReport,
    Machine,
    MarketReport,
    RedisReport,
    Report,
    TickToQuote,
    presence,
    verdicts,
)
from engine.report_view import Quality, quality
from engine.sampler import EngineSampler
from engine.snapshot import MarketView, Snapshot, take
from engine.spans import intersect
from engine.stage import (
    PrivateDirectory,
    Stage,
    StageError,
    StopAskedError,
    stop_on_signals,
    toml_document,
)

FEED_KIND: Final = "betfair"
MARKETS_MAX: Final = 200
DEFAULT_MARKETS: Final = 3
DEFAULT_SEED: Final = 1
CHECKPOINTS: Final = 100
OPEN_DAYS: Final = 30
GUARD_PATIENCE_MS: Final = 5_000
TRADERS: Final = (("liquidity", "liquidity", 6.0, 60.0), ("takers", "noise,informed", 0.8, 16.0))
"""Name, kinds, requests per second of one market, and at most in total. Takers are few: each fill holds the
market maker back for ``post_fill_delay_ms``, and what is to be seen is quoting."""
PLAIN_WIDTH: Final = 160
TRADED_COLUMNS: Final = ("market", "fills", "replaces", "presence", "YES", "NO", "cash", "PnL", "live")
MACHINE_COLUMNS: Final = ("book messages", "t2q p50", "t2q p99", "pid", "cpu")
PROGRESS_S: Final = 5.0
SETTLED_S_MAX: Final = 15.0
FEED_PRICE_RANGE: Final = (5, 95)
"""With a recording, presence counts while the market is ACTIVE and the target lies in these cents."""

LIVELY: Final[dict[str, Any]] = {
    # takers come every second, and each lifts a good part of a side: by default three of them in a minute are
    # a sign of informed flow, and the market stops for a person
    "lvr_velocity_threshold": 0.5,
    "lvr_kill_count": 20,
    "lvr_kill_window_ms": 1_000,
    # a machine that runs an exchange, traders and an engine at once is late now and then
    "max_latency_ms": 1_000,
    # noise traders jump further within five minutes than a market with people in it
    "price_jump_threshold": 0.5,
    "min_abs_move_cents": 10,
    "price_jump_window_ms": 60_000,
    "rollback": {"volatility_threshold": 0.30},
    # exploration is seen, and over within seconds
    "exploration": {"min_volume": 10},
}
"""What the demo's quoting differs in from the defaults: limits that its own traffic would break."""
RECORDED: Final[dict[str, Any]] = {
    # a match jumps with every point and ends at 1 or 99, sped up within minutes: no legal limit lets it pass,
    # so its demo does without those two kills (spared_kills) and shows quoting to the end
    "inventory_hard_limit": 0.99,
    "max_loss_daily_cents": 250_000,
    "min_asset_floor_cents": 0,
}
"""What a recording needs on top of it."""

EXIT_OK: Final = 0
EXIT_UNWELL: Final = 1


class DemoOptions(Struct, frozen=True, kw_only=True):
    """What the command line says."""

    seconds: float | None = None
    markets: int | None = None
    feed: str | None = None
    start: str = "inplay"
    speed: float = 1.0
    seed: int = DEFAULT_SEED
    report: Path | None = None
    run_dir: Path | None = None


class MarketPlan(Struct, frozen=True, kw_only=True):
    """One market of the demo, as the exchange and the engine are told of it."""

    id: str
    title: str
    initial_price_cents: int = 50
    max_order_quantity: int = 10_000
    max_position_per_user: int = 25_000
    max_order_amount_cents: int = 1_000_000


class Plan(Struct, frozen=True, kw_only=True):
    """A checked demo, ready to run."""

    options: DemoOptions
    markets: tuple[MarketPlan, ...]
    feed_file: Path | None = None
    feed: FeedSummary | None = None
    order_rate_limit: int | None = None  # requests a minute; the exchange's own then do not hold for us
    quote: dict[str, Any] = {}  # parameters that differ from the demo's


# ---- planning: pure, but for reading the recording --------------------------------------


def make_plan(options: DemoOptions) -> Plan:
    """Checks everything that can be checked before anything starts. Raises StageError."""
    for name, value in (("--seconds", options.seconds), ("--speed", options.speed)):
        if value is not None and not 0 < value < float("inf"):
            raise StageError(f"{name} {value:g}: must be above 0", EXIT_USAGE)
    if options.seed < 0:
        raise StageError(f"--seed {options.seed}: must be 0 or more", EXIT_USAGE)
    if options.markets is not None and not 1 <= options.markets <= MARKETS_MAX:
        raise StageError(f"--markets {options.markets}: must be 1..{MARKETS_MAX}", EXIT_USAGE)
    if options.report is not None and not options.report.absolute().parent.is_dir():
        raise StageError(f"--report {options.report}: its directory does not exist", EXIT_USAGE)
    if options.feed is None:
        return Plan(options=options, markets=plan_markets(options.markets or DEFAULT_MARKETS))
    kind, separator, file = options.feed.partition(":")
    if kind != FEED_KIND or not separator or not file:
        raise StageError(f"--feed {options.feed}: must be {FEED_KIND}:FILE", EXIT_USAGE)
    if options.markets not in (None, 1):
        raise StageError(f"--markets {options.markets}: a recording is one market", EXIT_USAGE)
    if options.start not in get_args(Start):
        raise StageError(f"--from {options.start}: must be {' or '.join(get_args(Start))}", EXIT_USAGE)
    try:
        summary = describe(Path(file), cast(Start, options.start))
    except FeedError as error:
        raise StageError(str(error), EXIT_CONFIG) from None
    market = MarketPlan(
        id="MKT-BETFAIR-" + "".join(c if c.isalnum() else "-" for c in summary.market_id)[:40],
        title=f"Betfair market {summary.market_id}, runner {summary.yes_runner_id} wins",
        initial_price_cents=min(max(summary.first_mid_cents, 1), 99),
        max_order_quantity=summary.market_max_order_quantity,
        max_position_per_user=summary.market_max_position_per_user,
        max_order_amount_cents=summary.market_max_order_amount_cents,
    )
    return Plan(options=options, markets=(market,), feed_file=Path(file), feed=summary)


def plan_markets(count: int) -> tuple[MarketPlan, ...]:
    """The exchange's three seed markets when three are wanted, else numbered ones."""
    if count == DEFAULT_MARKETS:
        return tuple(MarketPlan(id=seed.id, title=seed.title) for seed in seed_markets(datetime.now(UTC)))
    return tuple(
        MarketPlan(id=f"MKT-DEMO-{number:02d}", title=f"Demonstration market {number}")
        for number in range(1, count + 1)
    )


def exchange_config(plan: Plan, run_id: str, now: datetime) -> str:
    """The paper exchange's TOML document: markets, administrators, and who is exempt from rate limits."""
    end = now + timedelta(days=OPEN_DAYS)
    if plan.feed is None:
        by_kind = traders.usernames(seed=plan.options.seed, run_id=run_id)
        others = [name for names in by_kind.values() for name in names]
    else:
        others = list(crowd.usernames(run_id))
    return toml_document(
        {
            "admin_users": [OPERATOR, AMM_USERNAME],
            "exempt_users": [OPERATOR, *others, *([AMM_USERNAME] if plan.order_rate_limit else [])],
            "markets": [
                {
                    "id": market.id,
                    "title": market.title,
                    "max_order_quantity": market.max_order_quantity,
                    "max_position_per_user": market.max_position_per_user,
                    "max_order_amount_cents": market.max_order_amount_cents,
                    "created_at": now,
                    "trading_end_at": end,
                    "resolution_date": end,
                }
                for market in plan.markets
            ],
        }
    )


def engine_config(plan: Plan, url: str) -> str:
    """The engine's TOML document."""
    limit = {} if plan.order_rate_limit is None else {"order_rate_limit": plan.order_rate_limit}
    return toml_document(
        {
            # the exchange goes with the demo: a guard that is left alone has nobody to talk to
            "engine": {"guard_patience_ms": GUARD_PATIENCE_MS},
            "venue": {"url": url, "username": AMM_USERNAME} | limit,
            "quote": LIVELY | (RECORDED if plan.feed is not None else {}) | plan.quote,
            "markets": [
                {
                    "id": market.id,
                    "spared_kills": [] if plan.feed is None else ["PRICE_JUMP", "EXTREME_PRICE"],
                    "quote": {"initial_price_cents": market.initial_price_cents},
                }
                for market in plan.markets
            ],
        }
    )


# ---- running ----------------------------------------------------------------------------


Play: TypeAlias = Callable[["Demo"], Awaitable[None]]


class Demo:
    """One run, from the plan to the report."""

    def __init__(
        self,
        plan: Plan,
        stage: Stage,
        console: Console,
        *,
        live: bool = False,
        play: Play | None = None,
    ) -> None:
        """``play`` is what happens once every market quotes; by default the demo is watched to its end."""
        self.stage: Final = stage
        self._plan: Final = plan
        self._console: Final = console
        self._live: Final = live
        self._play: Final = play or Demo._watch
        self._recording: Recording | None = None
        self._problems: Final[list[str]] = []
        self._stop_unix_ns = 0
        self._sampler: EngineSampler | None = None

    @property
    def sampler(self) -> EngineSampler:
        assert self._sampler is not None, "the engine comes first"
        return self._sampler

    def all_quote(self) -> bool:
        """Every market shows both sides, by the exchange's journal."""
        fold = self.stage.observer.fold
        return all(fold.market(market.market_id).both_sides.is_on for market in self.sampler.markets)

    async def run(self) -> Report | None:
        """Plays until the end and closes in order; None when it was stopped before every market quoted."""
        try:
            await self._open()
            await self._play(self)
        except StopAskedError:
            pass
        except StageError as error:
            self._problems.append(str(error))
            if self._sampler is None or self.sampler.all_quoting_since_unix_ns is None:
                raise
        return await self._close()

    async def _open(self) -> None:
        plan, stage = self._plan, self.stage
        self.say(f"starting in {stage.run_dir}")
        await stage.open_exchange(exchange_config(plan, stage.run_id, datetime.now(UTC)))
        if plan.feed is None:
            await self._open_traders()  # the engine finds a market that is alive
        await stage.open_engine(engine_config(plan, stage.url), market_count=len(plan.markets))
        price_range = None if plan.feed is None else FEED_PRICE_RANGE
        self._sampler = sampler = EngineSampler(stage.arena, price_range=price_range)
        stage.when_engine_returns = lambda died_ns: sampler.attach(stage.arena, died_ns)
        await stage.until(
            lambda: sampler.all_quoting_since_unix_ns is not None,
            what="every market quotes",
            watch=sampler.look,
        )
        if plan.feed is not None:
            await self._open_crowd()

    async def _open_traders(self) -> None:
        market_ids = [market.id for market in self._plan.markets]
        for name, kinds, rate, rate_max in TRADERS:
            await self.stage.open_participant(
                name,
                [
                    *("-m", "engine.paper.traders", "--url", self.stage.url, "--run", self.stage.run_id),
                    *("--markets", ",".join(market_ids), "--kinds", kinds),
                    *("--seed", str(self._plan.options.seed)),
                    *("--rate", f"{min(rate * len(market_ids), rate_max):g}"),
                ],
            )

    async def _open_crowd(self) -> None:
        options = self._plan.options
        child = await self.stage.open_participant(
            "crowd",
            [
                *("-m", "engine.paper.crowd", "--url", self.stage.url, "--run", self.stage.run_id),
                *("--market", self._plan.markets[0].id, "--feed", f"{FEED_KIND}:{self._plan.feed_file}"),
                *("--from", options.start, "--speed", f"{options.speed:g}"),
                *("--checkpoints", str(CHECKPOINTS)),
            ],
            secret={"COREQUOTE_OPERATOR_PASSWORD": self.stage.passwords.operator},
            piped=True,
            may_end=True,
        )
        market = self.sampler.markets[0]
        self._recording = Recording(
            child, observer=self.stage.observer, market_id=market.market_id, reader=market.reader
        )

    async def _watch(self) -> None:
        """Until the seconds are over, the recording ends, or somebody says stop."""
        with ExitStack() as stack:
            view = stack.enter_context(LiveView(self._console)) if self._live else None
            due = 0.0

            def watch() -> None:
                nonlocal due
                self.sampler.look()
                now = time.monotonic()
                if now < due:
                    return
                due = now + (REFRESH_S if view is not None else PROGRESS_S)
                snapshot = take(self.stage.arena)
                if view is not None:
                    view.show(snapshot, self._headline())
                else:
                    self.say(self._progress(snapshot))

            await self.stage.until(self._is_over, what="the end", timeout_s=float("inf"), watch=watch)
            if self._recording is not None and self._recording.finished:
                await self.stage.until(
                    self._has_settled,
                    what="the engine sees the market settled",
                    timeout_s=SETTLED_S_MAX,
                    watch=watch,
                )

    def seconds(self) -> float:
        """Since the first quote of the last market."""
        since_ns = self.sampler.all_quoting_since_unix_ns
        end_ns = self._stop_unix_ns or int(lib.unix_now_ns())
        return 0.0 if since_ns is None else max(end_ns - since_ns, 0) / 1e9

    def _is_over(self) -> bool:
        if self._recording is not None and self._recording.is_over():
            return True
        limit = self._plan.options.seconds
        return limit is not None and self.seconds() >= limit

    def _has_settled(self) -> bool:
        """After the recording's last message: the engine has taken its payout and closed the market."""
        return all(market.state.lifecycle == Lifecycle.STOPPED for market in self.sampler.markets)

    # ---- the end ----

    async def _close(self) -> Report | None:
        """Everybody leaves in order; the exchange's books are read before it goes."""
        stage = self.stage
        if self._sampler is not None:
            self.sampler.look()
        self._stop_unix_ns = int(lib.unix_now_ns())
        before = take(stage.arena) if self._sampler is not None else None
        self.say("stopping: the others leave, the engine cancels every order")
        if self._recording is not None:
            await self._recording.close()
        self._problems.extend(await stage.close_participants())
        self._problems.extend(await stage.close_engine())
        report = None
        if before is not None and self.sampler.all_quoting_since_unix_ns is not None:
            report = await self._report(before)
        self._problems.extend(await stage.close_exchange())
        if report is not None:
            problems = tuple(dict.fromkeys((*self._problems, *verdicts(report))))
            return msgspec.structs.replace(report, problems=problems)
        if self._problems:
            raise StageError("; ".join(self._problems))
        return None

    async def _report(self, before: Snapshot) -> Report:
        """``before``: the arena as the stop began, when every process was still in its row."""
        after = take(self.stage.arena)
        books = await self._read_books([market.market_id for market in after.markets])
        writer = before.process(lib.PROCESS_WRITER)
        counters = {} if writer is None else writer.counters
        return Report(
            seconds=round(self.seconds(), 3),
            seed=self._plan.options.seed,
            restarts=sum(process.restarts for process in after.processes) + self.stage.engine_restarts,
            redis=RedisReport(writes=counters.get("writes", 0), keys=counters.get("keys", 0)),
            markets=tuple(self._market_report(market, books[market.market_id]) for market in after.markets),
            machine=Machine(
                cores=len(os.sched_getaffinity(0)),
                kernel=platform.release(),
                python=platform.python_version(),
            ),
            feed=self._feed_report(),
            quality=self._quality(),
        )

    def _quality(self) -> Quality | None:
        """What the recorder kept to the last; its own log says why when that is nothing."""
        try:
            return quality(kpi_file.load(self.stage.run_dir))
        except kpi_file.KpiFileError:
            return None

    async def _read_books(self, market_ids: list[str]) -> dict[str, ExchangeBooks]:
        """The exchange's books by market, after the engine has gone; what contradicts itself is noted."""
        observer = self.stage.observer
        try:
            await observer.catch_up()
            books = await observer.books(market_ids)
            balance = await observer.account.balance()
        except (RefusedError, UnreachableError) as error:
            raise StageError(f"the exchange's books cannot be read: {error}") from None
        booked_cents = sum(book.cash_cents for book in books.values())
        if balance.available_balance_cents != booked_cents or balance.frozen_balance_cents:
            self._problems.append(
                f"the account holds {balance.available_balance_cents} cents and "
                f"{balance.frozen_balance_cents} frozen, its markets' ledgers add up to {booked_cents}"
            )
        for market_id, book in books.items():
            fold = observer.fold.market(market_id)
            listed = book.position.yes.volume, book.position.no.volume, book.live_orders
            journal = fold.yes_volume, fold.no_volume, len(fold.live)
            if listed != journal:
                self._problems.append(
                    f"{market_id}: YES, NO and live orders are {listed} by the exchange's lists and "
                    f"{journal} by its journal"
                )
        return books

    def _market_report(self, market: MarketView, books: ExchangeBooks) -> MarketReport:
        state = market.state
        assert state is not None, "it has quoted, so it has published"
        sampled = next(entry for entry in self.sampler.markets if entry.slot == market.slot)
        worker = self.sampler.workers[market.worker]
        first_quote_ns = sampled.first_quote_unix_ns or self._stop_unix_ns
        fold = self.stage.observer.fold.market(market.market_id)
        present = presence(
            both_sides=fold.both_sides.spans(self._stop_unix_ns),
            free=intersect(sampled.free_spans(self._stop_unix_ns), fold.active.spans(self._stop_unix_ns)),
            first_quote_ns=first_quote_ns,
            stop_ns=self._stop_unix_ns,
        )
        (core,) = worker.cores if len(worker.cores) == 1 else (None,)
        latency = market.tick_to_quote_ns
        return MarketReport(
            market_id=market.market_id,
            pid=worker.pid,
            cpu=core,
            cpu_planned=worker.planned_core,
            book_messages=market.feed.messages,
            deltas=state.deltas,
            sequence_gaps=market.feed.sequence_gaps,
            laps=state.laps,
            quotes=state.quotes,
            places=state.places,
            replaces=state.replaces,
            cancels=state.cancels,
            rejects=state.rejects,
            fills=state.fills,
            presence=present.ungated,
            presence_after_3s=present.ungated_after_3s,
            presence_total=present.total,
            ungated_ms=present.ungated_ms,
            gated_ms={name: nanoseconds // 1_000_000 for name, nanoseconds in sampled.gated_ns.items()},
            kills=sampled.kills,
            live_orders_at_exit=books.live_orders,
            yes_volume=state.yes_volume,
            no_volume=state.no_volume,
            cash_cents=state.cash_cents,
            pnl_cents=state.daily_pnl_cents,
            exchange=ExchangeView(
                yes_volume=books.position.yes.volume,
                no_volume=books.position.no.volume,
                cash_cents=books.cash_cents,
            ),
            tick_to_quote_ns=TickToQuote(
                p50=latency.p50 or 0, p99=latency.p99 or 0, max=latency.max or 0, count=latency.count
            ),
        )

    def _feed_report(self) -> FeedReport | None:
        recording, options = self._recording, self._plan.options
        if recording is None:
            return None
        return FeedReport(
            file=str(self._plan.feed_file),
            start=options.start,
            speed=options.speed,
            messages=recording.messages,
            checkpoints=recording.checkpoints,
            matched=recording.matched,
            finished=recording.finished,
            unmatched=tuple(recording.unmatched),
        )

    # ---- words ----

    def say(self, line: str) -> None:
        """A line for whoever reads along."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _headline(self) -> str:
        limit = self._plan.options.seconds
        of = f" of {limit:g}" if limit is not None else ""
        seconds = f"{self.seconds():.0f}{of} s"
        return f"corequote demo  {seconds}{self._feed_words()}  Ctrl-C stops  {self.stage.run_dir}"

    def _feed_words(self) -> str:
        recording = self._recording
        if recording is None:
            return ""
        return f"  checkpoints {recording.matched}/{recording.checkpoints}"

    def _progress(self, snapshot: Snapshot) -> str:
        states = [market.state for market in snapshot.markets if market.state is not None]
        quoting = sum(condition(market) == "quoting" for market in snapshot.markets)
        return (
            f"{self.seconds():5.1f} s  quoting {quoting}/{len(snapshot.markets)}"
            f"  live {sum(state.live_orders for state in states)}"
            f"  fills {sum(state.fills for state in states)}"
            f"  replaces {sum(state.replaces for state in states)}"
            f"  book messages {sum(market.feed.messages for market in snapshot.markets)}"
            f"  PnL {money(sum(state.daily_pnl_cents for state in states), signed=True)}{self._feed_words()}"
        )


def show_summary(report: Report, console: Console) -> None:
    """The table at the end, and what is not well."""
    rows: list[tuple[Cells, Cells]] = [
        (
            [
                market.market_id,
                str(market.fills),
                str(market.replaces),
                "-" if market.presence_after_3s is None else f"{market.presence_after_3s:.1%}",
                str(market.yes_volume),
                str(market.no_volume),
                money(market.cash_cents),
                money(market.pnl_cents, signed=True),
                str(market.live_orders_at_exit),
            ],
            [
                str(market.book_messages),
                duration(market.tick_to_quote_ns.p50),
                duration(market.tick_to_quote_ns.p99),
                str(market.pid),
                "-" if market.cpu is None else str(market.cpu),
            ],
        )
        for market in report.markets
    ]
    for table in market_tables(TRADED_COLUMNS, MACHINE_COLUMNS, rows, width=console.width):
        console.print(table)
    words = [f"{report.seconds:.1f} s", f"{report.restarts} restarts", f"{report.redis.writes} Redis writes"]
    if report.feed is not None:
        words.append(f"book exact at {report.feed.matched} of {report.feed.checkpoints} checkpoints")
    if not report.problems:
        words.append("nothing live at the exchange, stock and cash equal to its books")
    console.print(", ".join(words), highlight=False)


async def perform(
    plan: Plan, directory: PrivateDirectory, console: Console, *, live: bool = False, play: Play | None = None
) -> Report | None:
    """One demo on a stage of its own, until its end or a signal; arguments and result are those of Demo."""
    async with stop_on_signals() as stop, Stage(directory.path, stop=stop) as stage:
        return await Demo(plan, stage, console, live=live, play=play).run()


def run(options: DemoOptions) -> int:
    """Runs the demo to its exit code; everything it has to say goes to stdout, problems to stderr."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH  # a file has no edge
    live = console.is_terminal and options.seconds is None and options.report is None
    try:
        plan = make_plan(options)
        directory = PrivateDirectory(options.run_dir)
    except StageError as error:
        print(f"corequote: {error}", file=sys.stderr)
        return error.exit_code
    code = EXIT_UNWELL
    try:
        report = uvloop.run(perform(plan, directory, console, live=live))
        code = conclude(report, options, console)
    except StageError as error:
        print(f"corequote: {error}", file=sys.stderr)
        code = error.exit_code
    finally:
        directory.release(remove=code == EXIT_OK)
        if code != EXIT_OK and directory.path.exists():
            print(f"corequote: logs are in {directory.path / 'log'}", file=sys.stderr)
    return code


def conclude(report: Report | None, options: DemoOptions, console: Console) -> int:
    """Shows and writes the report; returns the exit code it comes to."""
    if report is None:
        console.print("stopped before every market had quoted")
        return EXIT_OK
    show_summary(report, console)
    for problem in report.problems:
        print(f"corequote: {problem}", file=sys.stderr)
    if options.report is not None:
        encoded: Any = msgspec.json.format(msgspec.json.encode(report), indent=2)
        try:
            options.report.write_bytes(encoded + b"\n")
        except OSError as error:
            print(f"corequote: --report {options.report}: {error.strerror}", file=sys.stderr)
            return EXIT_UNWELL
    return EXIT_UNWELL if report.problems else EXIT_OK
