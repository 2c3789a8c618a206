"""Queries on events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from fernando_telemetry.domain import paging
from fernando_telemetry.domain.event_summary import (
    GROUP_COLUMNS,
    EventSummary,
    check_bucket,
    checked_group_by,
    whole_hours,
)
from fernando_telemetry.domain.filter_columns import EVENT_COLUMNS
from fernando_telemetry.domain.filters import columns_of, parse
from fernando_telemetry.domain.flush_ids import parse_commit_token
from fernando_telemetry.domain.limits import QUERY_ROWS
from fernando_telemetry.domain.paging import PageTokens
from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.queries.pages import Listing, ListRequest, Take, page_of
from fernando_telemetry.storage.event_summary import (
    Summation,
    names_are_capped,
    summary_key_types,
    summed_up,
)
from fernando_telemetry.storage.lists import EVENTS, Row, listed
from fernando_telemetry.storage.snapshots import Snapshots

__all__ = ["EventQueries", "EventSummary", "SummaryRequest"]

_EVENTS: Final = Listing("ListEvents", "event_timestamp", EVENT_COLUMNS, EVENTS.key_types)


@dataclass(frozen=True, slots=True)
class SummaryRequest:
    """Which events are summed up, and how.

    Args:
        time_range: On event_timestamp.
        filter: As in ListRequest.
        group_by: Columns, each once.
        bucket: Length of a time bucket; None: one for the range.
        exact_unique_counts: Count users from raw rows.
        page_size: As in ListRequest.
        page_token: As in ListRequest.
        min_commit_token: As in ListRequest.
    """

    time_range: TimeRange
    filter: str = ""
    group_by: tuple[str, ...] = ()
    bucket: timedelta | None = None
    exact_unique_counts: bool = False
    page_size: int = 0
    page_token: str = ""
    min_commit_token: str = ""


class EventQueries:
    """Answers questions about events.

    Args:
        snapshots: Of the read database.
        rollup_days: How long the roll-up by hour is kept.
        row_budget: Most raw events that one summary may read.
    """

    def __init__(
        self, snapshots: Snapshots, rollup_days: int, row_budget: int = QUERY_ROWS
    ) -> None:
        self._snapshots = snapshots
        self._rollup_term = timedelta(days=rollup_days)
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

    async def summarize(self, request: SummaryRequest, take: Take[EventSummary]) -> str:
        """Give a page of counts, by (bucket, values of group_by).

        Returns:
            The next page's token, "" on the last page.

        Raises:
            InvalidInput: An argument is not allowed; nothing was read.
            QueryTooExpensive: Too many buckets or raw rows, or it ran past its time-out.
            DatabaseUnavailable: The database does not answer.
            CommitTokenNotReached: min_commit_token does not show in time.
        """
        size = paging.page_size(request.page_size)
        group_by = checked_group_by(request.group_by)
        conditions = parse(request.filter, EVENT_COLUMNS)
        check_bucket(request.bucket, request.time_range)
        arguments = (
            request.time_range,
            request.filter,
            group_by,
            request.bucket,
            request.exact_unique_counts,
        )
        tokens = PageTokens(summary_key_types(group_by), "SummarizeEvents", arguments)
        after = tokens.read(request.page_token)
        min_flush_id = parse_commit_token(request.min_commit_token, "min_commit_token")
        # A day less than its term: what is being deleted is not asked for.
        oldest = datetime.now(UTC) - self._rollup_term + timedelta(days=1)
        named = {column.name for one in conditions for column in columns_of(one)}
        hours = None
        if named <= set(GROUP_COLUMNS) and not request.exact_unique_counts:
            hours = whole_hours(request.time_range, request.bucket, oldest)
        async with self._snapshots.opened(min_flush_id) as connection:
            if hours and "event_name" in named and await names_are_capped(connection, hours):
                hours = None
            asked = Summation(
                request.time_range,
                hours,
                conditions,
                group_by,
                request.bucket,
                request.exact_unique_counts,
                after,
                size + 1,
            )
            return await page_of(tokens, size, summed_up(connection, asked, self._row_budget), take)
