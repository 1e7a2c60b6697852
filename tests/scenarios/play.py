"""One play: real exchange, real engine, and one market for each scenario, all at once.

Markets of one play share the engine, its account and the exchange, and nothing else: each has its own
accounts, schedule and hidden value. With rivals, every scenario has two more markets with the very same
schedule, in which a rival makes the market instead of the engine.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from engine import kpi_file, oracle_operator
from engine._native import lib
from engine.events import DefenseLevel, Gate, KillCause, Lifecycle, Phase
from engine.kpi_figures import figures
from engine.observer import OPERATOR, ExchangeBooks, OperatorClient
from engine.paper.client import open_session
from engine.paper.model import AMM_USER_ID, AMM_USERNAME
from engine.sampler import EngineSampler, StateReader
from engine.snapshot import MarketView, take
from engine.spans import Spans, clip, total_ns
from engine.stage import POLL_S, Stage, toml_document
from tests.scenarios.catalogue import PULL_MS, SHARED_MACHINE, Change, Outcome, Scenario
from tests.scenarios.flow import FlowOrder, HiddenPath, schedule
from tests.scenarios.makers import AvellanedaStoikov, FixedSpread, Maker
from tests.scenarios.measure import measure, read_journal, user_ids
from tests.scenarios.players import Players, usernames

RIVALS: Final[dict[str, type[Maker]]] = {"fixed": FixedSpread, "textbook": AvellanedaStoikov}
ORACLE_EVERY_S: Final = 2.0
ORACLE_TTL_S: Final = 4.0
BEGIN_S_MAX: Final = 180.0
BEGIN_S: Final = 20.0
"""About how long a play takes to begin: dates that count from the beginning are set this much later."""
_NS_PER_S: Final = 1_000_000_000
_SEEN_LATE_S: Final = 2 * POLL_S  # two looks: the machine is shared


def market_id(scenario: Scenario) -> str:
    return f"MKT-{scenario.name.upper().replace('_', '-')}"


def _rival_market(scenario: Scenario, rival: str) -> str:
    return f"{market_id(scenario)}-{rival.upper()}"


def _rival_user(run_id: str, scenario: Scenario, rival: str) -> str:
    return f"maker_{run_id}_{scenario.name}_{rival}"


class Watch:
    """The engine's state rows, looked at many times a second: what changed when."""

    def __init__(self, stage: Stage, slots: dict[str, int]) -> None:
        self.changes: Final[dict[str, list[Change]]] = {market: [] for market in slots}
        self.started_unix_ns = 0
        self._readers: Final = {market: StateReader(stage.arena, slot) for market, slot in slots.items()}

    def look(self) -> None:
        for market, reader in self._readers.items():
            if not self.started_unix_ns or not reader.read():
                continue
            state = reader.state
            change = Change(
                at_s=max((int(reader.header.unix_ns) - self.started_unix_ns) / _NS_PER_S, 0.0),
                phase=Phase(state.phase).name,
                level=DefenseLevel(state.defense).name,
                gates=tuple(gate.name or str(gate.value) for gate in Gate(state.gates)),
                causes=tuple(cause.name or str(cause.value) for cause in KillCause(state.kill_causes)),
                lifecycle=Lifecycle(state.lifecycle).name,
            )
            seen = self.changes[market]
            if not seen or msgspec.structs.replace(change, at_s=seen[-1].at_s) != seen[-1]:
                seen.append(change)


