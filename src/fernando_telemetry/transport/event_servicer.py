"""EventService."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from fernando.telemetry.v1 import (
    ListEventsRequest,
    ListEventsResponse,
    SummarizeEventsRequest,
    SummarizeEventsResponse,
    TailEventsRequest,
    TailEventsResponse,
)
from fernando.telemetry.v1.event_service_pb2_grpc import EventServiceServicer
from fernando_telemetry.queries.events import EventQueries
from fernando_telemetry.queries.tails import Tailed, Tails
from fernando_telemetry.transport.converters.event import (
    bucket_of,
    event_message,
    event_summary_message,
    tail_request,
    tail_response,
)
from fernando_telemetry.transport.converters.query import list_request, summary_request
from fernando_telemetry.transport.pages import PageOf


class EventService(EventServiceServicer):
    """Answers for events.

    Args:
        queries: The read path of events.
        tails: Follow what is committed.
    """

    def __init__(self, queries: EventQueries, tails: Tails) -> None:
        self._queries = queries
        self._tails = tails

    async def ListEvents(self, request: ListEventsRequest, context: Any) -> ListEventsResponse:
        """Give a page of events."""
        page = PageOf(event_message)
        token = await self._queries.list_events(list_request(request), page.take)
        return ListEventsResponse(events=page.records, next_page_token=token)

    async def SummarizeEvents(
        self, request: SummarizeEventsRequest, context: Any
    ) -> SummarizeEventsResponse:
        """Give a page of counts."""
        page = PageOf(event_summary_message)
        token = await self._queries.summarize(
            summary_request(request),
            page.take,
            group_by=request.group_by,
            bucket=bucket_of(request),
            exact_unique_counts=request.exact_unique_counts,
        )
        return SummarizeEventsResponse(summaries=page.records, next_page_token=token)

    async def TailEvents(
        self, request: TailEventsRequest, context: Any
    ) -> AsyncIterator[TailEventsResponse]:
        """Send events as they are committed."""
        found = cast("AsyncGenerator[Tailed, None]", self._tails.follow(tail_request(request)))
        async with aclosing(found) as some:
            async for tailed in some:
                yield tail_response(tailed)
