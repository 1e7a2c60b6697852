"""The exchange's books and ours, column by column. Pure.

``ours`` is computed from what the engine booked, leg by leg, with its own arithmetic; the exchange's order of
events decides only in which order it is computed, because cost released by a sale depends on it. What lies
before the journal's baseline was taken over from the exchange as a whole and is its word on both sides.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from engine.booking_journal import BookedLeg
from engine.books.exchange import ExchangeBooks, Leg, Supply
from engine.books.fold import Folded, FoldLeg, FoldSupply, effect_of, fold
from engine.books.ours import Bookings, Published
from engine.quoting.effects import PAIR_CENTS

Value = int | str | bool | None
Place = tuple[datetime, int]

SCENARIOS: Final = ("MINT", "TRANSFER_YES", "TRANSFER_NO", "BURN")
_LEG_COLUMNS: Final = ("scenario", "price", "quantity", "fee", "role", "order_id", "pnl")
_ORDER_COLUMNS: Final = ("side", "direction", "price", "qty", "remaining", "book_type")
_PAID_OUT: Final = frozenset({"SETTLED", "VOIDED"})
_SUPPLY_KINDS: Final = frozenset({"AMM_MINT", "AMM_BURN"})


class Comparison(Struct, frozen=True, kw_only=True, gc=False):
    """One cell. ``table``: where the exchange has it; ``row``: which row, "" = there is one."""

    table: str
    row: str
    column: str
    exchange: Value
    ours: Value
    source: str  # where ours comes from

    @property
    def equal(self) -> bool:
        return self.exchange == self.ours


class Ours(Struct, frozen=True, kw_only=True):
    """The day by our bookings: legs and supplies of all time at their places, and what they lead to."""

    legs: dict[str, Leg]  # of the day, by id; pnl by our fold
    folded: Folded
    supplies: dict[str, int]  # pairs of all time, by key
    adopted_legs: int
    adopted_supplies: int


def compare(
    exchange: ExchangeBooks, published: Published, bookings: Bookings, market_id: str
) -> list[Comparison]:
    """Every cell that was compared, equal or not."""
    ours = our_books(exchange, bookings, market_id)
    return [
        *_by_scenario(exchange, ours),
        *_day_end(exchange, bookings, ours),
        *_legs(exchange, bookings, ours, market_id),
        *_supply(exchange, ours),
        *_position(exchange, ours),
        *_account(exchange),
        *_published(exchange, published, bookings),
        *_orders(exchange, published),
    ]


def our_books(exchange: ExchangeBooks, bookings: Bookings, market_id: str) -> Ours:
    """Our legs and supplies, each at the place the exchange gave it.

    Taken over from the exchange: what it booked up to the baseline's trade, and mints that no engine asked
    for (its own at a market's start).
    """
    baseline = _baseline_place(exchange, bookings)
    legs: list[Leg] = []
    adopted = 0
    for leg in exchange.legs:
        booked = bookings.legs.get(leg.id)
        if booked is not None:
            legs.append(_as_booked(leg, booked))
        elif baseline is not None and leg.place <= baseline:
            adopted += 1
            legs.append(leg)
    at_exchange = {leg.id for leg in exchange.legs}
    legs += [
        _unknown_to_exchange(booked, exchange)
        for booked in bookings.legs.values()
        if booked.market == market_id and booked.id not in at_exchange
    ]
    own_keys = {key: supply for key, supply in bookings.supplies.items() if supply.market == market_id}
    supplies = {
        supply.key: own_keys[supply.key].pairs if supply.key in own_keys else supply.pairs
        for supply in exchange.supplies
        if supply.key in own_keys or _foreign(supply) or _before(supply, baseline)
    }
    if bookings.started_pairs and (starts := [supply for supply in exchange.supplies if _foreign(supply)]):
        supplies[starts[-1].key] = bookings.started_pairs
    supplies.update((key, supply.pairs) for key, supply in own_keys.items())
    folded = fold(
        [
            FoldLeg(
                id=leg.id,
                side=leg.side,
                scenario=leg.scenario,
                price=leg.price,
                quantity=leg.quantity,
                fee=leg.fee,
                place=leg.place,
            )
            for leg in legs
        ],
        [
            FoldSupply(pairs=supplies[supply.key], place=supply.place)
            for supply in exchange.supplies
            if supply.key in supplies
        ],
    )
    return Ours(
        legs={leg.id: replace(leg, pnl=folded.pnl.get(leg.id)) for leg in legs if leg.in_day},
        folded=folded,
        supplies=supplies,
        adopted_legs=adopted,
        adopted_supplies=len(supplies) - len(own_keys),
    )


def _as_booked(leg: Leg, booked: BookedLeg) -> Leg:
    """The leg with what we booked of it; its place and time stay the exchange's."""
    return replace(
        leg,
        side=booked.side,
        scenario=booked.scenario,
        price=booked.price,
        quantity=booked.quantity,
        fee=booked.fee,
        role=booked.role,
        order_id=booked.order or leg.order_id,
    )


def _unknown_to_exchange(booked: BookedLeg, exchange: ExchangeBooks) -> Leg:
    """What we booked and the exchange does not have, at the time it gave us."""
    executed_at = datetime.fromtimestamp(booked.executed_us / 1e6, UTC)
    return Leg(
        trade_id=booked.trade,
        side=booked.side,
        scenario=booked.scenario,
        price=booked.price,
        quantity=booked.quantity,
        fee=booked.fee,
        pnl=None,
        role=booked.role,
        order_id=booked.order,
        executed_at=executed_at,
        ledger_id=0,
        in_day=exchange.begin <= executed_at < exchange.end,
    )


def _baseline_place(exchange: ExchangeBooks, bookings: Bookings) -> Place | None:
    """Place of the newest row that our cash was taken over with; None without one."""
    if bookings.baseline is None or not bookings.baseline.cursor:
        return None
    rows = [*exchange.legs, *exchange.audit_rows]
    return max((row.place for row in rows if row.trade_id == bookings.baseline.cursor), default=None)


def _foreign(supply: Supply) -> bool:
    """Whether no engine made this key (§6.3): the exchange minted at the market's start."""
    return not supply.key.startswith(("amm_mint_", "amm_burn_"))


def _before(supply: Supply, baseline: Place | None) -> bool:
    return baseline is not None and supply.place <= baseline


def _cells(
    table: str, row: str, exchange: dict[str, Value], ours: dict[str, Value], source: str
) -> list[Comparison]:
    return [
        Comparison(table=table, row=row, column=name, exchange=value, ours=ours.get(name), source=source)
        for name, value in exchange.items()
    ]


def _totals(legs: list[Leg]) -> dict[str, Value]:
    return {
        "trade_count": len(legs),
        "total_quantity": sum(leg.quantity for leg in legs),
        "total_fees_paid": sum(leg.fee for leg in legs),
        "total_realized_pnl": sum(leg.pnl or 0 for leg in legs),
    }


def _by_scenario(exchange: ExchangeBooks, ours: Ours) -> list[Comparison]:
    found = []
    nothing = _totals([])
    for scenario in SCENARIOS:
        theirs: dict[str, Value] = {**nothing, **exchange.by_scenario.get(scenario, {})}
        own = _totals([leg for leg in ours.legs.values() if leg.scenario == scenario])
        found += _cells("trades (a)", scenario, theirs, own, "bookings")
    return found


def _day_end(exchange: ExchangeBooks, bookings: Bookings, ours: Ours) -> list[Comparison]:
    legs = list(ours.legs.values())
    counts = Counter(leg.scenario for leg in legs)
    own: dict[str, Value] = {
        "total_trades": len(legs),
        "total_volume": sum(leg.quantity for leg in legs),
        "mint_count": counts["MINT"],
        "transfer_yes_count": counts["TRANSFER_YES"],
        "transfer_no_count": counts["TRANSFER_NO"],
        "burn_count": counts["BURN"],
        "realized_pnl_cents": sum(leg.pnl or 0 for leg in legs),
        "total_fees_cents": sum(leg.fee for leg in legs),
        "net_ledger_flow": _our_flow(exchange, bookings, ours),
    }
    theirs: dict[str, Value] = {
        **exchange.day_end,
        "net_ledger_flow": sum(row.cents for row in exchange.ledger_day),
    }
    return _cells("day end (b)", "", theirs, own, "bookings")


def _our_flow(exchange: ExchangeBooks, bookings: Bookings, ours: Ours) -> int:
    """The account's ledger of the day with every trade and supply that we booked valued by us.

    A trade of the audited market that nobody here booked counts as nothing; other rows (deposits, freezes,
    payouts, other markets' trades before this engine) are the exchange's word.
    """
    by_trade: dict[str, int] = {}
    for leg in bookings.legs.values():
        effect = effect_of(leg.side, leg.scenario, leg.price, leg.quantity, leg.fee)
        by_trade[leg.trade] = by_trade.get(leg.trade, 0) + effect.cash_cents
    of_market = {leg.trade_id for leg in exchange.legs}
    adopted = {leg.trade_id for leg in ours.legs.values()}
    by_key = {key: supply.pairs for key, supply in bookings.supplies.items()} | ours.supplies
    market_keys = {supply.key for supply in exchange.supplies}
    flow = 0
    for row in exchange.ledger_day:
        flow += row.cents
        if row.reference_type == "TRADE":
            if row.reference_id in by_trade:
                flow += by_trade[row.reference_id] - row.moved_cents
            elif row.reference_id in of_market and row.reference_id not in adopted:
                flow -= row.moved_cents
        elif row.reference_type in _SUPPLY_KINDS:
            if row.reference_id in by_key:
                flow += -PAIR_CENTS * by_key[row.reference_id] - row.moved_cents
            elif row.reference_id in market_keys:
                flow -= row.moved_cents
    return flow


def _legs(exchange: ExchangeBooks, bookings: Bookings, ours: Ours, market_id: str) -> list[Comparison]:
    at_exchange = {leg.id for leg in exchange.legs}
    found = [
        _whole("trades", booked.id, "trade_id", None, booked.trade, "bookings")
        for booked in bookings.legs.values()
        if booked.market == market_id and booked.id not in at_exchange
    ]
    for leg in exchange.legs:
        if not leg.in_day:
            continue
        own = ours.legs.get(leg.id)
        if own is None:
            found.append(_whole("trades", leg.id, "trade_id", leg.trade_id, None, "bookings"))
            continue
        found += _cells(
            "trades",
            leg.id,
            {name: getattr(leg, name) for name in _LEG_COLUMNS},
            {name: getattr(own, name) for name in _LEG_COLUMNS},
            "bookings",
        )
    return found


def _whole(table: str, row: str, column: str, exchange: Value, ours: Value, source: str) -> Comparison:
    return Comparison(table=table, row=row, column=column, exchange=exchange, ours=ours, source=source)


def _supply(exchange: ExchangeBooks, ours: Ours) -> list[Comparison]:
    """(c): each mint and burn by its key, then what they must have led to."""
    found = []
    at_exchange = {supply.key: supply for supply in exchange.supplies}
    for key in sorted(at_exchange.keys() | ours.supplies.keys()):
        supply = at_exchange.get(key)
        pairs = ours.supplies.get(key)
        found.append(
            _whole("mint/burn", key, "quantity", None if supply is None else supply.pairs, pairs, "bookings")
        )
        if supply is not None:
            reserve = None if pairs is None else PAIR_CENTS * pairs
            found.append(_whole("mint/burn", key, "reserve", supply.reserve_cents, reserve, "bookings"))
    held, market = exchange.position, exchange.market
    shares = market["total_yes_shares"]
    over = exchange.status in _PAID_OUT
    checks: dict[str, Value] = {
        "yes_delta_ok": held["yes_volume"] == (0 if over else ours.folded.yes_volume),
        "no_delta_ok": held["no_volume"] == (0 if over else ours.folded.no_volume),
        "reserve_delta_ok": market["reserve_balance"] == PAIR_CENTS * shares
        and all(supply.reserve_cents == PAIR_CENTS * supply.pairs for supply in exchange.supplies),
        "shares_delta_ok": {shares, market["total_no_shares"], market["yes_held"], market["no_held"]}
        == {shares},
    }
    return found + _cells("mint/burn (c)", "", checks, dict.fromkeys(checks, True), "rule")


def _position(exchange: ExchangeBooks, ours: Ours) -> list[Comparison]:
    over = exchange.status in _PAID_OUT
    names = ("yes_volume", "yes_cost_sum", "no_volume", "no_cost_sum")
    return _cells(
        "positions",
        "",
        {name: exchange.position[name] for name in names},
        {name: 0 if over else getattr(ours.folded, name) for name in names},
        "bookings",
    )


def _account(exchange: ExchangeBooks) -> list[Comparison]:
    """The account's row against the exchange's own ledger and orders."""
    account = exchange.account
    return [
        _whole(
            "accounts",
            "",
            "available_balance",
            account["available_balance"],
            account["ledger_cents"],
            "ledger",
        ),
        _whole(
            "accounts", "", "frozen_balance", account["frozen_balance"], account["orders_frozen"], "orders"
        ),
    ]


def _published(exchange: ExchangeBooks, published: Published, bookings: Bookings) -> list[Comparison]:
    held = exchange.position
    theirs: dict[str, Value] = {
        "yes_volume": held["yes_volume"],
        "no_volume": held["no_volume"],
        "yes_available": held["yes_volume"] - held["yes_pending_sell"],
        "no_available": held["no_volume"] - held["no_pending_sell"],
        "yes_cost_sum_cents": held["yes_cost_sum"],
        "no_cost_sum_cents": held["no_cost_sum"],
        "cash_cents": exchange.cash_cents + bookings.outside_cents,
    }
    found = _cells("amm:inventory", "", theirs, dict(published.inventory), "Redis")
    newest = exchange.legs[-1].trade_id if exchange.legs else ""
    cursor = published.trade_cursor
    # a cursor taken over from the exchange may be a mint's record, which is listed among the trades
    later = [
        row.trade_id for row in exchange.audit_rows if not newest or row.place >= exchange.legs[-1].place
    ]
    cursor = newest if cursor in later or not exchange.legs else cursor
    found.append(_whole("amm:engine", "", "trade_cursor", newest, cursor, "Redis"))
    return found


def _orders(exchange: ExchangeBooks, published: Published) -> list[Comparison]:
    found = []
    for order_id in sorted(exchange.orders.keys() | published.orders.keys()):
        theirs, own = exchange.orders.get(order_id), published.orders.get(order_id)
        if theirs is None or own is None:
            found.append(
                _whole(
                    "amm:orders",
                    order_id,
                    "order_id",
                    None if theirs is None else order_id,
                    None if own is None else order_id,
                    "Redis",
                )
            )
            continue
        found += _cells(
            "amm:orders",
            order_id,
            {name: getattr(theirs, name) for name in _ORDER_COLUMNS},
            {name: getattr(own, name) for name in _ORDER_COLUMNS},
            "Redis",
        )
    return found
