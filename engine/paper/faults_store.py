"""The store with the three points at which a transaction can lose its exchange."""

import asyncpg

from engine.paper.faults import KillPoint
from engine.paper.faults_switches import KillSwitch
from engine.paper.postgres import Database
from engine.paper.store import Batch, Store


class FaultyStore(Store):
    """A store with a kill switch, which each batch passes."""

    def __init__(self, database: Database, writer: asyncpg.Connection, reader: asyncpg.Connection) -> None:
        super().__init__(database, writer, reader)
        self.kill_switch = KillSwitch()

    async def write(self, batch: Batch) -> None:
        """Commit a batch, unless the exchange is to die of it.

        What is armed now concerns a command of this batch. Who arms it while this batch is being written
        means a later one.
        """
        armed = self.kill_switch.armed
        if armed is KillPoint.BEFORE_COMMIT:
            self.kill_switch.reach(armed)
        elif armed is KillPoint.MID_TRANSACTION:
            async with self._writer.transaction():
                await batch.write(self._writer)
                self.kill_switch.reach(armed)
        await super().write(batch)
        if armed is KillPoint.AFTER_COMMIT:
            self.kill_switch.reach(armed)
