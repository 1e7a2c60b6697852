"""What the KPI fold is told and what it keeps (market-making §12): values only, exact integers.

A :class:`Tally` is a set of sums that add up: shares of time are nanoseconds, averages over time are value
times nanoseconds, money is cents. The fold itself is :mod:`engine.kpi`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

from engine.events import Scenario, Side
from engine.quoting.inventory import Stock

MARKOUT_S: Final = (1, 10, 60, 300)
DEPTH_CENTS: Final = (3, 5)
"""Distances from the fair price within which own resting shares are counted."""


class Tally(Struct, kw_only=True, omit_defaults=True):
    """Sums over a stretch of time. ``_ns``: nanoseconds; ``x_ns`` after a unit: that unit times ns."""

    # time
    observed_ns: int = 0
    active_ns: int = 0
    """The market was ACTIVE."""
    free_ns: int = 0
    """... and no gate, kill or defence level took a side away."""
    quoted_ns: int = 0
    """ACTIVE with an own bid and an own ask in the book."""
    quoted_free_ns: int = 0
    level_ns: dict[str, int] = field(default_factory=dict)
    gate_ns: dict[str, int] = field(default_factory=dict)
    gate_entries: dict[str, int] = field(default_factory=dict)
    kill_ns: dict[str, int] = field(default_factory=dict)
    kill_entries: dict[str, int] = field(default_factory=dict)

    # quotes, while both sides stood; the halves and depths need a fair price too
    spread_cents_ns: int = 0
    marked_quoted_ns: int = 0
    half_bid_cents_ns: int = 0
    half_ask_cents_ns: int = 0
    touch_shares_ns: int = 0
    near_shares_ns: list[int] = field(default_factory=lambda: [0] * len(DEPTH_CENTS))

    # stock
    skew_ns: int = 0
    skew_bp_ns: int = 0
    skew_percent_ns: dict[int, int] = field(default_factory=dict)
    """Time by |q| in whole per cent, rounded down."""
    exposure_shares_ns: int = 0
    """|Y - N| over the same time, and the largest."""
    exposure_shares_max: int = 0

    # oracle, while it has a value and there is a fair price
    oracle_ns: int = 0
    oracle_cents_ns: int = 0
    """|fair price - oracle| over that time."""

    # orders
    requests: int = 0
    """Places, replaces and cancels asked for."""
    posted_shares: int = 0
    filled_shares: int = 0
    fills: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    replace_ns: dict[int, int] = field(default_factory=dict)
    """Replaces by latency bucket (decided to answered)."""
    cancel_ns: dict[int, int] = field(default_factory=dict)
    """Cancels likewise, from the bytes that caused them (or the decision, for a timer) to answered."""

    # money
    capture_cents: int = 0
    inventory_cents: int = 0
    fees_cents: int = 0
    flows_cents: int = 0
    settlement_cents: int = 0
    unexplained_cents: int = 0
    unexplained_abs_cents: int = 0
    assets_change_cents: int = 0
    venue_checks: int = 0
    """How often ledger and venue were compared."""
    peak_pnl_cents: int = 0
    drawdown_cents: int = 0
    priced_shares: int = 0
    """Filled shares that had a fair price: the denominator of ``capture_cents``."""
    markout_cents: list[int] = field(default_factory=lambda: [0] * len(MARKOUT_S))
    markout_shares: list[int] = field(default_factory=lambda: [0] * len(MARKOUT_S))

    @property
    def pnl_cents(self) -> int:
        return self.assets_change_cents - self.flows_cents

    @property
    def identity_error_cents(self) -> int:
        """0, always: the assets' change minus the sum of its parts."""
        return self.assets_change_cents - (
            self.capture_cents
            + self.inventory_cents
            - self.fees_cents
            + self.flows_cents
            + self.settlement_cents
            + self.unexplained_cents
        )


class Condition(Struct, frozen=True, kw_only=True):
    """What holds for a market for a while; all by name."""

    phase: str
    level: str = "NORMAL"
    gates: tuple[str, ...] = ()
    kills: tuple[str, ...] = ()
    active: bool = True
    two_sided: bool = True
    """The rules want both sides (ONE_SIDE and KILL_SWITCH do not, a one-sided gate does not)."""

    @property
    def free(self) -> bool:
        return self.active and self.two_sided and not self.gates and not self.kills


class OwnQuotes(Struct, frozen=True, kw_only=True):
    """Own resting shares by YES price in cents."""

    bids: dict[int, int] = {}
    asks: dict[int, int] = {}

    @property
    def both(self) -> bool:
        return bool(self.bids) and bool(self.asks)


class Fill(Struct, frozen=True, kw_only=True):
    """One leg of ours; ``price_cents`` in YES terms."""

    scenario: Scenario
    side: Side
    price_cents: int
    quantity: int
    fee_cents: int

    @property
    def sold(self) -> int:
        """+1 when YES exposure was sold, -1 when it was bought (§12 ``dir``)."""
        return 1 if self.side == Side.ASK else -1


class MarketRecord(Struct, kw_only=True):
    """All that is kept of one market, and what is needed to go on after a restart."""

    market_id: str
    total: Tally = field(default_factory=Tally)
    days: dict[str, dict[str, Tally]] = field(default_factory=dict)
    """Tallies by UTC day (YYYY-MM-DD) and phase."""
    stock: Stock | None = None
    mark_cents: int | None = None
    condition: Condition | None = None
