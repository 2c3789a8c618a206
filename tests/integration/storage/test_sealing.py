"""Which partitions are sealed, when, by whom, and what they carry then."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.sealing import GROWTH_BYTES, Sealing, WriteLoad, sql
from fernando_telemetry.storage.sessions import ControlPool, session_holding
from tests.conftest import session_settings
from tests.integration.storage.partition_rows import (
    PAST,
    TABLE,
    fill,
    indexes_of,
    make_partition,
    sealer,
    wanted,
)

END = PAST + timedelta(hours=1)
LATER = END + timedelta(minutes=5)


async def seal_all(sealing: Sealing, now: datetime) -> int:
    """Seal until nothing is due; gives how many were."""
    done = 0
    while await sealing.seal_due(now):
        done += 1
    return done


async def test_a_partition_is_sealed_when_its_time_has_passed(
    database: str, control: ControlPool, connection: Any
) -> None:
    partition = await make_partition(control)
    await fill(connection, 1000)
    sealing = sealer(database, control, grace_seconds=60.0)
    assert await sealing.count_unsealed(END - timedelta(seconds=1)) == 0
    assert await seal_all(sealing, END - timedelta(seconds=1)) == 0
    assert await sealing.count_unsealed(END) == 1
    assert await seal_all(sealing, END) == 0
    assert await indexes_of(connection, partition) == wanted("lean")
    assert await seal_all(sealing, END + timedelta(seconds=60)) == 1
    assert await indexes_of(connection, partition) == wanted("full")
    assert await sealing.count_unsealed(LATER) == 0
    options = await connection.fetchval(
        "SELECT reloptions FROM pg_class WHERE oid = $1::text::regclass", partition
    )
    assert options is None
    assert await connection.fetchval(
        "SELECT count(*) > 0 FROM pg_stats WHERE tablename = $1", partition
    )
    plan = await connection.fetch(
        f"EXPLAIN SELECT * FROM {TABLE} WHERE user_id = 'user-7' ORDER BY event_timestamp LIMIT 5"
    )
    assert any("user_time" in row[0] for row in plan), plan
    # Other storage for old partitions stays possible: nothing of it stands on the parent.
    assert not await connection.fetchval(
        "SELECT count(*) FROM pg_index WHERE indrelid = $1::text::regclass", TABLE
    )


async def test_nothing_is_sealed_while_hot(
    database: str, control: ControlPool, connection: Any
) -> None:
    """Neither today's partitions nor those ahead."""
    now = datetime.now(UTC)
    await Partitions(control, raw_tables()).ensure_ahead(now, 2)
    await seal_all(sealer(database, control), now)
    for day in range(3):
        name = f"{TABLE}_p{now + timedelta(days=day):%Y%m%d}"
        assert await indexes_of(connection, name) == wanted("lean")
        mark = "SELECT obj_description($1::text::regclass)"
        assert await connection.fetchval(mark, name) is None


async def test_a_partition_that_still_grows_is_left_alone(
    database: str, control: ControlPool, connection: Any
) -> None:
    """A back-fill of old rows pays lean indexes; a trickle of late ones delays nothing."""
    partition = await make_partition(control)
    sealing = sealer(database, control, grace_seconds=60.0)
    now = LATER
    for _ in range(3):
        await fill(connection, 10_000)
        size = await connection.fetchval("SELECT pg_relation_size($1::text)", partition)
        assert size > GROWTH_BYTES
        now += timedelta(seconds=50)
        assert await seal_all(sealing, now) == 0
    await fill(connection, 10)
    assert await seal_all(sealing, now + timedelta(seconds=30)) == 0
    await fill(connection, 10)
    assert await seal_all(sealing, now + timedelta(seconds=60)) == 1


async def test_the_partition_of_all_that_is_older_is_sealed_too(
    database: str, control: ControlPool, connection: Any
) -> None:
    await Partitions(control, raw_tables()).ensure({TABLE: [datetime(2001, 1, 1, tzinfo=UTC)]})
    assert await seal_all(sealer(database, control), LATER) == 1
    name = await connection.fetchval(
        "SELECT relname::text FROM pg_class WHERE relname LIKE 'telemetry_events_before_p%' "
        "AND relkind = 'r'"
    )
    assert await indexes_of(connection, name) == wanted("full")


