"""Flushes with late rows are read by their ids, hot and sealed, and by nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from fernando_telemetry.domain.calendar import HOUR
from fernando_telemetry.domain.cursor import Cursor
from fernando_telemetry.domain.errors import DatabaseUnavailable
from fernando_telemetry.domain.export_place import Last
from fernando_telemetry.domain.filters import parse
from fernando_telemetry.domain.flush_ids import flush_id_of
from fernando_telemetry.storage import flush_partitions
from fernando_telemetry.storage.committed import CommittedFlush, CommittedReading
from fernando_telemetry.storage.export_kinds import EVENT, EXPORTED, SYSTEM_METRIC, Exported
from fernando_telemetry.storage.export_rows import settle
from fernando_telemetry.storage.export_statement import count_statement, flush_statement
from fernando_telemetry.storage.flush_partitions import FlushPartitions, dropped_meanwhile
from fernando_telemetry.storage.list_statement import Parameters
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.rows import EVENTS, SAMPLES
from fernando_telemetry.storage.sessions import ControlPool, ReaderPool
from tests.integration.storage.lanes import open_lane
from tests.integration.storage.partition_rows import PAST, sealer

LENGTH = timedelta(seconds=HOUR)
# Flushes of 500 rows, of two lanes in turn; the planner has statistics of the first ten.
ROWS, OF_FLUSH, KNOWN = 60_000, 500, 5_000
# A step has some flushes before, this one with rows of long before, and some behind.
LATE = 100
TABLES = ("telemetry_events", "metric_samples")


@pytest.fixture
async def hot(control: ControlPool, connection: Any) -> list[str]:
    """Two hours of which the later one is written: gives the partitions of it."""
    times = [PAST, PAST + LENGTH]
    await Partitions(control, raw_tables(HOUR)).ensure(dict.fromkeys(TABLES, times))
    names = [f"{table}_p{times[1]:%Y%m%d_%H%M}" for table in TABLES]
    for name in names:
        await connection.execute(f"ALTER TABLE {name} SET (autovacuum_enabled = false)")
    for lane in (1, 2):
        await open_lane(connection, lane)
    for first, behind in ((0, KNOWN), (KNOWN, ROWS)):
        await _fill(connection, first, behind)
        for name in names:
            if behind == KNOWN:
                await connection.execute(f"ANALYZE {name}")
            await connection.execute(f"SELECT brin_summarize_new_values('{name}_flush_brin')")
    await connection.execute(
        "INSERT INTO flushes (committed_on, shard, flush_id, ingested_at, event_count, "
        "event_min_time, event_max_time, sample_count, sample_min_time, sample_max_time) "
        "SELECT CURRENT_DATE, 0, flush_id, $1::timestamptz + (flush_id & 65535) * interval '1 s', "
        "count(*), min(time), max(time), count(*), min(time), max(time) "
        "FROM metric_samples GROUP BY flush_id",
        PAST,
    )
    return names


async def _fill(connection: Any, first: int, behind: int) -> None:
    """Store rows in the order of their time; the late flush has some of 35 and 70 minutes ago."""
    chosen = (
        f"SELECT n, ((1 + n / {OF_FLUSH} % 2)::int8 << 40) + 1 + n / {2 * OF_FLUSH} AS flush_id, "
        "$1::timestamptz + n * interval '50 ms' - CASE "
        f"WHEN n / {OF_FLUSH} <> {LATE} THEN interval '0' "
        "WHEN n % 100 = 0 THEN interval '70 min' WHEN n % 100 = 1 THEN interval '35 min' "
        "ELSE interval '0' END AS time FROM generate_series($2::int, $3::int - 1) AS n"
    )
    events = (
        "INSERT INTO telemetry_events (event_id, event_timestamp, event_type, event_name, user_id, "
        "license_id, ingested_at, shard, flush_id) SELECT gen_random_uuid(), time, 'user_action', "
        f"'e' || n, 'user-' || n % 500, 'l', now(), 0, flush_id FROM ({chosen}) AS rows"
    )
    samples = (
        "INSERT INTO metric_samples (series_id, time, value, shard, flush_id) "
        f"SELECT n % 50 + 1, time, n, 0, flush_id FROM ({chosen}) AS rows"
    )
    for statement in (events, samples):
        await connection.execute(statement, PAST + LENGTH, first, behind)


@pytest.fixture(params=["hot", "sealed"])
async def lent(
    request: pytest.FixtureRequest,
    hot: list[str],
    database: str,
    control: ControlPool,
    readers: ReaderPool,
    connection: Any,
) -> AsyncIterator[Any]:
    """A session in a snapshot, settled as an export's."""
    if request.param == "sealed":
        sealing = sealer(database, control)
        while await sealing.seal_due(PAST + 3 * LENGTH):
            pass
    async with readers.snapshot() as lent:
        await settle(lent)
        yield lent


