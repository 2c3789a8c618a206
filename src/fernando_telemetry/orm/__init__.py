"""Read-only SQLAlchemy classes over what is stored: `pip install fernando-telemetry[orm]`.

    engine = create_engine(dsn, connect_args=READ_ONLY)
    with Session(engine) as db:
        db.query(TelemetryEvent).filter(TelemetryEvent.user_id == "u1").limit(100).all()

reading.py    the base: to_dict(), and no writes
records.py    events, samples, KPIs, spans
summaries.py  the summarising views

Of this project they need `domain` only: a program that reads has no use for the server.
"""

from fernando_telemetry.orm.reading import READ_ONLY, Reading, ReadOnlyError
from fernando_telemetry.orm.records import BusinessMetric, SystemMetric, TelemetryEvent, Trace
from fernando_telemetry.orm.summaries import (
    AlertsStatusSummary,
    BusinessMetricsCategorySummary,
    SystemMetricsServiceSummary,
    TelemetryEventsHourlySummary,
)

__all__ = [
    "READ_ONLY",
    "AlertsStatusSummary",
    "BusinessMetric",
    "BusinessMetricsCategorySummary",
    "ReadOnlyError",
    "Reading",
    "SystemMetric",
    "SystemMetricsServiceSummary",
    "TelemetryEvent",
    "TelemetryEventsHourlySummary",
    "Trace",
]
