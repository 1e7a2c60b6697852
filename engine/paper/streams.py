"""The two WebSocket streams of a market: order book and trades (contract section 3).

uvicorn parses the upgrade request and hands the connection to :class:`PicowsUpgrade`, which lets picows speak
the protocol from there: framing in C, no ASGI message per frame. What a commit changed is encoded once and
sent to every connection; only the sequence number, which each connection counts for itself, is spliced in.

Slow clients: the transport's write buffer is the only queue. A client that lets more than
``BUFFER_BYTES_MAX`` pile up in it is cut off without a close frame, because it would not read that either.

Reads: commits of the exchange. Writes: sockets.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # in the module, not in its stub

from engine.paper.book import Level
from engine.paper.connection import JoiningTransport
from engine.paper.exchange import Committed, Exchange
from engine.paper.model import AMM_SYSTEM_ID, Direction, Trade
from engine.paper.refusal import Refusal
from engine.paper.tokens import Tokens
from engine.paper.views import SideBookView

BUFFER_BYTES_MAX: Final = 1 << 20
CLOSE_UNAUTHORIZED: Final = 4401
CLOSE_UNKNOWN: Final = 4404
CLOSE_BAD_MESSAGE: Final = 4400
_REQUEST_BYTES_MAX: Final = 4096
_PING_IDLE_SECONDS: Final = 20
_HANDSHAKE_SECONDS: Final = 5
BOOK_PATH: Final = "/ws/v1/orderbook/"
_TRADES_PATH: Final = "/ws/v1/trades/"

_ENCODER: Final = msgspec.json.Encoder()
_LOG: Final = logging.getLogger("engine.paper.streams")


class ClientAction(msgspec.Struct, frozen=True):
    """The one thing a book client may ask."""

    action: str


_ACTION: Final = msgspec.json.Decoder(ClientAction)


class Connection(WSListener):
    """One client of one stream; ``sequence_id`` counts what was sent to it."""

    def __init__(self, streams: "Streams", market_id: str) -> None:
        self.streams: Final = streams
        self.market_id: Final = market_id
        self.sequence_id = 0
        self.transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Join the market's stream."""
        self.transport = transport
        self.streams.join(self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - picows' signature
        """Leave it; afterwards nothing is sent any more."""
        self.streams.leave(self)
        self.transport = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer a close; subclasses read more."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def pause_writing(self) -> None:
        """Nothing to do: the buffer's own bound decides."""

    def resume_writing(self) -> None:
        """Nothing to do: the buffer's own bound decides."""

    def send_numbered(self, head: bytes, tail: bytes) -> None:
        """Send ``head`` + next sequence number + ``tail``, or cut off a client that does not read."""
        transport = self.transport
        if transport is None:
            return
        if transport.underlying_transport.get_write_buffer_size() > BUFFER_BYTES_MAX:
            self.cut_off()
            return
        self.sequence_id += 1
        self.transmit(transport, b"%b%d%b" % (head, self.sequence_id, tail))

    def transmit(self, transport: WSTransport, message: bytes) -> None:
        """Put one whole message on the wire."""
        transport.send(WSMsgType.TEXT, message)

    def cut_off(self) -> None:
        """Get rid of a client that does not read, without a close frame that it would not read either."""
        if self.transport is None:
            return
        self.streams.slow_clients_cut += 1
        _LOG.warning("slow client of market %s cut off", self.market_id)
        transport, self.transport = self.transport, None
        transport.disconnect(graceful=False)


class BookConnection(Connection):
    """A client of an order book: snapshot at once, then changes, and a snapshot at each interval."""

    def __init__(self, streams: "Streams", market_id: str) -> None:
        super().__init__(streams, market_id)
        self._timer: asyncio.TimerHandle | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Join and send the first snapshot."""
        super().on_ws_connected(transport)
        self.send_snapshot()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leave and stop the snapshot timer."""
        super().on_ws_disconnected(transport)
        if self._timer is not None:
            self._timer.cancel()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Understand REQUEST_SNAPSHOT; close on anything else a client might say."""
        if frame.msg_type != WSMsgType.TEXT:
            super().on_ws_frame(transport, frame)
            return
        try:
            action = _ACTION.decode(frame.get_payload_as_bytes()).action
        except msgspec.MsgspecError:
            action = ""
        if action == "REQUEST_SNAPSHOT":
            self.send_snapshot()
        else:
            _close(transport, CLOSE_BAD_MESSAGE, "only REQUEST_SNAPSHOT is understood")

    def send_snapshot(self) -> None:
        """The full book as message 1 of a new count (D17); the next one follows after the interval."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(
            self.streams.snapshot_interval_seconds, self.send_snapshot
        )
        self.sequence_id = 0
        head, tail = self.streams.encode_snapshot(self.market_id)
        self.send_numbered(head, tail)


