"""Counting and splitting of `TelemetryRecords`.

A batch that is larger than the server grants is halved by records until its parts fit. Halving
costs a copy per level, which is paid only by callers that hand over more than a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fernando.telemetry.v1 import MetricColumns, RecordKind, TelemetryRecords

_COLUMNS: Final = RecordKind.RECORD_KIND_METRIC_COLUMNS

# By RecordKind: where a part's list of that kind begins in the list the caller handed over.
Offsets = Mapping[int, int]


def count_records(records: TelemetryRecords) -> int:
    """Give the length of all lists together; packed columns count their samples."""
    return (
        len(records.events)
        + len(records.system_metrics)
        + len(records.business_metrics)
        + len(records.spans)
        + len(records.metric_columns.time_unix_micros)
    )


def halve(records: TelemetryRecords) -> tuple[TelemetryRecords, TelemetryRecords, Offsets]:
    """Split into two halves by number of records, keeping the order of every list.

    Returns:
        The first half, the second half, and where each list of the second half begins in the
        list it was cut from.
    """
    left, right = TelemetryRecords(), TelemetryRecords()
    room = count_records(records) // 2
    offsets: dict[int, int] = {}

    cut = min(room, len(records.events))
    left.events.extend(records.events[:cut])
    right.events.extend(records.events[cut:])
    offsets[RecordKind.RECORD_KIND_EVENT] = cut
    room -= cut

    cut = min(room, len(records.system_metrics))
    left.system_metrics.extend(records.system_metrics[:cut])
    right.system_metrics.extend(records.system_metrics[cut:])
    offsets[RecordKind.RECORD_KIND_SYSTEM_METRIC] = cut
    room -= cut

    cut = min(room, len(records.business_metrics))
    left.business_metrics.extend(records.business_metrics[:cut])
    right.business_metrics.extend(records.business_metrics[cut:])
    offsets[RecordKind.RECORD_KIND_BUSINESS_METRIC] = cut
    room -= cut

    cut = min(room, len(records.spans))
    left.spans.extend(records.spans[:cut])
    right.spans.extend(records.spans[cut:])
    offsets[RecordKind.RECORD_KIND_SPAN] = cut
    room -= cut

    columns = records.metric_columns
    samples = len(columns.time_unix_micros)
    cut = min(room, samples)
    if cut:
        left.metric_columns.CopyFrom(_slice(columns, 0, cut))
    if cut < samples:
        # To the end of the longest column: ragged columns stay ragged and the server says so.
        right.metric_columns.CopyFrom(_slice(columns, cut, None))
    offsets[_COLUMNS] = cut

    left.record_count, right.record_count = count_records(left), count_records(right)
    return left, right, offsets


def _slice(columns: MetricColumns, start: int, stop: int | None) -> MetricColumns:
    """Cut samples [start, stop) and the series they use."""
    indexes = columns.series_index[start:stop]
    part = MetricColumns(
        time_unix_micros=columns.time_unix_micros[start:stop], value=columns.value[start:stop]
    )
    if any(index >= len(columns.series) for index in indexes):
        # Wrong indexes must stay wrong: the server has a verdict for them.
        part.series.extend(columns.series)
        part.series_index.extend(indexes)
        return part
    position: dict[int, int] = {}
    part.series_index.extend(position.setdefault(index, len(position)) for index in indexes)
    part.series.extend(columns.series[index] for index in position)
    return part
