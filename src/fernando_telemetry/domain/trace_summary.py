"""A trace in one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """A trace as a whole, or as much of it as starts in the time range asked for.

    Args:
        trace_id: 32 lower-case hex digits.
        root_service_name: Of the earliest span without a parent; "" where every span has one.
        root_operation_name: Of the same span; "" where it has none.
        start_time: Of the earliest span.
        duration_ms: From there to the latest end of a span; one without a duration ends where it
            starts.
        span_count: All spans.
        error_count: Those with the status error.
        orphan_count: Those whose parent is named and not among them.
        spans_by_service: Count of spans by service_name.
    """

    trace_id: str
    root_service_name: str
    root_operation_name: str
    start_time: datetime
    duration_ms: float
    span_count: int
    error_count: int
    orphan_count: int
    spans_by_service: Mapping[str, int]
