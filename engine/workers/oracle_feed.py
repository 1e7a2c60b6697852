"""Oracle values on their way into the book ring: one source per market, several kinds of source.

A *source* (:class:`OracleSource`) runs inside ingest as a task of its own and says of each of its markets a
price in YES cents, that it has none now (*failed*), or that what it said is void (*withdrawn*). What it says
goes through the market's :class:`OracleOutput`, the only place that publishes ORACLE events. No value is
"no value": nothing here invents a price, and none is kept alive that its source does not stand by.

A source stands by its value: it says so again at least every ``CONFIRM_S`` while it knows the value to hold,
so that a quiet market is not a stale one, and a quoter that starts hears it soon.

Every wait has a deadline; attempts after failures are spread by back-off with jitter.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Protocol

import aiohttp
import structlog

from engine._native import lib
from engine.arena import Arena
from engine.backoff import NS_PER_S, RestartHistory, RestartPolicy, after_death, restart_delay_ns
from engine.command_ring import CommandReader
from engine.config.oracle import KalshiOracle, OperatorOracle, OracleConfig, PolymarketOracle
from engine.venues import kalshi_prices, polymarket_prices
from engine.venues.external_price import PriceRefusedError, TopOfBook, mid_cents
from engine.workers.market_feed import MarketFeed

CONFIRM_S: Final = 2.0
_CONNECT_S_MAX: Final = 5.0
_SILENCE_S_MAX: Final = 8.0  # of a connection that is pinged every CONFIRM_S
_POLL_S_MAX: Final = 3.0
_RETRY: Final = RestartPolicy(delay_ns_min=NS_PER_S // 2, delay_ns_max=30 * NS_PER_S)
_COMMANDS_PER_LOOK: Final = 16
_MS: Final = 1_000_000

_LOG: Final = structlog.get_logger()

# what a source may run into without being broken itself
_FAULTS: Final = (aiohttp.ClientError, PriceRefusedError, OSError, TimeoutError)


class OracleOutput:
    """What one market's oracle says, as it goes out. Logs changes, not repetitions."""

    def __init__(self, feed: MarketFeed) -> None:
        self._feed = feed
        self._price_cents: int | None = None
        self._unix_ms = 0
        self._reason: str | None = None  # why there is no value, as last logged
        self.spoken = False  # anything was said since the start

    @property
    def market_id(self) -> str:
        return self._feed.market_id

    def value(self, price_cents: int, *, unix_ms: int, recv_mono_ns: int) -> None:
        """A price in YES cents, 1..99; ``unix_ms`` is the source's own time of it."""
        if self._price_cents is None:
            _LOG.info("oracle_value", market=self.market_id, price_cents=price_cents)
        self._price_cents, self._unix_ms, self._reason = price_cents, unix_ms, None
        self._say(lib.ORACLE_VALUE, price_cents, unix_ms, recv_mono_ns)

    def confirm(self, recv_mono_ns: int) -> None:
        """The value still holds; nothing happens when there is none."""
        if self._price_cents is not None:
            self._say(lib.ORACLE_VALUE, self._price_cents, self._unix_ms, recv_mono_ns)

    def failed(self, reason: str, recv_mono_ns: int) -> None:
        """The source has no value now."""
        self._lost("oracle_no_value", reason)
        self._say(lib.ORACLE_FAILED, 0, 0, recv_mono_ns)

    def withdrawn(self, reason: str, recv_mono_ns: int) -> None:
        """What the source said is void."""
        self._lost("oracle_withdrawn", reason)
        self._say(lib.ORACLE_WITHDRAWN, 0, 0, recv_mono_ns)

    def _lost(self, event: str, reason: str) -> None:
        if reason != self._reason:
            _LOG.warning(event, market=self.market_id, reason=reason[:200])
        self._price_cents, self._reason = None, reason

    def _say(self, status: int, price_cents: int, unix_ms: int, recv_mono_ns: int) -> None:
        self.spoken = True
        self._feed.oracle(status, price_cents=price_cents, venue_unix_ms=unix_ms, recv_mono_ns=recv_mono_ns)


class OracleSource(Protocol):
    """One place prices come from, for one market or several."""

    async def run(self) -> None:
        """Until cancelled. What the venue does wrong is said as a failure, never raised."""


