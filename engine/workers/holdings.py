"""What a quoted market holds: its stock by its own fills, mints and burns, corrected by the venue (§7).

Reads: execution records.  Writes: the kernel's stock, the policy's ledger, its state row's stock version.
"""

from __future__ import annotations

from typing import Any

import structlog
from msgspec import structs

from engine._native import ffi
from engine.alerts import Alert, Alerts, Severity
from engine.events import Scenario, Side
from engine.quoting.drift import Drift, compare
from engine.quoting.inventory import AppliedTrades, Frozen, Stock, apply_trade, free_pairs, leg_id
from engine.workers.clock import Clock
from engine.workers.market_kernel import MarketKernel
from engine.workers.market_policy import MarketPolicy
from engine.workers.market_terms import TermsInForce
from engine.workers.own_orders import OwnOrders

_log = structlog.get_logger()


class Holdings:
    """``stock`` includes what own orders hold; ``counters`` is the market's ``quoter_state_t *``."""

    def __init__(
        self,
        *,
        terms: TermsInForce,
        kernel: MarketKernel,
        orders: OwnOrders,
        policy: MarketPolicy,
        counters: Any,
        alert: Alerts,
    ) -> None:
        self.stock = Stock()
        self.oversold_syncs = 0  # SYNCs in a row that found more for sale than held
        self._applied = AppliedTrades(terms.config.quote.processed_lru_size)
        self._terms = terms
        self._kernel = kernel
        self._orders = orders
        self._policy = policy
        self._counters = counters
        self._alert = alert

    @property
    def frozen(self) -> Frozen:
        """What live orders hold."""
        return self._orders.held(self._terms.taker_fee_bps)

    @property
    def free_pairs(self) -> int:
        """Pairs of shares that no live order holds; below zero when more is for sale than held."""
        return free_pairs(self.stock, self._orders.held(self._terms.taker_fee_bps))

    @property
    def is_oversold(self) -> bool:
        """A2: more is for sale than held."""
        return self.free_pairs < 0

    def first_seen(self, fill: Any) -> bool:
        """Notes the leg of a FILL record; False when it was known."""
        leg = leg_id(bytes(ffi.buffer(fill.trade_id)).rstrip(b"\0").decode(), Side(fill.book_side))
        return self._applied.add(leg)

    def book(self, fill: Any, clock: Clock) -> bool:
        """Moves stock and ledger by a FILL record; False when it contradicts the stock, which then stays."""
        side = Side(fill.book_side)
        try:
            after = apply_trade(
                self.stock,
                scenario=Scenario(fill.scenario),
                book_side=side,
                price_cents=fill.price_cents,
                quantity=fill.quantity,
                own_fee_cents=fill.fee_cents,
            )
        except ValueError as error:
            _log.error("fill_contradicts_stock", market=self._terms.config.id, reason=str(error))
            return False
        self._policy.own_fill(
            side=side,
            price_cents=fill.price_cents,
            shares=fill.quantity,
            fee_cents=fill.fee_cents,
            venue_unix_ms=fill.venue_unix_ns // 1_000_000,
            clock=clock,
        )
        self._become(after)
        return True

    def flows_are(self, total_cents: int) -> None:
        """An operator's money is neither profit nor drift: it is booked before anything is compared."""
        news_cents = self._policy.money.flows_are(total_cents)
        if news_cents and self._counters.syncs:
            self._become(structs.replace(self.stock, cash_cents=self.stock.cash_cents + news_cents))

    def correct_to(self, venue: Stock) -> None:
        """Stock by the venue's books, without a trade."""
        if venue == self.stock:
            return
        self._policy.money.corrected(self.stock, venue)
        self._become(venue)

    def reconcile(self, venue: Stock, *, over: bool) -> None:
        """§7.5: the first SYNC is taken as it is; a later one only when it differs by more than
        the tolerances.

        ``over``: the market's shares become cash, so that any difference is expected.
        """
        if not self._counters.syncs:
            self._become(venue)
            return
        found = compare(self.stock, venue, self._terms.config.quote)
        if found.drift == Drift.NONE:
            return
        market = self._terms.config.id
        if found.netting:
            self._alert(
                Alert.INVENTORY_NETTING_OVERRIDE, Severity.CRITICAL, market=market, **found.differences
            )
        if not over:
            if found.drift == Drift.TOLERATED:
                self._alert(
                    Alert.INVENTORY_DRIFT_WARNING, Severity.WARNING, market=market, **found.differences
                )
                return
            self._alert(Alert.INVENTORY_DRIFT_CRITICAL, Severity.CRITICAL, market=market, **found.differences)
        self.correct_to(venue)

    def count_oversold(self) -> None:
        """After a SYNC's stock and orders were taken."""
        self.oversold_syncs = self.oversold_syncs + 1 if self.is_oversold else 0

    def _become(self, stock: Stock) -> None:
        self.stock = stock
        self._counters.inventory_version += 1
        self._kernel.set_stock(stock)
