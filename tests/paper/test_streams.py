"""The WebSocket streams as a client sees them (contract section 3)."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from engine.paper import streams
from tests.paper.venue import DEADLINE_S, MARKET, OTHER_MARKET, SERVICE_TOKEN, Venue, open_venue


class Client(WSListener):
    """Collects the messages of one stream; picows on both ends, as in the engine."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.close: tuple[int, str] | None = None
        self.transport: WSTransport | None = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            self.close = (int(frame.get_close_code()), frame.get_close_reason())
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            self.messages.append(json.loads(frame.get_payload_as_utf8_text()))

    def say(self, text: str) -> None:
        assert self.transport is not None
        self.transport.send(WSMsgType.TEXT, text.encode())

    async def until(self, condition: Callable[["Client"], object]) -> None:
        """Wait for a condition of this client, with a deadline."""
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        while not condition(self):
            assert asyncio.get_running_loop().time() < deadline, (self.messages, self.close)
            await asyncio.sleep(0.005)

    async def count(self, count: int) -> list[dict[str, Any]]:
        await self.until(lambda client: len(client.messages) >= count)
        assert len(self.messages) == count
        return self.messages


async def join(venue: Venue, path: str, token: str | None = None) -> Client:
    token = venue.amm.token if token is None else token
    url = f"ws://{venue.host}:{venue.port}/ws/v1/{path}?token={token}"
    transport, client = await ws_connect(Client, url)
    assert isinstance(client, Client)
    client.transport = transport
    return client


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 3 * DEADLINE_S))


def test_snapshot_then_deltas(venue: Venue) -> None:
    a, b = venue.people("AB")

    async def scene() -> None:
        a.place("BUY YES 40x10")
        client = await join(venue, f"orderbook/{MARKET}")
        (snapshot,) = await client.count(1)
        assert {key: snapshot[key] for key in ("type", "update_type", "sequence_id", "market_id")} == {
            "type": "ORDERBOOK_UPDATE",
            "update_type": "SNAPSHOT",
            "sequence_id": 1,
            "market_id": MARKET,
        }
        assert snapshot["yes"] == {"bids": [{"price_cents": 40, "total_quantity": 10}], "asks": []}
        order_id = a.place("BUY YES 41x5")["order"]["id"]
        b.place("BUY NO 58x7")
        a.cancel(order_id)
        b.place("BUY YES 43x7", OTHER_MARKET)
        deltas = (await client.count(4))[1:]
        assert [delta["update_type"] for delta in deltas] == ["DELTA"] * 3
        assert [delta["sequence_id"] for delta in deltas] == [2, 3, 4]
        assert [delta["yes"] for delta in deltas] == [
            {"bids": [{"price_cents": 41, "total_quantity": 5}], "asks": []},
            {"bids": [], "asks": [{"price_cents": 42, "total_quantity": 7}]},
            {"bids": [{"price_cents": 41, "total_quantity": 0}], "asks": []},
        ]

    play(scene())


def test_one_delta_for_one_transaction(venue: Venue) -> None:
    a, b = venue.people("AB")

    async def scene() -> None:
        for words in ("BUY YES 40x10", "BUY YES 41x10", "BUY YES 42x10"):
            a.place(words)
        client = await join(venue, f"orderbook/{MARKET}")
        await client.count(1)
        b.place("BUY NO 59x25")  # takes 42 and 41, rests its last 5 at 41
        (_, delta) = await client.count(2)
        assert delta["yes"]["bids"] == [
            {"price_cents": 42, "total_quantity": 0},
            {"price_cents": 41, "total_quantity": 0},
        ]
        assert delta["yes"]["asks"] == [{"price_cents": 41, "total_quantity": 5}]
        b.place("SELL NO 99x3")  # rests nowhere near, and pairs of nobody change
        (*_, delta) = await client.count(3)
        assert delta["yes"] == {"bids": [{"price_cents": 1, "total_quantity": 3}], "asks": []}

    play(scene())


