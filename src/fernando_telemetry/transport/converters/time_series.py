"""Time series computed from samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from fernando.telemetry.v1 import (
    Aggregation,
    GapFill,
    MetricSeries,
    QuerySystemMetricsRequest,
    TimeSeries,
)
from fernando_telemetry.domain.alignment import GapFill as GapFillWord
from fernando_telemetry.domain.errors import InvalidField
from fernando_telemetry.domain.vocabulary import AGGREGATIONS
from fernando_telemetry.queries.metrics import Line, TimeSeriesRequest
from fernando_telemetry.transport.converters.query import summary_request
from fernando_telemetry.transport.converters.system_metric import (
    TEMPORALITY_NUMBERS,
    TYPE_NUMBERS,
    series_message,
)
from fernando_telemetry.transport.converters.timestamp import timedelta_of

_LABELS: Final = "labels."
_AGGREGATIONS: Final[dict[int, str]] = {
    Aggregation.Value(f"AGGREGATION_{word.upper()}"): word for word in AGGREGATIONS
}
_GAP_FILLS: Final[dict[int, GapFillWord]] = {
    GapFill.GAP_FILL_UNSPECIFIED: "none",
    **{GapFill.Value(f"GAP_FILL_{word.upper()}"): word for word in get_args(GapFillWord)},
}


def time_series_request(message: QuerySystemMetricsRequest) -> TimeSeriesRequest:
    """Give the request for time series.

    Raises:
        InvalidTimeRange: The time range is missing, half given or reversed.
        InvalidField: It is out of the calendar, or an enum has no such number.
    """
    period = None
    if message.HasField("alignment_period"):
        period = timedelta_of(message.alignment_period, "alignment_period")
    if message.gap_fill not in _GAP_FILLS:
        raise InvalidField("gap_fill", f"{message.gap_fill} is no way to fill gaps.")
    return TimeSeriesRequest(
        summary_request(message),
        message.metric_name,
        period,
        _aggregation(message.align, "align") or "average",
        _aggregation(message.reduce, "reduce"),
        tuple(message.group_by),
        _GAP_FILLS[message.gap_fill],
    )


def _aggregation(number: int, field: str) -> str | None:
    if not number:
        return None
    if number not in _AGGREGATIONS:
        raise InvalidField(field, f"{number} is no aggregation.")
    return _AGGREGATIONS[number]


def time_series_message(line: Line) -> TimeSeries:
    """Give a computed series as a message."""
    series = series_message(line.series) if line.series is not None else _group_message(line.group)
    return TimeSeries(
        series=series,
        bucket_start_unix_micros=line.bucket_micros,
        values=line.values,
        sample_counts=line.sample_counts,
    )


def _group_message(group: Mapping[str, str]) -> MetricSeries:
    fields: dict[str, Any] = {}
    labels: dict[str, str] = {}
    for path, value in group.items():
        if not value:
            continue
        if path.startswith(_LABELS):
            labels[path.removeprefix(_LABELS)] = value
        elif path == "metric_type":
            fields[path] = TYPE_NUMBERS[value]
        elif path == "temporality":
            fields[path] = TEMPORALITY_NUMBERS[value]
        else:
            fields[path] = value
    return MetricSeries(labels=labels, **fields)