async def test_servers_that_seal_at_once_seal_once(
    database: str, control: ControlPool, connection: Any
) -> None:
    names = [await make_partition(control, PAST + timedelta(hours=hour)) for hour in range(3)]
    await fill(connection, 2000)
    servers = [sealer(database, control) for _ in range(3)]

    async def seal(server: Sealing) -> None:
        while await server.count_unsealed(PAST + timedelta(hours=4)):
            await server.seal_due(PAST + timedelta(hours=4))

    with capture_logs() as entries:
        async with asyncio.timeout(60):
            await asyncio.gather(*(seal(server) for server in servers))
    sealed = [entry["partition"] for entry in entries if entry["event"] == "partition_sealed"]
    assert sorted(sealed) == sorted(names)
    for name in names:
        assert await indexes_of(connection, name) == wanted("full")
    # The oldest came first, whoever did it.
    assert sealed == names


async def test_invalid_indexes_are_dropped_and_built_anew(
    database: str, control: ControlPool, connection: Any
) -> None:
    partition = await make_partition(control)
    await fill(connection, 100)
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(
            f"CREATE UNIQUE INDEX CONCURRENTLY {partition}_user_time ON {partition} (user_id)"
        )
    assert (await indexes_of(connection, partition))["user_time"] is False
    with capture_logs() as entries:
        assert await seal_all(sealer(database, control), LATER) == 1
    assert "invalid_index_dropped" in {entry["event"] for entry in entries}
    assert await indexes_of(connection, partition) == wanted("full")


async def test_another_set_is_applied_to_old_partitions_behind_new_ones(
    database: str, control: ControlPool, connection: Any
) -> None:
    old = await make_partition(control)
    assert await seal_all(sealer(database, control), LATER) == 1
    new = await make_partition(control, END)
    changed = "lean +telemetry_events.user_time -telemetry_events.lookup_bloom"
    other = sealer(database, control, indexes=changed)
    now = LATER + timedelta(hours=1)
    assert await other.count_unsealed(now) == 2
    with capture_logs() as entries:
        assert await seal_all(other, now) == 2
    sealed = [entry["partition"] for entry in entries if entry["event"] == "partition_sealed"]
    assert sealed == [new, old]
    for name in (old, new):
        assert await indexes_of(connection, name) == wanted(changed)


async def test_two_releases_do_not_undo_each_other_for_ever(
    database: str, control: ControlPool
) -> None:
    await make_partition(control)
    first, second = sealer(database, control), sealer(database, control, indexes="lean")
    turns = [await seal_all(one, LATER) for one in (first, second, first, second, first)]
    assert turns == [1, 1, 0, 0, 0]


async def test_a_lock_that_is_taken_costs_time_and_nothing_else(
    database: str, control: ControlPool, connection: Any
) -> None:
    """The build ends at its time-out; the next try comes later and finds nothing spoilt."""
    partition = await make_partition(control)
    other = await make_partition(control, END)
    await fill(connection, 100)
    now = LATER + timedelta(hours=1)
    sealing = sealer(database, control, timeout_seconds=2.0)
    holder = await asyncpg.connect(database)
    async with holder.transaction():
        # A writer that does not end: the build waits for it.
        await holder.execute(f"LOCK TABLE {partition} IN ROW EXCLUSIVE MODE")
        with capture_logs() as entries:
            assert not await sealing.seal_due(now)
        assert [entry["event"] for entry in entries] == ["partition_not_sealed"]
        assert False in (await indexes_of(connection, partition)).values()
        # It steps back, and others have their turn.
        assert await seal_all(sealing, now) == 1
        assert await indexes_of(connection, other) == wanted("full")
    assert await seal_all(sealing, now) == 0
    assert await seal_all(sealing, now + timedelta(minutes=1)) == 1
    assert await indexes_of(connection, partition) == wanted("full")
    await holder.close()


async def test_a_partition_dropped_meanwhile_is_no_error(
    database: str, control: ControlPool, connection: Any
) -> None:
    partition = await make_partition(control)
    sealing = sealer(database, control)
    unsealed = await sealing._unsealed()
    await connection.execute(f"DROP TABLE {partition}")
    async with session_holding(session_settings(database), sql.try_lock, sql.unlock) as session:
        assert session is not None
        for one in unsealed:
            if one.name == partition:
                assert await sealing._seal(session, one, LATER)


async def test_the_write_load_is_that_of_all_sessions(database: str, connection: Any) -> None:
    writer = await asyncpg.connect(database)
    try:
        load = WriteLoad(connection)
        # Nothing is known yet: as if it were great.
        assert await load.rows_per_second() == float("inf")
        before = await load.rows_per_second()
        await writer.execute("CREATE TABLE written (n int)")
        await writer.execute("INSERT INTO written SELECT generate_series(1, 1000000)")
        # A session tells what it did when it is idle, or asked.
        await writer.fetchval("SELECT pg_stat_force_next_flush()")
        during = await load.rows_per_second()
        await writer.fetchval("SELECT 1")
        after = await load.rows_per_second()
        assert before < 1000 < 20_000 < during
        assert after < during
    finally:
        await writer.close()
