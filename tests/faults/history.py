"""Whether an exchange's history is explained, completely, by what the engine wrote down before it sent.

Two texts are compared: the exchange's journal (``GET /admin/journal``: every committed effect in commit
order) and the gateway's intent journal. No code of either side is imported, least of all code that computes
money: both are read as plain JSON, and shares and cash are added up here once more, by the table of
market-making §2.6.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct

PAIR_CENTS = 100
PROBLEMS_MAX = 20

Entry = dict[str, Any]


class Holding(Struct, kw_only=True):
    """What one account holds in one market, as the history says."""

    yes: int = 0
    no: int = 0
    cash_cents: int = 0


class History(Struct, kw_only=True):
    """The result: counts of what was explained, and every sentence that could not be."""

    orders: int = 0
    cancels: int = 0
    fills: int = 0
    supplies: int = 0
    problems: list[str] = []
    holdings: dict[str, Holding] = {}

    def complain(self, problem: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


class Intents:
    """The intent journal, indexed by what an effect at the exchange can be traced to."""

    def __init__(self, lines: Iterable[Entry]) -> None:
        self.orders: dict[str, Entry] = {}
        self.replaced: dict[str, list[str]] = defaultdict(list)
        self.cancelled: set[str] = set()
        self.swept: set[str] = set()
        self.supplies: dict[str, Entry] = {}
        self.ids_of_intent: dict[tuple[int, int, str], set[str]] = defaultdict(set)
        for line in lines:
            if line["type"] != "sent":
                continue
            match line["op"]:
                case "place" | "replace":
                    self.orders[line["id"]] = line
                    self.ids_of_intent[line["epoch"], line["intent"], line["market"]].add(line["id"])
                    if line["op"] == "replace":
                        self.replaced[line["order"]].append(line["id"])
                case "cancel":
                    self.cancelled.add(line["order"])
                case "batch":
                    self.swept.add(line["market"])
                case "mint" | "burn":
                    self.supplies[line["id"]] = line

    @classmethod
    def of_run(cls, run_dir: Path) -> Intents:
        """All segments that are still there. A last line that was cut off is left out."""
        lines = []
        for segment in sorted((run_dir / "intents").glob("*.jsonl")):
            whole = segment.read_bytes().split(b"\n")[:-1]
            lines += [json.loads(raw) for raw in whole]
        return cls(lines)


def explain(entries: Iterable[Entry], intents: Intents, *, user_id: str) -> History:
    """Walks the exchange's journal; everything that ``user_id`` did or suffered must have its reason."""
    history = History(problems=[], holdings=defaultdict(Holding))
    order_of: dict[str, str] = {}  # client order id -> exchange's id
    for intent, ids in intents.ids_of_intent.items():
        if len(ids) > 1:
            history.complain(f"intent {intent} went out under {len(ids)} client order ids: {sorted(ids)}")
    for entry in entries:
        kind, data = entry["kind"], entry["data"]
        if kind.startswith("ORDER_") and data["user_id"] == user_id:
            _order(history, intents, order_of, kind, data)
        elif kind == "TRADE":
            _trade(history, data, user_id)
        elif kind == "LEDGER" and data["user_id"] == user_id and data["market_id"] is not None:
            history.holdings[data["market_id"]].cash_cents += data["amount_cents"]
        elif kind == "SUPPLY_KEY":
            _supply(history, intents, data)
    return history


def _order(history: History, intents: Intents, order_of: dict[str, str], kind: str, data: Entry) -> None:
    client_id, order_id = data["client_order_id"], data["order_id"]
    if client_id not in order_of:
        order_of[client_id] = order_id
        history.orders += 1
        _same_terms(history, intents.orders.get(client_id), data)
    elif order_of[client_id] != order_id:
        history.complain(f"{client_id} became two orders: {order_of[client_id]} and {order_id}")
    if kind == "ORDER_CANCELLED":
        history.cancels += 1
        reason = data["cancel_reason"]
        explained = {
            "USER_CANCELLED": order_id in intents.cancelled,
            "BATCH_CANCELLED": data["market_id"] in intents.swept,
            "REPLACED": order_id in intents.replaced,
        }.get(reason, False)
        if not explained:
            history.complain(f"order {order_id} was cancelled ({reason}), and nobody asked for it")


def _same_terms(history: History, sent: Entry | None, data: Entry) -> None:
    """The order at the exchange is the one that was written down."""
    name = f"order {data['order_id']} ({data['client_order_id']})"
    if sent is None:
        history.complain(f"{name} is live at the exchange, and no intent says so")
        return
    yes_price = sent["price"] if sent["side"] == "YES" else PAIR_CENTS - sent["price"]
    ours = (sent["market"], sent["side"], sent["direction"], yes_price, sent["quantity"])
    theirs = (
        data["market_id"],
        data["original_side"],
        data["original_direction"],
        data["book_price_cents"],
        data["order_quantity"],
    )
    if ours != theirs:
        history.complain(f"{name} is {theirs} at the exchange, and was sent as {ours}")


def _trade(history: History, data: Entry, user_id: str) -> None:
    """Shares by the table of §2.6, and the audit rows of mint and burn."""
    holding, quantity = history.holdings[data["market_id"]], data["quantity"]
    parties = {data["buy_user_id"], data["sell_user_id"]}
    if "SYSTEM" in parties:
        if user_id in parties:
            pairs = quantity if data["scenario"] == "MINT" else -quantity
            holding.yes += pairs
            holding.no += pairs
        return
    if data["buy_user_id"] == user_id:
        history.fills += 1
        if data["scenario"] in ("TRANSFER_YES", "MINT"):
            holding.yes += quantity
        else:
            holding.no -= quantity
    if data["sell_user_id"] == user_id:
        history.fills += 1
        if data["scenario"] in ("TRANSFER_YES", "BURN"):
            holding.yes -= quantity
        else:
            holding.no += quantity


def _supply(history: History, intents: Intents, data: Entry) -> None:
    history.supplies += 1
    if data["key"].startswith("amm_start_"):
        return  # the exchange's own: it mints when an operator starts the market maker in a market
    sent = intents.supplies.get(data["key"])
    if sent is None:
        history.complain(f"key {data['key']} was used at the exchange, and no intent says so")
    elif (sent["market"], sent["quantity"]) != (data["market_id"], data["quantity"]):
        history.complain(f"key {data['key']}: {data['quantity']} in {data['market_id']}, sent as {sent}")


def doubled(client_ids: Iterable[str]) -> list[str]:
    """Ids that occur more than once."""
    return [client_id for client_id, count in Counter(client_ids).items() if count > 1]
