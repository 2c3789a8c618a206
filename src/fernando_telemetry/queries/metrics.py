"""Queries on system metrics and on business metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from fernando_telemetry.domain.alignment import (
    GROWTHS,
    PERCENTILES,
    Aggregation,
    GapFill,
    buckets_of,
    check_aggregations,
    check_types,
    filled,
)
from fernando_telemetry.domain.errors import InvalidField
from fernando_telemetry.domain.filter_columns import (
    BUSINESS_METRIC_COLUMNS,
    SERIES_COLUMNS,
    SYSTEM_METRIC_COLUMNS,
    Columns,
    ColumnType,
)
from fernando_telemetry.domain.filters import Comparison
from fernando_telemetry.domain.grouping import group_column, group_fields
from fernando_telemetry.domain.limits import QUERY_ROWS
from fernando_telemetry.domain.paging import Position
from fernando_telemetry.domain.rollup_cover import Cover, by_raw_rows, cover_of
from fernando_telemetry.domain.time_range import ALL_TIME, TimeRange
from fernando_telemetry.queries.pages import Listing, ListRequest, Take
from fernando_telemetry.storage.business_metric_summaries import (
    summarized_business_metrics,
    summary_key_types,
)
from fernando_telemetry.storage.list_samples import (
    SAMPLE_KEY_TYPES,
    SampleRow,
    is_of_series,
    listed_samples,
)
from fernando_telemetry.storage.list_series import SERIES_KEY_TYPES, listed_series
from fernando_telemetry.storage.lists import (
    CURRENT_BUSINESS_METRICS,
    EVERY_BUSINESS_METRIC,
    Row,
    listed,
)
from fernando_telemetry.storage.rollup import RollupTerms
from fernando_telemetry.storage.snapshots import Snapshots
from fernando_telemetry.storage.time_series import Line, lines
from fernando_telemetry.storage.time_series_groups import Computation, Group, groups_of

_SYSTEM_METRICS: Final = Listing(
    "ListSystemMetrics", "metric_timestamp", SYSTEM_METRIC_COLUMNS, SAMPLE_KEY_TYPES
)
_SERIES: Final = Listing("ListMetricSeries", "metric_name", SERIES_COLUMNS, SERIES_KEY_TYPES)
_CURRENT_BUSINESS_METRICS: Final = Listing(
    "ListBusinessMetrics",
    "period_start",
    BUSINESS_METRIC_COLUMNS,
    CURRENT_BUSINESS_METRICS.key_types,
)
_EVERY_BUSINESS_METRIC: Final = Listing(
    "ListBusinessMetrics",
    "period_start",
    BUSINESS_METRIC_COLUMNS,
    EVERY_BUSINESS_METRIC.key_types,
)


def _groupable(columns: Columns) -> frozenset[str]:
    """Give the columns that groups may differ in: moments, values and ids make no groups."""
    kinds = (ColumnType.TEXT, ColumnType.ENUM)
    return frozenset(name for name, column in columns.items() if column.type in kinds)


_BUSINESS_GROUPS: Final = _groupable(BUSINESS_METRIC_COLUMNS)
_SERIES_GROUPS: Final = _groupable(SERIES_COLUMNS)

__all__ = ["Line", "MetricQueries", "SeriesRequest", "TimeSeriesRequest", "group_column"]


@dataclass(frozen=True, slots=True)
class SeriesRequest:
    """Which series, and which page of them.

    Args:
        filter: As in ListRequest, over the columns of a series.
        active_in: Only series with a sample in it. None: all.
        page_size: As in ListRequest.
        page_token: As in ListRequest.
        min_commit_token: As in ListRequest.
    """

    filter: str = ""
    active_in: TimeRange | None = None
    page_size: int = 0
    page_token: str = ""
    min_commit_token: str = ""


@dataclass(frozen=True, slots=True)
class TimeSeriesRequest:
    """Which time series to compute.

    Args:
        listing: Range, filter and page; its order_by is not looked at.
        metric_name: The metric.
        alignment_period: Length of a bucket; None: not given.
        align: How the samples of a series in a bucket become one value.
        reduce: How the series of a group become one; None: every series is kept.
        group_by: Columns and labels that groups differ in.
        gap_fill: What stands in a bucket without a value.
    """

    listing: ListRequest
    metric_name: str
    alignment_period: timedelta | None
    align: Aggregation
    reduce: Aggregation | None
    group_by: tuple[str, ...]
    gap_fill: GapFill


class MetricQueries:
    """Answers questions about system metrics and business metrics.

    Args:
        snapshots: Of the read database.
        terms: How long roll-ups are kept; None: there are none.
        row_budget: Most samples that a page of time series may read.
    """

    def __init__(
        self, snapshots: Snapshots, terms: RollupTerms | None, row_budget: int = QUERY_ROWS
    ) -> None:
        self._snapshots = snapshots
        self._terms = terms
        self._row_budget = row_budget

    async def list_system_metrics(self, request: ListRequest, take: Take[SampleRow]) -> str:
        """Give a page of samples, by (time, series, flush, ordinal, value).

        Returns:
            The next page's token, "" on the last page.

        Raises:
            InvalidInput: An argument is not allowed; nothing was read.
            QueryTooExpensive: It ran past its time-out.
            DatabaseUnavailable: The database does not answer.
            CommitTokenNotReached: min_commit_token does not show in time.
        """
        page = _SYSTEM_METRICS.page(request)
        async with self._snapshots.opened(page.min_flush_id) as connection:
            return await page.read(listed_samples(connection, page.selection), take)

    async def compute_time_series(self, request: TimeSeriesRequest, take: Take[Line]) -> str:
        """Give a page of time series: by age of the series, reduced ones by values of `group_by`.

        Returns:
            The next page's token, "" on the last page.

        Raises:
            InvalidInput: An argument is not allowed, or makes no sense for the metric.
            QueryTooExpensive: Too many buckets or samples, or it ran past its time-out.
            DatabaseUnavailable: The database does not answer.
            CommitTokenNotReached: min_commit_token does not show in time.
        """
        if not request.metric_name or "\0" in request.metric_name:
            raise InvalidField("metric_name", "required: a name without NUL.")
        time_range = request.listing.time_range
        buckets = buckets_of(time_range, request.alignment_period)
        fields = group_fields(request.group_by, _SERIES_GROUPS, "labels")
        check_aggregations(request.align, request.reduce, request.group_by)
        asked = Computation(
            time_range,
            buckets,
            request.align,
            request.reduce,
            fields,
            (),
            by_raw_rows(time_range),
        )
        listing = Listing(
            "QuerySystemMetrics", "metric_timestamp", SYSTEM_METRIC_COLUMNS, asked.key_types
        )
        # Bound to all arguments but those of the page.
        arguments = replace(request, listing=ListRequest(time_range))
        page = listing.page(replace(request.listing, order_by="metric_timestamp"), arguments)
        selection = page.selection
        name = Comparison(SYSTEM_METRIC_COLUMNS["metric_name"], "=", request.metric_name, 0)
        of_series = [one for one in selection.conditions if is_of_series(one)]
        of_samples = tuple(one for one in selection.conditions if one not in of_series)
        asked = replace(asked, conditions=of_samples)
        if not of_samples and request.align not in (*PERCENTILES, *GROWTHS):
            asked = replace(asked, cover=self._cover(time_range, buckets.period))

        def take_filled(line: Line) -> bool:
            micros, values, counts = filled(
                buckets, request.gap_fill, line.bucket_micros, line.values, line.sample_counts
            )
            return take(replace(line, bucket_micros=micros, values=values, sample_counts=counts))

        async with self._snapshots.opened(page.min_flush_id) as connection:
            groups = await groups_of(connection, asked, [name, *of_series])
            check_types(
                request.align,
                request.reduce,
                {member.metric_type for group in groups for member in group.members},
            )
            _check_units(request, groups)
            left = _behind(groups, selection.after)
            rows = lines(connection, asked, left, selection.limit, self._row_budget)
            return await page.read(rows, take_filled)

    def _cover(self, time_range: TimeRange, period: timedelta) -> Cover:
        if self._terms is None:
            return by_raw_rows(time_range)
        # A day less than its term: what is being deleted is not asked for.
        oldest = self._terms.oldest(datetime.now(UTC) + timedelta(days=1))
        return cover_of(time_range, period, oldest["minute"], oldest["hour"])

    async def list_series(self, request: SeriesRequest, take: Take[Row]) -> str:
        """Give a page of series, by (metric_name, age).

        Returns:
            The next page's token, "" on the last page.

        Raises:
            InvalidInput: An argument is not allowed; nothing was read.
            QueryTooExpensive: It ran past its time-out.
            DatabaseUnavailable: The database does not answer.
            CommitTokenNotReached: min_commit_token does not show in time.
        """
        active_only = request.active_in is not None
        page = _SERIES.page(
            ListRequest(
                request.active_in or ALL_TIME,
                request.filter,
                "metric_name",
                request.page_size,
                request.page_token,
                request.min_commit_token,
            ),
            active_only,
        )
        async with self._snapshots.opened(page.min_flush_id) as connection:
            rows = listed_series(connection, page.selection, active_only=active_only)
            return await page.read(rows, take)

    async def list_business_metrics(
        self, request: ListRequest, take: Take[Row], *, include_superseded: bool
    ) -> str:
        """Give a page of KPIs.

        Current ones come by (period_start, period_end, identity), all versions by
        (period_start, metric_id).

        Args:
            request: Its time range is on period_start.
            take: Where the rows go.
            include_superseded: Give all versions, not only the current one of each period and
                identity. Which one is current is decided before the filter is applied.

        Returns:
            The next page's token, "" on the last page.

        Raises:
            InvalidInput: An argument is not allowed; nothing was read.
            QueryTooExpensive: It ran past its time-out.
            DatabaseUnavailable: The database does not answer.
            CommitTokenNotReached: min_commit_token does not show in time.
        """
        listing = _EVERY_BUSINESS_METRIC if include_superseded else _CURRENT_BUSINESS_METRICS
        source = EVERY_BUSINESS_METRIC if include_superseded else CURRENT_BUSINESS_METRICS
        page = listing.page(request, include_superseded)
        async with self._snapshots.opened(page.min_flush_id) as connection:
            return await page.read(listed(connection, source, page.selection), take)

    async def summarize_business_metrics(
        self,
        request: ListRequest,
        take: Take[Row],
        *,
        period_type: str | None,
        group_by: Sequence[str],
    ) -> str:
        """Give a page of sums of current KPIs, by name, category, unit, currency, period, group.

        Args:
            request: Its time range is on period_start; its order_by is not looked at.
            take: Where the rows go; the group's values are in `group_column` of each place.
            period_type: Only periods of this type; None: all, each by itself.
            group_by: Further columns, and keys of `dimensions`.

        Returns:
            The next page's token, "" on the last page.

        Raises:
            InvalidInput: An argument is not allowed; nothing was read.
            QueryTooExpensive: It ran past its time-out.
            DatabaseUnavailable: The database does not answer.
            CommitTokenNotReached: min_commit_token does not show in time.
        """
        fields = group_fields(group_by, _BUSINESS_GROUPS, "dimensions")
        listing = Listing(
            "SummarizeBusinessMetrics",
            "metric_name",
            BUSINESS_METRIC_COLUMNS,
            summary_key_types(fields),
        )
        page = listing.page(replace(request, order_by="metric_name"), period_type, fields)
        selection = page.selection
        if period_type is not None:
            column = BUSINESS_METRIC_COLUMNS["period_type"]
            only = Comparison(column, "=", period_type, 0)
            selection = replace(selection, conditions=(*selection.conditions, only))
        async with self._snapshots.opened(page.min_flush_id) as connection:
            rows = summarized_business_metrics(connection, selection, fields)
            return await page.read(rows, take)


def _check_units(request: TimeSeriesRequest, groups: Sequence[Group]) -> None:
    """Refuse to reduce values of different units to one.

    Raises:
        InvalidField: A group has some.
    """
    if "count" in (request.align, request.reduce):
        return
    for group in groups:
        units = sorted({member.metric_unit for member in group.members})
        if len(units) > 1:
            raise InvalidField(
                "reduce",
                f"a group has series of the units {units[0]!r} and {units[1]!r}; group by "
                "metric_unit, or filter on one.",
            )


def _behind(groups: Sequence[Group], after: Position | None) -> Sequence[Group]:
    """Give the groups behind a place, in the order that PostgreSQL sorted them in: by bytes."""
    if after is None:
        return groups
    return [group for group in groups if _by_bytes(group.place) > _by_bytes(after)]


def _by_bytes(place: Position) -> tuple[object, ...]:
    return tuple(key.encode() if isinstance(key, str) else key for key in place)
