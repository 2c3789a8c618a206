"""Queries on spans and traces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, cast

from fernando_telemetry.domain.errors import (
    CommitTokenNotReached,
    InvalidField,
    InvalidPageToken,
    NotFound,
    QueryTooExpensive,
)
from fernando_telemetry.domain.filter_columns import SPAN_COLUMNS
from fernando_telemetry.domain.flush_ids import parse_commit_token
from fernando_telemetry.domain.identifiers import normal_trace_id
from fernando_telemetry.domain.limits import GRAPH_PARTS, QUERY_ROWS, TRACE_LANES, TRACE_SPANS
from fernando_telemetry.domain.paging import KeyType, PageTokens, Position, page_size
from fernando_telemetry.domain.seen_flushes import SeenFlushes
from fernando_telemetry.domain.service_graph import ServiceGraph
from fernando_telemetry.domain.time_range import ALL_TIME, TimeRange
from fernando_telemetry.domain.trace_summary import TraceSummary, summarized
from fernando_telemetry.domain.trace_tree import PlacedSpan, TraceSpan, TraceTree
from fernando_telemetry.queries.pages import Listing, ListRequest, Take
from fernando_telemetry.queries.shown_traces import ShownTrace, ShownTraces
from fernando_telemetry.storage.lists import SPANS, Row, listed
from fernando_telemetry.storage.service_graph import service_graph
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.snapshots import RETRY_AFTER_SECONDS, Snapshots, shown
from fernando_telemetry.storage.trace_search import TRACE_KEY_TYPES, searched_traces
from fernando_telemetry.storage.traces import outlined_trace, placed_rows, plan_by_trace

__all__ = [
    "GraphRequest",
    "ServiceGraph",
    "TracePage",
    "TraceQueries",
    "TraceRequest",
    "TraceRow",
    "TraceSummary",
]

_SPANS: Final = Listing("ListSpans", "start_time", SPAN_COLUMNS, SPANS.key_types)
_TRACES: Final = Listing("SearchTraces", "start_time", SPAN_COLUMNS, TRACE_KEY_TYPES)
# Of a trace's next page: how many spans were given, how many there are, and what was seen of them.
_PLACE: Final[tuple[KeyType, ...]] = ("int4", "int4", "bytes")
# A span in its place, with the whole row.
TraceRow = tuple[PlacedSpan, Row]


# Put together in less time than a thread takes to begin.
SMALL_TRACE_SPANS: Final = 200


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
class GraphRequest:
    """Which spans a service graph is about.

    Args:
        time_range: Of the called spans' starts.
        license_id: Only spans of this licence; "": all.
        min_commit_token: As in ListRequest.
    """

    time_range: TimeRange
    license_id: str = ""
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
        row_budget: Most spans that a search may be about, and that a service graph may read.
        span_limit: Most spans of a trace that is shown.
        graph_limit: Most services and edges of a service graph.
        uses_chunks: Answer service graphs from calls that are worked out, where they are.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        row_budget: int = QUERY_ROWS,
        span_limit: int = TRACE_SPANS,
        graph_limit: int = GRAPH_PARTS,
        *,
        uses_chunks: bool = True,
    ) -> None:
        self._snapshots = snapshots
        self._row_budget = row_budget
        self._span_limit = span_limit
        self._graph_limit = graph_limit
        self._uses_chunks = uses_chunks
        self._shown = ShownTraces()

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

    async def get_service_graph(self, request: GraphRequest) -> ServiceGraph:
        """Give the services with spans in a time range, and the calls between them.

        Raises:
            InvalidInput: An argument is not allowed; nothing was read.
            QueryTooExpensive: Too many spans, services or edges, or it ran past its time-out.
            DatabaseUnavailable: The database does not answer.
            CommitTokenNotReached: min_commit_token does not show in time.
        """
        if "\0" in request.license_id:
            raise InvalidField("license_id", "a licence has no NUL in it.")
        min_flush_id = parse_commit_token(request.min_commit_token, "min_commit_token")
        async with self._snapshots.opened(min_flush_id) as connection:
            return await service_graph(
                connection,
                request.time_range,
                request.license_id,
                uses_chunks=self._uses_chunks,
                row_budget=self._row_budget,
                most_parts=self._graph_limit,
            )

    async def get_trace(self, request: TraceRequest, take: Take[TraceRow]) -> TracePage:
        """Give a page of one trace's spans, depth-first, and the summary of the whole.

        Later pages are of the trace as the first one saw it: the token carries how far each lane
        had come.

        Raises:
            NotFound: The trace has no spans in the range.
            InvalidInput: An argument is not allowed; nothing was read.
            QueryTooExpensive: It has too many spans, or it ran past its time-out.
            DatabaseUnavailable: The database does not answer.
            CommitTokenNotReached: min_commit_token does not show in time, or the first page's
                spans do not.
        """
        trace_id = normal_trace_id(request.trace_id)
        if trace_id is None:
            raise InvalidField("trace_id", "16 or 32 hexadecimal digits, not all zero, are needed.")
        time_range = request.time_range or ALL_TIME
        size = page_size(request.page_size)
        tokens = PageTokens(_PLACE, "GetTrace", (time_range, trace_id))
        place = tokens.read(request.page_token)
        min_flush_id = parse_commit_token(request.min_commit_token, "min_commit_token")
        shown = self._shown.find(trace_id, time_range, place[2]) if place else None
        async with self._snapshots.opened(min_flush_id) as connection:
            if shown is None:
                shown = await self._put_together(connection, trace_id, time_range, place)
            else:
                await plan_by_trace(connection)
            first = place[0] if place else 0
            placed = shown.tree.placed(first, size)
            given = 0
            if placed:
                rows = placed_rows(connection, trace_id, placed)
                async with aclosing(cast("AsyncGenerator[TraceRow, None]", rows)) as generator:
                    async for row in generator:
                        if not take(row):
                            break
                        given += 1
                    else:
                        # Fewer where the tree is that of an earlier page.
                        await _check_all_show(connection, given, len(placed), shown.seen)
        after = first + given
        if after >= len(shown.tree):
            return TracePage(shown.summary, "")
        if len(shown.seen.of_lanes) > TRACE_LANES:
            raise QueryTooExpensive(
                f"The trace was stored by more than {TRACE_LANES:,} lanes; a shorter time range "
                "shows a part of it."
            )
        if len(shown.tree) > SMALL_TRACE_SPANS:
            self._shown.keep(trace_id, time_range, shown)
        token = tokens.write((after, len(shown.tree), shown.seen.packed()))
        return TracePage(shown.summary, token)

    async def _put_together(
        self,
        connection: Connection,
        trace_id: str,
        time_range: TimeRange,
        place: Position | None,
    ) -> ShownTrace:
        """Read a trace as it is, or as the first page of a later one saw it."""
        spans = await outlined_trace(connection, trace_id, time_range, self._span_limit)
        if place is None:
            seen = SeenFlushes.of(span.flush_id for span in spans)
            if not spans:
                raise NotFound(f"There is no trace {trace_id} in the time range asked for.")
        else:
            seen = SeenFlushes.unpacked(place[2])
            spans = [span for span in spans if seen.has(span.flush_id)]
            await _check_all_show(connection, len(spans), place[1], seen)
        if len(spans) <= SMALL_TRACE_SPANS:
            return _shown_trace(trace_id, spans, seen)
        # Takes a while; other calls go on meanwhile.
        return await asyncio.to_thread(_shown_trace, trace_id, spans, seen)


def _shown_trace(trace_id: str, spans: list[TraceSpan], seen: SeenFlushes) -> ShownTrace:
    tree = TraceTree(spans)
    return ShownTrace(tree, summarized(trace_id, tree), seen)


async def _check_all_show(
    connection: Connection, found: int, wanted: int, seen: SeenFlushes
) -> None:
    """See to it that spans which the first page saw are there.

    Raises:
        CommitTokenNotReached: A replica that is behind the one of the first page does not show
            them yet.
        InvalidPageToken: Retention took some meanwhile.
    """
    if found == wanted:
        return
    flush_ids = seen.of_lanes.values()
    if await shown(connection, flush_ids) != set(flush_ids):
        raise CommitTokenNotReached(
            "The spans of the first page do not show yet in the database that is read.",
            RETRY_AFTER_SECONDS,
        )
    raise InvalidPageToken("Spans of the trace were dropped meanwhile: begin with the first page.")
