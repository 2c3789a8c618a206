"""The summarising views, column by column as docs/reference/sql.md has them."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import Double, Numeric
from sqlalchemy.orm import Mapped, mapped_column

from fernando_telemetry.domain import vocabulary
from fernando_telemetry.orm.reading import Reading
from fernando_telemetry.orm.records import (
    EVENT_TYPE,
    METRIC_TYPE,
    PERIOD_TYPE,
    TIME,
    Key,
    Number,
    TimeKey,
    word,
)


class TelemetryEventsHourlySummary(Reading):
    """Events of a type in a UTC hour."""

    __tablename__ = "telemetry_events_hourly_summary"

    event_type: Mapped[str] = mapped_column(EVENT_TYPE, primary_key=True)
    hour: Mapped[TimeKey]
    event_count: Mapped[int]
    unique_users: Mapped[int]
    unique_licenses: Mapped[int]
    avg_duration_ms: Mapped[Number]


class SystemMetricsServiceSummary(Reading):
    """Samples of a metric of a service in a UTC hour."""

    __tablename__ = "system_metrics_service_summary"

    service_name: Mapped[Key]
    hour: Mapped[TimeKey]
    metric_name: Mapped[Key]
    metric_type: Mapped[str] = mapped_column(METRIC_TYPE, primary_key=True)
    measurement_count: Mapped[int]
    avg_value: Mapped[float] = mapped_column(Double)
    min_value: Mapped[float] = mapped_column(Double)
    max_value: Mapped[float] = mapped_column(Double)
    p95_value: Mapped[Number]
    metric_unit: Mapped[Key]


class BusinessMetricsCategorySummary(Reading):
    """KPIs of a category and name on a local date; never of two units, currencies or periods."""

    __tablename__ = "business_metrics_category_summary"

    metric_category: Mapped[Key]
    date: Mapped[date] = mapped_column(primary_key=True)
    metric_name: Mapped[Key]
    metric_points: Mapped[int]
    total_value: Mapped[Decimal | None] = mapped_column(Numeric)
    avg_value: Mapped[Decimal] = mapped_column(Numeric)
    unique_users: Mapped[int]
    unique_licenses: Mapped[int]
    metric_unit: Mapped[Key]
    currency: Mapped[Key]
    period_type: Mapped[str] = mapped_column(PERIOD_TYPE, primary_key=True)


class AlertsStatusSummary(Reading):
    """Alerts of a status and severity."""

    __tablename__ = "alerts_status_summary"

    status: Mapped[str] = mapped_column(
        word("alert_status", vocabulary.ALERT_STATUSES), primary_key=True
    )
    severity: Mapped[str] = mapped_column(word("severity", vocabulary.SEVERITIES), primary_key=True)
    triggered_at: Mapped[datetime] = mapped_column(TIME)
    alert_count: Mapped[int]
    affected_rules: Mapped[int]
    first_alert: Mapped[datetime] = mapped_column(TIME)
    last_alert: Mapped[datetime] = mapped_column(TIME)
    avg_resolution_hours: Mapped[Number]
