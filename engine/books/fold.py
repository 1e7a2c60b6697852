"""What a series of legs, mints and burns leads to, by the engine's own rules (market-making §2.6). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from msgspec import Struct

from engine.events import Scenario, Side
from engine.quoting.effects import PAIR_CENTS, FillEffect, cost_sum_after, fill_effect

_SIDES: Final = {"B": Side.BID, "S": Side.ASK}


class FoldLeg(Struct, frozen=True, kw_only=True, gc=False):
    """A leg at its place in the exchange's order; ``place``: time and ledger id."""

    id: str
    side: str  # B or S
    scenario: str
    price: int
    quantity: int
    fee: int
    place: tuple[datetime, int]


class FoldSupply(Struct, frozen=True, kw_only=True, gc=False):
    """A mint (``pairs`` > 0) or burn at its place."""

    pairs: int
    place: tuple[datetime, int]


class Folded(Struct, frozen=True, kw_only=True):
    """Shares and cost sums (cents) in the end; ``pnl`` of every closing leg by its id, before fees."""

    yes_volume: int
    yes_cost_sum: int
    no_volume: int
    no_cost_sum: int
    pnl: dict[str, int]


def effect_of(side: str, scenario: str, price: int, quantity: int, fee: int) -> FillEffect:
    """The effect of one leg. ValueError for one that cannot be."""
    return fill_effect(
        scenario=Scenario[scenario],
        book_side=_SIDES[side],
        price_cents=price,
        quantity=quantity,
        fee_cents=fee,
    )


def fold(legs: Iterable[FoldLeg], supplies: Iterable[FoldSupply]) -> Folded:
    """Books everything in the exchange's order. ValueError when more shares leave than there are."""
    events: list[FoldLeg | FoldSupply] = [*legs, *supplies]
    events.sort(key=_order)
    volume = {True: 0, False: 0}  # of YES, of NO
    cost = {True: 0, False: 0}
    pnl: dict[str, int] = {}

    def move(yes: bool, change: int, value_cents: int) -> int:
        """Returns the cost that was released."""
        before = cost[yes]
        cost[yes] = cost_sum_after(
            volume=volume[yes], cost_sum_cents=before, change=change, value_cents=value_cents
        )
        volume[yes] += change
        return before - cost[yes]

    for event in events:
        if isinstance(event, FoldSupply):
            for yes in (True, False):
                move(yes, event.pairs, max(0, event.pairs) * PAIR_CENTS // 2)
            continue
        effect = effect_of(event.side, event.scenario, event.price, event.quantity, event.fee)
        yes = effect.yes_volume != 0
        released = move(yes, effect.yes_volume or effect.no_volume, effect.value_cents)
        if effect.yes_volume + effect.no_volume < 0:
            pnl[event.id] = effect.value_cents - released
    return Folded(
        yes_volume=volume[True],
        yes_cost_sum=cost[True],
        no_volume=volume[False],
        no_cost_sum=cost[False],
        pnl=pnl,
    )


def _order(event: FoldLeg | FoldSupply) -> tuple[datetime, int, bool]:
    """The exchange's order; of one trade's two legs the closing one first (platform §5.3)."""
    opens = True
    if isinstance(event, FoldLeg):
        effect = effect_of(event.side, event.scenario, event.price, event.quantity, event.fee)
        opens = effect.yes_volume + effect.no_volume > 0
    return (*event.place, opens)
