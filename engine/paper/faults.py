"""Fault rules as values: which requests they meet, how often they fire, and what then happens.

A rule is data that an operator or a test sends to ``PUT /admin/faults``. ``faults_switches`` decides when it
fires; ``faults_http``, ``faults_store`` and ``faults_streams`` do it. An action is known by its member
``type``: ``{"type": "drop_reply"}`` is :class:`DropReply`.
"""

from collections.abc import Callable
from enum import StrEnum
from random import Random
from typing import Annotated, Final, Literal

import msgspec

RULES_MAX: Final = 64
MILLISECONDS_MAX: Final = 600_000

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_. -]{1,64}(?![\s\S])")]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=MILLISECONDS_MAX)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
Pattern = Annotated[str, msgspec.Meta(pattern=r"^[/*][!-~]{0,199}(?![\s\S])")]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every part of a rule has in common: immutable, named members, none that we do not know."""


# -- how long ------------------------------------------------------------------------------------------------


class Fixed(Value, tag_field="kind", tag="fixed", frozen=True, kw_only=True):
    """Always the same time."""

    ms: Milliseconds

    def draw_ms(self, random: Random) -> float:  # noqa: ARG002 - one signature for all distributions
        """Milliseconds."""
        return self.ms


class Uniform(Value, tag_field="kind", tag="uniform", frozen=True, kw_only=True):
    """Every time between two is as likely as another."""

    min_ms: Milliseconds
    max_ms: Milliseconds

    def __post_init__(self) -> None:
        if self.min_ms > self.max_ms:
            raise ValueError(f"min_ms {self.min_ms} must not be above max_ms {self.max_ms}")

    def draw_ms(self, random: Random) -> float:
        """Milliseconds."""
        return random.uniform(self.min_ms, self.max_ms)


class Exponential(Value, tag_field="kind", tag="exponential", frozen=True, kw_only=True):
    """Mostly short, sometimes long, never beyond ``max_ms``."""

    mean_ms: Annotated[int, msgspec.Meta(ge=1, le=MILLISECONDS_MAX)]
    max_ms: Milliseconds

    def draw_ms(self, random: Random) -> float:
        """Milliseconds."""
        return min(random.expovariate(1 / self.mean_ms), self.max_ms)


class LogNormal(Value, tag_field="kind", tag="lognormal", frozen=True, kw_only=True):
    """The shape of measured latencies: ``sigma`` is that of the logarithm, ``max_ms`` cuts the tail."""

    median_ms: Annotated[int, msgspec.Meta(ge=1, le=MILLISECONDS_MAX)]
    sigma: Annotated[float, msgspec.Meta(ge=0, le=5)]
    max_ms: Milliseconds

    def draw_ms(self, random: Random) -> float:
        """Milliseconds."""
        return min(self.median_ms * random.lognormvariate(0, self.sigma), self.max_ms)


Distribution = Fixed | Uniform | Exponential | LogNormal


class Moment(StrEnum):
    """On which side of the execution of a request something happens; after it, its effects are committed."""

    BEFORE = "before"
    AFTER = "after"


# -- what happens to a request -------------------------------------------------------------------------------


class Delay(Value, tag="delay", frozen=True, kw_only=True):
    """The request waits before it is executed, or its answer waits after that."""

    moment: Moment
    by: Distribution


class DropRequest(Value, tag="drop_request", frozen=True, kw_only=True):
    """Never executed: the connection is closed without an answer, by a reset if ``reset``."""

    reset: bool = False


class DropReply(Value, tag="drop_reply", frozen=True, kw_only=True):
    """Executed and committed, but the connection is closed without an answer, by a reset if ``reset``."""

    reset: bool = False


class CutReply(Value, tag="cut_reply", frozen=True, kw_only=True):
    """Executed; the head promises the whole answer, then comes part of its body and a reset."""

    sent_percent: Annotated[int, msgspec.Meta(ge=0, le=99)] = 50


class DuplicateReply(Value, tag="duplicate_reply", frozen=True, kw_only=True):
    """Executed once, answered twice on the same connection; the second answer belongs to no request."""


class RepeatRequest(Value, tag="repeat_request", frozen=True, kw_only=True):
    """Executed twice, as by a proxy that tries again; the client sees the answer to the second time."""


class AnswerStatus(Value, tag="answer", frozen=True, kw_only=True):
    """Some status instead of the exchange's answer: a server error, 408, 429 or a redirect.

    ``moment`` tells whether the request was executed. ``retry_after_s`` and ``location`` become headers.
    """

    status: Annotated[int, msgspec.Meta(ge=300, le=599)]
    moment: Moment
    retry_after_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] | None = None
    location: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,500}(?![\s\S])")] | None = None

    def __post_init__(self) -> None:
        if self.status == 304:
            raise ValueError("status 304 has no body and answers only a conditional request")


class Nonsense(StrEnum):
    """Kinds of body that no client expects under 200."""

    EMPTY = "empty"
    HTML = "html"
    TRUNCATED = "truncated"
    """The first half of the real answer, its content-length telling that this is all."""
    OTHER_SHAPE = "other_shape"
    """JSON of the envelope's shape whose ``data`` is a list of strings."""
    BINARY = "binary"


