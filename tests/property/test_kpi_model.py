"""The KPI fold against an obvious model that keeps the whole history and looks at it once, at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from engine.events import Scenario, Side
from engine.kpi import MarketKpis
from engine.kpi_figures import figures
from engine.kpi_values import DEPTH_CENTS, MARKOUT_S, Condition, Fill, MarketRecord, OwnQuotes, Tally
from engine.quoting.inventory import Stock

S = 1_000_000_000
START = 1_750_000_000 * S
OPENING = Stock(yes_volume=10_000, no_volume=10_000, cash_cents=5_000_000)

Event = tuple[int, Callable[[MarketKpis, int], None], Callable[["History"], None]]


@dataclass
class History:
    """All that happened, in order; ``now`` is the time of the event that is being told."""

    now: int = START
    marks: list[tuple[int, int]] = field(default_factory=list)
    fills: list[tuple[int, Fill]] = field(default_factory=list)
    fill_marks: list[int] = field(default_factory=list)
    flows: list[tuple[int, int]] = field(default_factory=list)
    corrections: list[int] = field(default_factory=list)
    cash: int = 0
    yes: int = 0
    no: int = 0
    quotes: OwnQuotes = field(default_factory=OwnQuotes)
    condition: Condition | None = None
    intervals: list[tuple[int, int, Moment]] = field(default_factory=list)

    def mark_at(self, at_ns: int) -> int:
        return [cents for since, cents in self.marks if since <= at_ns][-1]


@dataclass
class Moment:
    mark: int
    quotes: OwnQuotes
    condition: Condition
    yes: int
    no: int


def exposure_sold(fill: Fill, history: History) -> None:
    """A fill in the plainest words: which outcome moves, and what is paid for it."""
    own_cents = fill.price_cents
    if fill.scenario in (Scenario.TRANSFER_YES, Scenario.MINT if fill.side == Side.BID else Scenario.BURN):
        change = -fill.quantity if fill.side == Side.ASK else fill.quantity
        history.yes += change
    else:
        own_cents = 100 - fill.price_cents
        change = fill.quantity if fill.side == Side.ASK else -fill.quantity
        history.no += change
    history.cash -= change * own_cents + fill.fee_cents


prices = st.integers(1, 99)
ladders = st.dictionaries(prices, st.integers(1, 50), max_size=3)
conditions = st.builds(
    Condition,
    phase=st.sampled_from(["EXPLORATION", "STABILIZATION"]),
    level=st.sampled_from(["NORMAL", "WIDEN"]),
    gates=st.sets(st.sampled_from(["POST_FILL", "BOOK_STALE"])).map(lambda names: tuple(sorted(names))),
    kills=st.sets(st.just("RISK")).map(tuple),
    active=st.booleans(),
    two_sided=st.booleans(),
)
fills = st.builds(
    Fill,
    scenario=st.sampled_from(Scenario),
    side=st.sampled_from(Side),
    price_cents=prices,
    quantity=st.integers(1, 20),
    fee_cents=st.integers(0, 3),
)


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, object]:
    kind = draw(st.sampled_from(["mark", "quote", "hold", "fill", "flow", "supply", "truth"]))
    values = {
        "mark": prices,
        "quote": st.builds(OwnQuotes, bids=ladders, asks=ladders),
        "hold": conditions,
        "fill": fills,
        "flow": st.integers(-1_000, 1_000),
        "supply": st.integers(-5, 5),
        "truth": st.integers(-3, 3),
    }
    return kind, draw(values[kind])


def tell(kpis: MarketKpis, history: History, kind: str, value: object) -> None:
    """One event, to both."""
    at_ns = history.now
    if kind == "mark":
        assert isinstance(value, int)
        kpis.mark(at_ns, value)
        history.marks.append((at_ns, value))
    elif kind == "quote":
        assert isinstance(value, OwnQuotes)
        kpis.quote(at_ns, value)
        history.quotes = value
    elif kind == "hold":
        assert isinstance(value, Condition)
        kpis.hold(at_ns, value)
        history.condition = value
    elif kind == "fill":
        assert isinstance(value, Fill)
        kpis.fill(at_ns, value)
        history.fills.append((at_ns, value))
        history.fill_marks.append(history.marks[-1][1])
        exposure_sold(value, history)
    elif kind == "flow":
        assert isinstance(value, int)
        kpis.flow(at_ns, value)
        history.flows.append((at_ns, value))
        history.cash += value
    elif kind == "supply":
        assert isinstance(value, int)
        kpis.supply(at_ns, value)
        history.yes, history.no, history.cash = (
            history.yes + value,
            history.no + value,
            history.cash - 100 * value,
        )
    else:
        assert isinstance(value, int)
        history.cash += value
        history.corrections.append(value)
        kpis.venue_stock(at_ns, Stock(yes_volume=history.yes, no_volume=history.no, cash_cents=history.cash))


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, S // 2, S, 7 * S, 50 * S, 400 * S]), steps()), max_size=25),
    prices,
    conditions,
)
def test_the_fold_says_what_the_history_says(
    script: list[tuple[int, tuple[str, object]]], first_mark: int, first: Condition
) -> None:
    kpis = MarketKpis(MarketRecord(market_id="M"))
    history = History(yes=OPENING.yes_volume, no=OPENING.no_volume, cash=OPENING.cash_cents)
    kpis.resume(START)
    kpis.venue_stock(START, OPENING)
    tell(kpis, history, "mark", first_mark)
    tell(kpis, history, "hold", first)
    for pause_ns, (kind, value) in [*script, (0, ("flow", 0))]:
        history.intervals.append((history.now, history.now + pause_ns, look(history)))
        history.now += pause_ns
        tell(kpis, history, kind, value)
    total = kpis.record.total
    check_money(total, history, first_mark)
    check_times(total, history)
    check_markouts(total, history)
    by_phase = [tally for phases in kpis.record.days.values() for tally in phases.values()]
    for name in ("observed_ns", "quoted_ns", "capture_cents", "assets_change_cents", "filled_shares"):
        assert sum(getattr(tally, name) for tally in by_phase) == getattr(total, name)
    assert all(tally.identity_error_cents == 0 for tally in by_phase)


def look(history: History) -> Moment:
    assert history.condition is not None
    return Moment(
        mark=history.marks[-1][1],
        quotes=history.quotes,
        condition=history.condition,
        yes=history.yes,
        no=history.no,
    )


def check_money(total: Tally, history: History, first_mark: int) -> None:
    def assets(yes: int, no: int, cash: int, mark: int) -> int:
        return cash + yes * mark + no * (100 - mark)

    opening = assets(OPENING.yes_volume, OPENING.no_volume, OPENING.cash_cents, first_mark)
    closing = assets(history.yes, history.no, history.cash, history.marks[-1][1])
    assert total.assets_change_cents == closing - opening
    assert total.fees_cents == sum(fill.fee_cents for _, fill in history.fills)
    assert total.flows_cents == sum(cents for _, cents in history.flows)
    assert total.unexplained_cents == sum(history.corrections)
    assert total.capture_cents == sum(
        (fill.price_cents - mark) * fill.quantity * (1 if fill.side == Side.ASK else -1)
        for (_, fill), mark in zip(history.fills, history.fill_marks, strict=True)
    )
    assert total.identity_error_cents == 0


def check_times(total: Tally, history: History) -> None:
    def spent(holds: Callable[[Moment], bool]) -> int:
        return sum(end - start for start, end, moment in history.intervals if holds(moment))

    def free(moment: Moment) -> bool:
        held = moment.condition
        return held.active and held.two_sided and not held.gates and not held.kills

    def quoted(moment: Moment) -> bool:
        return moment.condition.active and moment.quotes.both

    assert total.observed_ns == spent(lambda _: True)
    assert total.active_ns == spent(lambda moment: moment.condition.active)
    assert total.free_ns == spent(free)
    assert total.quoted_ns == spent(quoted)
    assert total.quoted_free_ns == spent(lambda moment: free(moment) and quoted(moment))
    assert total.level_ns.get("WIDEN", 0) == spent(lambda moment: moment.condition.level == "WIDEN")
    assert total.gate_ns.get("POST_FILL", 0) == spent(lambda moment: "POST_FILL" in moment.condition.gates)
    assert total.spread_cents_ns == sum(
        (min(moment.quotes.asks) - max(moment.quotes.bids)) * (end - start)
        for start, end, moment in history.intervals
        if quoted(moment)
    )
    for reach, shares_ns in zip(DEPTH_CENTS, total.near_shares_ns, strict=True):
        assert shares_ns == sum(
            size * (end - start)
            for start, end, moment in history.intervals
            if quoted(moment)
            for ladder in (moment.quotes.bids, moment.quotes.asks)
            for price, size in ladder.items()
            if abs(price - moment.mark) <= reach
        )
    assert total.exposure_shares_ns == sum(
        abs(moment.yes - moment.no) * (end - start) for start, end, moment in history.intervals
    )
    assert total.skew_bp_ns == sum(
        10_000 * abs(moment.yes - moment.no) // (moment.yes + moment.no) * (end - start)
        for start, end, moment in history.intervals
    )


def check_markouts(total: Tally, history: History) -> None:
    for index, horizon_s in enumerate(MARKOUT_S):
        due = [(at_ns + horizon_s * S, fill) for at_ns, fill in history.fills]
        passed = [(at_ns, fill) for at_ns, fill in due if at_ns <= history.now]
        # a mark set in the very nanosecond in which a horizon ends may count or not
        if any(since == at_ns for since, _ in history.marks for at_ns, _ in passed):
            continue
        counted = [(at_ns, fill) for at_ns, fill in passed if at_ns < history.now]
        settled_now = [(at_ns, fill) for at_ns, fill in passed if at_ns == history.now]
        shares = sum(fill.quantity for _, fill in counted)
        assert total.markout_shares[index] in (shares, shares + sum(f.quantity for _, f in settled_now))
        if not settled_now:
            assert total.markout_cents[index] == sum(
                (fill.price_cents - history.mark_at(at_ns))
                * fill.quantity
                * (1 if fill.side == Side.ASK else -1)
                for at_ns, fill in counted
            )


def test_nothing_measured_is_no_value() -> None:
    shown = figures(Tally())
    assert shown.presence is None
    assert shown.quoted_spread is None
    assert shown.effective_spread is None
    assert shown.fill_rate is None
    assert shown.money is None
    assert shown.skew_p95 is None
    assert set(shown.markout.values()) == {None}
