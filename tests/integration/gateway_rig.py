"""A real gateway process between a real exchange and the test, which plays the quoter through the rings."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from engine._native import ffi, lib
from engine.arena import cell, padded, unpadded
from engine.config import market_json
from engine.events import Direction, ExecutionKind, LocalReject, OrderKind, Outcome
from tests.integration.participants import Account, Process, eventually
from tests.integration.worker_rig import PASSWORD, WorkerRig, until

AMM = "amm_market_maker"
MARKET = "MKT-BTC-100K-2026"
OTHER_MARKET = "MKT-ETH-10K-2026"
MARKET_IDS = (MARKET, OTHER_MARKET, "MKT-FED-RATE-CUT-2026Q2")
FAIR_CENTS = 50
"""What the test's decisions are based on, unless they say otherwise."""
#: Controls that count, out of the way of tests and campaigns that fail requests by the dozen.
PATIENT = {
    "unacked_alike_max": 64,
    "unknowns_max": 1_000_000,
    "refused_percent": 100,
    "executed_shares_max": 100_000_000,
    "side_fills_max": 100_000,
    "order_quantity_max": 100_000,
    "order_loss_max_cents": 100_000_000,
    "market_rate_per_s": 10_000,
    "market_rate_burst": 10_000,
}
TRADER_PASSWORD = "Trader-of-the-tests-1"

_FIELDS = [name for name, _ in ffi.typeof("execution_record_t").fields]


class Exchange:
    """The paper exchange as a process, with the market maker's account and whoever trades against it."""

    def __init__(
        self,
        folder: Path,
        *,
        limits: str = "off",
        admins: Iterable[str] = ("operator", AMM),
        exempt: Iterable[str] = (),
        dialect: str = "contract",
        markets: Iterable[str] = (),
        faults: bool = False,
        data: Path | None = None,
        events: str = "none",
    ) -> None:
        """``markets``: ids of the markets to open; none = the three seed markets. ``faults``: switches on.
        ``exempt``: accounts that ``limits`` does not hold for.
        ``data``: directory of its database. ``events``: its event bus."""
        port_file = folder / "exchange.port"
        config = folder / "exchange.toml"
        document = f'limits = "{limits}"\npassword_hash_rounds = 4\n'
        document += f"admin_users = {json.dumps(list(admins))}\nexempt_users = {json.dumps(list(exempt))}\n"
        document += f"faults = {str(faults).lower()}\n"
        for market_id in markets:
            document += (
                f'[[markets]]\nid = "{market_id}"\ntitle = "{market_id}"\n'
                "trading_end_at = 2099-01-01T00:00:00Z\nresolution_date = 2099-01-01T00:00:00Z\n"
            )
        config.write_text(document)
        self.process = Process(
            folder,
            *("engine.paper", "--port", "0", "--port-file", str(port_file), "--config", str(config)),
            *("--dialect", dialect, "--events", events),
            *(() if data is None else ("--data", str(data))),
            COREQUOTE_AMM_PASSWORD=PASSWORD,
        )
        eventually(lambda: port_file.exists() or not self.process.running(), what="exchange listens")
        assert self.process.running(), self.process.log()
        self.port = int(port_file.read_text().strip().rpartition(":")[2])
        self.url = f"http://127.0.0.1:{self.port}"
        self.amm = self.login(AMM, PASSWORD)

    def login(self, username: str, password: str) -> Account:
        account = Account(self.url)
        body = {"username": username, "password": password}
        account.token = account.post("auth/login", body)["access_token"]
        return account

    def operator(self) -> Account:
        return self.login("operator", "Operator-of-the-tests-1")

    def trader(self, *, deposit_cents: int = 5_000_000, name: str = "") -> Account:
        """A new ordinary account with money."""
        name = name or f"t{uuid.uuid4().hex[:12]}"
        account = Account(self.url)
        account.post(
            "auth/register",
            {"username": name, "email": f"{name}@tests.internal", "password": TRADER_PASSWORD},
        )
        account = self.login(name, TRADER_PASSWORD)
        account.post("account/deposit", {"amount_cents": deposit_cents})
        return account

    def live(self, market_id: str = MARKET) -> list[dict[str, Any]]:
        """The market maker's live orders, newest first."""
        path = f"orders?market_id={market_id}&status=OPEN,PARTIALLY_FILLED&limit=100"
        return list(self.amm.get(path)["items"])

    def orders(self, market_id: str = MARKET) -> list[dict[str, Any]]:
        """Up to 10,000 of the market maker's orders of a market, whatever their state."""
        found: list[dict[str, Any]] = []
        cursor = ""
        for _ in range(100):
            page = self.amm.get(f"orders?market_id={market_id}&limit=100{cursor}")
            found += page["items"]
            if not page["has_more"]:
                break
            cursor = f"&cursor={page['next_cursor'].replace('=', '%3D')}"
        return found

    def position(self, market_id: str = MARKET) -> dict[str, Any]:
        return dict(self.amm.get(f"positions/{market_id}"))

    def cash_cents(self) -> int:
        """The market maker's whole cash, free and frozen."""
        return int(self.amm.get("account/balance")["total_balance_cents"])

    def journal(self) -> list[dict[str, Any]]:
        """Every entry of the exchange's journal, in commit order."""
        operator, entries, after = self.operator(), [], 0
        while True:
            page = operator.get(f"admin/journal?after={after}")
            entries += page["items"]
            if not page["items"] or page["items"][-1]["sequence"] >= page["last_sequence"]:
                return entries
            after = page["items"][-1]["sequence"]

    def set_faults(self, *rules: dict[str, Any]) -> None:
        """What the exchange does wrong from here on; without rules all is well."""
        self.operator().put("admin/faults", {"seed": 0, "rules": list(rules)})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self.process.end()


