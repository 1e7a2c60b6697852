"""Policy in the assembled quoter: phases, levels, gates, kills, reloads, as its orders and its row show them.

Rows of market-making §14 are named in the tests; docs/quoting-acceptance.md lists the mutation each catches.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine import config as configuration
from engine._native import ffi, lib
from engine.alerts import counts
from engine.arena import check, padded
from engine.events import (
    DefenseLevel,
    Direction,
    ExecutionKind,
    Gate,
    KillCause,
    Lifecycle,
    MarketStatus,
    OrderKind,
    Outcome,
    Phase,
    Scenario,
    Side,
)
from engine.quoting.transitions import PhaseReason
from tests.unit.test_quoter import DAY_MS, SLOT, WORKER, Venue, market


def started(tmp_path: Path, *, yes: int = 1_250, no: int = 1_250, cash: int = 250_000, **quote: Any) -> Venue:
    """A market with a live ladder that needs nothing."""
    venue = Venue(tmp_path, **quote)
    venue.run()
    venue.snapshot({45: 300, 44: 300}, {55: 300, 56: 300})
    venue.sync(yes=yes, no=no, cash=cash)
    venue.acknowledge(venue.run())
    assert venue.run(0.1) == []
    return venue


def restarted(venue: Venue, tmp_path: Path) -> None:
    """A new quoter process on the same arena."""
    lib.message_free_role(venue.order_ring)
    lib.broadcast_free_role(venue.arena.step_ring(WORKER))
    venue.quoter = venue.start(tmp_path)


def settle(venue: Venue, seconds: float, cycles: int = 1) -> None:
    """Lets time pass; the venue grants whatever is asked of it, each order in a slot of its own."""
    for _ in range(cycles):
        for intent in venue.run(seconds):
            slot = next(slot for slot in range(64) if market(venue).orders.by_slot(slot) is None)
            venue.acknowledge([intent], first_slot=slot)
            venue.quoter.do_work(venue.clock)


def gone(venue: Venue) -> None:
    """The venue confirms that everything is off the book."""
    for order in list(market(venue).live):
        venue.answer(ExecutionKind.CANCELLED, live_slot=order.live_slot)


def fill(venue: Venue, number: int, shares: int, *, price: int = 52, side: Side = Side.ASK) -> None:
    order = next(
        (o for o in market(venue).live if o.side == side and o.book_price_cents == price and not o.busy), None
    )
    venue.answer(
        ExecutionKind.FILL,
        live_slot=0xFFFF if order is None else order.live_slot,
        trade_id=f"t{number}",
        scenario=Scenario.TRANSFER_YES if side == Side.ASK else Scenario.TRANSFER_NO,
        book_side=side,
        price_cents=price,
        quantity=shares,
        fee_cents=1,
    )


def command(venue: Venue, number: int, kind: int, reason: str = "looked into it") -> None:
    record = ffi.new("command_record_t *", {"kind": kind, "market_slot": SLOT, "number": number})
    ffi.memmove(record.reason, padded(reason, 64), 64)
    ring = venue.arena.command_ring(lib.PROCESS_QUOTER_FIRST + WORKER)
    lib.message_acquire(ring, 1)
    check(lib.message_publish(ring, lib.COMMAND_RING_SLOTS, 1, record), "command ring")


def reload(venue: Venue, version: int, **quote: Any) -> None:
    """Another configuration in the market's slot."""
    document = {"exploration": {"min_volume": 0}, "lvr_velocity_threshold": 0.5, **quote}
    changed = configuration.parse({"markets": [{"id": "MKT-A", "quote": document}]}, "test").markets[0]
    venue.arena.write_config(SLOT, version, configuration.market_json(changed))


def resume(venue: Venue, number: int = 1) -> None:
    """A person asks, the quoter grants, the supervisor lowers the word."""
    command(venue, number, lib.COMMAND_RESUME)
    sent = venue.run(0.1)
    assert [intent.kind for intent in sent] == [OrderKind.SYNC], "the venue's word before any order"
    assert (row(venue).command_number, row(venue).command_refused, row(venue).kill_switch) == (number, 0, 0)
    lib.cell_clear(venue.arena.kill_market(SLOT), lib.KILL_RISK | lib.KILL_ADMIN)


