"""The history checker finds what is wrong; and a short run of the ambiguous outcomes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.faults import ambiguous
from tests.faults.history import Intents, doubled, explain

US = "us"


def sent(op: str, **fields: Any) -> dict[str, Any]:
    return {"type": "sent", "op": op, "market": "M", "at_ms": 1, "epoch": 1, "intent": 1, **fields}


def place(client_id: str, intent: int = 1, **fields: Any) -> dict[str, Any]:
    terms = {"side": "NO", "direction": "SELL", "price": 42, "quantity": 10}
    return sent("place", id=client_id, intent=intent, **{**terms, **fields})


def step(kind: str, client_id: str, order_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "kind": f"ORDER_{kind}",
        "data": {
            "order_id": order_id,
            "client_order_id": client_id,
            "user_id": US,
            "market_id": "M",
            "book_price_cents": 58,
            "original_side": "NO",
            "original_direction": "SELL",
            "order_quantity": 10,
            "cancel_reason": None,
            **fields,
        },
    }


def trade(scenario: str, buyer: str, seller: str, quantity: int) -> dict[str, Any]:
    data = {"market_id": "M", "scenario": scenario, "quantity": quantity, "trade_id": "t"}
    return {"kind": "TRADE", "data": {**data, "buy_user_id": buyer, "sell_user_id": seller}}


CANCELLED = {"cancel_reason": "USER_CANCELLED"}
JOURNAL = [step("RESTED", "a", "1"), step("CANCELLED", "a", "1", **CANCELLED)]


def test_a_history_with_its_reasons_is_explained() -> None:
    history = explain(JOURNAL, Intents([place("a"), sent("cancel", order="1")]), user_id=US)
    assert (history.problems, history.orders, history.cancels) == ([], 1, 1)


@pytest.mark.parametrize(
    ("entries", "lines", "complaint"),
    [
        (JOURNAL, [sent("cancel", order="1")], "no intent says so"),
        (JOURNAL, [place("a")], "nobody asked for it"),
        (JOURNAL, [place("a"), sent("cancel", order="2")], "nobody asked for it"),
        (JOURNAL[:1], [place("a", price=43)], "was sent as"),
        (JOURNAL[:1], [place("a", quantity=11)], "was sent as"),
        (JOURNAL[:1], [place("a", direction="BUY")], "was sent as"),
        ([*JOURNAL[:1], step("RESTED", "a", "2")], [place("a")], "became two orders"),
        ([], [place("a"), place("b")], "went out under 2 client order ids"),
        (
            [{"kind": "SUPPLY_KEY", "data": {"key": "k", "market_id": "M", "quantity": 5}}],
            [sent("mint", id="k", quantity=6)],
            "sent as",
        ),
        ([{"kind": "SUPPLY_KEY", "data": {"key": "k", "market_id": "M", "quantity": 5}}], [], "no intent"),
        (
            [step("CANCELLED", "a", "1", cancel_reason="REPLACED")],
            [place("a"), sent("replace", id="b", order="2", intent=2)],
            "nobody asked for it",
        ),
    ],
)
def test_what_cannot_be_explained_is_named(
    entries: list[dict[str, Any]], lines: list[dict[str, Any]], complaint: str
) -> None:
    (problem,) = explain(entries, Intents(lines), user_id=US).problems
    assert complaint in problem


@pytest.mark.parametrize(
    ("scenario", "bought", "sold"),
    [
        ("TRANSFER_YES", (5, 0), (-5, 0)),
        ("MINT", (5, 0), (0, 5)),
        ("TRANSFER_NO", (0, -5), (0, 5)),
        ("BURN", (0, -5), (-5, 0)),
    ],
)
def test_shares_follow_the_table_of_the_specification(
    scenario: str, bought: tuple[int, int], sold: tuple[int, int]
) -> None:
    for parties, expected in (((US, "x"), bought), (("x", US), sold)):
        held = explain([trade(scenario, *parties, 5)], Intents([]), user_id=US).holdings["M"]
        assert (held.yes, held.no) == expected


def test_pairs_come_and_go_by_their_audit_rows() -> None:
    entries = [trade("MINT", US, "SYSTEM", 7), trade("BURN", "SYSTEM", US, 2)]
    held = explain(entries, Intents([]), user_id=US).holdings["M"]
    assert (held.yes, held.no) == (5, 5)


def test_doubled_ids_are_named() -> None:
    assert doubled(["a", "b", "a"]) == ["a"]


@pytest.mark.timeout(300)
def test_ambiguous_outcomes_double_nothing_and_lose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The campaign itself, small; ``make ambiguous`` is the whole."""
    code = ambiguous.main(["--count", "150", "--seed", "11"])
    out = capsys.readouterr().out
    assert re.search(r"ambiguous outcomes \d+, double orders 0, lost fills 0, unexplained effects 0", out), (
        out
    )
    assert code == 0, out
