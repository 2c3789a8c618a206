"""Sums a trace up in SQL, so that a trace of 100,000 spans is never held in memory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from fernando_telemetry.domain.time_range import TimeRange
from fernando_telemetry.storage.sessions import Connection
from fernando_telemetry.storage.statements import load

sql = load("list_trace")

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """A trace as a whole.

    Args:
        trace_id: 32 lower-case hex digits.
        root_service_name: Of the earliest span without a parent; "" where every span has one.
        root_operation_name: Of the same span; "" where it has none.
        start_time: Of the earliest span.
        duration_ms: From there to the latest end of a span.
        span_count: All spans.
        error_count: Those with the status error.
        spans_by_service: Count of spans by service_name.
    """

    trace_id: str
    root_service_name: str
    root_operation_name: str
    start_time: datetime
    duration_ms: float
    span_count: int
    error_count: int
    spans_by_service: dict[str, int]


async def summarized_trace(
    connection: Connection, trace_id: str, time_range: TimeRange
) -> TraceSummary | None:
    """Sum up the spans of a trace that start in the range; None where there are none."""
    arguments = (time_range.start, time_range.end, trace_id)
    extent = await connection.fetchrow(sql.trace_summary, *arguments)
    if extent is None:
        return None
    root = await connection.fetchrow(sql.trace_root, *arguments)
    services = await connection.fetch(sql.trace_services, *arguments)
    return TraceSummary(
        trace_id=trace_id,
        root_service_name=root["service_name"] if root else "",
        root_operation_name=(root["operation_name"] or "") if root else "",
        start_time=extent["start_time"],
        duration_ms=(extent["end_time"] - extent["start_time"]) / _MILLISECOND,
        span_count=extent["span_count"],
        error_count=extent["error_count"],
        spans_by_service={row["service_name"]: row["span_count"] for row in services},
    )
