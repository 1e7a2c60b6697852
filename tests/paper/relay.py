"""A relay between exchange and PostgreSQL that can lose the answer to a commit, and the session with it."""

import asyncio
import contextlib
import threading
from types import MappingProxyType
from typing import Any

from engine.paper.postgres import Database, Login

WRITTEN = b"C\x00\x00\x00\x0dSELECT 1\x00Z\x00\x00\x00\x05I"
"""End of a batch's statement, as the server sends it: one row, committed, idle again."""


class CommitLosingRelay:
    """Listens on a loopback port; runs on a thread of its own."""

    def __init__(self, server: Database) -> None:
        self._path = f"{server.owner.arguments['host']}/.s.PGSQL.5432"
        self.lose_next_commit = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    def in_front_of(self, database: Database) -> Database:
        """The same database through the relay."""
        arguments: dict[str, Any] = {**database.owner.arguments, "host": "127.0.0.1", "port": self._port}
        login = Login(MappingProxyType({**arguments, "ssl": False}))
        return Database(name=database.name, owner=login, runtime=login)

    def close(self) -> None:
        """Cut everything."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        listener = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self._port = listener.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(self._path)
        forth = asyncio.create_task(self._pump(reader, upstream_writer, from_server=False))
        back = asyncio.create_task(self._pump(upstream_reader, writer, from_server=True))
        await asyncio.wait([forth, back], return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, upstream_writer):
            end.close()
        for task in (forth, back):
            task.cancel()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_server: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if from_server and WRITTEN in data and self.lose_next_commit.is_set():
                    self.lose_next_commit.clear()
                    return
                writer.write(data)
                await writer.drain()
