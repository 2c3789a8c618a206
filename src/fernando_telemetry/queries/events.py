"""Queries on events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from fernando_telemetry.domain.event_summary import (
    GROUP_COLUMNS,
    USER_COLUMNS,
    EventSummary,
    check_bucket,
    whole_hours,
)
from fernando_telemetry.domain.filter_columns import EVENT_COLUMNS
from fernando_telemetry.domain.filters import columns_of
from fernando_telemetry.domain.grouping import group_fields
from fernando_telemetry.domain.limits import QUERY_ROWS
from fernando_telemetry.queries.pages import Listing, ListRequest, Take
from fernando_telemetry.storage.event_summary import (
    Summation,
    names_are_capped,
    summary_key_types,
    summed_up,
)
from fernando_telemetry.storage.lists import EVENTS, Row, listed
from fernando_telemetry.storage.snapshots import Snapshots

__all__ = ["EventQueries", "EventSummary"]

_EVENTS: Final = Listing("ListEvents", "event_timestamp", EVENT_COLUMNS, EVENTS.key_types)


class EventQueries:
    """Answers questions about events.

    Args:
        snapshots: Of the read database.
        rollup_days: How long the roll-up by hour is kept; None: it is not, raw rows answer.
        row_budget: Most raw events that one summary may read.
    """

    def __init__(
        self, snapshots: Snapshots, rollup_days: int | None, row_budget: int = QUERY_ROWS
    ) -> None:
        self._snapshots = snapshots
        self._rollup_term = None if rollup_days is None else timedelta(days=rollup_days)
        self._row_budget = row_budget

    async def list_events(self, request: ListRequest, take: Take[Row]) -> str:
        """Give a page of events, by (event_timestamp, event_id).

        Returns:
            The next page's token, "" on the last page.

        Raises:
            InvalidInput: An argument is not allowed; nothing was read.
            QueryTooExpensive: It ran past its time-out.
            DatabaseUnavailable: The database does not answer.
            CommitTokenNotReached: min_commit_token does not show in time.
        """
        page = _EVENTS.page(request)
        async with self._snapshots.opened(page.min_flush_id) as connection:
            return await page.read(listed(connection, EVENTS, page.selection), take)

    async def summarize(
        self,
        request: ListRequest,
        take: Take[EventSummary],
        *,
        group_by: Sequence[str],
        bucket: timedelta | None,
        exact_unique_counts: bool,
    ) -> str:
        """Give a page of counts, by (bucket, values of group_by).

        Args:
            request: Its time range is on event_timestamp; its order_by is not looked at.
            take: Where the counts go.
            group_by: Columns, each once.
            bucket: Length of a time bucket; None: one for the range.
            exact_unique_counts: Count users from raw rows.

        Returns:
            The next page's token, "" on the last page.

        Raises:
            InvalidInput: An argument is not allowed; nothing was read.
            QueryTooExpensive: Too many buckets or raw rows, or it ran past its time-out.
            DatabaseUnavailable: The database does not answer.
            CommitTokenNotReached: min_commit_token does not show in time.
        """
        columns = tuple(field.column for field in group_fields(group_by, GROUP_COLUMNS))
        check_bucket(bucket, request.time_range)
        listing = Listing(
            "SummarizeEvents", "bucket_start", EVENT_COLUMNS, summary_key_types(columns)
        )
        page = listing.page(
            replace(request, order_by="bucket_start"), columns, bucket, exact_unique_counts
        )
        named = {column.name for one in page.selection.conditions for column in columns_of(one)}
        hours = None
        term = self._rollup_term
        if term and named <= set(GROUP_COLUMNS) and not exact_unique_counts:
            # A day less than its term: what is being deleted is not asked for.
            oldest = datetime.now(UTC) - term + timedelta(days=1)
            hours = whole_hours(request.time_range, bucket, oldest)
        async with self._snapshots.opened(page.min_flush_id) as connection:
            if hours and "event_name" in named and await names_are_capped(connection, hours):
                hours = None
            users: Literal["exact", "sketched", "no"] = "no"
            if exact_unique_counts:
                users = "exact"
            elif term and {*columns, *named} <= set(USER_COLUMNS):
                users = "sketched"
            asked = Summation(page.selection, hours, columns, bucket, users)
            return await page.read(summed_up(connection, asked, self._row_budget), take)