def row(venue: Venue) -> Any:
    return market(venue).row.counters


def touch(venue: Venue, side: Side) -> int | None:
    prices = [order.book_price_cents for order in market(venue).live if order.side == side]
    return (max if side == Side.BID else min)(prices) if prices else None


# ---- phases -------------------------------------------------------------------------------------


def test_row4_a_new_market_explores_and_volume_ends_it(tmp_path: Path) -> None:
    venue = started(tmp_path, exploration={})
    assert (touch(venue, Side.BID), touch(venue, Side.ASK)) == (45, 55)
    assert sum(o.quantity for o in market(venue).live if o.side == Side.ASK) == 25 + 30 + 35 + 40 + 45
    for number in range(20):
        venue.trade(50 + number % 2 * 3, 10, Side.BID if number % 2 else Side.ASK)
    venue.acknowledge(venue.run(1.0), first_slot=20)
    assert row(venue).phase == Phase.STABILIZATION
    assert row(venue).phase_log[0].reason == PhaseReason.VOLUME_REACHED
    assert touch(venue, Side.ASK) is not None
    assert max(o.quantity for o in market(venue).live) == 100


def test_row4_time_and_stable_prices_end_it_too(tmp_path: Path) -> None:
    venue = started(tmp_path, exploration={})
    for _ in range(10):
        venue.trade(50, 1, Side.BID)
    venue.run(1.0)
    assert row(venue).phase_log[0].reason == PhaseReason.PRICE_STABLE
    other = started(tmp_path, exploration={"max_duration_ms": 300_000})
    other.run(299.0)
    assert row(other).phase == Phase.EXPLORATION
    other.run(2.0)
    assert row(other).phase_log[0].reason == PhaseReason.TIME_EXPIRED


def test_row4_a_wild_five_minutes_roll_back(tmp_path: Path) -> None:
    venue = started(tmp_path, price_jump_threshold=0.5)
    for price in (50, 56):
        venue.trade(price, 1, Side.BID)
    venue.run(1.0)
    state = row(venue)
    assert state.phase == Phase.EXPLORATION
    assert [state.phase_log[i].reason for i in range(2)] == [
        PhaseReason.VOLUME_REACHED,
        PhaseReason.EMERGENCY_ROLLBACK,
    ]
    assert state.rollback_until_ms == venue.clock.unix_ms + 600_000


def test_phase_clock_and_volume_survive_a_restart(tmp_path: Path) -> None:
    venue = started(tmp_path, exploration={})
    venue.trade(50, 150, Side.BID)
    venue.run(1.0)
    since = row(venue).phase_since_ms
    restarted(venue, tmp_path)
    assert (row(venue).phase_since_ms, row(venue).phase_volume) == (since, 150)
    venue.trade(52, 50, Side.BID)
    venue.run()
    venue.sync()
    venue.run(1.0)
    assert row(venue).phase_log[0].reason == PhaseReason.VOLUME_REACHED


# ---- levels -------------------------------------------------------------------------------------


def test_row5_the_live_ladder_widens_with_skew(tmp_path: Path) -> None:
    calm = started(tmp_path, yes=1_800, no=400)  # |q| 0.636
    wide = started(tmp_path, yes=1_850, no=150)  # EX-14: WIDEN 2.25
    assert row(calm).defense == DefenseLevel.NORMAL
    assert (row(wide).defense, row(wide).multiplier) == (DefenseLevel.WIDEN, 2.25)
    spreads = [(touch(venue, Side.ASK) or 0) - (touch(venue, Side.BID) or 0) for venue in (calm, wide)]
    assert spreads[1] >= 2 * spreads[0]


def test_row5_one_side_shows_only_what_reduces_and_buys_nothing(tmp_path: Path) -> None:
    venue = started(tmp_path, yes=1_920, no=80)
    state = row(venue)
    assert (state.defense, state.multiplier, state.discount_cents) == (DefenseLevel.ONE_SIDE, 2.8, 2)
    assert {(o.outcome, o.direction) for o in market(venue).live} == {(Outcome.YES, Direction.SELL)}
    assert touch(venue, Side.BID) is None


