"""The table of market-making §2.6, typed in cell by cell: what our leg of a trade does."""

from __future__ import annotations

from fractions import Fraction

# (scenario, our book side) -> (outcome that moves, sign of its volume, sign of cash)
TABLE = {
    ("TRANSFER_YES", "BUY"): ("YES", +1, -1),
    ("MINT", "BUY"): ("YES", +1, -1),
    ("TRANSFER_NO", "BUY"): ("NO", -1, +1),
    ("BURN", "BUY"): ("NO", -1, +1),
    ("TRANSFER_YES", "SELL"): ("YES", -1, +1),
    ("MINT", "SELL"): ("NO", +1, -1),
    ("TRANSFER_NO", "SELL"): ("NO", +1, -1),
    ("BURN", "SELL"): ("YES", -1, +1),
}


def after_leg(
    stock: dict[str, int], *, scenario: str, side: str, price: int, quantity: int, fee: int
) -> dict[str, int]:
    """``stock`` has keys YES, NO (shares), YES_COST, NO_COST, CASH (cents); returns the one after the leg."""
    outcome, volume_sign, cash_sign = TABLE[scenario, side]
    user_price = price if outcome == "YES" else 100 - price
    result = dict(stock)
    result["CASH"] += cash_sign * user_price * quantity - fee
    result[outcome] += volume_sign * quantity
    if volume_sign > 0:
        result[f"{outcome}_COST"] += user_price * quantity
    else:
        share_sold = Fraction(quantity, stock[outcome])
        result[f"{outcome}_COST"] -= int(stock[f"{outcome}_COST"] * share_sold)
    return result
