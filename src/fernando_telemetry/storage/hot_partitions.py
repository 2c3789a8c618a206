"""Reads the newest N rows of hot partitions by a plan of its own, because the planner errs there.

The statistics of a partition that is being written are stale and its indexes are few: for a user
or licence it does not know PostgreSQL walks the time index back through all rows, seconds for
what is found in milliseconds. So a list that asks for equal values of a column with a bloom
(storage/index_sets.py) is cut where hot partitions begin and end. A sample of the hot rows tells
how many rows each way would read:

    along the time index    until the page is full: good for a value that many rows have
    by the blooms           every range of pages that may hold the value: good for a rare one

Sealed partitions are left to the planner: they have their statistics and their indexes.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from operator import itemgetter
from typing import Any, Final

from fernando_telemetry.domain.calendar import MICROSECOND
from fernando_telemetry.domain.filters import Comparison, Condition
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.index_sets import HOT_LOOKUPS
from fernando_telemetry.storage.list_statement import (
    Parameters,
    Selection,
    Source,
    compiled,
)
from fernando_telemetry.storage.partitions import parse_bounds
from fernando_telemetry.storage.rows import RAW_TABLES
from fernando_telemetry.storage.sealing import MARK_PREFIX
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("hot_partitions")

PAGE_BYTES: Final = 8192
# Some ten thousand rows, 3 ms. Less than ten times as much is read sooner than judged.
SAMPLED_PAGES: Final = 300
SMALL_BYTES: Final = 10 * SAMPLED_PAGES * PAGE_BYTES
# Each look takes the same pages, and as a partition grows most of them again: they stay in the
# cache. Other ones each time were read from outside of it, 50 ms where the disk was busy.
_SAME_PAGES: Final = "REPEATABLE (0)"
# Of the blooms' ranges of 64 pages.
ROWS_OF_RANGE: Final = 2_000
# The clock of a replica, or of a primary before a failover, may be behind that of the flushes:
# deltas are looked for up to so much after its time. Later partitions of them are made ahead.
CLOCKS_APART: Final = timedelta(hours=1)
_COLUMNS: Final = {table.name: table.columns for table in RAW_TABLES}


class Plan(Enum):
    """How a stretch is read; the scans that are on: by index, by bitmap, of all rows."""

    PLANNERS = ("on", "on", "on")
    ALONG_TIME = ("on", "off", "off")
    BY_BLOOMS = ("off", "on", "off")
    BY_ONE_KEY = ("on", "on", "off")


async def plan_by(connection: Connection, plan: Plan) -> datetime:
    """Plan the transaction's next statements so, without workers: they start slower than it reads.

    Args:
        connection: Inside a transaction.
        plan: The way.

    Returns:
        The time, by the database's clock.
    """
    row = await connection.fetchrow(sql.plan_by, *plan.value)
    assert row is not None
    now: datetime = row["now"]
    return now


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a list's time range that is read in one way.

    Args:
        time_range: The part.
        source: Read in it.
        plan: The way; None: as the session plans.
    """

    time_range: TimeRange
    source: Source
    plan: Plan | None

    @asynccontextmanager
    async def planned(self, connection: Connection) -> AsyncIterator[None]:
        """Plan the statements within as this stretch wants it."""
        if self.plan is None:
            yield
            return
        await plan_by(connection, self.plan)
        yield
        if self.plan is not Plan.PLANNERS:
            # Not where the statement failed: the transaction ends, and with it what it had set.
            await plan_by(connection, Plan.PLANNERS)


async def stretches(connection: Connection, source: Source, selection: Selection) -> list[Stretch]:
    """Cut a list's time range, in the order in which the list reads.

    Args:
        connection: Inside the list's transaction.
        source: What is read.
        selection: Which rows of it.
    """
    lookups = list(_lookups(source, selection.conditions))
    time_range = _range_left(selection)
    if not lookups or time_range is None:
        return [Stretch(selection.time_range, source, None)]
    rows = await connection.fetch(sql.unsealed, source.table, MARK_PREFIX)
    hot = list(_merged(rows, time_range))
    if not any(one.size >= SMALL_BYTES for one in hot):
        return [Stretch(selection.time_range, source, None)]
    cut: list[Stretch] = []
    behind = time_range.start
    for part in hot:
        if part.time_range.start > behind:
            between = TimeRange(behind, part.time_range.start)
            cut.append(Stretch(between, source, Plan.PLANNERS))
        cut.append(await _judged(connection, source, selection, part))
        behind = part.time_range.end
    if time_range.end > behind:
        cut.append(Stretch(TimeRange(behind, time_range.end), source, Plan.PLANNERS))
    return cut[::-1] if selection.descending else cut


