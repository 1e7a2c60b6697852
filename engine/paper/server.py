"""Opens the exchange on its database and serves it on one socket until told to stop."""

import asyncio
import contextlib
import errno
import gc
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
import uvloop

from engine.paper.app import build_app
from engine.paper.commands import RegisterUser, SetPassword
from engine.paper.config import OPERATOR_USERNAME, PaperConfig, Secrets, seed_markets
from engine.paper.connection import Admission, JoiningHttpProtocol, reserve_descriptors
from engine.paper.desk import Desk
from engine.paper.event_bus import EventBus, Publisher
from engine.paper.exchange import Clock, Exchange
from engine.paper.faults_http import FaultyHttpProtocol
from engine.paper.faults_store import FaultyStore
from engine.paper.faults_streams import FaultyStreams
from engine.paper.faults_switches import Switches
from engine.paper.limits import FixedWindows
from engine.paper.model import AMM_USER_ID
from engine.paper.postgres import Database
from engine.paper.routes_admin import create_market_command
from engine.paper.settlement import Settlements
from engine.paper.store import Store
from engine.paper.streams import PicowsUpgrade, Streams
from engine.paper.tokens import Tokens, check_password, hash_password

_OPERATOR_USER_ID: Final = "00000000-0000-4000-a000-000000000002"
_KEEP_ALIVE_SECONDS: Final = 75
_STOP_SECONDS: Final = 1


class BindError(Exception):
    """The address cannot be listened on: one line that names it and the reason."""


def open_socket(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. Raises :class:`BindError`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        reason = "address already in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise BindError(f"{host}:{port}: cannot listen: {reason}") from error
    return listener


async def seed(exchange: Exchange, config: PaperConfig, secret: Secrets) -> None:
    """Bring the people and markets of the configuration into an exchange that may know them already.

    The market maker, and the operator if there is a password for it, get the password the environment names.
    Markets that exist stay as they are.
    """
    await _set_password(exchange, AMM_USER_ID, secret.amm_password, config.password_hash_rounds)
    if OPERATOR_USERNAME not in exchange.state.users_by_name and secret.operator_password is not None:
        await exchange.submit(
            RegisterUser(
                user_id=_OPERATOR_USER_ID,
                username=OPERATOR_USERNAME,
                email=f"{OPERATOR_USERNAME}@system.internal",
                password_hash=hash_password(secret.operator_password, config.password_hash_rounds),
            )
        )
    elif OPERATOR_USERNAME in exchange.state.users_by_name:
        operator = exchange.state.users_by_name[OPERATOR_USERNAME]
        await _set_password(exchange, operator.id, secret.operator_password, config.password_hash_rounds)
    markets = seed_markets(exchange.now()) if config.markets is None else config.markets
    for settings in markets:
        if settings.id not in exchange.state.markets:
            await exchange.submit(create_market_command(settings))


async def _set_password(exchange: Exchange, user_id: str, password: str | None, rounds: int) -> None:
    stored = exchange.state.users[user_id].password_hash
    if password is None:
        if stored is not None:
            await exchange.submit(SetPassword(user_id=user_id, password_hash=None))
    elif stored is None or not check_password(password, stored):
        password_hash = hash_password(password, rounds)
        await exchange.submit(SetPassword(user_id=user_id, password_hash=password_hash))


class _Uvicorn(uvicorn.Server):
    """uvicorn's server without its signal handlers, telling when it accepts connections."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started: Final = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class PaperServer:
    """One exchange on one socket and one database. ``exchange`` may be read by whoever holds the server."""

    def __init__(
        self,
        config: PaperConfig,
        secret: Secrets,
        listener: socket.socket,
        database: Database,
        bus: EventBus | None = None,
    ) -> None:
        self._exchange: Exchange | None = None
        self._database: Final = database
        self._bus: Final = bus
        self._config: Final = config
        self._secret: Final = secret
        self._listener: Final = listener
        self._uvicorn: _Uvicorn | None = None
        self._stopped = False

    @property
    def address(self) -> str:
        """``HOST:PORT`` as bound, an IPv6 host in brackets."""
        host, port = self._listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def exchange(self) -> Exchange:
        """What is served; there is none before the server has started."""
        assert self._exchange is not None
        return self._exchange

    def run(self, on_started: Callable[[], None]) -> None:
        """Serve on an event loop of its own until :meth:`stop`; calls ``on_started`` once it accepts.

        Raises :class:`DatabaseError` when the database cannot be used, :class:`StoreLostError` when it goes.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(on_started))

    def stop(self) -> None:
        """Ask the server to end; may be called from a signal handler or another thread."""
        self._stopped = True
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True

    async def _serve(self, on_started: Callable[[], None]) -> None:
        store = await (FaultyStore if self._config.faults else Store).open(self._database)
        switches = Switches(store.kill_switch) if isinstance(store, FaultyStore) else None
        publisher = Publisher(self._database, self._bus) if self._bus is not None else None
        try:
            on_events = publisher.wake if publisher is not None else None
            self._exchange = exchange = await Exchange.open(store, Clock(), on_events)
            committer = asyncio.create_task(exchange.run())
            # An exchange that cannot commit any more has nothing to serve.
            committer.add_done_callback(lambda _: self.stop())
            try:
                await seed(exchange, self._config, self._secret)
                await self._serve_requests(exchange, switches, on_started)
            finally:
                exchange.close()
                await committer
        finally:
            if publisher is not None:
                await publisher.close()
            await store.close()

    async def _serve_requests(
        self, exchange: Exchange, switches: Switches | None, on_started: Callable[[], None]
    ) -> None:
        secret = self._secret.jwt_secret or secrets.token_hex(32)
        tokens = Tokens(secret, self._secret.service_token)
        interval_ms = self._config.snapshot_interval_ms
        streams = (
            Streams(exchange, tokens, interval_ms)
            if switches is None
            else FaultyStreams(exchange, tokens, interval_ms, switches)
        )
        settlements = Settlements(exchange)
        desk = Desk(exchange, tokens, FixedWindows(time.time), self._config)
        connections_max = self._config.connections_max
        admission = Admission(
            connections_max,
            lambda: desk.dialect.unroutable(
                503, f"{connections_max} connections are open, no more are taken"
            ),
        )
        protocol = JoiningHttpProtocol if switches is None else FaultyHttpProtocol
        upgrade = partial(_upgrade, streams) if desk.dialect.serves_streams else "none"
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                build_app(desk, settlements, switches),
                http=partial(protocol, admission=admission),  # type: ignore[arg-type]  # here too
                ws=upgrade,  # type: ignore[arg-type]  # any factory of protocols will do
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_STOP_SECONDS,
            ),
            on_started,
        )
        self._uvicorn.should_exit = self._stopped
        settlements.resume()
        try:
            await self._uvicorn.serve(sockets=[self._listener])
        finally:
            await settlements.close()


