"""The steps of one decision, line by line: each with its section of the market-making specification.

Pure. Numbers are the ones the decision was made with, as its state row holds them; nothing is computed anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Flag
from typing import Final

from msgspec import Struct

from engine._native import lib
from engine.config.oracle import KalshiOracle, OracleConfig, PolymarketOracle
from engine.events import DefenseLevel, Direction, Outcome, Phase, Side
from engine.quoting.funding import book_price_cents, book_side
from engine.snapshot import LiveOrder, MarketView, QuoterState

_NS_PER_S: Final = 1_000_000_000
_MS_PER_S: Final = 1_000
_EMPTY: Final = "-"
_SIDES: Final = {
    lib.QUOTE_SIDES_NONE: "no side",
    lib.QUOTE_SIDES_BID: "bids only",
    lib.QUOTE_SIDES_ASK: "asks only",
    lib.QUOTE_SIDES_BOTH: "both sides",
}


class Line(Struct, frozen=True, kw_only=True):
    """One step: what, its value, and how it came about."""

    section: str  # of the market-making specification
    name: str
    value: str
    how: str = ""


class Explainer:
    """One market's lines; every method is one part of the explanation."""

    def __init__(self, market: MarketView, state: QuoterState, *, unix_ns: int, mono_ns: int) -> None:
        self._market = market
        self._state = state
        self._quote = market.config.quote
        self._now_ms = unix_ns // 1_000_000
        self._mono_ns = mono_ns

    # ---- the parts ---------------------------------------------------------------------------

    def permission(self) -> Iterator[Line]:
        state, now_ms = self._state, self._now_ms
        causes = _flags(state.kill_causes)
        yield _line(
            "§8",
            "lifecycle",
            state.lifecycle.name,
            f"market {state.market_status.name}" + (", books not confirmed" if state.recovering else ""),
        )
        yield _line(
            "§5.2",
            "kill causes",
            causes or "none",
            f"kill word: {_flags(self._market.kill) or 'none'}; "
            + (
                f"resume refused by {_flags(refused)}"
                if (refused := state.command_refused)
                else ("latched until a resume" if causes else "no cause is latched")
            ),
        )
        yield _line(
            "§5.3",
            "gates",
            _flags(state.gates) or "none",
            _until("LVR cooldown", state.lvr_cooldown_until_ms, now_ms),
        )
        yield _line("§5.1", "defence", state.defense.name, self._defence_reason())
        yield _line("§4", "phase", state.phase.name, self._phase_history())

    def inputs(self) -> Iterator[Line]:
        state = self._state
        yield _line(
            "§2.5",
            "book",
            f"generation {state.generation}" + ("" if state.book_valid else ", INVALID"),
            f"sequence {state.venue_sequence}, "
            f"best {_tick(state.best_bid_ticks)}/{_tick(state.best_ask_ticks)}",
        )
        yield _line(
            "§3.2",
            "foreign touch",
            f"{_tick(state.foreign_bid_ticks)}/{_tick(state.foreign_ask_ticks)}",
            "the book without own orders",
        )
        latency = f"{state.feed_latency_us / 1000:.1f} ms" if state.feed_latency_us else "not known"
        yield _line(
            "§5.3",
            "feed latency",
            latency,
            f"median of 20 messages; gate above {self._quote.max_latency_ms} ms",
        )
        yield self._oracle()
        yield _line(
            "§5.5",
            "VPIN",
            f"{state.vpin:.4f}",
            f"last {self._quote.vpin_window} trades; WIDEN above {self._quote.vpin_threshold:g}",
        )
        yield _line(
            "§2.2",
            "stock",
            f"YES {state.yes_volume}, NO {state.no_volume}",
            f"available {state.yes_available}/{state.no_available}; "
            f"cash {_dollars(state.cash_cents)} and {_dollars(state.frozen_cents)} frozen",
        )
        yield _line(
            "§5.5",
            "profit today",
            _dollars(state.daily_pnl_cents),
            f"kill below {_dollars(-self._quote.max_loss_daily_cents)}; budget used "
            f"{_dollars(state.budget_used_cents)} of {_dollars(self._quote.budget_limit_cents)}",
        )

    def fair(self) -> Iterator[Line]:
        state = self._state
        age_s = max(0, state.target_unix_ms - state.started_at_ms) / _MS_PER_S if state.target_unix_ms else 0
        source = "initial price" if state.anchor == self._quote.initial_price_cents else "oracle"
        yield _line(
            "§3.1",
            "anchor A",
            f"{state.anchor:.2f} x {state.weight_anchor:.4f}",
            f"{source}; {self._quote.anchor_initial_weight:g} falling to 0 over "
            f"{self._quote.anchor_decay_ms / _MS_PER_S:g} s, {age_s:.0f} s since the first start",
        )
        yield _line(
            "§3.2",
            "micro-price M",
            f"{state.micro:.4f} x {state.weight_micro:.4f}",
            f"foreign depth of {self._quote.microprice_levels} levels"
            + (
                ""
                if state.weight_micro
                else f"; a side is empty, or below {self._quote.microprice_min_depth} shares"
            ),
        )
        yield _line(
            "§3.3",
            "posterior P",
            f"{state.posterior:.4f} x {state.weight_posterior:.4f}",
            f"{state.trades} market trades",
        )
        yield _line(
            "§3.3",
            "fair price s",
            f"{state.fair_price_cents or _EMPTY}",
            f"{state.weight_anchor:.4f} x {state.anchor:.2f} + {state.weight_micro:.4f} x "
            f"{state.micro:.4f} + {state.weight_posterior:.4f} x {state.posterior:.4f} = "
            f"{_weighted(state):.4f}, rounded half up",
        )

    def reservation(self) -> Iterator[Line]:
        state, quote = self._state, self._quote
        window = quote.vol.window_size
        yield _line(
            "§3.4",
            "volatility sigma",
            f"{state.sigma:.4f}",
            f"{state.sigma_trades} of {window} trades"
            + (
                f", fewer than {quote.vol.min_samples}: the default"
                if state.sigma_trades < quote.vol.min_samples
                else f", within {quote.vol.sigma_min_cents}..{quote.vol.sigma_max_cents}"
            ),
        )
        yield _line("§3.5", "risk aversion gamma", f"{state.gamma:g}", self._gamma_tier())
        yield _line("§3.5", "time factor tau", f"{state.tau:.6f}", self._hours())
        yield _line(
            "§3.5",
            "skew q",
            f"{state.skew:+.4f}",
            f"({state.yes_volume} - {state.no_volume}) / ({state.yes_volume} + {state.no_volume})",
        )
        yield _line(
            "§3.5",
            "adjustment",
            f"{state.adjustment:+.4f}",
            "q x gamma x sigma² x tau = "
            f"{state.skew:.4f} x {state.gamma:g} x {state.sigma:.4f}² x {state.tau:.6f}",
        )
        yield _line(
            "§3.5",
            "reservation r",
            f"{state.reservation:.4f}",
            f"{state.fair_price_cents} - ({state.adjustment:.4f}), "
            f"within {quote.min_price}..{quote.max_price}",
        )

    def spread(self) -> Iterator[Line]:
        state, quote = self._state, self._quote
        exploring = state.phase == Phase.EXPLORATION
        base = quote.exploration.spread if exploring else quote.base_spread_cents
        name = "exploration.spread" if exploring else "base_spread_cents"
        yield _line("§3.6", "half-spread", f"{base}", f"{name}, {self._origin(name)}")
        yield _line(
            "§5.1",
            "multiplier m",
            f"{state.multiplier:.4f}",
            f"largest of what is active: {self._multiplier_reason()}",
        )
        for side, sign, half in (("ask", "-", state.half_spread_ask), ("bid", "+", state.half_spread_bid)):
            yield _line(
                "§3.6",
                f"half-spread {side}",
                f"{half:.4f}",
                f"{base} x (1 {sign} {quote.spread_skew_factor:g} x {state.skew:.4f}) x "
                f"{state.multiplier:.4f}, floored by fees, at most {quote.max_spread_cents}",
            )
        if state.discount_cents:
            yield _line(
                "§5.1",
                "discount d",
                f"{state.discount_cents}",
                "ONE_SIDE: the reducing side is offered cheaper",
            )
        yield _line(
            "§5.4", "size scale", f"{state.size_scale:g}", "smallest of time to the end and event shield"
        )

    def target(self) -> Iterator[Line]:
        state = self._state
        discount = f" - {state.discount_cents}" if state.discount_cents else ""
        yield _line(
            "§3.6",
            "touch ask",
            _cents(state.touch_ask_cents),
            f"up({state.reservation:.4f} + {state.half_spread_ask:.4f}{discount}), behind the foreign bid",
        )
        discount = f" + {state.discount_cents}" if state.discount_cents else ""
        yield _line(
            "§3.6",
            "touch bid",
            _cents(state.touch_bid_cents),
            f"dn({state.reservation:.4f} - {state.half_spread_bid:.4f}{discount}), behind the foreign ask",
        )
        ladders = (
            ("asks", state.target_ask_count, state.target_ask_cents, state.target_ask_lots),
            ("bids", state.target_bid_count, state.target_bid_cents, state.target_bid_lots),
        )
        for side, count, prices, lots in ladders:
            levels = "  ".join(f"{prices[i]}x{lots[i]}" for i in range(min(count, len(prices))))
            yield _line("§3.7", f"target {side}", levels or "none", self._funding(side))

    def live(self) -> Iterator[Line]:
        orders = sorted(
            self._market.orders, key=lambda order: -book_price_cents(order.outcome, order.price_cents)
        )
        for order in orders:
            side = book_side(order.outcome, order.direction)
            yield _line(
                "§2.3",
                f"{side.name.lower()} {book_price_cents(order.outcome, order.price_cents)}",
                f"{order.direction.name} {order.outcome.name} @{order.price_cents} x {order.remaining}",
                self._order(order, side),
            )
        if not orders:
            yield _line("§2.3", "orders", "none")

    def rules(self) -> Iterator[Line]:
        config = self._market.config
        override = config.override
        if override is None:
            origin = f"the file's; {len(config.origins.file_global)} from [quote], "
            origin += f"{len(config.origins.file_market)} from [markets.quote]"
        else:
            origin = f"with amm:config version {override.version} by {override.updated_by or 'nobody named'}"
        yield _line(
            "§10",
            "configuration",
            f"version {self._state.config_version}",
            origin
            + ("" if self._state.config_version == self._market.config_version else "; a newer one waits"),
        )

    # ---- reasons -----------------------------------------------------------------------------

    def _defence_reason(self) -> str:
        state = self._state
        total = state.yes_volume + state.no_volume
        skew = abs(state.yes_volume - state.no_volume) / total if total else 0.0
        quote = self._quote
        text = (
            f"|q| {skew:.4f}; WIDEN above {quote.inventory_warning_threshold:g}, ONE_SIDE above "
            f"{quote.inventory_danger_threshold:g}, KILL above {quote.inventory_hard_limit:g}"
        )
        if state.widen_sources:
            text += f"; asked for by {_flags(state.widen_sources)}"
        if state.calm_cycles:
            text += f"; calm for {state.calm_cycles} of {quote.defense_cooldown_cycles} cycles"
        return text

    def _phase_history(self) -> str:
        state = self._state
        text = (
            f"{max(0, self._now_ms - state.phase_since_ms) / _MS_PER_S:.0f} s"
            if state.phase_since_ms
            else "new"
        )
        text += f", {state.phase_volume} shares traded"
        if state.phase_log:
            last = state.phase_log[-1]
            text += f"; from {last.from_phase.name} by {last.reason.name}"
        blocked = _until("no STABILIZATION", state.rollback_until_ms, self._now_ms)
        return f"{text}; {blocked}" if blocked else text

    def _oracle(self) -> Line:
        state, config = self._state, self._market.config.oracle
        if config is None:
            return _line("§5.3", "oracle", "none", "not configured: its checks are off")
        age = ""
        if state.oracle_recv_mono_ns:
            age = f"{max(0, self._mono_ns - state.oracle_recv_mono_ns) / _NS_PER_S:.1f} s old; "
        value = f"{state.oracle_price_ticks}" if state.oracle_price_ticks >= 0 else "no value"
        last = f"last value {state.oracle_last_ticks}, " if state.oracle_last_ticks >= 0 else ""
        return _line(
            "§5.3",
            "oracle",
            value,
            f"{_oracle_source(config)}; {last}{age}stale after {self._quote.oracle_stale_ms / _MS_PER_S:g} s",
        )

    def _gamma_tier(self) -> str:
        tiers = (
            ("gamma_short", "a life of less than 7 days"),
            ("gamma_mid", "a life of 7 to 90 days"),
            ("gamma_long", "a life of more than 90 days"),
        )
        for name, life in tiers:
            if getattr(self._quote, name) == self._state.gamma:
                return f"{name}, {self._origin(name)}: {life}"
        return "on its way to the value of a changed configuration"

    def _hours(self) -> str:
        tau, kappa = self._state.tau, self._quote.time_smoothing_kappa
        hours = kappa * tau / (1.0 - tau) if 0.0 < tau < 1.0 else 0.0
        return f"h / (h + kappa), h = {hours:.2f} hours to the end, kappa = {kappa:g}"

    def _multiplier_reason(self) -> str:
        state = self._state
        reasons = [str(source.name) for source in type(state.widen_sources) if source in state.widen_sources]
        if state.defense == DefenseLevel.ONE_SIDE:
            reasons.append("ONE_SIDE")
        if state.multiplier != 1.0 and not reasons:
            reasons.append("time to the end or event shield")
        return ", ".join(reasons) or "nothing"

    def _funding(self, side: str) -> str:
        quote, state = self._quote, self._state
        order = "SELL YES, then BUY NO" if side == "asks" else "SELL NO, then BUY YES"
        if not quote.allow_buy:
            order = order.partition(",")[0]
        elif quote.funding_mode == "SPLIT":
            order = f"{order.replace(', then', ' and')} with {quote.buy_share:g} of each level"
        return f"{quote.funding_mode}: {order}; {_SIDES.get(state.sides, 'sides unknown')}"

    def _order(self, order: LiveOrder, side: Side) -> str:
        kind = {
            (Outcome.YES, Direction.BUY): "NATIVE_BUY",
            (Outcome.YES, Direction.SELL): "NATIVE_SELL",
            (Outcome.NO, Direction.BUY): "SYNTHETIC_SELL",
            (Outcome.NO, Direction.SELL): "SYNTHETIC_BUY",
        }[order.outcome, order.direction]
        age_s = max(0, self._now_ms - order.created_ms) / _MS_PER_S
        wanted = self._wanted(side).get(book_price_cents(order.outcome, order.price_cents), 0)
        place = f"target {wanted}" if wanted else "not in the target"
        return f"{kind}, {order.state.lower()}, {age_s:.0f} s old, {place}"

    def _wanted(self, side: Side) -> dict[int, int]:
        """Target shares by book price."""
        state = self._state
        if side == Side.BID:
            return dict(zip(state.target_bid_cents, state.target_bid_lots, strict=True))
        return dict(zip(state.target_ask_cents, state.target_ask_lots, strict=True))

    def _origin(self, name: str) -> str:
        return self._market.config.origins.of(name).value


def _weighted(state: QuoterState) -> float:
    return (
        state.weight_anchor * state.anchor
        + state.weight_micro * state.micro
        + state.weight_posterior * state.posterior
    )


def _oracle_source(config: OracleConfig) -> str:
    if isinstance(config, PolymarketOracle):
        return f"polymarket token ...{config.token_id[-8:]}"
    if isinstance(config, KalshiOracle):
        return f"kalshi {config.ticker}"
    return "operator"


def _flags(flags: Flag) -> str:
    return ", ".join(str(flag.name) for flag in type(flags) if flag in flags)


def _until(what: str, until_ms: int, now_ms: int) -> str:
    return f"{what} for {(until_ms - now_ms) / _MS_PER_S:.1f} s more" if until_ms > now_ms else ""


def _tick(ticks: int) -> str:
    return str(ticks) if ticks >= 0 else _EMPTY


def _cents(cents: int) -> str:
    return str(cents) if cents > 0 else "none"


def _dollars(cents: int) -> str:
    return f"{'-' if cents < 0 else ''}${abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def _line(section: str, name: str, value: str, how: str = "") -> Line:
    return Line(section=section, name=name, value=value, how=how)
