"""When a market's ladder is shown anew (market-making §3.8), and showing it.

Reads: the kernel's target.  Writes: order intents ring, through the ladder's sender.
"""

from __future__ import annotations

from typing import Any, Final

from engine._native import lib
from engine.events import News, Phase
from engine.quoting.requote import Basis, triggers
from engine.workers.clock import Clock
from engine.workers.holdings import Holdings
from engine.workers.intents import IntentWriter
from engine.workers.ladder_sender import LadderSender
from engine.workers.market_kernel import MarketKernel
from engine.workers.market_policy import MarketPolicy
from engine.workers.market_terms import TermsInForce
from engine.workers.own_orders import OwnOrders

_PLAN_RETRY_NS: Final = 20_000_000
_MESSAGES: Final = lib.PASS_BOOK | lib.PASS_TRADE | lib.PASS_VALIDITY


class Requoter:
    """One market's; ``counters`` is its ``quoter_state_t *``.

    ``wanted``: the book does not show the target yet. Fills, releases and answers set it where they arrive,
    the triggers of §3.8 here.
    """

    def __init__(
        self,
        *,
        terms: TermsInForce,
        kernel: MarketKernel,
        policy: MarketPolicy,
        orders: OwnOrders,
        holdings: Holdings,
        intents: IntentWriter,
        ladder: LadderSender,
        counters: Any,
    ) -> None:
        self.wanted = True
        self.paused_until_ns = 0  # monotonic; 0 = not paused
        self._terms = terms
        self._kernel = kernel
        self._policy = policy
        self._orders = orders
        self._holdings = holdings
        self._intents = intents
        self._ladder = ladder
        self._counters = counters
        self._quoted: Basis | None = None

    def forget(self) -> None:
        """The ladder was taken off the book: the next one needs no reason."""
        self._quoted = None

    def hold_back(self, clock: Clock, *, pause_ns: int, shut_ns: int) -> None:
        """After a refusal: no new ladder for ``pause_ns``; no new orders for ``shut_ns``, as if their tokens
        were spent, while what is to be cancelled is."""
        self._pause(clock, pause_ns)
        self._ladder.shut(clock, shut_ns)

    def _pause(self, clock: Clock, pause_ns: int) -> None:
        """A longer pause already begun holds."""
        self.paused_until_ns = max(self.paused_until_ns, clock.mono_ns + pause_ns)

    def end_pause(self, clock: Clock) -> None:
        """Once it is over."""
        if clock.mono_ns >= self.paused_until_ns:
            self.paused_until_ns = 0

    def requote(self, clock: Clock) -> None:
        """Sends what makes the book show the target, if anything asks for it; after a pause, during one."""
        basis = None
        if not self.wanted:
            basis = self._basis(clock)
            self._look_for_triggers(basis)
        if not self.wanted:
            return
        self.message_is_news()
        if not self.paused_until_ns:
            self._show(clock)
            # showing it moves nothing that it rests on
            self._quoted = self._basis(clock) if basis is None else basis

    def message_is_news(self) -> None:
        """The target is another one, and it is a message of this pass that made it so."""
        native = self._kernel.native
        if native.news & lib.PASS_TARGET and native.news & _MESSAGES:
            self._intents.news.came(News.MESSAGE, int(native.trigger_recv_ns))

    def _look_for_triggers(self, now: Basis) -> None:
        found = triggers(
            self._quoted,
            now,
            oldest_order_ms=self._orders.oldest_ms if now.phase == Phase.STABILIZATION else None,
            quote=self._terms.config.quote,
        )
        self.wanted = bool(found)

    def _show(self, clock: Clock) -> None:
        rules = self._terms.funding
        assert rules is not None, "the kernel is ready only after the rules came"
        sent, waiting = self._ladder.show(
            clock,
            stock=self._holdings.stock,
            rules=rules,
            reduce_only=self._policy.defence.is_one_side,
            max_age_ms=self._terms.config.quote.stabilization.max_order_age_ms,
        )
        if sent:
            self._counters.quotes += 1
        elif waiting:
            # an answer or a token is needed first: no busy loop over the same plan
            self._pause(clock, _PLAN_RETRY_NS)
        elif not self._orders.any_busy:
            self.wanted = False

    def _basis(self, clock: Clock) -> Basis:
        kernel, policy = self._kernel, self._policy
        return Basis(
            at_ms=clock.unix_ms,
            fair_price_cents=kernel.fair.fair_price_cents,
            touch_bid_cents=kernel.touch_bid_cents,
            touch_ask_cents=kernel.touch_ask_cents,
            phase=policy.phase.state.phase,
            level=policy.defence.state.level,
            multiplier=kernel.inputs.spread_multiplier,
            size_scale=kernel.inputs.size_scale,
            gates=policy.gates.state.held,
            config_version=self._terms.config_version,
        )
