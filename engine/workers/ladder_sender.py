"""From the kernel's target ladder to intents (market-making §3.7, §5.5, §6.1): funded, compared, paid for.

Writes: order intents ring.
"""

from __future__ import annotations

from typing import Any

from engine.quoting.funding import FundingRules, Level, fund
from engine.quoting.inventory import Stock
from engine.quoting.orders import Action, Cancel, Place, Replace, diff, more_aggressive
from engine.quoting.tokens import Tokens, affordable
from engine.risk.rate import TokenBucket
from engine.workers.clock import Clock
from engine.workers.intents import IntentWriter
from engine.workers.market_kernel import MarketKernel
from engine.workers.own_orders import OwnOrders


class LadderSender:
    """One market's; ``counters`` is its ``quoter_state_t *``."""

    def __init__(
        self,
        *,
        kernel: MarketKernel,
        orders: OwnOrders,
        intents: IntentWriter,
        counters: Any,
        order_tokens: TokenBucket,
        replace_tokens: TokenBucket,
    ) -> None:
        self._kernel = kernel
        self._orders = orders
        self._intents = intents
        self._counters = counters
        self._order_tokens = order_tokens
        self._replace_tokens = replace_tokens

    def show(self, clock: Clock, *, stock: Stock, rules: FundingRules, max_age_ms: int) -> tuple[int, bool]:
        """Sends what makes the book show the target: (requests sent, whether anything has to wait)."""
        target = self._kernel.target
        actions, waiting = diff(
            fund(
                bids=[_level(target.bids[i]) for i in range(target.bid_count)],
                asks=[_level(target.asks[i]) for i in range(target.ask_count)],
                stock=stock,
                rules=rules,
            ),
            self._orders.live,
            stock=stock,
            taker_fee_bps=rules.taker_fee_bps,
            now_ms=clock.unix_ms,
            max_age_ms=max_age_ms,
        )
        chosen = affordable(
            actions,
            orders=_tokens(self._order_tokens, clock),
            replaces=_tokens(self._replace_tokens, clock),
        )
        self._intents.chosen()
        for action in chosen:
            self._send(action, clock)
        return len(chosen), waiting or len(chosen) < len(actions)

    def shut(self, clock: Clock, shut_ns: int) -> None:
        """No placements and no replaces for so long."""
        for bucket in (self._order_tokens, self._replace_tokens):
            bucket.shut(clock.mono_ns + shut_ns)

    def cancel_aggressive(self, clock: Clock) -> bool:
        """POST_FILL: what is nearer the market than the new target goes, the rest stays (§5.3). Whether an
        order has to wait for that."""
        cancels, waiting = more_aggressive(
            self._orders.live,
            touch_bid_cents=self._kernel.touch_bid_cents,
            touch_ask_cents=self._kernel.touch_ask_cents,
        )
        self._intents.chosen()
        for cancel in cancels:
            self._send(cancel, clock)
        return waiting

    def _send(self, action: Action, clock: Clock) -> None:
        counters, orders = self._counters, self._orders
        match action:
            case Cancel(live=live):
                orders.leaving(live, self._intents.cancel(live, clock))
                self._order_tokens.take(clock.mono_ns)
                counters.cancels += 1
            case Replace(live=live, desired=desired):
                intent = self._intents.replace(live, desired, clock)
                orders.leaving(live, intent, replaced=True)
                orders.asked_for(desired, intent, clock)
                self._replace_tokens.take(clock.mono_ns)
                counters.replaces += 1
            case Place(desired=desired):
                orders.asked_for(desired, self._intents.place(desired, clock), clock)
                self._order_tokens.take(clock.mono_ns)
                counters.places += 1


def _tokens(bucket: TokenBucket, clock: Clock) -> Tokens:
    return Tokens(left=bucket.tokens(clock.mono_ns), capacity=bucket.capacity)


def _level(level: Any) -> Level:
    return Level(price_cents=level.price_ticks, quantity=level.lots)
