"""Good batches of all kinds of records, with much in them: what mutations begin with."""

from __future__ import annotations

from google.protobuf.message import Message

from fernando.telemetry.v1 import (
    Distribution,
    MetricColumns,
    MetricSeries,
    MetricType,
    SpanEvent,
    SpanLink,
    Temporality,
)
from tests.integration.ingest.records import (
    columns,
    event,
    kpi,
    now,
    records,
    sample,
    span,
    stamp,
)

SPAN_ID, TRACE_ID = "ab" * 8, "cd" * 16
IDENTITY = {"license_id": "acme", "host_name": "h1"}


def seed_batches() -> list[bytes]:
    """Give serialised TelemetryRecords, each of which is stored whole now."""
    at = stamp(now())
    events: list[Message] = [
        event(
            event_timestamp=at,
            event_category="navigation",
            event_data='{"a": [1, "x", null, {"b": 1.5e3}], "é": "\\u00e9"}',
            tags=["a", "b", "ü"],
            source_ip="2001:db8::1",
            duration_ms=1.25,
            user_id="u1",
            license_id="acme",
            session_id="s1",
            source="shop",
            source_version="1.2",
            user_agent="Mozilla/5.0",
            trace_id=TRACE_ID,
            span_id=SPAN_ID,
        ),
        event("purchase", event_data="{}", source_ip="192.0.2.7"),
        event("plain"),
    ]
    samples: list[Message] = [
        sample("cpu", metric_timestamp=at, labels={"core": "0", "k": "v"}, **IDENTITY),
        sample("requests", metric_type=MetricType.METRIC_TYPE_COUNTER, service_name="api"),
        sample("latency", percentile_50=1.0, percentile_99=2.0, metric_unit="ms"),
    ]
    distributions: list[Message] = [
        sample(
            "sizes",
            metric_value=None,
            metric_type=MetricType.METRIC_TYPE_HISTOGRAM,
            temporality=Temporality.TEMPORALITY_DELTA,
            distribution=Distribution(
                count=6, sum=9, min=1, max=3, upper_bounds=[1, 2], bucket_counts=[3, 2, 1]
            ),
        )
    ]
    kpis: list[Message] = [
        kpi(
            "revenue",
            metric_category="sales",
            currency="EUR",
            dimensions={"region": "eu", "k": ""},
            time_zone="Europe/Lisbon",
            metric_value="1234567.890",
            license_id="acme",
            customer_id="c1",
        ),
        kpi("churn", metric_value="-0.05"),
    ]
    spans: list[Message] = [
        span(
            start_time=at,
            duration_ms=2.5,
            http_method="GET",
            http_url="/orders",
            http_status_code=200,
            tags={"db": "pg", "n": "1"},
            events=[SpanEvent(time=at, name="retry", attributes={"k": "v"})],
            links=[SpanLink(trace_id=TRACE_ID, span_id=SPAN_ID, attributes={"k": "v"})],
            parent_span_id=SPAN_ID,
        ),
        span("child", user_id="u1"),
    ]
    packed = columns(1.0, -2.5, 3e300, 0.0)
    packed.MergeFrom(
        MetricColumns(
            series=[
                MetricSeries(
                    metric_name="memory",
                    metric_type=MetricType.METRIC_TYPE_GAUGE,
                    labels={"node": "n1"},
                    service_name="api",
                )
            ],
            series_index=[1, 0, 1],
            time_unix_micros=list(packed.time_unix_micros[:3]),
            value=[5.0, 6.0, 7.0],
        )
    )
    lists: list[list[Message]] = [events, samples, distributions, kpis, spans, [packed]]
    whole = [one for kind in lists for one in kind]
    total = len(whole) - 1 + len(packed.value)
    made = [records(kind) for kind in lists]
    return [*made, records(whole), records(whole, record_count=total), records([])]
