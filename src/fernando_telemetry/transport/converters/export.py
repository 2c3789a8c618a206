"""Requests of exports, and what they answer."""

from __future__ import annotations

from typing import Final

from fernando.telemetry.v1 import (
    ExportFormat,
    ExportManifest,
    ExportRecordsRequest,
    ExportRecordsResponse,
    RecordKind,
)
from fernando_telemetry.domain.errors import InvalidField, InvalidTimeRange
from fernando_telemetry.domain.vocabulary import RECORD_KINDS
from fernando_telemetry.queries.export import Chunk, ExportRequest, Manifest
from fernando_telemetry.transport.converters.query import time_range_of
from fernando_telemetry.transport.converters.timestamp import timestamp_of

_FORMATS: Final = {
    ExportFormat.EXPORT_FORMAT_UNSPECIFIED: True,
    ExportFormat.EXPORT_FORMAT_JSON_LINES: True,
    ExportFormat.EXPORT_FORMAT_ARROW_IPC: False,
}


def export_request(message: ExportRecordsRequest) -> ExportRequest:
    """Give the request of an export.

    Raises:
        InvalidField: The kind or the format is none that can be exported.
        InvalidTimeRange: There is no selection, or its time range is half given or reversed.
    """
    if message.kind == RecordKind.RECORD_KIND_UNSPECIFIED:
        raise InvalidField("kind", "it is required.")
    if message.kind == RecordKind.RECORD_KIND_METRIC_COLUMNS:
        raise InvalidField("kind", "samples of metric columns are exported as system metrics.")
    if message.kind not in RecordKind.values():
        raise InvalidField("kind", f"{message.kind} is no kind of record.")
    if message.format not in _FORMATS:
        raise InvalidField("format", f"{message.format} is no format.")
    selection = message.WhichOneof("selection")
    if selection is None:
        raise InvalidTimeRange("time_range or after_token is required.")
    return ExportRequest(
        RECORD_KINDS[message.kind - 1],
        message.filter,
        _FORMATS[message.format],
        time_range_of(message.time_range) if selection == "time_range" else None,
        message.after_token,
        message.min_commit_token,
    )


def export_response(answer: Chunk | Manifest) -> ExportRecordsResponse:
    """Give a message of the stream."""
    if isinstance(answer, Chunk):
        # Filled where it is: a message that is given to another one is copied by way of its bytes.
        response = ExportRecordsResponse()
        chunk = response.chunk
        chunk.data, chunk.row_count = answer.data, answer.row_count
        chunk.next_token = answer.next_token
        return response
    manifest = ExportManifest(
        row_count=answer.row_count,
        sha256=answer.sha256,
        next_token=answer.next_token,
        schema_version=answer.schema_version,
        expired_row_count=answer.expired_row_count,
    )
    for field in ("min_time", "max_time", "expired_before"):
        if (time := getattr(answer, field)) is not None:
            getattr(manifest, field).CopyFrom(timestamp_of(time))
    return ExportRecordsResponse(manifest=manifest)
