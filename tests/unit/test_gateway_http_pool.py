"""The order gateway's HTTP: what was sent, what is lost, who goes first."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from engine._native import lib
from engine.venues import http_pool
from engine.venues.http_pool import HttpPool, LostAnswerError, NotSentError, Reply, RequestClass

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def with_server(
    answer: Answer, use: Callable[[HttpPool], Coroutine[Any, Any, None]], **options: Any
) -> None:
    """Runs ``use`` with a pool to a server that handles each request's head with ``answer``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await answer(reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pool = HttpPool(f"http://127.0.0.1:{port}", **{"connections": 4, "timeout_s": 1.0, **options})
    try:
        await use(pool)
    finally:
        pool.close()
        server.close()


def writes(data: bytes) -> Answer:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return answer


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def test_an_answer_comes_back_whole() -> None:
    body = b"x" * 300_000
    head = b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nX-RateLimit-Reset: 99\r\nContent-Length: %d\r\n\r\n"

    async def use(pool: HttpPool) -> None:
        for _ in range(3):
            reply = await pool.send(RequestClass.QUERY, GET)
            assert isinstance(reply, Reply)
            assert (reply.status, reply.body) == (429, body)
            assert (reply.retry_after_s, reply.rate_reset_unix_s) == (7.0, 99)
            assert reply.sent_mono_ns > 0

    asyncio.run(with_server(writes(head % len(body) + body), use))


def test_chunked_and_interim_answers_are_understood() -> None:
    data = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )

    async def use(pool: HttpPool) -> None:
        reply = await pool.send(RequestClass.QUERY, GET)
        assert isinstance(reply, Reply)
        assert (reply.status, reply.body) == (200, b"abcde")

    asyncio.run(with_server(writes(data), use))


