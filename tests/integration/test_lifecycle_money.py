"""Operators' commands at a real gateway whose exchange loses answers (§8): money moves once, or not at all.

Acceptance row 13 of market-making §14, the exactly-once of fund and withdraw, and a start that fails alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine._native import ffi, lib
from engine.events import ExecutionKind, GatewayCounter, LocalReject, OrderKind
from tests.integration.gateway_rig import MARKET, OTHER_MARKET, Exchange, GatewayRig, fault_at
from tests.integration.worker_rig import until

FUNDING_CENTS = 500_000
CASH_CENTS = 250_000

pytestmark = pytest.mark.timeout(200)


class Operator:
    """The control process's end of the gateway's command ring."""

    def __init__(self, rig: GatewayRig) -> None:
        self.rig = rig
        self._ring = rig.arena.command_ring(lib.PROCESS_GATEWAY)
        assert lib.message_acquire(self._ring, 1) == lib.RING_OK
        self._number = 0

    def send(self, kind: int, *, slot: int = 0, cents: int = 0) -> int:
        self._number += 1
        record = ffi.new(
            "command_record_t *",
            {
                "kind": kind,
                "market_slot": slot,
                "number": self._number,
                "amount_cents": cents,
                "mono_ns": lib.mono_now_ns(),
            },
        )
        assert lib.message_publish(self._ring, lib.COMMAND_RING_SLOTS, 1, record) == lib.RING_OK
        lib.bell_ring(self.rig.arena.process(lib.PROCESS_GATEWAY), self.rig.gateway_bell)
        return self._number

    def answer(self, number: int) -> int:
        until(lambda: self.rig.counter(GatewayCounter.COMMAND_NUMBER) >= number, f"command {number} to end")
        code = self.rig.counter(GatewayCounter.COMMAND_CODE)
        return code - (1 << 64) if code >> 63 else code

    def do(self, kind: int, **fields: int) -> int:
        return self.answer(self.send(kind, **fields))


def deposits(exchange: Exchange) -> list[int]:
    entries = exchange.amm.get("account/ledger?limit=100")["items"]
    return [entry["amount_cents"] for entry in entries if entry["entry_type"] in ("DEPOSIT", "WITHDRAW")]


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    with Exchange(tmp_path, faults=True) as started:
        yield started


@pytest.fixture
def rig(tmp_path: Path, exchange: Exchange) -> Iterator[GatewayRig]:
    made = GatewayRig(tmp_path, exchange.url, request_timeout_ms=500)
    yield made
    made.close()


def test_a_deposit_without_an_answer_is_found_and_not_repeated(rig: GatewayRig, exchange: Exchange) -> None:
    rig.start_gateway()
    operator = Operator(rig)
    exchange.set_faults(fault_at("/account/deposit", {"type": "drop_reply"}, times=1))
    assert operator.do(lib.COMMAND_FUND, cents=12_345) == 0
    assert deposits(exchange) == [12_345, FUNDING_CENTS]
    assert rig.cash_cents() == exchange.cash_cents() == CASH_CENTS + 12_345
    told = rig.quoters[0].expect(ExecutionKind.CASH, cash_cents=CASH_CENTS + 12_345)
    assert told["quantity"] == 12_345, "the quoter hears that it is an operator's money"

    exchange.set_faults(fault_at("/account/deposit", {"type": "drop_request"}))
    assert operator.do(lib.COMMAND_FUND, cents=777) == LocalReject.NOT_READY
    assert rig.cash_cents() == exchange.cash_cents() == CASH_CENTS + 12_345


@pytest.mark.parametrize("kind", ["fund", "withdraw"])
def test_a_gateway_that_dies_between_the_money_and_its_book(
    rig: GatewayRig, exchange: Exchange, kind: str
) -> None:
    """kill -9 while the answer is lost: the successor books what happened, and the command ends well."""
    process = rig.start_gateway()
    operator = Operator(rig)
    fund = kind == "fund"
    path, command = ("deposit", lib.COMMAND_FUND) if fund else ("withdraw", lib.COMMAND_WITHDRAW)
    exchange.set_faults(fault_at(f"/account/{path}", {"type": "drop_reply"}, times=1))
    number = operator.send(command, cents=5_000)
    after_cents = CASH_CENTS + (5_000 if fund else -5_000)
    until(lambda: exchange.cash_cents() == after_cents, "the exchange has moved the money")
    rig.kill_gateway(process)
    assert rig.cash_cents() == CASH_CENTS, "not booked yet"
    rig.start_gateway()
    assert operator.answer(number) == 0
    assert exchange.cash_cents() == after_cents, "and not a second time"
    assert rig.cash_cents() == after_cents
    assert rig.quoters[0].sync()["cash"] == after_cents
    assert deposits(exchange) == [5_000 if fund else -5_000, FUNDING_CENTS]


def test_a_mint_that_fails_leaves_the_market_unfunded_until_it_is_started_again(
    tmp_path: Path,
) -> None:
    """Row 13: START_FAILED instead of stock, whoever asks; a START takes the money up where it was left."""
    exchange = Exchange(tmp_path, admins=("operator",), faults=True)
    rig = GatewayRig(tmp_path, exchange.url)
    try:
        exchange.set_faults(fault_at("/amm/mint", {"type": "answer", "status": 422, "moment": "before"}))
        rig.start_gateway()
        quoter = rig.quoters[0]
        quoter.expect(ExecutionKind.START_FAILED)
        quoter.ask(OrderKind.SYNC)
        until(lambda: len(quoter.of(ExecutionKind.START_FAILED)) >= 2, "the same answer to a SYNC")
        assert not quoter.of(ExecutionKind.POSITION, ExecutionKind.CASH)
        assert not rig.account().funded
        operator = Operator(rig)
        assert operator.do(lib.COMMAND_START) == 422
        assert operator.do(lib.COMMAND_FUND, cents=1) == LocalReject.NOT_READY
        exchange.set_faults()
        assert operator.do(lib.COMMAND_START) == 0
        assert operator.do(lib.COMMAND_START) == 0, "done again it does nothing"
        assert quoter.sync()["cash"] == rig.cash_cents() == exchange.cash_cents() == CASH_CENTS
        assert deposits(exchange) == [FUNDING_CENTS]
    finally:
        rig.close()
        exchange.end()


def test_one_market_that_cannot_start_leaves_the_other_alone(tmp_path: Path) -> None:
    """Row 16: a start that is refused for one market is no matter of the other's."""
    exchange = Exchange(tmp_path, faults=True)
    rig = GatewayRig(tmp_path, exchange.url, markets=(MARKET, OTHER_MARKET))
    try:
        refuse = {"type": "answer", "status": 422, "moment": "before"}
        rule = fault_at("/admin/amm/start", refuse)
        rule["match"]["markets"] = [MARKET]
        exchange.set_faults(rule)
        rig.start_gateway()
        rig.quoters[0].expect(ExecutionKind.START_FAILED)
        assert rig.quoters[1].sync()["cash"] == CASH_CENTS
        assert not rig.quoters[1].of(ExecutionKind.START_FAILED)
        time.sleep(0.3)
        assert rig.state(lib.PROCESS_GATEWAY) == lib.PROCESS_RUNNING
    finally:
        rig.close()
        exchange.end()
