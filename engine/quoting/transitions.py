"""State machines as tables (market-making §6.5, §8): what is not in the table is refused.

A table maps (state, event) to the next state. The four machines of the specification are here; who moves
them, and on what evidence, is elsewhere (``phases``, ``defence``, ``engine.workers.market_state``).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum, auto
from typing import Final, TypeVar

from engine.events import DefenseLevel, Lifecycle, Phase

StateT = TypeVar("StateT", bound=Enum)
EventT = TypeVar("EventT", bound=Enum)


class TransitionError(Exception):
    """The machine's table has no such transition."""


def step(table: Mapping[tuple[StateT, EventT], StateT], state: StateT, event: EventT) -> StateT:
    """The state after ``event``. Raises TransitionError for a pair the table does not have."""
    after = table.get((state, event))
    if after is None:
        raise TransitionError(f"{type(state).__name__} {state.name} has no transition for {event.name}")
    return after


def allows(table: Mapping[tuple[StateT, EventT], StateT], state: StateT, event: EventT) -> bool:
    """Whether :func:`step` would move."""
    return (state, event) in table


# ---- lifecycle of a market (§8) -----------------------------------------------------------------


class LifecycleEvent(Enum):
    STARTED = auto()  # every start step done, no kill cause held
    STARTED_KILLED = auto()  # the same, with a latched kill cause
    START = auto()  # by a person, of a stopped market
    START_FAILED = auto()
    KILL = auto()  # a kill source; SUSPENDED and HALTED are among them
    RESUME = auto()  # by a person, or D15
    RESOLVED = auto()
    WOUND_DOWN = auto()
    STOP = auto()
    CLOSED = auto()  # market SETTLED or VOIDED


# A market can be found RESOLVED or killed while its quoter starts: starting is recovering.
LIFECYCLE: Final[Mapping[tuple[Lifecycle, LifecycleEvent], Lifecycle]] = {
    (Lifecycle.STOPPED, LifecycleEvent.START): Lifecycle.STARTING,
    (Lifecycle.STARTING, LifecycleEvent.STARTED): Lifecycle.RUNNING,
    (Lifecycle.STARTING, LifecycleEvent.STARTED_KILLED): Lifecycle.EMERGENCY,
    (Lifecycle.STARTING, LifecycleEvent.START_FAILED): Lifecycle.STOPPED,
    (Lifecycle.STARTING, LifecycleEvent.KILL): Lifecycle.EMERGENCY,
    (Lifecycle.STARTING, LifecycleEvent.RESOLVED): Lifecycle.WINDING_DOWN,
    (Lifecycle.STARTING, LifecycleEvent.STOP): Lifecycle.STOPPED,
    (Lifecycle.RUNNING, LifecycleEvent.KILL): Lifecycle.EMERGENCY,
    (Lifecycle.RUNNING, LifecycleEvent.RESOLVED): Lifecycle.WINDING_DOWN,
    (Lifecycle.RUNNING, LifecycleEvent.STOP): Lifecycle.STOPPED,
    (Lifecycle.EMERGENCY, LifecycleEvent.KILL): Lifecycle.EMERGENCY,  # one more cause
    (Lifecycle.EMERGENCY, LifecycleEvent.RESUME): Lifecycle.RUNNING,
    (Lifecycle.EMERGENCY, LifecycleEvent.RESOLVED): Lifecycle.WINDING_DOWN,
    (Lifecycle.EMERGENCY, LifecycleEvent.STOP): Lifecycle.STOPPED,
    (Lifecycle.WINDING_DOWN, LifecycleEvent.WOUND_DOWN): Lifecycle.STOPPED,
    (Lifecycle.WINDING_DOWN, LifecycleEvent.STOP): Lifecycle.STOPPED,
    **{(state, LifecycleEvent.CLOSED): Lifecycle.STOPPED for state in Lifecycle},
}


# ---- phases (§4) --------------------------------------------------------------------------------


class PhaseReason(IntEnum):
    """PhaseTransitionReason (§2.7)."""

    TIME_EXPIRED = 1
    VOLUME_REACHED = 2
    PRICE_STABLE = 3
    EMERGENCY_ROLLBACK = 4


PHASES: Final[Mapping[tuple[Phase, PhaseReason], Phase]] = {
    (Phase.EXPLORATION, PhaseReason.TIME_EXPIRED): Phase.STABILIZATION,
    (Phase.EXPLORATION, PhaseReason.VOLUME_REACHED): Phase.STABILIZATION,
    (Phase.EXPLORATION, PhaseReason.PRICE_STABLE): Phase.STABILIZATION,
    (Phase.STABILIZATION, PhaseReason.EMERGENCY_ROLLBACK): Phase.EXPLORATION,
}


# ---- defence levels (§5.1) ----------------------------------------------------------------------


class DefenceEvent(Enum):
    WIDEN = auto()
    ONE_SIDE = auto()
    KILL = auto()
    CALM = auto()  # long enough for one level down
    RESUME = auto()  # KILL_SWITCH is left by a person only


DEFENCE: Final[Mapping[tuple[DefenseLevel, DefenceEvent], DefenseLevel]] = {
    (DefenseLevel.NORMAL, DefenceEvent.WIDEN): DefenseLevel.WIDEN,
    (DefenseLevel.NORMAL, DefenceEvent.ONE_SIDE): DefenseLevel.ONE_SIDE,
    (DefenseLevel.NORMAL, DefenceEvent.KILL): DefenseLevel.KILL_SWITCH,
    (DefenseLevel.WIDEN, DefenceEvent.ONE_SIDE): DefenseLevel.ONE_SIDE,
    (DefenseLevel.WIDEN, DefenceEvent.KILL): DefenseLevel.KILL_SWITCH,
    (DefenseLevel.WIDEN, DefenceEvent.CALM): DefenseLevel.NORMAL,
    (DefenseLevel.ONE_SIDE, DefenceEvent.KILL): DefenseLevel.KILL_SWITCH,
    (DefenseLevel.ONE_SIDE, DefenceEvent.CALM): DefenseLevel.WIDEN,
    (DefenseLevel.KILL_SWITCH, DefenceEvent.RESUME): DefenseLevel.NORMAL,
}


# ---- orders (§6.5) ------------------------------------------------------------------------------


class OrderState(Enum):
    """AMMOrderState (§2.7)."""

    ACTIVE = auto()
    PARTIALLY_ACTIVE = auto()
    FILLED = auto()
    CANCELLED = auto()
    REPLACED = auto()

    @property
    def is_terminal(self) -> bool:
        return self in (OrderState.FILLED, OrderState.CANCELLED, OrderState.REPLACED)


class OrderEvent(Enum):
    PARTIAL_FILL = auto()
    FULL_FILL = auto()
    CANCEL = auto()
    REPLACE = auto()


ORDERS: Final[Mapping[tuple[OrderState, OrderEvent], OrderState]] = {
    **{
        (state, event): after
        for state in (OrderState.ACTIVE, OrderState.PARTIALLY_ACTIVE)
        for event, after in (
            (OrderEvent.PARTIAL_FILL, OrderState.PARTIALLY_ACTIVE),
            (OrderEvent.FULL_FILL, OrderState.FILLED),
            (OrderEvent.CANCEL, OrderState.CANCELLED),
            (OrderEvent.REPLACE, OrderState.REPLACED),
        )
    },
}
