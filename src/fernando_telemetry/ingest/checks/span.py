"""Checks a span."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from fernando.telemetry.v1 import Span
from fernando_telemetry.domain import limits
from fernando_telemetry.domain.verdicts import Rejection
from fernando_telemetry.domain.vocabulary import SPAN_KINDS, SPAN_STATUSES
from fernando_telemetry.ingest.checks import values
from fernando_telemetry.ingest.checks.context import CheckContext
from fernando_telemetry.storage.rows import Row


def _attributes(entries: Any, path: str) -> dict[str, str]:
    return values.string_map(
        entries,
        path,
        key_limit=limits.INDEXED_TEXT_BYTES,
        value_limit=limits.OTHER_TEXT_BYTES,
    )


def _events(span: Span) -> str | None:
    if not span.events:
        return None
    if len(span.events) > limits.SPAN_EVENTS:
        raise Rejection("too_many_items", "events", f"at most {limits.SPAN_EVENTS} events")
    rendered = []
    for place, event in enumerate(span.events):
        path = f"events[{place}]"
        item: dict[str, Any] = {
            "name": values.text(event.name, f"{path}.name", limits.OTHER_TEXT_BYTES) or ""
        }
        if event.HasField("time"):
            item["time"] = values.any_time(event.time, f"{path}.time").isoformat()
        attributes = _attributes(event.attributes, f"{path}.attributes")
        if attributes:
            item["attributes"] = attributes
        rendered.append(item)
    return json.dumps(rendered, ensure_ascii=False)


def _links(span: Span) -> str | None:
    if not span.links:
        return None
    if len(span.links) > limits.SPAN_LINKS:
        raise Rejection("too_many_items", "links", f"at most {limits.SPAN_LINKS} links")
    rendered = []
    for place, link in enumerate(span.links):
        path = f"links[{place}]"
        item: dict[str, Any] = {
            "trace_id": values.trace_id(link.trace_id, f"{path}.trace_id") or "",
            "span_id": values.span_id(link.span_id, f"{path}.span_id") or "",
        }
        attributes = _attributes(link.attributes, f"{path}.attributes")
        if attributes:
            item["attributes"] = attributes
        rendered.append(item)
    return json.dumps(rendered, ensure_ascii=False)


def _start(span: Span, duration_ms: float | None, context: CheckContext) -> datetime:
    oldest = context.oldest_span.of(span.license_id or context.defaults.license_id)
    if span.HasField("start_time"):
        return values.time_of(span.start_time, "start_time", oldest, context.newest)
    elapsed = timedelta(milliseconds=duration_ms or 0)
    if int(context.received_at.timestamp() - elapsed.total_seconds()) < oldest:
        raise Rejection("time_too_old", "duration_ms", "the span began before the retention")
    return context.received_at - elapsed


def span_row(span: Span, context: CheckContext) -> Row:
    """Check one span.

    Raises:
        Rejection: It cannot be stored.
    """
    defaults = context.defaults
    text = values.text
    trace_id = values.trace_id(span.trace_id)
    if trace_id is None:
        raise Rejection("field_missing", "trace_id", "must be set")
    span_id = values.span_id(span.span_id)
    if span_id is None:
        raise Rejection("field_missing", "span_id", "must be set")
    service_name = text(span.service_name, "service_name") or defaults.service_name
    if not service_name:
        raise Rejection("field_missing", "service_name", "must not be empty")
    duration_ms = values.duration(span.duration_ms) if span.HasField("duration_ms") else None
    return (
        trace_id,
        span_id,
        values.span_id(span.parent_span_id, "parent_span_id"),
        service_name,
        text(span.operation_name, "operation_name"),
        values.word(span.kind, SPAN_KINDS, "kind"),
        _start(span, duration_ms, context),
        duration_ms,
        values.word(span.status, SPAN_STATUSES, "status"),
        text(span.error_message, "error_message", limits.OTHER_TEXT_BYTES),
        text(span.http_method, "http_method"),
        text(span.http_url, "http_url", limits.OTHER_TEXT_BYTES),
        span.http_status_code if span.HasField("http_status_code") else None,
        text(span.user_id, "user_id"),
        text(span.license_id, "license_id") or defaults.license_id or None,
        text(span.session_id, "session_id"),
        text(span.host_name, "host_name") or defaults.host_name or None,
        text(span.instance_id, "instance_id") or defaults.instance_id or None,
        text(span.service_version, "service_version"),
        text(span.trace_state, "trace_state", limits.OTHER_TEXT_BYTES),
        json.dumps(_attributes(span.tags, "tags"), ensure_ascii=False),
        _events(span),
        _links(span),
    )
