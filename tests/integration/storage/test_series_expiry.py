"""Series expire behind their samples, and never from under a writer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.series import SeriesDictionary
from fernando_telemetry.storage.series_admission import SeriesLimits
from fernando_telemetry.storage.series_expiry import SeriesExpiry
from tests.integration.storage.series_sessions import CountingPool, series, users

NOW = datetime.combine(datetime.now(UTC).date(), time(12), UTC)
TODAY = NOW.date()


@pytest.fixture
async def pool(database: str) -> Any:
    opened = CountingPool(database)
    yield opened
    await opened.close()


async def seen_days_ago(connection: Any, pool: CountingPool, *days: int) -> None:
    """Make one series for each number of days since it was seen."""
    dictionary = SeriesDictionary(pool)
    for number in days:
        await dictionary.resolve([series(f"m{number}")], TODAY - timedelta(days=number))


async def names(connection: Any) -> set[str]:
    return {row[0] for row in await connection.fetch("SELECT metric_name FROM metric_series")}


async def test_what_is_unseen_for_the_retention_and_two_days_goes(
    pool: CountingPool, connection: Any
) -> None:
    await seen_days_ago(connection, pool, 0, 31, 32, 33, 200)
    expiry = SeriesExpiry(pool, lambda: 30)
    assert await expiry.expire(NOW) == 2
    assert await names(connection) == {"m0", "m31", "m32"}
    assert await expiry.expire(NOW) == 0
    assert await connection.fetchval("SELECT count(*) FROM series_counts") == 3


async def test_nothing_goes_where_samples_are_kept_for_ever(
    pool: CountingPool, connection: Any
) -> None:
    await seen_days_ago(connection, pool, 5_000)
    assert await SeriesExpiry(pool, lambda: 0).expire(NOW) == 0
    assert await names(connection) == {"m5000"}


async def test_a_series_stays_as_long_as_a_partition_may_hold_its_samples(
    pool: CountingPool, connection: Any
) -> None:
    """Whatever the retention says: the clean-up may be late, or have failed."""
    late = NOW - timedelta(days=50)
    await Partitions(pool, raw_tables()).ensure({"metric_distributions": [late]})
    await seen_days_ago(connection, pool, 49, 50, 51, 52)
    assert await SeriesExpiry(pool, lambda: 30).expire(NOW) == 1
    assert await names(connection) == {"m49", "m50", "m51"}


async def test_a_long_table_goes_in_steps(pool: CountingPool, connection: Any) -> None:
    dictionary = SeriesDictionary(pool)
    await dictionary.resolve(users(0, 12_000), TODAY - timedelta(days=100))
    await dictionary.resolve(users(5_000, 5_010), TODAY)
    before = pool.transactions
    assert await SeriesExpiry(pool, lambda: 30).expire(NOW) == 11_990
    assert pool.transactions - before == 4
    assert await connection.fetchval("SELECT count(*) FROM metric_series") == 10


async def test_an_expired_series_is_made_anew(pool: CountingPool, connection: Any) -> None:
    dictionary = SeriesDictionary(pool)
    former = await dictionary.resolve(users(0, 1), TODAY - timedelta(days=100))
    assert await SeriesExpiry(pool, lambda: 30).expire(NOW) == 1
    again = await dictionary.resolve(users(0, 1), TODAY)
    assert again.values() != former.values()
    ids = await connection.fetch("SELECT series_id FROM metric_series")
    assert [row[0] for row in ids] == [found.series_id for found in again.values()]


async def test_writers_are_never_given_a_series_that_is_gone(
    database: str, pool: CountingPool, connection: Any
) -> None:
    """Old series come back while they are being deleted; each turn starts with all of them old."""
    wanted = users(0, 200)
    writers = [CountingPool(database) for _ in range(3)]
    try:
        for turn in range(15):
            await SeriesDictionary(pool, SeriesLimits(1_000)).resolve(wanted, TODAY)
            await connection.execute(
                "UPDATE metric_series SET seen_on = $1", TODAY - timedelta(days=100 + turn)
            )
            await connection.execute("TRUNCATE series_counts")

            async def resolve(writer: CountingPool) -> set[int]:
                dictionary = SeriesDictionary(writer, SeriesLimits(1_000))
                given: set[int] = set()
                for start in range(0, 200, 20):
                    part = await dictionary.resolve(wanted[start : start + 20], TODAY)
                    given |= {found.series_id for found in part.values()}
                return given

            expiring = asyncio.create_task(SeriesExpiry(pool, lambda: 30).expire(NOW))
            given = await asyncio.gather(*(resolve(writer) for writer in writers))
            await expiring
            rows = await connection.fetch(
                "SELECT series_id FROM metric_series WHERE seen_on = $1", TODAY
            )
            assert [ids - {row[0] for row in rows} for ids in given] == [set(), set(), set()]
            assert len(rows) == 200
    finally:
        for writer in writers:
            await writer.close()
