"""Checks a column of events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from fernando_telemetry.domain import limits
from fernando_telemetry.domain.vocabulary import EVENT_TYPES
from fernando_telemetry.ingest.columnar.addresses import inets
from fernando_telemetry.ingest.columnar.identifiers import hex_ids
from fernando_telemetry.ingest.columnar.owners import Owners
from fernando_telemetry.ingest.columnar.payloads import json_objects, string_lists
from fernando_telemetry.ingest.columnar.stamps import stamps, timestamps
from fernando_telemetry.ingest.columnar.texts import (
    Integers,
    Mask,
    Texts,
    numbers,
    words_of,
)
from fernando_telemetry.storage.rows import EVENTS


def mark_bad_durations(array: pa.Array, suspects: Mask) -> None:
    """Mark rows whose duration in milliseconds is set and not 0 to 1e12."""
    values, present = numbers(array)
    suspects |= present & ~((values >= 0) & (values <= limits.DURATION_MS))


def check_events(events: Any, owners: Owners) -> tuple[pa.RecordBatch, Integers, Mask]:
    """Check events.

    Args:
        events: Struct column of twin.py.
        owners: Their batches.

    Returns:
        Columns in the order of storage/rows.py, Unix microseconds of the events, and which rows
        are suspects.
    """
    suspects = np.zeros(len(events), bool)

    def texts(name: str, limit: int = limits.INDEXED_TEXT_BYTES) -> Texts:
        found = Texts.of(events.field(name))
        found.mark_bad(suspects, limit)
        return found

    def text(name: str, limit: int = limits.INDEXED_TEXT_BYTES) -> pa.Array:
        return texts(name, limit).nullable()

    def defaulted(name: str) -> pa.Array:
        return owners.filled(events.field(name), texts(name), lambda given: getattr(given, name))

    context = owners.contexts[0]
    micros = stamps(
        events.field("event_timestamp"),
        owners.received_micros,
        context.oldest_event,
        context.newest,
        suspects,
    )
    types = events.field("event_type").to_numpy()
    suspects |= (types < 1) | (types > len(EVENT_TYPES))
    names = texts("event_name")
    suspects |= names.lengths == 0
    mark_bad_durations(events.field("duration_ms"), suspects)
    columns = [
        timestamps(micros),
        words_of(types, EVENT_TYPES),
        names.array,
        text("event_category"),
        text("user_id"),
        defaulted("license_id"),
        text("session_id"),
        json_objects(events.field("event_data"), suspects),
        string_lists(
            events.field("tags"), limits.TAGS_PER_RECORD, limits.EVENT_TAG_BYTES, suspects
        ),
        events.field("duration_ms"),
        defaulted("source"),
        inets(events.field("source_ip"), suspects),
        defaulted("source_version"),
        text("user_agent", limits.OTHER_TEXT_BYTES),
        hex_ids(events.field("trace_id"), 32, suspects),
        hex_ids(events.field("span_id"), 16, suspects),
    ]
    return pa.RecordBatch.from_arrays(columns, names=list(EVENTS.given)), micros, suspects
