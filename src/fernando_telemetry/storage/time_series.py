"""Computes time series: aligns the samples of each series, reduces those of a group.

The series are found before (time_series_groups.py), in the same snapshot, so that samples are read
by their ids. Lines are computed for some groups at a time, as many as may fill a page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from fernando_telemetry.domain.alignment import GROWTHS, PERCENTILES, Aggregation
from fernando_telemetry.domain.calendar import EPOCH
from fernando_telemetry.domain.distributions import Merged, percentile
from fernando_telemetry.domain.errors import QueryTooExpensive
from fernando_telemetry.domain.paging import Position
from fernando_telemetry.domain.rollup_cover import by_raw_rows
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.hot_partitions import CLOCKS_APART, Plan, plan_by
from fernando_telemetry.storage.list_samples import series_by_id
from fernando_telemetry.storage.list_statement import Parameters
from fernando_telemetry.storage.lists import Row
from fernando_telemetry.storage.rollup_gaps import NO_GAPS, Gaps, gaps_of
from fernando_telemetry.storage.sample_rollup import SAMPLE_ROLLUP
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.time_series_groups import Computation, Group, Member
from fernando_telemetry.storage.time_series_statement import lines_statement, merged_statement

# What a page of 2 MiB can hold, and what a statement computes at once.
POINTS_AT_ONCE: Final = 110_000
MERGED_ROWS_AT_ONCE: Final = 500
# A counter's first growth needs the sample before the range.
SHORTEST_LOOK_BACK: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Line:
    """One computed series: equally long lists, by time, of the buckets that have a value.

    Args:
        series: The series; None: it is of a group, or expiry took it.
        group: Value of each field of `group_by`, by its path; "" where it is not set.
        bucket_micros: First moment of each bucket in Unix microseconds.
        values: One a bucket.
        sample_counts: One a bucket.
    """

    series: Row | None
    group: Mapping[str, str]
    bucket_micros: Sequence[int]
    values: Sequence[float]
    sample_counts: Sequence[int]


async def lines(
    connection: Connection,
    asked: Computation,
    groups: Sequence[Group],
    wanted: int,
    row_budget: int,
) -> AsyncIterator[tuple[Position, Line]]:
    """Give the lines of groups in their order, each with its place; those without a value are not.

    Args:
        connection: Inside a repeatable-read transaction.
        asked: What is computed.
        groups: In order.
        wanted: How many lines will be taken at most.
        row_budget: Most samples that may be read.

    Raises:
        QueryTooExpensive: More would be.
    """
    now = await plan_by(connection, Plan.BY_ONE_KEY)
    gaps = NO_GAPS
    if asked.cover.minutes or asked.cover.hours:
        gaps = await gaps_of(connection, SAMPLE_ROLLUP, asked.time_range)
    reading = _Reading(connection, asked, gaps, row_budget, now + CLOCKS_APART)
    at_once = max(1, min(wanted, POINTS_AT_ONCE // asked.buckets.count))
    done = 0
    while done < len(groups):
        some = groups[done : done + at_once]
        done += len(some)
        computed = await reading.computed(some)
        identities: dict[int, Row] = {}
        if asked.reduce is None:
            ids = [group.members[0].series_id for group, _ in computed]
            identities = await series_by_id(connection, ids)
        for group, points in computed:
            yield group.place, _line(asked, group, points, identities)
        if 2 * len(computed) < len(some):
            # Most of them have no samples, so that more of them fit.
            at_once *= 2


@dataclass(frozen=True, slots=True)
class _Points:
    """The buckets of one key that have samples; `values` may have None."""

    buckets: list[int] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    last_times: list[int] = field(default_factory=list)


class _Reading:
    """Reads the samples of some groups after the other, all within one budget."""

    def __init__(
        self,
        connection: Connection,
        asked: Computation,
        gaps: Gaps,
        row_budget: int,
        flushed_before: datetime,
    ) -> None:
        self._connection = connection
        self._gaps = gaps
        self._flushed_before = flushed_before
        self._asked = asked
        self._budget = row_budget
        self._left = row_budget

    async def computed(self, groups: Sequence[Group]) -> list[tuple[Group, _Points]]:
        """Give the groups that have values."""
        asked = self._asked
        if asked.align not in PERCENTILES or asked.reduce in (None, asked.align):
            found = await self._points([group.members for group in groups])
        else:
            found = [await self._reduced(group) for group in groups]
        return [
            (group, points)
            for group, points in zip(groups, found, strict=True)
            if any(value is not None for value in points.values)
        ]

    async def _reduced(self, group: Group) -> _Points:
        """Reduce percentiles of one group's series, some series at a time."""
        at_once = max(1, POINTS_AT_ONCE // self._asked.buckets.count)
        best: dict[int, tuple[float, int, tuple[int, int]]] = {}
        for first in range(0, len(group.members), at_once):
            some = group.members[first : first + at_once]
            for place, points in enumerate(await self._points([(one,) for one in some])):
                _reduce_into(best, points, self._asked.reduce, first + place)
        rows = sorted(best.items())
        return _Points(
            [bucket for bucket, _ in rows],
            [value for _, (value, _, _) in rows],
            [samples for _, (_, samples, _) in rows],
        )

    async def _points(self, keyed: Sequence[Sequence[Member]]) -> list[_Points]:
        """Give the points of each key's members."""
        members = [(key, member) for key, some in enumerate(keyed) for member in some]
        differences = any(
            member.is_cumulative and member.metric_type != "counter" for _, member in members
        )
        asked = self._asked
        parameters = self._parameters(members)
        cover = asked.cover
        if differences or asked.align in GROWTHS:
            cover = by_raw_rows(self._range_read(differences=differences))
        statement = lines_statement(
            asked.align,
            asked.reduce,
            asked.conditions,
            cover,
            self._gaps,
            parameters,
            flushed_before=self._flushed_before,
            differences=differences,
        )
        found = [_Points() for _ in keyed]
        rows = await self._connection.fetch(statement, *parameters.values)
        self._spend(rows[0]["rows_read"])
        for row in rows:
            if row["key"] is not None:
                found[row["key"]] = _Points(
                    row["buckets"], row["values"], row["samples"], row["last_times"] or []
                )
        if asked.align in PERCENTILES:
            await self._merge(found, members, differences=differences)
        return found

    async def _merge(
        self, found: list[_Points], members: list[tuple[int, Member]], *, differences: bool
    ) -> None:
        """Put percentiles of merged distributions where there are some."""
        places = [
            {micros: place for place, micros in enumerate(points.buckets)} for points in found
        ]
        share = PERCENTILES[self._asked.align]
        parameters = self._parameters(members)
        statement = merged_statement(
            self._asked.conditions,
            self._range_read(differences=differences),
            parameters,
            differences=differences,
        )
        at: tuple[int, int] | None = None
        parts: list[Merged] = []

        def put() -> None:
            if at is not None:
                key, micros = at
                found[key].values[places[key][micros]] = percentile(parts, share)

        cursor = await self._connection.cursor(statement, *parameters.values)
        while rows := await cursor.fetch(MERGED_ROWS_AT_ONCE):
            for row in rows:
                if at != (row["key"], row["micros"]):
                    put()
                    at, parts = (row["key"], row["micros"]), []
                parts.append(Merged(row["upper_bounds"], row["counts"], row["low"], row["high"]))
        put()

    def _parameters(self, members: list[tuple[int, Member]]) -> Parameters:
        asked = self._asked
        return Parameters(
            [member.series_id for _, member in members],
            [key for key, _ in members],
            [member.is_cumulative for _, member in members],
            asked.time_range.start,
            asked.buckets.period,
            self._left + 1,
        )

    def _range_read(self, *, differences: bool) -> TimeRange:
        """Give the range with what is in front of it, where what came in is asked for."""
        asked = self._asked
        start = asked.time_range.start
        if differences or asked.align in GROWTHS:
            back = max(asked.buckets.period, SHORTEST_LOOK_BACK)
            start = max(start, EPOCH + back) - back
        return TimeRange(start, asked.time_range.end)

    def _spend(self, rows: int) -> None:
        self._left -= rows
        if self._left < 0:
            raise QueryTooExpensive(
                f"More than {self._budget:,} samples would be read for this page. A shorter time "
                "range, fewer series or a smaller page_size reads less."
            )


def _reduce_into(
    best: dict[int, tuple[float, int, tuple[int, int]]],
    points: _Points,
    reduce: Aggregation | None,
    place: int,
) -> None:
    """Take a series' values into what its group has so far: value, samples, (last time, place)."""
    for bucket, value, samples, last_time in zip(
        points.buckets, points.values, points.samples, points.last_times, strict=True
    ):
        if value is None:
            continue
        before = best.get(bucket)
        of = (last_time, place)
        if before is None:
            best[bucket] = (1.0 if reduce == "count" else value, samples, of)
            continue
        known, count, at = before
        match reduce:
            case "min":
                known = min(known, value)
            case "max":
                known = max(known, value)
            case "count":
                known += 1.0
            case "last":
                known = value if of > at else known
            case _:
                raise AssertionError(reduce)
        best[bucket] = (known, count + samples, max(at, of))


def _line(asked: Computation, group: Group, points: _Points, identities: Mapping[int, Row]) -> Line:
    rows = [
        (micros, value, samples)
        for micros, value, samples in zip(
            points.buckets, points.values, points.samples, strict=True
        )
        if value is not None
    ]
    micros, values, samples = (list(column) for column in zip(*rows, strict=True))
    named: dict[str, Any] = {}
    if asked.reduce is not None:
        named = dict(zip((one.path for one in asked.fields), group.place, strict=True))
    series = identities.get(group.members[0].series_id) if asked.reduce is None else None
    return Line(series, named, micros, values, samples)