def test_a_replace_at_the_same_price_changes_no_level(venue: Venue) -> None:
    amm = venue.amm
    amm.post("/account/deposit", {"amount_cents": 100_000})

    async def scene() -> None:
        old = amm.place("BUY YES 40x10")["order"]["id"]
        client = await join(venue, f"orderbook/{MARKET}")
        await client.count(1)
        new = amm.try_replace(old, "BUY YES 40x10").data["new_order"]["id"]
        assert amm.try_replace(new, "BUY YES 41x12").status == 200
        (_, delta) = await client.count(2)
        assert delta["yes"]["bids"] == [
            {"price_cents": 40, "total_quantity": 0},
            {"price_cents": 41, "total_quantity": 12},
        ]

    play(scene())


def test_deltas_rebuild_the_book(venue: Venue) -> None:
    import random

    rng = random.Random(7)
    people = venue.people("ABC")

    async def scene() -> None:
        client = await join(venue, f"orderbook/{MARKET}")
        placed = []
        for _ in range(150):
            person = rng.choice(people)
            words = f"BUY {rng.choice(['YES', 'NO'])} {rng.randint(40, 60)}x{rng.randint(1, 20)}"
            placed.append((person, person.place(words)["order"]["id"]))
            if rng.random() < 0.3:
                owner, order_id = rng.choice(placed)
                owner.cancel(order_id)
        truth = people[0].get(f"/markets/{MARKET}/orderbook?levels=99")["yes"]

        def rebuilt(_: Client) -> bool:
            book: dict[str, dict[int, int]] = {"bids": {}, "asks": {}}
            expected = 1
            for message in client.messages:
                assert message["sequence_id"] == expected
                expected += 1
                for side, levels in book.items():
                    for level in message["yes"][side]:
                        levels[level["price_cents"]] = level["total_quantity"]
            shown = {
                side: [
                    {"price_cents": price, "total_quantity": book[side][price]}
                    for price in sorted(book[side], reverse=side == "bids")
                    if book[side][price]
                ]
                for side in book
            }
            return shown == truth

        await client.until(rebuilt)

    play(scene())


def test_request_snapshot_restarts_the_count(venue: Venue) -> None:
    (a,) = venue.people("A")

    async def scene() -> None:
        client = await join(venue, f"orderbook/{MARKET}")
        other = await join(venue, f"orderbook/{MARKET}")
        await client.count(1)
        a.place("BUY YES 40x10")
        await client.count(2)
        client.say('{"action":"REQUEST_SNAPSHOT"}')
        await client.count(3)
        a.place("BUY YES 39x10")
        messages = await client.count(4)
        assert [(m["update_type"], m["sequence_id"]) for m in messages] == [
            ("SNAPSHOT", 1),
            ("DELTA", 2),
            ("SNAPSHOT", 1),
            ("DELTA", 2),
        ]
        assert [m["sequence_id"] for m in await other.count(3)] == [1, 2, 3]

    play(scene())


def test_snapshots_repeat() -> None:
    with open_venue(snapshot_interval_ms=100) as venue:

        async def scene() -> None:
            client = await join(venue, f"orderbook/{MARKET}")
            await client.until(lambda client: len(client.messages) >= 4)
            assert {m["update_type"] for m in client.messages} == {"SNAPSHOT"}
            assert {m["sequence_id"] for m in client.messages} == {1}

        play(scene())


def test_trades(venue: Venue) -> None:
    a, b = venue.people("AB")
    amm = venue.amm

    async def scene() -> None:
        client = await join(venue, f"trades/{MARKET}")
        a.place("BUY YES 60x10")
        a.place("BUY YES 61x10")
        sold = b.place("BUY NO 40x15")["trades"]
        amm.post("/account/deposit", {"amount_cents": 10_000})
        amm.post("/amm/mint", {"market_id": MARKET, "quantity": 5, "idempotency_key": "silent"})
        amm.place("SELL YES 70x5")
        bought = b.place("BUY YES 70x5")["trades"]
        messages = await client.count(3)
        assert [m["sequence_id"] for m in messages] == [1, 2, 3]
        assert [m["trade_id"] for m in messages] == [t["trade_id"] for t in sold + bought]
        assert [(m["price_cents"], m["quantity"]) for m in messages] == [(61, 10), (60, 5), (70, 5)]
        assert [m["aggressor_side"] for m in messages] == ["SELL", "SELL", "BUY"]
        assert [m["scenario"] for m in messages] == ["MINT", "MINT", "TRANSFER_YES"]
        assert {m["type"] for m in messages} == {"TRADE"}

    play(scene())


