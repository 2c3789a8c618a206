"""What the leader does to lanes and flushes: dead lanes are closed, old flushes pruned."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from fernando_telemetry.domain.cursor import Cursor
from fernando_telemetry.domain.errors import CursorTooOld, DatabaseUnavailable
from fernando_telemetry.domain.flush_ids import flush_id_of
from fernando_telemetry.storage.committed import CommittedReading, sql
from fernando_telemetry.storage.flush import Lane
from fernando_telemetry.storage.lanes import DeadLanes, OldFlushes
from fernando_telemetry.storage.sessions import ControlPool, ReaderPool, SessionSettings
from fernando_telemetry.storage.snapshots import shown
from tests.conftest import session_settings
from tests.integration.ingest.locks import DEADLINE_SECONDS
from tests.integration.storage.lanes import day_partition, flush, open_lane

KEPT_DAYS = 30


async def _lanes(connection: Any) -> dict[int, int | None]:
    return dict(await connection.fetch("SELECT lane, last_number FROM lanes ORDER BY lane"))


async def _gone(connection: Any, lane: int) -> None:
    """Wait until PostgreSQL has noticed the end of a lane's session."""
    held = "SELECT count(*) FROM pg_locks WHERE classid = 1179603534 AND objid = $1"
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await connection.fetchval(held, lane):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_lane_is_closed_when_its_session_is_gone(
    control: ControlPool, connection: Any, database: str
) -> None:
    opened = [await Lane.open(session_settings(database)) for _ in range(3)]
    for lane, number in ((1, 3), (1, 8), (3, 2)):
        await flush(connection, lane, number)
    dead_lanes = DeadLanes(control)
    await dead_lanes.close(datetime.now(UTC))
    assert await _lanes(connection) == {1: None, 2: None, 3: None}
    for one in opened[:2]:
        one.terminate()
        await _gone(connection, one.lane)
    await dead_lanes.close(datetime.now(UTC))
    assert await _lanes(connection) == {1: 8, 2: 0, 3: None}
    await opened[2].close()
    await _gone(connection, 3)
    await dead_lanes.close(datetime.now(UTC))
    assert await _lanes(connection) == {1: 8, 2: 0, 3: 2}


async def test_a_lane_waits_for_its_last_transaction(
    control: ControlPool, connection: Any, database: str
) -> None:
    """The lock is the session's, so a commit that runs is over when the lane is closed."""
    session = await asyncpg.connect(database)
    await open_lane(connection, 1)
    await session.execute("SELECT pg_advisory_lock(1179603534, 1)")
    transaction = session.transaction()
    await transaction.start()
    await flush(session, 1, 4)
    await DeadLanes(control).close(datetime.now(UTC))
    assert await _lanes(connection) == {1: None}
    await transaction.commit()
    await session.close()
    await _gone(connection, 1)
    await DeadLanes(control).close(datetime.now(UTC))
    assert await _lanes(connection) == {1: 4}


async def test_the_lock_of_another_database_is_no_sign_of_life(
    control: ControlPool, connection: Any, postgres: Any
) -> None:
    other = await asyncpg.connect(postgres.dsn)
    await other.execute("SELECT pg_advisory_lock(1179603534, 1)")
    await open_lane(connection, 1)
    await DeadLanes(control).close(datetime.now(UTC))
    assert await _lanes(connection) == {1: 0}
    await other.close()


async def _old_and_new(connection: Any) -> None:
    """Lane 1 and 2 have flushes 40 and 31 days ago, 30 days ago and now; lane 3 only now."""
    times = [await day_partition(connection, days) for days in (40, 31, 30)]
    for lane in (1, 2, 3):
        await open_lane(connection, lane)
    for number, at in enumerate(times, start=1):
        for lane in (1, 2):
            await flush(connection, lane, number * lane, at=at)
    for lane in (1, 2, 3):
        await flush(connection, lane, 90)


async def _pruned(connection: Any) -> dict[int, int]:
    return dict(await connection.fetch("SELECT lane, pruned_through FROM lanes"))


async def _left(connection: Any) -> list[int]:
    rows = await connection.fetch("SELECT flush_id FROM flushes ORDER BY flush_id")
    return [row["flush_id"] for row in rows]


AFTERWARDS = [flush_id_of(*one) for one in ((1, 3), (1, 90), (2, 6), (2, 90), (3, 90))]


def _pruning(control: ControlPool, database: str, **changes: float) -> OldFlushes:
    settings: dict[str, Any] = {
        name: getattr(session_settings(database), name) for name in SessionSettings.__slots__
    }
    return OldFlushes(control, SessionSettings(**(settings | changes)), KEPT_DAYS)