def test_a_fill_escalates_at_once_and_the_wrong_side_is_taken_off_order_by_order(tmp_path: Path) -> None:
    venue = started(tmp_path, yes=1_899, no=100)  # |q| 0.8999
    assert row(venue).defense == DefenseLevel.WIDEN
    fill(venue, 1, 5, price=touch(venue, Side.BID) or 0, side=Side.BID)  # SELL NO: |q| 0.9047
    sent = venue.run()
    assert row(venue).defense == DefenseLevel.ONE_SIDE
    assert {intent.kind for intent in sent} == {OrderKind.CANCEL}
    bids = {o.live_slot for o in market(venue).live if o.side == Side.BID and o.leaving}
    assert {intent.live_slot for intent in sent} >= bids


def test_row21_the_level_goes_down_only_by_calm_timed_cycles(tmp_path: Path) -> None:
    venue = started(tmp_path, yes=1_850, no=150)
    assert row(venue).defense == DefenseLevel.WIDEN
    venue.answer(ExecutionKind.SYNC_BEGIN)
    venue.sync(yes=1_000, no=1_000)
    for number in range(50):
        venue.trade(50, 1, Side.BID if number % 2 else Side.ASK)
        venue.run(0.01)
    assert row(venue).defense == DefenseLevel.WIDEN, "messages are no cycles"
    for _ in range(5):
        venue.run(1.0)
    assert row(venue).defense == DefenseLevel.NORMAL


# ---- kills --------------------------------------------------------------------------------------


def test_row5_a_loss_beyond_the_limit_kills_once_and_for_all(tmp_path: Path) -> None:
    venue = started(tmp_path)
    venue.answer(ExecutionKind.CASH, cash_cents=250_000 - 50_000)
    venue.run(1.0)
    assert row(venue).kill_switch == 0, "exactly the limit is no breach"
    venue.answer(ExecutionKind.CASH, cash_cents=250_000 - 50_001)
    sent = venue.run(1.0)
    assert [intent.kind for intent in sent] == [OrderKind.BATCH_CANCEL]
    state = row(venue)
    assert (state.kill_switch, state.lifecycle, state.defense) == (1, Lifecycle.EMERGENCY, 3)
    assert KillCause(state.kill_causes) == KillCause.DAILY_LOSS
    assert venue.arena.killed(SLOT) == lib.KILL_RISK
    assert state.phase == Phase.EXPLORATION, "D3: a resume starts wide"


@pytest.mark.parametrize("cash_after", [190_000, 250_000])
def test_row26_one_batch_cancel_through_a_thousand_calm_cycles_and_a_restart(
    tmp_path: Path, cash_after: int
) -> None:
    """Whether the loss is still there after the restart or not: the kill is, and so is the day's baseline."""
    venue = started(tmp_path)
    venue.answer(ExecutionKind.CASH, cash_cents=190_000)
    sent = venue.run(1.0)
    for _ in range(10):
        sent += venue.run(1.0)  # the venue has not confirmed anything yet: the gateway's matter
    gone(venue)
    for _ in range(1_000):
        sent += venue.run(1.0)
    assert [intent.kind for intent in sent] == [OrderKind.BATCH_CANCEL]
    restarted(venue, tmp_path)
    sent = venue.run()
    assert [intent.kind for intent in sent] == [OrderKind.SYNC]
    venue.snapshot({45: 300, 44: 300}, {55: 300, 56: 300})
    venue.sync(cash=cash_after)
    assert venue.run(5.0) == []
    state = row(venue)
    assert (state.lifecycle, KillCause(state.kill_causes)) == (Lifecycle.EMERGENCY, KillCause.DAILY_LOSS)
    assert state.daily_pnl_cents == cash_after - 250_000


