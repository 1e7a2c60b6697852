"""What a client may hold on to: some connections, and each of them only while it does something."""

import asyncio
import json
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engine.paper import connection, server
from engine.paper.connection import reserve_descriptors
from tests.paper.test_faults import place
from tests.paper.test_streams import join, play
from tests.paper.venue import DEADLINE_S, MARKET, Venue, open_venue

CONNECTIONS_MAX = 6
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@contextmanager
def opened(venue: Venue, receive_bytes: int | None = None) -> Iterator[socket.socket]:
    client = socket.socket()
    if receive_bytes is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.settimeout(DEADLINE_S)
    client.connect((venue.host, venue.port))
    with client:
        yield client


def everything(client: socket.socket) -> bytes:
    """What comes until the server ends the connection; raises if it does not."""
    received = b""
    while part := client.recv(65536):
        received += part
    return received


@pytest.mark.parametrize("dialect", ["contract", "as-built"])
def test_one_connection_too_many_is_told_so(dialect: str) -> None:
    with open_venue(connections_max=CONNECTIONS_MAX, dialect=dialect) as venue:  # whose own is the first
        clients = []
        for _ in range(CONNECTIONS_MAX - 1):
            client = socket.create_connection((venue.host, venue.port), timeout=DEADLINE_S)
            client.sendall(HEALTH)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            clients.append(client)
        for _ in range(3):
            with opened(venue) as refused:
                refused.sendall(HEALTH)
                head, body = everything(refused).split(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"retry-after: 1" in head.split(b"\r\n")
            told = json.loads(body)
            message = told["message"] if dialect == "contract" else told["detail"]
            assert message == f"{CONNECTIONS_MAX} connections are open, no more are taken"
        assert venue.operator.call("GET", "/markets").status == 200  # those inside notice nothing
        clients.pop().close()
        for _ in range(1000):
            with opened(venue) as client:
                client.sendall(HEALTH)
                if client.recv(65536).startswith(b"HTTP/1.1 200"):
                    break
        else:
            pytest.fail("the place that became free is never given away")
        for client in clients:
            client.close()


def test_streams_count_too() -> None:
    with open_venue(connections_max=3) as venue:

        async def scene() -> None:
            for _ in range(2):
                await (await join(venue, f"orderbook/{MARKET}")).count(1)
            with opened(venue) as refused:
                assert (await asyncio.to_thread(everything, refused)).startswith(b"HTTP/1.1 503")

        play(scene())


def test_more_connections_than_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this process may open any number of files")
    with pytest.raises(ValueError, match=rf"connections_max = {hard}: needs .* may have {hard}; lower it"):
        reserve_descriptors(hard)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Venue]:
    """An exchange that does not wait long for anybody."""
    monkeypatch.setattr(connection, "REQUEST_S_MAX", 0.3)
    monkeypatch.setattr(connection, "REPLY_S_MAX", 0.3)
    monkeypatch.setattr(server, "_KEEP_ALIVE_SECONDS", 2)
    with open_venue() as venue:
        yield venue


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\r\n",
        b"GET /hea",
        b"GET /health HTTP/1.1\r\nHost: x\r\n",
        b"POST /api/v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
        b"POST /api/v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
    ],
)
def test_who_says_nothing_more_is_cut_off(impatient: Venue, said: bytes) -> None:
    with opened(impatient) as client:
        client.sendall(said)
        assert not everything(client).startswith(b"HTTP/1.1 2")  # no token is 401 before the body is read


def test_who_does_not_read_is_cut_off(impatient: Venue) -> None:
    request = b"GET /schema/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    broken = pytest.raises((ConnectionResetError, BrokenPipeError))
    with opened(impatient, receive_bytes=2048) as client, broken:
        while True:
            client.send(request * 1000)
    with opened(impatient) as client:
        client.sendall(HEALTH)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_streams_may_be_silent_longer_than_requests(impatient: Venue) -> None:
    (a,) = impatient.people("A")

    async def scene() -> None:
        client = await join(impatient, f"orderbook/{MARKET}")
        await client.count(1)
        await asyncio.sleep(2.5)
        assert place(a, "late").status == 201
        await client.count(2)

    play(scene())
