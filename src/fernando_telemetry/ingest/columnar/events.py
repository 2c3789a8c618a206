"""Checks a column of events."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from fernando_telemetry.domain import limits
from fernando_telemetry.domain.vocabulary import EVENT_TYPES
from fernando_telemetry.ingest.columnar.addresses import inets
from fernando_telemetry.ingest.columnar.identifiers import hex_ids
from fernando_telemetry.ingest.columnar.owners import Owners
from fernando_telemetry.ingest.columnar.payloads import json_objects, string_lists
from fernando_telemetry.ingest.columnar.record_fields import RecordFields
from fernando_telemetry.ingest.columnar.stamps import timestamps
from fernando_telemetry.ingest.columnar.texts import Integers, Mask, words_of
from fernando_telemetry.storage.rows import EVENTS


def check_events(events: Any, owners: Owners) -> tuple[pa.RecordBatch, Integers, Mask]:
    """Check events.

    Args:
        events: Struct column of twin.py.
        owners: Their batches.

    Returns:
        Columns in the order of storage/rows.py, Unix microseconds of the events, and which rows
        are suspects.
    """
    fields = RecordFields(events, owners)
    suspects = fields.suspects
    micros = fields.micros("event_timestamp", owners.contexts[0].oldest_event.of_all)
    types = fields.column("event_type").to_numpy()
    suspects |= (types < 1) | (types > len(EVENT_TYPES))
    names = fields.texts("event_name")
    suspects |= names.lengths == 0
    columns = [
        timestamps(micros),
        words_of(types, EVENT_TYPES),
        names.array,
        fields.text("event_category"),
        fields.text("user_id"),
        fields.defaulted("license_id"),
        fields.text("session_id"),
        json_objects(fields.column("event_data"), suspects),
        string_lists(
            fields.column("tags"), limits.TAGS_PER_RECORD, limits.EVENT_TAG_BYTES, suspects
        ),
        fields.durations("duration_ms"),
        fields.defaulted("source"),
        inets(fields.column("source_ip"), suspects),
        fields.defaulted("source_version"),
        fields.text("user_agent", limits.OTHER_TEXT_BYTES),
        hex_ids(fields.column("trace_id"), 32, suspects),
        hex_ids(fields.column("span_id"), 16, suspects),
    ]
    return pa.RecordBatch.from_arrays(columns, names=list(EVENTS.given)), micros, suspects