@pytest.mark.parametrize("next_day", [False, True])
def test_a_resume_is_refused_while_the_cause_holds(tmp_path: Path, next_day: bool) -> None:
    """§9.4: the next day has a new baseline, but only a person opens the kill switch."""
    venue = started(tmp_path, exploration={})
    venue.answer(ExecutionKind.CASH, cash_cents=250_000 - 60_000)
    venue.run(1.0)
    gone(venue)
    if next_day:
        venue.run(DAY_MS / 1_000)
        assert (row(venue).daily_pnl_cents, row(venue).kill_switch) == (0, 1)
    if not next_day:
        command(venue, 7, lib.COMMAND_RESUME)
        sent = venue.run(1.0)
        assert row(venue).command_number == 7
        assert KillCause(row(venue).command_refused) == KillCause.DAILY_LOSS
        assert (row(venue).lifecycle, venue.arena.killed(SLOT)) == (Lifecycle.EMERGENCY, lib.KILL_RISK)
        assert sent == []
        return
    resume(venue)
    venue.snapshot({45: 300, 44: 300}, {55: 300, 56: 300})
    venue.sync(cash=190_000)
    placed = venue.run()
    assert {intent.kind for intent in placed} == {OrderKind.PLACE}
    assert {intent.basis_phase for intent in placed} == {Phase.EXPLORATION}, "wide after a loss"


def test_a_resume_with_a_higher_limit_in_the_same_request_is_granted(tmp_path: Path) -> None:
    venue = started(tmp_path)
    venue.answer(ExecutionKind.CASH, cash_cents=250_000 - 60_000)
    venue.run(1.0)
    gone(venue)
    reload(venue, 2, max_loss_daily_cents=100_000)
    resume(venue)
    assert row(venue).config_version == 2


def test_row21_suspended_kills_and_active_resumes(tmp_path: Path) -> None:
    venue = started(tmp_path)
    venue.answer(ExecutionKind.MARKET_STATUS, code=MarketStatus.SUSPENDED)
    assert [intent.kind for intent in venue.run()] == [OrderKind.BATCH_CANCEL]
    assert KillCause(row(venue).kill_causes) == KillCause.MARKET_SUSPENDED
    assert row(venue).lifecycle == Lifecycle.EMERGENCY
    gone(venue)
    assert venue.run(10.0) == []
    venue.answer(ExecutionKind.MARKET_STATUS, code=MarketStatus.ACTIVE)
    assert OrderKind.SYNC in {intent.kind for intent in venue.run(1.0)}
    venue.sync()
    assert {intent.kind for intent in venue.run(1.0)} == {OrderKind.PLACE}
    assert row(venue).kill_switch == 0


def test_halted_needs_a_person(tmp_path: Path) -> None:
    venue = started(tmp_path)
    venue.answer(ExecutionKind.MARKET_STATUS, code=MarketStatus.HALTED)
    venue.run()
    gone(venue)
    venue.answer(ExecutionKind.MARKET_STATUS, code=MarketStatus.ACTIVE)
    assert venue.run(10.0) == []
    assert KillCause(row(venue).kill_causes) == KillCause.MARKET_HALTED
    resume(venue)


def test_a_persons_kill_is_latched_until_a_resume_although_its_bit_stays_a_while(tmp_path: Path) -> None:
    venue = started(tmp_path)
    lib.cell_or(venue.arena.kill_market(SLOT), lib.KILL_ADMIN)
    assert [intent.kind for intent in venue.run(1.0)] == [OrderKind.BATCH_CANCEL]
    gone(venue)
    assert venue.run(10.0) == []
    assert KillCause(row(venue).kill_causes) == KillCause.ADMIN
    resume(venue)


def test_an_order_that_is_not_ours_kills(tmp_path: Path) -> None:
    venue = started(tmp_path)
    venue.answer(ExecutionKind.REJECTED, intent=1, code=6004)
    venue.run()
    assert KillCause(row(venue).kill_causes) == KillCause.OWNERSHIP


def test_a_jump_of_market_prices_kills(tmp_path: Path) -> None:
    venue = started(tmp_path)
    venue.trade(50, 1, Side.BID)
    venue.trade(58, 1, Side.BID)
    assert OrderKind.BATCH_CANCEL in {intent.kind for intent in venue.run()}
    assert KillCause(row(venue).kill_causes) == KillCause.PRICE_JUMP


def test_a_stale_book_of_more_than_a_minute_kills(tmp_path: Path) -> None:
    venue = started(tmp_path)
    venue.invalidate()
    venue.run()
    gone(venue)
    venue.run(60.0)
    assert row(venue).kill_switch == 0
    venue.run(1.5)
    assert KillCause(row(venue).kill_causes) == KillCause.GATE_TIMEOUT


