"""The process around a participant of the paper exchange: its life, its log, its exit code.

A participant is a client process like anybody's. It dies with the parent that named itself in its
environment, logs one JSON line per event to stderr (stdout belongs to the participant), and on SIGTERM, or on
Ctrl-C when it was started by hand, is asked to stop through an event.
"""

import argparse
import asyncio
import random
import secrets
import signal
import sys
from collections.abc import Callable
from typing import Final, Protocol

import aiohttp
import msgspec
import structlog
import uvloop

from engine import event_log
from engine.paper.client import (
    BAD_CREDENTIALS,
    NOT_CANCELLABLE,
    ORDER_UNKNOWN,
    ExchangeClient,
    RateLimitedError,
    RefusedError,
    UnreachableError,
    open_session,
)
from engine.paper.lifetime import bind_to_parent

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_CONFIG: Final = 78

LEAVE_S_MAX: Final = 1.5
"""A participant that is told to stop has this long to take its orders off the book."""
CUT_OFF_S: Final = 0.1
"""How long a request whose answer nobody awaits may still be on its way into the book."""
CALLS_IN_FLIGHT_MAX: Final = 8

BACKOFF_S_MIN: Final = 0.1
BACKOFF_S_MAX: Final = 3.0


class Participant(Protocol):
    """What the process around it needs of a participant."""

    async def trade(self) -> int:
        """Take part until done; returns the exit code. Cancelled when the process is asked to stop."""

    async def leave(self) -> None:
        """Cancel whatever still rests; called after ``trade`` was stopped."""


def run(name: str, enter: Callable[[aiohttp.ClientSession], Participant]) -> int:
    """Run a participant to its exit code; a stop asked for is a success.

    What the exchange refused, or never answered, ends it with one line on stderr and ``EXIT_FAILED``.
    """
    event_log.configure(name)
    try:
        bind_to_parent()
        return uvloop.run(_run(enter))
    except (RefusedError, UnreachableError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_FAILED


async def _run(enter: Callable[[aiohttp.ClientSession], Participant]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGINT, stop.set)
    async with open_session() as session:
        participant = enter(session)
        trading = asyncio.create_task(participant.trade())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({trading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if trading.done():
                return trading.result()
        finally:
            for task in (trading, stopping):
                task.cancel()
            await asyncio.wait({trading, stopping})
        try:
            async with asyncio.timeout(LEAVE_S_MAX):
                await participant.leave()
        except (TimeoutError, RefusedError, UnreachableError) as error:
            structlog.get_logger().warning("orders_left_behind", reason=str(error) or "out of time")
    return EXIT_OK


async def open_account(client: ExchangeClient, *, funds_cents: int) -> None:
    """Log in; when the exchange does not know the account, register it and deposit its funds first."""
    try:
        await client.log_in()
    except RefusedError as refusal:
        if refusal.code != BAD_CREDENTIALS:
            raise
        await client.register()
        await client.log_in()
        await client.deposit(funds_cents)


async def cancel_everything(client: ExchangeClient, market_id: str | None = None) -> int:
    """Cancel all live orders of the account, in one market or in all; returns how many were still live."""
    gate = asyncio.Semaphore(CALLS_IN_FLIGHT_MAX)

    async def cancel(order_id: str) -> int:
        async with gate:
            try:
                await client.cancel(order_id)
            except RefusedError as refusal:
                if refusal.code not in {NOT_CANCELLABLE, ORDER_UNKNOWN}:
                    raise
                return 0
        return 1

    orders = await client.live_orders(market_id)
    return sum(await asyncio.gather(*(cancel(order.id) for order in orders)))


async def leave_the_book(client: ExchangeClient, market_id: str | None = None) -> None:
    """Cancel all live orders, also those of requests that were cut off and are committed only now."""
    await cancel_everything(client, market_id)
    found = True
    while found:
        await asyncio.sleep(CUT_OFF_S)
        found = await cancel_everything(client, market_id) > 0


def new_password() -> str:
    """A password of the contract's form (upper, lower, digit) that nobody can guess."""
    return f"Aa1{secrets.token_urlsafe(24)}"


def emit(event: str, **fields: object) -> None:
    """Write one event for the parent to stdout."""
    sys.stdout.buffer.write(msgspec.json.encode({"event": event, **fields}) + b"\n")
    sys.stdout.buffer.flush()


def run_name(text: str) -> str:
    """Part of the accounts' names: 1..32 letters and digits."""
    if not (text.isascii() and text.isalnum() and len(text) <= 32):
        raise argparse.ArgumentTypeError(f"{text!r}: must be 1..32 letters and digits")
    return text


class Backoff:
    """Growing waits with jitter between attempts at an exchange that does not answer."""

    def __init__(self) -> None:
        self._jitter = random.Random()  # noqa: S311 (spreads retries, guards nothing)
        self._attempt = 0

    def succeeded(self) -> None:
        self._attempt = 0

    def next_s(self, error: RefusedError | UnreachableError) -> float:
        """How long to wait after this failure: what the exchange asked for, or twice as long as last time."""
        if isinstance(error, RateLimitedError):
            return error.retry_after_s
        ceiling_s: float = min(BACKOFF_S_MIN * 2**self._attempt, BACKOFF_S_MAX)
        self._attempt = min(self._attempt + 1, 16)
        return ceiling_s * self._jitter.uniform(0.5, 1.0)
