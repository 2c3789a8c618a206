"""How pools lend sessions, and what becomes of one whose transaction is cut short."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.storage import dropping
from fernando_telemetry.storage.hot_partitions import Plan, plan_by
from fernando_telemetry.storage.sessions import ControlPool, ReaderPool, session_holding
from tests.conftest import session_settings
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


async def test_a_reader_is_lent_again_as_it_was_opened(database: str) -> None:
    """Nothing takes back what a query sets and opens but the end of its transaction."""
    state = (
        "SELECT pg_backend_pid(), (SELECT count(*) FROM pg_cursors), current_setting('{}'),"
        " (SELECT count(*) FROM pg_settings WHERE source = 'session')"
    ).format("enable_seqscan")
    readers = ReaderPool(session_settings(database), 1)
    try:
        async with readers.snapshot() as lent:
            before = await lent.fetchrow(state)
        for ending in (None, ZeroDivisionError, asyncio.CancelledError):
            try:
                async with readers.snapshot() as lent:
                    await plan_by(lent, Plan.BY_ONE_KEY)
                    cursor = await lent.cursor("SELECT generate_series(1, 10)")
                    await cursor.fetch(1)
                    assert await lent.fetchrow(state) != before
                    if ending is not None:
                        raise ending
            except (ZeroDivisionError, asyncio.CancelledError):
                pass
            async with readers.snapshot() as lent:
                assert await lent.fetchrow(state) == before
    finally:
        await readers.close()


async def test_nothing_is_asked_of_a_session_behind_its_commit(
    control: ControlPool, database: str, connection: Any
) -> None:
    """A database that hangs would let that fail, and who was cancelled would not hear of it."""
    readers = ReaderPool(session_settings(database), 1)
    try:
        async with control.transaction() as lent:
            pids = [await lent.fetchval("SELECT pg_backend_pid()")]
        async with readers.snapshot() as lent:
            pids.append(await lent.fetchval("SELECT pg_backend_pid()"))
        last = "SELECT array_agg(query) FROM pg_stat_activity WHERE pid = ANY($1)"
        assert await connection.fetchval(last, pids) == ["COMMIT;", "COMMIT;"]
    finally:
        await readers.close()


async def test_a_session_whose_rollback_was_cut_off_is_not_lent_again(
    control: ControlPool,
) -> None:
    pids: list[int] = []
    stopped = asyncio.Event()

    async def fail() -> None:
        async with control.transaction() as lent:
            pids.append(await lent.fetchval("SELECT pg_backend_pid()"))
            os.kill(pids[0], signal.SIGSTOP)
            stopped.set()
            raise ZeroDivisionError

    async def answer() -> None:
        async with control.transaction() as lent:
            pids.append(await lent.fetchval("SELECT pg_backend_pid()"))

    task = asyncio.create_task(fail())
    try:
        # From the stop to the rollback the task gives nobody else a turn.
        await stopped.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await answer()
        assert pids[0] != pids[1]
    finally:
        os.kill(pids[0], signal.SIGCONT)


async def test_a_lock_is_free_as_soon_as_its_session_is_given_back(database: str) -> None:
    """PostgreSQL notices the end of a session some time later, when the next one has asked."""
    settings = session_settings(database)
    for _ in range(50):
        async with session_holding(settings, dropping.sql.try_lock, dropping.sql.unlock) as first:
            assert first is not None
            async with session_holding(
                settings, dropping.sql.try_lock, dropping.sql.unlock
            ) as second:
                assert second is None


async def test_a_statement_alone_is_committed_and_a_lost_session_not_lent_again(
    database: str, connection: Any
) -> None:
    control = ControlPool(session_settings(database), 1)
    told: asyncio.Queue[str] = asyncio.Queue()
    await connection.add_listener("here", lambda *found: told.put_nowait(found[-1]))
    try:
        await control.run_alone("SELECT pg_notify($1, $2)", "here", "first")
        assert await told.get() == "first"
        with pytest.raises(DatabaseUnavailable):
            await control.run_alone("SELECT pg_terminate_backend(pg_backend_pid())")
        await control.run_alone("SELECT pg_notify($1, $2)", "here", "second")
        assert await told.get() == "second"
    finally:
        await control.close()


async def test_a_statement_alone_that_is_cut_off_ends_its_session(
    database: str, connection: Any
) -> None:
    control = ControlPool(session_settings(database), 1)
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    try:
        await connection.execute(f"SELECT pg_advisory_lock({GATE})")
        task = asyncio.create_task(control.run_alone(f"SELECT pg_advisory_lock({GATE})"))
        await becomes(connection, waits, value=1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await becomes(connection, waits, value=0)
        await control.run_alone("SELECT 1")
    finally:
        await control.close()


async def test_a_statement_alone_on_a_server_that_only_reads_lets_all_sessions_go(
    database: str,
) -> None:
    """As it does in a transaction: the primary is another server then."""
    control = ControlPool(session_settings(database), 1)
    try:
        async with control.transaction() as lent:
            before = await lent.fetchval("SELECT pg_backend_pid()")
        await control.run_alone("CREATE TABLE kept (pid int)")
        reading = "SELECT set_config('transaction_read_only', 'on', true), pg_temp.write()"
        await control.run_alone(
            "CREATE FUNCTION pg_temp.write() RETURNS void LANGUAGE sql AS 'TRUNCATE kept'"
        )
        with pytest.raises(DatabaseUnavailable):
            await control.run_alone(reading)
        async with control.transaction() as lent:
            assert await lent.fetchval("SELECT pg_backend_pid()") != before
    finally:
        await control.close()
