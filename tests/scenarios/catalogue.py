"""The scenarios of market-making §12, and when each is passed.

A run of minutes passes through what the first hours of a market are made of, so most markets run on
``ACCELERATED``: the shipped defaults but for what follows from that. ``shipped`` is the calm flow on the
defaults as they are. What a scenario is about (an event, an oracle, an end of trading) is added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct, field, structs

from engine.kpi_figures import Figures
from tests.scenarios.flow import Part, Walk, background_book, bursts, informed, noise, spoofer

ACCELERATED: Final[Mapping[str, Any]] = {
    # the start price's weight is gone after a minute instead of an hour, exploration after some trades
    "anchor_decay_ms": 60_000,
    "exploration": {"min_volume": 30},
    # what a price may move in five minutes is less than it moves in the hours that five minutes stand for
    "price_jump_threshold": 0.5,
    "min_abs_move_cents": 10,
    "rollback": {"volatility_threshold": 0.30},
    # exchange, engine and everybody else share two cores
    "max_latency_ms": 1_000,
}
MAX_LOSS_DAILY_CENTS: Final = 50_000
PULL_MS: Final = 1_250
"""One cycle, and a request's time on a machine that many share."""
SHARED_MACHINE: Final[Mapping[str, Any]] = {
    "heartbeat_timeout_ms": 10_000,
    "start_timeout_ms": 120_000,
    "workers": 2,
}
"""Engine settings of every play: a process that gets no core for a second is not one that hangs, and two
quoters carry all markets."""
PRESENCE_MIN: Final = 0.99
PULLING_GATES: Final = frozenset(
    {"LVR_COOLDOWN", "ORACLE_DEVIATION", "BOOK_STALE", "LATENCY", "API_ERRORS", "KILL_WORD"}
)
"""Gates that take every order off (§5.3); POST_FILL and ORACLE_GAP leave some."""


class Change(Struct, frozen=True, kw_only=True):
    """What held for a market from a moment on, seconds after the scenario began."""

    at_s: float
    phase: str
    level: str
    gates: tuple[str, ...]
    causes: tuple[str, ...]
    lifecycle: str

    @property
    def pulls(self) -> bool:
        """Whether everything must be off the book."""
        return bool(self.causes) or self.level == "KILL_SWITCH" or bool(PULLING_GATES & {*self.gates})


class Outcome(Struct, frozen=True, kw_only=True):
    """One market of a play, when it is over."""

    name: str
    market_id: str
    seed: int
    seconds: float
    engine: Figures
    """By the recorder, at the engine's own fair price."""
    true: Figures
    """By the exchange's journal, at the hidden value."""
    rivals: dict[str, Figures]
    changes: tuple[Change, ...]
    not_pulled: tuple[str, ...]
    """Moments at which orders were still live one cycle after something that pulls them."""
    crossed: int
    orders_sent: int
    orders_refused: int
    lateness_s: float
    problems: tuple[str, ...]
    """What is wrong whatever the scenario: books that differ, an end that was not clean."""
    commit: str = ""
    """Of the tree that was played."""

    def causes(self) -> set[str]:
        return {cause for change in self.changes for cause in change.causes}

    def gates(self) -> set[str]:
        return {gate for change in self.changes for gate in change.gates}


Criterion = Callable[[Outcome], str]
"""What is not as it must be, or nothing."""


class Scenario(Struct, frozen=True, kw_only=True):
    """One market's story."""

    name: str
    title: str
    flow: str = ""
    """Whose flow it meets; its own name's by default."""
    walk: Walk = Walk()
    parts: tuple[Part, ...] = ()
    seconds: float = 150.0
    base: Mapping[str, Any] = field(default_factory=lambda: ACCELERATED)
    quote: Mapping[str, Any] = {}
    """Laid on ``base``."""
    ends_in_s: float = 30 * 86_400.0
    """Trading end, counted from the beginning."""
    event_in_s: float | None = None
    oracle: tuple[tuple[float, float], ...] | None = None
    """Spans of seconds in which an operator repeats the true value every two seconds; None: no oracle."""
    criteria: tuple[Criterion, ...] = ()


# ---- criteria ------------------------------------------------------------------------------


def no_breach(outcome: Outcome) -> str:
    """Every scenario: the books agree, the identity holds to the cent, no own cross, nothing left."""
    booked = outcome.engine.money
    found = list(outcome.problems)
    if booked is None:
        found.append("nothing was booked")
    elif booked.identity_error or booked.unexplained_abs:
        found.append(f"identity off by {booked.identity_error}, {booked.unexplained_abs} cents unexplained")
    if outcome.crossed:
        found.append(f"own bid met own ask {outcome.crossed} times")
    return "; ".join(found)


def not_losing(outcome: Outcome) -> str:
    booked = outcome.engine.money
    return (
        "" if booked is not None and booked.pnl >= 0 else f"PnL after fees {booked and booked.pnl} cents < 0"
    )


def present(outcome: Outcome) -> str:
    share = outcome.engine.presence_free
    return "" if share is not None and share >= PRESENCE_MIN else f"ungated presence {share} < {PRESENCE_MIN}"


def loss_bounded(outcome: Outcome) -> str:
    """At most the daily limit, and what one cycle can add: a swept ladder at twice the half-spread's cap."""
    booked, one_cycle_cents = outcome.engine.money, 277 * 30
    limit = MAX_LOSS_DAILY_CENTS + one_cycle_cents
    return (
        ""
        if booked is not None and -booked.pnl <= limit
        else f"loss {booked and -booked.pnl} > {limit} cents"
    )


