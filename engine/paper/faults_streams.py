"""Faults of the WebSocket streams: each message passes the rules on its way to the wire.

The sequence number is counted before a message comes here, as in a server whose messages get lost behind it.
A connection that is silent, stalled or trickling keeps what it may not send in memory only up to the bound
that every slow client has; beyond it, it is cut off.

Reads: messages of the streams, fault rules. Writes: sockets.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from picows import WSTransport

from engine.paper import streams
from engine.paper.connection import reset
from engine.paper.exchange import Exchange
from engine.paper.faults import (
    WsDisconnect,
    WsDuplicate,
    WsGap,
    WsHalfOpen,
    WsReorder,
    WsResetSequence,
    WsStall,
    WsTrickle,
)
from engine.paper.faults_switches import Seen, Switches
from engine.paper.streams import BookConnection, Connection, Streams
from engine.paper.tokens import Tokens

_TRICKLE_PERIOD_S_MIN: Final = 0.01
_KIND_WITHIN_BYTES: Final = 64


class _Mode(Enum):
    """What a connection does with messages."""

    OPEN = auto()
    STALLED = auto()
    HALF_OPEN = auto()
    TRICKLING = auto()


class FaultyConnection(Connection):
    """A stream connection that does to its messages what the rules say."""

    def __init__(self, streams: Streams, market_id: str, seen: Seen, switches: Switches) -> None:
        super().__init__(streams, market_id)
        self._seen: Final = seen
        self._switches: Final = switches
        self._mode = _Mode.OPEN
        self._held_back: bytes | None = None
        self._backlog: Final[deque[bytes]] = deque()
        self._backlog_bytes = 0
        self._trickling = bytearray()
        self._clock: asyncio.TimerHandle | None = None

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leave and stop the clock."""
        super().on_ws_disconnected(transport)
        if self._clock is not None:
            self._clock.cancel()

    def send_user_specific_ping(self, transport: WSTransport) -> None:
        """Ping an idle client, unless the wire is supposed to be dead: then its silence must not end it."""
        if self._mode in {_Mode.HALF_OPEN, _Mode.TRICKLING}:
            transport.notify_user_specific_pong_received()
        else:
            transport.send_ping()

    def transmit(self, transport: WSTransport, message: bytes) -> None:
        """Send, spoil or keep one message."""
        if self._mode is _Mode.HALF_OPEN:
            return
        if self._mode is not _Mode.OPEN:
            self._keep(message)
            return
        held_back, self._held_back = self._held_back, None
        self._spoil(transport, message)
        if held_back is not None and self.transport is not None:
            self._pass(transport, held_back)

    def _spoil(self, transport: WSTransport, message: bytes) -> None:
        match self._switches.message(self._seen_with(message)) if self._switches.concern_streams else None:
            case WsGap():
                return
            case WsDuplicate():
                self._pass(transport, message)
                self._pass(transport, message)
            case WsReorder():
                self._held_back = message
            case WsResetSequence():
                self._pass(transport, message)
                self.sequence_id = 0
            case WsStall(ms=ms):
                self._mode = _Mode.STALLED
                self._keep(message)
                self._after(ms / 1000, self._resume)
            case WsHalfOpen(ms=ms):
                self._mode = _Mode.HALF_OPEN
                transport.underlying_transport.pause_reading()
                self._after(ms / 1000, self._reset)
            case WsTrickle(bytes_per_s=bytes_per_s):
                self._mode = _Mode.TRICKLING
                transport.underlying_transport.pause_reading()
                self._keep(message)
                self._trickle(bytes_per_s)
            case WsDisconnect(code=None):
                self._reset()
            case WsDisconnect(code=code):
                self.transport = None
                transport.send_close(code)  # type: ignore[arg-type]  # 4000..4999 are in no enum
                transport.disconnect()
            case _:
                self._pass(transport, message)

    def _seen_with(self, message: bytes) -> Seen:
        start = message[:_KIND_WITHIN_BYTES]
        kind = "TRADE" if b'"TRADE"' in start else "SNAPSHOT" if b'"SNAPSHOT"' in start else "DELTA"
        return Seen(path=self._seen.path, users=self._seen.users, markets=self._seen.markets, message=kind)

    def _pass(self, transport: WSTransport, message: bytes) -> None:
        """Send a message as it is, or keep it if that one before it changed what the wire does."""
        if self._mode is _Mode.OPEN:
            super().transmit(transport, message)
        elif self._mode is not _Mode.HALF_OPEN:
            self._keep(message)

    def _keep(self, message: bytes) -> None:
        self._backlog.append(message)
        self._backlog_bytes += len(message)
        if self._backlog_bytes > streams.BUFFER_BYTES_MAX:
            self.cut_off()

    def _take(self) -> bytes:
        message = self._backlog.popleft()
        self._backlog_bytes -= len(message)
        return message

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        self._clock = asyncio.get_running_loop().call_later(seconds, call)

    def _resume(self) -> None:
        """The stall is over: everything that waited, at once."""
        self._mode = _Mode.OPEN
        while self._backlog and self.transport is not None:
            super().transmit(self.transport, self._take())

    def _trickle(self, bytes_per_s: int) -> None:
        """Pass the next bytes and come back for more."""
        if self.transport is None:
            return
        period_s = max(1 / bytes_per_s, _TRICKLE_PERIOD_S_MIN)
        count = max(1, round(bytes_per_s * period_s))
        while self._backlog and len(self._trickling) < count:
            self._trickling += _framed(self._take())
        if self._trickling:
            self.transport.underlying_transport.write(bytes(self._trickling[:count]))
            del self._trickling[:count]
        self._clock = asyncio.get_running_loop().call_later(period_s, self._trickle, bytes_per_s)

    def _reset(self) -> None:
        """End the connection without a word, by RST."""
        if self.transport is None:
            return
        plain = self.transport.underlying_transport
        self.transport = None
        reset(plain)


class FaultyBookConnection(FaultyConnection, BookConnection):
    """A client of an order book."""


class FaultyStreams(Streams):
    """Streams whose connections ask the fault switches."""

    def __init__(
        self, exchange: Exchange, tokens: Tokens, snapshot_interval_ms: int, switches: Switches
    ) -> None:
        super().__init__(exchange, tokens, snapshot_interval_ms)
        self._switches: Final = switches

    def connect(self, stream: str, market_id: str, user_id: str) -> Connection:
        """The listener of one stream of a market."""
        user = self._exchange.state.users.get(user_id)
        users = frozenset({user_id, user.username} if user is not None else {user_id})
        seen = Seen(path=f"{stream}{market_id}", users=users, markets=frozenset({market_id}))
        kind = FaultyBookConnection if stream == streams.BOOK_PATH else FaultyConnection
        return kind(self, market_id, seen, self._switches)


def _framed(message: bytes) -> bytes:
    """A text message as one frame of a server: final, unmasked."""
    size = len(message)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + message
    if size < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, size) + message
    return struct.pack("!BBQ", 0x81, 127, size) + message
