"""The C side of one quoted market: its book, its observed trades, its parameters, its current target.

Everything is allocated here, once; per message only C runs (``native/quote_pass.c``).
"""

from __future__ import annotations

from typing import Any, Final

from engine._native import ffi, lib
from engine.config import QuoteConfig
from engine.native_memory import new_native
from engine.quoting import horizon
from engine.quoting.inventory import Stock
from engine.quoting.oracle import OracleView
from engine.quoting.pricing import MarketTerms, native_params, own_params, price_params
from engine.workers.clock import Clock
from engine.workers.param_ramp import ParamRamp
from engine.workers.trade_tape import TradeTape

CENTS_GRID_TICKS: Final = 101
_NS_PER_MS: Final = 1_000_000


class MarketKernel:
    """Owns the memory behind one ``quote_market_t``.

    ``fair`` and ``target`` are views of the last result, ``oracle`` of what the oracle said
    (``oracle_view_t``), ``tape`` of the market's recent trades.
    """

    def __init__(self, market_row: Any) -> None:
        grid = ffi.new("price_grid_t *")
        lib.price_grid_cents(grid)
        size = lib.orderbook_bytes(CENTS_GRID_TICKS)
        native: Any = new_native("quote_market_t *")
        self.inputs: Any = new_native("quote_inputs_t *")
        self._output = new_native("quote_output_t *")
        self.book: Any = new_native("orderbook_t *", size)
        self.trades: Any = new_native("quote_trades_t *")
        code = lib.orderbook_init(self.book, size, grid)
        if code != lib.ORDERBOOK_OK:
            raise ValueError(f"orderbook_init: code {code}")
        self._levels = ffi.new("int64_t[]", 2 * CENTS_GRID_TICKS)
        self.tape = TradeTape()
        self._params: Any = None
        self._ramp: ParamRamp | None = None
        self.fair: Any = self._output.fair
        self.target: Any = self._output.target
        self._best_bid, self._best_ask = self.target.bids[0], self.target.asks[0]
        native.book = self.book
        native.trades = self.trades
        native.inputs = self.inputs
        native.output = self._output
        native.tape = self.tape.native
        native.images = market_row.images
        native.tick_to_quote_ns = ffi.addressof(market_row, "tick_to_quote_ns")
        native.levels = self._levels
        native.tick_count = CENTS_GRID_TICKS
        lib.quote_market_init(native)
        self.native: Any = native
        self.oracle: Any = native.oracle
        self._delay: Any = ffi.addressof(native, "delay")

    def set_rules(self, quote: QuoteConfig, rules: Any, started_at_ms: int) -> None:
        """Takes the market's own terms (``market_rules_record_t``): prices can be computed from here on.

        Raises horizon.MissingDateError, or ValueError for parameters the kernel refuses.
        """
        days = horizon.lifecycle_days(
            created_ms=rules.created_ms,
            trading_start_ms=rules.trading_start_ms,
            trading_end_ms=rules.trading_end_ms,
            resolution_ms=rules.resolution_ms,
        )
        maker, taker = quote.market_maker_fee_bps, quote.market_taker_fee_bps
        terms = MarketTerms(
            gamma=horizon.gamma(quote, days),
            maker_fee_bps=rules.maker_fee_bps if maker is None else maker,
            taker_fee_bps=rules.taker_fee_bps if taker is None else taker,
            min_price_e4=rules.min_price_cents * 100,
            max_price_e4=rules.max_price_cents * 100,
        )
        params = native_params(price_params(quote, terms))
        if quote.config_ramp_enabled and self._params is not None:
            params = own_params(params)  # a ramp writes, and others may share what it began with
            self._ramp = ParamRamp(self._params, params)
        self._params = params
        self.native.params = params
        self.inputs.started_at_ms = started_at_ms
        self.inputs.trading_end_ms = horizon.quoting_end_ms(
            trading_end_ms=rules.trading_end_ms, resolution_ms=rules.resolution_ms
        )

    def ramp(self, elapsed_ms: int) -> None:
        """One cycle of a reload's ramps (§10), while there are any."""
        if self._ramp is not None and self._ramp.step(elapsed_ms):
            self._ramp = None

    def set_stock(self, stock: Stock) -> None:
        self.inputs.yes_lots = stock.yes_volume
        self.inputs.no_lots = stock.no_volume

    def compute(self, unix_ms: int) -> None:
        """Recomputes the target for timers and changed inputs; messages do so by themselves."""
        lib.quote_market_compute(self.native, unix_ms)

    def take_oracle(self) -> OracleView:
        """What the oracle said; its moves are taken, so that each is seen once. For a market that has one."""
        seen = self.oracle
        view = OracleView(
            configured=True,
            price_cents=None if seen.last_ticks == lib.ORACLE_NO_PRICE else int(seen.last_ticks),
            updated_ms=int(seen.recv_mono_ns) // _NS_PER_MS,
            rise_cents=int(seen.rise_ticks),
            fall_cents=int(seen.fall_ticks),
        )
        seen.rise_ticks = seen.fall_ticks = 0
        return view

    def feed_latency_ms(self, clock: Clock) -> float | None:
        """Venue time against arrival, the median of the last 20 messages (§5.3 LATENCY); None with fewer."""
        if self._delay.count < lib.FEED_DELAY_MESSAGES:
            return None
        unix_minus_mono_ns = clock.unix_ms * _NS_PER_MS - clock.mono_ns
        return float(lib.feed_delay_median_ns(self._delay, unix_minus_mono_ns) / _NS_PER_MS)

    def describe(self, state: Any, clock: Clock) -> None:
        """What the last decision rests on, into a ``quoter_state_t``."""
        unix_minus_mono_ns = clock.unix_ms * _NS_PER_MS - clock.mono_ns
        lib.quoter_state_inputs(state, self.native, unix_minus_mono_ns)

    @property
    def ready(self) -> bool:
        """Whether ``fair`` and ``target`` hold a decision."""
        return bool(self._params is not None and self.fair.fair_price_cents and self.native.last_code >= 0)

    @property
    def gamma(self) -> float:
        return float(self._params.gamma) if self._params is not None else 0.0

    @property
    def touch_bid_cents(self) -> int:
        """Target's best bid; 0 when it has none."""
        return int(self._best_bid.price_ticks) if self.target.bid_count else 0

    @property
    def touch_ask_cents(self) -> int:
        """Target's best ask; 0 when it has none."""
        return int(self._best_ask.price_ticks) if self.target.ask_count else 0
