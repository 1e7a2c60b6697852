"""Demonstrations on a live engine: each defence level, the latched kill, four kinds of orders, hot reload."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
import uvloop

from engine.events import Gate, KillCause, Lifecycle, Phase, Side
from tests.scenarios.live import Live, OracleVoice, live, private

pytestmark = pytest.mark.timeout(420)

# The market's own trades move further than a market with people in it, and this machine is late now and then.
PATIENT: dict[str, Any] = {
    "price_jump_threshold": 0.5,
    "min_abs_move_cents": 10,
    "max_latency_ms": 1_000,
    "rollback": {"volatility_threshold": 0.30},
    "post_fill_delay_ms": 500,
}
ESCALATED, SWEPT = "MKT-ESCALATED", "MKT-SWEPT"
SMALL_LOSS_CENTS = 10_000


def run_live(body: Any) -> None:
    uvloop.run(body)


async def seen_everywhere(engine: Live, market: str, level: str) -> None:
    """The level in the state row, in Redis and in ``corequote explain``."""
    await engine.until(
        lambda: engine.hash("state", market).get("defense_level") == level,
        f"Redis says {level} of {market}",
    )
    assert engine.state(market).defense.name == level
    assert level in await engine.corequote("explain", market)


async def sell_down(engine: Live, market: str, until_skew: float, portion: int) -> None:
    """One-sided takers buy YES in portions below the LVR limit until |q| is above ``until_skew``."""
    deadline = asyncio.get_running_loop().time() + 150
    while abs(engine.state(market).skew) <= until_skew:
        assert asyncio.get_running_loop().time() < deadline, f"skew stays at {engine.state(market).skew}"
        resting = sum(shares for (side, _), shares in engine.book(market).items() if side == Side.ASK)
        # below a tenth of what rests on the side, as the LVR gate counts it
        shares = min(portion, math.ceil(resting / 10) - 1)
        if shares > 0:
            await engine.take(market, buy=True, price_cents=95, quantity=shares)
        await asyncio.sleep(0.7)
        assert not engine.state(market).kill_causes, "a portion below the limit kills nothing"


@pytest.mark.live
def test_levels_rise_to_the_kill_which_stays(tmp_path: Path) -> None:
    async def body() -> None:
        small = {"min_asset_floor_cents": 0, "max_loss_daily_cents": SMALL_LOSS_CENTS}
        markets = {
            ESCALATED: {
                "quote": {
                    **PATIENT,
                    **small,
                    "initial_funding_cents": 100_000,
                    "budget_limit_cents": 100_000,
                    # to sell down one side in a minute, a market must offer more of it than it would
                    "qty_per_level": 400,
                    "allow_buy": False,
                },
                "oracle": {"source": "operator"},
            },
            SWEPT: {
                "quote": {**PATIENT, **small, "initial_funding_cents": 10_000, "budget_limit_cents": 100_000}
            },
        }
        async with live(private(tmp_path), markets) as engine:
            await engine.start_engine()
            await engine.until(
                lambda: (
                    all(engine.has_state(market) for market in markets)
                    and all(engine.quotes_both(market) for market in markets)
                ),
                "both markets quote both sides",
            )
            async with engine.oracle(ESCALATED, 50) as oracle:
                for market in markets:
                    await seen_everywhere(engine, market, "NORMAL")
                await sweep_kills(engine)
                await escalate(engine)
                await kill_by_price(engine, oracle)
            await stays_killed(engine)
            await resumes_wide(engine)
            assert await engine.stage.close_engine() == []
            assert await engine.stage.close_exchange() == []

    run_live(body())


async def sweep_kills(engine: Live) -> None:
    """NORMAL straight to KILL: one order takes the whole side."""
    touch = engine.prices(SWEPT, Side.ASK)
    assert touch
    filled = await engine.take(SWEPT, buy=True, price_cents=95, quantity=5_000)
    assert filled >= 50, "all that the market held of YES"
    await engine.until(lambda: bool(engine.state(SWEPT).kill_causes), "the sweep kills")
    state = engine.state(SWEPT)
    assert KillCause.SKEW in state.kill_causes
    assert state.lifecycle == Lifecycle.EMERGENCY
    await engine.until(lambda: not engine.book(SWEPT), "nothing of it is left in the book")
    await seen_everywhere(engine, SWEPT, "KILL_SWITCH")
    assert engine.hash("state", SWEPT)["kill_switch"] == "ON"


async def escalate(engine: Live) -> None:
    """NORMAL, WIDEN, ONE_SIDE, each seen in the book by what it does to it."""
    await sell_down(engine, ESCALATED, 0.80, portion=27)
    await seen_everywhere(engine, ESCALATED, "WIDEN")
    state = engine.state(ESCALATED)
    assert state.multiplier > 1.4
    await engine.until(lambda: engine.quotes_both(ESCALATED), "WIDEN quotes both sides")
    bid, ask = engine.prices(ESCALATED, Side.BID)[0], engine.prices(ESCALATED, Side.ASK)[0]
    assert ask - bid >= 6, "half-spreads of at least 1.5 times two cents"
    await sell_down(engine, ESCALATED, 0.90, portion=5)
    await seen_everywhere(engine, ESCALATED, "ONE_SIDE")
    await engine.until(
        lambda: not engine.prices(ESCALATED, Side.ASK) and bool(engine.prices(ESCALATED, Side.BID)),
        "only the side that reduces is left: bids, by SELL NO",
    )
    await engine.until(
        lambda: engine.book_types(ESCALATED) == {"SYNTHETIC_BUY"}, "Redis shows SELL NO orders alone"
    )


async def kill_by_price(engine: Live, oracle: OracleVoice) -> None:
    """The price moves against the stock until the day's loss is too large."""
    oracle.price_cents = 95
    await engine.until(
        lambda: KillCause.DAILY_LOSS in engine.state(ESCALATED).kill_causes, "the loss kills the market"
    )
    assert engine.state(ESCALATED).daily_pnl_cents < -SMALL_LOSS_CENTS
    await engine.until(lambda: not engine.book(ESCALATED), "nothing of it is left in the book")
    await seen_everywhere(engine, ESCALATED, "KILL_SWITCH")


