"""Queries on spans and traces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fernando_telemetry.domain.errors import InvalidField, NotFound
from fernando_telemetry.domain.filter_columns import SPAN_COLUMNS
from fernando_telemetry.domain.identifiers import normal_trace_id
from fernando_telemetry.domain.limits import QUERY_ROWS
from fernando_telemetry.domain.time_range import ALL_TIME, TimeRange
from fernando_telemetry.domain.trace_summary import TraceSummary
from fernando_telemetry.queries.pages import Listing, ListRequest, Take
from fernando_telemetry.storage.lists import SPANS, TRACE_SPANS, Row, listed
from fernando_telemetry.storage.snapshots import Snapshots
from fernando_telemetry.storage.trace_search import (
    TRACE_KEY_TYPES,
    searched_traces,
    summarized_traces,
)

__all__ = ["TracePage", "TraceQueries", "TraceRequest", "TraceSummary"]

_SPANS: Final = Listing("ListSpans", "start_time", SPAN_COLUMNS, SPANS.key_types)
_TRACES: Final = Listing("SearchTraces", "start_time", SPAN_COLUMNS, TRACE_KEY_TYPES)
_TRACE_SPANS: Final = Listing("GetTrace", "start_time", {}, TRACE_SPANS.key_types)


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """Which trace, and which page of it.

    Args:
        trace_id: 16 or 32 hex digits of either case.
        time_range: Where its spans start, as a hint that spares reading everything; spans
            outside do not count as of the trace. None: no hint.
        page_size: As in ListRequest.
        page_token: As in ListRequest.
        min_commit_token: As in ListRequest.
    """

    trace_id: str
    time_range: TimeRange | None = None
    page_size: int = 0
    page_token: str = ""
    min_commit_token: str = ""


@dataclass(frozen=True, slots=True)
class TracePage:
    """The whole trace summed up, and the token of the page after this one ("": the last)."""

    summary: TraceSummary
    next_page_token: str


class TraceQueries:
    """Answers questions about spans and traces.

    Args:
        snapshots: Of the read database.
        row_budget: Most spans that one question may be about.
    """

    def __init__(self, snapshots: Snapshots, row_budget: int = QUERY_ROWS) -> None:
        self._snapshots = snapshots
        self._row_budget = row_budget

    async def list_spans(self, request: ListRequest, take: Take[Row]) -> str:
        """Give a page of spans, by (start_time, trace_id, span_id, flush, ordinal).

        Returns:
            The next page's token, "" on the last page.

        Raises:
            InvalidInput: An argument is not allowed; nothing was read.
            QueryTooExpensive: It ran past its time-out.
            DatabaseUnavailable: The database does not answer.
            CommitTokenNotReached: min_commit_token does not show in time.
        """
        page = _SPANS.page(request)
        async with self._snapshots.opened(page.min_flush_id) as connection:
            return await page.read(listed(connection, SPANS, page.selection), take)

    async def search_traces(self, request: ListRequest, take: Take[TraceSummary]) -> str:
        """Give a page of the traces with a span that matches, by (earliest start, trace_id).

        Returns:
            The next page's token, "" on the last page.

        Raises:
            InvalidInput: An argument is not allowed; nothing was read.
            QueryTooExpensive: Too many spans match, or it ran past its time-out.
            DatabaseUnavailable: The database does not answer.
            CommitTokenNotReached: min_commit_token does not show in time.
        """
        page = _TRACES.page(request)
        async with self._snapshots.opened(page.min_flush_id) as connection:
            found = searched_traces(connection, page.selection, self._row_budget)
            return await page.read(found, take)

    async def get_trace(self, request: TraceRequest, take: Take[Row]) -> TracePage:
        """Give a page of one trace's spans, oldest first, and the summary of the whole.

        Raises:
            NotFound: The trace has no spans in the range.
            InvalidInput: An argument is not allowed; nothing was read.
            QueryTooExpensive: It ran past its time-out.
            DatabaseUnavailable: The database does not answer.
            CommitTokenNotReached: min_commit_token does not show in time.
        """
        trace_id = normal_trace_id(request.trace_id)
        if trace_id is None:
            raise InvalidField("trace_id", "16 or 32 hexadecimal digits, not all zero, are needed.")
        time_range = request.time_range or ALL_TIME
        page = _TRACE_SPANS.page(
            ListRequest(
                time_range,
                "",
                "start_time",
                request.page_size,
                request.page_token,
                request.min_commit_token,
            ),
            trace_id,
        )
        async with self._snapshots.opened(page.min_flush_id) as connection:
            summaries = await summarized_traces(connection, [trace_id], time_range)
            if not summaries:
                raise NotFound(f"There is no trace {trace_id} in the time range asked for.")
            rows = listed(connection, TRACE_SPANS, page.selection, trace_id)
            return TracePage(summaries[0], await page.read(rows, take))
