"""From rows of the state board to the fields of the Redis hashes (market-making §2.1-§2.4), exactly.

Pure. A row is what ``native/quoter_state.h`` and ``native/arena.h`` declare; the fields of a hash are one
flat sequence ``(name, value, name, value, ...)`` of bytes, as HSET takes them. A hash that has nothing true
to say yet (stock not confirmed by the venue, no price, no quote cycle) is ``None``: what Redis held before
is not overwritten with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from engine import facts
from engine._native import lib
from engine.arena import unpadded
from engine.events import DefenseLevel, Direction, Outcome, Phase

Fields = tuple[bytes, ...]

UPDATES_CHANNEL: Final = b"amm:updates"
INVENTORY_FIELDS: Final = (
    b"yes_volume",
    b"no_volume",
    b"yes_available",
    b"no_available",
    b"yes_cost_sum_cents",
    b"no_cost_sum_cents",
    b"cash_cents",
    b"updated_at_ms",
)
STATE_FIELDS: Final = (
    b"phase",
    b"fair_price_cents",
    b"sigma_cents",
    b"inventory_skew",
    b"last_requote_ms",
    b"daily_pnl_cents",
    b"total_fills_today",
    b"lvr_cooldown_until",
    b"kill_switch",
    b"defense_level",
)
ENGINE_FIELDS: Final = (
    b"started_at_ms",
    b"day_start_assets",
    b"day",
    b"net_flows",
    b"posterior_cents",
    b"trade_cursor",
    b"kill_causes",
    b"phase_log",
    b"config_applied",
    b"inv_version",
)

_BOOK_TYPES: Final = {
    (Outcome.YES, Direction.BUY): "NATIVE_BUY",
    (Outcome.YES, Direction.SELL): "NATIVE_SELL",
    (Outcome.NO, Direction.BUY): "SYNTHETIC_SELL",
    (Outcome.NO, Direction.SELL): "SYNTHETIC_BUY",
}
_PHASES: Final = {int(phase): phase.name.encode() for phase in Phase}
_DEFENSES: Final = {int(level): level.name.encode() for level in DefenseLevel}
# All numbers of a hash at once, because one formatting costs less than one each: integers by their digits
# (%d), floats by the shortest text that reads back the same (%a), after + 0.0, which ends a negative zero.
_INVENTORY_NUMBERS: Final = b"%d %d %d %d %d %d %d %d"
_STATE_NUMBERS: Final = b"%d %a %a %d %d %d %d"
_ENGINE_NUMBERS: Final = b"%d %d %d %a %d %d"
_NS_PER_MS: Final = 1_000_000


def inventory_key(market_id: str) -> bytes:
    return b"amm:inventory:" + market_id.encode()


def orders_key(market_id: str) -> bytes:
    return b"amm:orders:" + market_id.encode()


def state_key(market_id: str) -> bytes:
    return b"amm:state:" + market_id.encode()


def engine_key(market_id: str) -> bytes:
    return b"amm:engine:" + market_id.encode()


def processed_key(market_id: str) -> bytes:
    return b"amm:processed:" + market_id.encode()


REPLACE_COUNT_KEY: Final = b"ratelimit:AMM_SYSTEM_001:replace"


def _blank(names: Fields) -> list[bytes]:
    """The hash with no values yet."""
    flat = [b""] * (2 * len(names))
    flat[::2] = names
    return flat


_INVENTORY_BLANK: Final = _blank(INVENTORY_FIELDS)
_STATE_BLANK: Final = _blank(STATE_FIELDS)
_ENGINE_BLANK: Final = _blank(ENGINE_FIELDS)


def _filled(blank: list[bytes], values: Sequence[bytes]) -> Fields:
    flat = blank.copy()
    flat[1::2] = values  # ValueError unless there are as many as names
    return tuple(flat)


def inventory_fields(state: Any, row_unix_ns: int) -> Fields | None:
    """``amm:inventory``: 8 fields; None while the quoter has no stock confirmed by the venue.

    ``updated_at_ms`` is the wall clock of the row's last write, which is when these values were last held.
    """
    if state.recovering or state.updated_at_ms <= 0:
        return None
    numbers = _INVENTORY_NUMBERS % (
        state.yes_volume,
        state.no_volume,
        state.yes_available,
        state.no_available,
        state.yes_cost_sum_cents,
        state.no_cost_sum_cents,
        state.cash_cents,
        max(state.updated_at_ms, row_unix_ns // _NS_PER_MS),
    )
    return _filled(_INVENTORY_BLANK, numbers.split())


def state_fields(state: Any) -> Fields | None:
    """``amm:state``: 10 fields; None before the first quote cycle with a price."""
    fair_price_cents, last_requote_ms = state.fair_price_cents, state.last_requote_ms
    if fair_price_cents <= 0 or last_requote_ms <= 0:
        return None
    numbers = _STATE_NUMBERS % (
        fair_price_cents,
        state.sigma + 0.0,
        state.skew + 0.0,
        last_requote_ms,
        state.daily_pnl_cents,
        state.total_fills_today,
        state.lvr_cooldown_until_ms,
    )
    kill_switch = b"ON" if state.kill_switch else b"OFF"
    values = (_PHASES[state.phase], *numbers.split(), kill_switch, _DEFENSES[state.defense])
    return _filled(_STATE_BLANK, values)


def engine_fields(state: Any, account: Any) -> Fields | None:
    """``amm:engine``: what a restart needs; None before the market's first start.

    ``day`` is a date ("" = no baseline yet), ``kill_causes`` names with commas between them ("" = none),
    ``phase_log`` a JSON array of transitions, oldest first.
    """
    if state.started_at_ms <= 0:
        return None
    numbers = _ENGINE_NUMBERS % (
        state.started_at_ms,
        state.day_start_assets_cents,
        state.net_flows_cents,
        state.posterior + 0.0,
        state.config_version,
        state.inventory_version,
    )
    started, assets, flows, posterior, config, inventory = numbers.split()
    day = facts.day_text(state.day).encode()
    cursor = unpadded(account.cursor_trade_id).encode()
    causes = ",".join(facts.cause_names(state.kill_causes)).encode()
    log = facts.phase_log_json(state)
    values = (started, assets, day, flows, posterior, cursor, causes, log, config, inventory)
    return _filled(_ENGINE_BLANK, values)


def live_order(order: Any) -> tuple[bytes, bytes] | None:
    """(order id, JSON of ``amm:orders``) of a live-order row; None unless it rests at the venue.

    An order being cancelled, and one whose cancel has no known outcome, rests until the venue says otherwise.
    """
    if order.state in (lib.LIVE_FREE, lib.LIVE_PENDING) or order.remaining <= 0:
        return None
    order_id = unpadded(order.venue_order_id).encode()
    if not order_id:
        return None  # placed, and the venue has not said under which id
    outcome, direction = Outcome(order.outcome), Direction(order.direction)
    value = orjson.dumps(
        {
            "side": outcome.name,
            "direction": direction.name,
            "price": order.price_cents,
            "qty": order.quantity,
            "remaining": order.remaining,
            "book_type": _BOOK_TYPES[outcome, direction],
            "created_ms": order.created_ms,
        }
    )
    return order_id, value


def update_message(market_id: str, inventory_version: int) -> bytes:
    """What is published on ``amm:updates`` after a batch that touched the market."""
    return b"%b %d" % (market_id.encode(), inventory_version)
