"""How pools lend sessions, and what becomes of one whose transaction is cut short."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fernando_telemetry.storage.sessions import ControlPool
from tests.integration.ingest.locks import becomes

GATE = 42
COMMIT_WAITS = """
SELECT count(*) > 0 FROM pg_stat_activity
WHERE query LIKE 'COMMIT%' AND wait_event_type = 'Lock' AND datname = current_database()
"""
SLOW_COMMIT = f"""
CREATE TABLE kept (n int);
CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN PERFORM pg_advisory_xact_lock({GATE}); RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON kept DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait_at_gate();
"""


async def test_a_session_whose_commit_was_cut_off_is_not_lent_again(
    control: ControlPool, connection: Any
) -> None:
    """PostgreSQL may have been stopped before, in or behind the commit: nobody knows."""
    await connection.execute(SLOW_COMMIT)
    await connection.execute(f"SELECT pg_advisory_lock({GATE})")
    pids: list[int] = []

    async def store() -> None:
        async with control.transaction() as lent:
            pids.append(await lent.fetchval("SELECT pg_backend_pid()"))
            await lent.execute("INSERT INTO kept VALUES (1)")

    task = asyncio.create_task(store())
    await becomes(connection, COMMIT_WAITS, value=True)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await connection.execute(f"SELECT pg_advisory_unlock({GATE})")
    await store()
    assert pids[0] != pids[1]
