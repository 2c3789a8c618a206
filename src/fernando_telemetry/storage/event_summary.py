"""Sums events up by groups and time buckets: whole hours from the roll-up, the rest from raw rows.

What is folded, what is not, and raw rows of ragged ends come from one snapshot, so the answer is
what the raw rows say, at the cost of the groups.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fernando_telemetry.domain.errors import QueryTooExpensive
from fernando_telemetry.domain.event_summary import EventSummary
from fernando_telemetry.domain.grouping import group_column
from fernando_telemetry.domain.limits import EVENT_NAMES_PER_HOUR
from fernando_telemetry.domain.log_histogram import middle_of
from fernando_telemetry.domain.paging import KeyType, Position
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.list_statement import (
    Key,
    Parameters,
    Selection,
    Source,
    compiled,
    filtered,
    order,
    place,
)
from fernando_telemetry.storage.lists import has_more_rows
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("event_summary")

PERCENTILE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Summation:
    """What is summed up, and which page of it.

    Args:
        selection: Its filter is on events, with hours only over columns of the roll-up; its place
            and limit are of groups.
        hours: Whole hours of the range that the roll-up may answer for; None: raw rows alone.
        group_by: Columns of the roll-up.
        bucket: Length of a bucket, counted from 1970-01-01 UTC; None: one for the range.
        counts_users: Count different users; without hours only.
    """

    selection: Selection
    hours: TimeRange | None
    group_by: tuple[str, ...]
    bucket: timedelta | None
    counts_users: bool


def summary_key_types(group_by: Sequence[str]) -> tuple[KeyType, ...]:
    """Give the types of the keys: the bucket, then the value of each column."""
    values: list[KeyType] = ["text"] * len(group_by)
    return ("time", *values)


async def names_are_capped(connection: Connection, hours: TimeRange) -> bool:
    """Tell whether the roll-up counted some names of these hours as `__other__`."""
    return bool(await connection.fetchval(sql.names_are_capped, hours.start, hours.end))


async def summed_up(
    connection: Connection, asked: Summation, row_budget: int
) -> AsyncIterator[tuple[Position, EventSummary]]:
    """Give the groups in order, by bucket and then by the values, each with its place.

    Args:
        connection: Inside a repeatable-read transaction.
        asked: What is summed up.
        row_budget: Most raw events that may be read.

    Raises:
        QueryTooExpensive: More would be.
    """
    await _check_budget(connection, asked, row_budget)
    text, parameters = _statement(asked)
    for row in await connection.fetch(text, *parameters.values):
        values = [row[group_column(number)] for number in range(len(asked.group_by))]
        middle = row["p95_bucket"]
        yield (
            (row["bucket_start"], *values),
            EventSummary(
                row["bucket_start"],
                dict(zip(asked.group_by, values, strict=True)),
                row["event_count"],
                row["error_count"],
                row["unique_licenses"],
                row["unique_users"] if asked.counts_users else None,
                row["avg_duration_ms"],
                None if middle is None else middle_of(middle),
            ),
        )


def _parameters(asked: Summation) -> Parameters:
    whole = asked.selection.time_range
    # Without hours the first raw range is the whole and the second is empty.
    hours = asked.hours
    inner = (hours.start, hours.end) if hours else (whole.end, whole.end)
    return Parameters(whole.start, whole.end, *inner)


async def _check_budget(connection: Connection, asked: Summation, row_budget: int) -> None:
    parameters = _parameters(asked)
    conditions = compiled(asked.selection.conditions, Source("", ()), parameters)
    if await has_more_rows(connection, filtered(sql.raw, conditions), parameters, row_budget):
        raise QueryTooExpensive(
            f"More than {row_budget:,} raw events would be read: buckets are not whole hours, the "
            "filter names a column that is not kept by hour, or users are counted exactly. A "
            "shorter time range reads less."
        )


def _statement(asked: Summation) -> tuple[str, Parameters]:
    parameters = _parameters(asked)
    if asked.hours:
        parameters.add(EVENT_NAMES_PER_HOUR, "bigint")
    selection = asked.selection
    conditions = compiled(selection.conditions, Source("", ()), parameters)
    parts = [filtered(sql.raw, conditions)]
    if asked.hours:
        parts.append(filtered(sql.rolled, conditions))
    bucket = "$1::timestamptz"
    if asked.bucket is not None:
        length = parameters.add(asked.bucket, "interval")
        # What lies in the range only counts, so the first bucket may begin before it.
        bucket = f"date_bin({length}, event_timestamp, timestamptz '1970-01-01 00:00:00+00')"
    names = [group_column(number) for number in range(len(asked.group_by))]
    groups = "".join(
        f", coalesce({column}::text, '') AS {name}"
        for name, column in zip(names, asked.group_by, strict=True)
    )
    keys = ", ".join(["bucket_start", *names])
    source = Source("", (Key("bucket_start", "time"), *(Key(name, "text") for name in names)))
    behind = ""
    if selection.after is not None:
        behind = f"WHERE {' AND '.join(place(source, selection.after, False, parameters))}"
    limit = parameters.add(selection.limit, "bigint")
    users = "count(DISTINCT user_id)" if asked.counts_users else "NULL::int8"
    # Made of fixed expressions and parameters only.
    text = f"""
WITH parts AS MATERIALIZED (
    SELECT {bucket} AS bucket_start{groups}, event_type, license_id, user_id, event_count,
        duration_count, duration_sum, duration_buckets, duration_counts
    FROM ({" UNION ALL ".join(parts)}) AS events
), page AS (
    SELECT {keys}, sum(event_count)::int8 AS event_count,
        coalesce(sum(event_count) FILTER (WHERE event_type = 'error_event'), 0)::int8
            AS error_count,
        count(DISTINCT license_id) AS unique_licenses, {users} AS unique_users,
        sum(duration_sum) / nullif(sum(duration_count), 0)::float8 AS avg_duration_ms
    FROM parts {behind} GROUP BY {keys}
    {order(source.keys, descending=False)} LIMIT {limit}
), running AS (
    SELECT {keys}, bucket, sum(sum(amount)) OVER (PARTITION BY {keys} ORDER BY bucket) AS through,
        sum(sum(amount)) OVER (PARTITION BY {keys}) AS total
    FROM parts JOIN page USING ({keys}), unnest(duration_buckets, duration_counts)
        AS histogram (bucket, amount)
    GROUP BY {keys}, bucket
), percentiles AS (
    SELECT {keys}, min(bucket) AS p95_bucket FROM running
    WHERE through >= ceil({PERCENTILE} * total) GROUP BY {keys}
)
SELECT {keys}, event_count, error_count, unique_licenses, unique_users, avg_duration_ms, p95_bucket
FROM page LEFT JOIN percentiles USING ({keys})
{order(source.keys, descending=False)}"""  # noqa: S608
    return text, parameters