def one_side_before_kill(outcome: Outcome) -> str:
    """A market that skew kills has been ONE_SIDE before."""
    for change in outcome.changes:
        if change.level == "ONE_SIDE":
            return ""
        if "SKEW" in change.causes:
            return f"killed by skew at {change.at_s:.1f} s without ONE_SIDE before"
    return ""


def pulled_in_a_cycle(outcome: Outcome) -> str:
    return "; ".join(outcome.not_pulled)


def triggered(outcome: Outcome) -> str:
    """Something noticed the shock."""
    return "" if any(change.pulls for change in outcome.changes) else "nothing pulled the quotes"


def no_kill(outcome: Outcome) -> str:
    return f"killed by {', '.join(sorted(outcome.causes()))}" if outcome.causes() else ""


def gate_seen(*names: str) -> Criterion:
    def criterion(outcome: Outcome) -> str:
        missing = {*names} - outcome.gates()
        return f"gate {', '.join(sorted(missing))} never held" if missing else ""

    return criterion


def level_seen(level: str, *, after_s: float) -> Criterion:
    def criterion(outcome: Outcome) -> str:
        seen = any(change.level == level and change.at_s > after_s for change in outcome.changes)
        return "" if seen else f"never {level} after {after_s:g} s"

    return criterion


# ---- the scenarios -------------------------------------------------------------------------

_CROWD: Final = (background_book, noise(0.4), informed(0.1))

CALM: Final = Scenario(
    name="calm",
    title="random walk between 40 and 60",
    parts=_CROWD,
    criteria=(no_breach, not_losing, present, no_kill),
)
SHIPPED: Final = Scenario(
    name="shipped",
    title="the calm flow on the shipped defaults, nothing accelerated",
    flow="calm",
    parts=_CROWD,
    base={},
    criteria=(no_breach, not_losing, present),
)
TREND_UP: Final = Scenario(
    name="trend_up",
    title="50 to 84 in 100 s",
    walk=Walk(course=((20, 50), (120, 84)), sigma_cents=0.3),
    parts=_CROWD,
    criteria=(no_breach, loss_bounded, one_side_before_kill, pulled_in_a_cycle),
)
TREND_DOWN: Final = Scenario(
    name="trend_down",
    title="50 to 16 in 100 s",
    walk=Walk(course=((20, 50), (120, 16)), sigma_cents=0.3),
    parts=_CROWD,
    criteria=(no_breach, loss_bounded, one_side_before_kill, pulled_in_a_cycle),
)
SHOCK: Final = Scenario(
    name="shock",
    title="20 ¢ up within two seconds, after a minute",
    walk=Walk(course=((60, 50), (62, 70)), sigma_cents=0.3),
    parts=(background_book, noise(0.4), informed(0.5, ahead_s=1.0, quantity=(20, 60))),
    quote={"price_jump_threshold": 0.30},
    criteria=(no_breach, loss_bounded, triggered, pulled_in_a_cycle),
)
INFORMED: Final = Scenario(
    name="informed",
    title="a taker who knows the value five seconds early",
    walk=Walk(sigma_cents=0.8),
    parts=(background_book, noise(0.2), informed(0.6)),
    criteria=(no_breach, loss_bounded, one_side_before_kill, pulled_in_a_cycle),
)
SPOOFER: Final = Scenario(
    name="spoofer",
    title="large orders beside the touch, shown and pulled",
    parts=(*_CROWD, spoofer(0.5)),
    criteria=(no_breach, not_losing, present, no_kill),
)
BURST: Final = Scenario(
    name="burst",
    title="eight small takes of one side within half a second, every 35 s",
    parts=(background_book, noise(0.1), bursts(35.0)),
    criteria=(no_breach, loss_bounded, gate_seen("LVR_COOLDOWN"), pulled_in_a_cycle),
)
ORACLE: Final = Scenario(
    name="oracle",
    title="an oracle that jumps by 9 ¢ and later falls silent for a minute",
    walk=Walk(course=((50, 50), (50.1, 59)), sigma_cents=0.2),
    parts=_CROWD,
    oracle=((0.0, 80.0), (130.0, 150.0)),
    criteria=(
        no_breach,
        loss_bounded,
        gate_seen("ORACLE_GAP"),
        level_seen("WIDEN", after_s=90.0),
        pulled_in_a_cycle,
    ),
)
EXPIRY: Final = Scenario(
    name="expiry",
    title="trading ends in 16 minutes, then in less than a quarter of an hour",
    parts=_CROWD,
    ends_in_s=960.0,
    criteria=(no_breach, not_losing),
)
EVENT: Final = Scenario(
    name="event",
    title="an announced event whose shield begins after a minute",
    parts=_CROWD,
    event_in_s=960.0,
    criteria=(no_breach, not_losing, present),
)

TWO_HIT: Final = structs.replace(
    SHOCK, name="two_hit", title="the shock, beside a calm market of the same account", flow="shock"
)
TWO_CALM: Final = structs.replace(
    CALM, name="two_calm", title="a calm market, beside one that is shocked", flow="calm"
)

SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        *(CALM, TREND_UP, TREND_DOWN, SHOCK, INFORMED),
        *(SPOOFER, BURST, ORACLE, EXPIRY, EVENT),
        *(TWO_HIT, TWO_CALM, SHIPPED),
    )
}
COMPARED: Final = ("calm", "trend_up", "shock", "informed")
"""In these the rivals meet the same flow."""


def failures(scenario: Scenario, outcome: Outcome) -> list[str]:
    """Every criterion that is not met, one line each."""
    return [line for criterion in scenario.criteria if (line := criterion(outcome))]
