"""The terms a market is quoted on: its configuration, hot reloaded (§10), and the venue's rules for it.

Reads: its market slot's config.  Writes: the kernel's parameters.
"""

from __future__ import annotations

from typing import Any

import structlog

from engine import config as configuration
from engine._native import ffi, lib
from engine.alerts import Alert, Alerts, Severity
from engine.arena import Arena, cell
from engine.config import ConfigError, MarketConfig
from engine.quoting.funding import FundingRules
from engine.quoting.ratios import basis_points
from engine.workers.market_kernel import MarketKernel

_log = structlog.get_logger()


class TermsInForce:
    """``config`` and the rules hold together or not at all: a pair the kernel refuses changes nothing.

    ``funding`` is None, and ``taker_fee_bps`` 0, until the venue's rules are known.
    """

    def __init__(
        self,
        *,
        arena: Arena,
        slot: int,
        config: MarketConfig,
        config_version: int,
        kernel: MarketKernel,
        started_at_ms: int,
        alert: Alerts,
    ) -> None:
        """``started_at_ms``: the market's first start, Unix ms."""
        self.config = config
        self.config_version = config_version
        self.funding: FundingRules | None = None
        self.taker_fee_bps = 0
        self._arena = arena
        self._slot = slot
        self._kernel = kernel
        self._started_at_ms = started_at_ms
        self._alert = alert
        self._rules: Any = None  # market_rules_record_t *

    def take_rules(self, rules: Any) -> None:
        """The venue's ``market_rules_record_t``, which is copied. Raises ValueError when the kernel refuses
        it together with the configuration."""
        self._rules = ffi.new("market_rules_record_t *", rules[0])
        self._apply(self.config)

    def reload(self) -> bool:
        """Takes what the config slot holds; False when that is known. What cannot hold is an alert."""
        slot = ffi.addressof(self._arena.market(self._slot), "config")
        if int(lib.cell_load(cell(slot, "version"))) == self.config_version:
            return False
        version, payload = self._arena.config_bytes(self._slot)
        config = configuration.market_from_json(payload)
        try:
            if self._rules is not None:
                self._apply(config)
        except (ConfigError, ValueError) as error:
            self._apply(self.config)
            self._alert(
                Alert.CONFIG_REJECTED,
                Severity.CRITICAL,
                market=self.config.id,
                config_version=version,
                reason=str(error),
            )
        else:
            self.config = config
            _log.info("config_applied", market=config.id, version=version)
        self.config_version = version
        return True

    def _apply(self, config: MarketConfig) -> None:
        quote, rules = config.quote, self._rules
        self._kernel.set_rules(quote, rules, self._started_at_ms)
        taker = quote.market_taker_fee_bps
        self.taker_fee_bps = rules.taker_fee_bps if taker is None else taker
        self.funding = FundingRules(
            allow_buy=quote.allow_buy,
            cash_reserve_cents=quote.cash_reserve_cents,
            position_limit=quote.position_limit,
            taker_fee_bps=self.taker_fee_bps,
            order_quantity_max=rules.order_quantity_max,
            order_amount_max_cents=rules.order_amount_max_cents,
            buy_share_bp=basis_points(quote.buy_share) if quote.funding_mode == "SPLIT" else 0,
        )
