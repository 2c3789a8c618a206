"""Checks a column of spans; those with events or links are left to the record checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from fernando_telemetry.domain import limits
from fernando_telemetry.domain.vocabulary import SPAN_KINDS, SPAN_STATUSES
from fernando_telemetry.ingest.columnar.events import mark_bad_durations
from fernando_telemetry.ingest.columnar.identifiers import hex_ids
from fernando_telemetry.ingest.columnar.owners import Owners
from fernando_telemetry.ingest.columnar.payloads import json_maps
from fernando_telemetry.ingest.columnar.stamps import stamps, timestamps
from fernando_telemetry.ingest.columnar.texts import (
    Integers,
    Mask,
    Texts,
    list_lengths,
    words_of,
)
from fernando_telemetry.storage.rows import SPANS


def check_spans(spans: Any, owners: Owners) -> tuple[pa.RecordBatch, Integers, Mask]:
    """Check spans; arguments and results as those of check_events."""
    suspects = np.zeros(len(spans), bool)

    def texts(name: str, limit: int = limits.INDEXED_TEXT_BYTES) -> Texts:
        found = Texts.of(spans.field(name))
        found.mark_bad(suspects, limit)
        return found

    def text(name: str, limit: int = limits.INDEXED_TEXT_BYTES) -> pa.Array:
        return texts(name, limit).nullable()

    def defaulted(name: str) -> pa.Array:
        return owners.filled(spans.field(name), texts(name), lambda given: getattr(given, name))

    def words(name: str, known: tuple[str, ...]) -> pa.Array:
        given = spans.field(name).to_numpy()
        np.logical_or(suspects, (given < 0) | (given > len(known)), out=suspects)
        return words_of(given, known)

    def required(column: pa.Array) -> pa.Array:
        if column.null_count:
            np.logical_or(suspects, column.is_null().to_numpy(zero_copy_only=False), out=suspects)
        return column

    context = owners.contexts[0]
    # Without a start it is the receive time less the duration, which the record checks compute.
    suspects |= list_lengths(spans.field("start_time")) != 1
    suspects |= list_lengths(spans.field("events")) > 0
    suspects |= list_lengths(spans.field("links")) > 0
    micros = stamps(
        spans.field("start_time"),
        owners.received_micros,
        context.oldest_span,
        context.newest,
        suspects,
    )
    mark_bad_durations(spans.field("duration_ms"), suspects)
    nothing = pa.nulls(len(spans), pa.string())
    columns = [
        required(hex_ids(spans.field("trace_id"), 32, suspects)),
        required(hex_ids(spans.field("span_id"), 16, suspects)),
        hex_ids(spans.field("parent_span_id"), 16, suspects),
        required(defaulted("service_name")),
        text("operation_name"),
        words("kind", SPAN_KINDS),
        timestamps(micros),
        spans.field("duration_ms"),
        words("status", SPAN_STATUSES),
        text("error_message", limits.OTHER_TEXT_BYTES),
        text("http_method"),
        text("http_url", limits.OTHER_TEXT_BYTES),
        spans.field("http_status_code"),
        text("user_id"),
        defaulted("license_id"),
        text("session_id"),
        defaulted("host_name"),
        defaulted("instance_id"),
        text("service_version"),
        text("trace_state", limits.OTHER_TEXT_BYTES),
        json_maps(
            spans.field("tags"),
            most=limits.LABELS_PER_RECORD,
            key_limit=limits.INDEXED_TEXT_BYTES,
            value_limit=limits.OTHER_TEXT_BYTES,
            suspects=suspects,
        ),
        nothing,
        nothing,
    ]
    return pa.RecordBatch.from_arrays(columns, names=list(SPANS.given)), micros, suspects
