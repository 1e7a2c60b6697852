"""Names for what flows through the arena: the enums of ``native/arena.h`` and the counters of each process.

The numbers come from the C declaration; nothing here can disagree with it.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from engine._native import lib


class Side(IntEnum):
    """Side of the YES book."""

    BID = lib.ORDERBOOK_BID
    ASK = lib.ORDERBOOK_ASK


class Outcome(IntEnum):
    YES = lib.OUTCOME_YES
    NO = lib.OUTCOME_NO


class Direction(IntEnum):
    BUY = lib.DIRECTION_BUY
    SELL = lib.DIRECTION_SELL


class OrderKind(IntEnum):
    """Quoter -> gateway."""

    PLACE = lib.ORDER_PLACE
    REPLACE = lib.ORDER_REPLACE
    CANCEL = lib.ORDER_CANCEL
    BATCH_CANCEL = lib.ORDER_BATCH_CANCEL
    MINT = lib.ORDER_MINT
    BURN = lib.ORDER_BURN
    SYNC = lib.ORDER_SYNC


NO_LIVE_SLOT: Final = 0xFFFF
"""``live_slot`` of an intent or execution that is about no order of ours."""


class News(IntEnum):
    """What an order is the first answer to."""

    NONE = lib.NEWS_NONE
    FILL = lib.NEWS_FILL
    MESSAGE = lib.NEWS_MESSAGE
    RELEASE = lib.NEWS_RELEASE


class ExecutionKind(IntEnum):
    """Gateway -> quoter."""

    ACKED = lib.EXEC_ACKED
    REJECTED = lib.EXEC_REJECTED
    UNKNOWN = lib.EXEC_UNKNOWN
    CANCELLED = lib.EXEC_CANCELLED
    FILL = lib.EXEC_FILL
    MINTED = lib.EXEC_MINTED
    BURNED = lib.EXEC_BURNED
    MARKET_STATUS = lib.EXEC_MARKET_STATUS
    CASH = lib.EXEC_CASH
    SYNC_BEGIN = lib.EXEC_SYNC_BEGIN
    POSITION = lib.EXEC_POSITION
    ORDER = lib.EXEC_ORDER
    CURSOR = lib.EXEC_CURSOR
    SYNC_END = lib.EXEC_SYNC_END
    FILLED = lib.EXEC_FILLED
    MARKET_RULES = lib.EXEC_MARKET_RULES
    START_FAILED = lib.EXEC_START_FAILED


class LocalReject(IntEnum):
    """Reasons of a REJECTED that are ours; venue codes are positive."""

    KILLED = lib.LOCAL_KILLED
    STALE_EPOCH = lib.LOCAL_STALE_EPOCH
    RATE_LIMIT = lib.LOCAL_RATE_LIMIT
    SELF_CROSS = lib.LOCAL_SELF_CROSS
    PRICE_RANGE = lib.LOCAL_PRICE_RANGE
    OVERSELL = lib.LOCAL_OVERSELL
    NOT_READY = lib.LOCAL_NOT_READY
    UNKNOWN_ORDER = lib.LOCAL_UNKNOWN_ORDER
    LIMIT = lib.LOCAL_LIMIT
    CASH = lib.LOCAL_CASH
    JOURNAL = lib.LOCAL_JOURNAL
    COLLAR = lib.LOCAL_COLLAR
    POST_ONLY = lib.LOCAL_POST_ONLY
    POSITION = lib.LOCAL_POSITION
    DUPLICATE = lib.LOCAL_DUPLICATE
    PAUSED = lib.LOCAL_PAUSED
    STALE = lib.LOCAL_STALE
    CLOCK = lib.LOCAL_CLOCK
    GATED = lib.LOCAL_GATED
    EXECUTIONS = lib.LOCAL_EXECUTIONS
    RECONCILE = lib.LOCAL_RECONCILE


class MarketStatus(IntEnum):
    UNKNOWN = lib.MARKET_UNKNOWN
    DRAFT = lib.MARKET_DRAFT
    ACTIVE = lib.MARKET_ACTIVE
    SUSPENDED = lib.MARKET_SUSPENDED
    HALTED = lib.MARKET_HALTED
    RESOLVED = lib.MARKET_RESOLVED
    SETTLED = lib.MARKET_SETTLED
    VOIDED = lib.MARKET_VOIDED


PAID_OUT: Final = frozenset({MarketStatus.SETTLED, MarketStatus.VOIDED})
"""Shares of a market in one of these have become cash, without a trade: the ledger alone has it."""

OVER: Final = PAID_OUT | {MarketStatus.RESOLVED}
"""No market in one of these is ever traded again; its shares become cash, or have."""


class Stale(IntFlag):
    """What is missing, invalid or too old to send anything on (reliability page §1, C14)."""

    BOOK = lib.STALE_BOOK  # sequence gap, connection lost, snapshots that stopped, feed process silent
    WORKER = lib.STALE_WORKER  # the market's quoter is silent
    RECONCILIATION = lib.STALE_RECONCILIATION  # the venue's word on shares and cash


class Scenario(IntEnum):
    """How a fill cleared (market-making §2.6)."""

    MINT = lib.SCENARIO_MINT
    TRANSFER_YES = lib.SCENARIO_TRANSFER_YES
    TRANSFER_NO = lib.SCENARIO_TRANSFER_NO
    BURN = lib.SCENARIO_BURN


class Lifecycle(IntEnum):
    """AMMLifecycleState (market-making §2.7)."""

    STARTING = lib.LIFECYCLE_STARTING
    RUNNING = lib.LIFECYCLE_RUNNING
    EMERGENCY = lib.LIFECYCLE_EMERGENCY
    WINDING_DOWN = lib.LIFECYCLE_WINDING_DOWN
    STOPPED = lib.LIFECYCLE_STOPPED


class Phase(IntEnum):
    EXPLORATION = lib.PHASE_EXPLORATION
    STABILIZATION = lib.PHASE_STABILIZATION


class DefenseLevel(IntEnum):
    NORMAL = lib.DEFENSE_NORMAL
    WIDEN = lib.DEFENSE_WIDEN
    ONE_SIDE = lib.DEFENSE_ONE_SIDE
    KILL_SWITCH = lib.DEFENSE_KILL_SWITCH


class Gate(IntFlag):
    """Quote gates (market-making §5.3); bit k of the set is entry k of gated_ns."""

    POST_FILL = lib.GATE_POST_FILL
    LVR_COOLDOWN = lib.GATE_LVR_COOLDOWN
    ORACLE_DEVIATION = lib.GATE_ORACLE_DEVIATION
    ORACLE_GAP = lib.GATE_ORACLE_GAP
    BOOK_STALE = lib.GATE_BOOK_STALE
    LATENCY = lib.GATE_LATENCY
    API_ERRORS = lib.GATE_API_ERRORS
    INVENTORY = lib.GATE_INVENTORY
    KILL_WORD = lib.GATE_KILL_WORD
    MARKET_STATUS = lib.GATE_MARKET_STATUS
    REDIS = lib.GATE_REDIS


class KillCause(IntFlag):
    """Kill sources (market-making §5.2), latched until a resume."""

    SKEW = lib.KILL_CAUSE_SKEW
    DAILY_LOSS = lib.KILL_CAUSE_DAILY_LOSS
    ASSET_FLOOR = lib.KILL_CAUSE_ASSET_FLOOR
    BUDGET = lib.KILL_CAUSE_BUDGET
    PRICE_JUMP = lib.KILL_CAUSE_PRICE_JUMP
    EXTREME_PRICE = lib.KILL_CAUSE_EXTREME_PRICE
    LVR_REPEAT = lib.KILL_CAUSE_LVR_REPEAT
    NEGATIVE_AVAILABLE = lib.KILL_CAUSE_NEGATIVE_AVAILABLE
    MARKET_SUSPENDED = lib.KILL_CAUSE_MARKET_SUSPENDED
    MARKET_HALTED = lib.KILL_CAUSE_MARKET_HALTED
    OWNERSHIP = lib.KILL_CAUSE_OWNERSHIP
    GATE_TIMEOUT = lib.KILL_CAUSE_GATE_TIMEOUT
    ADMIN = lib.KILL_CAUSE_ADMIN
    GATEWAY_STUCK = lib.KILL_CAUSE_GATEWAY_STUCK
    EXECUTIONS = lib.KILL_CAUSE_EXECUTIONS


class Kill(IntFlag):
    """Bits of a kill word: who stopped the market."""

    ADMIN = lib.KILL_ADMIN
    WORKER_DEAD = lib.KILL_WORKER_DEAD
    FEED_DEAD = lib.KILL_FEED_DEAD
    RISK = lib.KILL_RISK
    STOPPING = lib.KILL_STOPPING
    GUARD = lib.KILL_GUARD
    PAUSE = lib.KILL_PAUSE


class ProcessState(IntEnum):
    FREE = lib.PROCESS_FREE
    STARTING = lib.PROCESS_STARTING
    RUNNING = lib.PROCESS_RUNNING
    STOPPING = lib.PROCESS_STOPPING
    DEAD = lib.PROCESS_DEAD


class SupervisorCounter(IntEnum):
    """Indexes into the supervisor's counters."""

    COMMAND_NUMBER = 0  # the last command taken up
    RESUMED_NUMBER = 1  # the last resume that was done


