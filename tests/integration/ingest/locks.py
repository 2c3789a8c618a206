"""Holds a table, so that a commit stays under way for as long as a test needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fernando_telemetry.app import Application

DEADLINE_SECONDS = 20.0
WRITERS_WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'fernando-telemetry writer' AND wait_event_type = 'Lock'
    AND datname = current_database()
"""


@asynccontextmanager
async def held(connection: Any, table: str = "telemetry_events") -> AsyncIterator[None]:
    """Lock a table against writers while the block runs."""
    async with connection.transaction():
        await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


async def a_writer_waits(connection: Any) -> None:
    """Wait until a flush stands before the held table."""
    await becomes(connection, f"SELECT ({WRITERS_WAITING}) > 0", value=True)


async def all_batches_wait(server: Application, connection: Any) -> None:
    """Wait until every submitted batch is in a flush that stands before the held table.

    A batch whose writer still opens its session is dropped when its caller goes.
    """
    assert server._ingest is not None
    group_commit = server._ingest._group_commit
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(group_commit._queue) or not group_commit._running:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await becomes(connection, WRITERS_WAITING, len(group_commit._running))


async def are_queued(server: Application, count: int) -> None:
    """Wait until so many batches stand before a server's writers."""
    assert server._ingest is not None
    queue = server._ingest._group_commit._queue
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(queue) < count:  # noqa: ASYNC110 - a queue tells nobody that it grew
            await asyncio.sleep(0.01)


async def becomes(connection: Any, query: str, value: object) -> None:
    """Wait until a query gives a value."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await connection.fetchval(query) != value:
            # pg_stat_activity shows the same all through a transaction, unless told to look.
            await connection.execute("SELECT pg_stat_clear_snapshot()")
            await asyncio.sleep(0.01)
