"""Events and their summaries."""

from __future__ import annotations

from typing import Final

from fernando.telemetry.v1 import Event, EventType, SummarizeEventsRequest
from fernando.telemetry.v1 import EventSummary as EventSummaryMessage
from fernando_telemetry.domain.vocabulary import EVENT_TYPES
from fernando_telemetry.queries.events import EventSummary, SummaryRequest
from fernando_telemetry.queries.pages import Row
from fernando_telemetry.transport.converters.query import time_range_of
from fernando_telemetry.transport.converters.timestamp import timedelta_of, timestamp_of

_TYPES: Final = {word: EventType.Value(f"EVENT_TYPE_{word.upper()}") for word in EVENT_TYPES}


def event_message(row: Row) -> Event:
    """Give a row of ListEvents as a message; event_data is jsonb's own text."""
    return Event(
        event_timestamp=timestamp_of(row["event_timestamp"]),
        event_type=_TYPES[row["event_type"]],
        event_name=row["event_name"],
        event_category=row["event_category"] or "",
        user_id=row["user_id"] or "",
        license_id=row["license_id"] or "",
        session_id=row["session_id"] or "",
        event_data=row["event_data"] or "",
        tags=row["tags"],
        duration_ms=row["duration_ms"],
        source=row["source"] or "",
        source_ip=row["source_ip"] or "",
        trace_id=row["trace_id"] or "",
        span_id=row["span_id"] or "",
        user_agent=row["user_agent"] or "",
        source_version=row["source_version"] or "",
        event_id=str(row["event_id"]),
        ingested_at=timestamp_of(row["ingested_at"]),
    )


def summary_request(message: SummarizeEventsRequest) -> SummaryRequest:
    """Give the request for a summary.

    Raises:
        InvalidTimeRange: The time range is missing, half given or reversed.
        InvalidField: It is out of the calendar, or the bucket is no length of time.
    """
    return SummaryRequest(
        time_range_of(message.time_range),
        message.filter,
        tuple(message.group_by),
        timedelta_of(message.bucket, "bucket") if message.HasField("bucket") else None,
        message.exact_unique_counts,
        message.page_size,
        message.page_token,
        message.min_commit_token,
    )


def event_summary_message(summary: EventSummary) -> EventSummaryMessage:
    """Give the counts of a group as a message."""
    return EventSummaryMessage(
        bucket_start=timestamp_of(summary.bucket_start),
        group=summary.group,
        event_count=summary.event_count,
        unique_users=summary.unique_users,
        error_count=summary.error_count,
        unique_licenses=summary.unique_licenses,
        avg_duration_ms=summary.avg_duration_ms,
        p95_duration_ms=summary.p95_duration_ms,
    )
