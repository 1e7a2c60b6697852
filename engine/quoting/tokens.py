"""Spending the request budget on a plan of actions (market-making §5.5), most urgent first. Pure.

Risk cancels are never held back; replaces and placements are paid in the order of the plan (touch levels
before deeper ones) and leave a tenth of each bucket for cancels to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from engine.quoting.orders import Action, Cancel, Replace

CANCEL_SHARE: Final = 10  # one in so many tokens of a bucket is kept for cancels


class Tokens(Struct, frozen=True, kw_only=True):
    """One bucket: what it holds now, and when full."""

    left: int
    capacity: int

    @property
    def spendable(self) -> int:
        """For anything but a cancel."""
        return max(0, self.left - self.capacity // CANCEL_SHARE)


def affordable(actions: Sequence[Action], *, orders: Tokens, replaces: Tokens) -> list[Action]:
    """The actions to send now, in order; the rest waits for tokens.

    ``orders``: the account's bucket, paid by every placement and cancel; ``replaces``: the market's own.
    Cancels draw on the orders bucket whatever is in it, so they come before anything else in the count.
    """
    cancels = sum(isinstance(action, Cancel) for action in actions)
    order_tokens, replace_tokens = orders.spendable - cancels, replaces.spendable
    chosen: list[Action] = []
    for action in actions:
        if isinstance(action, Replace):
            replace_tokens -= 1
            if replace_tokens < 0:
                continue
        elif not isinstance(action, Cancel):
            order_tokens -= 1
            if order_tokens < 0:
                continue
        chosen.append(action)
    return chosen
