"""What an exchange's journal says of an account's rate limits, and how long each wished cancel took.

Times are Unix ns by one machine's clock. A limit of so many requests in a fixed minute is judged by the
most in *any* sixty seconds, which is at least as strict and needs no window's phase. A cancel is done when
the exchange has committed that the order is gone.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

MINUTE_NS = 60_000_000_000

Entry = dict[str, Any]


class OrderLife(Struct, kw_only=True):
    """One order of the account at the exchange; ``ended_ns`` None = still live."""

    market: str
    began_ns: int
    ended_ns: int | None = None


class Requests(Struct, kw_only=True):
    """The account's requests that had an effect, and what became of its orders."""

    placed_ns: list[int] = []
    replaced_ns: dict[str, list[int]] = {}  # by market
    orders: dict[str, OrderLife] = {}  # by the exchange's id
    client_ids: set[str] = set()


class Wish(Struct, frozen=True, kw_only=True):
    """A cancel that a quoter decided on: of one order, or (``order`` empty) of all orders of its market."""

    market: str
    decided_ns: int
    order: str = ""


def requests_of(entries: Iterable[Entry], *, user_id: str) -> Requests:
    """Folds ``GET /admin/journal`` for one account."""
    found = Requests(placed_ns=[], replaced_ns=defaultdict(list), orders={}, client_ids=set())
    replacing_commit = -1  # the newest commit in which an order made room for another
    for entry in entries:
        kind, data, at_ns = entry["kind"], entry["data"], entry["at_unix_ns"]
        if not kind.startswith("ORDER_") or data["user_id"] != user_id:
            continue
        order = found.orders.get(data["order_id"])
        if order is None:
            order = OrderLife(market=data["market_id"], began_ns=at_ns)
            found.orders[data["order_id"]] = order
            found.client_ids.add(data["client_order_id"])
            if entry["commit"] == replacing_commit:
                found.replaced_ns[order.market].append(at_ns)
            else:
                found.placed_ns.append(at_ns)
        if kind == "ORDER_CANCELLED":
            order.ended_ns = at_ns
            if data["cancel_reason"] == "REPLACED":
                replacing_commit = entry["commit"]
        elif kind == "ORDER_FILLED" and data["remaining_quantity"] == 0:
            order.ended_ns = at_ns
    return found


def most_in_a_minute(times_ns: Sequence[int]) -> int:
    """The largest number of them within any sixty seconds."""
    most, window = 0, deque[int]()
    for at_ns in sorted(times_ns):
        window.append(at_ns)
        while at_ns - window[0] >= MINUTE_NS:
            window.popleft()
        most = max(most, len(window))
    return most


def waits_ns(wishes: Iterable[Wish], requests: Requests, *, end_ns: int) -> list[tuple[int, Wish]]:
    """How long each wish's orders stayed at the exchange, longest first; ``end_ns``: when it was read.

    A wish for a whole market means every order that was there when it was decided.
    """
    by_market: dict[str, list[OrderLife]] = defaultdict(list)
    for order in requests.orders.values():
        by_market[order.market].append(order)
    found = []
    for wish in wishes:
        if wish.order:
            meant = [requests.orders[wish.order]] if wish.order in requests.orders else []
        else:
            meant = [order for order in by_market[wish.market] if order.began_ns <= wish.decided_ns]
        ends = [end_ns if order.ended_ns is None else order.ended_ns for order in meant]
        found.append((max(0, max(ends, default=0) - wish.decided_ns), wish))
    return sorted(found, key=lambda wait: -wait[0])
