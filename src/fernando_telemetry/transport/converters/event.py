"""Events."""

from __future__ import annotations

from typing import Final

from fernando.telemetry.v1 import Event, EventType
from fernando_telemetry.domain.vocabulary import EVENT_TYPES
from fernando_telemetry.queries.pages import Row
from fernando_telemetry.transport.converters.timestamp import timestamp_of

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
