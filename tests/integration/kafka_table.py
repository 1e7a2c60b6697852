"""Exchange, event bus, gateway and trader at one table: what the tests of fills by the bus stand on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from engine.booking_journal import BookedLeg, read
from engine.events import Direction, ExecutionKind, GatewayCounter, Outcome
from tests.integration.gateway_rig import MARKET, OTHER_MARKET, Exchange, GatewayRig, books_agree
from tests.integration.participants import Account
from tests.integration.worker_rig import until

YES, NO = Outcome.YES, Outcome.NO
SELL = Direction.SELL
FOREVER_MS = 600_000  # the trade list is not polled within a test
LONG_S = 60.0


class Table:
    """One exchange that publishes, one gateway that listens, one trader."""

    def __init__(self, folder: Path, servers: str, **venue: Any) -> None:
        self.servers = servers
        self.exchange = Exchange(folder, events=f"kafka://{servers}")
        settings: dict[str, Any] = {
            "fills": "kafka",
            "kafka": servers,
            "kafka_repair_interval_ms": FOREVER_MS,
            "status_poll_interval_ms": 1_000,
        }
        self.rig = GatewayRig(folder, self.exchange.url, markets=(MARKET, OTHER_MARKET), **(settings | venue))
        self.gateway = self.rig.start_gateway()
        self.trader: Account = self.exchange.trader()
        self.number = 0

    def await_steady(self, times: int = 1) -> None:
        """The bus tells fills for the ``times``-th time, and nobody asks for the trade list any more."""
        until(
            lambda: len(self.rig.logged("gateway", "event_bus_steady")) >= times,
            "the bus is steady",
            deadline_s=LONG_S,
        )
        until(self.unasked, "no poll of the trade list", deadline_s=LONG_S)

    def unasked(self) -> bool:
        """Counters are published once a second."""
        polls = self.counter(GatewayCounter.TRADE_POLLS)
        time.sleep(2.2)
        return self.counter(GatewayCounter.TRADE_POLLS) == polls

    def counter(self, counter: GatewayCounter) -> int:
        return self.rig.counter(counter)

    def rest(self, slot: int = 0) -> None:
        """Orders of ours on both sides, as many shares as the next trades take."""
        quoter = self.rig.quoters[slot]
        for outcome, price in ((YES, 60), (NO, 60)):
            quoter.live(outcome, SELL, price, 200)

    def take(self, quantity: int, *, slot: int = 0, outcome: str = "YES") -> None:
        """The trader takes from our resting order."""
        self.number += 1
        self.trader.post(
            "orders",
            {
                "client_order_id": f"take-{self.number}",
                "market_id": (MARKET, OTHER_MARKET)[slot],
                "side": outcome,
                "direction": "BUY",
                "price_cents": 60,
                "quantity": quantity,
                "time_in_force": "IOC",
            },
        )

    def fills(self) -> list[tuple[str, int]]:
        """Legs told to the quoters, repeats included."""
        return [
            (record["trade_id"], record["book_side"])
            for quoter in self.rig.quoters
            for record in quoter.of(ExecutionKind.FILL)
        ]

    def await_fills(self, count: int) -> None:
        until(lambda: len(self.fills()) >= count, f"{count} fills", deadline_s=LONG_S)
        assert len(self.fills()) == len(set(self.fills())) == count

    def check(self) -> None:
        """Shares and cash are the exchange's, and every leg was booked exactly once."""
        assert books_agree(self.rig, self.exchange)
        booked = [leg.id for leg in read(self.rig.run_dir) if isinstance(leg, BookedLeg)]
        assert len(booked) == len(set(booked))

    def publish(self, topic: str, value: bytes, *, key: bytes = MARKET.encode()) -> None:
        producer = Producer(
            {"bootstrap.servers": self.servers, "partitioner": "murmur2_random", "log_level": 0}
        )
        producer.produce(topic, value, key)
        assert producer.flush(30) == 0

    def outlive_a_killed_gateway(self, *, steady: int) -> None:
        """The next gateway goes on where the effects of the last one ended: one new trade is one new fill.

        ``steady``: for the how manieth time the bus tells fills then.
        """
        self.rig.kill_gateway(self.gateway)
        for quoter in self.rig.quoters:
            quoter.records.clear()
        self.gateway = self.rig.start_gateway()
        self.await_steady(steady)
        until(lambda: books_agree(self.rig, self.exchange), "books agree", deadline_s=LONG_S)
        self.rest()
        self.take(8)
        until(lambda: len(self.fills()) >= 1, "the new fill", deadline_s=LONG_S)
        assert len(self.fills()) == 1
        self.check()

    def close(self) -> None:
        self.rig.close()
        self.exchange.end()
