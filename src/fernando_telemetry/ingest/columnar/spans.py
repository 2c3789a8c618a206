"""Checks a column of spans; those with events or links are left to the record checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from fernando_telemetry.domain import limits
from fernando_telemetry.domain.vocabulary import SPAN_KINDS, SPAN_STATUSES
from fernando_telemetry.ingest.columnar.identifiers import hex_ids
from fernando_telemetry.ingest.columnar.owners import Owners
from fernando_telemetry.ingest.columnar.payloads import json_maps
from fernando_telemetry.ingest.columnar.record_fields import RecordFields
from fernando_telemetry.ingest.columnar.stamps import timestamps
from fernando_telemetry.ingest.columnar.texts import Integers, Mask, list_lengths, words_of
from fernando_telemetry.storage.rows import SPANS


def check_spans(spans: Any, owners: Owners) -> tuple[pa.RecordBatch, Integers, Mask]:
    """Check spans; arguments and results as those of check_events."""
    fields = RecordFields(spans, owners)
    suspects = fields.suspects

    def words(name: str, known: tuple[str, ...]) -> pa.Array:
        given = fields.column(name).to_numpy()
        np.logical_or(suspects, (given < 0) | (given > len(known)), out=suspects)
        return words_of(given, known)

    def required(column: pa.Array) -> pa.Array:
        if column.null_count:
            np.logical_or(suspects, column.is_null().to_numpy(zero_copy_only=False), out=suspects)
        return column

    # Without a start it is the receive time less the duration, which the record checks compute.
    suspects |= list_lengths(fields.column("start_time")) != 1
    suspects |= list_lengths(fields.column("events")) > 0
    suspects |= list_lengths(fields.column("links")) > 0
    micros = fields.micros("start_time", owners.contexts[0].oldest_span.of_all)
    nothing = pa.nulls(len(spans), pa.string())
    columns = [
        required(hex_ids(fields.column("trace_id"), 32, suspects)),
        required(hex_ids(fields.column("span_id"), 16, suspects)),
        hex_ids(fields.column("parent_span_id"), 16, suspects),
        required(fields.defaulted("service_name")),
        fields.text("operation_name"),
        words("kind", SPAN_KINDS),
        timestamps(micros),
        fields.durations("duration_ms"),
        words("status", SPAN_STATUSES),
        fields.text("error_message", limits.OTHER_TEXT_BYTES),
        fields.text("http_method"),
        fields.text("http_url", limits.OTHER_TEXT_BYTES),
        fields.column("http_status_code"),
        fields.text("user_id"),
        fields.defaulted("license_id"),
        fields.text("session_id"),
        fields.defaulted("host_name"),
        fields.defaulted("instance_id"),
        fields.text("service_version"),
        fields.text("trace_state", limits.OTHER_TEXT_BYTES),
        json_maps(
            fields.column("tags"),
            most=limits.LABELS_PER_RECORD,
            key_limit=limits.INDEXED_TEXT_BYTES,
            value_limit=limits.OTHER_TEXT_BYTES,
            suspects=suspects,
        ),
        nothing,
        nothing,
    ]
    return pa.RecordBatch.from_arrays(columns, names=list(SPANS.given)), micros, suspects
