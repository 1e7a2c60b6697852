"""From the kernel's target ladder to intents (market-making §3.7, §5.5, §6.1): funded, compared, paid for.

The plan is made by ``native/ladder_plan.c`` and sent by ``native/order_intents.c``.

Writes: order intents ring.
"""

from __future__ import annotations

from typing import Any, Final

from engine._native import ffi, lib
from engine.quoting.funding import FundingRules
from engine.quoting.inventory import Stock
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
        self._intents: Final = intents
        self._order_tokens: Final = order_tokens
        self._replace_tokens: Final = replace_tokens
        self._rules: FundingRules | None = None  # as the plan has them
        self._plan: Final[Any] = ffi.new("ladder_plan_t *")
        self._plan.target, self._plan.orders = ffi.addressof(kernel.target), orders.native
        self._plan.order_tokens.capacity = order_tokens.capacity
        self._plan.replace_tokens.capacity = replace_tokens.capacity
        self._sender: Final[Any] = ffi.new("ladder_sender_t *")
        self._sender.plan, self._sender.basis = self._plan, intents.basis
        self._sender.outbox, self._sender.counters = intents.outbox.native, counters
        # what the structs above point to lives as long as they do
        self._kept: Final = (kernel, orders, counters)

    def show(
        self, clock: Clock, *, stock: Stock, rules: FundingRules, reduce_only: bool, max_age_ms: int
    ) -> tuple[int, bool]:
        """Sends what makes the book show the target: (requests sent, whether anything has to wait).

        ``reduce_only``: no buys, whatever ``rules`` say (D8). ValueError for what cannot be.
        """
        plan = self._plan
        if rules is not self._rules:
            self._take_rules(rules)
        plan.rules.allow_buy = rules.allow_buy and not reduce_only
        plan.yes_lots, plan.no_lots, plan.cash_cents = stock.yes_volume, stock.no_volume, stock.cash_cents
        plan.now_ms, plan.max_age_ms = clock.unix_ms, max_age_ms
        plan.order_tokens.left = self._order_tokens.tokens(clock.mono_ns)
        plan.replace_tokens.left = self._replace_tokens.tokens(clock.mono_ns)
        code = lib.ladder_plan(plan)
        if code != lib.LADDER_OK:
            raise ValueError(f"ladder_plan: code {code} for rules {rules}")
        self._send(clock)
        return plan.action_count, bool(plan.waiting)

    def shut(self, clock: Clock, shut_ns: int) -> None:
        """No placements and no replaces for so long."""
        for bucket in (self._order_tokens, self._replace_tokens):
            bucket.shut(clock.mono_ns + shut_ns)

    def cancel_aggressive(self, clock: Clock) -> bool:
        """POST_FILL: what is nearer the market than the new target goes, the rest stays (§5.3). Whether an
        order has to wait for that."""
        lib.ladder_retreat(self._plan)
        self._send(clock)
        return bool(self._plan.waiting)

    def _take_rules(self, rules: FundingRules) -> None:
        native = self._plan.rules
        native.cash_reserve_cents, native.position_limit = rules.cash_reserve_cents, rules.position_limit
        native.order_quantity_max = rules.order_quantity_max
        native.order_amount_max_cents = rules.order_amount_max_cents
        native.taker_fee_bps, native.buy_share_bp = rules.taker_fee_bps, rules.buy_share_bp
        self._rules = rules

    def _send(self, clock: Clock) -> None:
        """The plan, as it stands; its requests are paid for once they are out."""
        sender = self._sender
        lib.ladder_chosen(sender)
        if not self._plan.action_count:
            return
        self._intents.answer()
        try:
            self._intents.outbox.send_ladder(sender)
        finally:
            for _ in range(sender.order_requests):
                self._order_tokens.take(clock.mono_ns)
            for _ in range(sender.replace_requests):
                self._replace_tokens.take(clock.mono_ns)
