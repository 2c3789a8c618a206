"""A downgrade takes everything away, so that the next upgrade finds an empty database."""

from __future__ import annotations

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from fernando_telemetry.embedded import EmbeddedPostgres
from fernando_telemetry.storage.migrating import engine_for, migrate, scripts_folder
from tests.conftest import session_settings, with_database


async def test_down_and_up_again(postgres: EmbeddedPostgres) -> None:
    admin = await asyncpg.connect(postgres.dsn)
    await admin.execute("CREATE DATABASE down_and_up")
    await admin.close()
    dsn = with_database(postgres.dsn, "down_and_up")
    await migrate(session_settings(dsn), allowed=True)
    opened = await asyncpg.connect(dsn)
    relations = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    types = "SELECT count(*) FROM pg_type WHERE typtype = 'e'"
    whole = await opened.fetchval(relations), await opened.fetchval(types)
    config = Config()
    config.set_main_option("script_location", str(scripts_folder()))
    config.set_main_option("path_separator", "os")

    def downgrade(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")

    engine = engine_for(dsn)
    async with engine.connect() as connection:
        await connection.run_sync(downgrade)
        await connection.commit()
    await engine.dispose()
    left = await opened.fetch(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    )
    assert {row["relname"] for row in left} == {"alembic_version", "alembic_version_pkc"}
    assert await opened.fetchval(types) == 0
    await migrate(session_settings(dsn), allowed=True)
    assert (await opened.fetchval(relations), await opened.fetchval(types)) == whole
    await opened.close()