async def test_old_flushes_are_pruned(
    control: ControlPool, readers: ReaderPool, connection: Any, database: str
) -> None:
    await _old_and_new(connection)
    await _pruning(control, database).prune(datetime.now(UTC))
    assert await _pruned(connection) == {1: 2, 2: 4, 3: 0}
    assert await _left(connection) == AFTERWARDS
    tables = await connection.fetch("SELECT relname FROM pg_class WHERE relname ~ '^flushes_p'")
    days = {row["relname"][-8:] for row in tables if row["relname"][-8:].isdigit()}
    assert min(days) == f"{datetime.now(UTC) - timedelta(days=30):%Y%m%d}"
    # Tokens of what is gone are reached; cursors that had not come so far are too old.
    assert await shown(connection, [flush_id_of(1, 1)]) == {flush_id_of(1, 1)}
    async with readers.snapshot() as lent:
        reading = await CommittedReading.begin(lent)
        kept = await reading.next(Cursor(3, {1: 2, 2: 4, 3: 0}), max_flushes=9, max_rows=9)
        assert len(kept.flushes) == len(AFTERWARDS)
        with pytest.raises(CursorTooOld):
            await reading.next(Cursor(3, {1: 1, 2: 4, 3: 0}), max_flushes=9, max_rows=9)
        assert await reading.oldest() == Cursor(3, {1: 2, 2: 4, 3: 0})
    await _pruning(control, database).prune(datetime.now(UTC))
    assert await _left(connection) == AFTERWARDS


async def test_a_lane_of_which_all_was_pruned_is_closed_with_its_last_number(
    control: ControlPool, connection: Any, database: str
) -> None:
    old = await day_partition(connection, 40)
    await open_lane(connection, 1)
    await flush(connection, 1, 7, at=old)
    await _pruning(control, database).prune(datetime.now(UTC))
    await DeadLanes(control).close(datetime.now(UTC))
    assert await _lanes(connection) == {1: 7}


async def test_a_reader_is_right_whatever_the_moment(
    control: ControlPool, readers: ReaderPool, connection: Any, database: str
) -> None:
    """One that began before keeps its partitions; pruning gives up and ends the work later."""
    await _old_and_new(connection)
    impatient = _pruning(control, database, lock_timeout_seconds=0.2)
    everything = len(await _left(connection))
    async with readers.snapshot() as lent:
        reading = await CommittedReading.begin(lent)
        with pytest.raises(DatabaseUnavailable):
            await impatient.prune(datetime.now(UTC))
        # The numbers have risen already, and this snapshot shows neither that nor a gap.
        assert await _pruned(connection) == {1: 1, 2: 2, 3: 0}
        found = await reading.next(Cursor(), max_flushes=99, max_rows=99)
        assert len(found.flushes) == everything
    # A reader that comes between the two steps is told.
    async with readers.snapshot() as lent:
        with pytest.raises(CursorTooOld):
            await (await CommittedReading.begin(lent)).next(Cursor(), max_flushes=9, max_rows=9)
    await impatient.prune(datetime.now(UTC))
    assert await _left(connection) == AFTERWARDS
    assert not await connection.fetchval("SELECT count(*) FROM pg_inherits WHERE inhdetachpending")


async def test_what_a_cut_short_pruning_left_is_dropped(
    control: ControlPool, connection: Any, database: str
) -> None:
    await _old_and_new(connection)
    day = datetime.now(UTC) - timedelta(days=40)
    await connection.execute("UPDATE lanes SET pruned_through = 2 WHERE lane < 3")
    await connection.execute(
        f"ALTER TABLE flushes DETACH PARTITION flushes_p{day:%Y%m%d} CONCURRENTLY"
    )
    await _pruning(control, database).prune(datetime.now(UTC))
    assert await connection.fetchval(f"SELECT to_regclass('flushes_p{day:%Y%m%d}')") is None
    assert await _left(connection) == AFTERWARDS


async def test_locking_does_not_take_the_snapshot_yet(connection: Any, database: str) -> None:
    """Otherwise it could be older than the loss of a partition that it then does not find."""
    await open_lane(connection, 1)
    reader = await asyncpg.connect(database)
    async with reader.transaction(isolation="repeatable_read", readonly=True):
        await reader.execute(sql.hold_flushes)
        await flush(connection, 1, 1)
        assert await _left(reader) == [flush_id_of(1, 1)]
        await flush(connection, 1, 2)
        assert await _left(reader) == [flush_id_of(1, 1)]
    await reader.close()
