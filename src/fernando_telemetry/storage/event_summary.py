"""Sums events up by groups and time buckets: whole hours from the roll-up, the rest from raw rows.

What is folded, what is not, what was stored without deltas, and raw rows of ragged ends come from
one snapshot, so the answer is what the raw rows say, at the cost of the groups.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from fernando_telemetry.domain.errors import QueryTooExpensive
from fernando_telemetry.domain.event_summary import EventSummary
from fernando_telemetry.domain.filters import columns_of
from fernando_telemetry.domain.grouping import group_column
from fernando_telemetry.domain.limits import EVENT_NAMES_PER_HOUR
from fernando_telemetry.domain.log_histogram import middle_of
from fernando_telemetry.domain.paging import KeyType, Position
from fernando_telemetry.domain.rollup_cover import HOUR
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.domain.user_sketch import estimates
from fernando_telemetry.storage.event_rollup import EVENT_ROLLUP
from fernando_telemetry.storage.event_type_summary import (
    LONGEST_SENT,
    license_counts,
    type_summary,
)
from fernando_telemetry.storage.event_user_counts import bits_of, user_counts
from fernando_telemetry.storage.event_user_rollup import EVENT_USER_ROLLUP
from fernando_telemetry.storage.hot_partitions import CLOCKS_APART, Plan, plan_by
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
from fernando_telemetry.storage.rollup_gaps import NO_GAPS, Gaps, gaps_of
from fernando_telemetry.storage.sent_arrays import percentile_bucket, set_bits
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("event_summary")

# As in the roll-up's p95_bucket.
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
        users: Count different users exactly, which goes without hours only; by sketches, which
            goes where groups and filter name USER_COLUMNS only; or not at all.
    """

    selection: Selection
    hours: TimeRange | None
    group_by: tuple[str, ...]
    bucket: timedelta | None
    users: Literal["exact", "sketched", "no"]

    @property
    def is_by_type(self) -> bool:
        """Whether groups and filter name the type alone."""
        conditions = self.selection.conditions
        named = {column.name for one in conditions for column in columns_of(one)}
        return {*self.group_by, *named} <= {"event_type"}

    @property
    def comes_as_arrays(self) -> bool:
        """Whether histograms and sketches are merged here, and not by PostgreSQL."""
        hours = self.hours
        return (
            hours is not None
            and self.is_by_type
            and self.users == "sketched"
            and hours.end - hours.start <= LONGEST_SENT
        )


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
    flushed_before = None
    if asked.comes_as_arrays:
        # Licences are counted by their key, which rows with their histograms are read for as long
        # as it takes to vacuum them.
        flushed_before = await plan_by(connection, Plan.BY_ONE_KEY) + CLOCKS_APART
    elif asked.hours is not None:
        flushed_before = await connection.fetchval(sql.clock) + CLOCKS_APART
    gaps = await _gaps(connection, asked)
    if asked.hours != asked.selection.time_range or gaps.events:
        await _check_budget(connection, asked, gaps, row_budget)
    text, parameters = _statement(asked, gaps, flushed_before)
    rows = await connection.fetch(text, *parameters.values)
    users = _users(asked, rows)
    whole = asked.selection.time_range.start if asked.bucket is None else None
    for row, unique_users in zip(rows, users, strict=True):
        # As asked for: the first moment of the calendar is -infinity to asyncpg.
        begins = whole or row["bucket_start"]
        values = [row[group_column(number)] for number in range(len(asked.group_by))]
        middle = row["p95_bucket"]
        if middle is None and asked.comes_as_arrays:
            middle = percentile_bucket(row["histograms"], PERCENTILE)
        yield (
            (begins, *values),
            EventSummary(
                begins,
                dict(zip(asked.group_by, values, strict=True)),
                row["event_count"],
                row["error_count"],
                row["unique_licenses"],
                unique_users,
                row["avg_duration_ms"],
                None if middle is None else middle_of(middle),
            ),
        )


def _users(asked: Summation, rows: Sequence[Any]) -> Sequence[int | None]:
    match asked.users:
        case "exact":
            return [int(row["unique_users"]) for row in rows]
        case "sketched":
            if asked.comes_as_arrays:
                return estimates([row["set_bits"] or set_bits(row["sketches"]) for row in rows])
            return estimates([bits_of(row) for row in rows])
        case "no":
            return [None] * len(rows)


@dataclass(frozen=True, slots=True)
class _Gaps:
    """What the roll-ups of whole hours lack."""

    events: Gaps = NO_GAPS
    users: Gaps = NO_GAPS


async def _gaps(connection: Connection, asked: Summation) -> _Gaps:
    if asked.hours is None:
        return _Gaps()
    events = await gaps_of(connection, EVENT_ROLLUP, asked.hours)
    if asked.users != "sketched":
        return _Gaps(events)
    return _Gaps(events, await gaps_of(connection, EVENT_USER_ROLLUP, asked.hours))


def _raw(
    asked: Summation,
    statement: str,
    left_out: str,
    gaps: Gaps,
    conditions: Sequence[str],
    parameters: Parameters,
) -> list[str]:
    """Give the statements of what is read from raw rows: ragged ends, and what hours lack."""
    within = () if asked.hours is None else (asked.hours,)
    lacking = gaps.statements(left_out, "event_timestamp", within, parameters)
    return [filtered(one, conditions) for one in (statement, *lacking)]


