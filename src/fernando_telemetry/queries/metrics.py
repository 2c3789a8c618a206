"""Queries on system metrics and on business metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from fernando_telemetry.domain.filter_columns import (
    BUSINESS_METRIC_COLUMNS,
    SERIES_COLUMNS,
    SYSTEM_METRIC_COLUMNS,
    ColumnType,
)
from fernando_telemetry.domain.filters import Comparison
from fernando_telemetry.domain.grouping import group_column, group_fields
from fernando_telemetry.domain.time_range import ALL_TIME, TimeRange
from fernando_telemetry.queries.pages import Listing, ListRequest, Take
from fernando_telemetry.storage.business_metric_summaries import (
    summarized_business_metrics,
    summary_key_types,
)
from fernando_telemetry.storage.list_samples import SAMPLE_KEY_TYPES, SampleRow, listed_samples
from fernando_telemetry.storage.list_series import SERIES_KEY_TYPES, listed_series
from fernando_telemetry.storage.lists import (
    CURRENT_BUSINESS_METRICS,
    EVERY_BUSINESS_METRIC,
    Row,
    listed,
)
from fernando_telemetry.storage.snapshots import Snapshots

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

# Moments and values make no groups.
_BUSINESS_GROUPS: Final = frozenset(
    name
    for name, column in BUSINESS_METRIC_COLUMNS.items()
    if column.type in (ColumnType.TEXT, ColumnType.ENUM)
)

__all__ = ["MetricQueries", "SeriesRequest", "group_column"]


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


class MetricQueries:
    """Answers questions about system metrics and business metrics.

    Args:
        snapshots: Of the read database.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

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
