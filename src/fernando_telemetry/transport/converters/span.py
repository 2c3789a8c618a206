"""Spans."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

from fernando.telemetry.v1 import Span, SpanEvent, SpanKind, SpanLink, SpanStatus
from fernando_telemetry.domain.vocabulary import SPAN_KINDS, SPAN_STATUSES
from fernando_telemetry.queries.pages import Row
from fernando_telemetry.transport.converters.timestamp import timestamp_of

_KINDS: Final[dict[str | None, SpanKind.ValueType]] = {
    None: SpanKind.SPAN_KIND_UNSPECIFIED,
    **{word: SpanKind.Value(f"SPAN_KIND_{word.upper()}") for word in SPAN_KINDS},
}
_STATUSES: Final[dict[str | None, SpanStatus.ValueType]] = {
    None: SpanStatus.SPAN_STATUS_UNSPECIFIED,
    **{word: SpanStatus.Value(f"SPAN_STATUS_{word.upper()}") for word in SPAN_STATUSES},
}


def span_message(row: Row) -> Span:
    """Give a row of ListSpans or GetTrace as a message."""
    return Span(
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        parent_span_id=row["parent_span_id"] or "",
        service_name=row["service_name"],
        operation_name=row["operation_name"] or "",
        kind=_KINDS[row["kind"]],
        start_time=timestamp_of(row["start_time"]),
        duration_ms=row["duration_ms"],
        status=_STATUSES[row["status"]],
        error_message=row["error_message"] or "",
        http_method=row["http_method"] or "",
        http_url=row["http_url"] or "",
        http_status_code=row["http_status_code"],
        user_id=row["user_id"] or "",
        license_id=row["license_id"] or "",
        tags=json.loads(row["tags"]),
        events=_events(row["events"]),
        links=_links(row["links"]),
        session_id=row["session_id"] or "",
        host_name=row["host_name"] or "",
        instance_id=row["instance_id"] or "",
        service_version=row["service_version"] or "",
        trace_state=row["trace_state"] or "",
        ingested_at=timestamp_of(row["ingested_at"]),
    )


def _events(text: str | None) -> list[SpanEvent] | None:
    if text is None:
        return None
    return [
        SpanEvent(
            time=timestamp_of(datetime.fromisoformat(item["time"])) if "time" in item else None,
            name=item.get("name", ""),
            attributes=item.get("attributes"),
        )
        for item in json.loads(text)
    ]


def _links(text: str | None) -> list[SpanLink] | None:
    if text is None:
        return None
    return [
        SpanLink(
            trace_id=item.get("trace_id", ""),
            span_id=item.get("span_id", ""),
            attributes=item.get("attributes"),
        )
        for item in json.loads(text)
    ]