def test_a_person_hears_of_what_is_not_the_days_work(tmp_path: Path) -> None:
    venue = started(tmp_path)
    for code in (6001, 6003, 4006, int(lib.LOCAL_RATE_LIMIT)):
        venue.answer(ExecutionKind.REJECTED, intent=999, code=code)
    venue.run()
    assert {count.name for count in counts(venue.quoter.proc.row)} == {"PHASE_CHANGED"}
    for code in (4001, 6005, 6004):
        venue.answer(ExecutionKind.REJECTED, intent=999, code=code)
    order = market(venue).live[0]
    venue.answer(ExecutionKind.CANCELLED, live_slot=order.live_slot)
    venue.run(1.0)
    assert {count.name for count in counts(venue.quoter.proc.row)} == {
        "PHASE_CHANGED",
        "ORDER_REJECTED",
        "MARKET_MISMATCH",
        "ORDER_OWNERSHIP",
        "KILL_SWITCH",
    }


# ---- gates --------------------------------------------------------------------------------------


def test_the_velocity_lock_pulls_everything_for_five_seconds(tmp_path: Path) -> None:
    """EX-26 live: 28 of 277 asks."""
    venue = started(tmp_path, lvr_velocity_threshold=0.10)
    fill(venue, 1, 28)
    assert [intent.kind for intent in venue.run()] == [OrderKind.BATCH_CANCEL]
    assert market(venue).gates == Gate.POST_FILL | Gate.LVR_COOLDOWN
    assert row(venue).lvr_cooldown_until_ms == venue.clock.unix_ms + 5_000
    gone(venue)
    assert venue.run(4.9) == []
    assert {intent.kind for intent in venue.run(0.2)} == {OrderKind.PLACE}
    other = started(tmp_path, lvr_velocity_threshold=0.10)
    fill(other, 1, 27)
    assert OrderKind.BATCH_CANCEL not in {intent.kind for intent in other.run()}


def test_an_order_that_lands_after_the_pull_is_pulled_at_once(tmp_path: Path) -> None:
    venue = started(tmp_path, lvr_velocity_threshold=0.10)
    late = market(venue).live[-1]
    orders = market(venue).orders.native
    orders.orders[orders.count - 1].flags |= lib.OWN_ORDER_BUSY  # under way while the others are pulled
    fill(venue, 1, 28)
    assert [intent.kind for intent in venue.run()] == [OrderKind.BATCH_CANCEL]
    venue.answer(
        ExecutionKind.ACKED,
        intent=late.intent,
        live_slot=late.live_slot,
        quantity=late.quantity,
        remaining=late.remaining,
    )
    assert [intent.kind for intent in venue.run()] == [OrderKind.BATCH_CANCEL]
    assert venue.run(0.5) == [], "and only once"


def test_three_velocity_locks_in_a_minute_kill(tmp_path: Path) -> None:
    venue = started(tmp_path, lvr_velocity_threshold=0.10)
    for number in range(3):
        fill(venue, number, 60, price=touch(venue, Side.ASK) or 0)
        venue.run()
        gone(venue)
        venue.acknowledge(venue.run(5.1), first_slot=20 * (number + 1))
    assert KillCause(row(venue).kill_causes) == KillCause.LVR_REPEAT


@pytest.mark.spec_examples
def test_ex32_a_filled_replace_counts_once_and_waits_for_the_delay(tmp_path: Path) -> None:
    venue = started(tmp_path)
    old = next(o for o in market(venue).live if o.book_price_cents == 52)
    fill(venue, 1, 30)
    venue.answer(ExecutionKind.CANCELLED, live_slot=old.live_slot, quantity=70)
    venue.answer(ExecutionKind.REJECTED, intent=999, code=6001)
    venue.run()
    fill(venue, 1, 30)  # the same trade by the next poll
    venue.run()
    assert market(venue).stock.yes_volume == 1_220
    assert OrderKind.PLACE not in {intent.kind for intent in venue.run(2.4)}
    placed = [i for i in venue.run(0.2) if i.kind in (OrderKind.PLACE, OrderKind.REPLACE)]
    assert placed
    asks = sum(
        o.remaining for o in market(venue).live if (o.outcome, o.direction) == (0, 1) and not o.leaving
    )
    assert asks <= 1_220


