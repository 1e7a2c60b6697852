"""One reader per endpoint, both dialects: the answer itself tells which it is in (platform §2.8)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from engine.venues import platform_built as built
from engine.venues import platform_wire as wire
from engine.venues.platform_built import BuiltTrades, Reader

US = "00000000-0000-4000-a000-000000000001"
THEM = "7d3f1f0e-0000-4000-a000-000000000002"
AT = "2026-11-21T10:00:00Z"
ORDER: dict[str, Any] = {
    "id": "17",
    "client_order_id": "amm_1",
    "market_id": "M",
    "original_side": "YES",
    "original_direction": "BUY",
    "original_price_cents": 41,
    "book_type": "NATIVE_BUY",
    "quantity": 10,
    "filled_quantity": 4,
    "remaining_quantity": 6,
    "status": "PARTIALLY_FILLED",
    "created_at": AT,
}
TAKE = {"buy_order_id": "17", "sell_order_id": "16", "price": 40, "quantity": 4, "scenario": "MINT"}
ROW = {
    "trade_id": "900",
    "market_id": "M",
    "scenario": "MINT",
    "price": 40,
    "quantity": 4,
    "buy_user_id": US,
    "sell_user_id": THEM,
    "taker_fee": 1,
    "buy_realized_pnl": None,
    "sell_realized_pnl": None,
    "executed_at": AT,
}


def body(data: object) -> bytes:
    return json.dumps(data).encode()


def enveloped(data: object) -> bytes:
    return body({"code": 0, "message": "success", "data": data, "timestamp": AT, "request_id": "req_0"})


def placing() -> tuple[BuiltTrades, Reader[wire.PlacedOrder]]:
    trades = BuiltTrades()
    return trades, Reader(wire.PlacedOrder, built.BuiltPlaced, bare=True, as_contract=trades.placed)


def test_an_order_is_the_same_in_both() -> None:
    _, reader = placing()
    contract = reader.read(enveloped({"order": ORDER, "trades": [{"trade_id": "900", "quantity": 4}]}))
    as_built = reader.read(body({"order": ORDER, "trades": [TAKE], "netting_result": None}))
    assert contract == as_built
    assert as_built.order.original_price_cents == 41


def test_one_order_a_list_and_a_cancel() -> None:
    one = Reader[wire.FoundOrder](wire.FoundOrder, wire.VenueOrder, bare=True, as_contract=built.found_order)
    assert one.read(enveloped({"order": ORDER, "trades": []})) == one.read(body(ORDER))
    many = Reader[wire.Page[wire.VenueOrder]](wire.Page[wire.VenueOrder], bare=True)
    page = {"items": [ORDER], "next_cursor": "c", "has_more": True}
    assert many.read(enveloped(page)) == many.read(body(page))
    cancel = Reader[wire.CancelledOrder](wire.CancelledOrder, bare=True)
    answer = {"order_id": "17", "status": "CANCELLED", "remaining_quantity_cancelled": 6}
    assert cancel.read(enveloped(answer)) == cancel.read(body(answer))


def test_a_replace_tells_less() -> None:
    trades = BuiltTrades()
    reader = Reader[wire.ReplacedOrder](wire.ReplacedOrder, built.BuiltReplaced, as_contract=trades.replaced)
    lean: dict[str, Any] = {
        "id": "18",
        "client_order_id": "amm_2",
        "status": "OPEN",
        "quantity": 9,
        "filled": 0,
        "remaining": 9,
    }
    new = reader.read(enveloped({"old_order_id": "17", "new_order": lean, "trades": []})).new_order
    assert (new.id, new.filled_quantity, new.remaining_quantity, new.live) == ("18", 0, 9, True)
    full = {**ORDER, "side": "YES", "direction": "BUY", "price_cents": 41}
    assert (
        reader.read(enveloped({"old_order_id": "17", "new_order": full, "trades": []})).new_order.id == "17"
    )


def test_positions_flat_and_nested() -> None:
    reader = Reader[wire.Position](wire.Position, built.BuiltPosition, as_contract=built.position)
    nested = {"yes": {"volume": 4, "cost_sum_cents": 160}, "no": {"volume": 0, "cost_sum_cents": 0}}
    flat = {"yes_volume": 4, "yes_cost_sum": 160, "no_volume": 0, "no_cost_sum": 0}
    assert reader.read(enveloped(nested)) == reader.read(enveloped(flat))


@pytest.mark.parametrize(
    "answer",
    [b"{}", b"[]", b"null", b'{"detail": "no"}', b'{"code": 0, "data": {}}', body({"order": ORDER}), b"{"],
)
def test_neither_dialect_is_no_answer(answer: bytes) -> None:
    _, reader = placing()
    with pytest.raises(msgspec.MsgspecError):
        reader.read(answer)


class TestTradeRows:
    def page(self, *rows: dict[str, Any]) -> wire.Page[built.BuiltTrade]:
        return msgspec.convert({"items": rows}, wire.Page[built.BuiltTrade])

    def test_what_an_order_took_costs_the_fee(self) -> None:
        trades, reader = placing()
        reader.read(body({"order": ORDER, "trades": [TAKE]}))
        for _ in range(2):  # the same whenever it is listed
            (leg,) = trades.page(self.page(ROW), US).items
            assert (leg.my_side, leg.role, leg.fee_cents, leg.order_id) == ("BUY", "TAKER", 1, "17")
            assert leg.executed_at == datetime(2026, 11, 21, 10, tzinfo=UTC)

    def test_every_other_row_was_made_by_a_resting_order(self) -> None:
        trades, reader = placing()
        reader.read(body({"order": ORDER, "trades": [TAKE]}))
        newer = {**ROW, "trade_id": "901"}
        resting, taking = trades.page(self.page(newer, ROW), US).items  # newest first
        assert (taking.trade_id, taking.role) == ("900", "TAKER")
        assert (resting.role, resting.fee_cents, resting.order_id) == ("MAKER", 0, "")

    @pytest.mark.parametrize("change", [{"price": 39}, {"quantity": 5}, {"scenario": "TRANSFER_YES"}])
    def test_another_trade_is_not_taken_for_it(self, change: dict[str, Any]) -> None:
        trades, reader = placing()
        reader.read(body({"order": ORDER, "trades": [TAKE]}))
        (leg,) = trades.page(self.page({**ROW, **change}), US).items
        assert leg.role == "MAKER"

    def test_both_legs_of_a_trade_with_ourselves(self) -> None:
        trades, _ = placing()
        legs = trades.page(self.page({**ROW, "sell_user_id": US}), US).items
        assert sorted(leg.my_side for leg in legs) == ["BUY", "SELL"]

    def test_a_stranger_has_none(self) -> None:
        trades, _ = placing()
        assert trades.page(self.page(ROW), "somebody").items == []

    def test_an_audit_row_is_known_as_one(self) -> None:
        trades, _ = placing()
        (leg,) = trades.page(self.page({**ROW, "sell_user_id": "SYSTEM"}), US).items
        assert leg.audit