def _raw_events(
    asked: Summation, gaps: _Gaps, conditions: Sequence[str], parameters: Parameters
) -> list[str]:
    return _raw(asked, sql.raw, sql.left_out, gaps.events, conditions, parameters)


def _raw_users(
    asked: Summation, gaps: _Gaps, conditions: Sequence[str], parameters: Parameters
) -> list[str]:
    return _raw(asked, sql.raw_users, sql.left_out_users, gaps.users, conditions, parameters)


def _parameters(asked: Summation) -> Parameters:
    whole = asked.selection.time_range
    # Without hours the first raw range is the whole and the second is empty.
    hours = asked.hours
    inner = (hours.start, hours.end) if hours else (whole.end, whole.end)
    return Parameters(whole.start, whole.end, *inner)


async def _check_budget(
    connection: Connection, asked: Summation, gaps: _Gaps, row_budget: int
) -> None:
    parameters = _parameters(asked)
    conditions = compiled(asked.selection.conditions, Source("", ()), parameters)
    text = " UNION ALL ".join(_raw_events(asked, gaps, conditions, parameters))
    if await has_more_rows(connection, text, parameters, row_budget):
        raise QueryTooExpensive(
            f"More than {row_budget:,} raw events would be read: buckets are not whole hours, the "
            "filter names a column that is not kept by hour, users are counted exactly, or "
            "roll-ups were off and are not made up yet. A shorter time range reads less."
        )


def _statement(
    asked: Summation, gaps: _Gaps, flushed_before: datetime | None
) -> tuple[str, Parameters]:
    parameters = _parameters(asked)
    selection = asked.selection
    by_type = asked.is_by_type
    if asked.hours:
        parameters.add(flushed_before, "timestamptz")
        if not by_type:
            parameters.add(EVENT_NAMES_PER_HOUR, "bigint")
    conditions = compiled(selection.conditions, Source("", ()), parameters)
    raw = _raw_events(asked, gaps, conditions, parameters)
    parts = [*raw]
    if asked.hours:
        parts.append(filtered(sql.rolled_by_type if by_type else sql.rolled, conditions))
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
    select = f"{bucket} AS bucket_start{groups}"
    if asked.comes_as_arrays:
        ordered = order(source.keys, descending=False)
        is_hourly = asked.group_by == ("event_type",) and asked.bucket == HOUR
        text = type_summary(
            select,
            keys,
            conditions,
            raw,
            _raw_users(asked, gaps, conditions, parameters),
            behind,
            f"{ordered} LIMIT {limit}",
            is_hourly=is_hourly and not gaps.events,
        )
        return text + ordered, parameters
    users = "count(DISTINCT user_id)" if asked.users == "exact" else "NULL::int8"
    sketches, with_users, bits = "", "", ""
    if asked.users == "sketched":
        counts = user_counts(
            select,
            keys,
            conditions,
            _raw_users(asked, gaps, conditions, parameters),
            by_type=by_type,
            has_hours=asked.hours is not None,
        )
        sketches, bits = f", {counts}", ", components, set_bits"
        with_users = f"LEFT JOIN user_counts USING ({keys})"
    licenses, with_licenses, unique_licenses = "", "", "unique_licenses"
    if asked.hours and by_type:
        licenses = f", license_counts AS (\n{license_counts('parts', select, keys, conditions)}\n)"
        with_licenses = f"LEFT JOIN license_counts USING ({keys})"
        unique_licenses = "license_counts.unique_licenses"
    # Made of fixed expressions and parameters only.
    text = f"""
WITH parts AS MATERIALIZED (
    SELECT {select}, event_type, license_id, user_id, event_count,
        duration_count, duration_sum, duration_buckets, duration_counts
    FROM ({" UNION ALL ".join(parts)}) AS events
), page AS (
    SELECT {keys}, sum(event_count)::int8 AS event_count,
        coalesce(sum(event_count) FILTER (WHERE event_type = 'error_event'), 0)::int8
            AS error_count,
        count(DISTINCT license_id) AS unique_licenses, {users} AS unique_users,
        sum(duration_sum) / nullif(sum(duration_count), 0)::float8 AS avg_duration_ms,
        row_number() OVER () AS place
    FROM parts {behind} GROUP BY {keys}
    {order(source.keys, descending=False)} LIMIT {limit}
), running AS (
    SELECT place, bucket, sum(sum(amount)) OVER (PARTITION BY place ORDER BY bucket) AS through,
        sum(sum(amount)) OVER (PARTITION BY place) AS total
    FROM parts JOIN page USING ({keys}), unnest(duration_buckets, duration_counts)
        AS histogram (bucket, amount)
    GROUP BY place, bucket
), percentiles AS (
    SELECT place, min(bucket) AS p95_bucket FROM running
    WHERE through >= ceil({PERCENTILE} * total) GROUP BY place
){licenses}{sketches}
SELECT {keys}, event_count, error_count, {unique_licenses}, unique_users, avg_duration_ms,
    p95_bucket{bits}
FROM page LEFT JOIN percentiles USING (place) {with_licenses} {with_users}
{order(source.keys, descending=False)}"""  # noqa: S608
    return text, parameters
