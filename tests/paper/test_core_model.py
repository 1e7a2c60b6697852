"""The matching and clearing core against an obvious model, with every invariant after every command."""

import pytest

from engine.paper import commands
from engine.paper.book import Book
from engine.paper.decide import decide
from engine.paper.effects import OrderEventKind
from engine.paper.model import (
    AMM_USER_ID,
)
from engine.paper.refusal import Code, Refusal
from engine.paper.state import State
from tests.paper.core_pair import Pair


@pytest.mark.parametrize("seed", range(8))
def test_core_equals_the_obvious_model(seed: int) -> None:
    assert {0, 2001, 4006, 5001} <= Pair(seed).run(500)


def run(seed: int, operations: int = 300) -> Pair:
    pair = Pair(seed)
    for _ in range(operations):
        pair.step()
    return pair


def test_deciding_changes_nothing() -> None:
    pair = run(5)
    tables = [
        pair.state.accounts,
        pair.state.orders,
        pair.state.positions["M1"],
        pair.state.markets,
        pair.state.trades,
    ]
    before = [dict(table) for table in tables]
    counts = len(pair.state.ledger), pair.state.next_id
    for _ in range(200):
        terms = pair.order_terms(pair.terms(), ioc=False)
        command = commands.PlaceOrder(user_id=pair.random.choice(["u1", "u2", AMM_USER_ID]), terms=terms)
        try:
            first = decide(pair.state, command, pair.at)
        except Refusal:
            continue
        assert decide(pair.state, command, pair.at) == first
    assert [dict(table) for table in tables] == before
    assert (len(pair.state.ledger), pair.state.next_id) == counts


def test_effects_alone_rebuild_the_exchange() -> None:
    pair = run(2)
    copy = State(first_id=10**18)
    for effects in pair.effects:
        copy.apply(effects)
    assert copy.accounts == pair.state.accounts
    assert copy.orders == pair.state.orders
    assert copy.positions == pair.state.positions
    assert copy.ledger == pair.state.ledger
    assert {name: book.queued() for name, book in copy.books.items()} == {
        name: book.queued() for name, book in pair.state.books.items()
    }


def test_order_events_fold_into_the_live_orders() -> None:
    pair = run(3, 600)
    live: dict[str, int] = {}
    for effects in pair.effects:
        for event in effects.order_events:
            order = event.order
            filled = event.kind is OrderEventKind.FILLED
            if event.kind is OrderEventKind.RESTED or (filled and order.id in live):
                live[order.id] = order.remaining_quantity
            elif event.kind is OrderEventKind.CANCELLED:
                live.pop(order.id, None)
    live = {order_id: remaining for order_id, remaining in live.items() if remaining}
    assert live == {row.id: row.remaining_quantity for row in pair.state.orders.values() if row.is_live}
    assert live


def test_rebuilt_book_equals_the_kept_one() -> None:
    pair = run(4, 600)
    for market, book in pair.state.books.items():
        rows = [row for row in pair.state.orders.values() if row.market_id == market]
        assert Book.rebuild(rows).queued() == book.queued()
        assert book.queued()


class TestAuditFindsDamage:
    """Each invariant can fail: a damaged row is named."""

    def damaged(self, **changes: object) -> set[str]:
        pair = run(1)
        pair.compare()
        for table, rows in changes.items():
            getattr(pair.state, table).update(rows(pair.state))
        return {breach.check for breach in pair.audit.check()}

    def test_cash(self) -> None:
        from msgspec.structs import replace

        def richer(state: State) -> dict[str, object]:
            account = state.accounts["u1"]
            return {"u1": replace(account, available_cents=account.available_cents + 1)}

        assert self.damaged(accounts=richer) == {"global_zero_sum", "ledger"}

    def test_freeze(self) -> None:
        from msgspec.structs import replace

        def thawed(state: State) -> dict[str, object]:
            account = next(row for row in state.accounts.values() if row.frozen_cents)
            return {account.user_id: replace(account, frozen_cents=0)}

        assert "freezes" in self.damaged(accounts=thawed)

    def test_pool(self) -> None:
        from msgspec.structs import replace

        def swollen(state: State) -> dict[str, object]:
            market = state.markets["M1"]
            return {"M1": replace(market, reserve_balance_cents=market.reserve_balance_cents + 100)}

        assert {"reserve_consistency", "cost_conservation", "global_zero_sum"} <= self.damaged(
            markets=swollen
        )

    def test_book(self) -> None:
        from msgspec.structs import replace

        def shrunk(state: State) -> dict[str, object]:
            order = next(row for row in state.orders.values() if row.is_live)
            return {order.id: replace(order, remaining_quantity=order.remaining_quantity + 1)}

        assert {"book", "order_quantities", "freezes"} <= self.damaged(orders=shrunk)


def test_refusals_name_value_and_rule() -> None:
    pair = run(0, 0)
    terms = pair.order_terms(("M1", "YES", "BUY", 100, 1), ioc=False)
    with pytest.raises(Refusal, match=r"price_cents 100, allowed 1\.\.99") as refused:
        decide(pair.state, commands.PlaceOrder(user_id="u1", terms=terms), pair.at)
    assert refused.value.code is Code.PRICE_OUT_OF_RANGE