class GatewayRig(WorkerRig):
    """Arena and gateway; the test is every worker's quoter. Timers are short."""

    def __init__(
        self,
        run_dir: Path,
        url: str,
        *,
        markets: Iterable[str] = (MARKET,),
        engine: dict[str, Any] | None = None,
        risk: dict[str, Any] | None = None,
        quote: dict[str, Any] | None = None,
        **venue: Any,
    ) -> None:
        settings = {
            "url": url,
            "request_timeout_ms": 1_000,
            "trade_poll_interval_ms": 100,
            "status_poll_interval_ms": 100,
            **venue,
        }
        document = {
            "engine": engine or {},
            "quote": quote or {},
            "venue": settings,
            "risk": risk or {},
            "markets": [{"id": market_id} for market_id in markets],
        }
        super().__init__(run_dir, document, workers=len(document["markets"]))
        for slot, market in enumerate(self.config.markets):
            self.arena.write_config(slot, 1, market_json(market))
            self.show_book(slot)
        self.quoters = [Quoter(self, slot) for slot in range(len(self.config.markets))]
        self.silent: set[int] = set()
        """Process rows without a sign of life; the feed and the quoters otherwise give theirs."""
        self._ended = threading.Event()
        self._pulse = threading.Thread(target=self._beat, daemon=True)
        self._pulse.start()

    def _beat(self) -> None:
        rows = [lib.PROCESS_INGEST, *(lib.PROCESS_QUOTER_FIRST + quoter.worker for quoter in self.quoters)]
        while not self._ended.wait(0.05):
            for row in rows:
                if row not in self.silent:
                    lib.cell_store(cell(self.arena.process(row), "heartbeat_mono_ns"), lib.mono_now_ns())
            if lib.PROCESS_INGEST not in self.silent:
                for slot in range(len(self.config.markets)):
                    feed = self.arena.market(slot).feed
                    lib.cell_store(cell(feed, "snapshot_mono_ns"), lib.mono_now_ns())

    def show_book(
        self,
        slot: int = 0,
        *,
        bid: tuple[int, int] | None = None,
        ask: tuple[int, int] | None = None,
        valid: bool = True,
        generation: int = 1,
    ) -> None:
        """What the feed says of a market: best price and lots of each side, own orders included."""
        row, top = ffi.addressof(self.arena.market(slot), "top"), ffi.new("top_t *")
        assert lib.top_read(row, top) == lib.RING_OK
        top.bid_ticks, top.bid_lots = bid or (-1, 0)
        top.ask_ticks, top.ask_lots = ask or (-1, 0)
        top.valid, top.generation = valid, generation
        lib.top_write(row, top)

    def close(self) -> None:
        self._ended.set()
        self._pulse.join()
        super().close()

    def start_gateway(self) -> subprocess.Popen[bytes]:
        process = self.start("gateway", lib.PROCESS_GATEWAY)
        until(
            lambda: self.state(lib.PROCESS_GATEWAY) == lib.PROCESS_RUNNING or process.poll() is not None,
            "gateway RUNNING",
        )
        assert process.poll() is None, (self.run_dir / "gateway.log").read_text()
        return process

    def kill_gateway(self, process: subprocess.Popen[bytes]) -> None:
        """kill -9, and what the supervisor does after it."""
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        for worker in range(self.arena.worker_slots):
            lib.message_free_role(self.arena.execution_ring(worker))

    def stop_gateway(self, process: subprocess.Popen[bytes]) -> int:
        process.send_signal(signal.SIGTERM)
        return process.wait(20)

    def account(self, slot: int = 0) -> Any:
        state = ffi.new("account_state_t *")
        assert lib.account_read(ffi.addressof(self.arena.market(slot), "account"), state) == lib.RING_OK
        return state

    def cash_cents(self) -> int:
        return sum(int(self.account(slot).cash_cents) for slot in range(len(self.config.markets)))

    def live_rows(self, slot: int = 0) -> list[dict[str, Any]]:
        """The market's live-order rows that are in use."""
        found = []
        row = ffi.new("live_order_t *")
        for index in range(lib.LIVE_ORDER_SLOTS):
            cells = ffi.addressof(self.arena.market(slot).live_orders[index])
            assert lib.live_order_read(cells, row) == lib.RING_OK
            if row.state != lib.LIVE_FREE:
                found.append(
                    {
                        "slot": index,
                        "state": int(row.state),
                        "remaining": int(row.remaining),
                        "venue_order_id": unpadded(row.venue_order_id),
                        "client_order_id": unpadded(row.client_order_id),
                    }
                )
        return found

    def counter(self, index: int) -> int:
        row = self.arena.process(lib.PROCESS_GATEWAY)
        return int(lib.cell_load(ffi.addressof(row.counters, index)))


