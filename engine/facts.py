"""``RUN/facts/{market_id}.json``: what a market must not forget when the engine starts again.

The venue knows stock, orders and trades; it does not know why a market was killed, when it started, which
phase it is in, or what it was worth this morning. The writer keeps these facts on disk, the supervisor puts
them into the market's state row before any quoter starts, and the quoter takes the row over as it would a
predecessor's. Redis holds most of them too (``amm:engine``, ``amm:state``) and is asked where the file is
missing. Names are those of ``native/quoter_state.h``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from engine._native import ffi, lib
from engine.arena import Arena, check
from engine.config import ConfigError
from engine.events import KillCause, Phase
from engine.quoting.transitions import PhaseReason

FACTS_DIRECTORY: Final = "facts"

Time = Annotated[int, Meta(ge=0, lt=1 << 53)]  # Unix ms
Cents = Annotated[int, Meta(gt=-(1 << 53), lt=1 << 53)]
Count = Annotated[int, Meta(ge=0, lt=1 << 53)]


class FactsError(ConfigError):
    """What was kept cannot be read; the message is one line that says where and what to do."""


class PhaseLogEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One transition of the phase machine (market-making §4)."""

    from_phase: str
    to_phase: str
    reason: str
    timestamp_ms: Time


class Facts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One market's facts; money in cents, times in Unix ms."""

    market_id: str
    started_at_ms: Time
    stopped: bool = False  # by an operator: only an operator's START ends that
    kill_causes: list[str] = []
    phase: str = "EXPLORATION"
    phase_since_ms: Time = 0
    phase_volume: Count = 0
    rollback_until_ms: Time = 0
    phase_log: Annotated[list[PhaseLogEntry], Meta(max_length=lib.PHASE_LOG_ENTRIES)] = []
    posterior: Annotated[float, Meta(ge=0.0, le=100.0)] = 0.0
    day: str = ""  # of the baseline, as 2026-11-21; "" = none yet
    day_start_assets_cents: Cents = 0
    net_flows_cents: Cents = 0
    total_fills_today: Count = 0
    start_assets_cents: Cents = 0
    flows_cents: Cents = 0
    spread_pnl_cents: Cents = 0
    inventory_pnl_cents: Cents = 0
    fees_paid_cents: Cents = 0
    corrections_cents: Cents = 0
    mark_cents: Annotated[int, Meta(ge=0, le=99)] = 0  # what the sums above are valued at
    budget_used_cents: Cents = 0
    fair_price_cents: Annotated[int, Meta(ge=0, le=99)] = 0
    lvr_cooldown_until_ms: Time = 0
    last_supply_ms: Time = 0
    inventory_version: Count = 0


#: Fields that are the same number in ``quoter_state_t``.
_NUMBERS: Final = (
    *("started_at_ms", "phase_since_ms", "phase_volume", "rollback_until_ms", "posterior"),
    *("day_start_assets_cents", "net_flows_cents", "total_fills_today", "start_assets_cents", "flows_cents"),
    *("spread_pnl_cents", "inventory_pnl_cents", "fees_paid_cents", "budget_used_cents", "fair_price_cents"),
    *("corrections_cents", "mark_cents", "lvr_cooldown_until_ms", "last_supply_ms", "inventory_version"),
)


def path_of(run_dir: Path, market_id: str) -> Path:
    return run_dir / FACTS_DIRECTORY / f"{market_id}.json"


# ---- the state row ------------------------------------------------------------------------------


@functools.cache
def cause_names(bits: int) -> tuple[str, ...]:
    """Names of latched kill causes, in the order of their bits."""
    return tuple(str(cause.name) for cause in KillCause if bits & cause)


@functools.lru_cache(maxsize=8)
def day_text(ordinal: int) -> str:
    """The trading day ``2026-11-21`` of a day number; "" for 0, no baseline yet."""
    return date.fromordinal(ordinal).isoformat() if 0 < ordinal <= date.max.toordinal() else ""


def phase_log(state: Any) -> list[PhaseLogEntry]:
    """The transitions in a ``quoter_state_t``, oldest first."""
    return [
        PhaseLogEntry(
            from_phase=Phase(entry.from_phase).name,
            to_phase=Phase(entry.to_phase).name,
            reason=PhaseReason(entry.reason).name,
            timestamp_ms=entry.timestamp_ms,
        )
        for entry in state.phase_log
        if entry.timestamp_ms > 0
    ]


@functools.lru_cache(maxsize=4096)
def _phase_log_json(entries: bytes) -> bytes:
    state = ffi.new("quoter_state_t *")
    ffi.memmove(state.phase_log, entries, len(entries))
    return msgspec.json.encode(phase_log(state))


def phase_log_json(state: Any) -> bytes:
    """:func:`phase_log` as a JSON array; it seldom changes, so it is remembered."""
    return _phase_log_json(bytes(ffi.buffer(state.phase_log)))


