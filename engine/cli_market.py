"""``corequote kill``, ``resume``, ``start``, ``stop``, ``fund`` and ``withdraw``.

Killing asks no process that may be gone: it writes the kill file, which supervisor and control act upon, and
waits until the market's kill word is up. The others are the control process's to arrange.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from engine import admin_client, audit, kill_files, rundir
from engine._native import lib
from engine.arena import Arena, ArenaError
from engine.config import EXIT_USAGE, ConfigError
from engine.kill_files import KillOrder
from engine.terminal import EXIT_FAILED, EXIT_NOT_RUNNING, RunDirOption, fail, the_run

_RAISED_S: Final = 3.0
_PULLED_S: Final = 5.0
_POLL_S: Final = 0.02

Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; goes into the audit log.")]
By = Annotated[str | None, typer.Option(metavar="NAME", help="Who; default: your login.")]


def kill(
    reason: Reason,
    market: Annotated[str | None, typer.Argument(metavar="MARKET")] = None,
    all_markets: Annotated[bool, typer.Option("--all", help="Every market of the run.")] = False,
    by: By = None,
    run_dir: RunDirOption = None,
) -> None:
    """Stop a market, or all: every order off, none sent until somebody resumes it, over any restart.

    Exit codes: 0 stopped and no order live; 1 stopped, but an order may still be live, or nobody acted; 2
    usage; 3 nothing runs.
    """
    if (market is None) != all_markets:
        raise fail("name a MARKET, or say --all", EXIT_USAGE)
    try:
        kill_files.check_reason(reason)
        chosen = the_run(run_dir)
        known = rundir.read_info(chosen).market_ids
    except ConfigError as error:
        raise fail(error, EXIT_USAGE) from None
    except rundir.RunDirError as error:
        raise fail(error, EXIT_NOT_RUNNING) from None
    names = [name for name in known if market is None or name == market]
    if not names:
        raise fail(f"no market {market!r} in this run", EXIT_USAGE)
    who = getpass.getuser() if by is None else by
    for name in names:
        order = KillOrder(market_id=name, reason=reason, by=who, unix_ms=time.time_ns() // 1_000_000)
        try:
            kill_files.write(chosen, order)
            audit.append(chosen, "kill", by=who, outcome="done", market_id=name, reason=reason)
        except OSError as error:
            raise fail(f"{name}: {error}", EXIT_FAILED) from None
    try:
        arena = rundir.attach(chosen)
    except (rundir.RunDirError, ArenaError) as error:
        raise fail(f"killed, but whether orders are live cannot be seen: {error}", EXIT_FAILED) from None
    _await_killed(
        arena,
        {arena.market_id(slot): slot for slot in arena.used_markets() if arena.market_id(slot) in names},
    )


def _await_killed(arena: Arena, slots: dict[str, int]) -> None:
    """Waits for the words, then for the orders; raises typer.Exit when either does not come."""
    from engine.snapshot import live_orders  # noqa: PLC0415

    def raised(slot: int) -> bool:
        return bool(lib.cell_load(arena.kill_market(slot)) & lib.KILL_ADMIN)

    if not _until(lambda: all(map(raised, slots.values())), _RAISED_S):
        raise fail("the kill files are written, but no supervisor has acted on them", EXIT_FAILED)
    _until(lambda: not any(live_orders(arena, slot) for slot in slots.values()), _PULLED_S)
    left = {name: len(live_orders(arena, slot)) for name, slot in slots.items()}
    for name, count in left.items():
        print(f"{name}: killed, {count} orders live")
    if any(left.values()):
        raise typer.Exit(EXIT_FAILED)


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def resume(
    market: Annotated[str, typer.Argument(metavar="MARKET")],
    reason: Reason,
    by: By = None,
    run_dir: RunDirOption = None,
) -> None:
    """Let a killed market go on. Refused while a cause still holds: change the limit first, or with it.

    Exit codes: 0 it goes on; 1 refused, or nobody answered; 2 usage; 3 nothing runs.
    """
    _ask(run_dir, "/resume", {"market_id": market, "reason": reason}, by)
    print(f"{market}: resumed")


Market = Annotated[str, typer.Argument(metavar="MARKET")]
Cents = Annotated[int, typer.Argument(metavar="CENTS", min=1)]


def start(
    market: Market,
    reason: Reason,
    budget: Annotated[
        int | None, typer.Option(metavar="CENTS", help="Start money; default: the configured sum.")
    ] = None,
    by: By = None,
    run_dir: RunDirOption = None,
) -> None:
    """Quote a stopped market again; at its first start it is funded.

    Exit codes: 0 it runs; 1 refused, or nobody answered; 2 usage; 3 nothing runs.
    """
    wish = {"market_id": market, "reason": reason, "initial_budget_cents": budget}
    data = _ask(run_dir, "/start", wish, by)
    print(f"{market}: {str(data['lifecycle']).lower()}")


def stop(
    market: Market,
    reason: Reason,
    immediate: Annotated[
        bool, typer.Option("--immediate", help="Within a second, without a last reconciliation.")
    ] = False,
    by: By = None,
    run_dir: RunDirOption = None,
) -> None:
    """End a market's quoting: every order off, shares and cash kept, over any restart, until `start`.

    Exit codes: 0 stopped, nothing live; 1 refused, unanswered, or an order may still be live (it goes on
    being cancelled); 2 usage; 3 nothing runs.
    """
    mode = "IMMEDIATE" if immediate else "GRACEFUL"
    data = _ask(run_dir, "/stop", {"market_id": market, "reason": reason, "stop_mode": mode}, by)
    print(f"{market}: stopped, {data['live_orders']} orders live")
    if data["live_orders"]:
        raise typer.Exit(EXIT_FAILED)


def fund(market: Market, cents: Cents, reason: Reason, by: By = None, run_dir: RunDirOption = None) -> None:
    """Pay CENTS in for a market: it is neither profit nor loss.

    Exit codes: 0 done; 1 refused, or nobody answered; 2 usage; 3 nothing runs.
    """
    _ask(run_dir, "/fund", {"market_id": market, "amount_cents": cents, "reason": reason}, by)
    print(f"{market}: funded with {cents} cents")


def withdraw(
    market: Market, cents: Cents, reason: Reason, by: By = None, run_dir: RunDirOption = None
) -> None:
    """Take CENTS off a market, burning free pairs where cash is short.

    Exit codes: 0 done; 1 refused, or nobody answered; 2 usage; 3 nothing runs.
    """
    _ask(run_dir, "/withdraw", {"market_id": market, "amount_cents": cents, "reason": reason}, by)
    print(f"{market}: {cents} cents withdrawn")


def _ask(run_dir: Path | None, path: str, wish: dict[str, Any], by: str | None) -> dict[str, Any]:
    """The data of a successful call; raises typer.Exit otherwise."""
    wish["by"] = getpass.getuser() if by is None else by
    try:
        answer = admin_client.call(the_run(run_dir), "POST", path, wish)
    except (rundir.RunDirError, admin_client.AdminError) as error:
        raise fail(error, EXIT_NOT_RUNNING) from None
    if answer.code:
        raise fail(answer.message, EXIT_FAILED)
    return dict(answer.data)