def serve(
    config: PaperConfig,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    secret: Secrets,
    storage: AbstractContextManager[Database],
    bus: EventBus | None = None,
    port_file: Path | None = None,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve from the main thread until SIGTERM, or SIGINT unless that is ignored.

    Once connections are accepted, ``port_file`` (written whole or not at all) holds ``HOST:PORT`` and
    ``announce`` is called with one line that names the URL. Raises :class:`BindError` before anything starts,
    :class:`DatabaseError` before anything is served, :class:`StoreLostError` when the database goes,
    ``ValueError`` if the process may not open ``connections_max`` connections.
    Events go to ``bus``; without one there are none.
    """
    reserve_descriptors(config.connections_max)
    with open_socket(host, port) as listener, storage as database:
        server = PaperServer(config, secret, listener, database, bus)

        def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            server.stop()

        def on_started() -> None:
            _collect_rarely()
            if port_file is not None:
                write_atomically(port_file, f"{server.address}\n")
            announce(f"paper exchange listening on http://{server.address}")

        signal.signal(signal.SIGTERM, on_signal)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, on_signal)
        server.run(on_started)


def _collect_rarely() -> None:
    """Keep the garbage collector away from what lives for ever, and from every few requests.

    A request leaves next to no cycles behind, and whoever holds rows hides them from the collector.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _upgrade(streams: Streams, *, server_state: Any, **_: Any) -> PicowsUpgrade:
    """uvicorn's constructor call for a WebSocket protocol, answered with ours."""
    return PicowsUpgrade(streams.accept, server_state.connections)


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees all of it or nothing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def flush_print(line: str) -> None:
    """Print at once, also into a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
