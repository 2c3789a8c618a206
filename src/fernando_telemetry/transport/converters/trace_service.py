"""Traces: the request for one, and its summary."""

from __future__ import annotations

from fernando.telemetry.v1 import GetTraceRequest, TraceSpan
from fernando.telemetry.v1 import TraceSummary as TraceSummaryMessage
from fernando_telemetry.queries.pages import Row
from fernando_telemetry.queries.traces import TraceRequest, TraceSummary
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


def trace_span_message(row: Row) -> TraceSpan:
    """Give a row of GetTrace as a message."""
    return TraceSpan(span=span_message(row))


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