def _lookups(source: Source, conditions: Iterable[Condition]) -> Iterable[Comparison]:
    """Give the conditions that a bloom answers; all conditions of a list have to hold."""
    columns = HOT_LOOKUPS.get(source.table, frozenset())
    for one in conditions:
        if (
            isinstance(one, Comparison)
            and one.column.name in columns
            and one.operator == "="
            and one.value is not None
            and not one.path
        ):
            yield one


def _range_left(selection: Selection) -> TimeRange | None:
    """Give the part of the time range that a page's place has not passed; None: nothing."""
    start, end = selection.time_range.start, selection.time_range.end
    if selection.after is not None:
        time: datetime = selection.after[0]
        if selection.descending:
            end = min(end, time + MICROSECOND)
        else:
            start = max(start, time)
    return TimeRange(start, end) if start < end else None


@dataclass(frozen=True, slots=True)
class _HotPart:
    """The part of a time range that lies in hot partitions that are neighbours."""

    time_range: TimeRange
    partitions: tuple[str, ...]
    size: int


def _merged(rows: Iterable[Any], within: TimeRange) -> list[_HotPart]:
    """Give the parts of a time range that lie in some partitions, by time."""
    merged: list[_HotPart] = []
    for (first, last), row in sorted(
        ((parse_bounds(row["bounds"]), row) for row in rows), key=itemgetter(0)
    ):
        start, end = max(first, within.start), min(last, within.end)
        if start >= end:
            continue
        part = _HotPart(TimeRange(start, end), (row["partition"],), row["bytes"])
        if merged and merged[-1].time_range.end == start:
            before = merged.pop()
            part = _HotPart(
                TimeRange(before.time_range.start, end),
                before.partitions + part.partitions,
                before.size + part.size,
            )
        merged.append(part)
    return merged


async def _judged(
    connection: Connection, source: Source, selection: Selection, part: _HotPart
) -> Stretch:
    """Choose how the rows of a hot part are read, by a sample of its pages."""
    time_range = part.time_range
    if part.size < SMALL_BYTES:
        return Stretch(time_range, source, Plan.PLANNERS)
    parameters = Parameters(time_range.start, time_range.end)
    matching = " AND ".join(compiled(_lookups(source, selection.conditions), source, parameters))
    share = SAMPLED_PAGES * PAGE_BYTES / part.size
    percent = parameters.add(100 * share, "real")
    time = source.keys[0].sql
    # Made of fixed expressions and parameters only.
    row = await connection.fetchrow(
        "SELECT count(*) AS rows, "  # noqa: S608
        # Pages, because the rows of a session lie side by side: one page of them says little.
        f"count(DISTINCT (ctid::text::point)[0]) FILTER (WHERE {matching}) AS matching "
        f"FROM {source.table} TABLESAMPLE SYSTEM ({percent}) {_SAME_PAGES} "
        f"WHERE {time} >= $1 AND {time} < $2",
        *parameters.values,
    )
    assert row is not None
    if is_sooner_by_blooms(row["rows"], row["matching"], share, selection.limit):
        hidden = replace(source, base=without_time_index(source, part.partitions))
        return Stretch(time_range, hidden, Plan.BY_BLOOMS)
    return Stretch(time_range, source, Plan.ALONG_TIME)


def without_time_index(source: Source, partitions: Iterable[str]) -> str:
    """Give a source's base over some partitions, its time being an expression no index is for.

    Without statistics the planner takes any range of times for a few rows, and blooms for dear.
    """
    time = source.keys[0].sql
    others = [column for column in _COLUMNS[source.table] if column != time]
    columns = ", ".join([f"{time} + interval '0' AS {time}", *others])
    # Names of the catalogue and of this package.
    rows = " UNION ALL ".join(
        f"SELECT {columns} FROM {partition}"  # noqa: S608
        for partition in partitions
    )
    return f"WITH {source.table} AS NOT MATERIALIZED ({rows})\n{source.base}"


def is_sooner_by_blooms(rows: int, matching: int, share: float, limit: int) -> bool:
    """Tell whether the blooms read fewer rows than a walk along the time index.

    Args:
        rows: Sampled rows of the time range.
        matching: How many of them match, those of one page counted once.
        share: Of all rows that were sampled, above 0.
        limit: How many rows are wanted.
    """
    present = rows / share
    along_time = min(present, limit * rows / matching) if matching else present
    # A range of pages is read whole where it holds one match or more.
    density = matching / rows if rows else 0.0
    by_blooms = present * -math.expm1(-density * ROWS_OF_RANGE)
    return by_blooms < along_time
