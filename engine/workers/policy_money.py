"""What a market has gained and lost, by the day's baseline (market-making §5.5).

Reads: the kernel's fair price.  Writes: nothing shared; policy saves the ledger.
"""

from __future__ import annotations

from typing import Final

from engine.alerts import Alert, Alerts, Severity
from engine.events import KillCause, Side
from engine.quoting import budget, kills
from engine.quoting.budget import Ledger
from engine.quoting.inventory import Stock
from engine.quoting.kills import Money
from engine.workers.clock import Clock
from engine.workers.market_kernel import MarketKernel
from engine.workers.market_terms import TermsInForce
from engine.workers.policy_standing import Standing


class MarketMoney:
    """``ledger`` is None before the first price of confirmed stock, ``now`` before this process's first."""

    def __init__(
        self, *, terms: TermsInForce, kernel: MarketKernel, ledger: Ledger | None, alert: Alerts
    ) -> None:
        """``ledger``: a predecessor's."""
        self.ledger = ledger
        self.now: Money | None = None
        self._terms: Final = terms
        self._kernel: Final = kernel
        self._alert: Final = alert
        self._reopened = ledger is not None  # a predecessor's, still to be held against the stock
        self._flows_cents = 0 if ledger is None else ledger.flows_cents
        self._near = KillCause(0)

    @property
    def day(self) -> int:
        """Number of the trading day; 0 before the first baseline."""
        return 0 if self.ledger is None else self.ledger.day

    def filled(self, *, side: Side, price_cents: int, shares: int, fee_cents: int) -> None:
        """One own fill that is being booked."""
        if self.ledger is not None and not self._reopened:
            self.ledger = budget.filled(
                self.ledger, side=side, price_cents=price_cents, shares=shares, fee_cents=fee_cents
            )

    def corrected(self, before: Stock, after: Stock) -> None:
        """Stock became what the venue says, without a trade."""
        if self.ledger is not None and not self._reopened:
            self.ledger = budget.corrected(self.ledger, before, after)

    def flows_are(self, total_cents: int) -> int:
        """What operators have put in so far, less what they took out; the part that is news (§5.5)."""
        known_cents = self._flows_cents if self.ledger is None else self.ledger.flows_cents
        self._flows_cents = total_cents
        if self.ledger is not None:
            self.ledger = budget.flowed(self.ledger, total_cents - known_cents)
        return total_cents - known_cents

    def mark(self, clock: Clock, standing: Standing) -> None:
        """Day, mark and money by the fair price; nothing before the first price of confirmed stock."""
        if not standing.synced or not self._kernel.ready:
            return
        fair, stock = self._kernel.fair.fair_price_cents, standing.stock
        day = budget.trading_day(clock.unix_ms, self._terms.config.quote.day_reset_tz)
        if self.ledger is None:
            self.ledger = budget.opened(stock, fair_price_cents=fair, day=day, flows_cents=self._flows_cents)
        if self._reopened:
            self._reopened = False
            self.ledger = budget.reopened(self.ledger, stock, fair)
        self.ledger = budget.marked(self.ledger, stock, fair)
        if self.ledger.day != day:
            self.ledger = budget.new_day(self.ledger, stock, day=day)
        self.now = budget.money(self.ledger, stock)
        self._warn(self.now)

    def _warn(self, money: Money) -> None:
        near = kills.near_limits(money, self._terms.config.quote)
        if near and near & ~self._near:
            self._alert(
                Alert.LIMIT_NEAR,
                Severity.WARNING,
                market=self._terms.config.id,
                limits=(near & ~self._near).name,
                daily_pnl_cents=money.daily_pnl_cents,
                budget_used_cents=money.budget_used_cents,
            )
        self._near = near