class RefusedConnection(WSListener):
    """A client that is told why and closed: the code reaches it only after the handshake."""

    def __init__(self, code: int, reason: str) -> None:
        self._code: Final = code
        self._reason: Final = reason

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Say goodbye at once."""
        _close(transport, self._code, self._reason)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002
        """Whatever it says, it has been closed."""
        transport.disconnect()


def _close(transport: WSTransport, code: int, reason: str) -> None:
    # Codes 4000..4999 are the application's own and in no enum.
    transport.send_close(code, reason.encode())  # type: ignore[arg-type]
    transport.disconnect()


class Streams:
    """All stream connections by market; listens to the exchange's commits."""

    def __init__(self, exchange: Exchange, tokens: Tokens, snapshot_interval_ms: int) -> None:
        self.snapshot_interval_seconds: Final = snapshot_interval_ms / 1000
        self.slow_clients_cut = 0
        self._exchange: Final = exchange
        self._tokens: Final = tokens
        self._books: Final[dict[str, set[Connection]]] = defaultdict(set)
        self._trades: Final[dict[str, set[Connection]]] = defaultdict(set)
        exchange.listen(self.publish)

    def accept(self, request: WSUpgradeRequest) -> WSListener:
        """The listener for an upgrade request: a stream, or a refusal (section 3)."""
        url = urlsplit(request.path.decode("latin-1"))
        if url.path.startswith(BOOK_PATH):
            stream, market_id = BOOK_PATH, url.path.removeprefix(BOOK_PATH)
        elif url.path.startswith(_TRADES_PATH):
            stream, market_id = _TRADES_PATH, url.path.removeprefix(_TRADES_PATH)
        else:
            return RefusedConnection(CLOSE_UNKNOWN, "no such stream")
        token = parse_qs(url.query).get("token", [""])[0]
        system_id = request.headers.get("X-AMM-System-Id", AMM_SYSTEM_ID)
        try:
            caller = self._tokens.read_access(token, system_id)
        except Refusal as refusal:
            return RefusedConnection(CLOSE_UNAUTHORIZED, refusal.message[:100])
        if caller.user_id not in self._exchange.state.accounts:
            return RefusedConnection(CLOSE_UNAUTHORIZED, "the token's user does not exist here")
        if market_id not in self._exchange.state.markets:
            return RefusedConnection(CLOSE_UNKNOWN, f"market {market_id[:64]} is unknown")
        return self.connect(stream, market_id, caller.user_id)

    def connect(self, stream: str, market_id: str, user_id: str) -> Connection:  # noqa: ARG002 - for heirs
        """The listener of one stream of a market."""
        return BookConnection(self, market_id) if stream == BOOK_PATH else Connection(self, market_id)

    def join(self, connection: Connection) -> None:
        """Count a connection among its market's."""
        self._group(connection)[connection.market_id].add(connection)

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        self._group(connection)[connection.market_id].discard(connection)

    def _group(self, connection: Connection) -> dict[str, set[Connection]]:
        return self._books if isinstance(connection, BookConnection) else self._trades

    def publish(self, committed: Committed) -> None:
        """Send one commit: one DELTA with every changed level, one TRADE per fill."""
        books = self._books.get(committed.market_id)
        if books and committed.levels:
            head, tail = _encode_delta(committed)
            for connection in tuple(books):
                connection.send_numbered(head, tail)
        clients = self._trades.get(committed.market_id)
        if clients:
            for trade in committed.trades:
                head, tail = _encode_trade(trade, committed.at_unix_ms)
                for connection in tuple(clients):
                    connection.send_numbered(head, tail)

    def encode_snapshot(self, market_id: str) -> tuple[bytes, bytes]:
        """The market's full YES book, split around the sequence number."""
        view = SideBookView.of(self._exchange.state.books[market_id])
        return _encode_book("SNAPSHOT", market_id, time.time_ns() // 1_000_000, view)


def _encode_book(update_type: str, market_id: str, at_unix_ms: int, yes: SideBookView) -> tuple[bytes, bytes]:
    head = b'{"type":"ORDERBOOK_UPDATE","update_type":"%b","sequence_id":' % update_type.encode()
    tail = b',"market_id":"%b","timestamp_ms":%d,"yes":%b}' % (
        market_id.encode(),
        at_unix_ms,
        _ENCODER.encode(yes),
    )
    return head, tail


def _encode_delta(committed: Committed) -> tuple[bytes, bytes]:
    by_side: dict[Direction, list[Level]] = {side: [] for side in Direction}
    for change in committed.levels:
        by_side[change.direction].append(Level(change.price_cents, change.total_quantity))
    yes = SideBookView(bids=by_side[Direction.BUY], asks=by_side[Direction.SELL])
    return _encode_book("DELTA", committed.market_id, committed.at_unix_ms, yes)


def _encode_trade(trade: Trade, at_unix_ms: int) -> tuple[bytes, bytes]:
    aggressor = Direction.BUY if trade.taker_order_id == trade.buy_order_id else Direction.SELL
    tail = b',"market_id":"%b","timestamp_ms":%d,"trade_id":"%b","price_cents":%d,"quantity":%d,' % (
        trade.market_id.encode(),
        at_unix_ms,
        trade.trade_id.encode(),
        trade.price_cents,
        trade.quantity,
    )
    tail += b'"scenario":"%b","aggressor_side":"%b"}' % (trade.scenario.encode(), aggressor.encode())
    return b'{"type":"TRADE","sequence_id":', tail


class PicowsUpgrade(asyncio.Protocol):
    """Glue between uvicorn's upgrade hook and picows: replays the request, then passes bytes on."""

    def __init__(self, accept: Callable[[WSUpgradeRequest], WSListener], connections: set[Any]) -> None:
        self._connections: Final = connections
        self._picows: Final = WSProtocol(
            None,
            None,
            False,  # server side
            accept,
            _LOG,
            True,  # disconnect on an exception in a listener
            _HANDSHAKE_SECONDS,
            True,  # ping idle clients
            _PING_IDLE_SECONDS,
            _PING_IDLE_SECONDS,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            True,  # answer pings
            _REQUEST_BYTES_MAX,
            None,
            _REQUEST_BYTES_MAX,
        )

    def connection_made(self, transport: asyncio.BaseTransport | JoiningTransport) -> None:
        """Start picows on the connection uvicorn accepted."""
        self._connections.add(self)
        # picows reads the socket's options and needs the transport itself, not uvicorn's wrapping of it.
        plain = transport.plain if isinstance(transport, JoiningTransport) else transport
        self._picows.connection_made(plain)

    def data_received(self, data: bytes) -> None:
        """Copy received bytes into picows' own buffer."""
        offset = 0
        while offset < len(data):
            buffer = self._picows.get_buffer(-1)
            count = min(len(buffer), len(data) - offset)
            buffer[:count] = data[offset : offset + count]
            self._picows.buffer_updated(count)
            offset += count

    def eof_received(self) -> bool | None:
        """Let the transport close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell picows, and uvicorn's bookkeeping."""
        self._connections.discard(self)
        self._picows.connection_lost(exc)

    def pause_writing(self) -> None:
        """Passed on."""
        self._picows.pause_writing()

    def resume_writing(self) -> None:
        """Passed on."""
        self._picows.resume_writing()

    def shutdown(self) -> None:
        """uvicorn stops: close without waiting for the client."""
        self._picows.transport.send_close(WSCloseCode.SERVICE_RESTART)
        self._picows.transport.disconnect(graceful=False)
