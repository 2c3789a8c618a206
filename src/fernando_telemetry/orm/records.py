"""Records, column by column as docs/reference/sql.md has them; what was not set is None."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final
from uuid import UUID

from sqlalchemy import Double, Numeric, Text
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, INET, JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from fernando_telemetry.domain import vocabulary
from fernando_telemetry.orm.reading import Reading

TIME: Final = TIMESTAMP(timezone=True)
Key = Annotated[str, mapped_column(Text, primary_key=True)]
TimeKey = Annotated[datetime, mapped_column(TIME, primary_key=True)]
IdKey = Annotated[UUID, mapped_column(primary_key=True)]
Time = Annotated[datetime, mapped_column(TIME)]
String = Annotated[str | None, mapped_column(Text)]
Number = Annotated[float | None, mapped_column(Double)]
Json = Annotated[Any, mapped_column(JSONB)]


def word(name: str, words: tuple[str, ...]) -> ENUM:
    """Give the type of an enum's words, which exists."""
    return ENUM(*words, name=name, create_type=False)


EVENT_TYPE: Final = word("event_type", vocabulary.EVENT_TYPES)
METRIC_TYPE: Final = word("metric_type", vocabulary.METRIC_TYPES)
PERIOD_TYPE: Final = word("period_type", vocabulary.PERIOD_TYPES)


class TelemetryEvent(Reading):
    """An event."""

    __tablename__ = "telemetry_events"

    event_id: Mapped[IdKey]
    event_timestamp: Mapped[TimeKey]
    event_type: Mapped[str] = mapped_column(EVENT_TYPE)
    event_name: Mapped[String]
    event_category: Mapped[String]
    user_id: Mapped[String]
    license_id: Mapped[String]
    session_id: Mapped[String]
    event_data: Mapped[Json]
    tags: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    duration_ms: Mapped[Number]
    source: Mapped[String]
    source_ip: Mapped[Any] = mapped_column(INET)
    source_version: Mapped[String]
    user_agent: Mapped[String]
    trace_id: Mapped[String]
    span_id: Mapped[String]
    ingested_at: Mapped[Time]


class SystemMetric(Reading):
    """A sample. Samples of a series that are equal in time and value are one object."""

    __tablename__ = "system_metrics"

    metric_id: Mapped[UUID | None]
    metric_name: Mapped[String]
    metric_type: Mapped[str] = mapped_column(METRIC_TYPE)
    service_name: Mapped[String]
    host_name: Mapped[String]
    instance_id: Mapped[String]
    metric_value: Mapped[float] = mapped_column(Double, primary_key=True)
    metric_unit: Mapped[String]
    metric_timestamp: Mapped[TimeKey]
    percentile_50: Mapped[Number]
    percentile_90: Mapped[Number]
    percentile_95: Mapped[Number]
    percentile_99: Mapped[Number]
    labels: Mapped[Json]
    license_id: Mapped[String]
    temporality: Mapped[str | None] = mapped_column(word("temporality", vocabulary.TEMPORALITIES))
    series_id: Mapped[IdKey]
    distribution: Mapped[Json]
    ingested_at: Mapped[datetime | None] = mapped_column(TIME)


class BusinessMetric(Reading):
    """A KPI: of each identity and period the value sent last."""

    __tablename__ = "business_metrics"

    metric_id: Mapped[IdKey]
    metric_name: Mapped[String]
    metric_category: Mapped[String]
    metric_value: Mapped[Decimal] = mapped_column(Numeric)
    metric_unit: Mapped[String]
    currency: Mapped[String]
    period_start: Mapped[Time]
    period_end: Mapped[Time]
    period_date: Mapped[date]
    period_type: Mapped[str] = mapped_column(PERIOD_TYPE)
    calculation_method: Mapped[str | None] = mapped_column(
        word("calculation_method", vocabulary.CALCULATION_METHODS)
    )
    license_id: Mapped[String]
    customer_id: Mapped[String]
    user_id: Mapped[String]
    dimensions: Mapped[Json]
    time_zone: Mapped[String]
    ingested_at: Mapped[Time]


class Trace(Reading):
    """A span of a trace."""

    __tablename__ = "traces"

    trace_id: Mapped[Key]
    span_id: Mapped[Key]
    parent_span_id: Mapped[String]
    service_name: Mapped[String]
    operation_name: Mapped[String]
    kind: Mapped[str | None] = mapped_column(word("span_kind", vocabulary.SPAN_KINDS))
    start_time: Mapped[TimeKey]
    duration_ms: Mapped[Number]
    end_time: Mapped[datetime | None] = mapped_column(TIME)
    status: Mapped[str | None] = mapped_column(word("span_status", vocabulary.SPAN_STATUSES))
    error_message: Mapped[String]
    http_method: Mapped[String]
    http_url: Mapped[String]
    http_status_code: Mapped[int | None]
    user_id: Mapped[String]
    license_id: Mapped[String]
    session_id: Mapped[String]
    host_name: Mapped[String]
    instance_id: Mapped[String]
    service_version: Mapped[String]
    trace_state: Mapped[String]
    tags: Mapped[Json]
    events: Mapped[Json]
    links: Mapped[Json]
    ingested_at: Mapped[Time]
