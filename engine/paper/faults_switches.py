"""Which fault rules fire, how often they did, and the one way in which the exchange kills itself.

Every rule counts and draws for itself, in the order in which requests and messages arrive, so the n-th match
of a rule has the same fate whatever other rules there are.
"""

import os
import re
import signal
from fnmatch import translate
from random import Random
from typing import Final

import msgspec

from engine.paper.faults import (
    Delay,
    FaultsView,
    HttpAction,
    KillPoint,
    Moment,
    Rule,
    RuleCount,
    Rules,
    WsAction,
)


class Seen(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a rule may ask about a request, or about one message of a stream."""

    path: str
    method: str | None = None
    """None for a message of a stream."""
    users: frozenset[str] = frozenset()
    """Id and username of who is authenticated; empty if nobody is."""
    markets: frozenset[str] = frozenset()
    message: str | None = None
    """SNAPSHOT, DELTA or TRADE for a message of a stream."""


class _Live:
    """A rule in force."""

    __slots__ = ("_path", "_random", "fired", "matched", "rule")

    def __init__(self, rule: Rule, seed: int) -> None:
        self.rule: Final = rule
        self.matched = 0
        self.fired = 0
        self._path: Final = re.compile(translate(rule.match.path))
        self._random: Final = Random(f"{seed}:{rule.name}")  # noqa: S311 - repeatable, no secret

    def meets(self, seen: Seen) -> bool:
        """Whether everything that the rule's match names is so."""
        match = self.rule.match
        return (
            (match.methods is None or seen.method in match.methods)
            and (match.messages is None or seen.message in match.messages)
            and (match.users is None or not seen.users.isdisjoint(match.users))
            and (match.markets is None or not seen.markets.isdisjoint(match.markets))
            and self._path.match(seen.path) is not None
        )

    def fires(self) -> bool:
        """Count a match and decide its fate."""
        rule = self.rule
        self.matched += 1
        # Drawn for every match, so that skipped ones do not shift the fate of those behind them.
        lucky = rule.probability == 1 or self._random.random() < rule.probability
        due = self.matched > rule.skip and (self.matched - rule.skip) % rule.every == 0
        if not (lucky and due) or (rule.times is not None and self.fired >= rule.times):
            return False
        self.fired += 1
        return True

    def draw_ms(self, delay: Delay) -> float:
        """A delay's length, milliseconds."""
        return delay.by.draw_ms(self._random)


class Plan:
    """What becomes of one request: how long it waits on either side, and at most one other fault."""

    __slots__ = ("_live", "action", "after_ms", "before_ms")

    def __init__(self) -> None:
        self.before_ms = 0.0
        self.after_ms = 0.0
        self.action: HttpAction | None = None
        self._live: _Live | None = None

    def add(self, live: _Live) -> bool:
        """Take over what a rule that fired asks for; answers whether that is all."""
        action = live.rule.action
        if isinstance(action, Delay):
            if action.moment is Moment.BEFORE:
                self.before_ms += live.draw_ms(action)
            else:
                self.after_ms += live.draw_ms(action)
            return False
        assert isinstance(action, HttpAction)
        self.action = action
        self._live = live
        return True

    def take_back(self) -> None:
        """The action could not happen: its rule has not fired."""
        assert self._live is not None
        self._live.fired -= 1


class KillSwitch:
    """The exchange's own SIGKILL, at the point it is armed for."""

    def __init__(self) -> None:
        self.armed: KillPoint | None = None

    def reach(self, point: KillPoint) -> None:
        """Pass a point; never returns if this is the one."""
        if self.armed is point:
            os.kill(os.getpid(), signal.SIGKILL)


class Switches:
    """The rules in force. All methods run on the exchange's event loop."""

    def __init__(self, kill_switch: KillSwitch) -> None:
        self.kill_switch: Final = kill_switch
        self.needs_markets = False
        """Whether a rule asks for a request's market, so that its body must be read first."""
        self._seed = 0
        self._live: list[_Live] = []
        self._http: list[_Live] = []
        self._ws: list[_Live] = []

    def set(self, rules: Rules) -> None:
        """Replace all rules and start all counts anew."""
        self._seed = rules.seed
        self._live = [_Live(rule, rules.seed) for rule in rules.rules]
        self._http = [live for live in self._live if isinstance(live.rule.action, HttpAction)]
        self._ws = [live for live in self._live if isinstance(live.rule.action, WsAction)]
        self.needs_markets = any(live.rule.match.markets is not None for live in self._http)

    def view(self) -> FaultsView:
        """Rules and counts."""
        return FaultsView(
            seed=self._seed,
            items=[RuleCount(rule=live.rule, matched=live.matched, fired=live.fired) for live in self._live],
        )

    @property
    def concern_requests(self) -> bool:
        """Whether any rule is about requests."""
        return bool(self._http)

    @property
    def concern_streams(self) -> bool:
        """Whether any rule is about messages of streams."""
        return bool(self._ws)

    def plan(self, seen: Seen) -> Plan | None:
        """Show a request to the rules in their order: delays add up, the first other fault is the last."""
        plan = None
        for live in self._http:
            if live.meets(seen) and live.fires():
                plan = plan or Plan()
                if plan.add(live):
                    break
        return plan

    def message(self, seen: Seen) -> WsAction | None:
        """Show a message to the rules in their order: the first that fires is the one."""
        for live in self._ws:
            if live.meets(seen) and live.fires():
                action = live.rule.action
                assert isinstance(action, WsAction)
                return action
        return None
