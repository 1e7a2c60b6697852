"""What one leg of a trade does to stock and money: the table and the cost rule of market-making §2.6.

The one place on the engine's side where this arithmetic is written; the quoter applies it to its
inventory, the gateway to the account's split over markets. The paper exchange has its own on purpose.
Integers only: shares and cents.
"""

from __future__ import annotations

from msgspec import Struct

from engine.events import Scenario, Side

PAIR_CENTS = 100  # what one YES and one NO share are worth together


class FillEffect(Struct, frozen=True, kw_only=True):
    """Signed changes by one leg. At most one of the volumes changes."""

    yes_volume: int  # shares
    no_volume: int  # shares
    value_cents: int  # user price x quantity, unsigned: what an opening leg adds to its cost sum
    cash_cents: int  # net of the fee


def fill_effect(
    *, scenario: Scenario, book_side: Side, price_cents: int, quantity: int, fee_cents: int
) -> FillEffect:
    """The effect of our leg on ``book_side`` of a trade at ``price_cents`` (YES terms, 1..99).

    ValueError for a price, quantity or fee no venue can have booked.
    """
    if not (0 < price_cents < PAIR_CENTS and quantity > 0 and fee_cents >= 0):
        raise ValueError(f"price_cents={price_cents} quantity={quantity} fee_cents={fee_cents}: no such fill")
    if book_side == Side.BID:
        yes = scenario in {Scenario.TRANSFER_YES, Scenario.MINT}  # BUY YES, else SELL NO
        opens = yes
    else:
        yes = scenario in {Scenario.TRANSFER_YES, Scenario.BURN}  # SELL YES, else BUY NO
        opens = not yes
    value_cents = (price_cents if yes else PAIR_CENTS - price_cents) * quantity
    change = quantity if opens else -quantity
    return FillEffect(
        yes_volume=change if yes else 0,
        no_volume=0 if yes else change,
        value_cents=value_cents,
        cash_cents=(-value_cents if opens else value_cents) - fee_cents,
    )


def cost_sum_after(*, volume: int, cost_sum_cents: int, change: int, value_cents: int) -> int:
    """Cost sum of one outcome after its volume changed by ``change`` shares (§2.6).

    A buy adds its value; a sale of q of v shares releases floor(cost * q / v), so selling everything
    releases everything. ``volume`` is the one before the change; ValueError when it would fall below 0.
    """
    if change >= 0:
        return cost_sum_cents + (value_cents if change else 0)
    if volume + change < 0:
        raise ValueError(f"sale of {-change} out of {volume} shares")
    return cost_sum_cents - cost_sum_cents * -change // volume