@pytest.mark.parametrize(
    ("path", "token", "code"),
    [
        (f"orderbook/{MARKET}", "wrong", 4401),
        (f"trades/{MARKET}", "", 4401),
        ("orderbook/nowhere", None, 4404),
        ("trades/nowhere", None, 4404),
        ("nothing", None, 4404),
    ],
)
def test_close_codes(shared: Venue, path: str, token: str | None, code: int) -> None:
    async def scene() -> None:
        client = await join(shared, path, token)
        await client.until(lambda client: client.close is not None)
        assert client.close is not None
        assert client.close[0] == code
        assert client.messages == []

    play(scene())


def test_service_token_opens_a_stream(shared: Venue) -> None:
    async def scene() -> None:
        client = await join(shared, f"orderbook/{MARKET}", SERVICE_TOKEN)
        await client.count(1)

    play(scene())


@pytest.mark.parametrize("text", ["hello", "{}", '{"action":"DANCE"}', '{"action":5}', "[" * 3000])
def test_nonsense_from_a_client(shared: Venue, text: str) -> None:
    async def scene() -> None:
        client = await join(shared, f"orderbook/{MARKET}")
        await client.count(1)
        client.say(text)
        await client.until(lambda client: client.close is not None)
        assert client.close is not None
        assert client.close[0] == 4400

    play(scene())


def test_slow_client_is_cut_off_and_nobody_waits(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BUFFER_BYTES_MAX", 4096)
    (a,) = venue.people("A")
    head = (
        f"GET /ws/v1/orderbook/{MARKET}?token={a.token} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    sleeper = socket.socket()
    sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sleeper.connect((venue.host, venue.port))
    sleeper.sendall(head.encode())
    assert sleeper.recv(12).startswith(b"HTTP/1.1 101")

    async def scene() -> None:
        reader = await join(venue, f"orderbook/{MARKET}")
        await reader.count(1)
        # Snapshots asked for by nobody who reads: masked frames on the raw socket, until it is cut off.
        request = b'{"action":"REQUEST_SNAPSHOT"}'
        frame = bytes([0x81, 0x80 | len(request)]) + bytes(4) + request
        for price in range(1, 99):
            a.place(f"BUY YES {price}x1")
        sleeper.settimeout(DEADLINE_S)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            sleeper.sendall(frame * 200_000)
        a.place("BUY YES 1x1")
        await reader.until(lambda client: len(client.messages) == 100)
        assert [message["sequence_id"] for message in reader.messages] == list(range(1, 101))

    play(scene())
    sleeper.close()


def test_clients_may_leave_at_any_moment(venue: Venue) -> None:
    (a,) = venue.people("A")

    async def scene() -> None:
        clients = [await join(venue, f"orderbook/{MARKET}") for _ in range(20)]
        for number, client in enumerate(clients):
            assert client.transport is not None
            if number % 2:
                client.transport.disconnect(graceful=False)
        a.place("BUY YES 40x10")
        for client in clients[::2]:
            await client.count(2)

    play(scene())


def test_streams_end_with_the_server() -> None:
    closed = threading.Event()

    async def scene() -> None:
        with open_venue() as venue:
            client = await join(venue, f"orderbook/{MARKET}")
            await client.count(1)
        assert client.transport is not None
        await client.transport.wait_disconnected()
        closed.set()

    play(scene())
    assert closed.is_set()
