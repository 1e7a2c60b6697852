"""Simulated traders as a real process against a real exchange, and their hidden value."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.paper.traders import DEFAULT_KINDS, KINDS, HiddenValue, main, usernames
from tests.integration.participants import (
    ROOT,
    PaperExchange,
    Process,
    eventually,
    exchange_in,
    running,
)

MARKETS = ("MKT-BTC-100K-2026", "MKT-ETH-10K-2026", "MKT-FED-RATE-CUT-2026Q2")
SCENARIOS = ("MINT", "TRANSFER_YES", "TRANSFER_NO", "BURN")


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[PaperExchange]:
    with exchange_in(tmp_path) as started:
        yield started


def start(folder: Path, exchange: PaperExchange, *options: str) -> Process:
    command = ["engine.paper.traders", "--url", exchange.url, "--markets", ",".join(MARKETS), "--seed", "7"]
    return Process(folder, *command, *options)


def two_sided(exchange: PaperExchange) -> bool:
    operator = exchange.operator()
    return all(all(operator.ladder(market_id)) for market_id in MARKETS)


def test_they_trade_every_market_in_every_scenario_and_leave_nothing_behind(
    tmp_path: Path, exchange: PaperExchange
) -> None:
    with running(start(tmp_path, exchange, "--rate", "400", "--run", "a")) as traders:
        ready = traders.event()
        assert ready["accounts"] == [
            name for names in usernames(seed=7, run_id="a").values() for name in names
        ]
        assert two_sided(exchange)
        operator = exchange.operator()

        def all_seen() -> bool:
            stats = [operator.get(f"admin/markets/{market_id}/stats") for market_id in MARKETS]
            return all(
                each["trades_by_scenario"].get(scenario, 0) > 0 for each in stats for scenario in SCENARIOS
            )

        eventually(all_seen, what="all four scenarios in all three markets")
        for market_id in MARKETS:
            bids, asks = operator.ladder(market_id)
            assert all(5 <= price <= 95 for price, _ in bids + asks)
        traders.send_signal(signal.SIGTERM)
        assert traders.wait() == 0, traders.log()
        assert [operator.ladder(market_id) for market_id in MARKETS] == [([], [])] * 3
        assert operator.post("admin/verify-invariants", {})["all_passed"]


def test_a_market_maker_inside_their_quotes_is_filled_on_both_sides(
    tmp_path: Path, exchange: PaperExchange
) -> None:
    maker = exchange.account("maker", "Maker-password-1", deposit_cents=10_000_000)
    quotes = {("YES", 48): "", ("NO", 48): ""}
    filled = dict.fromkeys(quotes, 0)

    def quote_and_count() -> bool:
        for (side, price_cents), order_id in quotes.items():
            if order_id:
                order = maker.get(f"orders/{order_id}")["order"]
                filled[side, price_cents] += order["status"] == "FILLED"
                if order["status"] != "FILLED":
                    continue
            quotes[side, price_cents] = maker.buy(MARKETS[0], side, price_cents, 5)["order"]["id"]
        return all(count >= 3 for count in filled.values())

    with running(start(tmp_path, exchange)) as traders:
        traders.event()
        eventually(quote_and_count, what="three whole fills at 48 and at 52")


def test_an_exchange_that_restarts_with_nothing_is_traded_on_again(
    tmp_path: Path, exchange: PaperExchange
) -> None:
    with running(start(tmp_path, exchange, "--rate", "200")) as traders:
        traders.event()
        exchange.crash()
        again = exchange.restarted()
        try:
            eventually(lambda: two_sided(again), what="a two-sided book in every market")
            assert traders.running()
            traders.send_signal(signal.SIGTERM)
            assert traders.wait() == 0, traders.log()
        finally:
            again.process.end()


def test_a_suspended_or_unknown_market_stops_nobody(tmp_path: Path, exchange: PaperExchange) -> None:
    operator = exchange.operator()
    operator.post(f"admin/markets/{MARKETS[0]}/status", {"status": "SUSPENDED", "reason": "test"})
    command = ["engine.paper.traders", "--url", exchange.url, "--rate", "200"]
    with running(Process(tmp_path, *command, "--markets", f"{MARKETS[0]},{MARKETS[1]},NONE")) as traders:
        traders.event()
        assert all(operator.ladder(MARKETS[1]))
        assert operator.ladder(MARKETS[0]) == ([], [])
        operator.post(f"admin/markets/{MARKETS[0]}/status", {"status": "ACTIVE", "reason": "test"})
        eventually(lambda: all(operator.ladder(MARKETS[0])), what="the market that opened is quoted")
        assert traders.running()


def test_every_kind_trades_when_asked_for(tmp_path: Path, exchange: PaperExchange) -> None:
    with running(start(tmp_path, exchange, "--rate", "300", "--kinds", ",".join(KINDS))) as traders:
        accounts = traders.event()["accounts"]
        assert len(accounts) == sum(kind.accounts for kind in KINDS.values())
        stats = f"admin/markets/{MARKETS[0]}/stats"
        operator = exchange.operator()
        eventually(
            lambda: operator.get(stats)["unique_traders"] >= len(accounts) - 2,
            what="nearly every account has traded in the first market",
        )
        traders.send_signal(signal.SIGTERM)
        assert traders.wait() == 0, traders.log()


def test_they_wait_for_an_exchange_that_is_not_there_yet(tmp_path: Path, exchange: PaperExchange) -> None:
    exchange.crash()
    with running(start(tmp_path, exchange)) as traders:
        eventually(lambda: "waiting" in traders.log(), what="the traders wait")
        again = exchange.restarted()
        try:
            assert traders.event()["event"] == "ready"
        finally:
            again.process.end()


def test_they_die_with_the_parent_they_were_given(tmp_path: Path, exchange: PaperExchange) -> None:
    script = (
        "import os, subprocess, sys, time\n"
        "environment = {**os.environ, 'COREQUOTE_PARENT_PID': str(os.getpid())}\n"
        "child = subprocess.Popen(sys.argv[1:], env=environment)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-m", "engine.paper.traders", "--url", exchange.url, "--markets", MARKETS[0]]
    parent = subprocess.Popen(
        [sys.executable, "-c", script, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    try:
        child_pid = int(parent.stdout.readline())
        assert '"ready"' in parent.stdout.readline()
        os.kill(child_pid, signal.SIGINT)  # the parent's business: must not end the child
        parent.kill()
        parent.wait()
        eventually(lambda: not alive(child_pid), what="the child is gone")
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped by its new parent does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("options", "value"),
    [
        (("--kinds", "noise,oracle"), "oracle"),
        (("--markets", "A,,B"), "A,,B"),
        (("--rate", "0"), "0"),
        (("--initial-price", "99"), "99"),
        (("--seed", "-1"), "-1"),
        (("--run", "a_b"), "a_b"),
    ],
)
def test_impossible_options_are_a_usage_error(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], value: str
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--url", "http://127.0.0.1:9", "--markets", "A", *options])
    assert end.value.code == 2
    assert value in capsys.readouterr().err.splitlines()[-1]


def test_account_names_tell_seed_run_and_kind() -> None:
    names = usernames(seed=3, run_id="x1")
    assert list(names) == list(DEFAULT_KINDS)
    assert names["informed"] == ["sim_3_x1_informed_0"]


@given(seed=st.integers(0, 10_000), start_cents=st.integers(5, 95), at_s=st.floats(0, 120))
def test_the_hidden_value_depends_on_time_alone_and_stays_in_bounds(
    seed: int, start_cents: int, at_s: float
) -> None:
    def value() -> HiddenValue:
        return HiddenValue(seed=seed, market_id="M", start_cents=float(start_cents))

    asked_often = value()
    for tenth in range(10):
        asked_often.at(at_s * tenth / 10)
    once = value().at(at_s)
    assert asked_often.at(at_s) == once
    assert abs(once - start_cents) <= HiddenValue.REACH_CENTS
    assert 5 <= once <= 95


def test_another_market_or_seed_has_another_value() -> None:
    paths = {
        HiddenValue(seed=seed, market_id=market_id, start_cents=50.0).at(60.0)
        for seed in (1, 2)
        for market_id in ("A", "B")
    }
    assert len(paths) == 4
