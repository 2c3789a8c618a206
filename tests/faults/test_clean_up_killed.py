"""`kill -9` in the middle of a clean-up: the next server goes on, and takes nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from fernando_telemetry.storage.sessions import ControlPool
from tests.faults.server_process import serve
from tests.integration.ingest.locks import becomes
from tests.integration.storage.retained_rows import add_rows, ago, rows_left

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

EVENTS = "telemetry_events"
ROWS = 100_000
SHORT_ROWS = f"SELECT count(*) FROM {EVENTS} WHERE license_id = 'short'"
LAST_SHORT_ROW = (
    f"SELECT FROM {EVENTS} WHERE license_id = 'short' ORDER BY event_timestamp DESC LIMIT 1"
)
PENDING = "SELECT count(*) > 0 FROM pg_inherits WHERE inhdetachpending"
SETTINGS: dict[str, Any] = {
    "retention_interval_seconds": 0.1,
    # Row by row: an index would not make it slower, but the test.
    "sealed_indexes": "lean",
}


async def test_deletes_that_were_killed_are_gone_on_with(
    database: str, connection: Any, control: ControlPool, tmp_path: Path
) -> None:
    await add_rows(control, connection, EVENTS, ["short", "other"], [30, 40], rows=ROWS)
    await connection.execute(
        "INSERT INTO retention_policies VALUES ('event', 'short', 10), ('event', '', 100)"
    )
    holder = await asyncpg.connect(database)
    # One of the last rows to be deleted: all is not before the kill, however late that comes.
    await holder.execute(f"BEGIN; {LAST_SHORT_ROW} FOR UPDATE")
    async with serve(tmp_path / "a", tmp_path / "log-a", dsn=database, **SETTINGS) as server:
        await becomes(connection, f"SELECT ({SHORT_ROWS}) < {2 * ROWS}", value=True)
        await server.kill()
        server.assert_no_traceback()
    some = await connection.fetchval(SHORT_ROWS)
    assert 0 < some < 2 * ROWS
    await holder.close()
    async with serve(tmp_path / "b", tmp_path / "log-b", dsn=database, **SETTINGS) as server:
        await becomes(connection, SHORT_ROWS, 0)
        assert await server.stop() == 0
        server.assert_no_traceback()
    assert await rows_left(connection, EVENTS) == {("other", 30): ROWS, ("other", 40): ROWS}
    print(f"\nkilled with {some} of {2 * ROWS} rows left to be deleted")


async def test_a_drop_that_was_killed_is_finished(
    database: str, connection: Any, control: ControlPool, tmp_path: Path
) -> None:
    """A reader keeps the partition half detached, where the kill finds it."""
    await add_rows(control, connection, EVENTS, ["other"], [30, 200, 201])
    reader = await asyncpg.connect(database)
    await reader.execute(f"BEGIN; SELECT count(*) FROM {EVENTS}")
    async with serve(tmp_path / "a", tmp_path / "log-a", dsn=database, **SETTINGS) as server:
        await becomes(connection, PENDING, value=True)
        await server.kill()
        server.assert_no_traceback()
    assert await connection.fetchval(PENDING)
    await reader.close()
    async with serve(tmp_path / "b", tmp_path / "log-b", dsn=database, **SETTINGS) as server:
        for days in (200, 201):
            gone = f"SELECT to_regclass('{EVENTS}_p{ago(days):%Y%m%d}') IS NULL"
            await becomes(connection, gone, value=True)
        assert not await connection.fetchval(PENDING)
        assert await server.stop() == 0
        server.assert_no_traceback()
    assert set(await rows_left(connection, EVENTS)) == {("other", 30)}