class GatewayCounter(IntEnum):
    """Indexes into the gateway's counters."""

    REQUESTS = 0
    ERRORS = 1  # transport errors and 5xx
    UNKNOWNS = 2  # requests whose outcome was not known at first
    RESENDS = 3
    RATE_LIMITED = 4  # 429 answers
    REFUSED = 5  # our own last-hop refusals
    FILLS = 6
    TRADE_POLLS = 7
    SWEEPS = 8  # batch cancels of a market
    STRAYS = 9  # live orders found that nobody here knew
    REPLACES = 10  # replace requests of all markets, resends not counted
    COMMAND_NUMBER = 11  # the last operator's command that has ended
    COMMAND_CODE = 12  # what came of it, two's complement: 0 done, the venue's code, or LOCAL_*
    BUS_EVENTS = 13  # messages of the event bus, whoever they concern
    BUS_FILLS = 14  # legs that the bus told first
    BUS_POISON = 15  # messages nobody could read


class WriterCounter(IntEnum):
    """Indexes into the writer's counters."""

    WRITES = 0  # Redis write commands acknowledged
    BATCHES = 1
    ERRORS = 2
    KEYS = 3  # keys this writer maintains
    WRITTEN_MONO_NS = (
        4  # when Redis last acknowledged the newest rows; before the first time: since when it has not
    )