@pytest.mark.parametrize(
    "answer",
    [
        silence,
        hang_up,
        writes(b"not http at all\r\n\r\n"),
        writes(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        writes(b"HTTP/1.1 200 OK\r\nX: " + b"h" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n"),
        writes(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"b" * 9_000_000),
    ],
    ids=["silence", "hang up", "no http", "half", "endless head", "endless body"],
)
def test_what_was_sent_and_not_answered_is_lost(answer: Answer) -> None:
    async def use(pool: HttpPool) -> None:
        with pytest.raises(LostAnswerError) as lost:
            await pool.send(RequestClass.ORDER, GET)
        assert lost.value.sent_mono_ns > 0

    asyncio.run(with_server(answer, use, timeout_s=0.5))


def test_without_a_server_nothing_is_sent() -> None:
    async def use(pool: HttpPool) -> None:
        with pytest.raises(NotSentError):
            await pool.send(RequestClass.ORDER, GET)

    asyncio.run(use(HttpPool("http://127.0.0.1:1", connections=2, timeout_s=1.0)))


def test_a_connection_that_ends_at_once_carries_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    made = http_pool.Connection.connection_made

    def ends_at_once(self: http_pool.Connection, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        assert isinstance(transport, asyncio.Transport)
        transport.abort()

    monkeypatch.setattr(http_pool.Connection, "connection_made", ends_at_once)

    async def use(pool: HttpPool) -> None:
        for _ in range(5):  # more than there are places: each is given back
            with pytest.raises(NotSentError, match="ended at once"):
                await pool.send(RequestClass.ORDER, GET)
        assert not pool.connections

    asyncio.run(with_server(writes(OK), use))


def test_a_connection_made_after_the_pool_was_closed_carries_no_request() -> None:
    async def use(pool: HttpPool) -> None:
        request = asyncio.create_task(pool.send(RequestClass.ORDER, GET))
        await asyncio.sleep(0)  # it connects
        pool.close()
        with pytest.raises(NotSentError):
            await request
        assert not pool.connections

    asyncio.run(with_server(writes(OK), use))


def test_a_gate_that_objects_stops_the_bytes() -> None:
    seen = []

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(1)
        writer.write(OK)

    async def use(pool: HttpPool) -> None:
        assert await pool.send(RequestClass.ORDER, GET, gate=lambda: -3) == -3
        assert seen == []
        assert isinstance(await pool.send(RequestClass.ORDER, GET, gate=lambda: None), Reply)
        assert seen == [1]

    asyncio.run(with_server(answer, use))


def test_a_connection_is_used_again_unless_the_server_ends_it() -> None:
    peers = []

    def answering(data: bytes) -> Answer:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peers.append(writer.get_extra_info("peername"))
            writer.write(data)

        return answer

    async def use(pool: HttpPool) -> None:
        for _ in range(4):
            await pool.send(RequestClass.QUERY, GET)

    asyncio.run(with_server(answering(OK), use))
    assert len(set(peers)) == 1
    peers.clear()
    asyncio.run(with_server(answering(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")), use))
    assert len(set(peers)) == 4


def test_an_answer_nobody_asked_for_meets_no_later_request() -> None:
    async def use(pool: HttpPool) -> None:
        for _ in range(3):
            reply = await pool.send(RequestClass.QUERY, GET)
            assert isinstance(reply, Reply)
            assert reply.body == b"ok"

    stray = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"
    asyncio.run(with_server(writes(OK + stray), use))


def test_cancels_pass_waiting_orders_and_have_connections_kept_for_them() -> None:
    answered: list[str] = []
    held = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.write(OK)

    async def use(pool: HttpPool) -> None:
        async def one(name: str, request_class: RequestClass) -> None:
            await pool.send(request_class, GET)
            answered.append(name)

        orders = [asyncio.create_task(one("order", RequestClass.ORDER)) for _ in range(12)]
        queries = [asyncio.create_task(one("query", RequestClass.QUERY)) for _ in range(4)]
        await asyncio.sleep(0.05)
        cancels = [asyncio.create_task(one("cancel", RequestClass.CANCEL)) for _ in range(3)]
        await asyncio.sleep(0.05)
        held.set()
        await asyncio.gather(*orders, *queries, *cancels)
        # 4 connections: at most 3 orders were out when the cancels came, so one cancel went at once
        last_cancel = max(index for index, name in enumerate(answered) if name == "cancel")
        assert last_cancel < 8
        assert answered[-1] == "query"

    asyncio.run(with_server(answer, use, timeout_s=5.0))


def test_an_order_is_not_queued_behind_orders_that_nobody_answers() -> None:
    async def use(pool: HttpPool) -> None:
        under_way = [asyncio.create_task(pool.send(RequestClass.ORDER, GET)) for _ in range(3)]
        cancel = asyncio.create_task(pool.send(RequestClass.CANCEL, GET))
        await asyncio.sleep(0)
        with pytest.raises(NotSentError, match="no connection was free"):
            await pool.send(RequestClass.ORDER, GET)
        assert not any(task.done() for task in [*under_way, cancel]), "they have the whole deadline"
        for task in [*under_way, cancel]:
            task.cancel()
        await asyncio.gather(*under_way, cancel, return_exceptions=True)

    asyncio.run(with_server(silence, use, timeout_s=20.0))


def test_a_request_given_up_while_waiting_leaves_room_for_others() -> None:
    async def use(pool: HttpPool) -> None:
        waiting = [asyncio.create_task(pool.send(RequestClass.ORDER, GET)) for _ in range(3)]
        await asyncio.sleep(0.02)
        for task in waiting[1:]:
            task.cancel()
        with pytest.raises(LostAnswerError):
            await waiting[0]
        with pytest.raises(LostAnswerError):
            await pool.send(RequestClass.ORDER, GET)

    asyncio.run(with_server(silence, use, connections=1, timeout_s=0.2))


def test_what_need_not_wait_is_sent_before_the_event_loop_turns() -> None:
    async def use(pool: HttpPool) -> None:
        assert pool.send_now(RequestClass.ORDER, GET) is None, "no connection is open yet"
        await pool.send(RequestClass.ORDER, GET)
        assert pool.send_now(RequestClass.ORDER, GET, gate=lambda: -7) == -7
        begun = pool.send_now(RequestClass.ORDER, GET)
        assert isinstance(begun, asyncio.Future)
        assert pool.send_now(RequestClass.ORDER, GET) is None, "its one connection is taken"
        assert (await begun).body == b"ok"
        assert isinstance(pool.send_now(RequestClass.ORDER, GET), asyncio.Future)

    asyncio.run(with_server(writes(OK), use))


def test_an_answer_nobody_awaits_any_more_meets_no_later_request() -> None:
    async def late(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(OK)

    async def use(pool: HttpPool) -> None:
        given_up = asyncio.create_task(pool.send(RequestClass.ORDER, GET))
        await asyncio.sleep(0.02)
        given_up.cancel()
        await asyncio.sleep(0)
        assert isinstance(await pool.send(RequestClass.ORDER, GET), Reply)

    asyncio.run(with_server(late, use, connections=1))


def test_connections_are_opened_ahead_and_kept_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.venues.http_pool.IDLE_NS_MAX", 50_000_000)

    async def use(pool: HttpPool) -> None:
        async def tended(condition: Callable[[], bool]) -> None:
            async with asyncio.timeout(5.0):
                while not condition():
                    pool.tend(lib.mono_now_ns())
                    await asyncio.sleep(0.001)

        await tended(lambda: len(pool.connections) == 4)
        first = set(pool.connections)
        await tended(lambda: len(pool.connections) == 4 and not first & pool.connections)
        monkeypatch.setattr("engine.venues.http_pool.IDLE_NS_MAX", 60_000_000_000)  # none is too old below
        await tended(lambda: len(pool.connections) == 4 and not pool.opening)
        begun = [pool.send_now(RequestClass.CANCEL, GET) for _ in range(5)]
        assert None not in begun[:4], "each of four connections took one request at once"
        assert begun[4] is None

    asyncio.run(with_server(silence, use))


# -- connections whose bytes somebody else writes


async def warmed(pool: HttpPool, count: int) -> None:
    """So many connections are open and idle."""
    assert all(
        isinstance(reply, Reply)
        for reply in await asyncio.gather(*(pool.send(RequestClass.ORDER, GET) for _ in range(count)))
    )


def test_a_claimed_connection_carries_what_is_written_to_it() -> None:
    async def use(pool: HttpPool) -> None:
        await warmed(pool, 3)
        assert pool.at_once(RequestClass.ORDER) == 3
        first, second, third = pool.claim(RequestClass.ORDER, 9)
        assert pool.claim(RequestClass.ORDER, 1) == [], "an order's share of four is three"
        assert pool.send_now(RequestClass.ORDER, GET) is None
        assert os.write(first.fd, GET) == len(GET)
        assert os.write(second.fd, GET[:9]) == 9
        answers = pool.sent(first, lib.mono_now_ns(), b""), pool.sent(second, lib.mono_now_ns(), GET[9:])
        pool.ended(third)
        assert [reply.body for reply in await asyncio.gather(*answers)] == [b"ok", b"ok"]
        assert len(pool.claim(RequestClass.ORDER, 9)) == 3, "all came back"

    asyncio.run(with_server(writes(OK), use))


def test_a_claimed_connection_that_is_lost_loses_its_answer_and_harms_nobody() -> None:
    async def use(pool: HttpPool) -> None:
        await warmed(pool, 1)
        (claimed,) = pool.claim(RequestClass.ORDER, 1)
        claimed.abort("as if the server had hung up")
        for _ in range(3):  # turns of the loop: the transport closes its descriptor
            await asyncio.sleep(0)
        assert claimed not in pool.connections
        os.fstat(claimed.fd)  # still ours: its number is not given away meanwhile
        assert not claimed.warm
        with pytest.raises(LostAnswerError):
            await pool.sent(claimed, lib.mono_now_ns(), b"")
        assert claimed.fd == -1
        assert isinstance(await pool.send(RequestClass.ORDER, GET), Reply)

    asyncio.run(with_server(writes(OK), use))


def test_answers_are_looked_at_after_what_is_urgent() -> None:
    seen: list[str] = []

    async def use(pool: HttpPool) -> None:
        pool.before_answer = lambda: seen.append("urgent")
        await pool.send(RequestClass.ORDER, GET)
        assert seen == ["urgent"]

    asyncio.run(with_server(writes(OK), use))


def test_a_server_that_is_not_there_is_not_asked_all_the_time() -> None:
    async def use(pool: HttpPool) -> None:
        attempts = 0
        for _ in range(50):
            pool.tend(lib.mono_now_ns())
            attempts += pool.opening
            await asyncio.sleep(0.002)
        assert attempts < 10

    asyncio.run(use(HttpPool("http://127.0.0.1:1", connections=2, timeout_s=1.0)))


@pytest.mark.parametrize("url", ["ftp://x", "http://", "x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not http"):
        HttpPool(url, connections=1, timeout_s=1.0)
