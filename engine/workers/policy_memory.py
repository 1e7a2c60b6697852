"""What policy remembers across a restart, to and from the state row (``quoter_state_t``)."""

from __future__ import annotations

from typing import Any

from engine.events import KillCause, Phase
from engine.quoting.budget import Ledger
from engine.quoting.defence import DefenceState
from engine.quoting.gates import GateState
from engine.quoting.kills import Money
from engine.quoting.phases import PhaseChange, PhaseState
from engine.quoting.transitions import PhaseReason
from engine.workers.clock import Clock


def phase(state: Any, now_unix_ms: int) -> PhaseState:
    """A market that never started begins in EXPLORATION, now."""
    if not state.phase_since_ms:
        return PhaseState(since_ms=now_unix_ms)
    log = tuple(
        PhaseChange(
            from_phase=Phase(entry.from_phase),
            to_phase=Phase(entry.to_phase),
            reason=PhaseReason(entry.reason),
            timestamp_ms=entry.timestamp_ms,
        )
        for entry in state.phase_log
        if entry.timestamp_ms
    )
    return PhaseState(
        since_ms=state.phase_since_ms,
        phase=Phase(state.phase),
        volume_shares=state.phase_volume,
        rollback_until_ms=state.rollback_until_ms,
        log=log,
    )


def ledger(state: Any) -> Ledger | None:
    """None before the first baseline."""
    if not state.day:
        return None
    return Ledger(
        day=state.day,
        day_start_assets_cents=state.day_start_assets_cents,
        day_flows_cents=state.net_flows_cents,
        start_assets_cents=state.start_assets_cents,
        flows_cents=state.flows_cents,
        corrections_cents=state.corrections_cents,
        mark_cents=state.mark_cents,
        spread_cents=state.spread_pnl_cents,
        inventory_cents=state.inventory_pnl_cents,
        fees_cents=state.fees_paid_cents,
    )


def gates(state: Any, clock: Clock) -> GateState:
    """A velocity lock outlives the process that saw it; every other gate is seen anew."""
    left_ms = state.lvr_cooldown_until_ms - clock.unix_ms
    return GateState(lvr_until_ms=clock.mono_ms + left_ms if left_ms > 0 else 0)


def save(
    state: Any,
    clock: Clock,
    *,
    phase: PhaseState,
    defence: DefenceState,
    gates: GateState,
    ledger: Ledger | None,
    money: Money | None,
    causes: KillCause,
) -> None:
    state.phase = phase.phase
    state.phase_since_ms, state.phase_volume = phase.since_ms, phase.volume_shares
    state.rollback_until_ms = phase.rollback_until_ms
    for index, entry in enumerate(phase.log):
        slot = state.phase_log[index]
        slot.timestamp_ms, slot.reason = entry.timestamp_ms, entry.reason
        slot.from_phase, slot.to_phase = entry.from_phase, entry.to_phase
    state.defense, state.discount_cents = defence.level, defence.discount_cents
    state.widen_sources = int(defence.sources)
    state.calm_cycles = min(defence.calm_cycles, 255)
    state.kill_causes = int(causes)
    state.kill_switch = bool(causes)
    left_ms = gates.lvr_until_ms - clock.mono_ms
    state.lvr_cooldown_until_ms = clock.unix_ms + left_ms if left_ms > 0 else 0
    if ledger is not None:
        _save_ledger(state, ledger)
    if money is not None:
        state.daily_pnl_cents = money.daily_pnl_cents
        state.budget_used_cents = money.budget_used_cents


def _save_ledger(state: Any, ledger: Ledger) -> None:
    state.day = ledger.day
    state.day_start_assets_cents, state.net_flows_cents = (
        ledger.day_start_assets_cents,
        ledger.day_flows_cents,
    )
    state.start_assets_cents, state.flows_cents = ledger.start_assets_cents, ledger.flows_cents
    state.spread_pnl_cents, state.inventory_pnl_cents = ledger.spread_cents, ledger.inventory_cents
    state.fees_paid_cents, state.corrections_cents = ledger.fees_cents, ledger.corrections_cents
    state.mark_cents = ledger.mark_cents
