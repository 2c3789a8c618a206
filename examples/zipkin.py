"""Reads Zipkin v2 JSON: one file is a list of spans.

Format: https://zipkin.io/zipkin-api/ (ListOfSpans).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from recording import chunks, shift_to

from fernando.telemetry.client.records import timestamp
from fernando.telemetry.v1 import Span, SpanEvent, SpanKind, SpanStatus, TelemetryRecords

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNKNOWN_SERVICE: Final = "unknown"


def batches(path: Path, last_day: date | None) -> Iterator[TelemetryRecords]:
    """Read one file; its newest span moves to `last_day`.

    Raises:
        ValueError: The file is no JSON, or a span lacks what every span has.
    """
    spans: list[dict[str, Any]] = json.loads(path.read_text())
    try:
        shift = shift_to(_moment(max(span["timestamp"] for span in spans)), last_day)
        for chunk in chunks(spans):
            yield TelemetryRecords(spans=[_span(given, shift) for given in chunk])
    except KeyError as missing:
        raise ValueError(f"{path.name}: a span has no {missing}") from None


def _span(given: dict[str, Any], shift: timedelta) -> Span:
    tags: dict[str, str] = given.get("tags", {})
    local = given.get("localEndpoint", {})
    span = Span(
        # The server pads ids of 16 digits too; here it is done to show it. Both sides of a call
        # may share one span id: they stay two spans.
        trace_id=given["traceId"].rjust(32, "0"),
        span_id=given["id"],
        parent_span_id=given.get("parentId", ""),
        service_name=local.get("serviceName") or _UNKNOWN_SERVICE,
        operation_name=given.get("name", ""),
        kind=SpanKind.Value(f"SPAN_KIND_{given.get('kind', 'UNSPECIFIED')}"),
        start_time=timestamp(_moment(given["timestamp"]) + shift),
        http_method=tags.get("http.method", ""),
        http_url=tags.get("http.url", ""),
        host_name=local.get("ipv4") or local.get("ipv6") or "",
        tags=tags | _peer(given),
        events=[
            SpanEvent(time=timestamp(_moment(note["timestamp"]) + shift), name=note["value"])
            for note in given.get("annotations", ())
        ],
    )
    # Not known is not 0: these stay unset where the span has none.
    if "duration" in given:
        span.duration_ms = given["duration"] / 1000
    if tags.get("http.status_code", "").isdecimal():
        span.http_status_code = int(tags["http.status_code"])
    # In Zipkin the presence of the tag says it, also with an empty text.
    if "error" in tags:
        span.status = SpanStatus.SPAN_STATUS_ERROR
        span.error_message = tags["error"]
    return span


def _peer(given: dict[str, Any]) -> dict[str, str]:
    """Give what the contract has no field for, as tags."""
    remote = given.get("remoteEndpoint", {})
    peer = {
        "peer.service": remote.get("serviceName"),
        "peer.address": remote.get("ipv4") or remote.get("ipv6"),
        "peer.port": remote.get("port"),
        "zipkin.shared": "true" if given.get("shared") else None,
    }
    return {key: str(value) for key, value in peer.items() if value}


def _moment(unix_micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=unix_micros)
