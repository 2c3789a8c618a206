"""Reads CloudWatch series: one CSV of `timestamp,value` (UTC) for each series.

The file's name is the series: `ec2_cpu_utilization_5f5533.csv` is the CPU of EC2 instance 5f5533.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from recording import chunks, shift_to

from fernando.telemetry.client.records import timestamp
from fernando.telemetry.v1 import (
    MetricColumns,
    MetricSeries,
    MetricType,
    SystemMetric,
    TelemetryRecords,
)

_UNITS: Final = {"cpu_utilization": "percentage", "network_in": "bytes", "request_count": "count"}

# This one goes as one message a sample, to show both forms; the columns are the cheaper one.
_SINGLE_MESSAGES: Final = frozenset({"request_count"})

_Sample = tuple[datetime, float]


def series_of(path: Path) -> MetricSeries:
    """Give the series that a file's name says.

    Raises:
        ValueError: The name is not `<service>_<metric>_<instance>` with a metric known here.
    """
    service_name, _, rest = path.stem.partition("_")
    metric_name, _, instance_id = rest.rpartition("_")
    if metric_name not in _UNITS:
        raise ValueError(f"{path.name}: no series is known by this name")
    return MetricSeries(
        metric_name=metric_name,
        metric_type=MetricType.METRIC_TYPE_GAUGE,
        metric_unit=_UNITS[metric_name],
        service_name=service_name,
        instance_id=instance_id,
    )


def batches(path: Path, last_day: date | None) -> Iterator[TelemetryRecords]:
    """Read one file; its newest sample moves to `last_day`.

    One file repeats a time twelve times: all twelve samples are sent, and the server keeps them.

    Raises:
        ValueError: The file's name or a row is not as expected.
    """
    series = series_of(path)
    with path.open(newline="") as file:
        rows = [
            (datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC), float(row["value"]))
            for row in csv.DictReader(file)
        ]
    shift = shift_to(max(at for at, _ in rows), last_day)
    samples = [(at + shift, value) for at, value in rows]
    pack = _messages if series.metric_name in _SINGLE_MESSAGES else _columns
    for chunk in chunks(samples):
        yield pack(series, chunk)


def _columns(series: MetricSeries, samples: Sequence[_Sample]) -> TelemetryRecords:
    return TelemetryRecords(
        metric_columns=MetricColumns(
            series=[series],
            series_index=[0] * len(samples),
            time_unix_micros=[timestamp(at).ToMicroseconds() for at, _ in samples],
            value=[value for _, value in samples],
        )
    )


def _messages(series: MetricSeries, samples: Sequence[_Sample]) -> TelemetryRecords:
    return TelemetryRecords(
        system_metrics=[
            SystemMetric(
                metric_timestamp=timestamp(at),
                metric_value=value,
                metric_name=series.metric_name,
                metric_type=series.metric_type,
                metric_unit=series.metric_unit,
                service_name=series.service_name,
                instance_id=series.instance_id,
            )
            for at, value in samples
        ]
    )