class Quoter:
    """One worker's end of its rings: market slot = worker slot."""

    def __init__(self, rig: GatewayRig, worker: int) -> None:
        self.rig = rig
        self.worker = worker
        self.epoch = 1
        self.records: list[dict[str, Any]] = []
        self._intent = 0
        self._read = 0
        lib.cell_store(cell(rig.arena.worker(worker), "epoch"), self.epoch)
        self._orders = rig.arena.order_ring(worker)
        self._executions = rig.arena.execution_ring(worker)
        self._batch = ffi.new("execution_record_t[]", 64)
        assert lib.message_acquire(self._orders, 1) == lib.RING_OK

    # -- intents: each returns its number

    def ask(self, kind: OrderKind, **fields: Any) -> int:
        self._intent += 1
        record = ffi.new(
            "order_record_t *",
            {
                "kind": kind,
                "market_slot": self.worker,
                "live_slot": 0xFFFF,
                "worker_epoch": self.epoch,
                "intent": self._intent,
                "decided_mono_ns": lib.mono_now_ns(),
                "basis_fair_cents": FAIR_CENTS,
                **fields,
            },
        )
        code = lib.message_publish(self._orders, lib.MESSAGE_RING_SLOTS, 1, record)
        assert code == lib.RING_OK, code
        lib.bell_ring(self.rig.arena.process(lib.PROCESS_GATEWAY), self.rig.gateway_bell)
        return self._intent

    def place(self, outcome: Outcome, direction: Direction, price: int, quantity: int, **fields: Any) -> int:
        return self.ask(
            OrderKind.PLACE,
            outcome=outcome,
            direction=direction,
            price_cents=price,
            quantity=quantity,
            **fields,
        )

    def replace(self, old: dict[str, Any], price: int, quantity: int, *, outcome: int | None = None) -> int:
        return self.ask(
            OrderKind.REPLACE,
            outcome=old["outcome"] if outcome is None else outcome,
            direction=old["direction"],
            price_cents=price,
            quantity=quantity,
            live_slot=old["live_slot"],
            target_order_id=padded(old["venue_order_id"], lib.VENUE_ID_BYTES),
        )

    def cancel(self, order: dict[str, Any]) -> int:
        return self.ask(
            OrderKind.CANCEL,
            live_slot=order["live_slot"],
            target_order_id=padded(order["venue_order_id"], lib.VENUE_ID_BYTES),
        )

    # -- records

    def read(self) -> list[dict[str, Any]]:
        """All records so far."""
        while True:
            count = lib.message_peek(self._executions, lib.MESSAGE_RING_SLOTS, self._batch, 64)
            self.records += [_as_dict(self._batch[index]) for index in range(count)]
            if count == 0:
                return self.records
            lib.message_release(self._executions, count)

    def of(self, *kinds: ExecutionKind, **fields: Any) -> list[dict[str, Any]]:
        return [
            record
            for record in self.read()
            if record["kind"] in kinds and all(record[name] == value for name, value in fields.items())
        ]

    def expect(self, *kinds: ExecutionKind, **fields: Any) -> dict[str, Any]:
        """The first record of these kinds with these values; waits for it."""
        try:
            return dict(until(lambda: self.of(*kinds, **fields), f"{kinds} {fields}")[0])
        except AssertionError as error:
            log = (self.rig.run_dir / "gateway.log").read_text()[-3_000:]
            raise AssertionError(f"{error}\nrecords: {self.records[-12:]}\nlog: {log}") from None

    def live(self, outcome: Outcome, direction: Direction, price: int, quantity: int) -> dict[str, Any]:
        """Places an order and returns its ACKED record."""
        return self.expect(ExecutionKind.ACKED, intent=self.place(outcome, direction, price, quantity))

    def refusal(self, intent: int) -> int:
        """The code of an intent's REJECTED."""
        code = int(self.expect(ExecutionKind.REJECTED, intent=intent)["code"])
        return LocalReject(code) if code < 0 else code

    def sync(self) -> dict[str, Any]:
        """Asks for a SYNC; its POSITION, CASH, CURSOR, ORDERs and the answer's records."""
        intent = self.ask(OrderKind.SYNC)
        self.expect(ExecutionKind.SYNC_END, intent=intent)
        records = self.records
        last = max(i for i, r in enumerate(records) if r["kind"] == ExecutionKind.SYNC_BEGIN)
        answer = records[last:]

        def one(kind: ExecutionKind) -> dict[str, Any]:
            return next(record for record in answer if record["kind"] == kind)

        return {
            "position": one(ExecutionKind.POSITION),
            "cash": one(ExecutionKind.CASH)["cash_cents"],
            "cursor": one(ExecutionKind.CURSOR)["trade_id"],
            "status": one(ExecutionKind.MARKET_STATUS)["code"],
            "orders": [record for record in answer if record["kind"] == ExecutionKind.ORDER],
        }

    def raise_epoch(self) -> None:
        """What the supervisor does before it starts a successor."""
        self.epoch += 1
        lib.cell_store(cell(self.rig.arena.worker(self.worker), "epoch"), self.epoch)
        lib.bell_ring(self.rig.arena.process(lib.PROCESS_GATEWAY), self.rig.gateway_bell)


