"""What the paper exchange takes to place, match and replace orders, every answer after a durable commit.

    one or sixteen clients, one request in flight each, raw HTTP/1.1 on loopback
        |
    exchange process ---- committer ---- embedded PostgreSQL, fsync on, in a directory of its own

A regression here means that whoever tests against the exchange waits longer for the same truth. The *floor*
is what the disk takes for the smallest durable write (4 KB, ``fdatasync``) in the same directory: no answer
can be faster. Every answer is checked, and at the end the exchange's own invariants.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvloop

from perf.windows import Report, Row, machine, show

ROOT: Final = Path(__file__).resolve().parents[1]
PASSWORD: Final = "Operator-1"
MARKETS: Final = tuple(f"MKT-{number}" for number in range(8))
START_S_MAX: Final = 60.0
WARM_UP: Final = 200
ALONE: Final = 1500
TOGETHER: Final = 6000
CLIENTS: Final = 16

Body = dict[str, Any]


class Client:
    """One keep-alive connection of one user; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._token = ""

    @classmethod
    async def open(cls, address: str) -> Client:
        host, port = address.split(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def call(self, method: str, path: str, body: Body | None = None) -> tuple[int, bytes]:
        """Status and body of the answer."""
        payload = json.dumps(body).encode() if body is not None else b""
        self._writer.write(
            b"%b /api/v1%b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
            % (method.encode(), path.encode(), self._token.encode(), len(payload), payload)
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return int(head[9:12]), await self._reader.readexactly(length)

    async def post(self, path: str, body: Body) -> Any:
        """The answer's data; anything but success ends the measurement."""
        status, answer = await self.call("POST", path, body)
        if status >= 300:
            raise RuntimeError(f"POST {path} answered {status}: {answer.decode()}")
        return json.loads(answer)["data"]

    async def log_in(self, username: str, password: str) -> None:
        login = {"username": username, "password": password}
        self._token = (await self.post("/auth/login", login))["access_token"]

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def exchange(directory: Path) -> AsyncIterator[str]:
    """A fresh exchange process without rate limits; yields its address."""
    port_file = directory / "address"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "engine.paper", "--port", "0", "--limits", "off"),
        *("--data", str(directory / "data"), "--port-file", str(port_file)),
        cwd=ROOT,
        env={
            **os.environ,
            "COREQUOTE_PARENT_PID": str(os.getpid()),
            "COREQUOTE_OPERATOR_PASSWORD": PASSWORD,
            "COREQUOTE_AMM_PASSWORD": PASSWORD,
        },
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(START_S_MAX):
            while not port_file.exists():
                if process.returncode is not None:
                    raise RuntimeError(f"the exchange ended with exit code {process.returncode}")
                await asyncio.sleep(0.02)
        yield port_file.read_text().strip()
    finally:
        process.terminate()
        await process.wait()


async def prepare(address: str) -> tuple[Client, list[Client]]:
    """The market maker and sixteen traders with money; the markets open."""
    operator = await Client.open(address)
    await operator.log_in("operator", PASSWORD)
    for market_id in MARKETS:
        await operator.post(
            "/admin/markets", {"id": market_id, "title": market_id, "max_position_per_user": 10**9}
        )
    amm = await Client.open(address)
    await amm.log_in("amm_market_maker", PASSWORD)
    traders = []
    for number in range(CLIENTS):
        trader = await Client.open(address)
        name = f"trader_{number}"
        await trader.post(
            "/auth/register", {"username": name, "email": f"{name}@example.org", "password": "Secret-123"}
        )
        await trader.log_in(name, "Secret-123")
        traders.append(trader)
    for client in (amm, *traders):
        for _ in range(20):
            await client.post("/account/deposit", {"amount_cents": 10_000_000})
    return amm, traders


class Orders:
    """Order bodies with keys of their own."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)

    def body(self, market_id: str, side: str, price_cents: int, quantity: int) -> Body:
        return {
            "client_order_id": f"perf-{next(self._numbers)}",
            "market_id": market_id,
            "side": side,
            "direction": "BUY",
            "price_cents": price_cents,
            "quantity": quantity,
        }

    def resting(self, market_id: str) -> Body:
        """Far from the other side: rests."""
        return self.body(market_id, "YES", self._random.randint(10, 29), 5)

    def crossing(self, markets: tuple[str, ...]) -> Body:
        """Around the mid on a random market: about half of these trade."""
        rng = self._random
        side, price_cents = rng.choice(["YES", "NO"]), rng.randint(46, 54)
        return self.body(rng.choice(markets), side, price_cents, rng.randint(1, 10))


async def timed(client: Client, count: int, request: Callable[[], tuple[str, Body]]) -> list[float]:
    """Milliseconds of each of ``count`` requests in turn."""
    taken = []
    for _ in range(count):
        path, body = request()
        begun = time.perf_counter()
        await client.post(path, body)
        taken.append((time.perf_counter() - begun) * 1e3)
    return taken


async def together(
    traders: list[Client], count: int, request: Callable[[], tuple[str, Body]]
) -> tuple[list[float], float]:
    """``count`` requests with one in flight per trader: milliseconds of each, and answers per second."""
    begun = time.perf_counter()
    parts = await asyncio.gather(*(timed(trader, count // len(traders), request) for trader in traders))
    taken = [sample for part in parts for sample in part]
    return taken, len(taken) / (time.perf_counter() - begun)


def row(who: str, taken_ms: list[float], per_second: float | None = None) -> Row:
    samples = np.array(taken_ms)
    p50, p90, p99, p999 = (float(value) for value in np.percentile(samples, (50, 90, 99, 99.9)))
    throughput = per_second if per_second is not None else 1e3 / float(samples.mean())
    return Row(who=who, p50=p50, p90=p90, p99=p99, p999=p999, max=float(samples.max()), throughput=throughput)


def durable_writes(directory: Path, count: int = 300) -> list[float]:
    """Milliseconds of each of ``count`` appends of 4 KB with fdatasync."""
    taken = []
    with (directory / "floor").open("wb", buffering=0) as file:
        for _ in range(count):
            begun = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - begun) * 1e3)
    return taken


async def measure(directory: Path) -> Report:
    """One run: the floor, then one client, then sixteen."""
    orders = Orders(seed=1)
    rows = [row("floor: 4 KB and fdatasync", durable_writes(directory))]
    async with asyncio.timeout(600), exchange(directory) as address:
        amm, traders = await prepare(address)

        def place() -> tuple[str, Body]:
            return "/orders", orders.resting(MARKETS[0])

        await timed(traders[0], WARM_UP, place)
        placing = row("place, 1 in flight, 1 market", await timed(traders[0], ALONE, place))

        await amm.post("/orders", orders.body(MARKETS[1], "NO", 50, 10_000))

        def match() -> tuple[str, Body]:
            return "/orders", orders.body(MARKETS[1], "YES", 50, 1)

        matching = row("match, 1 in flight, 1 market", await timed(traders[1], ALONE, match))

        old = (await amm.post("/orders", orders.resting(MARKETS[2])))["order"]["id"]
        replacing_ms = []
        for number in range(ALONE):
            body = orders.body(MARKETS[2], "YES", 20 + number % 2, 100)
            begun = time.perf_counter()
            answer = await amm.post("/amm/orders/replace", {"old_order_id": old, "new_order": body})
            replacing_ms.append((time.perf_counter() - begun) * 1e3)
            old = answer["new_order"]["id"]
        replacing = row("replace, 1 in flight, 1 market", replacing_ms)
        rows += [placing, matching, replacing]

        for markets in (MARKETS[3:4], MARKETS):

            def trade(markets: tuple[str, ...] = markets) -> tuple[str, Body]:
                return "/orders", orders.crossing(markets)

            taken, per_second = await together(traders, TOGETHER, trade)
            rows.append(row(f"place and match, 16 in flight, {len(markets)} markets", taken, per_second))

        operator = await Client.open(address)
        await operator.log_in("operator", PASSWORD)
        report = await operator.post("/admin/verify-invariants", {})
        if not report["all_passed"]:
            raise RuntimeError(f"invariants are broken: {report['checks']}")
        for client in (amm, operator, *traders):
            client.close()
    return Report(
        name="exchange",
        unit="ms per answered request",
        rows=rows,
        ratios={
            "orders_per_s": rows[-1].throughput,
            "place_p50_ms": placing.p50,
            "place_p99_ms": placing.p99,
            "replace_p50_ms": replacing.p50,
            "match_p50_ms": matching.p50,
        },
        discarded=0,
        machine=machine(),
        notes=[
            "exchange, PostgreSQL and clients share the machine's cores",
            "the platform the contract comes from, on such a machine: place p50 6-10 ms, p99 13-20 ms, "
            "replace p50 7-10 ms, 70-260 orders/s",
        ],
    )


def main() -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(
        prog="python -m perf.exchange", description="Latency and throughput of the paper exchange."
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="corequote-perf-") as directory:
        report = uvloop.run(measure(Path(directory)))
    show(report, as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
