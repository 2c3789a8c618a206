"""Rows for the raw tables, and ranges and walks for the lists that read them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from fernando.telemetry.v1 import TimeRange
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.sessions import ControlPool

FLUSH = 1 << 40


def range_of(start: datetime, end: datetime) -> TimeRange:
    """Give a contract's time range."""
    given = TimeRange()
    given.start_time.FromDatetime(start)
    given.end_time.FromDatetime(end)
    return given


def day(start: datetime) -> TimeRange:
    """Give the day that begins at `start`."""
    return range_of(start, start + timedelta(days=1))


async def walk(
    call: Callable[[Any, Any], Awaitable[Any]],
    request: Any,
    field: str,
    between: Callable[[], Awaitable[None]] | None = None,
) -> list[Any]:
    """Read all pages of a list; the request's token is moved along."""
    records: list[Any] = []
    while True:
        response = await call(request, None)
        page = getattr(response, field)
        assert 0 < len(page) <= (request.page_size or 100) or not response.next_page_token
        records += page
        if not response.next_page_token:
            return records
        request.page_token = response.next_page_token
        if between is not None:
            await between()


async def make_partition(control: ControlPool, table: str, time: datetime) -> None:
    """Make the partition of a time where it is not there: that of some hours ago may not be."""
    await Partitions(control, raw_tables()).ensure({table: [time]})


async def copy(connection: Any, table: str, rows: list[dict[str, Any]]) -> None:
    """COPY rows of equal columns."""
    columns = list(rows[0])
    await connection.copy_records_to_table(
        table, records=[tuple(row[column] for column in columns) for row in rows], columns=columns
    )


def event(time: datetime, **columns: Any) -> dict[str, Any]:
    """Give an event's row with the fewest columns, and those given."""
    return {
        "event_id": uuid4(),
        "event_timestamp": time,
        "event_type": "user_action",
        "event_name": "login",
        "ingested_at": time,
        "shard": 0,
        "flush_id": FLUSH,
    } | columns


async def series(connection: Any, **columns: Any) -> tuple[int, UUID]:
    """Insert a series and give its number and its hash."""
    identity = uuid4()
    row = {
        "identity_hash": identity,
        "metric_name": "cpu_usage",
        "metric_type": "gauge",
        "labels": "{}",
    } | columns
    names, values = ", ".join(row), ", ".join(f"${place}" for place in range(1, len(row) + 1))
    number = await connection.fetchval(
        f"INSERT INTO metric_series ({names}) VALUES ({values}) RETURNING series_id", *row.values()
    )
    return number, identity


def sample(series_id: int, time: datetime, value: float, flush_id: int = FLUSH) -> dict[str, Any]:
    """Give a plain sample's row."""
    return {
        "series_id": series_id,
        "time": time,
        "value": value,
        "shard": 0,
        "flush_id": flush_id,
    }


def distribution(series_id: int, time: datetime, ordinal: int, **columns: Any) -> dict[str, Any]:
    """Give the row of a sample with percentiles or buckets."""
    return {
        "series_id": series_id,
        "time": time,
        "ordinal": ordinal,
        "shard": 0,
        "flush_id": FLUSH,
    } | columns


def business_metric(start: datetime, identity: int, **columns: Any) -> dict[str, Any]:
    """Give a KPI version's row: an hour that begins at `start`."""
    return {
        "metric_id": uuid4(),
        "period_start": start,
        "period_end": start + timedelta(hours=1),
        "period_date": start.date(),
        "period_type": "hourly",
        "metric_name": "revenue",
        "metric_value": Decimal("49.90"),
        "dimensions": "{}",
        "time_zone": "UTC",
        "identity_hash": UUID(int=identity),
        "ingested_at": start,
        "shard": 0,
        "flush_id": FLUSH,
    } | columns


def span(trace: int, number: int, time: datetime, ordinal: int, **columns: Any) -> dict[str, Any]:
    """Give a span's row with the fewest columns, and those given."""
    return {
        "trace_id": f"{trace:032x}",
        "span_id": f"{number:016x}",
        "service_name": "shop",
        "start_time": time,
        "tags": json.dumps({}),
        "ingested_at": time,
        "ordinal": ordinal,
        "shard": 0,
        "flush_id": FLUSH,
    } | columns
