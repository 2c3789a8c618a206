"""Traces: the request for one, its summary, and the graph of services."""

from __future__ import annotations

from fernando.telemetry.v1 import (
    GetServiceGraphRequest,
    GetServiceGraphResponse,
    GetTraceRequest,
    ServiceEdge,
    ServiceNode,
    SpanFlag,
    TraceSpan,
)
from fernando.telemetry.v1 import TraceSummary as TraceSummaryMessage
from fernando_telemetry.queries.traces import (
    GraphRequest,
    ServiceGraph,
    TraceRequest,
    TraceRow,
    TraceSummary,
)
from fernando_telemetry.transport.converters.query import time_range_of
from fernando_telemetry.transport.converters.span import span_message
from fernando_telemetry.transport.converters.timestamp import timestamp_of


def trace_request(message: GetTraceRequest) -> TraceRequest:
    """Give the request for a trace.

    Raises:
        InvalidTimeRange: The hint is half given or reversed.
        InvalidField: The hint is out of the calendar.
    """
    hinted = message.HasField("time_range")
    return TraceRequest(
        message.trace_id,
        time_range_of(message.time_range) if hinted else None,
        message.page_size,
        message.page_token,
        message.min_commit_token,
    )


def trace_span_message(placed_row: TraceRow) -> TraceSpan:
    """Give a span of GetTrace as a message."""
    placed, row = placed_row
    flags = (
        (SpanFlag.SPAN_FLAG_ORPHAN, placed.is_orphan),
        (SpanFlag.SPAN_FLAG_SHARED_ID, placed.has_shared_id),
        (SpanFlag.SPAN_FLAG_CLOCK_SKEW, placed.clock_skew is not None),
        (SpanFlag.SPAN_FLAG_CRITICAL_PATH, placed.is_critical),
        (SpanFlag.SPAN_FLAG_PARENT_CYCLE, placed.is_in_cycle),
    )
    return TraceSpan(
        span=span_message(row),
        depth=placed.depth,
        flags=[flag for flag, is_set in flags if is_set],
        self_time_ms=placed.self_time / 1000,
        clock_skew_ms=None if placed.clock_skew is None else placed.clock_skew / 1000,
    )


def trace_summary_message(summary: TraceSummary) -> TraceSummaryMessage:
    """Give the summary of a whole trace as a message."""
    return TraceSummaryMessage(
        trace_id=summary.trace_id,
        root_service_name=summary.root_service_name,
        root_operation_name=summary.root_operation_name,
        start_time=timestamp_of(summary.start_time),
        duration_ms=summary.duration_ms,
        span_count=summary.span_count,
        error_count=summary.error_count,
        orphan_count=summary.orphan_count,
        spans_by_service=summary.spans_by_service,
    )


def graph_request(message: GetServiceGraphRequest) -> GraphRequest:
    """Give the request for a service graph.

    Raises:
        InvalidTimeRange: The time range is missing, half given or reversed.
        InvalidField: It is out of the calendar.
    """
    return GraphRequest(
        time_range_of(message.time_range), message.license_id, message.min_commit_token
    )


def service_graph_message(graph: ServiceGraph) -> GetServiceGraphResponse:
    """Give a service graph as a message."""
    return GetServiceGraphResponse(
        nodes=[
            ServiceNode(
                service_name=node.service_name,
                span_count=node.span_count,
                error_count=node.error_count,
                p50_duration_ms=node.p50_duration_ms,
                p95_duration_ms=node.p95_duration_ms,
            )
            for node in graph.nodes
        ],
        edges=[
            ServiceEdge(
                client_service_name=edge.client_service_name,
                server_service_name=edge.server_service_name,
                call_count=edge.call_count,
                error_count=edge.error_count,
                p50_duration_ms=edge.p50_duration_ms,
                p95_duration_ms=edge.p95_duration_ms,
            )
            for edge in graph.edges
        ],
    )
