"""Lanes and flushes written by hand, as the flush writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fernando_telemetry.domain.flush_ids import flush_id_of
from tests.integration.queries.rows import copy, event


def noon() -> datetime:
    """Give a time of today from which some hours back are of today too: its partitions exist."""
    return datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)


async def open_lane(connection: Any, lane: int, last_number: int | None = None) -> None:
    """Insert a lane; without a session that holds it, it is dead."""
    await connection.execute(
        "INSERT INTO lanes (lane, last_number) VALUES ($1, $2)", lane, last_number
    )


async def flush(
    connection: Any,
    lane: int,
    number: int,
    *times: datetime,
    at: datetime | None = None,
    **columns: Any,
) -> int:
    """Commit a flush with an event at each time; gives its id."""
    flush_id = flush_id_of(lane, number)
    at = at or datetime.now(UTC)
    async with connection.transaction():
        if times:
            rows = [event(time, flush_id=flush_id, **columns) for time in times]
            await copy(connection, "telemetry_events", rows)
        await connection.execute(
            "INSERT INTO flushes (committed_on, shard, flush_id, ingested_at, "
            "event_count, event_min_time, event_max_time) VALUES ($1, 0, $2, $3, $4, $5, $6)",
            at.astimezone(UTC).date(),
            flush_id,
            at,
            len(times),
            min(times, default=None),
            max(times, default=None),
        )
    return flush_id


async def day_partition(connection: Any, days_ago: int) -> datetime:
    """Make the partition of `flushes` of a past day; gives a time in it."""
    day = noon() - timedelta(days=days_ago)
    await connection.execute(
        f"CREATE TABLE IF NOT EXISTS flushes_p{day:%Y%m%d} PARTITION OF flushes "
        f"FOR VALUES FROM ('{day:%Y-%m-%d}') TO ('{day + timedelta(days=1):%Y-%m-%d}')"
    )
    return day
