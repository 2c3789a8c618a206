"""What `cleanup_old_telemetry_data` takes, what it leaves, and when it takes nothing at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from fernando_telemetry.domain.calendar import midnight
from fernando_telemetry.domain.limits import RETENTION_DAYS
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.sessions import ControlPool
from tests.integration.storage.partition_rows import fill

EVENTS = "telemetry_events"
KPIS = "business_metric_versions"
NOTHING = dict.fromkeys((EVENTS, "metric_samples", "metric_distributions", KPIS, "traces"), (0, 0))
CLEAN_UP = "SELECT * FROM cleanup_old_telemetry_data(events_retention_days => $1)"


@pytest.fixture
def today() -> datetime:
    return midnight(datetime.now(UTC))


@pytest.fixture
async def other(database: str) -> AsyncIterator[Any]:
    """A second session, in a transaction."""
    opened = await asyncpg.connect(database)
    await opened.execute("BEGIN")
    yield opened
    await opened.close()


async def result(connection: Any, statement: str, *arguments: int) -> dict[str, tuple[int, int]]:
    """Give the partitions dropped and rows deleted by table."""
    rows = await connection.fetch(statement, *arguments)
    assert len(rows) == len({row["table_name"] for row in rows})
    return {row["table_name"]: (row["partitions_dropped"], row["rows_deleted"]) for row in rows}


async def days_left(connection: Any) -> dict[datetime, int]:
    rows = await connection.fetch(
        f"SELECT date_trunc('day', event_timestamp, 'UTC') AS day, count(*) AS n FROM {EVENTS} "
        "GROUP BY 1"
    )
    return {row["day"]: row["n"] for row in rows}


async def fill_days(
    control: ControlPool, connection: Any, today: datetime, *days: int
) -> dict[datetime, int]:
    """Add 5 events to each of the days before today, each with its partition."""
    starts = [today - timedelta(days=ago) for ago in days]
    await Partitions(control, raw_tables()).ensure({EVENTS: starts})
    for start in starts:
        await fill(connection, 5, start)
    return dict.fromkeys(starts, 5)


async def test_the_guides_call_on_fresh_data_takes_nothing(
    control: ControlPool, connection: Any, today: datetime
) -> None:
    filled = await fill_days(control, connection, today, 0, 89)
    guide = (
        "SELECT * FROM cleanup_old_telemetry_data(events_retention_days => 90, "
        "metrics_retention_days => 180, traces_retention_days => 30)"
    )
    assert await result(connection, guide) == NOTHING
    assert await result(connection, "SELECT * FROM cleanup_old_telemetry_data()") == NOTHING
    assert await days_left(connection) == filled


async def test_whole_days_go_with_their_partitions_up_to_midnight(
    control: ControlPool, connection: Any, today: datetime
) -> None:
    """The partition of n days ago starts at the midnight that is meant, and stays."""
    await fill_days(control, connection, today, 0, 9, 10, 11, 40)
    assert await result(connection, CLEAN_UP, 10) == NOTHING | {EVENTS: (2, 0)}
    assert await days_left(connection) == {today - timedelta(days=ago): 5 for ago in (0, 9, 10)}
    assert await result(connection, CLEAN_UP, 10) == NOTHING


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
async def test_midnight_is_that_of_utc_whatever_the_sessions_zone_and_dates(
    control: ControlPool, connection: Any, today: datetime, zone: str
) -> None:
    await fill_days(control, connection, today, 10, 11)
    await connection.execute(f"SET timezone = '{zone}'; SET datestyle = 'SQL, DMY'")
    assert await result(connection, CLEAN_UP, 10) == NOTHING | {EVENTS: (1, 0)}
    assert await days_left(connection) == {today - timedelta(days=10): 5}


async def test_rows_of_a_partition_that_reaches_further_are_deleted(
    control: ControlPool, connection: Any, today: datetime
) -> None:
    """KPIs lie in months and go by the end of their period, at the microsecond."""
    cutoff = today - timedelta(days=40)
    ends = [cutoff - timedelta(microseconds=1), cutoff, cutoff + timedelta(days=20)]
    await Partitions(control, raw_tables()).ensure({KPIS: [*ends, today - timedelta(days=200)]})
    for end in ends:
        await connection.execute(
            f"INSERT INTO {KPIS} (metric_id, period_start, period_end, period_date, period_type, "
            "metric_name, metric_value, dimensions, time_zone, identity_hash, ingested_at, shard, "
            "flush_id) VALUES (gen_random_uuid(), $1::timestamptz - interval '90 days', $1, "
            "CURRENT_DATE, 'custom', 'm', 1, '{}', 'UTC', gen_random_uuid(), now(), 0, 1)",
            end,
        )
    names = "SELECT count(*) FROM pg_inherits WHERE inhparent = $1::text::regclass"
    before = await connection.fetchval(names, KPIS)
    taken = await result(
        connection, "SELECT * FROM cleanup_old_telemetry_data(metrics_retention_days => 40)"
    )
    dropped, deleted = taken[KPIS]
    kept = await connection.fetch(f"SELECT period_end FROM {KPIS} ORDER BY period_end")
    assert [row["period_end"] for row in kept] == ends[1:]
    # On the first of a month the row lies in a partition that ended, and goes with it.
    assert (dropped, deleted) == ((2, 0) if cutoff.day == 1 else (1, 1))
    assert before - await connection.fetchval(names, KPIS) == dropped


@pytest.mark.parametrize("kind", ["events", "metrics", "traces"])
@pytest.mark.parametrize("days", ["0", "-1", "NULL", str(RETENTION_DAYS + 1), "2147483647"])
async def test_other_days_than_a_policy_can_have_are_refused(
    control: ControlPool, connection: Any, today: datetime, kind: str, days: str
) -> None:
    filled = await fill_days(control, connection, today, 400)
    with pytest.raises(asyncpg.InvalidParameterValueError, match=f"1 to {RETENTION_DAYS} days"):
        await connection.execute(
            f"SELECT * FROM cleanup_old_telemetry_data({kind}_retention_days => {days})"
        )
    assert await days_left(connection) == filled


async def test_a_reader_in_the_way_ends_it_soon_and_nothing_is_gone(
    control: ControlPool, connection: Any, other: Any, today: datetime
) -> None:
    """All or nothing: days that nobody reads are still there as well."""
    filled = await fill_days(control, connection, today, 11, 12)
    await other.fetch(f"SELECT FROM {EVENTS}_p{today - timedelta(days=11):%Y%m%d}")
    with pytest.raises(asyncpg.LockNotAvailableError):
        await connection.execute(CLEAN_UP.replace("$1", "10"))
    assert await days_left(connection) == filled
    await other.execute("ROLLBACK")
    assert await result(connection, CLEAN_UP, 10) == NOTHING | {EVENTS: (2, 0)}


async def test_what_a_server_is_detaching_is_left_to_it(
    control: ControlPool, connection: Any, other: Any, today: datetime
) -> None:
    """A DETACH that was broken off is finished by the one who began it."""
    await fill_days(control, connection, today, 11, 12)
    name = f"{EVENTS}_p{today - timedelta(days=11):%Y%m%d}"
    await other.fetch(f"SELECT FROM {EVENTS}")
    await connection.execute("SET lock_timeout = '50ms'")
    with pytest.raises(asyncpg.LockNotAvailableError):
        await connection.execute(f"ALTER TABLE {EVENTS} DETACH PARTITION {name} CONCURRENTLY")
    await other.execute("ROLLBACK")
    assert await result(connection, CLEAN_UP, 10) == NOTHING | {EVENTS: (1, 0)}
    assert await connection.fetchval(f"SELECT count(*) FROM {name}") == 5
