"""What the gateway counts of the whole account: limits, and sums over all markets.

The counting itself is ``native/gateway_books.c``; each market has its part in a :class:`GatewayMarket`.
"""

from __future__ import annotations

from typing import Final

from engine._native import ffi, lib
from engine.arena import Arena, cell
from engine.config import RiskConfig
from engine.risk.rate import TokenBucket

_NS_PER_MS: Final = 1_000_000


class AccountBooks:
    """One venue account, ``native`` as ``account_books_t *``. Only the gateway's event loop touches it."""

    def __init__(
        self,
        arena: Arena,
        *,
        risk: RiskConfig,
        order_rate_limit: int,
        reconcile_interval_ms: int,
        full_mono_ns: int,
    ) -> None:
        """``order_rate_limit``: orders a minute. ``full_mono_ns``: when the token buckets were full."""
        self.risk: Final = risk
        self.full_mono_ns: Final = full_mono_ns
        self._arena: Final = arena  # the pointers are into its mapping
        native = self.native = ffi.new("account_books_t *")
        native.kill_global = arena.kill_global()
        native.feed_beat = cell(arena.process(lib.PROCESS_INGEST), "heartbeat_mono_ns")
        native.beat_stale_ns = risk.heartbeat_stale_ms * _NS_PER_MS
        native.reconcile_stale_ns = risk.reconcile_periods_max * reconcile_interval_ms * _NS_PER_MS
        native.engine_loss_max_cents = (
            -1 if risk.engine_loss_max_cents is None else risk.engine_loss_max_cents
        )
        native.cancel_reserve_percent = risk.cancel_reserve_percent
        native.collar_ladder_cents = risk.collar_ladder_cents
        for limit, _ in ffi.typeof("pretrade_limits_t").fields:
            setattr(native.limits, limit, getattr(risk, limit))
        self.order_tokens: Final = TokenBucket(
            order_rate_limit, full_mono_ns, at=ffi.addressof(native, "order_tokens")
        )

    @property
    def admitting(self) -> bool:
        """New orders may go out: recovered, and not stopping."""
        return bool(self.native.admitting)

    @admitting.setter
    def admitting(self, admitting: bool) -> None:
        self.native.admitting = admitting

    @property
    def unallocated_cents(self) -> int | None:
        """The account's cash that no market holds; None: not read yet, and no BUY order goes out."""
        return int(self.native.unallocated_cents) if self.native.unallocated_known else None

    @unallocated_cents.setter
    def unallocated_cents(self, cents: int | None) -> None:
        self.native.unallocated_known = cents is not None
        self.native.unallocated_cents = cents or 0
