"""Fills raw tables with rows of licences and days, and counts what is left of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from fernando_telemetry.domain.calendar import midnight
from fernando_telemetry.storage.partitions import Partitions, raw_tables
from fernando_telemetry.storage.sessions import ControlPool

ROWS = 5

# $1 is the time, $2 the licence or NULL, $3 how many.
_INSERTS = {
    "telemetry_events": "INSERT INTO telemetry_events (event_id, event_timestamp, event_type, "
    "event_name, license_id, ingested_at, shard, flush_id) SELECT gen_random_uuid(), "
    "$1::timestamptz + n * interval '1 ms', 'user_action', 'x', $2::text, now(), 0, 1 "
    "FROM generate_series(1, $3::int) AS n",
    "metric_samples": "INSERT INTO metric_samples (series_id, time, value, shard, flush_id) "
    "SELECT (SELECT series_id FROM metric_series WHERE license_id IS NOT DISTINCT FROM $2::text), "
    "$1::timestamptz + n * interval '1 ms', n, 0, 1 FROM generate_series(1, $3::int) AS n",
    "metric_distributions": "INSERT INTO metric_distributions (series_id, time, percentile_50, "
    "ordinal, shard, flush_id) SELECT (SELECT series_id FROM metric_series "
    "WHERE license_id IS NOT DISTINCT FROM $2::text), $1::timestamptz + n * interval '1 ms', n, "
    "n, 0, 1 FROM generate_series(1, $3::int) AS n",
    "business_metric_versions": "INSERT INTO business_metric_versions (metric_id, period_start, "
    "period_end, period_date, period_type, metric_name, metric_value, license_id, dimensions, "
    "time_zone, identity_hash, ingested_at, shard, flush_id) SELECT gen_random_uuid(), "
    "$1::timestamptz - interval '300 days', $1::timestamptz + n * interval '1 ms', '2020-01-01', "
    "'daily', 'x', 1, $2::text, '{}', 'UTC', gen_random_uuid(), now(), 0, 1 "
    "FROM generate_series(1, $3::int) AS n",
    "traces": "INSERT INTO traces (trace_id, span_id, service_name, start_time, license_id, tags, "
    "ingested_at, ordinal, shard, flush_id) SELECT 't', 's', 'x', "
    "$1::timestamptz + n * interval '1 ms', $2::text, '{}', now(), n, 0, 1 "
    "FROM generate_series(1, $3::int) AS n",
}
_TIMES = {
    "telemetry_events": "event_timestamp",
    "metric_samples": "time",
    "metric_distributions": "time",
    "business_metric_versions": "period_end",
    "traces": "start_time",
}
TABLES = tuple(_INSERTS)
Left = set[tuple[str, int]]


def ago(days: int) -> datetime:
    """Give the midnight of so many days ago, as the server that cleans up counts them now."""
    return midnight(datetime.now(UTC)) - timedelta(days=days)


async def add_rows(
    control: ControlPool,
    connection: Any,
    table: str,
    licenses: Iterable[str],
    days: Iterable[int],
    rows: int = ROWS,
) -> None:
    """Add rows behind the midnight of each day, for each licence; "" is none."""
    await connection.executemany(
        "INSERT INTO metric_series (identity_hash, metric_name, metric_type, labels, license_id) "
        "VALUES (md5($1)::uuid, 'm', 'gauge', '{}', nullif($1, '')) "
        "ON CONFLICT (identity_hash) DO NOTHING",
        [(license_id,) for license_id in licenses],
    )
    for day in days:
        await Partitions(control, raw_tables()).ensure({table: [ago(day)]})
        for license_id in licenses:
            await connection.execute(_INSERTS[table], ago(day), license_id or None, rows)


async def rows_left(connection: Any, table: str) -> dict[tuple[str, int], int]:
    """Give the rows by licence and days ago."""
    joined = "JOIN metric_series USING (series_id)" if table.startswith("metric_") else ""
    found = await connection.fetch(
        f"SELECT coalesce(license_id, '') AS license_id, $1::date - ({_TIMES[table]} "
        f"AT TIME ZONE 'UTC')::date AS days, count(*) AS n FROM {table} {joined} GROUP BY 1, 2",
        ago(0),
    )
    return {(row["license_id"], row["days"]): row["n"] for row in found}


async def left(connection: Any, table: str) -> Left:
    """Give which licences have all their rows of which day left; there is no part of them."""
    found = await rows_left(connection, table)
    assert set(found.values()) <= {ROWS}, found
    return set(found)