async def stays_killed(engine: Live) -> None:
    """A restart of everything changes nothing about a latched kill."""
    observer = engine.stage.observer
    before = {market: observer.fold.market(market).changes for market in (ESCALATED, SWEPT)}
    causes = {market: engine.state(market).kill_causes for market in (ESCALATED, SWEPT)}
    assert await engine.stage.close_engine() == []
    await engine.start_engine()
    for market in (ESCALATED, SWEPT):
        await engine.until(
            lambda market=market: (
                engine.has_state(market)  # type: ignore[misc]
                and engine.state(market).lifecycle == Lifecycle.EMERGENCY
            ),
            f"{market} comes back in EMERGENCY",
        )
        assert engine.state(market).kill_causes & causes[market] == causes[market]
        await seen_everywhere(engine, market, "KILL_SWITCH")
    await asyncio.sleep(3.0)  # three cycles in which nothing may be sent
    await observer.catch_up()
    assert {market: observer.fold.market(market).changes for market in before} == before


async def resumes_wide(engine: Live) -> None:
    """A resume is refused while the cause holds; afterwards the market begins wide."""
    refused = await engine.corequote("resume", SWEPT, "--reason", "test", code=1)
    assert "SKEW" in refused
    assert engine.state(SWEPT).lifecycle == Lifecycle.EMERGENCY

    async with engine.oracle(ESCALATED, 50):
        await engine.until(
            lambda: engine.state(ESCALATED).daily_pnl_cents > -SMALL_LOSS_CENTS, "the price came back"
        )
        await engine.corequote("resume", ESCALATED, "--reason", "the price came back")
        await engine.until(lambda: engine.state(ESCALATED).lifecycle == Lifecycle.RUNNING, "it runs again")
        assert not engine.state(ESCALATED).kill_causes
        assert engine.state(ESCALATED).phase == Phase.EXPLORATION, "a resume after a loss begins wide"
        await engine.until(lambda: bool(engine.book(ESCALATED)), "it quotes again")
        await engine.until(
            lambda: engine.hash("state", ESCALATED)["phase"] == "EXPLORATION", "Redis says that it explores"
        )


def test_all_four_kinds_of_orders_rest_at_once(tmp_path: Path) -> None:
    async def body() -> None:
        market = "MKT-SPLIT"
        async with live(
            private(tmp_path), {market: {"quote": {**PATIENT, "funding_mode": "SPLIT"}}}
        ) as engine:
            await engine.start_engine()
            everything = {"NATIVE_BUY", "NATIVE_SELL", "SYNTHETIC_BUY", "SYNTHETIC_SELL"}
            await engine.until(lambda: engine.book_types(market) == everything, "four kinds rest at once")
            for number in range(12):  # and stay apart while fills and moves re-plan them
                await engine.take(
                    market, buy=number % 2 == 0, price_cents=60 if number % 2 == 0 else 40, quantity=5
                )
                await asyncio.sleep(0.4)
                await engine.stage.observer.catch_up()
                bids, asks = engine.prices(market, Side.BID), engine.prices(market, Side.ASK)
                assert not bids or not asks or bids[0] < asks[0]
            await engine.until(lambda: engine.book_types(market) == everything, "four kinds rest again")
            assert await engine.stage.close_engine() == []

    run_live(body())


def test_a_valid_change_takes_hold_and_an_invalid_one_says_why(tmp_path: Path) -> None:
    async def body() -> None:
        market = "MKT-RELOAD"
        quote = {**PATIENT, "config_reload_interval_ms": 5_000}
        async with live(private(tmp_path), {market: {"quote": quote}}) as engine:
            await engine.start_engine()
            await engine.until(
                lambda: engine.has_state(market) and engine.quotes_both(market), "the market quotes"
            )
            before = engine.state(market).config_version
            narrow = engine.prices(market, Side.ASK)[0] - engine.prices(market, Side.BID)[0]
            await engine.corequote("config", "set", market, "exploration.spread=9")
            await engine.until(lambda: engine.state(market).config_version > before, "the change is taken up")
            await engine.until(
                lambda: (
                    engine.quotes_both(market)
                    and engine.prices(market, Side.ASK)[0] - engine.prices(market, Side.BID)[0] == narrow + 8
                ),
                "both halves of the spread in the book are four cents wider",
            )
            await engine.until(lambda: not engine.state(market).gates & Gate.POST_FILL, "quoting is free")

            applied = engine.state(market).config_version
            levels = engine.book(market)
            refused = await engine.corequote("config", "set", market, "exploration.spread=99", code=78)
            assert "exploration.spread" in refused
            with engine.redis() as connection:  # somebody writes past the command
                key = f"amm:config:{market}"
                version = int(connection.hget(key, "config_version") or 0)  # type: ignore[arg-type]
                connection.hset(
                    key, mapping={"base_spread_cents": "ninety", "config_version": str(version + 1)}
                )
            log = engine.stage.run_dir / "log" / "control.log"
            await engine.until(
                lambda: "base_spread_cents" in log.read_text(), "the control process says what is wrong"
            )
            await asyncio.sleep(1.5)  # a cycle more than it would take
            assert engine.state(market).config_version == applied
            assert engine.book(market) == levels
            assert await engine.stage.close_engine() == []

    run_live(body())
