"""Brings a database to a revision of the schema, up or down, all or nothing (contract section 6)."""

from pathlib import Path
from typing import Final

import asyncpg

from engine.paper.model import AMM_USER_ID

HEAD: Final = "014_seed_amm_system_account"
"""The revision this exchange works on."""
SELF_TRADE_EXEMPT: Final = "self_trade_exempt"
"""Attribute under which revision 013 finds the user ids that may trade with themselves."""
_SCRIPTS: Final = Path(__file__).with_name("migrations")


class MigrationRefusedError(Exception):
    """The database's content forbids the move: one line that names the revision, the value and the rule."""


async def current_revision(connection: asyncpg.Connection) -> str | None:
    """The revision a database is at; None for one that has never been migrated."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return revision


async def migrate(
    connection: asyncpg.Connection, target: str = HEAD, *, self_trade_exempt: tuple[str, ...] = (AMM_USER_ID,)
) -> None:
    """Move the database to ``target``: a revision, the number it begins with, ``head`` or ``base``.

    ``connection`` must be allowed to change the schema; it is closed afterwards. Raises
    :class:`MigrationRefusedError`, and then nothing has changed.
    """
    # Imported here: a database that is already where it should be, which is every start but the first, does
    # not need them, and they take as long to import as PostgreSQL to start.
    import alembic.command  # noqa: PLC0415
    import alembic.config  # noqa: PLC0415
    import alembic.script  # noqa: PLC0415
    import alembic.util  # noqa: PLC0415
    import sqlalchemy.pool  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    config = alembic.config.Config(attributes={SELF_TRADE_EXEMPT: self_trade_exempt})
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")

    def run(sync_connection: sqlalchemy.Connection) -> None:
        config.attributes["connection"] = sync_connection
        scripts = alembic.script.ScriptDirectory.from_config(config)
        at = alembic.script.ScriptDirectory.get_heads(scripts)
        assert at == [HEAD], f"the newest revision is {at}, HEAD says {HEAD}"
        wanted = {"head": HEAD, "base": None}.get(target, target)
        if wanted is not None:
            found = scripts.get_revision(wanted)
            assert found is not None
            wanted = found.revision
        older = {revision.revision for revision in scripts.iterate_revisions(present or "base", "base")}
        if wanted is None or (wanted in older and wanted != present):
            alembic.command.downgrade(config, wanted or "base")
        else:
            alembic.command.upgrade(config, wanted)

    present = await current_revision(connection)

    async def handed_over() -> asyncpg.Connection:
        return connection

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=handed_over, poolclass=sqlalchemy.pool.NullPool
    )
    try:
        async with engine.begin() as running:
            await running.run_sync(run)
    except alembic.util.CommandError as error:
        raise MigrationRefusedError(f"revision {target}: {error}") from error
    finally:
        await engine.dispose()
