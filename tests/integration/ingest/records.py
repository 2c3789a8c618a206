"""Records and their bytes, as a client may send them, broken ones included."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from fernando.telemetry.v1 import (
    BusinessMetric,
    Event,
    EventType,
    MetricColumns,
    MetricSeries,
    MetricType,
    Span,
    SystemMetric,
)

# Fields of TelemetryRecords.
LISTS = {Event: 1, SystemMetric: 2, BusinessMetric: 3, Span: 4, MetricColumns: 5}
RECORD_COUNT = 15


def stamp(moment: datetime) -> Timestamp:
    """Give a Timestamp of an aware datetime."""
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def now() -> datetime:
    """Give the time of the test."""
    return datetime.now(UTC)


def event(name: str = "good", **fields: Any) -> Event:
    """Make an event that is stored."""
    fields.setdefault("event_type", EventType.EVENT_TYPE_USER_ACTION)
    return Event(event_name=name, **fields)


def sample(name: str = "good", **fields: Any) -> SystemMetric:
    """Make a sample that is stored; give `metric_value=None` for one without."""
    fields.setdefault("metric_type", MetricType.METRIC_TYPE_GAUGE)
    fields.setdefault("metric_value", 1.0)
    return SystemMetric(metric_name=name, **fields)


def kpi(name: str = "good", **fields: Any) -> BusinessMetric:
    """Make a KPI that is stored: one of yesterday."""
    end = now().replace(minute=0, second=0, microsecond=0)
    fields.setdefault("period_start", stamp(end - timedelta(days=1)))
    fields.setdefault("period_end", stamp(end))
    fields.setdefault("metric_value", "1")
    return BusinessMetric(metric_name=name, **fields)


def span(name: str = "good", **fields: Any) -> Span:
    """Make a span that is stored."""
    fields.setdefault("trace_id", "0af7651916cd43dd8448eb211c80319c")
    fields.setdefault("span_id", "b7ad6b7169203331")
    fields.setdefault("service_name", "checkout")
    return Span(operation_name=name, **fields)


def columns(*values: float, at: datetime | None = None, **fields: Any) -> MetricColumns:
    """Make columns of one series that are stored."""
    micros = int((at or now()).timestamp() * 1_000_000)
    made = MetricColumns(
        series=[MetricSeries(metric_name="good", metric_type=MetricType.METRIC_TYPE_GAUGE)],
        series_index=[0] * len(values),
        time_unix_micros=[micros + place for place in range(len(values))],
        value=values,
    )
    made.MergeFrom(MetricColumns(**fields))
    return made


def varint(number: int) -> bytes:
    """Encode a number of protobuf's wire format."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def field(number: int, content: bytes | str) -> bytes:
    """Encode a length-delimited field."""
    data = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(data)) + data


def number_field(number: int, value: int) -> bytes:
    """Encode a varint field."""
    return varint(number << 3) + varint(value)


def records(items: Iterable[Message], *, record_count: int | None = None) -> bytes:
    """Give the bytes of a TelemetryRecords that holds records of any kinds."""
    listed = list(items)
    data = b"".join(field(LISTS[type(item)], item.SerializeToString()) for item in listed)
    return data if record_count is None else data + number_field(RECORD_COUNT, record_count)
