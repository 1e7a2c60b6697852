"""Fault switches: what the client of a stream sees of each fault, while the exchange itself stays right."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from picows import WSFrame, WSMsgType, WSTransport, ws_connect

from engine.paper import streams
from tests.paper.databases import stored_state
from tests.paper.test_faults import counts, rule, switch
from tests.paper.test_streams import Client, join, play
from tests.paper.venue import DEADLINE_S, MARKET, OTHER_MARKET, Person, Venue, open_venue

DELTAS = {"messages": ["DELTA"]}


@pytest.fixture
def faulty() -> Iterator[Venue]:
    """An exchange with fault switches that nobody has used yet."""
    with open_venue(faults=True) as venue:
        yield venue


class PingingClient(Client):
    """Notes the pongs too."""

    def __init__(self) -> None:
        super().__init__()
        self.pongs = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.PONG:
            self.pongs += 1
        else:
            super().on_ws_frame(transport, frame)


async def join_pinging(venue: Venue, person: Person) -> PingingClient:
    url = f"ws://{venue.host}:{venue.port}/ws/v1/orderbook/{MARKET}?token={person.token}"
    transport, client = await ws_connect(PingingClient, url)
    assert isinstance(client, PingingClient)
    client.transport = transport
    return client


def told(client: Client) -> list[tuple[str, int, int]]:
    """(kind, sequence number, quantity of the one bid level it tells of) of every message."""
    return [
        (
            message["update_type"],
            message["sequence_id"],
            message["yes"]["bids"][-1]["total_quantity"] if message["yes"]["bids"] else 0,
        )
        for message in client.messages
    ]


SNAPSHOT = ("SNAPSHOT", 1, 0)


@pytest.mark.parametrize(
    ("action", "messages"),
    [
        ("ws_gap", [SNAPSHOT, ("DELTA", 2, 1), ("DELTA", 4, 3), ("DELTA", 5, 4)]),
        (
            "ws_duplicate",
            [SNAPSHOT, ("DELTA", 2, 1), ("DELTA", 3, 2), ("DELTA", 3, 2), ("DELTA", 4, 3), ("DELTA", 5, 4)],
        ),
        ("ws_reorder", [SNAPSHOT, ("DELTA", 2, 1), ("DELTA", 4, 3), ("DELTA", 3, 2), ("DELTA", 5, 4)]),
        (
            "ws_reset_sequence",
            [SNAPSHOT, ("DELTA", 2, 1), ("DELTA", 3, 2), ("DELTA", 1, 3), ("DELTA", 2, 4)],
        ),
    ],
)
def test_wrong_order_of_messages(faulty: Venue, action: str, messages: list[tuple[str, int, int]]) -> None:
    (a,) = faulty.people("A")
    switch(faulty, rule({"type": action}, match=DELTAS, skip=1, times=1))

    async def scene() -> None:
        client = await join(faulty, f"orderbook/{MARKET}")
        await client.count(1)
        for _ in range(4):
            a.place("BUY YES 40x1")
        await client.until(lambda client: len(client.messages) >= len(messages))
        assert told(client) == messages
        client.say('{"action":"REQUEST_SNAPSHOT"}')  # heals all of them
        await client.until(lambda client: len(client.messages) > len(messages))
        assert told(client)[-1] == ("SNAPSHOT", 1, 4)

    play(scene())
    assert counts(faulty) == [(4, 1)]
    book = stored_state(faulty.database).books[MARKET]
    assert sum(order.remaining_quantity for order in a.venue.server.exchange.state.orders.values()) == 4
    assert len(book.order_ids()) == 4


def test_only_the_matching_streams(faulty: Venue) -> None:
    a, b = faulty.people("AB")
    match = {"path": "/ws/v1/trades/*", "markets": [MARKET], "users": [a.name], "messages": ["TRADE"]}
    switch(faulty, rule({"type": "ws_gap"}, match=match))

    async def scene() -> None:
        spoiled = await join(faulty, f"trades/{MARKET}", a.token)
        others = [
            await join(faulty, f"trades/{MARKET}", b.token),
            await join(faulty, f"trades/{OTHER_MARKET}", a.token),
        ]
        book = await join(faulty, f"orderbook/{MARKET}", a.token)
        for market in (MARKET, OTHER_MARKET):
            a.place("BUY YES 40x1", market)
            b.place("BUY NO 60x1", market)
        for client in others:
            await client.count(1)
        await book.count(3)
        switch(faulty)
        a.place("BUY YES 40x1")
        b.place("BUY NO 60x1")
        (message,) = await spoiled.count(1)
        assert message["sequence_id"] == 2

    play(scene())


def test_stall_answers_pings_and_catches_up(faulty: Venue) -> None:
    (a,) = faulty.people("A")
    switch(faulty, rule({"type": "ws_stall", "ms": 700}, match=DELTAS, times=1))

    async def scene() -> None:
        client = await join_pinging(faulty, a)
        await client.count(1)
        began = asyncio.get_running_loop().time()
        for _ in range(3):
            a.place("BUY YES 40x1")
        assert client.transport is not None
        client.transport.send_ping()
        await client.until(lambda _: client.pongs)
        stalled_s = asyncio.get_running_loop().time() - began
        assert stalled_s > 0.6 or len(client.messages) == 1
        await client.count(4)
        assert asyncio.get_running_loop().time() - began >= 0.7
        assert [number for _, number, _ in told(client)] == [1, 2, 3, 4]

    play(scene())


def test_a_stall_keeps_no_more_than_a_slow_client_may(faulty: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BUFFER_BYTES_MAX", 2000)
    (a,) = faulty.people("A")
    switch(faulty, rule({"type": "ws_stall", "ms": 600_000}, match=DELTAS, times=1))

    async def scene() -> None:
        client = await join(faulty, f"orderbook/{MARKET}")
        await client.count(1)
        for _ in range(20):
            a.place("BUY YES 40x1")
        assert client.transport is not None
        await asyncio.wait_for(client.transport.wait_disconnected(), DEADLINE_S)
        assert client.close is None

    play(scene())


def test_half_open_is_silent_and_deaf_until_it_is_reset(faulty: Venue) -> None:
    a, b = faulty.people("AB")
    match = {**DELTAS, "users": [a.name]}
    switch(faulty, rule({"type": "ws_half_open", "ms": 900}, match=match, times=1))

    async def scene() -> None:
        client = await join_pinging(faulty, a)
        healthy = await join_pinging(faulty, b)
        await client.count(1)
        assert client.transport is not None
        client.transport.send_ping()
        await client.until(lambda _: client.pongs == 1)
        a.place("BUY YES 40x1")
        a.place("BUY YES 40x1")
        began = asyncio.get_running_loop().time()
        await healthy.count(3)
        client.transport.send_ping()
        client.say('{"action":"REQUEST_SNAPSHOT"}')
        await asyncio.wait_for(client.transport.wait_disconnected(), DEADLINE_S)
        assert asyncio.get_running_loop().time() - began >= 0.8
        assert (client.pongs, len(client.messages), client.close) == (1, 1, None)
        a.place("BUY YES 40x1")
        await healthy.count(4)

    play(scene())


@pytest.mark.parametrize("code", [None, 1012, 4999])
def test_disconnect(faulty: Venue, code: int | None) -> None:
    (a,) = faulty.people("A")
    action: dict[str, Any] = {"type": "ws_disconnect", **({} if code is None else {"code": code})}
    switch(faulty, rule(action, match=DELTAS, times=1))

    async def scene() -> None:
        client = await join(faulty, f"orderbook/{MARKET}")
        await client.count(1)
        a.place("BUY YES 40x1")
        assert client.transport is not None
        await asyncio.wait_for(client.transport.wait_disconnected(), DEADLINE_S)
        assert (client.close[0] if client.close is not None else None) == code
        assert len(client.messages) == 1
        again = await join(faulty, f"orderbook/{MARKET}")
        (snapshot,) = await again.count(1)
        assert snapshot["yes"]["bids"] == [{"price_cents": 40, "total_quantity": 1}]

    play(scene())


def test_trickle(faulty: Venue) -> None:
    (a,) = faulty.people("A")
    switch(faulty, rule({"type": "ws_trickle", "bytes_per_s": 250}, match=DELTAS, times=1))

    async def scene() -> None:
        client = await join_pinging(faulty, a)
        await client.count(1)
        began = asyncio.get_running_loop().time()
        a.place("BUY YES 40x1")
        a.place("BUY YES 40x1")
        assert client.transport is not None
        client.transport.send_ping()
        await client.count(3)  # two frames of more than 150 bytes
        assert asyncio.get_running_loop().time() - began >= 1
        assert told(client)[1:] == [("DELTA", 2, 1), ("DELTA", 3, 2)]
        assert client.pongs == 0

    play(scene())


def test_a_client_may_leave_in_the_middle_of_any_fault(faulty: Venue) -> None:
    (a,) = faulty.people("A")
    actions: list[dict[str, Any]] = [
        {"type": "ws_stall", "ms": 50},
        {"type": "ws_half_open", "ms": 50},
        {"type": "ws_trickle", "bytes_per_s": 1000},
        {"type": "ws_reorder"},
    ]

    async def scene() -> None:
        for action in actions:
            switch(faulty, rule(action, match=DELTAS))
            client = await join(faulty, f"orderbook/{MARKET}")
            await client.count(1)
            a.place("BUY YES 40x1")
            assert client.transport is not None
            client.transport.disconnect(graceful=False)
        await asyncio.sleep(0.2)
        switch(faulty)
        healthy = await join(faulty, f"orderbook/{MARKET}")
        await healthy.count(1)
        a.place("BUY YES 40x1")
        await healthy.count(2)

    play(scene())
