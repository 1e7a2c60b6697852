"""A market maker's quality by the exchange's own journal, valued at the hidden value: nobody's own word.

The same fold as the engine's recorder (:mod:`engine.kpi`), fed from what the exchange committed: resting
orders, trades with their fees, and the true value as the mark. So makers that know nothing of phases and
fair prices are measured exactly as the engine is.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import msgspec

from engine.events import Scenario, Side
from engine.kpi import MarketKpis
from engine.kpi_values import Condition, Fill, MarketRecord, OwnQuotes, Tally
from engine.observer import JournalEntry, JournalFold, JournalPage, MarketFold, OperatorClient
from engine.paper.client import PAGES_MAX, UnreachableError
from engine.quoting.inventory import Stock
from tests.scenarios.flow import STEP_S, HiddenPath

_NS_PER_S: Final = 1_000_000_000
_ACTIVE: Final = Condition(phase="ALL")


class _Trade(msgspec.Struct, frozen=True):
    market_id: str
    scenario: str
    buy_order_id: str
    buy_user_id: str
    sell_user_id: str
    maker_order_id: str
    price_cents: int
    quantity: int
    maker_fee_cents: int
    taker_fee_cents: int


class _Step(msgspec.Struct, frozen=True):
    user_id: str
    market_id: str
    order_quantity: int


class _User(msgspec.Struct, frozen=True):
    user_id: str
    username: str


async def read_journal(operator: OperatorClient) -> list[JournalEntry]:
    """Everything the exchange has committed so far."""
    entries: list[JournalEntry] = []
    for _ in range(PAGES_MAX):
        page = await operator.journal(entries[-1].sequence if entries else 0)
        entries += page.items
        if not entries or entries[-1].sequence >= page.last_sequence:
            return entries
    raise UnreachableError(f"GET admin/journal: more than {PAGES_MAX} pages")


def user_ids(entries: list[JournalEntry]) -> dict[str, str]:
    """User ids by user name."""
    users = (msgspec.json.decode(entry.data, type=_User) for entry in entries if entry.kind == "USER")
    return {user.username: user.user_id for user in users}


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One maker in one market."""

    tally: Tally
    crossed: int
    """Commits after which its own bid met its own ask: never."""
    gone_ns: tuple[int, ...]
    """Moments from which it had nothing in the book any more."""


def measure(
    entries: list[JournalEntry],
    *,
    user_id: str,
    market_id: str,
    path: HiddenPath,
    started_unix_ns: int,
    stopped_unix_ns: int,
) -> Measured:
    """What ``user_id`` did in a market between two moments."""
    kpis = MarketKpis(MarketRecord(market_id=market_id, condition=_ACTIVE))
    fold = _OneUser(user_id, market_id)
    marks = _Marks(path, started_unix_ns)
    crossed, gone_ns, was_live = 0, [], False
    opened = False
    for commit in _commits(entries):
        at_ns = commit[0].at_unix_ns
        if at_ns >= stopped_unix_ns:
            break
        if not opened and at_ns >= started_unix_ns:
            _open(kpis, fold, started_unix_ns, marks)
            opened = True
        fold.take(commit)
        if not opened:
            continue
        marks.tell(kpis, at_ns)
        for fill in fold.fills:
            kpis.fill(at_ns, fill)
        for shares in fold.posted:
            kpis.outcome(at_ns, "RESTED", posted_shares=shares)
        kpis.quote(at_ns, fold.quotes())
        crossed += fold.crosses_itself()
        is_live = bool(fold.market.live)
        if was_live and not is_live:
            gone_ns.append(at_ns)
        was_live = is_live
    if not opened:
        _open(kpis, fold, started_unix_ns, marks)
    marks.tell(kpis, stopped_unix_ns)
    kpis.advance(stopped_unix_ns)
    return Measured(tally=kpis.record.total, crossed=crossed, gone_ns=tuple(gone_ns))


def _open(kpis: MarketKpis, fold: _OneUser, at_ns: int, marks: _Marks) -> None:
    kpis.resume(at_ns)
    # Enough of everything: what a client buys is netted or not, and only differences count here.
    kpis.venue_stock(at_ns, Stock(yes_volume=1_000_000, no_volume=1_000_000))
    marks.tell(kpis, at_ns)
    kpis.quote(at_ns, fold.quotes())


class _Marks:
    """The hidden value, told whenever it changes in whole cents."""

    def __init__(self, path: HiddenPath, started_unix_ns: int) -> None:
        self._path = path
        self._started_unix_ns = started_unix_ns
        self._step = 0

    def tell(self, kpis: MarketKpis, until_ns: int) -> None:
        """Every mark up to ``until_ns``."""
        step_ns = int(STEP_S * _NS_PER_S)
        while (at_ns := self._started_unix_ns + self._step * step_ns) <= until_ns:
            kpis.mark(at_ns, self._path.mark_cents(self._step * STEP_S))
            self._step += 1


class _OneUser:
    """One user's orders and trades in one market, commit by commit."""

    def __init__(self, user_id: str, market_id: str) -> None:
        self._journal = JournalFold(user_id)
        self._user_id = user_id
        self._market_id = market_id
        self.fills: list[Fill] = []
        self.posted: list[int] = []

    @property
    def market(self) -> MarketFold:
        return self._journal.market(self._market_id)

    def take(self, commit: list[JournalEntry]) -> None:
        """The next commit; ``fills`` and ``posted`` are its own."""
        self.fills, self.posted = [], []
        self._journal.add(JournalPage(items=commit, last_sequence=commit[-1].sequence))
        for entry in commit:
            if entry.kind == "TRADE":
                self._trade(msgspec.json.decode(entry.data, type=_Trade))
            elif entry.kind == "ORDER_RESTED":
                step = msgspec.json.decode(entry.data, type=_Step)
                if (step.user_id, step.market_id) == (self._user_id, self._market_id):
                    self.posted.append(step.order_quantity)

    def _trade(self, trade: _Trade) -> None:
        if trade.market_id != self._market_id:
            return
        buyer_is_maker = trade.maker_order_id == trade.buy_order_id
        for user_id, side in ((trade.buy_user_id, Side.BID), (trade.sell_user_id, Side.ASK)):
            if user_id != self._user_id:
                continue
            as_maker = buyer_is_maker == (side == Side.BID)
            self.fills.append(
                Fill(
                    scenario=Scenario[trade.scenario],
                    side=side,
                    price_cents=trade.price_cents,
                    quantity=trade.quantity,
                    fee_cents=trade.maker_fee_cents if as_maker else trade.taker_fee_cents,
                )
            )

    def quotes(self) -> OwnQuotes:
        levels = self.market.levels()
        return OwnQuotes(
            bids={price: shares for (side, price), shares in levels.items() if side == Side.BID},
            asks={price: shares for (side, price), shares in levels.items() if side == Side.ASK},
        )

    def crosses_itself(self) -> bool:
        quotes = self.quotes()
        return quotes.both and max(quotes.bids) >= min(quotes.asks)


def _commits(entries: list[JournalEntry]) -> list[list[JournalEntry]]:
    found: defaultdict[int, list[JournalEntry]] = defaultdict(list)
    for entry in entries:
        found[entry.commit].append(entry)
    return [found[number] for number in sorted(found)]
