"""Alembic's entry: runs on the connection the server hands over, or on FERNANDO_DSN.

The server takes the advisory lock and sets the time-outs (storage/migrating.py); a developer's
`alembic` command has neither, which is enough to write and inspect migrations.
"""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection

from fernando_telemetry.storage.schema import metadata


def run(connection: Connection) -> None:
    """Run the wanted migrations, each in a transaction of its own."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def connect_and_run() -> None:
    """Open the database that the settings name and run on it."""
    from fernando_telemetry.settings import load_settings
    from fernando_telemetry.storage.migrating import engine_for

    engine = engine_for(load_settings().dsn)
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


handed_over = context.config.attributes.get("connection")
if handed_over is None:
    asyncio.run(connect_and_run())
else:
    run(handed_over)
