"""What a demo showed, as JSON for machines and as verdicts for people: pure assembly of what others measured.

One market's numbers come from three places that do not know each other: the quoter's last state row, the
exchange's own books read by the observer, and the sampler's history of gates. Where two of them speak about
the same thing (stock, cash, live orders, the core a process ran on) they must agree to the cent, and
:func:`verdicts` names every place where they do not.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from engine.report_view import Quality
from engine.spans import Spans, clip, share, total_ns

SETTLING_NS: Final = 3_000_000_000
"""``presence_after_3s`` leaves out the first three seconds after a market's first quote."""


class TickToQuote(Struct, frozen=True, kw_only=True):
    """From the bytes of a book change in hand to the order intent published, in ns; percentiles by bucket."""

    p50: int
    p99: int
    max: int
    count: int


class ExchangeView(Struct, frozen=True, kw_only=True):
    """The market in the exchange's books; cash is free cash, cents."""

    yes_volume: int
    no_volume: int
    cash_cents: int


class MarketReport(Struct, frozen=True, kw_only=True):
    """One market of a run. Volumes in shares, money in cents, counters since the market's first start."""

    market_id: str
    pid: int
    """Of the quoter as last seen running; 0 when the run was over before that."""
    cpu: int | None
    """The core the quoter process really ran on; None when it ran on several."""
    cpu_planned: int | None
    book_messages: int
    deltas: int
    sequence_gaps: int
    laps: int
    quotes: int
    places: int
    replaces: int
    cancels: int
    rejects: int
    fills: int
    presence: float | None
    """Share of ungated time since the first quote with a bid and an ask in the exchange's book."""
    presence_after_3s: float | None
    presence_total: float | None
    """The same share of all time since the first quote."""
    ungated_ms: int
    gated_ms: dict[str, int]
    kills: int
    live_orders_at_exit: int
    yes_volume: int
    no_volume: int
    cash_cents: int
    pnl_cents: int
    exchange: ExchangeView
    tick_to_quote_ns: TickToQuote


class RedisReport(Struct, frozen=True, kw_only=True):
    """What the writer did."""

    writes: int
    keys: int


class FeedReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a recorded feed arrived: at ``matched`` of ``checkpoints`` instants the quoter's book was exact."""

    file: str
    start: str
    speed: float
    messages: int
    checkpoints: int
    matched: int
    finished: bool
    unmatched: tuple[str, ...] = ()
    """What differed at the first few checkpoints that did not match."""


class Machine(Struct, frozen=True, kw_only=True):
    """Where it ran."""

    cores: int
    kernel: str
    python: str


class Report(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole run; ``seconds`` count from the first quote of the last market to the beginning of the stop."""

    seconds: float
    seed: int
    restarts: int
    redis: RedisReport
    markets: tuple[MarketReport, ...]
    machine: Machine
    feed: FeedReport | None = None
    quality: Quality | None = None
    """What the recorder kept: the figures of ``corequote report``; None when it left nothing."""
    problems: tuple[str, ...] = ()
    """What is not as it must be; the run succeeded when there is nothing here."""


class Presence(Struct, frozen=True, kw_only=True):
    """Shares 0..1, None where there was no such time."""

    ungated: float | None
    ungated_after_3s: float | None
    total: float | None
    ungated_ms: int


def presence(*, both_sides: Spans, free: Spans, first_quote_ns: int, stop_ns: int) -> Presence:
    """How much of the time between a market's first quote and the stop both sides stood in the book.

    ``both_sides``: by the exchange's journal; ``free``: when nothing forbade quoting. Unix ns throughout.
    """
    whole = clip(((first_quote_ns, max(stop_ns, first_quote_ns + 1)),), first_quote_ns, stop_ns)
    ungated = clip(free, first_quote_ns, stop_ns)
    return Presence(
        ungated=_rounded(share(both_sides, ungated)),
        ungated_after_3s=_rounded(share(both_sides, clip(free, first_quote_ns + SETTLING_NS, stop_ns))),
        total=_rounded(share(both_sides, whole)),
        ungated_ms=total_ns(ungated) // 1_000_000,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def verdicts(report: Report, *, may_be_killed: bool = False) -> tuple[str, ...]:
    """Everything that is not as it must be, one line each; empty when all is well.

    ``may_be_killed``: kill words that were raised in between are no fault, because somebody killed processes.
    """
    found: list[str] = []
    for market in report.markets:
        found += _market_verdicts(market, may_be_killed=may_be_killed)
    if report.feed is not None:
        found += _feed_verdicts(report.feed)
    if report.quality is not None:
        found += _quality_verdicts(report.quality, whole=not report.restarts)
    return tuple(found)


def _market_verdicts(market: MarketReport, *, may_be_killed: bool) -> list[str]:
    found = []
    if market.live_orders_at_exit:
        found.append(f"{market.live_orders_at_exit} orders are still live at the exchange")
    for name in ("yes_volume", "no_volume", "cash_cents"):
        ours, theirs = getattr(market, name), getattr(market.exchange, name)
        if ours != theirs:
            found.append(f"{name} is {ours} in the worker and {theirs} at the exchange")
    if market.kills and not may_be_killed:
        found.append(f"was stopped {market.kills} times by its kill word")
    if market.pid and market.cpu != market.cpu_planned:
        found.append(f"quoter ran on core {market.cpu}, planned was {market.cpu_planned}")
    return [f"{market.market_id}: {line}" for line in found]


def _quality_verdicts(quality: Quality, *, whole: bool) -> list[str]:
    """The PnL identity holds to the cent; where nothing died, nothing is unexplained either."""
    found = []
    for market in quality.markets:
        money = market.parts[0].figures.money
        if money is None:
            continue
        if money.identity_error:
            found.append(f"{market.market_id}: the parts of its PnL miss it by {money.identity_error} cents")
        if whole and not quality.lost_records and money.unexplained_abs:
            found.append(f"{market.market_id}: {money.unexplained_abs} cents of its PnL are unexplained")
    return found


def _feed_verdicts(feed: FeedReport) -> list[str]:
    found = []
    if feed.matched != feed.checkpoints:
        found.append(f"the quoter's book matched at {feed.matched} of {feed.checkpoints} checkpoints")
    if feed.finished and not feed.checkpoints:
        found.append("no checkpoint was compared")
    return [f"feed: {line}" for line in found]
