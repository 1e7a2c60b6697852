"""What the gateway takes from an order ring: a worker is not trusted with a record that makes no sense."""

from __future__ import annotations

import pytest

from engine._native import ffi, lib
from engine.arena import Arena, check
from engine.events import Direction, OrderKind, Outcome
from engine.workers.gateway_intents import Intent, IntentReader

SENSE = {
    "kind": int(OrderKind.BATCH_CANCEL),
    "outcome": int(Outcome.YES),
    "direction": int(Direction.SELL),
    "scope": lib.SCOPE_SELL_ONLY,
    "quantity": 10,
}


def taken(fields: dict[str, int]) -> list[Intent]:
    arena = Arena.create(market_slots=1, worker_slots=1)
    ring = arena.order_ring(0)
    check(lib.message_acquire(ring, 1), "order ring")
    record = ffi.new("order_record_t *", {**SENSE, **fields})
    check(lib.message_publish(ring, lib.MESSAGE_RING_SLOTS, 1, record), "order ring")
    reader = IntentReader(arena, 0)
    readers = ffi.new("hop_reader_t *[]", [reader.native])
    assert lib.last_hop_look(ffi.new("last_hop_t *"), readers, 1) == 1
    found = list(reader.cancels())
    reader.release()
    assert not reader.waiting()
    return found


def test_a_record_becomes_an_intent() -> None:
    (intent,) = taken({})
    assert (intent.kind, intent.scope, intent.quantity) == (OrderKind.BATCH_CANCEL, "SELL_ONLY", 10)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": 99},
        {"outcome": 7},
        {"direction": 7},
        {"scope": 3},
        {"quantity": -1},
        {"quantity": 1 << 31},
        {"quantity": (1 << 63) - 1},
    ],
)
def test_a_record_without_sense_is_dropped(fields: dict[str, int]) -> None:
    assert taken(fields) == []