def _as_dict(record: Any) -> dict[str, Any]:
    return {
        name: unpadded(getattr(record, name))
        if name in {"venue_order_id", "trade_id"}
        else int(getattr(record, name))
        for name in _FIELDS
    }


def fault_at(
    path: str, action: dict[str, Any], *, match: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """A rule of :meth:`Exchange.set_faults` for requests to ``path``, below ``/api/v1``, and what else of
    them is to ``match``."""
    match = {"path": f"/api/v1{path}", **(match or {})}
    return {"name": "the fault", "action": action, "match": match, **fields}


def books_agree(rig: GatewayRig, exchange: Exchange) -> bool:
    """Shares and cash of all markets of the rig, by SYNC and by the exchange."""
    cash = 0
    for quoter, market in zip(rig.quoters, rig.config.markets, strict=True):
        answer = quoter.sync()
        at_venue = exchange.position(market.id)
        ours = answer["position"]
        if (ours["yes_volume"], ours["yes_cost_cents"], ours["no_volume"], ours["no_cost_cents"]) != (
            at_venue["yes"]["volume"],
            at_venue["yes"]["cost_sum_cents"],
            at_venue["no"]["volume"],
            at_venue["no"]["cost_sum_cents"],
        ):
            return False
        cash += answer["cash"]
    return cash == exchange.cash_cents() == rig.cash_cents()
