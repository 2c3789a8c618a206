"""Halving keeps every record, every order and every index."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fernando.telemetry.client.splitting import count_records, halve
from fernando.telemetry.v1 import MetricColumns, RecordKind, TelemetryRecords


def build(events: int, metrics: int, kpis: int, spans: int, samples: int) -> TelemetryRecords:
    records = TelemetryRecords()
    for n in range(events):
        records.events.add(event_name=f"e{n}")
    for n in range(metrics):
        records.system_metrics.add(metric_name=f"m{n}")
    for n in range(kpis):
        records.business_metrics.add(metric_name=f"k{n}")
    for n in range(spans):
        records.spans.add(operation_name=f"s{n}")
    for n in range(samples):
        records.metric_columns.series_index.append(n * 7 % 3)
        records.metric_columns.time_unix_micros.append(n)
        records.metric_columns.value.append(n / 2)
    if samples:
        for n in range(3):
            records.metric_columns.series.add(metric_name=f"series{n}")
    return records


def named(columns: MetricColumns) -> list[tuple[str, int, float]]:
    rows = zip(columns.series_index, columns.time_unix_micros, columns.value, strict=True)
    return [(columns.series[index].metric_name, at, value) for index, at, value in rows]


sizes = st.integers(0, 9)


@given(sizes, sizes, sizes, sizes, sizes)
def test_halves_together_are_the_whole(e: int, m: int, k: int, s: int, c: int) -> None:
    whole = build(e, m, k, s, c)
    left, right, offsets = halve(whole)
    assert left.record_count == count_records(whole) // 2
    assert left.record_count + right.record_count == count_records(whole)
    assert list(left.events) + list(right.events) == list(whole.events)
    assert list(left.system_metrics) + list(right.system_metrics) == list(whole.system_metrics)
    assert list(left.business_metrics) + list(right.business_metrics) == list(
        whole.business_metrics
    )
    assert list(left.spans) + list(right.spans) == list(whole.spans)
    assert named(left.metric_columns) + named(right.metric_columns) == named(whole.metric_columns)
    assert offsets[RecordKind.RECORD_KIND_EVENT] == len(left.events)
    assert offsets[RecordKind.RECORD_KIND_SPAN] == len(left.spans)
    assert offsets[RecordKind.RECORD_KIND_METRIC_COLUMNS] == len(
        left.metric_columns.time_unix_micros
    )


def test_wrong_series_index_stays_wrong() -> None:
    columns = MetricColumns(series_index=[0, 9], time_unix_micros=[1, 2], value=[1, 2])
    columns.series.add(metric_name="only")
    _, right, _ = halve(TelemetryRecords(metric_columns=columns))
    assert list(right.metric_columns.series_index) == [9]
    assert len(right.metric_columns.series) == 1


def test_ragged_columns_stay_ragged() -> None:
    columns = MetricColumns(series_index=[0, 0, 0], time_unix_micros=[1, 2], value=[1.0])
    columns.series.add(metric_name="only")
    left, right, _ = halve(TelemetryRecords(metric_columns=columns))
    lengths = {
        (len(part.series_index), len(part.time_unix_micros), len(part.value))
        for part in (left.metric_columns, right.metric_columns)
    }
    assert (2, 1, 0) in lengths