def test_row29_steady_state_sends_nothing_for_100_cycles_in_either_phase(tmp_path: Path) -> None:
    for exploration in ({}, {"min_volume": 0}):
        # orders hold most of the stock; without reinvestment, which would mint more
        venue = started(tmp_path, yes=200, no=200, exploration=exploration, auto_reinvest_enabled=False)
        for _ in range(100):
            assert venue.run(1.0) == []


def test_row29_a_replace_under_way_is_no_oversale(tmp_path: Path) -> None:
    """Its two orders hold the same shares in turn: nothing is asked of the venue, and quoting goes on."""
    # one order a side, of all that is held
    quote: dict[str, Any] = {"qty_per_level": 900, "allow_buy": False, "auto_reinvest_enabled": False}
    venue = started(tmp_path, yes=200, no=200, **quote)
    reload(venue, 2, base_spread_cents=4, **quote)
    replaced = venue.run(1.0)
    assert {intent.kind for intent in replaced} == {OrderKind.REPLACE}
    assert [o.remaining for o in market(venue).live if o.outcome == Outcome.YES] == [200, 200]
    assert (row(venue).yes_available, row(venue).no_available) == (0, 0)
    for _ in range(3):
        assert venue.run(1.0) == []
        assert market(venue).synced
        assert not market(venue).gates
    for intent in replaced:  # of an unknown outcome either order may be live: both count (§6.3)
        venue.answer(ExecutionKind.UNKNOWN, intent=intent.intent)
    venue.run(1.0)
    venue.run(1.0)
    assert (row(venue).yes_available, row(venue).no_available) == (-200, -200)
    assert market(venue).gates & Gate.INVENTORY


def test_a2_an_oversale_holds_back_the_other_side_too(tmp_path: Path) -> None:
    """Even while the venue's word waits for a request under way."""
    quote: dict[str, Any] = {"qty_per_level": 900, "allow_buy": False, "auto_reinvest_enabled": False}
    venue = started(tmp_path, yes=200, no=200, **quote)
    reload(venue, 2, base_spread_cents=4, **quote)
    by_outcome = {intent.outcome: intent for intent in venue.run(1.0)}
    venue.acknowledge([by_outcome[Outcome.NO]], first_slot=9)
    venue.answer(ExecutionKind.UNKNOWN, intent=by_outcome[Outcome.YES].intent)
    reload(venue, 3, base_spread_cents=8, **quote)
    assert venue.run(1.0) == []
    assert not market(venue).synced
    assert row(venue).yes_available == -200


def test_spare_cash_is_minted_into_pairs_once_a_minute(tmp_path: Path) -> None:
    """EX-24 live: 1900 pairs of 480 / 450, and nothing more."""
    venue = Venue(tmp_path)
    venue.run()
    venue.snapshot({45: 300}, {55: 300})
    venue.sync(yes=480, no=450, cash=240_000)
    venue.acknowledge(venue.run())
    minted = [intent for intent in venue.run(1.0) if intent.kind == OrderKind.MINT]
    assert [intent.quantity for intent in minted] == [1_900]
    venue.answer(
        ExecutionKind.MINTED,
        intent=minted[0].intent,
        quantity=1_900,
        yes_volume=2_380,
        no_volume=2_350,
        yes_cost_cents=119_000,
        no_cost_cents=117_500,
        cash_cents=50_000,
    )
    settle(venue, 1.0, cycles=90)
    assert market(venue).stock.yes_volume == 2_380
    assert row(venue).corrections_cents == 0, "a pair is worth what it costs"
    assert not any(intent.kind in (OrderKind.MINT, OrderKind.BURN) for intent in venue.run(60.0))


def test_split_funding_rests_all_four_kinds_at_once(tmp_path: Path) -> None:
    venue = started(tmp_path, funding_mode="SPLIT")
    kinds = {(o.outcome, o.direction) for o in market(venue).live}
    assert kinds == {(outcome, direction) for outcome in Outcome for direction in Direction}
    bid, ask = touch(venue, Side.BID), touch(venue, Side.ASK)
    assert bid is not None
    assert ask is not None
    assert bid < ask


