"""A trace in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from fernando_telemetry.domain.calendar import EPOCH
from fernando_telemetry.domain.trace_tree import TraceTree


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
        orphan_count: Those that name a parent which is not among them.
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


def summarized(trace_id: str, tree: TraceTree) -> TraceSummary:
    """Sum a trace up.

    Args:
        trace_id: 32 lower-case hex digits.
        tree: Its spans.
    """
    spans = tree.spans
    start = spans[0].start
    root = next((span for span in spans if not span.parent_span_id), None)
    return TraceSummary(
        trace_id=trace_id,
        root_service_name=root.service_name if root else "",
        root_operation_name=root.operation_name if root else "",
        start_time=EPOCH + timedelta(microseconds=start),
        duration_ms=(max(span.end for span in spans) - start) / 1000,
        span_count=len(spans),
        error_count=sum(span.is_error for span in spans),
        orphan_count=tree.orphan_count,
        spans_by_service=Counter(span.service_name for span in spans),
    )