class Play:
    """``run`` plays once; the outcomes are one for each scenario."""

    def __init__(
        self, scenarios: Sequence[Scenario], *, seed: int, rivals: Sequence[str] = (), stretch: float = 1.0
    ) -> None:
        """``stretch``: longer flows (> 1) of the same kind; the course of a walk keeps its times."""
        self.scenarios: Final = tuple(scenarios)
        self.seed: Final = seed
        self.rivals: Final = tuple(rivals)
        self.seconds: Final = max(scenario.seconds for scenario in scenarios) * stretch
        self._flows: Final[dict[str, tuple[HiddenPath, list[FlowOrder]]]] = {
            scenario.name: schedule(
                seed=seed,
                name=scenario.flow or scenario.name,
                walk=scenario.walk,
                parts=scenario.parts,
                seconds=self.seconds,
            )
            for scenario in scenarios
        }

    async def run(self, run_dir: Path) -> list[Outcome]:
        """Plays and closes in order. Raises StageError when something falls."""
        async with Stage(run_dir, stop=asyncio.Event()) as stage, open_session() as session:
            await stage.open_exchange(self._exchange_config(stage.run_id))
            players = await self._open_players(stage, session)
            makers = await self._open_makers(stage, session)
            await stage.open_engine(self._engine_config(stage.url), market_count=len(self.scenarios))
            arena = stage.arena
            watch = Watch(stage, {arena.market_id(slot): slot for slot in arena.used_markets()})
            sampler = EngineSampler(arena)
            await stage.until(
                lambda: sampler.all_quoting_since_unix_ns is not None,
                what="every market quotes",
                timeout_s=BEGIN_S_MAX,
                watch=sampler.look,
            )
            started_s = time.monotonic()
            started_unix_ns = watch.started_unix_ns = int(lib.unix_now_ns())
            tasks = [
                *(
                    asyncio.create_task(player.play(self._flows[name][1], started_s))
                    for name, player in players
                ),
                *(asyncio.create_task(maker.quote(started_s)) for maker in makers),
                *(
                    asyncio.create_task(self._say_oracle(run_dir, scenario, started_s))
                    for scenario in self.scenarios
                    if scenario.oracle is not None
                ),
            ]
            try:
                await stage.until(
                    lambda: time.monotonic() >= started_s + self.seconds,
                    what="the end",
                    timeout_s=float("inf"),
                    watch=watch.look,
                )
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            broken = [
                str(task.exception())
                for task in tasks
                if not task.cancelled() and task.exception() is not None
            ]
            stopped_unix_ns = int(lib.unix_now_ns())
            for member in (*(player for _, player in players), *makers):
                await member.leave()
            problems = [*broken, *await stage.close_engine()]
            outcomes = await self._outcomes(
                stage, session, watch, dict(players), started_unix_ns, stopped_unix_ns, problems
            )
            await stage.close_exchange()
            return outcomes

    # ---- opening -----------------------------------------------------------------------------

    def _markets(self) -> list[tuple[str, Scenario]]:
        """Every market of the exchange: the engine's first, then the rivals'."""
        return [
            *((market_id(scenario), scenario) for scenario in self.scenarios),
            *(
                (_rival_market(scenario, rival), scenario)
                for scenario in self.scenarios
                for rival in self.rivals
            ),
        ]

    def _exchange_config(self, run_id: str) -> str:
        now = datetime.now(UTC)
        exempt = [OPERATOR]
        for market, _ in self._markets():
            exempt += usernames(run_id, market)
        exempt += [
            _rival_user(run_id, scenario, rival) for scenario in self.scenarios for rival in self.rivals
        ]
        return toml_document(
            {
                "admin_users": [OPERATOR, AMM_USERNAME],
                "exempt_users": exempt,
                "markets": [
                    {
                        "id": market,
                        "title": scenario.title,
                        "created_at": now - timedelta(days=30),
                        "trading_end_at": now + timedelta(seconds=BEGIN_S + scenario.ends_in_s),
                        "resolution_date": now + timedelta(seconds=BEGIN_S + scenario.ends_in_s),
                    }
                    for market, scenario in self._markets()
                ],
            }
        )

    def _engine_config(self, url: str) -> str:
        now_ms = time.time_ns() // 1_000_000
        markets: list[dict[str, Any]] = []
        for scenario in self.scenarios:
            quote = {**scenario.base, **scenario.quote}
            if scenario.event_in_s is not None:
                quote["event_times"] = [int(now_ms + 1_000 * (BEGIN_S / 2 + scenario.event_in_s))]
            market: dict[str, Any] = {"id": market_id(scenario), "quote": quote}
            if scenario.oracle is not None:
                market["oracle"] = {"source": "operator"}
            markets.append(market)
        return toml_document(
            {
                "engine": SHARED_MACHINE,
                "venue": {"url": url, "username": AMM_USERNAME},
                "markets": markets,
            }
        )

    async def _open_players(self, stage: Stage, session: aiohttp.ClientSession) -> list[tuple[str, Players]]:
        players = [
            (scenario.name, Players(session, stage.url, run_id=stage.run_id, market_id=market))
            for market, scenario in self._markets()
        ]
        for _, player in players:
            await player.open()
        return players

    async def _open_makers(self, stage: Stage, session: aiohttp.ClientSession) -> list[Maker]:
        makers = [
            RIVALS[rival](
                session,
                stage.url,
                name=_rival_user(stage.run_id, scenario, rival),
                market_id=_rival_market(scenario, rival),
                horizon_s=self.seconds,
            )
            for scenario in self.scenarios
            for rival in self.rivals
        ]
        for maker in makers:
            await maker.open()
        return makers

    async def _say_oracle(self, run_dir: Path, scenario: Scenario, started_s: float) -> None:
        """An operator repeats the true value, in the spans in which the scenario has one."""
        assert scenario.oracle is not None
        path = self._flows[scenario.name][0]
        while True:
            elapsed_s = time.monotonic() - started_s
            if any(start <= elapsed_s < end for start, end in scenario.oracle):
                await asyncio.to_thread(
                    oracle_operator.say,
                    run_dir,
                    market_id(scenario),
                    price_cents=path.mark_cents(elapsed_s),
                    ttl_s=ORACLE_TTL_S,
                )
            await asyncio.sleep(ORACLE_EVERY_S)

    # ---- the end -----------------------------------------------------------------------------

    async def _outcomes(
        self,
        stage: Stage,
        session: aiohttp.ClientSession,
        watch: Watch,
        players: dict[str, Players],
        started_unix_ns: int,
        stopped_unix_ns: int,
        problems: list[str],
    ) -> list[Outcome]:
        observer = stage.observer
        await observer.catch_up()
        books = await observer.books([market_id(scenario) for scenario in self.scenarios])
        balance = await observer.account.balance()
        if balance.available_balance_cents != sum(book.cash_cents for book in books.values()):
            problems.append(f"the account holds {balance.available_balance_cents} cents, its markets do not")
        operator = OperatorClient(session, stage.url, username=OPERATOR, password=stage.passwords.operator)
        await operator.log_in()
        entries = await read_journal(operator)
        ids = user_ids(entries)
        recorded = {record.market_id: record for record in kpi_file.load(stage.run_dir).markets}
        views = {view.market_id: view for view in take(stage.arena).markets}

        def by_journal(user_id: str, market: str, scenario: Scenario) -> Any:
            return measure(
                entries,
                user_id=user_id,
                market_id=market,
                path=self._flows[scenario.name][0],
                started_unix_ns=started_unix_ns,
                stopped_unix_ns=stopped_unix_ns,
            )

        # How late this process itself was: nobody else got a core then either.
        late_ns = int(max(player.latest_s for player in players.values()) * _NS_PER_S)
        commit = await asyncio.to_thread(_commit)
        outcomes = []
        for scenario in self.scenarios:
            market = market_id(scenario)
            true = by_journal(AMM_USER_ID, market, scenario)
            spans = observer.fold.market(market).any_live.spans(stopped_unix_ns)
            player = players[scenario.name]
            outcomes.append(
                Outcome(
                    name=scenario.name,
                    market_id=market,
                    seed=self.seed,
                    seconds=self.seconds,
                    engine=figures(recorded[market].total),
                    true=figures(true.tally),
                    rivals={
                        rival: figures(
                            by_journal(
                                ids[_rival_user(stage.run_id, scenario, rival)],
                                _rival_market(scenario, rival),
                                scenario,
                            ).tally
                        )
                        for rival in self.rivals
                    },
                    changes=tuple(watch.changes[market]),
                    not_pulled=tuple(
                        _still_live(
                            watch.changes[market],
                            spans,
                            started_unix_ns=started_unix_ns,
                            stopped_unix_ns=stopped_unix_ns,
                            slack_ns=PULL_MS * 1_000_000 + late_ns,
                        )
                    ),
                    crossed=true.crossed,
                    orders_sent=player.sent,
                    orders_refused=player.refused,
                    lateness_s=round(player.latest_s, 3),
                    problems=(*problems, *_differences(views[market], books[market])),
                    commit=commit,
                )
            )
        return outcomes


