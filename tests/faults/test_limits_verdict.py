"""The judge of rate limits and cancels is judged: each fault it exists for, planted by hand."""

from __future__ import annotations

from typing import Any

from tests.faults.limits_verdict import MINUTE_NS, Wish, most_in_a_minute, requests_of, waits_ns

OURS = "ours"
SECOND_NS = 1_000_000_000


class Journal:
    """An exchange's journal, a commit at a time."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self._commits = 0

    def commit(self, at_s: float, *steps: tuple[str, str, dict[str, Any]], user: str = OURS) -> None:
        """``steps``: (kind, order id, further fields)."""
        self._commits += 1
        for kind, order, fields in steps:
            data = {
                "order_id": order,
                "client_order_id": f"c-{order}",
                "user_id": user,
                "market_id": "M",
                "remaining_quantity": 10,
                "cancel_reason": None,
                **fields,
            }
            self.entries.append(
                {
                    "commit": self._commits,
                    "at_unix_ns": round(at_s * SECOND_NS),
                    "kind": f"ORDER_{kind}",
                    "data": data,
                }
            )


def test_orders_and_replaces_are_told_apart_and_others_do_not_count() -> None:
    journal = Journal()
    journal.commit(1, ("ACCEPTED", "a", {}), ("RESTED", "a", {}))
    journal.commit(2, ("RESTED", "x", {}), user="theirs")
    journal.commit(3, ("CANCELLED", "a", {"cancel_reason": "REPLACED"}), ("ACCEPTED", "b", {}))
    journal.commit(4, ("FILLED", "b", {"remaining_quantity": 4}))
    journal.commit(5, ("FILLED", "b", {"remaining_quantity": 0}))
    found = requests_of(journal.entries, user_id=OURS)
    assert found.placed_ns == [SECOND_NS]
    assert dict(found.replaced_ns) == {"M": [3 * SECOND_NS]}
    assert {name: order.ended_ns for name, order in found.orders.items()} == {
        "a": 3 * SECOND_NS,
        "b": 5 * SECOND_NS,
    }
    assert found.client_ids == {"c-a", "c-b"}


def test_the_worst_minute_is_found_whatever_its_phase() -> None:
    times_ns = [0, 40 * SECOND_NS, 50 * SECOND_NS, 95 * SECOND_NS, 99 * SECOND_NS]
    assert most_in_a_minute(times_ns) == 4, "from the 40th second"
    assert most_in_a_minute([0, MINUTE_NS]) == 1, "a minute later is another minute"
    assert most_in_a_minute([]) == 0


def test_a_cancel_waits_until_its_order_has_ended_however_it_ended() -> None:
    journal = Journal()
    for name in ("a", "b", "c", "late"):
        journal.commit(6 if name == "late" else 1, ("RESTED", name, {}))
    journal.commit(5.5, ("CANCELLED", "a", {}))
    journal.commit(7, ("FILLED", "b", {"remaining_quantity": 0}))
    found = requests_of(journal.entries, user_id=OURS)
    wishes = [
        Wish(market="M", decided_ns=5 * SECOND_NS, order="a"),
        Wish(market="M", decided_ns=5 * SECOND_NS, order="c"),  # never carried out
        Wish(market="M", decided_ns=8 * SECOND_NS, order="b"),  # gone before it was wished
        Wish(market="other", decided_ns=5 * SECOND_NS),
    ]
    waits = waits_ns(wishes, found, end_ns=9 * SECOND_NS)
    assert [(wait / SECOND_NS, wish.order) for wait, wish in waits] == [
        (4.0, "c"),
        (0.5, "a"),
        (0.0, "b"),
        (0.0, ""),
    ]


def test_a_wish_for_a_market_means_what_was_there_when_it_was_decided() -> None:
    journal = Journal()
    journal.commit(1, ("RESTED", "a", {}))
    journal.commit(6, ("RESTED", "later", {}))
    journal.commit(7, ("CANCELLED", "a", {}))
    found = requests_of(journal.entries, user_id=OURS)
    ((wait, _),) = waits_ns([Wish(market="M", decided_ns=5 * SECOND_NS)], found, end_ns=99 * SECOND_NS)
    assert wait == 2 * SECOND_NS