async def _plan(lent: Any, text: str, *values: Any) -> str:
    return "\n".join(row[0] for row in await lent.fetch("EXPLAIN " + text, *values))


def _indexes(lines: str) -> set[str]:
    """Give the short names of the indexes that a plan reads raw tables by."""
    assert "Seq Scan" not in lines, lines
    found = re.findall(r"(?:using|Index Scan on) (\w+)", lines)
    return {re.sub(r"^\w+_p\d{8}_\d{4}_", "", name) for name in found} - {"metric_series_pkey"}


async def _step(reading: CommittedReading) -> tuple[CommittedFlush, ...]:
    step = await reading.next(Cursor(), max_flushes=1000, max_rows=10**9)
    late = flush_id_of(1, LATE // 2 + 1)
    place = [flush.flush_id for flush in step.flushes].index(late)
    return step.flushes[place - 10 : place + 10]


def _filters(exported: Exported) -> list[str]:
    if exported is EVENT:
        return ["", 'user_id = "user-1"', "license_id = l AND event_name > e5"]
    return ["", "metric_value >= 0"]


@pytest.mark.parametrize("kind", [EVENT.kind, SYSTEM_METRIC.kind])
async def test_an_export_goes_by_flush_ids_alone(lent: Any, kind: str) -> None:
    exported = EXPORTED[kind]
    flushes = await _step(await CommittedReading.begin(lent))
    partitions = await FlushPartitions.shown(lent, exported.tables)
    keys = {EVENT.kind: (flushes[3].flush_id, "0" * 32)}.get(
        kind, (flushes[3].flush_id, 1, PAST, -1, 0.0)
    )
    for text in _filters(exported):
        conditions = parse(text, exported.filter_columns)
        for last in (None, Last(keys)):
            made = flush_statement(exported, conditions, partitions, flushes, last)
            assert made is not None
            lines = await _plan(lent, made[0], *made[1].values)
            assert _indexes(lines) == {"flush_brin"}, lines
    counted = count_statement(exported, partitions, flushes)
    assert counted is not None
    lines = await _plan(lent, counted[0], *counted[1].values)
    assert _indexes(lines) == {"flush_brin"}, lines
    counts = await lent.fetch(counted[0], *counted[1].values)
    assert {row["flush_id"]: row["count"] for row in counts} == {
        flush.flush_id: OF_FLUSH for flush in flushes
    }


async def test_rows_of_a_flush_go_by_its_id_alone(lent: Any) -> None:
    reading = await CommittedReading.begin(lent)
    for flush in await _step(reading):
        for table in (EVENTS, SAMPLES):
            made = await reading._rows_statement(flush, table)
            assert made is not None
            lines = await _plan(lent, made[0], *made[1].values)
            assert _indexes(lines) == {"flush_brin"}, lines
            found = [row async for rows in reading.rows(flush, table) for row in rows]
            assert len(found) == OF_FLUSH


async def test_older_partitions_are_searched_for_late_flushes_alone(lent: Any) -> None:
    flushes = await _step(await CommittedReading.begin(lent))
    partitions = await FlushPartitions.shown(lent, [EVENTS])
    parameters = Parameters()
    leading = partitions.leading([EVENTS], flushes, parameters)
    assert leading is not None
    older, newer = sorted(re.findall(r"FROM (\w+) WHERE (\(.+?\))(?= UNION| OFFSET)", leading))
    late = flush_id_of(1, LATE // 2 + 1)
    assert (older[1].count("BETWEEN"), newer[1].count("BETWEEN")) == (1, 2)
    places = [int(place) for place in re.findall(r"\$(\d+)", older[1])]
    assert [parameters.values[place - 1] for place in places] == [late, late]


async def test_flushes_of_many_lanes_share_searches(
    lent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows between the lanes of one search are not among those that are given."""
    monkeypatch.setattr(flush_partitions, "MOST_RANGES", 1)
    flushes = (await _step(await CommittedReading.begin(lent)))[::2][:3]
    made = flush_statement(EVENT, (), await FlushPartitions.shown(lent, [EVENTS]), flushes, None)
    assert made is not None
    assert made[0].count("BETWEEN") <= 2
    rows = await lent.fetch(made[0], *made[1].values)
    assert len(rows) == 3 * OF_FLUSH
    assert {row["flush_id"] for row in rows} == {flush.flush_id for flush in flushes}


async def test_what_lies_in_no_partition_any_more_is_not_read(lent: Any) -> None:
    reading = await CommittedReading.begin(lent)
    flushes = await _step(reading)
    none = FlushPartitions(dict.fromkeys(["telemetry_events"], ()))
    assert flush_statement(EVENT, (), none, flushes, None) is None
    assert count_statement(EVENT, none, flushes) is None


async def test_error_of_a_partition_that_is_dropped_meanwhile(lent: Any) -> None:
    with pytest.raises(DatabaseUnavailable), dropped_meanwhile():
        raise asyncpg.UndefinedTableError
