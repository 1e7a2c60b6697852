"""Pairs into cash and cash into pairs (market-making §9), and burning what is left at the end (D22).

Writes: order intents ring.
"""

from __future__ import annotations

from typing import Any

import structlog

from engine.alerts import Alert, Alerts, Severity
from engine.quoting import supply
from engine.quoting.supply import Merge, Mint, SupplyView
from engine.workers.clock import Clock
from engine.workers.holdings import Holdings
from engine.workers.intents import IntentWriter
from engine.workers.market_kernel import MarketKernel
from engine.workers.market_policy import MarketPolicy
from engine.workers.market_terms import TermsInForce

_log = structlog.get_logger()


class PairSupply:
    """One market's; ``counters`` is its ``quoter_state_t *``."""

    def __init__(
        self,
        *,
        terms: TermsInForce,
        kernel: MarketKernel,
        policy: MarketPolicy,
        holdings: Holdings,
        intents: IntentWriter,
        counters: Any,
        alert: Alerts,
    ) -> None:
        self._terms = terms
        self._kernel = kernel
        self._policy = policy
        self._holdings = holdings
        self._intents = intents
        self._counters = counters
        self._alert = alert
        self._intent = -1  # of the last plan; -1 = none
        self._plan: type[Merge | Mint] = Mint

    def plan(self, clock: Clock, *, market_active: bool) -> None:
        """Sends what §9 asks for, if anything: at most once a minute."""
        stock, frozen = self._holdings.stock, self._holdings.frozen
        last_ms = self._counters.last_supply_ms
        plan = supply.plan(
            SupplyView(
                stock=stock,
                yes_available=stock.yes_volume - frozen.yes_volume,
                no_available=stock.no_volume - frozen.no_volume,
                free_cash_cents=stock.cash_cents - frozen.cash_cents,
                phase=self._policy.phase.current,
                level=self._policy.defence.level,
                market_active=market_active,
                left_ms=self._kernel.inputs.trading_end_ms - clock.unix_ms,
                since_last_ms=clock.unix_ms - last_ms if last_ms else None,
            ),
            self._terms.config.quote,
        )
        if plan is None:
            return
        self._counters.last_supply_ms = clock.unix_ms
        self._intent, self._plan = self._intents.supply(plan), type(plan)
        _log.info("supply", market=self._terms.config.id, plan=type(plan).__name__, pairs=plan.pairs)

    def refused(self, intent: int, code: int) -> bool:
        """A REJECTED; False when it does not answer the last plan."""
        if intent != self._intent:
            return False
        failed = Alert.AUTO_MERGE_FAILED if self._plan is Merge else Alert.AUTO_MINT_FAILED
        self._alert(failed, Severity.WARNING, market=self._terms.config.id, code=code)
        return True

    def burn(self, pairs: int) -> int:
        """Winding down; returns the intent's number."""
        intent = self._intents.supply(Merge(pairs=pairs))
        _log.info("winding_down", market=self._terms.config.id, pairs=pairs)
        return intent