def from_state(market_id: str, state: Any) -> Facts | None:
    """The facts in a ``quoter_state_t``; None before the market's first start."""
    if state.started_at_ms <= 0:
        return None
    return Facts(
        market_id=market_id,
        stopped=bool(state.stopped),
        kill_causes=list(cause_names(state.kill_causes)),
        phase=Phase(state.phase).name,
        phase_log=phase_log(state),
        day=day_text(state.day),
        **{name: getattr(state, name) for name in _NUMBERS},
    )


def _to_state(facts: Facts) -> Any:
    """A ``quoter_state_t`` of the facts and nothing else. Raises FactsError for a name unknown here."""
    state = ffi.new("quoter_state_t *")
    for name in _NUMBERS:
        setattr(state, name, getattr(facts, name))
    try:
        for name in facts.kill_causes:
            state.kill_causes |= KillCause[name]
        state.kill_switch = bool(facts.kill_causes)
        state.phase = Phase[facts.phase]
        for index, entry in enumerate(facts.phase_log):
            kept = state.phase_log[index]
            kept.from_phase, kept.to_phase = Phase[entry.from_phase], Phase[entry.to_phase]
            kept.reason, kept.timestamp_ms = PhaseReason[entry.reason], entry.timestamp_ms
        state.day = date.fromisoformat(facts.day).toordinal() if facts.day else 0
    except (KeyError, ValueError) as error:
        raise FactsError(f"{facts.market_id}: {error} is not a name of this build") from None
    state.stopped = facts.stopped
    state.recovering = 1
    return state


def restore(arena: Arena, slot: int, facts: Facts) -> None:
    """Writes the market's state row as a predecessor of its quoter would have left it. Raises FactsError.

    Stock, book and price are not in it, so nothing of it is published as if it were current.
    """
    state = _to_state(facts)
    row = ffi.addressof(arena.market(slot), "state")
    size = ffi.sizeof("quoter_state_t")
    check(lib.state_write(row, lib.STATE_KIND_QUOTER, 0, 0, 0, state, size), "state row")


# ---- the file -----------------------------------------------------------------------------------


def encoded(facts: Facts) -> bytes:
    return msgspec.json.format(msgspec.json.encode(facts)) + b"\n"


def read(run_dir: Path, market_id: str) -> Facts | None:
    """What the file says; None when there is none. Raises FactsError."""
    path = path_of(run_dir, market_id)
    try:
        facts = msgspec.json.decode(path.read_bytes(), type=Facts)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise FactsError(
            f"{path}: {error}: it may hold a kill; restore it, or move it away to start without its facts"
        ) from None
    if facts.market_id != market_id:
        raise FactsError(f"{path}: holds the facts of {facts.market_id}: restore it, or move it away")
    return facts


# ---- Redis --------------------------------------------------------------------------------------


def from_redis(market_id: str, engine: Mapping[bytes, bytes], state: Mapping[bytes, bytes]) -> Facts | None:
    """What ``amm:engine`` and ``amm:state`` say of these facts; None without them. Raises FactsError.

    Where profit came from is not in Redis: its account begins anew at what the market was worth last.
    """
    if not engine.get(b"started_at_ms"):
        return None
    texts = {name.decode(): value.decode(errors="replace") for name, value in {**state, **engine}.items()}
    try:
        log = msgspec.json.decode(texts.get("phase_log") or "[]", type=list[PhaseLogEntry])
        day_start, flows = int(texts.get("day_start_assets", "0")), int(texts.get("net_flows", "0"))
        document = {
            "market_id": market_id,
            "started_at_ms": int(texts["started_at_ms"]),
            "kill_causes": [name for name in texts.get("kill_causes", "").split(",") if name],
            "phase": texts.get("phase", "EXPLORATION"),
            "phase_since_ms": log[-1].timestamp_ms if log else int(texts["started_at_ms"]),
            "phase_log": msgspec.to_builtins(log),
            "posterior": float(texts.get("posterior_cents", "0")),
            "day": texts.get("day", ""),
            "day_start_assets_cents": day_start,
            "net_flows_cents": flows,
            "start_assets_cents": day_start + flows + int(texts.get("daily_pnl_cents", "0")),
            "mark_cents": int(texts.get("fair_price_cents", "0")),
            "fair_price_cents": int(texts.get("fair_price_cents", "0")),
            "total_fills_today": int(texts.get("total_fills_today", "0")),
            "inventory_version": int(texts.get("inv_version", "0")),
        }
        return msgspec.convert(document, Facts, strict=True)
    except (ValueError, msgspec.DecodeError) as error:
        raise FactsError(f"amm:engine:{market_id}: {error}: correct the hash, or delete it") from None
