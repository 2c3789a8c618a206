"""The cursor's reader on a real database: steps, snapshots, rows of each table, errors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from grpc import aio

from fernando.telemetry import v1
from fernando_telemetry.domain.cursor import Cursor
from fernando_telemetry.domain.errors import CursorInvalid, CursorTooOld
from fernando_telemetry.domain.flush_ids import flush_id_of
from fernando_telemetry.storage.committed import FULL_LANES, CommittedReading, Step
from fernando_telemetry.storage.rows import (
    BUSINESS_METRICS,
    DISTRIBUTIONS,
    EVENTS,
    RAW_TABLES,
    SAMPLES,
    SPANS,
)
from fernando_telemetry.storage.sessions import ReaderPool
from tests.integration.storage.lanes import day_partition, flush, noon, open_lane


async def step(
    readers: ReaderPool, cursor: Cursor, max_flushes: int = 100, max_rows: int = 1000
) -> Step:
    async with readers.snapshot() as connection:
        reading = await CommittedReading.begin(connection)
        return await reading.next(cursor, max_flushes=max_flushes, max_rows=max_rows)


async def walk(readers: ReaderPool, cursor: Cursor, **limits: int) -> list[list[int]]:
    """Go on to the end; gives the flush ids of each step."""
    steps = []
    while True:
        found = await step(readers, cursor, **limits)
        steps.append([one.flush_id for one in found.flushes])
        cursor = found.cursor
        if found.is_last:
            return steps


async def test_nothing_is_there(readers: ReaderPool) -> None:
    found = await step(readers, Cursor())
    assert (found.flushes, found.cursor, found.is_last) == ((), Cursor(), True)


async def test_steps_are_bounded_and_go_by_arrival(readers: ReaderPool, connection: Any) -> None:
    now = datetime.now(UTC)
    for lane in (1, 2):
        await open_lane(connection, lane)
    order = [(1, 1), (2, 1), (2, 3), (1, 2), (1, 5), (2, 4)]
    for place, (lane, number) in enumerate(order):
        at = now + timedelta(milliseconds=place)
        await flush(connection, lane, number, *[now] * 3, at=at)
    ids = [flush_id_of(*one) for one in order]
    assert await walk(readers, Cursor(), max_flushes=100) == [ids]
    assert await walk(readers, Cursor(), max_flushes=4) == [ids[:4], ids[4:]]
    assert await walk(readers, Cursor(), max_flushes=1) == [[one] for one in ids]
    # A step ends with the flush that reaches the rows.
    assert await walk(readers, Cursor(), max_rows=4) == [ids[:2], ids[2:4], ids[4:]]
    assert await walk(readers, Cursor(), max_rows=1) == [[one] for one in ids]


async def test_a_clock_set_back_does_not_spoil_a_lane(readers: ReaderPool, connection: Any) -> None:
    now = noon()
    await open_lane(connection, 1)
    await open_lane(connection, 2)
    for number, seconds in ((1, 0), (2, -50), (3, -40)):
        await flush(connection, 1, number, at=now + timedelta(seconds=seconds))
    await flush(connection, 2, 1, at=now - timedelta(seconds=45))
    found = [one for part in await walk(readers, Cursor(), max_flushes=2) for one in part]
    assert [one for one in found if one >> 40 == 1] == [flush_id_of(1, n) for n in (1, 2, 3)]
    assert len(found) == 4


async def test_very_many_lanes_are_looked_at_in_small_shares(
    readers: ReaderPool, connection: Any
) -> None:
    lanes = FULL_LANES * 3
    await connection.execute(
        "INSERT INTO lanes (lane, last_number) SELECT n, 9 FROM generate_series(1, $1::int) n",
        lanes,
    )
    await connection.execute(
        "INSERT INTO flushes (committed_on, shard, flush_id, ingested_at) "
        "SELECT CURRENT_DATE, 0, lane << 40 | number, now() "
        "FROM generate_series(1, $1::int8) lane, generate_series(1, 9) number",
        lanes,
    )
    steps = await walk(readers, Cursor(), max_flushes=20)
    found = [one for part in steps for one in part]
    assert len(found) == len(set(found)) == lanes * 9
    assert max(map(len, steps)) <= 20
    last = await step(readers, Cursor(), max_flushes=lanes * 9 + 1)
    assert last.cursor == Cursor(lanes, {})


async def test_a_transaction_that_runs_is_met_when_it_commits(
    readers: ReaderPool, connection: Any, database: str
) -> None:
    """A higher number of another lane is consumed first, and the slow commit is not skipped."""
    import asyncpg

    now = datetime.now(UTC)
    await open_lane(connection, 1)
    await open_lane(connection, 2)
    slow = await asyncpg.connect(database)
    transaction = slow.transaction()
    await transaction.start()
    await flush(slow, 1, 1, now)
    await flush(connection, 2, 1, now)
    first = await step(readers, Cursor())
    assert [one.flush_id for one in first.flushes] == [flush_id_of(2, 1)]
    await transaction.commit()
    await slow.close()
    second = await step(readers, first.cursor)
    assert [one.flush_id for one in second.flushes] == [flush_id_of(1, 1)]
    assert (await step(readers, second.cursor)).flushes == ()


async def test_a_snapshot_does_not_move(readers: ReaderPool, connection: Any) -> None:
    now = datetime.now(UTC)
    await open_lane(connection, 1)
    await flush(connection, 1, 1, now)
    async with readers.snapshot() as lent:
        reading = await CommittedReading.begin(lent)
        await open_lane(connection, 2)
        await flush(connection, 1, 2, now)
        await flush(connection, 2, 1, now)
        found = await reading.next(Cursor(), max_flushes=9, max_rows=9)
        assert found.cursor == Cursor(1, {1: 1})


async def test_rows_of_every_table(readers: ReaderPool, channel: aio.Channel) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    records = v1.TelemetryRecords(record_count=7)
    for name in ("a", "b"):
        records.events.add(event_type=v1.EventType.EVENT_TYPE_USER_ACTION, event_name=name)
    records.system_metrics.add(
        metric_name="m", metric_type=v1.MetricType.METRIC_TYPE_GAUGE, metric_value=2.5
    )
    records.system_metrics.add(
        metric_name="d", metric_type=v1.MetricType.METRIC_TYPE_TIMER, percentile_95=7
    )
    kpi = records.business_metrics.add(metric_name="k", metric_value="49.90")
    kpi.period_start.FromDatetime(now - timedelta(days=2))
    kpi.period_end.FromDatetime(now - timedelta(days=1))
    late = records.spans.add(trace_id="1" * 32, span_id="2" * 16, service_name="late")
    late.start_time.FromDatetime(now - timedelta(days=3))
    records.spans.add(trace_id="1" * 32, span_id="3" * 16, service_name="new")
    stub = v1.IngestServiceStub(channel)
    for _ in range(2):
        request = v1.IngestTelemetryRequest(records=records, request_id=str(uuid4()))
        answer = await stub.IngestTelemetry(request)
        assert answer.result.accepted_count == 7, answer
    async with readers.snapshot() as connection:
        reading = await CommittedReading.begin(connection)
        first, second = (await reading.next(Cursor(), max_flushes=9, max_rows=1000)).flushes
        for one in (first, second):
            assert one.row_count(RAW_TABLES) == 7
            found = {
                table.name: [row async for rows in reading.rows(one, table) for row in rows]
                for table in RAW_TABLES
            }
            assert {name: len(rows) for name, rows in found.items()} == {
                table.name: one.extents[table.name].count for table in RAW_TABLES
            }
            assert {row["event_name"] for row in found[EVENTS.name]} == {"a", "b"}
            assert [row["value"] for row in found[SAMPLES.name]] == [2.5]
            assert [row["percentile_95"] for row in found[DISTRIBUTIONS.name]] == [7]
            assert [row["metric_value"] for row in found[BUSINESS_METRICS.name]] == ["49.90"]
            assert {row["service_name"] for row in found[SPANS.name]} == {"late", "new"}
            assert {row["flush_id"] for row in found[SPANS.name]} == {one.flush_id}


async def test_rows_of_a_wide_flush_are_found_by_their_flush(
    readers: ReaderPool, connection: Any
) -> None:
    """A late row makes the range wide; the plan goes by flush_id and not through the day."""
    now = datetime.now(UTC)
    start = now.replace(hour=0, minute=0, second=0, microsecond=0)
    await open_lane(connection, 1)
    await connection.execute(
        "INSERT INTO telemetry_events (event_id, event_timestamp, event_type, event_name, "
        "ingested_at, shard, flush_id) SELECT gen_random_uuid(), "
        "$1::timestamptz + n * interval '0.1 ms', 'user_action', 'x', now(), 0, "
        "(1::int8 << 40) + 10 + n / 1000 FROM generate_series(1, 60000) n",
        start,
    )
    await flush(connection, 1, 5, start, start + timedelta(hours=23))
    partition = f"telemetry_events_p{start:%Y%m%d}"
    for index in await connection.fetch(
        "SELECT indexname FROM pg_indexes WHERE tablename = $1 AND indexdef ~ 'brin'", partition
    ):
        await connection.execute(f"SELECT brin_summarize_new_values('{index[0]}')")
    await connection.execute(f"ANALYZE {partition}")
    async with readers.snapshot() as lent:
        reading = await CommittedReading.begin(lent)
        found = await reading.next(Cursor(), max_flushes=1, max_rows=1)
        rows = [row async for part in reading.rows(found.flushes[0], EVENTS) for row in part]
        assert len(rows) == 2
        from fernando_telemetry.storage.committed import sql

        extent = found.flushes[0].extents[EVENTS.name]
        plan = await lent.fetch(
            f"EXPLAIN {sql.event_rows}",
            extent.min_time,
            extent.max_time,
            found.flushes[0].flush_id,
        )
    text = "\n".join(row[0] for row in plan)
    assert f"{partition}_flush_brin" in text, text
    assert "Seq Scan" not in text, text


async def test_oldest_and_newest(readers: ReaderPool, connection: Any) -> None:
    now = datetime.now(UTC)
    for lane, last in ((1, 4), (2, 9), (3, 0), (4, None), (5, None)):
        await open_lane(connection, lane, last)
    await connection.execute("UPDATE lanes SET pruned_through = 4 WHERE lane IN (1, 2)")
    for lane, number in ((2, 7), (2, 9), (4, 1), (4, 3)):
        await flush(connection, lane, number, now)
    async with readers.snapshot() as lent:
        reading = await CommittedReading.begin(lent)
        oldest, newest = await reading.oldest(), await reading.newest()
        assert oldest == Cursor(5, {2: 4, 4: 0, 5: 0})
        assert newest == Cursor(5, {4: 3, 5: 0})
        assert reading.read(reading.write(newest)) == newest
    ids = [flush_id_of(*one) for one in ((2, 7), (2, 9), (4, 1), (4, 3))]
    assert await walk(readers, oldest, max_flushes=4) == [ids]
    assert await walk(readers, newest) == [[]]
    await flush(connection, 5, 1, now)
    assert await walk(readers, newest) == [[flush_id_of(5, 1)]]


async def test_error_of_a_cursor_that_is_too_old(readers: ReaderPool, connection: Any) -> None:
    kept = await day_partition(connection, 3)
    await open_lane(connection, 1)
    await flush(connection, 1, 6, at=kept)
    await connection.execute("UPDATE lanes SET pruned_through = 5")
    assert [one.flush_id for one in (await step(readers, Cursor(1, {1: 5}))).flushes] == [
        flush_id_of(1, 6)
    ]
    for cursor in (Cursor(1, {1: 4}), Cursor()):
        with pytest.raises(CursorTooOld) as caught:
            await step(readers, cursor)
        assert caught.value.oldest_available_at == kept.replace(hour=0)


async def test_error_of_a_cursor_of_another_database(readers: ReaderPool, connection: Any) -> None:
    await open_lane(connection, 1)
    with pytest.raises(CursorInvalid, match="set back"):
        await step(readers, Cursor(2, {2: 1}))
    async with readers.snapshot() as lent:
        text = (await CommittedReading.begin(lent)).write(Cursor(1, {1: 1}))
    await connection.execute("UPDATE installation SET installation_id = gen_random_uuid()")
    async with readers.snapshot() as lent:
        reading = await CommittedReading.begin(lent)
        with pytest.raises(CursorInvalid):
            reading.read(text)


async def test_steps_are_planned_once_and_what_follows_anew(
    readers: ReaderPool, connection: Any
) -> None:
    await open_lane(connection, 1)
    await flush(connection, 1, 1, datetime.now(UTC))
    async with readers.snapshot() as lent:
        mode = await lent.fetchval("SHOW plan_cache_mode")
        reading = await CommittedReading.begin(lent)
        for _ in range(3):
            await reading.next(Cursor(), max_flushes=9, max_rows=9)
        assert await lent.fetchval("SHOW plan_cache_mode") == mode == "force_custom_plan"
        plans = await lent.fetch(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements "
            "WHERE statement LIKE '-- The next flushes of each lane%'"
        )
    assert [tuple(row) for row in plans] == [(3, 0)]
