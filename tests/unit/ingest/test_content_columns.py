"""The same signature from Arrow columns as from messages, for each batch of a group."""

from __future__ import annotations

import random
import struct
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fernando.telemetry.v1 import (
    BusinessMetric,
    Event,
    MetricColumns,
    MetricSeries,
    Span,
    SystemMetric,
    TelemetryRecords,
)
from fernando_telemetry.ingest.content_columns import ContentColumns, NotColumnar
from fernando_telemetry.ingest.content_digest import ContentHash
from fernando_telemetry.ingest.content_messages import add_fields, fields_of, form_of
from tests.integration.ingest.records import field as wire_field
from tests.integration.ingest.records import number_field
from tests.unit.ingest.content_cases import made, signature
from tests.unit.ingest.test_content_digest import re_encoded

pytest.importorskip("ptars")

from tests.unit.ingest.arrow_twin import decoded

LISTS: tuple[tuple[str, int, Any], ...] = (
    ("events", 1, Event),
    ("system_metrics", 2, SystemMetric),
    ("spans", 4, Span),
)


def signatures(batches: list[bytes]) -> list[bytes]:
    """Give the signatures of a group by the path of columns, with the counts in front."""
    table = decoded(batches)
    parsed = [TelemetryRecords.FromString(batch) for batch in batches]
    columns = {}
    for name, kind, of in LISTS:
        lists = table.column(name)
        columns[kind] = ContentColumns(kind, of.DESCRIPTOR, lists.values)
    offsets = {kind: table.column(name).offsets.to_pylist() for name, kind, _ in LISTS}
    # A batch may have had its columns in parts; their series lie one behind the other.
    parts = table.column("metric_columns")
    series = parts.values.field("series")
    of_series = ContentColumns(5, MetricSeries.DESCRIPTOR, series.values, (1,))
    series_offsets = [series.offsets[part].as_py() for part in parts.offsets.to_pylist()]
    found = []
    for place, records in enumerate(parsed):
        content = ContentHash()
        counts = []
        for kind in (1, 2, 3, 4):
            if kind == 3:
                kpis = list(records.business_metrics)
                for _ in add_fields(content, 3, (), BusinessMetric.DESCRIPTOR, kpis):
                    pass
                counts.append(len(kpis))
                continue
            start, stop = offsets[kind][place : place + 2]
            columns[kind].add(content, start, stop)
            counts.append(stop - start)
        first, last = series_offsets[place : place + 2]
        content.add_numbers(5, (1,), np.array([last - first], "<i4"))
        of_series.add(content, first, last)
        for field in fields_of(MetricColumns.DESCRIPTOR)[1:]:
            values = getattr(records.metric_columns, field.name)
            content.add_numbers(5, (field.number,), np.array(values, form_of(field)))
        counts.append(len(records.metric_columns.value))
        found.append(struct.pack("<5I", *counts) + content.signature())
    return found


@given(st.integers(0, 2**64 - 1))
@settings(deadline=None, suppress_health_check=list(HealthCheck))
def test_columns_and_messages_agree(seed: int) -> None:
    chance = random.Random(seed)
    batches = [made(chance) for _ in range(chance.randint(1, 4))]
    encoded = [re_encoded(records, chance) for records in batches]
    assert signatures(encoded) == [signature(records) for records in batches]


@pytest.mark.parametrize(
    "record",
    [
        wire_field(1, wire_field(1, number_field(1, 5)) + wire_field(1, number_field(2, 7))),
        wire_field(2, wire_field(16, number_field(1, 5)) + wire_field(16, b"")),
    ],
    ids=["a time twice", "a distribution twice"],
)
def test_merged_messages_are_left_to_the_other_path(record: bytes) -> None:
    with pytest.raises(NotColumnar):
        signatures([record])


def test_the_cost_of_a_signature() -> None:
    """Printed, not held: DESIGN gives the columnar path 2.4 µs an event in all."""
    events = [
        Event(
            event_type=2,  # type: ignore[arg-type]
            event_name="api.call",
            event_category="web",
            user_id=f"user-{number}",
            license_id="licence",
            session_id=f"session-{number % 50}",
            event_data='{"method": "GET", "path": "/api/v1/things", "status": 200}',
            tags=["a", "b"],
            duration_ms=1.5,
            source="api",
        )
        for number in range(16_000)
    ]
    for one in events:
        one.event_timestamp.FromSeconds(1_700_000_000)
    batch = TelemetryRecords(events=events).SerializeToString()
    array = decoded([batch]).column("events").values
    best = {}
    for size in (16_000, 1_000, 100):
        best[size] = 1.0
        for _ in range(5):
            begun = time.perf_counter()
            columns = ContentColumns(1, Event.DESCRIPTOR, array)
            for start in range(0, 16_000, size):
                content = ContentHash()
                columns.add(content, start, start + size)
                content.signature()
            best[size] = min(best[size], time.perf_counter() - begun)
    shown = {size: f"{seconds / 16_000 * 1e6:.2f}" for size, seconds in best.items()}
    print(f"\nµs an event, {len(batch) / 16_000:.0f} bytes each, by batch size: {shown}")
    assert signatures([batch]) == signatures([batch])
