"""Builders of records from plain Python values.

They spare the caller JSON text, Timestamps and enum names; what they give are the contract's own
messages, which may be changed before they are sent. Nothing is checked that the server checks.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from fernando.telemetry.v1 import (
    BusinessMetric,
    CalculationMethod,
    Event,
    EventType,
    MetricType,
    PeriodType,
    Span,
    SpanKind,
    SpanStatus,
    SystemMetric,
)

EventTypeWord: TypeAlias = Literal[
    "user_action",
    "api_event",
    "error_event",
    "system_event",
    "business_event",
    "security_event",
    "performance_event",
]
MetricTypeWord: TypeAlias = Literal["counter", "gauge", "histogram", "timer", "distribution"]
PeriodTypeWord: TypeAlias = Literal[
    "hourly", "daily", "weekly", "monthly", "quarterly", "yearly", "custom"
]
CalculationWord: TypeAlias = Literal[
    "sum", "count", "average", "median", "distinct_count", "ratio", "last", "min", "max"
]
SpanKindWord: TypeAlias = Literal["internal", "server", "client", "producer", "consumer"]

_TRACE_ID_DIGITS: Final = 32


class NaiveDatetimeWarning(UserWarning):
    """A datetime without a zone was given and taken as UTC."""


def timestamp(at: datetime) -> Timestamp:
    """Turn a datetime into the contract's time; one without a zone counts as UTC.

    Warns:
        NaiveDatetimeWarning: The datetime has no zone. Python shows it once per place.
    """
    if at.tzinfo is None:
        warnings.warn(
            "a datetime without a zone is taken as UTC", NaiveDatetimeWarning, stacklevel=3
        )
        at = at.replace(tzinfo=UTC)
    result = Timestamp()
    result.FromDatetime(at)
    return result


def json_text(data: Mapping[str, Any]) -> str:
    """Write a payload as the JSON object text `event_data` carries.

    Datetimes and dates become ISO 8601 text, Decimal and UUID their text.

    Raises:
        ValueError: A float is NaN or infinite: jsonb has neither.
        TypeError: A value has no JSON form.
    """
    return json.dumps(
        data, default=_json_value, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )


def _json_value(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    raise TypeError(f"a payload cannot hold a {type(value).__name__}")


def event(
    event_type: EventTypeWord,
    event_name: str,
    *,
    event_category: str = "",
    event_data: Mapping[str, Any] | None = None,
    event_timestamp: datetime | None = None,
    user_id: str = "",
    license_id: str = "",
    session_id: str = "",
    tags: Iterable[str] = (),
    duration_ms: float | None = None,
    source: str = "",
    source_ip: str = "",
    trace_id: str = "",
    span_id: str = "",
) -> Event:
    """Build an event; without `event_timestamp` it gets the time the server receives it."""
    return Event(
        event_timestamp=timestamp(event_timestamp) if event_timestamp is not None else None,
        event_type=EventType.Value(f"EVENT_TYPE_{event_type.upper()}"),
        event_name=event_name,
        event_category=event_category,
        event_data=json_text(event_data) if event_data is not None else "",
        user_id=user_id,
        license_id=license_id,
        session_id=session_id,
        tags=tags,
        duration_ms=duration_ms,
        source=source,
        source_ip=source_ip,
        trace_id=trace_id,
        span_id=span_id,
    )


def system_metric(
    metric_type: MetricTypeWord,
    metric_name: str,
    metric_value: float,
    metric_unit: str = "",
    *,
    metric_timestamp: datetime | None = None,
    service_name: str = "",
    host_name: str = "",
    instance_id: str = "",
    labels: Mapping[str, str] | None = None,
    license_id: str = "",
) -> SystemMetric:
    """Build a sample. A counter's value is cumulative: a fall counts as a reset."""
    return SystemMetric(
        metric_timestamp=timestamp(metric_timestamp) if metric_timestamp is not None else None,
        metric_type=MetricType.Value(f"METRIC_TYPE_{metric_type.upper()}"),
        metric_name=metric_name,
        metric_value=metric_value,
        metric_unit=metric_unit,
        service_name=service_name,
        host_name=host_name,
        instance_id=instance_id,
        labels=labels,
        license_id=license_id,
    )


def business_metric(
    metric_name: str,
    metric_value: Decimal | int | str,
    period_start: datetime,
    period_end: datetime,
    *,
    period_type: PeriodTypeWord = "custom",
    calculation_method: CalculationWord | None = None,
    metric_category: str = "",
    metric_unit: str = "",
    currency: str = "",
    dimensions: Mapping[str, str] | None = None,
    license_id: str = "",
    customer_id: str = "",
    user_id: str = "",
    time_zone: str = "",
) -> BusinessMetric:
    """Build a KPI of the period [period_start, period_end).

    The value is a Decimal, an int or decimal text, never a float: it is stored as written.

    Raises:
        TypeError: The value is a float.
    """
    if isinstance(metric_value, float):
        raise TypeError("a KPI's value is a Decimal, an int or text; a float would round it")
    text = f"{metric_value:f}" if isinstance(metric_value, Decimal) else str(metric_value)
    method = f"CALCULATION_METHOD_{(calculation_method or 'unspecified').upper()}"
    return BusinessMetric(
        metric_name=metric_name,
        metric_value=text,
        period_start=timestamp(period_start),
        period_end=timestamp(period_end),
        period_type=PeriodType.Value(f"PERIOD_TYPE_{period_type.upper()}"),
        calculation_method=CalculationMethod.Value(method),
        metric_category=metric_category,
        metric_unit=metric_unit,
        currency=currency,
        dimensions=dimensions,
        license_id=license_id,
        customer_id=customer_id,
        user_id=user_id,
        time_zone=time_zone,
    )


def span(
    trace_id: str,
    span_id: str,
    service_name: str,
    operation_name: str,
    *,
    start_time: datetime | None = None,
    duration_ms: float | None = None,
    parent_span_id: str = "",
    kind: SpanKindWord = "internal",
    error: bool | None = None,
    error_message: str = "",
    tags: Mapping[str, str] | None = None,
    license_id: str = "",
    user_id: str = "",
    session_id: str = "",
    host_name: str = "",
) -> Span:
    """Build a span; ids are made lower-case and trace ids padded to 32 digits.

    `error` None leaves the status unset.
    """
    status = "UNSPECIFIED" if error is None else "ERROR" if error else "OK"
    return Span(
        trace_id=trace_id.lower().rjust(_TRACE_ID_DIGITS, "0"),
        span_id=span_id.lower(),
        parent_span_id=parent_span_id.lower(),
        service_name=service_name,
        operation_name=operation_name,
        start_time=timestamp(start_time) if start_time is not None else None,
        duration_ms=duration_ms,
        kind=SpanKind.Value(f"SPAN_KIND_{kind.upper()}"),
        status=SpanStatus.Value(f"SPAN_STATUS_{status}"),
        error_message=error_message,
        tags=tags,
        license_id=license_id,
        user_id=user_id,
        session_id=session_id,
        host_name=host_name,
    )