class Garbage(Value, tag="garbage", frozen=True, kw_only=True):
    """Executed, or not, and answered with 200 and a body that means nothing."""

    moment: Moment
    body: Nonsense = Nonsense.HTML


class OmitRecentOrders(Value, tag="omit_recent_orders", frozen=True, kw_only=True):
    """A page of ``GET /orders`` lacks the orders of the last ``age_ms``, as from a lagging index."""

    age_ms: Annotated[int, msgspec.Meta(ge=1, le=MILLISECONDS_MAX)]


class StaleRead(Value, tag="stale_read", frozen=True, kw_only=True):
    """A GET is answered as it was less than ``age_ms`` ago, as by a lagging replica.

    The first answer to a user and URL is a true one and is remembered until it is too old.
    """

    age_ms: Annotated[int, msgspec.Meta(ge=1, le=MILLISECONDS_MAX)]


class KillPoint(StrEnum):
    """Where the exchange can be killed, in the order in which a request passes them."""

    BEFORE_EXECUTION = "before_execution"
    """The request has been read, nothing of it decided."""
    BEFORE_COMMIT = "before_commit"
    """Decided, nothing of it sent to the database."""
    MID_TRANSACTION = "mid_transaction"
    """All its rows are written in a transaction that never ends."""
    AFTER_COMMIT = "after_commit"
    """Durable; neither shown to anybody nor answered."""
    AFTER_COMMIT_BEFORE_REPLY = "after_commit_before_reply"
    """Durable, in the books and sent to the streams; not answered."""
    AFTER_REPLY = "after_reply"
    """The answer is with the kernel."""


class Kill(Value, tag="kill", frozen=True, kw_only=True):
    """The exchange's process kills itself with SIGKILL. Its rules go with it, so it happens once.

    A request that is refused writes nothing and never reaches the three points of the transaction; then
    nobody is killed and the rule has not fired.
    """

    point: KillPoint


# -- what happens to a message of a stream -------------------------------------------------------------------


class WsGap(Value, tag="ws_gap", frozen=True, kw_only=True):
    """The message is numbered and never sent."""


class WsDuplicate(Value, tag="ws_duplicate", frozen=True, kw_only=True):
    """The message is sent twice."""


class WsReorder(Value, tag="ws_reorder", frozen=True, kw_only=True):
    """The message is sent after the one that follows it."""


class WsResetSequence(Value, tag="ws_reset_sequence", frozen=True, kw_only=True):
    """The message is sent; the next one is number 1, although it is no snapshot."""


class WsStall(Value, tag="ws_stall", frozen=True, kw_only=True):
    """Silent from this message on for ``ms``, but pings are answered; then what waited comes at once."""

    ms: Annotated[int, msgspec.Meta(ge=1, le=MILLISECONDS_MAX)]


