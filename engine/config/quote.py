"""How one market is quoted: every parameter of market-making §10, declared once.

Prices and money in cents, quantities in shares, times in ms, ratios as fractions; a half-spread is measured
from the reservation price to one side. A default of None is resolved by the property that its ``unset``
names. What the parameters do is in the specification; ``docs/configuration.md`` is generated from here.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Struct

from engine.config.setting import setting

AMM_USER_ID: Final = "00000000-0000-4000-a000-000000000001"

Gradient = Literal["LINEAR", "GEOMETRIC"]


class ExplorationConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cold-start phase (§4, §10 exploration.*)."""

    spread: Annotated[
        int, setting("H", "A H", "half-spread while the price is still searched for", unit="¢", ge=1, le=20)
    ] = 5
    qty_ratio: Annotated[
        float, setting("H", "A H", "share of qty_per_level: little is risked early", ge=0.05, le=0.50)
    ] = 0.25
    gradient_type: Annotated[Gradient, setting("H", "A H", "how prices step outward from the touch")] = (
        "LINEAR"
    )
    linear_step: Annotated[
        int,
        setting(
            "H", "A H", "distance between levels", unit="¢", ge=1, le=5, aliases=("gradient.linear_step",)
        ),
    ] = 1
    linear_qty_increase: Annotated[
        float,
        setting(
            "H",
            "A H",
            "each linear level is larger by this share of the first (inverted pyramid)",
            ge=0.0,
            le=0.50,
            aliases=("gradient.linear_qty_increase",),
        ),
    ] = 0.20
    levels: Annotated[
        int, setting("H", "A H", "levels per side", ge=2, le=10, aliases=("gradient.linear_levels",))
    ] = 5
    cancel_interval_ms: Annotated[
        int,
        setting("H", "A H", "all quotes are renewed at least this often", unit="ms", ge=5_000, le=120_000),
    ] = 20_000
    max_duration_ms: Annotated[
        int,
        setting(
            "H", "A H", "TIME_EXPIRED: the phase ends after this long", unit="ms", ge=300_000, le=86_400_000
        ),
    ] = 3_600_000
    min_volume: Annotated[
        int,
        setting(
            "H", "A H", "VOLUME_REACHED: market volume that ends the phase", unit="shares", ge=0, le=10_000
        ),
    ] = 200
    price_stability_window_ms: Annotated[
        int,
        setting("H", "A H", "PRICE_STABLE looks back this far", unit="ms", ge=60_000, le=3_600_000),
    ] = 900_000
    price_stability_threshold: Annotated[
        float,
        setting("H", "A H", "PRICE_STABLE: range of prices over their middle, below it", ge=0.01, le=0.20),
    ] = 0.03


class StabilizationConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Converged phase (§4, §10 stabilization.*); its half-spread is base_spread_cents."""

    qty_ratio: Annotated[float, setting("H", "A H", "share of qty_per_level", ge=0.20, le=2.0)] = 1.0
    gradient_type: Annotated[Gradient, setting("H", "A H", "how prices step outward from the touch")] = (
        "GEOMETRIC"
    )
    geometric_ratio: Annotated[
        float,
        setting(
            "H",
            "A H",
            "each level's price is this factor further out",
            ge=1.01,
            le=1.20,
            aliases=("gradient.geometric_ratio",),
        ),
    ] = 1.05
    levels: Annotated[
        int, setting("H", "A H", "levels per side", ge=2, le=10, aliases=("gradient.geometric_levels",))
    ] = 5
    qty_decay: Annotated[
        float,
        setting(
            "H",
            "A H",
            "each geometric level is smaller by this factor",
            ge=0.30,
            le=1.0,
            aliases=("gradient.qty_decay",),
        ),
    ] = 0.70
    cancel_on_trade: Annotated[bool, setting("H", "A H", "re-quote after an own fill's delay")] = True
    cancel_on_price_move: Annotated[
        float,
        setting("H", "A H", "re-quote when the fair price moved by more of itself", ge=0.005, le=0.10),
    ] = 0.02
    max_order_age_ms: Annotated[
        int, setting("H", "A H", "an older order is renewed", unit="ms", ge=30_000, le=600_000)
    ] = 300_000


class RollbackConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Emergency way back to exploration (§4, §10 rollback.*)."""

    volatility_threshold: Annotated[
        float, setting("W", "S H", "range of the last 5 min over its middle, above it", ge=0.03, le=0.30)
    ] = 0.10
    pnl_rollback_threshold: (
        Annotated[
            int,
            setting(
                "W",
                "S H",
                "loss of the day that rolls back; 50 % of the daily budget",
                unit="¢",
                ge=10_000,
                unset="max_loss_daily_cents",
            ),
        ]
        | None
    ) = None
    cooldown_ms: Annotated[
        int,
        setting(
            "W", "S H", "stabilization stays closed this long afterwards", unit="ms", ge=60_000, le=1_800_000
        ),
    ] = 600_000


class VolatilityConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """APV-BVD volatility (§3.4, §10 vol.*)."""

    window_size: Annotated[int, setting("H", "A H", "trades that count", unit="trades", ge=5, le=100)] = 30
    min_samples: Annotated[
        int, setting("H", "A H", "fewer trades: the default volatility", unit="trades", ge=2, le=20)
    ] = 5
    default_volatility_cents: Annotated[
        int, setting("H", "A H", "volatility until there are enough trades", unit="¢", ge=1, le=10)
    ] = 2
    sigma_min_cents: Annotated[int, setting("H", "S H", "floor of volatility", unit="¢", ge=1, le=5)] = 1
    sigma_max_cents: Annotated[int, setting("H", "S H", "cap of volatility", unit="¢", ge=5, le=30)] = 15


class QuoteConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One market's parameters (§10). Relations between them: :mod:`engine.config.rules`."""

    # ---- identity and money --------------------------------------------------------------------
    amm_user_id: Annotated[
        Literal["00000000-0000-4000-a000-000000000001"],
        setting("L", "S H", "the platform knows the market maker by it"),
    ] = AMM_USER_ID
    initial_funding_cents: Annotated[
        int,
        setting(
            "L",
            "H C",
            "start money of the market, half of it minted into pairs",
            unit="¢",
            ge=10_000,
            aliases=("initial_budget_cents",),
        ),
    ] = 500_000
    initial_price_cents: Annotated[
        int, setting("C", "C", "where pricing starts without an oracle", unit="¢", ge=1, le=99)
    ] = 50
    budget_limit_cents: Annotated[
        int, setting("W", "S", "loss since start that kills (BUDGET)", unit="¢", ge=10_000)
    ] = 500_000
    position_limit: Annotated[
        int,
        setting(
            "W",
            "S C",
            "stock plus planned buys of one outcome never exceed it",
            unit="shares",
            ge=1,
            le=25_000,
            aliases=("max_inventory_per_side",),
        ),
    ] = 5_000
    max_loss_daily_cents: Annotated[
        int,
        setting(
            "W",
            "S H",
            "loss of the day that kills (DAILY_LOSS)",
            unit="¢",
            ge=10_000,
            le=1_000_000,
            aliases=("daily_loss_limit",),
        ),
    ] = 50_000
    min_asset_floor_cents: (
        Annotated[
            int,
            setting(
                "W",
                "S D",
                "assets below it kill (ASSET_FLOOR)",
                unit="¢",
                ge=0,
                unset="half of initial_funding_cents",
            ),
        ]
        | None
    ) = None
    cash_reserve_cents: Annotated[int, setting("H", "D", "cash that buys leave alone", unit="¢", ge=0)] = 0

    # ---- merge and reinvest (§9) ---------------------------------------------------------------
    auto_reinvest_enabled: Annotated[bool, setting("H", "H", "mint pairs from spare cash")] = True
    auto_merge_enabled: Annotated[bool, setting("H", "A", "burn spare pairs into cash")] = True
    auto_reinvest_threshold_cents: Annotated[
        int, setting("H", "H", "cash below it merges, cash above it may mint", unit="¢", ge=10_000)
    ] = 50_000
    min_inventory_ratio: Annotated[
        float,
        setting(
            "H", "H", "mint only when both sides are below this share of the first stock", ge=0.10, le=0.50
        ),
    ] = 0.20
    mint_max_imbalance: Annotated[float, setting("H", "A", "no mint with a larger |q|", ge=0.0, le=0.5)] = (
        0.30
    )
    merge_min_pairs: Annotated[int, setting("H", "D", "no merge of fewer", unit="pairs", ge=1)] = 100
    merge_reserve_ratio: Annotated[
        float, setting("H", "A", "a merge leaves this share of the first stock", ge=0.0, le=0.5)
    ] = 0.10

    # ---- fair price (§3.1 to §3.5) -------------------------------------------------------------
    anchor_initial_weight: Annotated[
        float, setting("H", "A H", "weight of the anchor at first", ge=0.0, le=1.0)
    ] = 0.70
    anchor_decay_ms: Annotated[
        int, setting("H", "A H", "the anchor's weight falls to zero in this time", unit="ms", ge=60_000)
    ] = 3_600_000
    microprice_weight: Annotated[
        float, setting("H", "A H", "weight of the book's own price", ge=0.0, le=1.0)
    ] = 0.20
    microprice_min_depth: Annotated[
        int, setting("H", "A H", "depth of others that the weight needs", unit="shares", ge=0)
    ] = 10
    microprice_lambda: Annotated[
        float, setting("H", "A", "decay of a level's weight per cent from the best price", ge=0.0, le=5.0)
    ] = 0.5
    microprice_levels: Annotated[int, setting("H", "A", "levels of each side that count", ge=1, le=5)] = 3
    base_learning_rate: Annotated[
        float, setting("H", "A H", "share of a trade's news that moves the posterior", ge=0.02, le=0.30)
    ] = 0.15
    learning_rate_min: Annotated[
        float, setting("C", "A", "floor of the rate when trades come thick", ge=0.001, le=0.30)
    ] = 0.02
    learning_rate_max: Annotated[float, setting("C", "A", "cap of the rate", ge=0.02, le=1.0)] = 0.30
    gamma_short: Annotated[
        float, setting("H", "S H", "risk aversion of markets that live under 7 days", ge=0.5, le=5.0)
    ] = 2.5
    gamma_mid: Annotated[float, setting("H", "S H", "risk aversion from 7 to 90 days", ge=0.5, le=3.0)] = 1.5
    gamma_long: Annotated[float, setting("H", "S H", "risk aversion over 90 days", ge=0.1, le=2.0)] = 0.8
    time_smoothing_kappa: Annotated[
        float, setting("H", "S H", "hours to the end at which tau is one half", unit="h", ge=1.0, le=168.0)
    ] = 24.0
    min_adjustment: Annotated[
        int, setting("H", "A", "smallest shift by inventory once |q| > 0.1; 0 = none", unit="¢", ge=0, le=5)
    ] = 0
    min_price: Annotated[int, setting("H", "A H", "never quoted below", unit="¢", ge=1, le=30)] = 5
    max_price: Annotated[int, setting("H", "A H", "never quoted above", unit="¢", ge=70, le=99)] = 95
    vol: VolatilityConfig = VolatilityConfig()

    # ---- spreads and ladder (§3.6, §3.7) -------------------------------------------------------
    base_spread_cents: Annotated[
        int,
        setting(
            "H",
            "S H",
            "half-spread in stabilization, per side",
            unit="¢",
            ge=1,
            le=10,
            aliases=("stabilization.spread",),
        ),
    ] = 2
    max_spread_cents: Annotated[int, setting("H", "S", "cap of each half-spread", unit="¢", ge=5, le=30)] = 15
    spread_skew_factor: Annotated[
        float, setting("H", "A H", "how far inventory shifts the two halves", ge=0.0, le=1.0)
    ] = 0.5
    qty_skew_factor: Annotated[
        float, setting("H", "A H", "how far inventory shifts the two sizes", ge=0.0, le=1.0)
    ] = 0.3
    qty_per_level: Annotated[int, setting("H", "A", "size at the touch", unit="shares", ge=1, le=10_000)] = (
        100
    )
    allow_buy: Annotated[bool, setting("H", "D", "false: only stock is sold, nothing is bought")] = True
    funding_mode: Annotated[
        Literal["INVENTORY_FIRST", "SPLIT"],
        setting("H", "D", "sell stock before buying, or both at every level"),
    ] = "INVENTORY_FIRST"
    buy_share: Annotated[float, setting("H", "D", "SPLIT: share of each level that buys", ge=0.0, le=1.0)] = (
        0.5
    )
    exploration: ExplorationConfig = ExplorationConfig()
    stabilization: StabilizationConfig = StabilizationConfig()
    rollback: RollbackConfig = RollbackConfig()

    # ---- defence (§5.1, §5.2) ------------------------------------------------------------------
    price_jump_threshold: Annotated[
        float, setting("W", "A H", "range over the lowest price that kills (PRICE_JUMP)", ge=0.05, le=0.50)
    ] = 0.15
    price_jump_window_ms: Annotated[
        int, setting("W", "A H", "PRICE_JUMP looks back this far", unit="ms", ge=60_000, le=900_000)
    ] = 300_000
    min_abs_move_cents: Annotated[
        int, setting("W", "D", "a smaller move is no PRICE_JUMP", unit="¢", ge=1, le=10)
    ] = 3
    inventory_warning_threshold: Annotated[
        float,
        setting("W", "S H", "|q| above it: WIDEN", ge=0.30, le=0.80, aliases=("inventory_warning",)),
    ] = 0.80
    inventory_danger_threshold: Annotated[
        float, setting("W", "S H", "|q| above it: ONE_SIDE", ge=0.50, le=0.95)
    ] = 0.90
    inventory_hard_limit: Annotated[
        float, setting("W", "S H", "|q| above it: KILL_SWITCH (SKEW)", ge=0.80, le=0.99)
    ] = 0.95
    spread_multiplier_warning: Annotated[
        float, setting("W", "S H", "WIDEN begins with it", ge=1.0, le=3.0)
    ] = 1.5
    spread_multiplier_danger: Annotated[float, setting("W", "S H", "WIDEN ends with it", ge=2.0, le=5.0)] = (
        3.0
    )
    one_side_multiplier_min: Annotated[
        float, setting("W", "S", "ONE_SIDE begins with it", ge=1.0, le=5.0)
    ] = 2.0
    one_side_multiplier_max: Annotated[float, setting("W", "S", "ONE_SIDE ends with it", ge=1.0, le=5.0)] = (
        4.0
    )
    distress_max_discount: Annotated[
        int, setting("W", "S H", "largest concession of the reducing side", unit="¢", ge=0, le=15)
    ] = 5
    defense_cooldown_cycles: Annotated[
        int, setting("W", "D", "calm cycles before one level down", unit="cycles", ge=1, le=60)
    ] = 5
    defense_hysteresis: Annotated[
        float, setting("W", "D", "calm is this far below the level's entry", ge=0.0, le=0.1)
    ] = 0.02
    vpin_threshold: Annotated[
        float, setting("W", "A H", "one-sided flow above it: WIDEN", ge=0.40, le=0.95)
    ] = 0.70
    vpin_window: Annotated[
        int, setting("W", "A H", "trades that count for it", unit="trades", ge=10, le=200)
    ] = 50
    vpin_multiplier: Annotated[float, setting("W", "A H", "spread under one-sided flow", ge=1.0, le=5.0)] = (
        2.0
    )
    extreme_price_kill: Annotated[
        int, setting("W", "A H", "fair price this near 0 or 100 kills (EXTREME_PRICE)", unit="¢", ge=1, le=20)
    ] = 5
    extreme_price_halt: Annotated[
        int, setting("W", "A H", "fair price this near 0 or 100: WIDEN", unit="¢", ge=5, le=30)
    ] = 10
    extreme_spread_multiplier: Annotated[
        float, setting("W", "A H", "spread near 0 or 100", ge=1.5, le=5.0)
    ] = 3.0

    # ---- oracle (§5.1, §5.3) -------------------------------------------------------------------
    oracle_guard_enabled: Annotated[bool, setting("W", "H", "false: no oracle checks")] = True
    oracle_stale_ms: Annotated[
        int,
        setting(
            "W",
            "S H",
            "an older oracle value is stale: WIDEN",
            unit="ms",
            ge=500,
            le=60_000,
            aliases=("max_oracle_lag_ms",),
        ),
    ] = 30_000
    oracle_deviation_cents: Annotated[
        int,
        setting(
            "W",
            "S H",
            "fair price further from the oracle: gate",
            unit="¢",
            ge=1,
            le=10,
            aliases=("min_deviation_threshold_cents",),
        ),
    ] = 5
    deviation_multiplier: Annotated[
        float,
        setting("W", "A H", "k > 0: that distance is at least k sigma; 0 (off) or 1..5", ge=0.0, le=5.0),
    ] = 0.0
    oracle_gap_cents: Annotated[
        int,
        setting(
            "W",
            "S H",
            "a larger step between oracle values pulls one side",
            unit="¢",
            ge=2,
            le=20,
            aliases=("gap_threshold_cents",),
        ),
    ] = 5
    observation_period_ms: Annotated[
        int, setting("W", "S H", "calm after which the oracle gates open", unit="ms", ge=5_000, le=120_000)
    ] = 30_000
    oracle_stale_multiplier: Annotated[
        float, setting("W", "S H", "spread under a stale oracle", ge=1.0, le=10.0)
    ] = 3.0

    # ---- velocity, latency, errors, events (§5.3, §5.4) ----------------------------------------
    lvr_velocity_threshold: Annotated[
        float, setting("W", "S", "share of a side filled within the window: cooldown", ge=0.05, le=0.50)
    ] = 0.10
    lvr_cooldown_ms: Annotated[
        int, setting("W", "S", "no quotes this long", unit="ms", ge=500, le=60_000)
    ] = 5_000
    velocity_window_ms: Annotated[
        int, setting("W", "A H", "window of the velocity check", unit="ms", ge=100, le=5_000)
    ] = 500
    velocity_kill_ratio: Annotated[
        float, setting("W", "A H", "accepted and without effect (decision D10)", ge=0.05, le=0.50)
    ] = 0.20
    lvr_kill_count: Annotated[
        int, setting("W", "D", "cooldowns within the kill window that kill (LVR_REPEAT)", ge=2, le=20)
    ] = 3
    lvr_kill_window_ms: Annotated[
        int, setting("W", "D", "window of that count", unit="ms", ge=1_000, le=600_000)
    ] = 60_000
    post_fill_delay_ms: Annotated[
        int, setting("W", "A H", "after an own fill only cancels go out", unit="ms", ge=500, le=10_000)
    ] = 2_500
    api_error_threshold: Annotated[
        float, setting("W", "A H", "share of failed calls above it: gate", ge=0.01, le=0.30)
    ] = 0.10
    max_latency_ms: Annotated[
        int, setting("W", "A H", "median feed latency above it: gate", unit="ms", ge=10, le=1_000)
    ] = 100
    event_shield_window_ms: Annotated[
        int, setting("W", "A H", "the shield is up this near an event", unit="ms", ge=300_000, le=3_600_000)
    ] = 900_000
    event_qty_ratio: Annotated[float, setting("W", "A H", "size under the shield", ge=0.01, le=0.20)] = 0.05
    event_spread_multiplier: Annotated[
        float, setting("W", "A H", "spread under the shield", ge=2.0, le=10.0)
    ] = 5.0
    event_times: Annotated[
        tuple[int, ...], setting("W", "A H", "when events are due", unit="Unix ms", max_length=64)
    ] = ()

    # ---- reconciliation (§7.5) -----------------------------------------------------------------
    reconciliation_interval_ms: Annotated[
        int, setting("H", "S H", "own books are compared with the venue's", unit="ms", ge=60_000, le=600_000)
    ] = 300_000
    volume_tolerance: Annotated[
        int, setting("H", "S H", "a larger difference of stock rebuilds", unit="shares", ge=0, le=10)
    ] = 2
    cash_tolerance: Annotated[
        int, setting("H", "S H", "a larger difference of cash rebuilds", unit="¢", ge=0, le=1_000)
    ] = 200
    cost_sum_tolerance: Annotated[
        int, setting("H", "S H", "a larger difference of a cost sum rebuilds", unit="¢", ge=0, le=2_000)
    ] = 500

    # ---- fixed while the engine runs -----------------------------------------------------------
    quote_interval_ms: Annotated[
        int, setting("C", "C", "a cycle runs at least this often", unit="ms", ge=100, le=60_000)
    ] = 1_000
    replace_rate_limit: Annotated[
        int, setting("C", "C H", "replaces of this market", unit="/min", ge=100, le=1_000)
    ] = 400
    config_reload_interval_ms: Annotated[
        int, setting("C", "S H", "amm:config is looked at this often", unit="ms", ge=5_000, le=120_000)
    ] = 30_000
    config_ramp_enabled: Annotated[
        bool, setting("C", "D", "a reload ramps spread (1 ¢/s) and gamma (EMA 0.1); limits never")
    ] = False
    netting_off_confirmed: Annotated[
        bool, setting("C", "D", "start although the venue does not say that netting is off")
    ] = False
    day_reset_tz: Annotated[str, setting("C", "D", "whose midnight ends the trading day")] = "UTC"
    market_taker_fee_bps: (
        Annotated[
            int, setting("C", "S H", "taker fee", unit="bps", ge=0, le=1_000, unset="what the market says")
        ]
        | None
    ) = None
    market_maker_fee_bps: (
        Annotated[
            int, setting("C", "S H", "maker fee", unit="bps", ge=0, le=1_000, unset="what the market says")
        ]
        | None
    ) = None
    ws_snapshot_interval_ms: Annotated[
        int,
        setting(
            "C",
            "C H",
            "the venue's snapshot rhythm; none for twice as long: stale",
            unit="ms",
            ge=10_000,
            le=60_000,
        ),
    ] = 30_000
    amm_token_validity_hours: Annotated[
        int, setting("C", "C H", "how long a venue session lasts", unit="h", ge=1, le=168)
    ] = 24
    processed_event_ttl_hours: Annotated[
        int, setting("C", "S H", "amm:processed keeps ids this long", unit="h", ge=6, le=168)
    ] = 24
    processed_lru_size: Annotated[
        int, setting("C", "S H", "trade legs remembered to drop repeats", ge=1_000)
    ] = 100_000

    @property
    def asset_floor_cents(self) -> int:
        """min_asset_floor_cents in force, cents."""
        floor = self.min_asset_floor_cents
        return self.initial_funding_cents // 2 if floor is None else floor

    @property
    def pnl_rollback_cents(self) -> int:
        """rollback.pnl_rollback_threshold in force, cents: 50 % of the daily budget, which is where
        DAILY_LOSS kills too (D2, D3)."""
        threshold = self.rollback.pnl_rollback_threshold
        return self.max_loss_daily_cents if threshold is None else threshold
