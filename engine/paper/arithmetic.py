"""Integer arithmetic of the exchange: conversion, fees, freezes, costs (contract sections 5.1, 5.4-5.6).

The engine computes the same figures for itself in its own package. The two are written twice on purpose:
the exchange is what the engine is checked against, so neither may inherit the other's mistake.
"""

from enum import Enum
from typing import Final

from engine.paper.model import PAIR_CENTS, AssetType, BookType, Direction, Scenario, Side

BPS: Final = 10_000

BOOK_TYPE: Final = {
    (Side.YES, Direction.BUY): BookType.NATIVE_BUY,
    (Side.YES, Direction.SELL): BookType.NATIVE_SELL,
    (Side.NO, Direction.BUY): BookType.SYNTHETIC_SELL,
    (Side.NO, Direction.SELL): BookType.SYNTHETIC_BUY,
}
"""(outcome, direction) as the user says it -> kind of order on the YES book (5.1)."""

BOOK_DIRECTION: Final = {
    BookType.NATIVE_BUY: Direction.BUY,
    BookType.SYNTHETIC_BUY: Direction.BUY,
    BookType.NATIVE_SELL: Direction.SELL,
    BookType.SYNTHETIC_SELL: Direction.SELL,
}

SCENARIO: Final = {
    (BookType.NATIVE_BUY, BookType.SYNTHETIC_SELL): Scenario.MINT,
    (BookType.NATIVE_BUY, BookType.NATIVE_SELL): Scenario.TRANSFER_YES,
    (BookType.SYNTHETIC_BUY, BookType.SYNTHETIC_SELL): Scenario.TRANSFER_NO,
    (BookType.SYNTHETIC_BUY, BookType.NATIVE_SELL): Scenario.BURN,
}
"""(buying book type, selling book type) -> scenario (5.3)."""

SHARES_OF: Final = {Side.YES: AssetType.YES_SHARES, Side.NO: AssetType.NO_SHARES}


class FeeRule(Enum):
    """Whom a fill charges."""

    BOTH_SIDES = "maker and taker"
    TAKER_UNLESS_BUYING_NO = "the taker alone, and not if it buys NO"


def charged_bps(rule: FeeRule, bps: int, *, takes: bool, taker_type: BookType) -> int:
    """An order's fee rate ``bps`` as ``rule`` leaves it; ``taker_type`` is the taking order's kind."""
    if rule is FeeRule.BOTH_SIDES:
        return bps
    return bps if takes and taker_type is not BookType.SYNTHETIC_SELL else 0


def book_price_cents(side: Side, price_cents: int) -> int:
    """Price on the YES book of an order that names ``side`` at ``price_cents``; its own inverse (5.1)."""
    return price_cents if side is Side.YES else PAIR_CENTS - price_cents


def fee_cents(value_cents: int, fee_bps: int) -> int:
    """Fee on a traded value: basis points rounded up to a whole cent, 0 for a zero value or rate (5.4)."""
    return (value_cents * fee_bps + BPS - 1) // BPS


def target_freeze_cents(price_cents: int, remaining: int, taker_fee_bps: int) -> int:
    """Cash a buy order with ``remaining`` shares at the user's own price must hold frozen (5.6)."""
    value_cents = price_cents * remaining
    return value_cents + fee_cents(value_cents, taker_fee_bps)


def released_cost_cents(volume: int, cost_sum_cents: int, quantity: int) -> int:
    """Cost that leaves a holding with ``quantity`` of its ``volume`` shares; dust stays behind (5.5)."""
    return cost_sum_cents if quantity == volume else cost_sum_cents * quantity // volume


def void_shares_cents(reserve_cents: int, costs_cents: dict[str, int]) -> dict[str, int]:
    """Split a voided market's reserve by cost, ascending user id, remainder to the last payer (5.9)."""
    payers = [user_id for user_id in sorted(costs_cents) if costs_cents[user_id] > 0]
    total_cents = sum(costs_cents[user_id] for user_id in payers)
    shares = {user_id: costs_cents[user_id] * reserve_cents // total_cents for user_id in payers}
    if payers:
        shares[payers[-1]] += reserve_cents - sum(shares.values())
    return shares