# ---- oracle -------------------------------------------------------------------------------------


def with_oracle(tmp_path: Path, **quote: Any) -> Venue:
    return started(tmp_path, oracle={"source": "operator"}, **quote)


def test_row1_no_price_is_two_sided_and_wide_until_the_first_refresh(tmp_path: Path) -> None:
    """Failures in between are no values, and recovery ends the widening."""
    venue = with_oracle(tmp_path)
    assert (row(venue).defense, row(venue).multiplier) == (DefenseLevel.WIDEN, 3.0)
    assert touch(venue, Side.BID) is not None
    assert touch(venue, Side.ASK) is not None
    venue.oracle(50)
    settle(venue, 1.0, cycles=6)
    assert row(venue).defense == DefenseLevel.NORMAL
    for _ in range(31):
        venue.oracle(None)
        venue.run(1.0)
    assert row(venue).defense == DefenseLevel.WIDEN, "the last value is older than 30 s"
    assert row(venue).anchor == 50, "a failure is no price"
    venue.oracle(51)
    for _ in range(6):
        venue.run(1.0)
    assert (row(venue).defense, row(venue).anchor) == (DefenseLevel.NORMAL, 51)


@pytest.mark.parametrize(("price", "pulled"), [(56, Side.ASK), (44, Side.BID)])
def test_row25_a_jump_of_the_oracle_pulls_the_side_it_moved_toward(
    tmp_path: Path, price: int, pulled: Side
) -> None:
    venue = with_oracle(tmp_path, oracle_deviation_cents=10)
    venue.oracle(50)
    settle(venue, 1.0)
    venue.oracle(price)
    settle(venue, 1.0, cycles=3)
    assert market(venue).gates & Gate.ORACLE_GAP
    assert touch(venue, pulled) is None
    assert touch(venue, Side.BID if pulled == Side.ASK else Side.ASK) is not None
    settle(venue, 29.0)
    assert not market(venue).gates & Gate.ORACLE_GAP
    settle(venue, 1.0, cycles=2)
    assert touch(venue, pulled) is not None


def test_row25_a_deviation_pulls_everything_until_thirty_calm_seconds(tmp_path: Path) -> None:
    venue = with_oracle(tmp_path, anchor_initial_weight=0.0)
    venue.oracle(50)
    settle(venue, 1.0)
    venue.oracle(54)
    settle(venue, 1.0)
    assert not market(venue).gates & Gate.ORACLE_DEVIATION
    venue.oracle(58)
    sent = venue.run(1.0)
    assert OrderKind.BATCH_CANCEL in {intent.kind for intent in sent}
    assert market(venue).gates & Gate.ORACLE_DEVIATION
    gone(venue)
    venue.oracle(54)
    for _ in range(29):
        venue.oracle(54)
        assert venue.run(1.0) == []
    venue.run(2.0)
    assert not market(venue).gates & Gate.ORACLE_DEVIATION


def test_row30_without_trades_the_fair_price_is_the_anchor(tmp_path: Path) -> None:
    venue = Venue(tmp_path, oracle={"source": "operator"}, initial_price_cents=50)
    venue.run()
    venue.oracle(63)
    venue.snapshot({}, {})
    venue.sync()
    venue.run(1.0)
    assert (row(venue).fair_price_cents, row(venue).posterior) == (63, 63.0)


# ---- configuration and explanation --------------------------------------------------------------


def test_row17_a_new_configuration_holds_from_the_next_cycle(tmp_path: Path) -> None:
    venue = started(tmp_path)
    assert (touch(venue, Side.BID), touch(venue, Side.ASK)) == (48, 52)
    reload(venue, 2, base_spread_cents=4)
    sent = venue.run(1.0)
    assert {intent.config_version for intent in sent} == {2}
    assert {i.price_cents for i in sent if i.outcome == Outcome.YES} >= {54}
    assert row(venue).config_version == 2


