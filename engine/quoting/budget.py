"""The market's money: day, profit, budget, and where profit comes from (market-making §5.5, §9, §12).

Exact integers, cents. ``s`` is the fair price the market is valued at, and a fill is booked at the ``s`` in
force, so that the parts add up to the change of assets to the cent.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct, structs

from engine.events import Side
from engine.quoting.inventory import Stock, assets_cents
from engine.quoting.kills import Money

_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_DAY_MS: Final = 86_400_000


class Ledger(Struct, frozen=True, kw_only=True):
    """Baselines and parts of profit; all of it survives a restart.

    ``Δassets = spread + inventory - fees + flows + corrections`` since ``start_assets_cents`` (§12 PnL
    identity).
    """

    day: int = 0  # proleptic ordinal of the trading day; 0 = no baseline yet
    day_start_assets_cents: int = 0
    day_flows_cents: int = 0  # administrator's deposits less withdrawals of the day
    start_assets_cents: int = 0
    flows_cents: int = 0  # the same since the start
    corrections_cents: int = 0  # what the venue's word changed without a trade we saw: profit or loss
    mark_cents: int = 0  # fair price everything so far is valued at
    spread_cents: int = 0  # Σ dir (p - s) Q
    inventory_cents: int = 0  # Σ (Y - N) Δs
    fees_cents: int = 0


def trading_day(unix_ms: int, zone: str) -> int:
    """Number of the day in ``zone`` (§9.4, D21); days begin at its midnight."""
    if zone == "UTC":
        return _EPOCH_DAY + unix_ms // _DAY_MS
    return datetime.fromtimestamp(unix_ms / 1000, ZoneInfo(zone)).toordinal()


def opened(stock: Stock, *, fair_price_cents: int, day: int, flows_cents: int = 0) -> Ledger:
    """The ledger at the market's first price; ``flows_cents`` came in or went out before it."""
    assets = assets_cents(stock, fair_price_cents)
    return Ledger(
        day=day,
        day_start_assets_cents=assets,
        start_assets_cents=assets - flows_cents,
        flows_cents=flows_cents,
        mark_cents=fair_price_cents,
    )


def new_day(ledger: Ledger, stock: Stock, *, day: int) -> Ledger:
    """§9.4: a new baseline; no latched kill is cleared by it."""
    return structs.replace(
        ledger,
        day=day,
        day_start_assets_cents=assets_cents(stock, ledger.mark_cents),
        day_flows_cents=0,
    )


def marked(ledger: Ledger, stock: Stock, fair_price_cents: int) -> Ledger:
    """The same stock valued at another fair price."""
    move_cents = fair_price_cents - ledger.mark_cents
    if move_cents == 0:
        return ledger
    return structs.replace(
        ledger,
        mark_cents=fair_price_cents,
        inventory_cents=ledger.inventory_cents + (stock.yes_volume - stock.no_volume) * move_cents,
    )


def filled(ledger: Ledger, *, side: Side, price_cents: int, shares: int, fee_cents: int) -> Ledger:
    """One leg of ours at a YES price; dir is +1 where YES exposure was sold."""
    direction = 1 if side == Side.ASK else -1
    return structs.replace(
        ledger,
        spread_cents=ledger.spread_cents + direction * (price_cents - ledger.mark_cents) * shares,
        fees_cents=ledger.fees_cents + fee_cents,
    )


def corrected(ledger: Ledger, before: Stock, after: Stock) -> Ledger:
    """Stock and cash became what the venue says: money that came or went without a trade we saw."""
    change_cents = assets_cents(after, ledger.mark_cents) - assets_cents(before, ledger.mark_cents)
    return structs.replace(ledger, corrections_cents=ledger.corrections_cents + change_cents)


def reopened(ledger: Ledger, stock: Stock, fair_price_cents: int) -> Ledger:
    """The ledger of a market that nobody carried for a while.

    Whatever became of it meanwhile is neither spread nor inventory profit, but profit or loss it is. A ledger
    without a mark or a start has only its day.
    """
    ledger = structs.replace(
        ledger,
        mark_cents=ledger.mark_cents or fair_price_cents,
        start_assets_cents=ledger.start_assets_cents or ledger.day_start_assets_cents,
    )
    missing_cents = unexplained_cents(ledger, stock)
    return structs.replace(ledger, corrections_cents=ledger.corrections_cents + missing_cents)


def flowed(ledger: Ledger, amount_cents: int) -> Ledger:
    """An administrator's deposit (positive) or withdrawal: no profit and no loss."""
    return structs.replace(
        ledger,
        day_flows_cents=ledger.day_flows_cents + amount_cents,
        flows_cents=ledger.flows_cents + amount_cents,
    )


def money(ledger: Ledger, stock: Stock) -> Money:
    """Assets, daily PnL and used budget at the ledger's mark."""
    assets = assets_cents(stock, ledger.mark_cents)
    since_start = assets - ledger.start_assets_cents - ledger.flows_cents
    return Money(
        assets_cents=assets,
        daily_pnl_cents=assets - ledger.day_start_assets_cents - ledger.day_flows_cents,
        budget_used_cents=max(0, -since_start),
    )


def unexplained_cents(ledger: Ledger, stock: Stock) -> int:
    """What the identity leaves over; 0, or the books are wrong."""
    assets = assets_cents(stock, ledger.mark_cents)
    earned = ledger.spread_cents + ledger.inventory_cents - ledger.fees_cents
    explained = earned + ledger.flows_cents + ledger.corrections_cents
    return assets - ledger.start_assets_cents - explained
