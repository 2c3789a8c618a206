"""The load is what the target table says: 13 filled fields, 2,000 series, times in one day."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fernando.telemetry.v1 import StreamTelemetryRequest, TelemetryRecords
from fernando_telemetry.bench.load_stream import head_of, numbered
from fernando_telemetry.bench.records import (
    KINDS,
    SERIES,
    base_micros,
    default_batch_records,
    make_batches,
)
from fernando_telemetry.bench.stalled_clients import batch_of

NOON = int(datetime(2026, 5, 17, 12, tzinfo=UTC).timestamp() * 1e6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_has_about_1_mb_and_its_count(kind: str) -> None:
    (batch,) = make_batches(kind, default_batch_records(kind), NOON, pool_bytes=0)
    assert 850_000 < len(batch.records) < 1_150_000
    records = TelemetryRecords.FromString(batch.records)
    assert records.record_count == batch.count == default_batch_records(kind)
    sent = (
        len(records.events)
        + len(records.system_metrics)
        + len(records.spans)
        + len(records.metric_columns.value)
    )
    assert sent == batch.count


def test_an_event_has_13_filled_fields_and_about_290_bytes() -> None:
    (batch,) = make_batches("events", 500, NOON, pool_bytes=0)
    records = TelemetryRecords.FromString(batch.records)
    assert {len(event.ListFields()) for event in records.events} == {13}
    assert all(event.tags and event.event_data for event in records.events)
    assert 270 < len(batch.records) / 500 < 310


def test_events_fall_into_as_many_groups_as_wanted() -> None:
    (batch,) = make_batches("events", 3_000, NOON, pool_bytes=0, groups=40)
    groups = {
        (one.event_type, one.event_name, one.license_id)
        for one in TelemetryRecords.FromString(batch.records).events
    }
    assert len(groups) == 40


def test_spans_have_tags() -> None:
    (batch,) = make_batches("spans", 50, NOON, pool_bytes=0)
    assert all(span.tags for span in TelemetryRecords.FromString(batch.records).spans)


def test_samples_are_of_2000_series() -> None:
    (batch,) = make_batches("samples", SERIES, NOON, pool_bytes=0)
    identities = set()
    for sample in TelemetryRecords.FromString(batch.records).system_metrics:
        sample.ClearField("metric_timestamp")
        sample.ClearField("metric_value")
        identities.add(sample.SerializeToString(deterministic=True))
    assert len(identities) == SERIES


@pytest.mark.parametrize("batch_records", [1_000, default_batch_records("points")])
def test_packed_samples_have_ten_a_series_at_least(batch_records: int) -> None:
    batches = make_batches("points", batch_records, NOON, pool_bytes=4_000_000)
    identities = set()
    for batch in batches:
        columns = TelemetryRecords.FromString(batch.records).metric_columns
        counts = [0] * len(columns.series)
        for place in columns.series_index:
            counts[place] += 1
        assert min(counts) >= 10
        identities |= {one.SerializeToString(deterministic=True) for one in columns.series}
    assert len(identities) == SERIES


def test_without_times_none_is_sent() -> None:
    (batch,) = make_batches("events", 10, None, pool_bytes=0)
    events = TelemetryRecords.FromString(batch.records).events
    assert not any(event.HasField("event_timestamp") for event in events)


def test_batches_of_a_pool_differ() -> None:
    batches = make_batches("events", 100, NOON, pool_bytes=200_000)
    assert len({batch.records for batch in batches}) == len(batches) > 3


@pytest.mark.parametrize("second", [0, 29, 30, 45, 59])
def test_times_stay_within_the_day(second: int) -> None:
    at = datetime(2026, 5, 17, 23, 59, second, tzinfo=UTC)
    first = datetime.fromtimestamp(base_micros(at) / 1e6, UTC)
    assert first.date() == at.date()
    assert (at - first).total_seconds() in {0, 30}


@pytest.mark.parametrize("sequence", [1, 127, 128, 16_384, 2**40])
def test_numbered_bytes_are_a_batch(sequence: int) -> None:
    (batch,) = make_batches("events", 3, NOON, pool_bytes=0)
    made = numbered(sequence, batch.records, head_of(batch.records))
    expected = StreamTelemetryRequest()
    expected.batch.sequence = sequence
    expected.batch.records.ParseFromString(batch.records)
    assert StreamTelemetryRequest.FromString(made) == expected


def test_a_stalled_clients_batch_is_as_full_as_it_gets() -> None:
    content = batch_of(10_000)
    records = TelemetryRecords.FromString(content)
    assert records.record_count == 0
    one = len(content) // len(records.events)
    assert 10_000 - one < len(content) <= 10_000