def test_a_lowered_loss_limit_already_exceeded_kills_at_once(tmp_path: Path) -> None:
    venue = started(tmp_path)
    venue.answer(ExecutionKind.CASH, cash_cents=250_000 - 30_000)
    venue.run(1.0)
    assert row(venue).kill_switch == 0
    reload(venue, 2, max_loss_daily_cents=20_000)
    assert OrderKind.BATCH_CANCEL in {intent.kind for intent in venue.run(1.0)}
    assert KillCause(row(venue).kill_causes) == KillCause.DAILY_LOSS


def test_ramps_take_spread_a_cent_a_second(tmp_path: Path) -> None:
    venue = started(tmp_path, config_ramp_enabled=True)
    reload(venue, 2, base_spread_cents=5, config_ramp_enabled=True)
    widths = []
    for _ in range(5):
        venue.run(1.0)
        widths.append(round(row(venue).half_spread_ask, 6))
    assert widths[:3] == [3.1, 4.1, 5.0], "the first cycle is 1.1 s after the last one before"
    assert widths[-1] == 5.0


def test_every_order_carries_its_basis(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    venue.run()
    venue.snapshot({45: 300}, {55: 300})
    venue.sync(yes=1_850, no=150)
    placed = venue.run()
    state = row(venue)
    for intent in placed:
        assert intent.generation == state.generation
        assert intent.basis_fair_cents == state.fair_price_cents
        assert (intent.basis_anchor, intent.basis_posterior) == (state.anchor, state.posterior)
        assert intent.basis_weight_anchor == pytest.approx(state.weight_anchor)
        assert intent.basis_sigma == pytest.approx(state.sigma)
        assert intent.basis_gamma == pytest.approx(1.5)
        assert intent.basis_tau == pytest.approx(state.tau)
        assert intent.basis_skew == pytest.approx(0.85)
        assert intent.basis_multiplier == pytest.approx(2.25)
        assert (intent.basis_phase, intent.basis_defense) == (Phase.STABILIZATION, DefenseLevel.WIDEN)
        assert (intent.config_version, intent.basis_gates) == (1, 0)
        assert intent.inventory_version == state.inventory_version


def test_tolerated_drift_changes_nothing_and_more_rebuilds(tmp_path: Path) -> None:
    """EX-30 live; row 3: what is beyond the tolerance is corrected by the next SYNC."""
    venue = started(tmp_path)
    market(venue).reconcile()
    venue.run(0.1)
    venue.sync(yes=1_252, cash=250_100)
    venue.run(0.1)
    assert market(venue).stock.yes_volume == 1_250
    market(venue).reconcile()
    venue.run(0.1)
    venue.sync(yes=1_253, cash=250_100)
    venue.run(0.1)
    assert (market(venue).stock.yes_volume, market(venue).stock.cash_cents) == (1_253, 250_100)


def test_profit_adds_up_to_the_cent_over_fills_a_correction_and_a_restart(tmp_path: Path) -> None:
    venue = started(tmp_path)
    fill(venue, 1, 30)
    fill(venue, 2, 10, price=48, side=Side.BID)
    venue.trade(53, 5, Side.BID)
    venue.answer(ExecutionKind.CASH, cash_cents=market(venue).stock.cash_cents + 500)
    venue.run(3.0)
    assert row(venue).fees_paid_cents == 2
    add_up(venue)
    stock = market(venue).stock
    restarted(venue, tmp_path)
    venue.run()
    venue.snapshot({45: 300, 44: 300}, {55: 300, 56: 300})
    venue.sync(yes=stock.yes_volume - 40, no=stock.no_volume, cash=stock.cash_cents + 40 * 51)
    venue.run()
    assert row(venue).corrections_cents != 0, "sold while nobody looked"
    fill(venue, 3, 10)
    venue.run(3.0)
    add_up(venue)


def add_up(venue: Venue) -> None:
    """The identity of §12 on the state row, and the day's profit with it."""
    state, stock = row(venue), market(venue).stock
    total = (
        state.spread_pnl_cents
        + state.inventory_pnl_cents
        - state.fees_paid_cents
        + state.flows_cents
        + state.corrections_cents
    )
    assets = (
        stock.cash_cents + stock.yes_volume * state.mark_cents + stock.no_volume * (100 - state.mark_cents)
    )
    assert assets - state.start_assets_cents == total == state.daily_pnl_cents