def _still_live(
    changes: list[Change], live: Spans, *, started_unix_ns: int, stopped_unix_ns: int, slack_ns: int
) -> list[str]:
    """Each stretch in which everything must be off the book, and was not ``slack_ns`` after it began.

    A stretch ended before the look that saw it ended: new orders are out a millisecond after their release.
    """
    found = []
    index = 0
    while index < len(changes):
        if not changes[index].pulls:
            index += 1
            continue
        first = changes[index]
        while index < len(changes) and changes[index].pulls:
            index += 1
        end_ns = (
            started_unix_ns + int((changes[index].at_s - _SEEN_LATE_S) * _NS_PER_S)
            if index < len(changes)
            else stopped_unix_ns
        )
        begin_ns = started_unix_ns + int(first.at_s * _NS_PER_S) + slack_ns
        left_ns = total_ns(clip(live, begin_ns, end_ns))
        if left_ns:
            what = ", ".join((*first.causes, *first.gates)) or first.level
            found.append(f"{what} at {first.at_s:.1f} s: live for {left_ns / 1e6:.0f} ms too long")
    return found


def _differences(view: MarketView, books: ExchangeBooks) -> list[str]:
    """Where the worker's last row and the exchange's books do not agree."""
    state = view.state
    if state is None:
        return ["no state was published"]
    pairs = (
        ("YES", state.yes_volume, books.position.yes.volume),
        ("NO", state.no_volume, books.position.no.volume),
        ("cash", state.cash_cents, books.cash_cents),
        ("live orders", 0, books.live_orders),
    )
    return [
        f"{name}: {ours} in the worker, {theirs} at the exchange"
        for name, ours, theirs in pairs
        if ours != theirs
    ]


def _commit() -> str:
    """What is played, as git names it; "" where there is no git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip()
