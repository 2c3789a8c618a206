"""Events and their summaries."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from fernando.telemetry.v1 import (
    Event,
    EventType,
    SummarizeEventsRequest,
    TailEventsRequest,
    TailEventsResponse,
)
from fernando.telemetry.v1 import EventSummary as EventSummaryMessage
from fernando_telemetry.domain.vocabulary import EVENT_TYPES
from fernando_telemetry.queries.events import EventSummary
from fernando_telemetry.queries.pages import Row
from fernando_telemetry.queries.tails import Tailed, TailRequest
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


def bucket_of(message: SummarizeEventsRequest) -> timedelta | None:
    """Give the length of a time bucket; None: one for the range.

    Raises:
        InvalidField: It is no length of time.
    """
    return timedelta_of(message.bucket, "bucket") if message.HasField("bucket") else None


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


def tail_request(message: TailEventsRequest) -> TailRequest:
    """Give what a tail asks for."""
    return TailRequest(message.filter, message.max_events_per_second, message.cursor)


def tailed_event(row: Row) -> bytes:
    """Give an event as a response of its own: responses one after another are one of them all."""
    return TailEventsResponse(events=[event_message(row)]).SerializeToString()


def tail_response(tailed: Tailed) -> TailEventsResponse:
    """Give some events, made by `tailed_event`, as a message."""
    response = TailEventsResponse.FromString(b"".join(tailed.events))
    response.dropped_count = tailed.dropped
    response.cursor = tailed.cursor
    return response
