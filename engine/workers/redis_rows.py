"""From rows of the state board to the fields of the Redis hashes (market-making §2.1-§2.4), exactly.

Pure. A row is what ``native/quoter_state.h`` and ``native/arena.h`` declare; the fields of a hash are one
flat sequence ``(name, value, name, value, ...)`` of bytes, as HSET takes them. A hash that has nothing true
to say yet (stock not confirmed by the venue, no price, no quote cycle) is ``None``: what Redis held before
is not overwritten with zeros.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

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
    b"net_flows",
    b"posterior_cents",
    b"trade_cursor",
    b"kill_causes",
    b"config_applied",
    b"inv_version",
)

_BOOK_TYPES: Final = {
    (Outcome.YES, Direction.BUY): "NATIVE_BUY",
    (Outcome.YES, Direction.SELL): "NATIVE_SELL",
    (Outcome.NO, Direction.BUY): "SYNTHETIC_SELL",
    (Outcome.NO, Direction.SELL): "SYNTHETIC_BUY",
}
_NS_PER_MS: Final = 1_000_000


def inventory_key(market_id: str) -> bytes:
    return b"amm:inventory:" + market_id.encode()


def orders_key(market_id: str) -> bytes:
    return b"amm:orders:" + market_id.encode()


def state_key(market_id: str) -> bytes:
    return b"amm:state:" + market_id.encode()


def engine_key(market_id: str) -> bytes:
    return b"amm:engine:" + market_id.encode()


def _int(value: int) -> bytes:
    return b"%d" % value


def _float(value: float) -> bytes:
    return repr(value + 0.0).encode()  # + 0.0: a negative zero is written as 0.0


def _flat(names: tuple[bytes, ...], values: tuple[bytes, ...]) -> Fields:
    return tuple(part for pair in zip(names, values, strict=True) for part in pair)


def inventory_fields(state: Any, row_unix_ns: int) -> Fields | None:
    """``amm:inventory``: 8 fields; None while the quoter has no stock confirmed by the venue.

    ``updated_at_ms`` is the wall clock of the row's last write, which is when these values were last held.
    """
    if state.recovering or state.updated_at_ms <= 0:
        return None
    return _flat(
        INVENTORY_FIELDS,
        (
            _int(state.yes_volume),
            _int(state.no_volume),
            _int(state.yes_available),
            _int(state.no_available),
            _int(state.yes_cost_sum_cents),
            _int(state.no_cost_sum_cents),
            _int(state.cash_cents),
            _int(max(state.updated_at_ms, row_unix_ns // _NS_PER_MS)),
        ),
    )


def state_fields(state: Any) -> Fields | None:
    """``amm:state``: 10 fields; None before the first quote cycle with a price."""
    if state.fair_price_cents <= 0 or state.last_requote_ms <= 0:
        return None
    return _flat(
        STATE_FIELDS,
        (
            Phase(state.phase).name.encode(),
            _int(state.fair_price_cents),
            _float(state.sigma),
            _float(state.skew),
            _int(state.last_requote_ms),
            _int(state.daily_pnl_cents),
            _int(state.total_fills_today),
            _int(state.lvr_cooldown_until_ms),
            b"ON" if state.kill_switch else b"OFF",
            DefenseLevel(state.defense).name.encode(),
        ),
    )


def engine_fields(state: Any, account: Any) -> Fields | None:
    """``amm:engine``: what a restart needs; None before the market's first start."""
    if state.started_at_ms <= 0:
        return None
    return _flat(
        ENGINE_FIELDS,
        (
            _int(state.started_at_ms),
            _int(state.day_start_assets_cents),
            _int(state.net_flows_cents),
            _float(state.posterior),
            unpadded(account.cursor_trade_id).encode(),
            _int(state.kill_causes),
            _int(state.config_version),
            _int(state.inventory_version),
        ),
    )


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