def _take(output: OracleOutput, top: TopOfBook, max_spread_cents: int, now: int) -> None:
    price = mid_cents(top, max_spread_cents)
    if price is None:
        output.failed(f"no price in bid {top.bid_e4} ask {top.ask_e4} (1/10,000 dollar)", now)
    else:
        output.value(price, unix_ms=top.unix_ms or time.time_ns() // _MS, recv_mono_ns=now)


async def _forever(attempt: Callable[[], Awaitable[str]]) -> None:
    """Attempts until cancelled; pauses grow while they end early."""
    history = RestartHistory()
    while True:
        started = lib.mono_now_ns()
        reason = await attempt()
        history = after_death(history, _RETRY, started_mono_ns=started, died_mono_ns=lib.mono_now_ns())
        delay_ns = restart_delay_ns(history, _RETRY, jitter=random.random())  # noqa: S311
        _LOG.debug("oracle_retry", reason=reason, delay_ms=delay_ns // _MS)
        await asyncio.sleep(delay_ns / NS_PER_S)


class PolymarketSource:
    """One connection to the public market channel, for up to ``TOKENS_MAX`` tokens."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        markets: Mapping[str, list[tuple[OracleOutput, int]]],
    ) -> None:
        """``markets``: token id -> the markets it prices, each with its widest spread in cents."""
        self._http = http
        self._url = url
        self._markets = markets

    async def run(self) -> None:
        await _forever(self._connection)

    async def _connection(self) -> str:
        try:
            async with asyncio.timeout(_CONNECT_S_MAX):
                socket = await self._http.ws_connect(
                    self._url, max_msg_size=polymarket_prices.FRAME_BYTES_MAX, autoclose=False
                )
            try:
                reason = await self._converse(socket)
            finally:
                with contextlib.suppress(*_FAULTS):
                    async with asyncio.timeout(1.0):
                        await socket.close()
        except _FAULTS as error:
            reason = f"{type(error).__name__}: {error}"
        now = lib.mono_now_ns()
        for output, _ in self._outputs():
            output.failed(reason, now)
        return reason

    async def _converse(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        """Subscribes and reads until the connection ends; returns why it did. Raises what _FAULTS names."""
        await self._send(socket, polymarket_prices.subscription(self._markets).decode())
        ping_at = time.monotonic() + CONFIRM_S
        heard_at = time.monotonic()
        while True:
            now_s = time.monotonic()
            if now_s - heard_at > _SILENCE_S_MAX:
                return f"silent for {_SILENCE_S_MAX:g} s"
            if now_s >= ping_at:
                ping_at = now_s + CONFIRM_S
                await self._send(socket, polymarket_prices.PING)
            message = await self._receive(socket, ping_at - now_s)
            if message is None:
                continue
            heard_at = time.monotonic()
            if message.type is not aiohttp.WSMsgType.TEXT:
                return f"closed by the venue: {message.type.name}"
            self._read(message.data, lib.mono_now_ns())

    @staticmethod
    async def _send(socket: aiohttp.ClientWebSocketResponse, text: str) -> None:
        async with asyncio.timeout(_CONNECT_S_MAX):
            await socket.send_str(text)

    @staticmethod
    async def _receive(socket: aiohttp.ClientWebSocketResponse, timeout_s: float) -> aiohttp.WSMessage | None:
        """The next message; None when none came in time."""
        try:
            return await socket.receive(max(timeout_s, 0.001))
        except TimeoutError:
            return None

    def _read(self, text: str, now: int) -> None:
        if text == polymarket_prices.PONG:  # the channel lives, so what it last said holds
            for output, _ in self._outputs():
                output.confirm(now)
            return
        for token, top in polymarket_prices.decode(text):
            for output, max_spread_cents in self._markets.get(token, ()):
                _take(output, top, max_spread_cents, now)

    def _outputs(self) -> Iterable[tuple[OracleOutput, int]]:
        return (entry for entries in self._markets.values() for entry in entries)


class KalshiSource:
    """Polls the public summary of one market."""

    def __init__(self, http: aiohttp.ClientSession, config: KalshiOracle, output: OracleOutput) -> None:
        self._http = http
        self._config = config
        self._url = kalshi_prices.market_url(config.url, config.ticker)
        self._output = output

    async def run(self) -> None:
        await _forever(self._polls)

    async def _polls(self) -> str:
        """Polls until one fails; returns why."""
        while True:
            try:
                async with asyncio.timeout(_POLL_S_MAX):
                    asked_ms = time.time_ns() // _MS
                    async with self._http.get(self._url, allow_redirects=False) as answer:
                        body = await _body(answer)
                top = kalshi_prices.decode(body, self._config.ticker, unix_ms=asked_ms)
            except _FAULTS as error:
                reason = f"{type(error).__name__}: {error}"
                self._output.failed(reason, lib.mono_now_ns())
                return reason
            _take(self._output, top, self._config.max_spread_cents, lib.mono_now_ns())
            spread = random.uniform(0.9, 1.1)  # noqa: S311
            await asyncio.sleep(self._config.poll_interval_ms / 1000 * spread)


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    if answer.status != 200:
        raise PriceRefusedError(f"HTTP status {answer.status}")
    body = await answer.content.read(kalshi_prices.ANSWER_BYTES_MAX + 1)
    while len(body) <= kalshi_prices.ANSWER_BYTES_MAX:
        more = await answer.content.read(kalshi_prices.ANSWER_BYTES_MAX + 1)
        if not more:
            return body
        body += more
    raise PriceRefusedError(f"an answer of more than {kalshi_prices.ANSWER_BYTES_MAX} bytes")


class OperatorSource:
    """A person's prices, as the control process sends them through ingest's command ring.

    A price holds until its own end of life; then, and when the person clears it, it is withdrawn.
    """

    def __init__(self, arena: Arena, outputs: Mapping[int, OracleOutput]) -> None:
        """``outputs``: market slot -> market, for markets whose oracle is the operator."""
        self._commands = CommandReader(arena, lib.PROCESS_INGEST, per_look=_COMMANDS_PER_LOOK)
        self._outputs = outputs
        self._until_unix_ms: dict[int, int] = {}
        self._confirm_at = 0.0

    async def run(self) -> None:
        while True:
            self.look(lib.mono_now_ns(), time.time_ns() // _MS)
            await asyncio.sleep(0.05)

    def look(self, now_mono_ns: int, now_unix_ms: int) -> None:
        """Takes the commands that came, ends what is over, confirms what holds when that is due."""
        for command in self._commands.take():
            if command.kind == lib.COMMAND_ORACLE:
                self._take(command, now_mono_ns, now_unix_ms)
        for slot, until in list(self._until_unix_ms.items()):
            if now_unix_ms >= until:
                self._end(slot, "its time is over", now_mono_ns)
        if now_mono_ns >= self._confirm_at:
            self._confirm_at = now_mono_ns + CONFIRM_S * NS_PER_S
            for slot in self._until_unix_ms:
                self._outputs[slot].confirm(now_mono_ns)

    def _take(self, command: Any, now_mono_ns: int, now_unix_ms: int) -> None:
        slot, price = int(command.market_slot), int(command.amount_cents)
        output = self._outputs.get(slot)
        if output is None:
            _LOG.warning("oracle_command_ignored", slot=slot, reason="its oracle is not the operator")
        elif 1 <= price <= 99 and now_unix_ms < command.until_unix_ms:
            self._until_unix_ms[slot] = int(command.until_unix_ms)
            output.value(price, unix_ms=int(command.set_unix_ms), recv_mono_ns=now_mono_ns)
        else:
            self._end(slot, "cleared" if price == 0 else "its time is over", now_mono_ns)

    def _end(self, slot: int, reason: str, now_mono_ns: int) -> None:
        self._until_unix_ms.pop(slot, None)
        self._outputs[slot].withdrawn(reason, now_mono_ns)


def sources(
    arena: Arena,
    http: aiohttp.ClientSession,
    markets: Iterable[tuple[MarketFeed, OracleConfig | None]],
) -> list[OracleSource]:
    """Every source that these markets' configuration names."""
    made: list[OracleSource] = []
    by_url: dict[str, dict[str, list[tuple[OracleOutput, int]]]] = {}
    operators: dict[int, OracleOutput] = {}
    for feed, config in markets:
        output = OracleOutput(feed)
        if isinstance(config, PolymarketOracle):
            tokens = by_url.setdefault(config.url, {})
            tokens.setdefault(config.token_id, []).append((output, config.max_spread_cents))
        elif isinstance(config, KalshiOracle):
            made.append(KalshiSource(http, config, output))
        elif isinstance(config, OperatorOracle):
            operators[feed.slot] = output
    for url, tokens in by_url.items():
        entries = list(tokens.items())
        for start in range(0, len(entries), polymarket_prices.TOKENS_MAX):
            chunk = dict(entries[start : start + polymarket_prices.TOKENS_MAX])
            made.append(PolymarketSource(http, url, chunk))
    # always there: a command for a market without an operator is taken and answered in the log
    return [*made, OperatorSource(arena, operators)]
