"""Records the frames beside this file from the paper exchange, through its WebSockets, while simulated
traders trade::

    python -m tests.data.frames.record

``orderbook.jsonl`` is one connection to one order book from its first frame on, ``trades.jsonl`` a
stretch of one connection to the same market's trades with every scenario in it: a frame a line, byte for byte
as received. A new recording has other prices, and the tests that read it do not mind.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from engine.venues.platform_feed import REQUEST_SNAPSHOT, book_stream_url, trade_stream_url
from tests.integration.participants import DEADLINE_S, Process, exchange_in, running

HERE: Final = Path(__file__).resolve().parent
MARKET: Final = "MKT-FED-RATE-CUT-2026Q2"
BOOK_FRAMES: Final = 130
TRADE_FRAMES: Final = 70
SNAPSHOT_EVERY: Final = 13  # order-book frames; unasked, the exchange sends one in 30 s
SWEEP_EVERY_S: Final = 0.3
SCENARIOS: Final = (b"MINT", b"TRANSFER_YES", b"TRANSFER_NO", b"BURN")
SWEEP_CENTS: Final = 60
SWEEP_SHARES: Final = 2_000  # more than rests up to that price


class Recorder(WSListener):
    """Keeps the last ``limit`` messages of one stream, until each of ``wanted`` occurs in one of them.

    Asks for a snapshot after every ``snapshot_every`` messages; 0 = never.
    """

    def __init__(self, limit: int, *, wanted: tuple[bytes, ...] = (), snapshot_every: int = 0) -> None:
        self._wanted = wanted
        self._snapshot_every = snapshot_every
        self._count = 0
        self.frames: deque[bytes] = deque(maxlen=limit)
        self.full = asyncio.Event()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is not WSMsgType.TEXT or self.full.is_set():
            return
        self.frames.append(frame.get_payload_as_bytes())
        self._count += 1
        if len(self.frames) == self.frames.maxlen and all(
            any(word in kept for kept in self.frames) for word in self._wanted
        ):
            self.full.set()
        elif self._snapshot_every and self._count % self._snapshot_every == 0:
            transport.send(WSMsgType.TEXT, REQUEST_SNAPSHOT)


async def record(
    url: str, token: str, *, start_traders: Callable[[], None], sweep: Callable[[], None]
) -> tuple[deque[bytes], deque[bytes]]:
    """Order-book frames, then trade frames.

    The traders start after the first snapshot, which is of an empty book; ``sweep`` takes several levels in
    one transaction and rests there, and so makes deltas of several levels on both sides.
    """
    books = Recorder(BOOK_FRAMES, snapshot_every=SNAPSHOT_EVERY)
    trades = Recorder(TRADE_FRAMES, wanted=SCENARIOS)
    transport, _ = await ws_connect(lambda: books, book_stream_url(url, MARKET, token))
    start_traders()
    async with asyncio.timeout(DEADLINE_S):
        while not books.full.is_set():
            await asyncio.sleep(SWEEP_EVERY_S)
            await asyncio.to_thread(sweep)
        transport.disconnect()
        transport, _ = await ws_connect(lambda: trades, trade_stream_url(url, MARKET, token))
        await trades.full.wait()
    transport.disconnect()
    return books.frames, trades.frames


def main() -> None:
    """Raises TimeoutError when the traders do not trade enough."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        exchange = stack.enter_context(exchange_in(folder))
        account = exchange.account("sweeper", "Password-of-the-sweeper-1", deposit_cents=10_000_000)
        command = ("engine.paper.traders", "--url", exchange.url, "--markets", MARKET)

        def start_traders() -> None:
            stack.enter_context(running(Process(folder, *command, "--seed", "7", "--rate", "250")))

        def sweep() -> None:
            for side in ("YES", "NO"):  # what is left of it rests until it is cancelled
                order = account.buy(MARKET, side, SWEEP_CENTS, SWEEP_SHARES)["order"]
                account.post(f"orders/{order['id']}/cancel", {})

        books, trades = asyncio.run(
            record(exchange.url, account.token, start_traders=start_traders, sweep=sweep)
        )
    for stream, frames in (("orderbook", books), ("trades", trades)):
        (HERE / f"{stream}.jsonl").write_bytes(b"".join(frame + b"\n" for frame in frames))
        print(f"{stream}: {len(frames)} frames, {sum(map(len, frames))} bytes")


if __name__ == "__main__":
    main()
