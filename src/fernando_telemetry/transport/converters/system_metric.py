"""Samples and their series."""

from __future__ import annotations

import json
from typing import Any, Final

from fernando.telemetry.v1 import (
    Distribution,
    ListMetricSeriesRequest,
    MetricSeries,
    MetricType,
    SystemMetric,
    Temporality,
)
from fernando_telemetry.domain.vocabulary import METRIC_TYPES, TEMPORALITIES
from fernando_telemetry.queries.metrics import SeriesRequest
from fernando_telemetry.queries.pages import Row, SampleRow
from fernando_telemetry.transport.converters.query import time_range_of
from fernando_telemetry.transport.converters.timestamp import timestamp_of

TYPE_NUMBERS: Final = {
    word: MetricType.Value(f"METRIC_TYPE_{word.upper()}") for word in METRIC_TYPES
}
TEMPORALITY_NUMBERS: Final[dict[str | None, Temporality.ValueType]] = {
    None: Temporality.TEMPORALITY_UNSPECIFIED,
    **{word: Temporality.Value(f"TEMPORALITY_{word.upper()}") for word in TEMPORALITIES},
}


def series_request(message: ListMetricSeriesRequest) -> SeriesRequest:
    """Give the request for series.

    Raises:
        InvalidTimeRange: active_in is half given or reversed.
        InvalidField: It is out of the calendar.
    """
    bounded = message.HasField("active_in")
    return SeriesRequest(
        message.filter,
        time_range_of(message.active_in, "active_in") if bounded else None,
        message.page_size,
        message.page_token,
        message.min_commit_token,
    )


def series_message(row: Row) -> MetricSeries:
    """Give a row of ListMetricSeries as a message."""
    return MetricSeries(**_fields(row))


class SystemMetrics:
    """Makes the messages of one page, each series' fields once."""

    def __init__(self) -> None:
        self._series: dict[int, dict[str, Any]] = {}

    def message(self, row: SampleRow) -> SystemMetric:
        """Give a row of ListSystemMetrics as a message."""
        sample = row.sample
        return SystemMetric(
            metric_timestamp=timestamp_of(sample["time"]),
            metric_value=sample["value"],
            percentile_50=sample["percentile_50"],
            percentile_90=sample["percentile_90"],
            percentile_95=sample["percentile_95"],
            percentile_99=sample["percentile_99"],
            distribution=_distribution(sample),
            **self._series_fields(sample["series_id"], row.series),
        )

    def _series_fields(self, key: int, series: Row | None) -> dict[str, Any]:
        fields = self._series.get(key)
        if fields is None:
            fields = self._series[key] = {} if series is None else _fields(series)
        return fields


def _fields(series: Row) -> dict[str, Any]:
    return {
        "metric_name": series["metric_name"],
        "metric_type": TYPE_NUMBERS[series["metric_type"]],
        "metric_unit": series["metric_unit"] or "",
        "service_name": series["service_name"] or "",
        "host_name": series["host_name"] or "",
        "instance_id": series["instance_id"] or "",
        "labels": json.loads(series["labels"]),
        "license_id": series["license_id"] or "",
        "temporality": TEMPORALITY_NUMBERS[series["temporality"]],
        "series_id": series["identity_hash"].hex,
    }


def _distribution(sample: Row) -> Distribution | None:
    if sample["distribution_count"] is None:
        return None
    return Distribution(
        count=sample["distribution_count"],
        sum=sample["distribution_sum"],
        min=sample["distribution_min"],
        max=sample["distribution_max"],
        upper_bounds=sample["upper_bounds"],
        bucket_counts=sample["bucket_counts"],
    )
