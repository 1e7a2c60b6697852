"""The ingest process: the venue's WebSocket frames become book events, images and top rows.

One process for all markets, two connections per market. A callback reads the clock, decodes, applies,
publishes one batch, wakes the quoter and returns; everything slower happens on a timer.

A connection is trusted while it answers pings and brings its snapshots:

* no answer to a ping within ``_PONG_NS_MAX``: the connection is cut and made anew;
* no snapshot though one was asked for, or none for ``_SNAPSHOT_AGE_NS_MAX``: asked for again, then cut;
* more than ``_REFUSED_MAX`` refused frames within a minute: cut.

A cut or lost order-book connection invalidates the book at once. Attempts of one connection are at least
a second apart, further when they fail in a row.

Oracles, where markets have one, are tasks beside the streams (engine/workers/oracle_feed.py).

Reads: the venue's WebSocket streams, its command ring. Writes: book rings of all workers, book images, top
and feed rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import signal
import sys
from collections import deque
from collections.abc import Callable
from typing import Final

import aiohttp
import structlog
import uvloop
from picows import WSError, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

from engine import crash_points
from engine._native import lib
from engine.backoff import NS_PER_S, RestartHistory, RestartPolicy, after_death, restart_delay_ns
from engine.config import EXIT_CONFIG, ConfigError
from engine.venues.http_pool import HttpPool
from engine.venues.platform_feed import (
    CLOSE_BAD_TOKEN,
    FRAME_BYTES_MAX,
    REQUEST_SNAPSHOT,
    BookSequence,
    BookStep,
    FrameRefusedError,
    TradeSequence,
    TradeStep,
    book_stream_url,
    decode_book,
    decode_trade,
    trade_stream_url,
)
from engine.venues.platform_session import PlatformSession, SessionError, venue_password
from engine.workers import oracle_feed, process
from engine.workers.market_feed import BookOutput, MarketFeed
from engine.workers.process import WorkerProcess

_TICK_S: Final = 0.05  # heartbeat
_WATCH_NS: Final = NS_PER_S // 4  # between two looks at the connections
_STALL_NS: Final = NS_PER_S // 2  # after a pause of our own nobody is blamed for silence
_PING_NS: Final = NS_PER_S // 2
_PONG_NS_MAX: Final = 1_200_000_000  # ping + answer + look: a dead link is known within 2 s
_SNAPSHOT_RETRY_NS: Final = 2 * NS_PER_S
_SNAPSHOT_WAIT_NS_MAX: Final = 10 * NS_PER_S
_SNAPSHOT_AGE_NS_MAX: Final = 45 * NS_PER_S  # the venue sends one every 30 s
_FIRST_SNAPSHOTS_NS_MAX: Final = 2 * NS_PER_S  # from the login on
_REFUSED_MAX: Final = 10
_REFUSED_WINDOW_NS: Final = 60 * NS_PER_S
_SLOW_PASS_NS: Final = 10_000_000
_CONNECT_S_MAX: Final = 5.0
_CLOSE_S_MAX: Final = 1.0
_RECONNECT: Final = RestartPolicy(delay_ns_min=NS_PER_S, delay_ns_max=10 * NS_PER_S)
_RECONNECT_SPREAD_S: Final = 0.5  # connections lost together do not come back together
_UNAUTHORIZED: Final = (401, 403)
_TEXT: Final = WSMsgType.TEXT  # named once: before Python 3.12 an Enum looks its members up at length

_feed_delta: Final = lib.feed_delta

_LOG: Final = structlog.get_logger()


class StreamListener(WSListener):
    """One connection of one stream: framing, liveness and the count of refused frames.

    Subclasses turn a whole message into market data. Reading ends with the connection; a broken
    invariant ends the process.

    Slots, because a message of one market in a thousand finds none of this in a cache: a dict would be four
    more lines of memory to wait for.
    """

    __slots__ = (
        "_fragments",
        "_pass_frames",
        "_pass_start_ns",
        "_ping_mono_ns",
        "_ping_number",
        "_pong_awaited",
        "_refusals",
        "close_code",
        "connected_mono_ns",
        "feed",
        "ingest",
        "transport",
    )

    def __init__(self, ingest: Ingest, feed: MarketFeed) -> None:
        self.ingest = ingest
        self.feed = feed
        self.transport: WSTransport | None = None
        self.close_code = 0
        self.connected_mono_ns = 0
        self._fragments = bytearray()
        self._refusals: deque[int] = deque(maxlen=_REFUSED_MAX + 1)
        self._ping_mono_ns = 0
        self._ping_number = 0
        self._pong_awaited = False
        self._pass_start_ns = 0
        self._pass_frames = 0

    # ---- picows' calls -----------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        now = lib.mono_now_ns()
        self.transport = transport
        self.connected_mono_ns = now
        self._ping_mono_ns = now
        self.ingest.guarded(self.opened, now)

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - picows' signature
        self.transport = None
        self.ingest.guarded(self.closed, lib.mono_now_ns())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._pass_frames == 0:
            self._pass_start_ns = lib.mono_now_ns()
        self._pass_frames += 1
        if crash_points.armed:
            crash_points.reach("ingest.before_parse")
        now = self._pass_start_ns  # all frames of one read were in hand when its first was
        try:
            if frame.msg_type is _TEXT and frame.fin and not self._fragments:
                self.message(frame.get_payload_as_bytes(), now)
            else:
                self._unusual_frame(transport, frame, now)
        except FrameRefusedError as error:
            self._refused(str(error), now)
        except Exception as error:  # a broken invariant: this process must not publish any more
            self.ingest.fail(error)
        if frame.last_in_buffer:
            lib.process_pass(
                self.ingest.row, lib.mono_now_ns() - self._pass_start_ns, self._pass_frames, _SLOW_PASS_NS
            )
            self._pass_frames = 0

    # ---- what streams differ in --------------------------------------------------------------

    def opened(self, now: int) -> None:
        raise NotImplementedError

    def closed(self, now: int) -> None:
        raise NotImplementedError

    def message(self, payload: bytes, now: int) -> None:
        """A whole text message. Raises FrameRefusedError."""
        raise NotImplementedError

    def frame_refused(self, now: int) -> None:
        """A frame was refused; counting against the connection is done."""
        raise NotImplementedError

    # ---- the rest of the protocol ------------------------------------------------------------

    def _unusual_frame(self, transport: WSTransport, frame: WSFrame, now: int) -> None:
        kind = frame.msg_type
        if kind == WSMsgType.PONG:
            if frame.get_payload_as_bytes() == self._ping_payload():
                self._pong_awaited = False
        elif kind == WSMsgType.CLOSE:
            self.close_code = int.from_bytes(frame.get_payload_as_bytes()[:2], "big")
            transport.disconnect()
        elif kind in (WSMsgType.TEXT, WSMsgType.CONTINUATION):
            self._fragment(frame, now)
        else:
            raise FrameRefusedError(f"{kind!r}: server frames are JSON text")

    def _fragment(self, frame: WSFrame, now: int) -> None:
        """Collects a fragmented message, within the same limit as a whole one."""
        if len(self._fragments) + frame.payload_size > FRAME_BYTES_MAX:
            self._fragments.clear()
            self.cut("fragments_too_big")
            raise FrameRefusedError(f"a fragmented message exceeds {FRAME_BYTES_MAX} bytes")
        self._fragments += frame.get_payload_as_bytes()
        if frame.fin:
            payload = bytes(self._fragments)
            self._fragments.clear()
            self.message(payload, now)

    def _refused(self, reason: str, now: int) -> None:
        refusals = self._refusals
        refusals.append(now)
        if len(refusals) == 1:
            _LOG.warning("frame_refused", market=self.feed.market_id, reason=reason[:200])
        self.ingest.guarded(self.frame_refused, now)
        if len(refusals) > _REFUSED_MAX and now - refusals[0] < _REFUSED_WINDOW_NS:
            self.cut("too_many_refused_frames")

    # ---- liveness ----------------------------------------------------------------------------

    def _ping_payload(self) -> bytes:
        return self._ping_number.to_bytes(8, "big")

    def forgive(self, now: int) -> None:
        """This process paused: what it has not read yet may hold the answers."""
        self._ping_mono_ns = now

    def watch(self, now: int) -> None:
        """Pings when due; cuts a connection that does not answer."""
        if self.transport is None:
            return
        if self._pong_awaited:
            if now - self._ping_mono_ns > _PONG_NS_MAX:
                self.cut("no_pong")
        elif now - self._ping_mono_ns >= _PING_NS:
            self._ping_number += 1
            self._ping_mono_ns = now
            self._pong_awaited = True
            self.transport.send_ping(self._ping_payload())

    def cut(self, reason: str) -> None:
        """Ends the connection, which is not to be trusted any more."""
        if self.transport is not None:
            _LOG.warning("connection_cut", market=self.feed.market_id, reason=reason)
            self.abandon()

    def abandon(self) -> None:
        """Ends the connection, if there is one, without waiting for the other side."""
        if self.transport is not None:
            self.transport.disconnect(graceful=False)


class BookListener(StreamListener):
    """The order-book stream of one market."""

    __slots__ = (
        "_asked_mono_ns",
        "_native",
        "_sequence",
        "_snapshot_mono_ns",
        "_taken",
        "_wait_since_mono_ns",
    )

    def __init__(self, ingest: Ingest, feed: MarketFeed) -> None:
        super().__init__(ingest, feed)
        self._native = feed.native
        self._sequence = BookSequence()
        self._taken = b""  # the last delta that went past _sequence; empty = none did
        self._snapshot_mono_ns = 0
        self._wait_since_mono_ns = 0  # a snapshot is awaited since then; 0 = none is
        self._asked_mono_ns = 0

    def opened(self, now: int) -> None:
        self._wait_since_mono_ns = self._asked_mono_ns = now  # the venue sends one unasked
        self.feed.link_up(now)

    def closed(self, now: int) -> None:
        self.feed.link_down(now)

    def message(self, payload: bytes, now: int) -> None:
        end = _feed_delta(self._native, payload, len(payload), now)
        if end > 0:  # nearly always: it was the next delta in its usual form
            self._taken = payload
        elif end == 0:
            self._read(payload, now)
        else:
            self.feed.delta_failed(end)

    def _read(self, payload: bytes, now: int) -> None:
        """Any frame but the next delta in its usual form."""
        feed = self.feed
        if self._taken:
            self._sequence.applied(decode_book(self._taken, feed.market_id))
            self._taken = b""
        update = decode_book(payload, feed.market_id)
        step = self._sequence.step(update)
        if step is BookStep.APPLY:
            feed.delta(update, now)
        elif step is BookStep.REBUILD:
            self._wait_since_mono_ns = 0
            self._snapshot_mono_ns = now
            feed.snapshot(update, now)
            self.ingest.snapshot_arrived(feed)
        elif step is BookStep.GAP:
            feed.gap(now)
            self._ask_snapshot(now)
        else:
            feed.ignored()

    def frame_refused(self, now: int) -> None:
        self.feed.refused(now)
        self._taken = b""
        if self._sequence.lose():
            self._ask_snapshot(now)

    def _ask_snapshot(self, now: int) -> None:
        if self._wait_since_mono_ns == 0:
            self._wait_since_mono_ns = now
        self._asked_mono_ns = now
        if self.transport is not None:
            self.transport.send(WSMsgType.TEXT, REQUEST_SNAPSHOT)

    def forgive(self, now: int) -> None:
        super().forgive(now)
        if self._wait_since_mono_ns:
            self._wait_since_mono_ns = self._asked_mono_ns = now

    def watch(self, now: int) -> None:
        super().watch(now)
        if self.transport is None:
            return
        if self._wait_since_mono_ns == 0:
            if now - self._snapshot_mono_ns > _SNAPSHOT_AGE_NS_MAX:
                self._ask_snapshot(now)
        elif now - self._wait_since_mono_ns > _SNAPSHOT_WAIT_NS_MAX:
            self.cut("no_snapshot")
        elif now - self._asked_mono_ns > _SNAPSHOT_RETRY_NS:
            self._ask_snapshot(now)


class TradeListener(StreamListener):
    """The trade stream of one market. Whatever happens on it, the gateway asks for the trades themselves."""

    __slots__ = ("_sequence",)

    def __init__(self, ingest: Ingest, feed: MarketFeed) -> None:
        super().__init__(ingest, feed)
        self._sequence = TradeSequence()

    def opened(self, now: int) -> None:  # noqa: ARG002 - streams share the signature
        self._poll()

    def closed(self, now: int) -> None:  # noqa: ARG002 - streams share the signature
        self._poll()

    def message(self, payload: bytes, now: int) -> None:
        trade = decode_trade(payload, self.feed.market_id)
        if self._sequence.step(trade) is TradeStep.REPEAT:
            self._poll()
            return
        self.feed.trade(trade, now)
        self.ingest.wake_gateway()

    def frame_refused(self, now: int) -> None:  # noqa: ARG002 - streams share the signature
        self.feed.count_refused()
        self._poll()

    def _poll(self) -> None:
        self.feed.trades_moved()
        self.ingest.wake_gateway()


class Stream:
    """Keeps one connection of one market up."""

    def __init__(
        self,
        ingest: Ingest,
        *,
        name: str,
        feed: MarketFeed,
        url: Callable[[str, str, str], str],
        listener: Callable[[Ingest, MarketFeed], StreamListener],
    ) -> None:
        self._ingest = ingest
        self._name = name
        self._feed = feed
        self._url = url
        self._make_listener = listener
        self._history = RestartHistory()
        self._failure = ""  # as last logged
        self.listener: StreamListener | None = None

    async def run(self) -> None:
        """Connects, waits for the end, and again, until cancelled."""
        while True:
            started = lib.mono_now_ns()
            reason = await self._connection()
            if reason != self._failure:
                _LOG.warning("stream_lost", market=self._feed.market_id, stream=self._name, reason=reason)
                self._failure = reason
            self._history = after_death(
                self._history, _RECONNECT, started_mono_ns=started, died_mono_ns=lib.mono_now_ns()
            )
            delay_ns = restart_delay_ns(self._history, _RECONNECT, jitter=random.random())  # noqa: S311
            await asyncio.sleep(delay_ns / NS_PER_S + random.uniform(0, _RECONNECT_SPREAD_S))  # noqa: S311

    async def _connection(self) -> str:
        """One connection from start to end; returns why it ended."""
        listener = self._make_listener(self._ingest, self._feed)
        try:
            token = await self._ingest.session.token()
        except SessionError as error:
            return str(error)
        self._ingest.logged_in()
        try:
            transport = await self._connect(listener, token)
            self.listener = listener
            self._failure = ""
            _LOG.info("stream_connected", market=self._feed.market_id, stream=self._name)
            await transport.wait_disconnected()
            reason, refused = f"closed by the venue, code {listener.close_code or 'none'}", False
        except WSHandshakeError as error:
            status = error.response.status if error.response is not None else 0
            reason, refused = f"refused with HTTP status {int(status)}", status in _UNAUTHORIZED
        except (OSError, TimeoutError) as error:
            reason, refused = f"connect: {type(error).__name__}", False
        except WSError as error:  # the protocol was broken, or a frame was too big to be taken in
            self._feed.count_refused()
            reason, refused = type(error).__name__, False
        finally:
            self.listener = None
            listener.abandon()
        if refused or listener.close_code == CLOSE_BAD_TOKEN:
            await self._renew(token)
        return reason

    async def _connect(self, listener: StreamListener, token: str) -> WSTransport:
        """Raises WSError, OSError or TimeoutError."""
        async with asyncio.timeout(_CONNECT_S_MAX):
            transport, _ = await ws_connect(
                lambda: listener,
                self._url(self._ingest.base_url, self._feed.market_id, token),
                max_frame_size=FRAME_BYTES_MAX,
                max_redirects=0,
                websocket_handshake_timeout=_CONNECT_S_MAX,
                logger_name=_PICOWS_LOGGER,
            )
        return transport

    async def _renew(self, refused: str) -> None:
        try:
            await self._ingest.session.renew(refused)
        except SessionError as error:
            _LOG.warning("token_not_renewed", reason=str(error))


class Ingest:
    """All markets of the arena, their streams, and the timers around them."""

    def __init__(self, proc: WorkerProcess, password: str) -> None:
        self.proc = proc
        self.row = proc.row
        self.base_url = proc.config.venue.url
        self._password = password
        arena = proc.arena
        outputs = [BookOutput(arena, worker, token=proc.token) for worker in range(arena.worker_slots)]
        self.feeds = [
            MarketFeed(arena, slot, outputs[arena.market_worker(slot)]) for slot in arena.used_markets()
        ]
        self._without_snapshot = {feed.slot for feed in self.feeds}
        self._logged_in_mono_ns = 0  # 0 = not yet
        self._streams: list[Stream] = []
        self._watched_mono_ns = 0
        self._ticked_mono_ns = lib.mono_now_ns()
        self._stop = asyncio.Event()
        self._error: BaseException | None = None
        self.session: PlatformSession

    # ---- called from the streams -------------------------------------------------------------

    def logged_in(self) -> None:
        """The venue answers: from here on a market may be blamed for a snapshot that does not come."""
        if not self._logged_in_mono_ns:
            self._logged_in_mono_ns = lib.mono_now_ns()

    def snapshot_arrived(self, feed: MarketFeed) -> None:
        """The process is RUNNING once every market has had its first snapshot, or time enough for it: one
        without a book holds nobody else up. Its book is invalid, and its quoter knows what to do then."""
        if not self._without_snapshot:
            return
        self._without_snapshot.discard(feed.slot)
        if not self._without_snapshot:
            self._run()

    def _run(self) -> None:
        self.proc.set_state(lib.PROCESS_RUNNING)
        late = [feed.market_id for feed in self.feeds if feed.slot in self._without_snapshot]
        self._without_snapshot.clear()
        _LOG.info("running", markets=len(self.feeds), without_snapshot=late)

    def wake_gateway(self) -> None:
        self.proc.ring_bell(lib.PROCESS_GATEWAY)

    def guarded(self, step: Callable[[int], None], now: int) -> None:
        """Runs a step of ours inside picows' callback, where an exception would only end the connection."""
        try:
            step(now)
        except Exception as error:  # a broken invariant: this process must not publish any more
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Ends the process with the first error."""
        if self._error is None:
            self._error = error
        self._stop.set()

    # ---- life --------------------------------------------------------------------------------

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = lib.mono_now_ns()
        self.proc.beat(now)
        stalled = now - self._ticked_mono_ns > _STALL_NS
        self._ticked_mono_ns = now
        if stalled and self._logged_in_mono_ns:
            self._logged_in_mono_ns = now
        if stalled or now - self._watched_mono_ns >= _WATCH_NS:
            self._watched_mono_ns = now
            waited_ns = now - self._logged_in_mono_ns if self._logged_in_mono_ns else 0
            if self._without_snapshot and waited_ns > _FIRST_SNAPSHOTS_NS_MAX:
                self._run()
            self.proc.record_cpu(lib.current_cpu())
            for stream in self._streams:
                if stream.listener is not None:
                    if stalled:
                        stream.listener.forgive(now)
                    else:
                        stream.listener.watch(now)
        loop.call_later(_TICK_S, self._tick, loop)

    async def run(self) -> None:
        """Until SIGTERM; raises what broke an invariant."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        self._tick(loop)
        venue = self.proc.config.venue
        pool = HttpPool(venue.url, connections=1, timeout_s=venue.request_timeout_ms / 1_000)
        with contextlib.closing(pool):
            self.session = PlatformSession(pool, username=venue.username, password=self._password)
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as outside:
                for feed in self.feeds:
                    self._streams += (
                        Stream(self, name="orderbook", feed=feed, url=book_stream_url, listener=BookListener),
                        Stream(self, name="trades", feed=feed, url=trade_stream_url, listener=TradeListener),
                    )
                oracles = {market.id: market.oracle for market in self.proc.config.markets}
                sources = oracle_feed.sources(
                    self.proc.arena, outside, ((feed, oracles.get(feed.market_id)) for feed in self.feeds)
                )
                tasks = [asyncio.create_task(task.run()) for task in (*self._streams, *sources)]
                for task in tasks:
                    task.add_done_callback(self._task_ended)
                gc.collect()
                gc.freeze()
                await self._stop.wait()
                self.proc.set_state(lib.PROCESS_STOPPING)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks, timeout=_CLOSE_S_MAX)
                for feed in self.feeds:  # nobody may quote on a book that nobody keeps
                    feed.link_down(lib.mono_now_ns())
        if self._error is not None:
            raise self._error

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)


_PICOWS_LOGGER: Final = logging.getLogger("picows.ingest")


def main() -> int:
    """Started by the supervisor. Exit codes: engine/workers/process.py."""
    proc = process.start("ingest")
    _PICOWS_LOGGER.disabled = True  # it names addresses, which carry the token; we log what matters ourselves
    try:
        password = venue_password(proc.config.venue)
    except ConfigError as error:
        _LOG.error("configuration_refused", reason=str(error))
        return EXIT_CONFIG
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(proc, password))
    return 0


async def _main(proc: WorkerProcess, password: str) -> None:
    await Ingest(proc, password).run()


if __name__ == "__main__":
    sys.exit(main())