class WsHalfOpen(Value, tag="ws_half_open", frozen=True, kw_only=True):
    """From this message on nothing is sent, read or answered; TCP stays open for ``ms``, then it is reset."""

    ms: Annotated[int, msgspec.Meta(ge=1, le=MILLISECONDS_MAX)] = MILLISECONDS_MAX


class WsDisconnect(Value, tag="ws_disconnect", frozen=True, kw_only=True):
    """Closed instead of this message: with a close frame if there is a ``code``, else by a reset."""

    code: Annotated[int, msgspec.Meta(ge=1000, le=4999)] | None = None

    def __post_init__(self) -> None:
        if self.code is not None and (self.code in {1004, 1005, 1006} or 1015 <= self.code < 3000):
            raise ValueError(f"code {self.code} must not be sent in a close frame")


class WsTrickle(Value, tag="ws_trickle", frozen=True, kw_only=True):
    """From this message on the connection passes so many bytes a second, its pongs not at all."""

    bytes_per_s: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1


HttpAction = (
    Delay
    | DropRequest
    | DropReply
    | CutReply
    | DuplicateReply
    | RepeatRequest
    | AnswerStatus
    | Garbage
    | OmitRecentOrders
    | StaleRead
    | Kill
)
WsAction = WsGap | WsDuplicate | WsReorder | WsResetSequence | WsStall | WsHalfOpen | WsDisconnect | WsTrickle


# -- which, and how often ------------------------------------------------------------------------------------


class Match(Value, frozen=True, kw_only=True):
    """Which requests, or messages of which streams, a rule meets; an absent member excludes nothing."""

    methods: tuple[Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"], ...] | None = None
    path: Pattern = "*"
    """Shell pattern over the whole path, ``*`` also standing for slashes: ``/api/v1/orders/*/cancel``."""
    users: tuple[Word, ...] | None = None
    """Usernames or user ids."""
    markets: tuple[Word, ...] | None = None
    """Markets that the path, the query or the body names, or that an order of the path belongs to."""
    messages: tuple[Literal["SNAPSHOT", "DELTA", "TRADE"], ...] | None = None
    """Kinds of stream message."""


class Rule(Value, frozen=True, kw_only=True):
    """One fault. Of its matches it skips ``skip``, then fires at every ``every``-th with ``probability``.

    After firing ``times`` times it rests. Draws come from the rule's own generator, seeded with the rules'
    seed and the rule's name: the n-th match of a rule meets the same fate each time the rules are set.
    """

    name: Name
    action: HttpAction | WsAction
    match: Match = Match()
    probability: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    every: Count = 1
    skip: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] = 0
    times: Count | None = None

    def __post_init__(self) -> None:
        if self.match.messages is not None and not isinstance(self.action, WsAction):
            raise ValueError(f"rule {self.name}: match.messages is for actions on streams (ws_...)")
        if self.match.methods is not None and isinstance(self.action, WsAction):
            raise ValueError(f"rule {self.name}: match.methods is for actions on requests")


class Rules(Value, frozen=True, kw_only=True):
    """The body of PUT /admin/faults: replaces all rules; an empty list ends all faults."""

    rules: Annotated[tuple[Rule, ...], msgspec.Meta(max_length=RULES_MAX)]
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rules]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"rule name {name!r} appears {names.count(name)} times, allowed once")


class RuleCount(msgspec.Struct, frozen=True, kw_only=True):
    """A rule and what it did since it was set."""

    rule: Rule
    matched: int
    fired: int


class FaultsView(msgspec.Struct, frozen=True, kw_only=True):
    """The rules in force, oldest first."""

    seed: int
    items: list[RuleCount]


class BadRulesError(Exception):
    """Rules that cannot be used: key, value and rule in one line."""


_DECODER: Final = msgspec.json.Decoder(Rules)


def decode_rules(body: bytes, name_value: Callable[[object, str], str]) -> Rules:
    """Read the body of PUT /admin/faults strictly; raises :class:`BadRulesError`.

    ``name_value`` adds the offending value to a message that only names its place.
    """
    try:
        return _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise BadRulesError(name_value(msgspec.json.decode(body), str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRulesError(f"not JSON: {error}") from error
