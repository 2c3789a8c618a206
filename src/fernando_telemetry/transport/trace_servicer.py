"""TraceService."""

from __future__ import annotations

from typing import Any

from fernando.telemetry.v1 import (
    GetServiceGraphRequest,
    GetServiceGraphResponse,
    GetTraceRequest,
    GetTraceResponse,
    ListSpansRequest,
    ListSpansResponse,
    SearchTracesRequest,
    SearchTracesResponse,
)
from fernando.telemetry.v1.trace_service_pb2_grpc import TraceServiceServicer
from fernando_telemetry.queries.traces import TraceQueries
from fernando_telemetry.transport.converters.query import list_request
from fernando_telemetry.transport.converters.span import span_message
from fernando_telemetry.transport.converters.trace_service import (
    graph_request,
    service_graph_message,
    trace_request,
    trace_span_message,
    trace_summary_message,
)
from fernando_telemetry.transport.pages import PageOf


class TraceService(TraceServiceServicer):
    """Answers for spans and traces.

    Args:
        queries: The read path of traces.
    """

    def __init__(self, queries: TraceQueries) -> None:
        self._queries = queries

    async def ListSpans(self, request: ListSpansRequest, context: Any) -> ListSpansResponse:
        """Give a page of spans."""
        page = PageOf(span_message)
        token = await self._queries.list_spans(list_request(request), page.take)
        return ListSpansResponse(spans=page.records, next_page_token=token)

    async def GetTrace(self, request: GetTraceRequest, context: Any) -> GetTraceResponse:
        """Give a page of one trace's spans and the whole trace's summary."""
        page = PageOf(trace_span_message)
        found = await self._queries.get_trace(trace_request(request), page.take)
        return GetTraceResponse(
            summary=trace_summary_message(found.summary),
            spans=page.records,
            next_page_token=found.next_page_token,
        )

    async def SearchTraces(
        self, request: SearchTracesRequest, context: Any
    ) -> SearchTracesResponse:
        """Give a page of traces."""
        page = PageOf(trace_summary_message)
        token = await self._queries.search_traces(list_request(request), page.take)
        return SearchTracesResponse(traces=page.records, next_page_token=token)

    async def GetServiceGraph(
        self, request: GetServiceGraphRequest, context: Any
    ) -> GetServiceGraphResponse:
        """Give the graph of services."""
        return service_graph_message(await self._queries.get_service_graph(graph_request(request)))
