"""The process around a participant of the paper exchange: its life, its log, its exit code.

A participant is a client process like anybody's. It dies with the parent that named itself in its
environment, logs one JSON line per event to stderr (stdout belongs to the participant), and on SIGTERM, or on
Ctrl-C when it was started by hand, is asked to stop through an event.
"""

import asyncio
import logging
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog
import uvloop

from engine.paper.client import (
    BAD_CREDENTIALS,
    ExchangeClient,
    RateLimitedError,
    RefusedError,
    UnreachableError,
)
from engine.paper.lifetime import ParentGoneError, bind_to_parent

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_CONFIG: Final = 78

BACKOFF_S_MIN: Final = 0.1
BACKOFF_S_MAX: Final = 3.0


def run(name: str, body: Callable[[asyncio.Event], Awaitable[int]]) -> int:
    """Run ``body(stop)`` to its exit code. What it raises is one line on stderr and ``EXIT_FAILED``."""
    configure_logging(name)
    try:
        bind_to_parent()
        return uvloop.run(_with_stop(body))
    except (RefusedError, UnreachableError, ParentGoneError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_FAILED


async def _with_stop(body: Callable[[asyncio.Event], Awaitable[int]]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGINT, stop.set)
    return await body(stop)


def configure_logging(name: str) -> None:
    """One JSON line per event on stderr: event name, fields, process, UTC time."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(
                serializer=lambda event, **_: msgspec.json.encode(event).decode()
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=name, pid=os.getpid())


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


async def pause(stop: asyncio.Event, duration_s: float) -> bool:
    """Sleep, but not past a stop. Returns whether it is time to stop."""
    try:
        await asyncio.wait_for(stop.wait(), duration_s)
    except TimeoutError:
        return False
    return True


class Backoff:
    """Growing waits with jitter between attempts at an exchange that does not answer."""

    def __init__(self, jitter: random.Random) -> None:
        self._jitter = jitter
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
