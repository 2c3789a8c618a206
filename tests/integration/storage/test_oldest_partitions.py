"""Which partitions are dropped for room, and what is never dropped."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.storage import dropping, oldest_partitions
from fernando_telemetry.storage.dropping import MARK, Dropped
from fernando_telemetry.storage.oldest_partitions import Kept, OldestPartitions
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.sessions import ControlPool
from tests.conftest import session_settings
from tests.integration.ingest.locks import DEADLINE_SECONDS

NOW = datetime.now(UTC)
EVENTS = "telemetry_events"


def day(days_ago: int) -> datetime:
    return NOW - timedelta(days=days_ago)


def name(table: str, days_ago: int) -> str:
    return f"{table}_p{day(days_ago):%Y%m%d}"


@pytest.fixture
def partitions(control: ControlPool) -> Partitions:
    return Partitions(control, raw_tables())


@pytest.fixture
def oldest(database: str, partitions: Partitions) -> OldestPartitions:
    return OldestPartitions(session_settings(database), raw_tables(), partitions)


async def tables(connection: Any) -> set[str]:
    rows = await connection.fetch(
        "SELECT relname::text AS name FROM pg_class WHERE relkind = 'r' AND relname LIKE '%\\_p2%'"
    )
    return {row["name"] for row in rows}


async def test_the_oldest_of_all_kinds_goes_first_and_the_hot_one_never(
    connection: Any, partitions: Partitions, oldest: OldestPartitions
) -> None:
    await partitions.ensure({EVENTS: [day(20), day(10), NOW], "traces": [day(15)]})
    kept = await tables(connection)
    gone = []
    while isinstance(done := await oldest.drop_one(1, NOW), Dropped):
        assert done.freed_bytes > 0
        gone.append(done.name)
    wanted = [name(EVENTS, 20), name("traces", 15), name(EVENTS, 10)]
    assert gone == wanted
    assert done == Kept("would_not_help")
    assert await tables(connection) == kept - set(gone)
    assert name(EVENTS, 0) in kept - set(gone)


async def test_rows_for_a_dropped_day_make_it_anew(
    connection: Any, partitions: Partitions, oldest: OldestPartitions
) -> None:
    await partitions.ensure({EVENTS: [day(20)]})
    assert isinstance(await oldest.drop_one(1, NOW), Dropped)
    await partitions.ensure({EVENTS: [day(20)]})
    assert name(EVENTS, 20) in await tables(connection)


async def test_nothing_is_lost_where_its_loss_would_not_help(
    connection: Any, partitions: Partitions, oldest: OldestPartitions
) -> None:
    await partitions.ensure({EVENTS: [day(20), day(10)]})
    before = await tables(connection)
    assert await oldest.drop_one(1 << 40, NOW) == Kept("would_not_help")
    assert await tables(connection) == before


async def test_what_somebody_detached_to_keep_is_kept(
    connection: Any, partitions: Partitions, oldest: OldestPartitions
) -> None:
    await partitions.ensure({EVENTS: [day(20)]})
    await connection.execute(f"ALTER TABLE {EVENTS} DETACH PARTITION {name(EVENTS, 20)}")
    assert await oldest.drop_one(1, NOW) == Kept("would_not_help")
    assert name(EVENTS, 20) in await tables(connection)


async def test_one_server_at_a_time(
    database: str, partitions: Partitions, oldest: OldestPartitions
) -> None:
    await partitions.ensure({EVENTS: [day(20)]})
    other = await asyncpg.connect(database)
    assert await other.fetchval(dropping.sql.try_lock)
    assert await oldest.drop_one(1, NOW) == Kept("another_server")
    await other.close()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not isinstance(await oldest.drop_one(1, NOW), Dropped):  # noqa: ASYNC110 - a poll
            await asyncio.sleep(0.01)


async def test_a_long_transaction_is_not_waited_for(
    database: str,
    connection: Any,
    partitions: Partitions,
    oldest: OldestPartitions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await partitions.ensure({EVENTS: [day(20)]})
    monkeypatch.setattr(oldest_partitions, "LONGEST_TRANSACTION_SECONDS", 0.05)
    reading = await asyncpg.connect(database)
    await reading.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM lanes")
    await reading.execute("SELECT pg_sleep(0.1)")
    assert await oldest.drop_one(1, NOW) == Kept("long_transaction")
    assert await connection.fetchval("SELECT count(*) FROM pg_inherits WHERE inhdetachpending") == 0
    await reading.close()


async def test_a_detach_that_was_broken_off_is_finished(
    database: str, connection: Any, partitions: Partitions
) -> None:
    """A transaction that has read the table holds the DETACH up until its lock time-out."""
    await partitions.ensure({EVENTS: [day(20)]})
    oldest = OldestPartitions(session_settings(database), raw_tables(), partitions)
    partitions_of = oldest._partitions
    partitions_of._settings = replace(partitions_of._settings, lock_timeout_seconds=0.2)
    reading = await asyncpg.connect(database)
    await reading.execute(f"BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM {EVENTS}")
    with pytest.raises(DatabaseUnavailable):
        await oldest.drop_one(1, NOW)
    pending = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhdetachpending"
    assert await connection.fetchval(pending) == name(EVENTS, 20)
    await reading.close()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                await oldest.finish()
                break
            except DatabaseUnavailable:
                continue
    assert await connection.fetchval(pending) is None
    assert name(EVENTS, 20) not in await tables(connection)
    await partitions.ensure({EVENTS: [day(20)]})


async def test_a_table_that_was_detached_and_not_dropped_is_dropped(
    connection: Any, partitions: Partitions, oldest: OldestPartitions
) -> None:
    await partitions.ensure({EVENTS: [day(20)]})
    left = name(EVENTS, 20)
    await connection.execute(f"COMMENT ON TABLE {left} IS '{MARK}'")
    await connection.execute(f"ALTER TABLE {EVENTS} DETACH PARTITION {left}")
    done = await oldest.drop_one(1, NOW)
    assert isinstance(done, Dropped)
    assert done.name == left
    assert left not in await tables(connection)
