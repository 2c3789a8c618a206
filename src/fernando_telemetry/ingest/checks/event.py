"""Checks an event."""

from __future__ import annotations

from fernando.telemetry.v1 import Event
from fernando_telemetry.domain import limits
from fernando_telemetry.domain.json_text import InvalidJson, TooDeep, check_object
from fernando_telemetry.domain.verdicts import Rejection
from fernando_telemetry.domain.vocabulary import EVENT_TYPES
from fernando_telemetry.ingest.checks import values
from fernando_telemetry.ingest.checks.context import CheckContext
from fernando_telemetry.storage.rows import Row


def payload(value: str) -> str | None:
    """Check event_data; "" becomes None.

    Raises:
        Rejection: text_too_long, nul_in_text, invalid_json, json_too_deep.
    """
    checked = values.text(value, "event_data", limits.PAYLOAD_BYTES)
    if checked is None:
        return None
    try:
        check_object(checked)
    except TooDeep as error:
        raise Rejection("json_too_deep", "event_data", str(error)) from None
    except InvalidJson as error:
        raise Rejection("invalid_json", "event_data", str(error)) from None
    return checked


def tags(values_given: list[str]) -> list[str] | None:
    """Check an event's tags; none become None.

    Raises:
        Rejection: too_many_labels, text_too_long, nul_in_text.
    """
    if not values_given:
        return None
    if len(values_given) > limits.TAGS_PER_RECORD:
        raise Rejection("too_many_labels", "tags", f"at most {limits.TAGS_PER_RECORD} tags")
    return [values.text(tag, "tags", limits.EVENT_TAG_BYTES) or "" for tag in values_given]


def event_row(event: Event, context: CheckContext) -> tuple[Row, bool]:
    """Check one event.

    Returns:
        Its row, and whether its source_ip was no address and became NULL.

    Raises:
        Rejection: It cannot be stored.
    """
    defaults = context.defaults
    text = values.text
    source_ip = values.address(event.source_ip) if event.source_ip else None
    row = (
        values.time_of(
            event.event_timestamp,
            "event_timestamp",
            context.oldest_event.of(event.license_id or defaults.license_id),
            context.newest,
        )
        if event.HasField("event_timestamp")
        else context.received_at,
        values.required_word(event.event_type, EVENT_TYPES, "event_type"),
        values.required_text(event.event_name, "event_name"),
        text(event.event_category, "event_category"),
        text(event.user_id, "user_id"),
        text(event.license_id, "license_id") or defaults.license_id or None,
        text(event.session_id, "session_id"),
        payload(event.event_data),
        tags(list(event.tags)),
        values.duration(event.duration_ms) if event.HasField("duration_ms") else None,
        text(event.source, "source") or defaults.source or None,
        source_ip,
        text(event.source_version, "source_version") or defaults.source_version or None,
        text(event.user_agent, "user_agent", limits.OTHER_TEXT_BYTES),
        values.trace_id(event.trace_id),
        values.span_id(event.span_id),
    )
    return row, source_ip is None and bool(event.source_ip)
