"""The journal fold: live orders, presence and stock exactly as the exchange committed them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine._native import ffi, lib
from engine.events import Side
from engine.observer import JournalEntry, JournalFold, JournalPage, book_digest
from engine.paper.model import AMM_USER_ID

MARKET = "MKT-DEMO-01"
Effect = tuple[str, dict[str, Any]]
Commit = tuple[int, list[Effect]]


def order_step(
    order_id: str, book_side: str, price_cents: int, remaining: int, **changes: Any
) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "user_id": AMM_USER_ID,
        "market_id": MARKET,
        "book_side": book_side,
        "book_price_cents": price_cents,
        "remaining_quantity": remaining,
        **changes,
    }


def rested(order_id: str, book_side: str, price_cents: int, remaining: int = 100) -> Effect:
    return "ORDER_RESTED", order_step(order_id, book_side, price_cents, remaining)


def filled(order_id: str, book_side: str, price_cents: int, remaining: int) -> Effect:
    return "ORDER_FILLED", order_step(order_id, book_side, price_cents, remaining)


def cancelled(order_id: str, book_side: str, price_cents: int) -> Effect:
    return "ORDER_CANCELLED", order_step(order_id, book_side, price_cents, 100)


def pages(commits: Iterable[Commit], *, entries_per_page: int = 1000) -> list[JournalPage]:
    """Commits ``(at_unix_ns, [(kind, data)])`` as the journal would page them."""
    entries = []
    for number, (at_unix_ns, effects) in enumerate(commits, start=1):
        for kind, data in effects:
            entry = JournalEntry(
                sequence=len(entries) + 1,
                commit=number,
                at_unix_ns=at_unix_ns,
                kind=kind,
                data=msgspec.Raw(msgspec.json.encode(data)),
            )
            entries.append(entry)
    return [
        JournalPage(items=entries[start : start + entries_per_page], last_sequence=len(entries))
        for start in range(0, len(entries), entries_per_page)
    ]


def folded(commits: Iterable[Commit], *, entries_per_page: int = 1000) -> JournalFold:
    fold = JournalFold()
    for page in pages(commits, entries_per_page=entries_per_page):
        fold.add(page)
    return fold


LIFE: list[Commit] = [
    (100, [("ORDER_ACCEPTED", order_step("1", "BUY", 48, 100)), rested("1", "BUY", 48)]),
    (200, [rested("2", "SELL", 52)]),
    (300, [cancelled("2", "SELL", 52), rested("3", "SELL", 53)]),  # a replace: one commit
    (400, [filled("1", "BUY", 48, 60)]),
    (500, [filled("1", "BUY", 48, 0)]),
    (600, [rested("4", "BUY", 47)]),
]


@pytest.mark.parametrize("entries_per_page", [1, 2, 3, 1000])
def test_presence_is_judged_between_commits(entries_per_page: int) -> None:
    fold = folded(LIFE, entries_per_page=entries_per_page).market(MARKET)
    assert fold.both_sides.spans(700) == ((200, 500), (600, 700))
    assert fold.levels() == {(Side.ASK, 53): 100, (Side.BID, 47): 100}


def test_a_partial_fill_leaves_the_rest() -> None:
    fold = folded(LIFE[:4]).market(MARKET)
    assert fold.levels() == {(Side.BID, 48): 60, (Side.ASK, 53): 100}


def test_what_never_rested_is_never_live() -> None:
    taker = [
        ("ORDER_ACCEPTED", order_step("9", "BUY", 55, 100)),
        filled("9", "BUY", 55, 40),
        ("ORDER_CANCELLED", order_step("9", "BUY", 55, 40)),
    ]
    assert folded([(100, taker)]).market(MARKET).live == {}


def test_other_users_do_not_count() -> None:
    step = order_step("1", "BUY", 48, 100, user_id="somebody")
    position = {"user_id": "somebody", "market_id": MARKET, "yes": {"volume": 5}, "no": {"volume": 6}}
    fold = folded([(100, [("ORDER_RESTED", step), ("POSITION", position), ("USER", {"user_id": "x"})])])
    assert fold.market(MARKET).live == {}
    assert (fold.market(MARKET).yes_volume, fold.market(MARKET).no_volume) == (0, 0)


def test_stock_and_status_follow_their_rows() -> None:
    position = {"user_id": AMM_USER_ID, "market_id": MARKET, "yes": {"volume": 5}, "no": {"volume": 6}}
    fold = folded(
        [
            (100, [("MARKET", {"id": MARKET, "status": "ACTIVE"})]),
            (200, [("POSITION", position)]),
            (300, [("MARKET", {"id": MARKET, "status": "SUSPENDED"})]),
        ]
    ).market(MARKET)
    assert (fold.yes_volume, fold.no_volume, fold.status) == (5, 6, "SUSPENDED")
    assert fold.active.spans(400) == ((100, 300),)


def test_a_hole_in_the_journal_is_refused() -> None:
    first, second, third = pages([(1, [rested("1", "BUY", 48)] * 3)], entries_per_page=1)
    fold = JournalFold()
    fold.add(first)
    with pytest.raises(ValueError, match="continues with 3 after 1"):
        fold.add(third)
    fold.add(second)


@given(
    bids=st.dictionaries(st.integers(1, 99), st.integers(0, 10**9)),
    asks=st.dictionaries(st.integers(1, 99), st.integers(0, 10**9)),
)
def test_the_digest_is_the_kernels(bids: dict[int, int], asks: dict[int, int]) -> None:
    grid = ffi.new("price_grid_t *")
    lib.price_grid_cents(grid)
    size = lib.orderbook_bytes(101)
    memory = ffi.new("int64_t[]", size // 8)
    assert lib.orderbook_init(memory, size, grid) == lib.ORDERBOOK_OK
    book = ffi.cast("orderbook_t *", memory)
    for side, levels in ((Side.BID, bids), (Side.ASK, asks)):
        for price_cents, lots in levels.items():
            assert lib.orderbook_set_level(book, side, price_cents, lots) == lib.ORDERBOOK_OK
    assert book_digest(bids, asks) == lib.orderbook_digest(book)
